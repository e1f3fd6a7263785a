"""Ways to enqueue: later, sooner, once, many at a time, and without an event loop."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from headrace import App

app = App("./data", queue="letters")


@app.job()
async def post(name: str) -> str:
    return f"posted to {name}"


async def produce() -> list[str]:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await post.options(run_at=tomorrow, tags=["slow"]).enqueue("Ada")
    urgent = await post.options(priority=200).enqueue("Grace")

    once = post.options(key="welcome:Edsger", key_window="1h")
    first = await once.enqueue("Edsger")
    again = await once.enqueue("Edsger")
    print("created twice:", first.created and again.created, "- same job:", first.id == again.id)

    jobs = await app.enqueue_many(post.job(f"reader {number}") for number in range(2_500))
    return [await job.result("30s") for job in (urgent, first, jobs[-1])]


async def main() -> None:
    async with app:
        print(await produce())


if __name__ == "__main__":
    print(post.enqueue_sync("Barbara").id)  # from any thread, no loop needed
    app.close_sync()
    asyncio.run(main())
