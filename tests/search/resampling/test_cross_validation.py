"""Cross-validation: a row is `fit` on the rows of its fold, and nothing of the others reaches it."""

import inspect
import subprocess
import sys
import textwrap
import warnings
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import ARGUMENTS, X, Y, close, fit, identical
from sklearn import linear_model, model_selection, pipeline, preprocessing

import jaxdeep as jd
from jaxdeep.search.resampling.subset import DeviceData, Subset

RATES = {"learning_rate": [1e-2, 1e-1]}
STRATEGIES = pytest.mark.parametrize("strategy", ["threads", "vmap"])
SCALER = jd.preprocessing.standard_scaler()

# A model that compiles in no time.
LINEAR = {"model": jd.nn.dense(1), "data": (X, X[:, :1]), "loss": jd.losses.mse, "metrics": None}


def sgd(hp):
    return jd.optimizers.sgd(hp["learning_rate"])


def validated(builder=sgd, space=None, **changes):
    arguments = ARGUMENTS | {"epochs": 2, "progress": False} | changes
    del arguments["validation"]
    return jd.search.cross_validate(builder, RATES if space is None else space, **arguments)


def linear(**changes):
    return validated(**(LINEAR | changes))


def taken(rows):
    return X[rows], Y[rows]


def squares(train, validate):
    """More inputs, centred by the training rows."""
    mean = train[0].mean(0)

    def widened(x, y):
        return jnp.concatenate([x - mean, (x - mean) ** 2], 1), y

    return widened(*train), widened(*validate)


@pytest.mark.optimized
@pytest.mark.heavy
@STRATEGIES
def test_every_row_is_fit_on_the_rows_of_its_fold(strategy):
    # 100 rows in 3 folds: training sets of 66 and of 67 rows
    split = model_selection.StratifiedKFold(3, shuffle=True, random_state=0)
    table = validated(folds=split, seeds=2, strategy=strategy)
    pairs = list(split.split(X, Y))
    assert len({len(train) for train, _ in pairs}) == 2
    order = [(p["learning_rate"], p["fold"], p["seed"]) for p in table.points]
    assert order == [(r, f, s) for r in RATES["learning_rate"] for f in range(3) for s in range(2)]
    for i in (0, 1, 5, 8):
        point = table.points[i]
        train, validate = pairs[point["fold"]]
        alone = fit(
            data=taken(train),
            validation=taken(validate),
            optimizer=sgd(point),
            key=jax.random.key(point["seed"]),
            epochs=2,
        )
        same = identical if strategy == "threads" else lambda a, b: close(a, b, rtol=1e-4)
        same(table.trained(i), (alone.params, alone.state))
        same(table.history(i), dict(alone.history))
        assert (point["n_train"], point["n_validate"]) == (len(train), len(validate))


@pytest.mark.optimized
def test_a_row_of_a_small_model_is_fit_to_the_bit():
    pairs = jd.search.bootstrap_samples(100, 2)
    table = linear(folds=pairs, key=jax.random.key(5))
    x, y = LINEAR["data"]
    alone = fit(
        **(LINEAR | {"data": (x[pairs[1][0]], y[pairs[1][0]])}),
        validation=(x[pairs[1][1]], y[pairs[1][1]]),
        optimizer=sgd(table.points[3]),
        key=jax.random.fold_in(jax.random.key(5), 0),
        epochs=2,
    )
    identical(table.trained(3), (alone.params, alone.state))
    identical(table.history(3), dict(alone.history))


@pytest.mark.heavy
@STRATEGIES
def test_scaling_in_the_fold_is_scikit_learns_pipeline(strategy):
    # Ridge regression on columns of very different scales, where the statistics of the scaler matter;
    # few rows, so that those of the fold and those of all rows differ.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 3)) * [1.0, 20.0, 0.1] + [0.0, 5.0, 3.0]
    x[:6] *= 4
    y = x @ np.array([[1.0], [0.1], [-5.0]]) + rng.normal(size=(24, 1))
    alpha = 5.0
    split = model_selection.KFold(4, shuffle=True, random_state=0)
    ridge = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge(alpha))
    expected = -model_selection.cross_val_score(ridge, x, y, cv=split, scoring="neg_mean_squared_error")
    table = jd.search.cross_validate(
        sgd,
        [{"learning_rate": 0.3}],
        data=(x, y),
        folds=4,
        prepare=SCALER,
        model=jd.nn.dense(1),
        loss=jd.losses.mse,
        penalty=jd.regularizers.l2(alpha / 18, where="kernel"),
        metrics={"mse": jd.losses.mse},
        epochs=120,
        batch_size=18,
        strategy=strategy,
        progress=False,
    )
    found = [row["val_mse"] for row in table.rows()]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    leaked = preprocessing.StandardScaler().fit_transform(x)
    others = -model_selection.cross_val_score(
        linear_model.Ridge(alpha), leaked, y, cv=split, scoring="neg_mean_squared_error"
    )
    assert np.max(np.abs(others - expected) / expected) > 1e-2  # which this test would see


