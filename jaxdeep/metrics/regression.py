"""Streaming metrics of regression that are no averages of a function of examples."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, broadcasting, weights_of_rows
from jaxdeep._calls import remembered
from jaxdeep._pairs import errors_of, pair
from jaxdeep._precision import HostOrDevice, in_two
from jaxdeep._shapes import Array, Float, PyTree
from jaxdeep.metrics.inputs import spread
from jaxdeep.metrics.streaming import (
    Found,
    Metric,
    Pair,
    Sums,
    added,
    exactly,
    of_sums,
    share,
    times,
    total,
)

_NONE = -5000.0  # the exponent of what is 0, below that of any float


@remembered
def r2(outputs: int = 1, *, multioutput: str = "uniform_average") -> Metric:
    """R², the coefficient of determination: ``1 − Σ w (y − ŷ)² / Σ w (y − ȳ)²`` over all examples.

    ȳ is the weighted mean of all targets y, so that R² is 1 for perfect outputs ŷ and 0 for those that
    are ȳ. Mean and squares of batches are merged without cancellation, so that targets far from 0 lose
    nothing by it: NumPy targets of 64 bits keep their digits, too.

    Args:
      outputs: their number, if there are several. Outputs and targets are ``(n,)`` or ``(…, 1)`` for
        one, ``(…, outputs)`` for several.
      multioutput: of several outputs the mean ("uniform_average"), the mean weighted by their sums of
        ``(y − ȳ)²`` ("variance_weighted"), or each ("raw_values", shape ``(outputs,)``).

    Returns:
      A streaming `Metric`. NaN for fewer than 2 examples. With targets that are all equal it is 1 if the
      outputs are these, and else 0; so is the value of several outputs one by one.

    Raises:
      ValueError, TypeError: targets of another shape, or that cannot be held; another number of outputs;
        another `multioutput`; known weights that are negative or not finite.

    States are joined by `merge`; what was added up leaf by leaf (`jax.lax.psum`) gives NaN. Squares are
    those of numbers divided by a power of two, which the state holds, so that they leave the range of
    float32 for targets in no unit that float32 holds.

    Source: `sklearn.metrics.r2_score`; merging of Chan et al. (1979).

    >>> metric = r2()
    >>> state = metric.update(metric.init(), jnp.array([2.5, 0.0, 2.0]), jnp.array([3.0, -0.5, 2.0]))
    >>> state = metric.update(state, jnp.array([8.0]), jnp.array([7.0]))
    >>> round(float(metric.compute(state)), 4)
    0.9486
    """
    outputs = _checks.check_count("outputs", outputs)
    _checks.check_choice(
        "multioutput", multioutput, ("uniform_average", "variance_weighted", "raw_values")
    )
    shape = (outputs,)

    def counts(predicted: Any, y: Any, weights: Any) -> Found:
        errors, targets, w = _in_columns("r2", outputs, predicted, y, weights)
        weight = exactly(len(errors)) if w is None else total(w)
        rows = exactly(len(errors)) if w is None else total(w != 0)
        factors = jnp.ones((len(errors), 1), errors.dtype) if w is None else w[:, None]
        factors, of_weights = _scaled(factors)
        errors, of_errors = _scaled(errors)
        high, low = in_two(targets, errors.dtype)
        high, unit = _scaled(high)
        mean, rest, squares = _moments(high, None if low is None else _shifted(low, -unit), factors)
        error = _columns_total(times(factors, jnp.square(errors)))
        sums: dict[str, Any] = {"weight": weight, "rows": rows, "error": error, "squares": squares}
        return sums | {
            "mean": mean,
            "rest": rest,
            "mean_exponent": unit,
            "error_exponent": 2 * of_errors + of_weights,
            "squares_exponent": 2 * unit + of_weights,
            "parts": jnp.ones(()),
        }

    def compute(state: Sums) -> Array:
        error, squares = state["error"], state["squares"]
        ratio = error / jnp.where(squares == 0, 1, squares)
        ratio = _shifted(ratio, state["error_exponent"] - state["squares_exponent"])
        scores = jnp.where(error == 0, 1, jnp.where(squares == 0, 0, 1 - ratio))
        scores = jnp.where((state["rows"] < 2) | (state["parts"] != 1), jnp.nan, scores)
        if multioutput == "raw_values":
            return scores
        if multioutput == "uniform_average":
            return jnp.mean(scores)
        exponent = state["squares_exponent"]
        squares = _shifted(squares, exponent - jnp.max(exponent))
        largest = jnp.max(squares)
        part = jnp.where(largest == 0, 1, squares / jnp.where(largest == 0, 1, largest))
        return jnp.sum(scores * part) / jnp.sum(part)

    shapes = {"weight": (), "rows": (), "error": shape, "squares": shape}
    beside: dict[str, Any] = {"mean": np.zeros(shape), "rest": np.zeros(shape), "parts": 1.0}
    beside |= {f"{name}_exponent": np.full(shape, _NONE) for name in ("mean", "error", "squares")}
    return of_sums(shapes, counts, compute, beside=beside, aligned=_aligned)


@remembered
def rmse(outputs: int = 1, *, multioutput: str = "uniform_average") -> Metric:
    """Root of the mean squared error over all examples: ``√(Σ w (y − ŷ)² / Σ w)``.

    Args:
      outputs: their number, if there are several. Outputs and targets are ``(n,)`` or ``(…, 1)`` for
        one, ``(…, outputs)`` for several; with "joint" of any shape.
      multioutput: of several outputs the mean of their roots ("uniform_average", scikit-learn's), each
        root ("raw_values", shape ``(outputs,)``), or the root of the mean over all elements ("joint",
        Keras').

    Returns:
      A streaming `Metric`; 0 for no examples. States hold squares as those of `r2` do, and are joined by
      `merge` alone.

    Raises:
      ValueError, TypeError: targets of another shape, or that cannot be held; another number of outputs;
        another `multioutput`; known weights that are negative or not finite.

    Source: `sklearn.metrics.root_mean_squared_error`; Keras' `RootMeanSquaredError`.

    >>> metric = rmse(2)
    >>> batch = jnp.array([[1.0, 4.0], [1.0, 4.0]]), jnp.zeros((2, 2))
    >>> float(metric.compute(metric.update(metric.init(), *batch)))
    2.5
    >>> metric = rmse(multioutput="joint")
    >>> round(float(metric.compute(metric.update(metric.init(), *batch))), 3)
    2.915
    """
    outputs = _checks.check_count("outputs", outputs)
    _checks.check_choice("multioutput", multioutput, ("uniform_average", "raw_values", "joint"))
    joint = multioutput == "joint"

    def counts(predicted: Any, y: Any, weights: Any) -> Found:
        if joint:
            errors = _errors(predicted, y)[0]
            w = spread(weights, errors.shape)
            weight = exactly(errors.size) if w is None else total(w)
        else:
            errors, _, w = _in_columns("rmse", outputs, predicted, y, weights)
            weight = exactly(len(errors)) if w is None else total(w)
            w = None if w is None else w[:, None]
        of_all = _columns_total if not joint else total
        errors, exponent = _scaled(errors, None if joint else 0)
        squares, exponent = jnp.square(errors), 2 * exponent
        if w is not None:
            w, of_weights = _scaled(w.astype(errors.dtype), None)
            squares, exponent = times(w, squares), exponent + of_weights
        sums = {"error": of_all(squares), "weight": weight}
        return sums | {"error_exponent": exponent, "parts": jnp.ones(())}

    def compute(state: Sums) -> Array:
        weight, of_weight = jnp.frexp(state["weight"])
        exponent = state["error_exponent"] - of_weight
        half = jnp.floor(exponent / 2)
        mean = _shifted(share(state["error"], weight), exponent - 2 * half)
        roots = _shifted(jnp.sqrt(mean), half)
        roots = jnp.where(state["parts"] == 1, roots, jnp.nan)
        return jnp.mean(roots) if multioutput == "uniform_average" else roots

    shape = () if joint else (outputs,)
    beside: dict[str, Any] = {"error_exponent": np.full(shape, _NONE), "parts": 1.0}
    return of_sums(
        {"error": shape, "weight": ()}, counts, compute, beside=beside, aligned=_aligned_errors
    )


def _errors(outputs: Any, y: Any) -> tuple[Array, HostOrDevice]:
    """``outputs − targets``, and the targets in that shape."""
    uncut = as_array("outputs", outputs)
    on_device, targets = pair("targets", uncut, y)
    return errors_of(uncut, on_device, targets), targets


def _in_columns(
    name: str, outputs: int, predicted: Any, y: Any, weights: Any
) -> tuple[Float[Array, "n outputs"], HostOrDevice, Float[Array, "n"] | None]:
    """Errors and targets, a column for each output, and the weights of rows."""
    errors, targets = _errors(predicted, y)
    shape = errors.shape if errors.shape[-1:] == (outputs,) and errors.ndim > 1 else (*errors.shape, 1)
    if shape[-1] != outputs or (errors.ndim > 1 and errors.shape[-1] != outputs):
        several = f"{name}({errors.shape[-1]})" if errors.ndim > 1 else f"{name}(1)"
        raise ValueError(
            f"{name}({outputs}) needs outputs (…, {outputs})"
            f"{' or (n,)' if outputs == 1 else ''}, got {errors.shape}; {several} takes these"
        )
    weights = None if weights is None else weights_of_rows(weights)
    w = spread(weights, shape[:-1] if weights is None or np.ndim(weights) < errors.ndim else shape)
    if w is not None and w.shape == shape:
        if outputs > 1:
            raise ValueError(
                f"weights must be one for each example, got {w.shape} for {outputs} outputs"
            )
        w = w[..., 0]
    return (
        errors.reshape(-1, outputs),
        targets.reshape(-1, outputs),
        None if w is None else jnp.ravel(w).astype(errors.dtype),
    )


@broadcasting
def _moments(
    high: Float[Array, "n outputs"],
    low: Float[Array, "n outputs"] | None,
    weights: Float[Array, "n 1"],
) -> tuple[Array, Array, Array]:
    """The weighted mean of each column, in two parts, and the sum of squares about it.

    It is estimated from the first row and then corrected, so that equal values have squares of 0.
    """
    whole = jnp.sum(weights)
    if not len(high):
        nothing = jnp.zeros(high.shape[1], high.dtype)
        return nothing, nothing, nothing

    def about(mean: Array, rest: Array) -> Array:
        off = high - mean
        return off - rest if low is None else off + (low - rest)

    def averaged(values: Array) -> Array:
        return share(_columns_total(times(weights, values)), whole)

    first, first_rest = high[0], jnp.zeros_like(high[0]) if low is None else low[0]
    mean, rest = _two_sum(first, first_rest + averaged(about(first, first_rest)))
    off = about(mean, rest)
    correction = averaged(off)
    squares = _columns_total(times(weights, jnp.square(off - correction)))
    mean, rest = _two_sum(mean, rest + correction)
    return mean, rest, squares


def _aligned(one: PyTree, other: PyTree) -> tuple[PyTree, PyTree]:
    """The states with squares about the mean of both together, and exponents that both have."""
    one, other = _aligned_errors(one, other)
    unit = jnp.maximum(one["mean_exponent"], other["mean_exponent"])
    one, other = (
        state | {name: _shifted(state[name], state["mean_exponent"] - unit) for name in ("mean", "rest")}
        for state in (one, other)
    )
    both = one["weight"] + other["weight"]
    apart = (other["mean"] - one["mean"]) + (other["rest"] - one["rest"])
    share_of_other = share(other["weight"], both)
    mean, rest = _two_sum(one["mean"], one["rest"] + apart * share_of_other)
    # of no data the mean is that of the other, to the last digit
    alone, none = other["weight"] == 0, one["weight"] == 0
    mean = jnp.where(alone, one["mean"], jnp.where(none, other["mean"], mean))
    rest = jnp.where(alone, one["rest"], jnp.where(none, other["rest"], rest))

    def moved(state: PyTree, off: Array) -> tuple[Pair, Array]:
        weight, of_weight = jnp.frexp(state["weight"])
        further = jnp.where(alone | none, 0, weight * jnp.square(off))
        exponent = jnp.where(further == 0, _NONE, of_weight + 2 * unit)
        common = jnp.maximum(exponent, state["squares_exponent"])
        down = state["squares_exponent"] - common
        pair = _shifted(state["squares"], down), _shifted(state["lost"]["squares"], down)
        further = _shifted(further, exponent - common)
        return added(*pair, further, jnp.zeros_like(further)), common

    def with_squares(state: PyTree, off: Array) -> PyTree:
        (squares, lost), exponent = moved(state, off)
        return (
            state
            | {"squares": squares, "squares_exponent": exponent}
            | {"mean": mean, "rest": rest, "mean_exponent": unit}
            | {"lost": state["lost"] | {"squares": lost}}
        )

    one = with_squares(one, apart * share_of_other)
    other = with_squares(other, apart * share(one["weight"], both))
    return _of_both("squares", one, other)


def _aligned_errors(one: PyTree, other: PyTree) -> tuple[PyTree, PyTree]:
    """The states with squares of errors of one exponent."""
    parts = {"parts": jnp.maximum(one["parts"], other["parts"])}
    return _of_both("error", one | parts, other | parts)


def _of_both(name: str, one: PyTree, other: PyTree) -> tuple[PyTree, PyTree]:
    """The states with this sum in the larger of their exponents."""
    exponent = jnp.maximum(one[f"{name}_exponent"], other[f"{name}_exponent"])

    def shifted(state: PyTree) -> PyTree:
        down = state[f"{name}_exponent"] - exponent
        lost = state["lost"] | {name: _shifted(state["lost"][name], down)}
        rescaled = {name: _shifted(state[name], down), f"{name}_exponent": exponent}
        return state | rescaled | {"lost": lost}

    return shifted(one), shifted(other)


def _scaled(values: Array, axis: int | None = 0) -> Pair:
    """Values as shares of a power of two above the largest in size along the axis, and its exponent."""
    size = jnp.abs(jnp.where(jnp.isfinite(values), values, 0))
    largest = jnp.max(size, axis=axis, initial=0)
    exponent = jnp.where(largest == 0, _NONE, jnp.frexp(largest)[1].astype(values.dtype))
    return _shifted(values, -exponent), exponent


def _shifted(values: Array, exponent: Array) -> Array:
    """``values · 2^exponent``."""
    return jnp.ldexp(*jnp.broadcast_arrays(values, exponent.astype(jnp.int32)))


def _columns_total(values: Float[Array, "n outputs"]) -> Float[Array, "outputs"]:
    """The sum of each column, of many rows as sums of few, which lose less."""
    few = 256
    while len(values) > few:
        values = jnp.pad(values, ((0, -len(values) % few), (0, 0)))
        values = jnp.sum(values.reshape(-1, few, values.shape[1]), axis=1)
    return jnp.sum(values, axis=0)


def _two_sum(a: Array, b: Array) -> Pair:
    """``a + b`` and what rounding took off it."""
    rounded = a + b
    of_b = rounded - a
    lost = (a - (rounded - of_b)) + (b - of_b)
    finite = jnp.isfinite(rounded)
    return rounded, jnp.where(finite, lost, 0)
