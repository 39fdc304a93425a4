"""Histograms of the scores of two classes, of batches that are merged without knowing each other."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep import _checks, _ignored
from jaxdeep._arrays import as_array
from jaxdeep._precision import check_told_apart
from jaxdeep._shapes import Array, PyTree
from jaxdeep.metrics.inputs import check_probabilities, flat
from jaxdeep.metrics.streaming import Found, Metric, Pair, added, marked, of_sums, scattered, told

_MOST = float(jnp.finfo(jnp.float32).max)  # the least score of none, and the largest is less

# ``(positives, negatives) -> (value, how far it may be off)``, of the counts in bins that rise.
Curve = Callable[[Array, Array], tuple[Array, Array]]


def of_histograms(
    bins: int,
    from_logits: bool | None,
    ignore_class: int | None,
    curve: Curve,
    enough: float,
) -> Metric:
    """A metric of the order of scores, from two kinds of bins.

    `bins` of them are even in ``z / (4 + |z|)`` for a logit z; ``8 · bins`` at most are even in z,
    between the least and the largest of all. The value is that of the first kind, unless it may be off
    by more than `enough` and the second by less.
    """
    bins = _checks.check_count("bins", bins, low=2)
    even_bins = 8 * bins
    ignore_class = _ignored.check(ignore_class)

    def of(from_logits: bool | None) -> Metric:
        def counts(outputs: Any, y: Any, weights: Any) -> Found:
            check_told_apart("outputs", as_array("outputs", outputs))
            scores, positive, w, wrong = flat(outputs, y, weights)
            wide = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
            if not from_logits:
                check_probabilities(scores)
            logits, side = _clear(wide) if from_logits else _logits(wide)
            place = jnp.where(side == 0, jnp.sign(logits) * (1 - 4 / (4 + jnp.abs(logits))), side)
            place = jnp.clip(((place + 1) / 2 * bins).astype(jnp.int32), 0, bins - 1)
            finite = logits.astype(jnp.result_type(float))
            known = jnp.isfinite(finite) & (side == 0)
            known = known if w is None else known & (w != 0)
            low = jnp.min(finite, where=known, initial=_MOST)
            high = jnp.max(finite, where=known, initial=-_MOST)
            even = _even_place(finite, side, _bins_between(low, high, even_bins), even_bins)
            rows = jnp.ones(positive.shape, bool) if w is None else w
            sums = _of_classes("", positive, place, rows, bins)
            sums |= _of_classes("even_", positive, even, rows, even_bins + 2)
            # NaN has no place in the order
            return {**marked(sums, wrong), "low": low, "high": high, "parts": jnp.ones_like(low)}

        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("positive", "negative"), (bins,))
        shapes |= dict.fromkeys(("even_positive", "even_negative"), (even_bins + 2,))
        beside = {"low": _MOST, "high": -_MOST, "parts": 1.0}
        return of_sums(
            shapes, counts, compute, beside=beside, aligned=_aligned, ignore_class=ignore_class
        )

    def compute(state: dict[str, Any]) -> Any:
        value, off = curve(state["positive"], state["negative"])
        even_value, even_off = curve(state["even_positive"], state["even_negative"])
        better = (off > enough) & (even_off < off) & (state["parts"] == 1)
        return jnp.where(better, even_value, value)

    return told(of, from_logits)


def _of_classes(
    kind: str, positive: Array, place: Array, weights: Array, bins: int
) -> dict[str, Array | Pair]:
    """The weights at each place of either class, by name; both are counted in one go."""
    sums = scattered(place + bins * positive, weights, 2 * bins)
    halves = {"negative": slice(bins), "positive": slice(bins, None)}
    return {
        kind + name: jax.tree.map(lambda of, rows=rows: of[rows], sums) for name, rows in halves.items()
    }


@jax.jit
def _logits(p: Array) -> tuple[Array, Array]:
    """``log p − log(1 − p)``, of which near ½ the digits are kept, as of `_clear`."""
    certain = jnp.where(p >= 1, 1.0, jnp.where(p <= 0, -1.0, 0.0))
    p = jnp.where(certain == 0, p, 0.5)
    near = (p > 0.25) & (p < 0.75)
    half = jnp.where(near, p, 0.5)
    logits = jnp.where(near, jnp.log1p((2 * half - 1) / (1 - half)), jnp.log(p) - jnp.log1p(-p))
    logits, side = _clear(logits)
    return logits, side + certain


@jax.jit
def _clear(logits: Array) -> tuple[Array, Array]:
    """The logits, 0 where they are infinite, and their sign there; jax_debug_infs refuses infinities."""
    side = jnp.where(jnp.isinf(logits), jnp.sign(logits), 0)
    return jnp.where(side == 0, logits, 0), side


class _Bins(NamedTuple):
    """Even bins: ``[n · 2^exponent, (n + 1) · 2^exponent)`` for n from `first` on."""

    exponent: Array
    first: Array
    finest: Array  # the exponent of what the largest score is a whole multiple of
    seen: Array  # whether there are scores


@partial(jax.jit, static_argnames="count")
def _bins_between(low: Array, high: Array, count: int) -> _Bins:
    """The narrowest of at most `count` bins from the least to the largest score.

    They depend on these two alone, and those of fewer scores are parts of those of more.
    """
    info = jnp.finfo(low.dtype)
    seen = low <= high
    low, high = jnp.where(seen, low, 0), jnp.where(seen, high, 0)
    size = jnp.frexp(jnp.maximum(jnp.abs(low), jnp.abs(high)))[1]
    finest = jnp.maximum(size - (info.nmant + 1), info.minexp).astype(jnp.result_type(int))
    shifts = jnp.arange(info.nmant + 3)
    first, last = _multiple(low, finest), _multiple(high, finest)
    shift = jnp.argmax((last >> shifts) - (first >> shifts) < count)
    return _Bins(finest + shift, first >> shift, finest, seen)


def _multiple(scores: Array, exponent: Array) -> Array:
    """``⌊scores / 2^exponent⌋``, of less than the bits of the default whole numbers."""
    scaled = scores * jnp.ldexp(jnp.ones_like(scores), -exponent)
    floor = jnp.where((scaled == 0) & (scores < 0), -1, jnp.floor(scaled))  # what underflows
    return floor.astype(jnp.result_type(int))


@partial(jax.jit, static_argnames="count")
def _even_place(scores: Array, side: Array, bins: _Bins, count: int) -> Array:
    """The places of scores, from 1 to `count`; −∞ is before and ∞ behind them, as `side` says."""
    multiple = _multiple(jnp.where(jnp.isfinite(scores), scores, 0), bins.finest)
    place = (multiple >> (bins.exponent - bins.finest)) - bins.first
    place = 1 + jnp.clip(place, 0, count - 1)
    return jnp.where(side == 0, place, jnp.where(side > 0, count + 1, 0))


@jax.jit
def _aligned(one: PyTree, other: PyTree) -> tuple[PyTree, PyTree]:
    """The states with the even bins of both together."""
    both, names = (one, other), ("even_positive", "even_negative")
    low, high = jnp.minimum(one["low"], other["low"]), jnp.maximum(one["high"], other["high"])
    parts = jnp.maximum(one["parts"], other["parts"])
    count = one[names[0]].shape[0] - 2
    lows, highs = (
        jnp.stack([one["low"], other["low"], low]),
        jnp.stack([one["high"], other["high"], high]),
    )
    bins = jax.vmap(partial(_bins_between, count=count))(lows, highs)
    old, new = jax.tree.map(lambda a: a[:2], bins), jax.tree.map(lambda a: a[2], bins)
    pairs = [[[of[name] for name in names] for of in (state, state["lost"])] for state in both]
    rebinned = _rebinned(jnp.array(pairs), old, new)

    def moved(state: PyTree, pair: Array) -> PyTree:
        sums, lost = (dict(zip(names, values)) for values in pair)
        agreed = {"low": low, "high": high, "parts": parts}
        return state | sums | agreed | {"lost": state["lost"] | lost}

    return moved(one, rebinned[0]), moved(other, rebinned[1])


def _rebinned(pairs: Array, old: _Bins, new: _Bins) -> Array:
    """Sums of some bins as those of bins that are as wide or wider, and in which they lie.

    Args:
      pairs: ``(states, 2, classes, count + 2)``, the sums and what they lost; before and behind the bins
        are those of −∞ and ∞.
      old: the bins of each state.
      new: those of all of them.
    """
    count = pairs.shape[-1] - 2

    def of_state(values: Array) -> Array:
        return values[:, None, None, None]

    def padded(values: Array, before: int, after: int) -> Array:
        return jnp.pad(values, ((0, 0),) * 3 + ((before, after),))

    def wider(at: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        inner, first, times = at
        moves, is_odd = times > 0, first & 1 == 1
        two = jnp.where(of_state(is_odd), padded(inner, 1, 1), padded(inner, 0, 2))
        left, right = (two[..., side::2] for side in (0, 1))
        short = jnp.stack(added(left[:, 0], left[:, 1], right[:, 0], right[:, 1]), axis=1)
        short = padded(short, 0, count - short.shape[-1])
        inner = jnp.where(of_state(moves), short, inner)
        return inner, jnp.where(moves, first >> 1, first), times - moves

    times = jnp.where(old.seen, new.exponent - old.exponent, 0)
    start = pairs[..., 1:-1], old.first, jnp.maximum(times, 0)
    inner, first, _ = jax.lax.while_loop(lambda at: (at[2] > 0).any(), wider, start)
    offsets = jnp.clip(jnp.where(old.seen, first - new.first, 0), 0, count)

    def put(values: Array, offset: Array) -> Array:
        room, zero = jnp.zeros((*values.shape[:-1], 2 * count), values.dtype), jnp.zeros_like(offset)
        return jax.lax.dynamic_update_slice(room, values, (zero, zero, offset))[..., :count]

    inner = jnp.stack([put(*of) for of in zip(inner, offsets)])
    return jnp.concatenate([pairs[..., :1], inner, pairs[..., -1:]], axis=-1)
