"""Categories as columns of zeros and ones."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data, whole
from jaxdeep._quoted import listed, quoted
from jaxdeep._shapes import Array, ArrayLike, Float, Integer
from jaxdeep._warning import warn
from jaxdeep.preprocessing.keys import MISSING, key_of
from jaxdeep.preprocessing.levels import (
    INFREQUENT,
    Levels,
    check_categories,
    check_groups,
    check_known,
    code_of,
    fit_levels,
    strange,
    values_of_codes,
)
from jaxdeep.preprocessing.scaling import check_state
from jaxdeep.preprocessing.transform import described, fits
from jaxdeep.preprocessing.vocabulary import (
    Categories,
    feature_names,
    features_of,
    unique,
)

Codes = Integer[Array, "*rows features"]  # 0 missing, 1 unknown, 2 the first category


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class HotColumns:
    """Which levels have columns; static under `jax.jit`.

    Attributes:
      levels: categories and groups of each feature.
      dropped: of each feature the level without a column, or None.
    """

    levels: Levels
    dropped: tuple[int | None, ...]

    @property
    def widths(self) -> list[int]:
        """How many columns each feature has."""
        return [len(s) - (d is not None) for s, d in zip(self.levels.slots, self.dropped)]


class OneHotState(NamedTuple):
    """What `one_hot_encoder` learns.

    Attributes:
      table: ``(features, codes)``, the column of each code, −1 for none.
      columns: the categories, groups and dropped levels.
    """

    table: Integer[Array, "features codes"]
    columns: HotColumns


@described
class OneHotEncoder(NamedTuple):
    """A one-hot encoder.

    Attributes:
      fit: ``(x) -> state``, on the host.
      transform: ``(state, x) -> y``, ``encode(state, codes(state, x))``.
      inverse_transform: ``(state, y) -> values``, on the host: None for what is missing or unknown,
        the text "infrequent" for the group.
      codes: ``(state, x) -> codes``, int32 ``(n, features)``, on the host: 0 missing, 1 unknown, 2 the
        first category, 3 the second. Refuses what is to be refused.
      encode: ``(state, codes) -> y``, a pure function of arrays.
      decode: ``(state, y) -> codes``, a pure function of arrays: the group is −1.
      names: ``(state, names=None) -> texts``, of the columns: ``city_Rome``. `names` are those of the
        features; without, those of the frame, or ``x0``. No two are the same. The group is
        ``city_infrequent`` (scikit-learn: ``city_infrequent_sklearn``).
    """

    fit: Callable[[Categories], OneHotState]
    transform: Callable[[OneHotState, Categories], Array]
    inverse_transform: Callable[[OneHotState, ArrayLike], np.ndarray]
    codes: Callable[[OneHotState, Categories], Codes]
    encode: Callable[[OneHotState, ArrayLike], Array]
    decode: Callable[[OneHotState, ArrayLike], Codes]
    names: Callable[..., tuple[str, ...]]


@fits(OneHotState)
def one_hot_encoder(
    *,
    categories: Sequence[Sequence[Any]] | None = None,
    min_frequency: float | None = None,
    max_categories: int | None = None,
    unknown: Literal["error", "ignore", "infrequent", "warn"] = "error",
    missing: Literal["category", "ignore", "error"] = "category",
    drop: Literal["first", "if_binary"] | Sequence[Any] | Mapping[str, Any] | None = None,
    max_bytes: int = 2**31,
    dtype: Any = jnp.float32,
) -> OneHotEncoder:
    """Each category becomes a column that is 1 where it is and 0 elsewhere.

    The columns of a feature are its categories in order (numbers ascending, then texts, what is missing
    last), then one for all infrequent ones. Which values are the same category is said by
    `jaxdeep.preprocessing.keys`: 3 and 3.0 and the text "3" are, and so are None, NaN, NaT and pandas'
    NA; True is not 1. The columns of a frame are found again by their names.

    Args:
      categories: of each feature, in their order; by default those found when fitting.
      min_frequency: categories that are there fewer times are infrequent: a whole number, or a share of
        all rows in (0, 1).
      max_categories: the most columns a feature has, one of which is that of the infrequent ones: it is
        counted though there may be none. Of equally frequent categories the later ones stay.
      unknown: what a category becomes that was not seen: an ``"error"``; zeros, ``"ignore"``; the group
        of infrequent ones if there is one, else zeros, ``"infrequent"``; the same with a warning,
        ``"warn"``.
      missing: what is missing is a ``"category"`` if some was when fitting, and unknown otherwise; or
        zeros, ``"ignore"``; or an ``"error"``.
      drop: leave out the ``"first"`` column of each feature, or of those with two, ``"if_binary"``; or
        those of the categories that are given, one for each feature, or by its name for some:
        ``drop={"city": "Rome"}``. Zeros are then that level: unknown values look like it, of which there
        is a warning.
      max_bytes: more than that is refused before it is allocated.
      dtype: of the result.

    The functions take `x` ``(n,)`` or ``(n, features)``, a dict of columns, or a frame of pandas, polars
    or pyarrow.

    Raises:
      ValueError: arguments out of range; values that are unknown or missing where that is an error, by
        row and column; more bytes than `max_bytes`; two values of one key, as 1 and "1"; other features
        than the state's.
      TypeError: arguments of another kind, traced data (encode its codes).

    Source: scikit-learn's `OneHotEncoder`, which has two categories for None and NaN.

    >>> encoder = one_hot_encoder(unknown="ignore")
    >>> state = encoder.fit(np.array(["b", "a", "b"]))
    >>> encoder.names(state), encoder.transform(state, ["a", "b", "?"]).tolist()
    (('x0_a', 'x0_b'), [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> encoder.inverse_transform(state, jnp.array([[0.0, 1.0], [0.0, 0.0]])).tolist()
    ['b', None]
    """
    check_categories(categories)
    check_groups(min_frequency, max_categories)
    _checks.check_choice("unknown", unknown, ("error", "ignore", "infrequent", "warn"))
    _checks.check_choice("missing", missing, ("category", "ignore", "error"))
    _check_drop(drop)
    max_bytes = _checks.check_count("max_bytes", max_bytes)
    _checks.check_float_dtype("dtype", dtype, optional=False)
    grouped = unknown in ("infrequent", "warn")

    def fit(x: Categories) -> OneHotState:
        levels, codes = fit_levels(
            x,
            categories=categories,
            min_frequency=min_frequency,
            max_categories=max_categories,
            missing=missing == "category",
        )
        columns = HotColumns(levels, _dropped(levels, drop))
        _check_bytes(columns, len(codes), max_bytes, dtype)
        state = OneHotState(jnp.asarray(_table(columns, grouped, missing == "category")), columns)
        check_known(levels, features_of(x), codes, unknown=unknown, missing=missing)
        return state

    def codes(state: OneHotState, x: Categories) -> Codes:
        check_state(state, OneHotState)
        features = features_of(x)
        numbers = state.columns.levels.codes(x)
        check_known(state.columns.levels, features, numbers, unknown=unknown, missing=missing)
        _warn_of(strange(state.columns.levels, numbers, missing), state.columns, unknown)
        return jnp.asarray(numbers)

    @of_data
    def encode(state: OneHotState, codes: ArrayLike) -> Array:
        check_state(state, OneHotState)
        numbers, columns = whole("codes", codes), state.columns
        features = len(columns.widths)
        if numbers.ndim < 1 or numbers.shape[-1] != features:
            raise ValueError(f"codes must be of shape (…, {features}), got {numbers.shape}")
        rows = numbers.reshape(math.prod(numbers.shape[:-1]), features)
        _check_bytes(columns, rows.shape[0], max_bytes, dtype)
        width = sum(columns.widths)
        y = _hot(state.table, rows, width, jnp.dtype(dtype))
        return y.reshape(*numbers.shape[:-1], width)

    def transform(state: OneHotState, x: Categories) -> Array:
        return encode(state, codes(state, x))

    return OneHotEncoder(fit, transform, _inverse_transform, codes, encode, _decode, _names)


def _check_drop(drop: Any) -> None:
    if isinstance(drop, (Mapping, list, tuple)) or (isinstance(drop, np.ndarray) and drop.ndim == 1):
        return
    if not (drop is None or isinstance(drop, str)):
        raise TypeError(
            "drop must be 'first', 'if_binary', a category for each feature, or a dict of categories by "
            f"the names of their features, got {drop!r}"
        )
    _checks.check_choice("drop", drop, ("first", "if_binary", None))


def _dropped(levels: Levels, drop: Any) -> tuple[int | None, ...]:
    """Of each feature the level without a column, or None."""
    slots = levels.slots
    if drop is None or isinstance(drop, str):
        drops = [drop == "first" or (drop == "if_binary" and len(own) == 2) for own in slots]
        return tuple(0 if drops_one else None for drops_one in drops)
    titles = feature_names(levels.vocabulary, None)
    if isinstance(drop, Mapping):
        if others := [name for name in drop if name not in titles]:
            raise ValueError(f"drop must be for features {listed(titles)}, got {quoted(others[0])}")
        chosen: dict[int, tuple[str | int, Any]]
        chosen = {j: (name, drop[name]) for j, name in enumerate(titles) if name in drop}
    else:
        if len(drop) != len(slots):
            raise ValueError(f"drop must be of {len(slots)} features, as x, got {len(drop)}")
        chosen = {j: (j, value) for j, value in enumerate(drop)}
    of_features = zip(levels.vocabulary.categories, levels.infrequent, slots)
    return tuple(_level(*own, *chosen[j]) if j in chosen else None for j, own in enumerate(of_features))


def _level(
    values: Sequence[Hashable],
    group: tuple[int, ...],
    slots: Sequence[tuple[int, ...]],
    name: str | int,
    value: Any,
) -> int:
    """The level of a feature that is this category alone."""
    keys = [key_of(known) for known in values]
    argument = f"drop[{quoted(name)}]"
    if (key := key_of(value)) not in keys:
        known = listed(values)
        raise ValueError(f"{argument} must be one of the categories {known}, got {quoted(value)}")
    if (place := keys.index(key)) in group:
        raise ValueError(
            f"{argument} must be a frequent category, got {quoted(value)}, which is grouped"
        )
    return slots.index((place,))


@of_data
def _decode(state: OneHotState, y: ArrayLike) -> Codes:
    check_state(state, OneHotState)
    array, columns = jnp.asarray(as_array("y", y)), state.columns
    if array.ndim < 1 or array.shape[-1] != sum(columns.widths):
        raise ValueError(
            f"y must be of shape (…, {sum(columns.widths)}), the columns of the state, got {array.shape}"
        )
    decoded, start = [], 0
    for width, of_column, otherwise in zip(columns.widths, *_inverse(columns)):
        part = array[..., start : start + width]
        start += width
        if not width:
            decoded.append(jnp.full(array.shape[:-1], otherwise, jnp.int32))
            continue
        number = jnp.asarray(of_column, jnp.int32)[jnp.argmax(part, axis=-1)]
        decoded.append(jnp.where(jnp.any(part != 0, axis=-1), number, otherwise))
    return jnp.stack(decoded, axis=-1)


def _inverse_transform(state: OneHotState, y: ArrayLike) -> np.ndarray:
    return values_of_codes(state.columns.levels, np.asarray(_decode(state, y)))


def _names(state: OneHotState, names: Sequence[str] | None = None) -> tuple[str, ...]:
    check_state(state, OneHotState)
    levels = state.columns.levels
    column_names = []
    titles = feature_names(levels.vocabulary, names)
    for j, name in enumerate(titles):
        values, group = levels.vocabulary.categories[j], levels.infrequent[j]
        for slot, places in enumerate(levels.slots[j]):
            if slot != state.columns.dropped[j]:
                text = INFREQUENT if places == group else str(values[places[0]])
                column_names.append(f"{name}_{text}")
    return unique(column_names)


def _warn_of(unseen: np.ndarray, columns: HotColumns, unknown: str) -> None:
    """Warn of values that are no category, if asked to or if they look like a level."""
    grouped = [unknown in ("infrequent", "warn") and bool(group) for group in columns.levels.infrequent]
    hidden = np.array([d is not None and not g for d, g in zip(columns.dropped, grouped)], bool)
    lost = unseen.any(axis=0) & hidden
    if unseen.any() and (unknown == "warn" or lost.any()):
        like = "; they look like the dropped level" if lost.any() else ""
        warn(f"x holds {int(unseen.sum())} values that are none of the categories{like}")


def _table(columns: HotColumns, grouped: bool, is_category: bool) -> np.ndarray:
    """The column of each code of each feature, −1 for none."""
    levels = columns.levels
    size = 2 + max((len(values) for values in levels.vocabulary.categories), default=0)
    table, start = np.full((len(columns.widths), size), -1, np.int32), 0
    for j, (values, slots) in enumerate(zip(levels.vocabulary.categories, levels.slots)):
        column = start
        for slot, places in enumerate(slots):
            if slot == columns.dropped[j]:
                continue
            for place in places:
                table[j, code_of(values, place)] = column
            if grouped and places == levels.infrequent[j]:
                table[j, 1] = column
                if is_category and MISSING not in values:
                    table[j, 0] = column
            column += 1
        start = column
    return table


def _inverse(columns: HotColumns) -> tuple[list[list[int]], list[int]]:
    """Of each feature the codes of its columns, and the code of zeros in all of them."""
    of_columns, otherwise = [], []
    for values, slots, group, dropped in zip(
        columns.levels.vocabulary.categories,
        columns.levels.slots,
        columns.levels.infrequent,
        columns.dropped,
    ):
        codes = [-1 if places == group else code_of(values, places[0]) for places in slots]
        otherwise.append(1 if dropped is None else codes[dropped])
        of_columns.append([code for slot, code in enumerate(codes) if slot != dropped])
    return of_columns, otherwise


def _hot(table: Array, codes: Array, width: int, dtype: Any) -> Float[Array, "rows width"]:
    inside = jnp.clip(codes, 0, table.shape[1] - 1)
    column = table[jnp.arange(codes.shape[1]), inside]
    column = jnp.where((codes < 0) | (codes >= table.shape[1]) | (column < 0), width, column)
    rows = jnp.arange(codes.shape[0])[:, None]
    return jnp.zeros((codes.shape[0], width), dtype).at[rows, column].set(1, mode="drop")


def _check_bytes(columns: HotColumns, rows: int, most: int, dtype: Any) -> None:
    widths = columns.widths
    needed = rows * sum(widths) * jnp.dtype(dtype).itemsize
    if not _checks.is_whole(rows) or needed <= most:  # of an exported model nobody knows the rows
        return
    j = int(np.argmax(widths))
    names = columns.levels.vocabulary.names
    name = f"column {names[j]!r}" if names else f"x[:, {j}]"
    raise ValueError(
        f"one-hot columns would take {needed / 1e9:.1f} GB ({rows:,} rows × {sum(widths):,} columns), "
        f"more than max_bytes={most:,}; {name} has {widths[j]:,} levels: group rare ones "
        "(max_categories=, min_frequency=), or use ordinal_encoder and an embedding, or target_encoder"
    )
