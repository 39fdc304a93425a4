"""What the target is on average at each level of a category, for target encoding in the first layer."""

import math
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._quoted import listed, quoted
from jaxdeep._shapes import Array
from jaxdeep.tables import encoding
from jaxdeep.tables.column import Column, Fitted
from jaxdeep.tables.conversion import FIRST
from jaxdeep.tables.targets import Target

FOLDS = 5
SMOOTH = 10.0  # rows of the mean of all that each level is mixed with
_MOST = 2**19  # numbers of a column
_BY_CHANCE = 5  # rows that are beside another one of their level


def folds_of(numbers: Array | np.ndarray, codes: Array | np.ndarray) -> Array:
    """The part of the data that each row of inputs belongs to, int32 in ``[0, FOLDS)``.

    It follows from the row itself, by a hash of its inputs as far as bfloat16 holds them: so it is the
    same in any order, on any device and in any precision, and rows that are alike are in one part.
    """
    number = jnp.where(jnp.isnan(jnp.asarray(numbers)), jnp.inf, numbers).astype(jnp.bfloat16)
    bits = jax.lax.bitcast_convert_type(number, jnp.uint16).astype(jnp.uint32)
    words = jnp.concatenate([bits, jnp.asarray(codes).astype(jnp.uint32)], axis=1)
    places = np.arange(words.shape[1], dtype=np.uint32)[None] * np.uint32(0x9E3779B9)
    total = jnp.sum(_mixed(words + places), axis=1, dtype=jnp.uint32)
    return (_mixed(total) % np.uint32(FOLDS)).astype(jnp.int32)


def _mixed(words: Array) -> Array:
    """The last steps of MurmurHash3."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        words = (words ^ (words >> shift)) * np.uint32(factor)
    return words ^ (words >> 16)


def with_means(
    table: Fitted, frame: Any, names: Collection[str], looked_at: np.ndarray | None
) -> tuple[Column, ...]:
    """The columns of a table, those of these names with their means of the target.

    Args:
      table: fitted, with a target.
      frame: what it was fitted to.
      names: of categories and booleans.
      looked_at: which rows count, by default all.
    """
    assert table.target is not None
    coded = [column for column in table.features if column.coded]
    sizes = {column.name: len(column.levels) + FIRST for column in coded if column.name in names}
    outputs = table.target.outputs
    # of each part and level: how many rows, and the sum of their targets
    sums = {name: np.zeros((FOLDS, size, 1 + outputs)) for name, size in sizes.items()}
    of_parts: list[list[np.ndarray]] = [[] for _ in range(FOLDS)]
    first = 0
    for part in encoding.blocks(table, frame, "code", targets=True, exact=True, warns=False):
        rows = slice(None) if looked_at is None else looked_at[first : first + len(part.codes)]
        first += len(part.codes)
        fold = np.asarray(folds_of(part.numbers, part.codes))[rows]
        of_rows = _numbers(table.target, part.targets[rows])
        counted = np.concatenate([np.ones((len(of_rows), 1)), of_rows], axis=1)
        for place, column in enumerate(coded):
            if column.name in sizes:
                np.add.at(sums[column.name], (fold, part.codes[rows, place]), counted)
        for number, of_part in enumerate(of_parts):
            of_part.append(of_rows[fold == number])
    scales = _scales(table.target, list(map(np.concatenate, of_parts)))
    return tuple(
        column._replace(means=_means(column.name, sums[column.name]), scales=scales)
        if column.name in sums
        else column
        for column in table.features
    )


def check_means(names: Any, columns: tuple[Column, ...], target: Target | None) -> None:
    """Refuse what does not name columns that can be encoded by the target."""
    if isinstance(names, str) or not isinstance(names, (list, tuple)):
        raise TypeError(f"target_encoding must be a list of names of columns, got {quoted(names)}")
    known = {column.name: column for column in columns}
    for name in names:
        if name not in known:
            raise ValueError(
                f"target_encoding names a column {quoted(name)}, and there are [{listed(known)}]"
            )
        if not known[name].coded:
            raise ValueError(
                f"target_encoding: column {quoted(name)} is a {known[name].kind}, and only levels of a "
                f'category are encoded; declare it: kinds={{{quoted(name)}: "category"}}'
            )
        if target is None:
            raise ValueError("target_encoding needs a target, and none is named")
        numbers = (FOLDS + 1) * (len(known[name].levels) + FIRST) * target.outputs
        if numbers > _MOST:
            raise ValueError(
                f"target_encoding: column {quoted(name)} has {len(known[name].levels):,} levels, for "
                f"which {numbers:,} numbers would be kept, more than {_MOST:,}; leave rare levels out "
                "(min_frequency=), or embed it"
            )


def standardized(column: Column, target: Target) -> np.ndarray:
    """Means less that of the target, in its standard deviations: ``(tables, codes, outputs)``."""
    means = np.array(column.means)
    scales = np.array(column.scales or (_scale_of(target),))[:, None]
    return (means - scales[..., 0]) / scales[..., 1]


def _scale_of(target: Target) -> list[tuple[float, float]]:
    """Mean and standard deviation of the target of all rows, or of the indicators of its classes."""
    if target.classes is None:
        return [(target.mean, target.std)]
    counts = target.counts[_first(target) :]
    return [_of_share(count / sum(target.counts)) for count in counts]


def _scales(target: Target, of_parts: list[np.ndarray]) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Those of all rows, and of all but those of each part, in which no row of it has a share."""
    tables = [_scale_of(target)]
    for part in range(FOLDS):
        others = np.concatenate([of_part for number, of_part in enumerate(of_parts) if number != part])
        means = others.mean(axis=0).tolist() if len(others) else [0.0] * others.shape[1]
        if target.classes is None:
            spread = float(others.std()) if len(others) else 0.0
            tables.append([(means[0], spread if spread > 0 else 1.0)])
        else:
            tables.append(list(map(_of_share, means)))
    return tuple(map(tuple, tables))


