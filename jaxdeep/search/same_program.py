"""Whether the points of a sweep are one program, that starts from different values."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep.search.setup import Setup
from jaxdeep.train.state import TrainState

PyTree = Any


def same_program(setups: list[Setup], data: PyTree, validation: PyTree) -> bool:
    """Whether setups differ in nothing but the values that their optimizers' states start with.

    Those of jaxdeep's optimizers with other numbers do; a number that went into a loss, a layer or a
    schedule is a constant of the program. They are traced, not compiled.

    >>> import jaxdeep as jd
    >>> from jaxdeep.search.setup import Builder
    >>> build = Builder(lambda hp: jd.optimizers.sgd(hp["rate"]),
    ...                 {"model": jd.nn.dense(1), "loss": jd.losses.mse})
    >>> data = jnp.ones((32, 2)), jnp.ones((32, 1))
    >>> same_program([build({"rate": rate}) for rate in (0.1, 0.2)], data, None)
    True
    >>> same_program([build({"rate": rate}) for rate in (0.1, lambda step: 0.2)], data, None)
    False
    """
    first, *others = setups
    if any(setup.options != first.options for setup in others):
        return False
    if all(setup.model is first.model and setup.objective is first.objective for setup in others):
        trace = _update
    else:
        trace = _run
    ts = jax.eval_shape(lambda key: first.start(data, key), jax.random.key(0))
    expected = trace(first, ts, data, validation) if others else None
    return all(trace(setup, ts, data, validation) == expected for setup in others)


def _update(setup: Setup, ts: TrainState, data: PyTree, validation: PyTree) -> list[Any]:
    """The optimizer's part of a step, where the rest is known to be the same."""
    optimizer = optax.with_extra_args_support(
        optax.GradientTransformationExtraArgs(setup.optimizer.init, setup.optimizer.update)
        if not isinstance(setup.optimizer, optax.GradientTransformation)
        else setup.optimizer
    )
    state = jax.eval_shape(optimizer.init, ts.params)
    loss = jax.ShapeDtypeStruct((), jnp.float32)
    update = jax.make_jaxpr(optimizer.update)(ts.params, state, ts.params, value=loss)
    return [jax.tree.structure(state), *_text(update)]


def _run(setup: Setup, ts: TrainState, data: PyTree, validation: PyTree) -> list[Any]:
    """All of it, the model's initialisation included."""

    def whole(key: Any) -> PyTree:
        ts = setup.start(data, key)
        return ts.params, ts.state

    program = setup.program()
    start = jax.make_jaxpr(whole)(jax.random.key(0))
    run = jax.eval_shape(lambda key: program.start(setup.start(data, key), data, validation), ts.key)
    segment = jax.make_jaxpr(program.segment)(run, data, validation, np.int32(0))
    return [jax.tree.structure(run), *_text(start), *_text(segment)]


def _text(closed: Any) -> list[Any]:
    """A trace, and the constants of the functions in it, which it does not print."""
    return [str(closed), *(_words(constant) for each in _within(closed) for constant in each.consts)]


def _within(closed: Any) -> Iterator[Any]:
    if hasattr(closed, "consts"):
        yield closed
    for equation in closed.eqns:
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                if hasattr(inner, "eqns"):
                    yield from _within(inner)


def _words(constant: Any) -> Any:
    if jnp.issubdtype(jnp.result_type(constant), jax.dtypes.prng_key):
        constant = jax.random.key_data(constant)
    return np.asarray(constant).tobytes()
