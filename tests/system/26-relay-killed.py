"""A relay dies and comes back: every group with it, every loss repaired or told."""

from conservation import check_conservation
from metrics import read_metrics
from native import Native
from peal import publish, wait_until
from relayed import Reader, close, read_round, round_of, start_relayed
from tokens import token

__all__ = ["start_relayed"]


def test_relay_killed_and_started_again_brings_everything_back(start_relayed):
    routers, (relay,), nodes = start_relayed()
    readers = [Reader(node, f"user{i}") for i, node in enumerate(nodes)]
    read_round(readers, nodes, "before")
    relay.kill()
    # The nodes still reach the routers and do not know yet: these are lost on the link.
    lost = round_of(nodes, "lost")
    for reader in readers:
        assert reader.client.next("degraded")["on"] is True
    relay.start()
    for reader in readers:
        reader.wait_linked()
    after = round_of(nodes, "after")
    for reader in readers:
        reader.read_up_to(lost + after)
        # The rooms keep messages: each loss was repaired, in order, and none had to be told.
        assert not reader.gaps
        assert all(data == ["before", "lost", "after"] for data in reader.data.values())
    close(readers)
    check_conservation(*routers, relay, *nodes)


def test_loss_that_cannot_be_repaired_is_told_as_gap(start_relayed):
    _, (relay,), nodes = start_relayed(nodes=1)
    groups = [f"live:{n}" for n in range(8)]
    reader = Reader(nodes[0], "ann", groups)
    relay.kill()
    for group in groups:
        publish(nodes[0], group=group, data="lost")
    assert reader.client.next("degraded")["on"] is True
    relay.start()
    reader.wait_linked()
    told = set()
    while told != set(groups):
        gap = reader.client.next("gap")
        assert gap["why"] == "unrepaired" or gap["why"] == "evicted", gap
        told.add(gap["group"])
    after = [publish(nodes[0], group=g, data="after") for g in groups]
    for receipt in after:
        assert receipt["offset"] == 2
    assert {m["data"] for m in reader.client.messages(len(groups))} == {"after"}
    close([reader])


def test_twenty_thousand_groups_of_a_node_are_what_the_routers_tables_hold_after_a_relay_died(
    start_relayed,
):
    routers, (relay,), (node,) = start_relayed(nodes=1)
    parts = [[f"room:{n}" for n in range(at, at + 1000)] for at in range(0, 20000, 1000)]
    clients = [Native(node.url, token(f"user{i}"), groups=part) for i, part in enumerate(parts)]

    def rows():
        return sum(read_metrics(router)["peal_router_rows"] for router in routers)

    wait_until(lambda: rows() == 20000 + 20, "the tables are not full")  # with 20 inboxes
    relay.kill()
    assert clients[0].next("degraded")["on"] is True
    # These leave while no router can be told; of what is held then the tables hear by sync.
    for client in clients[15:]:
        client.close()
    clients[15:] = []
    relay.start()
    for client in clients:
        while client.next("degraded")["on"]:
            pass
    wait_until(lambda: rows() == 15000 + 15, "the tables are not what the node holds")
    for part in parts[:15]:
        answer = node.api.post("/v1/publish", [{"group": name, "data": name} for name in part])
        assert answer.status == 200
    for client, part in zip(clients, parts):
        got = client.messages(len(part))
        assert sorted(m["group"] for m in got) == sorted(part)
        assert all(m["data"] == m["group"] and m["offset"] == 1 for m in got)
        client.close()
