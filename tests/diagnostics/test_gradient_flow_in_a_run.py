"""The flow in the history of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.flows import CE, KEY, SLOW, X, Y, small

import jaxdeep as jd
from jaxdeep.diagnostics import gradient_flow
from jaxdeep.diagnostics.layer_flow import LayerMeasure


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
        pytest.param(1, None, marks=pytest.mark.heavy),
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


@pytest.mark.heavy
@pytest.mark.parametrize("accumulation_steps", [1, 4])
def test_rows_of_weight_0_have_no_part_in_the_history(accumulation_steps):
    model = jd.nn.serial(hidden=jd.nn.dense(8, activation=jnp.tanh), logits=jd.nn.dense(4))
    params, state = model.init(jax.random.key(3), X)
    weights = (np.arange(16) < 9).astype(np.float32)  # of four micro-batches one has none that counts
    x = np.where(weights[:, None] > 0, X[:16], 1e3).astype(np.float32)
    run = fit(
        model, (x, Y[:16], weights), optimizer=jd.optimizers.sgd(0.1), epochs=1, shuffle=False,
        diagnostics=1, params=params, state=state, accumulation_steps=accumulation_steps,
    )  # fmt: skip
    alone = gradient_flow(model, params, state, (X[:9], Y[:9]), loss=CE)
    for path, expected in alone.items():
        mean = run.history[f"activation_mean/{path}"]
        np.testing.assert_allclose(mean, expected.activation_mean, rtol=1e-5)
    if accumulation_steps == 1:
        deviation = run.history["activation_std/hidden"]
        np.testing.assert_allclose(deviation, alone["hidden"].activation_std, rtol=1e-5)
