"""Losses: one value per example; the objective takes the mean."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxdeep import _checks


def softmax_cross_entropy(logits: Any, labels: Any) -> Any:
    """Cross-entropy of softmax(logits) against labels: ``−Σ_c p_c log softmax(logits)_c``.

    Args:
      logits: ``(…, classes)``.
      labels: classes as integers, of shape ``(…)``, or probabilities (one-hot, smoothed) of shape
        ``(…, classes)``.

    Returns:
      One loss per example, of shape ``(…)``, in the dtype of the logits.

    Raises:
      ValueError: shapes that do not fit; integer labels outside ``[0, classes)``, as far as their
        values are known (not traced).
      TypeError: labels of shape ``(…)`` that are not integers.

    Source: `optax.losses`, with the labels checked.

    >>> import jax.numpy as jnp
    >>> softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).round(3).tolist()  # log 4
    [1.3860000371932983, 1.3860000371932983]
    """
    logits = jnp.asarray(logits)
    if logits.ndim < 1 or logits.shape[-1] < 2:
        raise ValueError(f"logits need an axis of at least 2 classes, got shape {logits.shape}")
    if jnp.shape(labels) == jnp.shape(logits):
        return optax.losses.softmax_cross_entropy(logits, jnp.asarray(labels, logits.dtype))
    _checks.check_classes(logits, labels)
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels))
