"""MC dropout is the loop over keys, however it is compiled, vmapped or spread."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from helpers.samples import KEY, X, brute, check, network, nll, nn, ready, relu_dense

import jaxdeep as jd
from jaxdeep.uncertainty import mc_dropout, sampling

RANDOM = {
    "dropout": network,
    "other layers": lambda: nn.serial(
        nn.gaussian_noise(0.3),
        nn.dense(8),
        nn.alpha_dropout(0.3),
        nn.dense(8),
        nn.rrelu(),
        nn.dropout(0.3, noise_shape=(1, None)),
        nn.dense(3),
    ),
    "threefry": lambda: network(lambda rate: nn.dropout(rate, generator="threefry")),
    "nested": lambda: nn.serial(
        first=nn.serial(a=relu_dense(8), b=nn.serial(c=relu_dense(8), d=nn.dropout(0.5))),
        then=nn.residual(nn.serial(nn.dropout(0.5), nn.dense(8))),
        both=nn.concatenate(nn.dropout(0.4), nn.dense(2)),
        out=nn.dense(3),
    ),
    "repeat": lambda: nn.serial(
        nn.dense(8), nn.repeat(nn.serial(relu_dense(8), nn.dropout(0.2)), 3), nn.dense(3)
    ),
    "mixed": lambda: nn.mixed_precision(network()),
    "images": lambda: nn.serial(
        nn.reshape(3, 2, 1),
        nn.conv(4, 2),
        nn.dropout(0.5, noise_shape=(None, 1, 1, None)),
        nn.flatten(),
        nn.dropout(0.2),
        nn.dense(3),
    ),
    "rows and time": lambda: nn.serial(
        nn.lambda_(lambda x: x.reshape(-1, 2)),
        nn.dense(4),
        nn.dropout(0.5),
        nn.lambda_(lambda x: x.reshape(-1, 12)),
        nn.dense(3),
    ),
    "just so many rows": lambda: nn.serial(
        nn.dropout(0.5), nn.lambda_(lambda x: x.reshape(37, 2, 3)), nn.flatten(), nn.dense(3)
    ),
    "rows elsewhere": lambda: nn.serial(
        nn.lambda_(lambda x: x.T), nn.dropout(0.5), nn.lambda_(lambda x: x.T), nn.dense(3)
    ),
}


HEAVY = pytest.mark.heavy


LARGE = {"nested", "mixed", "rows and time", "other layers", "images"}


@pytest.mark.heavy
@pytest.mark.parametrize("name", RANDOM)
def test_it_is_the_loop_over_keys_in_parts(name, monkeypatch):
    """For parts that do not come out even, where they are chosen by themselves."""
    monkeypatch.setattr(sampling, "part_rows", lambda *_: 8)
    model, params, state = ready(RANDOM[name]())
    expected = brute(model, params, state, X, 6)
    tol = 2e-2 if name == "mixed" else 1e-6  # products of bfloat16 are summed in another order
    check(mc_dropout(model, params, state, X, KEY, samples=6), expected, tol)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["nested", "threefry"])
def test_it_is_the_loop_over_keys_in_one_part(name):
    model, params, state = ready(RANDOM[name]())
    expected = brute(model, params, state, X, 6)
    check(mc_dropout(model, params, state, X, KEY, samples=6), expected)


@pytest.mark.heavy
@pytest.mark.parametrize(("batch_size", "samples"), [(1, 5), (36, 1), (1000, 5)])
def test_any_number_of_rows_in_a_chunk(batch_size, samples):
    model, params, state = ready(network())
    pred = mc_dropout(model, params, state, X, key=KEY, samples=samples, batch_size=batch_size)
    check(pred, brute(model, params, state, X, samples))


@pytest.mark.heavy
@pytest.mark.parametrize(("rows", "batch_size"), [(1, None), (37, None), (37, 5)])
def test_samples_in_their_order(rows, batch_size):
    model, params, state = ready(network())
    pred = mc_dropout(
        model, params, state, X[:rows], KEY, samples=6, batch_size=batch_size, return_samples=True
    )
    expected = brute(model, params, state, X[:rows], 6)
    np.testing.assert_allclose(pred.samples, expected, atol=1e-6)
    check(pred, expected)


@pytest.mark.heavy
def test_layers_that_cannot_be_shifted_draw_for_each_chunk():
    model, params, state = ready(network(lambda rate: nn.dropout(rate, generator="threefry")))
    x = X[:36]
    pred = mc_dropout(model, params, state, x, KEY, samples=4, batch_size=12)
    for i in range(3):
        rows = slice(12 * i, 12 * i + 12)
        keys = jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(jax.random.split(KEY, 4))
        once = jax.vmap(lambda k, rows=rows: model.apply(params, state, x[rows], key=k)[0])
        p = jax.nn.softmax(once(keys))
        np.testing.assert_allclose(pred.mean[rows], p.mean(0), atol=1e-6)


@pytest.mark.heavy
def test_what_comes_before_the_first_random_layer_is_computed_once(monkeypatch):
    monkeypatch.setattr(sampling, "divisor", lambda *_: 1)  # samples one by one
    calls = []

    def counted(x):
        jax.debug.callback(lambda: calls.append(1))
        return x

    before = nn.serial(nn.lambda_(counted), relu_dense(8))
    model, params, state = ready(nn.serial(before, nn.dropout(0.5), nn.lambda_(counted), nn.dense(3)))
    calls.clear()
    mc_dropout(model, params, state, X, KEY, samples=97, batch_size=10)
    jax.effects_barrier()
    assert len(calls) == 4 * (1 + 97)


@pytest.mark.heavy
def test_batch_norm_is_frozen_while_dropout_samples():
    model = nn.serial(nn.dense(8), nn.batch_norm(), nn.dropout(0.5), nn.dense(3))
    _, params, state = ready(model)
    _, state = model.apply(params, state, 3 * X + 1, train=True)
    before = jax.tree.map(np.array, state)
    pred = mc_dropout(model, params, state, X, KEY, samples=50, return_samples=True)
    check(pred, brute(model, params, state, X, 50))
    assert (np.std(pred.samples, axis=0) > 1e-3).all()
    jax.tree.map(np.testing.assert_array_equal, state, before)
    one_by_one = [mc_dropout(model, params, state, X[i : i + 1], KEY, samples=2) for i in range(2)]
    np.testing.assert_allclose(
        one_by_one[0].mean, brute(model, params, state, X[:1], 2).mean(0), rtol=1e-5
    )


class Net(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.relu(linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x)))
        return linen.Dense(3)(linen.Dropout(0.5, deterministic=not train)(x))


@pytest.mark.heavy
def test_an_adapted_module():
    model, params, state = ready(jd.adapters.from_linen(Net()))
    inside, own = nn.serial(net=model, drop=nn.dropout(0.1)), ({"net": params}, {"net": state})
    expected = brute(inside, *own, X, 5)
    check(mc_dropout(inside, *own, X, KEY, samples=5), expected)


@pytest.mark.heavy
def test_keys_of_other_generators():
    model, params, state = ready(network())
    for key in (jax.random.key(3, impl="rbg"), jax.random.PRNGKey(3)):
        pred = mc_dropout(model, params, state, X, key, samples=4)
        check(pred, brute(model, params, state, X, 4, key))


@pytest.mark.heavy
def test_inside_jit_and_without_retracing():
    traces = []

    def spy(x):
        traces.append(1)
        return x

    model, params, state = ready(nn.serial(network(), nn.lambda_(spy)))
    expected = brute(model, params, state, X, 4)
    traces.clear()  # what a function closes over is part of the program's key
    check(mc_dropout(model, params, state, X, KEY, samples=4), expected)
    traces.clear()
    for i in range(3):
        other = jax.tree.map(lambda a, i=i: a * (1 + i), params)
        mc_dropout(model, other, state, X + i, jax.random.key(i), samples=4)
    assert not traces
    run = jax.jit(
        lambda params, x, key: mc_dropout(model, params, state, x, key, samples=4, batch_size=9)
    )
    check(run(params, X, KEY), expected)
    traces.clear()
    run(params, X + 1, jax.random.key(1))
    assert not traces


@pytest.mark.heavy
def test_vmapped_over_models_and_over_keys():
    model = network()
    params, state = jax.vmap(lambda key: model.init(key, X))(jax.random.split(KEY, 3))
    keys = jax.random.split(KEY, 3)

    def run(params, key):
        return mc_dropout(model, params, state, X, key, samples=4, batch_size=20)

    found = jax.vmap(run)(params, keys)
    for i in range(3):
        own = jax.tree.map(lambda a, i=i: a[i], params)
        one = jax.tree.map(lambda a, i=i: a[i], found)
        check(one, brute(model, own, state, X, 4, keys[i]))


@pytest.mark.heavy
def test_gradients_pass_through():
    model, params, state = ready(network())
    loss = lambda p: mc_dropout(model, p, state, X, KEY, samples=3, batch_size=20).mean[:, 0].sum()  # noqa: E731
    keys = jax.random.split(KEY, 3)

    def by_hand(p):
        once = jax.vmap(lambda k: jax.nn.softmax(model.apply(p, state, X, key=k)[0])[:, 0].sum())
        return once(keys).mean()

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        jax.grad(loss)(params),
        jax.jit(jax.grad(by_hand))(params),
    )


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("dropout", 32),
        *(
            pytest.param(*case, marks=HEAVY)
            for case in (("nested", 37), ("dropout", 5), ("threefry", 37))
        ),
    ],
)
def test_eight_devices(rows, name):
    mesh = jax.make_mesh((8,), ("data",))
    x = X[:rows]
    model, params, state = ready(RANDOM[name]())
    expected = brute(model, params, state, x, 4)
    pred = mc_dropout(model, params, state, x, KEY, samples=4, mesh=mesh, return_samples=True)
    check(pred, expected)
    np.testing.assert_allclose(pred.samples, expected, atol=1e-6)
    if rows == 32 and name == "dropout":
        assert len(pred.mean.sharding.device_set) == 8
        pred = mc_dropout(model, params, state, x, KEY, samples=4, mesh=mesh, batch_size=3)
        check(pred, expected)
        run = jax.jit(lambda x: mc_dropout(model, params, state, x, KEY, samples=4, mesh=mesh))
        check(run(np.asarray(x)), expected)


@pytest.mark.heavy
def test_low_precision_is_summed_in_float32():
    dtype = jnp.bfloat16
    model, params, state = ready(network())
    params, x = jax.tree.map(lambda a: a.astype(dtype), (params, X))
    wide = lambda y: jax.nn.softmax(y.astype(jnp.float32))  # noqa: E731
    pred = mc_dropout(model, params, state, x, KEY, samples=20, batch_size=10)
    assert pred.mean.dtype == pred.entropy.dtype == jnp.float32
    check(pred, brute(model, params, state, x, 20, outputs=wide), 2e-2)


@pytest.mark.heavy
def test_float64_stays(x64):
    model = network()
    x = jnp.asarray(np.asarray(X, np.float64))
    params, state = model.init(KEY, x)
    pred = mc_dropout(model, params, state, x, KEY, samples=8, batch_size=10)
    assert pred.mean.dtype == pred.std.dtype == pred.mutual_information.dtype == jnp.float64
    check(pred, brute(model, params, state, x, 8), 1e-13)


@pytest.mark.heavy
def test_memory_does_not_grow_with_samples(monkeypatch):
    monkeypatch.setattr(sampling, "divisor", lambda *_: 10)  # of any number
    model, params, state = ready(network())
    x = jnp.zeros((1000, 6))

    def temporary(samples, **more):
        run = lambda *args: mc_dropout(model, *args, samples=samples, **more)  # noqa: E731
        memory = jax.jit(run).lower(params, state, x, KEY).compile().memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    few, many = temporary(1000), temporary(10_000)
    assert many - few < 10_000 * 64  # the keys
    assert few < 8 * 2**20
    assert temporary(1000, return_samples=True) - few > 0.9 * 1000 * 1000 * 3 * 4


@pytest.mark.slow
@pytest.mark.skipif("JAXDEEP_DATA" not in os.environ, reason="wants the images of Fashion-MNIST")
def test_averaging_over_masks_does_not_cost_accuracy_on_fashion_mnist():
    """The textbook: 0.8717 averaged, 0.8700 without."""
    (x, y), _, (x_test, y_test) = (
        (jnp.asarray(images).reshape(len(images), -1), jnp.asarray(labels))
        for images, labels in jd.datasets.fashion_mnist()
    )
    model = nn.serial(
        nn.dropout(0.2), relu_dense(100), nn.dropout(0.2), relu_dense(100), nn.dropout(0.2), nn.dense(10)
    )
    result = jd.fit(
        model,
        (x, y),
        loss=jd.losses.softmax_cross_entropy,
        optimizer=jd.optimizers.nadam(1e-3),
        epochs=10,
        batch_size=128,
        key=KEY,
        progress=False,
    )
    pred = mc_dropout(model, result.params, result.state, x_test, KEY, samples=100)
    check(pred, brute(model, result.params, result.state, x_test, 100), 1e-5)
    logits, _ = model.apply(result.params, result.state, x_test)
    plain = float(jd.metrics.accuracy(logits, y_test).mean())
    averaged = float(jd.metrics.accuracy(pred.mean, y_test).mean())
    noise = (plain * (1 - plain) / len(y_test)) ** 0.5
    assert plain > 0.86
    assert averaged >= plain - noise
    uncertainty = jd.uncertainty
    curve = uncertainty.rejection_curve(pred.mean, y_test, pred.entropy)
    assert float(curve.accuracy[2000]) > averaged + 0.05  # a fifth rejected
    half = len(y_test) // 2
    t = uncertainty.fit_temperature(logits[:half], y_test[:half])
    scaled = uncertainty.temperature_scale(logits[half:], t)
    assert nll(scaled, y_test[half:]) <= nll(logits[half:], y_test[half:])
