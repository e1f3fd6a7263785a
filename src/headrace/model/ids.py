"""Job ids: UUIDv7 whose `rand_a` names the slot of the queue (RFC 9562, section 5.7).

Sixteen bytes on wire and disk, lowercase canonical text elsewhere.
"""

from __future__ import annotations

import zlib

from headrace.model.errors import BadRequest

ID_BYTES = 16
SLOT_COUNT = 4096


def slot_of_queue(queue: str) -> int:
    """The 12 bits by which an id alone will find its shard: `crc32(queue) mod 4096`."""
    return zlib.crc32(queue.encode()) & (SLOT_COUNT - 1)


def make_job_id(unix_ms: int, slot: int, random_bytes: bytes) -> bytes:
    """A UUIDv7 of this moment; `random_bytes` are 8 fresh ones, of which 62 bits are used."""
    head = (unix_ms & 0xFFFFFFFFFFFF) << 16 | 0x7000 | slot
    tail = int.from_bytes(random_bytes, "big") & 0x3FFFFFFFFFFFFFFF | 0x8000000000000000
    return (head << 64 | tail).to_bytes(16, "big")


def slot_of_id(job_id: bytes) -> int:
    return int.from_bytes(job_id[6:8], "big") & (SLOT_COUNT - 1)


def created_ms_of_id(job_id: bytes) -> int:
    """When the client made it, by the client's clock."""
    return int.from_bytes(job_id[:6], "big")


def id_to_text(job_id: bytes) -> str:
    text = job_id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def id_from_text(text: str) -> bytes:
    """Sixteen bytes of a canonical UUID. Raises: `BadRequest`."""
    digits = text.strip().replace("-", "")
    try:
        job_id = bytes.fromhex(digits)
    except ValueError:
        job_id = b""
    if len(job_id) != ID_BYTES or len(digits) != 2 * ID_BYTES:
        raise BadRequest(
            f"{text!r} is not a job id.",
            hint="A job id is a UUID, such as 0190f3a2-7b1c-7def-8123-456789abcdef.",
        )
    return job_id
