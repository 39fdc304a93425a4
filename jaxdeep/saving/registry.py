"""What goes by a name in a saved model: kinds of layers, functions, and a user's own things."""

import difflib
import functools
import importlib
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

import jax
import numpy as np
import optax

import jaxdeep.nn  # so that the kinds of its layers are known
import jaxdeep.preprocessing  # and those of fitted preprocessors
import jaxdeep.tables  # noqa: F401  # and the layer of tables
from jaxdeep import _checks
from jaxdeep._calls import call_of
from jaxdeep.nn.layer import KINDS, build
from jaxdeep.nn.model import Model
from jaxdeep.preprocessing.transform import made_of
from jaxdeep.saving.sameness import difference, remembered

Function = Callable[..., Any]
Named = TypeVar("Named", bound=Function)

UNNAMED = "model"  # the kind of ``Model(init, apply)``

# Where functions may come from, first come first served, and those that are not functions of arrays.
_FUNCTIONS = (
    "jax.nn", "jaxdeep.nn.activations", "jax.numpy", "jax.lax", "jax.scipy.special",
    "jaxdeep.losses", "jaxdeep.metrics", "optax.losses",
)  # fmt: skip
FACTORIES = (
    "jax.nn.initializers", "jaxdeep.nn.initializers", "jaxdeep.preprocessing",
    "jaxdeep.optimizers", "jaxdeep.schedules", "jaxdeep.regularizers", "jaxdeep.metrics",
    "jaxdeep.losses", "optax", "optax.contrib", "optax.schedules", "jaxdeep.compress",
)  # fmt: skip
_NOT_OF_ARRAYS = {
    "load", "save", "savez", "fromfile", "frombuffer", "fromfunction", "fromiter", "fromstring",
    "from_dlpack", "frompyfunc", "vectorize", "apply_along_axis", "apply_over_axes", "piecewise",
    "set_printoptions", "get_printoptions", "printoptions", "infeed", "outfeed",
    "export", "export_onnx", "load_exported",
}  # fmt: skip

_registered: dict[str, Function] = {}


@overload
def register(name: str, thing: Named, *, replace: bool = False) -> Named: ...
@overload
def register(name: str, thing: None = None, *, replace: bool = False) -> Callable[[Named], Named]: ...
def register(name: str, thing: Function | None = None, *, replace: bool = False) -> Function:
    """Give a function, or what makes a layer, the name by which it is saved and loaded.

    Register the same in the process that saves and in the one that loads; a module that both import is
    the place. Three things have names:

    * **A function** used as activation, as function of `lambda_` or as initialiser. A function that a
      registered function *made* (``leaky(0.1)``) is saved with the arguments it closes over.
    * **A layer of one's own**: the name is the `kind` of its `Model`, and what is registered is called
      with its `config` and, by name, its `layers`, ``make(**config, **layers)``, and must give the
      same model again.
    * **An adapted module**: its kind is the name of its class. ``register("MyNet", lambda:
      jd.adapters.from_linen(MyNet()))``. For arguments give it a kind and a config:
      ``dataclasses.replace(jd.adapters.from_linen(MyNet(size)), kind="my_net", config={"size": size})``.

    Args:
      name: not that of one of jaxdeep's own layers.
      thing: what it names; without it the result is a decorator.
      replace: let the name stand for something else from now on (a cell of a notebook run again).

    Returns:
      `thing` itself.

    Raises:
      ValueError: a name that is taken. TypeError: something that cannot be called.

    Source: Keras' `register_keras_serializable`.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> @register("squared_relu")
    ... def squared_relu(x):
    ...     return jax.nn.relu(x) ** 2
    >>> jd.saving.to_config(jd.nn.activation(squared_relu))["config"]
    {'function': {'registered': 'squared_relu'}}
    >>> @register("scale")
    ... def scale(factor):
    ...     def init(key, x):
    ...         return {}, {}
    ...     def apply(params, state, x, **switches):
    ...         return factor * x, state
    ...     return jd.nn.Model(init, apply, "scale", {"factor": factor})
    >>> jd.saving.to_config(scale(3.0))
    {'kind': 'scale', 'config': {'factor': 3.0}}
    """
    _checks.check_flag("replace", replace)
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}; as a decorator: @register('name')")
    if not name or "/" in name:
        raise ValueError(f"name must not be empty or contain '/', got {name!r}")
    if name in KINDS or name == UNNAMED:
        raise ValueError(f"name={name!r} is the kind of a layer of jaxdeep itself; choose another")
    if thing is None:
        return lambda thing: register(name, thing, replace=replace)
    if isinstance(thing, Model):
        raise TypeError(f"{name!r} must be a function that makes the model, got a Model; use a lambda")
    if not callable(thing):
        raise TypeError(f"{name!r} must be a function, got {thing!r}")
    if not replace and _registered.get(name, thing) is not thing:
        raise ValueError(
            f"{name!r} is registered already, as {_registered[name]!r}; choose another name, or say "
            "replace=True if it should stand for something else from now on"
        )
    _registered[name] = thing
    return thing


