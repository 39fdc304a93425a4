"""One layer many times: in a loop over stacked parameters, or on several inputs."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves, leaves_of
from jaxdeep._shapes import Array, PyTree
from jaxdeep.nn.layer import Layer
from jaxdeep.nn.layer import layer as layer_function
from jaxdeep.nn.model import Model, Pair, Switches, apply_inside, check_known, located, under
from jaxdeep.nn.traits import Traits
from jaxdeep.tree import as_arrays_or_shapes, example_of, path_name, shapes


@layer_function
def repeat(layer: Model, times: int, *, shared: bool = False) -> Layer:
    """A layer `times` times in a row, compiled once: a `jax.lax.scan` over stacked parameters.

    Every parameter and statistic has a leading axis of length `times`, under ``layer``; a network of
    100 layers compiles in about the time of one. Layer i draws from ``jax.random.fold_in(key, i)``.
    With ``shared=True`` it is one layer, with one set of parameters, applied `times` times.

    Args:
      layer: any `Model` whose output has the shape and dtype of its input.
      times: at least 1.
      shared: use the same parameters every time; their statistics pass from one to the next.

    Raises:
      TypeError: not a `Model`. ValueError: `times` below 1, an output unlike the input.

    Source: `jax.lax.scan`; `flax.linen.scan`.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = repeat(jd.nn.dense(8, activation=jax.nn.selu), 100)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 8)))
    >>> params["layer"]["kernel"].shape, model.apply(params, state, jnp.ones((5, 8)))[0].shape
    ((100, 8, 8), (5, 8))
    """
    times = _checks.check_count("times", times)
    _checks.check_flag("shared", shared)

    def init(key: Array, x: PyTree) -> Pair:
        x = example_of(x)
        with located("layer"):
            params, state = jax.eval_shape(lambda key: layer.init(key, x), key)
            y, _ = jax.eval_shape(layer.apply, params, state, x)
        if shapes(y) != x:
            raise ValueError(f"repeat needs an output like the input, got {y} for {x}")
        if shared:
            params, state = layer.init(key, x)
        else:
            keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(times))
            params, state = jax.vmap(lambda key: layer.init(key, x))(keys)
        return under("layer", params), under("layer", state)

    def apply(params: PyTree, state: PyTree, x: PyTree, switches: Switches) -> Pair:
        check_known({"layer": layer}, params, state)
        params, x = leaves_of("params", params), as_arrays_or_shapes(x, "x")
        for argument, tree in (("params", params), ("x", x)):
            check_leaves(argument, tree, real=False)
        own_params, own_state = params.get("layer", {}), state.get("layer", {})
        if not shared:
            _check_times("params", own_params, times)

        def once(x: PyTree, own_params: PyTree, own_state: PyTree, i: Array | int) -> Pair:
            return apply_inside("layer", layer, i, (own_params, own_state), x, switches)

        if _float_dtypes(x) != _float_dtypes(own_params):  # a loop keeps its dtypes
            first = own_params, own_state
            if not shared:
                first = jax.tree.map(lambda leaf: leaf[0], first)
            y, _ = jax.eval_shape(lambda x, variables: once(x, variables[0], variables[1], 0), x, first)
            x = jax.tree.map(lambda a, like: jnp.asarray(a).astype(like.dtype), x, y)

        numbers = jnp.arange(times)
        if shared:
            (x, own_state), _ = jax.lax.scan(
                lambda carry, i: (once(carry[0], own_params, carry[1], i), None), (x, own_state), numbers
            )
        else:
            stacked = own_params, own_state, numbers
            x, own_state = jax.lax.scan(lambda x, row: once(x, *row), x, stacked)
        return x, under("layer", own_state)

    traits = Traits(times=times, stacked=not shared, reuses=shared)
    return Layer(apply, init, traits=traits, layers={"layer": layer}, loops=True)


@layer_function
def shared(layer: Model) -> Layer:
    """One layer, with one set of parameters, on each of several inputs: twins in a Siamese network.

    The input is a tuple, list or dict of inputs of the same shape, and so is the output. Statistics
    pass from one to the next; input i draws from ``jax.random.fold_in(key, i)``.

    Args:
      layer: any `Model`.

    Raises:
      TypeError: not a `Model`. ValueError: an input that is not a tuple, list or dict.

    Source: Bromley et al., "Signature verification using a 'Siamese' time delay network" (NIPS 1993).

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = shared(jd.nn.dense(2))
    >>> a, b = jnp.ones((1, 3)), jnp.zeros((1, 3))
    >>> params, state = model.init(jax.random.key(0), (a, b))
    >>> [y.shape for y in model.apply(params, state, (a, b))[0]], params["layer"]["kernel"].shape
    ([(1, 2), (1, 2)], (3, 2))
    """

    def items(x: PyTree) -> tuple[list[PyTree], Callable[[list[PyTree]], PyTree]]:
        if isinstance(x, Mapping) and x:
            names = sorted(x)  # as jit passes them
            return [x[name] for name in names], lambda ys: dict(zip(names, ys))
        if isinstance(x, (tuple, list)) and x:
            return list(x), (lambda ys: type(x)(*ys)) if hasattr(x, "_fields") else type(x)
        raise ValueError(f"shared needs a tuple, list or dict of inputs as x, got {x!r}")

    def init(key: Array, x: PyTree) -> Pair:
        with located("layer"):
            params, state = layer.init(key, items(x)[0][0])
        return under("layer", params), under("layer", state)

    def apply(params: PyTree, state: PyTree, x: PyTree, switches: Switches) -> Pair:
        check_known({"layer": layer}, params, state)
        own_state, ys = state.get("layer", {}), []
        inputs, again = items(x)
        for i, item in enumerate(inputs):
            y, own_state = apply_inside(
                "layer", layer, i, (params.get("layer", {}), own_state), item, switches
            )
            ys.append(y)
        return again(ys), under("layer", own_state)

    return Layer(apply, init, traits=Traits(reuses=True), layers={"layer": layer})


def _check_times(argument: str, tree: PyTree, times: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.shape(leaf)[:1] != (times,):
            raise ValueError(
                f"{argument}: layer/{path_name(path)} must have a first axis of times={times}, got "
                f"shape {jnp.shape(leaf)}"
            )


def _float_dtypes(tree: PyTree) -> set[np.dtype]:
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)}
    return {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}
