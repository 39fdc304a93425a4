"""Losses: one value per example or element; the objective takes the mean (and weights them).

Each is a function ``(outputs, y) -> values``; its options are keywords, fixed by `functools.partial`:
``functools.partial(huber, delta=2.0)``.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdeep import _checks

__all__ = [
    "huber",
    "log_cosh",
    "mae",
    "mse",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "weighted",
]


def __dir__() -> list[str]:
    return __all__


Loss = Callable[[Any, Any], Any]


def softmax_cross_entropy(logits: Any, labels: Any, *, label_smoothing: Any = 0.0) -> Any:
    """Cross-entropy of softmax(logits) against labels: ``−Σ_c p_c log softmax(logits)_c``.

    Args:
      logits: ``(…, classes)``.
      labels: classes as integers, of shape ``(…)``, or probabilities (one-hot, smoothed) of shape
        ``(…, classes)``.
      label_smoothing: α in [0, 1]: p becomes ``(1 − α) p + α / classes``.

    Returns:
      One loss per example, of shape ``(…)``, in the dtype of the logits.

    Raises:
      ValueError: shapes that do not fit; integer labels outside ``[0, classes)``, as far as their
        values are known (not traced); a smoothing outside [0, 1].
      TypeError: labels of shape ``(…)`` that are not integers.

    Source: `optax.losses`, with the labels checked; smoothing of Szegedy et al. (arXiv:1512.00567).

    >>> import jax.numpy as jnp
    >>> softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).round(3).tolist()  # log 4
    [1.3860000371932983, 1.3860000371932983]
    """
    _checks.check_scalar("label_smoothing", label_smoothing, "[0, 1]")
    logits = _float(logits)
    labels = labels if hasattr(labels, "dtype") else jnp.asarray(labels)
    if logits.ndim < 1 or logits.shape[-1] < 2:
        raise ValueError(f"logits need an axis of at least 2 classes, got shape {logits.shape}")
    if jnp.shape(labels) == jnp.shape(logits):
        # "safe": 0 for a class that cannot be, even with a logit of −∞
        loss = optax.losses.safe_softmax_cross_entropy(logits, jnp.asarray(labels, logits.dtype))
    else:
        _checks.check_classes(logits, labels)
        labels = jnp.where(labels < 0, logits.shape[-1], labels)  # traced: NaN, not the last class
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    if isinstance(label_smoothing, (int, float)) and label_smoothing == 0:
        return loss
    alpha = jnp.asarray(label_smoothing, logits.dtype)
    uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
    return jnp.where(alpha == 0, loss, (1 - alpha) * loss + alpha * uniform)


def sigmoid_cross_entropy(logits: Any, labels: Any, *, label_smoothing: Any = 0.0) -> Any:
    """Binary cross-entropy of σ(logits): ``−y log σ(x) − (1 − y) log(1 − σ(x))``, elementwise.

    Args:
      logits: of any shape.
      labels: of the same shape: 0 and 1 (integers, booleans) or probabilities.
      label_smoothing: α in [0, 1]: y becomes ``(1 − α) y + α / 2``.

    Returns:
      One loss per element, in the dtype of the logits.

    Raises:
      ValueError: labels of another shape, a smoothing outside [0, 1].

    Source: `optax.losses.sigmoid_binary_cross_entropy`; Keras' `BinaryCrossentropy`.

    >>> sigmoid_cross_entropy(jnp.zeros(2), jnp.array([0, 1])).round(3).tolist()  # log 2
    [0.6930000185966492, 0.6930000185966492]
    """
    _checks.check_scalar("label_smoothing", label_smoothing, "[0, 1]")
    logits, labels = _pair("labels", logits, labels)
    alpha = jnp.asarray(label_smoothing, logits.dtype)
    return optax.losses.sigmoid_binary_cross_entropy(logits, (1 - alpha) * labels + alpha / 2)


def mse(outputs: Any, targets: Any) -> Any:
    """Squared error: ``(outputs − targets)²``, elementwise; its mean is the mean squared error.

    Args:
      outputs, targets: of the same shape.

    Raises:
      ValueError: targets of another shape (broadcasting ``(n, 1)`` against ``(n,)`` is a mistake).

    Source: `optax.losses.squared_error`; no ½.

    >>> mse(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])).tolist()
    [1.0, 4.0]
    """
    outputs, targets = _pair("targets", outputs, targets)
    return optax.losses.squared_error(outputs, targets)


def mae(outputs: Any, targets: Any) -> Any:
    """Absolute error: ``|outputs − targets|``, elementwise; its mean is the mean absolute error.

    Args:
      outputs, targets: of the same shape.

    Raises:
      ValueError: targets of another shape.

    Source: `torch.nn.L1Loss` without its mean.

    >>> mae(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])).tolist()
    [1.0, 2.0]
    """
    outputs, targets = _pair("targets", outputs, targets)
    return jnp.abs(outputs - targets)


def huber(outputs: Any, targets: Any, *, delta: Any = 1.0) -> Any:
    """``½ e²`` where ``|e| ≤ δ``, ``δ (|e| − ½ δ)`` beyond, with e the error; elementwise.

    Args:
      outputs, targets: of the same shape.
      delta: δ > 0, where the parabola becomes a line.

    Raises:
      ValueError: targets of another shape, δ ≤ 0.

    Source: Huber (1964); `optax.losses.huber_loss`, Keras' `Huber`.

    >>> huber(jnp.array([0.5, 3.0]), jnp.zeros(2)).tolist()
    [0.125, 2.5]
    """
    _checks.check_scalar("delta", delta, "(0, inf)")
    outputs, targets = _pair("targets", outputs, targets)
    return optax.losses.huber_loss(outputs, targets, delta=jnp.asarray(delta, outputs.dtype))


def log_cosh(outputs: Any, targets: Any) -> Any:
    """``log cosh e`` with e the error, elementwise: ½ e² near 0, ``|e| − log 2`` far from it.

    Args:
      outputs, targets: of the same shape.

    Raises:
      ValueError: targets of another shape.

    Source: `optax.losses.log_cosh`; Keras' `LogCosh`.

    >>> log_cosh(jnp.array([0.0, 100.0]), jnp.zeros(2)).round().tolist()
    [0.0, 99.0]
    """
    outputs, targets = _pair("targets", outputs, targets)
    return optax.losses.log_cosh(outputs, targets)


def weighted(
    losses: Mapping[str, Loss] | Sequence[Loss],
    weights: Mapping[str, Any] | Sequence[Any] | None = None,
) -> Loss:
    """The loss of several outputs: ``Σ wᵢ lossᵢ(outputsᵢ, yᵢ)``, one value an example.

    A loss that gives a value for every element, such as `mse`, is averaged over all axes but the first.

    Args:
      losses: by name for dicts of outputs and targets, in order for tuples.
      weights: wᵢ likewise; 1 each by default.

    Returns:
      A loss ``(outputs, y) -> values`` of shape ``(batch,)``.

    Raises:
      TypeError: neither a dict nor a list, a loss that is not a function.
      ValueError: no loss, names or numbers that do not match, a negative weight; when called, outputs or
        targets without one of the names, or a loss of a scalar.

    Source: Keras' ``loss_weights``.

    >>> loss = weighted({"main": mse, "auxiliary": mae}, {"main": 0.9, "auxiliary": 0.1})
    >>> outputs = {"main": jnp.ones((2, 1)), "auxiliary": jnp.ones((2, 3))}
    >>> loss(outputs, jax.tree.map(jnp.zeros_like, outputs)).round(3).tolist()
    [1.0, 1.0]
    """
    for argument, several in (("losses", losses), ("weights", weights)):
        if several is not None and not isinstance(several, (Mapping, list, tuple)):
            raise TypeError(f"{argument} must be a dict by name or a list, got {several!r}")
    if not losses:
        raise ValueError("weighted needs at least one loss")
    names = _names(losses)
    functions: dict[Any, Loss] = {name: losses[name] for name in names}
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"losses[{name!r}] must be a function of (outputs, y), got {function!r}")
    factors: Any = dict.fromkeys(names, 1.0) if weights is None else weights
    weighted_names = _names(factors)
    if sorted(map(str, weighted_names)) != sorted(map(str, names)):
        raise ValueError(f"weights must be one for each of {names}, got {weighted_names}")
    for name in names:
        _checks.check_scalar(f"weights[{name!r}]", factors[name], "[0, inf)")

    def loss(outputs: Any, y: Any) -> Any:
        def weighted_loss(name: Any) -> Any:
            for argument, tree in (("outputs", outputs), ("targets", y)):
                if name not in _names(tree):
                    raise ValueError(
                        f"the {argument} lack {name!r}, for which there is a loss; got {_names(tree)}"
                    )
            values = jnp.asarray(functions[name](outputs[name], y[name]))
            if values.ndim < 1:
                raise ValueError(f"losses[{name!r}] must give a value an example, got a scalar")
            return factors[name] * values.mean(axis=tuple(range(1, values.ndim)))

        return functools.reduce(jnp.add, [weighted_loss(name) for name in names])

    return loss


def _names(several: Any) -> list[Any]:
    """The keys of a dict, the places of a sequence."""
    return list(several) if isinstance(several, Mapping) else list(range(len(several)))


def _pair(name: str, outputs: Any, targets: Any) -> tuple[Any, Any]:
    outputs = jnp.asarray(outputs)
    if jnp.shape(targets) != outputs.shape:
        raise ValueError(
            f"{name} must have the shape of the outputs, {outputs.shape}, got {jnp.shape(targets)}"
        )
    outputs = _float(outputs)
    return outputs, jnp.asarray(targets).astype(outputs.dtype)


def _float(outputs: Any) -> Any:
    outputs = jnp.asarray(outputs)
    floating = jnp.issubdtype(outputs.dtype, jnp.floating)
    return outputs if floating else outputs.astype(jnp.result_type(float))
