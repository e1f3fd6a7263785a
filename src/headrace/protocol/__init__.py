"""The wire protocol as machines without sockets, used by both ends.

Bytes in, messages out; messages in, bytes out. Nothing here waits, reads a clock or
knows an event loop, so every test of it is a plain function call.
"""
