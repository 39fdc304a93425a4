"""Models made of models."""

import collections
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.nn.model import Model, located, stateless, switches
from jaxdeep.tree import shapes

PyTree = Any


def serial(*layers: Model, **named: Model) -> Model:
    """Layers one after another: the output of each is the input of the next.

    Parameters and state are dicts by layer name; a layer without any has no entry. Layers are
    given by keyword, or by position and then named by kind and a count from 0: ``dense0``,
    ``batch_norm0``, ``dense1``. Layer i draws its randomness from ``jax.random.fold_in(key, i)``.

    Args:
      layers, named: `Model` values; either all by position or all by name.

    Raises:
      TypeError: something that is not a `Model`, or positions and names mixed.
      ValueError: from a layer, with its path in front (``block/dense0: …``); parameters of a layer
        that the model does not have.

    Source: `serial` of stax; Keras' `Sequential`.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = serial(hidden=jd.nn.dense(4), act=jd.nn.activation(jax.nn.relu), out=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> jd.tree.leaf_paths(params)
    ['hidden/bias', 'hidden/kernel', 'out/bias', 'out/kernel']
    >>> model.apply(params, state, jnp.ones((5, 3)))[0].shape
    (5, 2)
    >>> list(serial(jd.nn.dense(4), jd.nn.dropout(0.5), jd.nn.dense(2)).layers)
    ['dense0', 'dropout0', 'dense1']
    """
    return _serial(_named("serial", layers, named))


def parallel(*branches: Model, **named: Model) -> Model:
    """Branches side by side on the same input; the output is a dict by name, or a tuple by position.

    For several outputs, ``parallel(main=dense(1), auxiliary=dense(1))``; a branch that wants one of
    several inputs begins with `select`. Parameters, state and randomness are as for `serial`.

    Args:
      branches, named: `Model` values; either all by position or all by name.

    Raises:
      TypeError, ValueError: as `serial`.

    Source: the functional interface of Keras; `parallel` of stax.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = parallel(main=jd.nn.dense(1), auxiliary=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> {name: y.shape for name, y in model.apply(params, state, jnp.ones((5, 3)))[0].items()}
    {'main': (5, 1), 'auxiliary': (5, 2)}
    """
    given = _named("parallel", branches, named)
    return _fan("parallel", given, dict if named else (lambda ys: tuple(ys.values())))


def concatenate(*branches: Model, axis: int = -1, **named: Model) -> Model:
    """Branches side by side on the same input, their outputs joined along `axis`: Wide & Deep.

    Args:
      branches, named: as for `parallel`.
      axis: the axis along which outputs are joined.

    Raises:
      TypeError, ValueError: as `serial`; outputs that do not fit.

    Source: Cheng et al., "Wide & Deep Learning" (arXiv:1606.07792).

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> deep = serial(select("deep"), jd.nn.dense(30, activation=jax.nn.relu))
    >>> model = serial(both=concatenate(wide=select("wide"), deep=deep), output=jd.nn.dense(1))
    >>> x = {"wide": jnp.ones((5, 4)), "deep": jnp.ones((5, 6))}
    >>> params, state = model.init(jax.random.key(0), x)
    >>> params["output"]["kernel"].shape, model.apply(params, state, x)[0].shape
    ((34, 1), (5, 1))
    """
    given = _named("concatenate", branches, named)

    def join(outputs: Mapping[str, Any]) -> Any:
        return jnp.concatenate(list(outputs.values()), axis=axis)

    return _fan("concatenate", given, join, {} if axis == -1 else {"axis": axis})


def select(name: str | int) -> Model:
    """One of several inputs: ``y = x[name]``.

    Args:
      name: a key of a dict of inputs, or an index of a tuple of them.

    Raises:
      ValueError: inputs without it.

    Source: the inputs by name of Keras' functional interface.

    >>> select("wide").apply({}, {}, {"wide": 1.0, "deep": 2.0})[0]
    1.0
    """

    def pick(x: Any) -> Any:
        try:
            if not _is_many(x):
                raise TypeError
            return x[name]
        except (KeyError, IndexError, TypeError):
            known = list(x) if isinstance(x, Mapping) else f"{len(x)} of them" if _is_many(x) else x
            raise ValueError(f"select({name!r}): the inputs are {known}") from None

    return stateless(pick, "select", name=name)


