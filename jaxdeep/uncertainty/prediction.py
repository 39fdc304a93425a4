"""`Prediction`, and its computation from many outputs for the same inputs, one after another."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep._endings import Meaning, of_program
from jaxdeep._limits import softmax
from jaxdeep._shapes import Array, ArrayLike, Float, Num, PyTree
from jaxdeep.nn.outputs import APART, OF_MODULE, along, check_probabilities
from jaxdeep.train.outputs import no_probabilities
from jaxdeep.tree import path_name

OUTPUTS = ("logits", "label_logits", "probabilities", "values")


class Prediction(NamedTuple):
    """The prediction of all samples of a model, or of all members of an ensemble, together.

    For inputs of N rows and C classes each field is an array in at least float32. If the model has
    several outputs, each field is a dict or tuple of such arrays, in the structure of the outputs, with
    None for the entropy and the mutual information of plain values. Let
    p_s be the probabilities of sample s of S, and ``H(p) = −Σ_c p_c log p_c`` the entropy in nats.

    Attributes:
      mean: ``p̄ = Σ_s p_s / S``, ``(N, C)``.
      std: ``√(Σ_s (p_s − p̄)² / S)``, ``(N, C)``, the population's (ddof 0), which is 0 where all agree.
      entropy: ``H(p̄)``, ``(N,)``, the total uncertainty. None for plain values. Behind a sigmoid the C
        probabilities are of labels that do not exclude each other, and it is the sum of their entropies,
        ``H(p) = −Σ_c p_c log p_c + (1 − p_c) log(1 − p_c)``, here and below.
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
    outputs: Any,
    meaning: Any,
    *,
    together: int = 1,
    keep: bool = False,
) -> Prediction:
    """The prediction of all outputs ``output_of(source)``, for the slices of `sources` by first axis.

    `jax.vmap` computes `together` outputs at once, which must divide their number. Means are updated
    output by output (Welford), so that memory does not grow with their number unless `keep` is set, and
    equal outputs have a standard deviation of exactly 0. `outputs` is what was said that they are, and
    `meaning` what the model says itself (`meaning_of`).
    """
    first = jax.eval_shape(lambda sources: jax.tree.map(lambda a: a[0], sources), sources)
    program, y = jax.make_jaxpr(output_of, return_shape=True)(first)
    kinds = kinds_of(y, outputs, meaning, of_program(program))
    is_plain = all(kind == "values" for kind in jax.tree.leaves(kinds))

    def sample(source: PyTree) -> PyTree:
        return jax.tree.map(_predicted, output_of(source), kinds)

    def entropies(p: PyTree) -> PyTree:
        if is_plain:
            return None
        return jax.tree.map(lambda p, kind: None if kind == "values" else entropy(p, kind), p, kinds)

    def add(moments: _Moments, p: PyTree) -> tuple[_Moments, None]:
        count = moments.count + 1
        mean = jax.tree.map(lambda m, p: m + (p - m) / count.astype(m.dtype), moments.mean, p)
        squares = jax.tree.map(
            lambda s, p, old, new: s + (p - old) * (p - new), moments.squares, p, moments.mean, mean
        )
        within = jax.tree.map(
            lambda m, h: m + (h - m) / count.astype(m.dtype), moments.entropy, entropies(p)
        )
        return _Moments(count, mean, squares, within), None

    def step(moments: _Moments, part: PyTree) -> tuple[_Moments, PyTree]:
        if together == 1:
            p = sample(part)
            return add(moments, p)[0], p if keep else None
        p = jax.vmap(sample)(part)
        return jax.lax.scan(add, moments, p)[0], p if keep else None

    p = jax.eval_shape(lambda sources: sample(jax.tree.map(lambda a: a[0], sources)), sources)
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), p)
    within = entropies(zeros)
    if together > 1:
        sources = jax.tree.map(lambda a: a.reshape(-1, together, *a.shape[1:]), sources)
    moments, kept = jax.lax.scan(step, _Moments(jnp.zeros(()), zeros, zeros, within), sources)
    if keep and together > 1:
        kept = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), kept)

    std = jax.tree.map(lambda s: jnp.sqrt(s / moments.count.astype(s.dtype)), moments.squares)
    whole = entropies(moments.mean)
    between = jax.tree.map(lambda h, within: jnp.maximum(h - within, 0), whole, moments.entropy)
    return Prediction(moments.mean, std, whole, between, kept)


def check_outputs(outputs: Any) -> None:
    """Refuse what says nothing of outputs: anything but `OUTPUTS`, and dicts and sequences of them."""
    for path, kind in _said(outputs):
        if kind is not None and kind not in OUTPUTS:
            where = f"outputs[{path_name(path)}]" if path else "outputs"
            raise ValueError(f"{where} must be one of {', '.join(map(repr, OUTPUTS))}, got {kind!r}")


def _said(outputs: Any) -> list[tuple[jax.tree_util.KeyPath, Any]]:
    return jax.tree_util.tree_leaves_with_path(outputs, is_leaf=lambda node: node is None)


