"""tests/cluster/rig.py: routers and nodes, each with its folder, ports and log.

    with Rig(folder, routers=2, nodes=3) as rig:            # on loopback
    with Net() as net, Rig(folder, 2, 2, net=net) as rig:   # each in a namespace of its own
        rig.routers[0].kill()
        rig.routers[0].start()

The processes are those of tests/system/peal.py. When the rig ends all of them end, by their pids;
one that ended by itself, does not stop or reported a bug makes that fail.
"""

import contextlib
import pathlib

from front import Front, free_ports
from peal import Peal

GROUPS = [
    {
        "match": "user:{id}",
        "durable": True,
        "keep": {"messages": 8192, "bytes": "256MiB"},
        "publish": "anyone",
    },
    {"match": "bare:*", "history": {"messages": 0}, "join": "anyone", "publish": "members"},
    {
        "match": "*",
        "history": {"messages": 1000, "age": "5m"},
        "join": "anyone",
        "publish": "members",
    },
]


class Rig:
    def __init__(self, directory, routers=2, nodes=3, config=None, net=None, wrapper=()):
        """config: settings on top of those here, for all processes.

        wrapper: a command in front of each, see Peal."""
        self.directory = pathlib.Path(directory)
        self.net = net
        self.router_hosts = [self._host() for _ in range(routers)]
        self.node_hosts = [self._host() for _ in range(nodes)]
        self._wrapper = list(wrapper)
        self._config = {"workers": 2, "groups": GROUPS, **(config or {})}
        self._stack = contextlib.ExitStack()
        self.routers = self._make_routers()
        self.nodes = [self._make("node", i, host) for i, host in enumerate(self.node_hosts)]
        self.front = None  # the last of them
        self._fronts = 0

    def _host(self):
        return self.net.add() if self.net is not None else None

    def _make_routers(self):
        # Every router must be able to know all doors before one has started.
        self.doors = []
        for host in self.router_hosts:
            address = host.address if host else "127.0.0.1"
            # In a namespace of its own nobody else can have taken them.
            ports = [7800, 7801, 7802] if host else free_ports(3)
            names = zip(("pull", "xpub", "rpc"), ports)
            self.doors.append({name: f"tcp://{address}:{port}" for name, port in names})
        return [self._make("router", i, host) for i, host in enumerate(self.router_hosts)]

    def _make(self, verb, number, host):
        config = {**self._config, "cluster": {"routers": self.doors}}
        wrapper = list(self._wrapper)
        if verb == "router":
            config["cluster"]["self"] = str(number)
            config["doors"] = self.doors[number]
        if host is not None:
            wrapper += host.wrapper
            config["listen"] = f"{host.address}:8080"
            config["bus"] = {"insecure": True}  # nobody else is on this network
        server = Peal(self.directory / f"{verb}{number}", config, verb=verb, wrapper=wrapper)
        if host is not None:
            server.config["api"]["listen"] = f"{host.address}:8081"
        return server

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for server in [*self.routers, *self.nodes]:
                # Entered before it starts: what is running when the next one fails ends as well.
                stack.push(server.__exit__)
                server.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *why):
        return self._stack.__exit__(*why)

    def put_in_front(self, kind, **options):
        """Another nginx or haproxy, until the rig ends. Returns it; a client connects to its url."""
        folder = self.directory / f"{kind}{self._fronts}"
        self._fronts += 1
        front = Front(folder, kind, self.nodes, **options)
        self._stack.enter_context(front)
        self.front = front
        return front

    @property
    def web_urls(self):
        return [node.url for node in self.nodes]

    @property
    def api_urls(self):
        return [node.api_url for node in self.nodes]
