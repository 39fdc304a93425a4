"""The one way through a model: its layers from the bottom up, with their paths and what is around them.

`fold` is the only function that calls itself over ``Model.layers``; everything else is said with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

from jaxdeep._shapes import PyTree
from jaxdeep.nn import meanings

Model: TypeAlias = Any  # a `jaxdeep.nn.model.Model`, whose methods stand on this walk
Result = TypeVar("Result")


class Place(NamedTuple):
    """A layer somewhere in a model.

    Attributes:
      layer: the layer itself.
      names: the names that lead to it, that of a wrapper's only layer, "", among them.
      above: the combinators around it, from the outermost on.
    """

    layer: Model
    names: tuple[str, ...] = ()
    above: tuple[Model, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Where its parameters and state are in the model's; a wrapper's are those of its layer."""
        return tuple(name for name in self.names if name)

    @property
    def path(self) -> str:
        """The keys as a path, ``block/dense0``; "" for the model itself."""
        return "/".join(self.keys)

    @property
    def name(self) -> str:
        """The path, or the kind of a model that is this one layer."""
        return self.path or self.layer.kind

    @property
    def times(self) -> tuple[int, ...]:
        """How often the loops around it apply it."""
        return tuple(m.traits.times for m in self.above if m.traits.times is not None)

    @property
    def stacked(self) -> tuple[int, ...]:
        """The leading axes of its parameters and state: the times of `repeat` without sharing."""
        return tuple(m.traits.times for m in self.above if m.traits.stacked and m.traits.times)

    @property
    def reused_by(self) -> Model | None:
        """What is around it and applies it more than once with the same parameters, if anything."""
        for around, name in zip(self.above, self.names):
            wires = around.traits.wires
            if around.traits.reuses or (wires is not None and wires.layers.count(name) > 1):
                return around
        return None

    def below(self, name: str) -> Place:
        """The place of one of its layers."""
        return Place(self.layer.layers[name], (*self.names, name), (*self.above, self.layer))


Opens = Callable[[Model], bool]


def any_layers(model: Model) -> bool:
    """Open whatever names its layers."""
    return bool(model.layers)


def replaceable(model: Model) -> bool:
    """Open what can be made again with other layers."""
    return model.combine is not None and bool(model.layers)


def outside_loops(model: Model) -> bool:
    """Open what can be made again, but for loops, out of which nothing can be taken."""
    return replaceable(model) and not model.loops


def known(model: Model) -> bool:
    """Open what can be made again, but for loops of a kind that is not known here."""
    return replaceable(model) and not (model.loops and model.traits.times is None)


def chained(model: Model) -> bool:
    """Open layers that run one after another."""
    return model.combine is not None and model.traits.joins == "chain"


def ends(model: Model) -> bool:
    """Open layers whose outputs say what that of the model is: in a chain, side by side, in a loop."""
    joins_or_loops = model.traits.joins is not None or model.traits.times is not None
    return replaceable(model) and joins_or_loops


def is_wrapper(model: Model) -> bool:
    """Whether a model is another one with something around it: its only layer is called ""."""
    return list(model.layers) == [""]


def fold(
    model: Model,
    function: Callable[[Place, dict[str, Result]], Result],
    opens: Opens = replaceable,
    place: Place | None = None,
) -> Result:
    """``function(place, results of its layers by name)`` for every layer, from the bottom up, in order.

    Args:
      model: the model to go through.
      function: gets no results where a layer is not opened.
      opens: whether to go into a layer.
      place: where the model is, if not on its own.

    >>> import jaxdeep as jd
    >>> model = jd.nn.serial(a=jd.nn.dense(2), b=jd.nn.serial(c=jd.nn.flatten(), d=jd.nn.dense(1)))
    >>> fold(model, lambda place, results: sum(results.values()) or 1)
    3
    """
    place = Place(model) if place is None else place
    names = model.layers if opens(model) else ()
    results = {n: fold(model.layers[n], function, opens, place.below(n)) for n in names}
    return function(place, results)


def leaves(model: Model, opens: Opens = replaceable) -> list[Place]:
    """The layers at the bottom, in the order in which they are applied.

    >>> import jaxdeep as jd
    >>> model = jd.nn.serial(a=jd.nn.dense(2), b=jd.nn.serial(c=jd.nn.dense(1)))
    >>> [place.path for place in leaves(model)]
    ['a', 'b/c']
    """

    def gather(place: Place, below: dict[str, list[Place]]) -> list[Place]:
        return [leaf for places in below.values() for leaf in places] if opens(place.layer) else [place]

    return fold(model, gather, opens)


