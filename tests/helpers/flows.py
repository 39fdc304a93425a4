"""Networks whose layers are measured, and the digits they are judged on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.diagnostics import find_learning_rate, gradient_flow

SLOW = pytest.mark.slow  # compiling is what these tests take their time for


KEY = jax.random.key(0)


CE = jd.losses.softmax_cross_entropy


INIT = jd.nn.initializers


X = np.asarray(jax.random.normal(jax.random.key(1), (96, 12)))


Y = np.argmax(X[:, :4], axis=-1)


def begun(model, x=X):
    return model.init(KEY, x[:1])


def flow(model, batch=(X, Y), **changes):
    return gradient_flow(model, *begun(model, batch[0]), batch, **({"loss": CE} | changes))


def small():
    return jd.nn.serial(
        hidden=jd.nn.dense(16, activation=jnp.tanh),
        bn=jd.nn.batch_norm(),
        act=jd.nn.activation(jax.nn.relu),
        drop=jd.nn.dropout(0.2),
        logits=jd.nn.dense(4),
    )


DIGITS = jd.datasets.digits().train


def network(depth, width, activation, init, *, head=None, **more):
    hidden = {
        f"hidden{i + 1}": jd.nn.dense(width, activation=activation, kernel_init=init, **more)
        for i in range(depth)
    }
    logits = jd.nn.dense(10, **({} if head is None else {"kernel_init": head}))
    return jd.nn.serial(flatten=jd.nn.flatten(), **hidden, logits=logits)


UNIT = INIT.normal(1.0)


def find(model=None, data=(X, Y), **changes):
    arguments = {"loss": CE, "optimizer": jd.optimizers.adam, "key": KEY, "batch_size": 16, "steps": 60}
    return find_learning_rate(model or small(), data, **(arguments | changes))
