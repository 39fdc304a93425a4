"""A small run of `jaxdeep.fit`, and what it means for two runs to be the same."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxdeep as jd

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (100, 4))
Y = (X[:, 0] > X[:, 1]).astype(int)
MODEL = jd.nn.serial(
    hidden=jd.nn.dense(8, activation=jax.nn.relu),
    bn=jd.nn.batch_norm(momentum=0.9),
    drop=jd.nn.dropout(0.2),
    out=jd.nn.dense(2),
)
OBJECTIVE = jd.train.supervised(
    MODEL, jd.losses.softmax_cross_entropy, metrics={"accuracy": jd.metrics.accuracy}
)


def plain(tree):
    def words(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(words, tree)


def identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, plain(a), plain(b))


def close(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6), plain(a), plain(b))


ARGUMENTS = {
    "model": MODEL,
    "data": (X, Y),
    "validation": (X, Y),
    "loss": jd.losses.softmax_cross_entropy,
    "metrics": {"accuracy": jd.metrics.accuracy},
    "batch_size": 16,
}


def fit(**changes):
    usual = {"optimizer": jd.optimizers.adam(0.01), "epochs": 5, "key": KEY, "progress": False}
    arguments = ARGUMENTS | usual | changes
    return jd.fit(arguments.pop("model"), arguments.pop("data"), **arguments)


# --- interrupted runs -----------------------------------------------------------------------------

STOPPING = jd.train.EarlyStopping(patience=4, monitor="val_accuracy")


def same(a, b):
    identical(a.train_state, b.train_state)
    identical((a.params, a.state), (b.params, b.state))
    identical(a.history, b.history)
    assert a.best_epoch == b.best_epoch
