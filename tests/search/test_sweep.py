"""Sweeps: every row is the run it stands for, whatever runs beside it."""

import importlib.util
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.runs import ARGUMENTS, MODEL, OBJECTIVE, X, Y, close, fit, identical

import jaxdeep as jd
from jaxdeep._compilation import compiled
from jaxdeep.optimizers.identity import numbers_of
from jaxdeep.search.builder import Builder
from jaxdeep.search.resampling.subset import DeviceData
from jaxdeep.search.rows import grouped_rows, keys_of
from jaxdeep.search.runners import memory, vmap_runner
from jaxdeep.search.spaces import space
from jaxdeep.search.tables.table import Result, Table

SPACE = {"learning_rate": jnp.array([1e-3, 1e-2, 1e-1]), "b1": [0.8, 0.9]}
STRATEGIES = pytest.mark.parametrize("strategy", ["vmap", "threads"])


def sweep(builder=None, space=None, **changes):
    arguments = ARGUMENTS | {"epochs": 2, "progress": False} | changes
    return jd.sweep(builder or adam, SPACE if space is None else space, **arguments)


def adam(hp):
    return jd.optimizers.adam(hp["learning_rate"], b1=hp["b1"])


# A model that compiles in no time.
LINEAR = {
    "model": jd.nn.dense(1),
    "data": (X, X[:, :1]),
    "validation": (X, X[:, :1]),
    "loss": jd.losses.mse,
    "metrics": None,
}


def sgd(hp):
    return jd.optimizers.sgd(hp["learning_rate"])


def table_of(points, losses, ended=None):
    """A table of runs of one epoch whose losses are given."""
    ended = ended or ["finished"] * len(losses)
    ends = [Result({}, {}, {"loss": np.array([loss])}, 0, how) for loss, how in zip(losses, ended)]
    return Table(points, ends)


@pytest.fixture(scope="module")
def alone():
    """A space of 24 rows, one of them by `fit`, and all by one run with numbers set in its state."""
    grid = {"learning_rate": np.logspace(-3, -1, 4), "b1": [0.8, 0.9, 0.95]}
    rows = [
        {"learning_rate": rate, "b1": b1, "seed": seed}
        for rate in grid["learning_rate"]
        for b1 in grid["b1"]
        for seed in (0, 1)
    ]
    fitted = fit(optimizer=adam(rows[13]), key=jax.random.key(rows[13]["seed"]), epochs=2)
    optimizer = jd.optimizers.adam(1.0)
    init = jax.jit(lambda key: jd.train.init(MODEL, optimizer, X[:1], key=key))
    run = jax.jit(jd.train.make_run(OBJECTIVE, optimizer, epochs=2, batch_size=16))
    runs = []
    for row in rows:
        ts = init(jax.random.key(row["seed"]))
        hyper = {"learning_rate": row["learning_rate"], "b1": row["b1"]}
        ts = ts._replace(opt_state=jd.optimizers.set_hyperparams(ts.opt_state, **hyper))
        runs.append(run(ts, (X, Y), (X, Y)))
    return grid, rows, fitted, runs


@pytest.mark.heavy
@STRATEGIES
def test_every_row_of_24_is_the_run_alone(alone, strategy):
    grid, expected, fitted, runs = alone
    table = sweep(space=grid, seeds=2, strategy=strategy)
    rows = table.rows()
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected
    same = identical if strategy == "threads" else lambda a, b: close(a, b, rtol=1e-4)
    same(table.trained(13), (fitted.params, fitted.state))
    same(table.history(13), fitted.history)
    assert rows[13]["val_loss"] == pytest.approx(float(fitted.history["val_loss"][-1]), rel=1e-4)
    for i, (ts, history) in enumerate(runs):
        close(table.trained(i), (ts.params, ts.state), rtol=1e-4)
        close(table.history(i), history, rtol=1e-4)


