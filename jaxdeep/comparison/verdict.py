"""The verdict: one winner, or the candidates that cannot be told apart."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxdeep.comparison.pairs import Pair, fewest
from jaxdeep.comparison.statistics import seeds_needed

_MOST = 1_000  # more seeds than anyone would run


class Verdict(NamedTuple):
    """What the comparison says.

    Attributes:
      winners: the candidate with the best mean, and all that cannot be told from it.
      sentence: the same in words.
    """

    winners: tuple[str, ...]
    sentence: str


def verdict_of(
    order: Sequence[str], pairs: Sequence[Pair], *, seeds: int, level: float, worth: float
) -> Verdict:
    """The verdict on candidates of which the means are known.

    A candidate wins if each of its differences to the others is sure (its p-value, adjusted by Holm's
    method for all pairs, is below ``1 − level``) and larger than `worth`.

    Args:
      order: the candidates, the best mean first.
      pairs: all of their pairs.
      seeds: how many runs each has.
      level, worth: of `jaxdeep.compare`.

    >>> pair = Pair("a", "b", 0.2, 0.1, 0.3, 0.05, p=0.002, adjusted=0.002, superiority=1.0)
    >>> verdict_of(["a", "b"], [pair], seeds=10, level=0.95, worth=0.0)
    Verdict(winners=('a',), sentence='a wins.')
    """
    if not order:
        return Verdict((), "None of the candidates could be trained.")
    leader, *others = order
    if not others:
        return Verdict((leader,), f"{leader} alone was trained; there is nothing to compare it with.")
    open_pairs = [pair for pair in pairs if pair.better == leader and not pair.is_sure(level, worth)]
    if not open_pairs:
        return Verdict((leader,), f"{leader} wins.")
    winners = (leader, *(pair.worse for pair in open_pairs))
    sure = [pair for pair in pairs if pair.is_sure(level, worth)]
    inside = [pair for pair in sure if pair.better in winners[1:] and pair.worse in winners]
    if worth:
        surely = "" if _is_small(open_pairs, worth) else "surely "
        apart = f"{leader} is not {surely}better than {_listed(winners[1:], 'or')}"
        apart += f" by the {worth:g} that matters"
    elif inside:
        apart = f"{leader} cannot be told from {_listed(winners[1:], 'or')}"
    else:
        apart = f"{_listed(winners)} cannot be told apart"
    rest = [name for name in others if name not in winners]
    ranked = [(leader, rest)] if rest else []
    ranked += [(pair.better, [pair.worse]) for pair in inside]
    behind = "".join(f" {better} is better than {_listed(worse)}." for better, worse in ranked)
    return Verdict(winners, f"{apart}{_more(open_pairs, len(pairs), seeds, level, worth)}{behind}")


def _more(open_pairs: Sequence[Pair], tests: int, seeds: int, level: float, worth: float) -> str:
    """What it would take to tell them apart, or to say whether they differ by what matters."""
    if seeds < fewest(1, level):
        return f"; {seeds} seeds are too few to be sure of any difference: it takes {fewest(1, level)}."
    if _is_small(open_pairs, worth):
        return "."
    adjusted = 1 - (1 - level) / tests
    needed = max(
        seeds_needed(pair.deviation, abs(pair.difference - worth), level=adjusted) for pair in open_pairs
    )
    if not math.isfinite(needed) or needed > _MOST:
        return f"; if there is a difference, it would take more than {_MOST:,} seeds to find it."
    more = int(max(needed - seeds, 1))
    return f"; about {more} more seed{'s' * (more > 1)} would{' say whether it is' if worth else ''}."


def _is_small(open_pairs: Sequence[Pair], worth: float) -> bool:
    """Whether the differences are surely smaller than what matters."""
    return bool(worth) and all(pair.high <= worth for pair in open_pairs)


def _listed(names: Sequence[str], joint: str = "and") -> str:
    between = "; " if any("," in name for name in names) else ", "
    if len(names) == 1:
        return names[0]
    return f" {joint} ".join([between.join(names[:-1]), names[-1]])
