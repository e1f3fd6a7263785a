"""Mistakes in codec and protocol: lengths, versions, checks of what comes from outside."""

from __future__ import annotations

from proof.mutants.catchers import GOLDEN, checks, pointed
from proof.mutants.mutant import Mutant

FRAMING = checks("every frame whole, in pieces and damaged", "tests/unit/protocol")
HOSTILE = checks("hostile peers of a server", "tests/unit/server/test_hostile_peers.py")

MUTANTS = (
    Mutant(
        name="claimed-length-trusted",
        mistake="A frame that comes in pieces may be as long as its sender says.",
        shipped_by="Faktory 1.10, CVE-2023-37279",
        path="protocol/framing.py",
        old="        if not AFTER_LENGTH_BYTES <= length <= self.frame_bytes_max:\n"
        "            self._refuse(length, 0)\n",
        new="        if length < AFTER_LENGTH_BYTES:\n            self._refuse(length, 0)\n",
        breaks="every bound holds",
        catchers=(FRAMING, HOSTILE),
    ),
    Mutant(
        name="rest-of-a-read-dropped",
        mistake="A frame that comes in two pieces is lost.",
        path="protocol/framing.py",
        old="            self._rest = bytearray(data[position:])\n",
        new="            self._rest = None\n            return\n",
        breaks="I1",
        catchers=(FRAMING,),
    ),
    Mutant(
        name="any-token-accepted",
        mistake="A server with a token takes everybody.",
        shipped_by="open dashboards of many queues",
        path="protocol/handshake.py",
        old="        return hmac.compare_digest(given, self._digest)",
        new="        return hmac.compare_digest(given, given)",
        breaks="the token",
        catchers=(FRAMING, HOSTILE),
    ),
    Mutant(
        name="any-version-accepted",
        mistake="A version is agreed on that one of the two does not speak.",
        path="protocol/handshake.py",
        old="    if theirs_min > theirs_max or version < max(theirs_min, ours_min):\n",
        new="    if False:\n",
        breaks="versions are agreed on",
        catchers=(FRAMING, HOSTILE),
    ),
    Mutant(
        name="broken-request-ends-the-server",
        mistake="A request body that is not well formed raises out of the connection.",
        shipped_by="Faktory 1.10: a malformed command stopped the server",
        path="codec/messages.py",
        old="    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:\n"
        "        name = MESSAGES",
        new="    except UnicodeDecodeError as error:\n        name = MESSAGES",
        breaks="no input may crash the process",
        catchers=(FRAMING, HOSTILE),
    ),
    Mutant(
        name="record-numbers-swapped",
        mistake="Two records change their numbers: old logs mean something else.",
        shipped_by="what golden files are for",
        path="codec/records.py",
        old="    9: records.JobsSucceeded,\n    10: records.JobFailed,\n",
        new="    9: records.JobFailed,\n    10: records.JobsSucceeded,\n",
        reached_at="    decoder = _DECODERS.get(number)",
        breaks="formats do not change under their users",
        catchers=(
            pointed("unit/codec/test_golden_records.py", "test_released_record_decodes"),
            pointed("recovery/test_data_v1.py", "test_"),
        ),
    ),
    Mutant(
        name="unknown-record-skipped",
        mistake="A record of a later version is passed over, and the state is wrong silently.",
        shipped_by="RocksDB's readers before format checks",
        path="codec/records.py",
        old="        if flags & FLAG_SKIPPABLE:\n",
        new="        if True:\n",
        breaks="I12",
        catchers=(GOLDEN,),
    ),
    Mutant(
        name="missing-record-accepted",
        mistake="A commit with fewer records than it says is replayed.",
        path="codec/records.py",
        old="    if len(found) != count:\n",
        new="    if len(found) > count:\n",
        breaks="I12, I15",
        catchers=(GOLDEN,),
    ),
    Mutant(
        name="reply-without-its-id",
        mistake="A reply goes out under the id of another request.",
        path="protocol/connection.py",
        old="            self._writer.add(TYPE_NUMBERS[type(reply)], request_id, reply)\n",
        new="            self._writer.add(TYPE_NUMBERS[type(reply)], request_id + 1, reply)\n",
        breaks="each call gets its own answer",
        catchers=(FRAMING, pointed("unit/client/test_link.py", "test_calls_are_answered")),
    ),
)
