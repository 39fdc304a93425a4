"""The accuracy of the remaining predictions when the most uncertain ones are rejected."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import as_array
from jaxdeep._compilation import is_traced, meant_nans
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, Integer, Num
from jaxdeep.metrics.inputs import in_order
from jaxdeep.uncertainty.calibration import Labels, Probabilities, classified, unjudged
from jaxdeep.uncertainty.prediction import entropy


class Rejection(NamedTuple):
    """Accuracy against the share of predictions that are rejected.

    Attributes:
      rejected: the share that is rejected: 0, 1/N, …, (N − 1)/N.
      accuracy: the accuracy of the remaining predictions; its mean is the area under the curve. NaN as
        long as one of them has a NaN or a (traced) label that is no class.
    """

    rejected: Float[Array, "rows"]
    accuracy: Float[Array, "rows"]


@meant_nans()
def rejection_curve(
    probabilities: Probabilities,
    labels: Labels,
    uncertainty: Num[ArrayLike, "..."] | None = None,
    *,
    from_logits: bool = False,
) -> Rejection:
    """The accuracy of predictions if the most uncertain ones are rejected, for every number of them.

    If the uncertainty tells which predictions are wrong, the curve rises to 1; if it tells nothing, the
    curve stays level. Predictions that are equally uncertain are rejected in a random order, for which
    the accuracy is the expected one.

    Args:
      probabilities: ``(N, classes)``, as in ``Prediction.mean``, or of class 1 of two.
      labels: classes as integers, or one-hot.
      uncertainty: ``(N,)``, such as ``Prediction.entropy`` or ``mutual_information``, of which only the
        order counts; the entropy of the probabilities by default. It is NaN where they are, and a
        (traced) one that is NaN is judged as they are.
      from_logits: whether `probabilities` are logits, of which softmax is taken, or σ of a single one.

    Raises:
      ValueError: shapes that do not fit, known probabilities outside [0, 1] or that do not sum to one,
        labels that are no class, a known uncertainty that is NaN of probabilities that are not.

    Source: Nadeem et al., "Accuracy-Rejection Curves" (MLSB 2009).

    >>> p = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    >>> curve = rejection_curve(p, jnp.array([0, 0, 0, 1]))
    >>> curve.rejected.tolist(), curve.accuracy.tolist()
    ([0.0, 0.25, 0.5, 0.75], [0.75, 1.0, 1.0, 1.0])
    """
    p, y = classified(probabilities, labels, from_logits)
    unshaped = entropy(p) if uncertainty is None else as_array("uncertainty", uncertainty)
    if unshaped.size != len(y):
        raise ValueError(
            f"uncertainty must be one number for each of {len(y)} predictions, got shape "
            f"{unshaped.shape}"
        )
    uncertain = in_order("uncertainty", unshaped.reshape(-1))
    if not is_traced((p, uncertain)) and uncertainty is not None:
        wrong = np.isnan(np.asarray(uncertain)) & ~np.isnan(np.asarray(p)).any(axis=-1)
        if wrong.any():
            raise ValueError(f"uncertainty must be numbers, got nan in row {int(np.argmax(wrong))}")
    return _curve(p, y, uncertain)


@jax.jit
def _curve(
    p: Float[Array, "rows classes"], labels: Integer[Array, "rows"], uncertain: Num[Array, "rows"]
) -> Rejection:
    n = len(labels)
    order = jnp.argsort(uncertain)
    right = (jnp.argmax(p, axis=-1) == labels)[order]
    unknown = (unjudged(p, labels) | jnp.isnan(uncertain))[order]
    new = jnp.diff(uncertain[order], prepend=uncertain[order][:1]) != 0
    group = jnp.cumsum(new)  # the same number for equal uncertainty

    def number(where: Bool[Array, "rows"]) -> Float[Array, "rows"]:
        return jax.ops.segment_sum(where.astype(jnp.int32), group, n).astype(p.dtype)

    known = jnp.where(number(unknown) > 0, jnp.nan, number(right))
    expected = (known / jnp.maximum(number(jnp.ones_like(right)), 1))[group]
    accuracy = jnp.cumsum(expected) / jnp.arange(1, n + 1, dtype=p.dtype)
    return Rejection(jnp.arange(n, dtype=p.dtype) / n, accuracy[::-1])
