"""One end of a connection as a machine: bytes in, messages out, and the other way round.

Two kinds of offence are kept apart. What the peer does wrong never raises: a well-framed
request that cannot be understood is answered by its request id and the connection lives;
anything else closes the machine, and `fault` says why. What our own side does wrong is a
bug and raises `InvariantViolated`.

Must never hand out a message that its phase does not allow (`states` has the tables).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from headrace.codec.messages import MESSAGES, TYPE_NUMBERS, UNANSWERED, decode_body
from headrace.model.commands import Command
from headrace.model.errors import (
    BadRequest,
    FrameTooLarge,
    HeadraceError,
    Unsupported,
    invariant,
)
from headrace.model.handshake import ErrorFrame, Hello, Pong, Welcome
from headrace.model.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX
from headrace.model.pushes import Push
from headrace.model.replies import Reply
from headrace.protocol import states
from headrace.protocol.error_frames import from_frame, to_frame
from headrace.protocol.framing import PREAMBLE, FrameReader, FrameWriter
from headrace.protocol.handshake import check_welcome
from headrace.protocol.states import Input, Phase

Message = tuple[int, Any]
"""(request id, message)"""

_ERROR_TYPE = TYPE_NUMBERS[ErrorFrame]


class _Machine:
    """What both ends share: a phase, a reader, a writer."""

    __slots__ = ("_reader", "_table", "_writer", "fault", "phase")

    def __init__(self, table: states.Table, frame_bytes_max: int) -> None:
        self._table = table
        self._reader = FrameReader(frame_bytes_max)
        self._writer = FrameWriter()
        self.phase = Phase.PREAMBLE
        self.fault: HeadraceError | None = None
        """Why it is closed, when the peer or the stream is at fault."""

    @property
    def is_closed(self) -> bool:
        return self.phase is Phase.CLOSED

    @property
    def output_bytes(self) -> int:
        """Bytes that `take_output` would return."""
        return self._writer.size_bytes

    @property
    def unfinished_bytes(self) -> int:
        """Bytes kept of a frame that has begun and not ended."""
        return self._reader.unfinished_bytes

    def take_output(self) -> list[bytearray]:
        """What is to be written to the socket, in order; given away once."""
        return self._writer.take()

    def _local(self, step: Input) -> None:
        """Our own side makes this step."""
        following = self._table.get((self.phase, step))
        invariant(
            following is not None, "we send what the phase allows", phase=self.phase, step=step
        )
        assert following is not None
        self.phase = following

    def _remote(self, step: Input) -> bool:
        """The peer makes this step; False when it may not."""
        following = self._table.get((self.phase, step))
        if following is None:
            self._fail(BadRequest(f"{step.value} came where the connection {_is(self.phase)}."))
            return False
        self.phase = following
        return True

    def _fail(self, error: HeadraceError) -> None:
        self.fault = error
        self.phase = Phase.CLOSED


class ServerConnection(_Machine):
    """The server's end."""

    __slots__ = ("_preamble_seen",)

    def __init__(self) -> None:
        super().__init__(states.SERVER, HELLO_BYTES_MAX)
        self._preamble_seen = 0

    def receive(self, data: memoryview) -> Iterator[Message]:
        """The requests that `data` completes, HELLO among them.

        HELLO must have been answered (`welcome` or `refuse`) before the next is asked
        for. After the last one, `phase` and `fault` say whether the connection goes on.
        """
        if self.is_closed:
            return
        if self.phase is Phase.PREAMBLE:
            data = self._read_preamble(data)
        for type_number, request_id, body in self._reader.frames(data):
            if self.is_closed:
                return
            message = self._understand(type_number, request_id, body)
            if message is not None:
                yield request_id, message
        if self._reader.fault is not None and not self.is_closed:
            self.refuse(self._reader.fault)

    def welcome(self, request_id: int, message: Welcome) -> None:
        """HELLO is answered and the connection open."""
        self._local(Input.WELCOME)
        self._reader.frame_bytes_max = FRAME_BYTES_MAX
        self._writer.add(TYPE_NUMBERS[Welcome], request_id, message)

    def refuse(self, error: HeadraceError) -> None:
        """The peer is told why, and the connection is over. Harmless when it was over."""
        if self.is_closed:
            return
        self._local(Input.GOODBYE)
        self.fault = error
        self._writer.add(_ERROR_TYPE, 0, to_frame(error))

    def send_reply(self, request_id: int, reply: Reply) -> None:
        """One that does not fit a frame becomes the refusal that says so."""
        self._local(Input.REPLY)
        try:
            self._writer.add(TYPE_NUMBERS[type(reply)], request_id, reply)
        except FrameTooLarge as error:
            self.send_error(request_id, error)

    def send_error(self, request_id: int, error: HeadraceError) -> None:
        self._local(Input.REFUSAL)
        self._writer.add(_ERROR_TYPE, request_id, to_frame(error))

    def send_push(self, push: Push) -> None:
        self._local(Input.PUSH)
        self._writer.add(TYPE_NUMBERS[type(push)], 0, push)

    def _read_preamble(self, data: memoryview) -> memoryview:
        seen = self._preamble_seen
        wanted = PREAMBLE[seen : seen + len(data)]
        if data[: len(wanted)] != wanted:
            self.refuse(
                BadRequest(
                    "This is not a headrace client.",
                    hint="This port speaks the headrace wire protocol, not HTTP or TLS.",
                )
            )
            return data[:0]
        self._preamble_seen = seen + len(wanted)
        if self._preamble_seen == len(PREAMBLE):
            self.phase = states.SERVER[self.phase, Input.PREAMBLE]
        return data[len(wanted) :]

    def _understand(self, type_number: int, request_id: int, body: memoryview) -> Any:
        """The message of a frame; None when it was answered, ignored or fatal."""
        if request_id and type_number in _ANSWERED and self.phase is Phase.OPEN:
            return self._decode(type_number, request_id, body)
        step = states.input_of(type_number, request_id)
        following = states.SERVER.get((self.phase, step))
        if following is None or step not in _FROM_CLIENT:
            self.refuse(BadRequest(f"{step.value} came where the server {_is(self.phase)}."))
            return None
        if step is Input.UNKNOWN:
            self._answer_unknown(type_number, request_id)
            return None
        kind = MESSAGES[type_number]
        if (request_id == 0) != (kind in UNANSWERED):
            return self._refuse_request(request_id, _wrong_id(kind, request_id))
        message = self._decode(type_number, request_id, body)
        if message is not None:
            self.phase = following
        return message

    def _decode(self, type_number: int, request_id: int, body: memoryview) -> Any:
        try:
            return decode_body(type_number, body)
        except HeadraceError as error:
            return self._refuse_request(request_id, error)

    def _refuse_request(self, request_id: int, error: HeadraceError) -> None:
        """By its id where it has one; without, or before the connection is open, for good."""
        if request_id and self.phase is Phase.OPEN:
            self.send_error(request_id, error)
        else:
            self.refuse(error)

    def _answer_unknown(self, type_number: int, request_id: int) -> None:
        """Without a request id nobody waits for an answer: a later version's, ignored."""
        if request_id:
            self.send_error(
                request_id,
                Unsupported(
                    f"Message type 0x{type_number:02x} is not known to this server.",
                    hint="Upgrade the server, or leave the feature that sends it unused.",
                ),
            )


