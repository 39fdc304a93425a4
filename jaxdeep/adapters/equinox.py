"""Equinox modules as models."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep.adapters.linen import call_flags
from jaxdeep.nn.model import Model, learns
from jaxdeep.tree import leaf_paths, path_name

PyTree = Any


def from_equinox(module: Any, state: Any = None, *, axis_name: Hashable | None = None) -> Model:
    """An `equinox.Module` of one example as a `Model` of batches whose two switches work separately.

    ``apply`` maps the module over the batch, ``jax.vmap(module, axis_name=axis_name)``. ``params`` are
    its floating-point arrays as nested dicts by the names of its attributes (``"layers/0/weight"``);
    what it keeps in `equinox.nn.State` (batch statistics by their index, ``"norm/batch_counter"``) and
    its other arrays are in ``state``; what is not an array stays as it is. Layers with statistics
    (`equinox.nn.BatchNorm` in both modes, `SpectralNorm`) use and update them just where ``train=True``,
    dropouts are random just where a `key` is passed, whatever their ``inference`` flags and whatever the
    module passes on: an MC dropout sample does not touch batch norm. A flag ``inference`` of any other
    layer follows `train` if the layer has a state index of its own, else the key. Example i of n gets
    ``jax.random.split(key, n)[i]``; the module must draw only with a key.

    Args:
      module: a module called ``module(x)``, ``module(x, key=key)`` or ``module(x, state, key=key)``,
        whose own arrays ``init`` gives back whatever its key. Or a function ``key -> module`` (or
        ``key -> (module, state)``, such as `equinox.nn.make_with_state` returns; also a class or partial
        that takes ``key=``), called anew by ``init``: with it seeds differ, and stacked models can be
        made under `jax.vmap`.
      state: the `equinox.nn.State` of a module from which `equinox.nn.make_with_state` took it.
      axis_name: the name of the batch axis. By default that of the batch norms, ``"batch"`` if there are
        none.

    ``mask=`` is refused where it would count, for a module with a state in training.

    Raises:
      TypeError: neither a module nor such a function, a call that needs other arguments, a state that is
        not one.
      ValueError: a missing or foreign state; batch norms over axes of several names.
      ImportError: equinox is not installed (``pip install 'jaxdeep[equinox]'``).

    Source: `equinox.nn.make_with_state`, `equinox.partition`, `equinox.nn.inference_mode`.

    >>> import equinox as eqx
    >>> def network(key):
    ...     layers = [eqx.nn.Linear(3, 4, key=key), eqx.nn.BatchNorm(4, "batch", mode="batch")]
    ...     return eqx.nn.Sequential([*layers, eqx.nn.Dropout(0.5)])
    >>> model = from_equinox(network)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> leaf_paths(params)
    ['layers/0/bias', 'layers/0/weight', 'layers/1/bias', 'layers/1/weight']
    >>> y, same = model.apply(params, state, jnp.ones((5, 3)), key=jax.random.key(1))  # MC dropout
    >>> y.shape, same is state
    ((5, 4), True)
    """
    eqx = _equinox()
    if state is not None and not isinstance(state, eqx.nn.State):
        raise TypeError(f"state must be an equinox.nn.State, got {state!r}")
    if isinstance(module, eqx.Module):  # equinox.filter_jit of a function is one too
        module = inspect.unwrap(module)
    is_module = isinstance(module, eqx.Module)
    if not (is_module or callable(module)):
        raise TypeError(f"module must be an equinox.Module or a function key -> module, got {module!r}")
    if not is_module and state is not None:
        raise TypeError("state= belongs to a module; a function returns it with the module")
    given = _whole(module, state) if is_module else None
    form_of_given = None if given is None else _form(given, axis_name)

    def make(key: Any) -> Any:
        if given is not None:
            return given
        made = module(key=key) if _by_keyword(module) else module(key)
        return _whole(*made) if isinstance(made, tuple) and len(made) == 2 else _whole(made, None)

    @functools.cache
    def form() -> _Form:
        if form_of_given is not None:
            return form_of_given
        return _form(eqx.filter_eval_shape(make, jax.random.key(0)), axis_name)

    return _model(make, form, type(module).__name__ if given is not None else "equinox", None)


def _model(
    make: Callable[[Any], Any], form: Callable[[], "_Form"], kind: str, trainable: PyTree
) -> Model:
    """The model, with layers whose parameters are not `trainable` keeping their statistics."""

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        _checks.check_key(key)
        leaves = jax.tree.leaves(make(key))
        return jax.tree.map(lambda i: _strong(jnp.copy(leaves[i])), (form().params, form().rest))

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        _checks.check_key(key, optional=True)
        own = form()
        if mask is not None and train and own.first_state < len(own.leaves):
            raise ValueError(
                "mask: the statistics of an equinox module are of all rows; leave out those that do not "
                "count, or train without mask="
            )
        leaves = list(own.leaves)
        for index, values in ((own.params, params), (own.rest, state)):
            _fill(leaves, index, values)

        def run(usable: Any) -> tuple[PyTree, PyTree]:
            """With the key that the module is given."""
            module, before = jax.tree.unflatten(own.structure, leaves)
            _switch(module, train, key, trainable)
            return _mapped(own, module, before, x, _flags(train, key), usable)

        outputs = None
        if key is None and "key" in own.takes:
            with contextlib.suppress(Exception):
                outputs = run(None)
            # a module may refuse None that divides its key among dropouts, which are off
            outputs = outputs or run(_null())
        y, after = outputs or run(key)
        if not train or own.first_state == len(own.leaves):
            return y, state
        new = leaves[: own.first_state] + jax.tree.leaves(after)
        return y, jax.tree.map(lambda i: _strong(new[i]), own.rest)

    def freeze(trainable: PyTree) -> Model:
        return _model(make, form, kind, trainable)

    return Model(init, apply, kind, freeze=freeze)


class _Form(NamedTuple):
    """A module and its state without values.

    Attributes:
      structure: of ``(module, state)`` as one pytree.
      leaves: of it; those that are arrays are shapes, or values that are not used.
      first_state: the index of the first leaf of the state.
      params, rest: nested dicts of indices of leaves.
      takes: names of the arguments of its call.
      passes_state: whether it is called with its state.
      axis_name: of the batch.
    """

    structure: Any
    leaves: list[Any]
    first_state: int
    params: dict[str, Any]
    rest: dict[str, Any]
    takes: tuple[str, ...]
    passes_state: bool
    axis_name: Hashable


def _equinox() -> Any:
    try:
        import equinox
    except ImportError as error:
        raise ImportError("from_equinox needs equinox: pip install 'jaxdeep[equinox]'") from error
    return equinox


def _by_keyword(function: Callable[..., Any]) -> bool:
    """Whether the function takes a key, but not as its first argument."""
    try:
        key = inspect.signature(function).parameters.get("key")
    except (ValueError, TypeError):
        return False
    return key is not None and key.kind is inspect.Parameter.KEYWORD_ONLY


def _whole(module: Any, state: Any) -> tuple[Any, Any]:
    """The module without, and beside it, its state."""
    eqx = _equinox()
    if not isinstance(module, eqx.Module):
        raise TypeError(f"the function of from_equinox must return an equinox.Module, got {module!r}")
    if state is not None:
        if not isinstance(state, eqx.nn.State):
            raise TypeError(f"the state of a module must be an equinox.nn.State, got {state!r}")
        return module, state
    try:
        made: tuple[Any, Any] = eqx.nn.make_with_state(lambda: module)()
    except ValueError:  # an index without a first value
        raise ValueError(
            f"the state of this {type(module).__name__} was taken out of it, as by "
            "equinox.nn.make_with_state: pass both, from_equinox(module, state)"
        ) from None
    return made


def _form(whole: tuple[Any, Any], axis_name: Hashable | None) -> _Form:
    eqx = _equinox()
    module, state = whole
    leaves, structure = jax.tree.flatten(whole)
    inside = jax.tree_util.tree_leaves_with_path(module)
    trained: list[tuple[Any, int]] = []
    rest: list[tuple[Any, int]] = []
    for i, (path, leaf) in enumerate(inside):
        if isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)):
            (trained if jnp.issubdtype(leaf.dtype, jnp.inexact) else rest).append((path, i))
    # where each leaf of the state is: its number, found by the index that the module holds
    first = len(inside)
    numbers = jax.tree.unflatten(jax.tree.structure(state), range(first, len(leaves)))
    found: dict[int, Any] = {}
    for path, index in _state_indices(module):
        try:
            below = numbers.get(index)
        except KeyError:
            raise ValueError(
                f"the state is of another module: it has nothing for {path_name(path)}"
            ) from None
        for rest_of_path, i in jax.tree_util.tree_leaves_with_path(below):
            found.setdefault(i, (*path, *rest_of_path))
    if len(found) < len(leaves) - first:
        raise ValueError("the state is of another module: the module has no place for some of it")
    rest += [(path, i) for i, path in found.items()]
    takes, passes_state = _call_of(module, bool(found))
    norms = [node for _, node in _modules(module) if isinstance(node, eqx.nn.BatchNorm)]
    names = {_hashable(norm.axis_name) for norm in norms}
    if axis_name is None and (len(names) > 1 or any(isinstance(name, tuple) for name in names)):
        raise ValueError(
            f"the batch norms take statistics over axes of several names, {sorted(map(str, names))}: "
            "say with axis_name= which is the batch"
        )
    name = axis_name if axis_name is not None else next(iter(names), "batch")
    return _Form(structure, leaves, first, _nested(trained), _nested(rest), takes, passes_state, name)


def _hashable(name: Any) -> Hashable:
    return tuple(name) if isinstance(name, (list, tuple)) else name


def _state_indices(module: Any) -> list[tuple[Any, Any]]:
    eqx = _equinox()

    def is_index(node: Any) -> bool:
        return isinstance(node, eqx.nn.StateIndex)

    found = jax.tree_util.tree_leaves_with_path(module, is_leaf=is_index)
    return [(path, node) for path, node in found if is_index(node)]


def _modules(module: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The module and all modules inside, with the names that lead to them."""
    eqx = _equinox()
    yield path, module
    inside = jax.tree_util.tree_leaves_with_path(
        module, is_leaf=lambda node: node is not module and isinstance(node, eqx.Module)
    )
    for below, node in inside:
        if isinstance(node, eqx.Module):
            yield from _modules(node, (*path, *_names(below)))


