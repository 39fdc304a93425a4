"""What many outputs for the same inputs say together, summed as they come."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any

OUTPUTS = ("logits", "probabilities", "values")


class Prediction(NamedTuple):
    """What the samples of a model, or the members of an ensemble, predict together.

    For inputs of N rows and C classes, in at least float32. For a model of several outputs each field is
    a dict or tuple like them. With p_s the probabilities of sample s of S, and the entropy
    ``H(p) = −Σ_c p_c log p_c`` in nats:

    Attributes:
      mean: ``p̄ = Σ_s p_s / S``, ``(N, C)``.
      std: ``√(Σ_s (p_s − p̄)² / S)``, ``(N, C)``: the population's (ddof 0), 0 where all agree.
      entropy: ``H(p̄)``, ``(N,)``: all uncertainty there is. None for plain values.
      mutual_information: ``H(p̄) − Σ_s H(p_s) / S``, ``(N,)``: the part that comes from not knowing the
        parameters (epistemic), which more data would reduce; the rest, ``entropy −
        mutual_information``, is noise in the labels (aleatoric). None for plain values.
      samples: p_s, ``(S, N, C)``, where they were asked for; else None.
    """

    mean: Any
    std: Any
    entropy: Any = None
    mutual_information: Any = None
    samples: Any = None


class _Moments(NamedTuple):
    """Of the samples so far: how many, mean, sum of squared deviations, mean entropy."""

    count: Any
    mean: PyTree
    squares: PyTree
    entropy: PyTree


def gather(
    one: Callable[[Any], Any], each: PyTree, outputs: str, *, together: int = 1, keep: bool = False
) -> Prediction:
    """The prediction of the outputs ``one(e)``, e the slices of `each` along its first axis.

    `together` of them are computed at once by `jax.vmap`; their number must be a multiple of it. Means
    are updated one by one (Welford), so that memory does not grow with their number unless they are
    kept, and equal outputs have a standard deviation of exactly 0.
    """

    def sample(e: Any) -> PyTree:
        return jax.tree.map(lambda y: _predicted(y, outputs), one(e))

    def add(moments: _Moments, p: PyTree) -> tuple[_Moments, None]:
        count = moments.count + 1
        mean = jax.tree.map(lambda m, p: m + (p - m) / count.astype(m.dtype), moments.mean, p)
        squares = jax.tree.map(
            lambda s, p, old, new: s + (p - old) * (p - new), moments.squares, p, moments.mean, mean
        )
        within = None if outputs == "values" else jax.tree.map(entropy, p)
        within = jax.tree.map(lambda m, h: m + (h - m) / count.astype(m.dtype), moments.entropy, within)
        return _Moments(count, mean, squares, within), None

    def step(moments: _Moments, part: PyTree) -> tuple[_Moments, PyTree]:
        if together == 1:
            p = sample(part)
            return add(moments, p)[0], p if keep else None
        p = jax.vmap(sample)(part)
        return jax.lax.scan(add, moments, p)[0], p if keep else None

    p = jax.eval_shape(lambda each: sample(jax.tree.map(lambda a: a[0], each)), each)
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), p)
    within = None if outputs == "values" else jax.tree.map(entropy, zeros)
    if together > 1:
        each = jax.tree.map(lambda a: a.reshape(-1, together, *a.shape[1:]), each)
    moments, kept = jax.lax.scan(step, _Moments(jnp.zeros(()), zeros, zeros, within), each)
    if keep and together > 1:
        kept = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), kept)
    return _prediction(moments, kept)


def _prediction(moments: _Moments, samples: PyTree) -> Prediction:
    std = jax.tree.map(lambda s: jnp.sqrt(s / moments.count.astype(s.dtype)), moments.squares)
    if moments.entropy is None:
        return Prediction(moments.mean, std, samples=samples)
    whole = jax.tree.map(entropy, moments.mean)
    between = jax.tree.map(lambda h, within: jnp.maximum(h - within, 0), whole, moments.entropy)
    return Prediction(moments.mean, std, whole, between, samples)


def entropy(probabilities: Any) -> Any:
    """``−Σ p log p`` over the last axis in nats; a single probability is that of one of two classes."""
    p = jnp.asarray(probabilities)
    h = jax.scipy.special.entr(p)
    if p.shape[-1] == 1:
        h = h + jax.scipy.special.entr(1 - p)
    return jnp.sum(h, axis=-1)


def _predicted(y: Any, outputs: str) -> Any:
    """Outputs as what is averaged, in float32 or more."""
    y = jnp.asarray(y)
    y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    if outputs == "values":
        return y
    if y.ndim < 2:
        raise ValueError(
            f"outputs={outputs!r} must have an axis of classes behind that of rows, got shape "
            f"{y.shape}; for a regression say outputs='values'"
        )
    if outputs == "probabilities":
        return y
    return jax.nn.sigmoid(y) if y.shape[-1] == 1 else jax.nn.softmax(y)
