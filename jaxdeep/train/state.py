"""`TrainState`, which holds everything a run needs to go on."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._compilation import kept, run_once
from jaxdeep._identity import key_of
from jaxdeep._shapes import Array, Integer, Num, PyTree
from jaxdeep.optimizers.misfits import begun
from jaxdeep.tree import (
    Where,
    as_arrays_or_shapes,
    check_where,
    example_of,
    parted,
    path_name,
    shapes_of,
)

# of outputs and labels, one number an example, or several that are averaged
PerExample = Callable[[PyTree, PyTree], Num[Array, "batch ..."]]


class Network(Protocol):
    """What a run knows of a model, a `jaxdeep.nn.Model` or another pair of such functions."""

    @property
    def init(self) -> Callable[..., tuple[PyTree, PyTree]]:
        """``(key, x) -> (params, state)``."""

    @property
    def apply(self) -> Callable[..., tuple[PyTree, PyTree]]:
        """``(params, state, x, *, train=False, key=None) -> (y, state)``."""


def check_model(model: object) -> None:
    """Refuse a model without `init` and `apply`."""
    if not all(callable(getattr(model, name, None)) for name in ("init", "apply")):
        hint = "; call it" if callable(model) else ""
        raise TypeError(f"model must be a jaxdeep.nn.Model, got {model!r}{hint}")


def check_optimizer(optimizer: Any) -> None:
    """Refuse anything that is not an optax transformation."""
    is_pair = all(callable(getattr(optimizer, name, None)) for name in ("init", "update"))
    if not is_pair:  # optax.MultiSteps is such a pair without being a GradientTransformation
        hint = "; call it with a learning rate" if callable(optimizer) else ""
        raise TypeError(
            "optimizer must be an optax transformation such as jaxdeep.optimizers.adam(1e-3), got "
            f"{optimizer!r}{hint}"
        )


class TrainState(NamedTuple):
    """The state of a run, a pytree.

    Attributes:
      step: updates done so far, int32.
      params: what the model has learned.
      state: what the model has accumulated (batch-norm statistics).
      opt_state: the optimizer's state.
      key: the run's random key; it never changes. Step t draws from ``fold_in(key, t)``.
    """

    step: Integer[Array, ""]
    params: PyTree
    state: PyTree
    opt_state: PyTree
    key: jax.Array


def init(
    model: Network,
    optimizer: optax.GradientTransformation,
    x: PyTree,
    *,
    key: jax.Array | int,
    trainable: Where | None = None,
) -> TrainState:
    """A fresh `TrainState` for `model` on inputs like `x`.

    Args:
      model: a `jaxdeep.nn.Model`.
      optimizer: any optax transformation.
      x: an example input, ``x[:1]``, or its `jax.ShapeDtypeStruct`; of anything that `jaxdeep.fit`
        takes as data only the shape and the dtype are used.
      key: a random key or its seed. One half of its split makes the parameters, the other is the run's
        key. Under `jax.vmap` over keys this makes stacked states, one model each.
      trainable: the parameters that are trained, as for `make_step`; all by default. The optimizer's
        state knows no others.

    Raises:
      TypeError: a key that is not a random key, an `x` that is no array of numbers.
      ValueError: a `trainable` that matches no leaf.

    >>> import jaxdeep as jd
    >>> ts = init(jd.nn.dense(2), jd.optimizers.sgd(0.1), jnp.ones((1, 3)), key=jax.random.key(0))
    >>> int(ts.step), ts.params["kernel"].shape
    (0, (3, 2))
    """
    check_model(model)
    check_optimizer(optimizer)
    key = _checks.as_key(key)
    if trainable is not None:
        check_where(trainable, "trainable")
    shape = example_of(x)

    def build(key: jax.Array) -> TrainState:
        init_key, run_key = jax.random.split(key)
        params, state = model.init(init_key, shape)
        return _start(params, state, optimizer, run_key, trainable)

    return run_once(build, key)


def begin(
    model: Network,
    optimizer: optax.GradientTransformation,
    x: PyTree,
    key: jax.Array,
    initial: tuple[PyTree, PyTree] | TrainState | None = None,
    trainable: Where | None = None,
) -> TrainState:
    """The state that `init` makes, or one that begins at copies of `initial`.

    `initial` are parameters and state, or a whole train state to go on from.
    """
    if initial is None:
        return init(model, optimizer, x, key=key, trainable=trainable)
    if isinstance(initial, TrainState):
        return run_once(lambda ts: jax.tree.map(jnp.copy, ts), initial)

    def build(initial: tuple[PyTree, PyTree], key: jax.Array) -> TrainState:
        params, state = jax.tree.map(jnp.copy, initial)
        return _start(params, state, optimizer, jax.random.split(key)[1], trainable)

    return run_once(build, initial, key)


def initial_of(params: PyTree | None, state: PyTree | None) -> tuple[PyTree, PyTree] | None:
    """The parameters and state that were passed to begin with; None if there are none.

    Raises:
      ValueError: a state without parameters.
      TypeError: leaves that are no arrays of numbers.
    """
    if params is None and state is not None:
        raise ValueError("state= is given without the params= it belongs to")
    if params is None:
        return None
    state = {} if state is None else state
    return as_arrays_or_shapes(params, "params"), as_arrays_or_shapes(state, "state")


def check_initial(
    model: Network, x: PyTree, initial: tuple[PyTree, PyTree] | None, *, is_input: bool = True
) -> None:
    """Refuse parameters or a state that are not of the structure that `model` makes for inputs like `x`.

    With an objective of the user's own nobody knows the input: `x` is an array of the data that may be
    it (``is_input=False``), and the parameters may be those of several models. Then names are compared
    if one of them is the model's, and shapes if all matrices have those that it makes for `x`.

    Raises:
      ValueError: the path of the first leaf that is missing, too much or of another shape.
    """
    if initial is None:
        return
    like, key = shapes_of("x", x), jax.random.key(0)

    def build() -> tuple[PyTree, PyTree] | None:
        try:
            return jax.eval_shape(lambda key: model.init(key, like), key)
        except (TypeError, ValueError):
            if is_input:
                raise
            return None  # the model does not take this array

    made = kept(key_of("initial", model, is_input), build, (like, key))
    if made is None:
        return
    if not is_input:
        here, there = _by_path(initial[0]), _by_path(made[0])
        if not set(here) & set(there):
            return
        if any(here.get(path, shape) != shape for path, shape in there.items() if len(shape) > 1):
            made = tuple(_with_shapes(tree, passed) for tree, passed in zip(made, initial))
    for name, passed, wanted in zip(("params", "state"), initial, made):
        check_leaves(name, passed, real=False)
        here, there = _by_path(passed), _by_path(wanted)
        for path in {**there, **here}:
            if path not in here:
                raise ValueError(
                    f"{name}= lacks {path!r}, which the model has"
                    + ("; pass the state= that goes with params=" if name == "state" else "")
                )
            if path not in there:
                raise ValueError(f"{name}= has {path!r}, which the model has not")
            if here[path] != there[path]:
                raise ValueError(
                    f"{name}[{path!r}] must have the shape {there[path]} that the model gives it, got "
                    f"{here[path]}"
                )


def _with_shapes(tree: PyTree, other: PyTree) -> PyTree:
    """The tree with the shapes of the leaves that have the same paths in another one."""
    shapes_of = _by_path(other)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.ShapeDtypeStruct(shapes_of.get(path_name(path), leaf.shape), leaf.dtype),
        tree,
    )


def _by_path(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): jnp.shape(leaf) for path, leaf in leaves}


def only(
    optimizer: optax.GradientTransformation, trainable: Where | None
) -> optax.GradientTransformation:
    """The optimizer, which sees only the parameters that `trainable` selects; the others are None.

    >>> import jaxdeep as jd
    >>> tx = only(jd.optimizers.sgd(0.1, momentum=0.9), "b")
    >>> jax.tree.leaves(tx.init({"a": jnp.ones(3), "b": jnp.ones(2)}).slots)[0].shape
    (2,)
    """
    if trainable is None:
        return optimizer

    def selected(tree: PyTree) -> PyTree:
        return None if tree is None else parted(tree, trainable, "trainable")[0]

    def init(params: PyTree) -> Any:
        return begun(optimizer, selected(params))

    def update(updates: PyTree, state: Any, params: PyTree | None = None, **extra: Any) -> Any:
        return optimizer.update(selected(updates), state, selected(params), **extra)

    return optax.GradientTransformationExtraArgs(init, update)


def check_floats(params: PyTree, trainable: Where | None, *, only_keys: bool = False) -> None:
    """Refuse parameters that are trained and no floats, of which there is no gradient.

    Args:
      params: the parameters, or their shapes.
      trainable: those that are trained; None for all.
      only_keys: whether random keys alone are refused.

    >>> check_floats({"a": jnp.ones(2), "b": jnp.arange(2)}, "a")
    >>> check_floats({"a": jnp.ones(2), "b": jnp.arange(2)}, None)
    Traceback (most recent call last):
    TypeError: params/b must be floats to be trained, got int32: convert them, or leave them out of ...
    """
    chosen = params if trainable is None else parted(params, trainable, "trainable")[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(chosen):
        dtype = jnp.result_type(leaf)
        is_key = jax.dtypes.issubdtype(dtype, jax.dtypes.extended)
        if is_key or not (only_keys or jnp.issubdtype(dtype, jnp.inexact)):
            raise TypeError(
                f"params/{path_name(path)} must be floats to be trained, got {dtype}: convert them, or "
                "leave them out of trainable="
            )


def _start(
    params: PyTree,
    state: PyTree,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    trainable: Where | None,
) -> TrainState:
    try:
        opt_state = begun(only(optimizer, trainable), params)
    except TypeError:
        check_floats(params, trainable, only_keys=True)  # of which most optimizers can keep nothing
        raise
    return TrainState(jnp.zeros((), jnp.int32), params, state, opt_state, key)
