"""The address of a server, as users write it."""

from __future__ import annotations

import pytest

from headrace.client.connection import parse_url
from headrace.model.errors import BadRequest


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("headrace://127.0.0.1:7431", "headrace://127.0.0.1:7431"),
        ("headrace://example.test", "headrace://example.test:7431"),
        ("headrace://[::1]:9", "headrace://[::1]:9"),
        ("unix:///a/b%20c.sock", "unix:///a/b c.sock"),
    ],
)
def test_url_is_understood(url: str, shown: str) -> None:
    assert str(parse_url(url)) == shown


@pytest.mark.parametrize(
    "url",
    ["", "./data", "http://x", "headrace://", "headrace://x:99999", "headrace://x/y", "unix://x/y"],
)
def test_url_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(BadRequest, match=r"headrace://127\.0\.0\.1:7431"):
        parse_url(url)
