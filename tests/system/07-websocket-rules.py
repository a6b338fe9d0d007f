"""RFC 6455 as a server must hold it, and what routes do with what clients send."""

import os
import struct
import time

import pytest

from native import Native
from peal import Peal
from rawws import BINARY, CLOSE, CONT, PING, PONG, TEXT, RawWebSocket, encode_frame
from tokens import token

MIB = 1024 * 1024


def route(path, inbound, **fields):
    return {
        "path": path,
        "dialect": "raw",
        "identity": "anonymous",
        "inbound": inbound,
        **fields,
    }


CONFIG = {
    "routes": [
        route("/echo", "echo", max_message="4MiB"),
        route("/small", "echo", max_message="1KiB"),
        route("/echo-json", "echo_json"),
        route("/ignore", "ignore", join=["room"]),
        route("/refuse", "refuse", join=["room"]),
        route("/publish", "publish", join=["room", "other"]),
    ],
}


@pytest.fixture
def server(start_peal):
    return start_peal(CONFIG)


@pytest.fixture
def echo(server):
    with RawWebSocket(server.url, "/echo") as ws:
        assert ws.status == 101 and ws.accept_is_right
        yield ws


# Echo: what comes back is what was sent


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 1 * MIB, 4 * MIB])
def test_echo_returns_every_size(echo, size):
    text = ("中文😀." * (size // 11 + 1)).encode()[: size // 11 * 11] + b"." * (size % 11)
    echo.send_frame(text, TEXT)
    assert echo.recv_message().encode() == text
    data = os.urandom(size)
    echo.send_binary(data)
    assert echo.recv_message() == data


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_echo_of_fragments_is_one_message_of_their_kind(echo, opcode):
    parts = [b"one ", b"", b"two ", "中".encode()]
    echo.send_fragments(parts, opcode)
    whole = b"".join(parts)
    assert echo.recv_message() == (whole.decode() if opcode == TEXT else whole)


def test_echo_of_a_large_message_in_fragments(echo):
    data = os.urandom(4 * MIB)
    parts = [data[at : at + 64 * 1024] for at in range(0, len(data), 64 * 1024)]
    assert len(parts) == 64
    echo.send_fragments(parts, BINARY)
    assert echo.recv_message() == data


def test_character_may_be_split_between_fragments(echo):
    raw = "中".encode()
    echo.send_fragments([raw[:1], raw[1:2], raw[2:]])
    assert echo.recv_message() == "中"


def test_frames_may_arrive_byte_by_byte(echo):
    raw = encode_frame("slow", TEXT) + encode_frame(b"p", PING) + encode_frame(b"\x00" * 200, BINARY)
    for at in range(len(raw)):
        echo.send_bytes(raw[at : at + 1])
    assert echo.recv_message() == "slow"
    assert echo.recv_frame().opcode == PONG
    assert echo.recv_message() == b"\x00" * 200


def test_many_frames_may_arrive_in_one_piece(echo):
    echo.send_bytes(b"".join(encode_frame(str(n), TEXT) for n in range(500)))
    assert [echo.recv_message() for _ in range(500)] == [str(n) for n in range(500)]


@pytest.mark.timeout(120)
def test_stream_of_messages_that_never_rests_is_no_unfinished_message(echo):
    """Each piece ends one message and begins the next, for longer than a message may take."""
    text = "x" * 200000
    frame = encode_frame(text, TEXT)
    half = len(frame) // 2
    echo.send_bytes(frame[:half])
    end = time.monotonic() + 11
    while time.monotonic() < end:
        echo.send_bytes(frame[half:] + frame[:half])
        assert echo.recv_message() == text


# Ping, pong, close


@pytest.mark.parametrize("payload", [b"", b"\x00\xff", b"x" * 125])
def test_ping_is_answered_with_its_payload(echo, payload):
    echo.send_frame(payload, PING)
    frame = echo.recv_frame()
    assert (frame.opcode, frame.payload) == (PONG, payload)


def test_ping_is_answered_between_fragments(echo):
    echo.send_frame("a", TEXT, fin=False)
    echo.send_frame(b"now", PING)
    assert echo.recv_frame().payload == b"now"
    echo.send_frame("b", CONT)
    assert echo.recv_message() == "ab"


def test_pong_that_was_not_asked_for_is_ignored(echo):
    echo.send_frame(b"?", PONG)
    echo.send_text("still here")
    assert echo.recv_message() == "still here"


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 4999])
def test_close_is_answered_with_its_code(echo, code):
    echo.send_close(code, "because")
    assert echo.recv_close()[0] == code
    assert echo.read_body() == b""  # and the stream ends


