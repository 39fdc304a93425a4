"""Trained layers, and what it means that a model did not change."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import jaxdeep as jd

nn = jd.nn


relu = nn.activation(jax.nn.relu)


def dense(units, **how):
    return nn.dense(units, **how)


def norm(**how):
    return nn.batch_norm(**how)


def trained(model, x, *, shift=True, positive=False, seed=0):
    """Parameters and statistics as after training: nothing is where `init` puts it."""
    rng = np.random.default_rng(seed)

    def value(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        name, noise = jd.tree.path_name(path).split("/")[-1], rng.normal(size=leaf.shape)
        if name == "var" or (name == "scale" and positive):
            noise = np.exp(noise)
        elif name == "kernel":
            noise *= leaf.shape[-2] ** -0.5
        elif name == "mean" and not shift:
            noise *= 0
        return jnp.asarray(noise, leaf.dtype)

    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    return jax.tree_util.tree_map_with_path(value, shapes)


def draw(*shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(7).normal(size=shape), dtype)


def relative(y, like):
    """The largest difference, against the size of the outputs."""
    pairs = zip(jax.tree.leaves(y), jax.tree.leaves(like))
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)


IMAGE = (3, 8, 8, 3)


def network(**how):
    """A small one of the chapter's kind, from 6 numbers to 3 classes."""
    return nn.serial(
        flatten=nn.flatten(),
        hidden0=dense(16, activation=jax.nn.relu),
        hidden1=dense(8, activation=jax.nn.relu),
        logits=dense(3, **how),
    )
