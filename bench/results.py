"""bench/results.py: from the runs of the load to figures, and the file that keeps them.

A round is one run of each subject, one after the other: {subject: what peal-load printed}. A
row compares inside a round only, because this machine an hour ago is another machine. What is
reported of a row is the median of its rounds, with the smallest and the largest beside it.
"""

import dataclasses
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import time

MET, MISSED, AIM_MET, NO_FIGURE = "must", "MISSED", "aim", "no figure"


# Metrics that are not simply a key of what peal-load prints.
def memory_per_connection(run):
    """Bytes that one more connection costs all server processes together."""
    return sum(run["pss_per_connection"].values())


def memory(run):
    """PSS of all server processes in bytes; of a run in steps, that of the last one."""
    return sum(last(value) for value in run["pss"].values())


def anonymous(run):
    """Bytes of all server processes that are in no file."""
    return sum(run["anonymous"].values())


def first_to_last(run):
    """µs between the first and the last delivery: of one message, or at the worst of several."""
    return run["latency_us"]["max"] - run["latency_us"]["min"]


def cpu_per_message(run):
    """µs; in traffic of peal-load that is about messages, each has one receiver."""
    return run["cpu_us_per_message" if "cpu_us_per_message" in run else "cpu_us_per_delivery"]


def time_per_message(run):
    """µs of wall time."""
    return 1e6 / run["per_second"]


def open_s(run):
    """From the start of the program until what was published first has its receipt."""
    return run["ready_s"] + run["latency_us"]["max"] / 1e6


def last(value):
    if isinstance(value, dict):
        value = list(value.values())
    return value[-1] if isinstance(value, list) else value


COMPUTED = {
    "memory_per_connection": memory_per_connection,
    "memory": memory,
    "anonymous": anonymous,
    "first_to_last": first_to_last,
    "cpu_per_message": cpu_per_message,
    "time_per_message": time_per_message,
    "open_s": open_s,
}


def figure(run, metric):
    """One figure of a run, by name; `a.b` is b in a. None when the run does not have it."""
    try:
        if metric in COMPUTED:
            return float(COMPUTED[metric](run))
        value = run
        for key in metric.split("."):
            value = value[key]
        value = float(value)
        return value if math.isfinite(value) else None
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
        return None


def quotient(above, below):
    """None when there is nothing to divide, or to divide by."""
    return None if above is None or not below else above / below


# No scenario is meant to overload anything, so none of these may happen in any.
FAULTS = ("lost", "closed", "strange", "disorder", "duplicates", "refused", "miscounted")


def is_faulty(run):
    """Whether the server did not do what was asked: what that would have cost is unknown."""
    return any(figure(run, name) for name in FAULTS)


def row_value(row, round_):
    """The figure of a row in one round: an amount, a ratio, or a ratio of two ratios.

    None when a run that it needs has no such figure, or has faults."""

    def of_run(subject):
        run = round_.get(subject, {})
        return None if is_faulty(run) else figure(run, row.metric)

    def value(subject, base):
        own = of_run(subject)
        return own if base is None else quotient(own, of_run(base))

    own = value(row.subject, row.base)
    if row.relative_to is None:
        return own
    return quotient(own, value(*row.relative_to))


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of some figures, and how far they lie apart."""

    count: int
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values):
        """None when there are no figures. Rounds without one (None) do not count."""
        values = [value for value in values if value is not None]
        if not values:
            return None
        return cls(len(values), statistics.median(values), min(values), max(values))


def verdict(row, spread, asked):
    """Whether the median keeps what it must; the limit itself is still kept. None: no limit.

    asked: how many rounds were asked for. With fewer good ones nothing counts as kept, because
    the rounds that are missing may be the bad ones; a miss stays a miss."""
    if spread is None:
        return NO_FIGURE
    if row.must is not None and spread.median > row.must:
        return MISSED
    if spread.count < asked and (row.must is not None or row.aim is not None):
        return NO_FIGURE
    if row.aim is not None and spread.median <= row.aim:
        return AIM_MET
    return MET if row.must is not None else None


def row_spread(row, rounds):
    return Spread.of([row_value(row, round_) for round_ in rounds])


# ---- What is kept ---------------------------------------------------------------------------


def command_output(*command, cwd=None):
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def read_field(path, name):
    """The value of the first line `name : value`; /proc/cpuinfo and /proc/meminfo."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def machine():
    """What the figures depend on, and nothing that tells whose machine it is."""
    return {
        "cpu": read_field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "memory_gib": round(int(read_field("/proc/meminfo", "MemTotal").split()[0]) / 2**20),
    }


def source(root):
    """The commit that is measured, and whether files of the tree differ from it."""
    commit = command_output("git", "rev-parse", "--short=12", "HEAD", cwd=root)
    changed = command_output("git", "status", "--porcelain", "--untracked-files=no", cwd=root)
    return {"commit": commit or "unknown", "dirty": bool(changed)}


def free_stem(folder, commit):
    """<date>-<commit>, with a number behind it from the second run of that day on."""
    stem = f"{time.strftime('%Y-%m-%d')}-{commit}"
    taken = {path.stem for path in pathlib.Path(folder).glob(f"{stem}*")}
    names = [stem] + [f"{stem}-{number}" for number in range(2, len(taken) + 3)]
    return next(name for name in names if name not in taken)


def store(folder, stem, record, plot):
    """Writes <stem>.json and, unless there is nothing to plot, <stem>.svg; returns their paths."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{stem}.json"]
    written[0].write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        written.append(folder / f"{stem}.svg")
        written[1].write_text(plot, encoding="utf-8")
    return written
