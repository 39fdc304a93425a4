"""`fit` is the loop over epochs: its bits, its history, what it begins from and leaves behind."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.training import KEY, X, Y, close, fit, network, problem, setup

import jaxdeep as jd
from jaxdeep import _compilation
from jaxdeep.train import make_epoch, make_evaluate


def identical(a, b):
    close(a, b, rtol=0, atol=0)


@pytest.mark.heavy
@pytest.mark.optimized
def test_the_same_key_gives_bit_identical_results():
    a, b, c = fit(), fit(), fit(key=jax.random.key(1))
    identical(a.train_state, b.train_state)
    identical(a.history, b.history)
    assert not np.array_equal(a.params["logits"]["kernel"], c.params["logits"]["kernel"])


@pytest.mark.heavy
def test_history_holds_one_numpy_value_an_epoch():
    result = fit(epochs=4)
    assert list(result.history)
    assert set(result.history) == {
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
    }
    for values in result.history.values():
        assert isinstance(values, np.ndarray)
        assert values.shape == (4,)
    assert result.history["loss"][-1] < result.history["loss"][0]
    assert int(result.train_state.step) == 4 * 5


def test_fit_is_the_loop_over_make_epoch():
    model, tx = network(), jd.optimizers.adam(1e-2)
    objective, step, _ = setup(tx, model=model)
    ts = jd.train.init(model, tx, problem()[0][:1], key=KEY)
    epoch = jax.jit(make_epoch(step, batch_size=16))
    for _ in range(3):
        ts, metrics = epoch(ts, problem())
    result = fit(model=model, optimizer=tx)
    close(result.train_state, ts, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.history["loss"][-1], metrics["loss"], rtol=1e-5)
    found = make_evaluate(objective)(ts.params, ts.state, problem())
    np.testing.assert_allclose(result.history["val_accuracy"][-1], found["accuracy"], rtol=1e-5)


@pytest.mark.heavy
def test_given_parameters_are_where_it_begins_and_stay_valid():
    first = fit(epochs=1)
    params, state = first.params, first.state
    again = fit(epochs=1, params=params, state=state)
    assert again.history["loss"][0] < first.history["loss"][0]
    assert np.isfinite(params["logits"]["kernel"]).all()
    assert np.isfinite(state["bn"]["mean"]).all()


@pytest.mark.heavy
def test_data_on_the_device_stays_valid_and_so_does_the_key():
    data = jax.tree.map(jnp.asarray, problem())
    fit(data=data)
    fit(data=data)
    jax.random.key_data(KEY)


@pytest.mark.heavy
def test_any_optax_optimizer():
    nag = jd.optimizers.nag(1e-2)
    for tx in (optax.adamw(1e-2), optax.chain(optax.clip(1.0), nag), optax.MultiSteps(nag, 2)):
        history = fit(optimizer=tx, epochs=5).history
        assert history["loss"][-1] < history["loss"][0]


@pytest.mark.heavy
def test_an_objective_of_ones_own():
    def objective(params, state, batch, *, key=None, train=False):
        y, state = network(0.0).apply(params, state, batch["x"], train=train, key=key)
        return jnp.mean((y - batch["target"]) ** 2), (state, {"largest": jnp.abs(y).max()})

    data = {"x": problem()[0], "target": np.zeros((70, 3), np.float32)}
    initial = network(0.0).init(KEY, data["x"][:1])
    result = fit(
        data=data,
        loss=None,
        metrics=None,
        objective=objective,
        validation=data,
        params=initial[0],
        state=initial[1],
    )
    assert set(result.history) == {"loss", "largest", "val_loss", "val_largest", "learning_rate"}
    assert result.history["loss"][-1] < result.history["loss"][0]


@pytest.mark.heavy
def test_a_penalty_counts_in_training_and_validation():
    plain = fit(epochs=1)
    result = fit(epochs=1, penalty=lambda params: 100.0 + 0 * params["logits"]["bias"].sum())
    np.testing.assert_allclose(result.history["loss"], plain.history["loss"] + 100, rtol=1e-4)
    np.testing.assert_allclose(result.history["val_loss"], plain.history["val_loss"] + 100, rtol=1e-4)


@pytest.mark.heavy
def test_a_run_learns():
    result = fit(epochs=40, model=network(0.0), optimizer=jd.optimizers.adam(3e-2))
    assert result.history["val_accuracy"][-1] > 0.95


@pytest.mark.heavy
def test_an_unknown_compiler_option_is_done_without(monkeypatch):
    monkeypatch.setattr("jaxdeep._compilation._CPU_OPTIONS", {"xla_no_such_option": "1"})
    assert len(fit().history["loss"]) == 3


@pytest.mark.heavy
def test_nothing_is_kept_after_a_run():
    import gc
    import weakref

    model = network()
    gone = weakref.ref(model)
    fit(model=model, epochs=1)
    fit(model=model, epochs=1, params=model.init(KEY, X[:1])[0], state=model.init(KEY, X[:1])[1])
    del model
    jax.clear_caches()  # what jax itself remembers of a trace
    gc.collect()
    assert gone() is None


@pytest.mark.heavy
def test_low_precision_losses_are_averaged_in_float32():
    result = fit(data=(jnp.asarray(X, jnp.bfloat16), Y), validation=None, epochs=1)
    assert result.history["loss"].dtype == np.float32


@pytest.mark.heavy
def test_vector_metrics_are_kept_and_not_printed(capsys):
    def objective(params, state, batch, *, key=None, train=False):
        y, state = jd.nn.dense(3).apply(params, state, batch[0])
        return (y**2).mean(), (state, {"each": (y**2).mean(0)})

    arguments = {"model": jd.nn.dense(3), "loss": None, "metrics": None, "objective": objective}
    assert fit(**arguments, progress=True).history["each"].shape == (3, 3)
    assert "each" not in capsys.readouterr().out


def test_an_option_that_the_compiler_lacks_is_left_out_alone():
    tried = []

    class Lowered:
        def compile(self, compiler_options=None):
            tried.append(compiler_options)
            if "lacking" in (compiler_options or {}):
                raise jax.errors.JaxRuntimeError("No such compile option: 'lacking'")
            return "program"

    assert _compilation._with_options(Lowered(), {"known": "1", "lacking": "2"}) == "program"
    assert tried == [{"known": "1", "lacking": "2"}, {"known": "1"}]
