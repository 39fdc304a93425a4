"""Live parity with the installed optax: 50 steps over random pytrees with random hyperparameters."""

import chex
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep import optimizers as o

STEPS = 50

rate = st.floats(1e-3, 0.1)
decay = st.floats(0.5, 0.99)
eps = st.floats(1e-8, 1e-2)
flag = st.booleans()


def kwargs(**strategies):
    return st.fixed_dictionaries(strategies)


moments = {"b1": decay, "b2": st.floats(0.9, 0.9999), "eps": eps, "eps_root": eps}
# name: (ours, optax's, keyword strategies of both)
PAIRS = {
    "sgd": (o.sgd, optax.sgd, kwargs()),
    "momentum": (o.sgd, optax.sgd, kwargs(momentum=decay, nesterov=flag)),
    "adagrad": (
        o.adagrad,
        optax.adagrad,
        kwargs(initial_accumulator_value=st.floats(0, 1, width=32, allow_subnormal=False), eps=eps),
    ),
    "rmsprop": (
        o.rmsprop,
        optax.rmsprop,
        kwargs(
            decay=decay,
            eps=eps,
            initial_scale=st.floats(0, 1, width=32, allow_subnormal=False),
            eps_in_sqrt=flag,
            centered=flag,
            bias_correction=flag,
        ),
    ),
    "rmsprop with momentum": (
        o.rmsprop,
        optax.rmsprop,
        kwargs(decay=decay, eps=eps, momentum=st.floats(0.5, 0.9), nesterov=flag),
    ),
    "adam": (o.adam, optax.adam, kwargs(**moments)),
    "adamw": (
        o.adamw,
        optax.adamw,
        kwargs(**moments, weight_decay=st.floats(0, 0.125, width=32, allow_subnormal=False)),
    ),
    "adamax": (o.adamax, optax.adamax, kwargs(b1=decay, b2=st.floats(0.9, 0.9999), eps=eps)),
    "nadam": (o.nadam, optax.nadam, kwargs(**moments)),
}

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
trees = st.fixed_dictionaries(
    {"a": st.lists(shapes, min_size=1, max_size=3), "b": st.fixed_dictionaries({"c": shapes})}
)


def is_shape(x):
    return isinstance(x, tuple)


def data(tree, seed):
    """Parameters and gradients of every step, exact in bfloat16; a scalar and an empty leaf are sure."""
    rng = np.random.default_rng(seed)
    tree = tree | {"scalar": (), "empty": (0, 2)}

    def draw(*lead):
        return jax.tree.map(
            lambda shape: jnp.asarray(rng.standard_normal((*lead, *shape)), jnp.bfloat16).astype(
                "float32"
            ),
            tree,
            is_leaf=is_shape,
        )

    return draw(), draw(STEPS)


def train(tx, x, noise):
    """Parameters after every step; the gradient is noise around 0.1 θ."""

    def body(carry, noise):
        x, state = carry
        grads = jax.tree.map(lambda n, p: n + 0.1 * p, noise, x)
        updates, state = tx.update(grads, state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    return jax.jit(lambda x, noise: jax.lax.scan(body, (x, tx.init(x)), noise)[1])(x, noise)


def updates_of(tx, x, grads):
    """The update of every step with the parameters held where they are."""

    def body(state, g):
        updates, state = tx.update(g, state, x)
        return state, updates

    return jax.jit(lambda grads: jax.lax.scan(body, tx.init(x), grads)[1])(grads)


def as_type(tree, dtype):
    return jax.tree.map(lambda a: a.astype(dtype), tree)


several = hypothesis.settings(max_examples=3)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", PAIRS)
@several
@hypothesis.given(st.data())
def test_fifty_steps_in_float32(name, draw):
    ours, theirs, strategy = PAIRS[name]
    lr, hyper = draw.draw(rate), draw.draw(strategy)
    x, noise = data(draw.draw(trees), draw.draw(st.integers(0, 99)))
    found, expected = (train(tx, x, noise) for tx in (ours(lr, **hyper), theirs(lr, **hyper)))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        scale = max(1.0, float(np.abs(b).max(initial=0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-5 * scale)


@pytest.mark.heavy
@pytest.mark.parametrize("name", PAIRS)
@several
@hypothesis.given(st.data())
def test_fifty_steps_in_bfloat16_are_those_of_float32_rounded(name, draw):
    """As close to float32 as optax or closer: only a first moment is kept in bfloat16, no arithmetic."""
    ours, theirs, strategy = PAIRS[name]
    lr, hyper = draw.draw(rate), draw.draw(strategy)
    x, grads = data(draw.draw(trees), draw.draw(st.integers(0, 99)))
    truth = updates_of(theirs(lr, **hyper), x, grads)
    low = (as_type(x, jnp.bfloat16), as_type(grads, jnp.bfloat16))
    found, other = (updates_of(tx, *low) for tx in (ours(lr, **hyper), theirs(lr, **hyper)))
    for u, v, t in zip(*map(jax.tree.leaves, (found, other, truth))):
        assert u.dtype == jnp.bfloat16
        if t.size:
            error, others = (np.abs(np.asarray(w, np.float32) - t) for w in (u, v))
            assert error.max() <= 0.05 * np.abs(t).max()
            assert error.mean() <= 1.2 * others.mean() + 2**-9 * np.abs(t).mean()


def test_a_schedule_counts_as_optax_counts():
    x, noise = data({"a": [(3, 2)]}, 0)
    ours = o.adam(jd.schedules.exponential(0.1, 10, 0.5))
    theirs = optax.adam(optax.exponential_decay(0.1, 10, 0.5))
    chex.assert_trees_all_close(train(ours, x, noise), train(theirs, x, noise), rtol=0, atol=1e-5)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("tx", "exact"),
    [
        (o.sgd(0.05, momentum=0.9, accumulator_dtype="bfloat16"), o.sgd(0.05, momentum=0.9)),
        (o.adam(0.05, mu_dtype="bfloat16"), o.adam(0.05)),
        (o.adamw(0.05, mu_dtype="bfloat16"), optax.adamw(0.05, mu_dtype="bfloat16")),
    ],
)
def test_a_low_precision_first_moment(tx, exact):
    x, noise = data({"a": [(3, 2)]}, 0)
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(tx.init(x).slots)}
    assert "bfloat16" in dtypes
    rounded, expected = train(tx, x, noise)["a"][0], train(exact, x, noise)["a"][0]
    np.testing.assert_allclose(rounded, expected, atol=0.1)
    assert np.abs(rounded - expected).max() > 0
