"""Two routers, a relay, nodes behind it: what the relay does must not show at the edge."""

import signal

from metrics import read_metrics
from peal import Peal, publish, wait_until
from relayed import ROOMS, Cut, Ear, Reader, close, read_round, round_of, start_relayed

__all__ = ["start_relayed"]


def test_live_messages_and_inboxes_pass_the_relay_in_order(start_relayed):
    routers, (relay,), nodes = start_relayed()
    readers = [Reader(node, f"user{i}") for i, node in enumerate(nodes)]
    for value in range(20):
        read_round(readers, nodes, value)
    for reader in readers:
        assert not reader.gaps
        assert all(data == list(range(20)) for data in reader.data.values())
    assert publish(nodes[0], user="user2", data="yours")["ack"] == "stored"
    assert readers[2].client.next("message")["data"] == "yours"
    # Both routers had a part, and each handed it to the relay alone.
    assert all(read_metrics(r)["peal_publishes_numbered_total"] > 0 for r in routers)
    counted = read_metrics(relay)
    assert counted["peal_relay_uplinks"] == 2
    assert counted["peal_relay_subscriptions"] == 2 * (3 + 1)
    assert counted["peal_relay_frames_total"] > 0
    assert counted["peal_relay_bytes_total"] > 0
    assert counted["peal_relay_reconnects_total"] == 0
    assert relay.api.get("/readyz").status == 200
    close(readers)


def test_uplink_cut_and_mended_is_announced_and_what_was_lost_is_repaired(start_relayed):
    cuts = []

    def through(router):
        cuts.append(Cut(router.doors["xpub"]))
        return {**router.doors, "xpub": cuts[-1].endpoint}

    _, (relay,), nodes = start_relayed(routers=1, nodes=2, through=through)
    readers = [Reader(node, f"user{i}") for i, node in enumerate(nodes)]
    with cuts[0] as uplink, Ear(relay.doors["xpub"][0], 0x5EA1) as ear:
        _, boot, _, entries = ear.next(ear.topic)  # a beat of the router: it is subscribed
        assert entries == []
        for number in range(3):
            mark = len(relay.log.lines)
            uplink.cut()
            relay.wait_for("uplink.down", start=mark, router=0)
            lost = round_of(nodes, number)
            uplink.mend()
            _, relay_boot, count = ear.next(b"all")
            assert relay_boot != boot
            assert count == number + 2  # the first connection was not announced
            for reader in readers:
                reader.read_up_to(lost)
        for reader in readers:
            assert not reader.gaps
            assert all(data == [0, 1, 2] for data in reader.data.values())
        assert read_metrics(relay)["peal_relay_reconnects_total"] == 3
    close(readers)


def test_only_topics_of_nodes_get_through_a_relay(start_relayed):
    _, (relay,), (node,) = start_relayed(routers=1, nodes=1)
    before = read_metrics(relay)
    assert (before["peal_relay_subscriptions"], before["peal_relay_uplinks"]) == (2, 1)
    with Ear(relay.doors["xpub"][0], 1) as ear:
        for topic in (b"", b"n", b"room:1", b"n" + b"g" * 16, b"x" * 200, b"all-of-it"):
            ear.socket.subscribe(topic)
        ear.socket.subscribe(b"n%016x" % 2)
        wait_until(
            lambda: read_metrics(relay)["peal_relay_subscriptions"] == 4, "no topic of a node came"
        )
        assert read_metrics(relay)["peal_relay_subscriptions_refused_total"] == 6
    wait_until(
        lambda: read_metrics(relay)["peal_relay_subscriptions"] == 2, "topics of the dead stay"
    )
    reader = Reader(node, "ann")
    reader.read_up_to(round_of([node], "still here"))
    close([reader])


def test_relay_that_sleeps_is_noticed_by_missed_beats(start_relayed):
    _, (relay,), nodes = start_relayed(nodes=2)
    readers = [Reader(node, f"user{i}") for i, node in enumerate(nodes)]
    relay.signal(signal.SIGSTOP)
    for node in nodes:
        node.wait_for("link.silent")
    for reader in readers:
        assert reader.client.next("degraded")["on"] is True
    answer = nodes[0].api.post("/v1/publish", {"group": ROOMS[0], "data": "refused"})
    assert (answer.status, answer.json["error"]["code"]) == (503, "no_router")
    relay.signal(signal.SIGCONT)
    for reader in readers:
        reader.wait_linked()
    after = round_of(nodes, "after")
    for reader in readers:
        reader.read_up_to(after)
        assert not reader.gaps
        assert all(data == ["after"] for data in reader.data.values())
    close(readers)


def test_relay_whose_doors_do_not_fit_says_what_is_wrong(tmp_path):
    one = {"pull": "tcp://127.0.0.1:7", "xpub": "tcp://127.0.0.1:8", "rpc": "tcp://127.0.0.1:9"}
    two = {**one, "rpc": "tcp://127.0.0.1:10"}
    cases = [
        ({"cluster": {"routers": [one, two]}, "doors": {}}, "a relay of 2 routers needs as many"),
        (
            {"cluster": {"routers": [one]}, "doors": {"relay": [one["xpub"]]}},
            "cluster.routers.0.xpub: tcp://127.0.0.1:8 is a door of this relay itself",
        ),
        (
            {"cluster": {"routers": [one, two]}, "doors": {"relay": ["tcp://127.0.0.1:*"]}},
            "doors.relay: has 1 door for 2 routers",
        ),
    ]
    for number, (config, problem) in enumerate(cases):
        relay = Peal(tmp_path / str(number), config, verb="relay")
        relay.launch()
        assert relay.exit_code() == 78
        assert problem in relay.log.text()
        relay.check()
