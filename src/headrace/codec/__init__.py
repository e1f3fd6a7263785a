"""Bytes to values and back: records, snapshot rows, wire messages, and their versions. Pure."""
