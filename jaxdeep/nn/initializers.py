"""Initialisers: ``initializer(key, shape, dtype) -> array``, those of `jax.nn.initializers`.

Variance 1 / fan_avg is Glorot's, 2 / fan_in is He's, 1 / fan_in is LeCun's; ``*_normal`` is the
normal distribution truncated at two standard deviations (with the standard deviation corrected for
it) and ``*_uniform`` is uniform on ±√(3 · variance). Keras' are the same; PyTorch's ``xavier_normal_``
and ``kaiming_normal_`` are not truncated.

`variance_scaling` is the general form: ``variance_scaling(2, "fan_avg", "uniform")`` is He's for the
mean of both fans. `zeros` and `ones` are initialisers; `constant(value)`, `normal(stddev)`,
`uniform(scale)`, `truncated_normal(stddev)` (cut at two standard deviations and not corrected, as
Keras'), `orthogonal(scale)` and `identity(gain)` make one. All of them refuse arguments that would
draw NaN or fail later: numbers that are not finite, axes that are no whole numbers, dtypes other than
floats. `uniform` is JAX', on [0, scale) and never below 0; Keras' `RandomUniform`, on ±0.05, is not
among them.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers as _jax
from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._shapes import Array, ArrayLike
from jaxdeep.nn.traits import Shape, unwrapped

__all__ = [
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "initializer_for",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "zeros",
]


def __dir__() -> list[str]:
    return __all__


Initializer: TypeAlias = Callable[..., Array]

_Mode: TypeAlias = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
_Distribution: TypeAlias = Literal["truncated_normal", "normal", "uniform"]


def _checked(make: Callable[..., Initializer], **numbers: str) -> Callable[..., Initializer]:
    """A factory of JAX that refuses what would draw NaN, or fail in `init`, by the argument's name."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def checked(*args: Any, **kwargs: Any) -> Initializer:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if name in numbers:
                _checks.check_scalar(name, value, numbers[name])
            elif name.endswith("_axis"):
                _checks.whole_numbers(name, value)
            elif name == "dtype":
                _checks.check_float_dtype(name, value)
            else:
                _check_held(name, as_array(name, value))
        if "lower" in bound.arguments:
            low, high = (_checks.known_value(bound.arguments[name]) for name in ("lower", "upper"))
            if low is not None and high is not None and low >= high:
                raise ValueError(f"lower must be below upper, got {low} and {high}")
        return make(*args, **kwargs)

    return checked


def _check_held(name: str, value: np.ndarray | Array) -> None:
    """Refuse numbers that are not finite in JAX' default float, or become 0 in it."""
    if _checks.is_known(value) and not isinstance(value, jax.Array):
        for number in np.unique(value).tolist():
            _checks.check_hyperparameter(name, number, _ANY)


_ANY = "(-inf, inf)"
zeros = _jax.zeros
ones = _jax.ones
constant = _checked(_jax.constant)
normal = _checked(_jax.normal, stddev="[0, inf)")
truncated_normal = _checked(
    _jax.truncated_normal, stddev="[0, inf)", lower="[-inf, inf)", upper="(-inf, inf]"
)
glorot_normal = _checked(_jax.glorot_normal)
glorot_uniform = _checked(_jax.glorot_uniform)
he_normal = _checked(_jax.he_normal)
he_uniform = _checked(_jax.he_uniform)
lecun_normal = _checked(_jax.lecun_normal)
lecun_uniform = _checked(_jax.lecun_uniform)


@functools.wraps(_jax.variance_scaling)
def variance_scaling(
    scale: ArrayLike, mode: _Mode, distribution: _Distribution, *args: Any, **kwargs: Any
) -> Initializer:
    """An initialiser of variance ``scale / n``, with n the fan of a kernel that `mode` names.

    Args:
      scale: ≥ 0.
      mode: "fan_in", "fan_out", "fan_avg" or "fan_geo_avg".
      distribution: "truncated_normal", "normal" or "uniform".
      args, kwargs: those of `jax.nn.initializers.variance_scaling`: axes and a dtype.

    Raises:
      ValueError: a negative scale, another mode or distribution.
      TypeError: axes that are no whole numbers, a dtype that is no float.

    Source: `jax.nn.initializers.variance_scaling`.
    """
    _checks.check_scalar("scale", scale, "[0, inf)")
    for name, value, kind in (("mode", mode, _Mode), ("distribution", distribution, _Distribution)):
        if value not in (allowed := get_args(kind)):
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    named = dict(zip(("in_axis", "out_axis", "batch_axis", "dtype"), args)) | kwargs
    for name in ("in_axis", "out_axis", "batch_axis"):
        if name in named:
            _checks.whole_numbers(name, named[name])
    _checks.check_float_dtype("dtype", named.get("dtype"))
    return _jax.variance_scaling(scale, mode, distribution, *args, **kwargs)


def uniform(scale: ArrayLike = 1e-2, dtype: DTypeLike | None = None) -> Initializer:
    """An initialiser of numbers on ``[0, scale)``, none of them negative.

    For weights on both sides of 0 take `variance_scaling` or one of the ``*_uniform``.

    Args:
      scale: the end of the interval.
      dtype: of the numbers, where the layer does not say it.

    Raises:
      ValueError: a scale that is not finite. TypeError: a dtype that is no float.

    Source: `jax.nn.initializers.uniform`.

    >>> import jax
    >>> bool((uniform(2.0)(jax.random.key(0), (100,)) >= 0).all())
    True
    """
    _checks.check_scalar("scale", scale, "(-inf, inf)")
    _checks.check_float_dtype("dtype", dtype)
    return _jax.uniform(scale, dtype)


