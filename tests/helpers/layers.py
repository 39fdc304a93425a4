"""A layer, run on an input."""

import jax

KEY = jax.random.key(0)


def run(layer, x, **switches):
    params, state = layer.init(KEY, x)
    return layer.apply(params, state, x, **switches)[0]
