"""Remote calls, as a peer may send them to a host or to who calls one."""

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.gob import EMPTY
from dmsg_trio._wire.pty import PTY_SERVICE, READ, STOP, WHITELIST, WHITELIST_SERVICE, WRITE
from dmsg_trio._wire.rpc import (
    MAX_CALLS,
    BadCall,
    Call,
    Failure,
    Method,
    RpcCaller,
    RpcResponder,
)

CALLED = (READ, WRITE, STOP, WHITELIST, Method("no.Such", EMPTY, EMPTY))
BROKEN = "broken"


def answer_all(pieces: list[bytes]) -> tuple[list[str], list[bytes]]:
    """Refuse every call that arrives in pieces; spell the calls, and give what was answered."""
    responder = RpcResponder((*PTY_SERVICE, *WHITELIST_SERVICE))
    seen: list[str] = []
    answers: list[bytes] = []
    for piece in pieces:
        try:
            requests = responder.receive_data(piece)
        except RemoteProtocolError:
            return [*seen, BROKEN], answers
        if sum(isinstance(request, Call) for request in requests) > MAX_CALLS:
            raise AssertionError("more calls at a time than there may be")
        for request in requests:
            seen.append(f"{request.seq} {request}")
            match request:
                case Call():
                    answers.append(responder.fail(request, "no"))
                case BadCall():
                    answers.append(responder.refuse(request))
    return seen, answers


def take_answers(pieces: list[bytes]) -> list[str]:
    """Read what arrives in pieces as answers to a call of each kind."""
    caller, seen = RpcCaller(), []
    for method in CALLED:
        caller.call(method, method.argument.zero())
    for piece in pieces:
        try:
            seen += [repr(outcome) for outcome in caller.receive_data(piece)]
        except RemoteProtocolError:
            return [*seen, BROKEN]
    if len(seen) > len(CALLED):
        raise AssertionError(f"{len(seen)} answers to {len(CALLED)} calls")
    return seen


def check(data: bytes) -> None:
    """Any bytes are calls, answers or a `RemoteProtocolError`, in pieces as well as whole.

    What came before the error may be lost when it comes in one piece with it. And every refusal
    that a host sends is understood by who called.
    """
    pieces = [data[start : start + 1] for start in range(len(data))]
    for read in (take_answers, lambda pieces: answer_all(pieces)[0]):
        whole, cut = read([data]), read(pieces)
        ended_alike = BROKEN in whole[-1:] and BROKEN in cut[-1:]
        # In one piece more calls are unanswered at a time, so some may be refused.
        if not ended_alike and len(whole) != len(cut):
            raise AssertionError(f"pieces made a difference: {whole}, {cut}")
    caller = RpcCaller()
    for answer in answer_all(pieces)[1]:
        caller.call(STOP, {})
        try:
            outcomes = caller.receive_data(answer)
        except RemoteProtocolError as error:
            if "not made" not in str(error):  # the peer may number its calls as it likes
                raise
            break
        if len(outcomes) != 1 or not isinstance(outcomes[0], Failure):
            raise AssertionError(f"a refusal was read as {outcomes}")


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
