"""Layers that scale features: by learned factors, to the units of a target, into a range."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, broadcasting
from jaxdeep._shapes import Array, Arrays
from jaxdeep.nn import initializers
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.model import float_dtype
from jaxdeep.nn.traits import Traits, same_axes

Numbers: TypeAlias = float | Sequence[float]  # one for all features, or one for each


@layer
def scaling(*, scale_init: initializers.Initializer = initializers.ones) -> Layer:
    """A learned factor for each feature: ``y = scale · x``, ``(…, features) -> (…, features)``.

    In front of a network its gradient tells which inputs matter, and with a learning rate of its own
    (`jaxdeep.optimizers.multiply`) it selects among them. Parameter `scale` is ``(features,)``.

    Args:
      scale_init: ``(key, shape, dtype) -> array``; ones.

    Raises:
      ValueError: a scalar; an input of another number of features than it was initialised for.
      TypeError: an initialiser that is not callable.

    Source: Holzmüller, Grinsztajn & Steinwart, "Better by Default" (arXiv:2407.04491), the scaling layer
    of RealMLP.

    >>> import jax, jax.numpy as jnp
    >>> params, state = scaling().init(jax.random.key(0), jnp.ones((1, 3)))
    >>> scaling().apply({"scale": jnp.array([1.0, 0.0, 2.0])}, state, jnp.ones((1, 3)))[0].tolist()
    [[1.0, 0.0, 2.0]]
    """
    _checks.check_functions(optional=False, scale_init=scale_init)

    def init(key: Array, x: jax.ShapeDtypeStruct) -> Arrays:
        if not x.shape:
            raise ValueError("scaling needs an x with an axis of features, got a scalar")
        shape, dtype = x.shape[-1:], float_dtype(x.dtype)
        return {"scale": initializers.draw("scale_init", scale_init, key, shape, dtype)}

    def apply(params: Arrays, x: Array) -> Array:
        scale = params["scale"]
        if not jnp.ndim(x) or scale.shape != jnp.shape(x)[-1:]:
            raise ValueError(
                f"scaling was initialised for {scale.shape[-1:]} features, got an input x of shape "
                f"{jnp.shape(x)} (params: the scale has shape {scale.shape})"
            )
        return x * jnp.expand_dims(scale, range(jnp.ndim(x) - 1))

    traits = Traits(
        elementwise=True,
        axes=same_axes,
        outputs="scores",
        example=lambda shapes: ((1, *shapes["scale"]), jnp.float32),
    )
    return Layer(apply, init, traits=traits)


@layer
def rescale(
    scale: Numbers, offset: Numbers = 0.0, *, low: Numbers | None = None, high: Numbers | None = None
) -> Layer:
    """Outputs in the units of a target: ``y = scale · x + offset``, at inference cut to [low, high].

    At the end of a network for regression: with the standard deviation of the training targets as
    `scale` and their mean as `offset`, what is in front of it learns standardised targets, and what
    comes out is what was asked for. In training (``train=True``) nothing is cut, as what lies outside
    would have no gradient. By 1, without an offset, outputs stay what they are to losses: logits or
    probabilities. Otherwise they are values.

    Args:
      scale, offset: a number for all features, or one for each.
      low, high: likewise the bounds, such as the lowest and the highest training target; None for none.

    Raises:
      ValueError: numbers that are not finite, ``low > high``; as many numbers as the input has no
        features.
      TypeError: what is no number, nor a list of them.

    Source: Keras' `Rescaling`; the clamped outputs of RealMLP (arXiv:2407.04491).

    >>> layer = rescale(10.0, 100.0, low=90.0, high=120.0)
    >>> layer.apply({}, {}, jnp.array([[-2.0, 0.0, 1.0]]))[0].tolist()
    [[90.0, 100.0, 110.0]]
    >>> layer.apply({}, {}, jnp.array([[-2.0, 0.0, 1.0]]), train=True)[0].tolist()
    [[80.0, 100.0, 110.0]]
    """
    arguments = {"scale": scale, "offset": offset, "low": low, "high": high}
    numbers = {
        name: _numbers(name, value)
        for name, value in arguments.items()
        if value is not None or name in ("scale", "offset")
    }
    _check_order(numbers)

    @broadcasting
    def apply(x: Array, train: bool) -> Array:
        _check_features("rescale", jnp.shape(x), numbers)
        x = jnp.asarray(x, float_dtype(jnp.result_type(x)))
        arrays = {name: jnp.asarray(value, x.dtype) for name, value in numbers.items()}
        y = x * arrays["scale"] + arrays["offset"]
        return y if train else jnp.clip(y, arrays.get("low"), arrays.get("high"))

    # by 1 they stay probabilities, or logits: in training nothing is cut
    keeps = bool(np.all(np.equal(numbers["scale"], 1)) and np.all(np.equal(numbers["offset"], 0)))
    traits = Traits(elementwise=True, axes=same_axes, outputs=None if keeps else "values", keeps=keeps)
    return Layer(apply, traits=traits, arguments={name: numbers.get(name) for name in arguments})


@layer
def bounded(low: Numbers = 0.0, high: Numbers = 1.0, *, squash: str = "sigmoid") -> Layer:
    """Outputs within a range: ``y = low + (high − low) · σ(x)``, elementwise.

    With ``squash="tanh"`` it is ``low + (high − low) · ½ (1 + tanh(x))``, which is the same curve, twice
    as steep. Between 0 and 1 the outputs are probabilities, as those of a sigmoid are: losses take them
    with ``from_logits=False``.

    Args:
      low, high: the ends of the range; a number for all features, or one for each. They are reached
        where σ is rounded to 0 or 1.
      squash: "sigmoid" or "tanh".

    Raises:
      ValueError: numbers that are not finite, a `low` that is not below `high`, an unknown `squash`; as
        many numbers as the input has no features.
      TypeError: what is no number, nor a list of them.

    Source: Géron, "Hands-On Machine Learning", chapter 10, outputs of networks for regression.

    >>> bounded(-1.0, 3.0).apply({}, {}, jnp.array([-100.0, 0.0, 100.0]))[0].tolist()
    [-1.0, 1.0, 3.0]
    """
    numbers = {"low": _numbers("low", low), "high": _numbers("high", high)}
    _check_order(numbers, strict=True)
    _checks.check_choice("squash", squash, ("sigmoid", "tanh"))

    @broadcasting
    def apply(x: Array) -> Array:
        _check_features("bounded", jnp.shape(x), numbers)
        x = jnp.asarray(x, float_dtype(jnp.result_type(x)))
        begin, end = (jnp.asarray(value, x.dtype) for value in numbers.values())
        share = jax.nn.sigmoid(x if squash == "sigmoid" else 2 * x)
        return begin * (1 - share) + end * share  # exact at both ends

    is_share = bool(np.all(np.equal(numbers["low"], 0)) and np.all(np.equal(numbers["high"], 1)))
    traits = Traits(
        elementwise=True,
        axes=same_axes,
        outputs=None if is_share else "values",
        ends=jax.nn.sigmoid if is_share else None,
    )
    return Layer(apply, traits=traits, arguments=numbers)


# --- what they share --------------------------------------------------------------------------------


def _numbers(name: str, value: Any) -> float | tuple[float, ...]:
    """A finite number, or one for each feature, as Python's: what a description can hold."""
    wanted = f"{name} must be a number, or a list with one for each feature"
    if isinstance(value, (bool, np.bool_, str)):
        raise TypeError(f"{wanted}, got {value!r}")
    array = as_array(name, value)
    if isinstance(array, jax.core.Tracer):
        raise TypeError(f"{wanted}, got a traced value, which is not known yet")
    host = np.asarray(array)
    if not (jnp.issubdtype(host.dtype, jnp.floating) or jnp.issubdtype(host.dtype, jnp.integer)):
        raise TypeError(f"{wanted}, got an array of {host.dtype}")
    if host.ndim > 1 or not host.size:
        raise ValueError(f"{wanted}, got an array of shape {host.shape}")
    numbers = host.astype(np.float64).ravel().tolist()
    for number in numbers:
        _checks.check_scalar(name, number, "(-inf, inf)")
    return tuple(numbers) if host.ndim else numbers[0]


def _check_order(numbers: dict[str, Any], *, strict: bool = False) -> None:
    """Refuse bounds that are not in order, or of different numbers of features."""
    lengths = {name: len(value) for name, value in numbers.items() if isinstance(value, tuple)}
    if len(set(lengths.values())) > 1:
        several = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise ValueError(
            f"numbers for each feature must be as many as there are features, got {several}"
        )
    if "low" in numbers and "high" in numbers:
        low, high = np.asarray(numbers["low"]), np.asarray(numbers["high"])
        if np.any(low >= high if strict else low > high):
            order = "below" if strict else "at most"
            raise ValueError(f"low must be {order} high, got {numbers['low']} and {numbers['high']}")


def _check_features(kind: str, shape: tuple[int, ...], numbers: dict[str, Any]) -> None:
    """Refuse an input of other features than there are numbers for."""
    for name, value in numbers.items():
        if isinstance(value, tuple) and shape[-1:] != (len(value),):
            raise ValueError(
                f"{kind} has {len(value)} numbers in {name}, one for each feature, got an input x of "
                f"shape {shape}"
            )
