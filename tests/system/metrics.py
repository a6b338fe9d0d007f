"""tests/system/metrics.py: what a process counts, and that it adds up."""


def read_metrics(server):
    lines = server.api.get("/metrics").body.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: int(value) for name, value in pairs}


def total(metrics, name):
    """Of a counter over all its labels."""
    return sum(value for key, value in metrics.items() if key.split("{")[0] == name)


def check_frames(metrics):
    """Without connections, what was due was written or dropped."""
    assert metrics["peal_connections"] == 0
    due = metrics["peal_frames_due_total"]
    assert due == metrics["peal_frames_written_total"] + total(metrics, "peal_frames_dropped_total")
