"""Packets of the GDB remote protocol: their bytes, and what a damaged or silent line does."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator import gdb_remote
from emulator.gdb_remote import Disconnected, GdbRemote, PacketStream, RemoteError, frame, unpack


@pytest.fixture
def line() -> Iterator[tuple[PacketStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(1)
    stream = PacketStream(ours)
    yield stream, theirs
    stream.close()
    theirs.close()


def test_known_packets() -> None:
    assert frame(b"") == b"$#00"
    assert frame(b"OK") == b"$OK#9a"
    assert frame(b"m0,4") == b"$m0,4#fd"
    assert frame(b"a}b") == b"$a}\x5db#%02x" % (sum(b"a}\x5db") & 0xFF)


def test_runs_are_expanded() -> None:
    assert unpack(b"0* ") == b"0000"  # a space: three more
    assert unpack(b"ab*#c") == b"abbbbbbbc"  # "#" less 29: six more
    assert unpack(b"}\x03* x") == b"####x"  # of an escaped byte as well


def test_a_packet_that_ends_too_early() -> None:
    for broken in (b"ab}", b"ab*"):
        with pytest.raises(RemoteError, match="ends within an escape"):
            unpack(broken)


@given(st.binary(max_size=200))
def test_any_payload_survives(payload: bytes) -> None:
    packet = frame(payload)
    assert not set(b"#$") & set(packet[1:-3])
    assert unpack(packet[1:-3]) == payload


def test_sends_again_what_arrived_damaged(line: tuple[PacketStream, socket.socket]) -> None:
    stream, other = line
    other.sendall(b"-+")
    stream.send(b"g")
    assert other.recv(100) == b"$g#67$g#67"
    other.sendall(b"---")
    with pytest.raises(RemoteError, match="damaged"):
        stream.send(b"g")


def test_asks_again_for_what_arrives_damaged(line: tuple[PacketStream, socket.socket]) -> None:
    stream, other = line
    other.sendall(b"noise$OK#00$OK#9A")
    assert stream.receive() == b"OK"
    assert other.recv(100) == b"-+"


def test_silence_and_a_closed_line(
    line: tuple[PacketStream, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, other = line
    monkeypatch.setattr(gdb_remote, "REPLY_TIMEOUT_S", 0.05)
    with pytest.raises(TimeoutError):
        stream.receive(0.01)
    with pytest.raises(RemoteError, match="not acknowledged"):
        stream.send(b"g")
    other.close()
    with pytest.raises(Disconnected):
        stream.receive(1)


def test_requests(line: tuple[PacketStream, socket.socket]) -> None:
    stream, other = line
    remote = GdbRemote(stream)
    words = b"".join(i.to_bytes(4, "little") for i in range(17)).hex().encode()
    other.sendall(b"+" + frame(words) + b"+" + frame(words) + b"+" + frame(b"OK"))
    assert remote.registers()["pc"] == 15
    remote.set_registers({"sp": 0x2000_0000})
    sent = other.recv(1000)
    assert b"$G" + words[:104] + b"00000020" + words[112:] + b"#" in sent
    other.sendall(b"+" + frame(b"E14"))
    with pytest.raises(RemoteError, match="cannot read 4 bytes at 0x00000010"):
        remote.read(16, 4)
    other.sendall(b"+" + frame(b"O6869") + frame(b"O21") + frame(b"OK"))
    assert remote.monitor("x") == "hi!"
    other.sendall(b"+" + frame(b"W00"))
    with pytest.raises(Disconnected):
        remote.resume(1)
