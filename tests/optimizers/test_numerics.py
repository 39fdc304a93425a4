"""What optimizers do with numbers at the edges: NaN, infinities, zeros, and derivatives there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.compilations import work

from jaxdeep import optimizers as o

ALL = {
    "sgd": (o.sgd, optax.sgd),
    "adagrad": (o.adagrad, optax.adagrad),
    "rmsprop": (o.rmsprop, optax.rmsprop),
    "adam": (o.adam, optax.adam),
    "adamax": (o.adamax, optax.adamax),
    "nadam": (o.nadam, optax.nadam),
}
each = pytest.mark.parametrize(("ours", "theirs"), ALL.values(), ids=ALL)


def updates_of(tx, gradients):
    state, found = tx.init(jnp.zeros_like(gradients[0])), []
    for g in gradients:
        u, state = tx.update(g, state)
        found.append(u)
    return np.array(found)


@each
def test_a_nan_is_not_hidden(ours, theirs):
    gradients = [jnp.array([1.0, jnp.nan]), jnp.ones(2), jnp.ones(2)]
    found = np.isnan(updates_of(ours(0.1), gradients))
    assert not found[:, 0].any()
    assert found[:, 1].all() or ours is o.sgd  # which has no memory
    assert found[0, 1]


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["adam", "nadam", "rmsprop", "adagrad", "adamax"])
def test_a_square_that_overflows_stops_its_parameter_and_makes_no_nan(name):
    ours, theirs = ALL[name]
    gradients = [jnp.full(1, g) for g in (1e20, 1.0, -1e30, 1.0, 1.0)]
    found, expected = updates_of(ours(0.1), gradients), updates_of(theirs(0.1), gradients)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-20)


def test_moving_averages_of_infinities_are_those_of_optax():
    gradients = [jnp.array([jnp.inf, 3e38]), jnp.array([1.0, -3e38]), jnp.ones(2)]
    found = updates_of(o.first_moment(0.9), gradients)
    expected = updates_of(optax.ema(0.9, debias=False), gradients)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_without_memory_the_average_is_the_gradient_itself():
    gradients = [jnp.full(1, g) for g in (1e4, 1.0, 1e-4)]
    np.testing.assert_array_equal(updates_of(o.first_moment(0.0), gradients), np.array(gradients))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda b: o.adam(0.1, b1=b), 0.0),
        (lambda b: o.adam(0.1, b2=b, eps=1e-3), 0.0),
        (lambda b: o.nadam(0.1, b1=b), 0.0),
        (lambda b: o.rmsprop(0.1, decay=b, bias_correction=True, eps=1e-3), 0.0),
        (lambda b: o.adam(0.1, b1=b), 0.9),
        (lambda b: o.adam(0.1, b1=b), 0.5),
    ],
)
def test_derivatives_by_a_decay_rate_are_finite_differences(make, value, x64):
    def loss(b):
        tx, x = make(b), jnp.array([1.0, -2.0])
        state = tx.init(x)
        for _ in range(3):
            u, state = tx.update(jnp.sin(3 * x), state, x)
            x = x + u
        return (x**2).sum()

    h = 1e-6
    found = jax.grad(loss)(jnp.asarray(value))
    right = (loss(jnp.asarray(value + h)) - loss(jnp.asarray(value))) / h
    np.testing.assert_allclose(found, right, rtol=2e-3)


@pytest.mark.few(1)
@pytest.mark.parametrize("make", [o.clip_by_norm, o.clip_by_global_norm, o.max_norm])
def test_derivatives_through_a_norm_of_zero_are_finite(make):
    tx = make(1.0)

    def out(g):
        return tx.update(g, tx.init(g), jnp.zeros_like(g))[0].sum()

    np.testing.assert_array_equal(jax.grad(out)(jnp.zeros((3, 2))), 1)


def test_first_moments_of_bfloat16_parameters_reach_where_they_should():
    """3,000 gradients of 1 with 0.001 of the new each: 0.95; in bfloat16 it would stop at 0.25."""
    x = jnp.ones(2, jnp.bfloat16)
    for tx in (o.first_moment(0.999), o.adam(1.0, b1=0.999)):

        def body(state, _, tx=tx):
            u, state = tx.update(jnp.ones_like(x), state, x)
            return state, u

        state, _ = jax.lax.scan(body, tx.init(x), None, length=3000)
        np.testing.assert_allclose(state.slots["mu"], 1 - 0.999**3000, rtol=1e-4)


# --- buffers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tx",
    [o.reduce_on_plateau(), o.adam(0.1), o.nag(0.1), o.ema_params(), o.skip_nonfinite(o.adam(0.1))],
)
def test_a_state_may_be_donated(tx):
    tx = optax.with_extra_args_support(tx)
    update = jax.jit(lambda g, s, p: tx.update(g, s, p, value=1.0), donate_argnums=1)
    x = jnp.ones(2)
    state = tx.init(x)
    for _ in range(2):
        _, state = update(x, state, x)


def test_an_array_given_as_hyperparameter_survives_the_donation_of_the_state():
    momentum, rate = jnp.float32(0.9), jnp.float32(0.1)
    tx = o.nag(rate, momentum=momentum)

    def step(state, x):
        u, state = tx.update(o.gradient_point(state, x), state, x)
        return state, x + u + 0 * o.hyperparams(state)["learning_rate"]

    step = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(2):
        step(tx.init(jnp.zeros(2)), jnp.ones(2))
    assert float(momentum) == pytest.approx(0.9)
    assert float(rate) == pytest.approx(0.1)


# --- states of optax' tools -----------------------------------------------------------------------


def test_tree_get_and_tree_set_find_a_hyperparameter_once():
    x = jnp.ones(2)
    state = o.adam(0.1).init(x)
    get, put = optax.tree_utils.tree_get, optax.tree_utils.tree_set
    assert float(get(state, "b1")) == pytest.approx(0.9)
    edited = put(state, b1=jnp.float32(0.5))
    assert np.isfinite(o.adam(0.1).update(x, edited, x)[0]).all()
    injected = optax.inject_hyperparams(o.adam)(learning_rate=0.1).init(x)
    assert float(get(injected, "learning_rate")) == pytest.approx(0.1)
    scheduled = o.adam(optax.constant_schedule(0.3)).init(x)
    assert float(get(scheduled, "learning_rate")) == pytest.approx(0.3)


def test_setting_a_decay_rate_to_itself_changes_nothing():
    state = o.adam(0.1).init(jnp.zeros(1))
    for value in (0.999, np.float64(0.999)):
        same = o.set_hyperparams(state, b2=value)
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(same)):
            np.testing.assert_array_equal(a, b)


def test_outside_of_jit_a_new_transformation_compiles_nothing():
    x = jnp.arange(3.0)
    state = o.adam(0.1).init(x)
    o.adam(0.1).update(x, state, x)
    before = work("backend_compile")
    for _ in range(3):
        o.adam(0.1).update(x, state, x)
    assert work("backend_compile") == before


def test_a_gradient_that_was_not_taken_leaves_its_parameter_and_state():
    x = {"a": jnp.ones(2), "b": jnp.ones(3)}
    for tx in (o.sgd(0.1, momentum=0.9), o.adam(0.1), o.clip_by_global_norm(1.0)):
        state = tx.init(x)
        updates, after = tx.update({"a": None, "b": jnp.ones(3)}, state, x)
        assert updates["a"] is None
        assert updates["b"].shape == (3,)
        assert jax.tree.structure(after) == jax.tree.structure(state)
