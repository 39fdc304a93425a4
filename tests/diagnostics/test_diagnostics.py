"""Gradient flow, what is said about it, its place in fit, and the learning-rate range test."""

import os

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep import plotting
from jaxdeep._compat import enable_x64
from jaxdeep.diagnostics import LayerFlow, diagnose, find_learning_rate, gradient_flow, report
from jaxdeep.diagnostics.layer_flow import LayerMeasure
from jaxdeep.diagnostics.verdict import by_repetition

SLOW = pytest.mark.slow  # compiling is what these tests take their time for
KEY = jax.random.key(0)
CE = jd.losses.softmax_cross_entropy
INIT = jd.nn.initializers
X = np.asarray(jax.random.normal(jax.random.key(1), (96, 12)))
Y = np.argmax(X[:, :4], axis=-1)


def close(a, b, rtol=1e-5, **more):
    assert list(a) == list(b)
    for path in a:
        for field, one, other in zip(LayerFlow._fields, a[path], b[path]):
            np.testing.assert_allclose(one, other, rtol=rtol, err_msg=f"{path} {field}", **more)


def begun(model, x=X):
    return model.init(KEY, x[:1])


def flow(model, batch=(X, Y), **changes):
    return gradient_flow(model, *begun(model, batch[0]), batch, **({"loss": CE} | changes))


def small():
    return jd.nn.serial(
        hidden=jd.nn.dense(16, activation=jnp.tanh),
        bn=jd.nn.batch_norm(),
        act=jd.nn.activation(jax.nn.relu),
        drop=jd.nn.dropout(0.2),
        logits=jd.nn.dense(4),
    )


# --- what is measured -----------------------------------------------------------------------------


def test_every_number_is_the_one_computed_by_hand():
    model = jd.nn.serial(hidden=jd.nn.dense(16, activation=jnp.tanh), logits=jd.nn.dense(4))
    params, state = begun(model)
    found = gradient_flow(model, params, state, (X, Y), loss=CE, optimizer=jd.optimizers.sgd(0.5))

    def from_hidden(h, params):
        return CE(h @ params["logits"]["kernel"] + params["logits"]["bias"], Y).mean()

    z = X @ params["hidden"]["kernel"] + params["hidden"]["bias"]
    h = jnp.tanh(z)
    grads = jax.grad(lambda p: CE(model.apply(p, state, X)[0], Y).mean())(params)
    norm = {
        name: np.sqrt(sum(np.sum(np.square(g)) for g in own.values())) for name, own in grads.items()
    }
    size = {
        name: np.sqrt(sum(np.sum(np.square(w)) for w in own.values())) for name, own in params.items()
    }
    each = jax.vmap(
        lambda h, y: jax.grad(
            lambda h: CE(h @ params["logits"]["kernel"] + params["logits"]["bias"], y)
        )(h)
    )(h, Y)
    slopes = 1 - np.square(h)
    expected = {
        "gradient_norm": norm["hidden"],
        "parameter_norm": size["hidden"],
        "update_ratio": 0.5 * norm["hidden"] / size["hidden"],
        "output_gradient": np.sqrt(np.mean(np.sum(np.square(each), axis=-1))),
        "activation_mean": np.mean(h),
        "activation_std": np.std(h),
        "saturation": np.mean(slopes < 0.05),
        "dead": np.mean((slopes < 1e-3).all(0)),
    }
    assert expected["saturation"] > 0
    for field, value in expected.items():
        np.testing.assert_allclose(getattr(found["hidden"], field), value, rtol=1e-5, err_msg=field)
    np.testing.assert_allclose(found["logits"].gradient_norm, norm["logits"], rtol=1e-5)
    assert np.isnan(found["logits"].saturation)
    assert np.isnan(found["logits"].dead)


SLOPES = {  # where less than 5 % comes through, and where less than 0.1 %
    jax.nn.sigmoid: (lambda z: 1 / (2 + np.exp(z) + np.exp(-z)) < 0.05, lambda z: np.abs(z) > 6.9),
    jax.nn.relu: (np.zeros_like, lambda z: z < 0),
    jax.nn.relu6: (lambda z: z > 6, lambda z: (z < 0) | (z > 6)),
    jax.nn.leaky_relu: (np.zeros_like, np.zeros_like),
    jax.nn.elu: (lambda z: z < np.log(0.05), lambda z: z < np.log(1e-3)),
}


def test_saturation_and_death_follow_the_slope():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 8)).astype(np.float32) * 4
    z[:, :2] = -7.5 - np.abs(z[:, :2])
    same = INIT.identity()
    branches = {}
    for function in SLOPES:
        name = function.__name__
        branches[f"{name} fused"] = jd.nn.dense(8, activation=function, kernel_init=same)
        branches[name] = jd.nn.activation(function)
    model = jd.nn.concatenate(**branches)
    found = flow(model, (z, np.zeros((50, 80), np.float32)), loss=jd.losses.mse)
    for function, (saturated, dead) in SLOPES.items():
        for name in (function.__name__, f"{function.__name__} fused"):
            np.testing.assert_allclose(found[name].saturation, saturated(z).mean(), atol=1e-6)
            np.testing.assert_allclose(found[name].dead, dead(z).all(0).mean(), atol=1e-6)


