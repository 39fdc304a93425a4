"""Equinox modules as models."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Container, Hashable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.adapters.known import of_equinox
from jaxdeep.adapters.module import Hook, Inside, Switches, adapted, check_names, hooked, shown
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model, learns
from jaxdeep.tree import path_name

if TYPE_CHECKING:
    import equinox as eqx

    Maker = Callable[..., eqx.Module | tuple[eqx.Module, eqx.nn.State]]

Whole = tuple["eqx.Module", "eqx.nn.State"]  # a module, and its state, which was taken out of it
KeyPath = tuple[Any, ...]  # the path of JAX to a leaf


def from_equinox(
    module: "eqx.Module | Maker",
    state: "eqx.nn.State | None" = None,
    *,
    axis_name: Hashable | None = None,
) -> Model:
    """An `equinox.Module` of one example as a `Model` of batches whose two switches work separately.

    ``apply`` maps the module over the rows of a batch, ``jax.vmap(module, axis_name=axis_name)``. Row i
    of n gets the key ``jax.random.split(key, n)[i]``; the module must draw only from the key that it is
    called with.

    * ``params`` are the floating-point arrays of the module, as nested dicts by the names of its
      attributes, ``"layers/0/weight"``.
    * ``state`` holds what the module keeps in `equinox.nn.State`, by the attribute that is its index,
      ``"norm/batch_counter"``, and arrays of other dtypes.
    * What is not an array stays in the module as it is.

    The switches count, and neither the flags ``inference`` of the layers nor what the module passes to
    them. Layers with statistics (`equinox.nn.BatchNorm` in both modes, `SpectralNorm`) use and update
    them only where ``train=True``. Dropouts are random only where a `key` is passed. So an MC dropout
    sample does not touch batch norm. A flag ``inference`` of a layer of another kind follows `train` if
    the layer itself has an index of a state, else the key.

    A ``mask=`` is refused in training if the module has a state, since its statistics are of all rows.

    Args:
      module: a module that is called ``module(x)``, ``module(x, key=key)`` or ``module(x, state,
        key=key)``; ``init`` then gives the arrays that it has, whatever the key. Or a function ``key ->
        module``, or ``key -> (module, state)`` as `equinox.nn.make_with_state` makes it (a class or a
        partial that takes ``key=`` too), which ``init`` calls anew, so that keys make different
        parameters, and several models at once under `jax.vmap`.
      state: the `equinox.nn.State` of a module, if `equinox.nn.make_with_state` took it out.
      axis_name: the name of the batch axis. By default that of the batch norms, and ``"batch"`` if there
        are none.

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
    >>> jax.tree.map(jnp.shape, params["layers"])
    {'0': {'bias': (4,), 'weight': (4, 3)}, '1': {'bias': (4,), 'weight': (4,)}}
    >>> y, same = model.apply(params, state, jnp.ones((5, 3)), key=jax.random.key(1))  # MC dropout
    >>> y.shape, same is state
    ((5, 4), True)
    """
    made = whole_or_maker(module, state)
    if isinstance(made, tuple):
        own_form = form_of(made, axis_name)
        return _model(lambda key: made, lambda: own_form, type(made[0]).__name__, None)
    make: Callable[[jax.Array], Whole] = made

    @functools.cache
    def form() -> _Form:
        return form_of(_equinox().filter_eval_shape(make, jax.random.key(0)), axis_name)

    return _model(make, form, "equinox", None)


def whole_or_maker(
    module: "eqx.Module | Maker", state: "eqx.nn.State | None"
) -> Whole | Callable[[jax.Array], Whole]:
    """A module with its state, or what makes both of a key."""
    eqx = _equinox()
    if state is not None and not isinstance(state, eqx.nn.State):
        raise TypeError(f"state must be an equinox.nn.State, got {state!r}")
    if isinstance(module, eqx.Module):  # equinox.filter_jit of a function is one too
        module = inspect.unwrap(module)
    if isinstance(module, eqx.Module):
        return _whole(module, state)
    if not callable(module):
        raise TypeError(
            f"module must be an equinox.Module or a function key -> module, got {shown(module)}"
        )
    if state is not None:
        raise TypeError("state= belongs to a module; a function returns it with the module")

    def make(key: jax.Array) -> Whole:
        made = module(key=key) if _by_keyword(module) else module(key)
        return _whole(*made) if isinstance(made, tuple) and len(made) == 2 else _whole(made, None)

    return make


def _model(
    make: Callable[[jax.Array], Whole], form: Callable[[], "_Form"], kind: str, trainable: PyTree
) -> Model:
    """The model, with layers whose parameters are not `trainable` keeping their statistics."""

    def init(key: jax.Array, x: PyTree) -> tuple[PyTree, PyTree]:
        leaves = jax.tree.leaves(make(key))
        return jax.tree.map(lambda i: _strong(jnp.copy(leaves[i])), (form().params, form().rest))

    def run(
        params: PyTree, state: PyTree, x: PyTree, switches: Switches, hook: Hook | None = None
    ) -> tuple[PyTree, PyTree]:
        own_form = form()
        updates = switches.train and own_form.first_state < len(own_form.leaves)
        if switches.mask is not None and updates:
            raise ValueError(
                "mask: the statistics of an equinox module are of all rows; leave out those that do not "
                "count, or train without mask="
            )
        leaves = list(own_form.leaves)
        for places, values in ((own_form.params, params), (own_form.rest, state)):
            check_names(places, values)
            for i, value in zip(jax.tree.leaves(places), jax.tree.leaves(values)):
                leaves[i] = value

        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(x)}
        if len(lengths) != 1 or () in lengths:
            raise ValueError(f"x must have the same rows everywhere, got lengths {sorted(lengths)}")
        rows = lengths.pop()[0]

        def outputs(key: jax.Array | None) -> tuple[PyTree, PyTree]:
            """The outputs of the module for the rows with this key, and its state after the call."""
            module, before = jax.tree.unflatten(own_form.structure, leaves)
            _switch(module, switches, trainable)
            for path, node in list(_modules(module)):
                if hook is not None and path and callable(node):
                    object.__setattr__(node, "__class__", hooked(hook, path, type(node)))
            flags = _flags(switches, own_form.takes)

            def one(x: PyTree, key: jax.Array | None) -> PyTree:
                kwargs: dict[str, Any] = flags | ({"key": key} if "key" in own_form.takes else {})
                if not own_form.passes_state:
                    return module(x, **kwargs), before
                return module(x, state=before, **kwargs)

            keys, axis = (None, None) if key is None else (jax.random.split(key, rows), 0)
            mapped = jax.vmap(one, (0, axis), out_axes=(0, None), axis_name=own_form.axis_name)
            return mapped(x, keys)

        made = None
        if switches.key is None and "key" in own_form.takes:
            # Some modules split their key for their dropouts, even if these are off, and refuse None.
            with contextlib.suppress(Exception):
                made = outputs(None)
            made = made or outputs(jax.random.key(0, impl=_null_kind()))
        y, after = made or outputs(switches.key)
        if not updates:
            return y, state
        new = leaves[: own_form.first_state] + jax.tree.leaves(after)
        return y, jax.tree.map(lambda i: _strong(new[i]), own_form.rest)

    freeze = functools.partial(_model, make, form, kind)
    return adapted(kind, init, Inside(run, of_equinox, rows=True), freeze)


class _Form(NamedTuple):
    """Where the arrays of a module and its state are, and how it is called.

    Attributes:
      structure: of ``(module, state)`` as one pytree.
      leaves: of this tree. Those that are arrays are replaced when the model is applied.
      first_state: the index of the first leaf of the state.
      params, rest: parameters and state of the model, with indices into the leaves in place of arrays.
      takes: names of the arguments of its call.
      passes_state: whether it is called with its state.
      axis_name: of the batch.
    """

    structure: jax.tree_util.PyTreeDef
    leaves: list[Any]
    first_state: int
    params: PyTree
    rest: PyTree
    takes: tuple[str, ...]
    passes_state: bool
    axis_name: Hashable


def _equinox() -> Any:
    return needed("equinox", "from_equinox", "equinox", "equinox")


def _by_keyword(function: Callable[..., Any]) -> bool:
    """Whether the function takes a key, but not as its first argument."""
    try:
        key = inspect.signature(function).parameters.get("key")
    except (ValueError, TypeError):
        return False
    return key is not None and key.kind is inspect.Parameter.KEYWORD_ONLY


def _whole(module: "eqx.Module", state: "eqx.nn.State | None") -> Whole:
    """The module and its state; a state that is still inside the module is taken out."""
    eqx = _equinox()
    if not isinstance(module, eqx.Module):
        raise TypeError(f"the function of from_equinox must return an equinox.Module, got {module!r}")
    if state is not None:
        if not isinstance(state, eqx.nn.State):
            raise TypeError(f"the state of a module must be an equinox.nn.State, got {state!r}")
        return module, state
    try:
        made: Whole = eqx.nn.make_with_state(lambda: module)()
    except ValueError:  # a state index has no first value any more
        raise ValueError(
            f"the state of this {type(module).__name__} was taken out of it, as by "
            "equinox.nn.make_with_state: pass both, from_equinox(module, state)"
        ) from None
    return made


def form_of(whole: Whole, axis_name: Hashable | None) -> _Form:
    """Find the arrays of a module and its state; without an `axis_name` that of its norms is taken."""
    eqx = _equinox()
    module, state = whole
    leaves, structure = jax.tree.flatten(whole)
    inside = jax.tree_util.tree_leaves_with_path(module)
    trained: list[tuple[KeyPath, int]] = []
    rest: list[tuple[KeyPath, int]] = []
    for i, (path, leaf) in enumerate(inside):
        if isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)):
            (trained if jnp.issubdtype(leaf.dtype, jnp.inexact) else rest).append((path, i))
    # A leaf of the state has the path of the index in the module that leads to it.
    first = len(inside)
    numbers = jax.tree.unflatten(jax.tree.structure(state), range(first, len(leaves)))
    state_paths: dict[int, KeyPath] = {}
    for path, index in _state_indices(module):
        try:
            below = numbers.get(index)
        except KeyError:
            raise ValueError(
                f"the state is of another module: it has nothing for {path_name(path)}"
            ) from None
        for rest_of_path, i in jax.tree_util.tree_leaves_with_path(below):
            state_paths.setdefault(i, (*path, *rest_of_path))
    if len(state_paths) < len(leaves) - first:
        raise ValueError("the state is of another module: the module has no place for some of it")
    rest += [(path, i) for i, path in state_paths.items()]
    takes, passes_state = _call_of(module, bool(state_paths))
    axes = [n.axis_name for _, n in _modules(module) if isinstance(n, eqx.nn.BatchNorm)]
    names = {tuple(axis) if isinstance(axis, (list, tuple)) else axis for axis in axes}
    if axis_name is None and (len(names) > 1 or any(isinstance(name, tuple) for name in names)):
        raise ValueError(
            f"the batch norms take statistics over axes of several names, {sorted(map(str, names))}: "
            "say with axis_name= which is the batch"
        )
    name = axis_name if axis_name is not None else next(iter(names), "batch")
    return _Form(structure, leaves, first, _nested(trained), _nested(rest), takes, passes_state, name)


def _state_indices(module: "eqx.Module") -> list[tuple[KeyPath, "eqx.nn.StateIndex"]]:
    """The state indices in a module, each with its path."""
    eqx = _equinox()

    kind = eqx.nn.StateIndex
    nodes = jax.tree_util.tree_leaves_with_path(module, is_leaf=lambda node: isinstance(node, kind))
    return [(path, node) for path, node in nodes if isinstance(node, kind)]


def _modules(
    module: "eqx.Module", path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], "eqx.Module"]]:
    """The module and all modules inside, with the names that lead to them."""
    eqx = _equinox()
    yield path, module
    inside = jax.tree_util.tree_leaves_with_path(
        module, is_leaf=lambda node: node is not module and isinstance(node, eqx.Module)
    )
    for below, node in inside:
        if isinstance(node, eqx.Module):
            yield from _modules(node, (*path, *_names(below)))


def _names(path: KeyPath) -> tuple[str, ...]:
    return tuple(path_name((entry,)) for entry in path)


def _call_of(module: "eqx.Module", has_state: bool) -> tuple[tuple[str, ...], bool]:
    """Names of the arguments of the call, and whether a state is one; refuses what cannot be called."""
    kind = type(module).__name__
    if not callable(module):
        raise TypeError(f"the module must be called with an example, but {kind} has no __call__")
    parameters = dict(inspect.signature(module).parameters)
    state_argument = parameters.get("state")
    passes_state = has_state or (
        state_argument is not None and state_argument.default is inspect.Parameter.empty
    )
    if passes_state and state_argument is None:
        raise TypeError(f"{kind} holds a state, but its call takes no argument called state")
    known = {"key", "state", *_flags(Switches(), parameters)}
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


def _flags(switches: Switches, taken: Container[str]) -> dict[str, bool]:
    """Values of the flags that a module's call takes."""
    flags = {"inference": not switches.any_on, "enable_dropout": switches.key is not None}
    return switches.flags(taken) | {name: value for name, value in flags.items() if name in taken}