class ClientConnection(_Machine):
    """The client's end."""

    __slots__ = ("welcome",)

    def __init__(self) -> None:
        super().__init__(states.CLIENT, FRAME_BYTES_MAX)
        self.welcome: Welcome | None = None
        """What the server said; set from then on."""

    def send_hello(self, hello: Hello) -> None:
        """Preamble and HELLO are on their way; nothing else may be sent before WELCOME."""
        self._local(Input.PREAMBLE)
        self._writer.add_preamble()
        self._local(Input.HELLO)
        self._writer.add(TYPE_NUMBERS[Hello], HELLO_REQUEST_ID, hello)

    def send_request(self, request_id: int, command: Command | msgspec.Struct) -> None:
        """Request id 0 for what is not answered. Raises: `FrameTooLarge`; nothing was sent."""
        self._local(Input.REQUEST)
        kind = type(command)
        invariant((request_id == 0) == (kind in UNANSWERED), "ids go to what is answered")
        self._writer.add(TYPE_NUMBERS[kind], request_id, command)

    def send_pong(self, now_ms: int) -> None:
        self._local(Input.REQUEST)
        self._writer.add(TYPE_NUMBERS[Pong], 0, Pong(now_ms))

    def receive(self, data: memoryview) -> Iterator[Message]:
        """Replies and pushes, WELCOME first; a refusal comes as its `HeadraceError`.

        After the last one, `phase` and `fault` say whether the connection goes on.
        """
        for type_number, request_id, body in self._reader.frames(data):
            if self.is_closed:
                return
            message = self._understand(type_number, request_id, body)
            if message is not None:
                yield request_id, message
        if self._reader.fault is not None and not self.is_closed:
            self._fail(self._reader.fault)

    def _understand(self, type_number: int, request_id: int, body: memoryview) -> Any:
        step = states.input_of(type_number, request_id)
        if step not in _FROM_SERVER or not _is_addressed(step, request_id):
            self._fail(BadRequest(f"The server sent {step.value} under request id {request_id}."))
            return None
        if not self._remote(step) or step is Input.UNKNOWN:
            return None
        try:
            message = decode_body(type_number, body)
        except HeadraceError as error:
            self._fail(error)
            return None
        if step is Input.GOODBYE:
            self.fault = from_frame(message)
            return None
        if step is Input.REFUSAL:
            return from_frame(message)
        if step is Input.WELCOME:
            return self._greeted(message)
        return message

    def _greeted(self, welcome: Welcome) -> Welcome | None:
        error = check_welcome(welcome.protocol)
        if error is not None:
            self._fail(error)
            return None
        self.welcome = welcome
        return welcome


HELLO_REQUEST_ID = 1

_ANSWERED = frozenset(
    number
    for number, kind in MESSAGES.items()
    if kind not in UNANSWERED and states.input_of(number, 1) is Input.REQUEST
)
_FROM_CLIENT = frozenset({Input.HELLO, Input.REQUEST, Input.UNKNOWN})
_FROM_SERVER = frozenset(
    {Input.WELCOME, Input.REPLY, Input.PUSH, Input.REFUSAL, Input.GOODBYE, Input.UNKNOWN}
)


def _is_addressed(step: Input, request_id: int) -> bool:
    """It has the request id of an answer, or that of what answers nothing."""
    if step is Input.WELCOME:
        return request_id == HELLO_REQUEST_ID
    return (request_id == 0) == (step in _UNASKED) or step is Input.UNKNOWN


_UNASKED = frozenset({Input.PUSH, Input.GOODBYE})


def _is(phase: Phase) -> str:
    return phase.value if phase.value.startswith("expects") else f"is {phase.name.lower()}"


def _wrong_id(kind: type, request_id: int) -> BadRequest:
    if request_id:
        return BadRequest(f"{kind.__name__} is not answered; its request id is 0.")
    return BadRequest(f"{kind.__name__} is answered; its request id is not 0.")
