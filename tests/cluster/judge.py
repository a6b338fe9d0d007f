"""tests/cluster/judge.py: does a history keep the promises? A pure function over histories.

Every client is followed frame by frame, with a position per group as docs/PROTOCOL.md moves it.
What it was not given and not told is lost, however small the hole. The clients must have caught
up: the last thing acknowledged in each group is a mark that all of them were waited for.

The histories judged have no TTL, no collapse and no eviction, so a `skip` over a message that was
acknowledged is a loss as well, and so is a `gap` in a durable group.
"""

import collections
import typing

from history import Gap, Joined, Message, Skip, is_durable

# What a violation may be called, and the promise that it breaks.
KINDS = {
    "lost": "a stored message never came (G3)",
    "unannounced": "a live message is missing, and no gap covers it (G8)",
    "duplicate": "a position was given to the handler twice (G7)",
    "reordered": "an older position came after a newer one (G4, G5)",
    "hole": "offsets do not follow on, without skip or gap (G8)",
    "resume": "a position handed in was not continued from, and no gap says so (G8)",
    "gap": "a gap or skip that does not begin where the client is (G8)",
    "disagree": "two were told different messages at one position (G5)",
    "twice": "one message_id has two positions where one is promised (G6)",
    "order": "messages of one publisher were numbered in another order (G5)",
    "promise": "a receipt says another level than the group has (G1)",
    "phantom": "a message that nobody published to this group (S26)",
    "behind": "a client that did not get to the last acknowledged position (G9)",
}


class Violation(typing.NamedTuple):
    kind: str
    who: str
    group: str
    what: str

    def __str__(self):
        return f"{self.kind}: {self.who} {self.group}: {self.what} -- {KINDS[self.kind]}"


class Stay:
    """A client in one epoch of a group: everything in (first, last] was given or told."""

    def __init__(self, epoch, first, last):
        self.epoch = epoch
        self.first = first
        self.last = last
        self.skipped = []  # ranges that were told and not given
        self.gaps = []


class Path:
    """One client in one group."""

    def __init__(self, who, group, found):
        self.who = who
        self.group = group
        self.found = found
        self.stays = []  # in order; of one epoch after the other

    def blame(self, kind, what):
        self.found.append(Violation(kind, self.who, self.group, what))

    def on_joined(self, event):
        if not self.stays:
            if event.recovered != "new":
                self.blame("resume", f"{event.recovered} without a position")
            self.stays.append(Stay(event.epoch, event.offset, event.offset))
            return
        stay = self.stays[-1]
        here, there = (stay.epoch, stay.last), (event.epoch, event.offset)
        # With `gap` the position is still the one handed in: the gap itself moves it.
        if here != there or event.recovered == "new":
            self.blame("resume", f"{event.recovered} at {there}, was at {here}")
            self.stays.append(Stay(event.epoch, event.offset, event.offset))

    def on_message(self, event):
        if not self.stays:
            return self.blame("hole", f"offset {event.offset} before it joined")
        stay = self.stays[-1]
        if event.offset == stay.last + 1:
            stay.last = event.offset
        elif event.offset > stay.last:
            self.blame("hole", f"{stay.epoch} {stay.last}, then {event.offset}")
            stay.last = event.offset
        elif event.offset == stay.last:
            self.blame("duplicate", f"{stay.epoch} {event.offset}")
        else:
            self.blame("reordered", f"{stay.epoch} {event.offset} after {stay.last}")

    def on_skip(self, event):
        if not self.stays:
            return self.blame("gap", "a skip before it joined")
        stay = self.stays[-1]
        if event.first != stay.last + 1 or event.last < event.first:
            self.blame("gap", f"skip {event.first}..{event.last} at {stay.epoch} {stay.last}")
        stay.skipped.append((event.first, event.last))
        stay.last = max(stay.last, event.last)

    def on_gap(self, event):
        if not self.stays:
            return self.blame("gap", "a gap before it joined")
        stay = self.stays[-1]
        if event.epoch != stay.epoch:
            if event.why != "epoch" or event.first > 1:
                self.blame("gap", f"to epoch {event.epoch} from {event.first}, why {event.why}")
            stay = Stay(event.epoch, 0, event.last)
            if event.last > 0:
                stay.gaps.append((1, event.last))
            self.stays.append(stay)
            return
        if event.first != stay.last + 1 or event.last < event.first:
            self.blame("gap", f"gap {event.first}..{event.last} at {stay.epoch} {stay.last}")
        stay.gaps.append((event.first, event.last))
        stay.last = max(stay.last, event.last)


