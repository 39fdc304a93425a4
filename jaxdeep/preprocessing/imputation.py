"""Values in place of missing numbers, and columns that say where they were missing."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data
from jaxdeep._shapes import Array, ArrayLike, Bool, Float
from jaxdeep.preprocessing.features import as_known, check_features, check_kept_apart, widened
from jaxdeep.preprocessing.order import Base, Ordered, Statistics, ordered, with_base
from jaxdeep.preprocessing.scaling import check_state
from jaxdeep.preprocessing.transform import described, fits
from jaxdeep.preprocessing.vocabulary import names_of, unique


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Indicated:
    """The features whose missing values have a column that says so; static under `jax.jit`."""

    features: tuple[int, ...]


class ImputerState(NamedTuple):
    """What `imputer` learns.

    Attributes:
      base: one of the values of each feature, in parts.
      value: what missing values become, less the base.
      missing: which features had missing values.
      empty: which had nothing else, and became the fill value.
      indicated: which have an indicator.
    """

    base: Base
    value: Float[Array, "features"]
    missing: Bool[Array, "features"]
    empty: Bool[Array, "features"]
    indicated: Indicated


@described
class Imputer(NamedTuple):
    """An imputer: pure functions over a state that is a pytree of arrays.

    Attributes:
      fit: ``(x) -> state``.
      transform: ``(state, x) -> y``, the features and then the indicators.
      inverse_transform: ``(state, y) -> x``, with NaN where an indicator says so; what was imputed
        without an indicator stays.
      names: ``(state, names=None) -> texts``, of the columns of y: an indicator of ``age`` is
        ``missingindicator_age``.
    """

    fit: Callable[[ArrayLike], ImputerState]
    transform: Callable[[ImputerState, ArrayLike], Array]
    inverse_transform: Callable[[ImputerState, ArrayLike], Array]
    names: Callable[..., tuple[str, ...]]


@fits(ImputerState)
def imputer(
    strategy: Literal["mean", "median", "most_frequent", "constant"] = "mean",
    *,
    fill: float = 0.0,
    indicators: Literal["none", "seen", "all"] = "none",
) -> Imputer:
    """Each NaN becomes the mean, the median or the most frequent value of its feature, or a constant.

    Of values that are equally frequent the least is taken. A feature that has no values becomes `fill`
    and stays where it is (``state.empty`` says so). NumPy data is taken in float64. The functions take
    `x` ``(n, features)``, `transform` also a single row.

    Args:
      strategy: what missing values become.
      fill: for ``"constant"``, and for features without values.
      indicators: columns behind the features, 1 where a value was missing, else 0: ``"seen"``, for
        features with missing values when fitting (which then cannot be traced), ``"all"`` or
        ``"none"``. The width is fixed when fitting.

    Raises:
      ValueError: arguments out of range; when fitting, no rows or infinite numbers, or NumPy features
        whose differences float32 does not hold, such as times, which are to be scaled first; when
        transforming,
        other features than the state's.
      TypeError: arguments of another kind; traced data with ``indicators="seen"``.

    Source: scikit-learn's `SimpleImputer`, which leaves features without values out, unless it is told
    to keep them.

    >>> impute = imputer("median", indicators="seen")
    >>> state = impute.fit(jnp.array([[1.0, 5.0], [2.0, jnp.nan], [9.0, 7.0]]))
    >>> impute.transform(state, jnp.array([[jnp.nan, jnp.nan]])).tolist()
    [[2.0, 6.0, 1.0]]
    >>> impute.names(state, ["age", "size"])
    ('age', 'size', 'missingindicator_size')
    """
    _checks.check_choice("strategy", strategy, ("mean", "median", "most_frequent", "constant"))
    _checks.check_number("fill", fill, "(-inf, inf)")
    _checks.check_choice("indicators", indicators, ("none", "seen", "all"))

    @of_data
    def fit(x: ArrayLike) -> ImputerState:
        array = as_array("x", x)
        if array.ndim != 2:
            raise ValueError(f"x must be of shape (n, features), got {tuple(array.shape)}")
        known, instead = as_known("x", array), "scale it first; `standard_scaler` leaves NaN as they are"
        check_kept_apart("x", known, (0,), instead)
        values = ordered(array, 0)
        missing, empty = values.count < len(values.values), values.count == 0
        which = np.arange(array.shape[1]) if indicators == "all" else np.zeros(0, int)
        if indicators == "seen":
            if isinstance(missing, jax.core.Tracer):
                raise TypeError(
                    "x is traced, so that nobody knows which features have missing values; fit outside "
                    "of jax.jit, or give indicators='all'"
                )
            which = np.flatnonzero(np.asarray(missing))
        value, base = _value(values, strategy), values.base
        constant = jnp.asarray(empty) | (strategy == "constant")
        base = jax.tree.map(lambda part: jnp.where(constant, 0, part), base)
        value = jnp.where(constant, fill, values.state(value))
        return ImputerState(
            base,
            value.astype(base.high.dtype),
            jnp.asarray(missing),
            jnp.asarray(empty),
            Indicated(tuple(which.tolist())),
        )

    @of_data
    def transform(state: ImputerState, x: ArrayLike) -> Array:
        check_state(state, ImputerState)
        wide, dtype = widened(x)
        check_features(state.value.shape, wide.shape, 0, "x")
        y = jnp.where(jnp.isnan(wide), with_base(state.value, state.base), wide).astype(dtype)
        if not state.indicated.features:
            return y
        columns = jnp.array(state.indicated.features)
        return jnp.concatenate([y, jnp.isnan(wide)[..., columns].astype(dtype)], axis=-1)

    @of_data
    def inverse_transform(state: ImputerState, y: ArrayLike) -> Array:
        check_state(state, ImputerState)
        wide, dtype = widened(y, "y")
        count, columns = state.value.shape[0], state.indicated.features
        if wide.ndim < 1 or wide.shape[-1] != count + len(columns):
            raise ValueError(
                f"y must have {count + len(columns)} columns, as transform gives, got shape {wide.shape}"
            )
        x = wide[..., :count]
        if columns:
            at = jnp.array(columns)
            x = x.at[..., at].set(jnp.where(wide[..., count:] > 0.5, jnp.nan, x[..., at]))
        return x.astype(dtype)

    def names(state: ImputerState, names: Sequence[str] | None = None) -> tuple[str, ...]:
        check_state(state, ImputerState)
        features = names_of(names, state.value.shape[0])
        return unique(
            [*features, *(f"missingindicator_{features[j]}" for j in state.indicated.features)]
        )

    return Imputer(fit, transform, inverse_transform, names)


def _value(values: Ordered, strategy: str) -> Statistics:
    xp = values.numpy
    if strategy == "median":
        return values.quantiles(np.array([0.5]))[0]
    if strategy == "most_frequent":
        return _most_frequent(values)
    there = xp.arange(len(values.values))[:, None] < values.count
    return xp.sum(xp.where(there, values.values, 0), axis=0) / xp.maximum(values.count, 1)


def _most_frequent(values: Ordered) -> Statistics:
    """The first of the longest runs of equal values."""
    if values.numpy is np:
        columns = (column[:count] for column, count in zip(values.values.T, values.count))
        return np.array([_longest_run(column) for column in columns])

    def of_feature(column: Array) -> Array:
        counts = jnp.searchsorted(column, column, side="right") - jnp.searchsorted(column, column)
        return column[jnp.argmax(jnp.where(jnp.isnan(column), 0, counts))]

    modes = jax.vmap(of_feature, in_axes=1)(values.values)
    return jnp.where(values.count > 0, modes, 0)


def _longest_run(column: np.ndarray) -> Any:
    if not len(column):
        return 0.0
    some, counts = np.unique(column, return_counts=True)
    return some[np.argmax(counts)]
