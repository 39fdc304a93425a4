"""Initialisers: ``initializer(key, shape, dtype) -> array``, those of `jax.nn.initializers`.

Variance 1 / fan_avg is Glorot's, 2 / fan_in is He's, 1 / fan_in is LeCun's; ``*_normal`` is the
normal distribution truncated at two standard deviations (with the standard deviation corrected for
it) and ``*_uniform`` is uniform on ±√(3 · variance). Keras' are the same; PyTorch's ``xavier_normal_``
and ``kaiming_normal_`` are not truncated.
"""

from collections.abc import Callable
from typing import Any

from jax.nn import initializers as _jax

glorot_normal = _jax.glorot_normal
glorot_uniform = _jax.glorot_uniform
he_normal = _jax.he_normal
he_uniform = _jax.he_uniform
lecun_normal = _jax.lecun_normal
lecun_uniform = _jax.lecun_uniform
zeros = _jax.zeros
ones = _jax.ones

Initializer = Callable[..., Any]

_HE = {"relu", "leaky_relu", "elu", "gelu", "silu", "swish", "mish"}
_LECUN = {"selu"}


def initializer_for(activation: Callable[[Any], Any] | None) -> Initializer:
    """The initialiser that suits an activation: Glorot, He or LeCun.

    =============================================  =================
    activation                                     initialiser
    =============================================  =================
    none, tanh, sigmoid, softmax, anything else    `glorot_uniform`
    relu, leaky_relu, elu, gelu, silu/swish, mish  `he_normal`
    selu                                           `lecun_normal`
    =============================================  =================

    Args:
      activation: the function, known by its ``__name__``, or None.

    Source: Géron, "Hands-On Machine Learning", chapter 11, table of initialisations; Glorot & Bengio
    (2010), He et al. (arXiv:1502.01852), Klambauer et al. (arXiv:1706.02515).

    >>> import jax
    >>> kernel = initializer_for(jax.nn.relu)(jax.random.key(0), (1000, 100))
    >>> round(float(kernel.var()) * 1000, 1)  # 2 / fan_in
    2.0
    """
    name = getattr(activation, "__name__", "")
    if name in _HE:
        return he_normal()
    if name in _LECUN:
        return lecun_normal()
    return glorot_uniform()
