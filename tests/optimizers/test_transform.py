"""Transforms around optimizers, the state's hyperparameters, and the contract."""

import itertools

import chex
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import transformations
from helpers.tracing import traced_once

import jaxdeep as jd
from jaxdeep import optimizers as o

KEY = jax.random.key(0)


def apply(tx, grads, params=None, **extra):
    params = jax.tree.map(jnp.zeros_like, grads) if params is None else params
    return tx.update(grads, tx.init(params), params, **extra)[0]


# --- clipping -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_clipping_is_as_recorded(golden):
    row = golden["clipping"]
    grads = jax.tree.map(jnp.asarray, row["grads"], is_leaf=lambda x: isinstance(x, list))
    pairs = [
        (o.clip_by_value(row["limit"]), row["by_value"]["optax.clip"], 1e-12),
        (o.clip_by_norm(row["limit"]), row["by_norm_per_leaf"]["keras clipnorm"], 1e-6),
        (o.clip_by_global_norm(row["limit"]), row["by_global_norm"]["optax.clip_by_global_norm"], 1e-12),
        (
            o.clip_by_global_norm(row["limit"], eps=1e-6),
            row["by_global_norm"]["torch clip_grad_norm_"],
            1e-12,
        ),
    ]
    for tx, expected, atol in pairs:
        for name, value in apply(tx, grads).items():
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=atol)


arrays = hnp.arrays(
    np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-100, 100, width=32)
)


@pytest.mark.heavy
@hypothesis.given(a=arrays, b=arrays, limit=st.floats(0.1, 50))
def test_clipping_bounds_and_keeps_directions(a, b, limit):
    grads = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
    by_value = apply(o.clip_by_value(limit), grads)
    assert all(float(jnp.abs(u).max()) <= limit * (1 + 1e-6) for u in jax.tree.leaves(by_value))
    for tx, groups in (
        (o.clip_by_norm(limit), ["a", "b"]),
        (o.clip_by_global_norm(limit), [("a", "b")]),
    ):
        found = apply(tx, grads)
        for group in groups:
            old = np.concatenate([np.ravel(grads[n]) for n in group]).astype(np.float64)
            new = np.concatenate([np.ravel(found[n]) for n in group]).astype(np.float64)
            assert np.linalg.norm(new) <= limit * (1 + 1e-5)
            scale = min(1.0, limit / max(np.linalg.norm(old), 1e-30))
            np.testing.assert_allclose(new, old * scale, rtol=1e-4, atol=1e-30)


def test_global_norm_of_the_installed_optax():
    grads = {"a": jnp.array([3.0, -4.0]), "b": jnp.ones((2, 3)), "c": jnp.float32(7)}
    ours, theirs = (
        apply(tx, grads) for tx in (o.clip_by_global_norm(2.0), optax.clip_by_global_norm(2.0))
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)


def test_zero_gradients_and_nothing_at_all():
    for tx in (o.clip_by_value(1.0), o.clip_by_norm(1.0), o.clip_by_global_norm(1.0)):
        np.testing.assert_array_equal(apply(tx, jnp.zeros(3)), 0)
        assert apply(tx, {}) == {}
        assert apply(tx, jnp.zeros((0, 2))).shape == (0, 2)


def test_the_norm_of_low_precision_gradients_is_summed_in_float32():
    grads = jnp.full(70_000, 1.0, jnp.float16)  # the sum of squares overflows float16
    clipped = apply(o.clip_by_global_norm(1.0), grads)
    np.testing.assert_allclose(clipped.astype(jnp.float32), 70_000**-0.5, rtol=1e-3)


# --- decay and penalties ------------------------------------------------------------------------

