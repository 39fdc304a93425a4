"""Asynchronous successive halving (ASHA), which never waits for the slowest run of a rung."""

import math
import numbers
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from jaxdeep import _checks
from jaxdeep.search.strategies import halving as successive
from jaxdeep.train import monitors


class AsynchronousHalving(NamedTuple):
    """Give more epochs to the better points of a `jaxdeep.sweep` as soon as a worker is free.

    Rungs are those of `SuccessiveHalving`: `first` epochs, `factor` × `first` and so on up to
    ``epochs``. A free worker looks at the rungs from the top down. Where one of the best 1/`factor`
    (rounded down) of those that have finished a rung has not gone on yet, the best such goes on to the
    next rung. Otherwise the next new point begins. No worker waits for others as long as there are new
    points, and with points in random order few go on that would not have in the end (about √n of n).

    A point whose value is not finite never goes on. Equal points go on in the order of the list. Once
    no point is left to begin and nothing runs, a rung with fewer than `factor` points sends on its best
    one, as `SuccessiveHalving` does, so that a small sweep has a full run, too. A point that has not
    gone on by then ends as "halved".

    This is the promotion rule of the paper. What some libraries call ASHA stops a run at a rung if it is
    bad so far; there a first run always passes, however bad, and is never compared again.

    Which runs finish first decides what is compared. So a sweep on several workers is repeatable from
    its record, not from its seed. As to small rates, warm-ups and schedules, `SuccessiveHalving` says
    what ending early cannot see. Compare with other strategies at equal epochs trained, not at an equal
    number of points.

    Attributes:
      first: epochs that all points run, ≥ 1; more than a warm-up takes.
      factor: the best 1/`factor` of the points of a rung may go on, ≥ 2.
      monitor, mode: as for `EarlyStopping`.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (2020), algorithm 2.

    >>> AsynchronousHalving(first=2, factor=4).factor
    4
    """

    first: int = 1
    factor: int = 3
    monitor: str | None = None
    mode: str | None = None


monitors.check_when_made(AsynchronousHalving, lambda made: successive.check(made, AsynchronousHalving))


class Job(NamedTuple):
    """What a worker is to do: all seeds of a point, from where they are.

    Attributes:
      point: the index of the point.
      until: epochs done at the end.
      rung: the index of the rung that then is reached.
    """

    point: int
    until: int
    rung: int


# (value, point): smaller values are better, those that are not finite count as infinite.
Ranked = tuple[float, int]


class Rung(NamedTuple):
    """The points that have reached a rung, in order of rank.

    Attributes:
      reached: all of them.
      waiting: those that have not gone on.
    """

    reached: tuple[Ranked, ...] = ()
    waiting: tuple[Ranked, ...] = ()


class State(NamedTuple):
    """What is known of a sweep at a moment. It does not change: `ask` and `tell` give the next one.

    Attributes:
      factor: the best 1/`factor` of a rung may go on.
      sign: 1 if smaller values are better, −1 if larger ones are.
      points: number of points.
      ends: epochs done at the end of each rung.
      rungs: who has reached each of them.
      begun: number of points that have begun; they begin in order.
      running: the jobs that were asked for and not told yet, in the order of asking.
      again: jobs that were running when the sweep was interrupted, to be asked for first.
    """

    factor: int
    sign: float
    points: int
    ends: tuple[int, ...]
    rungs: tuple[Rung, ...]
    begun: int = 0
    running: tuple[Job, ...] = ()
    again: tuple[Job, ...] = ()


def check(halving: Any) -> None:
    """Refuse anything but an `AsynchronousHalving` with fields in range."""
    successive.check(halving, AsynchronousHalving)


def begin(halving: AsynchronousHalving, points: int, epochs: int) -> State:
    """The state before the first job.

    Args:
      halving: the rule.
      points: the number of points.
      epochs: epochs of a whole run.

    Raises:
      ValueError, TypeError: a field or number that is out of range; a metric whose name does not say
        which is better.

    >>> begin(AsynchronousHalving(), points=10, epochs=9).ends
    (1, 3, 9)
    """
    check(halving)
    ends = tuple(successive.rungs(halving, _checks.check_count("epochs", epochs)))
    _, sign = monitors.resolve(halving, {halving.monitor or "loss": 0.0})
    points = _checks.check_count("points", points)
    return State(int(halving.factor), sign, points, ends, tuple(Rung() for _ in ends))


def ask(state: State) -> tuple[Job | Literal["wait", "done"], State]:
    """The next job and the state with it; "wait" for one that runs, "done" if nothing is left to do.

    It looks at the best waiting point of each rung alone, so that it is quick with many points, too.

    >>> state = begin(AsynchronousHalving(factor=2), points=2, epochs=2)
    >>> first, state = ask(state)
    >>> second, state = ask(state)
    >>> ask(tell(state, first, 0.5))[0]
    'wait'
    >>> ask(tell(tell(state, first, 0.5), second, 0.3))[0]
    Job(point=1, until=2, rung=1)
    """
    if state.again:
        job = state.again[0]
        return job, state._replace(again=state.again[1:], running=(*state.running, job))
    for k in reversed(range(len(state.ends) - 1)):
        waiting = state.rungs[k].waiting
        if waiting and waiting[0] < _bar(state, k):
            job = Job(waiting[0][1], state.ends[k + 1], k + 1)
            return job, _asked(state, job)
    if state.begun < state.points:
        job = Job(state.begun, state.ends[0], 0)
        return job, _asked(state, job)
    return ("wait" if state.running else "done"), state


