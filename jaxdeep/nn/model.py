"""`Model`: two pure functions, and what there is to know about them."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeep._identity import Key, key_of
from jaxdeep._shapes import Array, PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.traits import Traits
from jaxdeep.nn.walk import Place

Pair: TypeAlias = tuple[PyTree, PyTree]  # parameters and state, or an output and the state after it
Switches: TypeAlias = dict[str, Any]  # train, key and, where it was given, mask, as `apply` takes them


class Init(Protocol):
    """``init(key, x) -> (params, state)``; `x` is an example input or its shape."""

    def __call__(self, key: Array, x: PyTree, /) -> Pair:
        """Make parameters and state."""


class Apply(Protocol):
    """``apply(params, state, x, *, train=False, key=None) -> (y, state)``."""

    def __call__(
        self,
        params: PyTree,
        state: PyTree,
        x: PyTree,
        /,
        *,
        train: bool = False,
        key: Array | None = None,
        mask: Array | None = None,
    ) -> Pair:
        """Run the model."""


class Call(NamedTuple):
    """A call of a module inside an adapted module.

    Attributes:
      path: the names that lead to it, as in parameters and state.
      kind: its class.
      output: shapes.
    """

    path: tuple[Any, ...]
    kind: str
    output: PyTree


class Inside(Protocol):
    """What an adapted module tells of what is inside it; `jaxdeep.adapters.lift` asks for more."""

    @property
    def advice(self) -> str:
        """How to have layers of jaxdeep in its place; "" if there is no way, as of what `lift` left."""

    def calls(self, params: PyTree, state: PyTree, x: PyTree) -> list[Call] | None:
        """The calls of the modules at the bottom, in order, with shapes for arrays; None if unknown."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A model, a layer or a whole network: two pure functions over plain nested dicts of arrays.

    * ``params, state = model.init(key, x)`` makes what it learns (`params`) and what it
      accumulates (`state`: batch-norm statistics). `x` is an example batch or a
      `jax.ShapeDtypeStruct`; only its shape and dtype are used.
    * ``y, state = model.apply(params, state, x, train=False, key=None)`` runs it. The two switches
      are independent: ``train=True`` uses and updates batch statistics; a `key` switches randomness
      on. Both is training, neither is inference, and a key without `train` is one MC dropout sample.
      ``mask=`` (booleans of shape ``(batch,)``, or more leading axes) names the rows that batch
      statistics are taken of; it is handed on only where it is given.

    Any pair of functions of these forms is a model: ``Model(init, apply)``. The other fields let
    tools look inside:

    Attributes:
      kind: what it is, as in ``"dense"``; names layers in `serial` and in `summary`.
      config: the arguments it was made with.
      layers: for a combinator, its layers by name.
      combine: for a combinator, the function from named layers to the model, so that a model can be
        made again with layers replaced.
      stochastic: whether a key makes a difference; if not, none is derived for it.
      loops: whether its layers run inside a compiled loop, where their outputs cannot be taken out.
      freeze: for a model whose layers are not known here (an adapted module), what `frozen` does.
      inside: for an adapted module, what is inside it.
      rows_from: for a random layer, ``rows_from(first, rows)`` is the layer for the `rows` rows of a
        longer batch that begin at `first`, a number or an array: it draws for each of them what the
        layer draws for it in the whole batch. None if that cannot be had.
      traits: what a layer says of itself to tools; by default nothing.

    Models that jaxdeep's functions make are equal, and hash alike, if they were made by the same
    function with equal arguments, where a function among the arguments is only equal to itself. Every
    other model, one that `dataclasses.replace` made among them, is equal to itself alone.

    >>> double = Model(lambda key, x: ({}, {}), lambda params, state, x, **_: (2 * x, state))
    >>> double.apply({}, {}, 21)
    (42, {})
    """

    init: Init
    apply: Apply
    kind: str = "model"
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    layers: Mapping[str, "Model"] = dataclasses.field(default_factory=dict)
    combine: Callable[[Mapping[str, "Model"]], "Model"] | None = None
    stochastic: bool = True
    loops: bool = False
    freeze: Callable[[PyTree], "Model"] | None = None
    inside: Inside | None = None
    rows_from: Callable[[Array | int, int], "Model"] | None = None
    traits: Traits = dataclasses.field(default_factory=Traits)
    # not an argument, so that `dataclasses.replace` does not copy it
    _description: tuple[object, ...] | None = dataclasses.field(default=None, init=False)

    def _identity_(self) -> tuple[object, ...] | None:
        """What the model is compared by: how it was made. None for a model that only equals itself."""
        return self._description

    @functools.cached_property
    def _key(self) -> Key:
        return key_of(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        described = self._description is not None and other._description is not None
        return self is other or (described and self._key == other._key)

    def __hash__(self) -> int:
        return object.__hash__(self) if self._description is None else hash(self._key)

    @functools.cached_property
    def meaning(self) -> Any:
        """What it puts out, as its last layer says; None where that depends on what it is trained for.

        "probabilities" behind a softmax or a sigmoid, "log_probabilities" behind the logarithm of one,
        "scores" for a linear layer without an activation, "values" behind another known activation.
        Of several outputs it is a dict by the names of the branches, in their order.
        """
        return walk.meaning(self)

    @functools.cached_property
    def masks(self) -> bool:
        """Whether rows named by ``mask=`` are those of the input wherever it has a batch norm.

        True if it has one, and no layer whose output may have other rows than its input, as far as it
        says.
        """
        places = walk.leaves(self)
        known = all(place.layer.traits.axes(2) is not None for place in places)
        return known and any(place.layer.traits.norm is not None for place in places)

    @functools.cached_property
    def constant(self) -> Any:
        """Whether its output is the same whatever the parameters: a softmax over a single output is 1.

        Of several outputs it is a dict, as `meaning` is.
        """
        return walk.constant(self)

    @functools.cached_property
    def exclusive(self) -> Any:
        """Whether its output is the softmax of classes that exclude each other, or its logarithm.

        Of several outputs it is a dict, as `meaning` is.
        """
        return walk.softmax(self)

    def watch(self, outputs: dict[str, PyTree], path: str = "") -> "Model":
        """The same model, which puts the output of every layer into `outputs`, by path, when applied.

        The model itself is at ``""``. What happens inside a loop (`repeat`) is seen as one layer.

        >>> import jaxdeep as jd
        >>> model, x = jd.nn.serial(hidden=jd.nn.dense(3), out=jd.nn.dense(2)), jnp.ones((4, 5))
        >>> params, state = model.init(jax.random.key(0), x)
        >>> y, state = model.watch(outputs := {}).apply(params, state, x)
        >>> {path: out.shape for path, out in outputs.items()}
        {'hidden': (4, 3), 'out': (4, 2), '': (4, 2)}
        """

        def watched(place: Place, layers: dict[str, Model]) -> Model:
            inner = walk.combined(place.layer, layers) if layers else place.layer

            def apply(params: PyTree, state: PyTree, x: PyTree, **switches: Any) -> Pair:
                y, state = inner.apply(params, state, x, **switches)
                outputs["/".join((path, *place.keys)).strip("/")] = y
                return y, state

            return dataclasses.replace(inner, init=place.layer.init, apply=apply)

        return walk.fold(self, watched, walk.outside_loops)

    def frozen(self, trainable: PyTree) -> "Model":
        """The same model with the layers that do not learn in inference mode, whatever `train` says.

        Their batch norms normalise by the running statistics and keep them. A layer without parameters
        goes with the one in front of it, or, if there is none, behind it. Dropout stays as it is: a key
        switches it.

        Args:
          trainable: booleans in the structure of the parameters, as `jaxdeep.tree.mask` makes them.

        Source: ``layer.trainable = False`` of Keras, where a frozen batch norm is in inference mode too.

        >>> import jax, jax.numpy as jnp, jaxdeep as jd
        >>> model = jd.nn.serial(bn=jd.nn.batch_norm(), out=jd.nn.dense(1))
        >>> x = jnp.array([[1.0], [3.0]])
        >>> params, state = model.init(jax.random.key(0), x)
        >>> held = model.frozen(jd.tree.mask(params, "out/*"))
        >>> held.apply(params, state, x, train=True)[1]["bn"]["mean"].tolist()
        [0.0]
        """
        parts = [jax.tree.leaves(walk.at(trainable, p.keys)) for p in walk.leaves(self)]
        learning = [any(leaves) for leaves in parts if leaves]
        before = learning[0] if learning else False

        def held(place: Place) -> Model:
            nonlocal before
            layer_trainable = walk.at(trainable, place.keys)
            leaves = jax.tree.leaves(layer_trainable)
            before = any(leaves) if leaves else before
            if not before:
                return _at_inference(place.layer)
            freeze = place.layer.freeze
            return place.layer if freeze is None or all(leaves) else freeze(layer_trainable)

        return walk.rebuild(self, held)

    def __repr__(self) -> str:
        def text(place: Place, layers: dict[str, str]) -> str:
            if not layers:
                arguments = ", ".join(f"{n}={_show(value)}" for n, value in place.layer.config.items())
                return f"{place.layer.kind}({arguments})"
            lines = [f"{name}={shown},\n".replace("\n", "\n    ") for name, shown in layers.items()]
            return f"{place.layer.kind}(\n    {''.join(lines).rstrip(' ')})"

        return walk.fold(self, text, walk.any_layers)


def _show(value: object) -> str:
    return getattr(value, "__name__", None) or repr(value)


def taking(model: Model, inputs: dict[str, PyTree]) -> Model:
    """The model, which puts the inputs of adapted modules into `inputs`, by path, when applied."""

    def taken(place: Place) -> Model:
        layer = place.layer
        if layer.inside is None:
            return layer

        def apply(params: PyTree, state: PyTree, x: PyTree, **switches: Any) -> Pair:
            inputs[place.path] = x
            return layer.apply(params, state, x, **switches)

        return dataclasses.replace(layer, apply=apply)

    return walk.rebuild(model, taken, walk.outside_loops)


def lifting(model: Model) -> str:
    """The end of an error, which says what to do about adapted modules in a model; "" without any."""
    inside = (place.layer.inside for place in walk.every(model))
    advice = next((module.advice for module in inside if module is not None and module.advice), "")
    return f"; {advice}" if advice else ""


def learns(trainable: PyTree, path: Sequence[Hashable]) -> bool:
    """Whether a module at `path` of an adapted network learns; without parameters, the one around it."""
    is_learning = any(jax.tree.leaves(trainable))
    for name in path:
        trainable = trainable.get(name, {}) if isinstance(trainable, Mapping) else {}
        if leaves := jax.tree.leaves(trainable):
            is_learning = any(leaves)
    return is_learning


def _at_inference(model: Model) -> Model:
    def apply(params: PyTree, state: PyTree, x: PyTree, **switches: Any) -> Pair:
        return model.apply(params, state, x, **(switches | {"train": False}))

    return described_as(dataclasses.replace(model, apply=apply), "at inference", model)


def described_as(model: Model, *description: object) -> Model:
    """A new model that is equal to every other with the same description of how it was made."""
    object.__setattr__(model, "_description", description)
    return model


def under(name: str, tree: PyTree) -> dict[str, PyTree]:
    """A layer's own parameters or state under its name; nothing if there are none."""
    return {name: tree} if tree else {}


