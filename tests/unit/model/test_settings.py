"""The configuration tree: its defaults hold together, and faults are found all at once."""

from __future__ import annotations

import msgspec
import pytest

from headrace.model import limits
from headrace.model.errors import BadSettings
from headrace.model.queue import QueueSettings
from headrace.model.settings import (
    EngineSettings,
    LogSettings,
    QueueDefaults,
    ServerSettings,
    Settings,
    WorkerSettings,
    faults,
    fields,
    is_loopback,
    listen_address,
    range_of,
    sections,
    shown,
    validate,
)


def test_defaults_have_no_fault_and_are_those_of_a_new_queue() -> None:
    assert faults(Settings()) == []
    options = Settings().engine_options()
    assert options.default_queue == QueueSettings()
    assert options.jobs_max == limits.JOBS_MAX_DEFAULT


def test_engine_options_carry_what_was_set() -> None:
    settings = Settings(
        engine=EngineSettings(jobs_max=7, finished_bytes=9),
        queue=QueueDefaults(durability="sync", backoff="fixed", crash_max=5, dead_count=11),
    )
    options = settings.engine_options()

    assert (options.jobs_max, options.finished_bytes) == (7, 9)
    assert options.default_queue.durability == 2
    assert (options.default_queue.retry.backoff, options.default_queue.retry.crash_max) == (0, 5)
    assert options.default_queue.dead_count == 11


RANGED = [
    (section, name, bounds)
    for section, of in sections().items()
    for name, annotation in fields(of).items()
    if (bounds := range_of(annotation))
]


@pytest.mark.parametrize(("section", "name", "bounds"), RANGED)
def test_value_outside_its_range_is_a_fault_that_names_it(
    section: str, name: str, bounds: tuple[int, int]
) -> None:
    for value in (bounds[0] - 1, bounds[1] + 1):
        values = msgspec.structs.replace(getattr(Settings(), section), **{name: value})
        found = faults(msgspec.structs.replace(Settings(), **{section: values}))

        assert f"{section}.{name}" in [fault.setting for fault in found]
        assert "must be from" in found[0].message


@pytest.mark.parametrize(("section", "name", "bounds"), RANGED)
def test_bounds_of_a_range_belong_to_it(section: str, name: str, bounds: tuple[int, int]) -> None:
    for value in bounds:
        values = msgspec.structs.replace(getattr(Settings(), section), **{name: value})
        found = faults(msgspec.structs.replace(Settings(), **{section: values}))
        assert not [fault for fault in found if "must be from" in fault.message]


def test_every_number_has_a_range_and_a_unit() -> None:
    counts = ("_max", "_count", "concurrency")
    for section in sections().values():
        for name, annotation in fields(section).items():
            assert annotation is not int, f"{name} has no range"
            if range_of(annotation):
                assert name.endswith(("_ms", "_bytes", "_bytes_max", *counts)), name


def test_all_faults_are_reported_at_once() -> None:
    settings = Settings(
        server=ServerSettings(listen=("nonsense", "1.2.3.4:5"), drain_ms=-1),
        queue=QueueDefaults(backoff_base_ms=5_000, backoff_cap_ms=1_000),
        worker=WorkerSettings(concurrency=0),
    )
    with pytest.raises(BadSettings) as refused:
        validate(settings)

    assert len(refused.value.faults) == 5
    assert [fault.split(" ")[0] for fault in refused.value.faults] == [
        "server.drain_ms",
        "worker.concurrency",
        "server.listen",
        "server.listen",
        "queue.backoff_base_ms",
    ]


@pytest.mark.parametrize(
    ("server", "allowed"),
    [
        (ServerSettings(listen=("127.0.0.1:1", "[::1]:1", "localhost:1")), True),
        (ServerSettings(listen=("0.0.0.0:7431",)), False),
        (ServerSettings(listen=("0.0.0.0:7431",), insecure_plaintext=True), False),
        (ServerSettings(listen=("0.0.0.0:7431",), token_file="t"), False),
        (ServerSettings(listen=("[::]:1",), token_file="t", insecure_plaintext=True), True),
        (ServerSettings(listen=("example.org:1",)), False),
        (ServerSettings(listen=(), unix_socket=True), True),
        (ServerSettings(listen=(), unix_socket=False), False),
    ],
)
def test_listening_beyond_loopback_needs_both_consent_and_token(
    server: ServerSettings, allowed: bool
) -> None:
    assert (faults(Settings(server=server)) == []) is allowed


def test_bounds_that_contradict_each_other_are_faults() -> None:
    small = 1 * limits.MIB
    settings = Settings(
        engine=EngineSettings(payload_memory_bytes=small),
        queue=QueueDefaults(payload_bytes_max=2 * small),
        log=LogSettings(snapshot_wal_bytes=small),
    )
    assert [fault.setting for fault in faults(settings)] == [
        "queue.payload_bytes_max",
        "log.snapshot_wal_bytes",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7431", ("127.0.0.1", 7431)),
        (" localhost:0 ", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_address_is_split(text: str, expected: tuple[str, int]) -> None:
    assert listen_address(text) == expected


@pytest.mark.parametrize("text", ["", "host", ":80", "host:", "host:x", "host:65536", "::1:80"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|\[::1\]:7431|0 to 65535"):
        listen_address(text)


def test_only_addresses_of_this_machine_are_loopback() -> None:
    assert is_loopback("127.8.9.1")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("::")
    assert not is_loopback("localhost.example.org")


def test_values_are_shown_with_their_unit() -> None:
    assert shown("drain_ms", 90_000) == "1m30s"
    assert shown("payload_bytes_max", 1 << 20) == "1MiB"
    assert shown("listen", ("a:1", "b:2")) == "a:1, b:2"
    assert shown("unix_socket", True) == "true"
    assert shown("jobs_max", 5) == "5"
