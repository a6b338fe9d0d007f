"""bench/scenarios.py: what is measured, and what the figures must and should be.

A scenario has subjects, each a server and a load, and rows, which are figures of them. In one
round every subject runs once, in the order they stand here or the other way round; so what is
compared stands side by side. Limits of rows are upper ones: `must` is promised, `aim` is where we
want to be.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Load:
    """A verb of peal-load and its options, underscores for dashes."""

    verb: str
    options: dict
    quick: dict  # what is different with --quick

    def chosen(self, quick):
        return {**self.options, **(self.quick if quick else {})}


def load(verb, quick, **options):
    return Load(verb, options, quick)


@dataclasses.dataclass(frozen=True)
class Subject:
    """One server under one load."""

    name: str
    server: str  # dev, 1x1, curve, send, coal: see servers.py
    load: Load
    target: str  # how connections speak: raw, native, floor
    door: str = "push"  # where messages enter
    path: str = ""
    token: bool = False  # each connection names a user by a token
    settings: dict = dataclasses.field(default_factory=dict)  # of Peal's configuration
    rate_of: tuple = ()  # (subject, share): the rate is this share of what that one reached
    program: str = "peal"  # or "versus", the second one of an A/B test

    @property
    def is_floor(self):
        return self.server in ("send", "coal")


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure of a subject; with base, its ratio to that of base in the same round.

    relative_to: (subject, base) of another such ratio by which this one is divided."""

    metric: str  # a key of METRICS
    subject: str
    base: str | None = None
    relative_to: tuple | None = None
    must: float | None = None
    aim: float | None = None

    @property
    def is_ratio(self):
        return self.base is not None or self.relative_to is not None

    @property
    def label(self):
        of = self.subject if self.base is None else f"{self.subject} / {self.base}"
        if self.relative_to is not None:
            than = self.relative_to[0]
            if self.relative_to[1] is not None:
                than += f" / {self.relative_to[1]}"
            of = f"({of}) / ({than})" if self.base is not None else f"{of} / {than}"
        return f"{of}: {METRICS[self.metric][0]}"


# Name of a figure in the output of peal-load, or computed in results.py: (what it is, unit).
METRICS = {
    "cpu_us_per_delivery": ("CPU per delivery", "µs"),
    "cpu_us_per_handshake": ("CPU per handshake", "µs"),
    "latency_us.p99": ("p99 latency", "µs"),
    "memory_per_connection": ("memory per connection", "B"),
    "memory": ("memory of all server processes", "B"),
    "first_to_last": ("first to last delivery", "µs"),
}


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    subjects: tuple
    rows: tuple


# ---- The subjects that most scenarios have --------------------------------------------------


def raw(load, name="raw", server="dev", path="/b/{group}", **options):
    return Subject(name, server, load, "raw", path=path, **options)


def native(load, name="native", server="dev", token=False, **options):
    path = "/v1/ws" if token else "/n"
    return Subject(name, server, load, "native", path=path, token=token, **options)


def floor(load, mode, name=None, **options):
    return Subject(name or f"floor {mode}", mode, load, "floor", door="floor", **options)


def plain(load):
    """Peal with one send() for each connection, as the floor and as where io_uring is forbidden."""
    return raw(load, "raw, send()", settings={"io_uring": False})


def cpu(subject, base=None, **limits):
    return Row("cpu_us_per_delivery", subject, base, **limits)


def p99(subject, base=None, **limits):
    return Row("latency_us.p99", subject, base, **limits)


# ---- Fan-out: one group, many subscribers ---------------------------------------------------


def paced(connections, rate, burst, **more):
    return load(
        "fanout",
        {"seconds": 1},
        connections=connections,
        groups=1,
        rate=rate,
        burst=burst,
        seconds=3,
        **more,
    )


def low(connections, rate, **more):
    return paced(connections, rate, 1, **more)


def burst(connections, rate, **more):
    return paced(connections, rate, 64, **more)