def test_the_best_point_has_the_best_mean_over_folds_and_seeds():
    table = linear(folds=4, seeds=2)
    rows = table.rows()
    assert len(rows) == 16
    means = [np.mean([row["val_loss"] for row in rows[i : i + 8]]) for i in (0, 8)]
    summaries = table.over_seeds()
    assert [summary["runs"] for summary in summaries] == [8, 8]
    np.testing.assert_allclose([summary["val_loss_mean"] for summary in summaries], means)
    assert {"fold", "seed", "n_train", "n_validate"}.isdisjoint(summaries[0])
    best = table.best("val_loss", over_seeds=True)
    assert best["learning_rate"] == RATES["learning_rate"][int(np.argmin(means))]
    # of an interrupted table, in which the better point lacks a fold
    order = [i for i in range(16) if i != 8 + 3]
    part = jd.search.Table([table.points[i] for i in order], [table.results[i] for i in order])
    assert [summary["runs"] for summary in part.over_seeds()] == [8, 7]
    assert part.best("val_loss", over_seeds=True)["learning_rate"] == RATES["learning_rate"][0]
    interval = jd.search.intervals(table, "val_loss")[0]
    assert interval["n"] == 4
    assert interval["val_loss_mean"] == pytest.approx(means[0])


@pytest.mark.heavy
def test_a_point_that_diverges_on_one_fold_is_not_best():
    x, y = np.array(X), np.array(X[:, :1])
    x[0] = 1e30  # in the training rows of all folds but the first
    mask = np.arange(100) < 50
    table = linear(
        data=(x, y), folds=[(~mask, np.arange(1, 50)), (mask, ~mask)], space=[{"learning_rate": 0.1}]
    )
    assert [row["ended"] for row in table.rows()] == ["finished", "diverged"]
    with pytest.raises(ValueError, match="finite val_loss"):
        table.best("val_loss", over_seeds=True)


def test_halving_ranks_points_over_their_folds():
    space = {"learning_rate": [1e-4, 1e-1, 1e-3]}
    halving = jd.search.SuccessiveHalving(factor=3, monitor="val_loss")
    table = linear(folds=2, space=space, halving=halving, epochs=3)
    ended = [row["ended"] for row in table.rows()]
    assert ended == ["halved"] * 2 + ["finished"] * 2 + ["halved"] * 2


def same_tables(a, b):
    assert [dict(point) for point in a.points] == [dict(point) for point in b.points]
    for i in range(len(a)):
        identical(a.history(i), b.history(i))
        identical(a.trained(i), b.trained(i))


@pytest.mark.heavy
def test_a_cross_validation_goes_on_and_grows(tmp_path):
    whole = linear(folds=3, seeds=2, prepare=squares)
    kept = {"folds": 3, "prepare": squares, "checkpoint": tmp_path / "a"}
    linear(**kept)
    began = [file.stat().st_mtime_ns for file in sorted((tmp_path / "a" / "rows").iterdir())]
    again = linear(**kept, seeds=2)
    same_tables(again, whole)
    files = sorted((tmp_path / "a" / "rows").iterdir())
    assert sorted(file.stat().st_mtime_ns for file in files)[: len(began)] == sorted(began)
    assert again.trained(0)[0]["kernel"].shape == (8, 1)
    with pytest.raises(ValueError, match="holds another sweep; it differs in prepare"):
        linear(**(kept | {"prepare": None}), seeds=2)
    with pytest.raises(ValueError, match="holds a sweep of 12 more rows"):
        linear(**(kept | {"folds": 4}), seeds=2)


