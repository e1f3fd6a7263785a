"""Bytes to frames and back. Knows no side and no socket.

Must never allocate by a length that a peer merely claims: a frame's size is checked as
soon as its length is there, and an unfinished frame is kept only as it arrives.

    connection:  preamble(4) frame*           the preamble only from the client

    frame:        0         4     6     8           12
                  +---------+-----+-----+-----------+----------------+
                  | length  |type |flags|request id | body           |
                  | u32     |u16  |u16  |u32        | one msgpack    |
                  +---------+-----+-----+-----------+ array          |
                  big-endian; `length` counts what follows it: 8 + body

Source: `spec/wire-protocol.md`, sections 2 and 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from headrace.codec.messages import encode_into
from headrace.model.errors import BadRequest, FrameTooLarge, HeadraceError, Unsupported
from headrace.model.limits import FRAME_BYTES_MAX, WRITE_CHUNK_BYTES

PREAMBLE = b"\x00HRW"
"""Unlike the first bytes of HTTP, TLS and RESP, so that one port can serve all of them."""

HEADER = struct.Struct(">IHHI")
LENGTH_BYTES = 4
HEADER_BYTES = HEADER.size
AFTER_LENGTH_BYTES = HEADER_BYTES - LENGTH_BYTES

Frame = tuple[int, int, memoryview]
"""(type, request id, body); the body is valid until the next frame is asked for."""

_BLANK_HEADER = bytes(HEADER_BYTES)


class FrameReader:
    """Cuts a stream into frames.

    Invariant: `_rest` holds at most one unfinished frame, and no more than the limit.
    """

    __slots__ = ("_rest", "fault", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        """Longest frame taken, by its length field; read anew for each frame."""
        self.fault: HeadraceError | None = None
        """Why the stream cannot be followed any further."""
        self._rest: bytearray | None = None

    @property
    def unfinished_bytes(self) -> int:
        """What is kept of a frame that has not ended."""
        return len(self._rest) if self._rest is not None else 0

    def frames(self, data: memoryview) -> Iterator[Frame]:
        """The frames that `data` completes, in order; what is left over is copied and kept.

        `data` may be the caller's shared buffer. Must be iterated to its end, unless
        nothing is read from this stream any more. Ends early when there is a `fault`.
        """
        position = 0
        if self._rest is not None:
            position = self._fill(self._rest, data)
            if self.fault is None and self._is_whole(self._rest):
                rest, self._rest = self._rest, None
                yield (*self._header(rest), memoryview(rest)[HEADER_BYTES:])
        size = len(data)
        while self.fault is None and size - position >= HEADER_BYTES:
            length, type_number, flags, request_id = HEADER.unpack_from(data, position)
            if flags or not AFTER_LENGTH_BYTES <= length <= self.frame_bytes_max:
                self._refuse(length, flags)
                return
            end = position + LENGTH_BYTES + length
            if end > size:
                break
            yield type_number, request_id, data[position + HEADER_BYTES : end]
            position = end
        if self.fault is None and position < size:
            self._rest = bytearray(data[position:])
            self._check_length(self._rest)

    def _fill(self, rest: bytearray, data: memoryview) -> int:
        """Bytes of `data` that belong to the unfinished frame; `rest` has them now."""
        taken = 0
        if len(rest) < HEADER_BYTES:
            taken = min(HEADER_BYTES - len(rest), len(data))
            rest += data[:taken]
            self._check_length(rest)
        if self.fault is None and len(rest) >= HEADER_BYTES:
            length, _, flags, _ = HEADER.unpack_from(rest)
            if flags:
                self._refuse(length, flags)
            missing = LENGTH_BYTES + length - len(rest)
            rest += data[taken : taken + missing]
            taken += min(missing, len(data) - taken)
        return taken

    def _is_whole(self, rest: bytearray) -> bool:
        return len(rest) >= HEADER_BYTES and len(rest) == LENGTH_BYTES + HEADER.unpack_from(rest)[0]

    def _header(self, rest: bytearray) -> tuple[int, int]:
        _, type_number, _, request_id = HEADER.unpack_from(rest)
        return type_number, request_id

    def _check_length(self, rest: bytearray) -> None:
        if len(rest) < LENGTH_BYTES:
            return
        length = int.from_bytes(rest[:LENGTH_BYTES], "big")
        if not AFTER_LENGTH_BYTES <= length <= self.frame_bytes_max:
            self._refuse(length, 0)

    def _refuse(self, length: int, flags: int) -> None:
        if length > self.frame_bytes_max:
            self.fault = FrameTooLarge(
                f"A frame of {length} bytes came; at most {self.frame_bytes_max} are taken here.",
                hint="Split the call, or keep large data elsewhere and send a reference.",
            )
        elif length < AFTER_LENGTH_BYTES:
            self.fault = BadRequest(
                f"A frame of length {length} came; the shortest is {AFTER_LENGTH_BYTES}.",
                hint="The length counts type, flags, request id and body.",
            )
        else:
            self.fault = Unsupported(
                f"A frame came with flags 0x{flags:04x}, of which this version knows none.",
                hint="Send flags 0.",
            )


class FrameWriter:
    """Frames on their way out, encoded one behind the other.

    A chunk ends with the frame that fills it, so a large payload is handed to the socket
    as it is, and never moved again for the sake of its neighbours.
    """

    __slots__ = ("_chunks", "_tail", "size_bytes")

    def __init__(self) -> None:
        self._chunks: list[bytearray] = []
        self._tail = bytearray()
        self.size_bytes = 0
        """Of everything that the next `take` returns."""

    def add(self, type_number: int, request_id: int, message: object) -> None:
        """The frame is behind all others. Raises: `FrameTooLarge`; then nothing was added."""
        tail = self._tail
        start = len(tail)
        tail += _BLANK_HEADER
        try:
            encode_into(message, tail, -1)
            length = len(tail) - start - LENGTH_BYTES
            if length > FRAME_BYTES_MAX:
                raise FrameTooLarge(
                    f"{type(message).__name__} takes a frame of {length} bytes; "
                    f"at most {FRAME_BYTES_MAX} are possible.",
                    hint="Ask for less, or send less, at a time.",
                )
        except BaseException:
            del tail[start:]
            raise
        HEADER.pack_into(tail, start, length, type_number, 0, request_id)
        self.size_bytes += LENGTH_BYTES + length
        if len(tail) > WRITE_CHUNK_BYTES:
            self._chunks.append(tail)
            self._tail = bytearray()

    def add_preamble(self) -> None:
        self._tail += PREAMBLE
        self.size_bytes += len(PREAMBLE)

    def take(self) -> list[bytearray]:
        """Everything added since the last call, in order; empty when there is nothing."""
        chunks, self._chunks = self._chunks, []
        if self._tail:
            chunks.append(self._tail)
            self._tail = bytearray()
        self.size_bytes = 0
        return chunks
