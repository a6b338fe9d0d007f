"""tests/system/leaving.py: servers that are told to stop while others look on."""

import signal
import threading
import time

END_S = 5  # for farewells, beyond drain.settle + drain.spread
ROUTES = [
    {"path": "/n/{user}", "dialect": "native", "identity": "url"},
    {
        "path": "/r/{user}",
        "dialect": "raw",
        "identity": "url",
        "join": ["user:{identity}"],
        "inbound": "echo",
    },
]
GROUPS = [
    {"match": "user:{id}", "durable": True, "keep": {"messages": 8192}},
    {"match": "*", "history": {"messages": 10000}, "join": "anyone"},
]


def config(settle="1s", spread="4s", **more):
    return {
        "routes": ROUTES,
        "groups": GROUPS,
        "log_level": "debug",
        "drain": {"settle": settle, "spread": spread},
        **more,
    }


def in_background(server):
    """SIGTERM; returns a function that waits for the end and gives (exit code, seconds)."""
    began = time.monotonic()
    ended = []

    def wait():
        ended.append((server.exit_code(), time.monotonic() - began))

    server.signal(signal.SIGTERM)
    thread = threading.Thread(target=wait)
    thread.start()

    def result(timeout=0):
        thread.join(timeout)
        return ended[0] if ended else None

    return result