def follow(who, events, found):
    """The paths of one client by group, and (group, epoch, offset, id) of its messages."""
    paths, messages = {}, []
    for event in events:
        if not isinstance(event, (Joined, Message, Gap, Skip)):
            continue
        path = paths.get(event.group)
        if path is None:
            path = paths[event.group] = Path(who, event.group, found)
        if isinstance(event, Message):
            path.on_message(event)
            if path.stays:
                messages.append((event.group, path.stays[-1].epoch, event.offset, event.id))
        elif isinstance(event, Joined):
            path.on_joined(event)
        elif isinstance(event, Gap):
            path.on_gap(event)
        else:
            path.on_skip(event)
    return paths, messages


class Facts:
    """Which message is at a position; all who were told must have been told the same."""

    def __init__(self, asked, found):
        self.asked = asked
        self.found = found
        self.at = {}
        self.places = collections.defaultdict(set)  # (group, id): its positions

    def tell(self, who, group, epoch, offset, id):
        known = self.at.setdefault((group, epoch, offset), id)
        if known != id:
            self._blame("disagree", who, group, f"{epoch} {offset} is {known} and {id}")
        if self.asked.get(id) != group:
            self._blame("phantom", who, group, f"{epoch} {offset} is {id}")
        places = self.places[group, id]
        if (epoch, offset) in places:
            return
        # The ids of live groups are in the router's memory: a new epoch has forgotten them.
        if places and (is_durable(group) or any(epoch == other for other, _ in places)):
            self._blame("twice", who, group, f"{id} at {epoch} {offset} and {sorted(places)}")
        places.add((epoch, offset))

    def _blame(self, kind, who, group, what):
        self.found.append(Violation(kind, who, group, what))


def check_receipts(acked, facts, found):
    newest = {}  # (publisher, group): the newest position
    for receipt in acked:
        facts.tell(receipt.publisher, receipt.group, receipt.epoch, receipt.offset, receipt.id)
        promised = "stored" if is_durable(receipt.group) else "routed"
        if receipt.ack != promised:
            what = f"{receipt.id} is {receipt.ack}"
            found.append(Violation("promise", receipt.publisher, receipt.group, what))
        key = receipt.publisher, receipt.group
        epoch, offset = newest.get(key, (receipt.epoch, 0))
        if epoch == receipt.epoch and receipt.offset <= offset:
            what = f"{receipt.id} is at {epoch} {receipt.offset}, the one before it at {offset}"
            found.append(Violation("order", receipt.publisher, receipt.group, what))
        newest[key] = receipt.epoch, receipt.offset


def inside(ranges, offset):
    return any(first <= offset <= last for first, last in ranges)


def check_path(path, acked, found):
    """acked: of the path's group, {epoch: {offset: id}}, the epoch of the last receipt last."""
    last_epoch = next(reversed(acked))
    final = path.stays[-1]
    if final.epoch != last_epoch or final.last < max(acked[last_epoch]):
        end = last_epoch, max(acked[last_epoch])
        path.blame("behind", f"at {(final.epoch, final.last)}, acknowledged up to {end}")
    durable = is_durable(path.group)
    # The client got from each stay to the next by a gap that says so, which covers what is left
    # of the epoch and all epochs between; of a durable group nothing may be covered.
    for index, stay in enumerate(path.stays):
        for offset, id in acked.get(stay.epoch, {}).items():
            if offset <= stay.first:
                continue  # before it joined
            if offset > stay.last:
                if durable:
                    path.blame("lost", f"{id} at {stay.epoch} {offset}, beyond {stay.last}")
                elif index == len(path.stays) - 1:
                    path.blame("unannounced", f"{id} at {stay.epoch} {offset}")
            elif inside(stay.skipped, offset) or (durable and inside(stay.gaps, offset)):
                path.blame("lost" if durable else "unannounced", f"{id} at {stay.epoch} {offset}")
    if durable:
        seen = {stay.epoch for stay in path.stays}
        for epoch in acked.keys() - seen:
            path.blame("lost", f"all of epoch {epoch}")


def judge(history):
    """The violations in history, worst understood by reading the first; [] when it is good."""
    found = []
    facts = Facts(history.asked, found)
    check_receipts(history.acked, facts, found)
    acked = collections.defaultdict(dict)  # group: {epoch: {offset: id}}
    for receipt in history.acked:
        epochs = acked[receipt.group]
        offsets = epochs.pop(receipt.epoch, {})
        offsets[receipt.offset] = receipt.id
        epochs[receipt.epoch] = offsets  # the epoch of the last receipt is the last one
    for who, events in history.clients.items():
        paths, messages = follow(who, events, found)
        for message in messages:
            facts.tell(who, *message)
        for group, path in paths.items():
            if path.stays and group in acked:
                check_path(path, acked[group], found)
    return found


def summary(found, most=20):
    """For people: how many of each kind, and the first ones in full."""
    counts = collections.Counter(violation.kind for violation in found)
    lines = [", ".join(f"{count} {kind}" for kind, count in counts.most_common())]
    lines += [str(violation) for violation in found[:most]]
    return "\n".join(lines)
