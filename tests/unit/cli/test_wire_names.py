"""JSON of replies: wire field names, ids as text, words for numbers, bodies as they are."""

from __future__ import annotations

import base64

import msgspec

from headrace.cli.wire_names import plain, state_word
from headrace.model.ids import id_from_text
from headrace.model.job import JobSpec, State
from headrace.model.queue import QueueSettings
from headrace.model.records import EnqueuedJob, JobsClaimed, JobsEnqueued, JobsSucceeded
from headrace.model.replies import JobView

TEXT = "0190f3a2-7b1c-7def-8123-456789abcdef"
ID = id_from_text(TEXT)


def view(**changes: object) -> JobView:
    settled = JobView(
        ID, "q", "k", State.LEASED, 100, 1, 8, 5, media_type="application/json", payload=b'{"a":1}'
    )
    return msgspec.structs.replace(settled, **changes)


def test_job_has_the_field_names_of_the_wire() -> None:
    named = plain(view())
    assert {name.removesuffix("_base64") for name in named} == set(JobView.__struct_fields__)
    assert named["job_id"] == TEXT
    assert named["state"] == "leased"
    assert named["payload"] == {"a": 1}


def test_payload_of_another_media_type_is_base64() -> None:
    """Sixteen bytes of it are no id."""
    named = plain(view(media_type="image/png", payload=b"\x00" * 16))
    assert base64.b64decode(named["payload_base64"]) == b"\x00" * 16
    assert "payload" not in named


def test_payload_that_only_claims_to_be_json_is_base64() -> None:
    assert base64.b64decode(plain(view(payload=b"{"))["payload_base64"]) == b"{"


def test_leased_job_is_reserved_until_it_has_started() -> None:
    assert state_word(view()) == "reserved"
    assert state_word(view(started=True)) == "running"
    assert state_word(view(state=State.DEAD)) == "dead"


def test_numbers_that_stand_for_words_are_the_words() -> None:
    named = plain(QueueSettings())
    assert named["durability"] == "group"
    assert named["retry"]["backoff"] == "exponential"


def test_records_name_jobs_by_text() -> None:
    assert plain(JobsClaimed(ID, [ID])) == {
        "session_id": TEXT,
        "job_ids": [TEXT],
        "lease_ms": 0,
    }
    assert plain(JobsSucceeded([(ID, 7, b'"x"')]))["results"][0][:2] == [TEXT, 7]


def test_payloads_of_a_record_follow_the_media_type_of_its_spec() -> None:
    jobs = [EnqueuedJob(ID, b"17", 100)]
    as_json = plain(JobsEnqueued(JobSpec("q", "k"), jobs))
    as_bytes = plain(JobsEnqueued(JobSpec("q", "k", "text/plain"), jobs))
    assert as_json["jobs"][0]["payload"] == 17
    assert base64.b64decode(as_bytes["jobs"][0]["payload_base64"]) == b"17"


def test_everything_is_json() -> None:
    for value in (view(result=b"\xff"), QueueSettings(), JobsSucceeded([(ID, 7, None)])):
        msgspec.json.encode(plain(value))
