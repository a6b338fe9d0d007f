"""One group, a thousand clients, four workers."""

import json
import pathlib

import pytest

from conservation import check_conservation
from crowd import Crowd
from doors import Push

CLIENTS = 1000
MESSAGES = 200
CONFIG = {
    "routes": [{"path": "/open", "dialect": "native", "identity": "anonymous"}],
    "groups": [{"match": "all", "join": "anyone", "history": {"messages": 0}}],
}


def worker_names(pid):
    tasks = pathlib.Path(f"/proc/{pid}/task")
    names = {(task / "comm").read_text().strip() for task in tasks.iterdir()}
    return sorted(name for name in names if name.startswith("worker "))


@pytest.mark.timeout(180)
def test_thousand_clients_get_every_message_once_in_order(start_peal):
    server = start_peal(CONFIG, args=["--set", "workers=4"])
    with Crowd(server.url, CLIENTS, "/open") as crowd:
        assert worker_names(server.pid) == [f"worker {n}" for n in range(4)]
        crowd.send_text('{"type":"hello","id":1,"groups":["all"]}')
        crowd.wait(1)
        for member in crowd.members:
            welcome = json.loads(member.texts.popleft())
            assert welcome["groups"]["all"]["recovered"] == "new"

        with Push(server.doors["pull"]) as push:
            for n in range(MESSAGES):
                push.send({"group": "all", "data": {"n": n}})
        crowd.wait(MESSAGES)
        for member in crowd.members:
            messages = [json.loads(text) for text in member.texts]
            assert [(m["offset"], m["data"]["n"]) for m in messages] == [
                (n + 1, n) for n in range(MESSAGES)
            ]

        # Nothing else follows: the next thing that everybody gets is the answer to this.
        crowd.send_text('{"type":"ping","id":2}')
        crowd.wait(MESSAGES + 1)
        assert {member.texts[-1] for member in crowd.members} == {b'{"type":"pong","id":2}'}
    check_conservation(server)
