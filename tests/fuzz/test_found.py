"""What the fuzzers found, one input each: it fails on the code as it was before the mend.

An input goes through the check of its target, as in a run of `python -m proof.fuzz`.
"""

from __future__ import annotations

import re
import struct

import msgspec
import pytest

from headrace.codec.messages import ANSWERS, encode_body
from headrace.codec.records import encode_records
from headrace.engine.engine import Engine
from headrace.log.base import Commit
from headrace.log.file.current import _checksum, decode_current
from headrace.log.file.layout import parse_segment_name
from headrace.log.memory import MemoryLog
from headrace.model.durations import parse_duration_ms, parse_size_bytes
from headrace.model.errors import (
    BadRequest,
    CurrentDamaged,
    InvariantViolated,
    ReplayDiverged,
)
from headrace.model.handshake import Hello, Welcome
from headrace.model.options import EngineOptions
from headrace.model.pushes import PingPushed
from headrace.model.records import FinishedPruned
from headrace.model.replies import Done
from headrace.model.rows import EndedRow
from headrace.protocol.framing import PREAMBLE
from headrace.runtime.recovery import recover
from headrace.testing.sim_env import SimEnv
from proof.fuzz import resealing
from proof.fuzz.frames import Frame
from proof.fuzz.judging import judge
from proof.fuzz.targets import TARGETS
from proof.result import ROOT


class Found(msgspec.Struct, frozen=True):
    name: str
    """What the input showed."""
    target: str
    data: bytes


def _current(**changed: object) -> bytes:
    """CURRENT with a right checksum over what no log writes."""
    content = {
        "cluster_id": "ab" * 16, "node_id": "cd" * 16, "format": 1, "min_reader": 1,
        "segments": [{"segment_no": 1, "first_index": 1, "first_commit_no": 1}],
    } | changed  # fmt: skip
    raw = msgspec.json.encode(content)
    return b'{"checksum":"' + _checksum(raw).encode() + b'","content":' + raw + b"}"


def _odd_leader() -> bytes:
    """A name that is no UTF-8, under a right checksum."""
    return resealing.current(_current(leader="abc").replace(b"abc", b"\xff"))


_DEEP = b"[" * 20_000
"""Deeper than any supported Python recurses in C: 3.12 and later go further than 3.11."""

FOUND = (
    Found(
        "hello without a request id was run as a command and never answered",
        "wire-handshake",
        PREAMBLE + Frame(0x01, 0, encode_body(Hello())).encoded(),
    ),
    Found(
        "reply without a request id was handed out as a push",
        "wire-client",
        Frame(0x80, 0, encode_body(Done())).encoded(),
    ),
    Found(
        "push under a request id was handed out as the answer to that request",
        "wire-client",
        Frame(0xC5, 7, encode_body(PingPushed(1))).encoded(),
    ),
    Found(
        "welcome under a foreign request id was taken",
        "wire-welcome",
        Frame(0x02, 9, encode_body(Welcome())).encoded(),
    ),
    Found(
        "reply of another request was given to its caller",
        "client-calls",
        Frame(0x80, 3, encode_body(Done())).encoded(),
    ),
    Found("current without a field ended in a traceback", "current", _current(segments=[{}])),
    Found("current with odd ids ended in a traceback", "current", _current(cluster_id="x")),
    Found("current with no UTF-8 ended in a traceback", "current", _odd_leader()),
    Found("current nested too deeply ended in a traceback", "current", b'{"a":' + _DEEP),
    Found("pid of 5,000 digits ended in a traceback", "lock", b"pid=" + b"9" * 5_000),
    Found(
        "pid beyond what a system has ended in a traceback",
        "lock",
        b"pid=9999999999\nhost=sim\nboot_id=00000000-0000-4000-8000-000000000001\n",
    ),
    Found("longest token was also opened by more than itself", "token", b"t" * 512),
    Found("token behind blanks was cut", "token", b"      " + b"t" * 512),
    Found("no number of seconds ended in a traceback", "number", struct.pack("<d", float("nan"))),
    Found("endless seconds ended in a traceback", "number", struct.pack("<d", float("inf"))),
    Found("float too large for ms ended in a traceback", "number", struct.pack("<d", 1.7e308)),
    Found("int of many thousand digits ended in a traceback", "number", b"\xff"),
    Found("time of no calendar year ended in a traceback", "number", struct.pack("<q", 1 << 62)),
    Found("size of 5,000 digits ended in a traceback", "duration", b"9" * 5_000),
    Found("duration finer than any digit was rounded", "duration", b"1.%s1s" % (b"0" * 40)),
    Found("blank inside an id was left out", "job-id", b"0190f3a27b1c7def81234567 89abcdef"),
    Found("host that no resolver can be asked for", "address", b"headrace://a..b:7431"),
    Found("bracket that is never closed ended in a traceback", "address", b"headrace://[::1"),
    Found("address to listen at that nobody can resolve", "address", b"a..b:1"),
    Found("zero byte in a path", "address", b"unix:///a%00b"),
    Found("zero byte in a file name", "config-file", b'[server]\ntoken_file = "a\\u0000b"'),
    Found("int of 5,000 digits ended in a traceback", "config-file", b"[log]\na = " + b"9" * 5_000),
    Found("hex of 5,000 digits ended in a traceback", "config-file",
          b"[worker]\nconcurrency = 0x" + b"f" * 5_000),
    Found("hex for a boolean ended in a traceback", "config-file",
          b"[server]\nunix_socket = 0x" + b"f" * 5_000),
    Found("deep nesting ended in a traceback", "config-file", b"a = " + _DEEP),
    Found("blanks before a number ended in a traceback", "config-environment",
          b"HEADRACE_LOG__SEGMENT_BYTES=" + b" " * 40 + b"16777216"),
    Found("duration beyond timedelta ended in a traceback", "payload",
          b'{"wait":1e3,"pair":[1,%d]}' % 10**30),
    Found("result that is no JSON ended in a foreign error", "payload", b"{"),
    Found("child that says nonsense ended in a foreign error", "from-child", b"\0\0\0\x01\xc1"),
    Found("worker that died in mid-word ended in a foreign error", "to-child", b"\0\0\0\x18\x81"),
)  # fmt: skip


