"""Performance scheduling: a smaller rate when a metric stops improving."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdeep import _checks
from jaxdeep.optimizers.transform import PyTree, Transform


class PlateauState(NamedTuple):
    """State of `reduce_on_plateau`; scalars, float32 (float64 with x64 on) and int32.

    Attributes:
      scale: what updates are multiplied by.
      best: the best value so far.
      bad: values since then that did not improve.
      cooldown: values still to ignore.
      total, count: sum and number of the values being averaged.
    """

    scale: jax.Array
    best: jax.Array
    bad: jax.Array
    cooldown: jax.Array
    total: jax.Array
    count: jax.Array  # type: ignore[assignment]


def reduce_on_plateau(
    factor: float = 0.1,
    patience: int = 10,
    rtol: float = 1e-4,
    atol: float = 0.0,
    cooldown: int = 0,
    accumulation_size: int = 1,
    min_scale: float = 0.0,
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

    Args:
      factor: in (0, 1).
      patience: values without improvement before the scale falls, at least 1.
      rtol, atol: relative and absolute margin, ≥ 0.
      cooldown: values ignored after a fall, ≥ 0.
      accumulation_size: values averaged into one, at least 1: the steps of an epoch, for a loss a step.
      min_scale: the scale never falls below, in [0, 1].
      mode: "min" for a loss, "max" for an accuracy.

    Raises:
      ValueError: a value out of range; at the update, no ``value=``.

    Source: performance scheduling, PyTorch's and Keras' `ReduceLROnPlateau`; semantics of optax 0.2 but
    for the sign of the margin.

    >>> tx = reduce_on_plateau(factor=0.5, patience=2)
    >>> state = tx.init(jnp.array(0.0))
    >>> for loss in (1.0, 0.9, 0.9, 0.9):
    ...     updates, state = tx.update(jnp.array(1.0), state, value=loss)
    >>> float(updates)
    0.5
    """
    _checks.check_scalar("factor", factor, "(0, 1)")
    _checks.check_count("patience", patience)
    _checks.check_scalar("rtol", rtol, "[0, 1]")
    _checks.check_scalar("atol", atol, "[0, inf)")
    _checks.check_count("cooldown", cooldown, low=0)
    _checks.check_count("accumulation_size", accumulation_size)
    _checks.check_scalar("min_scale", min_scale, "[0, 1]")
    if mode not in ("min", "max"):
        raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
    sign = 1.0 if mode == "min" else -1.0

    def init(params: PyTree) -> PlateauState:
        dtype, zero = jnp.result_type(float), jnp.zeros((), jnp.int32)
        best = jnp.asarray(sign * jnp.inf, dtype)
        return PlateauState(jnp.ones((), dtype), best, zero, zero, jnp.zeros((), dtype), zero)

    def judge(state: PlateauState, value: Any) -> PlateauState:
        margin = jnp.where(jnp.isfinite(state.best), rtol * jnp.abs(state.best), 0) + atol
        improved = sign * (state.best - value) > margin
        bad = jnp.where(improved, 0, state.bad + 1)
        cooling = state.cooldown > 0
        falls = ~cooling & (bad >= patience)
        return state._replace(
            scale=jnp.where(falls, jnp.maximum(state.scale * factor, min_scale), state.scale),
            best=jnp.where(improved, value, state.best),
            bad=jnp.where(cooling | falls, 0, bad),
            cooldown=jnp.where(cooling, state.cooldown - 1, jnp.where(falls, cooldown, 0)),
            total=jnp.zeros_like(state.total),
            count=jnp.zeros_like(state.count),
        )

    def update(
        updates: PyTree,
        state: PlateauState,
        params: PyTree | None = None,
        *,
        value: Any = None,
        **extra: Any,
    ) -> tuple[PyTree, PlateauState]:
        if value is None:
            raise ValueError(
                "reduce_on_plateau needs the metric: update(updates, state, params, value=…)"
            )
        total = state.total + jnp.asarray(value, state.total.dtype)
        state = state._replace(total=total, count=optax.safe_increment(state.count))
        due = state.count >= accumulation_size
        judged = judge(state, total / state.count.astype(total.dtype))
        state = jax.tree.map(lambda new, old: jnp.where(due, new, old).astype(old.dtype), judged, state)
        return jax.tree.map(lambda u: _scaled(u, state.scale), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _scaled(u: Any, scale: jax.Array) -> Any:
    u = jnp.asarray(u)
    wide = jnp.promote_types(u.dtype, jnp.float32)
    return (u.astype(wide) * scale.astype(wide)).astype(u.dtype)
