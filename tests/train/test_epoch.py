"""An epoch: which rows, in what order, and what it returns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.training import KEY, close, network, problem, setup

import jaxdeep as jd
from jaxdeep.train import TrainState, make_epoch, make_evaluate, make_step


def recorder():
    """A 'step' that writes down which rows it saw, in order."""

    def step(ts, batch):
        rows = batch
        log, at = ts.params
        log = jax.lax.dynamic_update_slice(log, rows, (at,))
        new = ts._replace(step=ts.step + 1, params=(log, at + len(rows)))
        return new, {"loss": rows.mean(), "rows": jnp.float32(len(rows))}

    return step


@pytest.mark.few(3)
@pytest.mark.parametrize(("n", "batch"), [(70, 16), (64, 16), (5, 5), (7, 1), (10, 9)])
@pytest.mark.parametrize("drop", [False, True])
def test_every_example_is_seen_exactly_once(n, batch, drop):
    data = jnp.arange(float(n))
    epoch = jax.jit(make_epoch(recorder(), batch_size=batch, drop_remainder=drop))
    ts = TrainState(jnp.int32(0), (jnp.full(n, -1.0), 0), {}, {}, KEY)
    ts, metrics = epoch(ts, data)
    seen = np.asarray(ts.params[0])[: int(ts.params[1])]
    if drop:
        assert len(seen) == n // batch * batch
        assert len(set(seen)) == len(seen)
    else:
        assert sorted(seen) == list(range(n))
    assert int(ts.step) == (n // batch if drop else -(-n // batch))
    np.testing.assert_allclose(metrics["loss"], seen.mean(), rtol=1e-6)  # over examples, not batches


@pytest.mark.heavy
def test_each_epoch_has_its_own_order_drawn_from_the_key():
    data = jnp.arange(50.0)
    epoch = make_epoch(recorder(), batch_size=8)

    def order(key, start):
        ts = TrainState(jnp.int32(start), (jnp.zeros(50), 0), {}, {}, key)
        return tuple(np.asarray(epoch(ts, data)[0].params[0]).tolist())

    assert order(KEY, 0) == order(KEY, 0)
    assert len({order(KEY, 0), order(KEY, 7), order(jax.random.key(3), 0), tuple(range(50))}) == 4


def test_unshuffled_rows_come_in_their_order():
    ts = TrainState(jnp.int32(0), (jnp.zeros(50), 0), {}, {}, KEY)
    ts, _ = make_epoch(recorder(), batch_size=8, shuffle=False)(ts, jnp.arange(50.0))
    np.testing.assert_array_equal(ts.params[0], np.arange(50.0))


def test_the_first_row_is_equally_likely_to_be_any():
    data = jnp.arange(8.0)
    epoch = make_epoch(recorder(), batch_size=4)

    def orders(key):
        ts = TrainState(jnp.int32(0), (jnp.zeros(8), 0), {}, {}, key)
        return epoch(ts, data)[0].params[0]

    found = np.asarray(jax.jit(jax.vmap(orders))(jax.random.split(KEY, 8000))).astype(int)
    counts = np.stack([np.bincount(found[:, i], minlength=8) for i in range(8)])
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 49 + 5 * np.sqrt(2 * 49)  # 49 degrees of freedom


@pytest.mark.heavy
def test_an_epoch_is_a_loop_over_the_step():
    _, step, ts = setup()
    x, y = problem()
    whole, metrics = jax.jit(make_epoch(step, batch_size=16, shuffle=False))(ts, (x, y))
    losses = []
    for i in range(0, 70, 16):
        ts, found = jax.jit(step)(ts, (x[i : i + 16], y[i : i + 16]))
        losses += [float(found["loss"])] * len(x[i : i + 16])
    close(whole, ts, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)


@pytest.mark.heavy
def test_stacked_models_train_as_they_would_alone():
    model, tx = network(), jd.optimizers.nag(1e-2)
    _, step, _ = setup(tx, model=model)
    data = jax.tree.map(jnp.asarray, problem())
    keys = jax.random.split(KEY, 3)
    init = lambda key: jd.train.init(model, tx, data[0][:1], key=key)  # noqa: E731
    epoch = make_epoch(step, batch_size=16)
    together, metrics = jax.jit(jax.vmap(epoch, in_axes=(0, None)))(jax.vmap(init)(keys), data)
    assert metrics["loss"].shape == (3,)
    for i in range(3):
        alone, found = jax.jit(epoch)(init(keys[i]), data)
        close(
            jax.tree.map(lambda a, i=i: a[i], together)._replace(key=alone.key),
            alone,
            rtol=2e-5,
            atol=1e-6,
        )
        np.testing.assert_allclose(metrics["loss"][i], found["loss"], rtol=1e-5)


@pytest.mark.heavy
def test_nothing_retraces_when_only_values_change():
    traces = 0
    objective, _, ts = setup()

    def counting(*args, **kwargs):
        nonlocal traces
        traces += 1
        return objective(*args, **kwargs)

    epoch = jax.jit(make_epoch(make_step(counting, jd.optimizers.adam(1e-2)), batch_size=16))
    data = jax.tree.map(jnp.asarray, problem())
    ts, _ = epoch(ts, data)
    first = traces
    for _ in range(3):
        ts, _ = epoch(ts, jax.tree.map(lambda a: a * 1, data))
    assert traces == first
    assert epoch._cache_size() == 1


def test_the_data_is_an_argument_of_the_program_not_a_constant():
    _, step, ts = setup()
    data = jax.tree.map(jnp.asarray, problem())
    text = jax.jit(make_epoch(step, batch_size=16)).lower(ts, data).as_text()
    assert max(len(line) for line in text.splitlines()) < 20_000
    assert 'stablehlo.constant dense<"0x' not in text


@pytest.mark.heavy
def test_on_eight_devices_the_numbers_are_the_same():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    _objective, step, ts = setup()
    x, y = problem(n=64)
    one, _ = jax.jit(step)(ts, (x, y))
    spread = jax.device_put((x, y), jax.NamedSharding(mesh, jax.P("data")))
    eight, _ = jax.jit(step)(jax.device_put(ts, jax.NamedSharding(mesh, jax.P())), spread)
    close(one, eight, rtol=1e-4, atol=1e-5)


@pytest.mark.heavy
@pytest.mark.parametrize("batch_size", [1, 16, 70, 1000])
def test_validation_is_over_every_row_whatever_the_batch(batch_size):
    objective, _, ts = setup()
    data = problem()
    loss, (_, metrics) = objective(ts.params, ts.state, data)
    found = jax.jit(make_evaluate(objective, batch_size=batch_size))(ts.params, ts.state, data)
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], metrics["accuracy"], rtol=1e-5)


def test_a_batch_larger_than_the_data_in_ones_own_loop():
    _, step, ts = setup()
    with pytest.raises(
        ValueError, match="batch_size must be at most the number of examples, 70, got 80"
    ):
        make_epoch(step, batch_size=80)(ts, problem())


def test_an_evaluation_of_rows_of_which_none_counts_has_no_loss():
    model = jd.nn.dense(1)
    objective = jd.train.supervised(model, jd.losses.mse)
    x = jnp.linspace(-1, 1, 10)[:, None]
    params, state = model.init(jax.random.key(0), x)
    evaluate = jax.jit(jd.train.make_evaluate(objective, batch_size=4))
    none = evaluate(params, state, (x, x, jnp.zeros(10)))
    assert sorted(none) == ["loss"]
    assert jnp.isnan(none["loss"])
    # a batch in which none counts is fine
    few = evaluate(params, state, (x, x, jnp.zeros(10).at[9].set(10.0)))
    all_ = evaluate(params, state, (x[9:], x[9:]))
    np.testing.assert_allclose(few["loss"], all_["loss"], rtol=1e-6)
    run = jax.jit(jd.train.make_run(objective, jd.optimizers.sgd(0.1), epochs=2, batch_size=4))
    ts = jd.train.init(model, jd.optimizers.sgd(0.1), x[:1], key=jax.random.key(0))
    _, history = run(ts, (x, x), (x, x, jnp.zeros(10)))
    assert jnp.isnan(history["val_loss"]).all()
    assert jnp.isfinite(history["loss"]).all()
