"""The parameters that a model is evaluated with, where an optimizer trains others."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdeep._arrays import check_leaves
from jaxdeep._shapes import Array, PyTree
from jaxdeep.optimizers.slow import SlowState
from jaxdeep.tree import leaf_paths

_ELSEWHERE = (optax.contrib.ScheduleFreeState, SlowState)


def evaluation_params(opt_state: PyTree, params: PyTree) -> PyTree:
    """The parameters to evaluate, keep and save, where an optimizer trains others; else `params`.

    A schedule-free optimizer of optax takes gradients at ``y = (1 − β) z + β x``, which are the
    parameters that training moves, and its average ``x = (y − (1 − β) z) / β`` is what it is about.
    `jaxdeep.optimizers.lookahead` moves fast parameters, and its slow ones are what it is about.
    `jaxdeep.fit`, `jaxdeep.train.make_run` and `jaxdeep.sweep` evaluate, keep and return these; in a
    loop of your own call this. The state is found inside `optax.chain`, `optax.masked` and other
    wrappers; leaves that `optax.masked` or `optax.partition` leaves out stay as they are.

    Args:
      opt_state: the state of any optax optimizer.
      params: the parameters that it trains.

    Returns:
      A pytree like `params`, with their dtypes.

    Raises:
      ValueError: parameters of another structure or shape.
      TypeError: something that is no pytree of arrays.

    Source: Defazio et al., "The Road Less Scheduled" (arXiv:2405.15682);
    `optax.contrib.schedule_free_eval_params`.

    >>> import jax.numpy as jnp, optax
    >>> optimizer = optax.chain(optax.clip(1.0), optax.contrib.schedule_free_sgd(0.5, b1=0.9))
    >>> y = jnp.array(1.0); state = optimizer.init(y)
    >>> updates, state = optimizer.update(jnp.array(1.0), state, y)
    >>> round(float(evaluation_params(state, y + updates)), 4)  # the first average is z = 1 - 0.5
    0.5
    """
    check_leaves("opt_state", opt_state, real=False)
    check_leaves("params", params)
    for state in states_of(opt_state, *_ELSEWHERE):
        kept, of_leaf = (
            (state.slow, _slow)
            if isinstance(state, SlowState)
            else (state.z, functools.partial(_average, b1=state.b1))
        )
        kept = _spread(kept, params)
        params = jax.tree.map(of_leaf, kept, params, is_leaf=_is_masked)
    return params


def evaluates_elsewhere(opt_state: PyTree) -> bool:
    """Whether `evaluation_params` are others than the parameters that are trained.

    >>> evaluates_elsewhere(optax.sgd(0.1).init(jnp.ones(2)))
    False
    """
    return any(True for _ in states_of(opt_state, *_ELSEWHERE))


def states_of(opt_state: PyTree, *kinds: type) -> Iterator[Any]:
    """The states of these kinds inside `optax.chain`, `optax.masked` and other wrappers.

    >>> tx = optax.chain(optax.clip(1.0), optax.trace(0.9))
    >>> len(list(states_of(tx.init(jnp.ones(2)), optax.TraceState)))
    1
    """

    def is_state(node: object) -> bool:
        return isinstance(node, kinds)

    return filter(is_state, jax.tree.leaves(opt_state, is_leaf=is_state))


def _spread(kept: PyTree, params: PyTree) -> PyTree:
    """What a state keeps of each leaf; a mask may have left out a whole subtree, or a part of one.

    Raises:
      ValueError: it is not of parameters like these.
    """
    kept_leaves = jax.tree.leaves(kept, is_leaf=_is_masked)
    expected: Any = jax.tree.structure(kept, is_leaf=_is_masked)
    below = None
    with contextlib.suppress(ValueError, TypeError):
        below = expected.flatten_up_to(params)
    masked = [_is_masked(one) for one in kept_leaves]
    if below is None or not all(
        left_out or jax.tree_util.all_leaves([leaf]) for left_out, leaf in zip(masked, below)
    ):
        raise ValueError(
            f"params must have the structure of those in opt_state, {expected}, got "
            f"{jax.tree.structure(params)}"
        )
    whole = [
        jax.tree.map(lambda _, one=one: one, leaf) if left_out else one
        for one, left_out, leaf in zip(kept_leaves, masked, below)
    ]
    kept = jax.tree.unflatten(expected, whole)
    leaves = jax.tree.leaves(params)
    for path, one, leaf in zip(leaf_paths(params), jax.tree.leaves(kept, is_leaf=_is_masked), leaves):
        if not _is_masked(one) and jnp.shape(one) != jnp.shape(leaf):
            raise ValueError(
                f"params must have the shapes of those in opt_state: {path or 'it'} must be of shape "
                f"{jnp.shape(one)}, got {jnp.shape(leaf)}"
            )
    return kept


def _is_masked(node: object) -> bool:
    return isinstance(node, optax.MaskedNode)


def _slow(slow: Array | optax.MaskedNode, fast: Array) -> Array:
    return fast if isinstance(slow, optax.MaskedNode) else slow.astype(jnp.result_type(fast))


def _average(z: Array | optax.MaskedNode, y: Array, b1: Array) -> Array:
    if isinstance(z, optax.MaskedNode):
        return y
    y = jnp.asarray(y)
    dtype = jnp.promote_types(jnp.promote_types(y.dtype, z.dtype), jnp.float32)
    b1 = b1.astype(dtype)
    return ((y.astype(dtype) - (1 - b1) * z.astype(dtype)) / b1).astype(y.dtype)