@pytest.mark.parametrize("found", FOUND, ids=[found.name for found in FOUND])
def test_what_was_found_stays_mended(found: Found) -> None:
    assert judge(TARGETS[found.target], found.data)[1] is None


def test_replies_that_clients_take_are_those_of_the_document() -> None:
    text = (ROOT / "spec/wire-protocol.md").read_text(encoding="utf-8")
    said = {}
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        name, reply = re.match(r"0x\w+ .*?`(\w+)`", section), re.search(r"Reply:\s`(\w+)`", section)
        if name and reply:
            said[name[1]] = reply[1]
    said["HandOver"] = "Done"

    assert {kind.__name__: reply.__name__ for kind, reply in ANSWERS.items()} == said


def test_refusals_that_were_tracebacks_say_what_is_wrong() -> None:
    with pytest.raises(CurrentDamaged, match="not in order"):
        decode_current(
            _current(
                segments=[
                    {"segment_no": number, "first_index": 1, "first_commit_no": 1}
                    for number in (2, 1)
                ]
            ),
            "CURRENT",
            "/data",
        )
    with pytest.raises(BadRequest, match="finer than a millisecond"):
        parse_duration_ms("1." + "0" * 40 + "1s")
    with pytest.raises(BadRequest, match="no whole number of bytes"):
        parse_size_bytes("1." + "0" * 40 + "1KiB")
    assert parse_segment_name("٠" * 20 + "-00000001.wal") is None


def test_record_that_cannot_follow_is_no_bug_of_the_engine() -> None:
    """It was a `KeyError` that said nothing of the log."""
    with pytest.raises(InvariantViolated, match="FinishedPruned"):
        Engine().apply(1, FinishedPruned("no such queue", 0, 1))


def test_row_that_cannot_be_is_no_bug_of_the_engine() -> None:
    with pytest.raises(InvariantViolated, match="a row of the snapshot"):
        Engine().load_rows([EndedRow(b"\xc1")])


def test_start_on_a_log_that_gives_no_state_is_a_stop_code() -> None:
    """It was reported as a bug, with exit code 70 and a traceback in a file."""
    env = SimEnv()
    log = MemoryLog(env)
    body = encode_records([FinishedPruned("no such queue", 0, 1)])
    log.store.commits.append(Commit(bytes(16), 1, 1, 0, body))
    log.store.last_index = 1

    with pytest.raises(ReplayDiverged, match="no sound state at index 1"):
        recover(env, log, "node", EngineOptions(), tune_gc=False)  # type: ignore[arg-type]
