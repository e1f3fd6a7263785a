"""Decisions: a deterministic state machine of jobs, queues, leases and sessions.

No I/O, no clock, no randomness, no logging; imports `headrace.model` and msgspec only.
"""
