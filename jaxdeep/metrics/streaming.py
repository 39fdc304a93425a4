"""`Metric`, a streaming metric of sums over examples, and the mean of any function."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._calls import remembered
from jaxdeep._compilation import is_traced, meant_nans
from jaxdeep._ignored import ignored_by, weights_of
from jaxdeep._shapes import Array, ArrayLike, PyTree
from jaxdeep.metrics.inputs import spread, without_uncounted

Pair = tuple[Array, Array]  # a sum, and what a float cannot hold of it
Sums = dict[str, Array]
Found = Mapping[str, Array | Pair]  # the sums of a batch: of floats, exact whole numbers, or pairs

_BLOCK = 2**16  # rows whose floats are added one by one before they are added to the others as a pair


class Metric(NamedTuple):
    """A streaming metric: pure functions over a state that is a pytree of arrays.

    Attributes:
      init: ``() -> state`` of no examples.
      update: ``(state, outputs, y, weights=None) -> state`` with a batch added. Rows of weight 0 make no
        difference, whatever they hold. Known weights that are negative or not finite are a ValueError.
      merge: ``(state, state) -> state``, as of both sets of examples; associative, so that it joins
        batches, devices and runs in any order.
      compute: ``state -> value``; a scalar or an array.
      for_logits: ``from_logits -> metric``, the metric for a model that puts out logits (True) or
        probabilities, if it depends on that; else None. `jaxdeep.train.supervised` asks for it.

    >>> from jaxdeep.metrics import precision
    >>> metric = precision()
    >>> state = metric.update(metric.init(), jnp.array([0.9, 0.8, 0.1]), jnp.array([1, 0, 1]))
    >>> float(metric.compute(state))
    0.5
    """

    init: Callable[[], PyTree]
    update: Callable[..., PyTree]
    merge: Callable[[PyTree, PyTree], PyTree]
    compute: Callable[[PyTree], Any]
    for_logits: Callable[[bool], "Metric"] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tally:
    """The state of a `Metric` on some examples, with the metric: what a step reports of one.

    >>> from jaxdeep.metrics import precision
    >>> metric = precision()
    >>> tally = Tally(metric.update(metric.init(), jnp.array([0.9]), jnp.array([1])), metric)
    >>> float(tally), f"{tally:.2f}"
    (1.0, '1.00')
    """

    state: PyTree
    metric: Metric = dataclasses.field(metadata={"static": True})

    def merge(self, other: "Tally") -> "Tally":
        """The tally of both sets of examples."""
        return Tally(self.metric.merge(self.state, other.state), self.metric)

    def compute(self) -> Any:
        """The metric's value."""
        return self.metric.compute(self.state)

    def __float__(self) -> float:
        return float(self.compute())

    def __format__(self, form: str) -> str:
        return format(float(self), form) if form else str(self)


def tally(metric: Metric, outputs: PyTree, y: PyTree, weights: ArrayLike | None = None) -> Tally:
    """The tally of a batch.

    A metric of this package is spared the sum with what it is of no examples: a program of some kernels.

    >>> from jaxdeep.metrics import precision
    >>> float(tally(precision(), jnp.array([0.9, 0.8]), jnp.array([1, 0])))
    0.5
    """
    if (alone := getattr(metric.update, "alone", None)) is None:
        return Tally(metric.update(metric.init(), outputs, y, weights), metric)
    return Tally(alone(outputs, y, weights), metric)


@remembered
def mean(function: Callable[[Any, Any], Any]) -> Metric:
    """The weighted mean of a function of examples or elements: ``Σ w f(outputs, y) / Σ w``.

    Sums of whole numbers are exact. In rows of weight 0 the function sees an example that counts.

    Args:
      function: ``(outputs, y) -> values``, of `jaxdeep.losses` for example: ``mean(huber)`` is Keras'
        Huber metric. Labels that it leaves out (``functools.partial(…, ignore_class=255)``) have no part
        in the mean.

    Raises:
      TypeError: not a function.

    Source: Keras' `Mean` and `MeanMetricWrapper`.

    >>> from jaxdeep.losses import mae
    >>> metric = mean(mae)
    >>> state = metric.update(metric.init(), jnp.array([1.0, 3.0]), jnp.zeros(2), jnp.array([3.0, 1.0]))
    >>> float(metric.compute(state))
    1.5
    """
    if not callable(function):
        raise TypeError(f"function must be a function (outputs, y) -> values, got {function!r}")

    def counts(outputs: Any, y: Any, weights: Any) -> Found:
        return averaged(jnp.asarray(function(outputs, y)), weights)

    metric = of_sums(AVERAGED, counts, average, ignore_class=ignored_by(function))
    metric.update.of_mean = function  # type: ignore[attr-defined]  # what it reads is told, as a loss is
    return metric


