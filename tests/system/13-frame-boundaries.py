"""However a stream is cut on its way: whole frames in their order, up to the Close, and back."""

import collections
import contextlib
import json
import random
import signal
import socket
import threading

import pytest

from doors import Push
from metrics import check_frames, read_metrics
from rawws import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Closed,
    RawWebSocket,
    closed_by,
    encode_frame,
)
from tokens import token
from trickle import Trickle

# How the node writes: one call per socket, or one for several, which it does from four on. Hence
# the company: others in the same groups, who read what they get.
WRITE_PATHS = {"syscalls": False, "io_uring": True}
COMPANY = 5

SIZES = [0, 1, 125, 126, 127, 4096, 60 * 1024]
GROUPS = ["live", "kept", "user:ann"]
UNMASKED = encode_frame("a", key=None)


def config(**limits):
    everything = {"dialect": "raw", "identity": "url", "join": ["live", "kept", "user:{identity}"]}
    return {
        "log_level": "debug",
        "workers": 1,
        "routes": [
            {"path": "/all/{user}", **everything},
            {"path": "/live", "dialect": "raw", "identity": "anonymous", "join": ["live"]},
            {"path": "/kept", "dialect": "raw", "identity": "anonymous", "join": ["kept"]},
            {"path": "/echo", "dialect": "raw", "identity": "anonymous", "inbound": "echo"},
        ],
        "groups": [
            {"match": "live", "join": "anyone", "history": {"messages": 0}},
            {"match": "kept", "join": "anyone", "history": {"messages": 2000}},
            {"match": "user:{id}", "durable": True},
        ],
        "limits": {"ping": "100ms", "pong": "60s", **limits},
    }


def read_to_the_end(ws):
    with contextlib.suppress(OSError):
        while ws.sock.recv(65536):
            pass


def check_when_all_are_gone(server, ended):
    """ended: as far as the log was read for connections that have."""
    for ws in server.company:
        with contextlib.suppress(OSError):
            ws.sock.shutdown(socket.SHUT_RDWR)
    for _ in server.company:
        ended = server.wait_for("conn.ended", ended) + 1
    check_frames(read_metrics(server))


@pytest.fixture(params=WRITE_PATHS)
def start(request, start_peal):
    """start(limit=value...): a server that writes in this way."""

    def start_with(**limits):
        server = start_peal({**config(**limits), "io_uring": WRITE_PATHS[request.param]})
        paths = ["/live", "/kept"] * COMPANY if WRITE_PATHS[request.param] else []
        server.company = [RawWebSocket(server.url, path) for path in paths]
        for ws in server.company:
            threading.Thread(target=read_to_the_end, args=(ws,), daemon=True).start()
        return server

    return start_with


# What is published


def target(group):
    return {"user": group[5:]} if group.startswith("user:") else {"group": group}


def texts(group, sizes):
    """The texts of that many bytes: who they are for, which one, and padding."""
    return [f"{group[0]}{n:04d}".ljust(size, ".")[:size] for n, size in enumerate(sizes)]


def publish(server, group, sent):
    """All of it in one message of the PUSH door, so that it comes as a burst."""
    with Push(server.doors["pull"]) as push:
        push.send([{**target(group), "data": text} for text in sent])


# Who receives it


class Reader:
    """A connection by one of the dialects, and what came on it, in order."""

    def __init__(self, ws):
        self.ws = ws
        self.texts = collections.defaultdict(list)
        self.pings = []
        self.pongs = []
        self.replies = []
        self.close = None
        self.seen = 0  # lines of the log

    def step(self):
        """Takes one frame; False when it was the Close."""
        frame = self.ws.recv_frame()
        assert frame.fin and frame.rsv == 0
        if frame.opcode == PING:
            self.pings.append(frame.payload)
            self.ws.send_frame(frame.payload, PONG)
        elif frame.opcode == PONG:
            self.pongs.append(frame.payload)
        elif frame.opcode == CLOSE:
            self.close = closed_by(frame)
            return False
        else:
            assert frame.opcode == TEXT
            self.take(frame.payload.decode())
        return True

    def until(self, done):
        while not done():
            assert self.step(), f"closed: {self.close}"

    def to_the_end(self):
        """Reads on to the Close and the end of the stream behind it: (code, reason)."""
        while self.step():
            pass
        with pytest.raises(Closed):
            self.ws.recv_frame()
        return self.close.code, self.close.reason


class Raw(Reader):
    # What a client can do that closes it.
    endings = {
        "protocol": (UNMASKED, (1002, "protocol_error")),
        "refused": (encode_frame("hello"), (4005, "inbound_refused")),
    }

    def __init__(self, server, groups, **options):
        self.mixed = len(groups) > 1
        path = "/all/ann" if self.mixed else f"/{groups[0]}"
        super().__init__(Trickle(server.url, path, **options))
        assert self.ws.status == 101
        # On the one worker both are in the groups as soon as one is told so.
        Native(server, groups, most=100).ws.sock.close()
        self.seen = server.wait_for("conn.ended") + 1

    def take(self, text):
        self.texts[text[:1] if self.mixed else ""].append(text)

    def of(self, group):
        return self.texts[group[0] if self.mixed else ""]

    def can_tell(self, sent):
        """An empty frame says nothing of its group."""
        return [text for text in sent if text or not self.mixed]


