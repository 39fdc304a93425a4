"""Categories as numbers."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import as_array, of_data, whole
from jaxdeep._precision import numbers_in, overflows
from jaxdeep._shapes import Array, ArrayLike, Num
from jaxdeep.preprocessing.levels import (
    Levels,
    check_categories,
    check_groups,
    check_known,
    code_of,
    fit_levels,
    values_of_codes,
)
from jaxdeep.preprocessing.scaling import check_state
from jaxdeep.preprocessing.transform import described, fits
from jaxdeep.preprocessing.vocabulary import Categories, features_of


class OrdinalState(NamedTuple):
    """What `ordinal_encoder` learns.

    Attributes:
      table: ``(features, codes)``, the number of each code.
      levels: the categories and groups.
    """

    table: Num[Array, "features codes"]
    levels: Levels


@described
class OrdinalEncoder(NamedTuple):
    """An ordinal encoder.

    Attributes:
      fit: ``(x) -> state``, on the host.
      transform: ``(state, x) -> y``, ``encode(state, codes(state, x))``, ``(n, features)``.
      inverse_transform: ``(state, y) -> values``, on the host: None for what is missing or unknown,
        the text "infrequent" for the group.
      codes: ``(state, x) -> codes``, int32 ``(n, features)``, on the host: 0 missing, 1 unknown, 2 the
        first category, 3 the second. Refuses what is to be refused.
      encode: ``(state, codes) -> y``, a pure function of arrays.
      decode: ``(state, y) -> codes``, a pure function of arrays: the group is −1.
    """

    fit: Callable[[Categories], OrdinalState]
    transform: Callable[[OrdinalState, Categories], Array]
    inverse_transform: Callable[[OrdinalState, ArrayLike], np.ndarray]
    codes: Callable[[OrdinalState, Categories], Array]
    encode: Callable[[OrdinalState, ArrayLike], Array]
    decode: Callable[[OrdinalState, ArrayLike], Array]


@fits(OrdinalState)
def ordinal_encoder(
    *,
    categories: Sequence[Sequence[Any]] | None = None,
    min_frequency: float | None = None,
    max_categories: int | None = None,
    unknown: float | Literal["error"] = "error",
    missing: float | Literal["error"] = float("nan"),
    dtype: Any = jnp.float32,
) -> OrdinalEncoder:
    """Each category becomes its place among those of its feature: 0, 1, 2 and so on.

    Infrequent categories become one number, behind the others. What is missing is no category, however
    it is written. `one_hot_encoder` says which values are the same category.

    Args:
      categories: of each feature, in their order, such as ``[["low", "middle", "high"]]``; by default
        those found when fitting, numbers ascending, then texts.
      min_frequency, max_categories: which are infrequent, as for `one_hot_encoder`; what is missing does
        not count.
      unknown: what a category becomes that was not seen: a number that is no category's, or an
        ``"error"``.
      missing: what becomes of missing values: a number that is no category's, or an ``"error"``.
      dtype: of the result, of floats or whole numbers; the latter want whole numbers for `unknown` and
        `missing`, and refuse missing values otherwise.

    The functions take `x` as `one_hot_encoder` does.

    Raises:
      ValueError: arguments out of range; numbers in use for `unknown` or `missing`, or that `dtype` does
        not hold; more categories than it has numbers; values that are unknown or missing where that is
        an error; other features than the state's.
      TypeError: arguments of another kind, traced data (encode its codes).

    Source: scikit-learn's `OrdinalEncoder`, in which None is a category.

    >>> encoder = ordinal_encoder(categories=[["low", "high"]], unknown=-1)
    >>> state = encoder.fit(["high", "low", None])
    >>> y = encoder.transform(state, ["high", "?", None])
    >>> y.tolist(), encoder.inverse_transform(state, y).tolist()
    ([[1.0], [-1.0], [nan]], ['high', None, None])
    """
    check_categories(categories)
    check_groups(min_frequency, max_categories)
    kind = _dtype(dtype)
    for name, value in (("unknown", unknown), ("missing", missing)):
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number and not (isinstance(value, str) and value == "error"):
            raise TypeError(f"{name} must be a number or 'error', got {value!r}")
    integers = jnp.issubdtype(kind, jnp.integer)
    refused = missing == "error" or (integers and np.isnan(missing))
    for name, value in (("unknown", unknown), ("missing", missing)):
        if not isinstance(value, str) and not (integers and name == "missing" and np.isnan(value)):
            _check_number(name, value, kind)
    policy = {
        "unknown": "error" if isinstance(unknown, str) else "ignore",
        "missing": "error" if refused else "ignore",
    }

    def fit(x: Categories) -> OrdinalState:
        levels, codes = fit_levels(
            x,
            categories=categories,
            min_frequency=min_frequency,
            max_categories=max_categories,
            missing=False,
        )
        most, limit = max(map(len, levels.slots), default=0), numbers_in(kind)
        if most > limit:
            raise ValueError(
                f"dtype must have a number for each of {most} categories, got {kind}, which has {limit}"
            )
        for name, value in (("unknown", unknown), ("missing", missing)):
            if isinstance(value, str) or np.isnan(value):
                continue
            rounded = np.asarray(value).astype(kind).item()
            if any(rounded in range(len(slots)) for slots in levels.slots):
                raise ValueError(f"{name} must be a number that is no category's, got {value!r}")
        check_known(levels, features_of(x), codes, **policy)
        values = [
            0 if isinstance(v, str) or (integers and np.isnan(v)) else v for v in (missing, unknown)
        ]
        return OrdinalState(jnp.asarray(_table(levels, *values), kind), levels)

    def codes(state: OrdinalState, x: Categories) -> Array:
        check_state(state, OrdinalState)
        numbers = state.levels.codes(x)
        check_known(state.levels, features_of(x), numbers, **policy)
        return jnp.asarray(numbers)

    def transform(state: OrdinalState, x: Categories) -> Array:
        return _encode(state, codes(state, x))

    return OrdinalEncoder(fit, transform, _inverse_transform, codes, _encode, _decode)


@of_data
def _encode(state: OrdinalState, codes: ArrayLike) -> Array:
    check_state(state, OrdinalState)
    numbers, (features, size) = whole("codes", codes), state.table.shape
    if numbers.ndim < 1 or numbers.shape[-1] != features:
        raise ValueError(f"codes must be of shape (…, {features}), got {numbers.shape}")
    inside = jnp.where((numbers < 0) | (numbers >= size), 1, numbers)  # others are unknown
    return state.table[jnp.arange(features), inside]


@of_data
def _decode(state: OrdinalState, y: ArrayLike) -> Array:
    check_state(state, OrdinalState)
    array, features = jnp.asarray(as_array("y", y)), state.table.shape[0]
    if array.ndim < 1 or array.shape[-1] != features:
        raise ValueError(f"y must be of shape (…, {features}), got {array.shape}")
    decoded = []
    for j, (values, slots) in enumerate(zip(state.levels.vocabulary.categories, state.levels.slots)):
        group = state.levels.infrequent[j]
        of_number = jnp.array(
            [-1 if p == group else code_of(values, p[0]) for p in slots] or [1], jnp.int32
        )
        number = array[..., j]
        known = (number >= 0) & (number < len(slots))
        codes = of_number[jnp.where(known, number, 0).astype(int)]
        missing = state.table[j, 0]
        absent = (number == missing) | ((number != number) & (missing != missing))  # noqa: PLR0124
        decoded.append(jnp.where(known, codes, jnp.where(absent, 0, 1)))
    return jnp.stack(decoded, axis=-1)


def _inverse_transform(state: OrdinalState, y: ArrayLike) -> np.ndarray:
    return values_of_codes(state.levels, np.asarray(_decode(state, y)))


def _table(levels: Levels, missing: float, unknown: float) -> np.ndarray:
    """The number of each code of each feature."""
    categories = levels.vocabulary.categories
    size = 2 + max((len(values) for values in categories), default=0)
    table = np.full((len(categories), size), float(unknown))
    table[:, 0] = missing
    for j, (values, slots) in enumerate(zip(categories, levels.slots)):
        for number, places in enumerate(slots):
            for place in places:
                table[j, code_of(values, place)] = number
    return table


def _check_number(name: str, value: Any, kind: Any) -> None:
    """Refuse a number that the dtype of the result cannot hold."""
    held = jax.dtypes.canonicalize_dtype(kind)
    if jnp.issubdtype(held, jnp.integer):
        if not np.isfinite(value) or value != int(value):
            raise ValueError(f"{name} must be a whole number for {kind}, got {value!r}")
        beyond = not jnp.iinfo(held).min <= value <= jnp.iinfo(held).max
    else:
        beyond = bool(overflows(value, held))
    if beyond:
        raise ValueError(f"{name} must be a number that {held} holds, got {value!r}")


def _dtype(dtype: Any) -> Any:
    good = dtype is not None and not isinstance(dtype, (str, jax.Array, np.ndarray))
    try:
        kind = jnp.dtype(dtype) if good else None
    except (TypeError, ValueError):
        kind = None
    if kind is None or not any(jnp.issubdtype(kind, allowed) for allowed in (jnp.floating, jnp.integer)):
        raise TypeError(f"dtype must be one of floats or whole numbers, got {dtype!r}")
    return kind
