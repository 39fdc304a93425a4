"""Whether two sweeps had the same result."""

import jax
import numpy as np


def identical(a, b):
    """Whether two tables have the same rows, histories and parameters, bit for bit."""
    assert a.points == b.points
    for i, (one, other) in enumerate(zip(a.rows(), b.rows(), strict=True)):
        np.testing.assert_equal(one, other)
        histories = a.history(i), b.history(i)
        assert list(histories[0]) == list(histories[1])
        jax.tree.map(np.testing.assert_array_equal, *histories)
        jax.tree.map(np.testing.assert_array_equal, a.trained(i), b.trained(i))
