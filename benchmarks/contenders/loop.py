"""The Python loop of the contenders that leave it to their users."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contenders import tell
from benchmarks.contenders.variants import BATCH


def mean_loss(logits, y):
    """The loss of a batch, and how many of it are right."""
    loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return loss, (logits.argmax(-1) == y).sum()


def added(totals, loss, right, x):
    return totals[0] + loss * len(x), totals[1] + right


def python_loop(step, carry, data, epochs):
    """Epochs of ``carry, totals = step(carry, totals, x, y)`` over shuffled batches."""
    (x, y), rng = data, np.random.default_rng(0)
    for _ in range(epochs):
        totals = (jnp.zeros(()), jnp.zeros((), jnp.int32))
        order = rng.permutation(len(x))
        for i in range(0, len(x), BATCH):
            rows = order[i : i + BATCH]
            carry, totals = step(carry, totals, x[rows], y[rows])
        loss, right = jax.device_get(totals)
        tell(loss / len(x), right / len(x))
