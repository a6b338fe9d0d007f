"""bench/servers.py: the servers under load, in the configuration of the benchmarks.

    with start("dev", programs, folder, settings) as server:
        server.pids["peal"], server.addresses, server.endpoints["push"]

`dev` is Peal in one process, `4x8` are four routers and eight nodes, each a process, and `curve` is
`1x1` with CURVE; `send` and `coal` are the floor in its two modes (bench/floor.c). `redis`
syncs its append-only file before it answers. `store` and `file` are no servers: peal-keep has them
in its own process. Ports are chosen by the kernel.
"""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from process import DEADLINE_S, STOP_S, Process, ProcessError

API_KEY = "key-of-the-benchmarks"
SECRET = "secret-of-the-benchmarks-32-bytes-long"

ANY_PORT = "tcp://127.0.0.1:*"

# On the raw routes the same bytes are on the wire as with the floor. The rules for groups are
# those that Peal adds by itself, except that everybody may join, as in `peal dev`.
CONFIG = {
    "listen": "127.0.0.1:0",
    "api": {"listen": "127.0.0.1:0", "keys": [API_KEY]},
    "auth": {"keys": [{"alg": "HS256", "secret": SECRET}]},
    "doors": {"pull": ANY_PORT, "xpub": ANY_PORT, "rpc": ANY_PORT},
    "routes": [
        {"path": "/b/{group}", "dialect": "raw", "identity": "anonymous", "join": ["{group}"]},
        {"path": "/t/{group}", "dialect": "raw", "identity": "token", "join": ["{group}"]},
        {"path": "/inbox", "dialect": "raw", "identity": "token", "join": ["user:{identity}"]},
        {"path": "/n", "dialect": "native", "identity": "anonymous"},
    ],
    "groups": [
        {"match": "user:{id}", "durable": True},
        {"match": "*", "history": {"messages": 100, "age": "5m"}, "join": "anyone"},
    ],
}


@dataclasses.dataclass(frozen=True)
class Programs:
    peal: pathlib.Path
    floor: pathlib.Path
    load: pathlib.Path
    keep: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Server:
    pids: dict  # name of the process: its pid
    addresses: list  # HOST:PORT for browsers, of each node
    endpoints: dict  # door: where it is; push: of each router, in order
    secure: tuple = ()  # options of peal-load for a ZeroMQ door with CURVE
    into: tuple = ()  # options of peal-keep: where messages are put
    notes: list = dataclasses.field(default_factory=list)  # complete when it has ended


@contextlib.contextmanager
def start(kind, programs, folder, settings, stop_s=STOP_S):
    """The running server. settings: keys of the configuration that replace those of CONFIG.

    ProcessError: it did not get ready, ended by itself, or did not end with exit code 0."""
    with contextlib.ExitStack() as stack:
        processes = []

        def run(name, *command):
            processes.append(stack.enter_context(Process(name, command, folder)))
            return processes[-1]

        if kind == "dev":
            server = start_dev(programs, run, folder, settings)
        elif kind == "curve":
            server = start_curve(programs, run, folder, settings)
        elif kind in ("send", "coal"):
            server = start_floor(programs, run, kind)
        elif kind == "redis":
            server = start_redis(run, folder)
        elif kind == "file":
            server = Server({}, [], {}, into=("--into", "file", "--folder", folder))
        elif kind == "store":
            config = write_config(folder, "dev", settings)
            server = Server({}, [], {}, into=("--into", "store", "--config", config))
        else:
            sizes = [int(size) for size in kind.split("x")]
            server = start_cluster(programs, run, folder, settings, *sizes)
        yield server
        ends = [check_end(process, stop_s) for process in reversed(processes)]
        server.notes.extend(note for note in ends if note is not None)


def start_dev(programs, run, folder, settings):
    peal = run("peal", programs.peal, "dev", "-c", write_config(folder, "dev", settings))
    web, api, doors = read_addresses(peal, has_doors=True)
    into = ("--into", "door", "--endpoint", doors["rpc"])
    return Server({"peal": peal.pid}, [web], endpoints(api, [doors]), into=into)


def start_cluster(programs, run, folder, settings, router_count, node_count):
    # Each has to know where all routers are before the first one runs.
    routers = [
        {door: f"tcp://127.0.0.1:{port}" for door, port in zip(("pull", "xpub", "rpc"), ports)}
        for ports in free_ports(router_count, 3)
    ]
    cluster = {**settings, "cluster": {"routers": routers}}
    pids = {}

    def start_part(verb, number, count, **own):
        name = verb if count == 1 else f"{verb} {number}"
        config = write_config(folder, name.replace(" ", "-"), {**cluster, **own})
        process = run(name, programs.peal, verb, "-c", config)
        pids[name] = process.pid
        return process

    for number, doors in enumerate(routers):
        own = {"doors": doors, "cluster": {"self": str(number), "routers": routers}}
        router = start_part("router", number, router_count, **own)
        read_addresses(router, has_doors=True)
    nodes = [start_part("node", number, node_count) for number in range(node_count)]
    found = [read_addresses(node, has_doors=False) for node in nodes]
    webs = [web for web, _, _ in found]
    return Server(pids, webs, endpoints(found[0][1], routers))