def tell(state: State, job: Job, value: float) -> State:
    """The state once a job is done.

    Args:
      state: the state before.
      job: one that was asked for and not told yet.
      value: the metric of the point, the mean over its seeds (`halving.value_of`); NaN if it diverged.

    Raises:
      ValueError, TypeError: another job, a value that is no number.

    >>> job, state = ask(begin(AsynchronousHalving(), points=2, epochs=9))
    >>> tell(state, job, 0.25).rungs[0].reached
    ((0.25, 0),)
    """
    if job not in state.running:
        raise ValueError(f"job must be one that was asked for and not told yet, got {job!r}")
    number: Any = value
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(f"value must be a number, got {value!r}")
    i, signed = state.running.index(job), state.sign * float(value)
    entry = (signed if math.isfinite(signed) else math.inf, job.point)
    rung = Rung(*(_with(entries, entry) for entries in state.rungs[job.rung]))
    running = state.running[:i] + state.running[i + 1 :]
    return state._replace(rungs=_changed(state.rungs, job.rung, rung), running=running)


def halved(state: State) -> list[int]:
    """The points that will never go on, whatever the others do.

    They are those which too many others of their rung are better than, and those whose value was not
    finite. Once `ask` says "done", they are all points that have not reached the last rung.

    >>> state = begin(AsynchronousHalving(factor=2), points=3, epochs=2)
    >>> for value in (0.5, 0.3):
    ...     job, state = ask(state)
    ...     state = tell(state, job, value)
    >>> halved(state)
    [0]
    """
    stopped, most = [], state.points
    for rung in state.rungs[:-1]:
        room = successive.kept(most, state.factor)
        worst = rung.reached[room] if room < len(rung.reached) else _NEVER
        over = rung.waiting[bisect_left(rung.waiting, min(worst, _NEVER)) :]
        stopped += [point for _, point in over]
        most -= len(over)
    return sorted(stopped)


def replay(
    halving: AsynchronousHalving,
    points: int,
    epochs: int,
    events: Sequence[tuple[Sequence[int], float | None]],
) -> State:
    """The state of a sweep that was interrupted, from the record of its jobs.

    Jobs without a value ran when it was interrupted. `ask` gives them first, in their order, and then
    what it would have given without the interruption. Who has gone on so far is read off the record and
    not decided again.

    Args:
      halving, points, epochs: as for `begin`. There may be more points than before, behind the others.
      events: pairs of a `Job` (or its three numbers) and its value, None for a job that was asked for
        and not told. They may come in the order of asking or in that of telling, and a job may come
        twice, first without its value and then with it. A point without any job, although one behind it
        has begun, is taken for a job that was asked for and whose record was lost.

    Raises:
      ValueError, TypeError: what `begin` refuses; a job that these points and rungs do not have, or that
        the events before do not lead to.

    >>> events = [((0, 1, 0), 0.5), ((1, 1, 0), None)]
    >>> ask(replay(AsynchronousHalving(), points=9, epochs=9, events=events))[0]
    Job(point=1, until=1, rung=0)
    """
    _checks.check_sequence("events", events)
    state, seen = begin(halving, points, epochs), set[tuple[int, int]]()
    for i, event in enumerate(events):
        try:
            (point, until, rung), value = event
        except (TypeError, ValueError):
            form = "((point, until, rung), value)"
            raise TypeError(f"events[{i}] must be {form}, got {event!r}") from None
        job = Job(point, until, rung)
        if job not in state.running:
            _check_next(f"events[{i}]", state, job, seen)
            seen.add((job.point, job.rung))
            state = _asked(state, job)
        if value is not None:
            state = tell(state, job, value)
    lost = [Job(i, state.ends[0], 0) for i in range(state.begun) if (i, 0) not in seen]
    return state._replace(running=(), again=(*state.running, *lost))


_NEVER = (math.inf, -1)  # ranks behind all that is finite, and before all that is not


def _bar(state: State, k: int) -> Ranked:
    """What a point of rung k must rank before to go on."""
    reached = state.rungs[k].reached
    room = len(reached) // state.factor
    if state.begun == state.points and not state.running:
        room = max(room, 1)
    return min(reached[room], _NEVER) if room < len(reached) else _NEVER


def _asked(state: State, job: Job) -> State:
    """The state after a job has begun."""
    state = state._replace(running=(*state.running, job))
    if job.rung == 0:
        return state._replace(begun=max(state.begun, job.point + 1))
    below = state.rungs[job.rung - 1]
    i = next(i for i, (_, point) in enumerate(below.waiting) if point == job.point)
    below = below._replace(waiting=below.waiting[:i] + below.waiting[i + 1 :])
    return state._replace(rungs=_changed(state.rungs, job.rung - 1, below))


def _check_next(name: str, state: State, job: Job, seen: set[tuple[int, int]]) -> None:
    """Refuse a job that the strategy would not give out after those seen so far."""
    for field, value, limit in (("point", job.point, state.points), ("rung", job.rung, len(state.ends))):
        if _checks.check_count(f"{name}: {field}", value, 0) >= limit:
            raise ValueError(f"{name} is of {field} {value}, but there are {limit} of them")
    if job.until != state.ends[job.rung]:
        raise ValueError(f"{name}: rung {job.rung} ends after epoch {state.ends[job.rung]}, got {job}")
    if (job.point, job.rung) in seen:
        raise ValueError(f"{name}: {job} is told already")
    if job.rung and all(point != job.point for _, point in state.rungs[job.rung - 1].waiting):
        raise ValueError(f"{name}: point {job.point} has not ended rung {job.rung - 1} before {job}")


def _with(entries: tuple[Ranked, ...], entry: Ranked) -> tuple[Ranked, ...]:
    i = bisect_left(entries, entry)
    return (*entries[:i], entry, *entries[i:])


def _changed(rungs: tuple[Rung, ...], k: int, rung: Rung) -> tuple[Rung, ...]:
    return (*rungs[:k], rung, *rungs[k + 1 :])
