"""The levels of categorical features: their categories, and which of them are grouped as infrequent."""

import dataclasses
import numbers
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np

from jaxdeep import _checks
from jaxdeep.preprocessing.keys import MISSING, key_of, plain
from jaxdeep.preprocessing.vocabulary import (
    Features,
    Vocabulary,
    codes_in,
    column_name,
    features_of,
    places_in,
    values_at,
    vocabulary_of,
)

INFREQUENT = "infrequent"  # what the group of infrequent categories is called


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Levels:
    """Categories and groups of each feature, found when fitting; static under `jax.jit`.

    Attributes:
      vocabulary: the categories.
      infrequent: of each feature the places of those that are one group.
      single: whether `x` had one axis.
    """

    vocabulary: Vocabulary
    infrequent: tuple[tuple[int, ...], ...]
    single: bool

    @property
    def slots(self) -> list[list[tuple[int, ...]]]:
        """Of each feature, the categories of each of its levels: frequent ones, then the group."""
        by_feature = []
        for values, group in zip(self.vocabulary.categories, self.infrequent):
            grouped = set(group)
            slots: list[tuple[int, ...]] = [(p,) for p in range(len(values)) if p not in grouped]
            by_feature.append([*slots, group] if group else slots)
        return by_feature

    def codes(self, x: Any, name: str = "x") -> np.ndarray:
        """Codes of `x` for these features: 0 missing, 1 unknown, 2 the first category."""
        return codes_in(self.vocabulary, features_of(x, name), name)


def code_of(values: Sequence[Hashable], place: int) -> int:
    """The code of a category."""
    return 0 if values[place] is MISSING else place + 2


def check_groups(min_frequency: Any, max_categories: Any) -> None:
    """Refuse what does not say which categories are infrequent."""
    if min_frequency is not None:
        if isinstance(min_frequency, numbers.Real) and not _checks.is_whole(min_frequency):
            _checks.check_number("min_frequency", min_frequency, "(0, 1)")
        else:
            _checks.check_count("min_frequency", min_frequency)
    if max_categories is not None:
        _checks.check_count("max_categories", max_categories)


def check_categories(categories: Any) -> None:
    """Refuse what is not a list of categories for each feature."""
    if categories is None:
        return
    good = isinstance(categories, (list, tuple)) and all(
        isinstance(values, (list, tuple, np.ndarray)) and len(values) for values in categories
    )
    if not good:
        raise TypeError(f"categories must be a list of lists, one for each feature, got {categories!r}")
    for j, values in enumerate(categories):
        keys = [key_of(value) for value in values]
        if len(set(keys)) < len(keys):
            raise ValueError(f"categories[{j}] must be different ones, got {list(values)!r}")


def fit_levels(
    x: Any,
    *,
    categories: Sequence[Sequence[Any]] | None,
    min_frequency: float | None,
    max_categories: int | None,
    missing: bool,
) -> tuple[Levels, np.ndarray]:
    """The levels of the features of `x`, and its codes.

    Args:
      x: an array, a list, a dict of columns or a frame.
      categories: those of each feature in their order; None finds and sorts them.
      min_frequency, max_categories: which are infrequent.
      missing: whether what is missing is a category.
    """
    features = features_of(x)
    if not features.rows:
        raise ValueError("x is empty: there is nothing to fit")
    if categories is None:
        vocabulary, _ = vocabulary_of(features)
    else:
        if len(categories) != len(features.columns):
            raise ValueError(
                f"categories must be of {len(features.columns)} features, as x, got {len(categories)}"
            )
        ordered = tuple(_in_order(values) for values in categories)
        vocabulary = Vocabulary(ordered, features.names)
    if not missing:
        kept = tuple(tuple(v for v in values if v is not MISSING) for values in vocabulary.categories)
        vocabulary = Vocabulary(kept, vocabulary.names)
    groups = []
    for places, values in zip(places_in(vocabulary, features), vocabulary.categories):
        counts = np.bincount(places[places >= 0], minlength=len(values))
        groups.append(_infrequent(counts, features.rows, min_frequency, max_categories))
    return Levels(vocabulary, tuple(groups), features.single), codes_in(vocabulary, features)


def strange(levels: Levels, codes: np.ndarray, missing: str) -> np.ndarray:
    """Where there is none of the categories; what is missing is one if it is and was when fitting."""
    absent = [MISSING not in values for values in levels.vocabulary.categories]
    unseen = codes == 1
    return unseen | ((codes == 0) & np.array(absent, bool)) if missing == "category" else unseen


def check_known(
    levels: Levels, features: Features, codes: np.ndarray, *, unknown: str, missing: str
) -> None:
    """Refuse unknown and missing values where that is an error."""
    if missing == "error":
        refuse(levels, features, codes, 0, "which is missing: impute it, or choose what it becomes")
    if unknown == "error":
        text = "which is none of the categories seen (unknown= says what such values become)"
        refuse(levels, features, np.where(strange(levels, codes, missing), 1, 2), 1, text)


def refuse(levels: Levels, features: Features, codes: np.ndarray, code: int, reason: str) -> None:
    """Refuse rows with this code, by row and column."""
    wrong = np.argwhere(codes == code)
    if not len(wrong):
        return
    row, j = wrong[0].tolist()
    names = levels.vocabulary.names
    name = f"column {names[j]!r}" if names and features.names else column_name(features, j)
    column = features.columns[features.names.index(names[j]) if names and features.names else j]
    value = plain(column[row])
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    raise ValueError(f"{name} holds {value!r} in row {row}{more}, {reason}")


def values_of_codes(levels: Levels, codes: np.ndarray) -> np.ndarray:
    """The values of codes, ``(n, features)`` or ``(n,)``; of the group, −1, its name."""
    columns = []
    for j, values in enumerate(levels.vocabulary.categories):
        places = codes[:, j] - 2
        absent = values.index(MISSING) if MISSING in values else -1
        column = values_at(values, np.where(codes[:, j] == 0, absent, np.maximum(places, -1)))
        if (codes[:, j] == -1).any():
            column = column.astype(object)
            column[codes[:, j] == -1] = INFREQUENT
        columns.append(column)
    if levels.single:
        return columns[0]
    kinds = {column.dtype for column in columns}
    return np.stack([column if len(kinds) == 1 else column.astype(object) for column in columns], axis=1)


def _in_order(values: Sequence[Any]) -> tuple[Any, ...]:
    """The categories as they are, but for what is missing, which is last."""
    plain_values = [plain(value) for value in values]
    there = [value for value in plain_values if value is not MISSING]
    return (*there, *([MISSING] if len(there) < len(plain_values) else []))


def _infrequent(
    counts: np.ndarray, n: int, min_frequency: float | None, max_categories: int | None
) -> tuple[int, ...]:
    """The places of infrequent categories, as scikit-learn finds them.

    `max_categories` counts a group though there may be none; of tied counts the later ones stay.
    """
    if min_frequency is None:
        mask = np.zeros(len(counts), bool)
    else:
        mask = counts < (min_frequency if _checks.is_whole(min_frequency) else n * min_frequency)
    if max_categories is not None and max_categories < len(counts) - mask.sum() + 1:
        order = np.argsort(counts, kind="stable")
        mask[order[: len(order) - (max_categories - 1)]] = True
    return tuple(np.flatnonzero(mask).tolist())
