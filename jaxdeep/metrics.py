"""Metrics: one value per example; the objective takes the mean."""

from typing import Any

import jax.numpy as jnp

from jaxdeep import _checks


def accuracy(outputs: Any, labels: Any) -> Any:
    """1 where the largest output is the label's, 0 elsewhere.

    Args:
      outputs: logits or probabilities, ``(…, classes)``.
      labels: classes as integers, ``(…)``, or one-hot, ``(…, classes)``.

    Returns:
      float32 (float64 with x64 on) of shape ``(…)``.

    Raises:
      ValueError, TypeError: labels that do not fit, as for `losses.softmax_cross_entropy`.

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).tolist()
    [1.0, 0.0]
    """
    if jnp.ndim(outputs) < 1 or jnp.shape(outputs)[-1] < 2:
        raise ValueError(f"outputs need an axis of at least 2 classes, got shape {jnp.shape(outputs)}")
    if jnp.shape(labels) == jnp.shape(outputs):
        labels = jnp.argmax(labels, axis=-1)
    else:
        _checks.check_classes(outputs, labels)
    return (jnp.argmax(outputs, axis=-1) == labels).astype(jnp.result_type(float))