def fanout_low():
    calm = low(1000, 20)
    doors = [raw(calm, f"raw by {door}", door=door) for door in ("http", "rpc")]
    return Scenario(
        "F1-low",
        "1 group, 1,000 subscribers, 20 messages/s; raw, send(): without io_uring",
        (raw(calm), floor(calm, "send"), plain(calm), native(calm), *doors),
        (
            cpu("raw", "floor send", must=1.10, aim=0.95),
            p99("raw", "floor send", must=1.25, aim=1.0),
            cpu("raw, send()", "floor send"),
            p99("raw, send()", "floor send"),
            cpu("native", "floor send"),
            p99("native", "floor send"),
            *(cpu(door.name, "floor send") for door in doors),
        ),
    )


def fanout(name, title, work, mode, must, aim=None, more=()):
    """more: subjects beside the usual ones, each with a row without limits."""
    base = f"floor {mode}"
    return Scenario(
        name,
        title,
        (raw(work), floor(work, mode), *more, native(work)),
        (
            cpu("raw", base, must=must, aim=aim),
            *(cpu(subject.name, base) for subject in more),
            cpu("native", base),
        ),
    )


def fanout_burst():
    bursts = burst(1000, 5)
    return fanout(
        "F1-burst",
        "1 group, 1,000 subscribers, 5 bursts of 64 messages/s; raw, send(): without io_uring",
        bursts,
        "coal",
        must=1.6,
        aim=1.2,
        more=(plain(bursts),),
    )


# ---- Users at random ------------------------------------------------------------------------


def users():
    most = load(
        "random", {"count": 40000}, connections=5000, groups=5000, window=1024, count=150000
    )
    # The rate is filled in from what the round has measured.
    half = load("random", {"count": 20000}, connections=5000, groups=5000, count=60000)
    return Scenario(
        "U1",
        "5,000 users, each its own group, at random: at most, and at half of that",
        (
            raw(most, "embedded"),
            floor(most, "send"),
            raw(most, "router + node", server="1x1"),
            native(most, "native embedded"),
            raw(half, "embedded, half", rate_of=("embedded", 0.5)),
            # At the rate of the run above, not at half of its own most: latencies compare only
            # under the same load.
            floor(half, "send", "floor send, half", rate_of=("embedded", 0.5)),
            raw(half, "router + node, half", server="1x1", rate_of=("router + node", 0.5)),
        ),
        (
            cpu("embedded", "floor send", must=1.15, aim=1.0),
            cpu("router + node", "floor send", must=1.40, aim=1.0),
            cpu("native embedded", "floor send"),
            p99("embedded, half", must=2000),
            p99("floor send, half"),
            p99("embedded, half", "floor send, half"),
            p99("router + node, half", must=2000),
        ),
    )


def curve():
    most = load(
        "random", {"count": 40000}, connections=5000, groups=5000, window=1024, count=150000
    )
    steady = load("random", {"count": 10000}, connections=5000, groups=5000, rate=3000, count=30000)
    return Scenario(
        "curve",
        "5,000 users at random, router and node in two processes: what CURVE on the bus costs",
        (
            raw(most, "plain", server="1x1"),
            raw(most, "curve", server="curve"),
            raw(steady, "plain, 3,000/s", server="1x1"),
            raw(steady, "curve, 3,000/s", server="curve"),
        ),
        (
            cpu("curve", "plain"),
            cpu("curve, 3,000/s", "plain, 3,000/s"),
            p99("curve, 3,000/s", "plain, 3,000/s"),
        ),
    )


def inboxes():
    def work(**more):
        return load(
            "random",
            {"count": 10000},
            connections=5000,
            groups=5000,
            window=1024,
            count=40000,
            **more,
        )

    stored = work(prefix="user:u")  # the user of connection i is u<i>
    return Scenario(
        "U1-durable",
        "5,000 users, each with an inbox, at random: on disk before it is sent",
        (
            raw(stored, "inbox", path="/inbox", token=True),
            raw(work(), "not durable"),
            floor(work(), "send"),
        ),
        (
            cpu("inbox", "floor send"),
            cpu("inbox", "not durable"),
            p99("inbox"),
        ),
    )