@pytest.mark.heavy
def test_floats_anywhere_are_the_run_alone_to_rounding():
    def build(hp):
        schedule = jd.schedules.exponential(hp["rate"], transition_steps=10, decay_rate=0.5)
        return {
            "model": jd.nn.serial(jd.nn.dense(8), jd.nn.dropout(hp["drop"]), jd.nn.dense(2)),
            "penalty": jd.regularizers.l2(hp["l2"]),
            "optimizer": jd.optimizers.sgd(schedule),
        }

    points = [{"rate": 0.1, "drop": 0.2, "l2": 1e-3}, {"rate": 0.01, "drop": 0.5, "l2": 0.1}]
    table = sweep(build, points, strategy="threads", validation=None)
    result = fit(**build(points[1]), key=jax.random.key(0), epochs=2, validation=None)
    close(table.trained(1)[0], result.params, rtol=1e-4)
    close(table.history(1), result.history, rtol=1e-4)


@pytest.mark.heavy
def test_stacks_of_any_size_agree():
    how = LINEAR | {"space": {"learning_rate": np.logspace(-3, -1, 20)}, "strategy": "vmap"}
    whole = sweep(sgd, **how)  # 8 devices with 3 rows each
    parts = sweep(sgd, **how, memory=12_000)
    for i in range(20):
        close(parts.trained(i), whole.trained(i), rtol=1e-4)
    with pytest.raises(ValueError, match="what a single row takes, got 1,000"):
        sweep(sgd, **(how | {"strategy": "threads"}), memory=1000)


def test_a_stack_is_compiled_for_all_rows_and_again_for_what_fits(monkeypatch):
    compiled_for = []

    def compile_for(rows):
        compiled_for.append(rows)
        return rows

    monkeypatch.setattr(memory, "needed", lambda rows: 1000 + 100 * rows)
    assert memory.fitting(compile_for, 24) == (24, 24)
    assert memory.fitting(compile_for, 24, at_most=10) == (8, 8)
    assert memory.fitting(compile_for, 24, memory=3400, shared=1000) == (24, 24)
    assert compiled_for == [24, 8, 24]
    assert memory.fitting(compile_for, 24, memory=2000, shared=1000) == (8, 8)  # 10 fit: 3 times 8
    assert compiled_for[3:] == [24, 8]
    assert memory.fitting(compile_for, 24, memory=1100, shared=0)[0] == 1  # a bad guess
    with pytest.raises(ValueError, match="memory must be at least 1,100 bytes, what a single row takes"):
        memory.fitting(compile_for, 24, memory=1099, shared=1000)


@pytest.mark.heavy
@pytest.mark.few("threads")
@STRATEGIES
def test_rows_that_diverge_or_stop_leave_the_others_alone(strategy):
    shared = LINEAR | {
        "epochs": 8,
        "strategy": strategy,
        "early_stopping": jd.train.EarlyStopping(patience=2, min_delta=1e-3),
    }
    table = sweep(sgd, {"learning_rate": [0.01, 1e30, 0.1]}, **shared)
    rows = table.rows()
    assert [row["diverged"] for row in rows] == [False, True, False]
    assert [row["ended"] for row in rows] == ["finished", "diverged", "stopped"]
    assert rows[1]["epochs"] == 1
    assert rows[2]["epochs"] < 8
    calm = sweep(sgd, {"learning_rate": [0.01, 0.05, 0.1]}, **shared)
    for i in (0, 2):
        identical(table.trained(i), calm.trained(i))
        identical(table.history(i), calm.history(i))
    assert table.best("val_loss")["learning_rate"] == 0.1


def test_parameters_that_are_not_finite_at_the_end_are_a_divergence():
    def objective(params, state, batch, *, key=None, train=False):
        return jnp.sqrt(params["w"]).sum(), (state, {})  # no gradient at 0

    def apply(params, state, x, **switches):
        return x, state

    model = jd.nn.Model(lambda key, x: ({"w": jnp.zeros(2)}, {}), apply)
    table = jd.sweep(
        lambda hp: jd.optimizers.sgd(hp["rate"]),
        {"rate": [0.1]},
        model=model,
        objective=objective,
        data=jnp.zeros((4, 1)),
        batch_size=4,
        progress=False,
    )
    assert [row["ended"] for row in table.rows()] == ["diverged"]


