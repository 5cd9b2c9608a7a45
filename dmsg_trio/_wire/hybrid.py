"""The handshakes of dmsg: Noise on secp256k1, with ML-KEM-768 in the payloads of both sides.

Sessions use the pattern XK, streams KK. The initiator offers a fresh ML-KEM key in its first
message, the responder answers with a ciphertext in the next; the secret that only the two of them
know is mixed into both transport keys. The payloads are authenticated with the handshake, so
nobody between can take an offer or an answer away. Where one side stays silent the keys are the
classical ones, unless the other side requires more.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from dmsg_trio._errors import HandshakeError, HandshakeFault, LocalProtocolError
from dmsg_trio._keys import PUBLIC_KEY_SIZE, PublicKey, SecretKey
from dmsg_trio._wire.noise import HandshakeState, KeyPair, hkdf

KEM_SEED_SIZE: Final = 64  # d | z of FIPS 203
ENCAPSULATION_KEY_SIZE: Final = 1184
CIPHERTEXT_SIZE: Final = 1088

_HYBRID_INFO: Final = b"skywire-pq-hybrid-v1"


class PostQuantum(enum.Enum):
    """What a side does about ML-KEM: offer and accept it, insist on it, or leave it."""

    OFFER = "offer"
    REQUIRE = "require"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class TransportKeys:
    """What a handshake is for: the key of each direction, as this side sees them."""

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)


class Secp256k1:
    """The curve of dmsg as Noise sees it: what two keys agree on is 32 bytes and a zero byte."""

    name: Final = "Secp256k1"
    dhlen: Final = PUBLIC_KEY_SIZE

    def dh(self, secret: SecretKey, public: bytes) -> bytes:
        return secret.ecdh_untrusted(public) + b"\0"


def encapsulate_to(encapsulation_key: bytes) -> tuple[bytes, bytes]:
    """Make a shared secret and the ciphertext that tells it to the key's owner."""
    return MLKEM768PublicKey.from_public_bytes(encapsulation_key).encapsulate()


class Handshake:
    """One end of a handshake: write and read messages in turn until `finished`, then `split`."""

    def __init__(
        self,
        pattern: str,
        *,
        initiator: bool,
        static: SecretKey,
        remote_static: PublicKey | None,
        ephemeral: SecretKey,
        post_quantum: PostQuantum = PostQuantum.OFFER,
        kem_seed: bytes | None = None,
        encapsulate: Callable[[bytes], tuple[bytes, bytes]] = encapsulate_to,
    ) -> None:
        self._state = HandshakeState(
            Secp256k1(),
            pattern,
            initiator=initiator,
            s=_key_pair(static),
            e=_key_pair(ephemeral),
            rs=remote_static.raw if remote_static is not None else b"",
        )
        self._initiator = initiator
        self._post_quantum = post_quantum
        self._encapsulate = encapsulate
        self._kem_key: MLKEM768PrivateKey | None = None
        self._ciphertext = b""
        self._kem_secret = b""
        if initiator and post_quantum is not PostQuantum.OFF:
            if kem_seed is None or len(kem_seed) != KEM_SEED_SIZE:
                raise LocalProtocolError(
                    f"an initiator that offers ML-KEM needs a kem_seed of {KEM_SEED_SIZE} bytes"
                )
            self._kem_key = MLKEM768PrivateKey.from_seed_bytes(kem_seed)

    @property
    def finished(self) -> bool:
        """Whether all messages of the pattern were written and read."""
        return self._state.finished

    @property
    def remote_static(self) -> PublicKey:
        """Who the peer is; a responder of XK learns it from the last message."""
        if not self._state.rs:
            raise LocalProtocolError("the peer's static key is not known yet")
        return PublicKey(self._state.rs)

    @property
    def handshake_hash(self) -> bytes:
        """A name for this handshake, the same on both sides; final when `finished`."""
        return self._state.handshake_hash

    @property
    def is_post_quantum(self) -> bool:
        """Whether the transport keys stand on ML-KEM as well; final when `finished`."""
        return bool(self._kem_secret)

    def write_message(self) -> bytes:
        """Make the next message, with the offer or the answer of ML-KEM where one is due."""
        payload = b""
        if self._state.messages_done == 0 and self._kem_key is not None:
            payload = self._kem_key.public_key().public_bytes_raw()
        elif self._state.messages_done == 1:
            payload = self._ciphertext
        return self._state.write_message(payload)

    def read_message_untrusted(self, message: bytes) -> None:
        """Take in the peer's next message; raise `HandshakeError` if anything is wrong with it."""
        payload = self._state.read_message_untrusted(message)
        if self._state.messages_done == 1:
            self._read_offer(payload)
        elif self._state.messages_done == 2:
            self._read_answer(payload)

    def split(self) -> TransportKeys:
        """Give the keys of both directions, hybrid where a secret of ML-KEM exists."""
        first, second = self._state.split()
        if self._kem_secret:
            first, second = self._hybrid(first), self._hybrid(second)
        # Who wrote the last message sends with the second key. The specification gives the second
        # to the responder, which is the same for KK and the reverse for XK.
        if self._state.wrote_last:
            return TransportKeys(send=second, receive=first)
        return TransportKeys(send=first, receive=second)

    def _read_offer(self, offer: bytes) -> None:
        if self._post_quantum is PostQuantum.OFF:
            return
        # Any other size is no offer of ML-KEM but of something that this side does not know.
        if len(offer) == ENCAPSULATION_KEY_SIZE:
            try:
                self._kem_secret, self._ciphertext = self._encapsulate(offer)
            except ValueError as error:
                raise HandshakeError("the initiator's ML-KEM-768 key is invalid") from error
        elif self._post_quantum is PostQuantum.REQUIRE:
            raise HandshakeError(
                "post-quantum is required, but the initiator offers no ML-KEM-768 key: its "
                f"payload has {len(offer)} bytes, not {ENCAPSULATION_KEY_SIZE}",
                HandshakeFault.POST_QUANTUM,
            )

    def _read_answer(self, answer: bytes) -> None:
        if self._kem_key is None:
            return
        if len(answer) == CIPHERTEXT_SIZE:
            self._kem_secret = self._kem_key.decapsulate(answer)
        elif self._post_quantum is PostQuantum.REQUIRE:
            raise HandshakeError(
                "post-quantum is required, but the responder answers without an ML-KEM-768 "
                f"ciphertext: its payload has {len(answer)} bytes, not {CIPHERTEXT_SIZE}",
                HandshakeFault.POST_QUANTUM,
            )

    def _hybrid(self, key: bytes) -> bytes:
        return hkdf(self.handshake_hash, key + self._kem_secret, 1, _HYBRID_INFO)[0]

    def __repr__(self) -> str:
        side = "initiator" if self._initiator else "responder"
        return f"<Handshake as {side} after {self._state.messages_done} messages>"


def _key_pair(secret: SecretKey) -> KeyPair[SecretKey]:
    return KeyPair(secret, secret.pk.raw)