@pytest.mark.heavy
def test_a_list_of_folds_may_grow(tmp_path):
    pairs = [(np.arange(50), np.arange(50, 100)), (np.arange(50, 100), np.arange(50))]
    linear(folds=pairs[:1], checkpoint=tmp_path / "a")
    same_tables(linear(folds=pairs, checkpoint=tmp_path / "a"), linear(folds=pairs))


@pytest.mark.heavy
def test_a_cross_validation_that_is_killed_goes_on(tmp_path):
    script = textwrap.dedent(
        """
        import os, sys
        import jax, numpy as np
        import jaxdeep as jd
        x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
        ends = []
        def run(checkpoint=None):
            return jd.search.cross_validate(
                lambda hp: jd.optimizers.sgd(hp["rate"]), {"rate": [0.01, 0.1]}, folds=4, seeds=2,
                data=(x, x[:, :1]), prepare=jd.preprocessing.standard_scaler(), model=jd.nn.dense(1),
                loss=jd.losses.mse, epochs=40, batch_size=8, progress=False, checkpoint=checkpoint)
        if sys.argv[2] == "kill":
            from jaxdeep.search.records import directory
            end = directory.Directory.end
            def killing(self, row, *rest):
                result = end(self, row, *rest)
                ends.append(row)
                if len(ends) == 5:
                    self._writer.close()
                    os.kill(os.getpid(), 9)
                return result
            directory.Directory.end = killing
        table = run(sys.argv[1])
        if sys.argv[2] == "compare":
            whole = run()
            for i in range(len(whole)):
                for a, b in ((table.trained(i), whole.trained(i)), (table.history(i), whole.history(i))):
                    jax.tree.map(np.testing.assert_array_equal, a, b)
            print("equal", len(whole))
        """
    )
    folder = str(tmp_path / "a")
    command = [sys.executable, "-c", script, folder]
    assert subprocess.run([*command, "kill"], check=False).returncode == -9
    done = subprocess.run([*command, "compare"], check=True, capture_output=True, text=True)
    assert "equal 16" in done.stdout


def test_a_batch_that_is_larger_than_a_fold_is_refused_with_the_fold():
    with pytest.raises(
        ValueError, match="batch_size must be at most the number of examples, 75, got 80"
    ) as e:
        linear(folds=4, batch_size=80)
    assert e.value.__notes__ == [
        "In fold 0, n_train 75, n_validate 25: its training data are 75 of 100 rows.",
        "This is about the point learning_rate=0.01.",
    ]


def test_labels_of_every_fold_are_looked_at():
    y = np.array(Y)
    y[99] = 5  # in the last fold alone
    folds = [(np.arange(40), np.arange(40, 60)), (np.arange(60, 100), np.arange(40, 60))]
    with pytest.raises(ValueError, match="got labels from 0 to 5") as error:
        validated(data=(X, y), folds=folds)
    assert any("In fold 1" in note for note in error.value.__notes__)


def of_numpy(train, validate):
    return (np.asarray(train[0]), train[1]), validate


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"folds": 1}, ValueError, "folds must be at least 2"),
        ({"folds": 101}, ValueError, "folds must be at most the number of rows, 100"),
        (
            {"prepare": 3},
            TypeError,
            "prepare must be a function .* or a scaler of jaxdeep.preprocessing",
        ),
        ({"prepare": preprocessing.StandardScaler()}, TypeError, "prepare must be a function"),
        ({"prepare": jd.preprocessing.standard_scaler}, TypeError, "prepare must be .*; call it"),
        ({"prepare": lambda train: train}, TypeError, r"prepare must be a function \(train, validate\)"),
        ({"prepare": lambda a, b: a[0]}, TypeError, "prepare must be a pure .*, but it returned"),
        (
            {"prepare": of_numpy},
            TypeError,
            "prepare must be a pure function of jax.numpy .* is compiled",
        ),
        ({"prepare": jd.preprocessing.target_encoder(4)}, TypeError, "got a target encoder"),
        (
            {"prepare": SCALER, "data": ({"a": X}, X[:, :1])},
            TypeError,
            "prepare is a scaler, which needs",
        ),
        (
            {"space": {"fold": [1.0], "learning_rate": [0.1]}},
            ValueError,
            "space must not have the name 'fold'",
        ),
        (
            {"space": {"n_train": [1.0], "learning_rate": [0.1]}},
            ValueError,
            "not have the name 'n_train'",
        ),
        ({"data": iter([(X, Y)])}, TypeError, "cross_validate needs arrays as data"),
        ({"data": (X[:0], X[:0, :1])}, ValueError, "data is empty"),
        ({"halving": 3}, TypeError, "halving must be"),
        ({"strategy": "all"}, ValueError, "strategy must be"),
        ({"epoch": 3}, TypeError, r"cross_validate\(\) got an unexpected keyword argument 'epoch'"),
        ({"fold": 3}, TypeError, "'fold'; did you mean 'folds'"),
        ({"stratified": True}, TypeError, "'stratified'; did you mean 'stratify'"),
        ({"xyz": 3}, TypeError, r"there are builder.*folds(?!.* validation,)"),
        ({"model": None}, ValueError, "cross_validate needs a model="),
        ({"seeds": 0}, ValueError, "seeds must be at least 1"),
        ({"key": "3"}, TypeError, "key must be a random key"),
        (
            {"builder": lambda hp: {"optimizer": sgd(hp), "validation": (X, Y)}},
            ValueError,
            "validation must be the same for all rows",
        ),
    ],
)
def test_wrong_arguments(changes, error, message):
    with pytest.raises(error, match=message):
        linear(**changes)


