"""Two processes that say they are the same router: an alarm, and a link that stays with one."""

from fakes import FakeRouter
from metrics import read_metrics
from native import Native
from peal import wait_until
from tokens import token


def test_two_lives_of_a_router_are_an_alarm_and_no_flapping(start_peal):
    with FakeRouter(boots=[5]) as fake:
        node = start_peal({"cluster": {"routers": [fake.doors]}}, verb="node")
        client = Native(node.url, token("bob"))
        assert node.api.get("/readyz").status == 200
        fake.boots = [6, 5]
        node.wait_for("link.two_lives", link=0, boot=f"{6:016x}", other=f"{5:016x}")
        assert client.next("degraded")["on"] is True
        assert read_metrics(node)["peal_links_with_two_lives"] == 1
        wait_until(lambda: node.api.get("/readyz").status == 503, "the node is ready")
        late = read_metrics(node)["peal_link_late_total"]
        wait_until(lambda: read_metrics(node)["peal_link_late_total"] > late + 5, "no beats")
        # It changed once, and stayed; nobody logs each beat.
        events = [line for line in node.log.lines if " link.boot " in line]
        assert len(events) == 2
        assert len([line for line in node.log.lines if " link.two_lives " in line]) == 1
        fake.boots = [6]
        assert client.next("degraded")["on"] is False
        assert read_metrics(node)["peal_links_with_two_lives"] == 0
        wait_until(lambda: node.api.get("/readyz").status == 200, "the node is not ready")
        client.close()