@SLOW
def test_a_softmax_is_no_activation_of_units_and_learned_slopes_are():
    model = jd.nn.serial(
        hidden=jd.nn.dense(8),
        slopes=jd.nn.prelu(0.0),
        beta=jd.nn.swish(),
        soft=jd.nn.dense(4, activation=jax.nn.softmax),
    )
    found = flow(model, (X, np.eye(4, dtype=np.float32)[Y]), loss=jd.losses.mse)
    assert np.isnan(found["soft"].saturation)
    z = X @ begun(model)[0]["hidden"]["kernel"]
    np.testing.assert_allclose(found["slopes"].saturation, np.mean(z < 0), atol=1e-6)
    assert found["beta"].saturation < 0.2


def test_it_is_the_same_under_jit_and_vmap_and_in_order():
    model = small()
    keys = jax.random.split(KEY, 3)
    batch = jax.tree.map(jnp.asarray, (X, Y))

    def of(key):
        return gradient_flow(model, *model.init(key, X), batch, loss=CE, key=key)

    many = jax.jit(jax.vmap(of))(keys)
    assert list(many) == ["hidden", "bn", "act", "drop", "logits"]
    for i, key in enumerate(keys):
        close(jax.tree.map(lambda a, i=i: a[i], many), of(key), rtol=1e-3, atol=1e-6)


@SLOW
def test_values_may_change_without_tracing_again():
    model, traces = small(), []

    @jax.jit
    def of(params, state, batch):
        traces.append(1)
        return gradient_flow(model, params, state, batch, loss=CE)

    params, state = begun(model)
    of(params, state, (X, Y))
    of(jax.tree.map(lambda a: 2 * a, params), state, (X + 1, Y))
    assert len(traces) == 1


@SLOW
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes(dtype):
    with enable_x64(dtype == "float64"):
        model, x = small(), jnp.asarray(X, dtype)
        params, state = jax.tree.map(lambda a: jnp.asarray(a, dtype), model.init(KEY, X[:1]))
        found = gradient_flow(model, params, state, (x, jnp.asarray(Y)), loss=CE)
    close(found, flow(model), rtol=0.05, atol=0.02)
    assert found["hidden"].gradient_norm.dtype == (jnp.float64 if dtype == "float64" else jnp.float32)


@SLOW
def test_mixed_precision_measures_what_it_wraps():
    plain = jd.nn.serial(hidden=jd.nn.dense(16, activation=jnp.tanh), logits=jd.nn.dense(4))
    close(flow(jd.nn.mixed_precision(plain)), flow(plain), rtol=0.05, atol=1e-3)


@SLOW
def test_a_gradient_too_small_to_square_is_measured():
    model = jd.nn.serial(
        shrink=jd.nn.dense(4, use_bias=False),
        by=jd.nn.lambda_(lambda x: 1e-30 * x),
        logits=jd.nn.dense(4),
    )
    found = flow(model)
    assert 0 < found["shrink"].gradient_norm < 1e-28
    np.testing.assert_allclose(
        found["shrink"].output_gradient, 1e-30 * found["by"].output_gradient, rtol=1e-5
    )


def unrolled(times, width=12):
    return jd.nn.serial(**{f"layer{i}": jd.nn.dense(width, activation=jnp.tanh) for i in range(times)})


@pytest.mark.heavy
def test_a_repeated_layer_is_measured_at_each_repetition():
    model = jd.nn.serial(
        deep=jd.nn.repeat(jd.nn.dense(12, activation=jnp.tanh), 5), logits=jd.nn.dense(4)
    )
    params, state = begun(model)
    found = gradient_flow(model, params, state, (X, Y), loss=CE, optimizer=jd.optimizers.adam(1e-3))[
        "deep/layer"
    ]
    flat = jd.nn.serial(deep=unrolled(5), logits=jd.nn.dense(4))
    own = {f"layer{i}": jax.tree.map(lambda a, i=i: a[i], params["deep"]["layer"]) for i in range(5)}
    each = gradient_flow(
        flat, params | {"deep": own}, {}, (X, Y), loss=CE, optimizer=jd.optimizers.adam(1e-3)
    )
    for i in range(5):
        one = {"layer": jax.tree.map(lambda a, i=i: a[i], found)}
        close(one, {"layer": each[f"deep/layer{i}"]}, rtol=1e-4, atol=1e-7)


