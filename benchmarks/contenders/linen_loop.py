"""Flax Linen with optax: a jitted step with donation in a Python loop."""

import flax.linen as nn
import jax
import optax

from benchmarks.contenders.loop import added, mean_loss, python_loop
from benchmarks.contenders.variants import DEPTH, DROPOUT, RATE

he, lecun = nn.initializers.he_normal(), nn.initializers.lecun_normal()


class Layer(nn.Module):
    """One of the deep network's, in the form of `nn.scan`."""

    @nn.compact
    def __call__(self, x, _):
        return nn.selu(nn.Dense(100, kernel_init=lecun)(x)), None


class Network(nn.Module):
    kind: str

    @nn.compact
    def __call__(self, x):
        if self.kind == "deep":
            x = nn.selu(nn.Dense(100, kernel_init=lecun)(x))
            scan = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=DEPTH)
            x, _ = scan()(x, None)
        elif self.kind == "conv":
            for filters in (16, 32):
                x = nn.relu(nn.Conv(filters, (3, 3), kernel_init=he)(x))
                x = nn.max_pool(x, (2, 2), (2, 2))
            x = x.reshape(len(x), -1)
        else:
            for _ in range(3):
                if self.kind == "dropout":
                    x = nn.Dropout(DROPOUT, deterministic=False)(x)
                x = nn.Dense(100, kernel_init=he)(x)
                if self.kind == "bn":
                    x = nn.BatchNorm(use_running_average=False)(x)
                x = nn.relu(x)
            if self.kind == "dropout":
                x = nn.Dropout(DROPOUT, deterministic=False)(x)
        return nn.Dense(10)(x)


def train(variant, data, epochs):
    model, tx = Network(variant.name), optax.adam(RATE)

    def loss_fn(params, state, x, y, key):
        logits, state = model.apply(
            {"params": params, **state}, x, mutable=["batch_stats"], rngs={"dropout": key}
        )
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

    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = dict(jax.jit(model.init)(keys, data[0][:1]))
    params = variables.pop("params")
    carry = params, variables, tx.init(params), jax.random.key(2)
    python_loop(jax.jit(step, donate_argnums=(0, 1)), carry, data, epochs)
