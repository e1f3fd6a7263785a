"""headrace: durable background jobs from one process and one directory.

Everything here is imported at first use, so that `import headrace` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.client.app import App as App
    from headrace.client.client import Client as Client
    from headrace.client.context import JobContext as JobContext
    from headrace.client.depends import INJECTED as INJECTED
    from headrace.client.depends import Depends as Depends
    from headrace.client.errors import BadArguments as BadArguments
    from headrace.client.errors import BadRegistration as BadRegistration
    from headrace.client.errors import GiveUp as GiveUp
    from headrace.client.errors import JobCancelled as JobCancelled
    from headrace.client.errors import JobFailed as JobFailed
    from headrace.client.errors import JobTimedOut as JobTimedOut
    from headrace.client.errors import PayloadMismatch as PayloadMismatch
    from headrace.client.errors import RetryLater as RetryLater
    from headrace.client.handle import Job as Job
    from headrace.client.hooks import EnqueueDraft as EnqueueDraft
    from headrace.client.job_type import JobType as JobType
    from headrace.client.retry import Retry as Retry
    from headrace.client.worker import Worker as Worker
    from headrace.client.worker import WorkerOptions as WorkerOptions
    from headrace.model.errors import BatchTooLarge as BatchTooLarge
    from headrace.model.errors import CannotConnect as CannotConnect
    from headrace.model.errors import ClientError as ClientError
    from headrace.model.errors import DiskFull as DiskFull
    from headrace.model.errors import Draining as Draining
    from headrace.model.errors import HeadraceError as HeadraceError
    from headrace.model.errors import IdConflict as IdConflict
    from headrace.model.errors import KeyConflict as KeyConflict
    from headrace.model.errors import LimitReached as LimitReached
    from headrace.model.errors import MemoryFull as MemoryFull
    from headrace.model.errors import OutcomeUnknown as OutcomeUnknown
    from headrace.model.errors import Overloaded as Overloaded
    from headrace.model.errors import OwnerUnresponsive as OwnerUnresponsive
    from headrace.model.errors import PayloadTooLarge as PayloadTooLarge
    from headrace.model.errors import StaleLease as StaleLease
    from headrace.model.errors import Unauthenticated as Unauthenticated
    from headrace.model.errors import Unavailable as Unavailable
    from headrace.model.errors import UnknownJob as UnknownJob
    from headrace.model.errors import UnknownQueue as UnknownQueue
    from headrace.model.errors import WrongState as WrongState
    from headrace.model.job import State as State

_PLACES = {
    "headrace.client.app": ("App",),
    "headrace.client.client": ("Client",),
    "headrace.client.context": ("JobContext",),
    "headrace.client.depends": ("Depends", "INJECTED"),
    "headrace.client.errors": (
        "BadArguments",
        "BadRegistration",
        "GiveUp",
        "JobCancelled",
        "JobFailed",
        "JobTimedOut",
        "PayloadMismatch",
        "RetryLater",
    ),
    "headrace.client.handle": ("Job",),
    "headrace.client.hooks": ("EnqueueDraft",),
    "headrace.client.job_type": ("JobType",),
    "headrace.client.retry": ("Retry",),
    "headrace.client.worker": ("Worker", "WorkerOptions"),
    "headrace.model.errors": (
        "BatchTooLarge",
        "CannotConnect",
        "ClientError",
        "DiskFull",
        "Draining",
        "HeadraceError",
        "IdConflict",
        "KeyConflict",
        "LimitReached",
        "MemoryFull",
        "OutcomeUnknown",
        "Overloaded",
        "OwnerUnresponsive",
        "PayloadTooLarge",
        "StaleLease",
        "Unauthenticated",
        "Unavailable",
        "UnknownJob",
        "UnknownQueue",
        "WrongState",
    ),
    "headrace.model.job": ("State",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = sorted(_PLACE_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from headrace.model.handshake import SOFTWARE_VERSION

        return SOFTWARE_VERSION
    place = _PLACE_OF.get(name)
    if place is None:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    value = getattr(importlib.import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
