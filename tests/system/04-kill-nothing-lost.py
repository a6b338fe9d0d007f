"""kill -9 right after `stored`, again and again: what was acknowledged is there afterwards."""

import http.client
import itertools
import json
import threading

import pytest

from conservation import check_conservation
from native import Native
from peal import API_KEY
from tokens import token

ROUNDS = 200
USERS = [f"user-{n}" for n in range(5)]
BATCHES = 8  # acknowledged ones per round, before the kill
KEEP = {"messages": 8192, "bytes": "256MiB"}
CONFIG = {"groups": [{"match": "user:{id}", "durable": True, "keep": KEEP}]}
HEADERS = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}


class Publisher:
    """Publishes one batch after the other, one message to each user, until the server is gone."""

    def __init__(self, numbers):
        self.numbers = numbers
        self.acked = []  # (user, epoch, offset, number)

    def run(self, address, enough):
        """Calls enough() as soon as the first BATCHES are acknowledged."""
        connection = http.client.HTTPConnection(address, timeout=30)
        try:
            for count in itertools.count(1):
                number = next(self.numbers)
                batch = [{"user": user, "data": {"n": number}} for user in USERS]
                connection.request("POST", "/v1/publish", json.dumps(batch), HEADERS)
                response = connection.getresponse()
                results = json.loads(response.read())["results"]
                for user, result in zip(USERS, results):
                    assert result.get("ack") == "stored", result
                    self.acked.append((user, result["epoch"], result["offset"], number))
                if count == BATCHES:
                    enough()
        except (OSError, http.client.HTTPException):
            pass  # killed
        finally:
            connection.close()


def stored(server, user):
    """{offset: number} of the whole inbox, and the order in which it was listed."""
    found, query = [], ""
    while True:
        page = server.api.get(f"/v1/inbox/{user}?limit=200{query}").json
        found += [(m["offset"], m["data"]["n"]) for m in page["messages"]]
        if "next" not in page:
            return found
        query = f"&before={page['next']}"


@pytest.mark.timeout(300)
def test_inbox_after_200_kills_holds_every_acknowledged_message(start_peal):
    numbers = itertools.count(1)  # shared by both publishers; next() on it is atomic
    publishers = [Publisher(numbers), Publisher(numbers)]
    server = start_peal(CONFIG)
    for _ in range(ROUNDS):
        address = server.api.address
        threads = [
            # The second one is in the middle of something when the first one kills.
            threading.Thread(target=publishers[0].run, args=(address, server.process.kill)),
            threading.Thread(target=publishers[1].run, args=(address, lambda: None)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.kill()
        server.start()

    acked = publishers[0].acked + publishers[1].acked
    assert len(publishers[0].acked) >= ROUNDS * BATCHES * len(USERS)
    assert len({(user, epoch) for user, epoch, _, _ in acked}) == len(USERS)  # one epoch each
    assert len({(user, offset) for user, _, offset, _ in acked}) == len(acked)  # no number twice
    for user in USERS:
        inbox = stored(server, user)
        offsets = [offset for offset, _ in inbox]
        assert offsets == list(range(len(inbox), 0, -1)), f"{user}: not complete or not in order"
        by_offset = dict(inbox)
        lost = [a for a in acked if a[0] == user and by_offset.get(a[2]) != a[3]]
        assert lost == []
        check_replay(server, user, inbox)
    check_conservation(server)


def check_replay(server, user, inbox):
    """A client that connects gets all of it, in order, none twice."""
    with Native(server.url, token(user)) as client:
        messages = client.messages(len(inbox))
        assert [(m["offset"], m["data"]["n"]) for m in messages] == inbox[::-1]
        assert client.settled() == []
