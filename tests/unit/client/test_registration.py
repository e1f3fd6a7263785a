"""What `@app.job` accepts, what it refuses, and where its jobs will stand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import pytest

from headrace import App, BadRegistration, Depends, JobContext, Retry
from headrace.client.hooks import EnqueueDraft
from headrace.client.target import LinkEvents
from headrace.model.errors import BadRequest, Unsupported
from headrace.model.ids import id_from_text, slot_of_queue
from headrace.model.job import RetryPolicy


@pytest.fixture
def app() -> App:
    return App("headrace://127.0.0.1:1")


def test_kind_is_the_functions_name_unless_given(app: App) -> None:
    @app.job()
    async def send() -> None: ...

    @app.job(kind="mail.send", aliases=["old.send"])
    async def send_again() -> None: ...

    assert set(app.job_types) == {"send", "mail.send", "old.send"}
    assert app.job_types["old.send"].kind == "mail.send"


@pytest.mark.parametrize("name", ["send", "old"])
def test_kind_or_alias_that_is_taken_is_refused_with_both_places(app: App, name: str) -> None:
    @app.job(kind="send", aliases=["old"])
    async def first() -> None: ...

    with pytest.raises(BadRegistration, match=rf"{name}.*first.*second"):

        @app.job(kind=name)
        async def second() -> None: ...


@pytest.mark.parametrize("kind", ["$own", "with\nline", "x" * 129, "é" * 65])
def test_name_that_the_server_would_refuse_is_refused_here(app: App, kind: str) -> None:
    with pytest.raises(BadRegistration, match="name"):

        @app.job(kind=kind)
        async def send() -> None: ...


def test_decorator_without_parentheses_is_refused_with_a_sentence(app: App) -> None:
    async def send() -> None: ...

    with pytest.raises(BadRegistration, match="parentheses"):
        app.job(send)  # type: ignore[arg-type]


def test_generators_are_refused(app: App) -> None:
    with pytest.raises(BadRegistration, match="generator"):

        @app.job()
        def send() -> Iterator[int]:
            yield 1


def test_coroutine_function_cannot_run_in_a_thread(app: App) -> None:
    with pytest.raises(BadRegistration, match="coroutine"):

        @app.job(executor="thread")
        async def send() -> None: ...


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"priority": 256}, "priority"),
        ({"timeout": "never"}, "timeout"),
        ({"max_rss": "big"}, "max_rss"),
        ({"queue": "$x"}, "queue"),
        ({"retry": Retry(attempts=0)}, "attempts"),
    ],
)
def test_wrong_setting_is_refused_where_it_is_written(
    app: App, wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises((BadRequest, BadRegistration), match=named):

        @app.job(**wrong)
        async def send() -> None: ...


def test_function_itself_is_called_as_before(app: App) -> None:
    @app.job()
    def double(number: int) -> int:
        """Twice the number."""
        return 2 * number

    assert double(4) == 8
    assert (double.__name__, double.__doc__) == ("double", "Twice the number.")


def test_settings_of_a_job_type_are_those_of_its_jobs(app: App) -> None:
    @app.job(queue="mail", priority=7, timeout="30s", retry=Retry(attempts=2), tags=["a"])
    async def send(number: int) -> None: ...

    draft = send.job(5)

    spec, new_job = draft.placement.spec, draft.new_job
    assert (spec.queue, spec.kind, spec.timeout_ms) == ("mail", "send", 30_000)
    assert spec.retry == RetryPolicy(attempt_max=2)
    assert draft.placement.slot == slot_of_queue("mail")
    assert (new_job.priority, new_job.payload) == (7, b'{"number":5}')
    assert new_job.extra is not None
    assert new_job.extra.tags == ("a",)


def test_options_change_one_enqueue_and_keep_the_rest(app: App) -> None:
    @app.job(queue="mail", priority=7, tags=["a"])
    async def send() -> None: ...

    at = datetime(2030, 1, 1, tzinfo=UTC)
    ident = "0190f3a2-7b1c-7def-8123-456789abcdef"
    new_job = send.options(run_at=at, key="k", headers={"h": "v"}, job_id=ident).job().new_job

    assert new_job.run_at_ms == 1_893_456_000_000
    assert (new_job.priority, new_job.job_id) == (7, id_from_text(ident))
    assert new_job.extra is not None
    assert (new_job.extra.key, new_job.extra.tags) == ("k", ("a",))
    assert new_job.extra.headers == {"h": "v"}


def test_jobs_of_one_type_share_their_spec_by_identity(app: App) -> None:
    @app.job()
    async def send() -> None: ...

    plain = send.job().placement.spec

    assert send.options(delay="1s").job().placement.spec is plain
    assert send.options(queue="other").job().placement.spec is not plain


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dely": "1s"}, "dely"),
        ({"delay": "1s", "run_at": datetime(2030, 1, 1, tzinfo=UTC)}, "not both"),
        ({"run_at": datetime(2030, 1, 1)}, "run_at"),
        ({"priority": -1}, "priority"),
        ({"key_window": "8d"}, "key_window"),
        ({"job_id": "no"}, "job id"),
    ],
)
def test_wrong_option_is_refused_by_name(app: App, options: Any, named: str) -> None:
    @app.job()
    async def send() -> None: ...

    with pytest.raises(BadRequest, match=named):
        send.options(**options)


def test_enqueue_hooks_may_change_all_but_the_payload(app: App) -> None:
    @app.on_enqueue
    def route(draft: EnqueueDraft) -> None:
        assert draft.payload == b"{}"
        draft.queue, draft.priority, draft.tags = "routed", 1, ("t",)

    @app.job()
    async def send() -> None: ...

    draft = send.job()

    assert draft.placement.spec.queue == "routed"
    assert draft.placement.slot == slot_of_queue("routed")
    assert draft.new_job.priority == 1
    assert draft.new_job.extra is not None
    assert draft.new_job.extra.tags == ("t",)


def test_hooks_of_the_wrong_shape_are_refused(app: App) -> None:
    async def coroutine(*_: object) -> None: ...

    def plain(*_: object) -> None: ...

    with pytest.raises(BadRegistration, match="on_enqueue"):
        app.on_enqueue(coroutine)  # type: ignore[arg-type]
    with pytest.raises(BadRegistration, match="call_next"):
        app.around_run(plain)  # type: ignore[arg-type]
    with pytest.raises(BadRegistration, match="yield"):
        app.lifespan(coroutine)  # type: ignore[arg-type]


def test_dependency_on_itself_is_refused(app: App) -> None:
    def loop(again: Any) -> None: ...

    loop.__annotations__["again"] = Annotated[int, Depends(loop)]

    with pytest.raises(BadRegistration, match="depends on itself"):

        @app.job()
        async def send(thing: Annotated[int, Depends(loop)]) -> None: ...


def test_what_lives_with_the_worker_cannot_need_what_lives_with_a_job(app: App) -> None:
    def pool(ctx: JobContext) -> int:
        return ctx.attempt

    with pytest.raises(BadRegistration, match="one job"):

        @app.job()
        async def send(pool: Annotated[int, Depends(pool, scope="worker")]) -> None: ...


@pytest.mark.parametrize(
    "url", ["http://x", "headrace://", "unix://relative", "headrace://h:99999"]
)
def test_address_of_no_known_form_is_refused_at_once(url: str) -> None:
    with pytest.raises(BadRequest, match="not the address"):
        App(url)


def test_url_comes_from_the_environment_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_URL", "headrace://10.0.0.1:7431")

    assert App().url == "headrace://10.0.0.1:7431"
    assert App("headrace://127.0.0.1:2").url == "headrace://127.0.0.1:2"


def test_relative_directory_is_meant_where_the_app_was_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADRACE_URL", raising=False)
    app = App("./data")
    monkeypatch.chdir("/")

    assert app.url == str(tmp_path / "data")


def test_directory_on_windows_is_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    target = App(str(tmp_path / "data")).connections.target
    monkeypatch.setattr(sys, "platform", "win32")

    with pytest.raises(Unsupported, match="HOST:PORT"):
        target.make_link(LinkEvents())

    assert list(tmp_path.iterdir()) == []


def test_struct_of_arguments_has_the_kinds_name(app: App) -> None:
    @app.job(kind="mail.send")
    async def send(number: int) -> None: ...

    assert issubclass(send.signature.arguments_type, msgspec.Struct)
    assert send.signature.expected == "mail.send(number: int)"
