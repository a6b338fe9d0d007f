"""tests/system/conservation.py: nothing is lost without being counted, in no process.

    check_conservation(router, *nodes)

asks every process that runs for its counters and says which sum does not add up:

    router  publishes accepted = numbered + duplicate + refused + waiting
    store   found + stored = settled + expired + evicted + collapsed + damaged + present
    node    frames due = written + dropped + queued

Counters are read one after the other, so a sum means something only when nothing moves: a process
is asked again until it rests and its sums agree. What is in the sockets in front of it nobody knows:
`wait_accepted` waits for that, where it is known what was sent. Counters begin with the process, so they can
be asked for after any number of kills: `found` is what the store had when it was opened.
"""

import time

from metrics import read_metrics, total

LAWS = {
    "router": (
        ["peal_publishes_accepted_total"],
        [
            "peal_publishes_numbered_total",
            "peal_publishes_duplicate_total",
            "peal_publishes_refused_total",
            "peal_publishes_waiting",
        ],
    ),
    "store": (
        ["peal_store_found_total", "peal_store_stored_total"],
        [
            "peal_store_settled_total",
            "peal_store_expired_total",
            "peal_store_evicted_total",
            "peal_store_collapsed_total",
            "peal_store_damaged_total",
            "peal_store_present",
        ],
    ),
    "node": (
        ["peal_frames_due_total"],
        ["peal_frames_written_total", "peal_frames_dropped_total", "peal_frames_queued"],
    ),
}
NAMES = {name for law in LAWS.values() for side in law for name in side}


def terms(metrics):
    """The counters that the laws speak of, each over all its labels."""
    missing = NAMES - {key.split("{")[0] for key in metrics}
    assert not missing, f"no such counters: {missing}"
    return {name: total(metrics, name) for name in NAMES}


def broken(counted):
    """The laws that do not hold, each in a sentence with its numbers."""
    found = []
    for law, (left, right) in LAWS.items():
        difference = sum(counted[name] for name in left) - sum(counted[name] for name in right)
        negative = [name for name in left + right if counted[name] < 0]
        if difference != 0 or negative:
            numbers = ", ".join(f"{name}={counted[name]}" for name in left + right)
            found.append(f"{law}: {difference} not accounted for: {numbers}")
    return found


def rests(now, before):
    return now == before and now["peal_publishes_waiting"] == 0


def check_process(server, timeout=20):
    """Waits until the process rests, with sums that agree; returns its metrics."""
    deadline = time.monotonic() + timeout
    before = None
    while True:
        metrics = read_metrics(server)
        now = terms(metrics)
        wrong = broken(now)
        if rests(now, before) and not wrong:
            return metrics
        if time.monotonic() > deadline:
            assert not wrong, f"{server.verb} {server.directory.name}: " + "; ".join(wrong)
            raise AssertionError(f"{server.verb} {server.directory.name} does not come to rest")
        before = now
        time.sleep(0.05)


def check_conservation(*servers, timeout=20):
    """Of every process that runs; returns the metrics of each, in their order."""
    return [check_process(server, timeout) for server in servers if server.running]


def wait_accepted(router, count, timeout=60):
    """Until the router has read as many publishes as were sent."""
    deadline = time.monotonic() + timeout
    while (accepted := read_metrics(router)["peal_publishes_accepted_total"]) != count:
        assert accepted < count, f"{accepted} publishes of {count} that were sent"
        assert time.monotonic() < deadline, f"{accepted} of {count} publishes have arrived"
        time.sleep(0.05)
