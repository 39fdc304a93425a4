"""What a model puts out, for those who predict with it: probabilities, labels, scores or values."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxdeep.nn import walk
from jaxdeep.nn.layer import KINDS
from jaxdeep.nn.model import Model

# What a word is called where a number is of a label of its own.
APART = {"probabilities": "labels", "log_probabilities": "log_labels"}
OF_MODULE = "module"  # what a module of another library puts out: nobody knows


def meaning_of(model: Model) -> Any:
    """`Model.meaning`, where "labels" are probabilities of labels that do not exclude each other.

    These are what a sigmoid puts out, those of a softmax exclude each other. "log_labels" are their
    logarithms. `OF_MODULE` is said of a module of another library, which is taken for "scores" where
    nothing else is said of it.

    >>> import jaxdeep as jd
    >>> meaning_of(jd.nn.dense(3, activation=jax.nn.sigmoid))
    'labels'
    >>> meaning_of(jd.nn.dense(3, activation=jax.nn.softmax))
    'probabilities'
    """

    def named(known: Any, excludes: Any) -> Any:
        if isinstance(known, dict):
            return {name: named(known[name], excludes[name]) for name in known}
        return known if excludes else APART.get(known, known)

    if model.meaning is None and any(place.layer.kind not in KINDS for place in walk.leaves(model)):
        return OF_MODULE
    return named(model.meaning, model.exclusive)


def check_probabilities(word: Any, said: str) -> None:
    """Refuse numbers that are no probabilities, as the layers say, where it is said that they are.

    Args:
      word: as of `meaning_of`.
      said: the argument that says it.
    """
    if word in ("scores", "values"):
        end = "a layer without an activation" if word == "scores" else "an activation that gives none"
        raise ValueError(
            f"the model ends in {end}, so that it puts out no probabilities, got {said}: say that they "
            "are logits, if they are, or end the model in a softmax or a sigmoid"
        )


def along(words: Any, path: jax.tree_util.KeyPath) -> tuple[Any, int]:
    """What words in the structure of outputs, or of a part of it, say of one, and how deep."""
    for depth, key in enumerate(path):
        if isinstance(words, Mapping):
            name = getattr(key, "key", getattr(key, "name", None))
            place: Any = getattr(key, "idx", None)
            words = words.get(name) if place is None else (*words.values(), *(None,) * place)[place]
        elif isinstance(words, (list, tuple)):
            place = getattr(key, "idx", len(words))
            words = words[place] if place < len(words) else None
        else:
            return words, depth
    return words, len(path)
