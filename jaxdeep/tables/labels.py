"""The labels of a target's classes, and how many rows each has."""

import math
from collections.abc import Mapping

import numpy as np

from jaxdeep.preprocessing.keys import key_of
from jaxdeep.tables.cells import Cells
from jaxdeep.tables.conversion import keys_of, plain_number, text_key, truth_of
from jaxdeep.tables.kinds import Seen

Label = str | int | float | bool


def labels_of(
    seen: Seen, blocks: list[Cells], truths: bool = False
) -> tuple[dict[str, Label], dict[str, int]]:
    """The labels of the cells of a target, and the rows of each label, by the key of this.

    Of a file "true" and "True" are one label, and so are 5 and +5.

    Args:
      truths: whether they are truths, of which "1" and 0 are some, too.
    """
    counts = counts_of(blocks)
    truth = {key: bool(truth_of(key)) for key in counts} if truths else None
    by_key: Mapping[str, Label] = _labels(seen, list(counts), blocks) if truth is None else truth
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


def _labels(seen: Seen, keys: list[str], blocks: list[Cells]) -> dict[str, Label]:
    """The label of each key, in the type that the column has; of a file of texts, numbers if all are.

    Among texts of which some are no numbers, the others stay as they are written, unless they are so in
    several ways: "1.0" and "1" are "1".
    """
    kinds = set(seen.examples)
    if kinds == {"boolean"} or (kinds == {"text"} and seen.truths):
        return {key: key.lower() == "true" for key in keys}
    are_numbers = seen.untyped and seen.numbers == seen.present and not seen.zeros
    if kinds == {"number"} or (kinds == {"text"} and are_numbers and all(map(_is_finite, keys))):
        return {key: _number(key) for key in keys}
    if kinds != {"text"} or seen.numbers == seen.present:
        return {key: key for key in keys}
    spelled: dict[str, set[str]] = {}
    for text in {text.strip() for cells in blocks for text in cells.present()}:
        spelled.setdefault(text_key(text), set()).add(text)
    return {key: min(spelled[key]) if len(spelled[key]) == 1 else key for key in keys}


def _is_finite(key: str) -> bool:
    return math.isfinite(float(key))


def _number(key: str) -> int | float:
    key = plain_number(key)
    try:
        return int(key)
    except ValueError:
        return float(key)
