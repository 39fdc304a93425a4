"""`layer`: a layer is one function, which checks its arguments and says what it does to an input."""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, check_leaves, check_not_masked, leaves_of
from jaxdeep._identity import is_same
from jaxdeep._precision import check_holds
from jaxdeep._shapes import Array, PyTree
from jaxdeep.nn.model import Apply, Init, Model, Pair, Switches, check_models, described_as
from jaxdeep.nn.traits import Shape, Traits
from jaxdeep.tree import example_of

P = ParamSpec("P")


class Layer(NamedTuple):
    """What a function under `layer` returns: the functions of the model, each taking only what it needs.

    Attributes:
      apply: takes some of ``params, state, x, train, key, mask, switches``, by these names, and returns
        the output; if it takes the state, ``(output, state)``. `params` and `state` say by name what
        they lack, and `key` is a random key or None. A layer that takes the key is random. `switches`
        are `train`, `key` and, if it was given, `mask`, as the `apply` of a layer inside takes them.
      init: takes `x`, the shapes of an input, or ``key, x``, and returns parameters, or ``(parameters,
        state)``. Without it the layer has neither.
      check: refuses the shapes of an input when the model is initialised.
      traits: what tools ask about the layer. Where it says of which input its parameters are
        (`Traits.example`), those of other shapes are refused when it is applied.
      layers: of a combinator, its layers by name. Their parameters and state are under these names.
      arguments: values that the description holds in place of the arguments given: a tuple for a list.
      loops, rows_from: as of `Model`.
      trees: whether an input may be a dict, a tuple or a list of arrays; else it is one array.
    """

    apply: Callable[..., PyTree]
    init: Callable[..., PyTree] | None = None
    check: Callable[[PyTree], object] | None = None
    traits: Traits = Traits()
    layers: Mapping[str, Model] = {}
    arguments: Mapping[str, object] = {}
    loops: bool = False
    rows_from: Callable[[Array | int, int], Callable[..., PyTree]] | None = None
    trees: bool = False


KINDS: dict[str, Callable[..., Model]] = {}
"""Every function under `layer` by the kind of its models, as saved models name them."""


