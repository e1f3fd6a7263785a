"""Everything that is read from a data directory: small files, segments, snapshots, all of it.

Half of the bent inputs get right checksums again (`resealing`), so that a field behind a
checksum is judged as well: such a file can only come from a bug or from a person, and must
still end in a sentence rather than in a traceback.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from headrace.codec.records import RECORDS_VERSION, decode_records, encode_records
from headrace.codec.rows import decode_rows, encode_rows
from headrace.log.file.current import SnapshotRef, decode_current, encode_current
from headrace.log.file.layout import Layout, parse_segment_name, parse_snapshot_name
from headrace.log.file.lock import in_use, read_holder
from headrace.log.file.log import FileLog
from headrace.log.file.recovery import facts_at
from headrace.log.file.recovery_table import judge_segment
from headrace.log.file.repair import salvage
from headrace.log.file.segment_format import SEGMENT_HEADER_BYTES, decode_segment_header
from headrace.log.file.segment_reader import SegmentCursor
from headrace.log.file.snapshot_file import check_snapshot, read_blocks
from headrace.log.file.verify import verify
from headrace.log.file.watermark import SLOT_BYTES, SLOTS, decode_slot
from headrace.model.errors import HeadraceError, StopError
from headrace.model.options import EngineOptions
from headrace.protocol.handshake import TokenCheck
from headrace.runtime.env import RealHost
from headrace.runtime.recovery import recover
from headrace.server.exposure import read_token
from headrace.testing.sim_disk import SimDisk
from headrace.testing.sim_env import SimEnv
from proof.fuzz import msgpack_tree, resealing, vectors
from proof.fuzz.mutation import havoc, texts
from proof.fuzz.target import TAKEN, Mutate, Target, expect, linear, refused

ROOT = "/data"
MODULES = ("headrace/log/file", "headrace/codec", "headrace/engine", "headrace/runtime/recovery")
_HEADER_BYTES = 8


# --- records and rows


def check_records(data: bytes) -> str:
    count, end = _records_in(data)
    try:
        found = decode_records(data, count)
    except HeadraceError as error:
        return refused(error)
    expect(end == len(data), "records fill their body, and no more", end=end)
    encoded = encode_records(found)
    again = encode_records(decode_records(encoded, len(found)))
    expect(again == encoded, "what was taken can be written again")
    return TAKEN


def _records_in(data: bytes) -> tuple[int, int]:
    """How many there are by their headers, and where the last of them says that it ends."""
    count = offset = 0
    while offset + _HEADER_BYTES <= len(data):
        offset += _HEADER_BYTES + int.from_bytes(data[offset : offset + 4], "little")
        count += 1
    return count, offset


def check_rows(data: bytes) -> str:
    try:
        found = decode_rows(data)
    except HeadraceError as error:
        return refused(error)
    encoded = encode_rows(found)
    expect(encode_rows(decode_rows(encoded)) == encoded, "what was taken can be written again")
    return TAKEN


def mutate_records(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A record's array bent; or its header, or the whole without regard to either."""
    end = _HEADER_BYTES + int.from_bytes(data[:4], "little")
    if chance.random() < 0.3 or end > len(data):
        return havoc(chance, data, others)
    bodies = [other[_HEADER_BYTES:] for other in others]
    body = msgpack_tree.mutated(chance, data[_HEADER_BYTES:end], bodies)
    number = data[4] if chance.random() < 0.9 else chance.randrange(256)
    version = RECORDS_VERSION + (chance.random() < 0.05)
    front = len(body).to_bytes(4, "little") + bytes([number, version]) + data[6:8]
    return front + body + data[end:]


# --- small files


def check_current(data: bytes) -> str:
    try:
        current = decode_current(data, f"{ROOT}/meta/CURRENT", ROOT)
    except HeadraceError as error:
        return refused(error)
    expect([len(part) for part in current.ids] == [16, 16], "ids have 16 bytes", current=current)
    expect(len(current.epoch.nonce) == 8, "a nonce has 8 bytes", current=current)
    for segment in current.segments:
        name = segment.path(Layout(ROOT)).rpartition("/")[2]
        same = (segment.first_index, segment.segment_no)
        expect(parse_segment_name(name) == same, "it names a file", current=current)
    for snapshot in current.snapshots:
        name = snapshot.path(Layout(ROOT)).rpartition("/")[2]
        same = (snapshot.index, snapshot.epoch_number)
        expect(parse_snapshot_name(name) == same, "it names a file", current=current)
    expect(decode_current(encode_current(current), "", ROOT) == current, "it can be written again")
    return TAKEN


@cache
def _ids() -> tuple[bytes, bytes]:
    return decode_current(vectors.directory()["meta/CURRENT"], "", ROOT).ids


