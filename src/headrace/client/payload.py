"""Payloads and results of one job type: bound arguments to bytes, bytes to arguments.

A payload is checked where it is made, by reading back what was written: what an enqueue
accepted, a worker with the same function can run. What a stranger enqueued is checked the
same way on the worker, and a misfit is the job's fault, not a reason to try again.

Must never run code that the payload names (no pickle).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.client.errors import BadArguments, BadRegistration, NotAwaited, PayloadMismatch
from headrace.client.json_codec import JsonCodec
from headrace.client.signature import JobSignature

MEDIA_TYPE_JSON = "application/json"


class PayloadCodec:
    """Of one function. Raises: `BadRegistration` naming a parameter that JSON cannot carry."""

    def __init__(self, signature: JobSignature) -> None:
        self._signature = signature
        self._arguments = JsonCodec(signature.arguments_type, f"job {signature.kind!r}")
        self._names: tuple[str, ...] = signature.arguments_type.__struct_fields__
        self._result = _result_codec(signature)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The payload of a call. Raises: `BadArguments` naming the argument."""
        bound = self._signature.bind(args, kwargs)
        try:
            payload = self._arguments.encode(bound)
            self._arguments.decode(payload)
        except (ValueError, TypeError, RecursionError) as error:
            raise BadArguments(
                f"These arguments do not fit job {self._signature.kind!r}: {error}.",
                hint=f"Expected {self._signature.expected}.",
            ) from error
        return payload

    def decode(self, payload: bytes) -> dict[str, Any]:
        """Parameter name → value. Raises: `PayloadMismatch` that shows what was expected."""
        try:
            bound = self._arguments.decode(payload)
        except (ValueError, TypeError, RecursionError) as error:
            raise PayloadMismatch(
                f"The payload does not fit job {self._signature.kind!r}: {error}.",
                hint=f"Expected {self._signature.expected}.",
            ) from error
        return {name: getattr(bound, name) for name in self._names}

    def encode_result(self, value: Any) -> bytes | None:
        """None for None. Raises: `NotAwaited`, or `BadArguments` when JSON cannot carry it."""
        if value is None:
            return None
        try:
            return self._result.encode(value)
        except (ValueError, TypeError, RecursionError) as error:
            if inspect.isawaitable(value):
                _close(value)
                raise NotAwaited(
                    f"Job {self._signature.kind!r} returned a {type(value).__name__} that nobody "
                    "awaited.",
                    hint="Write `async def`, or await it before returning.",
                ) from None
            raise BadArguments(
                f"The result of job {self._signature.kind!r} cannot be kept: {error}."
            ) from error

    def decode_result(self, result: bytes | None) -> Any:
        """As the function returned it. Raises: `PayloadMismatch`."""
        if result is None:
            return None
        try:
            return self._result.decode(result)
        except (ValueError, TypeError, RecursionError) as error:
            raise PayloadMismatch(
                f"The result of job {self._signature.kind!r} does not fit its annotation: {error}."
            ) from error


def decode_untyped(result: bytes | None) -> Any:
    """A result whose function is not known here. Raises: `PayloadMismatch`."""
    try:
        return None if result is None else msgspec.json.decode(result)
    except (ValueError, RecursionError) as error:
        raise PayloadMismatch(f"The result is no JSON: {error}.") from error


def _result_codec(signature: JobSignature) -> JsonCodec:
    """Of the return annotation; of anything where that is more than JSON can say."""
    try:
        return JsonCodec(signature.hints.get("return", Any), "result")
    except BadRegistration:
        return JsonCodec(Any, "result")


def _close(awaitable: Any) -> None:
    """So that Python does not warn of it a second time."""
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
