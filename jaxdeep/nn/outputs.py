"""What a model puts out, for those who predict with it: probabilities, labels, scores or values."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxdeep.nn import walk
from jaxdeep.nn.layer import KINDS
from jaxdeep.nn.model import Model

# What a word is called where a number is of a label of its own.
APART = {"probabilities": "labels", "log_probabilities": "log_labels"}


def meaning_of(model: Model) -> Any:
    """`Model.meaning`, where "labels" are probabilities of labels that do not exclude each other.

    These are what a sigmoid puts out, those of a softmax exclude each other. "log_labels" are their
    logarithms.

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
        return "scores"  # of a module of another library, as of a linear layer
    return named(model.meaning, model.exclusive)


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
