"""Layers that are random when given a key."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.nn.model import Model, chosen, float_dtype
from jaxdeep.tree import shapes

_SELU_FLOOR = -1.7580993408473766  # −λα of SELU, its value far below zero


def dropout(rate: float, *, noise_shape: Sequence[int | None] | None = None) -> Model:
    """Dropout: with a key, each element is zeroed with probability `rate` and the rest are scaled up.

    ``y = x · keep / (1 − rate)`` with ``keep ~ Bernoulli(1 − rate)``; without a key ``y = x``. It is
    the key that switches it on, not `train`, so that MC dropout is a key without `train`.

    A mask element is a comparison of 32 random bits (`random_words`), so the rate in force is `rate` in
    float32 (within 2⁻²⁴); the scale uses the rate in force, so the expectation is exactly `x`.

    Args:
      rate: probability of zeroing, in [0, 1]; 0 is the identity, 1 gives zeros.
      noise_shape: shape of the mask, which broadcasts against the input: 1 for an axis along which all
        is kept or dropped together, None for the input's own size. ``(None, 1, 1, None)`` drops whole
        channels of images.

    Raises:
      ValueError: a rate outside [0, 1]; a noise shape that does not broadcast to the input's.
      TypeError: a key that is not a random key.

    Source: Srivastava et al., "Dropout" (JMLR 2014), in the inverted form of Keras, PyTorch and flax.

    >>> import jax, jax.numpy as jnp
    >>> y, _ = dropout(0.5).apply({}, {}, jnp.ones(1000), key=jax.random.key(0))
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """
    _checks.check_scalar("rate", rate, "[0, 1]")
    if noise_shape is not None:
        _checks.check_sequence("noise_shape", noise_shape)
        for size in noise_shape:
            if size is not None:
                _checks.check_count("noise_shape", size)

    def drop(x: Any, key: Any) -> Any:
        keep, share = _mask(key, rate, _noise_shape(noise_shape, x.shape))
        scale = 1 / jnp.where(share > 0, share, 1)
        wide = jnp.promote_types(x.dtype, jnp.float32)  # rounded once, so that bfloat16 has no bias
        return jnp.where(keep, (x.astype(wide) * scale).astype(x.dtype), jnp.zeros_like(x))

    config = {"rate": rate} | chosen(noise_shape=(noise_shape, None))
    return _random(drop, "dropout", config, lambda shape: _noise_shape(noise_shape, shape))


def alpha_dropout(rate: float) -> Model:
    """Dropout for SELU networks: with a key, mean 0 and standard deviation 1 stay what they are.

    ``y = a · (x · keep + α′ · (1 − keep)) + b`` with ``α′ = −λα``, ``a = ((1 − p) (1 + p α′²))^−½``,
    ``b = −a α′ p`` and p the rate in force (see `dropout`); without a key ``y = x``.

    Args:
      rate: p, the probability of dropping, in [0, 1).

    Raises:
      ValueError: a rate outside [0, 1).

    Source: Klambauer et al., "Self-Normalizing Neural Networks" (arXiv:1706.02515), section 3.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (100_000,))
    >>> y, _ = alpha_dropout(0.2).apply({}, {}, x, key=jax.random.key(1))
    >>> abs(round(float(y.mean()), 1)), round(float(y.std()), 1)
    (0.0, 1.0)
    """
    _checks.check_scalar("rate", rate, "[0, 1)")

    def drop(x: Any, key: Any) -> Any:
        keep, share = _mask(key, rate, x.shape)
        p = 1 - share
        a = jax.lax.rsqrt(jnp.maximum(share, 2.0**-24) * (1 + p * _SELU_FLOOR**2))
        b = -a * _SELU_FLOOR * p
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return (a * jnp.where(keep, wide, _SELU_FLOOR) + b).astype(x.dtype)

    return _random(drop, "alpha_dropout", {"rate": rate})


def gaussian_noise(stddev: float) -> Model:
    """Add noise: with a key ``y = x + stddev · ε``, ε standard normal; without, ``y = x``.

    Args:
      stddev: standard deviation of the noise, ≥ 0.

    Raises:
      ValueError: a negative standard deviation.

    Source: Bishop, "Training with noise is equivalent to Tikhonov regularization" (1995); Keras'
    `GaussianNoise`.

    >>> import jax, jax.numpy as jnp
    >>> y, _ = gaussian_noise(0.1).apply({}, {}, jnp.zeros(10_000), key=jax.random.key(0))
    >>> round(float(y.std()), 2)
    0.1
    """
    _checks.check_scalar("stddev", stddev, "[0, inf)")

    def add(x: Any, key: Any) -> Any:
        return x + jnp.asarray(stddev, x.dtype) * jax.random.normal(key, x.shape, x.dtype)

    return _random(add, "gaussian_noise", {"stddev": stddev})


def _random(function: Any, kind: str, config: dict[str, Any], check: Any = None) -> Model:
    """A layer without parameters that is ``function(x, key)`` with a key and ``x`` without.

    ``check(shape)`` refuses shapes of inputs when it is initialised.
    """

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if check is not None:
            check(shapes(x).shape)
        return {}, {}

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        _checks.check_key(key, optional=True)
        if key is None:
            return x, state
        x = jnp.asarray(x)
        return function(x.astype(float_dtype(x.dtype)), key), state

    return Model(init, apply, kind, config)


def _mask(key: Any, rate: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Which elements are kept, and the share of them to be expected: 1 − rate in steps of 2⁻³²."""
    rate = jnp.asarray(rate, jnp.float32)
    below = jnp.minimum(rate * 2.0**32, 2.0**32 - 256).astype(jnp.uint32)  # the float next to 2³²
    everything = rate >= 1
    keep = (random_words(key, shape) >= below) & ~everything
    return keep, jnp.where(everything, 0, 1 - below.astype(jnp.float32) / 2.0**32)


def random_words(key: Any, shape: tuple[int, ...]) -> Any:
    """Random uint32 from a counter and two words of the key, cheaper than `jax.random.bits`.

    An element is a hash of its position: three multiplications and four shifts, with a word of the key
    added before and one mixed in on the way, in place of the twenty rounds of threefry. Made for masks
    and noise, not for cryptography. Elements do not depend on how an array is split over devices.

    Source: the integer hash "triple32" of C. Wellons' hash prospector (public domain).
    """
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    x = jnp.zeros(shape, jnp.uint32) + first
    stride = 1
    for axis in range(len(shape) - 1, -1, -1):
        x += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    x = (x ^ (x >> 17)) * jnp.uint32(0xED5AD4BB)
    x = (x ^ (x >> 11) ^ second) * jnp.uint32(0xAC4C1B51)
    x = (x ^ (x >> 15)) * jnp.uint32(0x31848BAB)
    return x ^ (x >> 14)


def _noise_shape(noise_shape: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    if noise_shape is None:
        return shape
    full = tuple(s if n is None else n for n, s in zip(noise_shape, shape))
    if len(noise_shape) != len(shape) or any(n not in (1, s) for n, s in zip(full, shape)):
        raise ValueError(
            f"noise_shape={tuple(noise_shape)} does not broadcast to an input of shape {shape}"
        )
    return full
