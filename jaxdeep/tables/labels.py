"""The labels of a target's classes, and how many rows each has."""

from collections.abc import Mapping

import numpy as np

from jaxdeep.preprocessing.keys import key_of
from jaxdeep.tables.cells import Cells
from jaxdeep.tables.conversion import keys_of, plain_number, truth_of
from jaxdeep.tables.kinds import Seen

Label = str | int | float | bool


def labels_of(
    seen: Seen, counts: dict[str, int], truths: bool = False
) -> tuple[dict[str, Label], dict[str, int]]:
    """The labels of keys, and the rows of each label, by the key of this.

    Of a file "true" and "True" are one label, and so are 5 and +5.

    Args:
      truths: whether they are truths, of which "1" and 0 are some, too.
    """
    truth = {key: bool(truth_of(key)) for key in counts} if truths else None
    by_key: Mapping[str, Label] = _labels(seen, list(counts)) if truth is None else truth
    labels: dict[str, Label] = {}
    sums: dict[str, int] = {}
    for key, label in by_key.items():
        label_key = str(key_of(label))
        labels[label_key], sums[label_key] = label, sums.get(label_key, 0) + counts[key]
    return labels, sums


def counts_of(blocks: list[Cells]) -> dict[str, int]:
    """How often each key is there."""
    counts: dict[str, int] = {}
    for cells in blocks:
        keys, indices = keys_of(cells)
        for key, count in zip(keys, np.bincount(indices, minlength=len(keys)).tolist()):
            counts[key] = counts.get(key, 0) + count
    return counts


def _labels(seen: Seen, keys: list[str]) -> dict[str, Label]:
    """The label of each key, in the type that the column has; of a file of texts, numbers if all are."""
    kinds = set(seen.examples)
    if kinds == {"boolean"} or (kinds == {"text"} and seen.truths):
        return {key: key.lower() == "true" for key in keys}
    are_numbers = seen.untyped and seen.numbers == seen.present and not seen.zeros
    if kinds == {"number"} or (kinds == {"text"} and are_numbers):
        return {key: _number(key) for key in keys}
    return {key: key for key in keys}


def _number(key: str) -> int | float:
    key = plain_number(key)
    try:
        return int(key)
    except ValueError:
        return float(key)