# ---- Connections ----------------------------------------------------------------------------


def memory(subject, base=None, **limits):
    return Row("memory_per_connection", subject, base, **limits)


def memory_shared():
    work = load("hold", {}, steps="1000,15000", groups=1)
    return Scenario(
        "M1a",
        "memory of one more idle connection between 1,000 and 15,000, all in one group",
        (raw(work), floor(work, "send"), native(work)),
        (memory("raw", must=2000, aim=700), memory("floor send"), memory("native")),
    )


def memory_own():
    work = load("hold", {}, steps="1000,15000", groups=15000)
    # A raw client knows that it has joined by a message, which is not to be kept: the connection is
    # measured and not the history of its group.
    groups = [{"match": "user:{id}", "durable": True}, {"match": "*", "join": "anyone"}]
    settings = {"groups": groups}
    return Scenario(
        "M1b",
        "memory of one more connection, with a token and an own group, in router and node together",
        (
            raw(work, server="1x1", path="/t/{group}", token=True, settings=settings),
            native(work, server="1x1", token=True, settings=settings),
        ),
        (memory("raw", must=2400, aim=1100), memory("native")),
    )


def handshakes():
    work = load("shake", {"count": 5000}, count=10000, concurrency=64)

    def cost(subject, base, **limits):
        return Row("cpu_us_per_handshake", subject, base, **limits)

    return Scenario(
        "C1",
        "handshake with a token, group joined and confirmed by the router, close",
        (
            native(work, "embedded", token=True),
            floor(work, "send"),
            native(work, "router + node", server="1x1", token=True),
        ),
        (
            cost("embedded", "floor send", must=2.5, aim=1.7),
            cost("router + node", "floor send"),
        ),
    )


# ---- Growth: flat within 20 % ---------------------------------------------------------------

FLAT = 1.20


def workers():
    # One epoll instance in one client process is a lock that the sends of several workers meet on:
    # what arrives at a socket is put on the list of the instance by the one who sends. That would
    # be the load's cost and not Peal's. All rows have the same clients, those of one worker too.
    clients = 4
    calm, bursts = low(1000, 20, processes=clients), burst(1000, 5, processes=clients)

    def subjects(name, work):
        return [
            raw(work, f"{name}, workers {count}", settings={"workers": count})
            for count in (1, 2, 4)
        ]

    low_1, low_2, low_4 = subjects("low", calm)
    burst_1, burst_2, burst_4 = subjects("burst", bursts)
    return Scenario(
        "growth-workers",
        "1 group, 1,000 subscribers, over more worker threads",
        (low_1, low_2, low_4, burst_1, burst_2, burst_4),
        (
            cpu(low_2.name, low_1.name, must=FLAT),
            cpu(low_4.name, low_1.name, must=FLAT),
            cpu(burst_2.name, burst_1.name, must=FLAT),
            cpu(burst_4.name, burst_1.name, must=FLAT),
        ),
    )


def crowds():
    # About the same deliveries a second at each size.
    sizes = {"1k": low(1000, 40), "10k": low(10000, 4), "15k": low(15000, 3)}
    subjects, rows = [], []
    for size, work in sizes.items():
        subjects += [raw(work, f"raw {size}"), floor(work, "send", f"floor {size}")]
        rows.append(cpu(f"raw {size}", f"floor {size}"))
        if size != "1k":
            first = ("raw 1k", "floor 1k")
            rows.append(cpu(f"raw {size}", f"floor {size}", relative_to=first, must=FLAT))
            rows.append(cpu(f"raw {size}", relative_to=("raw 1k", None)))
    return Scenario(
        "growth-connections",
        "1 group with more subscribers, as ratio to the floor of that size, and alone",
        tuple(subjects),
        tuple(rows),
    )


