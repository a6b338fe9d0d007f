"""tests/system/routers.py: several routers that know of each other, and nodes for them.

A test file imports the fixture start_routers by its name."""

import socket

import pytest

CONFIG = {
    "groups": [
        {"match": "room:*", "history": {"messages": 1000}, "join": "anyone", "publish": "members"},
        {"match": "log:*", "durable": True, "join": "anyone", "publish": "members"},
    ],
}


def free_doors():
    """Endpoints that nobody uses: a router has to be named in the list before it starts."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return {name: f"tcp://127.0.0.1:{port}" for name, port in zip(("pull", "xpub", "rpc"), ports)}


class Routers:
    """The list of routers as it grows, and what runs of it."""

    def __init__(self, start_peal, count):
        self._start_peal = start_peal
        self.doors = [free_doors() for _ in range(count)]
        self.all = []
        self.nodes = []

    def cluster(self, number=0):
        return {"self": str(number), "routers": list(self.doors)}

    def start_router(self):
        """The next one of the list."""
        number = len(self.all)
        config = {**CONFIG, "cluster": self.cluster(number), "doors": self.doors[number]}
        self.all.append(self._start_peal(config, verb="router"))
        return self.all[-1]

    def start_node(self):
        self.nodes.append(self._start_peal({**CONFIG, "cluster": self.cluster()}, verb="node"))
        return self.nodes[-1]

    def restart(self, number):
        """With the list as it is now."""
        router = self.all[number]
        router.stop()
        router.config["cluster"] = self.cluster(number)
        router.start()

    def restart_node(self, number):
        node = self.nodes[number]
        node.stop()
        node.config["cluster"] = self.cluster()
        node.start()


@pytest.fixture
def start_routers(start_peal):
    """start_routers(routers=2, nodes=2): Routers, all started."""

    def start(routers=2, nodes=2):
        cluster = Routers(start_peal, routers)
        for _ in range(routers):
            cluster.start_router()
        for router in cluster.all:
            router.wait_for("slots.written")
        for _ in range(nodes):
            cluster.start_node()
        return cluster

    return start