def residual(layer: Model, *, shortcut: Model | None = None) -> Model:
    """A layer with a way around it: ``y = layer(x) + x``, or ``+ shortcut(x)``.

    Parameters are under ``layer`` and ``shortcut``.

    Args:
      layer: any `Model`.
      shortcut: the way around, where shapes change (a 1 × 1 convolution); the identity by default.

    Raises:
      TypeError: not a `Model`.
      ValueError: an output of another shape than the shortcut's.

    Source: He et al., "Deep Residual Learning" (arXiv:1512.03385).

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = residual(jd.nn.dense(3, kernel_init=jd.nn.initializers.zeros))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> model.apply(params, state, jnp.array([[1.0, 2.0, 3.0]]))[0].tolist()
    [[1.0, 2.0, 3.0]]
    """
    layers = {"layer": layer} | ({} if shortcut is None else {"shortcut": shortcut})
    _check_models("residual", layers)

    def add(outputs: Mapping[str, Any], x: Any) -> Any:
        y, around = outputs["layer"], outputs.get("shortcut", x)
        if jnp.shape(y) != jnp.shape(around):
            raise ValueError(
                f"residual adds outputs of the same shape, got {jnp.shape(y)} and a shortcut of "
                f"{jnp.shape(around)}"
            )
        return y + around

    return _fan("residual", layers, add, needs_input=True)


def repeat(layer: Model, times: int, *, shared: bool = False) -> Model:
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
    _check_models("repeat", {"layer": layer})
    _checks.check_count("times", times)
    _checks.check_flag("shared", shared)

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        _checks.check_key(key)
        x = shapes(x)
        with located("layer"):
            params, state = jax.eval_shape(lambda key: layer.init(key, x), key)
            y, _ = jax.eval_shape(layer.apply, params, state, x)
        if jax.tree.map(lambda a: (a.shape, a.dtype), y) != jax.tree.map(
            lambda a: (a.shape, a.dtype), x
        ):
            raise ValueError(f"repeat needs an output like the input, got {y} for {x}")
        if shared:
            params, state = layer.init(key, x)
        else:
            keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(times))
            params, state = jax.vmap(lambda key: layer.init(key, x))(keys)
        return _under("layer", params), _under("layer", state)

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        _checks.check_key(key, optional=True)
        own_params, own_state = params.get("layer", {}), state.get("layer", {})

        def once(x: Any, own_params: Any, own_state: Any, i: Any) -> tuple[Any, Any]:
            own_key = None if key is None or not layer.stochastic else jax.random.fold_in(key, i)
            with located("layer"):
                return layer.apply(own_params, own_state, x, **switches(train, own_key, mask))

        if shared:

            def body(carry: Any, i: Any) -> tuple[Any, None]:
                return once(carry[0], own_params, carry[1], i), None

            (x, own_state), _ = jax.lax.scan(body, (x, own_state), jnp.arange(times))
        else:

            def step(x: Any, each: Any) -> tuple[Any, Any]:
                return once(x, *each)

            x, own_state = jax.lax.scan(step, x, (own_params, own_state, jnp.arange(times)))
        return x, _under("layer", own_state)

    return Model(
        init,
        apply,
        "repeat",
        {"times": times} | ({"shared": True} if shared else {}),
        layers={"layer": layer},
        combine=lambda layers: repeat(layers["layer"], times, shared=shared),
        stochastic=layer.stochastic,
        loops=True,
    )


