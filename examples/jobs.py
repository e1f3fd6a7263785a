"""One job: `headrace worker jobs:app` in one terminal, `python jobs.py` in another."""

from __future__ import annotations

from headrace import App

app = App("./data")


@app.job(queue="mail", timeout="30s")
async def send_welcome(user_id: int, template: str = "default") -> str:
    return f"sent {template} to {user_id}"


if __name__ == "__main__":
    job = send_welcome.enqueue_sync(42)
    print(job.id, "→", job.result_sync(timeout="30s"))
