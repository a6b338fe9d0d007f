"""tests/cluster/net.py: a network of namespaces: one for each process, joined by a bridge.

    with Net() as net:                  # the calling thread is inside, beside the bridge
        host = net.add()                # a namespace with an address of its own
        subprocess.Popen([*host.wrapper, ...])
        host.cut([other.address])       # packets to and from there vanish
        host.heal()

Nothing of it has a name in the file system, and nothing outside changes: a namespace lives while
this process holds its file or something runs in it. Needs root.
"""

import contextlib
import ctypes
import os
import subprocess
import threading

CLONE_NEWNET = 0x40000000
PREFIX = "10.213.0"
GATE = f"{PREFIX}.1"  # the bridge's own address: where clients and publishers are

_libc = ctypes.CDLL(None, use_errno=True)


def is_possible():
    return os.geteuid() == 0


def _enter(fd):
    """Moves the calling thread; those that it starts later are born there."""
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _here():
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _new_namespace():
    """The file of a new one, made by a thread that then goes away."""
    made = []

    def run():
        if _libc.unshare(CLONE_NEWNET) == 0:
            made.append(_here())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if not made:
        raise PermissionError("no new network namespace; are you root?")
    return made[0]


class Space:
    """One namespace."""

    def __init__(self):
        self.fd = _new_namespace()
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self):
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @property
    def wrapper(self):
        """In front of a command: it becomes the program by exec, so the pid is the program's."""
        return ["nsenter", f"--net={self.path}", "--"]

    def run(self, *command, input=None):
        command = [*self.wrapper, *command]
        done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=10)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")

    def close(self):
        os.close(self.fd)


def enter_new_network():
    """Moves the calling thread, for good, to a namespace in which only it and its children are."""
    with contextlib.closing(Space()) as space:
        _enter(space.fd)


class Host(Space):
    """A namespace with one address on the bridge."""

    def __init__(self, bridge, number):
        super().__init__()
        self.address = f"{PREFIX}.{number}"
        port = f"port{number}"
        bridge.run("ip", "link", "add", port, "type", "veth", "peer", "eth0", "netns", self.path)
        bridge.run("ip", "link", "set", port, "master", "bridge", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def cut(self, addresses, ways=("input", "output")):
        """Drops what comes from these addresses (input), what goes there (output), or both.

        One transaction, so that both ways end at the same moment."""
        peers = ", ".join(addresses)
        sides = {"input": "saddr", "output": "daddr"}
        rules = "".join(
            f"chain {way} {{ type filter hook {way} priority 0; ip {sides[way]} {{ {peers} }} drop; }}\n"
            for way in ways
        )
        self.run("nft", "-f", "-", input=f"table ip cut {{\n{rules}}}\n")

    def heal(self):
        self.run("nft", "delete", "table", "ip", "cut")


class Net:
    def __init__(self):
        self._stack = contextlib.ExitStack()
        self._hosts = 0

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            outside = _here()
            stack.callback(os.close, outside)
            self.bridge = stack.enter_context(contextlib.closing(Space()))
            self.bridge.run("ip", "link", "add", "bridge", "type", "bridge")
            self.bridge.run("ip", "address", "add", f"{GATE}/24", "dev", "bridge")
            self.bridge.run("ip", "link", "set", "bridge", "up")
            _enter(self.bridge.fd)
            stack.callback(_enter, outside)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def add(self):
        self._hosts += 1
        return self._stack.enter_context(contextlib.closing(Host(self.bridge, 10 + self._hosts)))