def kinds_of(y: PyTree, outputs: Any, meaning: Any, computed: Sequence[Meaning] = ()) -> PyTree:
    """What each output is, as was said and as the model says: of `OUTPUTS`, or as of `meaning_of`.

    Args:
      y: the shapes of the outputs.
      outputs: one word for all of them, or words in their structure; None where nothing is said.
      meaning: as of `meaning_of`.
      computed: of each output, what the program says that makes it, for those of which the model says
        nothing.

    Raises:
      ValueError: an output of which neither says what it is, or where they contradict each other; words
        for an output that there is not.
    """
    leaves = jax.tree_util.tree_leaves_with_path(y)
    programs = iter(computed or [Meaning()] * len(leaves))
    several, used = not hasattr(y, "shape"), set()

    def kind_of(path: jax.tree_util.KeyPath, shape: tuple[int, ...]) -> str:
        said, depth = along(outputs, path)
        used.add(path_name(path[:depth]))
        known, made = along(meaning, path)[0], next(programs)
        if known in (None, "scores", OF_MODULE) and made.word in APART:
            known = made.word if made.softmax else APART[made.word]
        where = f"outputs[{path_name(path)!r}]" if path else "outputs"
        if isinstance(said, (Mapping, list, tuple)):
            raise ValueError(f"{where} must be one of {', '.join(map(repr, OUTPUTS))}, got {said!r}")
        if said == "margins":  # as a loss says, and as the program may say otherwise
            if known in (None, "scores", "values", OF_MODULE):
                place = f"output {path_name(path)!r}" if path else "the output"
                raise ValueError(f"{no_probabilities(place)}, or outputs='values'")
            said = None
        if said == "probabilities":
            check_probabilities(known, f"{where}='probabilities' (or from_logits=False)")
        if known in ("probabilities", "labels"):
            if said in ("logits", "label_logits"):
                raise ValueError(
                    "the model ends in a softmax or a sigmoid, so that it puts out probabilities: leave "
                    f"outputs out, got {where}={said!r}"
                )
            said = "values" if said == "values" else known
        if known in ("log_probabilities", "log_labels"):
            # those of a softmax are logits, too
            labels = known == "log_labels"
            if said in ("probabilities", "label_logits") or (said == "logits" and labels):
                raise ValueError(
                    "the model ends in the logarithm of a softmax or a sigmoid, so that it puts out "
                    f"logarithms of probabilities: leave outputs out, got {where}={said!r}"
                )
            said = "values" if said == "values" else known
        if said is None and (len(shape) < 2 or shape[-1] == 1):
            raise ValueError(
                "a single output may be a value or the logit of one of two classes: say "
                "outputs='values' or outputs='logits'" + (f" (as {where})" if several else "")
            )
        if said is None and known in (None, "values"):
            raise ValueError(
                "the last layer of the model does not say what it puts out"
                + (", as it ends in an activation that is neither softmax nor sigmoid" if known else "")
                + f": say {where}='logits', 'probabilities' or 'values'"
            )
        if said is None and several:
            raise ValueError(
                f"an output of several may hold values or logits, and the model does not say which: say "
                f"{where}='logits', 'probabilities' or 'values', or outputs= of all of them"
            )
        if said != "values" and len(shape) < 2:
            raise ValueError(
                f"{where}={said!r} must have an axis of classes behind that of rows, got shape "
                f"{shape}; for a regression say outputs='values'"
            )
        return said or "logits"

    kinds = [kind_of(path, leaf.shape) for path, leaf in leaves]
    for path, _ in _said(outputs):
        if path_name(path) not in used:
            raise ValueError(
                f"outputs[{path_name(path)!r}] is of an output that the model has not; its outputs are "
                f"{[path_name(path) for path, _ in leaves]}"
            )
    return jax.tree.unflatten(jax.tree.structure(y), kinds)


def entropy(
    probabilities: Float[ArrayLike, "*batch classes"], kind: str = "probabilities"
) -> Float[Array, "*batch"]:
    """``−Σ p log p`` over the last axis in nats; an axis of length 1 is that of class 1 of two.

    Of labels that do not exclude each other it is the sum of the entropies of each.
    """
    p = jnp.asarray(probabilities)
    h = jax.scipy.special.entr(p)
    if p.shape[-1] == 1 or kind in (*APART.values(), "label_logits"):
        h = h + jax.scipy.special.entr(1 - p)
    return jnp.sum(h, axis=-1)


def _predicted(y: Num[ArrayLike, "*shape"], kind: str) -> Float[Array, "*shape"]:
    """The probabilities or values that are averaged, in float32 or more."""
    y = jnp.asarray(y)
    y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    if kind in ("log_probabilities", "log_labels"):
        return jnp.exp(y)
    if kind not in ("logits", "label_logits"):
        return y
    return jax.nn.sigmoid(y) if y.shape[-1] == 1 or kind == "label_logits" else softmax(y)
