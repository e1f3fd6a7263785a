"""Where handlers run: on the worker's loop, in its threads, or in processes of their own."""

from __future__ import annotations

import asyncio
import hashlib
import time

from headrace import App, JobCancelled, JobContext

app = App("./data", queue="media")


@app.job(timeout="10s")
async def fetch(url: str) -> int:
    """Waits: on the loop, with hundreds of others."""
    await asyncio.sleep(0.05)
    return len(url)


@app.job(timeout="1m")
def convert(ctx: JobContext, path: str, steps: int = 20) -> str:
    """Blocks: in a thread. Threads cannot be stopped, so it looks whether it should."""
    for step in range(steps):
        if ctx.cancelled:
            return "stopped"
        ctx.progress({"percent": 100 * step // steps})
        time.sleep(0.01)
    ctx.log(f"converted {path}")
    return f"{path}.out"


@app.job(executor="process", max_jobs=500, max_rss="500MB", timeout="1m")
def hash_often(text: str, rounds: int) -> str:
    """Computes: in a process of its own, which is killed at the timeout."""
    digest = text.encode()
    for _ in range(rounds):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


@app.job()
async def endless() -> None:
    await asyncio.Event().wait()


async def main() -> None:
    async with app:
        print(await (await fetch.enqueue("https://example.org")).result("30s"))
        print(await (await convert.enqueue("film.avi")).result("30s"))
        print(await (await hash_often.enqueue("headrace", 100_000)).result("30s"))
        job = await endless.enqueue()
        await job.cancel("the example is over")
        try:
            await job.result("30s")
        except JobCancelled as cancelled:
            print(cancelled)


if __name__ == "__main__":
    asyncio.run(main())
