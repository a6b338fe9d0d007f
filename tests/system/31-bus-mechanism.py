"""A router that is started without its keys and then with them is found again by all that know it."""

from bus import OTHER_MECHANISM, Keys, wait_refused
from native import Native
from peal import wait_until
from tokens import token

CONFIG = {"groups": [{"match": "room:*", "join": "anyone"}]}


def test_router_that_spoke_another_mechanism_is_heard_again_when_it_is_right(start_peal, tmp_path):
    keys = Keys(tmp_path / "keys").make("router", "relay", "node")
    keys.allow(relay="node", node="node")
    router = start_peal({**CONFIG, **keys.router()}, verb="router")
    relay = start_peal(keys.relay(router), verb="relay")
    relayed = keys.node_via(router, relay)
    twice = {**relayed, "cluster": {**relayed["cluster"], "via": relayed["cluster"]["via"] * 2}}
    configs = [keys.node(router), relayed, twice]
    nodes = [start_peal({**CONFIG, **config}, verb="node") for config in configs]
    with Native(nodes[0].url, token("ann"), groups=["room:1"]) as ann:
        secure = router.config
        router.stop()
        router.config = {key: value for key, value in secure.items() if key != "bus"}
        router.start()
        # Each socket is refused a few times until its ZeroMQ is the first to notice, and gives up
        # for good. Which ones have done so is not told; by now it is hardly ever none.
        wait_refused(router, OTHER_MECHANISM, 5)
        assert ann.next("degraded")["on"] is True
        router.stop()
        router.config = secure
        router.start()
        for node in nodes:
            wait_until(lambda n=node: n.api.get("/readyz").status == 200, "a node is not ready")
        assert ann.next("degraded")["on"] is False
        for data, node in enumerate(nodes):
            wait_until(
                lambda n=node, d=data: n.api.post("/v1/publish", {"group": "room:1", "data": d}).status
                == 200,
                "a node cannot publish",
            )
        assert {m["data"] for m in ann.messages(3)} == {0, 1, 2}