def _names(path: tuple[Any, ...]) -> list[str]:
    return [path_name((entry,)) for entry in path]


def _call_of(module: Any, has_state: bool) -> tuple[tuple[str, ...], bool]:
    """Names of the arguments of the call, and whether a state is one; refuses what cannot be called."""
    kind = type(module).__name__
    if not callable(module):
        raise TypeError(f"the module must be called with an example, but {kind} has no __call__")
    parameters = dict(inspect.signature(module).parameters)
    own = parameters.get("state")
    passes_state = has_state or (own is not None and own.default is inspect.Parameter.empty)
    if passes_state and own is None:
        raise TypeError(f"{kind} holds a state, but its call takes no argument called state")
    known = {"key", "state", *_flags(False, None)}
    needed = [
        name
        for name, p in list(parameters.items())[1:]
        if name not in known and p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed:
        raise TypeError(
            f"the module must be called with one example (and a state, and a key); {kind} also needs "
            f"{', '.join(needed)}: wrap it in a module that takes one pytree"
        )
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return (*parameters, *(("key",) if takes_any else ())), passes_state


def _flags(train: bool, key: Any) -> dict[str, bool]:
    """The flags that a call may take, by the names in use."""
    return call_flags(train, key) | {
        "inference": not (train or key is not None),
        "enable_dropout": key is not None,
    }


def _nested(pairs: list[tuple[Any, int]]) -> dict[str, Any]:
    """Nested dicts of what is at these key paths."""
    tree: dict[str, Any] = {}
    for path, value in pairs:
        *outer, last = _names(path)
        node = tree
        for name in outer:
            node = node.setdefault(name, {})
        node[last] = value
    return tree


def _fill(leaves: list[Any], index: dict[str, Any], values: Any) -> None:
    """Put values in the places that `index` has for them."""
    known, given = leaf_paths(index), leaf_paths(values)
    if known != given:
        odd = sorted(set(known) ^ set(given))
        raise ValueError(f"parameters or state do not have the module's names: {', '.join(odd[:6])}")
    for i, value in zip(jax.tree.leaves(index), jax.tree.leaves(values)):
        leaves[i] = value


def _strong(leaf: Any) -> Any:
    """Not weakly typed, as Equinox' counters are: every step is one program."""
    weak = getattr(jax.typeof(leaf), "weak_type", False)
    return jax.lax.convert_element_type(leaf, leaf.dtype) if weak else leaf


def _mapped(
    form: _Form, module: Any, state: Any, x: Any, flags: dict[str, bool], key: Any
) -> tuple[PyTree, PyTree]:
    """The outputs of the module for a batch, and its state after it."""
    flags = {name: value for name, value in flags.items() if name in form.takes}
    rows = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(x)}
    if len(rows) != 1 or not (n := next(iter(rows))):
        raise ValueError(f"x must have the same rows everywhere, got lengths {sorted(rows)}")
    keys = None if key is None else jax.random.split(key, n[0])

    def one(x: Any, key: Any) -> tuple[Any, Any]:
        kwargs: dict[str, Any] = flags | ({"key": key} if "key" in form.takes else {})
        if not form.passes_state:
            return module(x, **kwargs), state
        found: tuple[Any, Any] = module(x, state=state, **kwargs)
        return found

    outputs: tuple[Any, Any] = jax.vmap(
        one, in_axes=(0, None if keys is None else 0), out_axes=(0, None), axis_name=form.axis_name
    )(x, keys)
    return outputs


