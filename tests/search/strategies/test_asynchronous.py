"""Asynchronous halving: the promotion rule of the paper, for any workers, and again from a record."""

import itertools
import math
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from helpers.properties import over

from jaxdeep.search import AsynchronousHalving
from jaxdeep.search.strategies import halving as successive
from jaxdeep.search.strategies.asynchronous import Job, ask, begin, halved, replay, tell

MIN = AsynchronousHalving()
ODD = [math.nan, math.inf, -math.inf]
MODES = pytest.mark.parametrize("mode", ["min", "max"])


def told(state, *values):
    """The state after the next jobs, one by one, have these values."""
    for value in values:
        job, state = ask(state)
        state = tell(state, job, value)
    return state


def test_six_points_told_in_all_orders():
    """E.g. 5, 4, 3: the third goes on. Then 2: it goes on, too, and 3 should not have."""
    values = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    for order in itertools.permutations(range(6)):
        first, state, events, promoted = [], begin(MIN, 6, 9), [], []
        for _ in range(6):
            job, state = ask(state)
            first.append(job)
        assert first == [Job(i, 1, 0) for i in range(6)]
        for finished, i in enumerate(order, 1):
            state = tell(state, first[i], values[i])
            events.append((first[i], values[i]))
            best = sorted(order[:finished], key=lambda i: values[i])[: finished // 3]
            job, state = ask(state)
            if job == "wait":
                assert set(best) <= set(promoted)
            else:
                assert job == Job(next(i for i in best if i not in promoted), 3, 1)
                promoted.append(job.point)
                events.append((job, None))
            if finished < 3:
                assert job == "wait"
        assert set(best) <= set(promoted)  # the two best, whatever the order
        assert len(promoted) == len(set(promoted))
        asked = [(Job(i, 1, 0), None) for i in range(6)] + events
        assert replay(MIN, 6, 9, asked) == replay(MIN, 6, 9, events)
        again = replay(MIN, 6, 9, events)
        for job in state.running:
            found, again = ask(again)
            assert found == job
        assert again == state


def test_the_next_rung_is_filled_before_new_points_begin():
    state = told(begin(MIN, 99, 9), 0.3, 0.1, 0.2)
    job, state = ask(state)
    assert job == Job(1, 3, 1)
    other, state = ask(state)
    assert other == Job(3, 1, 0)
    state = told(tell(tell(state, job, 0.1), other, 0.05), 0.05)
    assert [point for _, point in state.rungs[1].reached] == [3, 1]
    state = told(state, 0.5, 0.01, 0.01)
    assert [point for _, point in state.rungs[1].reached] == [5, 3, 1]
    assert ask(state)[0] == Job(5, 9, 2)


def test_rungs_are_looked_at_from_the_top_down():
    state, jobs = begin(AsynchronousHalving(factor=2), 99, 4), []
    for _ in range(4):
        job, state = ask(state)
        jobs.append(job)
    state = tell(tell(state, jobs[0], 0.3), jobs[1], 0.4)
    first, state = ask(state)
    state = tell(tell(state, jobs[2], 0.1), jobs[3], 0.2)
    second, state = ask(state)
    assert [job.point for job in (first, second)] == [0, 2]
    state = tell(tell(state, first, 0.3), second, 0.1)
    assert ask(state)[0] == Job(2, 4, 2)  # before point 3, which may go on from rung 0
    assert ask(ask(state)[1])[0] == Job(3, 2, 1)


def test_equal_points_go_on_in_their_order():
    state = told(begin(AsynchronousHalving(factor=2), 4, 2), 0.0, -0.0)
    assert ask(state)[0] == Job(0, 2, 1)
    assert ask(told(state, 0.5))[0] == Job(2, 1, 0)


@MODES
def test_what_is_not_finite_never_goes_on(mode):
    rule = AsynchronousHalving(mode=mode)
    state = told(begin(rule, 7, 9), *ODD, *ODD)
    assert ask(state)[0] == Job(6, 1, 0)
    state = told(state, 0.5)
    assert halved(state) == [0, 1, 2, 3, 4, 5]
    assert ask(state)[0] == Job(6, 3, 1)
    state = told(state, math.nan)
    assert ask(state)[0] == "done"
    assert halved(state) == list(range(7))
    nothing = told(begin(rule, 3, 9), *ODD)
    assert ask(nothing)[0] == "done"
    assert halved(nothing) == [0, 1, 2]


def test_larger_is_better_where_the_name_or_the_mode_says_so():
    rules = {
        AsynchronousHalving(): 0,
        AsynchronousHalving(monitor="val_accuracy"): 2,
        AsynchronousHalving(mode="max"): 2,
        AsynchronousHalving(monitor="val_accuracy", mode="min"): 0,
        AsynchronousHalving(monitor="score", mode="max"): 2,
    }
    for rule, best in rules.items():
        assert ask(told(begin(rule, 9, 9), 0.1, 0.2, 0.3))[0] == Job(best, 3, 1)


def test_a_small_sweep_has_a_full_run():
    state = told(begin(MIN, 2, 27), 0.2, 0.1)
    assert ask(state)[0] == Job(1, 3, 1)
    running = ask(state)[1]
    assert ask(running)[0] == "wait"
    state = told(state, 0.3, 0.3, 0.3)
    assert ask(state)[0] == "done"
    assert [point for _, point in state.rungs[-1].reached] == [1]
    assert halved(state) == [0]


def test_without_a_rung_before_the_last_all_points_run_to_the_end():
    state = told(begin(AsynchronousHalving(first=9), 3, 9), 0.3, math.nan, 0.1)
    assert ask(state) == ("done", state)
    assert (state.ends, halved(state)) == ((9,), [])


# --- any number of workers ---------------------------------------------------------------------------


class Naive:
    """The rule as the paper writes it, with sets and sorting."""

    def __init__(self, factor, ends, points, sign):
        self.factor, self.ends, self.points, self.sign = factor, ends, points, sign
        self.finished = [{} for _ in ends]
        self.promoted = [set() for _ in ends]
        self.begun = 0

    def job(self, running):
        ending = self.begun == self.points and not running
        for k in reversed(range(len(self.ends) - 1)):
            values = self.finished[k]
            order = sorted(values, key=lambda point: (self.ranked(values[point]), point))
            size = len(values) // self.factor or (1 if ending else 0)
            candidates = [p for p in order[:size] if math.isfinite(values[p])]
            if free := [p for p in candidates if p not in self.promoted[k]]:
                self.promoted[k].add(free[0])
                return Job(free[0], self.ends[k + 1], k + 1)
        if self.begun < self.points:
            self.begun += 1
            return Job(self.begun - 1, self.ends[0], 0)
        return "wait" if running else "done"

    def ranked(self, value):
        return self.sign * value if math.isfinite(value) else math.inf


@st.composite
def sweeps(draw):
    """A rule, points, epochs, a value for every point and rung, workers, and who ends first."""
    rule = AsynchronousHalving(
        first=draw(st.integers(1, 3)),
        factor=draw(st.integers(2, 4)),
        mode=draw(st.sampled_from(["min", "max"])),
    )
    points, epochs = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ends = successive.rungs(rule, epochs)
    values = random.integers(0, 20, (points, len(ends))).astype(float)  # some of them equal
    odd = random.random(values.shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    values = np.where(odd, random.choice(ODD, values.shape), values)
    return rule, points, epochs, values, draw(st.integers(1, 8)), random


def run(sweep, state=None, others=None):
    """Every state of a sweep and the events so far, to its end."""
    rule, points, epochs, values, workers, random = sweep
    state = begin(rule, points, epochs) if state is None else state
    running, events = [], []
    while True:
        while len(running) < workers:
            job, state = ask(state)
            if others is not None:
                assert job == others.job(bool(running))
            if job == "wait":
                assert running
                break
            if job == "done":
                assert not running
                yield state, events
                return
            running.append(job)
            events = [*events, (job, None)]
            yield state, events
        for _ in range(random.integers(1, len(running) + 1)):  # some of them end at the same time
            job = running.pop(int(random.integers(len(running))))
            value = values[job.point, job.rung]
            if others is not None:
                others.finished[job.rung][job.point] = value
            state = tell(state, job, value)
            events = [*events, (job, value)]
            yield state, events


@over(few=40, many=1500, sweep=sweeps())
def test_any_workers_follow_the_paper_to_the_end(sweep):
    rule, points, epochs, values, *_ = sweep
    sign = 1 if rule.mode == "min" else -1
    naive = Naive(rule.factor, successive.rungs(rule, epochs), points, sign)
    hopeless = set()
    for step in run(sweep, others=naive):
        state, events = step
        assert not {job.point for job in state.running} & hopeless
        assert hopeless <= set(halved(state))
        hopeless = set(halved(state))
    asked = [job for job, value in events if value is None]
    assert len(set(asked)) == len(asked)
    assert [job.point for job in asked if job.rung == 0] == list(range(points))
    assert {(job, "told") for job, value in events if value is not None} == {
        (job, "told") for job in asked
    }
    for job in asked:
        assert job.rung == 0 or np.isfinite(values[job.point, : job.rung]).all()
    # each point is in the last rung or halved, and the best of the first rung has gone on
    last = {point for _, point in state.rungs[-1].reached}
    assert set(halved(state)) == set(range(points)) - last
    for below, above in itertools.pairwise(state.rungs):
        finite = [entry for entry in below.reached if math.isfinite(entry[0])]
        gone = {point for _, point in above.reached}
        room = max(1, len(below.reached) // rule.factor) if below.reached else 0
        assert {point for _, point in finite[:room]} <= gone
    assert last or not np.isfinite(values).all()


@over(few=6, many=300, sweep=sweeps())
def test_a_sweep_killed_anywhere_goes_on_with_the_same_decisions(sweep):
    rule, points, epochs, *_ = sweep
    for state, events in run(sweep):
        values = {job: value for job, value in events if value is not None}
        jobs = [job for job, value in events if value is None]
        by_asking = [(job, values.get(job)) for job in jobs]
        by_telling = [(job, value) for job, value in events if value is not None]
        by_telling += [(job, None) for job in jobs if job not in values]
        for record in (events, by_asking, by_telling, [([*job], v) for job, v in events]):
            again = replay(rule, points, epochs, record)
            assert again == state._replace(running=(), again=state.running)
            for job in state.running:
                found, again = ask(again)
                assert found == job
            assert again == state


@over(few=15, many=300, sweep=sweeps(), more=st.integers(0, 10))
def test_a_record_without_its_open_jobs_still_trains_every_point(sweep, more):
    """Only what was told is known, and there are more points than before."""
    rule, points, epochs, values, workers, random = sweep
    values = np.concatenate([values, np.zeros((more, values.shape[1]))])
    states = list(run(sweep))
    _, events = states[len(states) // 2]
    record = [(job, value) for job, value in events if value is not None]
    state = replay(rule, points + more, epochs, record)
    later = (rule, points + more, epochs, values, workers, random)
    *_, (state, events) = run(later, state)
    asked = [job for job, _ in record] + [job for job, value in events if value is None]
    assert len(set(asked)) == len(asked)
    assert {job.point for job in asked if job.rung == 0} == set(range(points + more))
    last = {point for _, point in state.rungs[-1].reached}
    assert set(halved(state)) == set(range(points + more)) - last


def test_workers_of_equal_speed_send_on_few_that_they_should_not():
    """About a third of 3,000 points goes on, and the best ones all do."""
    values = np.random.default_rng(0).permutation(3000)
    state = begin(MIN, 3000, 3)
    while (asked := ask(state))[0] != "done":
        job, state = asked
        state = tell(state, job, values[job.point])
    gone = [point for _, point in state.rungs[1].reached]
    assert set(np.argsort(values)[:1000]) <= set(gone)
    assert len(gone) < 1000 + 3 * math.sqrt(3000)


# --- what is refused ---------------------------------------------------------------------------------

START = begin(MIN, 3, 9)
JOB, RUNNING = ask(START)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: begin(3, 3, 9), "halving must be a jaxdeep.search.AsynchronousHalving, got 3"),
        (lambda: begin(MIN, 0, 9), "points must be at least 1, got 0"),
        (lambda: begin(MIN, True, 9), "points must be a whole number, got True"),
        (lambda: begin(MIN, 3, 2.5), "epochs must be a whole number, got 2.5"),
        (lambda: begin(MIN, 3, None), "epochs must be a whole number, got None"),
        (lambda: begin(AsynchronousHalving(monitor="score"), 3, 9), "mode must be 'min' or 'max'"),
        (lambda: tell(START, JOB, 1.0), "job must be one that was asked for and not told yet, got Job"),
        (lambda: tell(RUNNING, Job(1, 1, 0), 1.0), "not told yet, got Job(point=1, until=1, rung=0)"),
        (lambda: tell(RUNNING, "wait", 1.0), "not told yet, got 'wait'"),
        (lambda: tell(tell(RUNNING, JOB, 1.0), JOB, 1.0), "and not told yet, got Job(point=0"),
        (lambda: tell(RUNNING, JOB, None), "value must be a number, got None"),
        (lambda: tell(RUNNING, JOB, True), "value must be a number, got True"),
        (lambda: tell(RUNNING, JOB, "0.5"), "value must be a number, got '0.5'"),
        (lambda: tell(RUNNING, JOB, [0.5]), "value must be a number, got [0.5]"),
        (lambda: replay(MIN, 3, 9, None), "events must be a list, got None"),
        (lambda: replay(MIN, 3, 9, [3]), "events[0] must be ((point, until, rung), value), got 3"),
        (lambda: replay(MIN, 3, 9, [((0, 1), 0.5)]), "events[0] must be ((point, until, rung), value)"),
        (lambda: replay(MIN, 3, 9, [((3, 1, 0), 0.5)]), "events[0] is of point 3, but there are 3"),
        (lambda: replay(MIN, 3, 9, [((-1, 1, 0), 0.5)]), "events[0]: point must be at least 0, got -1"),
        (lambda: replay(MIN, 3, 9, [((0, 1, 3), 0.5)]), "events[0] is of rung 3, but there are 3 of"),
        (lambda: replay(MIN, 3, 9, [((0, 2, 0), 0.5)]), "events[0]: rung 0 ends after epoch 1, got Job"),
        (lambda: replay(MIN, 3, 9, [((0, 1, None), 0.5)]), "rung must be a whole number, got None"),
        (
            lambda: replay(MIN, 3, 9, [((0, 3, 1), 0.5)]),
            "point 0 has not ended rung 0 before Job",
        ),
        (
            lambda: replay(MIN, 3, 9, [(JOB, 0.5)] * 2),
            "events[1]: Job(point=0, until=1, rung=0)",
        ),
        (lambda: replay(MIN, 3, 9, [(JOB, "0.5")]), "value must be a number, got '0.5'"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call()


def test_numbers_of_numpy_are_numbers():
    rule = AsynchronousHalving(np.int8(1), np.int8(3))
    assert begin(rule, np.int16(300), np.int16(243)).ends == (1, 3, 9, 27, 81, 243)
    assert tell(RUNNING, JOB, np.float32(0.5)) == tell(RUNNING, JOB, 0.5)
    record = [([np.int64(0), np.int64(1), np.int64(0)], np.float32(0.5))]
    assert replay(MIN, 3, 9, record) == tell(RUNNING, JOB, 0.5)
