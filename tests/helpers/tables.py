"""Skewed columns, and sums of parts."""

import jax
import numpy as np

RNG = np.random.default_rng(0)


SKEWED = np.stack(
    [
        np.exp(RNG.normal(size=200)),
        RNG.gamma(2, size=200),
        RNG.beta(5, 1, size=200),
        RNG.pareto(1.5, size=200) + 1,
        1e6 * np.exp(RNG.normal(size=200)),
    ],
    axis=1,
)


def close(a, b, **tolerances):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), a, b)
