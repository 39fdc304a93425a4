"""Networks that draw, and the loop over keys that they are compared with."""

import jax
import numpy as np

import jaxdeep as jd

KEY = jax.random.key(11)


X = jax.random.normal(jax.random.key(1), (37, 6))


nn = jd.nn


def relu_dense(units):
    return nn.dense(units, activation=jax.nn.relu)


def network(make=nn.dropout, rate=0.3):
    return nn.serial(make(rate), relu_dense(8), make(rate), nn.dense(3))


def ready(model, x=X):
    """A model with parameters from NumPy, for which nothing need be compiled."""
    rng = np.random.default_rng(0)
    params, state = jax.eval_shape(lambda key: model.init(key, x), KEY)
    params = jax.tree.map(lambda a: np.float32(rng.normal(size=a.shape) / 2), params)
    return model, params, jax.tree.map(lambda a: np.ones(a.shape, np.float32), state)


def brute(model, params, state, x, samples, key=KEY, outputs=jax.nn.softmax):
    """The predictions of all rows at once, one sample after the other."""
    once = jax.jit(lambda params, x, key: outputs(model.apply(params, state, x, key=key)[0]))
    return np.stack([np.asarray(once(params, x, k)) for k in jax.random.split(key, samples)])


def check(pred, samples, tol=1e-6):
    """A prediction against all of its samples."""
    p = np.asarray(samples, np.float64)
    entropy = lambda p: -(p * np.log(np.maximum(p, 1e-300))).sum(-1)  # noqa: E731
    np.testing.assert_allclose(pred.mean, p.mean(0), atol=tol)
    np.testing.assert_allclose(pred.std, p.std(0), atol=tol)
    np.testing.assert_allclose(pred.entropy, entropy(p.mean(0)), atol=3 * tol)
    within = entropy(p).mean(0)
    np.testing.assert_allclose(pred.mutual_information, entropy(p.mean(0)) - within, atol=3 * tol)


def constructed():
    """60 predictions at 0.55 of which 30 are right, 40 at 0.95 of which 36 are: gaps 0.05 and 0.05."""
    confidence = np.repeat([0.55, 0.95], [60, 40])
    right = np.concatenate([np.arange(60) < 30, np.arange(40) < 36])
    predicted = np.arange(100) % 3
    p = np.full((100, 3), 0.0)
    p += ((1 - confidence) / 2)[:, None]
    p[np.arange(100), predicted] = confidence
    return p.astype(np.float32), np.where(right, predicted, (predicted + 1) % 3)


def nll(logits, y):
    return float(jd.losses.softmax_cross_entropy(logits, y).mean())
