"""Any model of Keras on its JAX backend as a model that Keras itself runs."""

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.adapters.module import Switches, adapted, check_names
from jaxdeep.nn.model import Model, learns

_ADVICE = (
    "Keras runs this model (from_keras_model), whose layers jaxdeep does not know; "
    "jaxdeep.adapters.from_keras translates a model of ordinary layers, which every tool takes"
)
_SEED = "seed_generator_state"
_changing = threading.RLock()  # a module is nobody else's while its layers are switched


def from_keras_model(module: Any) -> Model:
    """A `keras.Model` as a `Model` whose two switches work separately: Keras runs it, with any layers.

    ``params`` are its trainable variables and ``state`` all others, by the parts of their paths
    (``{"sequential": {"dense": {"kernel": …}}}``), but for the states of its random seeds, which begin
    anew with every key: that of seed i is drawn of ``fold_in(key, i)``. What is not trainable in Keras,
    is part of the state.

    Batch norms use and update batch statistics only where ``train=True``, and what draws random numbers
    does so only where a `key` is passed. Losses of regularisers are left out. The layers are not known
    to jaxdeep, so that folding, quantising, `replace_head` and the like refuse; `from_keras` translates
    models of ordinary layers, which all tools take.

    Args:
      module: a built model of one input (an array, or a list or dict of them), of `keras` on JAX.

    Raises:
      TypeError: not a model of Keras. ValueError: another backend of Keras than JAX; a model that is
        not built; a `mask=`; a switch that is on where the module's `call` takes no ``training``, and
        layers inside would need it. ImportError: Keras is not installed.

    Source: ``stateless_call`` of `keras.Layer`.

    >>> import keras  # doctest: +SKIP
    >>> model = from_keras_model(keras.models.load_model("model.keras"))  # doctest: +SKIP
    """
    keras = needed("keras", "from_keras_model", "keras", None)
    if not isinstance(module, keras.Layer):
        raise TypeError(f"module must be a model of Keras, got {module!r}")
    if (backend := keras.backend.backend()) != "jax":
        raise ValueError(
            "from_keras_model needs the JAX backend of Keras: set the environment variable "
            f"KERAS_BACKEND to 'jax' before keras is imported, which is {backend!r} here"
        )
    if not module.built:
        raise ValueError(f"module must be built: call {module.name} on an input first")
    return _model(_Module(keras, module), None)


class _Module:
    """A module and its Keras. A module may change in place, so it is always compiled anew."""

    def __init__(self, keras: Any, module: Any) -> None:
        self.keras, self.module = keras, module

    def _identity_(self) -> tuple[object, ...]:
        return ("of Keras", object())  # which is not understood, so that it equals no other


def _model(held: _Module, trainable: PyTree) -> Model:
    """The model, with batch norms in inference mode whose parameters are not `trainable`."""

    def both() -> tuple[Sequence[Any], Sequence[Any]]:
        return held.module.trainable_variables, held.module.non_trainable_variables

    def trees() -> tuple[PyTree, PyTree]:
        params, rest = (_tree(some, [variable.value for variable in some]) for some in both())
        return params, rest

    def make(key: jax.Array, x: PyTree) -> tuple[PyTree, PyTree]:
        params, rest = jax.tree.map(jnp.copy, trees())
        return params, rest

    def run(params: PyTree, state: PyTree, x: PyTree, switches: Switches) -> tuple[PyTree, PyTree]:
        if switches.mask is not None:
            raise ValueError("mask: the batch norms of Keras do not take the rows that count")
        for mine, tree in zip(trees(), (params, state)):
            check_names(mine, tree)
        learned, others = both()
        seeds = itertools.count()
        values = [_at(params, names) for names in _names(learned)]
        rest = [
            _words(switches.key, next(seeds)) if _is_seed(variable) else _at(state, names)
            for variable, names in zip(others, _names(others))
        ]
        with _changing, _switched(held, switches, trainable):
            y, new = held.module.stateless_call(values, rest, x, **_mode(held, switches))
        return y, _tree(others, new) if switches.train else state

    freeze = functools.partial(_model, held)
    return adapted(type(held.module).__name__, make, run, freeze, advice=_ADVICE)


def _is_seed(variable: Any) -> bool:
    return variable.path.endswith(_SEED)


def _names(variables: Sequence[Any]) -> list[tuple[str, ...]]:
    """The parts of the path of each; of those of one path, the later ones have a number."""
    seen: dict[str, int] = {}
    names = []
    for variable in variables:
        count = seen[variable.path] = seen.get(variable.path, -1) + 1
        names.append(tuple(f"{variable.path}{f'_{count}' if count else ''}".split("/")))
    return names


def _tree(variables: Sequence[Any], values: Sequence[Any]) -> PyTree:
    """The values of variables as nested dicts by path; seeds are left out."""
    tree: dict[str, Any] = {}
    for variable, names, value in zip(variables, _names(variables), values):
        if not _is_seed(variable):
            node = tree
            for name in names[:-1]:
                node = node.setdefault(name, {})
            node[names[-1]] = value
    return tree


def _at(tree: PyTree, names: Sequence[str]) -> Any:
    for name in names:
        tree = tree[name]
    return tree


def _words(key: jax.Array | None, number: int) -> jax.Array:
    """The state of a seed of Keras: two words."""
    if key is None:
        return jnp.zeros(2, jnp.uint32)
    return jax.random.bits(jax.random.fold_in(key, number), (2,), jnp.uint32)


def _mode(held: _Module, switches: Switches) -> dict[str, bool]:
    """Keras' one switch, as a model takes it."""
    if held.module._call_has_training_arg:
        return {"training": switches.any_on}
    asked = [layer for layer in held.module._flatten_layers() if _has_norm(held.keras, layer)]
    asked += [layer for layer in held.module._flatten_layers() if layer._seed_generators]
    if switches.any_on and asked:
        raise ValueError(
            f"the call of {type(held.module).__name__} takes no `training`, so that {asked[0].name} "
            "inside of it cannot be told to train or to draw"
        )
    return {}


def _has_norm(keras: Any, layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


@contextlib.contextmanager
def _switched(held: _Module, switches: Switches, trainable: PyTree) -> Iterator[None]:
    """Where it is entered, batch norms and what is random do as the switches say.

    Keras has one switch for both, which is on if either is; the layers that it is not meant for are told
    that it is off.
    """
    layers = held.module._flatten_layers()
    off = [layer for layer in layers if _is_off(held.keras, layer, switches, trainable)]
    for layer in off:
        object.__setattr__(layer, "call", _without_training(layer.call))
    try:
        yield
    finally:
        for layer in off:
            object.__delattr__(layer, "call")


def _is_off(keras: Any, layer: Any, switches: Switches, trainable: PyTree) -> bool:
    if not layer._call_has_training_arg:
        return False
    if _has_norm(keras, layer):
        names = layer.path.split("/")
        return not switches.train or (trainable is not None and not learns(trainable, names))
    if switches.key is not None or not layer._seed_generators:
        return False
    if switches.train and any(_has_norm(keras, inner) for inner in layer._flatten_layers()):
        raise ValueError(
            f"{layer.name} draws random numbers itself and has batch norms inside, which Keras switches "
            "together: pass a key"
        )
    return True


def _without_training(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def quiet(*args: Any, **kwargs: Mapping[str, Any]) -> Any:
        return call(*args, **{**kwargs, "training": False})

    return quiet
