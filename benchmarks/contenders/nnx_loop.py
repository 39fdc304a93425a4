"""Flax NNX: a step compiled by `nnx.jit`, with or without `nnx.cached_partial`, in a Python loop."""

import functools

import optax
from flax import nnx

from benchmarks.contenders.loop import added, mean_loss, python_loop
from benchmarks.contenders.variants import DEPTH, DROPOUT, RATE

he, lecun = nnx.initializers.he_normal(), nnx.initializers.lecun_normal()


class Deep(nnx.Module):
    def __init__(self, rngs):
        @nnx.split_rngs(splits=DEPTH)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def stacked(rngs):
            return nnx.Linear(100, 100, kernel_init=lecun, rngs=rngs)

        self.first = nnx.Linear(784, 100, kernel_init=lecun, rngs=rngs)
        self.deep = stacked(rngs)
        self.last = nnx.Linear(100, 10, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def forward(x, layer):
            return nnx.selu(layer(x))

        return self.last(forward(nnx.selu(self.first(x)), self.deep))


def network(kind, rngs):
    if kind == "deep":
        return Deep(rngs)
    if kind == "conv":
        pool = functools.partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))
        return nnx.Sequential(
            nnx.Conv(1, 16, (3, 3), kernel_init=he, rngs=rngs),
            nnx.relu,
            pool,
            nnx.Conv(16, 32, (3, 3), kernel_init=he, rngs=rngs),
            nnx.relu,
            pool,
            lambda x: x.reshape(len(x), -1),
            nnx.Linear(32 * 7 * 7, 10, rngs=rngs),
        )
    layers = []
    for features in (784, 100, 100):
        layers += [nnx.Dropout(DROPOUT, rngs=rngs)] if kind == "dropout" else []
        layers += [nnx.Linear(features, 100, kernel_init=he, rngs=rngs)]
        layers += [nnx.BatchNorm(100, rngs=rngs)] if kind == "bn" else []
        layers += [nnx.relu]
    layers += [nnx.Dropout(DROPOUT, rngs=rngs)] if kind == "dropout" else []
    return nnx.Sequential(*layers, nnx.Linear(100, 10, rngs=rngs))


def train(variant, data, epochs, *, cached=False):
    model = network(variant.name, nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)

    def loss_fn(model, x, y):
        return mean_loss(model(x), y)

    def update(model, optimizer, totals, x, y):
        (loss, right), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model, x, y)
        optimizer.update(model, grads)
        return added(totals, loss, right, x)

    if not cached:
        update = nnx.jit(update)

        def step(carry, totals, x, y):
            return carry, update(*carry, totals, x, y)

        python_loop(step, (model, optimizer), data, epochs)
        return
    update = nnx.jit(update, graph=True, graph_updates=True)
    with nnx.set_graph_mode(True), nnx.set_graph_updates(True):
        cached_update = nnx.cached_partial(update, model, optimizer)
        python_loop(lambda carry, *args: (carry, cached_update(*args)), None, data, epochs)