def test_close_without_a_code_is_answered(echo):
    echo.send_frame(b"", CLOSE)
    assert echo.recv_close()[0] == 1005


def test_nothing_is_taken_after_a_close(echo):
    echo.send_bytes(encode_frame(struct.pack(">H", 1000), CLOSE) + encode_frame("late", TEXT))
    frame = echo.recv_frame()
    assert frame.opcode == CLOSE
    assert echo.read_body() == b""


# What a server must refuse


def close_payload(code, reason=b""):
    return struct.pack(">H", code) + reason


BROKEN = {
    "unmasked": (1002, encode_frame("a", TEXT, key=None)),
    "unmasked ping": (1002, encode_frame(b"", PING, key=None)),
    "rsv1": (1002, encode_frame("a", TEXT, rsv=4)),
    "rsv2": (1002, encode_frame("a", TEXT, rsv=2)),
    "rsv3": (1002, encode_frame("a", TEXT, rsv=1)),
    "rsv1 on a ping": (1002, encode_frame(b"", PING, rsv=4)),
    **{f"opcode {n}": (1002, encode_frame(b"", n)) for n in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping of 126 bytes": (1002, encode_frame(b"x" * 126, PING)),
    "ping in fragments": (1002, encode_frame(b"x", PING, fin=False)),
    "close in fragments": (1002, encode_frame(close_payload(1000), CLOSE, fin=False)),
    "continuation of nothing": (1002, encode_frame("a", CONT)),
    "last continuation of nothing": (1002, encode_frame("a", CONT, fin=False)),
    "text inside a message": (1002, encode_frame("a", TEXT, fin=False) + encode_frame("b", TEXT)),
    "continuation after the end": (
        1002,
        encode_frame("a", TEXT, fin=False) + encode_frame("b", CONT) + encode_frame("c", CONT),
    ),
    "16-bit length of 5": (1002, b"\x81\xfe\x00\x05" + b"\0\0\0\0" + b"hello"),
    "64-bit length of 5": (1002, b"\x81\xff" + struct.pack(">Q", 5) + b"\0\0\0\0" + b"hello"),
    "64-bit length with the top bit": (1002, b"\x82\xff" + struct.pack(">Q", 1 << 63) + b"\0" * 4),
    "close of one byte": (1002, encode_frame(b"\x03", CLOSE)),
    **{
        f"close code {code}": (1002, encode_frame(close_payload(code), CLOSE))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535)
    },
    "close reason that is not UTF-8": (1007, encode_frame(close_payload(1000, b"\xff"), CLOSE)),
    **{
        f"text {raw!r}": (1007, encode_frame(raw, TEXT))
        for raw in (
            b"\xff",
            b"ok \xc3\x28",
            b"\xc0\xaf",  # overlong
            b"\xe0\x80\xaf",  # overlong
            b"\xed\xa0\x80",  # a surrogate
            b"\xf4\x90\x80\x80",  # beyond U+10FFFF
            b"\xf8\x88\x80\x80\x80",
            b"\xe4\xb8",  # cut off
            b"\x80",
        )
    },
    "text that is not UTF-8 as a whole": (
        1007,
        encode_frame(b"\xe4", TEXT, fin=False) + encode_frame(b"\xb8", CONT),
    ),
    "65 fragments": (
        1008,
        encode_frame("", TEXT, fin=False) + encode_frame("", CONT, fin=False) * 64,
    ),
    "4 MiB and one byte": (1009, encode_frame(b"", BINARY, length=4 * MIB + 1)),
    "1 TiB": (1009, encode_frame(b"", BINARY, length=1 << 40)),
    "4 MiB and one byte in fragments": (
        1009,
        encode_frame(b"x" * MIB, BINARY, fin=False) + encode_frame(b"", CONT, length=3 * MIB + 1),
    ),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for the many ways to be wrong; none of them may hurt it."""
    with Peal(tmp_path_factory.mktemp("peal"), CONFIG) as server:
        yield server


@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames_close_the_connection_with_their_code(shared, name):
    code, raw = BROKEN[name]
    with RawWebSocket(shared.url, "/echo") as ws:
        ws.send_bytes(raw)
        assert ws.recv_close()[0] == code
        ws.send_text("not read any more")
        assert ws.read_body() == b""
    with RawWebSocket(shared.url, "/echo") as other:
        other.send_text("alive")
        assert other.recv_message() == "alive"


def test_64_fragments_are_accepted(echo):
    echo.send_fragments(["x"] * 64)
    assert echo.recv_message() == "x" * 64


def test_each_route_has_its_own_largest_message(server):
    with RawWebSocket(server.url, "/small") as ws:
        ws.send_binary(b"x" * 1024)
        assert len(ws.recv_message()) == 1024
        ws.send_frame(b"", BINARY, length=1025)
        assert ws.recv_close() == (1009, "too_large")


def test_message_that_does_not_end_is_cut_after_its_deadline(echo):
    echo.send_frame("begun", TEXT, fin=False)
    assert echo.recv_close()[0] == 1008


def test_flood_of_frames_is_closed(server):
    with RawWebSocket(server.url, "/ignore") as ws:
        ws.send_bytes(encode_frame("", TEXT) * 20000)
        assert ws.recv_close() == (4129, "rate_limited")


def test_reset_in_the_middle_of_a_frame_is_survived(server, echo):
    for cut in (1, 3, 7, 12):
        ws = RawWebSocket(server.url, "/echo")
        ws.send_bytes(encode_frame("0123456789", TEXT)[:cut])
        ws.reset()
    echo.send_text("alive")
    assert echo.recv_message() == "alive"


# What routes do with what clients send


@pytest.mark.parametrize(
    "sent, returned",
    [("plain", '"plain"'), ('a "b" \\ \n 中', '"a \\"b\\" \\\\ \\n 中"'), ("", '""')],
)
def test_echo_json_returns_a_json_string(server, sent, returned):
    with RawWebSocket(server.url, "/echo-json") as ws:
        ws.send_text(sent)
        assert ws.recv_message() == returned


def test_ignore_drops_and_counts_and_still_delivers(server):
    with RawWebSocket(server.url, "/ignore") as ws:
        for _ in range(3):
            ws.send_text("nobody listens")
        ws.send_frame(b"?", PING)
        assert ws.recv_frame().opcode == PONG
        metrics = server.api.get("/metrics").body.decode()
        assert "\npeal_frames_ignored_total 3\n" in metrics


def test_refuse_closes_the_sender_with_4005(server):
    with RawWebSocket(server.url, "/refuse") as ws:
        ws.send_text("hello")
        assert ws.recv_close() == (4005, "inbound_refused")


def test_publish_reaches_the_first_group_of_the_route_only(server):
    with Native(server.url, token("a"), groups=["room", "other"]) as client:
        with RawWebSocket(server.url, "/publish") as ws:
            ws.send_text('{"n": 1e2}')
            message = client.next("message")
            assert (message["group"], message["data"]) == ("room", '{"n": 1e2}')
            assert ws.recv_message() == '{"n": 1e2}'
            assert client.settled() == []