def registered(name: str) -> Function:
    """What a name stands for."""
    if name not in _registered:
        close = difflib.get_close_matches(str(name), _registered, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(
            f"{name!r} is not registered in this process{hint}; call jd.saving.register({name!r}, …) "
            "with what it stood for when the model was saved"
        )
    return _registered[name]


def constructor(kind: str) -> Callable[[Mapping[str, Any], Mapping[str, Model]], Model]:
    """The function ``(config, layers) -> Model`` for a kind of layer."""
    if kind in KINDS:
        return functools.partial(build, kind)
    make = registered(kind)
    return lambda config, layers: make(**config, **layers)


# --- functions ------------------------------------------------------------------------------------


def name_of(function: Function) -> dict[str, str] | None:
    """How a function goes into a config: by a name under which the very same object is found."""
    for name, thing in _registered.items():
        if thing is function:
            return {"registered": name}
    for place in (*_FUNCTIONS, *FACTORIES):
        public = _public(place)
        own_name = getattr(function, "__name__", "")
        names = [name for name, public_function in public.items() if public_function is function]
        names = [own_name] if public.get(own_name) is function else names
        if names:
            return {"function": f"{place}.{names[0]}"}
    return None


def named(node: Mapping[str, str]) -> Function:
    """The function that goes by a name."""
    if list(node) == ["registered"]:
        return registered(node["registered"])
    place, _, name = str(node.get("function")).rpartition(".")
    if list(node) != ["function"] or place not in (*_FUNCTIONS, *FACTORIES):
        raise ValueError(f"{dict(node)} is not the name of a function")
    if name not in _public(place):
        raise ValueError(f"{place} has no function {name!r}; the model needs another version of it")
    if place in _FUNCTIONS:
        _check_computes(place, name)
    return _public(place)[name]


@functools.cache
def _check_computes(place: str, name: str) -> None:
    """Refuse a function that no layer can compute: one of sizes that depend on values, or of text."""
    made: list[Any] = []

    def probe(x: jax.Array) -> jax.Array:
        made.append(_public(place)[name](x))
        return x

    try:
        jax.eval_shape(probe, jax.ShapeDtypeStruct((2, 4), np.float32))
        computes = all(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(made))
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        computes = False
    except Exception:  # a function of several arguments, or of other arrays
        return
    if not computes:
        raise ValueError(f"{place}.{name} makes no array of a known shape: no layer can compute it")


@functools.cache
def _public(place: str) -> dict[str, Function]:
    """The functions of a module by name."""
    return {
        name: thing
        for name, thing in vars(importlib.import_module(place)).items()
        if callable(thing)
        and not isinstance(thing, (type, types.ModuleType))
        and not name.startswith("_")
        and name not in _NOT_OF_ARRAYS
    }


def factory_of(
    function: Function,
) -> tuple[dict[str, str], Sequence[Any], Mapping[str, Any]] | None:
    """The public factory, or the registered function, that made a closure, and its arguments.

    Of what jaxdeep makes for `fit` the call is remembered (`jaxdeep._calls`), and a preprocessor, a
    tuple of closures, says itself how it was made. ``he_normal()`` is a function
    inside `variance_scaling` that remembers its arguments. Its name, ``variance_scaling.<locals>.init``,
    tells the factory, and the arguments must make the same again.
    """
    made = made_of(function)
    if made is not None and (name := name_of(made.factory)) is not None:
        return name, (), dict(made.arguments)
    call = call_of(function)
    if call is not None and (name := name_of(call.factory)) is not None:
        return name, call.positional, call.keywords
    closures: tuple[Any, ...] = function if isinstance(function, tuple) else (function,)
    if not closures or not all(isinstance(closure, types.FunctionType) for closure in closures):
        return None
    if (links := _links(closures)) is not None:
        return {"function": "optax.chain"}, links, {}
    factories = [f for place in FACTORIES for f in _public(place).values()]
    # a factory may have called another one with a function of its own
    inner = tuple(f for c in closures for f in remembered(c).values() if _is_made(f))
    for within, closure in ((w, c) for w in (inner, closures) for c in w if _is_made(c)):
        maker = closure.__qualname__.rpartition(".<locals>.")[0]
        for factory in (*factories, *_registered.values()):
            # `__module__` may name the public namespace instead.
            module = getattr(factory, "__globals__", None)
            if module is not closure.__globals__ or factory.__qualname__ != maker:
                continue
            arguments = _arguments(factory, within)
            try:
                again = factory(**arguments)
            except Exception:  # whatever a factory says to arguments that are not its own
                continue
            name = name_of(factory)
            if name is not None and difference(function, again) is None:
                return name, (), arguments
    return None


def multi_steps(thing: Any) -> dict[str, Any] | None:
    """The arguments of an `optax.MultiSteps`, or of the pair that it gives; None for all else.

    >>> multi_steps(optax.MultiSteps(optax.sgd(0.1), 3))["every_k_schedule"]
    3
    """
    is_pair = isinstance(thing, optax.GradientTransformation)
    steps: Any = getattr(thing.init, "__self__", None) if is_pair else thing
    if type(steps) is not optax.MultiSteps or (is_pair and thing != steps.gradient_transformation()):
        return None
    attributes: dict[str, Any] = {name.lstrip("_"): value for name, value in vars(steps).items()}
    inner = attributes.get("opt", optax.identity())
    arguments = {"opt": _unwrapped(inner.init, inner.update)}
    for name in ("every_k_schedule", "use_grad_mean", "should_skip_update_fn", "accumulator_dtype"):
        value: Any = attributes.get(name)
        # Optax has wrapped a number or the default in a function.
        if _is_made(value) and _maker(value) == "MultiSteps.__init__":
            value = remembered(value).get(name)
        arguments[name] = value
    again: Any = optax.MultiSteps(**arguments)
    return arguments if difference(vars(steps), vars(again)) is None else None


def maker_in_optax(thing: Any) -> str | None:
    """The function of optax in which a function, or a transformation, was made; None for all others.

    >>> maker_in_optax(optax.inject_hyperparams(optax.adam)(0.1)), maker_in_optax(lambda x: x)
    ('optax.inject_hyperparams', None)
    """
    first = thing[0] if isinstance(thing, tuple) and thing else thing
    if not _is_made(first) or not str(first.__module__).startswith("optax."):
        return None
    maker = _maker(first)
    places = [place for place in FACTORIES if place.startswith("optax") and maker in _public(place)]
    return f"{places[0] if places else first.__module__}.{maker}"


def optimizer_with(tx: object, maker: str) -> str | None:
    """The optimizer of optax that is in a transformation and has parts of this maker; None if none is.

    >>> optimizer_with(optax.lbfgs(0.1), "optax.scale_by_zoom_linesearch")
    'optax.lbfgs'
    >>> optimizer_with(optax.contrib.muon(0.1), "optax.contrib.muon")
    'optax.contrib.muon'
    """
    name, makers = maker.rpartition(".")[2], _makers(tx, [])
    for place in ("optax", "optax.contrib"):
        for optimizer, factory in _public(place).items():
            if f"scale_by_{optimizer}" in makers and isinstance(factory, types.FunctionType):
                used = {optimizer, *factory.__code__.co_names, *_makers(factory.__defaults__, [])}
                if name in used:
                    return f"{place}.{optimizer}"
    return None


def _makers(value: object, seen: list[object]) -> set[str]:
    """The names of the functions in which the functions that a value is made of were made."""
    if any(value is other for other in seen):
        return set()
    seen.append(value)
    match value:
        case types.FunctionType():
            parts, makers = list(remembered(value).values()), {_maker(value)}
        case Mapping():
            parts, makers = list(value.values()), set()
        case tuple() | list():
            parts, makers = list(value), set()
        case _:
            return set()
    return makers.union(*(_makers(part, seen) for part in parts))


def _maker(function: types.FunctionType) -> str:
    return function.__qualname__.partition(".<locals>")[0]


def _is_made(function: Any) -> bool:
    """Whether a function was made by another one."""
    return isinstance(function, types.FunctionType) and "<locals>" in function.__qualname__


def _links(closures: tuple[types.FunctionType, ...]) -> list[Any] | None:
    """The transformations that `optax.chain` joined; None for what it has not made."""
    if closures[-1].__module__ != optax.chain.__module__ or len(closures) != 2:
        return None
    if any(closure.__qualname__.rpartition(".<locals>.")[0] != "chain" for closure in closures):
        return None
    inits, updates = (remembered(closure).get(name) for closure, name in zip(closures, _CHAINED))
    if not (isinstance(inits, tuple) and isinstance(updates, tuple) and len(inits) == len(updates)):
        return None
    return [_unwrapped(init, update) for init, update in zip(inits, updates)]


_CHAINED = ("init_fns", "update_fns")


def _unwrapped(init: Function, update: Function) -> Any:
    """A transformation without `optax.with_extra_args_support`, which a chain puts around it."""
    if getattr(update, "__qualname__", "").startswith("with_extra_args_support."):
        inner = remembered(update).get("tx")  # type: ignore[arg-type]
        if isinstance(inner, optax.GradientTransformation) and inner.init is init:
            return inner
    return optax.GradientTransformationExtraArgs(init, update)


def _arguments(factory: Function, made: tuple[types.FunctionType, ...]) -> dict[str, Any]:
    """A factory's arguments that differ from their defaults, read from the closures that it made."""
    known: dict[str, Any] = {}
    for closure in made:  # ``def init(key, shape, dtype=dtype)`` remembers too
        parameters = inspect.signature(closure).parameters.values()
        known |= {parameter.name: parameter.default for parameter in parameters} | remembered(closure)
    arguments = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        value = known.get(name, inspect.Parameter.empty)
        if value is not inspect.Parameter.empty and difference(value, parameter.default) is not None:
            arguments[name] = value
    return arguments
