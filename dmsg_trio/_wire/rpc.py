"""Remote calls as Go's net/rpc has them, over gob: who asks, and who answers.

Each direction is one gob stream. A call is two values, a header and the argument; an answer is two
as well, a header and the reply, or an empty struct behind a header that carries an error. Calls are
numbered by whoever makes them, and answers come in any order. No I/O happens here: bytes go in,
events come out, and what is to be sent is returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from dmsg_trio._errors import LocalProtocolError, RemoteProtocolError

from . import gob

MAX_CALLS: Final = 32  # unanswered at a time; a terminal has three or four
MAX_ERROR: Final = 4096  # bytes of the text of an error; longer ones are cut
MAX_SHOWN: Final = 80  # characters of a method's name from the peer that an answer repeats

_CALL_FIELDS: Final = (gob.Field("ServiceMethod", gob.STRING), gob.Field("Seq", gob.UINT))
REQUEST: Final = gob.Struct("Request", _CALL_FIELDS)
RESPONSE: Final = gob.Struct("Response", (*_CALL_FIELDS, gob.Field("Error", gob.STRING)))

_GO_NAMES: Final = {"[]byte": "bytes"}  # what Go's gob calls a type that has another name with us


@dataclass(frozen=True, slots=True)
class Method:
    """A call by its name, what it is asked with, and what it is answered with."""

    name: str
    argument: gob.Type
    reply: gob.Type
    go_argument: str = ""  # what Go calls the type of the argument, for errors about it


# ---- the side that asks ----


@dataclass(frozen=True, slots=True)
class Reply:
    """A call was done; this is what it gave."""

    seq: int
    value: gob.Value


@dataclass(frozen=True, slots=True)
class Failure:
    """A call was not done; this is what the other side says about that."""

    seq: int
    text: str


Outcome: TypeAlias = Reply | Failure


class RpcCaller:
    """The side of a connection that calls."""

    def __init__(self, ids: gob.TypeIds | None = None) -> None:
        self._writer = _Writer(REQUEST, ids)
        self._decoder = gob.Decoder()
        self._unanswered: dict[int, Method] = {}
        self._next_seq = 0
        self._header: _Header | None = None  # of an answer whose second half is yet to come

    @property
    def is_full(self) -> bool:
        """Whether the next call has to wait for an answer to an earlier one."""
        return len(self._unanswered) >= MAX_CALLS

    def call(self, method: Method, argument: gob.Value) -> tuple[int, bytes]:
        """Make a call: its number, by which the answer is known, and what to send."""
        if self.is_full:
            raise LocalProtocolError(f"rpc: more than {MAX_CALLS} calls at a time")
        seq = self._next_seq
        header: gob.Value = {"ServiceMethod": method.name, "Seq": seq}
        data = self._writer.write(header, method.argument, argument)
        self._unanswered[seq] = method
        self._next_seq += 1
        return seq, data

    def receive_data(self, data: bytes) -> list[Outcome]:
        """Take in what was read from the peer; answer with what became of which calls."""
        self._decoder.receive_data(data)
        outcomes: list[Outcome] = []
        while (outcome := self._next_outcome_untrusted()) is not None:
            outcomes.append(outcome)
        return outcomes

    def _next_outcome_untrusted(self) -> Outcome | None:
        if self._header is None:
            value = self._decoder.next_value_untrusted(RESPONSE)
            if value is None:
                return None
            header = _Header.of(value)
            if header.seq not in self._unanswered:
                raise RemoteProtocolError(f"rpc: an answer to call {header.seq}, not made")
            self._header = header
        header = self._header
        reply_type = None if header.error else self._unanswered[header.seq].reply
        value = self._decoder.next_value_untrusted(reply_type)
        if value is None:
            return None
        self._header = None
        del self._unanswered[header.seq]
        return Failure(header.seq, header.error) if header.error else Reply(header.seq, value)


# ---- the side that answers ----


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """The peer calls a method; `RpcResponder.answer` or `RpcResponder.fail` has to follow."""

    seq: int
    method: Method
    argument: gob.Value


@dataclass(frozen=True, slots=True)
class BadCall:
    """The peer calls what cannot be called so; `RpcResponder.refuse` says why, and all goes on."""

    seq: int
    name: str
    problem: str


Request: TypeAlias = Call | BadCall


class RpcResponder:
    """The side of a connection that is called."""

    def __init__(self, methods: Iterable[Method], ids: gob.TypeIds | None = None) -> None:
        self._methods = {method.name: method for method in methods}
        self._services = {_service_of(name) for name in self._methods}
        self._writer = _Writer(RESPONSE, ids)
        self._decoder = gob.Decoder()
        self._unanswered: set[Call] = set()
        self._header: _Header | None = None  # of a call whose argument is yet to come

    def receive_data(self, data: bytes) -> list[Request]:
        """Take in what was read from the peer; answer with what it calls."""
        self._decoder.receive_data(data)
        requests: list[Request] = []
        while (request := self._next_request_untrusted()) is not None:
            requests.append(request)
        return requests

    def answer(self, call: Call, value: gob.Value) -> bytes:
        """Tell the peer what its call gave."""
        header: gob.Value = {"ServiceMethod": call.method.name, "Seq": call.seq}
        self._check_unanswered(call)
        data = self._writer.write(header, call.method.reply, value)
        self._unanswered.remove(call)
        return data

    def fail(self, call: Call, text: str) -> bytes:
        """Tell the peer why its call was not done."""
        self._check_unanswered(call)
        self._unanswered.remove(call)
        return self._write_error(call.seq, call.method.name, text)

    def refuse(self, call: BadCall) -> bytes:
        """Tell the peer what is wrong with its call."""
        return self._write_error(call.seq, call.name, call.problem)

    def _check_unanswered(self, call: Call) -> None:
        if call not in self._unanswered:
            raise LocalProtocolError(f"rpc: call {call.seq} was answered before")

    def _write_error(self, seq: int, name: str, text: str) -> bytes:
        # Without a text it would be no error.
        error = _cut(text, MAX_ERROR) or "unknown error"
        header: gob.Value = {"ServiceMethod": name, "Seq": seq, "Error": error}
        return self._writer.write(header, gob.EMPTY, {})

    def _next_request_untrusted(self) -> Request | None:
        if self._header is None:
            value = self._decoder.next_value_untrusted(REQUEST)
            if value is None:
                return None
            self._header = _Header.of(value)
        header = self._header
        method = self._methods.get(header.name)
        request: Request
        try:
            # The argument of an unknown method is read as well: the stream stays in step.
            value = self._decoder.next_value_untrusted(None if method is None else method.argument)
            if value is None:
                return None
        except gob.GobMismatchError as error:
            request = self._bad_call(header, _misfit(cast("Method", method), error))
        else:
            if method is None:
                request = self._bad_call(header, self._unknown(header.name))
            elif len(self._unanswered) >= MAX_CALLS:
                request = self._bad_call(header, f"rpc: more than {MAX_CALLS} calls at a time")
            else:
                request = Call(header.seq, method, value)
                self._unanswered.add(request)
        self._header = None
        return request

    def _bad_call(self, header: _Header, problem: str) -> BadCall:
        return BadCall(header.seq, _cut(header.name, MAX_SHOWN), problem)

    def _unknown(self, name: str) -> str:
        """Say what of a name is unknown, as Go says it."""
        shown = _cut(name, MAX_SHOWN)
        if "." not in name:
            return f"rpc: service/method request ill-formed: {shown}"
        what = "method" if _service_of(name) in self._services else "service"
        return f"rpc: can't find {what} {shown}"


def _misfit(method: Method, error: gob.GobMismatchError) -> str:
    """Say that an argument is of a wrong type, as Go says it."""
    theirs = error.problem.partition(", received ")[2]
    kind, _, name = theirs.partition(" ")
    if not isinstance(method.argument, gob.Struct):
        received = _GO_NAMES.get(kind) or name.strip("'\"") or kind
        return (
            f"gob: decoding into local type *{method.go_argument}, received remote type {received}"
        )
    if isinstance(error, gob.GobRangeError):
        return f'value for "{error.path[-1]}" out of range'
    struct = method.go_argument
    if error.misfit is not None:
        where, wanted = error.misfit, error.misfit.ours
        if not wanted.startswith("*"):
            name = _cut(f"{where.struct}.{where.field}", MAX_SHOWN)
            return f"gob: wrong type ({wanted}) for received field {name}"
        struct = f"{_service_of(struct)}.{wanted[1:]}"  # of the same package
    elif kind == "struct":
        return f"gob: type mismatch: no fields matched compiling decoder for {method.argument.name}"
    return f"gob: type mismatch in decoder: want struct type {struct}; got non-struct"


# ---- both ----


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    seq: int
    error: str

    @classmethod
    def of(cls, value: gob.Value) -> _Header:
        """Take a header apart that was read as one."""
        fields = cast("Mapping[str, gob.Value]", value)
        return cls(
            cast("str", fields["ServiceMethod"]),
            cast("int", fields["Seq"]),
            cast("str", fields.get("Error", "")),
        )


class _Writer:
    """One direction of a connection: pairs of a header and a value."""

    def __init__(self, header: gob.Struct, ids: gob.TypeIds | None) -> None:
        ids = ids or gob.TypeIds()
        ids.number(header)  # Go's programs use the header's type first
        self._header = header
        self._encoder = gob.Encoder(ids)

    def write(self, header: gob.Value, declared: gob.Type, value: gob.Value) -> bytes:
        # What can be refused comes first: then no header is left without a value behind it.
        body = self._encoder.encode(declared, value)
        return self._encoder.encode(self._header, header) + body


def _service_of(name: str) -> str:
    return name.rpartition(".")[0]


def _cut(text: str, size: int) -> str:
    """Leave out what is over ``size`` bytes, between two characters."""
    data = text.encode(errors=gob.TEXT_ERRORS)[:size]
    return data.decode(errors="ignore") if len(data) == size else text
