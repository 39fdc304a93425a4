"""Numbers as the bins that they fall in, of equal counts or of equal widths."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data
from jaxdeep._shapes import Array, ArrayLike, Float, Integer
from jaxdeep._warning import warn
from jaxdeep.preprocessing.features import Axis, check_axis
from jaxdeep.preprocessing.order import (
    Base,
    Ordered,
    Statistics,
    by_feature,
    ordered,
    prepared,
    with_base,
)
from jaxdeep.preprocessing.scaling import check_state
from jaxdeep.preprocessing.transform import Transform, fits


class BinState(NamedTuple):
    """What `k_bins` learns.

    Attributes:
      base: one of the values of each feature, in parts.
      edges: ``(bins + 1, *features)``, ascending, less the base; the last is repeated where bins were
        merged.
      bins: how many bins each feature has.
    """

    base: Base
    edges: Float[Array, "edges *features"]
    bins: Integer[Array, "*features"]


@fits(BinState)
def k_bins(
    n_bins: int = 5,
    *,
    strategy: Literal["quantile", "uniform"] = "quantile",
    encode: Literal["ordinal", "onehot"] = "ordinal",
    missing: Literal["error", "bin"] = "error",
    axis: Axis = 0,
) -> Transform:
    """Each number becomes the number of its bin, ``[edge_k, edge_{k+1})``; the outer bins are open.

    Edges that are the same, but for 1e-8 of the range, are one: a feature then has fewer bins, and a
    constant one has one. The width of the result does not depend on that. The inverse gives the middle
    of each bin.

    Args:
      n_bins: how many bins a feature has, at least 2.
      strategy: edges at quantiles, ``"quantile"``, so that bins have nearly equal counts (the inverse of
        the distribution function, averaged where it jumps), or ``"uniform"``, of equal width.
      encode: ``"ordinal"``, int32 in [0, n_bins); or ``"onehot"``, `n_bins` columns for each feature,
        feature by feature, in the dtype of `x`.
      missing: ``"error"`` refuses NaN (traced ones have code −1, and zeros in all columns); ``"bin"``
        is a bin of its own, with the number `n_bins`.
      axis: the axis, or axes, of the examples, as for `standard_scaler`; for ``"onehot"`` 0, of
        `x` ``(n, features)``.

    Raises:
      ValueError: arguments out of range; when fitting, no or infinite numbers; NaN, unless they are a
        bin; when transforming, other features than the state's.
      TypeError: arguments of another kind.

    Source: scikit-learn's `KBinsDiscretizer` (its quantiles since 1.9), where edges are merged that are
    1e-8 apart whatever the range, and merged bins have no column.

    >>> bins = k_bins(2)
    >>> state = bins.fit(jnp.array([[1.0], [2.0], [3.0], [10.0]]))
    >>> bins.transform(state, jnp.array([[-5.0], [2.4], [2.5], [99.0]])).tolist()
    [[0], [0], [1], [1]]
    >>> bins.inverse_transform(state, jnp.array([[0], [1]])).tolist()
    [[1.75], [6.25]]
    """
    n_bins = _checks.check_count("n_bins", n_bins, low=2)
    _checks.check_choice("strategy", strategy, ("quantile", "uniform"))
    _checks.check_choice("encode", encode, ("ordinal", "onehot"))
    _checks.check_choice("missing", missing, ("error", "bin"))
    check_axis(axis)
    hot = encode == "onehot"
    if hot and axis != 0:
        raise ValueError(f"axis must be 0 for encode='onehot', got {axis!r}")
    width = n_bins + (missing == "bin")

    def check_bins(state: BinState) -> None:
        check_state(state, BinState)
        if state.edges.shape[0] != n_bins + 1:
            raise ValueError(
                f"the state is of k_bins({state.edges.shape[0] - 1}), and these are k_bins({n_bins})"
            )

    def check_missing(name: str, x: ArrayLike) -> None:
        array = as_array(name, x)
        if hot and array.ndim != 2 and name == "x":
            raise ValueError(f"x must be of shape (n, features) for 'onehot', got {tuple(array.shape)}")
        known = missing == "error" and array.dtype.kind not in "iub" and _checks.is_known(array)
        if known and np.isnan(np.asarray(array)).any():
            raise ValueError(f"{name} holds nan; impute it, or give missing='bin'")

    @of_data
    def fit(x: ArrayLike) -> BinState:
        check_missing("x", x)
        values = ordered(x, axis)
        edges = (_even_edges if strategy == "uniform" else _quantile_edges)(values, n_bins)
        edges, count = _merged(edges, values)
        if values.numpy is np and (count < n_bins).any():
            few = int((count < n_bins).sum())
            warn(
                f"{few} of {len(count)} features of x have fewer than n_bins={n_bins} bins, as edges "
                "fall together"
            )
        return BinState(
            values.base, values.state(edges), jnp.asarray(count).astype(int).reshape(values.shape)
        )

    @of_data
    def transform(state: BinState, x: ArrayLike) -> Array:
        check_bins(state)
        check_missing("x", x)
        off, dtype = prepared(state.base, x, axis, "x")
        codes = _codes(off, state.edges)
        codes = jnp.where(jnp.isnan(off), n_bins if missing == "bin" else -1, codes)
        if not hot:
            return codes
        columns = codes.shape[-1] * width
        return jax.nn.one_hot(codes, width, dtype=dtype).reshape(*codes.shape[:-1], columns)

    @of_data
    def inverse_transform(state: BinState, y: ArrayLike) -> Array:
        check_bins(state)
        codes = as_array("y", y)
        if hot:
            if codes.ndim < 1 or codes.shape[-1] != width * state.bins.size:
                raise ValueError(
                    f"y must have {width * state.bins.size} columns, got shape {tuple(codes.shape)}"
                )
            columns = jnp.asarray(codes).reshape(*codes.shape[:-1], -1, width)
            codes = jnp.where(jnp.any(columns != 0, axis=-1), jnp.argmax(columns, axis=-1), -1)
        elif not jnp.issubdtype(codes.dtype, jnp.integer):
            raise TypeError(f"y must be whole numbers, the bins, got an array of {codes.dtype}")
        zero = jax.tree.map(jnp.zeros_like, state.base)
        wide, _ = prepared(zero, codes, axis, "y")
        middles = by_feature(_middle, wide, state.edges)
        return with_base(middles, state.base)

    return Transform(fit, transform, inverse_transform)


def _even_edges(values: Ordered, n_bins: int) -> Statistics:
    """Least + range k / n: an edge that is a whole number away from the least is not rounded."""
    xp = values.numpy
    least, most = values.at(xp.zeros_like(values.count)[None]), values.at(values.count[None])
    k = xp.arange(n_bins + 1)[:, None]
    whole, rest = xp.divmod(most - least, n_bins)
    more, part = xp.divmod(rest * k, n_bins)
    edges = least + (whole * k + more + part / n_bins)
    shares = k / n_bins
    edges = xp.where(xp.isinf(most - least), least * (1 - shares) + most * shares, edges)
    return xp.concatenate([edges[:-1], most])  # not by rounding beyond it


def _quantile_edges(values: Ordered, n_bins: int) -> Statistics:
    """The values at n k / n_bins, and the middle of two where that is a whole number."""
    xp = values.numpy
    products = xp.arange(n_bins + 1)[:, None] * values.count
    places = products // n_bins
    high = values.at(places)
    middle = values.at(places - 1) / 2 + high / 2  # whose sum may be beyond the dtype
    return xp.where(products % n_bins == 0, middle, high)


def _merged(edges: Statistics, values: Ordered) -> tuple[Statistics, Statistics]:
    """The edges that differ, the last of them repeated, and how many bins they make."""
    xp = values.numpy
    apart = xp.diff(edges, axis=0)
    wide = apart > xp.maximum(1e-8 * edges[-1] - 1e-8 * edges[0], 0)
    kept = xp.concatenate([xp.ones_like(wide[:1]), wide])
    order = (
        xp.argsort(~kept, axis=0, kind="stable") if xp is np else xp.argsort(~kept, axis=0, stable=True)
    )
    count = xp.sum(kept, axis=0)
    edges = xp.take_along_axis(edges, order, axis=0)
    last = xp.take_along_axis(edges, (count - 1)[None], axis=0)
    edges = xp.where(xp.arange(len(edges))[:, None] < count, edges, last)
    return edges, xp.maximum(count - 1, 1)


@jax.jit
def _codes(off: Array, edges: Array) -> Array:
    return by_feature(_code, off, edges)


def _code(off: Array, edges: Array) -> Array:
    inner = jnp.where(edges[1:-1] < edges[-1], edges[1:-1], jnp.inf)
    return jnp.searchsorted(inner, off, side="right").astype(jnp.int32)


def _middle(codes: Array, edges: Array) -> Array:
    last = len(edges) - 2
    bins = jnp.clip(codes, 0, last).astype(int)
    middles = edges[:-1] / 2 + edges[1:] / 2
    return jnp.where((codes < 0) | (codes > last), jnp.nan, middles[bins])
