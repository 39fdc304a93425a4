"""Hyperparameters of `optax.inject_hyperparams`: read, recorded and set as jaxdeep's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep import _compilation
from jaxdeep.optimizers import hyperparams, set_hyperparams

X, Y = jnp.ones((16, 2)), jnp.zeros((16, 1))
FALLING = optax.linear_schedule(0.1, 0.0, 8)
sgd = optax.inject_hyperparams(optax.sgd)
fit = functools.partial(jd.fit, jd.nn.dense(1), (X, Y), loss=jd.losses.mse, batch_size=4, progress=False)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "around", ["nothing", "chain", "masked", "multi_steps", "partition", "lookahead"]
)
def test_history_has_the_rates_of_the_last_update_of_each_epoch(around):
    tx = {
        "nothing": lambda tx: tx,
        "chain": lambda tx: optax.chain(optax.clip(1.0), tx),
        "masked": lambda tx: optax.masked(tx, {"kernel": True, "bias": True}),
        "multi_steps": lambda tx: optax.MultiSteps(tx, 1),
        "partition": lambda tx: optax.partition({"a": tx}, "a"),
        "lookahead": lambda tx: jd.optimizers.lookahead(tx, 6, 0.5),
    }[around](sgd(FALLING, momentum=0.5))
    history = fit(optimizer=tx, epochs=2, key=jax.random.key(0)).history
    own = fit(
        optimizer=jd.optimizers.sgd(FALLING, momentum=0.5), epochs=2, key=jax.random.key(0)
    ).history
    for name in ("learning_rate", "momentum"):
        np.testing.assert_allclose(history[name], own[name], rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate"], [FALLING(3), FALLING(7)], rtol=1e-6)


def test_what_is_constant_is_recorded_as_that_of_jaxdeep_is():
    tx = optax.inject_hyperparams(optax.adamw)(0.1, b1=optax.linear_schedule(0.9, 0.5, 8))
    result = fit(optimizer=tx, epochs=2, key=jax.random.key(0))
    assert set(result.history) == {"loss", "learning_rate", "b1"}
    np.testing.assert_allclose(result.history["b1"], [0.75, 0.55], rtol=1e-6)
    known = hyperparams(result.train_state.opt_state)
    assert {"learning_rate", "b1", "b2", "eps", "weight_decay"} <= set(known)
    np.testing.assert_allclose(known["b2"], 0.999)


def test_equal_names_are_told_apart_by_their_places():
    tx = optax.chain(sgd(0.1), jd.optimizers.sgd(0.2), sgd(FALLING))
    known = hyperparams(tx.init(X))
    assert {n: round(float(v), 6) for n, v in known.items()} == {
        "0/learning_rate": 0.1,
        "1/learning_rate": 0.2,
        "2/learning_rate": 0.1,
    }


def test_what_drives_one_of_jaxdeep_is_named_once():
    state = optax.inject_hyperparams(jd.optimizers.sgd)(FALLING).init(X)
    assert list(hyperparams(state)) == ["learning_rate"]


@pytest.mark.parametrize("chained", [False, True])
def test_the_number_of_one_of_jaxdeep_is_read_and_set_where_optax_keeps_it(chained):
    tx = optax.inject_hyperparams(
        lambda learning_rate: (
            optax.chain(optax.clip(9.0), jd.optimizers.adam(learning_rate), optax.scale(1.0))
            if chained
            else jd.optimizers.adam(learning_rate)
        )
    )(learning_rate=0.1)
    state = tx.init(X)
    _, state = tx.update(X, state)
    theirs = state._replace(hyperparams=state.hyperparams | {"learning_rate": jnp.float32(0.25)})
    for new in (set_hyperparams(state, learning_rate=0.25), theirs):
        assert jax.tree.structure(new) == jax.tree.structure(state)
        assert float(hyperparams(new)["learning_rate"]) == 0.25
        updates, after = tx.update(X, new)
        np.testing.assert_allclose(updates, -0.25 * X, rtol=1e-5)
        assert float(hyperparams(after)["learning_rate"]) == 0.25


def test_a_plateau_lowers_the_rate_of_one_of_jaxdeep_that_optax_keeps():
    plateau = jd.train.ReduceOnPlateau(0.5, 1, monitor="loss", min_delta=1e9)
    tx = optax.inject_hyperparams(jd.optimizers.sgd)(0.1)
    result = fit(optimizer=tx, epochs=4, plateau=plateau, key=jax.random.key(0))
    own = fit(optimizer=jd.optimizers.sgd(0.1), epochs=4, plateau=plateau, key=jax.random.key(0))
    np.testing.assert_allclose(result.history["learning_rate"], own.history["learning_rate"])
    assert result.history["learning_rate"][-1] < 0.1


def test_of_two_that_inject_the_inner_one_is_in_force():
    inject = optax.inject_hyperparams
    tx = inject(lambda learning_rate: optax.chain(inject(optax.sgd)(learning_rate)))(0.1)
    state = tx.init(X)
    assert list(hyperparams(state)) == ["learning_rate"]
    updates, _ = tx.update(X, set_hyperparams(state, learning_rate=0.5))
    np.testing.assert_allclose(updates, -0.5 * X)


def test_constants_are_set_and_what_a_schedule_drives_is_not():
    tx = optax.chain(optax.clip(9.0), optax.inject_hyperparams(optax.sgd)(0.1, momentum=FALLING))
    state = tx.init(X)
    new = set_hyperparams(state, learning_rate=0.5)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    updates, _ = tx.update(X, new)
    np.testing.assert_allclose(updates, -0.5 * X)
    with pytest.raises(ValueError, match="momentum is driven by a schedule"):
        set_hyperparams(state, momentum=0.5)
    with pytest.raises(TypeError, match="learning_rate must be a number"):
        set_hyperparams(state, learning_rate="much")


def test_plateau_lowers_an_injected_rate():
    plateau = jd.train.ReduceOnPlateau(0.5, 1, monitor="loss", min_delta=1e9)
    result = fit(optimizer=sgd(0.1), epochs=4, plateau=plateau, key=jax.random.key(0))
    assert result.history["learning_rate"][-1] < 0.1


def test_a_phase_sets_an_injected_rate():
    phases = [jd.train.Phase(epochs=1, learning_rate=rate) for rate in (0.1, 0.02)]
    history = fit(optimizer=sgd(0.5), phases=phases, key=jax.random.key(0)).history
    np.testing.assert_allclose(history["learning_rate"], [0.1, 0.02], rtol=1e-6)


def test_a_resumed_run_has_equal_bits(tmp_path):
    run = functools.partial(fit, optimizer=sgd(FALLING), key=jax.random.key(0))
    run(epochs=1, checkpoint=tmp_path / "a")
    resumed, whole = run(epochs=2, checkpoint=tmp_path / "a"), run(epochs=2)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    jax.tree.map(np.testing.assert_array_equal, resumed.history, whole.history)
    with pytest.raises(ValueError, match=r"hyperparameters.*learning_rate"):
        fit(optimizer=sgd(0.3), epochs=2, checkpoint=tmp_path / "a", key=jax.random.key(0))


def test_a_run_that_an_earlier_version_kept_goes_on(tmp_path, monkeypatch):
    run = functools.partial(
        fit, optimizer=sgd(FALLING), key=jax.random.key(0), checkpoint=tmp_path / "a"
    )
    with monkeypatch.context() as earlier:  # which neither recorded nor described what is injected
        earlier.setattr("jaxdeep.train.run.recorded", lambda opt_state: {})
        earlier.setattr("jaxdeep.fitting.checkpoint.recorded", lambda opt_state: {})
        earlier.setattr("jaxdeep.fitting.description.hyperparams", lambda opt_state: {})
        assert set(run(epochs=1, batch_size=2).history) == {"loss"}
    _compilation.forget()
    history = run(epochs=2, batch_size=2).history
    assert np.isnan(history["learning_rate"][0])
    np.testing.assert_allclose(history["learning_rate"][1], FALLING(15), rtol=1e-6)


@pytest.mark.heavy
def test_a_sweep_over_injected_rates_is_each_of_its_runs():
    def make(hp):
        return sgd(hp["learning_rate"])

    rates = jnp.array([0.1, 0.01])
    options = {"model": jd.nn.dense(1), "data": (X, Y), "loss": jd.losses.mse, "batch_size": 4}
    rows = jd.sweep(make, {"learning_rate": rates}, epochs=2, **options).rows()
    losses = [
        fit(optimizer=sgd(float(rate)), epochs=2, key=jax.random.key(0)).history["learning_rate"][-1]
        for rate in rates
    ]
    np.testing.assert_allclose([row["learning_rate"] for row in rows], losses, rtol=1e-6)


def needing(learning_rate, where=0, every=1, nesterov=False):
    """An optimizer that needs the value of an argument, in `init` or in `update`."""
    tx = optax.sgd(learning_rate, nesterov=nesterov)

    def init(params):
        return tx.init(params) if where or every else None

    def update(grads, state, params=None):
        return tx.update(grads, state, params) if range(every) else None

    return optax.GradientTransformation(init, update)


ARGUMENTS = r"optimizer: {} needs the value .* optax.inject_hyperparams\({}, static_args=\({}\)\)"


def test_an_argument_that_cannot_be_traced_is_told():
    words = ARGUMENTS.format("optax.lbfgs", "optax.lbfgs", "'memory_size', 'scale_init_precond'")
    with pytest.raises(TypeError, match=words):
        fit(optimizer=optax.inject_hyperparams(optax.lbfgs)(learning_rate=0.1), epochs=1, key=0)
    static = ("memory_size", "scale_init_precond")
    tx = optax.inject_hyperparams(optax.lbfgs, static_args=static)(learning_rate=0.1)
    assert np.isfinite(fit(optimizer=tx, epochs=1, key=0).history["loss"]).all()


@pytest.mark.parametrize("static", [(), ("where",)], ids=["init", "update"])
def test_it_is_told_of_any_factory_and_inside_of_a_chain(static):
    made = optax.inject_hyperparams(needing, static)
    tx = optax.chain(optax.clip(1.0), made(0.1, where=len(static)))
    words = ARGUMENTS.format("needing", "needing", "'where', 'every', 'nesterov'")
    with pytest.raises(TypeError, match=words):
        fit(optimizer=tx, epochs=1, key=0)