@SLOW
def test_a_shared_layer_is_measured_over_its_applications():
    model = jd.nn.serial(
        deep=jd.nn.repeat(jd.nn.dense(12, activation=jnp.tanh), 3, shared=True), logits=jd.nn.dense(4)
    )
    params, state = begun(model)
    found = gradient_flow(model, params, state, (X, Y), loss=CE)["deep/layer"]
    h, means = X, []
    for _ in range(3):
        h = jnp.tanh(h @ params["deep"]["layer"]["kernel"])
        means.append(h.std())
    np.testing.assert_allclose(found.activation_std, np.mean(means), rtol=1e-5)
    twins = jd.nn.serial(jd.nn.shared(jd.nn.dense(3)), jd.nn.lambda_(lambda pair: pair[0] - pair[1]))
    pair = (X, 2 * X)
    params, state = twins.init(KEY, pair)
    found = gradient_flow(twins, params, state, (pair, Y % 3), loss=CE)["shared0/layer"]
    h = X @ params["shared0"]["layer"]["kernel"]
    np.testing.assert_allclose(found.activation_std, 1.5 * np.std(h), rtol=1e-5)


@SLOW
def test_convolutions_count_channels():
    model = jd.nn.serial(
        conv=jd.nn.conv(
            6, 3, activation=jax.nn.relu, bias_init=lambda k, s, d: jnp.array([-99.0] * 2 + [9.0] * 4, d)
        ),
        pool=jd.nn.max_pool(2),
        flat=jd.nn.flatten(),
        logits=jd.nn.dense(4),
    )
    x = np.asarray(jax.random.normal(KEY, (8, 6, 6, 1)))
    found = flow(model, (x, Y[:8]))
    np.testing.assert_allclose(found["conv"].dead, 2 / 6, rtol=1e-6)
    assert np.isnan(found["pool"].dead)
    assert np.isnan(found["pool"].gradient_norm)


@SLOW
def test_the_gradient_is_that_of_the_optimizer_and_of_the_penalty():
    model = small()
    params, state = begun(model)
    penalty = jd.regularizers.l2(0.1)
    tx = optax.chain(jd.optimizers.clip_by_global_norm(0.1), jd.optimizers.nag(0.1, momentum=0.9))
    opt_state = tx.init(params)
    objective = jd.train.supervised(model, CE, penalty=penalty)
    for _ in range(2):  # so that the point of the gradient is not the parameters
        grads = jax.grad(objective, has_aux=True)(params, state, (X, Y), train=True)[0]
        _, opt_state = tx.update(grads, opt_state, params)
    point = jd.optimizers.gradient_point(opt_state, params)
    grads = jax.grad(objective, has_aux=True)(point, state, (X, Y), train=True)[0]
    updates, _ = tx.update(grads, opt_state, params)
    given = {"optimizer": tx, "opt_state": opt_state}
    found = gradient_flow(model, params, state, (X, Y), loss=CE, penalty=penalty, **given)
    for name in params:
        norm = [float(optax.tree.norm(tree[name])) for tree in (grads, params, updates)]
        wanted = norm[0], norm[1], norm[2] / norm[1]
        np.testing.assert_allclose(found[name][:3], wanted, rtol=1e-4, err_msg=name)
    alone = gradient_flow(model, params, state, (X, Y), objective=objective, **given)
    for name in params:
        np.testing.assert_allclose(alone[name][:3], found[name][:3], rtol=1e-4)
        assert np.isnan(alone[name][3:]).all()


def test_layers_that_are_not_trained_have_no_gradient():
    model = small()
    params, state = begun(model)
    found = gradient_flow(
        model, params, state, (X, Y), loss=CE, trainable="logits/*", optimizer=jd.optimizers.adam(1e-3)
    )
    assert np.isnan(found["hidden"][:3]).all()
    assert np.isnan(found["bn"][:3]).all()
    assert found["logits"].gradient_norm > 0
    h = jnp.tanh(X @ params["hidden"]["kernel"])  # the statistics of a fresh batch norm: 0 and 1
    np.testing.assert_allclose(found["bn"].activation_std, h.std(), rtol=1e-2)
    assert diagnose(found) == []


@SLOW
def test_an_adapted_module_is_seen_by_its_parts():
    class Net(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x, train: bool = False):
            x = flax.linen.BatchNorm(use_running_average=not train)(flax.linen.Dense(16)(x))
            return flax.linen.Dense(4)(flax.linen.relu(x))

    model = jd.adapters.from_linen(Net())
    params, state = begun(model)
    found = gradient_flow(model, params, state, (X, Y), loss=CE)
    assert set(found) == {"Dense_0", "BatchNorm_0", "Dense_1", "Net"}
    grads = jax.grad(jd.train.supervised(model, CE), has_aux=True)(params, state, (X, Y), train=True)[0]
    for name in params:
        np.testing.assert_allclose(found[name].gradient_norm, optax.tree.norm(grads[name]), rtol=1e-4)
    outputs, _ = model.apply(params, state, X, train=True)
    np.testing.assert_allclose(found["Net"].activation_std, outputs.std(), rtol=1e-5)
    assert diagnose(found) == []
    held = gradient_flow(model, params, state, (X, Y), loss=CE, trainable="Dense_1/*")
    assert np.isnan(held["Dense_0"].gradient_norm)
    inside = jd.nn.serial(body=model, logits=jd.nn.dense(4))
    assert list(flow(inside))[-2:] == ["body", "logits"]


def test_where_chooses_layers():
    assert list(flow(small(), where="*d*")) == ["hidden", "drop"]
    with pytest.raises(ValueError, match="matches no leaf; did you mean 'hidden'"):
        flow(small(), where="hiden")


