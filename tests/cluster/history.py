"""tests/cluster/history.py: what clients were told and publishers were promised, as plain data.

A client writes down every frame that moves a position, in the order in which it came; a publisher
what it asked for and what was acknowledged. judge.py reads it; nothing here knows what is right.

`at` is time.monotonic() of this machine: for figures, never for a verdict.
"""

import dataclasses
import typing


class Joined(typing.NamedTuple):
    """From `welcome` or `joined`. recovered: new, full or gap; `pending` is not written down."""

    at: float
    group: str
    epoch: str
    offset: int
    recovered: str


class Message(typing.NamedTuple):
    at: float
    group: str
    offset: int
    id: str


class Gap(typing.NamedTuple):
    at: float
    group: str
    first: int
    last: int
    epoch: str
    why: str


class Skip(typing.NamedTuple):
    at: float
    group: str
    first: int
    last: int


class State(typing.NamedTuple):
    at: float
    unread: int
    rev: int


class Degraded(typing.NamedTuple):
    at: float
    on: bool


class Opened(typing.NamedTuple):
    """A connection was welcomed, after so many tries."""

    at: float
    tries: int


class Goaway(typing.NamedTuple):
    """The node is about to stop; the device means to leave at `planned`."""

    at: float
    planned: float


class Closed(typing.NamedTuple):
    """A connection that had been welcomed is gone; 1006 when without a Close frame.

    1000: the device itself left in its slot."""

    at: float
    code: int


class Acked(typing.NamedTuple):
    at: float
    publisher: str
    id: str
    group: str
    epoch: str
    offset: int
    ack: str  # routed or stored
    duplicate: bool


@dataclasses.dataclass
class History:
    clients: dict = dataclasses.field(default_factory=dict)  # name: its events, in order
    asked: dict = dataclasses.field(default_factory=dict)  # id: group, also without an answer
    asked_at: dict = dataclasses.field(default_factory=dict)  # id: when for the first time
    # Of one publisher and group in the order of asking: it asks for the next when one is settled.
    acked: list = dataclasses.field(default_factory=list)

    def outages(self):
        """Seconds from each Closed to the next Opened of the same client."""
        found = []
        for events in self.clients.values():
            closed = None
            for event in events:
                if isinstance(event, Closed):
                    closed = event.at
                elif isinstance(event, Opened) and closed is not None:
                    found.append(event.at - closed)
                    closed = None
        return sorted(found)


def is_durable(group):
    """Of the groups that the scenarios use, inboxes are."""
    return group.startswith("user:")
