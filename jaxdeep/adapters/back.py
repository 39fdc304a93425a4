"""Values that jaxdeep has trained, back in the modules of Flax and Equinox that they came from."""

from typing import TYPE_CHECKING, Any

import jax

from jaxdeep import _checks
from jaxdeep._arrays import leaves_of
from jaxdeep._shapes import PyTree
from jaxdeep.adapters import equinox as eqx_modules
from jaxdeep.adapters import nnx as nnx_modules
from jaxdeep.adapters.module import shown
from jaxdeep.saving.into import filled
from jaxdeep.tree import leaf_paths

if TYPE_CHECKING:
    import equinox as eqx
    from flax import nnx


def to_linen(params: PyTree, state: PyTree, variables: PyTree | None = None) -> dict[str, PyTree]:
    """Parameters and state of an adapted Linen module as its variables, for ``module.apply``.

    Args:
      params, state: of a model of `from_linen`, or from `lower`.
      variables: those of the module, as its ``init`` makes them, or their shapes. Names and shapes are
        compared with them, and leaves in boxes there, such as `flax.linen.Partitioned`, are put into
        such boxes.

    Returns:
      ``{"params": params, **state}``.

    Raises:
      ValueError: other names or shapes than those of `variables`. TypeError: no dicts.

    Source: `flax.linen.Module.apply`.

    >>> import flax.linen as linen, jax.numpy as jnp, jaxdeep as jd
    >>> module, x = linen.Dense(2), jnp.ones((1, 3))
    >>> params, state = jd.adapters.from_linen(module).init(jax.random.key(0), x)
    >>> module.apply(to_linen(params, state), x).shape
    (1, 2)
    """
    for name, tree in (("params", params), ("state", state)):
        if not isinstance(tree, dict):
            raise TypeError(f"{name} must be a dict, as a model of from_linen has it, got {tree!r}")
    collections = ({"params": params} if params else {}) | state
    return collections if variables is None else _in(variables, collections, "to_linen")


def to_nnx(
    module: "nnx.Module | nnx_modules.Maker",
    params: PyTree,
    state: PyTree,
    *,
    in_place: bool = False,
) -> "nnx.Module":
    """An NNX module with the values that an adapted one has now.

    Args:
      module: as `from_nnx` was given it: a module, or a function ``rngs -> module``.
      params, state: of that model, or from `lower`.
      in_place: whether the module itself gets the values; else it stays as it is, and another is made,
        with random streams that stand where those of the module do.

    Raises:
      ValueError: other names or shapes than the module's. TypeError: no module, a function `in_place`.

    Source: `flax.nnx.merge` and `update`.

    >>> from flax import nnx
    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> module = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    >>> params, state = jd.adapters.from_nnx(module).init(jax.random.key(0), jnp.ones((1, 3)))
    >>> new = to_nnx(module, jax.tree.map(lambda a: 0 * a, params), state)
    >>> float(new.kernel.sum()), float(module.kernel.sum()) == 0
    (0.0, False)
    """
    from flax import nnx

    _checks.check_flag("in_place", in_place)
    if not isinstance(module, nnx.Module):
        if not callable(module):
            raise TypeError(
                f"module must be a flax.nnx.Module or a function rngs -> module, got {shown(module)}"
            )
        if in_place:
            raise TypeError("in_place=True needs a module; a function makes a new one each time")
        module = module(nnx.Rngs(0))
    graph, own_params, streams, rest = nnx_modules.split(module)
    new_params, new_rest = (
        _in(like, values, "to_nnx") for like, values in ((own_params, params), (rest, state))
    )
    if in_place:
        nnx.update(module, new_params, new_rest)
        return module
    made: nnx.Module = nnx.merge(graph, new_params, jax.tree.map(lambda a: a, streams), new_rest)
    return made


def to_equinox(
    module: "eqx.Module | eqx_modules.Maker",
    params: PyTree,
    state: PyTree,
    own_state: "eqx.nn.State | None" = None,
) -> Any:
    """The Equinox module of an adapted model with new values, and its state if it keeps one.

    Args:
      module: as `from_equinox` was given it: a module, or a function of a key.
      params, state: of that model, or from `lower`.
      own_state: the `equinox.nn.State` that `from_equinox` was given beside a module.

    Returns:
      The module; ``(module, state)``, as `equinox.nn.make_with_state` returns them, of one with a state.

    Raises:
      ValueError: other names or shapes than the module's. TypeError: as `from_equinox`. ImportError:
        equinox is not installed.

    Source: `equinox.combine` and `equinox.nn.make_with_state`.

    >>> import equinox as eqx, jax.numpy as jnp, jaxdeep as jd
    >>> module = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    >>> params, state = jd.adapters.from_equinox(module).init(jax.random.key(0), jnp.ones((1, 3)))
    >>> float(to_equinox(module, jax.tree.map(lambda a: 0 * a, params), state).weight.sum())
    0.0
    """
    whole = eqx_modules.whole_or_maker(module, own_state)
    whole = whole if isinstance(whole, tuple) else whole(jax.random.key(0))
    form = eqx_modules.form_of(whole, "batch")
    leaves = jax.tree.leaves(whole)
    for places, values in ((form.params, params), (form.rest, state)):
        new = _in(jax.tree.map(lambda i: leaves[i], places), values, "to_equinox")
        for i, value in zip(jax.tree.leaves(places), jax.tree.leaves(new)):
            leaves[i] = value
    made, after = jax.tree.unflatten(form.structure, leaves)
    return (made, after) if jax.tree.leaves(after) else made


def to_opt_state(opt_state: PyTree, like: PyTree) -> PyTree:
    """The state of an optimizer in the structure that it has for other parameters of the same paths.

    So a run goes on elsewhere, or here, with its moments: in Flax' ``TrainState``, in
    `flax.nnx.Optimizer`, in a loop of Equinox.

    Args:
      opt_state: a state, such as ``result.train_state.opt_state``.
      like: the state that the same optimizer makes for the parameters over there: ``tx.init(params)``,
        ``nnx.Optimizer(…).opt_state``, ``tx.init(equinox.filter(module, equinox.is_inexact_array))``.

    Raises:
      ValueError: leaves that one of them lacks, or of other shapes, all by path.

    Source: the paths of leaves of `jaxdeep.tree.leaf_paths`, which no library's boxes change.

    >>> import jax.numpy as jnp, optax
    >>> tx = optax.adam(1e-3)
    >>> state = tx.init({"a": jnp.ones(2), "b": jnp.ones(3)})
    >>> jax.tree.structure(to_opt_state(state, state)) == jax.tree.structure(state)
    True
    """
    return _in(like, leaves_of("opt_state", opt_state), "to_opt_state")


def _in(like: PyTree, values: PyTree, caller: str) -> PyTree:
    """The values that are given in the structure of another tree, by path."""
    return filled(caller, like, dict(zip(leaf_paths(values), jax.tree.leaves(values))), whole=True)