AVERAGED: Mapping[str, tuple[int, ...]] = {"total": (), "weight": ()}  # the sums of an average


def averaged(values: Array, weights: ArrayLike | None) -> Found:
    """The sums of which a weighted mean of values is made."""
    w = spread(weights, values.shape)
    if w is None:
        return {"total": total(values), "weight": exactly(values.size)}
    return {"total": total(times(w, values)), "weight": total(w)}


def average(sums: Sums) -> Array:
    """The weighted mean of these sums, 0 of nothing."""
    return share(sums["total"], sums["weight"])


def of_sums(
    shapes: Mapping[str, tuple[int, ...]],
    counts: Callable[[Any, Any, Any], Found],
    compute: Callable[[Sums], Array],
    *,
    beside: Mapping[str, float | np.ndarray] = {},
    aligned: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]] | None = None,
    ignore_class: int | None = None,
    exclusive: bool = False,
) -> Metric:
    """A metric whose state is sums over examples.

    Each sum is a pair of floats: the sum, and under "lost" what it cannot hold. A float32 alone stops
    counting at 2²⁴.

    Args:
      shapes: of the sums, by name.
      counts: ``(outputs, y, weights) -> found``, the sums of a batch, and what is beside them.
      compute: ``(sums and what is beside them) -> value``.
      beside: what the state holds besides sums, by name, as it is of no examples.
      aligned: ``(state, state) -> (state, state)``, as they are before their sums are added: they agree
        in what is beside them.
      ignore_class: the label whose examples have weight 0.
      exclusive: whether labels of the shape of the outputs would be one-hot.
    """

    def init() -> PyTree:
        zeros = {name: jnp.zeros(shape) for name, shape in shapes.items()}
        others = {
            name: jnp.full(np.shape(value), value, jnp.result_type(float))
            for name, value in beside.items()
        }
        return zeros | others | {"lost": dict(zeros)}

    def check(state: PyTree) -> None:
        whole = isinstance(state, Mapping) and isinstance(state.get("lost", {}), Mapping)
        leaves = dict(shapes) | {name: np.shape(value) for name, value in beside.items()}
        if not whole or any(name not in state for name in leaves):
            raise TypeError(
                f"state must be what init() returned, a dict of {', '.join(leaves)}, got {state!r}"
            )
        check_leaves("state", state)
        for name, shape in leaves.items():
            if jnp.shape(state[name]) != shape:
                raise ValueError(
                    f"state: {name} must have shape {shape}, got {jnp.shape(state[name])}; use jax.vmap "
                    "for several states"
                )

    def merge(a: PyTree, b: PyTree) -> PyTree:
        check(a)
        check(b)
        if aligned is not None:
            a, b = aligned(a, b)
        pairs = {name: added(a[name], a["lost"][name], b[name], b["lost"][name]) for name in shapes}
        sums = {name: total for name, (total, _) in pairs.items()} | {name: a[name] for name in beside}
        return sums | {"lost": {name: lost for name, (_, lost) in pairs.items()}}

    def alone(outputs: PyTree, y: PyTree, weights: ArrayLike | None, like: PyTree = None) -> PyTree:
        """The state of a batch, its sums in the dtypes of another state; by default those of `init`."""
        if ignore_class is not None:
            one_hot = np.shape(outputs) if exclusive and np.ndim(outputs) > 1 else None
            weights = weights_of(y, weights, ignore_class, one_hot)
        if weights is not None:
            outputs, y, weights = without_uncounted(outputs, y, weights, ignored=ignore_class)
        batch_sums = counts(outputs, y, weights)
        default = jnp.result_type(float)
        dtypes = {name: default if like is None else like[name].dtype for name in shapes}
        pairs = {name: _as_pair(batch_sums[name], dtype) for name, dtype in dtypes.items()}
        sums = {name: total for name, (total, _) in pairs.items()} | {
            name: batch_sums[name] for name in beside
        }
        return sums | {"lost": {name: lost for name, (_, lost) in pairs.items()}}

    def update(state: PyTree, outputs: PyTree, y: PyTree, weights: ArrayLike | None = None) -> PyTree:
        check(state)
        return merge(state, alone(outputs, y, weights, state))

    update.alone = alone  # type: ignore[attr-defined]

    def computed(state: PyTree) -> Any:
        check(state)
        with meant_nans():  # of what has no value, such as a rate of no examples
            return compute({name: state[name] for name in (*shapes, *beside)})

    return Metric(init, update, merge, computed)


