"""tests/system/bus.py: keys for the bus between processes, and peers that do not keep the rules."""

import contextlib
import os
import socket
import time

import zmq

from command import run
from metrics import read_metrics
from peal import DEADLINE_S, wait_until


class Keys:
    """A folder with key files made by `peal keygen`, and the list of peers."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.public = {}
        self.peers_file = directory / "peers"

    def make(self, *names):
        for name in names:
            done = run("keygen", self.file(name))
            assert (done.returncode, done.stderr) == (0, ""), done
            self.public[name] = done.stdout.rstrip("\n")
        return self

    def file(self, name):
        return self.directory / name

    def secret(self, name):
        (line,) = [x for x in self.file(name).read_text().splitlines() if x.startswith("secret ")]
        return line.split(" ")[1]

    def allow(self, **roles):
        """Writes the list: name=role."""
        lines = [f"{self.public[name]} {role} {name}\n" for name, role in roles.items()]
        self.peers_file.write_text("# who may connect\n" + "".join(lines))
        self.peers_file.chmod(0o644)
        return self

    def curve(self, name, server="router"):
        """(public, secret, server's public) as pyzmq wants them."""
        keys = self.public[name], self.secret(name), self.public[server]
        return tuple(key.encode() for key in keys)

    def router(self):
        """Settings of a router."""
        return {"bus": {"key_file": str(self.file("router")), "peers_file": str(self.peers_file)}}

    def node(self, router, name="node", key="router"):
        """Settings of a node that connects to the running router."""
        there = {**router.doors, "key": self.public[key]}
        return {"bus": {"key_file": str(self.file(name))}, "cluster": {"routers": [there]}}

    def relay(self, *routers):
        """Settings of a relay of running routers."""
        there = [{**router.doors, "key": self.public["router"]} for router in routers]
        doors = {"relay": ["tcp://127.0.0.1:*"] * len(routers)}
        bus = {"key_file": str(self.file("relay")), "peers_file": str(self.peers_file)}
        return {"bus": bus, "doors": doors, "cluster": {"routers": there}}

    def node_via(self, router, relay, name="node", key="relay"):
        """Settings of a node that hears the router by a relay, and cannot otherwise."""
        config = self.node(router, name)
        config["cluster"]["routers"][0]["xpub"] = "tcp://127.0.0.1:1"
        config["cluster"]["via"] = [{"xpub": relay.doors["xpub"], "key": self.public[key]}]
        return config


@contextlib.contextmanager
def zmq_socket(endpoint, kind, curve=None, routing_id=None):
    """A socket of pyzmq, with or without keys."""
    context = zmq.Context()
    made = context.socket(kind)
    try:
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.RCVTIMEO, DEADLINE_S * 1000)
        made.setsockopt(zmq.SNDTIMEO, DEADLINE_S * 1000)
        made.setsockopt(zmq.RECONNECT_IVL, 50)
        if routing_id is not None:
            made.setsockopt(zmq.ROUTING_ID, routing_id)
        if curve is not None:
            made.curve_publickey, made.curve_secretkey, made.curve_serverkey = curve
        made.connect(endpoint)
        yield made
    finally:
        made.close()
        context.term()


def wait_counted(server, name, least, timeout=DEADLINE_S):
    """Waits until a counter has at least that value; returns all of them."""
    deadline = time.monotonic() + timeout
    while True:
        metrics = read_metrics(server)
        if metrics[name] >= least:
            return metrics
        assert time.monotonic() < deadline, (name, least, metrics[name], server.log.text()[-3000:])
        time.sleep(0.05)


# Two sides with different mechanisms both notice, and who is first ends the connection: the router
# has seen the other mechanism, or only that the connection broke.
OTHER_MECHANISM = ("protocol", "broken")


def wait_ready(server, timeout=DEADLINE_S):
    """Waits until a node trusts its links."""
    ready = lambda: server.api.get("/readyz").status == 200
    wait_until(ready, "the node is not ready", timeout)


def wait_refused(server, reasons, least=1):
    """Waits until so many handshakes have been refused for one of the reasons."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        metrics = read_metrics(server)
        counts = [metrics[f'peal_bus_refused_total{{reason="{reason}"}}'] for reason in reasons]
        if sum(counts) >= least:
            return metrics
        assert time.monotonic() < deadline, (reasons, least, counts, server.log.text()[-3000:])
        time.sleep(0.05)


# ---- raw connections --------------------------------------------------------------------------

GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" * 32


def command(name, body=b""):
    body = bytes([len(name)]) + name + body
    return b"\x04" + bytes([len(body)]) + body


def ready(kind):
    return command(b"READY", b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind)


def long_frame(size, flags=2):
    """The head of a frame that says it has size bytes."""
    return bytes([flags]) + size.to_bytes(8, "big")


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": b"\0" * 100,
    "ones": b"\xff" * 300,
    "random": os.urandom(4096),
    "tls": bytes.fromhex("16030102000100") + os.urandom(509),
    "zmtp1": b"\x01\x00" + b"\x05\x00abcd" * 10,
    "zmtp2": b"\xff" + b"\0" * 8 + b"\x7f\x01\x05" + b"\0\0" + b"\0\x04abcd" * 10,
    "other mechanism": GREETING.replace(b"NULL", b"XXXX"),
    "huge command": GREETING + long_frame(1 << 62, 6) + b"x" * 100,
    "huge frame": GREETING + ready(b"DEALER") + long_frame(1 << 62) + b"x" * 100,
    "frame of 17 MiB": GREETING + ready(b"DEALER") + long_frame(17 << 20) + b"x" * 100,
    "curve garbage": GREETING.replace(b"NULL\0", b"CURVE") + command(b"HELLO", os.urandom(194)),
}


def tcp(door):
    """A plain connection to a door such as tcp://127.0.0.1:7800."""
    host, port = door.removeprefix("tcp://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=DEADLINE_S)


def wait_closed(connection):
    """Reads until the other side has closed; TimeoutError when it does not."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
