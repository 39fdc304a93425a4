"""What a train state to go on from must be: of the optimizer that is passed, with its numbers."""

import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep._compilation import run_once
from jaxdeep._shapes import Arrays, PyTree
from jaxdeep.optimizers.hyperparameters import INJECTED, constants
from jaxdeep.train.state import TrainState, only
from jaxdeep.tree import Where, path_name


def check_going_on(
    optimizer: optax.GradientTransformation, ts: TrainState, trainable: Where | None
) -> None:
    """Refuse a train state to go on from that is of another optimizer, or of one with other numbers.

    A number in the state goes before that of the optimizer, which would say nothing. So one that begins
    with another number than the optimizer that the state comes of (`comes_of`) is refused, unless the
    state holds that number. What has moved since, by a plateau or by hand, is no difference, and what a
    schedule drives is in no state. A state of which it is not known where it comes from, as one that
    was pickled, is compared by its structure alone.

    Raises:
      ValueError: with the first path, or the number, that differs.
    """
    made = jax.eval_shape(only(optimizer, trainable).init, ts.params)
    here, there = (
        {path_name(path): (jnp.shape(leaf), jnp.result_type(leaf)) for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (ts.opt_state, made))
    )
    odd = next((path for path in {**here, **there} if here.get(path) != there.get(path)), None)
    structures: list[Any] = [jax.tree.structure(state) for state in (ts.opt_state, made)]
    if odd is not None or structures[0] != structures[1]:
        where = "" if odd is None else f": they differ in {odd!r}"
        raise ValueError(
            "train_state= holds the state of another optimizer, or of one of other parameters, than "
            f"optimizer= and trainable= make{where}; pass those that it was trained with"
        )
    known = _known_of(ts)
    if not known or any(optimizer is tx for tx in known):
        return

    def begun(params: PyTree) -> list[Arrays]:
        return [constants(only(tx, trainable).init(params)) for tx in (optimizer, *known)]

    new, *old = jax.device_get(run_once(begun, ts.params))
    held = jax.device_get(constants(ts.opt_state))
    for name, number in new.items():
        others = [held.get(name, number), *(numbers.get(name, number) for numbers in old)]
        if not any(np.array_equal(number, other, equal_nan=True) for other in others):
            raise ValueError(_other_number(name, number, others[1], others[0]))


def _other_number(name: str, *numbers: np.ndarray) -> str:
    dtype = numbers[0].dtype
    new, old, held = (str(number[()]) for number in numbers)  # as short as their dtype allows
    if name.startswith(INJECTED):
        name = name.removeprefix(INJECTED)
        how = f"optax.tree_utils.tree_set(ts.opt_state, {name.split('/')[-1]}=jax.numpy.{dtype}({new}))"
    else:
        value = f"{name}={new}" if name.isidentifier() else f"**{{{name!r}: {new}}}"
        how = f"jaxdeep.optimizers.set_hyperparams(ts.opt_state, {value})"
    now = "" if old == held else f" (now {held})"
    return (
        f"optimizer= begins with {name}={new}, and train_state= is of one that began with {old}{now}: "
        "the number in the state would stay. Pass the optimizer that it was trained with, or set the "
        f"number there: train_state=ts._replace(opt_state={how})"
    )


# By the identity of the array of the steps, since a field of the state would make it another one.
_comes_of: dict[int, tuple[weakref.ref[Any], tuple[optax.GradientTransformation, ...]]] = {}


def comes_of(ts: TrainState, *optimizers: optax.GradientTransformation) -> None:
    """Note which optimizers a train state was trained with, for `check_going_on`.

    Of several, as of phases, one may go on that begins as any of them.

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> adam, params = jd.optimizers.adam, jnp.ones(2)
    >>> ts = TrainState(jnp.zeros((), jnp.int32), params, {}, adam(0.1).init(params), jax.random.key(0))
    >>> comes_of(ts, adam(0.1))
    >>> check_going_on(adam(0.1), ts, None)
    >>> check_going_on(adam(0.2), ts, None)
    Traceback (most recent call last):
        ...
    ValueError: optimizer= begins with learning_rate=0.2, and train_state= is of one that ...
    """
    step = ts.step
    if not isinstance(step, jax.Array) or isinstance(step, jax.core.Tracer):
        return
    earlier = _known_of(ts)
    if not earlier:
        weakref.finalize(step, _comes_of.pop, id(step), None).atexit = False
    _comes_of[id(step)] = weakref.ref(step), (*earlier, *optimizers)


def _known_of(ts: TrainState) -> tuple[optax.GradientTransformation, ...]:
    reference, optimizers = _comes_of.get(id(ts.step), (None, ()))
    return optimizers if reference is not None and reference() is ts.step else ()
