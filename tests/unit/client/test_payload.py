"""Payloads: what travels for each type, what is refused, and with which words."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.errors import BadArguments, BadRegistration, NotAwaited, PayloadMismatch
from headrace.client.payload import PayloadCodec
from headrace.client.signature import JobSignature


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Address:
    street: str
    moved_in: datetime
    waited: timedelta = timedelta(0)


class Order(msgspec.Struct):
    number: int
    parts: list[Order] = []
    waits: dict[str, timedelta | None] = {}


class Model(pydantic.BaseModel):
    name: str
    card: int = 0


class Plain:
    pass


def codec_of(annotation: Any, returns: Any = Any) -> PayloadCodec:
    def send(value): ...  # type: ignore[no-untyped-def]

    send.__annotations__ = {"value": annotation, "return": returns}
    return PayloadCodec(JobSignature(send, "send"))


NOON = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=1)))
TRAVELS = {
    "int": (int, 42, 42),
    "datetime": (datetime, NOON, "2026-03-01T12:00:00+01:00"),
    "date": (date, date(2026, 3, 1), "2026-03-01"),
    "timedelta": (timedelta, timedelta(seconds=1.5), 1500),
    "timedelta or none": (timedelta | None, timedelta(seconds=1), 1000),
    "no timedelta": (timedelta | None, None, None),
    "timedeltas": (list[timedelta], [timedelta(seconds=1)], [1000]),
    "pair": (tuple[int, timedelta], (5, timedelta(seconds=1)), [5, 1000]),
    "decimal": (Decimal, Decimal("1.10"), "1.10"),
    "bytes": (bytes, b"\x00\xff", "AP8="),
    "uuid": (uuid.UUID, uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "enum": (Colour, Colour.RED, "red"),
    "set": (set[int], {1}, [1]),
    "dataclass": (
        Address,
        Address("Main", NOON, timedelta(seconds=2)),
        {"street": "Main", "moved_in": "2026-03-01T12:00:00+01:00", "waited": 2000},
    ),
    "recursive struct": (
        Order,
        Order(1, [Order(2)], {"a": timedelta(seconds=1), "b": None}),
        {
            "number": 1,
            "parts": [{"number": 2, "parts": [], "waits": {}}],
            "waits": {"a": 1000, "b": None},
        },
    ),
    "model": (Model, Model(name="x"), {"name": "x", "card": 0}),
    "models": (list[Model], [Model(name="x")], [{"name": "x", "card": 0}]),
}


@pytest.mark.parametrize(("annotation", "value", "wire"), TRAVELS.values(), ids=TRAVELS)
def test_value_travels_as_json_and_comes_back(annotation: Any, value: Any, wire: Any) -> None:
    codec = codec_of(annotation)

    payload = codec.encode((value,), {})

    assert json.loads(payload) == {"value": wire}
    assert codec.decode(payload) == {"value": value}


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (int, "42", r"Expected `int`, got `str` - at `\$.value`"),
        (list[int], [1, "2"], r"\$.value\[1\]"),
        (datetime, datetime(2026, 3, 1), r"without a time zone - at `\$.value`"),
        (Any, {"at": datetime(2026, 3, 1)}, r"without a time zone - at `\$.value.at`"),
        (Any, Plain(), "Plain"),
        (str, "\ud800", "surrogates"),
        (float, float("nan"), r"Expected `float`, got `null` - at `\$.value`"),
        (Any, {"share": float("inf")}, r"cannot carry inf - at `\$.value.share`"),
    ],
    ids=[
        "type",
        "inside a list",
        "naive datetime",
        "naive inside",
        "no JSON",
        "surrogate",
        "no number",
        "no number inside",
    ],
)
def test_value_that_does_not_fit_is_refused_and_named(
    annotation: Any, value: Any, said: str
) -> None:
    with pytest.raises(BadArguments, match=said):
        codec_of(annotation).encode((value,), {})


def test_type_that_json_cannot_carry_is_refused_before_any_job() -> None:
    with pytest.raises(BadRegistration, match=r"'send'.*Plain.*Depends"):
        codec_of(Plain)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b'{"value": "x"}', "Expected `int`, got `str`"),
        (b"{}", "missing required field `value`"),
        (b'{"value": 1, "more": 2}', "unknown field `more`"),
        (b"[1]", "Expected `object`"),
        (b"not json", "malformed"),
        (b"", "truncated"),
    ],
)
def test_payload_that_does_not_fit_the_function_shows_what_was_expected(
    payload: bytes, said: str
) -> None:
    with pytest.raises(PayloadMismatch, match=said) as misfit:
        codec_of(int).decode(payload)
    assert "send(value: int)" in str(misfit.value)


def test_model_that_refuses_its_value_makes_the_payload_a_misfit() -> None:
    with pytest.raises(PayloadMismatch, match="name: Field required"):
        codec_of(Model).decode(b'{"value": {}}')


def test_model_that_refuses_its_value_does_not_show_it() -> None:
    """Pydantic's own message would; errors are logged, and payloads never are."""
    with pytest.raises(PayloadMismatch, match="card: Input should be a valid integer") as misfit:
        codec_of(Model).decode(b'{"value": {"name": "x", "card": "4111 1111"}}')
    assert "4111" not in str(misfit.value)


def test_parameter_added_with_a_default_runs_older_payloads() -> None:
    def send(user_id: int, tags: list[str] = ["new"]) -> None: ...  # noqa: B006

    codec = PayloadCodec(JobSignature(send, "send"))

    assert codec.decode(b'{"user_id": 1}') == {"user_id": 1, "tags": ["new"]}


def test_results_come_back_as_they_are_annotated() -> None:
    codec = codec_of(int, returns=list[timedelta])

    assert codec.decode_result(codec.encode_result([timedelta(seconds=1)])) == [
        timedelta(seconds=1)
    ]
    assert codec.encode_result(None) is None
    assert codec.decode_result(None) is None


def test_result_of_a_type_that_json_cannot_carry_only_fails_when_there_is_one() -> None:
    codec = codec_of(int, returns=Plain)

    assert codec.encode_result({"a": 1}) == b'{"a":1}'
    with pytest.raises(BadArguments, match="result"):
        codec.encode_result(Plain())


def test_coroutine_as_a_result_is_an_error_that_says_so() -> None:
    async def forgotten() -> None: ...

    with pytest.raises(NotAwaited, match=r"coroutine.*nobody awaited"):
        codec_of(int).encode_result(forgotten())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_json_can_say_comes_back_unchanged(value: Any) -> None:
    codec = codec_of(Any)

    assert codec.decode(codec.encode((value,), {})) == {"value": value}


def test_instants_keep_their_offset() -> None:
    codec = codec_of(datetime)

    back = codec.decode(codec.encode((datetime(2026, 1, 1, tzinfo=UTC),), {}))["value"]

    assert back.tzinfo is not None