def test_wrong_arguments_are_refused():
    model = small()
    given = (model, *begun(model), (X, Y))
    objective = jd.train.supervised(model, CE)
    with pytest.raises(ValueError, match="gradient_flow needs a loss"):
        gradient_flow(*given)
    with pytest.raises(ValueError, match="drop loss, penalty"):
        gradient_flow(*given, objective=objective, loss=CE, penalty=jd.regularizers.l2(1.0))
    with pytest.raises(ValueError, match="opt_state= is given without"):
        gradient_flow(*given, loss=CE, opt_state=())
    with pytest.raises(TypeError, match=r"model must be a jaxdeep\.nn\.Model"):
        gradient_flow(None, *given[1:], loss=CE)
    with pytest.raises(TypeError, match="optimizer must be an optax transformation"):
        gradient_flow(*given, loss=CE, optimizer=jd.optimizers.adam)
    with pytest.raises(TypeError, match="batch must be a pair"):
        gradient_flow(*given[:3], X, loss=CE)
    with pytest.raises(TypeError, match="flow must be what gradient_flow returns"):
        diagnose({"a": 1})
    with pytest.raises(TypeError, match=r"outside of jax\.jit"):
        jax.jit(lambda f: (diagnose(f), f)[1])(flow(model))


# --- what is said about it ------------------------------------------------------------------------

SEEDS = 4
DIGITS = jd.datasets.digits().train


def network(depth, width, activation, init, *, head=None, **more):
    hidden = {
        f"hidden{i + 1}": jd.nn.dense(width, activation=activation, kernel_init=init, **more)
        for i in range(depth)
    }
    logits = jd.nn.dense(10, **({} if head is None else {"kernel_init": head}))
    return jd.nn.serial(flatten=jd.nn.flatten(), **hidden, logits=logits)


def kinds(model, data=DIGITS, rows=128):
    """The kinds of findings at each of some seeds."""
    batch = jnp.asarray(data[0][:rows]), jnp.asarray(data[1][:rows])

    def of(key):
        return gradient_flow(model, *model.init(key, batch[0]), batch, loss=CE)

    flows = jax.jit(jax.vmap(of))(jax.random.split(KEY, SEEDS))
    return [
        {found.kind for found in diagnose(jax.tree.map(lambda a, i=i: a[i], flows))}
        for i in range(SEEDS)
    ]


UNIT = INIT.normal(1.0)
CASES = {
    "sigmoid, normal(1)": ((jax.nn.sigmoid, UNIT, UNIT), {"saturated"}),
    "tanh, normal(1)": ((jnp.tanh, UNIT, UNIT), {"saturated"}),
    "sigmoid, Glorot": ((jax.nn.sigmoid, INIT.glorot_normal()), {"vanishing gradient"}),
    "relu, He": ((jax.nn.relu, INIT.he_normal()), set()),
    "relu, normal(1)": (
        (jax.nn.relu, UNIT, UNIT),
        {"exploding gradient", "exploding activations"},
    ),
    "relu, normal(0.01)": (
        (jax.nn.relu, INIT.normal(0.01)),
        {"vanishing gradient", "vanishing activations"},
    ),
    "tanh, Glorot": ((jnp.tanh, INIT.glorot_uniform()), set()),
    "selu, LeCun": ((jax.nn.selu, INIT.lecun_normal()), set()),
    "gelu, He": ((jax.nn.gelu, INIT.he_normal()), set()),
    "elu, He": ((jax.nn.elu, INIT.he_normal()), set()),
}


def judged(name, depth, width, data=DIGITS):
    (activation, init, *head), expected = CASES[name]
    model = network(depth, width, activation, init, head=head[0] if head else None)
    for found in kinds(model, data):
        if expected == {"saturated"}:  # gradients may vanish or explode as well
            assert "saturated" in found, (name, depth, width, found)
        else:
            assert found == expected, (name, depth, width, found)


@pytest.mark.parametrize("name", ["sigmoid, normal(1)", "relu, He"])
def test_networks_of_five_hidden_layers_are_told_apart(name):
    judged(name, 5, 100)


@SLOW
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("depth", "width"), [(5, 30), (5, 100), (20, 100), (10, 300)])
def test_networks_of_other_sizes_are_told_apart(name, depth, width):
    if depth == 20 and name == "gelu, He":  # He's variance is that of ReLU: a little too small here
        pytest.skip("neither healthy nor clearly not")
    judged(name, depth, width)


@SLOW
@pytest.mark.parametrize("name", CASES)
def test_networks_on_fashion_mnist_are_told_apart(name):
    judged(name, 5, 100, jd.datasets.fashion_mnist().train)


@SLOW
def test_dying_units_are_named():
    model = network(3, 50, jax.nn.relu, INIT.he_normal())
    params, state = begun(model, DIGITS[0])
    params["hidden2"]["bias"] -= 100.0
    found = gradient_flow(model, params, state, (DIGITS[0][:128], DIGITS[1][:128]), loss=CE)
    assert ("hidden2", "dead", 1.0) in diagnose(found)
    assert ("hidden1", "blocked", 0.0) in diagnose(found)
    assert "units are dead: hidden2 100 %" in report(found)
    assert "no gradient reaches hidden1, hidden2" in report(found)