PARAMS = {"kernel": jnp.array([[1.0, -2.0], [3.0, 0.0]]), "bias": jnp.array([0.5, -0.5])}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def test_penalties_are_the_gradients_of_their_losses():
    for tx, loss in (
        (o.add_l1_penalty(0.3), lambda p: 0.3 * sum(jnp.abs(w).sum() for w in jax.tree.leaves(p))),
        (o.add_l2_penalty(0.3), lambda p: 0.3 * sum((w**2).sum() for w in jax.tree.leaves(p))),
        (
            o.add_l2_penalty(0.3, half=True),
            lambda p: 0.15 * sum((w**2).sum() for w in jax.tree.leaves(p)),
        ),
    ):
        found, expected = apply(tx, ZEROS, PARAMS), jax.grad(loss)(PARAMS)
        for name, values in PARAMS.items():
            nonzero = values != 0  # jax.grad takes 1 for the slope of |0|
            np.testing.assert_allclose(found[name][nonzero], expected[name][nonzero], rtol=1e-6)


def test_decay_applies_where_told():
    ours = apply(o.add_decayed_weights(0.1, where="kernel"), ZEROS, PARAMS)
    theirs = apply(optax.add_decayed_weights(0.1, {"kernel": True, "bias": False}), ZEROS, PARAMS)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)


def test_adamw_where_and_coupling():
    mask = {"kernel": True, "bias": False}
    ours, theirs = (
        o.adamw(0.1, weight_decay=0.2, where="kernel"),
        optax.adamw(0.1, weight_decay=0.2, mask=mask),
    )
    g = jax.tree.map(jnp.ones_like, PARAMS)
    chex.assert_trees_all_close(apply(ours, g, PARAMS), apply(theirs, g, PARAMS), rtol=2e-5)
    free = apply(o.adamw(0.0, weight_decay=0.2, couple_lr=False), g, PARAMS)
    np.testing.assert_allclose(free["kernel"], -0.2 * PARAMS["kernel"], rtol=1e-6)


@pytest.mark.parametrize(
    "tx",
    [
        o.add_decayed_weights(0.1),
        o.adamw(0.1),
        o.max_norm(1.0),
        o.add_l1_penalty(0.1),
        o.ema_params(0.9),
    ],
)
def test_what_needs_the_parameters_says_so(tx):
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(ZEROS, tx.init(PARAMS))


def test_a_where_that_matches_nothing():
    with pytest.raises(ValueError, match="where='krenel' matches no leaf; did you mean 'kernel'"):
        apply(o.adamw(0.1, where="krenel"), ZEROS, PARAMS)


# --- constraints --------------------------------------------------------------------------------


@hypothesis.given(
    w=hnp.arrays(np.float32, (4, 3), elements=st.floats(-10, 10, width=32)), r=st.floats(0.1, 20)
)
def test_max_norm_is_the_projection(w, r):
    params = jnp.asarray(w)
    after = params + apply(o.max_norm(r), jnp.zeros((4, 3)), params)
    norms = np.linalg.norm(w.astype(np.float64), axis=0)
    expected = w * np.where(norms > r, r / np.maximum(norms, 1e-30), 1)
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)
    assert np.linalg.norm(after, axis=0).max() <= r * (1 + 1e-5)


def test_max_norm_of_convolutions_and_axes_and_after_the_update():
    kernel = jax.random.normal(KEY, (3, 3, 4, 5))
    after = kernel + apply(o.max_norm(1.0, axis=(0, 1, 2)), jnp.zeros_like(kernel), kernel)
    norms = np.sqrt((after**2).sum((0, 1, 2)))
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    rows = kernel[0, 0] + apply(o.max_norm(1.0, axis=1), jnp.zeros((4, 5)), kernel[0, 0])
    assert np.linalg.norm(rows, axis=1).max() <= 1 + 1e-5
    tx = optax.chain(o.sgd(1.0), o.max_norm(1.0))
    x = jnp.array([[0.0], [0.0]])
    np.testing.assert_allclose(x + apply(tx, jnp.array([[-3.0], [-4.0]]), x), [[0.6], [0.8]], rtol=1e-6)


def test_max_norm_as_recorded(golden):
    row = golden["max_norm"]
    w = jnp.asarray(row["w"])
    for name, options in {
        "reference exact axis=0": {"axis": 0},
        "reference exact axis=1": {"axis": 1},
        "reference exact axis=None": {"axis": None},
        "keras axis=0 (eps 1e-7)": {"axis": 0, "eps": 1e-7},
        "keras axis=1": {"axis": 1, "eps": 1e-7},
    }.items():
        found = w + apply(o.max_norm(row["r"], **options), jnp.zeros_like(w), w)
        np.testing.assert_allclose(found, row[name], rtol=0, atol=2e-7, err_msg=name)


