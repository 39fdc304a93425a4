"""`Metric`, a streaming metric of sums over examples, and the mean of any function."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._shapes import Array, ArrayLike, PyTree
from jaxdeep.metrics.inputs import spread

Sums = dict[str, Array]


class Metric(NamedTuple):
    """A streaming metric: pure functions over a state that is a pytree of arrays.

    Attributes:
      init: ``() -> state`` of no examples.
      update: ``(state, outputs, y, weights=None) -> state`` with a batch added.
      merge: ``(state, state) -> state``, as of both sets of examples; associative, so that it joins
        batches, devices and runs in any order.
      compute: ``state -> value``; a scalar or an array.
      given: ``from_logits -> metric``, the metric for a model that puts out logits (True) or
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
    given: Callable[[bool], "Metric"] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tally:
    """The state of a `Metric` on some examples, with the metric: what a step reports of one.

    >>> from jaxdeep.metrics import precision
    >>> metric = precision()
    >>> tally = Tally(metric.update(metric.init(), jnp.array([0.9]), jnp.array([1])), metric)
    >>> float(tally)
    1.0
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


def mean(function: Callable[[Any, Any], Any]) -> Metric:
    """The weighted mean of a function of examples or elements: ``Σ w f(outputs, y) / Σ w``.

    Args:
      function: ``(outputs, y) -> values``, of `jaxdeep.losses` for example: ``mean(huber)`` is Keras'
        Huber metric.

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

    def counts(outputs: Any, y: Any, weights: Any) -> dict[str, Any]:
        values = jnp.asarray(function(outputs, y))
        w = spread(weights, values.shape)
        if w is None:
            return {"total": total(values), "weight": jnp.int32(values.size)}
        return {"total": total(jnp.where(w == 0, 0, w * values)), "weight": total(w)}

    metric = of_sums({"total": (), "weight": ()}, counts, lambda s: share(s["total"], s["weight"]))
    metric.update.of_mean = function  # type: ignore[attr-defined]  # what it reads is told, as a loss is
    return metric


def of_sums(
    shapes: dict[str, tuple[int, ...]],
    counts: Callable[[Any, Any, Any], Sums],
    compute: Callable[[Sums], Array],
) -> Metric:
    """A metric whose state is sums over examples.

    Each sum is a pair of floats: the sum, and under "lost" what it cannot hold. A float32 alone stops
    counting at 2²⁴.
    """

    def init() -> PyTree:
        zeros = {name: jnp.zeros(shape) for name, shape in shapes.items()}
        return zeros | {"lost": dict(zeros)}

    def check(state: PyTree) -> None:
        whole = isinstance(state, Mapping) and isinstance(state.get("lost", {}), Mapping)
        if not whole or any(name not in state for name in shapes):
            raise TypeError(
                f"state must be what init() returned, a dict of {', '.join(shapes)}, got {state!r}"
            )
        check_leaves("state", state)
        for name, shape in shapes.items():
            if jnp.shape(state[name]) != shape:
                raise ValueError(
                    f"state: {name} must have shape {shape}, got {jnp.shape(state[name])}; use jax.vmap "
                    "for several states"
                )

    def merge(a: PyTree, b: PyTree) -> PyTree:
        check(a)
        check(b)
        pairs = {name: _added(a[name], a["lost"][name], b[name], b["lost"][name]) for name in shapes}
        sums = {name: total for name, (total, _) in pairs.items()}
        return sums | {"lost": {name: lost for name, (_, lost) in pairs.items()}}

    def update(state: PyTree, outputs: PyTree, y: PyTree, weights: ArrayLike | None = None) -> PyTree:
        check(state)
        added, lost = {}, {}
        for name, exact in counts(outputs, y, weights).items():
            added[name] = exact.astype(state[name].dtype)
            whole = jnp.issubdtype(exact.dtype, jnp.integer)
            rest = exact - added[name].astype(exact.dtype) if whole else 0
            lost[name] = jnp.broadcast_to(rest, exact.shape).astype(added[name].dtype)
        return merge(state, added | {"lost": lost})

    def computed(state: PyTree) -> Any:
        check(state)
        return compute({name: state[name] for name in shapes})

    return Metric(init, update, merge, computed)


def _added(a: Array, a_lost: Array, b: Array, b_lost: Array) -> tuple[Array, Array]:
    """The sum of two pairs (Knuth's TwoSum), as a pair again."""
    total = a + b
    of_b = total - a
    lost = (a - (total - of_b)) + (b - of_b) + a_lost + b_lost
    rounded = total + lost
    lost = lost - (rounded - total)
    return jnp.where(jnp.isfinite(total), rounded, total), jnp.where(jnp.isfinite(total), lost, 0)


def total(values: ArrayLike) -> Array:
    """The sum of floats, whole numbers or booleans; of the latter it is exact."""
    values = jnp.asarray(values)
    if jnp.issubdtype(values.dtype, jnp.floating):
        return jnp.sum(values, dtype=jnp.promote_types(values.dtype, jnp.float32))
    return jnp.sum(values, dtype=jnp.int32)


def share(part: Array, whole: Array) -> Array:
    """``part / whole``, and 0 where there is nothing."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)


def told(of: Callable[[bool | None], Metric], from_logits: bool | None) -> Metric:
    """A metric that learns what the model puts out if it was not told, and else refuses the other."""
    if from_logits is None:
        return of(None)._replace(given=of)
    _checks.check_flag("from_logits", from_logits)
    metric = of(from_logits)

    def given(logits: bool) -> Metric:
        check_agreement(from_logits, logits)
        return metric

    return metric._replace(given=given)


def check_agreement(told: bool, logits: bool) -> None:
    """Refuse a metric that was told another kind of outputs than those which the model puts out."""
    if told != logits:
        puts_out = "logits" if logits else "probabilities"
        raise ValueError(
            f"from_logits={told} for a model that puts out {puts_out}, as its last layer and the loss "
            "say: leave from_logits out"
        )