def check_dicts(params: PyTree, state: PyTree) -> None:
    """Refuse parameters and a state of layers that are no dicts by the layers' names."""
    for argument, tree in (("params", params), ("state", state)):
        if not isinstance(tree, Mapping):
            raise TypeError(f"{argument} must be a dict, as the model's init makes it, got {tree!r}")


def check_known(layers: Mapping[str, Model], params: PyTree, state: PyTree) -> None:
    """Refuse parameters and a state of a combinator that are no dicts, or of layers it does not have."""
    check_dicts(params, state)
    unknown = [name for tree in (params, state) for name in tree if name not in layers]
    if unknown:
        raise ValueError(
            f"parameters or state of an unknown layer {unknown[0]!r}; the layers are {', '.join(layers)}"
        )


def check_models(kind: str, layers: Mapping[Any, object]) -> None:
    """Refuse layers that are not a `Model`, and names that cannot be part of a path."""
    for name, layer in layers.items():
        if not isinstance(layer, Model):
            ours = str(getattr(layer, "__module__", "")).startswith("jaxdeep.nn")
            hint = (
                "; call it" if ours else f"; jd.nn.activation({getattr(layer, '__name__', 'f')}) is one"
            )
            hint = hint if callable(layer) else ""
            raise TypeError(f"{kind} layer {name} must be a Model, got {layer!r}{hint}")
        if isinstance(name, str) and (not name or "/" in name):
            fault = "contain '/'" if name else "be empty"
            raise ValueError(f"a layer's name must not {fault}, got {name!r}")


