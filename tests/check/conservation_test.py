"""The judge of the sums sees what does not add up, and nothing else."""

import pytest

import conservation
from conservation import LAWS, NAMES, broken, check_process, terms


class Process:
    """Answers with the next of several states; the last one stays."""

    verb = "node"

    def __init__(self, directory, *states):
        self.directory, self.states, self.asked = directory, list(states), 0

    def next(self):
        self.asked += 1
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.setattr(conservation, "read_metrics", lambda process: process.next())


def counted(**changes):
    return {**{name: 0 for name in NAMES}, **changes}


def frames(due, written):
    return counted(peal_frames_due_total=due, peal_frames_written_total=written)


def test_sums_that_agree_are_not_broken():
    assert broken(counted()) == []
    assert broken(counted(peal_store_found_total=3, peal_store_stored_total=2, peal_store_present=5)) == []


@pytest.mark.parametrize("law", LAWS)
def test_each_counter_of_a_law_is_looked_at(law):
    for name in (name for side in LAWS[law] for name in side):
        (sentence,) = broken(counted(**{name: 1}))
        assert sentence.startswith(f"{law}: ") and f"{name}=1" in sentence


def test_negative_gauge_is_broken_even_when_the_sum_agrees():
    told = broken(counted(peal_frames_queued=-1, peal_frames_written_total=1))
    assert len(told) == 1 and "peal_frames_queued=-1" in told[0]


def test_labels_are_added_up_and_missing_counters_named():
    metrics = counted()
    del metrics["peal_frames_dropped_total"]
    with pytest.raises(AssertionError, match="peal_frames_dropped_total"):
        terms(metrics)
    metrics['peal_frames_dropped_total{reason="slow"}'] = 2
    metrics['peal_frames_dropped_total{reason="closed"}'] = 3
    assert terms(metrics)["peal_frames_dropped_total"] == 5


def test_process_is_asked_until_it_rests(tmp_path):
    process = Process(tmp_path, frames(5, 4), frames(6, 6), frames(7, 7))
    assert check_process(process) == frames(7, 7)
    assert process.asked == 4


def test_loss_that_stays_fails_with_its_numbers(tmp_path):
    with pytest.raises(AssertionError, match="node: 1 not accounted for"):
        check_process(Process(tmp_path, frames(5, 4)), timeout=0.2)