@SLOW
def test_a_head_of_zeros_blocks_what_is_in_front_of_it():
    model = network(2, 20, jax.nn.relu, INIT.he_normal(), head=INIT.zeros)
    found = flow(model, (DIGITS[0][:64], DIGITS[1][:64]), optimizer=jd.optimizers.adam(1e-3))
    expected = [("hidden1", "blocked", 0.0), ("hidden2", "blocked", 0.0)]
    assert diagnose(found) == expected
    assert "no gradient reaches hidden1, hidden2; the weights behind are zero" in report(found)


@SLOW
def test_a_hundred_selu_layers_are_healthy_and_thirty_sigmoid_layers_are_not():
    def deep(activation, times):
        return jd.nn.serial(
            flatten=jd.nn.flatten(),
            first=jd.nn.dense(50),
            deep=jd.nn.repeat(jd.nn.dense(50, activation=activation), times),
            logits=jd.nn.dense(10),
        )

    assert kinds(deep(jax.nn.selu, 100)) == [set()] * SEEDS
    text = report(flow(deep(jax.nn.sigmoid, 30), (DIGITS[0][:64], DIGITS[1][:64])))
    assert "gradients vanish: first gets" in text
    assert "of what logits gets (first, deep/layer[0], deep/layer[1], …" in text
    assert text.count("deep/layer[") < 12  # not thirty rows


@SLOW
@pytest.mark.parametrize("activation", [jax.nn.relu, jax.nn.sigmoid])
def test_batch_norm_and_convolutions_are_healthy(activation):
    block = [jd.nn.conv(16, 3, use_bias=False), jd.nn.batch_norm(), jd.nn.activation(activation)]
    model = jd.nn.serial(
        jd.nn.reshape(8, 8, 1),
        *block,
        jd.nn.residual(jd.nn.serial(*block)),
        jd.nn.average_pool(2),
        *block,
        jd.nn.global_average_pool(),
        jd.nn.dense(10),
    )
    assert kinds(model) == [set()] * SEEDS


@SLOW
def test_what_is_not_finite_and_what_is_too_large_is_said():
    model = small()
    params, state = begun(model)
    params["logits"]["kernel"] = params["logits"]["kernel"].at[0, 0].set(jnp.nan)
    found = gradient_flow(model, params, state, (X, Y), loss=CE)
    assert {f.kind for f in diagnose(found)} == {"not finite"}
    assert report(found).splitlines()[-1].startswith("not finite: hidden, bn")
    large = flow(model, optimizer=jd.optimizers.sgd(100.0))
    assert "large update" in {f.kind for f in diagnose(large)}
    assert "a step changes the weights by much of their length: hidden" in report(large)


@SLOW
def test_a_trained_network_is_healthy():
    for activation in (jax.nn.relu, jnp.tanh, jax.nn.selu):
        model = jd.nn.serial(
            jd.nn.flatten(),
            jd.nn.dense(100, activation=activation),
            jd.nn.dense(100, activation=activation),
            jd.nn.dense(10),
        )
        result = jd.fit(model, DIGITS, loss=CE, optimizer=jd.optimizers.adam(1e-3), epochs=5,
                        key=KEY, progress=False)  # fmt: skip
        batch = DIGITS[0][:256], DIGITS[1][:256]
        assert diagnose(gradient_flow(model, result.params, result.state, batch, loss=CE)) == []


def test_the_report_is_a_table_of_all_layers():
    text = report(flow(small(), optimizer=jd.optimizers.adam(1e-3)))
    assert all(f"│ {name} " in text for name in ("hidden", "bn", "act", "drop", "logits"))
    assert text.splitlines()[-1].startswith("healthy: ")
    rows = by_repetition(flow(small()))
    assert rows["hidden"].gradient_norm > 0


# --- in a run -------------------------------------------------------------------------------------


def fit(model=None, data=(X, Y), **changes):
    arguments = {
        "loss": CE,
        "optimizer": jd.optimizers.adam(1e-2),
        "epochs": 2,
        "batch_size": 16,
        "key": KEY,
        "progress": False,
    }
    return jd.fit(model or small(), data, **(arguments | changes))


def same_run(a, b, rtol=1e-5, atol=1e-6):
    for name in a.history:
        np.testing.assert_allclose(a.history[name], b.history[name], rtol=rtol, atol=atol, err_msg=name)
    for one, other in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params)):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.mark.slow
