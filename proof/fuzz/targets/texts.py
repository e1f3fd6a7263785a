"""What people write: configuration, durations, sizes, instants, ids, names, addresses.

A text is taken as a whole and means what it says, or it is refused with a sentence; the
sums of durations and sizes are checked against exact fractions.
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction
from functools import cache
from pathlib import Path

from headrace.cli.config import load
from headrace.cli.times import ago, duration_option, instant_option, size_option, stamp
from headrace.client.connection import parse_url
from headrace.client.durations import duration_ms
from headrace.model.durations import (
    UNIT_BYTES,
    UNIT_MS,
    format_duration,
    format_size,
    parse_duration_ms,
    parse_size_bytes,
)
from headrace.model.errors import BadSettings, HeadraceError
from headrace.model.ids import id_from_text, id_to_text
from headrace.model.limits import NAME_BYTES_MAX
from headrace.model.names import check_name
from headrace.model.settings import Settings, faults, listen_address, sections
from headrace.server.exposure import check_exposure
from proof.fuzz.mutation import MutateText, havoc, texts
from proof.fuzz.target import TAKEN, Target, expect, linear, refused

MODULES = ("headrace/cli", "headrace/model", "headrace/client")


def _text(data: bytes) -> str:
    """As Python hands over what the environment and the command line hold."""
    return data.decode("utf-8", "surrogateescape")


# --- configuration


def check_config_file(data: bytes) -> str:
    path = _scratch()
    path.write_bytes(data)
    return _check_load({}, str(path))


def check_config_environment(data: bytes) -> str:
    lines = (line.partition("=") for line in _text(data).splitlines())
    environ = {name: value for name, found, value in lines if found and name}
    environ.pop("HEADRACE_CONFIG", None)
    return _check_load(environ, None)


def _check_load(environ: dict[str, str], config: str | None) -> str:
    try:
        loaded = load({}, environ, config=config, directory=str(_scratch().parent / "empty"))
    except BadSettings as error:
        expect(error.faults, "a refusal names its faults")
        return refused(error)
    settings = loaded.settings
    expect(faults(settings) == [], "what was taken is within its bounds", settings=settings)
    expect(len(list(loaded.rows())) == len(loaded.sources), "every setting can be shown")
    settings.engine_options()
    with suppress(BadSettings):
        check_exposure(settings.server)
    for name in ("token_file", "url"):
        for section in (settings.server, settings.client):
            expect("\0" not in getattr(section, name, ""), "a path has no zero byte")
    return TAKEN


@cache
def _scratch() -> Path:
    """One file a process, gone with it."""
    folder = tempfile.TemporaryDirectory(prefix="headrace-fuzz-")
    _KEPT.append(folder)
    return Path(folder.name) / "headrace.toml"


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _config_seeds() -> list[bytes]:
    whole = []
    for section in sections():
        values = getattr(Settings(), section)
        lines = [f"{name} = {_toml(getattr(values, name))}" for name in values.__struct_fields__]
        whole.append("\n".join([f"[{section}]", *lines]))
    readable = (
        '[log]\nsegment_bytes = "16MiB"\nsnapshot_age_ms = "1h"\n[worker]\nlease_ms = 30_000\n'
    )
    return ["\n\n".join(whole).encode(), readable.encode(), b'[server]\nlisten = ["[::1]:7431"]\n']


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{part}"' for part in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _environment_seeds() -> list[bytes]:
    return [
        b"HEADRACE_LOG__SEGMENT_BYTES=16MiB\nHEADRACE_SERVER__LISTEN=127.0.0.1:1,[::1]:2\n",
        b"HEADRACE_SERVER__UNIX_SOCKET=yes\nHEADRACE_QUEUE__ATTEMPT_MAX=3\nHEADRACE_URL=./data\n",
        b"HEADRACE_WORKER__LEASE_MS=30s\nHEADRACE_QUEUE__BACKOFF=linear\n",
    ]


# --- durations, sizes, instants

_PARTS = re.compile(r"(\d+)(?:\.(\d+))?\s*([A-Za-z]+)", re.ASCII)
_SIZE_UNITS = {unit.lower(): factor for unit, factor in UNIT_BYTES.items()}


def _exactly(text: str, units: dict[str, int]) -> Fraction:
    total = Fraction(0)
    for whole, part, unit in _PARTS.findall(text):
        number = Fraction(int(whole)) + Fraction(int(part or 0), 10 ** len(part))
        total += number * units[unit]
    return total


def check_duration(data: bytes) -> str:
    text = _text(data)
    outcomes = [_option(lambda: duration_option(text, "x"))]
    outcomes += [_option(lambda: size_option(text, "x")), _option(lambda: _instant(text))]
    try:
        found_ms = parse_duration_ms(text)
        expect(_exactly(text, UNIT_MS) == found_ms, "no duration is rounded", text=text)
        expect(parse_duration_ms(format_duration(found_ms)) == found_ms, "it can be shown")
        outcomes.append(TAKEN)
    except HeadraceError as error:
        outcomes.append(refused(error))
    try:
        size_bytes = parse_size_bytes(text)
        expect(_exactly(text.lower(), _SIZE_UNITS) == size_bytes, "no size is rounded", text=text)
        expect(parse_size_bytes(format_size(size_bytes)) == size_bytes, "it can be shown")
        outcomes.append(TAKEN)
    except HeadraceError as error:
        outcomes.append(refused(error))
    return " / ".join(sorted(outcomes, key=lambda outcome: outcome != TAKEN))


def _instant(text: str) -> None:
    found_ms = instant_option(text, "since")
    stamp(found_ms)
    ago(found_ms, 1_764_000_000_000)


def _option(call: Callable[[], object]) -> str:
    try:
        call()
    except HeadraceError as error:
        return refused(error)
    return TAKEN


def check_number(data: bytes) -> str:
    """The same eight bytes as a float, an int and a timedelta; as times that are shown."""
    raw = data[:8].ljust(8, b"\0")
    (number,) = struct.unpack("<d", raw)
    whole = int.from_bytes(data[:2048], "little", signed=True)
    values: list[float | int | timedelta] = [number, whole, whole << 20_000]
    with suppress(OverflowError, ValueError):
        values.append(timedelta(microseconds=whole))
    outcomes = {_option(lambda value=value: duration_ms(value, "delay")) for value in values}  # type: ignore[misc]
    (shown_ms,) = struct.unpack("<q", raw)
    stamp(shown_ms)
    ago(shown_ms, 0)
    return " / ".join(sorted(outcomes, reverse=True))


# --- ids, names, addresses


def check_id(data: bytes) -> str:
    text = _text(data)
    try:
        found = id_from_text(text)
    except HeadraceError as error:
        return refused(error)
    plain = text.strip().replace("-", "").lower()
    expect(plain == found.hex(), "an id is what was written", text=text)
    expect(id_from_text(id_to_text(found)) == found, "it can be shown")
    return TAKEN


def check_names(data: bytes) -> str:
    text = _text(data)
    try:
        check_name("queue", text)
    except HeadraceError as error:
        return refused(error)
    expect(1 <= len(text.encode()) <= NAME_BYTES_MAX, "a name is within its bound", text=text)
    expect(not re.search(r"[\x00-\x1f\x7f-\x9f]|^\$", text), "no odd letters", text=text)
    return TAKEN


def check_address(data: bytes) -> str:
    text = _text(data)
    with suppress(ValueError):
        host, port = listen_address(text)
        expect(host and 0 <= port <= 65_535, "an address has both parts", text=text)
        _expect_resolvable(host)
    try:
        address = parse_url(text)
    except HeadraceError as error:
        return refused(error)
    if address.path:
        expect(address.path.startswith("/") and "\0" not in address.path, "a path", text=text)
        return f"{TAKEN} path"
    expect(1 <= address.port <= 65_535, "a port", text=text)
    expect(parse_url(str(address)) == address, "it can be shown", text=text)
    _expect_resolvable(address.host)
    return f"{TAKEN} host"


def _expect_resolvable(host: str) -> None:
    """As `getaddrinfo` does first of all; what fails there is no `OSError`."""
    try:
        host.encode("idna")
        bad = "\0" in host
    except UnicodeError:
        bad = True
    expect(not bad, "a host can be looked up", host=host)


_CONFIG_WORDS = (
    "[server]", "[log]", "listen", "segment_bytes", "token_file", "=", '"', "[[", "]]", "{", "'''",
    '"""', "\\u0000", "\\U00110000", "0xffffffffffffffff", "0o7", "1979-05-27T07:32:00Z", "true",
    "inf", "nan", "1e400", "a.b", "16MiB", "10m", "HEADRACE_", "__", "\n", "127.0.0.1:7431",
    "[" * 40, "[" * 3_000, "=\"" + " " * 40 + "5\"",
)  # fmt: skip
_MUTATE_CONFIG: MutateText = texts(_CONFIG_WORDS)
_MUTATE_TIME = texts(
    ("1h", "30m", "5s", "1ms", "2w", "1d", ".5", "MiB", "KB", "B", " ", "2026-01-31T12:00:00+01:00",
     "Z", "-", "24:00", "9999-12-31", "0001-01-01T00:00:00+14:00", "0.000", "e5", "0" * 30)
)  # fmt: skip
_MUTATE_ADDRESS = texts(
    ("headrace://", "unix://", "/", "[::1]", ":7431", "@", "%00", "?", "#", "..", "localhost",
     "x" * 64,
     "[", "]", "127.0.0.1", "%2f", "[fe80::1%25eth0]", "xn--", "＠", "。")
)  # fmt: skip

