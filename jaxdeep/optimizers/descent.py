"""Gradient descent and momentum: `sgd` and the true look-ahead of `nag`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, Arrays, PyTree
from jaxdeep.optimizers.codes import all_decoded
from jaxdeep.optimizers.identity import Described
from jaxdeep.optimizers.scalars import DECAY, NOT_NEGATIVE, Hyper, Numeric, drive, driven_values, within
from jaxdeep.optimizers.transform import (
    Rule,
    Transform,
    TransformState,
    check_state,
    slot,
    transform,
    transformation,
)


@remembered
def sgd(
    learning_rate: Numeric,
    *,
    momentum: Numeric | None = None,
    nesterov: bool = False,
    lr_in_trace: bool = False,
    accumulator_dtype: DTypeLike | None = None,
) -> Transform:
    """Stochastic gradient descent, with momentum and Nesterov's reformulated momentum.

    ::

        without momentum     θ ← θ − η g
        momentum             b ← β b + g;        θ ← θ − η b
        … nesterov           b ← β b + g;        θ ← θ − η (g + β b)
        … lr_in_trace        m ← β m − η g;      θ ← θ + m
        … both               m ← β m − η g;      θ ← θ + β m − η g

    With η outside the trace this is `optax.sgd` and PyTorch's SGD; with ``lr_in_trace=True`` it is the
    textbook's and Keras'. The two agree while η is constant and differ once a schedule moves it.
    ``nesterov`` reports the look-ahead point; for the iterates of the paper use `nag`.

    Args:
      learning_rate: η ≥ 0; a number, a schedule or a scalar array. No default.
      momentum: β in [0, 1), likewise; None keeps no trace at all.
      nesterov: use the reformulated look-ahead; needs `momentum`.
      lr_in_trace: accumulate ``−η g`` rather than ``g``; needs `momentum`.
      accumulator_dtype: dtype of the trace; at least float32 by default.

    Raises:
      ValueError: η < 0, β outside [0, 1), `nesterov` or `lr_in_trace` without momentum.

    Source: Polyak (1964); Sutskever et al. (ICML 2013); semantics of optax 0.2.

    >>> import jax, jax.numpy as jnp, optax
    >>> optimizer = sgd(0.1, momentum=0.9)
    >>> x = jnp.array([1.0, -2.0]); state = optimizer.init(x)
    >>> for _ in range(200):
    ...     updates, state = optimizer.update(jax.grad(lambda x: (x**2).sum())(x), state, x)
    ...     x = optax.apply_updates(x, updates)
    >>> bool(abs(x).max() < 1e-3)
    True
    """
    step = descend(learning_rate)
    _checks.check_flags(nesterov=nesterov, lr_in_trace=lr_in_trace)
    if momentum is None:
        if nesterov or lr_in_trace:
            raise ValueError(
                "nesterov and lr_in_trace need a momentum, got "
                f"momentum=None, nesterov={nesterov}, lr_in_trace={lr_in_trace}"
            )
        return transform(step)
    trace = scale_by_momentum.rule(momentum, nesterov=nesterov, accumulator_dtype=accumulator_dtype)
    return transform(step, trace) if lr_in_trace else transform(trace, step)


@transformation
def scale_by_learning_rate(learning_rate: Numeric) -> Rule:
    """The last link of a chain: ``u ← −η u``, since updates are added to the parameters.

    Args:
      learning_rate: η ≥ 0; a number, a schedule or a scalar array.

    Raises:
      ValueError: η < 0.

    Source: `optax.scale_by_learning_rate`.

    >>> tx = scale_by_learning_rate(0.5)
    >>> float(tx.update(jnp.array(3.0), tx.init(jnp.array(0.0)))[0])
    -1.5
    """

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        return -s["learning_rate"] * g, {}

    return Rule(within(NOT_NEGATIVE, learning_rate=learning_rate), update)


descend = scale_by_learning_rate.rule


@transformation
def scale_by_momentum(
    momentum: Numeric, *, nesterov: bool = False, accumulator_dtype: DTypeLike | None = None
) -> Rule:
    """Momentum without a learning rate: ``b ← β b + g``, passing on b, or ``g + β b``: `optax.trace`.

    Args:
      momentum: β in [0, 1); a number, a schedule or a scalar array.
      nesterov: pass on ``g + β b``.
      accumulator_dtype: dtype of b; at least float32 by default.

    Raises:
      ValueError: β outside [0, 1).

    Source: Polyak (1964); semantics of `optax.trace`.

    >>> tx = scale_by_momentum(0.5)
    >>> state = tx.init(jnp.array(0.0))
    >>> u, state = tx.update(jnp.array(1.0), state)
    >>> float(tx.update(jnp.array(1.0), state)[0])
    1.5
    """

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        b = s["momentum"] * slots["trace"] + g
        return (g + s["momentum"] * b if nesterov else b), {"trace": b}

    _checks.check_flag("nesterov", nesterov)
    _checks.check_float_dtype("accumulator_dtype", accumulator_dtype)
    return Rule(within(DECAY, momentum=momentum), update, {"trace": slot(dtype=accumulator_dtype)})


class NagState(NamedTuple):
    """State of `nag`.

    Attributes:
      transform: count, hyperparameters and the trace m.
      lookahead: the momentum of the coming update, at which its gradient must be taken, if a
        schedule or an array drives the momentum; None if it stays as set.
    """

    transform: TransformState
    lookahead: jax.Array | None

    @property
    def momentum(self) -> jax.Array:
        """The momentum of the coming update."""
        return self.transform.hyperparams["momentum"] if self.lookahead is None else self.lookahead


@remembered
def nag(
    learning_rate: Numeric, *, momentum: Numeric = 0.9, accumulator_dtype: DTypeLike | None = None
) -> Transform:
    """Nesterov accelerated gradient with the true look-ahead.

    ::

        m ← β m − η ∇J(θ + β m);    θ ← θ + m

    The gradient must be taken at ``θ + β m``, which is ``gradient_point(opt_state, params)``;
    `jaxdeep.train.make_step` and `jaxdeep.fit` do so. The parameters stay θ. (The reformulation in
    optax, Keras and PyTorch, ``sgd(…, nesterov=True)`` here, takes the gradient at its own
    parameters, which are the look-ahead points: ``θ + β m`` of this one, to rounding, if η is inside
    the trace or constant.)

    A momentum that changes must be given as a schedule here, so that the coming one is known;
    `optax.inject_hyperparams` tells it one step late. In a chain it belongs after clipping and last: the
    look-ahead follows m, so what comes behind `nag` (`multiply`, `reduce_on_plateau`, `max_norm`)
    changes the step but not the point of the gradient. To train some leaves only, put `optax.masked`
    around it.

    Args:
      learning_rate: η ≥ 0; a number, a schedule or a scalar array; it is inside m.
      momentum: β in [0, 1), likewise.
      accumulator_dtype: dtype of m; at least float32 by default.

    Raises:
      ValueError: η < 0, β outside [0, 1).

    Source: Nesterov (1983); Sutskever et al. (ICML 2013), equations 3 and 4.

    >>> import jax, jax.numpy as jnp, optax
    >>> optimizer = nag(0.1, momentum=0.5)
    >>> x = jnp.array(1.0); state = optimizer.init(x)
    >>> for _ in range(2):
    ...     grads = jax.grad(lambda x: x**2 / 2)(gradient_point(state, x))
    ...     updates, state = optimizer.update(grads, state, x)
    ...     x = optax.apply_updates(x, updates)
    >>> round(float(x), 6)  # m = -0.1, x = 0.9; m = -0.05 - 0.1 * 0.85 = -0.135, x = 0.765
    0.765
    """
    return _looking_ahead(momentum, accumulator_dtype, descend(learning_rate))


def _looking_ahead(momentum: Numeric, accumulator_dtype: DTypeLike | None, *first: Rule) -> Transform:
    velocity = scale_by_momentum.rule(momentum, accumulator_dtype=accumulator_dtype)
    inner = transform(*first, velocity)
    hyper = velocity.hyperparams["momentum"]
    driven = {} if hyper.stays else {"momentum": hyper}
    return optax.GradientTransformationExtraArgs(
        Described(_nag_init, (inner.init, driven)), Described(_nag_update, (inner.update, driven))
    )


def _nag_init(
    inner_init: Callable[[PyTree], TransformState], driven: dict[str, Hyper], params: PyTree
) -> NagState:
    state = inner_init(params)
    return NagState(state, _coming_momentum(driven, state.count))


def _nag_update(
    inner_update: Callable[..., tuple[PyTree, TransformState]],
    driven: dict[str, Hyper],
    updates: PyTree,
    state: NagState,
    params: PyTree | None = None,
    **extra: object,
) -> tuple[PyTree, NagState]:
    check_state("nag", state, NagState)
    updates, new = inner_update(updates, state.transform, params)
    return updates, NagState(new, _coming_momentum(driven, new.count))


def _coming_momentum(driven: dict[str, Hyper], count: jax.Array) -> jax.Array | None:
    return driven_values(drive(driven, count)).get("momentum")


@remembered
def scale_by_nag(momentum: Numeric = 0.9, *, accumulator_dtype: DTypeLike | None = None) -> Transform:
    """`nag` without its learning rate: ``m ← β m + u``, for a u that holds ``−η ∇J(θ + β m)`` already.

    ``optax.chain(scale_by_learning_rate(η), scale_by_nag(β))`` is ``nag(η, momentum=β)``.

    Args:
      momentum: β in [0, 1); a number, a schedule or a scalar array.
      accumulator_dtype: dtype of m; at least float32 by default.

    Raises:
      ValueError: β outside [0, 1).

    Source: as `nag`.

    >>> tx = optax.chain(scale_by_learning_rate(0.1), scale_by_nag(0.5))
    >>> state = tx.init(jnp.array(1.0))
    >>> u, state = tx.update(jnp.array(1.0), state)
    >>> round(float(gradient_point(state, jnp.array(0.9))), 6)
    0.85
    """
    return _looking_ahead(momentum, accumulator_dtype)


def gradient_point(opt_state: PyTree, params: PyTree) -> PyTree:
    """Where the next gradient is to be taken: ``θ + β m`` under `nag`, else `params` themselves.

    The state of `nag` is found inside `optax.chain`, `optax.masked` and other wrappers; a leaf that a
    mask leaves out stays where it is.

    Args:
      opt_state: the state of any optax optimizer.
      params: the parameters θ.

    Returns:
      A pytree like `params`, with their dtypes.

    Raises:
      ValueError: a trace that does not have the shapes of `params`, such as inside `optax.flatten`.

    Source: Sutskever et al. (ICML 2013), equation 3.

    >>> import jax.numpy as jnp, optax
    >>> optimizer = optax.chain(optax.clip(1.0), nag(0.1, momentum=0.5))
    >>> x = jnp.array(1.0); state = optimizer.init(x)
    >>> updates, state = optimizer.update(jnp.array(1.0), state, x)  # m = -0.1
    >>> round(float(gradient_point(state, x + updates)), 6)  # 0.9 + 0.5 * -0.1
    0.85
    """
    check_leaves("opt_state", opt_state, real=False)
    check_leaves("params", params)

    def is_nag(node: object) -> bool:
        return isinstance(node, NagState)

    for node in jax.tree.leaves(opt_state, is_leaf=is_nag):
        if is_nag(node):
            trace = all_decoded(node.transform.slots["trace"])
            shapes = [m.shape for m in jax.tree.leaves(trace)]
            if any(shape not in map(jnp.shape, jax.tree.leaves(params)) for shape in shapes):
                raise ValueError(
                    "gradient_point: the trace of nag does not have the parameters' shapes; a wrapper "
                    "that changes them, such as optax.flatten, cannot be around it"
                )
            params = jax.tree.map(
                lambda m, p, beta=node.momentum: _ahead(p, m, beta),
                trace,
                params,
                is_leaf=lambda m: isinstance(m, optax.MaskedNode),
            )
    return params


def _ahead(p: Array, m: Array | optax.MaskedNode, beta: Array) -> Array:
    if isinstance(m, optax.MaskedNode):
        return p
    p = jnp.asarray(p)
    dtype = jnp.promote_types(jnp.promote_types(p.dtype, m.dtype), jnp.float32)
    return (p.astype(dtype) + beta.astype(dtype) * m.astype(dtype)).astype(p.dtype)