def _nested(places: list[tuple[KeyPath, int]]) -> PyTree:
    """Nested dicts of what is at these key paths."""
    tree: PyTree = {}
    for path, place in places:
        tree = walk.put(tree, _names(path), place)
    return tree


def _strong(leaf: jax.Array) -> jax.Array:
    """A counter of Equinox is weakly typed at first and then no longer, which would compile twice."""
    weak = getattr(jax.typeof(leaf), "weak_type", False)
    return jax.lax.convert_element_type(leaf, leaf.dtype) if weak else leaf


def _switch(module: "eqx.Module", switches: Switches, trainable: PyTree) -> None:
    """Set the flags ``inference`` of a module that is nobody else's, whatever it passes on."""
    eqx = _equinox()
    for path, node in _modules(module):
        fields = vars(node)
        if "inference" not in fields:
            continue
        has_statistics = any(isinstance(value, eqx.nn.StateIndex) for value in fields.values())
        moves = switches.train and (trainable is None or learns(trainable, path))
        off = not moves if has_statistics else switches.key is None
        object.__setattr__(node, "inference", off)
        kind = type(node)
        if issubclass(kind, (eqx.nn.BatchNorm, eqx.nn.SpectralNorm, eqx.nn.Dropout)):
            object.__setattr__(node, "__class__", _obedient(kind))


@functools.cache
def _obedient(kind: Any) -> Any:
    """A subclass of a layer that obeys its attribute and ignores the switches that callers pass."""

    def call(
        self: Any, *args: Any, inference: Any = None, deterministic: Any = None, **kwargs: Any
    ) -> Any:
        return kind.__call__(self, *args, **kwargs)

    namespace = {"__call__": call, "__module__": kind.__module__, "_kind_": kind.__name__}
    return type(kind)(kind.__name__, (kind,), namespace)


@functools.cache
def _null_kind() -> Any:
    """The implementation of random keys that can be split, but of which nothing can be drawn."""
    import jax.extend.random

    def refuse(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
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
