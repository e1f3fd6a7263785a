"""Crash at every call of a workload, in every state that the disk may be left in."""
