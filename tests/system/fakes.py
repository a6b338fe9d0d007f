"""tests/system/fakes.py: the other side of a link, for what a real router or node never does.

FakeRouter speaks the frames of docs/PROTOCOL.md, "Between nodes and routers", as far as a node needs
them: beats of as many lives as it has, SYNCED, JOINED. FakeNode is a node with nobody in it."""

import threading

import msgpack
import zmq

from peal import DEADLINE_S

BEAT, JOIN, LEAVE, SYNC = 1, 2, 3, 4
BATCH, MESSAGE, JOINED = 12, 13, 14
SYNCED, CHECK, SYNC_SLOT, DIFFER = 19, 25, 26, 27
FIRST, LAST = 1, 2
BEAT_S = 0.25  # more often than a router, so that silence is not what is tested


class FakeRouter:
    """with FakeRouter(boots=[5, 6]) as router: its doors are router.doors."""

    def __init__(self, boots):
        self.boots = list(boots)  # who beats; the first one also answers
        self.seq = 0
        self.frames = []  # that nodes sent, but for beats
        self._changed = threading.Condition()
        self._context = zmq.Context()
        self._xpub = self._context.socket(zmq.XPUB)
        self._rpc = self._context.socket(zmq.ROUTER)
        self.doors = {"pull": "tcp://127.0.0.1:1"}
        for name, socket in (("xpub", self._xpub), ("rpc", self._rpc)):
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind("tcp://127.0.0.1:*")
            self.doors[name] = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._topics = set()
        self._to_say = []
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending = True
        self._thread.join()
        self._context.destroy()

    def say(self, frame):
        """Sends a frame to every node by its DEALER."""
        with self._changed:
            self._to_say.append(frame)

    def wait(self, matches):
        """The first frame from a node that matches."""
        with self._changed:
            found = []

            def look():
                found[:] = [frame for frame in self.frames if matches(frame)]
                return found

            assert self._changed.wait_for(look, DEADLINE_S), self.frames[-5:]
            return found[0]

    def _publish(self, topic, frame):
        self._xpub.send_multipart([topic, msgpack.packb(frame)])

    def _take(self, node, frame):
        if frame[0] == BATCH:
            for entry in frame[3]:
                self._take(node, msgpack.unpackb(entry))
            return
        if frame[0] == BEAT:
            return
        if frame[0] == SYNC and frame[2] & LAST:
            self._rpc.send_multipart([node, msgpack.packb([SYNCED, frame[1], self.boots[0]])])
        if frame[0] == JOIN:
            self.seq += 1
            joined = msgpack.packb([JOINED, frame[1], frame[2], 7, 3, 4])
            self._publish(node, [BATCH, self.boots[0], self.seq, [joined]])
        with self._changed:
            self.frames.append(frame)
            self._changed.notify_all()

    def _run(self):
        poller = zmq.Poller()
        poller.register(self._xpub, zmq.POLLIN)
        poller.register(self._rpc, zmq.POLLIN)
        while not self._ending:
            ready = dict(poller.poll(BEAT_S * 1000))
            if self._xpub in ready:
                event = self._xpub.recv()
                if event[:1] == b"\x01" and event[1:2] == b"n":
                    self._topics.add(event[1:])
            if self._rpc in ready:
                node, body = self._rpc.recv_multipart()
                self._take(node, msgpack.unpackb(body))
            with self._changed:
                to_say, self._to_say = self._to_say, []
            for topic in self._topics:
                for boot in self.boots:
                    self._publish(topic, [BATCH, boot, self.seq, []])
                for frame in to_say:
                    self._rpc.send_multipart([topic, msgpack.packb(frame)])


class FakeNode:
    """with FakeNode(router.doors, boot=1) as node: says what it is told to, and hears batches."""

    def __init__(self, doors, boot):
        self.topic = b"n%016x" % boot
        self.boot = boot
        self._context = zmq.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.setsockopt(zmq.ROUTING_ID, self.topic)
        for socket, door in ((self._sub, "xpub"), (self._dealer, "rpc")):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, DEADLINE_S * 1000)
            socket.connect(doors[door])
        self._sub.subscribe(self.topic)

    def __enter__(self):
        self.entry(None)  # a beat: the router knows the topic
        return self

    def __exit__(self, *_):
        self._context.destroy()

    def send(self, frame):
        self._dealer.send(msgpack.packb(frame))

    def answer(self):
        """The next frame by the DEALER."""
        return msgpack.unpackb(self._dealer.recv())

    def entry(self, kind):
        """The next entry of this kind, passing over others; with None the next batch. It says
        that it lives whenever something was heard."""
        while True:
            batch = msgpack.unpackb(self._sub.recv_multipart()[1])
            self.send([BEAT, self.boot])
            if kind is None:
                return batch
            for entry in map(msgpack.unpackb, batch[3]):
                if entry[0] == kind:
                    return entry
