"""A link that looks healthy and is not: rows that differ without a loss that a sequence shows."""

from fakes import (
    CHECK,
    DIFFER,
    FIRST,
    JOIN,
    JOINED,
    LAST,
    LEAVE,
    SYNC,
    SYNC_SLOT,
    FakeNode,
    FakeRouter,
)
from metrics import read_metrics
from native import Native
from peal import wait_until
from tokens import token

EARLY = "room:188"  # its slot is among the first that are checked
CONFIG = {"groups": [{"match": "*", "join": "anyone", "history": {"messages": 0}}]}


def node_of(start_peal, fake):
    return start_peal({**CONFIG, "cluster": {"routers": [fake.doors]}}, verb="node")


def test_node_names_a_slot_that_its_router_has_otherwise(start_peal):
    with FakeRouter(boots=[5]) as fake:
        node = node_of(start_peal, fake)
        client = Native(node.url, token("bob"), groups=[EARLY])
        fake.wait(lambda f: f[0] == JOIN and f[2] == EARLY.encode())
        check = fake.wait(lambda f: f[0] == CHECK and any(f[2]))
        held = [check[1] + i for i, digest in enumerate(check[2]) if digest != 0]
        fake.say([DIFFER, held])
        named = fake.wait(lambda f: f[0] == SYNC_SLOT)
        assert named[2] == FIRST | LAST
        assert [EARLY.encode(), 7, 3] in named[3]
        assert len(named[3]) == named[4]
        assert named[5] in held
        assert read_metrics(node)["peal_link_slots_differed_total"] == len(held)
        # The link was trusted all the time: nothing was synced again.
        assert len([f for f in fake.frames if f[0] == SYNC]) == 1
        client.close()


def test_router_gives_up_a_row_that_its_node_does_not_name(start_peal):
    router = start_peal(CONFIG, verb="router")
    with FakeNode(router.doors, boot=0x77) as node:
        node.send([JOIN, 1, EARLY.encode()])
        assert node.entry(JOINED)[2] == EARLY.encode()
        # Its leave was lost: it holds nothing in these slots.
        node.send([CHECK, 0, [0] * 18])
        kind, slots = node.answer()
        assert kind == DIFFER
        assert len(slots) == 1
        assert read_metrics(router)["peal_router_rows"] == 1
        node.send([SYNC_SLOT, 9, FIRST | LAST, [], 0, slots[0]])
        wait_until(lambda: read_metrics(router)["peal_router_rows"] == 0, "the row is still there")
        assert read_metrics(router)["peal_router_rows_healed_total"] == 1
        router.wait_for("node.healed", removed=1, missing=0)
        # And the other way round: a row it should have.
        node.send([SYNC_SLOT, 10, FIRST | LAST, [[EARLY.encode(), 1, 0]], 1, slots[0]])
        wait_until(lambda: read_metrics(router)["peal_router_rows"] == 1, "the row is still missing")
        node.send([CHECK, 0, [0] * 18])
        assert node.answer() == [DIFFER, slots]
        node.send([LEAVE, EARLY.encode()])
        wait_until(lambda: read_metrics(router)["peal_router_rows"] == 0, "it did not leave")