def many_groups():
    subjects = []
    for name, each in (("1k", 1), ("100k", 100), ("1M", 1000)):
        work = load(
            "random",
            {"count": 200000},  # shorter, and it is the first message of most groups that is measured
            connections=1000,
            groups=1000 * each,
            groups_per_connection=each,
            window=1024,
            count=600000,
        )
        settings = {"limits": {"groups_per_connection": 1000}}
        subjects.append(native(work, f"groups {name}", settings=settings))
    return Scenario(
        "growth-groups",
        "1,000 connections in 1, 100 and 1,000 groups of their own each, messages at random",
        tuple(subjects),
        tuple(cpu(s.name, subjects[0].name, must=FLAT) for s in subjects[1:]),
    )


# ---- Clusters -------------------------------------------------------------------------------


def many_processes():
    work = load(
        "random", {"count": 60000}, connections=5000, groups=5000, rate=20000, count=200000
    )
    return Scenario(
        "cluster-U1",
        "5,000 users on 4 nodes behind 4 routers, 20,000 messages/s",
        (raw(work, "1 x 1", server="1x1"), raw(work, "4 x 4", server="4x4")),
        (cpu("4 x 4", "1 x 1", must=1.5), p99("1 x 1"), p99("4 x 4")),
    )


def many_connections():
    # One message in five seconds: the next one must not come before the last has its copy.
    work = load(
        "fanout", {}, connections=100000, groups=1, rate=0.2, burst=1, seconds=10, processes=8
    )
    return Scenario(
        "cluster-100k",
        "1 group, 100,000 subscribers on 8 nodes behind 1 router",
        (raw(work, "1 x 8", server="1x8"),),
        (
            Row("memory", "1 x 8", must=600 * 2**20),
            Row("first_to_last", "1 x 8"),
            cpu("1 x 8"),
        ),
    )


SCENARIOS = (
    fanout_low(),
    fanout_burst(),
    fanout(
        "F1-flood",
        "1 group, 1,000 subscribers, as fast as it goes with 512 messages under way",
        load("flood", {"count": 5000}, connections=1000, groups=1, window=512, count=20000),
        "coal",
        must=2.5,
        aim=1.5,
    ),
    fanout(
        "F2-low",
        "1 group, 10,000 subscribers, 4 messages/s",
        low(10000, 4),
        "send",
        must=1.15,
    ),
    fanout(
        "F2-burst",
        "1 group, 10,000 subscribers, 1 burst of 64 messages/s",
        burst(10000, 1),
        "coal",
        must=1.6,
    ),
    users(),
    curve(),
    inboxes(),
    memory_shared(),
    memory_own(),
    handshakes(),
    workers(),
    crowds(),
    many_groups(),
    many_processes(),
    many_connections(),
)


def pick(names, scenarios=SCENARIOS):
    """The scenarios whose names begin with one of names, each once; all of them for `all`.

    ValueError: one of the names begins none."""
    picked = []
    for name in names:
        found = [
            scenario
            for scenario in scenarios
            if name == "all" or scenario.name.lower().startswith(name.lower())
        ]
        if not found:
            raise ValueError(f"there is no scenario {name}")
        picked += [scenario for scenario in found if scenario not in picked]
    return picked


def against(scenario):
    """The scenario as A/B test: each subject that is Peal once by either program, without floor.

    The second program's subjects are called like the first's with " B" behind."""
    subjects, rows = [], []
    for subject in scenario.subjects:
        if not subject.is_floor:
            subjects += [subject, versus(subject)]
    floors = {subject.name for subject in scenario.subjects if subject.is_floor}
    for row in scenario.rows:
        if row.subject not in floors:
            new = Row(row.metric, row.subject, f"{row.subject} B")
            rows += [] if new in rows else [new]
    return dataclasses.replace(scenario, subjects=tuple(subjects), rows=tuple(rows))


def versus(subject):
    rate_of = (f"{subject.rate_of[0]} B", subject.rate_of[1]) if subject.rate_of else ()
    return dataclasses.replace(subject, name=f"{subject.name} B", rate_of=rate_of, program="versus")
