"""Activations, gradients and updates of every layer, against numbers computed by hand."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.flows import CE, INIT, KEY, SLOW, X, Y, begun, flow, small

import jaxdeep as jd
from jaxdeep._compat import enable_x64
from jaxdeep.diagnostics import LayerFlow, diagnose, gradient_flow


def close(a, b, rtol=1e-5, **more):
    assert list(a) == list(b)
    for path in a:
        for field, one, other in zip(LayerFlow._fields, a[path], b[path]):
            np.testing.assert_allclose(one, other, rtol=rtol, err_msg=f"{path} {field}", **more)


@pytest.mark.heavy
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
    jax.nn.relu: (np.zeros_like, lambda z: z <= 0),
    jax.nn.relu6: (lambda z: z > 6, lambda z: (z <= 0) | (z > 6)),
    jax.nn.leaky_relu: (np.zeros_like, np.zeros_like),
    jax.nn.elu: (lambda z: z < np.log(0.05), lambda z: z < np.log(1e-3)),
}


@pytest.mark.heavy
def test_saturation_and_death_follow_the_slope():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 8)).astype(np.float32) * 4
    z[:, :2] = -7.5 - np.abs(z[:, :2])
    z[:, 2], z[:20, 3] = 0, 0  # of a black border, or a kernel of zeros
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


@pytest.mark.heavy
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


@pytest.mark.heavy
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


@pytest.mark.heavy
def test_where_chooses_layers():
    assert list(flow(small(), where="*d*")) == ["hidden", "drop"]
    with pytest.raises(ValueError, match="matches no leaf; did you mean 'hidden'"):
        flow(small(), where="hiden")


@pytest.mark.heavy
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


@pytest.mark.parametrize("norm", [False, pytest.param(True, marks=pytest.mark.heavy)])
def test_rows_of_weight_0_have_no_part_in_the_activations(norm):
    block = jd.nn.serial(dense=jd.nn.dense(6, activation=jax.nn.tanh))
    model = jd.nn.serial(
        hidden=jd.nn.dense(6, activation=jax.nn.relu),
        **({"bn": jd.nn.batch_norm()} if norm else {}),
        deep=jd.nn.repeat(block, 2),
        **({} if norm else {"own": jd.nn.lambda_(lambda x: 3 * x)}),
        logits=jd.nn.dense(4),
    )
    params, state = model.init(jax.random.key(0), X)
    few = X[:10]
    x = np.concatenate([few, np.full_like(few, 1e3)])
    y = np.concatenate([Y[:10], Y[:10]])
    weights = np.repeat([1.0, 0.0], 10).astype(np.float32)
    order = np.argsort(np.arange(20) % 10, kind="stable")  # one that counts, one that does not
    padded = gradient_flow(model, params, state, (x[order], y[order], weights[order]), loss=CE)
    alone = gradient_flow(model, params, state, (few, Y[:10]), loss=CE)
    for path, expected in alone.items():
        for field in ("activation_mean", "activation_std", "saturation", "dead"):
            found = getattr(padded[path], field)
            np.testing.assert_allclose(
                found, getattr(expected, field), rtol=1e-5, atol=1e-6, err_msg=f"{field} {path}"
            )
        np.testing.assert_allclose(2 * padded[path].gradient_norm, expected.gradient_norm, rtol=1e-4)
