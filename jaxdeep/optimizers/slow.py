"""Lookahead: fast parameters that are trained, and slow ones that follow them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import PyTreeDef

from jaxdeep import _checks
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, PyTree
from jaxdeep.optimizers.identity import Described, Init
from jaxdeep.optimizers.scalars import Hyper, Numeric, Scalars, drive, scalars_in_force, within
from jaxdeep.optimizers.transform import (
    Transform,
    TransformState,
    check_kept,
    check_state,
    check_updates,
    leaves_beside,
)

STEP_SIZE = "(0, 1]"  # that slow_step_size is in


class SlowState(NamedTuple):
    """State of `lookahead`.

    Attributes:
      transform: count and hyperparameters.
      slow: the slow parameters, in at least float32; those to evaluate (`evaluation_params`).
      fast_state: the state of the fast optimizer.
    """

    transform: TransformState
    slow: PyTree
    fast_state: PyTree


@remembered
def lookahead(
    fast_optimizer: optax.GradientTransformation,
    sync_period: int = 5,
    slow_step_size: Numeric = 0.5,
    *,
    reset_state: bool = False,
) -> Transform:
    """Lookahead: every k steps the slow parameters φ go a part of the way to the fast ones θ.

    ::

        θ ← θ + u                                     k times, u of the fast optimizer
        φ ← φ + α (θ − φ);    θ ← φ

    The parameters that training moves are θ, where gradients are taken. φ is in the state, and
    `jaxdeep.fit`, `jaxdeep.train.make_run` and `jaxdeep.sweep` evaluate, keep and return it
    (`evaluation_params` in a loop of your own). Nothing may come after it in a chain, which would change
    θ alone.

    Args:
      fast_optimizer: any optax transformation. It is passed no further arguments than the parameters
        and those of `jaxdeep.train.make_step`.
      sync_period: k ≥ 1.
      slow_step_size: α in (0, 1]; a number, a schedule or a scalar array.
      reset_state: whether the fast optimizer begins anew after every k steps; hyperparameters of
        jaxdeep's optimizers stay as they are then.

    Raises:
      ValueError: k < 1, α outside (0, 1]; at the update, parameters not passed. TypeError: not an optax
        transformation.

    Source: Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back" (arXiv:1907.08610);
    `optax.lookahead`, which wants pairs of fast and slow parameters instead, and gives the same numbers.

    >>> import jaxdeep as jd
    >>> tx = lookahead(jd.optimizers.sgd(1.0), sync_period=2)
    >>> theta = jnp.array(0.0); state = tx.init(theta)
    >>> for _ in range(2):  # down by 1, and by 1, and half of the way back
    ...     updates, state = tx.update(jnp.array(1.0), state, theta)
    ...     theta = theta + updates
    >>> float(theta), float(jd.optimizers.evaluation_params(state, theta))
    (-1.0, -1.0)
    """
    if not isinstance(fast_optimizer, optax.GradientTransformation):
        raise TypeError(f"fast_optimizer must be an optax transformation, got {fast_optimizer!r}")
    sync_period = _checks.check_count("sync_period", sync_period)
    _checks.check_flag("reset_state", reset_state)
    fast = optax.with_extra_args_support(fast_optimizer)
    hypers = within(STEP_SIZE, slow_step_size=slow_step_size)
    settings = fast.init, fast.update, hypers, sync_period, reset_state
    return optax.GradientTransformationExtraArgs(
        Init(_lookahead_init, (fast.init,), hypers), Described(_lookahead_update, settings)
    )


def _lookahead_init(
    fast_init: Callable[[PyTree], PyTree], scalars: Scalars, params: PyTree
) -> SlowState:
    check_kept(params)

    def copy(p: Array) -> Array:  # so that a loop may donate both
        return jnp.array(p, jnp.promote_types(jnp.result_type(p), jnp.float32))

    slow = jax.tree.map(copy, params)
    return SlowState(TransformState(jnp.zeros((), jnp.int32), *scalars, {}, {}), slow, fast_init(params))


def _lookahead_update(
    fast_init: Callable[[PyTree], PyTree],
    fast_update: Callable[..., tuple[PyTree, PyTree]],
    hypers: dict[str, Hyper],
    sync_period: int,
    reset_state: bool,
    updates: PyTree,
    state: SlowState,
    params: PyTree | None = None,
    **extra: object,
) -> tuple[PyTree, SlowState]:
    check_state("lookahead", state, SlowState)
    if params is None:
        raise ValueError("lookahead needs the parameters: update(updates, state, params)")
    check_updates(updates, params)
    updates, fast_state = fast_update(updates, state.fast_state, params, **extra)
    transform = state.transform
    transform = transform._replace(
        count=optax.safe_increment(transform.count), driven=drive(hypers, transform.count)
    )
    in_force = scalars_in_force(transform.hyperparams, transform.rounding, transform.driven)
    share, syncs = in_force["slow_step_size"].value, transform.count % sync_period == 0

    def follow(u: Array | None, p: Array, slow: Array) -> tuple[Array | None, Array]:
        """The update of a fast leaf, and the slow leaf."""
        if u is None:
            return u, slow
        p = jnp.asarray(p)
        after = slow + share.astype(slow.dtype) * ((p + u).astype(slow.dtype) - slow)
        slow = jnp.where(syncs, after, slow)
        return jnp.where(syncs, (slow - p.astype(slow.dtype)).astype(u.dtype), u), slow

    structure: PyTreeDef
    leaves, structure = jax.tree.flatten(updates, is_leaf=lambda leaf: leaf is None)
    beside = leaves_beside(updates, "the parameters", params)
    pairs = list(map(follow, leaves, beside, leaves_beside(updates, "the state", state.slow)))
    updates = jax.tree.unflatten(structure, [u for u, _ in pairs])
    slow = jax.tree.unflatten(structure, [leaf for _, leaf in pairs])
    if reset_state:
        again = _with_numbers_of(fast_state, fast_init(params))
        fast_state = jax.tree.map(lambda old, new: jnp.where(syncs, new, old), fast_state, again)
    return updates, SlowState(transform, slow, fast_state)


def _with_numbers_of(old: PyTree, new: PyTree) -> PyTree:
    """The new state with the hyperparameters of the old one, which may be others than at its start."""

    def kept(new: Any, old: Any) -> Any:
        if not isinstance(new, TransformState):
            return new
        return new._replace(hyperparams=old.hyperparams, rounding=old.rounding)

    return jax.tree.map(kept, new, old, is_leaf=lambda node: isinstance(node, TransformState))
