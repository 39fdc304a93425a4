"""Outputs and targets as the losses take them, checked to fit each other."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks, _ignored
from jaxdeep._arrays import as_array, floating, from_top
from jaxdeep._limits import from_largest
from jaxdeep._pairs import errors_of, pair
from jaxdeep._precision import HostOrDevice
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, Shaped


class Classified(NamedTuple):
    """Scores of classes that exclude each other, and labels.

    Attributes:
      scores: ``(…, classes)``; 0 for labels that are left out, of which there is no gradient then.
      labels: probabilities ``(…, classes)`` or classes as integers ``(…)``, of which a traced one
        below 0 has become ``classes``.
      counted: which labels are not left out; None if none is.
    """

    scores: Float[Array, "*batch classes"]
    labels: Shaped[Array, "..."]
    counted: Bool[Array, "*batch"] | None

    @property
    def soft(self) -> bool:
        """Whether labels are probabilities."""
        return self.labels.ndim == self.scores.ndim

    def of_label(self, values: Float[Array, "*batch classes"]) -> Float[Array, "*batch"]:
        """The values of the classes that are the labels; NaN for a label that is no class."""
        classes = values.shape[-1]
        place = jax.lax.broadcasted_iota(self.labels.dtype, values.shape, values.ndim - 1)
        # by comparison: the slope of an index is a scatter, which no compiler joins to what is around it
        picked = jnp.where(self.labels[..., None] == place, values, 0).sum(axis=-1)
        return jnp.where((self.labels >= 0) & (self.labels < classes), picked, jnp.nan)

    def of_counted(self, losses: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """The losses, 0 for labels that are left out."""
        return losses if self.counted is None else jnp.where(self.counted, losses, 0)


def classified(
    scores: jax.Array,
    labels: ArrayLike,
    ignore_class: int | None,
    name: str = "logits",
    single: str = "sigmoid_cross_entropy",
) -> Classified:
    """Scores and labels that fit them, which are refused otherwise."""
    ignore_class = _ignored.check(ignore_class)
    y = as_array("labels", labels)
    if scores.ndim < 1 or scores.shape[-1] < 2:
        raise ValueError(
            f"{name} need an axis of at least 2 classes, got shape {scores.shape}; for one output there "
            f"is {single}"
        )
    counted = None
    if ignore_class is not None:
        if y.shape == scores.shape:
            raise ValueError(
                f"ignore_class is for labels that are integers, got probabilities of shape {y.shape}; "
                "leave rows out by weights of 0"
            )
        y, kept = _ignored.without(y, ignore_class)
        if kept.size == np.prod(scores.shape[:-1]):  # else their shape is refused
            counted = jnp.asarray(kept).reshape(scores.shape[:-1])
            scores = jnp.where(counted[..., None], scores, 0)
    if y.shape == scores.shape:
        _checks.check_distributions("labels", y)
        return Classified(scores, jnp.asarray(y, scores.dtype), counted)
    classes = _checks.classes_of(scores, y)
    classes = jnp.where(classes < 0, scores.shape[-1], classes)  # traced: NaN, not the last class
    return Classified(scores, classes, counted)


def bits(
    scores: ArrayLike, labels: ArrayLike, ignore_class: int | None, low: int = 0
) -> tuple[jax.Array, HostOrDevice, jax.Array | None]:
    """Scores, labels of the same shape from `low` to 1, and which of them are not left out, if some are.

    Of those that are, the score is 0, so that there is no gradient.
    """
    ignore_class = _ignored.check(ignore_class)
    scores, y = pair("labels", scores, labels)
    counted = None
    if ignore_class is not None:
        y, kept = _ignored.without(y, ignore_class)
        counted = jnp.asarray(kept)
        scores = jnp.where(counted, scores, 0)
    _checks.check_known("labels", y, low, 1)
    return scores, y, counted


def scores_of(outputs: ArrayLike, from_logits: bool, *, exclusive: bool = False) -> jax.Array:
    """Logits or probabilities, as the model gives them, or `exclusive` logits but for a common shift."""
    _checks.check_flag("from_logits", from_logits)
    if from_logits and exclusive:
        outputs = from_top("logits", outputs)
    if not from_logits:
        outputs = as_array("logits", outputs)
        _checks.check_known("logits (which are probabilities with from_logits=False)", outputs, 0, 1)
    return floating("logits", outputs)


def log_softmax(
    scores: Float[Array, "*batch classes"], from_logits: bool
) -> tuple[Float[Array, "*batch classes"], Float[Array, "*batch"]]:
    """The pair x, s with which the logarithms of the classes' probabilities are ``x − s[..., None]``.

    Apart, as a loss of one class takes s from that one only. Probabilities are divided by their sum.
    """
    x = scores if from_logits else jnp.log(jnp.maximum(scores, jnp.finfo(scores.dtype).tiny))
    x = from_largest(x)
    return x, jnp.log(jnp.sum(jnp.exp(x), axis=-1))


def log_both(scores: jax.Array, from_logits: bool) -> tuple[jax.Array, jax.Array]:
    """The logarithms of the probabilities of 1 and of 0."""
    if from_logits:
        return jax.nn.log_sigmoid(scores), jax.nn.log_sigmoid(-scores)
    tiny = jnp.finfo(scores.dtype).tiny
    small = jnp.minimum(scores, 0.5)  # 1 − x would lose its digits
    yes = jnp.log(jnp.maximum(scores, tiny))
    no = jnp.where(scores < 0.5, jnp.log1p(-small), jnp.log(jnp.maximum(1 - scores, tiny)))
    return yes, no


def elementwise(
    equation: Callable[[jax.Array], jax.Array], outputs: ArrayLike, targets: ArrayLike
) -> jax.Array:
    """Of errors in at least float32, which keeps the targets; in the dtype of the outputs."""
    uncut, outputs, targets = _fitting(outputs, targets)
    return equation(errors_of(uncut, outputs, targets)).astype(outputs.dtype)


def relative(
    equation: Callable[[jax.Array, jax.Array], jax.Array], outputs: ArrayLike, targets: ArrayLike
) -> jax.Array:
    """The same of errors and targets."""
    uncut, outputs, targets = _fitting(outputs, targets)
    errors = errors_of(uncut, outputs, targets)
    return equation(errors, jnp.asarray(targets).astype(errors.dtype)).astype(outputs.dtype)


def _fitting(outputs: ArrayLike, targets: ArrayLike) -> tuple[HostOrDevice, jax.Array, HostOrDevice]:
    """The outputs as given and of JAX, and targets that their dtype can hold."""
    uncut = as_array("outputs", outputs)
    outputs, targets = pair("targets", uncut, targets)
    most = float(jnp.finfo(outputs.dtype).max)
    if isinstance(targets, np.ndarray) and outputs.dtype.itemsize < 4 and targets.size:
        beyond = targets[np.isfinite(targets) & (np.abs(targets.astype(np.float64)) > most)]
        if beyond.size:
            raise ValueError(
                f"targets holds {beyond[0]}, which {outputs.dtype} of the outputs cannot hold (at most "
                f"{most:.2g})"
            )
    return uncut, outputs, targets
