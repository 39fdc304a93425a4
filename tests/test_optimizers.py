"""Optimizers against recorded frameworks, the textbook's equations, and the installed optax."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep import optimizers
from jaxdeep.optimizers import adam, lookahead, nag, sgd

CURVATURE = np.array([1.0, 10.0, 100.0])


def run(tx, steps, dtype, x=(1.0, 1.0, 1.0)):
    """Iterates on ½ Σ a θ², gradients at the look-ahead point, as the recorded runs."""
    a = jnp.asarray(CURVATURE, dtype)
    x = {"x": jnp.asarray(x, dtype)}
    state = tx.init(x)
    path = []
    for _ in range(steps):
        grads = jax.tree.map(lambda p: a * p, lookahead(state, x))
        updates, state = tx.update(grads, state, x)
        x = optax.apply_updates(x, updates)
        path.append(np.asarray(x["x"]))
    return np.array(path)


def rate(lr):
    return (lambda t: jnp.asarray(lr)[t]) if isinstance(lr, list) else lr


def build(row):
    """Our spelling of a recorded run."""
    lr, kind, framework = rate(row["lr"]), row["optimizer"], row["framework"]
    hyper = dict(row["hyper"])
    keras, torch = framework == "keras", framework == "torch"
    inside = framework in ("keras", "reference")
    if row["hyper_left_at_library_default"]:
        hyper = LIBRARY_DEFAULTS[framework].get(kind, {})
    clip = {
        "clipvalue": optimizers.clip_by_value,
        "clipnorm": optimizers.clip_by_norm,
        "global_clipnorm": optimizers.clip_by_global_norm,
    }
    for name, make in clip.items():
        if name in hyper:
            return optax.chain(make(hyper[name]), sgd(lr))
    if "acc0" in hyper:
        hyper["initial_accumulator_value"] = hyper.pop("acc0")
    if "wd" in hyper:
        hyper["weight_decay"] = hyper.pop("wd")
    beta = {"momentum": hyper.pop("beta")} if "beta" in hyper else {}
    mode = {"eps_mode": "uncorrected"} if keras else {}
    if kind == "sgd":
        return sgd(lr)
    if kind in ("momentum", "momentum_textbook"):
        return sgd(lr, **beta, lr_in_trace=inside)
    if kind == "nesterov":
        return sgd(lr, **beta, nesterov=True, lr_in_trace=inside)
    if kind == "nag_lookahead":
        return nag(lr, **beta)
    if kind.startswith("adagrad"):
        return optimizers.adagrad(lr, **hyper, eps_in_sqrt=not torch)
    if kind.startswith("rmsprop"):
        options = {"centered": "centered" in kind, "eps_in_sqrt": not (torch or "outside" in kind)}
        return optimizers.rmsprop(lr, **hyper, **beta, **options, lr_in_trace=not torch)
    if kind == "adam":
        return adam(lr, **hyper, **mode)
    if kind == "adam_eps_inside":
        return adam(lr, **hyper | {"eps": 0.0, "eps_root": hyper["eps"]})
    if kind == "adamax":
        return optimizers.adamax(lr, **hyper, **({"eps_mode": "denominator"} if keras else {}))
    if kind == "adamax_no_eps":
        return optimizers.adamax(lr, **hyper, eps=0.0)
    if kind == "nadam":
        psi = {"keras": 1.0, "torch": hyper.pop("momentum_decay", 0.004), "optax": None}[framework]
        return optimizers.nadam(lr, **hyper, momentum_decay=psi)
    if kind == "adamw":
        return optimizers.adamw(lr, **hyper, **mode)
    if kind == "adamw_decay_not_lr_scaled":
        return optimizers.adamw(lr, **hyper, couple_lr=False)
    raise KeyError(kind)


LIBRARY_DEFAULTS = {
    "optax": {},
    "keras": {
        **{kind: {"eps": 1e-7} for kind in ("rmsprop", "adam", "adamax", "nadam")},
        "adamw": {"eps": 1e-7, "wd": 4e-3},
    },
    "torch": {"adagrad": {"acc0": 0.0, "eps": 1e-10}, "rmsprop": {"decay": 0.99}, "adamw": {"wd": 1e-2}},
}


def recorded(golden, dtype):
    rows = [row for row in golden["optimizers"] if row["dtype"] == dtype]
    assert len(rows) == 116
    return rows


def tolerance(row):
    """As recorded: PyTorch keeps a product of Nadam in float32 and adds 1e-6 to norms."""
    if row["framework"] == "torch" and row["optimizer"] == "nadam":
        return 1e-8
    if row["framework"] == "torch" and {"clipnorm", "global_clipnorm"} & set(row["hyper"]):
        return 1e-6
    return 1e-12


@pytest.mark.usefixtures("x64")
def test_every_recorded_run_in_float64(golden):
    for row in recorded(golden, "float64"):
        found = run(build(row), row["steps"], jnp.float64)
        expected = np.array([step["x"] for step in row["trajectory"]])
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(row), err_msg=str(row)[:200])


def test_every_recorded_run_in_float32(golden):
    for row in recorded(golden, "float32"):
        found = run(build(row), row["steps"], jnp.float32)
        expected = np.array([step["x"] for step in row["trajectory"]])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=str(row)[:200])


def test_float32_adam_is_as_close_to_float64_as_float32_can_be(golden):
    """Bias corrections from 1 − β: optax is 3.7e-6 off here."""
    for row in recorded(golden, "float64"):
        if row["optimizer"] in ("adam", "adam_eps_inside", "adamw", "adamax"):
            found = run(build(row), row["steps"], jnp.float32)[-1]
            np.testing.assert_allclose(found, row["trajectory"][-1]["x"], rtol=0, atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("clip", [None, 3.0])
@pytest.mark.parametrize("scheduled", [False, True])
def test_nag_is_the_textbook_equation(clip, scheduled):
    rates = [0.005, 0.005, 0.001, 0.002, 0.0005] * 4
    betas = list(np.linspace(0.95, 0.5, 20))
    lr = (lambda t: jnp.asarray(rates)[t]) if scheduled else 0.005
    beta = (lambda t: jnp.asarray(betas)[t]) if scheduled else 0.9
    tx = nag(lr, momentum=beta)
    found = run(tx if clip is None else optax.chain(optax.clip(clip), tx), 20, jnp.float64)

    theta, m = np.ones(3), np.zeros(3)
    for t in range(20):
        b, eta = (betas[t], rates[t]) if scheduled else (0.9, 0.005)
        gradient = CURVATURE * (theta + b * m)
        if clip is not None:
            gradient = np.clip(gradient, -clip, clip)
        m = b * m - eta * gradient
        theta = theta + m
        np.testing.assert_allclose(found[t], theta, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
@hypothesis.given(lr=st.floats(1e-4, 8e-3), beta=st.floats(0, 0.95))
def test_the_look_ahead_point_of_nag_is_the_reformulated_iterate(lr, beta):
    x = jnp.ones(3)
    tx, reformulated = nag(lr, momentum=beta), sgd(lr, momentum=beta, nesterov=True, lr_in_trace=True)
    other = run(reformulated, 10, jnp.float64)
    state = tx.init(x)
    for t in range(10):
        updates, state = tx.update(jnp.asarray(CURVATURE) * lookahead(state, x), state, x)
        x = x + updates
        np.testing.assert_allclose(lookahead(state, x), other[t], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: tx,
        lambda tx: optax.chain(optax.clip(1.0), tx),
        lambda tx: optax.masked(tx, {"a": True, "b": False}),
        lambda tx: optax.multi_transform({"n": tx, "s": optax.sgd(0.1)}, {"a": "n", "b": "s"}),
        lambda tx: optax.apply_if_finite(tx, 3),
    ],
)
def test_lookahead_sees_through_wrappers(wrap):
    tx = wrap(nag(0.1, momentum=0.5))
    x = {"a": jnp.array([1.0]), "b": jnp.array([[2.0]])}
    state = tx.init(x)
    assert jax.tree.map(float, jax.tree.map(jnp.sum, lookahead(state, x))) == {"a": 1.0, "b": 2.0}
    grads = jax.tree.map(jnp.ones_like, x)
    _, state = tx.update(grads, state, x)
    point = lookahead(state, x)
    np.testing.assert_allclose(point["a"], [1.0 + 0.5 * -0.1])
    assert jax.tree.map(jnp.shape, point) == jax.tree.map(jnp.shape, x)


def test_lookahead_leaves_what_a_mask_leaves_out():
    tx = optax.masked(nag(0.1, momentum=0.5), {"a": True, "b": False})
    x = {"a": jnp.ones(2), "b": {"c": jnp.ones(2), "d": jnp.ones(3)}}
    _, state = tx.update(jax.tree.map(jnp.ones_like, x), tx.init(x), x)
    point = lookahead(state, x)
    assert jax.tree.structure(point) == jax.tree.structure(x)
    np.testing.assert_allclose(point["a"], 0.95)
    np.testing.assert_array_equal(point["b"]["d"], 1)


def test_lookahead_of_any_other_optimizer_is_the_parameters_themselves():
    x = {"a": jnp.ones(2)}
    for tx in (adam(0.1), sgd(0.1, momentum=0.9, nesterov=True), optax.adamw(0.1)):
        assert lookahead(tx.init(x), x) is x


PAIRS = {
    "sgd": (sgd(0.05), optax.sgd(0.05)),
    "momentum": (sgd(0.05, momentum=0.9), optax.sgd(0.05, momentum=0.9)),
    "nesterov": (sgd(0.05, momentum=0.9, nesterov=True), optax.sgd(0.05, momentum=0.9, nesterov=True)),
    "adam": (adam(0.05), optax.adam(0.05)),
    "adam eps_root": (adam(0.05, eps=1e-3, eps_root=1e-4), optax.adam(0.05, eps=1e-3, eps_root=1e-4)),
    "adam scheduled": (
        adam(jd.schedules.exponential(0.1, 10, 0.5)),
        optax.adam(optax.exponential_decay(0.1, 10, 0.5)),
    ),
}


def race(txs, dtype, steps=50):
    """Parameters after the same random gradients: mixed shapes, a scalar and an empty leaf."""
    shapes = {"a": (3, 4), "b": {"c": (), "d": (0, 2)}, "e": [(5,)]}
    keys = iter(jax.random.split(jax.random.key(0), 100))
    start = jax.tree.map(
        lambda s: jax.random.normal(next(keys), s), shapes, is_leaf=lambda s: isinstance(s, tuple)
    )
    start = jax.tree.map(lambda p: p.astype(jnp.bfloat16).astype(dtype), start)
    ends, states = [start] * len(txs), [tx.init(start) for tx in txs]
    updates = [jax.jit(tx.update) for tx in txs]
    for _ in range(steps):
        key = next(keys)
        noise = jax.tree.map(lambda p, k=key: jax.random.normal(k, p.shape), start)
        g = jax.tree.map(lambda n, p: (n + 0.1 * p).astype(jnp.bfloat16).astype(dtype), noise, start)
        for i, update in enumerate(updates):
            u, states[i] = update(g, states[i], ends[i])
            assert jax.tree.map(lambda a: a.dtype, u) == jax.tree.map(lambda a: a.dtype, start)
            ends[i] = optax.apply_updates(ends[i], u)
    return [np.concatenate([np.ravel(p).astype(np.float32) for p in jax.tree.leaves(e)]) for e in ends]


@pytest.mark.parametrize("name", PAIRS)
def test_fifty_steps_like_the_installed_optax(name):
    ours, theirs = race(PAIRS[name], jnp.float32)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_fifty_steps_in_bfloat16_stay_as_close_to_float32_as_those_of_optax(name):
    """Arithmetic in float32, rounded once; what is left is the rounding of the parameters."""
    ours, theirs = race(PAIRS[name], jnp.bfloat16)
    _, truth = race(PAIRS[name], jnp.float32)
    error, other = np.abs(ours - truth), np.abs(theirs - truth)
    assert error.mean() <= 1.25 * other.mean()
    np.testing.assert_allclose(ours, theirs, atol=0.1)


@pytest.mark.parametrize(
    ("tx", "exact"),
    [
        (sgd(0.05, momentum=0.9, accumulator_dtype="bfloat16"), sgd(0.05, momentum=0.9)),
        (adam(0.05, mu_dtype="bfloat16"), adam(0.05)),
    ],
)
def test_a_low_precision_first_moment(tx, exact):
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(tx.init(jnp.ones(3)).slots)}
    assert "bfloat16" in dtypes
    rounded, expected = race([tx, exact], jnp.float32)
    np.testing.assert_allclose(rounded, expected, atol=0.1)
    assert np.abs(rounded - expected).max() > 0


TXS = {
    "sgd": sgd,
    "momentum": lambda lr: sgd(lr, momentum=0.9),
    "nesterov": lambda lr: sgd(lr, momentum=0.9, nesterov=True, lr_in_trace=True),
    "nag": lambda lr: nag(lr, momentum=0.9),
    "nag scheduled": lambda lr: nag(lr, momentum=jd.schedules.constant(0.9)),
    "adam": adam,
}
each = pytest.mark.parametrize("make", TXS.values(), ids=TXS)


def spec(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), tree)


@each
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_state_and_update_keep_structure_dtype_and_weak_type(make, dtype):
    tx = make(0.1)
    x = {"w": jnp.ones((3, 2), dtype), "b": jnp.ones((), dtype), "empty": jnp.ones((0,), dtype)}
    state = tx.init(x)
    update = jax.jit(tx.update)
    for _ in range(3):
        updates, new = update(x, state, x)
        assert spec(new) == spec(state)
        assert [u.dtype for u in jax.tree.leaves(updates)] == [dtype] * 3
        state = new
    assert update._cache_size() == 1


@pytest.mark.parametrize("make", [adam, optimizers.rmsprop, optimizers.adamax, optimizers.adagrad])
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


@each
def test_float64_parameters_with_x64_and_float32_ones_stay_what_they_are(make, x64):
    for dtype in (jnp.float32, jnp.float64):
        tx = make(0.1)
        x = jnp.ones(3, dtype)
        updates, new = tx.update(x, tx.init(x), x)
        assert updates.dtype == dtype
        assert spec(new) == spec(tx.init(x))


@each
def test_two_learning_rates_share_one_compilation(make):
    traces = 0

    @jax.jit
    def train(lr, x):
        nonlocal traces
        traces += 1
        tx = make(lr)

        def body(carry, _):
            x, state = carry
            u, state = tx.update(x, state, x)
            return (x + u, state), None

        return jax.lax.scan(body, (x, tx.init(x)), None, length=5)[0][0]

    x = jnp.array([1.0, -2.0])
    a, b = train(0.1, x), train(0.01, x)
    assert traces == 1
    assert not np.allclose(a, b)
    tx = make(0.1)
    expected, state = x, tx.init(x)
    for _ in range(5):
        u, state = tx.update(expected, state, expected)
        expected = expected + u
    np.testing.assert_allclose(a, expected, rtol=1e-5)


@each
def test_editing_a_leaf_of_the_state_changes_the_step_without_retracing(make):
    x = jnp.array([1.0, -2.0])
    update = jax.jit(make(0.1).update)
    state = make(0.1).init(x)
    edited = optax.tree_utils.tree_set(state, learning_rate=jnp.float32(0.2))
    u, _ = update(x, state, x)
    v, after = update(x, edited, x)
    np.testing.assert_allclose(v, 2 * u, rtol=1e-6)
    assert update._cache_size() == 1
    assert float(optax.tree_utils.tree_get(after, "learning_rate")) == pytest.approx(0.2)


@each
def test_vmap_over_learning_rates_equals_a_loop(make):
    x = jnp.array([1.0, -2.0])

    def two_steps(lr):
        tx = make(lr)
        y, state = x, tx.init(x)
        for _ in range(2):
            u, state = tx.update(y, state, y)
            y = y + u
        return y

    rates = jnp.array([0.1, 0.03])
    np.testing.assert_allclose(
        jax.vmap(two_steps)(rates), jnp.stack([two_steps(r) for r in rates]), rtol=1e-6
    )


def test_vmap_over_b1_b2_and_eps():
    x = jnp.array([1.0, -2.0])

    def step(b1, b2, eps):
        tx = adam(0.1, b1=b1, b2=b2, eps=eps)
        y, state = x, tx.init(x)
        for _ in range(3):
            u, state = tx.update(y, state, y)
            y = y + u
        return y

    grid = [(0.9, 0.999, 1e-8), (0.5, 0.9, 1e-2)]
    found = jax.vmap(step)(*map(jnp.array, zip(*grid)))
    np.testing.assert_allclose(found, jnp.stack([step(*row) for row in grid]), rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "kwargs"),
    [(adam, {"b1": 0.8}), (sgd, {"momentum": 0.9}), (nag, {"momentum": 0.9})],
)
def test_inject_hyperparams_around_our_factories(make, kwargs):
    schedule = jd.schedules.exponential(0.1, 2, 0.5)
    wrapped = optax.inject_hyperparams(make)(schedule, **kwargs)
    ours = make(schedule, **kwargs)
    x = y = jnp.array([1.0, -2.0])
    state, other = wrapped.init(x), ours.init(y)
    for _ in range(6):
        u, state = jax.jit(wrapped.update)(lookahead(state, x), state, x)
        v, other = ours.update(lookahead(other, y), other, y)
        x, y = x + u, y + v
    np.testing.assert_allclose(x, y, rtol=1e-5)


def test_inject_hyperparams_gives_bfloat16_scalars_which_are_not_refused():
    tx = optax.inject_hyperparams(adam)(0.1)
    x = jnp.ones(2, jnp.bfloat16)
    tx.update(x, tx.init(x), x)


@each
@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.masked(tx, {"a": True, "b": False}),
        lambda tx: optax.MultiSteps(tx, 2),
        lambda tx: optax.multi_transform({"x": tx, "y": optax.set_to_zero()}, {"a": "x", "b": "y"}),
        lambda tx: optax.chain(optax.clip_by_global_norm(1.0), tx, optax.scale(0.5)),
        lambda tx: optax.apply_if_finite(tx, 2),
    ],
)
def test_inside_optax_wrappers_in_a_scan(make, wrap):
    tx = wrap(make(0.1))
    x = {"a": jnp.ones(2), "b": jnp.ones((2, 2))}

    def body(carry, _):
        x, state = carry
        u, state = tx.update(x, state, x)
        return (optax.apply_updates(x, u), state), None

    (end, _), _ = jax.jit(lambda x: jax.lax.scan(body, (x, tx.init(x)), None, length=4))(x)
    assert np.all(np.isfinite(end["a"]))
    assert np.all(end["a"] < 1)


@each
def test_a_zero_gradient_is_a_zero_update(make):
    x = jnp.ones(3)
    tx = make(0.1)
    u, _ = tx.update(jnp.zeros(3), tx.init(x), x)
    np.testing.assert_array_equal(u, 0)


@each
def test_without_parameters_and_with_unknown_extra_arguments(make):
    x = jnp.ones(3)
    tx = make(0.1)
    u, _ = tx.update(x, tx.init(x), value=1.0, anything="else")
    assert u.shape == (3,)


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
    assert "all-gather" not in update.as_text()
    u, state = update(x, state, x)
    assert u.sharding.is_equivalent_to(sharding, 2)
    v, _ = tx.update(jnp.asarray(np.asarray(x)), tx.init(np.asarray(x)), np.asarray(x))
    np.testing.assert_allclose(u, v, rtol=1e-6)


def test_state_memory_is_what_the_algorithm_needs():
    x = jnp.ones(10_000)

    def floats(tx):
        return sum(leaf.size for leaf in jax.tree.leaves(tx.init(x)))

    assert floats(sgd(0.1)) < 10
    assert floats(sgd(0.1, momentum=0.9)) - 10_000 < 10
    assert floats(nag(0.1)) - 10_000 < 10
    assert floats(adam(0.1)) - 20_000 < 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adam(-0.1), r"learning_rate must be in \[0, inf\), got -0.1"),
        (lambda: adam(float("nan")), "learning_rate must be in"),
        (lambda: adam(0.1, b1=1.0), r"b1 must be in \[0, 1\), got 1.0"),
        (lambda: adam(0.1, b2=-0.1), r"b2 must be in \[0, 1\), got -0.1"),
        (lambda: adam(0.1, b2=jnp.array(1.5)), r"b2 must be in \[0, 1\)"),
        (lambda: adam(0.1, eps=-1), "eps must be in"),
        (
            lambda: adam(0.1, eps_mode="keras"),
            "eps_mode must be 'corrected' or 'uncorrected', got 'keras'",
        ),
        (lambda: adam("0.1"), "learning_rate must be a number, a scalar array or a schedule"),
        (lambda: adam(None), "learning_rate must be a number"),
        (lambda: adam(True), "learning_rate must be a number"),
        (lambda: adam(jnp.ones(2)), r"got an array of shape \(2,\)"),
        (
            lambda: adam(lambda t: jnp.ones(2)).init(jnp.ones(3)),
            "schedule of learning_rate must return a scalar",
        ),
        (lambda: sgd(0.1, momentum=1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: sgd(0.1, nesterov=True), "nesterov and lr_in_trace need a momentum"),
        (lambda: sgd(-1), "learning_rate must be in"),
        (lambda: nag(0.1, momentum=-0.5), "momentum must be in"),
    ],
)
def test_wrong_arguments_are_refused_in_the_factory(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_what_nag_and_complex_numbers_do_not_allow():
    x = {"a": jnp.ones(2), "b": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"lookahead: the trace of nag .* optax.flatten"):
        lookahead(optax.flatten(nag(0.1)).init(x), x)
    z = jnp.ones(2, jnp.complex64)
    with pytest.raises(TypeError, match="complex parameters or gradients are not supported"):
        adam(0.1).update(z, adam(0.1).init(z), z)


def test_a_traced_value_is_not_checked():
    jax.jit(lambda lr: adam(lr).init(jnp.ones(2)))(-1.0)