def test_max_norm_of_an_axis_that_is_not_there():
    with pytest.raises(ValueError, match=r"axis=\(0, 1, 2\) is not one of a leaf of shape \(2,\)"):
        apply(o.max_norm(1.0, axis=(0, 1, 2)), jnp.zeros(2), jnp.zeros(2))


def test_multipliers_by_depth():
    tx = optax.chain(o.sgd(1.0), o.multiply(0.1, where="kernel"), o.multiply(0.0, where="bias"))
    found = apply(tx, jax.tree.map(jnp.ones_like, PARAMS), PARAMS)
    np.testing.assert_allclose(found["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_array_equal(found["bias"], 0)


# --- plateau ------------------------------------------------------------------------------------


def scales(tx, values):
    state = tx.init(jnp.zeros(2))
    found = []
    for value in values:
        u, state = tx.update(jnp.ones(2), state, value=value)
        found.append(float(u[0]))
    return found


def test_plateau_reproduces_every_recorded_framework(golden):
    row = golden["reduce_on_plateau"]
    for run in row["runs"]:
        p, c = run["patience"], run["cooldown"]
        shared = {"factor": run["factor"], "min_scale": run["min_lr"]}
        spelled = {
            "optax (rtol=1e-4, atol=0)": {"patience": p, "cooldown": c},
            "keras (min_delta=1e-4 absolute)": {
                "patience": p,
                "cooldown": max(c - 1, 0),
                "rtol": 0.0,
                "atol": 1e-4,
            },
            "torch (threshold=1e-4 rel)": {"patience": p + 1, "cooldown": c},
            "torch (threshold=1e-4 abs)": {"patience": p + 1, "cooldown": c, "rtol": 0.0, "atol": 1e-4},
        }
        for name, options in spelled.items():
            found = scales(o.reduce_on_plateau(**shared, **options), row["losses"])
            np.testing.assert_allclose(found, run[name], rtol=1e-6, err_msg=f"{name} {run}")


@pytest.mark.heavy
@hypothesis.given(
    values=st.lists(st.floats(0.015625, 10, width=32), min_size=5, max_size=40),
    patience=st.integers(1, 4),
    cooldown=st.integers(0, 3),
    size=st.integers(1, 3),
)
def test_plateau_against_the_installed_optax(values, patience, cooldown, size):
    options = {"factor": 0.5, "patience": patience, "cooldown": cooldown, "accumulation_size": size}
    ours, theirs = o.reduce_on_plateau(**options), optax.contrib.reduce_on_plateau(**options)
    np.testing.assert_allclose(scales(ours, values), scales(theirs, values), rtol=1e-6)


def test_plateau_is_right_for_negative_metrics_and_in_both_modes():
    falling = [-1.0, -2.0, -3.0, -4.0, -5.0]
    assert scales(o.reduce_on_plateau(0.5, 1), falling) == [1.0] * 5
    worse = [-1.0, -0.99995, -0.99995, -0.99995]  # optax takes the second for an improvement
    assert scales(o.reduce_on_plateau(0.5, 2), worse) == [1.0, 1.0, 0.5, 0.5]
    rising = [-5.0, -4.0, -3.0, 0.0, 0.5, 0.9]
    assert scales(o.reduce_on_plateau(0.5, 1, mode="max"), rising) == [1.0] * 6
    assert scales(o.reduce_on_plateau(0.5, 1, mode="max"), [0.9, 0.8, 0.7]) == [1.0, 0.5, 0.25]


def test_plateau_in_a_compiled_loop_fed_by_make_step():
    tx = optax.chain(o.sgd(0.1), o.reduce_on_plateau(0.5, 2))
    objective = lambda p, s, b, *, key=None, train=False: (jnp.float32(1.0) + 0 * p.sum(), (s, {}))  # noqa: E731
    ts = jd.train.TrainState(jnp.int32(0), jnp.ones(2), {}, tx.init(jnp.ones(2)), KEY)
    step = jd.train.make_step(objective, tx)
    ts, _ = jax.jit(lambda ts: jax.lax.scan(lambda ts, _: step(ts, ()), ts, None, length=7))(ts)
    assert float(ts.opt_state[1].scale) == 0.125


def test_plateau_under_inject_hyperparams_takes_its_counts_as_arrays():
    injected = optax.inject_hyperparams(o.reduce_on_plateau)(0.5, patience=2)
    plain = o.reduce_on_plateau(0.5, patience=2)
    values = [1.0, 1.0, 1.0, 0.5, 0.6, 0.7]
    assert scales(injected, values) == scales(plain, values) == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    with pytest.raises(ValueError, match=r"patience must be in \[1, inf\)"):
        o.reduce_on_plateau(patience=jnp.array(0))


def test_plateau_needs_its_value():
    with pytest.raises(ValueError, match="needs the metric"):
        apply(o.reduce_on_plateau(), jnp.ones(2))


# --- guards -------------------------------------------------------------------------------------


def test_skipping_leaves_everything_as_it_was_and_counts():
    tx = o.skip_nonfinite(optax.chain(o.clip_by_global_norm(1.0), o.adam(0.1)))
    x = {"a": jnp.ones(2), "b": jnp.ones(())}
    good = jax.tree.map(jnp.ones_like, x)
    bad = {**good, "b": jnp.float32(jnp.nan)}
    update = jax.jit(tx.update)
    _, state = update(good, tx.init(x), x)
    u, after = update(bad, state, x)
    assert all(not leaf.any() for leaf in jax.tree.leaves(u))
    chex.assert_trees_all_equal(after.inner, state.inner)
    u, after = update({**good, "a": jnp.array([jnp.inf, 0])}, after, x)
    assert (int(after.skipped), int(after.in_a_row)) == (2, 2)
    u, after = update(good, after, x)
    assert (int(after.skipped), int(after.in_a_row)) == (2, 0)
    assert np.isfinite(u["b"])
    assert u["b"] != 0


@pytest.mark.usefixtures("x64")
def test_the_average_of_the_parameters():
    tx = optax.chain(o.sgd(0.1), o.ema_params(0.9))
    x, mean = jnp.array([1.0, 2.0]), np.array([1.0, 2.0])
    state = tx.init(x)
    for _ in range(10):
        u, state = tx.update(x, state, x)
        x = x + u
        mean = 0.9 * mean + 0.1 * np.asarray(x)
    np.testing.assert_allclose(state[1].ema, mean, rtol=1e-12)


def test_the_average_is_kept_in_float32_and_is_no_alias():
    x = jnp.ones(3, jnp.bfloat16)
    assert o.ema_params(0.9).init(x).ema.dtype == jnp.float32
    x = jnp.ones(3)
    assert o.ema_params(0.9).init(x).ema.unsafe_buffer_pointer() != x.unsafe_buffer_pointer()


# --- the parts of Adam --------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_adam_is_momentum_over_rmsprop_with_a_correction():
    m = optax.chain(o.first_moment(0.9), o.bias_correction(0.9))
    v = optax.chain(o.second_moment(0.99), o.bias_correction(0.99))
    whole = o.scale_by_adam(b1=0.9, b2=0.99)
    x = jnp.zeros(4)
    states = [tx.init(x) for tx in (m, v, whole)]
    for key in jax.random.split(KEY, 6):
        g = jax.random.normal(key, (4,))
        (a, states[0]), (b, states[1]), (u, states[2]) = (
            tx.update(g, s) for tx, s in zip((m, v, whole), states)
        )
        np.testing.assert_allclose(a / (jnp.sqrt(b) + 1e-8), u, rtol=1e-12)


SCALE_BY = {
    "adagrad": (o.scale_by_adagrad(), o.adagrad),
    "adam": (o.scale_by_adam(), o.adam),
    "adamax": (o.scale_by_adamax(), o.adamax),
    "nadam": (o.scale_by_nadam(), o.nadam),
    "rmsprop": (o.scale_by_rms(), o.rmsprop),
    "momentum": (o.scale_by_momentum(0.9), lambda lr: o.sgd(lr, momentum=0.9)),
}


@pytest.mark.parametrize("name", SCALE_BY)
def test_a_rule_and_a_learning_rate_make_the_optimizer(name):
    rule, make = SCALE_BY[name]
    chained, whole = optax.chain(rule, o.scale_by_learning_rate(0.1)), make(0.1)
    x = jnp.ones(3)
    a, b = chained.init(x), whole.init(x)
    for key in jax.random.split(KEY, 4):
        g = jax.random.normal(key, (3,))
        (u, a), (v, b) = chained.update(g, a, x), whole.update(g, b, x)
        np.testing.assert_allclose(u, v, rtol=1e-6)


# --- hyperparameters ----------------------------------------------------------------------------


def floats(found):
    return {name: pytest.approx(float(value), rel=1e-6) for name, value in found.items()}


def test_reading_through_chains_masks_and_wrappers():
    tx = optax.chain(
        o.clip_by_global_norm(1.0),
        optax.masked(o.nadam(jd.schedules.exponential(0.1, 1, 0.5)), {"kernel": True, "bias": False}),
        o.skip_nonfinite(o.multiply(0.5)),
    )
    state = tx.init(PARAMS)
    adam = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0, "learning_rate": 0.1}
    assert floats(o.hyperparams(state)) == adam | {"factor": 0.5, "max_norm": 1.0}
    for expected in (0.1, 0.05, 0.025):
        _, state = tx.update(PARAMS, state, PARAMS)
        assert float(o.hyperparams(state)["learning_rate"]) == pytest.approx(
            expected
        )  # as the step used it


def test_two_of_a_name_are_told_apart():
    tx = optax.chain(o.scale_by_adam(), o.scale_by_learning_rate(0.1), o.scale_by_learning_rate(0.5))
    found = o.hyperparams(tx.init(0.0))
    assert float(found["1/learning_rate"]) == pytest.approx(0.1)
    assert float(found["2/learning_rate"]) == 0.5
    edited = o.set_hyperparams(tx.init(0.0), **{"2/learning_rate": 0.25})
    assert float(o.hyperparams(edited)["2/learning_rate"]) == 0.25
    with pytest.raises(
        ValueError, match="no hyperparameter 'learning_rate'; there are 1/learning_rate, 2/"
    ):
        o.set_hyperparams(tx.init(0.0), learning_rate=0.1)


def test_setting_equals_having_made_it_so_and_does_not_retrace():
    x = jnp.array([1.0, -2.0])
    wrap = lambda tx: optax.chain(optax.clip(10.0), optax.masked(tx, True))  # noqa: E731
    tx, other = wrap(o.adam(0.1)), wrap(o.adam(0.01, b1=0.5, b2=0.99))
    update = traced_once(tx.update)
    state = o.set_hyperparams(tx.init(x), learning_rate=0.01, b1=0.5, b2=0.99)
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, tx.init(x))
    update(x, tx.init(x), x)
    expected = other.init(x)
    for _ in range(3):
        u, state = update(x, state, x)
        v, expected = other.update(x, expected, x)
        np.testing.assert_allclose(u, v, rtol=1e-6)


