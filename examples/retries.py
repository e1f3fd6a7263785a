"""What a failing job can do: be retried, give up, ask for another time, or snooze."""

from __future__ import annotations

import asyncio

from headrace import App, GiveUp, JobContext, JobFailed, Retry, RetryLater

app = App("./data", queue="payments")


class CardRefused(Exception):
    """No second attempt will make the bank change its mind."""


@app.job(retry=Retry(attempts=5, base="100ms", cap="1m", give_up_on=(CardRefused,)))
async def charge(ctx: JobContext, card: str) -> str:
    if card == "stolen":
        raise CardRefused(card)
    if card == "unknown":
        raise GiveUp("no such card")
    if card == "busy" and ctx.attempt == 1:
        raise RetryLater("200ms", "the bank asked for a moment")
    if ctx.attempt < 3:
        raise ConnectionError("the bank does not answer")
    return f"charged {card} in attempt {ctx.attempt}"


@app.job()
async def wait_for_settlement(ctx: JobContext, after_looks: int) -> int:
    """Looks again and again; no attempt is charged for it."""
    if ctx.snooze_count < after_looks:
        ctx.release("100ms")
    return ctx.snooze_count


@app.on_dead
def tell_somebody(ctx: JobContext, error: BaseException) -> None:
    print(f"{ctx.kind} {ctx.id} is dead: {error}")


async def main() -> None:
    async with app:
        for card in ("visa", "busy", "stolen", "unknown"):
            job = await charge.enqueue(card)
            try:
                print(await job.result(timeout="30s"))
            except JobFailed as failure:
                print(f"{card}: {failure.remote_type} after {len(failure.errors)} attempt(s)")
        looks = await wait_for_settlement.enqueue(2)
        print("settled after", await looks.result(timeout="30s"), "looks")


if __name__ == "__main__":
    asyncio.run(main())
