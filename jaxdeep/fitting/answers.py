"""What is asked of a model's outputs: as they are, as probabilities, or as classes."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep._endings import Meaning
from jaxdeep._limits import softmax
from jaxdeep._shapes import Array, Integer, PyTree
from jaxdeep.losses.meaning import reads
from jaxdeep.nn.model import Model
from jaxdeep.nn.outputs import APART, OF_MODULE, along, check_probabilities, meaning_of
from jaxdeep.train.outputs import kind_of_targets, no_probabilities, outputs_of
from jaxdeep.train.state import Network, PerExample
from jaxdeep.tree import path_name

ANSWERS = (None, "probability", "class")
NO_CLASS = -1  # of a row whose outputs are NaN

Answer = Callable[[Array], Array]


class Known(NamedTuple):
    """What was said of the outputs of a model, besides what its last layers say.

    Attributes:
      loss: the loss it was trained with; None if that is not known.
      from_logits: whether they are logits, or probabilities; None if that was not said.
    """

    loss: PerExample | None = None
    from_logits: bool | None = None


class _Ending(NamedTuple):
    """What an output is: a word, and whether each number is the probability of a label of its own."""

    word: str
    apart: bool


def check_answer(output: Any) -> None:
    """Refuse what cannot be asked of outputs: all but `ANSWERS`, and dicts and sequences of them."""
    for path, one in jax.tree_util.tree_leaves_with_path(output, is_leaf=lambda node: node is None):
        if not (one is None or isinstance(one, str)) or one not in ANSWERS:
            where = f"output[{path_name(path)}]" if path else "output"
            raise ValueError(f"{where} must be None, 'probability' or 'class', got {one!r}")


def answers_of(
    y: PyTree, output: Any, model: Network, known: Known, program: Sequence[Meaning]
) -> list[Answer]:
    """For each output, the function that makes what is asked for of it.

    Args:
      y: the shapes of the outputs.
      output: one of `ANSWERS` for all of them, or several in their structure.
      model: what puts them out.
      known: what was said of them.
      program: what the program that computes them says of each.

    Raises:
      ValueError: a question to an output of which nobody says what it is, or that has no classes; one
        to an output that there is not.
    """
    leaves = jax.tree_util.tree_leaves_with_path(y)
    _check_asked(output, [path for path, _ in leaves])
    answers: list[Answer] = []
    for (path, leaf), made in zip(leaves, program):
        asked, _ = along(output, path)
        if asked is None:
            answers.append(_as_it_is)
            continue
        where = f"output {path_name(path)!r}" if path else "the output"
        ending = _ending_of(model, known, path, leaf.shape, made, where)
        if asked == "probability" and ending.word == "margins":
            raise ValueError(no_probabilities(where))
        make = _class if asked == "class" else _probability
        answers.append(functools.partial(make, ending))
    return answers


def _check_asked(output: Any, paths: Sequence[jax.tree_util.KeyPath]) -> None:
    """Refuse questions to outputs that there are not."""
    used = {path_name(path[: along(output, path)[1]]) for path in paths}
    for path, _ in jax.tree_util.tree_leaves_with_path(output, is_leaf=lambda node: node is None):
        if path_name(path) not in used:
            raise ValueError(
                f"output[{path_name(path)!r}] is of an output that the model has not; its outputs are "
                f"{[path_name(path) for path in paths]}"
            )


def _ending_of(
    model: Network,
    known: Known,
    path: jax.tree_util.KeyPath,
    shape: tuple[int, ...],
    made: Meaning,
    where: str,
) -> _Ending:
    """What an output is, by the model's last layers, by its program, and by what was said of it."""
    single = len(shape) < 2 or shape[-1] == 1
    word, softmax = OF_MODULE, False
    if isinstance(model, Model):
        word, softmax = (along(words, path)[0] for words in (meaning_of(model), model.exclusive))
        word = next((joint for joint, apart in APART.items() if word == apart), word)
    if word in (None, "scores", OF_MODULE) and made.word in ("probabilities", "log_probabilities"):
        word, softmax = made.word, made.softmax
    targets = None if known.loss is None else along(kind_of_targets(known.loss), path)[0]
    if word in ("probabilities", "log_probabilities"):
        if known.from_logits and word != "log_probabilities":
            raise ValueError(
                f"{where} comes out of a softmax or a sigmoid, so that it holds probabilities: leave "
                "from_logits out, got from_logits=True"
            )
        return _Ending(word, single or not softmax)
    if (said := known.from_logits) is None and known.loss is not None:
        read = along(reads(known.loss), path)[0]
        said = None if read is None else read == "logits"
    if said is None and targets == "values":
        raise ValueError(
            f"{where} holds values, as the loss says, which have neither classes nor probabilities: use "
            "output=None"
        )
    if said is None and known.loss is not None and along(outputs_of(known.loss), path)[0] == "margins":
        return _Ending("margins", single or targets == "labels")
    if said is False:
        check_probabilities(word, "from_logits=False")
    if said is None and word not in ("scores", OF_MODULE):
        raise ValueError(
            f"the last layer of the model does not say what {where} holds, since it is "
            f"{'a function of your own' if word is None else 'an activation'} and neither softmax nor "
            "sigmoid: say from_logits=True or from_logits=False, or use output=None"
        )
    if said is None and path:
        raise ValueError(
            f"{where} is one of several and may hold logits or values, and the model does not say which"
            f": give the loss=, or ask each for its own, output={{{path_name(path)!r}: None, …}}"
        )
    return _Ending("probabilities" if said is False else "logits", single or targets == "labels")


def _as_it_is(output: Array) -> Array:
    return output


def _probability(ending: _Ending, output: Array) -> Array:
    """The probabilities; what the model puts out as such stays as it is."""
    if ending.word == "probabilities":
        return output
    wide = _wide(output)
    if ending.word == "log_probabilities":
        return jnp.exp(wide)
    return jax.nn.sigmoid(wide) if ending.apart else softmax(wide)


def _class(ending: _Ending, output: Array) -> Integer[Array, "..."]:
    """The class of each row, or 0 and 1 of each label; `NO_CLASS` where it is NaN."""
    wide = _wide(output)
    if not ending.apart:
        classes = jnp.argmax(wide, axis=-1).astype(jnp.int32)
        return jnp.where(jnp.isnan(wide).any(axis=-1), NO_CLASS, classes)
    classes = jnp.where(jnp.isnan(wide), NO_CLASS, _probability(ending, wide) > 0.5)
    return classes[..., 0] if classes.ndim > 1 and classes.shape[-1] == 1 else classes


def _wide(output: Array) -> Array:
    """In at least float32."""
    return output.astype(jnp.promote_types(output.dtype, jnp.float32))


def has_classes(output: Any) -> bool:
    """Whether classes are asked of any output."""
    return "class" in jax.tree.leaves(output)


def check_classes(predicted: PyTree, output: Any, first: int) -> None:
    """Refuse rows without a class, since the model put out NaN for them.

    `predicted` are the rows from number `first` on.
    """
    for path, classes in jax.tree_util.tree_leaves_with_path(predicted):
        if along(output, path)[0] != "class" or not (classes == NO_CLASS).any():
            continue
        row = first + int((classes == NO_CLASS).reshape(len(classes), -1).any(axis=1).argmax())
        of = f"output {path_name(path)!r}" if path else "the output"
        raise ValueError(
            f"{of} is NaN in row {row} of x, which therefore has no class: look at its inputs and at "
            "the parameters; output='probability' shows all rows"
        )