class Native(Reader):
    endings = {
        "protocol": (UNMASKED, (1002, "protocol_error")),
        "bad": (encode_frame("{") * 3, (4000, "bad_message")),
    }

    def __init__(self, server, groups, **options):
        super().__init__(Trickle(server.url, "/v1/ws", **options))
        self.offsets = collections.defaultdict(int)
        self.replayed = 0
        names = [group for group in groups if not group.startswith("user:")]
        self.command("hello", token=token("ann"), groups=names)
        self.until(lambda: self.replies)
        assert self.replies.pop()["type"] == "welcome"

    def command(self, type, **fields):
        self.ws.send_text(json.dumps({"type": type, "id": 1, **fields}))

    def take(self, text):
        frame = json.loads(text)
        if frame["type"] != "message":
            self.replies.append(frame)
            return
        group = frame["group"]
        self.offsets[group] += 1
        assert frame["offset"] == self.offsets[group]
        self.replayed += frame.get("replayed", False)
        self.texts[group].append(frame["data"])

    def of(self, group):
        return self.texts[group]

    def can_tell(self, sent):
        return sent


def finish(server, reader):
    """When the reader is gone, nothing is missing in the counts."""
    reader.ws.sock.close()
    check_when_all_are_gone(server, server.wait_for("conn.ended", reader.seen) + 1)


# Server to client

@pytest.mark.parametrize("kind", [Raw, Native])
def test_everything_at_once_is_whole_frames_in_order(start, kind):
    server = start(queue="1MiB")
    reader = kind(server, GROUPS)
    payloads = [b"", b"p", b"p" * 125]
    sent = {group: texts(group, SIZES * 2) for group in GROUPS}
    stored = [{"user": "ann", "text": text} for text in sent["user:ann"]]
    for group in GROUPS:
        for payload in payloads:
            reader.ws.send_frame(payload, PING)
        if kind is Native:
            reader.command("ping")
        if group == "user:ann":
            assert server.api.post("/v1/publish", stored).status == 200
        else:
            publish(server, group, sent[group])
    assert server.api.post("/v1/inbox/ann/read", {"all": True}).status == 200

    wanted = {group: reader.can_tell(sent[group]) for group in GROUPS}
    reader.until(lambda: all(len(reader.of(group)) == len(wanted[group]) for group in GROUPS))
    assert {group: reader.of(group) for group in GROUPS} == wanted
    reader.until(lambda: len(reader.pongs) == len(payloads) * len(GROUPS))
    assert reader.pongs == payloads * len(GROUPS)
    reader.until(lambda: len(reader.pings) > 1)
    if kind is Native:
        reader.until(lambda: [r["type"] for r in reader.replies].count("pong") == len(GROUPS))
        reader.until(lambda: "state" in [r["type"] for r in reader.replies])
    else:
        # A ping that carries the offset follows when all of the inbox was written.
        reader.until(lambda: str(len(stored)).encode() in reader.pings)
    finish(server, reader)


ENDINGS = [(kind, "drain") for kind in (Raw, Native)]
ENDINGS += [(kind, ending) for kind in (Raw, Native) for ending in kind.endings]


@pytest.mark.parametrize("kind, ending", ENDINGS)
def test_close_in_the_middle_of_a_burst_comes_behind_the_frame_that_was_begun(start, kind, ending):
    server = start(queue="1MiB")
    reader = kind(server, GROUPS)
    sent = texts("live", [*SIZES[1:5]] + [60 * 1024] * 10)
    publish(server, "live", sent)
    reader.ws.send_frame(b"p", PING)
    reader.until(lambda: len(reader.of("live")) > 0)
    # The kernel has taken some of the first large ones; what was not begun is not sent any more.
    if ending == "drain":
        server.signal(signal.SIGTERM)
        assert reader.to_the_end() == (4301, "drain")
    else:
        frames, close = kind.endings[ending]
        reader.ws.send_bytes(frames)
        assert reader.to_the_end() == close
    wanted = reader.can_tell(sent)
    got = reader.of("live")
    assert got == wanted[: len(got)] and len(got) < len(wanted)
    if ending == "drain":
        reader.ws.sock.close()
        assert server.exit_code() == 0
    else:
        finish(server, reader)


# Limits, and messages of which kernel and queue take less than half.
OVERFLOWS = {
    "bytes": ({"queue": "16KiB"}, [*SIZES[:5], 1000] * 100),
    "messages": ({"queue_messages": 30}, [*SIZES[:5], 1000] * 100),
    "large": ({"queue": "64KiB"}, [60 * 1024] * 6),
}