def check_watermark(data: bytes) -> str:
    found = []
    for start in range(0, SLOTS * SLOT_BYTES, SLOT_BYTES):
        try:
            mark = decode_slot(data[start : start + SLOT_BYTES], "WATERMARK", _ids())
        except HeadraceError as error:
            return refused(error)
        found.append(mark is not None)
    return f"{TAKEN} {found}" if any(found) else "refused: no slot"


def check_lock(data: bytes) -> str:
    env = SimEnv(disk=_disk({"LOCK": data}))
    holder = read_holder(env.disk, Layout(ROOT))
    expect(holder.pid >= 0, "a pid or nothing", holder=holder)

    def exists(pid: int) -> bool:
        """The real host bears any pid; what it says is of this machine and this moment."""
        RealHost().process_exists(pid)
        return pid == 1

    env.host.process_exists = exists  # type: ignore[method-assign]
    used = in_use(env, holder)
    holder.describe()
    return f"{TAKEN} {used} {bool(holder.pid)}"


def check_token(data: bytes) -> str:
    disk = _disk({"token": data})
    try:
        token = read_token(disk, f"{ROOT}/token")
    except HeadraceError as error:
        return refused(error)
    assert token is not None
    expect(token == data.decode("utf-8", "replace").strip(), "all of the token, or none")
    tokens = TokenCheck(token)
    expect(tokens.accepts(token), "the token itself opens", token=token)
    for other in (None, "", token + "x", token[:-1], token.upper() + "ü", "x" + token):
        expect(not tokens.accepts(other), "nothing else does", token=token, other=other)
    return TAKEN


# --- segments and snapshots


def check_segment(data: bytes) -> str:
    try:
        header = decode_segment_header(data, "segment")
        if header is None:
            return "refused: no header"
        cursor = SegmentCursor(header, data)
        commits = list(cursor)
    except HeadraceError as error:
        return refused(error)
    numbers = [stored.commit_no for stored in commits]
    first = header.first_commit_no
    expect(numbers == list(range(first, first + len(numbers))), "commits follow one another")
    expect(cursor.offset <= max(len(data) + 63, SEGMENT_HEADER_BYTES), "the end lies in the file")
    later, rest = cursor.later_commit_offset(), cursor.rest()
    ref = decode_current(vectors.directory()["meta/CURRENT"], "", ROOT).segments[0]
    verdict = judge_segment(facts_at(ref, cursor, before=None, last=True))
    salvaged = sum(1 for _ in salvage(data, header.seed, SEGMENT_HEADER_BYTES))
    expect(salvaged >= len(commits), "what can be read can be salvaged")
    return f"{TAKEN} {verdict.name} {bool(rest)} {later is not None}"


def check_snapshot_file(data: bytes) -> str:
    disk = _disk({"snapshots/s": data})
    path, ref = f"{ROOT}/snapshots/s", SnapshotRef(79, 2, len(data))
    outcome = "taken"
    try:
        problem = check_snapshot(disk, path, ref, _ids())
        outcome = "taken" if problem is None else f"refused: {problem.message[:40]}"
        fd = disk.open(path)
        for block in read_blocks(disk, fd, path, len(data)):
            decode_rows(block)
    except HeadraceError as error:
        return f"{outcome[:7]} {refused(error)}"
    return outcome


# --- a whole directory


def _disk(files: dict[str, bytes]) -> SimDisk:
    disk = SimDisk()
    for path in (ROOT, *Layout(ROOT).directories):
        disk.mkdir(path)
    for name, content in files.items():
        disk.poke(f"{ROOT}/{name}", content)
    disk.sync_all()
    return disk


def _names() -> list[str]:
    return list(vectors.directory())


def directory_seeds() -> list[bytes]:
    """One byte that says which file, then its content: the others are as they were."""
    return [bytes([at]) + content for at, content in enumerate(vectors.directory().values())]


def check_directory(data: bytes) -> str:
    """Looked at, verified, started on: only stop codes come out, and no lock stays behind."""
    names = _names()
    name = names[data[0] % len(names)] if data else names[0]
    files = vectors.directory() | {name: data[1:]}
    findings = [found.code for found in verify(SimEnv(disk=_disk(files)), ROOT)]
    expect(findings, "verify says at least what it has read")
    env = SimEnv(disk=_disk(files))
    try:
        log = FileLog(env, ROOT, segment_bytes=4096)
        options = EngineOptions(verify=True)
        recovered = recover(env, log, "fuzz", options, tune_gc=False)  # type: ignore[arg-type]
    except StopError as error:
        again = SimEnv(disk=env.disk, pid=2)
        _expect_unlocked(again)
        return f"{error.stop_code} {refused(error)}"
    expect(recovered.engine.last_index >= 0, "there is a state")
    log.close()
    return f"{TAKEN} {sorted(set(findings))}"