def _of_share(share: float) -> tuple[float, float]:
    return share, math.sqrt(max(share * (1 - share), 1e-12))


def _numbers(target: Target, targets: np.ndarray) -> np.ndarray:
    """Exact targets, of classes the indicators of each: ``(n, outputs)``."""
    if target.classes is None:
        return targets[:, None]
    return targets[:, None] == np.arange(_first(target), len(target.classes))


def _first(target: Target) -> int:
    """The first class that has numbers of its own: of two the second."""
    return 1 if target.outputs == 1 else 0


def _means(name: str, sums: np.ndarray) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Means of all rows, and of all but those of each part; mixed with the mean over all levels."""
    counts = sums[:, :, 0]
    several = counts.sum(axis=0)
    alike = several[(counts.max(axis=0) == several) & (several > 1)]
    # a level of n rows is in one part by chance in one case of 5^(n − 1)
    if alike.sum() > 0.5 * several[several > 1].sum() and (alike - 1).sum() > _BY_CHANCE:
        raise ValueError(
            f"target_encoding: rows of one level of column {quoted(name)} are alike in all other "
            "columns, so that none can be encoded by the targets of others; one-hot columns say as much"
        )
    # a difference from the total would be rounded by what is subtracted
    others = [np.delete(sums, part, axis=0).sum(axis=0) for part in range(FOLDS)]
    of_parts = np.stack([sums.sum(axis=0), *others])
    n, s = of_parts[..., :1], of_parts[..., 1:]
    every = s.sum(axis=1, keepdims=True) / np.maximum(n.sum(axis=1, keepdims=True), 1)
    means = (s + SMOOTH * every) / (n + SMOOTH)
    return tuple(
        tuple(tuple(float(f"{value:.12g}") for value in level) for level in table) for table in means
    )
