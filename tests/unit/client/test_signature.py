"""Which functions can be jobs, and how their arguments become names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pytest

from headrace.client.context import JobContext
from headrace.client.depends import Depends
from headrace.client.errors import BadArguments, BadRegistration
from headrace.client.signature import JobSignature

if TYPE_CHECKING:
    from decimal import Decimal as NotImported


def make_database() -> str:
    return "database"


def bound(function: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    signature = JobSignature(function, "send")
    arguments = signature.bind(args, kwargs)
    return {name: getattr(arguments, name) for name in arguments.__struct_fields__}


def test_positional_arguments_are_bound_to_names_and_defaults_written_out() -> None:
    def send(user_id: int, template: str = "default") -> None: ...

    assert bound(send, 42) == {"user_id": 42, "template": "default"}


def test_injected_parameters_are_no_part_of_the_payload_wherever_they_stand() -> None:
    def send(
        ctx: JobContext, user_id: int, database: Annotated[str, Depends(make_database)], n: int = 1
    ) -> None: ...

    assert bound(send, 42, 7) == {"user_id": 42, "n": 7}
    assert [need.name for need in JobSignature(send, "send").needs] == ["ctx", "database"]


def test_keyword_only_parameters_are_refused_by_position() -> None:
    def send(user_id: int = 1, *, urgent: bool) -> None: ...

    assert bound(send, urgent=True) == {"user_id": 1, "urgent": True}
    with pytest.raises(BadArguments, match="positional"):
        bound(send, 1, True)


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((), {}, "user_id"),
        ((1,), {"colour": "red"}, "colour"),
        ((1, 2, 3), {}, "positional"),
        ((1,), {"user_id": 1}, "user_id"),
    ],
    ids=["missing", "unknown", "too many", "twice"],
)
def test_wrong_arguments_are_named(args: tuple[Any], kwargs: dict[str, Any], named: str) -> None:
    def send(user_id: int, template: str = "default") -> None: ...

    with pytest.raises(BadArguments, match=named) as refusal:
        bound(send, *args, **kwargs)
    assert "send(user_id: int, template: str = 'default')" in str(refusal.value)
    assert isinstance(refusal.value, TypeError)


def star(*users: int) -> None: ...
def stars(**users: int) -> None: ...
def by_position(user: int, /) -> None: ...


@pytest.mark.parametrize("function", [star, stars, by_position])
def test_parameters_without_a_name_of_their_own_are_refused(function: Any) -> None:
    with pytest.raises(BadRegistration, match="user"):
        JobSignature(function, "send")


def test_class_defined_further_down_in_the_module_is_found_at_first_use() -> None:
    signature = JobSignature(uses_a_later_class, "later")

    assert "Later" in signature.expected


def uses_a_later_class(order: Later) -> None: ...


class Later:
    pass


def test_annotation_that_only_type_checkers_see_is_refused_with_a_sentence() -> None:
    def send(price: NotImported) -> None: ...

    with pytest.raises(BadRegistration, match=r"'NotImported'.*TYPE_CHECKING"):
        bound(send, 1)


def test_method_is_refused_since_there_is_no_object_to_call_it_on() -> None:
    class Mailer:
        def send(self, user_id: int) -> None: ...

    with pytest.raises(BadRegistration, match="method"):
        JobSignature(Mailer.send, "send")


def test_default_of_none_allows_none() -> None:
    def send(user_id: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    assert JobSignature(send, "send").expected == "send(user_id: int = None)"
    assert bound(send) == {"user_id": None}
