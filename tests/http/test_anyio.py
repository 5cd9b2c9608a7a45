"""Streams as anyio wants them."""

import datetime
import ssl
from functools import partial
from pathlib import Path

import anyio
import pytest
import trio
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from trio.testing import memory_stream_pair

from dmsg_trio.client import DmsgStream
from dmsg_trio.http import AnyioByteStream
from dmsg_trio.testing import Network


async def test_bytes_go_both_ways_and_each_way_ends_by_itself() -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        async with b.listen(9) as listener:
            near = AnyioByteStream(await a.open_stream(b.pk, 9))
            far = AnyioByteStream(await listener.accept())
            await near.send(b"hello")
            assert await BufferedByteReceiveStream(far).receive_exactly(5) == b"hello"
            await near.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await far.receive()
            await far.send(b"I can still talk")
            assert await near.receive(6) == b"I can "
            assert await near.receive() == b"still talk"
            await far.aclose()
            await near.aclose()


async def test_errors_are_those_of_anyio() -> None:
    near, far = memory_stream_pair()
    stream = AnyioByteStream(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.send_all, b"x")
        await stream.receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await stream.receive()
        await far.send_all(b"x")
    await far.aclose()
    with pytest.raises(anyio.BrokenResourceError):
        await stream.send(b"x")
    await stream.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await stream.receive()


async def test_what_is_closed_by_a_cancellation_is_reset() -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        async with b.listen(9) as listener:
            near = AnyioByteStream(await a.open_stream(b.pk, 9))
            far = AnyioByteStream(await listener.accept())
            await anyio.aclose_forcefully(near)
            with pytest.raises(anyio.BrokenResourceError):
                await far.receive()


async def test_a_block_that_fails_leaves_no_end_that_looks_well() -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        async with b.listen(9) as listener:
            near = AnyioByteStream(await a.open_stream(b.pk, 9))
            far = AnyioByteStream(await listener.accept())
            with pytest.raises(LookupError):
                async with near:
                    await near.send(b"half of it")
                    raise LookupError
            with pytest.raises(anyio.BrokenResourceError):
                while await far.receive():
                    pass


def certificate_for(name: str, folder: Path) -> Path:
    """Make a file with a key and a certificate that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_the_tls_of_anyio_runs_on_it(tmp_path: Path) -> None:
    both = certificate_for("example.com", tmp_path)
    of_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    of_server.load_cert_chain(both)
    of_client = ssl.create_default_context(cafile=both)

    async def echo(stream: DmsgStream) -> None:
        wrapped = AnyioByteStream(stream)
        async with await TLSStream.wrap(wrapped, server_side=True, ssl_context=of_server) as tls:
            async for data in tls:
                await tls.send(data)

    async with Network() as network, network.client() as a, network.client() as b:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, echo, [b.listen(443)]))
            stream = AnyioByteStream(await a.open_stream(b.pk, 443))
            async with await TLSStream.wrap(
                stream, hostname="example.com", ssl_context=of_client
            ) as tls:
                await tls.send(bytes(100_000))
                received = BufferedByteReceiveStream(tls)
                assert await received.receive_exactly(100_000) == bytes(100_000)
            nursery.cancel_scope.cancel()
