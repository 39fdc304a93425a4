"""A small problem with three classes, a network for it, its step and its run."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxdeep as jd
from jaxdeep.train import make_step, supervised

KEY = jax.random.key(0)


def problem(n=70, features=4, classes=3):
    x = jax.random.normal(jax.random.key(1), (n, features))
    return np.array(x), np.array(jnp.argmax(x[:, :classes], -1))


def network(rate=0.2):
    return jd.nn.serial(
        hidden=jd.nn.dense(8, activation=jax.nn.relu),
        bn=jd.nn.batch_norm(momentum=0.9),
        drop=jd.nn.dropout(rate),
        logits=jd.nn.dense(3),
    )


def setup(optimizer=None, rate=0.2, model=None):
    model = model or network(rate)
    optimizer = optimizer or jd.optimizers.adam(1e-2)
    objective = supervised(
        model, jd.losses.softmax_cross_entropy, metrics={"accuracy": jd.metrics.accuracy}
    )
    ts = jd.train.init(model, optimizer, problem()[0][:1], key=KEY)
    return objective, make_step(objective, optimizer), ts


def close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, u), v in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b)):
        if not jnp.issubdtype(u.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(u, v, err_msg=str(path), **tolerance)


def fit(**changes):
    arguments = {
        "model": network(),
        "data": problem(),
        "loss": jd.losses.softmax_cross_entropy,
        "metrics": {"accuracy": jd.metrics.accuracy},
        "optimizer": jd.optimizers.adam(1e-2),
        "epochs": 3,
        "batch_size": 16,
        "validation": problem(),
        "key": KEY,
        "progress": False,
    } | changes
    return jd.fit(arguments.pop("model"), arguments.pop("data"), **arguments)


X, Y = problem()