def added(a: Array, a_lost: Array, b: Array, b_lost: Array) -> tuple[Array, Array]:
    """The sum of two pairs (Knuth's TwoSum), as a pair again."""
    total = a + b
    of_b = total - a
    lost = (a - (total - of_b)) + (b - of_b) + a_lost + b_lost
    rounded = total + lost
    lost = lost - (rounded - total)
    return jnp.where(jnp.isfinite(total), rounded, total), jnp.where(jnp.isfinite(total), lost, 0)


def _as_pair(amount: Array | Pair, dtype: Any) -> Pair:
    """A sum of floats or whole numbers as a pair of floats, exact for the latter."""
    if isinstance(amount, tuple):
        return amount[0].astype(dtype), amount[1].astype(dtype)
    added = amount.astype(dtype)
    if jnp.issubdtype(amount.dtype, jnp.integer):
        return added, (amount - added.astype(amount.dtype)).astype(dtype)
    return added, jnp.zeros_like(added)


def exactly(count: int) -> Pair:
    """A whole number of any size as a pair."""
    dtype = jnp.result_type(float)
    near = np.asarray(count, dtype)
    return jnp.asarray(near), jnp.asarray(count - int(near), dtype)


def total(values: ArrayLike) -> Array | Pair:
    """The sum of floats, whole numbers or booleans; of the latter it is exact."""
    values = jnp.asarray(values)
    if jnp.issubdtype(values.dtype, jnp.floating):
        return jnp.sum(values, dtype=jnp.promote_types(values.dtype, jnp.float32))
    return _of_whole(lambda values: jnp.sum(values, dtype=values.dtype), jnp.ravel(values))


def scattered(place: Array, weights: Array, bins: int) -> Array | Pair:
    """The sum of the weights at each place; what is beyond the bins is dropped.

    A float32 that weights are added to one by one would stop at 2²⁴ of them.
    """

    def sums(weights: Array, place: Array) -> Array:
        return jnp.zeros(bins, weights.dtype).at[place].add(weights)

    if jnp.issubdtype(weights.dtype, jnp.floating):
        return _in_blocks(sums, _BLOCK, weights, place)
    return _of_whole(sums, weights, place)


def _of_whole(sums: Callable[..., Array], values: Array, *columns: Array) -> Array | Pair:
    """Sums of whole numbers or booleans, exactly: the halves of their bits where they might wrap."""
    wide = jnp.iinfo(jnp.result_type(int))
    if values.size * _most(values.dtype) <= wide.max:
        return sums(values.astype(wide.dtype), *columns)
    if values.dtype.itemsize < wide.bits // 8:
        values = values.astype(wide.dtype)
    half = wide.bits // 2
    high, low = (part.astype(wide.dtype) for part in (values >> half, values & (2**half - 1)))
    rows = 2 ** (half - 2)
    parts = [_in_blocks(sums, rows, part, *columns) for part in (high, low)]
    (high, high_lost), (low, low_lost) = (_as_pair(part, jnp.result_type(float)) for part in parts)
    return added(high * 2.0**half, high_lost * 2.0**half, low, low_lost)


def countable(weights: Array) -> Array:
    """Weights whose sum is exact in the default whole numbers, else as floats."""
    if jnp.issubdtype(weights.dtype, jnp.floating):
        return weights
    wide = jnp.iinfo(jnp.result_type(int))
    fits = weights.size * _most(weights.dtype) <= wide.max
    return weights.astype(wide.dtype if fits else jnp.result_type(float))


def _most(dtype: Any) -> int:
    """The largest absolute value of whole numbers of a dtype."""
    if dtype == jnp.bool_:
        return 1
    return max(-int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max))


