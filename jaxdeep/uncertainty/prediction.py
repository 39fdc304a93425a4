"""`Prediction`, and its computation from many outputs for the same inputs, one after another."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep._shapes import Array, ArrayLike, Float, Num, PyTree

OUTPUTS = ("logits", "probabilities", "values")


class Prediction(NamedTuple):
    """The prediction of all samples of a model, or of all members of an ensemble, together.

    For inputs of N rows and C classes each field is an array in at least float32. If the model has
    several outputs, each field is a dict or tuple of such arrays, in the structure of the outputs. Let
    p_s be the probabilities of sample s of S, and ``H(p) = −Σ_c p_c log p_c`` the entropy in nats.

    Attributes:
      mean: ``p̄ = Σ_s p_s / S``, ``(N, C)``.
      std: ``√(Σ_s (p_s − p̄)² / S)``, ``(N, C)``, the population's (ddof 0), which is 0 where all agree.
      entropy: ``H(p̄)``, ``(N,)``, the total uncertainty. None for plain values.
      mutual_information: ``H(p̄) − Σ_s H(p_s) / S``, ``(N,)``. This is the part of the uncertainty that
        comes from not knowing the parameters (epistemic) and that more data would reduce. The rest,
        ``entropy − mutual_information``, is noise in the labels (aleatoric). None for plain values.
      samples: p_s, ``(S, N, C)``, if they were asked for; else None.
    """

    mean: PyTree
    std: PyTree
    entropy: PyTree = None
    mutual_information: PyTree = None
    samples: PyTree = None


class _Moments(NamedTuple):
    """The number of samples so far, their mean, sum of squared deviations and mean entropy."""

    count: Float[Array, ""]  # type: ignore[assignment]  # a method of tuples
    mean: PyTree
    squares: PyTree
    entropy: PyTree


def gather(
    output_of: Callable[[PyTree], PyTree],
    sources: PyTree,
    outputs: str | None,
    *,
    together: int = 1,
    keep: bool = False,
) -> Prediction:
    """The prediction of all outputs ``output_of(source)``, for the slices of `sources` by first axis.

    `jax.vmap` computes `together` outputs at once, which must divide their number. Means are updated
    output by output (Welford), so that memory does not grow with their number unless `keep` is set, and
    equal outputs have a standard deviation of exactly 0.
    """

    def sample(source: PyTree) -> PyTree:
        return jax.tree.map(lambda y: _predicted(y, outputs), output_of(source))

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

    p = jax.eval_shape(lambda sources: sample(jax.tree.map(lambda a: a[0], sources)), sources)
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), p)
    within = None if outputs == "values" else jax.tree.map(entropy, zeros)
    if together > 1:
        sources = jax.tree.map(lambda a: a.reshape(-1, together, *a.shape[1:]), sources)
    moments, kept = jax.lax.scan(step, _Moments(jnp.zeros(()), zeros, zeros, within), sources)
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


def entropy(probabilities: Float[ArrayLike, "*batch classes"]) -> Float[Array, "*batch"]:
    """``−Σ p log p`` over the last axis in nats; an axis of length 1 is that of class 1 of two."""
    p = jnp.asarray(probabilities)
    h = jax.scipy.special.entr(p)
    if p.shape[-1] == 1:
        h = h + jax.scipy.special.entr(1 - p)
    return jnp.sum(h, axis=-1)


def _predicted(y: Num[ArrayLike, "*shape"], outputs: str | None) -> Float[Array, "*shape"]:
    """The probabilities or values that are averaged, in float32 or more."""
    y = jnp.asarray(y)
    y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    if outputs == "values":
        return y
    if outputs is None and (y.ndim < 2 or y.shape[-1] == 1):
        raise ValueError(
            "a single output may be a value or the logit of one of two classes: say outputs='values' or "
            "outputs='logits'"
        )
    if y.ndim < 2:
        raise ValueError(
            f"outputs={outputs!r} must have an axis of classes behind that of rows, got shape "
            f"{y.shape}; for a regression say outputs='values'"
        )
    if outputs == "probabilities":
        return y
    return jax.nn.sigmoid(y) if y.shape[-1] == 1 else jax.nn.softmax(y)
