"""What is said is what is heard: every field of every message, record and row.

Values are drawn from the annotations, so a field that is added is drawn as well. The
encodings are compared too: a default that is left out must come back as that default.
"""

from __future__ import annotations

import types
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.client.executors import frames as pipe
from headrace.codec.messages import MESSAGES, TYPE_NUMBERS, decode_body, encode_body
from headrace.codec.records import RECORDS, decode_records, encode_records
from headrace.codec.rows import decode_rows, encode_rows
from headrace.model.errors import HeadraceError
from headrace.model.handshake import ErrorFrame
from headrace.model.rows import AnyRow, Cold, Finished
from headrace.protocol.connection import ServerConnection
from headrace.protocol.error_frames import from_frame, to_frame
from headrace.protocol.framing import FrameReader, FrameWriter

INTS = st.integers(-(1 << 63), (1 << 64) - 1)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: INTS,
    bool: st.booleans(),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=20),
    float: st.floats(allow_nan=False),
    types.NoneType: st.none(),
    Any: st.one_of(st.none(), INTS, st.text(max_size=5), st.lists(st.booleans(), max_size=2)),
}


def drawn(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([drawn(each) for each in arguments])
    if origin is list:
        return st.lists(drawn(arguments[0]), max_size=3)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(drawn(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(drawn, arguments))
    if origin is dict:
        return st.dictionaries(drawn(arguments[0]), drawn(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        fields = typing.get_type_hints(hint)
        return st.builds(hint, **{name: drawn(fields[name]) for name in hint.__struct_fields__})
    raise AssertionError(f"no values of {hint} are known: add them")


@pytest.mark.parametrize("kind", MESSAGES.values(), ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_message_is_heard_as_it_was_said(kind: type[msgspec.Struct], data: Any) -> None:
    message = data.draw(drawn(kind))
    body = encode_body(message)

    assert decode_body(TYPE_NUMBERS[kind], body) == message
    writer = FrameWriter()
    writer.add(TYPE_NUMBERS[kind], 7, message)
    (found,) = FrameReader().frames(memoryview(b"".join(writer.take())))
    assert (found[0], found[1], bytes(found[2])) == (TYPE_NUMBERS[kind], 7, body)


@pytest.mark.parametrize("kind", MESSAGES.values(), ids=lambda kind: kind.__name__)
@settings(max_examples=10)
@given(data=st.data())
def test_message_of_a_later_version_is_heard_without_what_is_new(
    kind: type[msgspec.Struct], data: Any
) -> None:
    """Fields behind the last known one are ignored; the array only grows."""
    message = data.draw(drawn(kind))
    fields = msgspec.msgpack.decode(encode_body(message))
    longer = msgspec.msgpack.encode([*fields, data.draw(_PLAIN[Any])])

    assert decode_body(TYPE_NUMBERS[kind], longer) == message


@pytest.mark.parametrize("kind", RECORDS.values(), ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_record_is_read_as_it_was_written(kind: type[Any], data: Any) -> None:
    found = data.draw(st.lists(drawn(kind), min_size=1, max_size=3))

    assert decode_records(encode_records(found), len(found)) == found


@pytest.mark.parametrize("kind", typing.get_args(AnyRow), ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_row_is_read_as_it_was_written(kind: type[Any], data: Any) -> None:
    found = data.draw(st.lists(drawn(kind), min_size=1, max_size=3))

    assert decode_rows(encode_rows(found)) == found


@pytest.mark.parametrize("kind", [Cold, Finished], ids=lambda kind: kind.__name__)
@settings(max_examples=50)
@given(data=st.data())
def test_what_is_packed_inside_a_row_is_unpacked_as_it_was(kind: type[Any], data: Any) -> None:
    found = data.draw(drawn(kind))

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=kind) == found


@settings(max_examples=200)
@given(message=drawn(pipe.ToChild) | drawn(pipe.FromChild))
def test_frame_of_the_executor_is_read_as_it_was_written(message: Any) -> None:
    raw = pipe.frame(message)
    size = pipe.body_bytes(raw[: pipe.HEAD_BYTES])
    body = raw[pipe.HEAD_BYTES :]
    is_down = isinstance(message, pipe.Load | pipe.Run)

    assert size == len(body)
    assert (pipe.decode_to_child if is_down else pipe.decode_from_child)(body) == message


@settings(max_examples=200)
@given(frame=drawn(ErrorFrame))
def test_error_of_any_peer_is_one_of_ours_and_can_be_said_again(frame: ErrorFrame) -> None:
    error = from_frame(frame)

    assert isinstance(error, HeadraceError)
    assert error.retry_after_ms == frame.retry_after_ms
    ServerConnection().refuse(error)
    assert to_frame(error).index == frame.index
