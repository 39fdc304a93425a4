"""A streaming metric over a table of a fixed number of rows, which is compiled once."""

import functools

import hypothesis.strategies as st
import jax
import numpy as np

ROWS = 12

# Which numbers a table holds, which of its rows count, and where it is cut in two.
TABLES = {
    "seed": st.integers(0, 2**32 - 1),
    "kind": st.sampled_from(["any", "constant", "one class", "one row", "right", "wrong"]),
    "cut": st.integers(0, ROWS),
    "weighted": st.booleans(),
}


def weights_of(rng, kind, weighted):
    """Weights of rows, some of them 0; all are 1 if they are not weighted."""
    if kind == "one row":
        return np.eye(ROWS, dtype=np.float32)[rng.integers(ROWS)]
    if not weighted:
        return np.ones(ROWS, np.float32)
    weights = rng.integers(0, 4, ROWS) * rng.choice([0.5, 1.0, 3.0])
    weights[rng.permutation(ROWS)[:2]] = 1
    return weights.astype(np.float32)


@functools.cache
def values_of(make, *args, **options):
    """``(outputs, y, weights, cut) -> values``: of all rows, and of two parts merged either way."""
    metric = make(*args, **options)

    @jax.jit
    def values(outputs, y, weights, cut):
        first = np.arange(ROWS) < cut
        update = lambda w: metric.update(metric.init(), outputs, y, w)  # noqa: E731
        one, other = update(weights * first), update(weights * ~first)
        states = update(weights), metric.merge(one, other), metric.merge(other, one)
        return [metric.compute(state) for state in states]

    return values


def streamed(metric, *batches):
    """A metric's value of batches, one after the other."""
    state = metric.init()
    for batch in batches:
        state = metric.update(state, *batch)
    return np.asarray(metric.compute(state))