def every(model: Model) -> list[Place]:
    """All layers, the model itself first, and those that are made of others in front of these.

    >>> import jaxdeep as jd
    >>> [place.path for place in every(jd.nn.serial(a=jd.nn.dense(2), b=jd.nn.flatten()))]
    ['', 'a', 'b']
    """

    def gather(place: Place, below: dict[str, list[Place]]) -> list[Place]:
        return [place, *(inner for places in below.values() for inner in places)]

    return fold(model, gather, any_layers)


def rebuild(model: Model, change: Callable[[Place], Model], opens: Opens = replaceable) -> Model:
    """The model with ``change(place)`` for every layer at the bottom; the same object if none changed.

    >>> import jaxdeep as jd
    >>> rebuild(jd.nn.serial(a=jd.nn.dense(2)), lambda place: jd.nn.dense(3))
    serial(
        a=dense(features=3),
    )
    """
    return fold(
        model,
        lambda place, layers: combined(place.layer, layers) if opens(place.layer) else change(place),
        opens,
    )


def combined(model: Model, layers: Mapping[str, Model]) -> Model:
    """A combinator with other layers; itself if they are its own."""
    if list(layers) == list(model.layers) and all(layers[n] is model.layers[n] for n in layers):
        return model
    assert model.combine is not None
    return model.combine(layers)


def unwrapped(model: Model) -> Model:
    """The model inside all wrappers."""
    while is_wrapper(model):
        model = model.layers[""]
    return model


def rewrapped(model: Model, inside: Model) -> Model:
    """The wrappers of a model around another."""
    return rebuild(model, lambda place: inside, is_wrapper)


class _End(NamedTuple):
    """What is known of an output, found out when it is asked for.

    Attributes:
      meaning: as of `meaning`.
      features: the size of its last axis.
      softmax: whether it is a softmax over the last axis, or the logarithm of one.
      constant: whether that was over a single output, which is 1 whatever the parameters.
    """

    meaning: Callable[[], str | None] = lambda: None
    features: Callable[[], int | None] = lambda: None
    softmax: Callable[[], bool] = lambda: False
    constant: Callable[[], bool] = lambda: False


_UNKNOWN = _End()
_Through = Callable[[Any], Any]  # what is known behind a layer, from what is known in front of it


def _through(place: Place, below: dict[str, _Through]) -> _Through:
    traits = place.layer.traits
    if traits.wires is not None and below:
        return lambda before: _wired(traits.wires, below, before)
    if traits.merges is not None:
        return lambda before: _joined(
            traits.merges, _UNKNOWN, list(before.values()) if isinstance(before, dict) else [before]
        )
    if traits.joins == "collect":
        return lambda before: {name: one(before) for name, one in below.items()}
    if traits.joins in ("sum", "concatenate") and below:
        return lambda before: _joined(traits.joins, before, [one(before) for one in below.values()])
    if below or traits.joins == "chain":
        return lambda before: functools.reduce(lambda end, one: one(end), below.values(), before)

    def behind(before: Any) -> Any:
        if isinstance(before, dict):
            return _each(before, behind) if traits.keeps else _UNKNOWN

        def features() -> int | None:
            if traits.linear is not None or traits.features is not None:
                return traits.features
            return before.features() if traits.axes(2) == 2 and traits.shape is None else None

        if traits.keeps and place.layer.stochastic:  # dropped probabilities are none
            return before._replace(features=features, meaning=lambda: _without(before.meaning()))
        if traits.keeps:
            return before._replace(features=features)
        function, ends = traits.function or traits.ends, before
        if traits.linear is not None or traits.norm is not None:
            ends = _End(lambda: "scores", features)
        elif function is None:
            ends = _End(lambda: traits.outputs, features)
        return ends if function is None else _behind(function, ends, features)

    return behind


def _wired(wires: Any, below: Mapping[str, _Through], before: Any) -> Any:
    """What is known of the outputs of a graph; those of a tuple go by their place."""
    known: dict[str, Any] = {}

    def put(names: Any, ends: Any) -> None:
        if isinstance(names, str):
            known[names] = ends
            return
        for key, part in names.items() if isinstance(names, Mapping) else enumerate(names):
            put(part, ends.get(key, _UNKNOWN) if isinstance(ends, dict) else _UNKNOWN)

    def of(names: Any) -> Any:
        if isinstance(names, str):
            return known[names]
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
        return {key: of(part) for key, part in pairs}

    put(wires.inputs, before)
    for name, (layer, taken) in wires.calls.items():
        known[name] = below[layer](of(taken))
    return of(wires.outputs)


