"""Optimizers with their state in fewer bits, beside the same ones in float32."""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from helpers import runs
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxdeep as jd
from jaxdeep.optimizers import low_precision
from jaxdeep.optimizers.codes import Coded, all_decoded, is_coded, joined
from jaxdeep.optimizers.evaluation import states_of
from jaxdeep.optimizers.identity import numbers_of

PRESETS = {
    ("int8", "float32"): 6.05,
    ("bfloat16", "bfloat16"): 6.05,
    ("int8", "bfloat16+8"): 5.05,
    ("int8", "bfloat16"): 4.05,
}
KERNEL = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(8, 600)), jnp.float32)}
SMALL = functools.partial(low_precision, min_size=64)


def low(params):
    return jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)


def given(params, kind):
    return params if kind == "float32" else low(params)


def gradients(params, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)


def stepping(tx):
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def coded_paths(state):
    leaves = jax.tree_util.tree_leaves_with_path(state.inner, is_leaf=is_coded)
    return {jd.tree.path_name(path): leaf.codes.dtype.name for path, leaf in leaves if is_coded(leaf)}


@pytest.mark.parametrize(("state", "params"), PRESETS)
@pytest.mark.parametrize("adamw", [jd.optimizers.adamw, optax.adamw])
def test_the_bytes_of_adamw_are_those_of_the_preset(adamw, state, params):
    tree = given({"kernel": jnp.ones((64, 1024))}, params)
    made = low_precision(adamw(1e-3), state, params).init(tree)
    found = sum(leaf.nbytes for leaf in jax.tree.leaves((tree, made))) / tree["kernel"].size
    assert found < PRESETS[state, params]
    assert jd.optimizers.bytes_per_param(made, tree) == found
    shapes = jax.eval_shape(low_precision(adamw(1e-3), state, params).init, tree)
    assert jd.optimizers.bytes_per_param(shapes, jd.tree.shapes(tree)) == found


BOTH = {"mu": "int8", "nu": "uint8"}
ENCODED = {
    "adam": (jd.optimizers.adam(0.1), BOTH),
    "adam of optax": (optax.adam(0.1), BOTH),
    "adamw": (jd.optimizers.adamw(0.1), BOTH),
    "amsgrad": (optax.amsgrad(0.1), BOTH | {"nu_max": "uint8"}),
    "lion": (jd.optimizers.lion(0.1), {"mu": "int8"}),
    "rmsprop": (jd.optimizers.rmsprop(0.1), {"nu": "uint8"}),
    "adagrad": (jd.optimizers.adagrad(0.1), {"sum_of_squares": "uint8"}),
    "adagrad of optax": (optax.adagrad(0.1), {"sum_of_squares": "uint8"}),
    "sgd": (jd.optimizers.sgd(0.1, momentum=0.9), {"trace": "int8"}),
    "sgd alone": (optax.sgd(0.1), {}),
    "nag": (jd.optimizers.nag(0.1), {"trace": "int8"}),
    "mu in bfloat16": (optax.adam(0.1, mu_dtype="bfloat16"), {"nu": "uint8"}),
    "adadelta": (optax.adadelta(0.1), {"e_g": "uint8", "e_x": "uint8"}),
    "adan": (optax.adan(0.1), {"m": "bfloat16", "v": "int8", "n": "uint8", "g": "bfloat16"}),
    "ademamix": (optax.contrib.ademamix(0.1), {"m1": "int8", "m2": "int8", "nu": "uint8"}),
    "simplified ademamix": (
        optax.contrib.simplified_ademamix(0.1),
        {"m": "bfloat16", "n": "uint8"},
    ),
    "factored": (optax.adafactor(0.1, min_dim_size_to_factor=8), {}),
    "not factored": (optax.adafactor(0.1), {"v": "uint8"}),  # squares, whatever they are called
    "madgrad": (optax.contrib.madgrad(0.1), {}),  # the parameters are made of its sums
    "rprop": (optax.rprop(0.1), {"step_sizes": "bfloat16", "prev_updates": "bfloat16"}),
    "sm3": (optax.sm3(0.1), {"nu": "int8"}),  # its momentum
    "muon": (optax.contrib.muon(0.1), {"mu": "int8"}),
    "masked": (optax.masked(optax.adam(0.1), {"kernel": True, "bias": False}), BOTH),
    "masked out": (optax.masked(optax.adam(0.1), {"kernel": False, "bias": True}), {}),
    "chain": (optax.chain(optax.clip(1.0), optax.trace(0.9)), {"trace": "int8"}),
    "accumulated": (optax.MultiSteps(optax.adam(0.1), 2), BOTH | {"acc_grads": "int8"}),
    "lookahead": (jd.optimizers.lookahead(optax.adam(0.1)), BOTH),
    "average of parameters": (jd.optimizers.ema_params(0.9), {}),
    "schedule-free": (optax.contrib.schedule_free_adamw(0.1), {"nu": "uint8"}),
}