def test_the_history_holds_the_flow_and_training_is_the_same():
    plain, measured = fit(), fit(diagnostics=2)
    same_run(plain, fit(diagnostics=2))
    names = {name for name in measured.history if name.split("/")[0] in LayerMeasure.fields}
    assert set(measured.history) - names == set(plain.history)
    fields = ("gradient_norm", "parameter_norm", "update_ratio", "output_gradient", "activation_mean")
    assert {f"{f}/{name}" for f in fields for name in ("hidden", "bn", "logits")} <= names
    assert {"saturation/hidden", "dead/hidden", "dead/act", "activation_std/drop"} <= names
    assert not {"gradient_norm/drop", "saturation/logits", "dead/logits", "dead/drop"} & names
    for name in names:
        assert np.isfinite(measured.history[name]).all(), name


@pytest.mark.parametrize(
    ("accumulation_steps", "trainable"),
    [
        (1, None),
        *(pytest.param(*case, marks=SLOW) for case in ((3, None), (1, "logits/*"), (3, "logits/*"))),
    ],
)
def test_a_step_reports_what_gradient_flow_measures(accumulation_steps, trainable):
    model, tx = small(), jd.optimizers.nag(0.1, momentum=0.9)
    given = {"accumulation_steps": accumulation_steps, "trainable": trainable}
    first = fit(model, optimizer=tx, epochs=1, shuffle=False, **given)
    again = fit(  # one step, the seventh
        model, (X[:16], Y[:16]), optimizer=tx, epochs=1, shuffle=False, diagnostics=1,
        params=first.params, state=first.state, **given,
    )  # fmt: skip
    key = jax.random.fold_in(again.train_state.key, 0)
    opt = {"optimizer": tx, "trainable": trainable}
    start = first.params, first.state
    if accumulation_steps == 1:
        expected = gradient_flow(model, *start, (X[:16], Y[:16]), loss=CE, key=key, **opt)
    else:  # whatever is a mean over micro-batches
        parts, state = [], first.state
        for i, rows in enumerate((slice(0, 6), slice(6, 12), slice(12, 16))):
            own = jax.random.fold_in(key, i)
            part = (X[rows], Y[rows])
            parts.append(gradient_flow(model, first.params, state, part, loss=CE, key=own, **opt))
            frozen = model if trainable is None else model.frozen(jd.tree.mask(first.params, trainable))
            _, state = frozen.apply(first.params, state, part[0], train=True, key=own)
        expected = jax.tree.map(lambda *a: np.average(a, weights=[6, 6, 4]), *parts)
    linear = ("gradient_norm", "update_ratio")  # norms of means, not means of norms
    for path, layer in expected.items():
        for field, value in layer._asdict().items():
            if np.isnan(value) or (accumulation_steps > 1 and field in linear):
                continue
            found = again.history[f"{field}/{path}"][0]
            np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-6, err_msg=f"{field}/{path}")
    grads_known = f"gradient_norm/{'hidden' if trainable is None else 'logits'}"
    assert grads_known in again.history
    assert ("gradient_norm/hidden" in again.history) == (trainable is None)


@SLOW
def test_the_mean_is_over_the_measured_steps():
    """Six steps an epoch; at every fourth, the first, the fifth and the ninth are measured: by hand."""
    model, tx = small(), jd.optimizers.sgd(0.1)
    measured = fit(model, optimizer=tx, diagnostics=4, shuffle=False)
    objective = jd.train.supervised(model, CE)
    step = jax.jit(jd.train.make_step(objective, tx))
    ts = jd.train.init(model, tx, X[:1], key=KEY)
    found = {}
    for t in range(12):
        rows = slice(16 * (t % 6), 16 * (t % 6) + 16)
        if t in (0, 4, 8):
            key = jax.random.fold_in(ts.key, t)
            found[t] = gradient_flow(model, ts.params, ts.state, (X[rows], Y[rows]), loss=CE, key=key)
        ts, _ = step(ts, (X[rows], Y[rows]))
    first = [np.mean([found[0]["hidden"][i], found[4]["hidden"][i]]) for i in (0, 3, 5)]
    second = [found[8]["hidden"][i] for i in (0, 3, 5)]
    names = ("gradient_norm/hidden", "output_gradient/hidden", "activation_std/hidden")
    history = np.array([measured.history[name] for name in names]).T
    np.testing.assert_allclose(history, [first, second], rtol=1e-4)


@SLOW
def test_an_epoch_without_a_measured_step_has_none():
    history = fit(diagnostics=10, epochs=3).history  # of 18 steps the first and the eleventh
    np.testing.assert_array_equal(np.isnan(history["gradient_norm/hidden"]), [False, False, True])


@pytest.mark.slow
def test_a_streamed_run_reports_the_same():
    same_run(fit(diagnostics=2), fit(diagnostics=2, stream=True))


@SLOW
def test_every_driver_reports_the_same():
    reference = fit(diagnostics=4)
    mesh = jax.make_mesh((4,), ("data",))
    same_run(reference, fit(diagnostics=4, mesh=mesh), rtol=1e-3, atol=1e-5)
    ordered = fit(diagnostics=4, shuffle=False)
    batches = [(X[i : i + 16], Y[i : i + 16]) for i in range(0, 96, 16)]
    same_run(ordered, fit(data=lambda epoch: iter(batches), diagnostics=4))
    same_run(reference, fit(diagnostics=4, epochs_per_call=2), rtol=0, atol=0)