def float_dtype(dtype: DTypeLike) -> DTypeLike:
    """`dtype` itself if it is a float, else JAX's default float (for integer and boolean inputs)."""
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)


@contextlib.contextmanager
def located(name: str) -> Iterator[None]:
    """Put the layer's path in front of the error of a layer: ``block/dense0: …``."""
    try:
        yield
    except Exception as error:
        if isinstance(error, LayerError):
            raise LayerError(f"{name}/{error.path}", error.message) from error.__cause__
        if type(error) in (ValueError, TypeError):
            raise LayerError(name, str(error)) from error
        error.add_note(f"(in layer {name})")  # errors of JAX and Flax carry more than a message
        raise


def apply_inside(
    name: str, layer: Model, i: Array | int, variables: Pair, x: PyTree, switches: Switches
) -> Pair:
    """Apply the i-th layer of a combinator to `x`, with a key of its own if it is random.

    Args:
      variables: the layer's parameters and state.
      switches: those of the combinator.
    """
    key = switches["key"] if layer.stochastic else None
    own_key = None if key is None else jax.random.fold_in(key, i)
    with located(name):
        return layer.apply(*variables, x, **switches | {"key": own_key})


class LayerError(ValueError, TypeError):
    """The error of a layer inside a combinator, with the layer's path."""

    def __init__(self, path: str, message: str):
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.message)
