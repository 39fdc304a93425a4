"""Layers that are random when given a key."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, ArrayLike
from jaxdeep._words import Start, random_words
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.model import float_dtype
from jaxdeep.nn.traits import Activation, Passes, Shape, Traits, same_axes

_SELU_FLOOR = -1.7580993408473766  # −λα of SELU, its value far below zero


@layer
def dropout(
    rate: float, *, noise_shape: Sequence[int | None] | None = None, generator: str = "hash"
) -> Layer:
    """Dropout: with a key, each element is zeroed with probability `rate` and the rest are scaled up.

    ``y = x · keep / (1 − rate)`` with ``keep ~ Bernoulli(1 − rate)``; without a key ``y = x``. It is
    the key that switches it on, not `train`, so that MC dropout is a key without `train`.

    A mask element is a comparison of 32 random bits (`random_words`), so the rate in force is `rate` in
    float32 (within 2⁻²⁴); the scale uses the rate in force, so the expectation is `x`.

    The derivative by a traced rate is that of the scale alone, ``x · keep / (1 − rate)²``: which
    elements are kept depends on the rate too, in steps, which have no slope. So it is not the derivative
    of the expectation, which is 0.

    Args:
      rate: probability of zeroing, in [0, 1]; 0 is the identity, 1 gives zeros.
      noise_shape: shape of the mask, which broadcasts against the input: 1 for an axis along which all
        is kept or dropped together, None for the input's own size. ``(None, 1, 1, None)`` drops whole
        channels of images.
      generator: where the bits come from: "hash" for `random_words`, "threefry" for `jax.random.bits`,
        which is several times slower (and is what the key's own generator gives, if that is another).

    Raises:
      ValueError: a rate outside [0, 1]; a noise shape that does not broadcast to the input's; another
        generator.
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
    words = _generator(generator)

    def drop(x: Array, key: Array, start: Start) -> Array:
        wide = jnp.promote_types(x.dtype, jnp.float32)  # rounded once, so that bfloat16 has no bias
        keep, share = _mask(words(key, _noise_shape(noise_shape, x.shape), start), rate, wide)
        scale = 1 / jnp.where(share > 0, share, 1)
        return jnp.where(keep, (x.astype(wide) * scale).astype(x.dtype), jnp.zeros_like(x))

    rows = None if noise_shape is None or not len(noise_shape) else noise_shape[0]
    return random_layer(
        drop,
        traits=_noisy(rate, Passes(negative=True)),
        drawn=lambda shape: _noise_shape(noise_shape, shape),
        together=rows == 1,
        shifts=generator == "hash" and rows in (None, 1),
    )


@layer
def alpha_dropout(rate: float, *, generator: str = "hash") -> Layer:
    """Dropout for SELU networks: with a key, mean 0 and standard deviation 1 stay what they are.

    ``y = a · (x · keep + α′ · (1 − keep)) + b`` with ``α′ = −λα``, ``a = ((1 − p) (1 + p α′²))^−½``,
    ``b = −a α′ p`` and p the rate in force (see `dropout`); without a key ``y = x``. The derivative by a
    traced rate is that of a and b alone, with the mask as it is.

    Args:
      rate: p, the probability of dropping, in [0, 1).
      generator: as for `dropout`.

    Raises:
      ValueError: a rate outside [0, 1), another generator.

    Source: Klambauer et al., "Self-Normalizing Neural Networks" (arXiv:1706.02515), section 3.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (100_000,))
    >>> y, _ = alpha_dropout(0.2).apply({}, {}, x, key=jax.random.key(1))
    >>> abs(round(float(y.mean()), 1)), round(float(y.std()), 1)
    (0.0, 1.0)
    """
    _checks.check_scalar("rate", rate, "[0, 1)")
    words = _generator(generator)

    def drop(x: Array, key: Array, start: Start) -> Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        keep, share = _mask(words(key, x.shape, start), rate, wide.dtype)
        p = 1 - share
        a = jax.lax.rsqrt(jnp.maximum(share, 2.0**-24) * (1 + p * _SELU_FLOOR**2))
        b = -a * _SELU_FLOOR * p
        return (a * jnp.where(keep, wide, _SELU_FLOOR) + b).astype(x.dtype)

    return random_layer(drop, traits=_noisy(rate), shifts=generator == "hash")


@layer
def gaussian_noise(stddev: float) -> Layer:
    """Add noise: with a key ``y = x + stddev · ε``, ε standard normal; without, ``y = x``.

    ``ε = √2 erf⁻¹(u)`` with u uniform in (−1, 1) from the 32 bits of `random_words`; ``|ε| < 5.5`` in
    float32 and below, as of `jax.random.normal`.

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

    def add(x: Array, key: Array, start: Start) -> Array:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        signed = jax.lax.bitcast_convert_type(random_words(key, x.shape, start), jnp.int32)
        limit = 1 - jnp.finfo(wide).epsneg
        u = jnp.clip((signed.astype(wide) + 0.5) * 2.0**-31, -limit, limit)
        noise = jnp.sqrt(jnp.asarray(2, wide)) * jax.lax.erf_inv(u)
        return (x.astype(wide) + jnp.asarray(stddev, wide) * noise).astype(x.dtype)

    return random_layer(add, traits=_noisy(stddev))


def _noisy(amount: ArrayLike, passes: Passes | None = None) -> Traits:
    """Everything passes a layer of which it is known that it draws nothing."""
    nothing = _checks.known_value(amount) == 0
    return Traits(
        passes=Passes(shift=True, negative=True) if nothing else passes, axes=same_axes, keeps=True
    )


def random_layer(
    function: Callable[[Array, Array, Start], Array],
    *,
    traits: Traits,
    without: Activation = lambda x: x,
    drawn: Callable[[Shape], Shape] = lambda shape: shape,
    together: bool = False,
    shifts: bool = True,
) -> Layer:
    """A layer without parameters: ``function(x, key, start)`` with a key, ``without(x)`` without.

    Args:
      function: draws with ``random_words(key, drawn(x.shape), start)``.
      traits: of the layer.
      without: what it is without a key.
      drawn: the shape of what is drawn for an input; refuses shapes when the layer is initialised.
      together: whether all rows share one draw.
      shifts: whether `start` is obeyed, so that `Model.rows_from` can be given.
    """

    def placed(first: Start = 0, rows: int | None = None) -> Callable[..., Array]:
        def apply(x: Array, key: Array | None) -> Array:
            if key is None:
                return without(x)
            x = jnp.asarray(x)
            start: Start = 0 if rows is None or together else _words_before(first, rows, drawn(x.shape))
            return function(x.astype(float_dtype(x.dtype)), key, start)

        return apply

    return Layer(
        placed(), check=lambda x: drawn(x.shape), traits=traits, rows_from=placed if shifts else None
    )


def _words_before(first: Start, rows: int, shape: Shape) -> Array:
    """Words drawn for the rows before `first`, from those of shape `shape` for `rows` rows."""
    if not shape or shape[0] % rows:
        raise ValueError(f"a random layer cannot tell {rows} rows apart in an input of shape {shape}")
    return jnp.asarray(first).astype(jnp.uint32) * jnp.uint32(math.prod(shape) // rows % 2**32)


def _mask(words: Array, rate: ArrayLike, dtype: Any) -> tuple[Array, Array]:
    """Which elements are kept, and the share of them to be expected: 1 − rate in steps of 2⁻³²."""
    rate = jnp.asarray(rate, dtype)
    below = jnp.minimum(rate * 2.0**32, 2.0**32 - 256).astype(jnp.uint32)  # float32 next to 2³²
    everything = rate >= 1
    keep = (words >= below) & ~everything
    share = jnp.where(everything, 0, 1 - below.astype(dtype) / 2.0**32)
    if isinstance(rate, jax.core.Tracer):  # steps have no slope, the share that they follow has
        share = share - (rate - jax.lax.stop_gradient(rate))
    return keep, share


def _generator(name: str) -> Callable[[Array, Shape, Start], Array]:
    _checks.check_choice("generator", name, ("hash", "threefry"))
    if name == "hash":
        return random_words
    return lambda key, shape, start: jax.random.bits(key, shape, jnp.uint32)


def _noise_shape(noise_shape: Sequence[int | None] | None, shape: Shape) -> Shape:
    if noise_shape is None:
        return shape
    full = tuple(s if n is None else n for n, s in zip(noise_shape, shape))
    if len(noise_shape) != len(shape) or any(n not in (1, s) for n, s in zip(full, shape)):
        raise ValueError(
            f"noise_shape={tuple(noise_shape)} does not broadcast to an input of shape {shape}"
        )
    return full
