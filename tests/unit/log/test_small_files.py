"""CURRENT, WATERMARK and the names of files: read back exactly, or known to be damaged."""

from __future__ import annotations

import random

import pytest

from headrace.log.file.current import (
    Current,
    SegmentRef,
    SnapshotRef,
    decode_current,
    encode_current,
)
from headrace.log.file.layout import (
    Layout,
    parse_segment_name,
    parse_snapshot_name,
    segment_name,
    snapshot_name,
)
from headrace.log.file.watermark import (
    SLOT_BYTES,
    Watermark,
    WatermarkWriter,
    decode_slot,
    encode_slot,
    read_slots,
    read_watermark,
)
from headrace.model.errors import CurrentDamaged
from headrace.testing.sim_disk import SimDisk

IDS = bytes(range(16)), bytes(range(16, 32))
CURRENT = Current(
    cluster_id=IDS[0].hex(),
    node_id=IDS[1].hex(),
    epoch_number=7,
    epoch_nonce="0102030405060708",
    leader="a node",
    clean=False,
    segments=(SegmentRef(3, 100, 40), SegmentRef(4, 200, 80)),
    snapshots=(SnapshotRef(99, 6, 4096),),
)


# --- CURRENT


def test_current_comes_back() -> None:
    assert decode_current(encode_current(CURRENT), "path", "/root") == CURRENT


def test_current_with_any_bit_changed_or_cut_short_is_damaged() -> None:
    raw = encode_current(CURRENT)
    for at in range(len(raw) - 1):
        for bit in range(8):
            changed = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
            with pytest.raises(CurrentDamaged):
                decode_current(changed, "path", "/root")
        with pytest.raises(CurrentDamaged):
            decode_current(raw[:at], "path", "/root")


# --- WATERMARK


def test_slot_comes_back_and_any_byte_changed_is_damage() -> None:
    raw = encode_slot(Watermark(5, 50), IDS)

    assert len(raw) == SLOT_BYTES
    assert decode_slot(raw, "path", IDS) == Watermark(5, 50)
    for at in range(SLOT_BYTES):
        assert decode_slot(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], "path", IDS) is None
        assert decode_slot(raw[:at], "path", IDS) is None


def test_last_synced_watermark_survives_every_crash() -> None:
    """Writes after the sync go to the other slot, so they can tear only themselves."""
    for seed in range(200):
        rng = random.Random(seed)
        disk, layout = SimDisk(), Layout("/data")
        disk.mkdir("/data")
        disk.mkdir("/data/meta")
        disk.sync_all()
        synced = written = 0
        for _ in range(rng.randint(1, 3)):
            writer = WatermarkWriter(disk, layout, IDS)
            for _ in range(rng.randint(0, 6)):
                written += 1
                writer.write(Watermark(written, written))
                if rng.random() < 0.3:
                    writer.sync()
                    synced = written
            disk.crash(rng)
            found = read_watermark(disk, layout, IDS).commit_no
            assert synced <= found <= written
            synced = written = found


def test_greatest_valid_slot_counts() -> None:
    disk, layout = SimDisk(), Layout("/data")
    disk.mkdir("/data")
    disk.mkdir("/data/meta")
    disk.poke(layout.watermark, encode_slot(Watermark(9, 90), IDS) + bytes(SLOT_BYTES))

    assert read_slots(disk, layout, IDS) == (Watermark(9, 90), None)
    assert read_watermark(disk, layout, IDS) == Watermark(9, 90)


def test_missing_watermark_reads_as_zero() -> None:
    assert read_watermark(SimDisk(), Layout("/data"), IDS) == Watermark()


# --- names


def test_names_come_back_and_sort_by_index() -> None:
    assert segment_name(41, 2) == "00000000000000000041-00000002.wal"
    assert snapshot_name(41, 2) == "00000000000000000041-00000002.snap"
    assert parse_segment_name(segment_name(2**63, 2**33)) == (2**63, 2**33)
    assert parse_snapshot_name(snapshot_name(5, 6)) == (5, 6)
    assert segment_name(9, 1) < segment_name(10, 2) < segment_name(10**18, 3)


@pytest.mark.parametrize(
    "name",
    ["", "spare.tmp", "41-2.wal", segment_name(1, 1) + ".tmp", "x" + segment_name(1, 1)],
)
def test_other_names_are_no_segments(name: str) -> None:
    assert parse_segment_name(name) is None
    assert parse_snapshot_name(name) is None
