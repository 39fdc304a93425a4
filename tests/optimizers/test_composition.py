"""Every optimizer inside what users put around it: jit, vmap, scan, optax's wrappers, devices."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.tracing import traced_once
from helpers.transformations import OPTIMIZERS

import jaxdeep as jd
from jaxdeep import optimizers as o
from jaxdeep.optimizers import gradient_point


class Case(NamedTuple):
    """A factory, its keywords, what it keeps for each parameter, other values to vmap over."""

    factory: object
    kwargs: dict
    slots: int
    others: Mapping = MappingProxyType({})

    def __call__(self, lr, **kwargs):
        return self.factory(lr, **self.kwargs | kwargs)


MOMENTS = {"b1": 0.5, "b2": 0.9, "eps": 1e-2}
CASES = {
    "sgd": Case(o.sgd, {}, 0),
    "momentum": Case(o.sgd, {"momentum": 0.9}, 1, {"momentum": 0.5}),
    "nesterov": Case(o.sgd, {"momentum": 0.9, "nesterov": True, "lr_in_trace": True}, 1),
    "nag": Case(o.nag, {"momentum": 0.9}, 1, {"momentum": 0.5}),
    "nag scheduled": Case(o.nag, {"momentum": jd.schedules.constant(0.9)}, 1),
    "adagrad": Case(o.adagrad, {}, 1, {"eps": 1e-2}),
    "rmsprop": Case(o.rmsprop, {}, 1, {"decay": 0.5, "eps": 1e-2}),
    "rmsprop with all": Case(
        o.rmsprop,
        {"centered": True, "momentum": 0.9, "nesterov": True, "bias_correction": True, "eps": 1e-3},
        3,
        {"decay": 0.5, "eps": 1e-2, "momentum": 0.5},
    ),
    "adam": Case(o.adam, {}, 2, MOMENTS | {"eps_root": 1e-2}),
    "adam of Keras": Case(o.adam, {"eps_mode": "uncorrected", "eps": 1e-7}, 2, MOMENTS),
    "adamw": Case(o.adamw, {}, 2, MOMENTS | {"weight_decay": 0.1}),
    "adamax": Case(o.adamax, {}, 2, MOMENTS),
    "nadam": Case(o.nadam, {}, 2, MOMENTS),
    "nadam of PyTorch": Case(o.nadam, {"momentum_decay": 0.004}, 2, MOMENTS | {"momentum_decay": 1.0}),
}
# Any other optimizer as it is by default, so that a new one is tested by existing.
CASES |= {
    name: Case(factory, {}, len(factory(0.1).init(jnp.ones(1)).slots))
    for name, factory in OPTIMIZERS.items()
    if name not in CASES
}
each = pytest.mark.parametrize("make", CASES.values(), ids=CASES)


def decays(make):
    return "weight_decay" in o.hyperparams(make(0.1).init(jnp.ones(1)))


def spec(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), tree)


def steps(tx, x, n, gradient=lambda x: x):
    """Parameters after n steps on the gradient at the look-ahead point."""
    state = tx.init(x)
    for _ in range(n):
        updates, state = tx.update(jax.tree.map(gradient, gradient_point(state, x)), state, x)
        x = optax.apply_updates(x, updates)
    return x


# --- dtypes and compilations ----------------------------------------------------------------------


@pytest.mark.few(3)
@each
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_state_and_update_keep_structure_dtype_and_weak_type(make, dtype):
    tx = make(0.1)
    x = {"w": jnp.ones((3, 2), dtype), "b": jnp.ones((), dtype), "empty": jnp.ones((0,), dtype)}
    state = tx.init(x)
    update = traced_once(tx.update)
    for _ in range(3):
        updates, new = update(x, state, x)
        assert spec(new) == spec(state)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, x)
        state = new


@pytest.mark.few(1)
@pytest.mark.parametrize("make", [o.adam, o.rmsprop, o.adamax, o.adagrad])
def test_averages_of_squares_keep_moving_for_bfloat16_parameters(make):
    """In bfloat16 itself 0.001 of a new square would be lost and the average would stand still."""
    x = {dtype: jnp.zeros(3, dtype) for dtype in ("float32", "bfloat16")}
    tx = make(1.0)

    def last(x):
        def body(state, _):
            u, state = tx.update(jnp.ones_like(x), state, x)
            return state, u

        state, us = jax.lax.scan(body, tx.init(x), None, length=2000)
        return state, us[-1]

    (state, u), (_, v) = last(x["bfloat16"]), last(x["float32"])
    assert u.dtype == jnp.bfloat16
    assert {leaf.dtype for name, leaf in state.slots.items() if name != "mu"} == {jnp.dtype("float32")}
    np.testing.assert_allclose(u.astype(jnp.float32), v, rtol=0.02)


@pytest.mark.few(4)
@each
def test_float64_parameters_with_x64_and_float32_ones_stay_what_they_are(make, x64):
    for dtype in (jnp.float32, jnp.float64):
        tx = make(0.1)
        x = jnp.ones(3, dtype)
        updates, new = tx.update(x, tx.init(x), x)
        assert updates.dtype == dtype
        assert spec(new) == spec(tx.init(x))


@pytest.mark.few(3)
@each
def test_two_learning_rates_share_one_compilation(make):
    @traced_once
    def train(lr, x):
        tx = make(lr)

        def body(carry, _):
            x, state = carry
            u, state = tx.update(gradient_point(state, x), state, x)
            return (x + u, state), None

        return jax.lax.scan(body, (x, tx.init(x)), None, length=5)[0][0]

    x = jnp.array([1.0, -2.0])
    a, b = train(0.1, x), train(0.01, x)
    assert not np.allclose(a, b)
    np.testing.assert_allclose(a, steps(make(0.1), x, 5), rtol=1e-5)


@pytest.mark.few(5)
@each
def test_editing_a_leaf_of_the_state_changes_the_step_without_retracing(make):
    x = jnp.array([1.0, -2.0])
    update = traced_once(make(0.1).update)
    state = make(0.1).init(x)
    edited = o.set_hyperparams(state, learning_rate=0.2)
    u, _ = update(x, state, x)
    v, after = update(x, edited, x)
    np.testing.assert_allclose(v, 2 * u, rtol=1e-6)
    assert float(o.hyperparams(after)["learning_rate"]) == pytest.approx(0.2)


@each
def test_a_leafs_arithmetic_is_traced_once_for_all_leaves_of_its_shape(make):
    tx = make(0.1)

    def equations(n):
        x = [jnp.ones((2, 3))] * n
        text = str(jax.make_jaxpr(tx.update)(x, tx.init(x), x))
        return sum(text.count(f" = {name}") for name in ("mul", "add", "sub", "div", "sqrt", "max"))

    assert equations(20) == equations(2)


@each
def test_state_memory_is_what_the_algorithm_needs(make):
    state = make(0.1).init(jnp.ones(10_000))
    floats = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert floats - make.slots * 10_000 < 20


# --- vmap -----------------------------------------------------------------------------------------


@pytest.mark.few(1)
@each
def test_vmap_over_learning_rates_equals_a_loop(make):
    x = jnp.array([1.0, -2.0])
    rates = jnp.array([0.1, 0.03])
    found = jax.vmap(lambda lr: steps(make(lr), x, 2))(rates)
    np.testing.assert_allclose(found, jnp.stack([steps(make(r), x, 2) for r in rates]), rtol=1e-5)


@pytest.mark.few(5)
@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(make, name, id=f"{label}-{name}")
        for label, make in CASES.items()
        for name in make.others
    ],
)
def test_vmap_over_any_hyperparameter_equals_a_loop(make, name):
    x = jnp.array([1.0, -2.0])
    usual = float(o.hyperparams(make(0.1).init(x))[name])
    values = [usual, make.others[name]]

    def train(value):
        return steps(make(0.1, **{name: value}), x, 3)

    found = jax.vmap(train)(jnp.array(values, jnp.float32))
    expected = jnp.stack([train(value) for value in values])  # numbers: 1 − β is exact there
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    assert not np.allclose(found[0], found[1], rtol=1e-5)


@pytest.mark.few(4)
@each
def test_vmap_over_parameters_and_states_equals_separate_models(make):
    x = jnp.array([[1.0, -2.0], [0.5, 3.0], [0.0, 1.0]])
    tx = make(0.1)
    found = jax.vmap(lambda x: steps(tx, x, 3))(x)
    np.testing.assert_allclose(found, jnp.stack([steps(tx, row, 3) for row in x]), rtol=1e-5)


@pytest.mark.few(3)
@each
def test_the_result_of_training_is_differentiable_in_the_learning_rate(make):
    x = jnp.array([1.0, -2.0])

    def loss(lr):
        return (steps(make(lr), x, 3) ** 2).sum()

    found = jax.grad(loss)(0.05)
    np.testing.assert_allclose(found, (loss(0.055) - loss(0.045)) / 0.01, rtol=0.02)


# --- optax's wrappers -----------------------------------------------------------------------------


@pytest.mark.few(5)
@each
def test_inject_hyperparams_around_our_factories(make):
    schedule = jd.schedules.exponential(0.1, 2, 0.5)
    kwargs = {k: v for k, v in make.kwargs.items() if not callable(v)}
    wrapped, ours = (
        optax.inject_hyperparams(make.factory)(schedule, **kwargs),
        make.factory(schedule, **kwargs),
    )
    x = jnp.array([1.0, -2.0])
    # an injected β is a float32 array, whose 1 − β is rounded
    np.testing.assert_allclose(steps(wrapped, x, 6), steps(ours, x, 6), rtol=1e-3)


def test_inject_hyperparams_gives_bfloat16_scalars_which_are_not_refused():
    tx = optax.inject_hyperparams(o.adam)(0.1)
    x = jnp.ones(2, jnp.bfloat16)
    tx.update(x, tx.init(x), x)


X = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[0.5, 3.0], [-1.0, 0.1]])}


def scanned(tx, n):
    def body(carry, _):
        x, state = carry
        u, state = tx.update(gradient_point(state, x), state, x)
        return (optax.apply_updates(x, u), state), None

    return jax.jit(lambda x: jax.lax.scan(body, (x, tx.init(x)), None, length=n)[0][0])(X)


close = functools.partial(chex.assert_trees_all_close, rtol=2e-5, atol=1e-7)


@pytest.mark.few(4)
@each
def test_in_a_scan_equals_a_loop(make):
    close(scanned(make(0.1), 4), steps(make(0.1), X, 4))


@pytest.mark.few(7)
@each
def test_masked_updates_what_it_is_told_and_hands_on_the_rest(make):
    masked = optax.masked(make(0.1), {"a": True, "b": False})
    tx = optax.chain(masked, optax.masked(optax.set_to_zero(), {"a": False, "b": True}))
    close(scanned(tx, 4), {"a": steps(make(0.1), X["a"], 4), "b": X["b"]})


@pytest.mark.few(6)
@each
def test_multi_transform_trains_each_group_with_its_own(make):
    tx = optax.multi_transform({"x": make(0.1), "y": make(0.02)}, {"a": "x", "b": "y"})
    close(scanned(tx, 4), {"a": steps(make(0.1), X["a"], 4), "b": steps(make(0.02), X["b"], 4)})


@pytest.mark.few(4)
@each
def test_multi_steps_averages_gradients_and_updates_every_second_time(make):
    close(scanned(optax.MultiSteps(make(0.1), 2), 6), steps(make(0.1), X, 3))


@pytest.mark.few(6)
@each
def test_in_a_chain_between_a_clip_and_a_scale(make):
    tx = optax.chain(optax.clip(0.5), make(0.1), optax.scale(0.5))
    x, found = X, scanned(tx, 3)
    state = make(0.1).init(x)
    for _ in range(3):
        point = x if make.factory is not o.nag else gradient_point(state, x)
        u, state = make(0.1).update(jax.tree.map(lambda g: jnp.clip(g, -0.5, 0.5), point), state, x)
        x = jax.tree.map(lambda p, u: p + 0.5 * u, x, u)
    close(found, x)


@pytest.mark.few(5)
@each
def test_apply_if_finite_leaves_the_state_as_it_was(make):
    tx = optax.apply_if_finite(make(0.1), 2)
    state = tx.init(X)
    _, after = tx.update(jax.tree.map(lambda p: p * jnp.nan, X), state, X)
    close(after.inner_state, state.inner_state)


@each
def test_a_zero_gradient_is_a_zero_update(make):
    x = jnp.ones(3)
    tx = make(0.1, weight_decay=0.0) if decays(make) else make(0.1)
    u, _ = tx.update(jnp.zeros(3), tx.init(x), x)
    np.testing.assert_array_equal(u, 0)


@each
def test_without_parameters_and_with_unknown_extra_arguments(make):
    x = jnp.ones(3)
    tx = make(0.1)
    if decays(make):
        with pytest.raises(ValueError, match="weight decay needs the parameters"):
            tx.update(x, tx.init(x))
        return
    u, _ = tx.update(x, tx.init(x), value=1.0, anything="else")
    assert u.shape == (3,)


# --- several devices ------------------------------------------------------------------------------


@pytest.mark.few(3)
@each
def test_on_eight_devices_the_state_is_sharded_like_the_parameters_and_nothing_is_gathered(make):
    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.NamedSharding(mesh, jax.P("model"))
    x = jax.device_put(jnp.arange(16.0).reshape(16, 1), sharding)
    tx = make(0.1)
    state = tx.init(x)
    for leaf in jax.tree.leaves(state):
        if leaf.shape == x.shape:
            assert leaf.sharding.is_equivalent_to(sharding, 2)
    update = jax.jit(tx.update).lower(x, state, x).compile()
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in update.as_text()
    u, state = update(x, state, x)
    assert u.sharding.is_equivalent_to(sharding, 2)
    for leaf in jax.tree.leaves(state):
        if leaf.shape == x.shape:
            assert leaf.sharding.is_equivalent_to(sharding, 2)
    v, _ = tx.update(jnp.asarray(np.asarray(x)), tx.init(np.asarray(x)), np.asarray(x))
    np.testing.assert_allclose(u, v, rtol=1e-6)
