"""Every target, by name."""

from __future__ import annotations

from proof.fuzz.target import Target
from proof.fuzz.targets import client, disk, payloads, server, texts, wire

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        *wire.TARGETS,
        *client.TARGETS,
        *server.TARGETS,
        *disk.TARGETS,
        *texts.TARGETS,
        *payloads.TARGETS,
    )
}
