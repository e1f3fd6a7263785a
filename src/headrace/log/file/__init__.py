"""The log in a directory of files: what `headrace serve ./data` writes.

`log.FileLog` is the log; `inspect` looks at and repairs a directory without one.
Formats: `spec/wal-format.md` and `spec/snapshot-format.md`.
"""
