"""One type as JSON: what msgspec does, and the four things that headrace decides itself.

- datetime travels as RFC 3339 with an offset; one without a zone is refused, since nobody
  could say later which instant was meant;
- timedelta travels as int milliseconds (msgspec would write ISO 8601 durations);
- Pydantic models, recognised by their methods so that nothing imports Pydantic, travel as
  their own `model_dump(mode="json")`;
- a type that JSON cannot carry is refused when the codec is made, not at the first job.

Decimal is a string, bytes base64, UUID and enum their text or value: msgspec's own rules.
Types without datetime, timedelta or `Any` never leave msgspec's C code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import inspect as types

from headrace.client.errors import BadRegistration

_MILLISECOND = timedelta(milliseconds=1)
_KEPT = (datetime, timedelta)


class JsonCodec:
    """Values of `type_` to JSON and back. Raises: `BadRegistration` when JSON cannot carry it."""

    def __init__(self, type_: Any, what: str) -> None:
        self._type = type_
        self._info = _checked_info(type_, what)
        inner = {type(info) for info in _walk(self._info, set())}
        self._encoder = msgspec.json.Encoder(enc_hook=_encode_model)
        self._decoder = msgspec.json.Decoder(type_, dec_hook=_decode_model)
        checked = types.DateTimeType, types.TimeDeltaType, types.AnyType
        self.encode: Callable[[Any], bytes] = (
            self._encode_checked if inner.intersection(checked) else self._encoder.encode
        )
        """Raises: `ValueError` or `TypeError` that says what cannot be written."""
        self.decode: Callable[[bytes], Any] = (
            self._decode_durations if types.TimeDeltaType in inner else self._decoder.decode
        )
        """Raises: `msgspec.DecodeError`, or its kind `ValidationError` that names the place."""

    def _encode_checked(self, value: Any) -> bytes:
        plain = msgspec.to_builtins(value, builtin_types=_KEPT, enc_hook=_encode_model)
        return self._encoder.encode(_lower(plain, "$"))

    def _decode_durations(self, body: bytes) -> Any:
        plain = _lift(self._info, msgspec.json.decode(body))
        return msgspec.convert(
            plain, self._type, builtin_types=(timedelta,), dec_hook=_decode_model, str_keys=True
        )


def _checked_info(type_: Any, what: str) -> types.Type:
    try:
        info = types.type_info(type_)
    except (TypeError, NameError) as error:
        raise BadRegistration(f"{what}: {error}.") from error
    for inner in _walk(info, set()):
        if isinstance(inner, types.CustomType) and not hasattr(inner.cls, "model_validate"):
            raise BadRegistration(
                f"{what}: JSON cannot carry {inner.cls.__name__}.",
                hint="Use plain types, dataclasses, msgspec structs or Pydantic models, "
                "or inject it with Depends.",
            )
    return info


def _walk(info: Any, seen: set[int]) -> Iterator[types.Type]:
    """Every type inside, each class once: a struct may hold its own kind."""
    if isinstance(info, tuple | list):
        for inner in info:
            yield from _walk(inner, seen)
    elif isinstance(info, types.Field):
        yield from _walk(info.type, seen)
    elif isinstance(info, types.Type) and id(info) not in seen:
        seen.add(id(info))
        yield info
        for name in info.__struct_fields__:
            yield from _walk(getattr(info, name), seen)


def _lower(plain: Any, path: str) -> Any:
    """As JSON has it. Raises: `ValueError` with the place of what JSON would not keep: a
    datetime without a zone, a float that is no number (it would arrive as null)."""
    if isinstance(plain, timedelta):
        return round(plain / _MILLISECOND)
    if isinstance(plain, datetime) and plain.tzinfo is None:
        raise ValueError(f"datetime without a time zone - at `{path}`")
    if isinstance(plain, float) and not math.isfinite(plain):
        raise ValueError(f"JSON cannot carry {plain} - at `{path}`")
    if isinstance(plain, dict):
        return {key: _lower(value, f"{path}.{key}") for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_lower(value, f"{path}[...]") for value in plain]
    return plain


def _lift(info: Any, plain: Any) -> Any:
    """int milliseconds as timedelta wherever the type wants one; all else as it is."""
    if isinstance(info, types.TimeDeltaType):
        return _duration(plain) if isinstance(plain, int) else plain
    if isinstance(info, types.UnionType):
        return _lift_union(info, plain)
    if isinstance(plain, dict):
        return _lift_object(info, plain)
    if isinstance(plain, list):
        return _lift_array(info, plain)
    return plain


def _duration(whole_ms: int) -> timedelta:
    try:
        return timedelta(milliseconds=whole_ms)
    except OverflowError:
        raise msgspec.ValidationError("Duration is out of range") from None


def _lift_union(info: types.UnionType, plain: Any) -> Any:
    if any(isinstance(inner, types.IntType) for inner in info.types) and isinstance(plain, int):
        return plain
    for inner in info.types:
        lifted = _lift(inner, plain)
        if lifted is not plain:
            return lifted
    return plain


def _lift_object(info: Any, plain: dict[str, Any]) -> Any:
    if isinstance(info, types.DictType):
        return {key: _lift(info.value_type, value) for key, value in plain.items()}
    fields = getattr(info, "fields", None)
    if fields is None:
        return plain
    by_name = {field.encode_name: field.type for field in fields}
    return {
        key: _lift(by_name[key], value) if key in by_name else value for key, value in plain.items()
    }


def _lift_array(info: Any, plain: list[Any]) -> Any:
    if isinstance(info, types.TupleType):
        return [_lift(inner, value) for inner, value in zip(info.item_types, plain, strict=False)]
    item_type = getattr(info, "item_type", None)
    return plain if item_type is None else [_lift(item_type, value) for value in plain]


def _encode_model(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"JSON cannot carry {type(value).__name__}")


def _decode_model(type_: type, plain: Any) -> Any:
    if hasattr(type_, "model_validate"):
        try:
            return type_.model_validate(plain)
        except ValueError as error:
            raise ValueError(_without_values(error)) from None
    raise TypeError(f"JSON cannot carry {type_.__name__}")


def _without_values(error: ValueError) -> str:
    """Pydantic's message shows what was given; errors are logged, and payloads never are."""
    if not hasattr(error, "errors"):
        return str(error)
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or type(error).__name__}: {fault['msg']}"
        for fault in error.errors()
    ]
    return "; ".join(faults)
