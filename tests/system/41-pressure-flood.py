"""Publishers at every door send several times what the store can take."""

import threading
import time

import pytest

from conservation import check_conservation, wait_accepted
from pressure import ENV, DoorFlood, HttpFlood, MemoryWatch, PushFlood, sanitized

pytestmark = pytest.mark.alone

FLOOD_S = 5
KEEP = {"messages": 8192, "bytes": "1GiB"}
CONFIG = {"groups": [{"match": "user:{id}", "durable": True, "keep": KEEP}]}
# Beyond what is there once everything runs. What may wait at most is far below: 8,192 messages of
# a publisher at a door, a call of each at HTTP, the marks of ZeroMQ at PULL.
GROWTH_MAX = (256 if sanitized() else 96) << 20


@pytest.mark.timeout(120)
def test_flood_at_every_door_costs_no_memory_and_no_acknowledged_message(start_cluster):
    router, (node,) = start_cluster(1, CONFIG, env=ENV)
    enough = threading.Event()
    http = [HttpFlood(enough, node, f"http{n}", 200, 500) for n in range(3)]
    door = [DoorFlood(enough, router, 150, f"door{n}", 100, 500) for n in range(2)]
    push = [PushFlood(enough, router, f"push{n}", 10, 500) for n in range(2)]
    floods = http + door + push
    watch = MemoryWatch(router, node)
    for thread in [watch, *floods]:
        thread.start()
    began = time.monotonic()
    enough.wait(FLOOD_S)
    half = began + FLOOD_S / 2
    enough.set()
    for flood in floods:
        flood.done(60)
    growth = watch.growth(began + FLOOD_S / 3)
    print(f"{max(growth) >> 20} MiB more at most, {sum(f.sent for f in floods)} sent")
    assert max(growth) < GROWTH_MAX, [f"{bytes >> 20} MiB" for bytes in growth]

    # Everything was counted as taken, also what nobody is told of.
    wait_accepted(router, sum(flood.sent for flood in floods))
    metrics = check_conservation(router, node)[0]
    # Everybody was answered, some of them with `stored`, to the end.
    for flood in http + door:
        assert flood.answered() == flood.sent
        assert set(flood.refused) <= {"rate_limited", "queue_full"}
        assert flood.stored_at[-1] > half, f"{flood.name}: nothing was stored any more"
        assert all(50 <= after <= 30000 for after in flood.after)
    for flood in http:
        assert set(flood.statuses) <= {200, 429, 503}
        assert all(1 <= after <= 30 for after in flood.retry_after)
    assert any(flood.refused for flood in door), "that was no flood"
    # At PULL nobody is answered: who sends waits, and what is not taken is counted.
    assert all(flood.waited > 0 for flood in push), "PULL takes whatever comes"
    acked = sum(len(flood.stored) for flood in http + door)
    pushed = metrics["peal_store_stored_total"] - acked
    assert 0 < pushed <= sum(flood.sent for flood in push)
    for flood in http + door:
        flood.check_found(node)
