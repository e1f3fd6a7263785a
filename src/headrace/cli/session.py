"""`headrace session`: workers and other clients, as the server knows them."""

from __future__ import annotations

from headrace.cli.application import noun, run
from headrace.cli.options import REMOTE, Remote
from headrace.cli.output import print_json, print_table
from headrace.cli.target import reached
from headrace.cli.times import ago, now_ms, roughly
from headrace.cli.wire_names import plain
from headrace.model.replies import SessionView

app = noun("session", "List workers and other clients.")


@app.command(name="list")
def list_sessions(*, options: Remote = REMOTE) -> None:
    """List sessions: who, where, what it serves, what it holds, and whether it is well."""

    async def look() -> list[SessionView]:
        async with reached(options) as found:
            return await found.client.list_sessions()

    views = run(look())
    if options.json:
        print_json({"sessions": plain(views)})
        return
    now = now_ms()
    print_table(SESSION_COLUMNS, [session_row(view, now) for view in views], "No sessions.")


SESSION_COLUMNS = (
    *("session", "", "host", "pid", "queues", "kinds"),
    *("running", "leased", "credit", "seen", "opened"),
)


def session_row(view: SessionView, now: int) -> tuple[object, ...]:
    return (
        view.name or view.session_id.hex()[:8],
        condition(view),
        view.host,
        str(view.pid),
        ", ".join(view.queues) or "all",
        ", ".join(view.kinds),
        view.running,
        view.leased,
        view.credit,
        f"{roughly(view.last_seen_ms)} ago",
        ago(view.opened_at_ms, now),
    )


def condition(view: SessionView) -> str:
    """What is worth saying of it; `` when all is well."""
    if not view.connected:
        return "not connected"
    if view.stalled:
        return f"stalled for {roughly(view.loop_lag_ms)}"
    return f"{view.stuck_slots} stuck" if view.stuck_slots else ""
