"""Streams of wire frames, bent by frame, by header field and inside the body."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from headrace.codec.messages import MESSAGES
from headrace.protocol.framing import AFTER_LENGTH_BYTES, HEADER, HEADER_BYTES, LENGTH_BYTES
from proof.fuzz import msgpack_tree
from proof.fuzz.mutation import havoc

REQUEST_IDS = (0, 1, 2, 7, 0x7FFFFFFF, 0xFFFFFFFF)
FLAGS = (0, 0, 0, 1, 0x8000, 0xFFFF)
LENGTHS = (0, 7, 8, 9, 65_536, 65_537, 8_454_144, 8_454_145, 0x7FFFFFFF, 0xFFFFFFFF)


class Frame(msgspec.Struct):
    type_number: int
    request_id: int
    body: bytes
    flags: int = 0
    length: int = -1
    """-1: what is true."""

    def encoded(self) -> bytes:
        length = self.length if self.length >= 0 else AFTER_LENGTH_BYTES + len(self.body)
        return HEADER.pack(length, self.type_number, self.flags, self.request_id) + self.body


def parsed(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames at the beginning of `data`, and what follows them."""
    found, position = [], 0
    while len(data) - position >= HEADER_BYTES:
        length, type_number, flags, request_id = HEADER.unpack_from(data, position)
        end = position + LENGTH_BYTES + length
        if length < AFTER_LENGTH_BYTES or end > len(data):
            break
        body = data[position + HEADER_BYTES : end]
        found.append(Frame(type_number, request_id, body, flags))
        position = end
    return found, data[position:]


def joined(frames: Sequence[Frame]) -> bytes:
    return b"".join(frame.encoded() for frame in frames)


def mutated(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """`data` with one frame bent; one in eight is bent without regard to frames."""
    frames, rest = parsed(data)
    if not frames or chance.random() < 0.12:
        return havoc(chance, data, others)
    _bend(chance, frames, others)
    return joined(frames) + rest


def _bend(chance: random.Random, frames: list[Frame], others: Sequence[bytes]) -> None:
    at = chance.randrange(len(frames))
    frame, way = frames[at], chance.random()
    if way < 0.6:
        bodies = [one.body for other in _some(chance, others) for one in parsed(other)[0]]
        frame.body = msgpack_tree.mutated(chance, frame.body, bodies)
    elif way < 0.7:
        frame.type_number = chance.choice((*MESSAGES, chance.randrange(1 << 16)))
    elif way < 0.78:
        frame.request_id = chance.choice(REQUEST_IDS)
    elif way < 0.82:
        frame.flags = chance.choice(FLAGS)
    elif way < 0.87:
        frame.length = chance.choice((*LENGTHS, AFTER_LENGTH_BYTES + len(frame.body) + 1))
    elif way < 0.91:
        del frames[at]
    else:
        more, _ = parsed(chance.choice(others)) if others else (frames, b"")
        frames[at:at] = more[:3]


def _some(chance: random.Random, others: Sequence[bytes]) -> list[bytes]:
    return chance.sample(list(others), min(3, len(others)))
