"""One of two relays dies, and a router behind a relay: who is left goes on."""

from metrics import read_metrics
from peal import wait_until
from relayed import ROOMS, Reader, close, read_round, round_of, start_relayed

__all__ = ["start_relayed"]


def test_node_takes_the_other_relay_when_its_own_is_gone(start_relayed):
    _, relays, nodes = start_relayed(relays=2, nodes=2)
    readers = [Reader(node, f"user{i}") for i, node in enumerate(nodes)]
    for number, relay in enumerate(relays):
        relay.kill()
        # The nodes that used it do not know yet; what is said now comes by the other one.
        read_round(readers, nodes, number)
        relay.start()
        wait_until(lambda r=relay: r.api.get("/readyz").status == 200, "the relay is not back")
        for node in nodes:
            wait_until(lambda n=node: n.api.get("/readyz").status == 200, "a node is not ready")
    for reader in readers:
        assert not reader.gaps
        assert all(data == [0, 1] for data in reader.data.values())
    for node in nodes:  # whichever it began with, it was killed once
        assert read_metrics(node)["peal_link_detours_total"] >= 2  # one for each router
    close(readers)


def test_router_killed_behind_the_relay_is_noticed_and_synced(start_relayed):
    routers, (relay,), nodes = start_relayed()
    readers = [Reader(node, f"user{i}") for i, node in enumerate(nodes)]
    read_round(readers, nodes, "before")
    routers[0].kill()
    relay.wait_for("uplink.down", router=0)
    wait_until(lambda: relay.api.get("/readyz").status == 503, "a relay without a router is ready")
    for reader in readers:
        assert reader.client.next("degraded")["on"] is True
    # The other router's groups go on, through the same relay.
    alive = []
    for group in ROOMS:
        answer = nodes[0].api.post("/v1/publish", {"group": group, "data": "alive"})
        assert answer.status == 200 or answer.json["error"]["code"] == "no_router"
        if answer.status == 200:
            alive.append(answer.json)
    assert 0 < len(alive) < len(ROOMS)
    for reader in readers:
        reader.read_up_to(alive)
        assert not reader.gaps

    routers[0].start()
    for reader in readers:
        reader.wait_linked()
    assert relay.api.get("/readyz").status == 200
    after = round_of(nodes, "after")
    kept = {r["group"] for r in alive}
    for reader in readers:
        reader.read_up_to(after)
        # In memory only: the dead router's groups began anew, and those with members say so.
        assert kept.isdisjoint(gap["group"] for gap in reader.gaps)
        assert all(gap["why"] == "epoch" for gap in reader.gaps)
        assert all(data[-1] == "after" for data in reader.data.values())
    assert read_metrics(relay)["peal_relay_reconnects_total"] == 1
    close(readers)