def test_nag_with_its_momentum_set_looks_ahead_with_it():
    tx = o.nag(0.1, momentum=0.9)
    x = jnp.ones(1)
    _, state = tx.update(x, tx.init(x), x)
    state = o.set_hyperparams(state, momentum=0.5)
    np.testing.assert_allclose(o.gradient_point(state, x), 1 - 0.05, rtol=1e-6)


def test_stacked_states():
    states = jax.vmap(lambda _: o.sgd(0.1).init(jnp.ones(2)))(jnp.arange(3))
    edited = o.set_hyperparams(states, learning_rate=jnp.array([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(o.hyperparams(edited)["learning_rate"], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(
        o.hyperparams(o.set_hyperparams(states, learning_rate=0.5))["learning_rate"], 0.5
    )


@pytest.mark.parametrize(
    ("make", "edit", "message"),
    [
        (
            lambda: o.adam(0.1),
            {"lr": 1},
            "no hyperparameter 'lr'; there are b1, b2, eps, eps_root, learning_rate",
        ),
        (lambda: o.adam(jd.schedules.constant(0.1)), {"learning_rate": 1.0}, "driven by a schedule"),
        (lambda: o.adam(jnp.array(0.1)), {"learning_rate": 1.0}, "driven by a schedule or an array"),
        (lambda: o.adam(0.1), {"learning_rate": -1.0}, r"learning_rate must be in \[0, inf\), got -1.0"),
        (lambda: o.adam(0.1), {"b1": 1.0}, r"b1 must be in \[0, 1\), got 1.0"),
        (lambda: o.adam(0.1), {"b1": "high"}, "b1 must be a number"),
        (
            lambda: o.adam(0.1),
            {"b1": jnp.ones(3)},
            r"b1 must be a scalar or have shape \(\), got shape \(3,\)",
        ),
        (lambda: optax.adam(0.1), {"b1": 0.5}, "there are none"),
    ],
)
def test_edits_that_are_refused(make, edit, message):
    with pytest.raises((ValueError, TypeError), match=message):
        o.set_hyperparams(make().init(jnp.ones(2)), **edit)


def test_every_hyperparameter_takes_a_schedule_and_an_array():
    half = jd.schedules.exponential(0.8, 1, 0.5)
    x = jnp.array([1.0, -2.0])
    for make, names in (
        (o.adagrad, ["eps"]),
        (o.rmsprop, ["decay", "eps", "momentum"]),
        (o.adam, ["b1", "b2", "eps", "eps_root"]),
        (o.adamax, ["b1", "b2", "eps"]),
        (o.nadam, ["b1", "b2", "eps", "momentum_decay"]),
        (o.adamw, ["b1", "weight_decay"]),
        (o.nag, ["momentum"]),
        (o.sgd, ["momentum"]),
    ):
        for name in names:
            scheduled = make(half, **{name: half})
            state = scheduled.init(x)
            for value in (0.8, 0.4):
                _, state = scheduled.update(x, state, x)
                assert floats(o.hyperparams(state))[name] == pytest.approx(value)
            number, array = make(0.1, **{name: 0.3}), make(jnp.float32(0.1), **{name: jnp.float32(0.3)})
            np.testing.assert_allclose(apply(array, x, x), apply(number, x, x), rtol=1e-5)


def test_new_values_are_checked_like_the_first_ones():
    clip, adam = o.clip_by_norm(1.0).init(PARAMS), o.adam(0.1)
    with pytest.raises(ValueError, match=r"max_norm must be in \(0, inf\), got 0.0"):
        o.set_hyperparams(clip, max_norm=0.0)
    with pytest.raises(ValueError, match="learning_rate must be finite in float32, got 1e"):
        o.set_hyperparams(adam.init(PARAMS), learning_rate=1e39)
    stacked = jax.vmap(adam.init)(jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"b1 must be in \[0, 1\), got"):
        o.set_hyperparams(stacked, b1=jnp.array([0.5, 1.5, 0.9]))
    with pytest.raises(ValueError, match="learning_rate must be in"):
        o.set_hyperparams(stacked, learning_rate=np.array([0.1, np.nan, 0.1]))
    for wrong in ("0.1", None, lambda t: 0.1):
        with pytest.raises(TypeError, match="learning_rate must be a number"):
            o.set_hyperparams(adam.init(PARAMS), learning_rate=wrong)


def test_the_plateaus_factor_is_a_hyperparameter_like_any_other():
    tx = o.reduce_on_plateau(0.5, patience=1)
    state = o.set_hyperparams(tx.init(0.0), factor=0.1)
    for value in (1.0, 1.0):
        u, state = tx.update(jnp.float32(1.0), state, value=value)
    assert float(u) == pytest.approx(0.1)
    assert set(o.hyperparams(state)) == {"factor", "rtol", "atol", "min_scale"}
    with pytest.raises(ValueError, match=r"factor must be in \(0, 1\), got 2.0"):
        o.set_hyperparams(state, factor=2.0)
    scheduled = o.reduce_on_plateau(jd.schedules.piecewise_constant([2], [0.5, 0.25]), patience=1)
    state = scheduled.init(0.0)
    for value in (1.0, 1.0, 1.0):
        u, state = scheduled.update(jnp.float32(1.0), state, value=value)
    assert float(u) == pytest.approx(0.125)
    with pytest.raises(ValueError, match="value must be a scalar, got an array of shape"):
        tx.update(jnp.float32(1.0), tx.init(0.0), value=jnp.ones(3))


# --- the contract -------------------------------------------------------------------------------

# Each with its defaults, and forms that keep other state.
FORMS = {
    "nag scheduled": o.nag(jd.schedules.constant(0.1), momentum=jd.schedules.constant(0.9)),
    "nesterov": o.sgd(0.1, momentum=0.9, nesterov=True, lr_in_trace=True),
    "without a trace": o.sgd(0.1),
    "adam of Keras": o.adam(0.1, eps_mode="uncorrected", eps=1e-7),
    "nadam of optax": o.nadam(0.1),
    "rmsprop with all": o.rmsprop(0.1, centered=True, momentum=0.9, bias_correction=True),
    "adam in bfloat16": o.adam(0.1, mu_dtype="bfloat16"),
    "adamw scheduled": o.adamw(jd.schedules.one_cycle(0.1, 10), where="kernel"),
    "multiply some": o.multiply(0.5, where=["kernel", "bias"]),
}
CONTRACT = {name: transformations.make(name) for name in transformations.FACTORIES} | FORMS


@pytest.mark.parametrize("name", CONTRACT)
def test_every_transform_of_ours_keeps_the_contract(name):
    o.check_transform(CONTRACT[name])


ZERO, COUNT = jnp.zeros(()), itertools.count()


def transform_of(init, update):
    return optax.GradientTransformation(init, update)


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (transform_of(lambda p: p, lambda g, s, p=None: (g, s)), "parameters' own buffer"),
        (transform_of(lambda p: (), lambda g, s, p=None: (g, (1,))), "state changes its structure"),
        (
            transform_of(lambda p: jnp.zeros(()), lambda g, s, p=None: (g, s.astype(jnp.int32))),
            "state  is int32",
        ),
        (
            transform_of(
                lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda u: u * jnp.float32(1), g), s)
            ),
            "update bias is float32.* was due .bfloat16",
        ),
        (
            transform_of(
                lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda u: u / jnp.abs(u), g), s)
            ),
            "update .* is not finite for zero gradients",
        ),
        (optax.contrib.reduce_on_plateau(), "scalar of bfloat16"),
        (optax.trace(0.9), "accumulates in bfloat16 because the parameters are bfloat16"),
        (
            transform_of(lambda p: (ZERO, ZERO), lambda g, s, p=None: (g, s)),
            "state 1 is the same buffer as 0",
        ),
        (transform_of(lambda p: 0, lambda g, s, p=None: (g, s)), "state  is 0; every leaf must be"),
        (
            transform_of(
                lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda u: jnp.log(1 - u**2), g), s)
            ),
            "update .* is not finite for random gradients",
        ),
        (
            transform_of(
                lambda p: (), lambda g, s, p=None: (g if float(g["bias"].sum()) == 0 else ZEROS, s)
            ),
            "cannot be traced",
        ),
        (
            transform_of(
                lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda u: u + next(COUNT), g), s)
            ),
            "do not give the same result twice",
        ),
    ],
)
def test_broken_transforms_are_found_out(tx, message):
    with pytest.raises(ValueError, match=message):
        o.check_transform(tx)


