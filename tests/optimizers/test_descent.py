"""Optimizers against recorded frameworks, the textbook's equations, and the installed optax."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdeep import optimizers
from jaxdeep.optimizers import adam, gradient_point, nag, sgd

CURVATURE = np.array([1.0, 10.0, 100.0])


def run(tx, steps, dtype, x=(1.0, 1.0, 1.0)):
    """Iterates on ½ Σ a θ², gradients at the look-ahead point, as the recorded runs."""
    a = jnp.asarray(CURVATURE, dtype)
    x = {"x": jnp.asarray(x, dtype)}
    state = tx.init(x)
    path = []
    for _ in range(steps):
        grads = jax.tree.map(lambda p: a * p, gradient_point(state, x))
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


@pytest.mark.heavy
@pytest.mark.usefixtures("x64")
def test_every_recorded_run_in_float64(golden):
    for row in recorded(golden, "float64"):
        found = run(build(row), row["steps"], jnp.float64)
        expected = np.array([step["x"] for step in row["trajectory"]])
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(row), err_msg=str(row)[:200])


@pytest.mark.heavy
def test_every_recorded_run_in_float32(golden):
    for row in recorded(golden, "float32"):
        found = run(build(row), row["steps"], jnp.float32)
        expected = np.array([step["x"] for step in row["trajectory"]])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=str(row)[:200])


@pytest.mark.heavy
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


@pytest.mark.heavy
@pytest.mark.usefixtures("x64")
@hypothesis.given(lr=st.floats(1e-4, 8e-3), beta=st.floats(0, 0.95))
def test_the_look_ahead_point_of_nag_is_the_reformulated_iterate(lr, beta):
    x = jnp.ones(3)
    tx, reformulated = nag(lr, momentum=beta), sgd(lr, momentum=beta, nesterov=True, lr_in_trace=True)
    other = run(reformulated, 10, jnp.float64)
    state = tx.init(x)
    for t in range(10):
        updates, state = tx.update(jnp.asarray(CURVATURE) * gradient_point(state, x), state, x)
        x = x + updates
        np.testing.assert_allclose(gradient_point(state, x), other[t], rtol=0, atol=1e-12)


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
def test_gradient_point_sees_through_wrappers(wrap):
    tx = wrap(nag(0.1, momentum=0.5))
    x = {"a": jnp.array([1.0]), "b": jnp.array([[2.0]])}
    state = tx.init(x)
    assert jax.tree.map(float, jax.tree.map(jnp.sum, gradient_point(state, x))) == {"a": 1.0, "b": 2.0}
    grads = jax.tree.map(jnp.ones_like, x)
    _, state = tx.update(grads, state, x)
    point = gradient_point(state, x)
    np.testing.assert_allclose(point["a"], [1.0 + 0.5 * -0.1])
    assert jax.tree.map(jnp.shape, point) == jax.tree.map(jnp.shape, x)


def test_gradient_point_leaves_what_a_mask_leaves_out():
    tx = optax.masked(nag(0.1, momentum=0.5), {"a": True, "b": False})
    x = {"a": jnp.ones(2), "b": {"c": jnp.ones(2), "d": jnp.ones(3)}}
    _, state = tx.update(jax.tree.map(jnp.ones_like, x), tx.init(x), x)
    point = gradient_point(state, x)
    assert jax.tree.structure(point) == jax.tree.structure(x)
    np.testing.assert_allclose(point["a"], 0.95)
    np.testing.assert_array_equal(point["b"]["d"], 1)


def test_gradient_point_of_any_other_optimizer_is_the_parameters_themselves():
    x = {"a": jnp.ones(2)}
    for tx in (adam(0.1), sgd(0.1, momentum=0.9, nesterov=True), optax.adamw(0.1)):
        assert gradient_point(tx.init(x), x) is x


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
    with pytest.raises(ValueError, match=r"gradient_point: the trace of nag .* optax.flatten"):
        gradient_point(optax.flatten(nag(0.1)).init(x), x)
    z = jnp.ones(2, jnp.complex64)
    with pytest.raises(
        TypeError, match="params must be an array of real numbers, got one of dtype complex64"
    ):
        adam(0.1).update(z, adam(0.1).init(z), z)


def test_a_traced_value_is_not_checked():
    jax.jit(lambda lr: adam(lr).init(jnp.ones(2)))(-1.0)


@pytest.mark.few(2)
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("corrected", [False, True])
def test_the_variance_of_gradients_that_hardly_vary_is_not_rounding(corrected, jit):
    """Averages of squares in float64 beside float32; optax' difference of them there is all rounding."""
    rho, eps, start = 0.9, 1e-6, 1e-3
    grads = 10 + 1e-3 * np.cos(np.arange(200.0))
    tx = optimizers.scale_by_rms(
        decay=rho, eps=eps, initial_scale=start, centered=True, bias_correction=corrected
    )
    update = jax.jit(tx.update) if jit else tx.update
    state = tx.init(jnp.zeros(()))
    nu, mu = start, 0.0
    for t, g in enumerate(np.float64(np.float32(grads)), 1):
        nu, mu = rho * nu + (1 - rho) * g * g, rho * mu + (1 - rho) * g
        scale = 1 / (1 - rho**t) if corrected else 1.0
        expected = g / np.sqrt(max(nu * scale - (mu * scale) ** 2, 0) + eps)
        found, state = update(jnp.float32(g), state)
        np.testing.assert_allclose(found, expected, rtol=3e-3 if t > 1 else 1e-5)