@SLOW
def test_a_run_continues_bit_for_bit(tmp_path):
    whole = fit(diagnostics=4, epochs=3)
    fit(diagnostics=4, epochs=2, checkpoint=tmp_path)
    same_run(whole, fit(diagnostics=4, epochs=3, checkpoint=tmp_path), rtol=0, atol=0)
    with pytest.raises(ValueError, match="diagnostics"):
        fit(diagnostics=5, epochs=3, checkpoint=tmp_path)


@SLOW
def test_repeated_layers_and_phases_enter_the_history():
    model = jd.nn.serial(
        deep=jd.nn.repeat(jd.nn.dense(12, activation=jnp.tanh), 5), logits=jd.nn.dense(4)
    )
    history = fit(model, diagnostics=3).history
    assert history["gradient_norm/deep/layer"].shape == (2, 5)
    phases = [(1, "logits/*", 1e-2), (1, "*", 1e-3)]
    history = fit(small(), epochs=1, phases=phases, diagnostics=3).history
    np.testing.assert_array_equal(np.isnan(history["gradient_norm/hidden"]), [True, False])


@SLOW
def test_the_progress_line_is_not_flooded(capsys):
    fit(diagnostics=4, progress=True)
    out = capsys.readouterr().out
    assert "loss" in out
    assert "gradient_norm" not in out


def test_fit_refuses_what_it_cannot_measure():
    with pytest.raises(ValueError, match="diagnostics= needs a loss="):
        fit(loss=None, objective=jd.train.supervised(small(), CE), diagnostics=1)
    with pytest.raises(ValueError, match="diagnostics must be at least 1"):
        fit(diagnostics=0)


# --- the learning rate ----------------------------------------------------------------------------

MLP = jd.nn.serial(
    flatten=jd.nn.flatten(),
    hidden1=jd.nn.dense(300, activation=jax.nn.relu),
    hidden2=jd.nn.dense(100, activation=jax.nn.relu),
    logits=jd.nn.dense(10),
)
MAKERS = {
    "sgd": jd.optimizers.sgd,
    "momentum": lambda rate: jd.optimizers.sgd(rate, momentum=0.9),
    "adam": jd.optimizers.adam,
}


def find(model=None, data=(X, Y), **changes):
    arguments = {"loss": CE, "optimizer": jd.optimizers.adam, "key": KEY, "batch_size": 16, "steps": 60}
    return find_learning_rate(model or small(), data, **(arguments | changes))


def test_the_curve_is_that_of_steps_taken_by_hand():
    model, steps, low, high = small(), 60, 1e-5, 1.0
    found = find(model, low=low, high=high, steps=steps)
    rates = np.geomspace(low, high, steps)
    np.testing.assert_allclose(found.learning_rates, rates, rtol=1e-4)
    tx = optax.adam(lambda t: jnp.asarray(rates, jnp.float32)[t])
    step = jax.jit(jd.train.make_step(jd.train.supervised(model, CE), tx))
    ts = jd.train.init(model, tx, X[:1], key=KEY)
    losses, data = [], jax.tree.map(jnp.asarray, (X, Y))
    from jaxdeep.train.epoch import shuffled

    for t in range(int(found.steps)):
        if t % 6 == 0:
            order = shuffled(KEY, t, 96).reshape(6, 16)
        ts, metrics = step(ts, tuple(a[order[t % 6]] for a in data))
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(found.losses[: len(losses)], losses, rtol=1e-2)
    average, smoothed = 0.0, []
    for t, loss in enumerate(losses):  # 5 % of 60 steps
        average = (1 - 1 / 3) * average + loss / 3
        smoothed.append(average / (1 - (1 - 1 / 3) ** (t + 1)))
    np.testing.assert_allclose(found.smoothed[: len(losses)], smoothed, rtol=1e-2)
    level = smoothed[2] - 0.7 * (smoothed[2] - min(smoothed))
    place = next(t for t in range(3, len(smoothed)) if smoothed[t] <= level)
    expected = min(3 * rates[place], rates[int(np.argmin(smoothed))])
    np.testing.assert_allclose(found.suggestion, expected, rtol=0.2)


@SLOW
def test_an_optimizer_and_a_function_of_its_rate_are_the_same():
    one, other = find(optimizer=jd.optimizers.adam), find(optimizer=jd.optimizers.adam(0.5))
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-4)
    chained = find(optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)))
    assert np.isfinite(chained.suggestion)


@pytest.mark.heavy
def test_data_on_the_host_and_on_the_device_give_the_same():
    host = find()
    device = find(data=jax.tree.map(jnp.asarray, (X, Y)))
    jax.tree.map(np.testing.assert_array_equal, host, device)


@SLOW
def test_vmap_over_keys_runs_many_tests():
    data = jax.tree.map(jnp.asarray, (X, Y))
    keys = jax.random.split(KEY, 3)
    many = jax.vmap(lambda key: find(data=data, key=key))(keys)
    assert many.losses.shape == (3, 60)
    alone = find(data=data, key=keys[1])
    n = int(alone.steps) // 2
    np.testing.assert_allclose(many.losses[1][:n], alone.losses[:n], rtol=1e-2)