def orthogonal(
    scale: ArrayLike = 1.0, column_axis: int = -1, dtype: DTypeLike | None = None
) -> Initializer:
    """An initialiser of matrices with orthonormal columns, or rows where these are fewer, times `scale`.

    They are drawn in at least float32, in which they can be decomposed, and rounded.

    Args:
      scale: the factor.
      column_axis: the axis of the columns; the others together are the rows.
      dtype: of the numbers, where the layer does not say it.

    Raises:
      ValueError: a scale that is not finite; from the initialiser, a shape of less than two axes or
        without the one of the columns.
      TypeError: an axis that is no whole number, a dtype that is no float.

    Source: `jax.nn.initializers.orthogonal`; Saxe et al. (arXiv:1312.6120).

    >>> import jax
    >>> q = orthogonal(2.0)(jax.random.key(0), (3, 3), jnp.bfloat16)
    >>> q.dtype, (q.T @ q).round(1).tolist()
    (dtype(bfloat16), [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
    """
    _checks.check_scalar("scale", scale, _ANY)
    _checks.whole_numbers("column_axis", column_axis)
    _checks.check_float_dtype("dtype", dtype)

    def init(
        key: Array, shape: Shape, dtype: DTypeLike | None = dtype, out_sharding: Any = None
    ) -> Array:
        if not -len(shape) <= column_axis < len(shape):
            raise ValueError(
                f"column_axis must be an axis of the shape {tuple(shape)}, got {column_axis}"
            )
        dtype = jnp.result_type(float) if dtype is None else dtype
        drawn = _jax.orthogonal(scale, column_axis, jnp.promote_types(dtype, jnp.float32))
        return drawn(key, shape, out_sharding=out_sharding).astype(dtype)

    return init


_HE = {"relu", "leaky_relu", "elu", "gelu", "silu", "swish", "mish", "prelu", "rrelu"}
_LECUN = {"selu"}


def identity(gain: float = 1.0) -> Initializer:
    """An initialiser of matrices: `gain` on the diagonal, 0 elsewhere.

    Args:
      gain: the value on the diagonal.

    Raises:
      ValueError: from the initialiser, a shape of other than two axes.

    Source: Keras' `Identity`.

    >>> import jax
    >>> identity(2.0)(jax.random.key(0), (2, 3)).tolist()
    [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    """
    _checks.check_scalar("gain", gain, "(-inf, inf)")

    def init(
        key: Array, shape: Shape, dtype: DTypeLike | None = None, out_sharding: object = None
    ) -> Array:
        if len(shape) != 2:
            raise ValueError(f"identity makes matrices, got shape {tuple(shape)}")
        return gain * jnp.eye(*shape, dtype=jnp.result_type(float) if dtype is None else dtype)

    return init


def draw(name: str, init: Any, key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """What an initialiser draws; refuses what is no array of the shape that was asked for.

    >>> import jax
    >>> draw("kernel_init", he_normal, jax.random.key(0), (2,), jnp.float32)
    Traceback (most recent call last):
    TypeError: kernel_init must return an array of shape (2,), and he_normal returns a function; call it
    """
    makes = any(init is globals()[made] for made in __all__ if made not in ("zeros", "ones"))
    drawn = init if makes else init(key, shape, dtype)
    drawn_shape = getattr(drawn, "shape", None)
    if drawn_shape != tuple(shape):
        got = f"a {type(drawn).__name__}" if drawn_shape is None else f"one of shape {drawn_shape}"
        got = "a function; call it" if callable(drawn) else got
        title = getattr(init, "__name__", repr(init))
        kind = TypeError if drawn_shape is None else ValueError
        raise kind(f"{name} must return an array of shape {tuple(shape)}, and {title} returns {got}")
    return drawn


def initializer_for(activation: Callable[..., object] | None) -> Initializer:
    """The initialiser that suits an activation: Glorot, He or LeCun.

    ============================================================  =================
    activation                                                    initialiser
    ============================================================  =================
    none, tanh, sigmoid, softmax, anything else                   `glorot_uniform`
    relu, leaky_relu, prelu, rrelu, elu, gelu, silu/swish, mish   `he_normal`
    selu                                                          `lecun_normal`
    ============================================================  =================

    Args:
      activation: the function, known by its ``__name__`` (also inside `functools.partial`), or None.

    Raises:
      TypeError: not a function (a name such as ``"relu"`` is not).

    Source: Géron, "Hands-On Machine Learning", chapter 11, table of initialisations; Glorot & Bengio
    (2010), He et al. (arXiv:1502.01852), Klambauer et al. (arXiv:1706.02515).

    >>> import jax
    >>> kernel = initializer_for(jax.nn.relu)(jax.random.key(0), (1000, 100))
    >>> round(float(kernel.var()) * 1000, 1)  # 2 / fan_in
    2.0
    """
    if activation is not None and not callable(activation):
        raise TypeError(f"activation must be a function such as jax.nn.relu, got {activation!r}")
    name = getattr(unwrapped(activation), "__name__", "")
    if name in _HE:
        return he_normal()
    if name in _LECUN:
        return lecun_normal()
    return glorot_uniform()