def _in_blocks(sums: Callable[..., Array], rows: int, *columns: Array) -> Array | Pair:
    """``sums(*columns)`` over blocks of rows, which are added as pairs; the rest is filled with 0."""
    count = len(columns[0])
    if count <= rows:
        return sums(*columns)
    blocks = [jnp.pad(column, (0, -count % rows)).reshape(-1, rows) for column in columns]
    floating = jnp.issubdtype(columns[0].dtype, jnp.floating)
    dtype = columns[0].dtype if floating else jnp.result_type(float)

    def add(pair: Pair, block: list[Array]) -> tuple[Pair, None]:
        return added(*pair, *_as_pair(sums(*block), dtype)), None

    first = _as_pair(sums(*(block[0] for block in blocks)), dtype)
    return jax.lax.scan(add, first, [block[1:] for block in blocks])[0]


def times(weights: Array, values: Array) -> Array:
    """Weighted values; one of weight 0 is 0. Whole numbers stay whole if either are booleans."""
    if weights.dtype == jnp.bool_:
        return jnp.where(weights, values, jnp.zeros_like(values))
    if values.dtype == jnp.bool_:
        return jnp.where(values, weights, jnp.zeros_like(weights))
    if not jnp.issubdtype(weights.dtype, jnp.floating):
        weights = weights.astype(jnp.result_type(float))
    return jnp.where(weights == 0, 0, weights * values)


def exact_sums(state: PyTree) -> dict[str, np.ndarray]:
    """The sums of a metric's state by name, in float64 on the host: whole numbers up to 2⁵³ exactly.

    A state holds each sum in two floats, and `Metric.compute` gives one: a float32 rounds counts beyond
    2²⁴. This adds the two.

    Args:
      state: of a metric of this package, as `init`, `update` and `merge` return it; not traced.

    Returns:
      A dict by name, such as ``{"matrix": …}`` of `confusion_matrix`.

    Raises:
      TypeError: not such a state.

    >>> from jaxdeep.metrics import confusion_matrix
    >>> metric = confusion_matrix(2)
    >>> outputs, labels = jnp.array([[0.9, 0.1]]), jnp.array([0])
    >>> state = metric.update(metric.init(), outputs, labels, jnp.array([2**24 + 1]))
    >>> exact_sums(state)["matrix"].tolist()
    [[16777217.0, 0.0], [0.0, 0.0]]
    """
    whole = isinstance(state, Mapping) and isinstance(state.get("lost"), Mapping)
    if not whole or not set(state["lost"]) <= set(state):
        raise TypeError(f"state must be that of a streaming metric, a dict of sums, got {state!r}")
    check_leaves("state", state)
    if is_traced(state):
        raise TypeError("state must be known, got one that is traced: call exact_sums outside jax.jit")
    sums = {
        name: np.asarray(state[name], np.float64) + np.asarray(lost, np.float64)
        for name, lost in state["lost"].items()
    }
    exponents = {name: np.asarray(state.get(f"{name}_exponent", 0), np.int64) for name in sums}
    return {name: np.ldexp(of, exponents[name]) for name, of in sums.items()}


def marked(sums: Found, wrong: Array | None) -> Found:
    """The sums, all of them NaN if something is wrong, such as a score or a label that is NaN."""
    if wrong is None:
        return sums
    pairs = {name: _as_pair(of, jnp.result_type(float)) for name, of in sums.items()}
    return {name: (jnp.where(wrong, jnp.nan, of), lost) for name, (of, lost) in pairs.items()}


def share(part: Array, whole: Array) -> Array:
    """``part / whole``, and 0 where there is nothing; NaN if the whole is."""
    some = (whole > 0) | jnp.isnan(whole)
    return jnp.where(some, part / jnp.where(some, whole, 1), 0)


def told(of: Callable[[bool | None], Metric], from_logits: bool | None) -> Metric:
    """A metric that learns what the model puts out if it was not told, and else refuses the other."""
    if from_logits is None:
        return of(None)._replace(for_logits=of)
    _checks.check_flag("from_logits", from_logits)
    metric = of(from_logits)

    def if_agreed(logits: bool) -> Metric:
        check_agreement(from_logits, logits)
        return metric

    return metric._replace(for_logits=if_agreed)


def check_agreement(told: bool, logits: bool) -> None:
    """Refuse a metric that was told another kind of outputs than those which the model puts out."""
    if told != logits:
        puts_out = "logits" if logits else "probabilities"
        raise ValueError(
            f"from_logits={told} for a model that puts out {puts_out}, as its last layer and the loss "
            "say: leave from_logits out"
        )
