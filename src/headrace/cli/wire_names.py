"""Replies and records as plain values under the field names of the wire, for `--json`.

Ids become canonical text, numbers that stand for words become the words, and bytes that
are JSON become that JSON; other bytes are base64 under `<field>_base64`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.model.ids import ID_BYTES, id_to_text
from headrace.model.job import BACKOFF_WORDS, State
from headrace.model.queue import DURABILITY_WORDS
from headrace.model.replies import JobView

JSON_MEDIA_TYPE = "application/json"
_ID_FIELDS = frozenset({"job_id", "job_ids", "session_id", "node_id", "cluster_id", "made_ids"})
_LEASE_FIELDS = frozenset({"leases", "results"})
"""Lists of (job id, token) or (job id, token, result)."""
_BODY_FIELDS = frozenset({"payload", "result", "progress"})


def plain(value: Any, name: str = "", media_type: str = JSON_MEDIA_TYPE) -> Any:
    """`value` of the field `name`, without structs and bytes."""
    if isinstance(value, msgspec.Struct):
        return _plain_struct(value, media_type)
    if isinstance(value, bytes):
        is_id = name in _ID_FIELDS and len(value) == ID_BYTES
        return id_to_text(value) if is_id else base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and name in _LEASE_FIELDS:
        return [plain(value[0], "job_id"), *(plain(item) for item in value[1:])]
    if isinstance(value, list | tuple):
        return [plain(item, name, media_type) for item in value]
    return _word(name, value)


def _plain_struct(value: msgspec.Struct, media_type: str) -> dict[str, Any]:
    media_type = getattr(getattr(value, "spec", value), "media_type", media_type) or media_type
    named: dict[str, Any] = {}
    for name, item in msgspec.structs.asdict(value).items():
        if name in _BODY_FIELDS and isinstance(item, bytes):
            named |= body(name, item, media_type)
        else:
            named[name] = plain(item, name, media_type)
    return named


def body(name: str, content: bytes, media_type: str) -> dict[str, Any]:
    """`{name: value}` when it is the JSON that it says it is, else `{name_base64: text}`."""
    if media_type == JSON_MEDIA_TYPE:
        try:
            return {name: msgspec.json.decode(content)}
        except msgspec.DecodeError:
            pass
    return {f"{name}_base64": base64.b64encode(content).decode()}


def state_word(view: JobView) -> str:
    """As people know it: a leased job is *reserved* until its worker says that it started."""
    if view.state == State.LEASED:
        return "running" if view.started else "reserved"
    return State(view.state).word


def _word(name: str, value: Any) -> Any:
    if name in ("state", "states"):
        return State(value).word if value else ""
    if name == "durability":
        return DURABILITY_WORDS[value]
    return BACKOFF_WORDS[value] if name == "backoff" else value