def _behind(function: Callable[..., Any], before: _End, features: Callable[[], int | None]) -> _End:
    """What is known of the output of a function."""

    def meaning() -> str | None:
        word = meanings.meaning(function)
        if word not in ("same", "values"):
            return word
        inside = before.meaning()
        if word == "same":
            return inside
        # some activations keep probabilities what they are
        return word if _without(inside) == inside else None

    def softmax() -> bool:
        return meanings.is_softmax(function)

    return _End(meaning, features, softmax, lambda: features() == 1 and softmax())


def _without(word: str | None) -> str | None:
    """The word for numbers that were probabilities or their logarithms; None if they may be none now."""
    return None if word in ("probabilities", "log_probabilities") else word


def _joined(joins: str | None, before: Any, several: list[Any]) -> _End:
    """What is known of a sum, where one of several has the input beside it, and of a concatenation."""
    several = [*several, before] if joins == "sum" and len(several) == 1 else several

    def meaning() -> str | None:
        words = {None if isinstance(end, dict) else end.meaning() for end in several}
        if joins == "sum":
            return next((word for word in ("scores", "values") if word in words), None)
        return words.pop() if len(words) == 1 else None

    return _End(meaning)


def _ends_of(model: Model) -> Any:
    return fold(model, _through, ends)(_UNKNOWN)


def meaning(model: Model) -> Any:
    """What the output of a model means, as its last layers say; None if they do not say it.

    "scores" are real numbers, as of a linear layer without an activation: logits or values, as the loss
    takes them. "log_probabilities" are those of a log-softmax. "values" are numbers behind another known
    activation. Of several outputs it is a dict by the names of the branches, in their order.

    >>> import jax, jaxdeep as jd
    >>> meaning(jd.nn.serial(jd.nn.dense(3), jd.nn.activation(jax.nn.softmax), jd.nn.flatten()))
    'probabilities'
    >>> meaning(jd.nn.parallel(a=jd.nn.dense(3), b=jd.nn.dense(1, activation=jax.nn.sigmoid)))
    {'a': 'scores', 'b': 'probabilities'}
    """
    return _each(_ends_of(model), lambda end: end.meaning())


def constant(model: Model) -> Any:
    """Whether the output is the same whatever the parameters, as of a softmax over one output.

    >>> import jax, jaxdeep as jd
    >>> constant(jd.nn.dense(1, activation=jax.nn.softmax)), constant(jd.nn.dense(1))
    (True, False)
    """
    return _each(_ends_of(model), lambda end: end.constant())


def softmax(model: Model) -> Any:
    """Whether the output is a softmax over the last axis, or the logarithm of one.

    >>> import jax, jaxdeep as jd
    >>> softmax(jd.nn.dense(3, activation=jax.nn.softmax)), softmax(jd.nn.dense(3))
    (True, False)
    """
    return _each(_ends_of(model), lambda end: end.softmax())


def _each(ends: Any, of: Callable[[_End], Any]) -> Any:
    """A function of what is known of each output."""
    if isinstance(ends, dict):
        return {name: _each(one, of) for name, one in ends.items()}
    return of(ends)


# --- trees of parameters and state ------------------------------------------------------------------


def at(tree: PyTree, keys: tuple[str, ...]) -> PyTree:
    """What a tree holds for a layer; an empty dict where it holds nothing.

    >>> at({"a": {"b": 1}}, ("a", "b")), at({}, ("a", "b"))
    (1, {})
    """
    for key in keys:
        tree = tree.get(key, {}) if isinstance(tree, Mapping) else {}
    return tree


def put(tree: PyTree, keys: tuple[str, ...], new: PyTree) -> PyTree:
    """The tree with something else for a layer; without the entry if that is empty.

    >>> put({"a": {"b": 1}, "c": 2}, ("a", "b"), 3), put({"a": {"b": 1}}, ("a", "b"), {})
    ({'a': {'b': 3}, 'c': 2}, {})
    """
    if not keys:
        return new
    key, *rest = keys
    tree = dict(tree or {})
    inside = put(tree.get(key, {}), tuple(rest), new)
    if isinstance(inside, Mapping) and not inside:
        tree.pop(key, None)
    else:
        tree[key] = inside
    return tree