TARGETS = (
    Target(
        "config-file", _config_seeds, check_config_file, _MUTATE_CONFIG, MODULES,
        exhaustive_bytes_max=300, weight=3,
    ),
    Target(
        "config-environment", _environment_seeds, check_config_environment, _MUTATE_CONFIG,
        MODULES, exhaustive_bytes_max=300,
    ),
    Target(
        "duration",
        lambda: [b"1h30m", b"1.5s", b"16MiB", b"500KB", b"2026-01-31T12:00:00+01:00", b"42"],
        check_duration, _MUTATE_TIME, MODULES, linear, weight=2,
    ),
    Target(
        "number", lambda: [struct.pack("<d", 1.5), bytes(8), b"\xff" * 9, b"\x01" * 2_048],
        check_number, havoc, MODULES, exhaustive_bytes_max=64,
    ),
    Target(
        "job-id", lambda: [b"0190f3a2-7b1c-7def-8123-456789abcdef", b"0190f3a27b1c7def81" * 2],
        check_id, texts(("-", " ", "0190f3a2", "ABCDEF", "{", "urn:uuid:")), MODULES, linear,
    ),
    Target(
        "name", lambda: [b"mail", "grüße".encode(), b"x" * 128, "ü".encode() * 100], check_names,
        texts(("$", "\x7f", "\x85", "n" * 128, "ü" * 64)), MODULES, linear,
    ),
    Target(
        "address",
        lambda: [b"headrace://127.0.0.1:7431", b"unix:///tmp/headrace.sock", b"[::1]:7431", b"h:1"],
        check_address, _MUTATE_ADDRESS, MODULES, linear, weight=2,
    ),
)  # fmt: skip
