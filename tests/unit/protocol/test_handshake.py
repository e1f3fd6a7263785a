"""Who may come in: versions, tokens, namespaces, sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace.model.errors import (
    BadRequest,
    HeadraceError,
    Unauthenticated,
    Unsupported,
    UnsupportedVersion,
)
from headrace.model.handshake import SESSION_ATTACH, SESSION_NONE, SESSION_RESUME, Hello
from headrace.protocol.handshake import TokenCheck, common_version, negotiate

SESSION = b"s" * 16


@dataclass
class Case:
    name: str
    hello: dict[str, Any]
    refused: type[HeadraceError] | None = None
    token: str | None = None
    words: list[str] = field(default_factory=list)


CASES = [
    Case("defaults", {}),
    Case("attach", {"session_id": SESSION, "session_mode": SESSION_ATTACH}),
    Case("resume", {"session_id": SESSION, "session_mode": SESSION_RESUME}),
    Case("attach_without_id", {"session_mode": SESSION_ATTACH}, BadRequest),
    Case("id_without_mode", {"session_id": SESSION, "session_mode": SESSION_NONE}, BadRequest),
    Case("unknown_mode", {"session_id": SESSION, "session_mode": 3}, BadRequest),
    Case("short_id", {"session_id": b"s", "session_mode": SESSION_RESUME}, BadRequest),
    Case("other_namespace", {"namespace": "prod"}, Unsupported, words=["'prod'"]),
    Case("right_token", {"auth": "secret"}, token="secret"),
    Case("wrong_token", {"auth": "Secret"}, Unauthenticated, token="secret"),
    Case("prefix_of_token", {"auth": "secre"}, Unauthenticated, token="secret"),
    Case("token_and_more", {"auth": "secret "}, Unauthenticated, token="secret"),
    Case("no_token", {}, Unauthenticated, token="secret"),
    Case("empty_token", {"auth": ""}, Unauthenticated, token="secret"),
    Case("huge_token", {"auth": "x" * 60_000}, Unauthenticated, token="secret"),
    Case("lone_surrogate", {"auth": "\udcff"}, Unauthenticated, token="secret"),
    Case("token_nobody_asked_for", {"auth": "whatever"}),
    Case("too_new", {"protocol_min": 2, "protocol_max": 3}, UnsupportedVersion, words=["2 to 3"]),
    Case("newer_too", {"protocol_min": 1, "protocol_max": 7}),
    Case("too_old", {"protocol_min": 0, "protocol_max": 0}, UnsupportedVersion),
    Case("upside_down", {"protocol_min": 2, "protocol_max": 1}, UnsupportedVersion),
    # Nothing else of HELLO may be judged before the version.
    Case(
        "version_before_token",
        {"protocol_min": 2, "protocol_max": 2, "auth": "no"},
        UnsupportedVersion,
        token="secret",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_hello_is_judged(case: Case) -> None:
    hello, tokens = Hello(**case.hello), TokenCheck(case.token)
    if case.refused is None:
        assert negotiate(hello, tokens) == 1
        return
    with pytest.raises(case.refused) as refused:
        negotiate(hello, tokens)

    assert type(refused.value) is case.refused
    for words in case.words:
        assert words in str(refused.value)


def test_refusal_does_not_show_the_token() -> None:
    with pytest.raises(Unauthenticated) as refused:
        negotiate(Hello(auth="wr0ng"), TokenCheck("s3cret"))

    assert "s3cret" not in str(refused.value)
    assert "wr0ng" not in str(refused.value)


@pytest.mark.parametrize("theirs_min", range(1, 6))
@pytest.mark.parametrize("theirs_max", range(1, 6))
@pytest.mark.parametrize("ours_min", range(1, 4))
def test_common_version_is_the_highest_of_both_ranges(
    theirs_min: int, theirs_max: int, ours_min: int
) -> None:
    """Ours is N-1 to N; the naive twin intersects the two sets."""
    ours_max = ours_min + 1
    both = set(range(theirs_min, theirs_max + 1)) & {ours_min, ours_max}
    if both:
        assert common_version(theirs_min, theirs_max, ours_min, ours_max) == max(both)
    else:
        with pytest.raises(UnsupportedVersion):
            common_version(theirs_min, theirs_max, ours_min, ours_max)
