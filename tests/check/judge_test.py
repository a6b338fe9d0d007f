"""The judge of the chaos runs: one good history, and for each promise one that breaks it."""

import pytest

from history import Acked, Closed, Gap, History, Joined, Message, Opened, Skip
from judge import KINDS, judge, summary

ROOM, INBOX = "room:1", "user:ann"


def joined(group, epoch, offset, recovered="new"):
    return Joined(0, group, epoch, offset, recovered)


def message(group, offset, id=None):
    return Message(0, group, offset, id or f"{group}-{offset}")


def messages(group, first, last):
    return [message(group, offset) for offset in range(first, last + 1)]


def gap(group, first, last, epoch, why):
    return Gap(0, group, first, last, epoch, why)


def acked(group, epoch, offset, id=None, **fields):
    level = "stored" if group.startswith("user:") else "routed"
    receipt = Acked(0, "shop", id or f"{group}-{offset}", group, epoch, offset, level, False)
    return receipt._replace(**fields)


def history(events, receipts, **others):
    """Of a client `ann`, and of others; what was acknowledged or received was asked for."""
    clients = {"ann": events, **others}
    told = [event for stream in clients.values() for event in stream if isinstance(event, Message)]
    asked = {item.id: item.group for item in [*told, *receipts]}
    return History(clients=clients, asked=asked, acked=receipts)


def inbox(*events):
    return history(
        [joined(INBOX, "A", 0), *events], [acked(INBOX, "A", offset) for offset in (1, 2, 3)]
    )


def room(*events):
    return history(
        [joined(ROOM, "A", 0), *events], [acked(ROOM, "A", offset) for offset in (1, 2, 3)]
    )


def kinds(found):
    return {violation.kind for violation in found}


def test_complete_stream_over_a_reconnect_is_good():
    events = [
        Opened(0, 1),
        joined(INBOX, "A", 0),
        joined(ROOM, "E", 7),
        message(INBOX, 1),
        message(ROOM, 8),
        Closed(1, 1006),
        Opened(3, 2),
        joined(INBOX, "A", 1, "full"),
        joined(ROOM, "E", 8, "full"),
        *messages(INBOX, 2, 3),
        *messages(ROOM, 9, 10),
    ]
    receipts = [acked(INBOX, "A", offset) for offset in (1, 2, 3)]
    receipts += [acked(ROOM, "E", offset) for offset in (5, 8, 9, 10)]  # 5: before it joined
    good = history(events, receipts)
    assert judge(good) == []
    assert good.outages() == [2]


def test_live_loss_told_by_a_gap_in_the_epoch_is_good():
    assert judge(room(message(ROOM, 1), gap(ROOM, 2, 2, "A", "unrepaired"), message(ROOM, 3))) == []


def test_live_epochs_that_a_gap_leaves_and_passes_over_are_good():
    events = [joined(ROOM, "A", 0), message(ROOM, 1), gap(ROOM, 1, 1, "C", "epoch")]
    events.append(message(ROOM, 2, "c2"))
    receipts = [
        acked(ROOM, "A", 1),
        acked(ROOM, "A", 2),  # the rest of the epoch was lost with the router
        acked(ROOM, "B", 1, "b1"),
        acked(ROOM, "C", 1, "c1"),
        acked(ROOM, "C", 2, "c2"),
    ]
    assert judge(history(events, receipts)) == []


def test_gap_after_which_nothing_of_the_new_epoch_is_missing_is_good():
    events = [joined(ROOM, "A", 4), gap(ROOM, 0, 0, "B", "epoch"), message(ROOM, 1)]
    assert judge(history(events, [acked(ROOM, "B", 1)])) == []


def test_live_message_retried_over_a_restart_may_come_in_both_epochs():
    events = [joined(ROOM, "A", 0), message(ROOM, 1, "x"), gap(ROOM, 0, 0, "B", "epoch")]
    events.append(message(ROOM, 1, "x"))
    assert judge(history(events, [acked(ROOM, "B", 1, "x")])) == []


def test_message_that_was_never_acknowledged_may_come_or_not():
    assert judge(inbox(*messages(INBOX, 1, 5))) == []
    assert judge(inbox(*messages(INBOX, 1, 3))) == []