def shared(layer: Model) -> Model:
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
    _check_models("shared", {"layer": layer})

    def items(x: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
        if isinstance(x, Mapping):
            names = sorted(x)  # as jit passes them
            return [x[name] for name in names], lambda ys: dict(zip(names, ys))
        if isinstance(x, (tuple, list)) and x:
            return list(x), type(x)
        raise ValueError(f"shared needs a tuple, list or dict of inputs, got {x!r}")

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        with located("layer"):
            params, state = layer.init(key, items(x)[0][0])
        return _under("layer", params), _under("layer", state)

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        _checks.check_key(key, optional=True)
        own, ys = state.get("layer", {}), []
        inputs, again = items(x)
        for i, each in enumerate(inputs):
            own_key = None if key is None or not layer.stochastic else jax.random.fold_in(key, i)
            with located("layer"):
                y, own = layer.apply(
                    params.get("layer", {}), own, each, **switches(train, own_key, mask)
                )
            ys.append(y)
        return again(ys), _under("layer", own)

    return Model(
        init,
        apply,
        "shared",
        layers={"layer": layer},
        combine=lambda layers: shared(layers["layer"]),
        stochastic=layer.stochastic,
    )


def lambda_(function: Callable[[Any], Any]) -> Model:
    """Any function of the input as a layer: ``y = function(x)``.

    Args:
      function: a pure function; of a pytree if the input is one.

    Raises:
      TypeError: not a function.

    Source: Keras' `Lambda`.

    >>> import jax.numpy as jnp
    >>> lambda_(lambda x: x.sum(axis=-1)).apply({}, {}, jnp.ones((2, 3)))[0].tolist()
    [3.0, 3.0]
    """
    if not callable(function):
        raise TypeError(f"function must be a function of the input, got {function!r}")
    return stateless(function, "lambda", function=function)


def mixed_precision(model: Model, compute_dtype: Any = jnp.bfloat16) -> Model:
    """The same model computing in a lower precision: parameters and statistics stay as they are.

    Floating-point parameters and inputs are rounded to `compute_dtype` on the way in, the outputs are
    cast back to the dtype of the inputs; gradients arrive in the parameters' dtype. Batch-norm
    statistics are taken and kept in float32. Parameters and state have the structure of `model`'s.

    Args:
      model: any `Model`.
      compute_dtype: a floating-point dtype.

    Raises:
      TypeError: not a `Model`, not a floating-point dtype.

    Source: Micikevicius et al., "Mixed Precision Training" (arXiv:1710.03740), with bfloat16.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = mixed_precision(jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> params["kernel"].dtype, model.apply(params, state, jnp.ones((1, 3)))[0].dtype
    (dtype('float32'), dtype('float32'))
    """
    _check_models("mixed_precision", {"model": model})
    _checks.check_float_dtype("compute_dtype", compute_dtype)

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(x)]
        back = next((d for d in dtypes if jnp.issubdtype(d, jnp.floating)), jnp.result_type(float))
        low_params, low_x = _cast(params, compute_dtype), _cast(x, compute_dtype)
        y, state = model.apply(low_params, state, low_x, **switches(train, key, mask))
        return _cast(y, back), state

    return Model(
        model.init,
        apply,
        "mixed_precision",
        {"compute_dtype": jnp.dtype(compute_dtype).name},
        layers={"": model},
        combine=lambda layers: mixed_precision(layers[""], compute_dtype),
        stochastic=model.stochastic,
    )


# --- what they share ------------------------------------------------------------------------------


def _named(kind: str, layers: tuple[Model, ...], named: Mapping[str, Model]) -> dict[str, Model]:
    if layers and named:
        raise TypeError(
            f"{kind} takes its layers either by position or by name, not both: got "
            f"{len(layers)} by position and {', '.join(named)} by name"
        )
    _check_models(kind, dict(enumerate(layers)) | dict(named))
    return dict(named) or _numbered(layers)


def _check_models(kind: str, layers: Mapping[Any, Any]) -> None:
    for name, layer in layers.items():
        if not isinstance(layer, Model):
            hint = "; call it" if callable(layer) else ""
            raise TypeError(f"{kind} layer {name} must be a Model, got {layer!r}{hint}")
        if isinstance(name, str) and "/" in name:
            raise ValueError(f"a layer's name must not contain '/', got {name!r}")


