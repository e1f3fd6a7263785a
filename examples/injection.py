"""What handlers are given beside their payload, and what surrounds them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from headrace import INJECTED, App, Depends, EnqueueDraft, JobContext

app = App("./data", queue="orders")


def open_database() -> Iterator[sqlite3.Connection]:
    """One for the whole worker."""
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("create table orders (number integer, trace text)")
    yield database
    database.close()


Database = Annotated[sqlite3.Connection, Depends(open_database, scope="worker")]


def begin(database: Database) -> Iterator[sqlite3.Connection]:
    """A transaction of the job: committed when it succeeds, rolled back when it fails."""
    with database:
        yield database


Transaction = Annotated[sqlite3.Connection, Depends(begin)]


@app.lifespan
async def around_worker() -> AsyncIterator[None]:
    print("the worker starts")
    yield
    print("the worker has stopped")


@app.on_enqueue
def add_trace(draft: EnqueueDraft) -> None:
    draft.headers["trace"] = f"{draft.kind}-1"


@app.around_run
async def show(ctx: JobContext, call_next: Any) -> Any:
    result = await call_next()
    print(f"{ctx.kind} attempt {ctx.attempt} → {result}")
    return result


@app.job()
async def store_order(ctx: JobContext, number: int, tx: Transaction = INJECTED) -> int:
    tx.execute("insert into orders values (?, ?)", (number, ctx.headers["trace"]))
    count: int = tx.execute("select count(*) from orders").fetchone()[0]
    return count


async def main() -> None:
    async with app:
        jobs = await app.enqueue_many(store_order.job(number) for number in range(3))
        print([await job.result(timeout="30s") for job in jobs])


if __name__ == "__main__":
    asyncio.run(main())