def test_rows_in_several_stacks_are_started_by_one_program(monkeypatch):
    def build(hp):  # whose rate goes into a schedule, so that a row is no program of another sweep
        return jd.optimizers.sgd(lambda step: hp["rate"] / (1 + step))

    made = []
    monkeypatch.setattr(
        vmap_runner, "compiled", lambda *args, **how: made.append(compiled(*args, **how)) or made[-1]
    )
    rates = np.linspace(1e-3, 2e-3, 24).tolist()  # three stacks on eight devices
    sweep(build, {"rate": rates}, strategy="vmap", rows_at_once=1, **LINEAR)
    assert len(made) == 2  # that of the epochs, and this one


def test_devices_of_a_stack_do_not_wait_for_each_other(monkeypatch):
    texts = []
    monkeypatch.setattr(
        vmap_runner, "compiled", lambda *args, **how: texts.append(compiled(*args, **how)) or texts[-1]
    )
    sweep(
        sgd, {"learning_rate": np.logspace(-3, -1, 12)}, strategy="vmap", **LINEAR
    )  # 12 rows on 8 devices, filled up to 16
    program, _ = texts  # the other one starts the rows
    assert len(program.input_shardings[0][3][0][0].device_set) == len(jax.local_devices()) == 8
    assert "while" in program.as_text()
    for word in ("all-reduce", "all-gather", "all-to-all", "collective", "reduce-scatter"):
        assert word not in program.as_text()