@pytest.mark.heavy
def test_the_contract_on_parameters_of_your_own_and_with_further_arguments():
    params = {"hidden1": {"kernel": jnp.ones((3, 3, 4, 5))}, "out": {"bias": jnp.ones(3)}}
    o.check_transform(o.max_norm(1.0, axis=(0, 1, 2), where="hidden*/kernel"), params)
    o.check_transform(o.adamw(0.1, where="*/kernel"), params)
    o.check_transform(optax.MultiSteps(o.adam(0.1), 2))

    def update(updates, state, params=None, *, scale, **extra):
        return jax.tree.map(lambda u: u * scale, updates), state

    tx = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    o.check_transform(tx, scale=2)


def test_only_transformations_are_checked():
    with pytest.raises(TypeError, match="tx must be an optax transformation"):
        o.check_transform(o.adam)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: o.clip_by_value(0.0), r"max_delta must be in \(0, inf\), got 0.0"),
        (lambda: o.clip_by_norm(-1), "max_norm must be in"),
        (lambda: o.clip_by_global_norm(1.0, eps=-1), "eps must be in"),
        (lambda: o.add_decayed_weights(-0.1), "weight_decay must be in"),
        (lambda: o.add_l1_penalty(-1), "l1 must be in"),
        (lambda: o.add_l2_penalty(-1), "l2 must be in"),
        (lambda: o.max_norm(0), "max_norm must be in"),
        (lambda: o.multiply(-1), "factor must be in"),
        (lambda: o.rmsprop(0.1, decay=1.0), "decay must be in"),
        (lambda: o.rmsprop(0.1, nesterov=True), "nesterov needs a momentum"),
        (
            lambda: o.adamax(0.1, eps_mode="keras"),
            "eps_mode must be 'max' or 'denominator', got 'keras'",
        ),
        (lambda: o.nadam(0.1, momentum_decay=-1), "momentum_decay must be in"),
        (lambda: o.adagrad(0.1, eps=-1), "eps must be in"),
        (lambda: o.ema_params(1.0), r"decay must be in \[0, 1\)"),
        (lambda: o.skip_nonfinite(o.adam), "optimizer must be an optax transformation"),
        (lambda: o.reduce_on_plateau(1.0), r"factor must be in \(0, 1\), got 1.0"),
        (lambda: o.reduce_on_plateau(patience=0), "patience must be at least 1"),
        (lambda: o.reduce_on_plateau(mode="auto"), "mode must be 'min' or 'max', got 'auto'"),
        (lambda: o.adagrad(0.1, initial_accumulator_value=-1), "initial_accumulator_value must be in"),
        (lambda: o.adagrad(0.1, eps_in_sqrt="no"), "eps_in_sqrt must be True or False, got 'no'"),
        (lambda: o.rmsprop(0.1, initial_scale="x"), "initial_scale must be a number"),
        (lambda: o.rmsprop(0.1, centered=None), "centered must be True or False, got None"),
        (lambda: o.adam(0.1, mu_dtype="int32"), "mu_dtype must be a floating-point dtype"),
        (lambda: o.sgd(0.1, momentum=0.9, accumulator_dtype="foo"), "accumulator_dtype must be"),
        (lambda: o.sgd(0.1, nesterov="no"), "nesterov must be True or False"),
        (lambda: o.adamw(0.1, couple_lr=2), "couple_lr must be True or False"),
        (lambda: o.add_l2_penalty(0.1, half="no"), "half must be True or False"),
        (lambda: o.max_norm(1.0, axis="0"), "axis must be a whole number, a tuple of them or None"),
        (lambda: o.max_norm(1.0, axis=True), "axis must be a whole number"),
        (lambda: o.max_norm(1.0, axis=(0, 0)), "axis must name at least one axis, each once"),
        (lambda: o.adam(jnp.array(True)), "learning_rate must be a number.*got an array of bool"),
        (lambda: o.adam(jnp.bfloat16(-1)), "learning_rate must be in"),
        (lambda: o.adamw(0.1, where=3), "where must be a glob"),
        (lambda: o.max_norm(1.0, where=[]), "where must be a glob"),
        (lambda: o.adamw(0.1, where="kernl").init(PARAMS), "where='kernl' matches no leaf"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
