"""Layers that are random when given a key."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.nn.model import Model, float_dtype


def dropout(rate: float) -> Model:
    """Dropout: with a key, each element is zeroed with probability `rate` and the rest are scaled up.

    ``y = x · keep / (1 − rate)`` with ``keep ~ Bernoulli(1 − rate)``; without a key ``y = x``. It is
    the key that switches it on, not `train`, so that MC dropout is a key without `train`.

    A mask element comes from 16 random bits, so the rate in force is `rate` rounded to a multiple of
    2⁻¹⁶; the scale uses the rate in force, so the expectation is exactly `x`.

    Args:
      rate: probability of zeroing, in [0, 1]; 0 is the identity, 1 gives zeros.

    Raises:
      ValueError: a rate outside [0, 1].
      TypeError: a key that is not a random key.

    Source: Srivastava et al., "Dropout" (JMLR 2014), in the inverted form of Keras, PyTorch and flax.

    >>> import jax, jax.numpy as jnp
    >>> y, _ = dropout(0.5).apply({}, {}, jnp.ones(1000), key=jax.random.key(0))
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """
    _checks.check_scalar("rate", rate, "[0, 1]")

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None
    ) -> tuple[Any, Any]:
        _checks.check_key(key, optional=True)
        if key is None:
            return x, state
        x = jnp.asarray(x)
        x = x.astype(float_dtype(x.dtype))
        levels = 2**16
        kept = jnp.round(levels * (1 - jnp.asarray(rate, jnp.float32)))  # of 65,536 draws
        keep = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.int32) < kept.astype(jnp.int32)
        scale = levels / jnp.maximum(kept, 1)
        return jnp.where(keep, x * scale.astype(x.dtype), jnp.zeros_like(x)), state

    return Model(init, apply, "dropout", {"rate": rate})