def _switch(module: Any, train: bool, key: Any, trainable: PyTree) -> None:
    """Set the ``inference`` flags of a module that is ours alone, whatever it passes to its layers."""
    eqx = _equinox()
    for path, node in _modules(module):
        fields = vars(node)
        if "inference" not in fields:
            continue
        counts = any(isinstance(value, eqx.nn.StateIndex) for value in fields.values())
        moves = train and (trainable is None or learns(trainable, path))
        object.__setattr__(node, "inference", not moves if counts else key is None)
        kind: Any = type(node)
        if issubclass(kind, (eqx.nn.BatchNorm, eqx.nn.SpectralNorm, eqx.nn.Dropout)):
            object.__setattr__(node, "__class__", _obedient(kind))


@functools.cache
def _obedient(kind: Any) -> Any:
    """The layer, following its attribute whatever it is called with."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return kind.__call__(
            self, *args, **{n: v for n, v in kwargs.items() if n not in ("inference", "deterministic")}
        )

    return type(kind)(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


@functools.cache
def _null_kind() -> Any:
    """A kind of random key that can be split, but of which nothing can be drawn."""
    import jax.extend.random

    def refuse(key: Any, width: int, shape: Any) -> Any:
        raise ValueError(
            "the module draws random numbers of its own, not in a dropout: pass a key=, or let it draw "
            "only where its key is not None"
        )

    return jax.extend.random.define_prng_impl(
        key_shape=(1,),
        seed=lambda seed: jnp.zeros((1,), jnp.uint32),
        split=lambda key, shape: jnp.zeros((*shape, 1), jnp.uint32),
        random_bits=refuse,
        fold_in=lambda key, data: key,
        name="jaxdeep_null",
        tag="null",
    )


def _null() -> Any:
    return jax.random.key(0, impl=_null_kind())
