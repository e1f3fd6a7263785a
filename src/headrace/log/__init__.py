"""Logs: places where commits become durable, in order, fenced by an epoch.

A log knows nothing of jobs: commits are bytes, a first index and a count of records.
`base` is the interface; `memory` and `file` are implementations.
"""
