"""bench/report.py: what the terminal shows, and the same figures for the file that is kept."""

import results
import scenarios


def listing(known):
    """All scenarios, what they measure, and what must hold."""
    lines = ["usage: ./dev bench SCENARIO...|all [--quick] [--pairs N] [--workers N]"]
    lines += ["                   [--peal PATH] [--versus PATH]; more by --help", ""]
    for scenario in known:
        lines.append(f"  {scenario.name:<20}{scenario.title}")
        for row in scenario.rows:
            if row.must is not None:
                aim = "" if row.aim is None else f", aim {limit(row, row.aim)}"
                lines.append(f"{'':<22}{row.label}: at most {limit(row, row.must)}{aim}")
    return "\n".join(lines)


def heading(machine, source, args):
    changed = " with changes" if source["dirty"] else ""
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}; commit {source['commit']}{changed}",
        f"Peal runs with {args.workers} worker(s) unless a scenario says otherwise; "
        + ("compared with a second program, B." if args.versus else "the floor has one thread."),
    ]
    return "\n".join(lines)


# ---- Numbers --------------------------------------------------------------------------------


def number(value):
    """Three digits that matter, and no more than a reader can use."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def ratio(value):
    return "-" if value is None else f"{value:.2f}"


def limit(row, value):
    if value is None:
        return "-"
    return ratio(value) if row.is_ratio or value < 10 else f"{value:,.0f}"


def row_number(row, value):
    return ratio(value) if row.is_ratio else number(value)


# ---- Tables ---------------------------------------------------------------------------------


def total(values):
    return int(sum(values))


def fault(values):
    return int(sum(values)) or None


def median(values):
    return results.Spread.of(values).median


# (heading, figure, factor, how the rounds become one number)
COLUMNS = (
    ("CPU µs", "cpu_us_per_delivery", 1, median),
    ("CPU µs", "cpu_us_per_handshake", 1, median),
    ("CPU µs", "cpu_us_per_message", 1, median),
    ("p50 µs", "latency_us.p50", 1, median),
    ("p99 µs", "latency_us.p99", 1, median),
    ("p99.9 µs", "latency_us.p999", 1, median),
    ("max µs", "latency_us.max", 1, max),
    ("per s", "per_second", 1, median),
    ("slowest s", "slowest_second", 1, min),
    ("lost", "lost", 1, total),
    ("busy %", "server_busy", 100, median),
    ("clients %", "client_busy", 100, median),
    ("publisher %", "publisher_busy", 100, median),
    ("PSS MiB", "memory", 1 / 2**20, median),
    ("anon MiB", "anonymous", 1 / 2**20, median),
    ("B/conn", "memory_per_connection", 1, median),
    # What should not be: these columns are there only when it was.
    ("told", "gap_messages", 1, fault),
    ("twice", "duplicates", 1, fault),
    ("disorder", "disorder", 1, fault),
    ("strange", "strange", 1, fault),
    ("closed", "closed", 1, fault),
    ("refused", "refused", 1, fault),
    ("miscounted", "miscounted", 1, fault),
)


def table(scenario, rounds):
    """A scenario as text: its rows with their limits, then its subjects."""
    parts = ["", f"{scenario.name}: {scenario.title}; rounds: {len(rounds)}", ""]
    parts += aligned(row_lines(scenario, rounds)) + [""]
    parts += aligned(subject_lines(scenario, rounds))
    parts += counter_lines(scenario, rounds)
    limits = load_limits(scenario, rounds)
    if limits:
        parts += ["", f"  the load was the limit: {'; '.join(limits)}"]
    return "\n".join(parts)


def row_lines(scenario, rounds):
    lines = [["", "", "median", "min", "max", "must", "aim", ""]]
    for row in scenario.rows:
        spread = results.row_spread(row, rounds)
        numbers = (spread.median, spread.low, spread.high) if spread else (None,) * 3
        lines.append(
            [row.label, "" if row.is_ratio else scenarios.METRICS[row.metric][1]]
            + [row_number(row, value) for value in numbers]
            + [limit(row, row.must), limit(row, row.aim), judged(row, spread, len(rounds))]
        )
    return lines


def judged(row, spread, asked):
    """The verdict, and how many rounds are good when that is not all of them."""
    words = [VERDICTS[results.verdict(row, spread, asked)]]
    count = spread.count if spread else 0
    if count < asked:
        words.append(f"{count} of {asked} rounds")
    return ", ".join(filter(None, words))


VERDICTS = {
    results.MET: "ok",
    results.MISSED: "MISSED",
    results.AIM_MET: "ok, aim",
    results.NO_FIGURE: "NO FIGURE",
    None: "",
}


def subject_lines(scenario, rounds):
    """Columns that no subject has a figure for are left out."""
    columns = []
    for title, metric, factor, join in COLUMNS:
        cells = []
        for subject in scenario.subjects:
            runs = [round_.get(subject.name, {}) for round_ in rounds]
            values = [results.figure(run, metric) for run in runs]
            values = [value * factor for value in values if value is not None]
            cells.append(number(join(values)) if values else "-")
        if any(cell != "-" for cell in cells):
            columns.append([title] + cells)
    names = [""] + [subject.name for subject in scenario.subjects]
    return [list(line) for line in zip(names, *columns)]


def counter_lines(scenario, rounds):
    """What the store counted, in the median of the rounds, of the subjects that are asked."""
    lines = []
    for subject in scenario.subjects:
        runs = [round_.get(subject.name, {}).get("counters", {}) for round_ in rounds]
        names = sorted(set().union(*runs))
        medians = {name: median([run.get(name) for run in runs]) for name in names}
        shown = [f"{name} {value:,.0f}" for name, value in medians.items() if value]
        if shown:
            lines += ["", f"  store of {subject.name}: {', '.join(shown)}"]
    return lines


LOAD_BUSY_MAX = 0.9  # of a core, for one process of the load


def load_limits(scenario, rounds):
    """The subjects of rows whose load had no time left, in the median of the rounds.

    Then rates and latencies are those of the load, and servers that got less to do than they can
    are compared as if they had been at their limit."""
    names = set()
    for row in scenario.rows:
        names |= {row.subject, row.base, *(row.relative_to or ())}
    limits = []
    for subject in scenario.subjects:
        runs = [round_.get(subject.name, {}) for round_ in rounds]
        parts = []
        for part, metric in (("clients", "client_busy"), ("publisher", "publisher_busy")):
            busy = results.Spread.of([results.figure(run, metric) for run in runs])
            if busy and busy.median > LOAD_BUSY_MAX:
                parts.append(f"{part} {100 * busy.median:.0f} %")
        if parts and subject.name in names:
            limits.append(f"{subject.name}: {', '.join(parts)}")
    return limits


def aligned(lines):
    """Numbers to the right, all else to the left."""
    columns = [list(column) for column in zip(*lines)]
    for at, column in enumerate(columns):
        width = max(len(cell) for cell in column)
        is_words = at == 0 or all(not cell or cell[-1].isalpha() for cell in column)
        columns[at] = [f"{cell:<{width}}" if is_words else f"{cell:>{width}}" for cell in column]
    return ["  " + "  ".join(line).rstrip() for line in zip(*columns)]


# ---- What is kept ---------------------------------------------------------------------------


def kept(scenario, rounds):
    rows = []
    for row in scenario.rows:
        spread = results.row_spread(row, rounds)
        rows.append(
            {
                "label": row.label,
                "metric": row.metric,
                "unit": "ratio" if row.is_ratio else scenarios.METRICS[row.metric][1],
                "must": row.must,
                "aim": row.aim,
                "verdict": results.verdict(row, spread, len(rounds)),
                "median": spread and spread.median,
                "min": spread and spread.low,
                "max": spread and spread.high,
                "rounds": [results.row_value(row, round_) for round_ in rounds],
            }
        )
    return {"name": scenario.name, "title": scenario.title, "rows": rows, "runs": rounds}