def layer(make: Callable[P, Layer]) -> Callable[P, Model]:
    """Make a function that returns a `Layer` one that returns a `Model`.

    The function's name, without a trailing underscore, is the model's `kind`. Its arguments that are not
    at their defaults are the model's `config`, read off the signature, where a default is written once
    (a number that is given and equal to its default is among them, but makes no difference otherwise).
    Arguments of the type `Model` are checked to be models and are not part of the config: they are
    among the model's layers. From kind, config and layers the model can be made again, so that it can be
    saved, combined anew and compared: models made by the same function of the same arguments are equal.

    An argument that is an initialiser has a name that ends with ``_init``.

    >>> import jax.numpy as jnp
    >>> @layer
    ... def scale(factor: float = 2.0) -> Layer:
    ...     return Layer(lambda x: factor * x)
    >>> scale(3.0), scale(), scale(3.0) == scale(3.0)
    (scale(factor=3.0), scale(), True)
    >>> float(scale().apply({}, {}, jnp.float32(21))[0])
    42.0
    >>> _ = KINDS.pop("scale")
    """
    kind = make.__name__.rstrip("_")
    signature = inspect.signature(make)
    of_models = [name for name, parameter in signature.parameters.items() if _is_model(parameter)]
    takes_layers = bool(of_models)
    by_place = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY]
    required = sum(p.default is p.empty for p in by_place)
    defaults = (*((None,) * required), *(p.default for p in by_place[required:]))

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Model:
        try:
            # `bind` takes no layer by the name of an argument that is left at its default
            placed = (*args, *defaults[len(args) :]) if len(args) >= required else args
            bound = signature.bind(*placed, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{make.__name__}(): {error}") from None
        for name in of_models:
            parameter = signature.parameters[name]
            given_one = parameter.kind not in _VARIADIC and bound.get(name) is not parameter.default
            if given_one and name in bound:
                check_models(kind, {name: bound[name]})
        parts = make(*args, **kwargs)
        arguments = {**bound, **parts.arguments}
        config = {
            name: arguments[name]
            for name, parameter in signature.parameters.items()
            if name in arguments and name not in of_models and arguments[name] is not parameter.default
        }
        chosen = {
            name: value
            for name, value in config.items()
            if not is_same(value, signature.parameters[name].default)
        }
        return described_as(_model(kind, config, parts, takes_layers), kind, chosen, parts.layers)

    made.__signature__ = signature.replace(return_annotation=Model)  # type: ignore[attr-defined]
    KINDS[kind] = made
    return made


def build(kind: str, config: Mapping[str, Any], layers: Mapping[str, Model] = {}) -> Model:
    """The model of a kind with the given arguments and layers.

    >>> import jaxdeep as jd
    >>> build("reshape", {"sizes": (2, 3)}), build("residual", {}, {"layer": jd.nn.dense(2)})
    (reshape(sizes=(2, 3)), residual(
        layer=dense(features=2),
    ))
    """
    if kind not in KINDS:
        raise ValueError(f"{kind} is not the kind of a layer of jaxdeep")
    first = next(iter(inspect.signature(KINDS[kind]).parameters.values()), None)
    positional: Sequence[Any] = ()
    if first is not None and first.kind is first.VAR_POSITIONAL and not _is_model(first):
        if first.name not in config:
            raise ValueError(f"{kind} has {first.name}, got {[*config, *layers]}")
        positional = config[first.name]
        config = {name: value for name, value in config.items() if name != first.name}
    elif first is not None and first.kind is first.POSITIONAL_ONLY:  # their names are free for layers
        parameters = inspect.signature(KINDS[kind]).parameters.values()
        only = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
        if lacking := [p.name for p in only if p.default is p.empty and p.name not in config]:
            raise ValueError(f"{kind} has {lacking[0]}, got {[*config, *layers]}")
        positional = [config.get(p.name, p.default) for p in only]
        config = {name: value for name, value in config.items() if name not in {p.name for p in only}}
    elif first is not None and first.kind not in _VARIADIC and list(layers) == [""]:
        positional, layers = [layers[""]], {}
    return KINDS[kind](*positional, **config, **layers)


def remake(model: Model, **changes: object) -> Model:
    """A model made by a function under `layer`, with other arguments.

    >>> import jaxdeep as jd
    >>> remake(jd.nn.dense(3, use_bias=False), use_bias=True)
    dense(features=3)
    """
    return build(model.kind, {**model.config, **changes}, model.layers)


def is_as_made(model: Model) -> bool:
    """Whether a model is what a function under `layer` made, with nothing replaced since.

    >>> import jaxdeep as jd
    >>> layer = jd.nn.dense(3)
    >>> is_as_made(layer), is_as_made(dataclasses.replace(layer))
    (True, False)
    """
    description = model._identity_()
    return model.kind in KINDS and description is not None and description[0] == model.kind


def initialisers(kind: str) -> list[str]:
    """The names of the arguments of a kind that are initialisers."""
    return [name for name in inspect.signature(KINDS[kind]).parameters if name.endswith("_init")]


def made_for(
    kind: str, config: Mapping[str, Any], traits: Traits, shapes: Mapping[str, Shape]
) -> tuple[PyTree, PyTree]:
    """The shapes of the parameters and the state that a layer makes, for an input told from its own.

    Args:
      kind, config, traits: of the layer, which has an `example`.
      shapes: those of its parameters and statistics by name.

    Raises:
      KeyError: it lacks one that the input is told from.
      ValueError, TypeError, IndexError: no input is such that these would be made.

    >>> import jaxdeep as jd
    >>> layer = jd.nn.dense(3)
    >>> made_for("dense", layer.config, layer.traits, {"kernel": (2, 1)})[0]["bias"].shape
    (3,)
    """
    assert traits.example is not None
    x = jax.ShapeDtypeStruct(*traits.example(shapes))
    zeros = dict.fromkeys(initialisers(kind), jax.nn.initializers.zeros)  # what draws may refuse shapes
    layer = build(kind, {**config, **zeros})
    made: tuple[PyTree, PyTree] = jax.eval_shape(lambda seed: layer.init(jax.random.key(seed), x), 0)
    return made


# --- the model of a layer ---------------------------------------------------------------------------

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _taken(x: PyTree, trees: bool) -> PyTree:
    """An input of a layer: what NumPy takes comes in as an array, and several inputs as they are."""
    if isinstance(x, (Mapping, tuple)) or x is None or (isinstance(x, list) and not _is_numbers(x)):
        return x if trees else _one_array(x)
    if isinstance(x, jax.Array):
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            as_array("x", x)  # refuses it
        return x
    if isinstance(x, (bool, int, float)):
        return x
    if not _is_data(x):
        if not trees:
            check_not_masked("x", x)  # refuses what is sparse
        # one of a kind that JAX may know: a sparse array, a pytree of one's own
        return x if trees or hasattr(x, "dtype") else as_array("x", x)
    x = as_array("x", x)
    check_holds("x", x)
    return x


def _one_array(x: PyTree) -> NoReturn:
    """Refuse several arrays, or none, for a layer that takes one."""
    got = "None" if x is None else f"a {type(x).__name__}"
    raise TypeError(f"x must be an array, got {got}; jaxdeep.nn.select takes one of several inputs")


def _is_numbers(x: list[Any]) -> bool:
    return all(isinstance(leaf, (bool, int, float)) for leaf in _flat(x))


def _flat(values: list[Any]) -> Iterator[object]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _is_data(x: object) -> bool:
    return isinstance(x, (list, complex, np.ndarray, np.generic)) or hasattr(x, "__array__")


def _check_train(train: object) -> None:
    """Refuse what is neither True nor False, nor an array of one of them that is known."""
    known = isinstance(train, jax.Array) and not isinstance(train, jax.core.Tracer)
    if known and isinstance(train, jax.Array) and train.shape == () and train.dtype == jnp.bool_:
        return
    _checks.check_flag("train", train)


class _Own(dict[str, Array]):
    """A layer's own parameters or statistics, which say what they lack."""

    def __init__(self, argument: str, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise TypeError(
                f"{argument} must be a dict of arrays, as the model's init makes it, got {values!r}"
            )
        values = leaves_of(argument, values)
        check_leaves(argument, values)
        super().__init__(values)
        self.argument = argument

    def __missing__(self, name: str) -> NoReturn:
        there = f"there are {sorted(self)} in {self.argument}"
        raise ValueError(f"the parameters or the state lack {name!r}; {there}")


def _names_of(function: Callable[..., object]) -> frozenset[str]:
    """The names of a function's parameters; a sweep makes thousands of layers."""
    if isinstance(function, types.FunctionType) and not function.__dict__:
        code = function.__code__
        if not code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
            return frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    return frozenset(inspect.signature(function).parameters)


def _is_model(parameter: inspect.Parameter) -> bool:
    return parameter.annotation is Model or parameter.annotation == (Model | None)


def _model(kind: str, config: dict[str, Any], parts: Layer, takes_layers: bool) -> Model:
    layers = dict(parts.layers)

    def combine(others: Mapping[str, Model]) -> Model:
        return build(kind, config, others)

    def rows_from(first: Array | int, rows: int) -> Model:
        assert parts.rows_from is not None
        apply = parts.rows_from(first, rows)
        return _model(kind, config, parts._replace(apply=apply, rows_from=None), takes_layers)

    takes = _names_of(parts.apply)
    traits = parts.traits
    if parts.init is None and not takes_layers:
        traits = dataclasses.replace(traits, empty=True)
    return Model(
        _init(parts.init, parts.check, whole=takes_layers, trees=parts.trees),
        _apply(
            parts.apply,
            takes,
            None if takes_layers else _OwnShapes(kind, config, traits),
            trees=parts.trees,
        ),
        kind,
        config,
        layers,
        combine if takes_layers else None,
        any(inner.stochastic for inner in layers.values()) if takes_layers else "key" in takes,
        parts.loops,
        rows_from=None if parts.rows_from is None else rows_from,
        traits=traits,
    )


def _init(
    make: Callable[..., PyTree] | None,
    check: Callable[[PyTree], object] | None,
    *,
    whole: bool,
    trees: bool,
) -> Init:
    takes = frozenset[str]() if make is None else _names_of(make)

    def init(key: Array, x: PyTree) -> Pair:
        if "key" in takes:
            _checks.check_key(key)
        if not whole:
            several = isinstance(x, (Mapping, tuple)) or (isinstance(x, list) and not _is_numbers(x))
            if not trees and (several or x is None):
                _one_array(x)
            x = example_of(x)
            check_leaves("x", x)
        if check is not None:
            check(x)
        if make is None:
            return {}, {}
        made = make(key, x) if "key" in takes else make(x)
        return made if isinstance(made, tuple) else (made, {})

    return init


class _OwnShapes:
    """Refuses parameters and a state of other names or shapes than a layer's are.

    What fits no input at all is refused, so that nothing is broadcast: a bias of one number for several
    features. Whether it fits the input at hand, and what is lacking, the layer says itself. Only shapes
    are looked at, which are known when anything is traced, and each set of them once. This is no
    function, so that layers whose functions remember the same are the same when they are saved.
    """

    def __init__(self, kind: str, config: Mapping[str, Any], traits: Traits) -> None:
        self._kind, self._config, self._traits = kind, config, traits
        self._known: dict[_Shapes, str | None] = {}

    def check(self, params: PyTree, state: PyTree) -> None:
        """Refuse, by the first name, what does not belong to the layer."""
        if not self._traits.empty and self._traits.example is None:
            return
        entries = tuple(
            (argument, name, tuple(jnp.shape(leaf)))
            for argument, tree in (("params", params), ("state", state))
            if isinstance(tree, Mapping)
            for name, leaf in tree.items()
        )
        if entries and entries not in self._known:
            if len(self._known) > 31:  # a few sets for each layer
                self._known.clear()
            self._known[entries] = self._fault(entries)
        if entries and (refusal := self._known[entries]) is not None:
            raise ValueError(refusal)

    def _fault(self, entries: "_Shapes") -> str | None:
        title = repr(build(self._kind, self._config))
        if self._traits.empty:
            argument, name, _ = entries[0]
            return f"{argument}: {name} is not part of {title}, which learns nothing"
        shapes = {name: shape for _, name, shape in entries}
        try:
            made = made_for(self._kind, self._config, self._traits, shapes)
        except KeyError:  # what is lacking, the layer names when it asks for it
            return None
        except (ValueError, TypeError, IndexError) as error:
            return f"{' and '.join(dict.fromkeys(a for a, *_ in entries))} do not fit {title}: {error}"
        expected = dict(zip(("params", "state"), made))
        for argument, name, shape in entries:
            if name not in expected[argument]:
                return f"{argument}: {name} is not part of {title}, which has {[*expected[argument]]}"
            if shape != (needed := expected[argument][name].shape):
                beside = {other: shape for a, other, shape in entries if a != argument}
                also = f" beside {beside} in {'params' if argument == 'state' else 'state'}"
                also = also if beside else ""
                return f"{argument}: {name} has shape {shape}, but {title} needs {needed}{also}"
        return None


_Shapes = tuple[tuple[str, str, Shape], ...]  # argument, name and shape of each array


def _apply(
    apply: Callable[..., PyTree],
    takes: frozenset[str],
    own_shapes: _OwnShapes | None,
    *,
    trees: bool,
) -> Apply:
    """With the signature of all models. Combinators, of which nothing is checked, get whole trees."""
    whole = own_shapes is None

    def full(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        *,
        train: bool = False,
        key: Array | None = None,
        mask: Array | None = None,
    ) -> Pair:
        x = x if whole else _taken(x, trees)
        switches: Switches = {"train": train, "key": key} | ({} if mask is None else {"mask": mask})
        arguments = switches | {
            "params": params,
            "state": state,
            "x": x,
            "mask": mask,
            "switches": switches,
        }
        if takes & {"key", "switches"} or not hasattr(key, "dtype"):
            _checks.check_key(key, optional=True)
        if "train" in takes or not isinstance(train, (bool, np.bool_, jax.Array)):
            _check_train(train)
        for name in takes & {"params", "state"} if not whole else ():
            arguments[name] = _Own(name, arguments[name])
        if own_shapes is not None:
            own_shapes.check(params, state)
        y = apply(**{name: arguments[name] for name in takes})
        if "state" not in takes:
            return y, state
        y, new = y
        return y, state if new is arguments["state"] else new

    return full