@pytest.mark.parametrize("name", ENCODED)
def test_averages_of_gradients_are_encoded_and_nothing_else(name):
    tx, expected = ENCODED[name]
    params = KERNEL | {"bias": jnp.zeros(10)}
    state = SMALL(tx).init(params)
    found = coded_paths(state)
    assert all(path.endswith("kernel") for path in found)
    assert {path.split("/")[-2]: dtype for path, dtype in found.items()} == expected
    plain = tx.init(params)
    shapes = jax.tree.map(lambda a: (a.shape, a.dtype), all_decoded(state.inner))
    assert shapes == jax.tree.map(lambda a: (a.shape, a.dtype), plain)


@pytest.mark.few("adam", "muon", "accumulated")
@pytest.mark.parametrize("name", ENCODED)
def test_any_optimizer_keeps_its_state_in_shape_and_stays_near(name):
    tx, _ = ENCODED[name]
    params = KERNEL | {"bias": jnp.zeros(10)}
    wrapped = SMALL(tx)
    state, exact = wrapped.init(params), tx.init(params)
    step, plain = jax.jit(stepping(wrapped)), jax.jit(stepping(jd_like(tx)))
    found, expected = params, params
    for seed in range(4):
        grads = gradients(params, seed)
        new, after = step(found, state, grads)
        assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)
        found, state = new, after
        expected, exact = plain(expected, exact, grads)
    np.testing.assert_allclose(found["bias"], expected["bias"], rtol=1e-6)  # of two programs
    moved = np.abs(expected["kernel"] - params["kernel"]).mean()
    assert np.abs(found["kernel"] - expected["kernel"]).mean() <= 0.1 * moved


def jd_like(tx):
    return optax.GradientTransformationExtraArgs(tx.init, tx.update)


def test_small_leaves_and_those_that_where_leaves_out_are_those_of_the_optimizer_alone():
    params = {"a": KERNEL, "b": KERNEL, "bias": jnp.zeros(10), "none": None}
    for made in (low_precision(optax.adam(0.1), min_size=4801), SMALL(optax.adam(0.1), where="b/*")):
        alone = optax.adam(0.1)
        state, exact = made.init(params), alone.init(params)
        grads = gradients(params)
        (updates, state), (expected, _) = (
            jax.jit(tx.update)(grads, of, params) for tx, of in ((made, state), (alone, exact))
        )
        assert set(coded_paths(state)) <= {"0/mu/b/kernel", "0/nu/b/kernel"}
        equal(updates["a"], expected["a"])
        equal(updates["bias"], expected["bias"])


