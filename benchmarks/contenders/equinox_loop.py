"""Equinox with optax: a step compiled by `eqx.filter_jit` in a Python loop."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from benchmarks.contenders.loop import added, mean_loss, python_loop
from benchmarks.contenders.variants import DEPTH, DROPOUT, RATE

he, lecun = jax.nn.initializers.he_normal(in_axis=1, out_axis=0), jax.nn.initializers.lecun_normal(1, 0)


def linear(features, units, key, init):
    layer = eqx.nn.Linear(features, units, key=key)
    layer = eqx.tree_at(lambda layer: layer.weight, layer, init(key, layer.weight.shape))
    return eqx.tree_at(lambda layer: layer.bias, layer, jnp.zeros_like(layer.bias))


def conv(channels, filters, key):
    layer = eqx.nn.Conv2d(channels, filters, 3, padding="SAME", key=key)
    return eqx.tree_at(lambda layer: layer.weight, layer, he(key, layer.weight.shape))


class Deep(eqx.Module):
    first: eqx.nn.Linear
    layers: eqx.nn.Linear
    last: eqx.nn.Linear

    def __init__(self, key):
        first, deep, last = jax.random.split(key, 3)
        self.first = linear(784, 100, first, lecun)
        self.layers = eqx.filter_vmap(lambda key: linear(100, 100, key, lecun))(
            jax.random.split(deep, DEPTH)
        )
        self.last = eqx.nn.Linear(100, 10, key=last)

    def __call__(self, x, state, *, key=None):
        arrays, rest = eqx.partition(self.layers, eqx.is_array)
        x = jax.nn.selu(self.first(x))
        x, _ = jax.lax.scan(lambda x, own: (jax.nn.selu(eqx.combine(own, rest)(x)), None), x, arrays)
        return self.last(x), state


def network(kind, key):
    if kind == "deep":
        return Deep(key)
    nn, relu = eqx.nn, eqx.nn.Lambda(jax.nn.relu)
    keys = iter(jax.random.split(key, 4))
    if kind == "conv":
        pool = nn.MaxPool2d(2, 2)
        layers = [conv(1, 16, next(keys)), relu, pool, conv(16, 32, next(keys)), relu, pool]
        return nn.Sequential([*layers, nn.Lambda(jnp.ravel), nn.Linear(32 * 7 * 7, 10, key=next(keys))])
    layers = []
    for features in (784, 100, 100):
        layers += [nn.Dropout(DROPOUT)] if kind == "dropout" else []
        layers += [linear(features, 100, next(keys), he)]
        layers += [nn.BatchNorm(100, axis_name="batch", mode="batch")] if kind == "bn" else []
        layers += [relu]
    layers += [nn.Dropout(DROPOUT)] if kind == "dropout" else []
    return nn.Sequential([*layers, nn.Linear(100, 10, key=next(keys))])


def train(variant, data, epochs):
    model, state = eqx.nn.make_with_state(network)(variant.name, jax.random.key(0))
    tx = optax.adam(RATE)

    def loss_fn(model, state, x, y, key):
        if key is None:
            batched = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
            logits, state = batched(x, state)
        else:
            logits, state = jax.vmap(lambda x, key: model(x, state, key=key), out_axes=(0, None))(
                x, jax.random.split(key, len(x))
            )
        loss, right = mean_loss(logits, y)
        return loss, (right, state)

    @eqx.filter_jit(donate="all")
    def step(carry, totals, x, y):
        model, state, opt_state, key = carry
        own = None
        if variant.name == "dropout":
            key, own = jax.random.split(key)
        grad = eqx.filter_value_and_grad(loss_fn, has_aux=True)
        (loss, (right, state)), grads = grad(model, state, x, y, own)
        updates, opt_state = tx.update(grads, opt_state, eqx.filter(model, eqx.is_inexact_array))
        return (eqx.apply_updates(model, updates), state, opt_state, key), added(totals, loss, right, x)

    opt_state = tx.init(eqx.filter(model, eqx.is_inexact_array))
    if variant.name == "conv":
        data = data[0].transpose(0, 3, 1, 2), data[1]
    python_loop(step, (model, state, opt_state, jax.random.key(1)), data, epochs)
