"""Performance scheduling: a smaller rate when a metric stops improving."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, Arrays, PyTree
from jaxdeep.optimizers.identity import Described, Init
from jaxdeep.optimizers.scalars import Hyper, Numeric, Scalars, drive, driven_values
from jaxdeep.optimizers.transform import Transform, check_state, check_updates, leaves_beside

INTERVALS = {"factor": "(0, 1)", "rtol": "[0, 1]", "atol": "[0, inf)", "min_scale": "[0, 1]"}


class PlateauState(NamedTuple):
    """State of `reduce_on_plateau`; scalars, float32 (float64 with x64 on) and int32.

    Attributes:
      step: updates done.
      hyperparams, driven, rounding: as in `TransformState`.
      scale: what updates are multiplied by.
      best: the best value so far.
      bad: values since then that did not improve.
      cooldown: values still to ignore.
      total, count: sum and number of the values being averaged.
    """

    step: jax.Array
    hyperparams: Arrays
    driven: Arrays
    rounding: Arrays
    scale: jax.Array
    best: jax.Array
    bad: jax.Array
    cooldown: jax.Array
    total: jax.Array
    count: jax.Array  # type: ignore[assignment]


@remembered
def reduce_on_plateau(
    factor: Numeric = 0.1,
    patience: int | jax.Array = 10,
    rtol: Numeric = 1e-4,
    atol: Numeric = 0.0,
    cooldown: int | jax.Array = 0,
    accumulation_size: int = 1,
    min_scale: Numeric = 0.0,
    *,
    mode: str = "min",
) -> Transform:
    """Multiply updates by a scale that falls when ``value=`` stops improving.

    ::

        improved if  v < best − rtol |best| − atol      (mode "max": v > best + rtol |best| + atol)
        after `patience` values without:  scale ← max(factor · scale, min_scale), then `cooldown` values
        are ignored (best still moves)

    After an optimizer in a chain, it multiplies the learning rate; the value is passed as
    ``update(…, value=loss)``, which `jaxdeep.train.make_step` does with the loss. Names, defaults and
    results are those of `optax.contrib.reduce_on_plateau`, but margins are of |best|, so that it is
    right for negative metrics, where optax', and PyTorch's, take a worse value for a better. Others
    map onto it: PyTorch's (P, C) is ``patience=P + 1``; Keras' (P, C) is ``cooldown=max(C − 1, 0)``,
    ``rtol=0, atol=min_delta``; a floor of the rate is ``min_scale = min_lr / learning_rate``.

    It sees what each step is given; `jaxdeep.train.ReduceOnPlateau` lowers the rate of `jaxdeep.fit`
    by a metric of whole epochs, of the validation data, too.

    Args:
      factor: in (0, 1); a number, a schedule or a scalar array.
      patience: values without improvement before the scale falls, at least 1.
      rtol, atol: relative and absolute margin, ≥ 0, likewise.
      cooldown: values ignored after a fall, ≥ 0.
      accumulation_size: values averaged into one, at least 1: the steps of an epoch, for a loss a step.
      min_scale: the scale never falls below, in [0, 1], likewise.
      mode: "min" for a loss, "max" for an accuracy.

    Raises:
      ValueError: a value out of range; at the update, no ``value=``, or one that is not a scalar.

    Source: performance scheduling, PyTorch's and Keras' `ReduceLROnPlateau`; semantics of optax 0.2 but
    for the sign of the margin.

    >>> tx = reduce_on_plateau(factor=0.5, patience=2)
    >>> state = tx.init(jnp.array(0.0))
    >>> for loss in (1.0, 0.9, 0.9, 0.9):
    ...     updates, state = tx.update(jnp.array(1.0), state, value=loss)
    >>> float(updates)
    0.5
    """
    values = {"factor": factor, "rtol": rtol, "atol": atol, "min_scale": min_scale}
    hypers = {name: Hyper(value, INTERVALS[name]) for name, value in values.items()}
    # arrays, and traced, under optax.inject_hyperparams
    patience = _checks.check_count("patience", patience, array=True)
    cooldown = _checks.check_count("cooldown", cooldown, low=0, array=True)
    accumulation_size = _checks.check_count("accumulation_size", accumulation_size, array=True)
    _checks.check_choice("mode", mode, ("min", "max"))
    plateau = _Plateau(hypers, patience, cooldown, accumulation_size, 1.0 if mode == "min" else -1.0)
    return optax.GradientTransformationExtraArgs(
        Init(_init, (plateau,), hypers), Described(_update, (plateau,))
    )


class _Plateau(NamedTuple):
    """What `reduce_on_plateau` was made with; `sign` is 1 for a loss and −1 for an accuracy."""

    hypers: dict[str, Hyper]
    patience: int | jax.Array
    cooldown: int | jax.Array
    accumulation_size: int
    sign: float


def _init(plateau: _Plateau, scalars: Scalars, params: PyTree) -> PlateauState:
    def zero(dtype: DTypeLike = jnp.int32) -> jax.Array:
        return jnp.zeros((), dtype)  # a buffer of its own, which a loop may donate

    dtype = jnp.result_type(float)
    return PlateauState(
        step=zero(),
        **scalars._asdict(),
        scale=jnp.ones((), dtype),
        best=jnp.asarray(plateau.sign * jnp.finfo(dtype).max, dtype),  # not ∞: jax_debug_infs
        bad=zero(),
        cooldown=zero(),
        total=zero(dtype),
        count=zero(),
    )


def _judge(plateau: _Plateau, state: PlateauState, value: Array, h: Arrays) -> PlateauState:
    """The state after one value, the mean of as many as are averaged."""
    size = jnp.abs(state.best)
    has_one = size < jnp.finfo(size.dtype).max  # before the first value there is no best one
    margin = jnp.where(has_one, h["rtol"] * size, 0) + h["atol"]
    improved = plateau.sign * (state.best - value) > margin
    bad = jnp.where(improved, 0, state.bad + 1)
    cooling = state.cooldown > 0
    falls = ~cooling & (bad >= plateau.patience)
    lower = jnp.maximum(state.scale * h["factor"], h["min_scale"])
    return state._replace(
        scale=jnp.where(falls, lower, state.scale),
        best=jnp.where(improved, value, state.best),
        bad=jnp.where(cooling | falls, 0, bad),
        cooldown=jnp.where(cooling, state.cooldown - 1, jnp.where(falls, plateau.cooldown, 0)),
        total=jnp.zeros_like(state.total),
        count=jnp.zeros_like(state.count),
    )


def _update(
    plateau: _Plateau,
    updates: PyTree,
    state: PlateauState,
    params: PyTree | None = None,
    *,
    value: ArrayLike | None = None,
    **extra: object,
) -> tuple[PyTree, PlateauState]:
    check_state("reduce_on_plateau", state, PlateauState)
    if value is None:
        raise ValueError("reduce_on_plateau needs the metric: update(updates, state, params, value=…)")
    value = as_array("value", value)
    if value.shape != ():
        raise ValueError(f"value must be a scalar, got an array of shape {value.shape}")
    check_updates(updates, params)
    if params is not None:
        leaves_beside(updates, "the parameters", params)
    driven = drive(plateau.hypers, state.step)
    total = state.total + jnp.asarray(value, state.total.dtype)
    state = state._replace(
        step=optax.safe_increment(state.step),
        driven=driven,
        total=total,
        count=optax.safe_increment(state.count),
    )
    due = state.count >= plateau.accumulation_size
    in_force = driven_values(driven) | state.hyperparams
    judged = _judge(plateau, state, total / state.count.astype(total.dtype), in_force)
    state = jax.tree.map(lambda new, old: jnp.where(due, new, old).astype(old.dtype), judged, state)
    return jax.tree.map(lambda u: _scaled(u, state.scale), updates), state


def _scaled(u: Array, scale: Array) -> Array:
    u = jnp.asarray(u)
    wide = jnp.promote_types(u.dtype, jnp.float32)
    return (u.astype(wide) * scale.astype(wide)).astype(u.dtype)