BAD = {
    "end of a stream that is missing": ("behind", inbox(*messages(INBOX, 1, 2))),
    "stored message in a gap": (
        "lost",
        inbox(message(INBOX, 1), gap(INBOX, 2, 2, "A", "evicted"), message(INBOX, 3)),
    ),
    "stored message in a skip": (
        "lost",
        inbox(message(INBOX, 1), Skip(0, INBOX, 2, 2), message(INBOX, 3)),
    ),
    "stored messages of an epoch that was left": (
        "lost",
        history(
            [joined(INBOX, "A", 0), message(INBOX, 1), gap(INBOX, 0, 0, "B", "epoch")]
            + [message(INBOX, 1, "b1")],
            [acked(INBOX, "A", 1), acked(INBOX, "A", 2), acked(INBOX, "B", 1, "b1")],
        ),
    ),
    "stored messages of an epoch that nobody told of": (
        "lost",
        history(
            [joined(INBOX, "A", 0), gap(INBOX, 0, 0, "C", "epoch"), message(INBOX, 1, "c1")],
            [acked(INBOX, "B", 1, "b1"), acked(INBOX, "C", 1, "c1")],
        ),
    ),
    "live message in a skip": (
        "unannounced",
        room(message(ROOM, 1), Skip(0, ROOM, 2, 2), message(ROOM, 3)),
    ),
    "live message at the end": (
        "unannounced",
        history(
            [joined(ROOM, "A", 0), *messages(ROOM, 1, 2)],
            [acked(ROOM, "A", offset) for offset in (1, 2, 3)],
        ),
    ),
    "new epoch that the client was not told of": (
        "behind",
        history(
            [joined(ROOM, "A", 0), message(ROOM, 1)], [acked(ROOM, "A", 1), acked(ROOM, "B", 1, "b")]
        ),
    ),
    "message that came twice": ("duplicate", inbox(message(INBOX, 1), *messages(INBOX, 1, 3))),
    "message that came again after others": (
        "reordered",
        inbox(*messages(INBOX, 1, 3), message(INBOX, 1)),
    ),
    "message that came too late": (
        "reordered",
        room(message(ROOM, 1), message(ROOM, 3), message(ROOM, 2)),
    ),
    "hole in a stream": ("hole", room(message(ROOM, 1), message(ROOM, 3))),
    "message before the join": ("hole", history([message(ROOM, 1)], [])),
    "resume further on": (
        "resume",
        inbox(message(INBOX, 1), joined(INBOX, "A", 2, "full"), message(INBOX, 3)),
    ),
    "resume in another epoch without a gap": (
        "resume",
        history(
            [joined(ROOM, "A", 5), joined(ROOM, "B", 0, "full"), message(ROOM, 1)],
            [acked(ROOM, "B", 1)],
        ),
    ),
    "position that was thrown away": (
        "resume",
        inbox(*messages(INBOX, 1, 3), joined(INBOX, "A", 3, "new")),
    ),
    "first join that claims to go on": ("resume", history([joined(ROOM, "A", 5, "full")], [])),
    "gap that begins too late": (
        "gap",
        room(message(ROOM, 1), gap(ROOM, 3, 3, "A", "evicted")),
    ),
    "gap that goes back": (
        "gap",
        room(*messages(ROOM, 1, 3), gap(ROOM, 1, 0, "A", "epoch")),
    ),
    "gap to another epoch for another reason": (
        "gap",
        history(
            [joined(ROOM, "A", 0), gap(ROOM, 0, 0, "B", "evicted"), message(ROOM, 1)],
            [acked(ROOM, "B", 1)],
        ),
    ),
    "skip that leaves something out": (
        "gap",
        room(message(ROOM, 1), Skip(0, ROOM, 3, 3)),
    ),
    "two clients with two messages at one position": (
        "disagree",
        history(
            [joined(ROOM, "A", 0), message(ROOM, 1, "x")],
            [],
            bob=[joined(ROOM, "A", 0), message(ROOM, 1, "y")],
        ),
    ),
    "position given to two publishes": (
        "disagree",
        history([], [acked(ROOM, "A", 1, "x"), acked(ROOM, "A", 1, "y", publisher="bank")]),
    ),
    "client that got another message than was acknowledged": (
        "disagree",
        history([joined(ROOM, "A", 0), message(ROOM, 1, "y")], [acked(ROOM, "A", 1, "x")]),
    ),
    "stored message that a retry stored again": (
        "twice",
        inbox(*messages(INBOX, 1, 3), message(INBOX, 4, f"{INBOX}-1")),
    ),
    "live message that a retry numbered again in its epoch": (
        "twice",
        room(*messages(ROOM, 1, 3), message(ROOM, 4, f"{ROOM}-1")),
    ),
    "publishes of one publisher in another order": (
        "order",
        history([], [acked(ROOM, "A", 2), acked(ROOM, "A", 1)]),
    ),
    "inbox that is only routed": ("promise", history([], [acked(INBOX, "A", 1, ack="routed")])),
    "room that claims to be stored": ("promise", history([], [acked(ROOM, "A", 1, ack="stored")])),
}


@pytest.mark.parametrize("kind, bad", BAD.values(), ids=BAD.keys())
def test_bad_history_is_caught(kind, bad):
    found = judge(bad)
    assert kind in kinds(found), summary(found)


def test_message_of_another_group_is_a_phantom():
    leak = history([joined(ROOM, "A", 0), message(ROOM, 1, "secret")], [])
    leak.asked["secret"] = "user:bob"
    assert kinds(judge(leak)) == {"phantom"}


def test_every_kind_of_violation_has_a_history_that_shows_it():
    assert {kind for kind, _ in BAD.values()} | {"phantom"} == KINDS.keys()