@pytest.mark.parametrize("make", [jd.optimizers.adam, optax.adam])
def test_a_path_that_ends_as_another_is_not_taken_for_it(make):
    # nu/w is a parameter, and in a state the average of squares of w
    params = {"w": KERNEL["kernel"], "nu": {"w": KERNEL["kernel"]}, "in": {"w": KERNEL["kernel"]}}
    places = {"w": "w", "nu": "nu/w", "in": "in/w"}
    for where, owners in (("w", ["w"]), ("nu/w", ["nu"]), (None, list(params))):
        found = coded_paths(SMALL(make(0.1), where=where).init(params))
        ends = {f"/{slot}/{places[owner]}": slot for owner in owners for slot in ("mu", "nu")}
        assert len(found) == len(ends)
        for end, slot in ends.items():
            dtypes = [dtype for path, dtype in found.items() if f"/{path}".endswith(end)]
            assert jnp.dtype("uint8" if slot == "nu" else "int8") in map(jnp.dtype, dtypes)


def test_a_gradient_that_was_not_taken_leaves_its_leaf_alone():
    params = {"a": KERNEL, "b": KERNEL}
    tx = SMALL(jd.optimizers.adam(0.1), "int8", "bfloat16+8")
    params = low(params)
    state = tx.init(params)
    grads = {"a": gradients(KERNEL), "b": {"kernel": None}}
    updates, after = jax.jit(tx.update)(grads, state, params)
    assert updates["b"] == {"kernel": None}
    equal(after.error["b"], state.error["b"])
    equal(after.inner.slots["mu"]["b"], state.inner.slots["mu"]["b"])
    assert jnp.abs(updates["a"]["kernel"].astype(jnp.float32)).min() > 0


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "bfloat16+8"])
@pytest.mark.parametrize("state", ["bfloat16", "int8"])
def test_the_contract_holds(state, kind):
    jd.optimizers.check_transform(SMALL(jd.optimizers.adamw(0.1), state, kind))


@pytest.mark.heavy
def test_the_contract_lets_updates_be_float32_in_low_precision_alone():
    jd.optimizers.check_transform(low_precision(optax.sgd(0.1), params="bfloat16"), jnp.ones(3))
    wide = optax.stateless(lambda g, p: jax.tree.map(lambda g: g.astype(jnp.float32), g))
    with pytest.raises(ValueError, match=r"update .*float32.* where bfloat16.* was due"):
        jd.optimizers.check_transform(wide, jnp.ones(3))


@pytest.mark.heavy
def test_the_contract_holds_with_large_leaves():
    tx = optax.chain(optax.clip(1.0), SMALL(optax.adam(0.1)))
    jd.optimizers.check_transform(tx, KERNEL)


@pytest.mark.heavy
def test_hyperparameters_are_read_and_set_as_before():
    tx = optax.chain(optax.clip(1.0), SMALL(jd.optimizers.adam(0.1)))
    state = tx.init(KERNEL)
    state = jd.optimizers.set_hyperparams(state, learning_rate=0.5)
    assert float(jd.optimizers.hyperparams(state)["learning_rate"]) == 0.5
    updates, _ = tx.update(gradients(KERNEL), state, KERNEL)
    np.testing.assert_allclose(np.abs(updates["kernel"]), 0.5, rtol=1e-4)
    assert next(iter(numbers_of(tx).values()))["learning_rate"] == 0.1
    other = SMALL(jd.optimizers.adam(0.2))
    assert SMALL(jd.optimizers.adam(0.1)).update == other.update
    assert SMALL(jd.optimizers.adam(0.1), "bfloat16").update != other.update