@pytest.mark.few("threads")
@STRATEGIES
def test_halving_goes_on_with_the_best_from_where_they_are(strategy):
    rates = {"learning_rate": [1e-3, 3e-3, 0.3, 3e-2, 1e-1, 1e-2]}
    how = LINEAR | {"space": rates, "seeds": 2, "strategy": strategy, "epochs": 5}
    full = sweep(sgd, **how)
    table = sweep(sgd, **how, halving=jd.search.SuccessiveHalving(first=1, factor=2))
    losses = np.array([full.history(i)["val_loss"] for i in range(12)]).reshape(6, 2, 5).mean(1)
    running, expected = list(range(6)), np.full(6, 5)
    for epochs in (1, 2, 4):
        order = sorted(running, key=lambda point: losses[point, epochs - 1])
        expected[order[max(1, len(running) // 2) :]] = epochs
        running = order[: max(1, len(running) // 2)]
    rows = table.rows()
    assert [row["epochs"] for row in rows] == np.repeat(expected, 2).tolist()
    assert [row["ended"] for row in rows] == [
        "finished" if epochs == 5 else "halved" for epochs in np.repeat(expected, 2)
    ]
    same = identical if strategy == "threads" else lambda a, b: close(a, b, rtol=1e-4)
    for i, row in enumerate(rows):
        same(table.history(i), {n: v[: row["epochs"]] for n, v in full.history(i).items()})
        if row["ended"] == "finished":
            same(table.trained(i), full.trained(i))


@pytest.mark.heavy
def test_what_is_not_a_float_is_compiled_for_itself():
    def build(hp):
        return {
            "model": jd.nn.serial(jd.nn.dense(hp["units"], activation=jax.nn.relu), jd.nn.dense(2)),
            "optimizer": getattr(jd.optimizers, hp["optimizer"])(hp["learning_rate"]),
            "batch_size": hp["batch_size"],
        }

    points = [
        {"units": 4, "optimizer": "adam", "learning_rate": 0.01, "batch_size": 16},
        {"units": 8, "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 50},
        {"units": 4, "optimizer": "adam", "learning_rate": 0.02, "batch_size": 16},
    ]
    table = sweep(build, points)
    assert [table.trained(i)[0]["dense0"]["kernel"].shape for i in range(3)] == [(4, 4), (4, 8), (4, 4)]
    assert [row["units"] for row in table.rows()] == [4, 8, 4]


def test_models_that_the_builder_makes_anew_and_alike_are_held_once():
    def build(hp):
        model = jd.nn.serial(jd.nn.dense(4, activation=jax.nn.relu), jd.nn.dense(hp["units"]))
        scale = hp["rate"] if hp["units"] == 2 else 1.0
        return {
            "model": model,
            "optimizer": jd.optimizers.sgd(hp["rate"]),
            "loss": lambda outputs, y: scale * jd.losses.mse(outputs, y),
        }

    rates = {"rate": [0.1, 0.2, 0.3], "units": [1, 2]}
    equal = lambda hp: {**build(hp), "loss": jd.losses.mse}  # noqa: E731
    for make, models in ((equal, 2), (build, 6)):
        groups = grouped_rows(
            Builder(make, {}), keys_of(2, None), jd.search.grid(rates), DeviceData((), ())
        )
        rows = [row for group in groups for row in group.rows]
        assert len({id(row.setup.model) for row in rows}) == models
        assert len({id(row.setup.objective) for row in rows}) == models
        assert {row.setup.model.layers["dense1"].config["features"] for row in rows} == {1, 2}
        for row in rows:  # the optimizers stay their own
            assert numbers_of(row.setup.optimizer)[""]["learning_rate"] == row.point["rate"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([None, 1.0, 2.0], [[0], [1, 2]]),
        ([True, 1, 1.0], [[0], [1], [2]]),
        ([(1, 2), [1, 2], (1, 2), (1, 2.0)], [[0, 2], [1], [3]]),
        (["a", None, "a"], [[0, 2], [1]]),
        ([{"a": 1}, {"a": 1}, {"a": True}], [[0, 1], [2]]),
        ([np.int64(3), 3, jnp.array(3), np.float32(3)], [[0, 1, 2], [3]]),
    ],
)
def test_values_that_are_not_floats_have_groups_of_their_own(values, expected):
    points = space.points_of([{"value": value, "rate": i / 10} for i, value in enumerate(values)])
    assert [members for _, members in space.groups(points)] == expected


@pytest.mark.heavy
def test_points_with_none_and_whole_numbers_of_arrays():
    def build(hp):
        assert type(hp["batch_size"]) is int
        clip = [] if hp["clip"] is None else [jd.optimizers.clip_by_value(hp["clip"])]
        return {
            "optimizer": optax.chain(*clip, jd.optimizers.sgd(hp["rate"])),
            "batch_size": hp["batch_size"],
        }

    points = [
        {"batch_size": np.int64(50), "rate": np.float32(0.1), "clip": None},
        {"batch_size": jnp.array(50), "rate": jnp.array(0.1), "clip": 1e-3},
    ]
    free, clipped = sweep(build, points, **LINEAR, epochs=1).rows()
    assert (free["batch_size"], free["rate"], free["clip"]) == (50, float(np.float32(0.1)), None)
    assert free["loss"] < clipped["loss"]


@pytest.mark.heavy
@STRATEGIES
def test_float64(x64, strategy):
    how = LINEAR | {"data": (np.array(X, float), np.array(X[:, :1], float)), "validation": None}
    table = sweep(sgd, {"learning_rate": [0.1]}, **how, strategy=strategy)
    assert table.trained(0)[0]["kernel"].dtype == np.float64
    result = fit(**how, optimizer=jd.optimizers.sgd(0.1), key=jax.random.key(0), epochs=2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, 1e-12), table.trained(0)[0], result.params
    )


def test_a_table_over_seeds():
    points = [{"rate": rate, "seed": seed} for rate in (0.1, 0.2, 0.3) for seed in (0, 1, 2)]
    losses = [1.0, 0.1, 1.0, 0.5, 0.6, 0.7, 0.1, 0.1, np.nan]
    ended = ["finished"] * 8 + ["diverged"]
    table = table_of(points, losses, ended)
    first, second, third = table.over_seeds()
    assert first["loss_mean"] == pytest.approx(0.7)
    assert second == {
        "rate": 0.2,
        "runs": 3,
        "diverged": 0,
        "loss_mean": pytest.approx(0.6),
        "loss_std": pytest.approx(0.1),
    }
    assert third["diverged"] == 1
    assert np.isnan(third["loss_mean"])
    assert np.isnan(third["loss_std"])
    assert table.best("loss") == table.rows()[1]
    assert table.best("loss", over_seeds=True) == second
    assert table.best("loss", "max", over_seeds=True) == first
    assert np.isnan(table_of(points[:1], [1.0]).over_seeds()[0]["loss_std"])
    frame = table.to_pandas() if importlib.util.find_spec("pandas") else None
    assert frame is None or frame.groupby("rate").loss.mean()[0.2] == pytest.approx(0.6)


@pytest.mark.heavy
def test_a_table_does_not_change():
    table = sweep(sgd, {"learning_rate": [0.1]}, **LINEAR, epochs=1)
    before = table.rows()
    table.rows()[0]["loss"] = 0.0
    table.history(0).pop("loss")
    params, _ = table.trained(0)
    params.pop("kernel")
    for change in (
        lambda: table.points[0].update(seed=3),
        lambda: table.history(0)["loss"].fill(0.0),
        lambda: table.trained(0)[0]["kernel"].fill(0.0),
        lambda: setattr(table, "points", ()),
    ):
        with pytest.raises((AttributeError, ValueError)):
            change()
    assert table.rows() == before
    assert "kernel" in table.trained(0)[0]


def test_an_empty_table():
    table = Table((), ())
    assert table.rows() == table.over_seeds() == []
    assert len(table) == 0
    for call in (table.best, lambda metric: table.plot(metric, "rate")):
        with pytest.raises(ValueError, match="the table has no rows"):
            call("loss")


def test_accuracies_are_drawn_on_linear_axes_and_losses_over_decades_on_logarithmic_ones():
    points = [{"rate": r, "kind": k, "seed": 0} for r in (0.1, 0.2) for k in ("a", "b")]
    values = [0.01, 0.09, 0.95, 0.99]
    for metric, axis, norm in (("loss", "log", "LogNorm"), ("accuracy", "linear", "Normalize")):
        results = [Result({}, {}, {metric: np.array([value])}, 0, "finished") for value in values]
        table = Table(points, results)
        assert table.plot(metric, "rate").axes[0].get_yscale() == axis
        assert type(table.plot(metric, "rate", "kind").axes[0].images[0].norm).__name__ == norm


@pytest.mark.heavy
def test_plots(tmp_path, monkeypatch):
    rates, kinds = np.logspace(-3, 0, 4).tolist(), ["b", "a"]
    points = [{"rate": r, "kind": k, "seed": s} for r in rates for k in kinds for s in (0, 1)]
    losses = [0.1 * i for i in range(14)] + [np.nan, np.nan]
    table = table_of(points, losses, ["finished"] * 14 + ["diverged"] * 2)

    (ax,) = table.plot("loss", "rate", path=tmp_path / "one.png").axes
    assert (tmp_path / "one.png").stat().st_size > 1000
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "rate", "loss")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["kind b", "kind a"]
    drawn, errors = ax.containers[0].lines[0], ax.containers[0].lines[2][0]
    np.testing.assert_allclose(drawn.get_xdata(), rates)
    np.testing.assert_allclose(drawn.get_ydata(), [0.05, 0.45, 0.85, 1.25])
    low, high = errors.get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * np.std([0.0, 0.1], ddof=1))
    assert any(line.get_marker() == "x" for line in ax.lines)

    figure = table.plot("loss", "rate", "kind")
    image = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(image[1], [0.05, 0.45, 0.85, 1.25])  # "b" above "a"
    assert image.mask.tolist() == [[False, False, False, True], [False] * 4]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0.001", "0.01", "0.1", "1"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["a", "b"]

    drawn_on = table.plot("loss", "rate", ax=figure.axes[0])
    assert drawn_on is figure
    scattered = [{"a": i / 7, "b": (i * 3 % 7) / 7, "seed": 0} for i in range(7)]
    assert len(table_of(scattered, range(7)).plot("loss", "a", "b").axes[0].collections) == 1
    table_of(points[:2], [np.nan] * 2, ["diverged"] * 2).plot("loss", "rate", path=tmp_path / "no.png")
    for wrong, message in (
        (("score", "rate"), "metric must be one of loss; got 'score'"),
        (("loss", "speed"), "x must be one of rate, kind; got 'speed'"),
        (("loss", "rate", "speed"), "y must be one of rate, kind; got 'speed'"),
        (("loss", "rate", "rate"), "x and y must be two hyperparameters, got 'rate' twice"),
    ):
        with pytest.raises(ValueError, match=message):
            table.plot(*wrong)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdeep\[plot\]'"):
        table.plot("loss", "rate")


@pytest.mark.heavy
def test_progress_is_told_a_few_times(capsys):
    sweep(sgd, {"learning_rate": np.linspace(0.1, 0.2, 50)}, **LINEAR, epochs=2, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert 10 <= len(lines) <= 21
    assert lines[-1].startswith("50 rows: epoch 100/100")
    sweep(sgd, {"learning_rate": [0.1]}, **LINEAR, epochs=1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.heavy
def test_random_points():
    points = jd.search.random_points(
        500,
        key=jax.random.key(0),
        rate=("log_uniform", 1e-4, 1e-1),
        drop=("uniform", 0.1, 0.5),
        kind=("choice", ["a", "b"]),
    )
    rates = np.log10([point["rate"] for point in points])
    assert -4 <= rates.min() < -3.9 < -1.1 < rates.max() <= -1
    assert abs(rates.mean() + 2.5) < 4 * np.sqrt(9 / 12 / 500)
    assert {point["kind"] for point in points} == {"a", "b"}
    assert all(0.1 <= point["drop"] <= 0.5 for point in points)
    assert points == jd.search.random_points(
        500,
        key=jax.random.key(0),
        rate=("log_uniform", 1e-4, 1e-1),
        drop=("uniform", 0.1, 0.5),
        kind=("choice", ["a", "b"]),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sweep(3), "builder must be a function of a point, got 3"),
        (lambda: sweep(space={}), "unknown|builder|learning_rate"),
        (lambda: sweep(space=[]), "space holds no points"),
        (lambda: sweep(space={"learning_rate": 0.1}), r"space\['learning_rate'\] must be a list"),
        (lambda: sweep(space={"seed": [1]}), "none called 'seed'"),
        (lambda: sweep(seeds=0), "seeds must be at least 1"),
        (lambda: sweep(strategy="pmap"), "strategy must be 'vmap', 'threads' or None, got 'pmap'"),
        (
            lambda: sweep(epoch=3),
            r"sweep\(\) got an unexpected .* 'epoch'; did you mean 'epochs'",
        ),
        (lambda: sweep(model=None), "sweep needs a model="),
        (lambda: sweep(loss=None), "sweep needs a loss="),
        (lambda: sweep(objective=OBJECTIVE, loss=None), "drop metrics"),
        (lambda: sweep(memory=0), "memory must be at least 1"),
        (lambda: sweep(progress=2), "progress must be True or False"),
        (
            lambda: sweep(halving=3),
            "halving must be a .*SuccessiveHalving, Hyperband or AsynchronousHalving, got 3",
        ),
        (
            lambda: sweep(halving=jd.search.SuccessiveHalving(first=0)),
            "halving.first must be at least 1",
        ),
        (
            lambda: sweep(halving=jd.search.SuccessiveHalving(factor=1)),
            "halving.factor must be at least 2",
        ),
        (
            lambda: sweep(halving=jd.search.SuccessiveHalving(mode="up")),
            "halving.mode must be 'min', 'max'",
        ),
        (
            lambda: sweep(halving=jd.search.SuccessiveHalving(monitor="score")),
            "monitor must be one of accuracy",
        ),
        (
            lambda: sweep(halving=jd.search.SuccessiveHalving(first=2), validate_every=3),
            "halving.first must be at least validate_every, 3, to know val_loss, got 2",
        ),
        (lambda: sweep(space={"learning_rate": [0.1, -1.0], "b1": [0.9]}), r"learning_rate must be in"),
        (lambda: sweep(data=(X, Y + 5)), r"labels must be in \[0, 2\) .* got labels from 5 to 6"),
        (lambda: sweep(validation=(X, Y - 5)), "got labels from -5 to -4"),
        (lambda: sweep(data=X), "data must be a pair"),
        (lambda: sweep(data=iter([(X, Y)])), "sweep needs arrays as data"),
        (
            lambda: sweep(
                lambda hp: jd.optimizers.sgd(hp["lr"]),
                {"lr": [0.1]},
                metrics={"lr": jd.metrics.accuracy},
            ),
            "space must not have the name 'lr', which is that of a metric in the table; give the",
        ),
        (
            lambda: sweep(space={"learning_rate": [0.1], "b1": [0.9], "ended": [1.0]}),
            "'ended', a column",
        ),
        (lambda: sweep(batch_size=1000), "batch_size must be at most the number of examples, 100"),
        (
            lambda: table_of([{"seed": 0}], [1.0]).best("score"),
            "metric must be one of loss; got 'score'",
        ),
        (
            lambda: table_of([{"seed": 0}], [np.nan]).best("loss"),
            "no row is a full run with a finite loss: 1 not finite",
        ),
        (
            lambda: jd.search.random_points(2, key=jax.random.key(0), a=("normal", 0, 1)),
            r"a must be \('uniform', low, high\)",
        ),
        (
            lambda: jd.search.random_points(2, key=jax.random.key(0), a=("uniform", 1, 0)),
            "a: uniform must have low < high, got 1 and 0",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises((ValueError, TypeError, KeyError), match=message):
        call()


@pytest.mark.heavy
@pytest.mark.few("threads")
@STRATEGIES
def test_rows_know_the_other_arguments_of_fit(strategy):
    def build(hp):
        average = jd.optimizers.ema_params(0.9)
        return optax.chain(jd.optimizers.adam(hp["learning_rate"]), average)

    shared = {"ema": True, "class_weight": {1: 2.0}, "on_nonfinite": "skip", "epochs": 2}
    x = X.at[3].set(jnp.nan)
    table = sweep(build, {"learning_rate": [0.01, 0.02]}, data=(x, Y), strategy=strategy, **shared)
    alone = fit(optimizer=build({"learning_rate": 0.02}), data=(x, Y), key=jax.random.key(0), **shared)
    close(table.trained(1), (alone.params, alone.state), rtol=1e-4)
    assert table.rows()[1]["ended"] == "finished"
    assert table.rows()[1]["skipped"] == 1


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad], ids=["jit", "vmap", "grad"])
def test_a_sweep_inside_a_trace_is_refused(transform):
    def refused(run):
        with pytest.raises(TypeError, match="sweep drives devices from the host and cannot be traced"):
            transform(run)(jnp.ones(2) if transform is jax.vmap else 1.0)

    def rate(table):
        return table.best("loss")["learning_rate"]

    refused(lambda v: rate(sweep(space={"learning_rate": [0.1, v], "b1": [0.9]})))
    refused(lambda v: rate(sweep(data=(X * v, Y))))
    refused(lambda v: rate(sweep(validation=(X * v, Y))))
    refused(lambda v: rate(sweep(lambda hp: jd.optimizers.adam(hp["learning_rate"] * v))))


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_the_keys_of_seeds_are_those_of_jax(kind):
    with jax.default_prng_impl(kind):
        keys = keys_of(3, None)
        assert [jax.random.key_impl(key) for key in keys] == [jax.random.key_impl(jax.random.key(0))] * 3
        for seed, key in enumerate(keys):
            assert key.dtype == jax.random.key(seed).dtype
            assert (jax.random.key_data(key) == jax.random.key_data(jax.random.key(seed))).all()
            assert key.sharding == jax.random.key(seed).sharding


RATES = [{"learning_rate": 0.1}, {"learning_rate": 0.2}]


class Pressing:
    """What presses Ctrl-C when it is dropped, where Python only prints what is raised."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def pressing(hp):
    Pressing()
    return sgd(hp)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "call",
    [
        lambda: jd.sweep(pressing, RATES, **LINEAR, progress=False),
        lambda: jd.search.population(
            *(pressing, RATES),
            every=1,
            ranges={"learning_rate": (0.01, 1.0)},
            key=jax.random.key(0),
            **LINEAR,
            progress=False,
        ),
    ],
    ids=["sweep", "population"],
)
def test_ctrl_c_before_the_first_epoch_is_raised_even_if_python_only_prints_it(call):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="before the first epoch"):
        call()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_of_the_builder_says_which_names_the_point_has():
    with pytest.raises(KeyError) as raised:
        jd.sweep(sgd, [{"rate": 0.1}], **LINEAR)
    assert "raised by the builder, given a point with 'rate'." in raised.value.__notes__[0]
    assert raised.value.__notes__[1] == "This is about the point rate=0.1."


def test_an_error_of_the_builder_says_which_name_a_point_lacks():
    with pytest.raises(KeyError) as raised:
        sweep(adam, [{"learning_rate": 0.1, "b1": 0.5}, {"learning_rate": 0.2}])
    assert "point learning_rate=0.2" in raised.value.__notes__[1]
    assert "others have 'b1', and this one lacks it" in raised.value.__notes__[2]


def loss_of(kind):
    def loss(outputs, y):
        errors = (outputs - y) ** 2
        return errors[:, 0] if kind == "right" else errors[:, 0, 0]

    return loss


def with_loss(hp):
    return {"optimizer": jd.optimizers.sgd(hp["rate"]), "loss": loss_of(hp["kind"])}


HOW = {**LINEAR, "epochs": 2, "progress": False}
HALVINGS = [
    None,
    jd.search.SuccessiveHalving(first=1, factor=2),
    jd.search.AsynchronousHalving(first=1, factor=2),
]


@pytest.mark.heavy
@pytest.mark.few(1)
@STRATEGIES
def test_a_point_that_cannot_be_traced_is_an_error_and_the_others_finish(strategy, tmp_path):
    how = {**HOW, "strategy": strategy, "checkpoint": tmp_path}
    space = {"kind": ["wrong", "right"], "rate": [0.1, 0.2]}
    for _ in range(2):  # and the second time nothing is trained
        with pytest.warns(UserWarning, match="2 of 4 rows ended with an error, such as .*indices"):
            table = jd.sweep(with_loss, space, **how)
    assert [row["ended"] for row in table.rows()] == ["error"] * 2 + ["finished"] * 2
    assert "in loss" in table.results[0].error
    assert "indices" in table.rows()[1]["error"]
    alone = jd.sweep(with_loss, {"kind": ["right"], "rate": [0.1, 0.2]}, **HOW, strategy=strategy)
    identical(table.trained(2), alone.trained(0))


@pytest.mark.few(1)
@pytest.mark.parametrize("halving", HALVINGS[1:], ids=["halving", "asynchronous"])
def test_a_point_that_cannot_be_traced_is_the_first_to_be_halved(halving):
    space = {"kind": ["wrong", "right"], "rate": [0.1, 0.2]}
    with pytest.warns(UserWarning, match="2 of 4 rows ended with an error"):
        table = jd.sweep(with_loss, space, **HOW, halving=halving, keep_params=1)
    assert [row["ended"] for row in table.rows()].count("error") == 2
    assert table.best("val_loss")["kind"] == "right"


def test_of_equal_points_of_a_grid_the_first_goes_on():
    halving, ended = jd.search.SuccessiveHalving(first=1, factor=2), []
    for first in range(3):
        space = {"unused": [first, first + 1, first + 2]}
        table = jd.sweep(lambda hp: jd.optimizers.sgd(0.1), space, **HOW, halving=halving)
        ended.append([row["ended"] for row in table.rows()])
    assert ended == [["finished", "halved", "halved"]] * 3


def test_if_no_point_can_be_traced_the_first_error_is_raised_with_its_point():
    with pytest.raises((IndexError, TypeError), match="indices") as raised:
        jd.sweep(with_loss, {"kind": ["wrong", "worse"], "rate": [0.1]}, **HOW)
    assert raised.value.__notes__[-1] == "This is about the point kind=wrong, rate=0.1."


def with_options(hp):
    layers = jd.nn.dropout(hp.get("drop", 0.5)), jd.nn.dense(1)
    own = {"batch_size": hp["batch_size"]} if "batch_size" in hp else {}
    optimizer = jd.optimizers.sgd(hp.get("rate", 0.1))
    return {"model": jd.nn.serial(*layers), "optimizer": optimizer, **own}


@pytest.mark.parametrize("wrong", [{"batch_size": 10_000}, {"drop": 1.5}, {"rate": float("nan")}])
def test_points_that_are_refused_are_named(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError) as raised:
        jd.sweep(with_options, [{name: type(value)(1)} if name != "drop" else {name: 0.1}, wrong], **HOW)
    assert raised.value.__notes__[-1] == f"This is about the point {name}={value}."
