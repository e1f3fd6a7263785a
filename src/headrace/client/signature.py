"""A function's parameters as a payload: which are in it, and arguments bound to their names.

Theory. Each function gets a struct type of its own whose fields are its payload
parameters: its constructor binds arguments as a call would, defaults written out, in C.
Parameters that are injected (`JobContext`, `Depends`) are left out, wherever they stand.

Annotations are resolved at registration; a name that does not exist yet then (a class
further down in the module) is looked up again at first use.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import msgspec

from headrace.client.depends import Need, injected, needs_of
from headrace.client.errors import BadArguments, BadRegistration

_KIND = inspect.Parameter
_REFUSED: dict[Any, str] = {
    _KIND.VAR_POSITIONAL: "takes *{name}, which has no name in a payload",
    _KIND.VAR_KEYWORD: "takes **{name}, whose names nobody can check",
    _KIND.POSITIONAL_ONLY: "takes {name!r} by position only, and a payload has names",
}


class JobSignature:
    """The parameters of one function. Raises: `BadRegistration` when it cannot be a job."""

    def __init__(
        self,
        function: Callable[..., Any],
        kind: str,
        local_names: Mapping[str, Any] | None = None,
    ) -> None:
        """`local_names`: of the scope that defines it, for annotations that are strings."""
        self.kind = kind
        self._function = function
        self._local_names = local_names
        self._parameters = dict(inspect.signature(function).parameters)
        for parameter in self._parameters.values():
            self._refuse_unnameable(parameter)
        self._refuse_method()
        self._try_hints()

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """Name → annotation, `return` included."""
        try:
            return get_type_hints(
                self._function, localns=self._local_names_for_hints(), include_extras=True
            )
        except NameError as error:
            raise BadRegistration(
                f"An annotation of job {self.kind!r} names {error.name!r}, which its module "
                "does not define.",
                hint="Import it outside `if TYPE_CHECKING:`; payloads are checked against it.",
            ) from error

    @functools.cached_property
    def needs(self) -> tuple[Need, ...]:
        """The parameters that are injected."""
        return needs_of(self._annotated(), f"job {self.kind!r}", self._local_names)

    @functools.cached_property
    def payload_parameters(self) -> tuple[inspect.Parameter, ...]:
        """Those that callers give: positional ones first."""
        own = [
            self._parameters[name]
            for name, hint in self._annotated().items()
            if injected(hint) is None
        ]
        return tuple(sorted(own, key=lambda parameter: parameter.kind))

    @functools.cached_property
    def arguments_type(self) -> type[msgspec.Struct]:
        """The struct whose fields are the payload parameters."""
        by_place = [p for p in self.payload_parameters if p.kind is not _KIND.KEYWORD_ONLY]
        by_name = [p for p in self.payload_parameters if p.kind is _KIND.KEYWORD_ONLY]
        bases: tuple[type[msgspec.Struct], ...] = ()
        if by_name:
            bases = (self._struct(by_name, bases, kw_only=True),)
        return self._struct(by_place, bases, kw_only=False)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> msgspec.Struct:
        """The arguments by name, defaults written out; types are not checked here.

        Raises: `BadArguments` naming the argument.
        """
        try:
            return self.arguments_type(*args, **kwargs)
        except TypeError as error:
            raise BadArguments(f"{error}.", hint=f"Expected {self.expected}.") from None

    @functools.cached_property
    def expected(self) -> str:
        """As a reader would write it: `send_welcome(user_id: int, template: str = 'default')`."""
        own = {parameter.name for parameter in self.payload_parameters}
        shown = [
            str(parameter.replace(annotation=self.hints.get(parameter.name, _KIND.empty)))
            for parameter in self._parameters.values()
            if parameter.name in own
        ]
        return f"{self.kind}({', '.join(shown)})"

    def _annotated(self) -> dict[str, Any]:
        return {name: self.hints.get(name, Any) for name in self._parameters}

    def _local_names_for_hints(self) -> dict[str, Any] | None:
        # Without the module's own names, get_type_hints would look for those in vain.
        if not self._local_names:
            return None
        return {**getattr(self._function, "__globals__", {}), **self._local_names}

    def _try_hints(self) -> None:
        try:
            self.arguments_type, self.needs  # noqa: B018
        except BadRegistration as error:
            if not isinstance(error.__cause__, NameError):
                raise
        else:
            self._local_names = None

    def _refuse_unnameable(self, parameter: inspect.Parameter) -> None:
        if reason := _REFUSED.get(parameter.kind):
            raise BadRegistration(
                f"Job {self.kind!r} {reason.format(name=parameter.name)}.",
                hint="Give each parameter a name that callers may use.",
            )

    def _refuse_method(self) -> None:
        first = next(iter(self._parameters), "")
        owner = getattr(self._function, "__qualname__", "").rpartition("<locals>.")[2]
        if first in ("self", "cls") and "." in owner:
            raise BadRegistration(
                f"Job {self.kind!r} is a method, and a worker has no object to call it on.",
                hint="Write a function; give it what it needs with Depends.",
            )

    def _struct(
        self,
        parameters: list[inspect.Parameter],
        bases: tuple[type[msgspec.Struct], ...],
        *,
        kw_only: bool,
    ) -> type[msgspec.Struct]:
        return msgspec.defstruct(
            self.kind,
            [self._field(parameter) for parameter in parameters],
            bases=bases or None,
            kw_only=kw_only,
            forbid_unknown_fields=True,
        )

    def _field(self, parameter: inspect.Parameter) -> Any:
        hint = self.hints.get(parameter.name, Any)
        if parameter.default is _KIND.empty:
            return parameter.name, hint
        default = parameter.default
        if default is None:
            hint = hint | None  # what `x: int = None` has always meant
        return parameter.name, hint, msgspec.field(default_factory=lambda: default)
