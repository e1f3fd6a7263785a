"""A small application, for `test_welcome.py` beside it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

from headrace import INJECTED, App, Depends, GiveUp, JobContext, Retry

app = App("./data")


class Mailer:
    """Stands for a client of some mail service."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_down = False

    def send(self, address: str, text: str) -> None:
        if self.is_down:
            raise ConnectionError("the mail service is down")
        self.sent.append(f"{text} to {address}")


mailer = Mailer()


def get_mailer() -> Iterator[Mailer]:
    yield mailer


@app.job(queue="mail", retry=Retry(attempts=4, base="1m", jitter=False))
async def send_welcome(
    ctx: JobContext, address: str, mail: Annotated[Mailer, Depends(get_mailer)] = INJECTED
) -> str:
    """Sends a welcome, and a reminder a week later."""
    if "@" not in address:
        raise GiveUp(f"{address!r} is no address")
    mail.send(address, "Welcome")
    await remind.options(delay=timedelta(days=7), key=f"remind:{address}").enqueue(address)
    return f"sent in attempt {ctx.attempt}"


@app.job(queue="mail")
def remind(address: str) -> None:
    mailer.send(address, "Still there?")