def free_ports(groups, each):
    """Ports that nobody has now, in so many groups of so many."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(groups * each)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return [ports[i : i + each] for i in range(0, len(ports), each)]


def start_curve(programs, run, folder, settings):
    folder = pathlib.Path(folder)
    public = {}
    for name in ("router", "node", "publisher"):
        command = [programs.peal, "keygen", folder / f"{name}.key"]
        public[name] = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        public[name] = public[name].strip()
    peers = folder / "peers"
    peers.write_text("".join(f"{public[name]} {name}\n" for name in ("node", "publisher")))
    peers.chmod(0o600)

    def bus(name):
        return {"key_file": str(folder / f"{name}.key"), "peers_file": str(peers)}

    ours = {**settings, "bus": bus("router")}
    router = run("router", programs.peal, "router", "-c", write_config(folder, "router", ours))
    _, _, doors = read_addresses(router, has_doors=True)
    there = {**doors, "key": public["router"]}
    ours = {**settings, "bus": bus("node"), "cluster": {"routers": [there]}}
    node = run("node", programs.peal, "node", "-c", write_config(folder, "node", ours))
    web, api, _ = read_addresses(node, has_doors=False)
    secure = ("--bus-key", folder / "publisher.key", "--router-key", public["router"])
    pids = {"router": router.pid, "node": node.pid}
    return Server(pids, [web], endpoints(api, [doors]), secure)


def start_floor(programs, run, mode):
    floor = run("floor", programs.floor, "--port", 0, "--publish-port", 0, "--mode", mode)
    ports = json.loads(floor.line("{"))
    publish = f"tcp://127.0.0.1:{ports['publish_port']}"
    return Server({"floor": floor.pid}, [f"127.0.0.1:{ports['port']}"], {"floor": [publish]})


def start_redis(run, folder):
    """Everything that is off here would only cost redis something."""
    if shutil.which("redis-server") is None:
        raise ProcessError("there is no redis-server; it is the Debian package redis-server")
    ((port,),) = free_ports(1, 1)
    options = {
        "--bind": "127.0.0.1",
        "--port": port,
        "--dir": folder,
        "--logfile": "redis.log",
        "--save": "",
        "--appendonly": "yes",
        "--appendfsync": "always",
        "--auto-aof-rewrite-percentage": 0,
    }
    words = [word for pair in options.items() for word in pair]
    redis = run("redis", "redis-server", *words)
    deadline = time.monotonic() + DEADLINE_S
    while not redis_answers(port):
        if redis.code is not None or time.monotonic() > deadline:
            raise ProcessError(f"redis: does not answer\n{redis.told()}")
        time.sleep(0.01)
    endpoint = f"tcp://127.0.0.1:{port}"
    return Server({"redis": redis.pid}, [], {}, into=("--into", "redis", "--endpoint", endpoint))


def redis_answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def data_folder(folder):
    """Where `dev` and `store` have their store."""
    return pathlib.Path(folder) / "dev-data"


def write_config(folder, name, settings):
    path = pathlib.Path(folder) / f"{name}.yaml"
    data = {"data": str(pathlib.Path(folder) / f"{name}-data")}
    # JSON is YAML, and needs no package to write.
    path.write_text(json.dumps({**CONFIG, **data, **settings}), encoding="utf-8")
    path.chmod(0o600)
    return path


def read_addresses(process, has_doors):
    """(web, api, doors) from the lines that Peal prints; web of a router is no address."""

    def host(url):
        return url.removeprefix("http://").rstrip("/")

    web = host(process.line("peal: ready ").split()[2])
    api = host(process.line("peal: api ").split()[2])
    doors = {}
    if has_doors:
        words = process.line("peal: doors ").split()[2:]
        doors = dict(word.split("=", 1) for word in words)
    return web, api, doors


def endpoints(api, doors):
    pulls = [router["pull"] for router in doors]
    return {"push": pulls, "rpc": [doors[0]["rpc"]], "http": [f"tcp://{api}"]}


def check_end(process, stop_s):
    """Ends a server and judges how it ended. Returns what there is to note, or None.

    A slow stop takes nothing from what was measured before; a crash does."""
    crashed = process.code is not None
    if not process.end(stop_s):
        return f"{process.name} did not stop within {stop_s} s and was killed"
    # The floor has no state to put in order, so the signal may end it.
    if crashed or process.code not in (0, -signal.SIGTERM):
        raise ProcessError(f"{process.name}: ended with {process.code}\n{process.told()}")
    return None
