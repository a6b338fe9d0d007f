"""tests/cluster/fleet.py: very many devices of the native protocol in one event loop.

Each behaves as the page of an application should: it keeps a position per group, comes back after
what the close code asks for, says in `hello` where it was, acknowledges its inbox, and writes
down every frame that moved a position (history.py). It does not repair what the server gets
wrong: a message that comes twice is written down twice.
"""

import asyncio
import itertools
import json
import random
import struct
import time
import urllib.parse

from crowd import raise_descriptors
from history import Closed, Degraded, Gap, Goaway, Joined, Message, Opened, Skip, State
from rawws import CLOSE, PING, PONG, TEXT
from tokens import token

HANDSHAKE = (
    "GET /v1/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Protocol: peal.v1.json\r\n\r\n"
)
WELCOME_S = 10
BACKOFF_S = 0.1  # doubled by each try that failed, with jitter
BACKOFF_MAX_S = 2
ACK_S = 0.1


def encode(payload, opcode=TEXT):
    """A masked frame; the mask of zeros leaves the payload as it is."""
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack(">BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 0xFF, size)
    return head + b"\0\0\0\0" + payload


class Session(asyncio.Protocol):
    """One connection of a device."""

    def __init__(self, device):
        self.device = device
        self.ended = asyncio.get_running_loop().create_future()
        self.welcomed = asyncio.get_running_loop().create_future()
        self.code = 1006
        self.heard = time.monotonic()
        self._transport = None
        self._buffer = bytearray()
        self._open = False

    def connection_made(self, transport):
        self._transport = transport
        transport.write(HANDSHAKE.format(host=self.device.host).encode())

    def connection_lost(self, _):
        if not self.ended.done():
            self.ended.set_result(None)
        if not self.welcomed.done():
            self.welcomed.set_result(False)

    def abort(self):
        self._transport.abort()

    def leave(self):
        """The client's own farewell, as a page says it."""
        self.code = 1000
        self._transport.write(encode(struct.pack(">H", 1000), CLOSE))
        self._transport.close()

    def say(self, **command):
        self._transport.write(encode(json.dumps(command).encode()))

    def data_received(self, data):
        self.heard = time.monotonic()
        self._buffer += data
        if not self._open and not self._take_head():
            return
        at = 0
        while (end := self._take_frame(at)) is not None:
            at = end
        del self._buffer[:at]

    def _take_head(self):
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        if not self._buffer.startswith(b"HTTP/1.1 101 "):
            self.abort()
            return False
        del self._buffer[: end + 4]
        self._open = True
        self.say(**self.device.hello())
        return True

    def _take_frame(self, at):
        """Takes the frame at `at`; returns where it ends, None when it is not complete."""
        buffer = self._buffer
        if len(buffer) < at + 2:
            return None
        size, head = buffer[at + 1], 2
        if size == 126:
            if len(buffer) < at + 4:
                return None
            (size,), head = struct.unpack_from(">H", buffer, at + 2), 4
        elif size == 127:
            if len(buffer) < at + 10:
                return None
            (size,), head = struct.unpack_from(">Q", buffer, at + 2), 10
        end = at + head + size
        if len(buffer) < end:
            return None
        payload, opcode = bytes(buffer[at + head : end]), buffer[at] & 15
        assert buffer[at] & 0xF0 == 0x80, "whole frames without reserved bits"
        if opcode == TEXT:
            self.device.on_frame(self, json.loads(payload))
        elif opcode == PING:
            self._transport.write(encode(payload, PONG))
        elif opcode == CLOSE:
            if self.code == 1006:
                self.code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            self._transport.close()
        return end


class Device:
    """A client for as long as the run lasts, over all its connections.

    user: whose inbox it has, by default of its own name. groups: joined in every hello.
    patient: it does not leave on `goaway`, but waits for the close. backoff_s: before the first
    try that comes after one that failed, and at most; doubled by each, with jitter."""

    def __init__(
        self, name, url, user=None, groups=(), patient=False, backoff_s=(BACKOFF_S, BACKOFF_MAX_S)
    ):
        self.name = name
        self.patient = patient
        self.groups = list(groups)
        self.events = []
        self.positions = {}  # group: [epoch, offset]
        self.degraded = False
        self.session = None
        self.node = None  # as it calls itself
        address = urllib.parse.urlsplit(url)
        self.host = address.netloc
        self._address = address.hostname, address.port
        self._token = token(user or name)
        self.inbox = f"user:{user or name}"
        self._ack_timer = None
        self._tries = 0
        self._backoff_s = backoff_s
        self._random = None
        self._leave_timer = None
        self._slot = None  # (first, last): when this connection is to go

    @property
    def open(self):
        return self.session is not None

    def hello(self):
        resume = {"groups": {g: p for g, p in self.positions.items() if g != self.inbox}}
        if self.inbox in self.positions:
            resume["inbox"] = self.positions[self.inbox]
        return {
            "type": "hello",
            "id": 1,
            "token": self._token,
            "device": self.name[:64],
            "groups": self.groups,
            "resume": resume,
        }

    def events_of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    # What comes

    def on_frame(self, session, frame):
        handler = self.HANDLERS.get(frame["type"])
        if handler is not None:
            handler(self, session, frame)

    def _on_message(self, _, frame):
        group, offset = frame["group"], frame["offset"]
        self.events.append(Message(time.monotonic(), group, offset, frame["id"]))
        if group in self.positions:
            self._move(group, self.positions[group][0], offset)
        if group == self.inbox and self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_S, self._ack)

    def _on_gap(self, _, frame):
        group, last = frame["group"], frame["to"]
        why, epoch = frame["why"], frame["epoch"]
        self.events.append(Gap(time.monotonic(), group, frame["from"], last, epoch, why))
        self._move(group, epoch, last)

    def _on_skip(self, _, frame):
        group, last = frame["group"], frame["to"]
        self.events.append(Skip(time.monotonic(), group, frame["from"], last))
        self._move(group, self.positions[group][0], last)

    def _on_joined(self, _, frame):
        self._join(frame["group"], frame)

    def _on_welcome(self, session, frame):
        self.session = session
        self.node = frame["node"]
        self.degraded = False
        self.events.append(Opened(time.monotonic(), self._tries))
        self._tries = 0
        for group, place in frame["groups"].items():
            self._join(group, place)
        self._join(self.inbox, frame["inbox"])
        if not session.welcomed.done():
            session.welcomed.set_result(True)

    def _on_state(self, _, frame):
        self.events.append(State(time.monotonic(), frame["unread"], frame["rev"]))

    def _on_degraded(self, _, frame):
        self.degraded = frame["on"]
        self.events.append(Degraded(time.monotonic(), frame["on"]))

    def _on_goaway(self, session, frame):
        now = time.monotonic()
        first = now + frame["in_ms"] / 1000
        self._slot = first, first + frame["spread_ms"] / 1000
        planned = self._random.uniform(*self._slot)
        self.events.append(Goaway(now, planned))
        if not self.patient:
            loop = asyncio.get_running_loop()
            self._leave_timer = loop.call_later(planned - now, session.leave)

    def _on_error(self, _, frame):
        raise AssertionError(f"{self.name} was told {frame}")

    HANDLERS = {
        "message": _on_message,
        "gap": _on_gap,
        "skip": _on_skip,
        "joined": _on_joined,
        "welcome": _on_welcome,
        "state": _on_state,
        "degraded": _on_degraded,
        "goaway": _on_goaway,
        "error": _on_error,
    }

    def _join(self, group, place):
        if place["recovered"] == "pending":
            return
        epoch, offset = place["epoch"], place["offset"]
        self.events.append(Joined(time.monotonic(), group, epoch, offset, place["recovered"]))
        self._move(group, epoch, offset)

    def _move(self, group, epoch, offset):
        self.positions[group] = [epoch, offset]

    def _ack(self):
        self._ack_timer = None
        if self.session is not None:
            self.session.say(type="ack", upto=self.positions[self.inbox][1])

    # Coming back

    async def run(self, random_source):
        """Connects, and comes back whenever the connection is gone, until cancelled."""
        self._random = random_source
        while True:
            self._tries += 1
            self._slot = None
            code = await self._live_once()
            if 4200 <= code < 4300:
                continue
            if code == 1000 or 4300 <= code < 4400:
                # In its slot, at once when that is over; without one as all others.
                if self._slot is not None:
                    await asyncio.sleep(self._until_slot(code))
                    continue
            # Not with everybody else at the same moment.
            first, most = self._backoff_s
            most = min(most, first * 2 ** min(self._tries, 10))
            await asyncio.sleep(random_source.uniform(first / 2, most))

    def _until_slot(self, code):
        first, last = self._slot
        now = time.monotonic()
        if code == 1000 or now >= last:
            return 0
        return max(0, self._random.uniform(first, last) - now)

    async def _live_once(self):
        """One connection from its first byte to its last; returns its close code."""
        loop = asyncio.get_running_loop()
        session = None
        try:
            connecting = loop.create_connection(lambda: Session(self), *self._address)
            _, session = await asyncio.wait_for(connecting, WELCOME_S)
            if not await asyncio.wait_for(asyncio.shield(session.welcomed), WELCOME_S):
                return session.code
            await session.ended
        except (OSError, asyncio.TimeoutError):
            return 1006
        finally:
            if self._leave_timer is not None:
                self._leave_timer.cancel()
                self._leave_timer = None
            # A farewell is written before the connection ends.
            if session is not None and session.code != 1000:
                session.abort()
            if self.session is not None and self.session is session:
                self.session = None
                self.events.append(Closed(time.monotonic(), session.code))
        return session.code