def _expect_unlocked(env: SimEnv) -> None:
    fd = -1
    if env.disk.stat(f"{ROOT}/LOCK") is not None:
        fd = env.disk.open(f"{ROOT}/LOCK", write=True)
        expect(env.disk.try_lock(fd), "a start that was refused leaves no lock")


# --- the targets


def sealed(mutate: Mutate, reseal: resealing.Reseal) -> Mutate:
    def changed(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
        bent = mutate(chance, data, others)
        return reseal(bent) if chance.random() < 0.7 else bent

    return changed


_BY_FILE: tuple[tuple[str, resealing.Reseal], ...] = (
    ("meta/CURRENT", resealing.current),
    ("meta/WATERMARK", resealing.watermark),
    ("wal/", resealing.segment),
    ("snapshots/", resealing.snapshot),
)


def mutate_directory(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    name = _names()[data[0] % len(_names())] if data else _names()[0]
    reseal = next(found for prefix, found in _BY_FILE if name.startswith(prefix))
    bend: Mutate = _MUTATE_CURRENT if name == "meta/CURRENT" else _mutate_packed
    content = bend(chance, data[1:], [other[1:] for other in others if other[:1] == data[:1]])
    return data[:1] + (reseal(content) if chance.random() < 0.8 else content)


def _mutate_packed(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Inside one record or row when one is hit, so that lengths around it stay right."""
    if chance.random() < 0.4:
        return havoc(chance, data, others)
    raw = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(raw)) if raw else 0
        value = msgspec.msgpack.encode(chance.choice(msgpack_tree.INTS))
        leaf = chance.choice((value, chance.choice(msgpack_tree.ODD_LEAVES)))[:16]
        raw[at : at + len(leaf)] = leaf
    return bytes(raw)


_MUTATE_CURRENT = texts(
    ('"segments"', '"index":', "null", "-1", "1e3", "18446744073709551616", "[]", "{}", "[[", '"')
)
_MUTATE_LOCK = texts(("pid=", "host=", "boot_id=", "=", "\n", "1", "0", "sim"))
_MUTATE_TOKEN = texts((" ", "\n", "t" * 100, "secret"))


def _segment_seeds() -> list[bytes]:
    """Those on file, and one whose last commit says that it goes on behind the end."""
    found = vectors.of_directory("wal/")
    header = decode_segment_header(found[0], "segment")
    assert header is not None
    *_, last = SegmentCursor(header, found[0])
    longer = bytearray(found[0][: last.end_offset])
    longer[last.offset + 28 : last.offset + 32] = (len(last.commit.body) + 999).to_bytes(
        4, "little"
    )
    return [*found, resealing.segment(bytes(longer))]


def _lock_seeds() -> list[bytes]:
    boot = SimEnv().host.boot_id().encode()
    here = b"\nhost=sim\nboot_id=" + boot + b"\n"
    pids = (b"1", b"9" * 12, b"9" * 5_000)
    return [*(b"pid=" + pid + here for pid in pids), b"pid=77\nhost=other\n", b""]


def _target(
    name: str,
    seeds: Callable[[], list[bytes]],
    check: Callable[[bytes], str],
    mutate: Mutate,
    weight: int = 1,
) -> Target:
    return Target(name, seeds, check, mutate, MODULES, linear, weight=weight)


TARGETS = (
    _target("records", lambda: list(vectors.records().values()), check_records, mutate_records, 3),
    _target("rows", vectors.rows, check_rows, msgpack_tree.mutated, 2),
    _target(
        "current",
        lambda: vectors.of_directory("meta/CURRENT"),
        check_current,
        sealed(_MUTATE_CURRENT, resealing.current),
    ),
    _target(
        "watermark",
        lambda: vectors.of_directory("meta/WATERMARK"),
        check_watermark,
        sealed(havoc, resealing.watermark),
    ),
    _target("lock", _lock_seeds, check_lock, _MUTATE_LOCK),
    _target("token", lambda: [b"secret\n", b"t" * 512, b" x\n"], check_token, _MUTATE_TOKEN),
    _target(
        "segment",
        _segment_seeds,
        check_segment,
        sealed(_mutate_packed, resealing.segment),
    ),
    _target(
        "snapshot",
        lambda: vectors.of_directory("snapshots/"),
        check_snapshot_file,
        sealed(_mutate_packed, resealing.snapshot),
    ),
    Target(
        "directory", directory_seeds, check_directory, mutate_directory, MODULES,
        exhaustive_bytes_max=0, sampled=40, weight=2,
    ),
)  # fmt: skip