def _numbered(layers: tuple[Model, ...]) -> dict[str, Model]:
    seen: collections.Counter[str] = collections.Counter()
    names = {}
    for layer in layers:
        names[f"{layer.kind}{seen[layer.kind]}"] = layer
        seen[layer.kind] += 1
    return names


def _under(name: str, tree: Any) -> dict[str, Any]:
    return {name: tree} if tree else {}


def _is_many(x: Any) -> bool:
    return isinstance(x, (tuple, list, Mapping))


def _cast(tree: PyTree, dtype: Any) -> PyTree:
    def cast(leaf: Any) -> Any:
        return leaf.astype(dtype) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def _check_known(layers: Mapping[str, Model], *trees: Mapping[str, Any]) -> None:
    unknown = [name for tree in trees for name in tree if name not in layers]
    if unknown:
        raise ValueError(
            f"parameters or state of an unknown layer {unknown[0]!r}; the layers are {', '.join(layers)}"
        )


def _serial(layers: Mapping[str, Model]) -> Model:
    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        _checks.check_key(key)
        params: dict[str, Any] = {}
        state: dict[str, Any] = {}
        y = shapes(x)
        for i, (name, layer) in enumerate(layers.items()):
            with located(name):
                own_params, own_state = layer.init(jax.random.fold_in(key, i), y)
                y, _ = jax.eval_shape(layer.apply, own_params, own_state, y)
            params |= _under(name, own_params)
            state |= _under(name, own_state)
        return params, state

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        _checks.check_key(key, optional=True)
        _check_known(layers, params, state)
        new_state: dict[str, Any] = {}
        for i, (name, layer) in enumerate(layers.items()):
            x, own_state = _run(layer, name, i, params, state, x, train, key, mask)
            new_state |= _under(name, own_state)
        return x, new_state

    return Model(
        init,
        apply,
        "serial",
        layers=dict(layers),
        combine=_serial,
        stochastic=any(layer.stochastic for layer in layers.values()),
    )


def _fan(
    kind: str,
    layers: Mapping[str, Model],
    join: Callable[..., Any],
    config: Mapping[str, Any] | None = None,
    *,
    needs_input: bool = False,
) -> Model:
    """Layers on the same input, whose outputs, by name, `join` makes one."""

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        _checks.check_key(key)
        params: dict[str, Any] = {}
        state: dict[str, Any] = {}
        outputs: dict[str, Any] = {}
        x = shapes(x)
        for i, (name, layer) in enumerate(layers.items()):
            with located(name):
                own_params, own_state = layer.init(jax.random.fold_in(key, i), x)
                outputs[name], _ = jax.eval_shape(layer.apply, own_params, own_state, x)
            params |= _under(name, own_params)
            state |= _under(name, own_state)
        jax.eval_shape(join, outputs, *([x] if needs_input else []))
        return params, state

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        _checks.check_key(key, optional=True)
        _check_known(layers, params, state)
        outputs: dict[str, Any] = {}
        new_state: dict[str, Any] = {}
        for i, (name, layer) in enumerate(layers.items()):
            outputs[name], own_state = _run(layer, name, i, params, state, x, train, key, mask)
            new_state |= _under(name, own_state)
        return join(outputs, *([x] if needs_input else [])), new_state

    return Model(
        init,
        apply,
        kind,
        config or {},
        layers=dict(layers),
        combine=lambda layers: _fan(kind, layers, join, config, needs_input=needs_input),
        stochastic=any(layer.stochastic for layer in layers.values()),
    )


def _run(
    layer: Model, name: str, i: int, params: Any, state: Any, x: Any, train: bool, key: Any, mask: Any
) -> tuple[Any, Any]:
    own_key = None if key is None or not layer.stochastic else jax.random.fold_in(key, i)
    with located(name):
        return layer.apply(
            params.get(name, {}), state.get(name, {}), x, **switches(train, own_key, mask)
        )
