"""Transformations around an update: skipping what is not finite, averaging what comes out."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, Arrays, PyTree
from jaxdeep.optimizers.identity import Described, Init
from jaxdeep.optimizers.moments import moving_average
from jaxdeep.optimizers.scalars import DECAY, Hyper, Numeric, Scalars, drive, scalars_in_force, within
from jaxdeep.optimizers.transform import Transform, check_kept, check_state, check_updates, leaves_beside


class SkipState(NamedTuple):
    """State of `skip_nonfinite`.

    Attributes:
      inner: the state of the optimizer inside, as the last finite gradients left it.
      skipped: updates skipped so far, int32.
      in_a_row: updates skipped since the last finite one, int32.
    """

    inner: PyTree
    skipped: jax.Array
    in_a_row: jax.Array


@remembered
def skip_nonfinite(optimizer: optax.GradientTransformation) -> Transform:
    """Do nothing when a gradient is not finite: no update, no change of the optimizer's state.

    If every element of the gradients is finite, the update and the state are those of `optimizer`;
    otherwise the update is 0 and the state stays as it was. Unlike `optax.apply_if_finite` it never
    gives up: a run that should stop after many skipped updates reads `SkipState.in_a_row`. Only
    gradients are looked at. ``jaxdeep.fit(on_nonfinite="skip")`` undoes the whole step, the model's
    state included, and leaves its batch out of the metrics.

    Args:
      optimizer: any optax transformation, usually the whole chain.

    Raises:
      TypeError: `optimizer` is not an optax transformation.

    Source: `optax.apply_if_finite`.

    >>> import jaxdeep as jd
    >>> tx = skip_nonfinite(jd.optimizers.sgd(1.0))
    >>> state = tx.init(jnp.array(0.0))
    >>> updates, state = tx.update(jnp.array(jnp.nan), state)
    >>> float(updates), int(state.skipped)
    (0.0, 1)
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(f"optimizer must be an optax transformation, got {optimizer!r}")
    inner = optax.with_extra_args_support(optimizer)
    return optax.GradientTransformationExtraArgs(
        Described(_skip_init, (inner.init,)), Described(_skip_update, (inner.update,))
    )


def _skip_init(inner_init: Callable[[PyTree], PyTree], params: PyTree) -> SkipState:
    return SkipState(inner_init(params), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def _skip_update(
    inner_update: Callable[..., tuple[PyTree, PyTree]],
    updates: PyTree,
    state: SkipState,
    params: PyTree | None = None,
    **extra: object,
) -> tuple[PyTree, SkipState]:
    check_state("skip_nonfinite", state, SkipState)
    check_updates(updates, params)
    finite = jnp.array(True)
    for leaf in jax.tree.leaves(updates):
        finite &= jnp.all(jnp.isfinite(leaf))
    new_updates, new_inner = inner_update(updates, state.inner, params, **extra)
    return (
        jax.tree.map(lambda u: jnp.where(finite, u, jnp.zeros_like(u)), new_updates),
        SkipState(
            jax.tree.map(lambda new, old: jnp.where(finite, new, old), new_inner, state.inner),
            state.skipped + jnp.where(finite, 0, 1).astype(jnp.int32),
            jnp.where(finite, 0, state.in_a_row + 1).astype(jnp.int32),
        ),
    )


class EmaState(NamedTuple):
    """State of `ema_params`.

    Attributes:
      count: updates done, int32.
      hyperparams, driven, rounding: as in `TransformState`.
      ema: the averaged parameters, in at least float32.
    """

    count: jax.Array  # type: ignore[assignment]
    hyperparams: Arrays
    driven: Arrays
    rounding: Arrays
    ema: PyTree


@remembered
def ema_params(decay: Numeric = 0.999) -> Transform:
    """Keep a moving average of the parameters, ``ē ← β ē + (1 − β) (θ + u)``; updates pass unchanged.

    It belongs at the end of the chain, where u is the final update. The average begins at the initial
    parameters and is kept in at least float32; read it as ``state.ema``, or anywhere in a chain by
    ``optax.tree_utils.tree_get(opt_state, "ema")``.

    Args:
      decay: β in [0, 1); a number, a schedule or a scalar array.

    Raises:
      ValueError: β outside [0, 1); at the update, parameters not passed.

    Source: Polyak & Juditsky (1992), in the exponential form.

    >>> tx = ema_params(0.5)
    >>> params = jnp.array(1.0); state = tx.init(params)
    >>> updates, state = tx.update(jnp.array(1.0), state, params)
    >>> float(updates), float(state.ema)
    (1.0, 1.5)
    """
    hypers = within(DECAY, decay=decay)
    return optax.GradientTransformationExtraArgs(
        Init(_ema_init, (), hypers), Described(_ema_update, (hypers,))
    )


def _ema_init(scalars: Scalars, params: PyTree) -> EmaState:
    check_kept(params)

    def wide(p: Array) -> Array:
        return jnp.array(p, jnp.promote_types(jnp.result_type(p), jnp.float32))

    return EmaState(jnp.zeros((), jnp.int32), *scalars, jax.tree.map(wide, params))


def _ema_update(
    hypers: dict[str, Hyper],
    updates: PyTree,
    state: EmaState,
    params: PyTree | None = None,
    **extra: object,
) -> tuple[PyTree, EmaState]:
    check_state("ema_params", state, EmaState)
    if params is None:
        raise ValueError("ema_params needs the parameters: update(updates, state, params)")
    check_updates(updates, params)
    driven = drive(hypers, state.count)
    complement = scalars_in_force(state.hyperparams, state.rounding, driven)["decay"].complement

    def average(u: Array | None, p: Array, e: Array) -> Array:
        p = jnp.asarray(p)
        new = p if u is None else (p + u).astype(p.dtype)
        return moving_average(e, new.astype(e.dtype), complement.astype(e.dtype))

    leaves, structure = jax.tree.flatten(updates, is_leaf=lambda leaf: leaf is None)
    beside = (
        leaves_beside(updates, "the parameters", params),
        leaves_beside(updates, "the state", state.ema),
    )
    ema = jax.tree.unflatten(
        structure, [jax.tree.map(partial(average, u), p, e) for u, p, e in zip(leaves, *beside)]
    )
    count = optax.safe_increment(state.count)
    return updates, EmaState(count, state.hyperparams, driven, state.rounding, ema)
