"""Activations as layers: of any function, or with a slope that is learned or random."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, Arrays
from jaxdeep.nn import activations
from jaxdeep.nn.layer import KINDS, Layer, layer
from jaxdeep.nn.model import Model, float_dtype
from jaxdeep.nn.stochastic import random_layer, random_words
from jaxdeep.nn.traits import Activation, Passes, Shape, Traits, same_axes, unwrapped

# Primitives that only move numbers about, and those of them that change their order.
_REORDERS = frozenset({"sort", "rev", "gather", "concatenate", "dynamic_slice", "scatter"})
_MOVES = _REORDERS | {"slice", "reshape", "transpose", "squeeze", "broadcast_in_dim", "copy", "split"}
_POSITIVE = Passes()  # f(k · x) = k · f(x) for k ≥ 0
_HOMOGENEOUS = (jax.nn.relu, jax.nn.leaky_relu)


@layer
def activation(function: Activation) -> Layer:
    """Apply a function elementwise: ``y = function(x)``.

    For functions that keep the shape and take each example by itself, as a softmax does; `lambda_` is
    for every other function of an input.

    Args:
      function: any function of one array; see `jaxdeep.nn.activations` and `jax.nn`.

    Raises:
      TypeError: `function` is not callable (a name such as ``"relu"`` is not), or makes a layer, as
        `swish` of this module does; for an input, a function that takes no array, as `jnp.zeros`.
      ValueError: an output of another shape, or of other numbers than floating-point ones for such an
        input; when it is initialised, a function that reduces or sorts along the axis of the batch, as
        far as that can be seen, that gives the same whatever its input, or its input in another order.

    Source: Keras' `Activation`.

    >>> import jax, jax.numpy as jnp
    >>> y, _ = activation(jax.nn.relu).apply({}, {}, jnp.array([-1.0, 2.0]))
    >>> y.tolist()
    [0.0, 2.0]
    """
    check_activation("function", function)
    traits = Traits(
        function=function,
        passes=homogeneous(function),
        axes=same_axes,
    )

    def apply(x: Array) -> Array:
        return activated("function", function, x)

    def check(x: jax.ShapeDtypeStruct) -> None:
        check_activates("function", function, x)

    return Layer(apply, check=check, traits=traits)


@layer
def prelu(alpha: float = 0.01, *, shared_axes: Sequence[int] = ()) -> Layer:
    """Leaky ReLU with a learned slope: ``y = x`` where x ≥ 0, ``alpha · x`` below.

    Parameter `alpha` has the shape of one example, ``x.shape[1:]``, with 1 on the shared axes: for
    images ``(batch, height, width, channels)``, ``shared_axes=(1, 2)`` is a slope a channel.

    Args:
      alpha: its first value; flax' 0.01 (PyTorch: 0.25, Keras: 0).
      shared_axes: axes of the input along which the slope is the same, from 1.

    Raises:
      ValueError: a shared axis that the input lacks, or axis 0. TypeError: axes that are not numbers.

    Source: He et al. (arXiv:1502.01852); shapes of Keras' `PReLU`.

    >>> layer = prelu(0.5)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> layer.apply(params, state, jnp.array([[-2.0, 0.0, 2.0]]))[0].tolist()
    [[-1.0, 0.0, 2.0]]
    """
    _checks.check_scalar("alpha", alpha, "(-inf, inf)")
    try:
        axes = shared_axes if isinstance(shared_axes, Sequence) else (shared_axes,)
        shared = tuple(map(_checks.index, axes))
    except TypeError:
        raise TypeError(f"shared_axes must be whole numbers, got {shared_axes!r}") from None

    def of_slopes(shape: Shape) -> Shape:
        ndim = len(shape)
        if not all(-ndim <= a < ndim and a % ndim > 0 for a in shared):
            raise ValueError(
                f"shared_axes must be axes of an input of shape {shape} other than 0, got {shared}"
            )
        ones = {a % ndim for a in shared}
        return tuple(1 if a in ones else shape[a] for a in range(1, ndim))

    def init(x: jax.ShapeDtypeStruct) -> Arrays:
        return {"alpha": jnp.full(of_slopes(x.shape), alpha, float_dtype(x.dtype))}

    def apply(params: Arrays, x: Array) -> Array:
        slopes = params["alpha"]
        if slopes.shape != (expected := of_slopes(jnp.shape(x))):
            raise ValueError(
                f"prelu has slopes of shape {slopes.shape} in params, got an input x of shape "
                f"{jnp.shape(x)}, which needs {expected} (shared_axes={shared})"
            )
        return activations.prelu(x, slopes)

    traits = Traits(
        elementwise=True,
        passes=_POSITIVE,
        axes=same_axes,
        outputs="values",
        example=lambda shapes: ((1, *shapes["alpha"]), jnp.float32),
    )
    return Layer(apply, init, traits=traits, arguments={"shared_axes": shared})


@layer
def swish(beta: float = 1.0) -> Layer:
    """Swish with a trained β: ``y = x · σ(beta · x)``, one β for the layer.

    Args:
      beta: its first value.

    Source: Ramachandran, Zoph & Le (arXiv:1710.05941), section 5.

    >>> layer = swish()
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> float(params["beta"]), layer.apply(params, state, jnp.zeros((1, 2)))[0].tolist()
    (1.0, [[0.0, 0.0]])
    """
    _checks.check_scalar("beta", beta, "(-inf, inf)")

    def init(x: jax.ShapeDtypeStruct) -> Arrays:
        return {"beta": jnp.asarray(beta, float_dtype(x.dtype))}

    def apply(params: Arrays, x: Array) -> Array:
        return activations.swish(x, params["beta"])

    traits = Traits(
        elementwise=True,
        axes=same_axes,
        outputs="values",
        example=lambda shapes: ((1,), jnp.float32),
    )
    return Layer(apply, init, traits=traits)


@layer
def rrelu(lower: float = 1 / 8, upper: float = 1 / 3) -> Layer:
    """Randomised leaky ReLU: with a key a slope from U(lower, upper) an element, their mean without.

    Args:
      lower, upper: bounds of the slope; drawn with `jaxdeep.nn.stochastic.random_words`.

    Raises:
      ValueError: ``lower > upper``.

    Source: Xu et al. (arXiv:1505.00853); defaults of PyTorch.

    >>> rrelu().apply({}, {}, jnp.array([-48.0]))[0].tolist()
    [-11.0]
    """
    activations.check_slopes(lower, upper)

    def sloped(x: Array, key: Array, start: Array | int) -> Array:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        u = (random_words(key, x.shape, start) >> 8).astype(wide) * 2.0**-24
        slopes = lower + jnp.asarray(upper - lower, wide) * u
        return activations.prelu(x, slopes.astype(x.dtype))

    mean = functools.partial(activations.rrelu, lower=lower, upper=upper)
    traits = Traits(elementwise=True, passes=_POSITIVE, axes=same_axes, outputs="values")
    return random_layer(sloped, without=mean, traits=traits)


def homogeneous(function: Activation) -> Passes | None:
    """What passes an activation: scales of at least 0 if it is a ReLU or a leaky ReLU."""
    return _POSITIVE if unwrapped(function) in _HOMOGENEOUS else None


def check_activation(name: str, function: object) -> None:
    """Refuse what is not a function of one array, a layer or its maker among them."""
    inside = unwrapped(function)
    if isinstance(function, Model):
        raise TypeError(
            f"{name} must be a function, got the layer {function!r}: put it behind this one, in serial"
        )
    if not callable(function):
        raise TypeError(f"{name} must be a function such as jax.nn.relu, got {function!r}")
    if any(inside is maker for maker in KINDS.values()):
        maker = inside.__name__
        raise TypeError(
            f"{name} must be a function of an array, got {function!r}: jd.nn.{maker} makes a layer"
            + (f"; the function is jd.nn.activations.{maker}" if hasattr(activations, maker) else "")
        )
    is_ours = any(inside is one for one in vars(activations).values())  # which are saved by name
    if not is_ours and not _checks.takes(function, 1):
        raise TypeError(f"{name} must be a function of one array, and {function!r} is not")


def activated(name: str, function: Activation, x: Array) -> Array:
    """``function(x)``, refused if it has another shape, or is no array of floats where `x` is one."""
    try:
        y = function(x)
    except TypeError as error:
        if isinstance(error, jax.errors.JAXTypeError):  # which say what a function must not do
            raise
        raise TypeError(
            f"{name} must be a function of an array, and {_called(function)} fails for one of shape "
            f"{jnp.shape(x)}: {str(error).splitlines()[0]}"
        ) from error
    shape, made = jnp.shape(x), getattr(y, "shape", None)
    if made != shape:
        got = type(y).__name__ if made is None else f"an output of shape {made}"
        raise ValueError(
            f"{name} must keep the shape of its input, {shape}, and {_called(function)} gives {got}; "
            "jaxdeep.nn.lambda_ is for functions that change it"
        )
    dtype, x_dtype = jnp.result_type(y), jnp.result_type(x)
    if jnp.issubdtype(x_dtype, jnp.floating) and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"{name} must give floating-point numbers for an input of {x_dtype}, and "
            f"{_called(function)} gives {dtype}; jaxdeep.nn.lambda_ is for such functions"
        )
    return y


def check_activates(name: str, function: Activation, x: jax.ShapeDtypeStruct) -> None:
    """Try an activation out on the shapes of an input, of which examples must not be mixed."""
    traced = jax.make_jaxpr(lambda x: activated(name, function, x))(x)
    if len(x.shape) > 1 and _mixes(traced.jaxpr, len(x.shape)):
        raise ValueError(
            f"{name} must take each example by itself, and {_called(function)} reduces or sorts along "
            f"the axis of the batch, 0, of an input of shape {x.shape}; name the other axes, or use "
            "jaxdeep.nn.lambda_"
        )
    if (fault := _fault(traced.jaxpr)) is not None:
        raise ValueError(
            f"{name} must be an activation, and {_called(function)} {fault}; jaxdeep.nn.lambda_ is for "
            "such functions"
        )


def _fault(jaxpr: Any) -> str | None:
    """What shows in the program of a function of one array that it is no activation."""
    used = set[str]()
    (depends,) = _followed(jaxpr, [True], used)
    if not depends:
        return "gives the same whatever its input"
    if used <= _MOVES and used & _REORDERS:
        return "gives the numbers of its input in another order"
    return None


def _followed(jaxpr: Any, depends: Sequence[bool], used: set[str]) -> list[bool]:
    """Which results depend on the arguments that do so themselves, and by which primitives."""
    on = {var for var, flag in zip(jaxpr.invars, depends) if flag}

    def is_on(var: Any) -> bool:
        return not hasattr(var, "val") and var in on  # a literal has a value

    for equation in jaxpr.eqns:
        flags = [is_on(var) for var in equation.invars]
        if not any(flags):
            continue
        inner = getattr(equation.params.get("jaxpr"), "jaxpr", None)
        if equation.primitive.name in ("jit", "pjit") and inner is not None:
            made = _followed(inner, flags, used)
        else:
            used.add(equation.primitive.name)
            made = [True] * len(equation.outvars)
        on |= {var for var, flag in zip(equation.outvars, made) if flag}
    return [is_on(var) for var in jaxpr.outvars]


def _mixes(jaxpr: Any, ndim: int) -> bool:
    """Whether a program reduces, accumulates or sorts along the first axis of arrays of so many axes."""
    for equation in jaxpr.eqns:
        along = [equation.params.get(name) for name in ("axes", "axis", "dimension")]
        axes = [a for axis in along for a in (axis if isinstance(axis, tuple) else (axis,))]
        is_one = equation.primitive.name.startswith(("reduce_", "cum", "arg", "sort"))
        if is_one and 0 in axes and len(equation.invars[0].aval.shape) == ndim:
            return True
        inner = [getattr(value, "jaxpr", value) for value in equation.params.values()]
        if any(hasattr(program, "eqns") and _mixes(program, ndim) for program in inner):
            return True
    return False


def _called(function: Callable[..., object]) -> str:
    return getattr(unwrapped(function), "__name__", None) or repr(function)
