"""All mutants, by class."""

from __future__ import annotations

from proof.mutants import client, engine, log, runtime, unasked, wire
from proof.mutants.mutant import CLASSES, Mutant

MUTANTS: dict[str, tuple[Mutant, ...]] = dict(
    zip(
        CLASSES,
        (
            engine.MUTANTS + unasked.ENGINE,
            log.MUTANTS + unasked.LOG,
            runtime.MUTANTS + unasked.RUNTIME,
            client.MUTANTS,
            wire.MUTANTS,
        ),
        strict=True,
    )
)


def all_mutants() -> dict[str, tuple[str, Mutant]]:
    """Name → (class, mutant)."""
    return {mutant.name: (kind, mutant) for kind, all_ in MUTANTS.items() for mutant in all_}
