"""Losses of distributions: how far predicted ones are from those of the targets."""

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._limits import times_log
from jaxdeep._pairs import pair
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.losses.inputs import log_softmax, scores_of


def kl_divergence(
    logits: ArrayLike, labels: ArrayLike, *, from_logits: bool = True
) -> Float[Array, "*batch"]:
    """Kullback–Leibler divergence of labels from softmax(logits): ``Σ_c y_c log(y_c / p_c)``.

    It is `softmax_cross_entropy` less the entropy of the labels: 0 where the prediction is the label.

    Args:
      logits: ``(…, classes)``; probabilities with ``from_logits=False``, which are divided by their sum.
      labels: probabilities of the same shape. A class of probability 0 has no part.
      from_logits: as for `softmax_cross_entropy`.

    Returns:
      One loss per example, of shape ``(…)``, computed in at least float32, in the dtype of the logits.

    Raises:
      ValueError: labels of another shape; as far as values are known (not traced), labels that are
        negative or do not sum to one, probabilities outside [0, 1].

    Source: Kullback & Leibler (1951); `optax.losses.kl_divergence`. Keras' `KLDivergence` takes
    probabilities and raises both kinds to at least 1e-7.

    >>> kl_divergence(jnp.zeros((1, 2)), jnp.array([[0.9, 0.1]])).round(3).tolist()
    [0.3680000305175781]
    >>> p = jnp.array([[0.9, 0.1]])
    >>> kl_divergence(p, p, from_logits=False).round(3).tolist()
    [0.0]
    """
    scores, y = scores_of(logits, from_logits, exclusive=True), as_array("labels", labels)
    if scores.ndim < 1 or scores.shape[-1] < 2 or y.shape != scores.shape:
        raise ValueError(
            "labels must be probabilities of the shape of the logits, (…, classes) of classes, "
            f"got labels of {y.shape} for logits of {scores.shape}"
        )
    _checks.check_distributions("labels", y)
    wide = jnp.promote_types(scores.dtype, jnp.float32)
    p = jnp.asarray(y).astype(wide)
    x, log_sum = log_softmax(scores.astype(wide), from_logits)
    parts = times_log(p, p) - p * jnp.where(p == 0, 0, x - log_sum[..., None])
    return jnp.sum(parts, axis=-1).astype(scores.dtype)


def poisson(
    outputs: ArrayLike, targets: ArrayLike, *, log_input: bool = False
) -> Float[Array, "*shape"]:
    """Loss of counts: ``outputs − targets · log(outputs + 1e-7)``, elementwise, of predicted means.

    It is the negative log-likelihood of a Poisson distribution, but for what depends on targets alone.

    Args:
      outputs: predicted means, at least 0, as of a model that ends in `jax.nn.softplus` or `jnp.exp`;
        their logarithms with `log_input`.
      targets: of the same shape, but for a last axis of 1; at least 0.
      log_input: whether the model puts out logarithms x of means. The loss is ``exp(x) − targets · x``
        then, whatever x.

    Returns:
      One loss per element, computed in at least float32, in the dtype of the outputs.

    Raises:
      ValueError: targets of another shape, or that cannot be held; known targets below 0, known outputs
        below 0 without `log_input`.

    Source: Keras' `Poisson`; ``log_input`` of `torch.nn.PoissonNLLLoss`. scikit-learn's
    `mean_poisson_deviance` is ``2 (y log(y / ŷ) − y + ŷ)``, which has the same minimum.

    >>> poisson(jnp.array([2.0, 1.0]), jnp.array([2.0, 0.0])).round(3).tolist()
    [0.6140000224113464, 1.0]
    >>> poisson(jnp.log(jnp.array([2.0, 1.0])), jnp.array([2.0, 0.0]), log_input=True).round(3).tolist()
    [0.6140000224113464, 1.0]
    """
    _checks.check_flag("log_input", log_input)
    if not log_input:
        _checks.check_known("outputs", as_array("outputs", outputs), 0, jnp.inf)
    x, y = pair("targets", outputs, targets)
    _checks.check_known("targets", y, 0, jnp.inf)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    mean, count = x.astype(wide), jnp.asarray(y).astype(wide)
    if log_input:
        return (jnp.exp(mean) - count * mean).astype(x.dtype)
    return (mean - count * jnp.log(mean + 1e-7)).astype(x.dtype)
