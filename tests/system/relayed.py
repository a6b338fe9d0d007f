"""tests/system/relayed.py: routers, relays and nodes that hear the routers only by relays.

A test file imports the fixture start_relayed by its name; Reader accounts for all that a client
was told, Cut is a connection that can be cut, Ear hears what a relay hands out."""

import socket
import threading

import msgpack
import pytest
import zmq

from doors import Door
from native import Native
from peal import publish
from tokens import token

CONFIG = {
    "groups": [
        {"match": "room:*", "history": {"messages": 1000}, "join": "anyone", "publish": "members"},
        {"match": "live:*", "join": "anyone", "publish": "members", "history": {"messages": 0}},
    ],
    # What one node holds in the large test, over few connections.
    "limits": {"groups_per_connection": 20000},
}
ROOMS = [f"room:{n}" for n in range(8)]  # on both routers


class Cut:
    """A TCP connection with scissors: forwards a port to another one, until it is cut."""

    def __init__(self, endpoint):
        host, port = endpoint.removeprefix("tcp://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = True
        self._pairs = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()
        self._listener.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if not self._open:
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass

    def cut(self):
        """Ends every connection, and each new one until it is mended."""
        with self._lock:
            self._open = False
            for pair in self._pairs:
                for end in pair:
                    try:
                        end.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
                    end.close()
            self._pairs.clear()

    def mend(self):
        with self._lock:
            self._open = True


@pytest.fixture
def start_relayed(start_peal):
    """start_relayed(routers=2, relays=1, nodes=3): the three lists. Nodes use only the relays."""

    def start(routers=2, relays=1, nodes=3, through=lambda router: router.doors):
        all_routers = [start_peal(CONFIG, verb="router") for _ in range(routers)]
        seen = [through(router) for router in all_routers]
        any_ports = ["tcp://127.0.0.1:*"] * routers
        relay = {"cluster": {"routers": seen}, "doors": {"relay": any_ports}}
        all_relays = [start_peal(relay, verb="relay") for _ in range(relays)]
        # Nodes cannot connect to a router's XPUB: nothing listens there.
        cluster = {
            "routers": [{**r.doors, "xpub": "tcp://127.0.0.1:1"} for r in all_routers],
            "via": [{"xpub": r.doors["xpub"]} for r in all_relays],
        }
        all_nodes = [start_peal({**CONFIG, "cluster": cluster}, verb="node") for _ in range(nodes)]
        return all_routers, all_relays, all_nodes

    return start


class Reader:
    """A client in all rooms that accounts for every offset: a message, or a gap that says so."""

    def __init__(self, node, name, groups=tuple(ROOMS)):
        self.client = Native(node.url, token(name), groups=list(groups))
        welcome = self.client.welcome["groups"]
        while any(w.get("recovered") == "pending" for w in welcome.values()):
            joined = self.client.next("joined")
            if joined["group"] in welcome:
                welcome[joined["group"]] = joined
        self.at = {g: (w["epoch"], w["offset"]) for g, w in welcome.items() if g in groups}
        self.gaps = []
        self.data = {group: [] for group in groups}

    def take(self, frame):
        group = frame.get("group")
        if group not in self.at:
            return
        epoch, offset = self.at[group]
        if frame["type"] == "gap":
            self.gaps.append(frame)
            self.at[group] = (frame["epoch"], frame["to"])
        elif frame["type"] == "message":
            assert frame["offset"] == offset + 1
            self.at[group] = (epoch, frame["offset"])
            self.data[group].append(frame["data"])

    def read_up_to(self, receipts):
        """Everything until it has seen each of these messages."""
        missing = {receipt["id"]: receipt for receipt in receipts}
        while missing:
            frame = self.client.next()
            self.take(frame)
            receipt = missing.pop(frame.get("id"), None)
            if receipt is not None:
                assert self.at[receipt["group"]] == (receipt["epoch"], receipt["offset"])

    def wait_linked(self):
        while self.client.next("degraded")["on"]:
            pass


def round_of(nodes, value):
    return [publish(nodes[i % len(nodes)], group=g, data=value) for i, g in enumerate(ROOMS)]


def read_round(readers, nodes, value):
    """A message in every room, read by all."""
    receipts = round_of(nodes, value)
    for reader in readers:
        reader.read_up_to(receipts)


def close(readers):
    for reader in readers:
        reader.client.close()


class Ear(Door):
    """A node that never says a word: what a door of a relay has for it and for all."""

    def __init__(self, endpoint, boot):
        super().__init__(endpoint, zmq.SUB, 0)
        self.topic = b"n%016x" % boot
        self.socket.subscribe(self.topic)
        self.socket.subscribe(b"all")

    def next(self, topic):
        while True:
            at, body = self.socket.recv_multipart()
            if at == topic:
                return msgpack.unpackb(body)