@pytest.mark.heavy
@pytest.mark.parametrize(("folds", "said"), [(3, "folds=3"), ([(range(10), range(10, 20))], "folds=")])
def test_folds_hold_out_no_rows_whose_targets_a_table_has_seen(folds, said):
    """Random labels of an id with two rows would look as if they could be predicted."""
    rng = np.random.default_rng(0)
    table = {"id": [f"id {i // 2}" for i in range(60)], "x": rng.random(60), "y": rng.integers(0, 2, 60)}
    columns = jd.tables.fit(table, "y", kinds={"id": "category"}, target_encoding=["id"])
    own = {"loss": jd.losses.sigmoid_cross_entropy, "data": columns.encode(table), "folds": folds}
    model = jd.nn.serial(columns.layer(), jd.nn.dense(1))
    with pytest.raises(
        ValueError, match=rf"^{said} would hold out .* layer 'columns0' .*rows=train"
    ) as info:
        linear(**own, model=model)
    assert "Fit the table without target_encoding=; or, for each pair" in str(info.value)
    assert "folds(numpy.arange(n), 5)" in str(info.value)  # and not a share of the rows


def test_validation_is_not_taken():
    with pytest.raises(ValueError, match="validation must be left out"):
        jd.search.cross_validate(sgd, RATES, **ARGUMENTS)
    assert "validation" not in inspect.signature(jd.search.cross_validate).parameters


def test_a_cross_validation_inside_a_trace_is_refused():
    with pytest.raises(TypeError, match="cross_validate drives devices from the host"):
        jax.jit(lambda v: linear(data=(X * v, X[:, :1])).best("loss"))(1.0)
    with pytest.raises(TypeError, match="cross_validate drives devices from the host"):
        jax.jit(lambda v: linear(stratify=v).best("loss"))(jnp.ones(100))


@pytest.mark.heavy
def test_parts_of_the_data_are_taken_by_many_threads():
    from concurrent.futures import ThreadPoolExecutor

    data = DeviceData((jnp.arange(40.0), jnp.arange(40)), None)
    subsets = [Subset({"fold": i}, np.arange(i, i + 20), np.arange(5)) for i in range(20)]
    with ThreadPoolExecutor(8) as pool:
        firsts = list(pool.map(lambda i: float(data.of(subsets[i % 20])[0][0][0]), range(200)))
    assert firsts == [float(i % 20) for i in range(200)]


@pytest.mark.heavy
def test_a_cross_validation_under_jaxs_switches():
    expected = linear(folds=2, prepare=SCALER).rows()
    for name, value in (("jax_transfer_guard", "disallow"), ("jax_numpy_rank_promotion", "raise")):
        with warnings.catch_warnings():
            before = getattr(jax.config, name)
            jax.config.update(name, value)
            try:
                assert linear(folds=2, prepare=SCALER).rows() == expected
            finally:
                jax.config.update(name, before)


@pytest.mark.heavy
def test_folds_go_to_any_executor_and_every_strategy():
    plain = linear(folds=3)
    same_tables(linear(folds=3, executor=futures.ThreadPoolExecutor(2)), plain)
    halved = linear(folds=3, halving=jd.search.Hyperband(first=1, factor=2))
    assert len(halved) == len(plain)
