"""Functions of JAX and an optax optimizer: a jitted step with donation in a Python loop."""

import functools

import jax
import jax.numpy as jnp
import optax

from benchmarks.contenders.loop import added, mean_loss, python_loop
from benchmarks.contenders.variants import DEPTH, DROPOUT, RATE

he, lecun, glorot = (
    jax.nn.initializers.he_normal(),
    jax.nn.initializers.lecun_normal(),
    jax.nn.initializers.glorot_uniform(),
)


def dense(key, features, units, init=he):
    return {"kernel": init(key, (features, units)), "bias": jnp.zeros(units)}


def affine(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def batch_norm(layer, running, x, momentum=0.99, epsilon=1e-5):
    mean, var = x.mean(0), x.var(0)
    running = jax.tree.map(
        lambda old, new: momentum * old + (1 - momentum) * new, running, {"mean": mean, "var": var}
    )
    return (x - mean) * jax.lax.rsqrt(var + epsilon) * layer["scale"] + layer["bias"], running


def drop(key, x):
    return jnp.where(jax.random.bernoulli(key, 1 - DROPOUT, x.shape), x / (1 - DROPOUT), 0)


def dense_network(kind):
    """``init(key)``, and ``apply(params, state, x, key)`` in training."""
    sizes = [784, 100, 100, 100, 10]

    def init(key):
        keys = jax.random.split(key, 4)
        inits = [he, he, he, glorot]
        params = [dense(*each) for each in zip(keys, sizes, sizes[1:], inits)]
        state = []
        if kind == "bn":
            for layer in params[:-1]:
                layer["bn"] = {"scale": jnp.ones(100), "bias": jnp.zeros(100)}
            state = [{"mean": jnp.zeros(100), "var": jnp.ones(100)} for _ in range(3)]
        return params, state

    def apply(params, state, x, key):
        new_state = []
        for i, layer in enumerate(params):
            if kind == "dropout":
                x = drop(jax.random.fold_in(key, i), x)
            x = affine(layer, x)
            if layer is params[-1]:
                return x, new_state
            if kind == "bn":
                x, running = batch_norm(layer["bn"], state[i], x)
                new_state.append(running)
            x = jax.nn.relu(x)

    return init, apply


def deep_network():
    def init(key):
        first, deep, last = jax.random.split(key, 3)
        make = functools.partial(dense, features=100, units=100, init=lecun)
        deep = jax.vmap(make)(jax.random.split(deep, DEPTH))
        return [dense(first, 784, 100, lecun), deep, dense(last, 100, 10, glorot)], []

    def apply(params, state, x, key):
        first, deep, last = params
        x = jax.nn.selu(affine(first, x))
        x, _ = jax.lax.scan(lambda x, layer: (jax.nn.selu(affine(layer, x)), None), x, deep)
        return affine(last, x), state

    return init, apply


def conv_network():
    def init(key):
        one, two, last = jax.random.split(key, 3)
        convs = [
            {"kernel": he(key, (3, 3, *channels)), "bias": jnp.zeros(channels[1])}
            for key, channels in ((one, (1, 16)), (two, (16, 32)))
        ]
        return [*convs, dense(last, 32 * 7 * 7, 10, glorot)], []

    def apply(params, state, x, key):
        for layer in params[:-1]:
            x = jax.lax.conv_general_dilated(
                x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + layer["bias"])
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return affine(params[-1], x.reshape(len(x), -1)), state

    return init, apply


def train(variant, data, epochs):
    special = {"deep": deep_network, "conv": conv_network}
    init, apply = special.get(variant.name, functools.partial(dense_network, variant.name))()
    tx = optax.adam(RATE)

    def loss_fn(params, state, x, y, key):
        logits, state = apply(params, state, x, key)
        loss, right = mean_loss(logits, y)
        return loss, (right, state)

    def step(carry, totals, x, y):
        params, state, opt_state, key = carry
        key, own = jax.random.split(key) if variant.name == "dropout" else (key, key)
        grad = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (right, state)), grads = grad(params, state, x, y, own)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        return (params, state, opt_state, key), added(totals, loss, right, x)

    params, state = jax.jit(init)(jax.random.key(0))
    carry = params, state, tx.init(params), jax.random.key(1)
    python_loop(jax.jit(step, donate_argnums=(0, 1)), carry, data, epochs)