@pytest.mark.parametrize("limits, sizes", OVERFLOWS.values(), ids=OVERFLOWS)
@pytest.mark.parametrize("kind", [Raw, Native])
def test_burst_beyond_the_queue_is_cut_between_frames_and_closed(start, kind, limits, sizes):
    server = start(**limits)
    reader = kind(server, ["live"], most=7)
    sent = texts("live", sizes)
    publish(server, "live", sent)
    assert reader.to_the_end() == (4208, "slow")
    got = reader.of("live")
    assert got == sent[: len(got)] and 0 < len(got) < len(sent)
    finish(server, reader)


@pytest.mark.parametrize("limits, sizes", OVERFLOWS.values(), ids=OVERFLOWS)
@pytest.mark.parametrize("kind", [Raw, Native])
def test_burst_beyond_the_queue_of_who_may_fall_behind_comes_whole(start, kind, limits, sizes):
    server = start(**limits)
    reader = kind(server, ["kept"], most=7)
    sent = texts("kept", sizes * 2)
    publish(server, "kept", sent[: len(sizes)])
    reader.until(lambda: len(reader.of("kept")) > 0)
    publish(server, "kept", sent[len(sizes) :])
    reader.until(lambda: len(reader.of("kept")) == len(sent))
    assert reader.of("kept") == sent
    assert read_metrics(server)["peal_members_behind_total"] > 0
    finish(server, reader)


# Client to server

CLIENTS = 40


def exchange(seed):
    """Messages, some of them in fragments, and pings between: (bytes, frames that come back)."""
    rng = random.Random(seed)
    raw, back = [], []

    def ping():
        payload = rng.randbytes(rng.choice([0, 1, 125]))
        raw.append(encode_frame(payload, PING, key=rng.randbytes(4)))
        back.append((PONG, payload))

    for size in rng.sample([0, 1, 125, 126, 127, 300], 6):
        opcode = rng.choice([TEXT, BINARY])
        payload = bytes(rng.choices(range(128), k=size))
        cuts = [0, *sorted(rng.choices(range(size + 1), k=rng.randrange(4))), size]
        parts = [payload[a:b] for a, b in zip(cuts, cuts[1:])]
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            key = rng.randbytes(4)
            raw.append(encode_frame(part, CONT if index else opcode, fin=last, key=key))
            if not last and rng.random() < 0.5:
                ping()
        back.append((opcode, payload))
        ping()
    return b"".join(raw), back


def expect(ws, back):
    for opcode, payload in back:
        frame = ws.recv_frame()
        while frame.opcode == PING:
            frame = ws.recv_frame()
        assert (frame.opcode, frame.payload) == (opcode, payload)


def third(n):
    return f"third {n}".encode() + b"." * 200


def test_messages_may_come_byte_by_byte_on_many_connections(start):
    server = start()
    clients = [RawWebSocket(server.url, "/echo") for _ in range(CLIENTS)]
    exchanges = [exchange(seed) for seed in range(CLIENTS)]
    for at in range(max(len(raw) for raw, _ in exchanges)):
        for ws, (raw, _) in zip(clients, exchanges):
            ws.send_bytes(raw[at : at + 1])
    for ws, (_, back) in zip(clients, exchanges):
        expect(ws, back)
    for ws in clients:
        ws.reset()
    ended = 0
    for _ in clients:
        ended = server.wait_for("conn.ended", ended) + 1
    check_when_all_are_gone(server, ended)


def test_half_a_message_behind_whole_ones_waits_or_goes_with_its_connection(start):
    server = start()
    ended = 0
    for round in range(3):
        clients = [RawWebSocket(server.url, "/echo") for _ in range(CLIENTS)]
        for n, ws in enumerate(clients):
            last = encode_frame(third(n), BINARY)
            half = (round * CLIENTS + n) % len(last)
            ws.rest = last[half:]
            ws.send_bytes(encode_frame("one") + encode_frame(f"two {n}") + last[:half])
        for n, ws in enumerate(clients):
            expect(ws, [(TEXT, b"one"), (TEXT, f"two {n}".encode())])
        for n, ws in enumerate(clients):
            if n % 4 == 0:
                ws.reset()
            elif n % 4 == 1:
                ws.sock.close()
            elif n % 4 == 2:
                ws.send_bytes(ws.rest + encode_frame(b"?", PING))
                expect(ws, [(BINARY, third(n)), (PONG, b"?")])
                ws.send_close()
                assert ws.recv_close()[0] == 1000
            else:
                ws.send_bytes(ws.rest + encode_frame("", fin=False))
                expect(ws, [(BINARY, third(n))])
                ws.send_bytes(encode_frame("a start inside of a message"))
                assert ws.recv_close()[0] == 1002
                ws.sock.close()
        for _ in clients:
            ended = server.wait_for("conn.ended", ended) + 1
    check_when_all_are_gone(server, ended)
