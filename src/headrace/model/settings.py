"""The configuration tree: every value that a user may change, its default and its reason.

Values only: components (clock, disk, logger) are constructor arguments, never settings.
Each field is followed by its meaning; range and default stand in the declaration, the
unit at the end of the name. `docs/reference/settings.md` is generated from this file.

Nothing here reads a file or the environment: `headrace.cli.config` does, and `faults`
judges what it found, all of it at once.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from headrace.model import limits
from headrace.model.durations import format_duration, format_size
from headrace.model.errors import BadSettings
from headrace.model.job import BACKOFF_WORDS, RetryPolicy
from headrace.model.options import EngineOptions
from headrace.model.queue import DURABILITY_WORDS, QueueSettings

DAY_MS = 24 * 3600 * 1000
AGE_MS_MAX = 3660 * DAY_MS
COUNT_MAX = limits.JOBS_MAX_DEFAULT
GIB = 1024 * limits.MIB


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who may connect, and how the server stops. Changes need a restart."""

    listen: tuple[str, ...] = ("127.0.0.1:7431",)
    """TCP addresses as `host:port`; empty is none. Loopback by default, since without a
    token whoever reaches the port may do everything."""
    unix_socket: bool = True
    """Also listen on the Unix socket in the data directory; only its owner can open it."""
    token_file: str = ""
    """File with the shared token that clients must bring; empty asks for none. Needed to
    listen beyond loopback."""
    insecure_plaintext: bool = False
    """Allow listening beyond loopback although nothing is encrypted: tokens, payloads and
    results can be read on the way. For a trusted network only."""
    connections_max: Annotated[int, Meta(ge=1, le=100_000)] = limits.CONNECTIONS_MAX
    """Connections at one time; the next one is refused. Needs as many file descriptors."""
    drain_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = limits.DRAIN_MS_DEFAULT
    """Grace at a stop for workers to finish what they run; then the server ends anyway,
    and the leases go on after the next start."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The files of the data directory. Changes need a restart, and hold for new files."""

    segment_bytes: Annotated[int, Meta(ge=limits.SEGMENT_BYTES_MIN, le=1 * GIB)] = (
        limits.SEGMENT_BYTES_DEFAULT
    )
    """Size of one segment, allocated ahead: smaller gives space back sooner, larger makes
    fewer files."""
    snapshot_wal_bytes: Annotated[int, Meta(ge=1 * limits.MIB, le=1024 * GIB)] = (
        limits.SNAPSHOT_WAL_BYTES_MIN
    )
    """A snapshot is taken once this much log has been written since the last one: it
    bounds the time that a start needs."""
    snapshot_age_ms: Annotated[int, Meta(ge=1_000, le=7 * DAY_MS)] = limits.SNAPSHOT_AGE_MS_MAX
    """A snapshot is taken after this time, if anything was written since the last one."""
    async_window_ms: Annotated[int, Meta(ge=1, le=limits.ASYNC_WINDOW_MS_MAX)] = (
        limits.ASYNC_WINDOW_MS_MAX
    )
    """Longest time that an early reply of an `async` queue may be ahead of the disk: what
    a crash can lose. Other queues never reply early."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of memory: live jobs are held in it. Changes need a restart."""

    jobs_max: Annotated[int, Meta(ge=1, le=1_000_000_000)] = limits.JOBS_MAX_DEFAULT
    """Live jobs of the node; beyond it an enqueue is refused with `memory_full`. A job
    takes up to 700 bytes beside its payload."""
    payload_memory_bytes: Annotated[int, Meta(ge=1 * limits.MIB, le=1024 * GIB)] = (
        limits.PAYLOAD_MEMORY_BYTES_DEFAULT
    )
    """Payloads of live jobs together; beyond it an enqueue is refused with `memory_full`,
    which names the fullest queue. Set it to what the machine can spare."""
    finished_bytes: Annotated[int, Meta(ge=0, le=64 * GIB)] = limits.FINISHED_NODE_BYTES
    """Finished jobs of all queues together; the oldest are forgotten first."""


class QueueDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """For queues that were never configured: `headrace queue set` changes one queue at run
    time and wins over these. Changes here need a restart."""

    durability: Literal["async", "group", "sync"] = "group"
    """When enqueue and ack are answered: `group` after the commit is on the disk; `sync`
    the same, in a commit sealed at once; `async` before it, see `log.async_window_ms`."""
    attempt_max: Annotated[int, Meta(ge=1, le=limits.ATTEMPT_MAX_LIMIT)] = (
        limits.ATTEMPT_MAX_DEFAULT
    )
    """Attempts before a job is dead. With the backoff below that is at most four
    minutes of trying."""
    backoff: Literal["fixed", "linear", "exponential"] = "exponential"
    """How the delay grows from attempt to attempt; drawn evenly from 0 to it (full jitter)."""
    backoff_base_ms: Annotated[int, Meta(ge=0, le=30 * DAY_MS)] = limits.BACKOFF_BASE_MS_DEFAULT
    """Delay before the second attempt; `exponential` doubles it each time."""
    backoff_cap_ms: Annotated[int, Meta(ge=0, le=30 * DAY_MS)] = limits.BACKOFF_CAP_MS_DEFAULT
    """No delay is longer."""
    crash_max: Annotated[int, Meta(ge=1, le=100)] = limits.CRASH_MAX
    """Attempts that may end with a lost worker; then the job is dead as `crashed`. Few, so
    that a job that kills its workers dies alone."""
    payload_bytes_max: Annotated[int, Meta(ge=1, le=limits.PAYLOAD_BYTES_MAX)] = (
        limits.PAYLOAD_BYTES_DEFAULT
    )
    """Largest payload. Keep big data elsewhere and enqueue a reference to it."""
    succeeded_age_ms: Annotated[int, Meta(ge=0, le=AGE_MS_MAX)] = limits.SUCCEEDED_AGE_MS
    """Succeeded and cancelled jobs are kept this long, unless count or bytes end it sooner."""
    succeeded_count: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = limits.SUCCEEDED_COUNT
    """Succeeded and cancelled jobs kept."""
    succeeded_bytes: Annotated[int, Meta(ge=0, le=64 * GIB)] = limits.SUCCEEDED_BYTES
    """Bytes of succeeded and cancelled jobs kept."""
    dead_age_ms: Annotated[int, Meta(ge=0, le=AGE_MS_MAX)] = limits.DEAD_AGE_MS
    """Dead jobs are kept this long: they wait for somebody to look."""
    dead_count: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = limits.DEAD_COUNT
    """Dead jobs kept."""
    dead_bytes: Annotated[int, Meta(ge=0, le=64 * GIB)] = limits.DEAD_BYTES
    """Bytes of dead jobs kept."""


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where commands and workers go. Read when each of them starts."""

    url: str = "./data"
    """A data directory, `headrace://host:port` or `unix:///path`. Also `HEADRACE_URL`."""
    token_file: str = ""
    """File with the token that the server asks for; empty brings none."""


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A `headrace worker` process. Read when it starts."""

    concurrency: Annotated[int, Meta(ge=1, le=limits.CONCURRENCY_MAX)] = limits.CONCURRENCY_DEFAULT
    """Jobs that run at one time in the process. 40,000 jobs/s of no work need about 100."""
    prefetch_max: Annotated[int, Meta(ge=0, le=limits.PREFETCH_JOBS_MAX)] = limits.PREFETCH_JOBS_MAX
    """Most jobs held ready beyond those that run. How many it holds follows its speed, and
    is 0 for long jobs."""
    lease_ms: Annotated[int, Meta(ge=limits.LEASE_MS_MIN, le=limits.LEASE_MS_MAX)] = (
        limits.LEASE_MS_DEFAULT
    )
    """The jobs of a worker that gives no sign of life for this long go to others. No limit
    of their run time. Long enough for a restart of the server."""
    drain_ms: Annotated[int, Meta(ge=0, le=DAY_MS)] = limits.DRAIN_MS_DEFAULT
    """Grace at a stop for jobs to finish; then they are cancelled and handed back."""


class LoggingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is written to standard error. Changes need a restart."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Events below it are left out."""
    format: Literal["auto", "text", "json"] = "auto"
    """`auto` is text on a terminal and JSON elsewhere."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; a section a field."""

    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    engine: EngineSettings = EngineSettings()
    queue: QueueDefaults = QueueDefaults()
    client: ClientSettings = ClientSettings()
    worker: WorkerSettings = WorkerSettings()
    logging: LoggingSettings = LoggingSettings()

    def engine_options(self) -> EngineOptions:
        """What the engine is told of `engine` and `queue`."""
        return EngineOptions(
            default_queue=queue_settings(self.queue),
            jobs_max=self.engine.jobs_max,
            payload_memory_bytes=self.engine.payload_memory_bytes,
            finished_bytes=self.engine.finished_bytes,
        )


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with the settings."""

    setting: str
    """Its name, `section.field`."""
    message: str


def queue_settings(defaults: QueueDefaults) -> QueueSettings:
    """The settings of a queue that nobody has configured."""
    return QueueSettings(
        durability=DURABILITY_WORDS.index(defaults.durability),
        retry=RetryPolicy(
            attempt_max=defaults.attempt_max,
            backoff=BACKOFF_WORDS.index(defaults.backoff),
            base_ms=defaults.backoff_base_ms,
            cap_ms=defaults.backoff_cap_ms,
            crash_max=defaults.crash_max,
        ),
        payload_bytes_max=defaults.payload_bytes_max,
        succeeded_age_ms=defaults.succeeded_age_ms,
        succeeded_count=defaults.succeeded_count,
        succeeded_bytes=defaults.succeeded_bytes,
        dead_age_ms=defaults.dead_age_ms,
        dead_count=defaults.dead_count,
        dead_bytes=defaults.dead_bytes,
    )


@functools.cache
def sections() -> dict[str, type[msgspec.Struct]]:
    """Section name → its class, in the order of the tree."""
    hints = get_type_hints(Settings)
    return {name: hints[name] for name in Settings.__struct_fields__}


@functools.cache
def fields(section: type[msgspec.Struct]) -> dict[str, Any]:
    """Field name → its annotation, with its range, in the order of the section."""
    hints = get_type_hints(section, include_extras=True)
    return {name: hints[name] for name in section.__struct_fields__}


def range_of(annotation: Any) -> tuple[int, int] | None:
    """Lowest and highest allowed value; None where the type has no range."""
    if get_origin(annotation) is not Annotated:
        return None
    meta = get_args(annotation)[1]
    return int(meta.ge), int(meta.le)


def words_of(annotation: Any) -> tuple[str, ...]:
    """The words that are allowed; empty where any text is."""
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def shown(field_name: str, value: object) -> str:
    """`value` as a person would write it, with the unit that the name ends in."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and field_name.endswith("_ms"):
        return format_duration(value)
    if isinstance(value, int) and "_bytes" in field_name:
        return format_size(value)
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value)