def test_it_ends_where_the_loss_rises_and_says_when_nothing_helps():
    target = X @ np.ones((12, 1), np.float32)
    found = find(jd.nn.dense(1), (X, target), loss=jd.losses.mse, optimizer=jd.optimizers.sgd,
                 high=1e4, steps=100)  # fmt: skip
    assert 20 < int(found.steps) < 100
    assert np.isfinite(found.losses[: int(found.steps)]).all()
    assert np.isnan(found.losses[int(found.steps) :]).all()
    assert 1e-3 < found.suggestion < 1
    frozen = jd.nn.serial(jd.nn.lambda_(jax.lax.stop_gradient), jd.nn.lambda_(lambda x: x[:, :4]))
    still = find(frozen, optimizer=jd.optimizers.sgd, data=(np.ones_like(X), 0 * Y))
    assert np.isnan(still.suggestion)
    nan = find(data=(X * np.nan, Y))
    assert int(nan.steps) == 1
    assert np.isnan(nan.suggestion)


@SLOW
def test_it_begins_where_it_is_told():
    model = small()
    params, state = begun(model)
    objective = jd.train.supervised(model, CE)
    one = find(model, params=params, state=state)
    other = find(model, params=params, state=state, loss=None, objective=objective)
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
    first = jax.tree.map(lambda a: a.copy(), params)
    jax.tree.map(np.testing.assert_array_equal, params, first)


def test_wrong_arguments_of_the_test_are_refused():
    with pytest.raises(ValueError, match=r"low must be below high, got low=1, high=0\.1"):
        find(low=1, high=0.1)
    with pytest.raises(ValueError, match="low must be in"):
        find(low=0.0)
    with pytest.raises(ValueError, match="steps must be at least 20"):
        find(steps=10)
    with pytest.raises(ValueError, match="batch_size must be at most the number of examples, 96"):
        find(batch_size=97)
    with pytest.raises(ValueError, match="find_learning_rate needs a loss="):
        find(loss=None)
    with pytest.raises(TypeError, match="optimizer must be"):
        find(optimizer=0.1)
    with pytest.raises(TypeError, match="optimizer must be an optax transformation"):
        find(optimizer=lambda rate: rate)
    with pytest.raises(ValueError, match="no hyperparameter 'learning_rate'"):
        find(optimizer=optax.sgd(0.1))
    with pytest.raises(ValueError, match="driven by a schedule"):
        find(optimizer=jd.optimizers.sgd(lambda t: 0.1))
    with pytest.raises(TypeError, match="key must be a random key"):
        find(key=0)


RATES = np.logspace(-5, 0, 32)


def best_rate(make, data, validation, epochs, seeds):
    """The rate of the lowest mean validation loss of a sweep of 32."""
    table = jd.sweep(
        lambda hp: make(hp["learning_rate"]), {"learning_rate": RATES}, seeds=seeds, model=MLP,
        data=data, validation=validation, loss=CE, epochs=epochs, batch_size=32, progress=False,
    )  # fmt: skip
    losses = np.array([row["val_loss"] for row in table.rows()]).reshape(len(RATES), seeds)
    return RATES[np.argmin(np.where(np.isfinite(losses), losses, np.inf).mean(1))]


@SLOW
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("which", ["digits", "fashion-mnist"])
def test_the_suggestion_is_within_a_factor_3_of_the_best_of_a_sweep(name, which):
    if which == "digits":
        train, validation, _ = jd.datasets.digits()
        best = best_rate(MAKERS[name], train, validation, 10, 3)
    else:
        if "JAXDEEP_DATA" not in os.environ:
            pytest.skip("wants the images in JAXDEEP_DATA")
        train, validation, _ = jd.datasets.fashion_mnist()
        part = train[0][:10_000], train[1][:10_000]
        best = best_rate(MAKERS[name], part, validation, 2, 2)
    found = [
        find_learning_rate(MLP, train, loss=CE, optimizer=MAKERS[name], key=jax.random.key(seed))
        for seed in range(4)
    ]
    ratios = np.array([float(each.suggestion) for each in found]) / best
    assert ((ratios > 1 / 3) & (ratios < 3)).all(), (best, ratios)


# --- plots ----------------------------------------------------------------------------------------


@SLOW
def test_plots_are_drawn(tmp_path):
    flows = {"small": flow(small()), "$x_{": flow(network(3, 8, jax.nn.relu, UNIT), DIGITS)}
    figure = plotting.gradient_flow(flows, title="a $ and a _")
    assert [ax.get_yscale() for ax in figure.axes] == ["log"] * 3
    assert len(figure.axes[0].lines) == 2
    figure.savefig(tmp_path / "flow.png")
    found = find()
    figure = plotting.learning_rate(found)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert f"suggestion {float(found.suggestion):.2g}" in labels
    figure.savefig(tmp_path / "rate.png")
    plotting.learning_rate(find(data=(X * np.nan, Y))).savefig(tmp_path / "nan.png")