def test_nag_looks_ahead_by_the_trace_that_was_encoded():
    tx = SMALL(jd.optimizers.nag(0.1, momentum=0.5))
    updates, state = tx.update(gradients(KERNEL), tx.init(KERNEL), KERNEL)
    found = jd.optimizers.gradient_point(state, KERNEL)["kernel"]
    trace = all_decoded(next(states_of(state, jd.optimizers.NagState)).transform.slots["trace"])
    np.testing.assert_allclose(found, KERNEL["kernel"] + 0.5 * trace["kernel"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(trace["kernel"], updates["kernel"], rtol=1 / 8, atol=1e-4)


@pytest.mark.heavy
@pytest.mark.optimized
@pytest.mark.parametrize("kind", ["bfloat16", "bfloat16+8"])
def test_the_sum_of_parameter_and_update_is_the_new_parameter_to_the_bit(kind):
    """For small updates, large ones and those that change the sign; under `jit`, which may widen."""
    rng = np.random.default_rng(1)
    p = jnp.asarray(rng.normal(size=(64, 256)), jnp.bfloat16)
    target = p.astype(jnp.float32) * rng.choice([1.001, 1.1, 0.3, 1e-3, -1e-3, -1, -30], p.shape)
    copy = optax.stateless(lambda g, p: jax.tree.map(lambda new, old: new - old, g, p))
    tx = SMALL(copy, "int8", kind)

    @jax.jit
    def step(p, state):
        updates, state = tx.update(target, state, p)
        return p + updates, optax.apply_updates(p, updates), state

    wide, new, state = step(p, tx.init(p))
    assert (wide.dtype, new.dtype) == (jnp.float32, jnp.bfloat16)
    exact = np.asarray(target, np.float64)
    last_place = 2.0 ** (np.floor(np.log2(np.abs(exact))) - 7)
    assert (np.abs(np.asarray(new, np.float64) - exact) <= last_place).all()
    # the update was to lead to a number of bfloat16, and did
    np.testing.assert_array_equal(np.asarray(wide).astype(ml_dtypes.bfloat16), new)
    np.testing.assert_allclose(wide, new.astype(np.float32), rtol=2.0**-16)
    if kind == "bfloat16+8":
        whole = exact_params(new, state)
        assert (
            np.abs(whole - exact) <= last_place / 250 + 2.0**-23 * np.abs(np.asarray(p, float))
        ).all()


def exact_params(params, state):
    return np.asarray(joined(params, state.error), np.float64)


@pytest.mark.parametrize("kind", ["bfloat16", "bfloat16+8"])
def test_many_small_steps_add_up_which_rounding_to_the_nearest_would_lose(kind):
    p = jnp.ones((64, 64), jnp.bfloat16)
    tx = SMALL(optax.sgd(1.0), "int8", kind)

    def body(carry, _):
        return stepping(tx)(*carry, jnp.full(p.shape, 2.0**-14, jnp.bfloat16)), None

    (p, state), _ = jax.jit(lambda: jax.lax.scan(body, (p, tx.init(p)), length=1024))()
    found = np.asarray(p, np.float64) if kind == "bfloat16" else exact_params(p, state)
    error = max(found.std() / 64, 2.0**-16)
    np.testing.assert_allclose(found.mean(), 1 - 1024 * 2.0**-14, atol=4 * error)


def scanned(tx, params, gradient, steps):
    """The parameters after so many steps, the state, and the largest update of each step."""

    @jax.jit
    def run(params):
        def body(carry, t):
            params, state = carry
            updates, state = tx.update(gradient(t), state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), (jnp.abs(updates).max(), updates)

        return jax.lax.scan(body, (params, tx.init(params)), jnp.arange(steps))

    return run(params)


@pytest.mark.parametrize("steps", [300, pytest.param(5000, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("state", ["int8", pytest.param("bfloat16", marks=pytest.mark.heavy)])
def test_without_gradients_squares_decay_and_parameters_stay(state, steps):
    first = np.random.default_rng(0).normal(size=(4, 256)).astype(np.float32)
    tx = SMALL(jd.optimizers.adam(0.0), state)
    (params, after), _ = scanned(tx, jnp.ones((4, 256)), lambda t: jnp.where(t == 0, first, 0.0), steps)
    assert (params == 1).all()
    found = np.asarray(all_decoded(after.inner.slots)["nu"], np.float64)
    expected = first.astype(np.float64) ** 2 * 0.001 * 0.999 ** (steps - 1)
    if state == "int8":  # the scale decays, and the codes stay
        np.testing.assert_allclose(found, expected, rtol=0.13)
    np.testing.assert_allclose(found.sum() / expected.sum(), 1, atol=0.05)


def test_what_never_had_a_gradient_never_moves():
    params = low(KERNEL)
    tx = SMALL(jd.optimizers.adam(0.1), "int8", "bfloat16+8")
    zeros = jax.tree.map(jnp.zeros_like, params)
    found, state = params, tx.init(params)
    step = jax.jit(stepping(tx))
    for _ in range(3):
        found, state = step(found, state, zeros)
    equal(found, params)
    assert not state.error["kernel"].any()


NOISE = np.random.default_rng(2).normal(size=(1200, 256)).astype(np.float32)


@pytest.mark.few(1)
@pytest.mark.parametrize("state", ["int8", "bfloat16"])
@pytest.mark.parametrize("spread", [0.001, 0.01, 1.0])
@pytest.mark.parametrize("block", [256, 32])
def test_one_large_coordinate_makes_no_update_of_its_block_twice_too_large(spread, block, state):
    noise = jnp.asarray(NOISE[:, :block])

    def gradient(t):
        return (spread * noise[t]).at[0].set(jnp.where(t % 2 == 0, 1.0, -1.0))

    zeros = jnp.zeros(block)
    _, (found, _) = scanned(low_precision(optax.adam(1.0), state, min_size=1), zeros, gradient, 1200)
    _, (exact, _) = scanned(optax.adam(1.0), zeros, gradient, 1200)
    assert found.max() < 2 * exact.max()


class _Strange(NamedTuple):
    nu: object


def strange():
    """Not an optimizer that jaxdeep knows, and what it calls nu has a sign and becomes small."""

    def update(updates, state, params=None):
        nu = jax.tree.map(lambda old, g: 0.9 * old + g, state.nu, updates)
        return jax.tree.map(lambda g, n: -g / (jnp.abs(n) + 1e-30), updates, nu), _Strange(nu)

    return optax.GradientTransformation(lambda p: _Strange(jax.tree.map(jnp.zeros_like, p)), update)


def sophia():
    tx = optax.contrib.sophia(0.01)

    def update(updates, state, params):
        return tx.update(updates, state, params, obj_fn=lambda p: jnp.sum(p**2))

    return optax.GradientTransformation(tx.init, update)


SMALL_BESIDE_LARGE = {
    "strange": strange(),
    "sophia": sophia(),
    "sm3": optax.sm3(0.01),
    "madgrad": optax.contrib.madgrad(0.01),
    "simplified ademamix": optax.contrib.simplified_ademamix(0.01),
    "adan": optax.adan(0.01),
    "adadelta": optax.adadelta(0.01),
    "adafactor": optax.adafactor(0.01),
    "adagrad of optax": optax.adagrad(0.01),
    "rprop": optax.rprop(0.01),
    "optimistic": optax.optimistic_gradient_descent(0.01),
} | {name: make(0.01) for name, make in jd.optimizers.factories(with_learning_rate=True).items()}


@pytest.mark.few("strange", "sophia", "sm3", "adagrad")
@pytest.mark.parametrize("name", SMALL_BESIDE_LARGE)
@pytest.mark.parametrize("steps", [200, pytest.param(1000, marks=pytest.mark.heavy)])
def test_small_gradients_beside_a_large_one_make_no_update_twice_too_large(name, steps):
    tx, zeros = SMALL_BESIDE_LARGE[name], jnp.zeros((8, 256))

    def gradient(t):
        return jnp.full((8, 256), 1e-5).at[:, 7].set(jnp.where(t % 2 == 0, 1.0, -1.0))

    (params, _), (_, found) = scanned(SMALL(tx), zeros, gradient, steps)
    _, (_, exact) = scanned(jd_like(tx), zeros, gradient, steps)
    assert jnp.isfinite(params).all()
    sizes = [jnp.abs(updates[..., 8:]).max((1, 2)) for updates in (found, exact)]
    assert (sizes[0] <= 2 * sizes[1]).all()


def test_what_is_not_known_is_bfloat16_and_goes_on_in_the_code_it_has():
    tx = SMALL(strange())
    state = tx.init(KERNEL)
    assert coded_paths(state) == {"nu/kernel": "bfloat16"}
    _, after = tx.update(gradients(KERNEL), state, KERNEL)
    assert coded_paths(after) == {"nu/kernel": "bfloat16"}
    # made when the name alone decided
    earlier = state._replace(
        inner=_Strange({"kernel": Coded(jnp.zeros((8, 600), "int8"), jnp.ones((8, 3)))})
    )
    _, after = tx.update(gradients(KERNEL), earlier, KERNEL)
    assert coded_paths(after) == {"nu/kernel": "int8"}


@pytest.mark.heavy
@pytest.mark.parametrize("state", ["int8", "bfloat16"])
def test_averages_of_squares_stay_right_in_the_mean(state):
    """Rounded to the nearest they would stand still; here only their scatter is larger."""
    noise = jnp.asarray(np.random.default_rng(3).normal(size=(3000, 256)), jnp.float32)
    tx = low_precision(optax.scale_by_adam(), state, min_size=1)
    (_, after), _ = scanned(tx, jnp.zeros(256), lambda t: noise[t], 3000)
    found = np.asarray(all_decoded(after.inner).nu, np.float64)
    np.testing.assert_allclose(found.mean(), 1 - 0.999**3000, rtol=0.06)
    assert found.std() < 0.35


@pytest.mark.heavy
@pytest.mark.optimized
def test_the_bits_are_the_same_under_vmap_and_on_eight_devices():
    params = low({"kernel": jnp.ones((16, 512))})
    tx = low_precision(jd.optimizers.adamw(0.01), "int8", "bfloat16+8")
    grads = [gradients(params, seed) for seed in range(3)]
    step = jax.jit(stepping(tx))

    def run(step, params, state, spread=lambda tree: tree):
        for g in grads:
            params, state = step(params, state, spread(g))
        return params, state

    expected = run(step, params, tx.init(params))
    mesh = Mesh(jax.devices(), ("data",))
    for spec in (PartitionSpec("data"), PartitionSpec(None, "data")):
        put = functools.partial(jax.device_put, device=NamedSharding(mesh, spec))
        equal(run(step, put(params), tx.init(put(params)), put), expected)
    several = functools.partial(jax.tree.map, lambda a: jnp.stack([a] * 3))
    found = run(jax.jit(jax.vmap(stepping(tx))), several(params), several(tx.init(params)), several)
    for row in range(3):
        equal(jax.tree.map(operator.itemgetter(row), found), expected)


X = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
NET = jd.nn.serial(hidden=jd.nn.dense(64, activation=jax.nn.relu), logits=jd.nn.dense(2))


def fit(tx, **options):
    options = {"epochs": 4, "batch_size": 16, "key": 0, "progress": False} | options
    return jd.fit(NET, (X, Y), loss=jd.losses.softmax_cross_entropy, optimizer=tx, **options)


def begun():
    params, _ = NET.init(jax.random.key(1), X[:1])
    return low(params)


@pytest.mark.heavy
@pytest.mark.optimized
@pytest.mark.parametrize(("state", "kind"), PRESETS)
def test_a_run_that_goes_on_has_the_same_bits(tmp_path, state, kind):
    options = {} if kind == "float32" else {"params": begun()}
    tx = SMALL(jd.optimizers.adamw(1e-2), state, kind)
    whole = fit(tx, **options)
    fit(tx, epochs=2, checkpoint=tmp_path, **options)
    found = fit(tx, checkpoint=tmp_path, **options)
    runs.same(found, whole)
    assert whole.history["loss"][-1] < 0.7 * whole.history["loss"][0]


@pytest.mark.heavy
def test_a_run_trains_some_layers_and_is_saved(tmp_path):
    params = begun()
    tx = SMALL(optax.adam(1e-2), "int8", "bfloat16+8")
    found = fit(tx, params=params, trainable="hidden/*")
    equal(found.params["logits"], params["logits"])
    assert found.train_state.opt_state.error["logits"] == {"bias": None, "kernel": None}
    jd.save(tmp_path / "model", NET, found.params, found.state)
    _, loaded, _ = jd.load(tmp_path / "model")
    equal(loaded, found.params)


@pytest.mark.heavy
def test_rows_of_a_sweep_are_their_runs():
    rates = [0.01, 0.03]
    options = {"model": NET, "data": (X, Y), "loss": jd.losses.softmax_cross_entropy}
    options |= {"epochs": 2, "batch_size": 16, "progress": False}
    for strategy in ("vmap", "threads"):
        table = jd.sweep(
            lambda hp: SMALL(jd.optimizers.adam(hp["rate"])),
            {"rate": rates},
            seeds=1,
            strategy=strategy,
            **options,
        )
        for row in table.rows():
            alone = fit(SMALL(jd.optimizers.adam(row["rate"])), epochs=2, key=jax.random.key(0))
            np.testing.assert_allclose(row["loss"], alone.history["loss"][-1], rtol=0.02)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: low_precision(3), TypeError, "inner must be an optax transformation, got 3"),
        (lambda: low_precision(optax.adam), TypeError, "call it with a learning rate"),
        (lambda: SMALL(optax.sgd(0.1), "int4"), ValueError, "state must be .*int8.*got 'int4'"),
        (lambda: SMALL(optax.sgd(0.1), "int8", "int8"), ValueError, "params must be .*got 'int8'"),
        (lambda: SMALL(optax.sgd(0.1), where=3), TypeError, "where must be"),
        (lambda: low_precision(optax.sgd(0.1), min_size=0), ValueError, "min_size must be"),
        (
            lambda: SMALL(optax.sgd(0.1), params="bfloat16+8").init(KERNEL),
            ValueError,
            "wants parameters in bfloat16, and kernel is float32; cast it",
        ),
        (lambda: SMALL(SMALL(optax.adam(0.1))).init(KERNEL), ValueError, "in low precision already"),
        (lambda: SMALL(optax.rmsprop(0.1, centered=True)).init(KERNEL), ValueError, "nu − mu²"),
        (
            lambda: SMALL(optax.rmsprop(0.1, centered=True, bias_correction=True)).init(KERNEL),
            ValueError,
            "nu − mu²",
        ),
        (lambda: SMALL(optax.adam(0.1)).init(None), TypeError, "params must be a pytree"),
        (lambda: SMALL(optax.adam(0.1), where="odd").init(KERNEL), ValueError, "matches no leaf"),
        (
            lambda: SMALL(optax.adam(0.1), params="bfloat16").update(
                low(KERNEL), SMALL(optax.adam(0.1), params="bfloat16").init(low(KERNEL))
            ),
            ValueError,
            "needs the parameters",
        ),
        (
            lambda: SMALL(optax.adam(0.1)).update(KERNEL, optax.adam(0.1).init(KERNEL), KERNEL),
            TypeError,
            "state must be what init",
        ),
        (
            lambda: SMALL(optax.adam(0.1)).update(
                KERNEL, SMALL(optax.adam(0.1), "bfloat16").init(KERNEL), KERNEL
            ),
            ValueError,
            "made with state='bfloat16', and this optimizer with state='int8'",
        ),
        (
            lambda: SMALL(optax.adam(0.1), params="bfloat16+8").update(
                low(KERNEL), SMALL(optax.adam(0.1)).init(low(KERNEL)), low(KERNEL)
            ),
            ValueError,
            "made with other params= than 'bfloat16.8'",
        ),
        (lambda: jd.optimizers.bytes_per_param((), {}), ValueError, "params must have elements"),
        (lambda: jd.optimizers.bytes_per_param("a", KERNEL), TypeError, "opt_state"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