def faults(settings: Settings) -> list[Fault]:
    """Everything that is wrong, in the order of the tree; empty when nothing is."""
    found = []
    for section_name, section in sections().items():
        values = getattr(settings, section_name)
        for name, annotation in fields(section).items():
            message = _value_fault(name, getattr(values, name), annotation)
            if message:
                found.append(Fault(f"{section_name}.{name}", message))
    return found + _listen_faults(settings.server) + _relation_faults(settings)


def validate(settings: Settings) -> Settings:
    """`settings`, when nothing is wrong with them. Raises: `BadSettings` with every fault."""
    found = faults(settings)
    if found:
        raise BadSettings([f"{fault.setting} {fault.message}" for fault in found])
    return settings


def _value_fault(name: str, value: Any, annotation: Any) -> str:
    bounds, words = range_of(annotation), words_of(annotation)
    if bounds and not bounds[0] <= value <= bounds[1]:
        low, high = (shown(name, bound) for bound in bounds)
        return f"must be from {low} to {high}, not {shown(name, value)}."
    if words and value not in words:
        return f"must be one of {', '.join(words)}, not {value!r}."
    return ""


def _listen_faults(server: ServerSettings) -> list[Fault]:
    found = []
    beyond = []
    for text in server.listen:
        try:
            host, _ = listen_address(text)
        except ValueError as error:
            found.append(Fault("server.listen", str(error)))
        else:
            if not is_loopback(host):
                beyond.append(text)
    if beyond and not (server.insecure_plaintext and server.token_file):
        found.append(
            Fault(
                "server.listen",
                f"{', '.join(beyond)} can be reached from other machines. That needs"
                " insecure_plaintext = true (nothing is encrypted: tokens, payloads and"
                " results can be read on the way) and a token_file. Or listen on 127.0.0.1.",
            )
        )
    if not server.listen and not server.unix_socket:
        found.append(Fault("server.listen", "is empty and unix_socket is off: nobody can connect."))
    return found


def _relation_faults(settings: Settings) -> list[Fault]:
    found = []
    if settings.queue.backoff_base_ms > settings.queue.backoff_cap_ms:
        found.append(Fault("queue.backoff_base_ms", "must not be longer than backoff_cap_ms."))
    if settings.queue.payload_bytes_max > settings.engine.payload_memory_bytes:
        found.append(Fault("queue.payload_bytes_max", "must fit engine.payload_memory_bytes."))
    if settings.log.snapshot_wal_bytes < settings.log.segment_bytes:
        found.append(
            Fault("log.snapshot_wal_bytes", "must be at least one segment (log.segment_bytes).")
        )
    return found


def listen_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. Raises: `ValueError` with a sentence."""
    host, separator, port_text = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address as [::1]:7431.")
    if not separator or not can_be_host(host):
        raise ValueError(f"{text!r} is no address; write host:port, as 127.0.0.1:7431.")
    is_number = port_text.isascii() and port_text.isdigit() and len(port_text) <= 5
    if not is_number or int(port_text) > 65_535:
        raise ValueError(f"{text!r}: the port must be from 0 to 65535.")
    return host, int(port_text)


def can_be_host(host: str) -> bool:
    """Whether a resolver can be asked for it: what it cannot encode is no `OSError` there."""
    try:
        return bool(host.encode("idna")) and "\0" not in host
    except UnicodeError:
        return False


def is_loopback(host: str) -> bool:
    """True when only this machine can reach `host`; a name other than localhost is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