class Fleet:
    """async with Fleet(devices, seed): connected, and coming back, until the end."""

    def __init__(self, devices, seed=1, connect_s=30):
        self.devices = devices
        self._connect_s = connect_s
        self._random = random.Random(seed)
        self._tasks = []

    async def __aenter__(self):
        raise_descriptors(2 * len(self.devices))
        self._tasks = [
            asyncio.create_task(device.run(random.Random(self._random.random())))
            for device in self.devices
        ]
        try:
            await self.wait(lambda device: device.open, self._connect_s, "are connected")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait(self, condition, seconds, what, devices=None):
        """Waits until condition(device) holds for each of these, or for every device; what names it
        in the error."""
        deadline = time.monotonic() + seconds
        waiting = list(self.devices if devices is None else devices)
        for tries in itertools.count():
            waiting = [device for device in waiting if not condition(device)]
            if not waiting:
                return
            if time.monotonic() > deadline:
                names = ", ".join(device.name for device in waiting[:5])
                raise TimeoutError(f"not all {what}: {len(waiting)}, such as {names}")
            self.check()
            # Looking at thousands takes milliseconds that they need themselves.
            await asyncio.sleep(0.02 + len(waiting) / 20_000)

    def check(self):
        """Raises what a device found wrong with the protocol."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise task.exception()

    async def catch_up(self, marks, seconds):
        """Waits until every device is at the marks {group: (epoch, offset)} of its groups."""

        def there(device):
            for group, at in device.positions.items():
                mark = marks.get(group)
                if mark is not None and (at[0] != mark[0] or at[1] < mark[1]):
                    return False
            groups = [*device.groups, device.inbox]
            return device.open and all(group in device.positions for group in groups)

        await self.wait(there, seconds, f"caught up within {seconds} s")
