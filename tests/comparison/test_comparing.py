"""Tests of jaxdeep.compare: the protocol, what it refuses, and that it goes on where it was."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep.comparison import Candidate
from jaxdeep.comparison.candidate import trials, width
from jaxdeep.comparison.catalogue import Made
from jaxdeep.comparison.plan import named_candidates
from jaxdeep.comparison.protocol import best_trials
from jaxdeep.comparison.report.runs import trials_of
from jaxdeep.comparison.tolerance import tolerance_of
from jaxdeep.search.tables.table import Table

X = np.random.default_rng(0).normal(size=(160, 4)).astype(np.float32)
Y = (X @ np.array([[1.0], [-1.0], [0.5], [0.0]], np.float32)).astype(np.float32)
OPTIONS = {"model": jd.nn.dense(1), "data": (X, Y), "loss": jd.losses.mse, "progress": False}
SMALL = OPTIONS | {"budget": 3, "seeds": 2, "epochs": 2}


@pytest.fixture(scope="module")
def answer():
    return jd.compare(["sgd", "momentum"], **SMALL | {"seeds": 6})


@pytest.mark.heavy
def test_every_candidate_has_the_same_budget(answer):
    epochs = dict.fromkeys(("sgd", "momentum"), 0)
    for point, result in zip(answer.tuning.points, answer.tuning.results):
        epochs[point["candidate"]] += result.epochs
    assert epochs == {"sgd": 6, "momentum": 6}
    assert len(answer.final) == 12


def test_the_first_trial_is_the_default(answer):
    own = [point for point in answer.tuning.points if point["candidate"] == "momentum"]
    assert (own[0]["learning_rate"], own[0]["momentum"]) == (0.01, 0.9)
    assert own[1]["learning_rate"] != own[2]["learning_rate"]
    assert {point["momentum"] for point in own} == {0.9}  # three trials tune the rate alone


def test_the_best_trial_on_the_validation_rows_is_chosen(answer):
    for name in answer.order:
        rows = [row for row in answer.tuning.rows() if row["candidate"] == name]
        best = min(rows, key=lambda row: row["val_loss"])
        assert answer.chosen[name]["learning_rate"] == best["learning_rate"]
        finals = {point["learning_rate"] for point in answer.final.points if point["candidate"] == name}
        assert finals == {best["learning_rate"]}


def test_a_run_whose_metric_is_nan_at_the_end_is_not_the_best(answer):
    def lost(table, best):
        """The table with NaN after the first epoch, which was the best one, in these rows."""
        results = [
            result._replace(history={**result.history, "val_loss": np.array([-1.0, np.nan])})
            if i in best
            else result
            for i, result in enumerate(table.results)
        ]
        return Table(table.points, results)

    name, seed = answer.best()
    places = {(point["candidate"], point["seed"]): i for i, point in enumerate(answer.final.points)}
    final = lost(answer.final, [places[name, seed]])
    assert dataclasses.replace(answer, final=final).best()[1] not in (None, seed)
    final = lost(answer.final, places.values())
    assert dataclasses.replace(answer, final=final).best() == (name, 0)

    chosen = best_trials(answer.plan, answer.tuning)
    first = {"sgd": 0, "momentum": 3}
    tuning = lost(answer.tuning, [first[of] + i for of, i in chosen.items()])
    left = best_trials(answer.plan, tuning)
    assert all(left[of] != chosen[of] for of in chosen)
    again = dataclasses.replace(answer, tuning=tuning)
    for of, tried in trials_of(again).items():
        assert [trial.failed for trial in tried] == [i == chosen[of] for i in range(3)]
        rest = [result.value("val_loss") for result in tuning.results[first[of] :][:3]]
        near = np.array(rest) <= 1.01 * np.nanmin(rest)
        assert tolerance_of(answer.plan, tuning, of).share == near.mean()


def test_final_runs_are_those_of_fit_judged_on_the_test_rows(answer):
    parts = answer.plan.parts
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 3)
    rate = answer.chosen["sgd"]["learning_rate"]
    result = jd.fit(
        OPTIONS["model"],
        parts.train,
        loss=jd.losses.mse,
        optimizer=jd.optimizers.sgd(rate),
        epochs=2,
        key=key,
        progress=False,
    )
    value = result.evaluate(parts.test)["loss"]
    assert answer.values["sgd"][3] == value
    model, params, _ = answer.trained("sgd", 3)
    chex_equal = jax.tree.map(np.array_equal, params, result.params)
    assert all(jax.tree.leaves(chex_equal))
    assert model is OPTIONS["model"]


def test_parts_share_no_rows_and_seeds_are_fresh(answer):
    parts = answer.plan.parts
    rows = [set(map(tuple, np.asarray(part[0]).tolist())) for part in parts]
    assert sum(map(len, rows)) == len(X) == len(set.union(*rows))
    tuning, final = answer.plan.keys
    keys = [jax.random.key_data(jax.random.fold_in(tuning, s)).tolist() for s in range(3)]
    assert all(jax.random.key_data(jax.random.fold_in(final, s)).tolist() not in keys for s in range(10))


def test_pairs_begin_with_the_same_networks_and_order(answer):
    # a rate of nearly 0 leaves each candidate's network at its start
    still = {"a": jd.optimizers.sgd(1e-30), "b": jd.optimizers.adam(1e-30)}
    found = jd.compare(still, **SMALL | {"budget": 1})
    np.testing.assert_array_equal(found.values["a"], found.values["b"])
    assert found.pairs[0].p == 1.0


def test_one_optimizer_under_two_names_does_not_win():
    both = {"one": jd.optimizers.adam, "other": "adam"}
    found = jd.compare(both, **SMALL | {"seeds": 6})
    assert found.winners == ("one", "other")
    np.testing.assert_array_equal(found.values["one"], found.values["other"])


def test_test_rows_are_not_touched_before_the_end():
    spoilt = (np.full((20, 4), 1e30, np.float32), np.full((20, 1), -1e30, np.float32))
    one = jd.compare(["sgd"], **SMALL, validation=0.2, test=spoilt)
    other = jd.compare(["sgd"], **SMALL, validation=0.2, test=(X[:20], Y[:20]))
    assert one.chosen == other.chosen
    assert one.tuning.rows() == other.tuning.rows()
    assert one.final.rows() == other.final.rows()


@pytest.mark.heavy
def test_schedules_are_those_of_all_but_schedule_free():
    peaks = []

    def schedule(peak, steps):
        peaks.append(steps)
        return jd.schedules.cosine(peak, steps)

    free = Candidate(
        lambda hp: optax.sgd(hp["learning_rate"]), {"learning_rate": [0.1, 0.2]}, scheduled=False
    )
    found = jd.compare({"sgd": "sgd", "free": free}, **SMALL, schedule=schedule)
    assert set(peaks) == {2 * 3}  # 96 rows in batches of 32, two epochs
    assert found.final.history(0)["learning_rate"][-1] < found.chosen["sgd"]["learning_rate"]
    named = jd.compare(["sgd"], **SMALL, schedule="cosine")
    assert named.values["sgd"].tolist() == found.values["sgd"].tolist()
    lowered = jd.compare(["sgd"], **SMALL | {"epochs": 4}, schedule="performance")
    assert lowered.about["schedule"] == "performance"


@pytest.mark.heavy
def test_a_candidate_may_have_a_schedule_of_its_own():
    sgd = named_candidates(["sgd"])["sgd"]
    own = {name: sgd._replace(schedule=name) for name in ("constant", "cosine")}
    found = jd.compare(own, **SMALL, schedule="exponential")
    for name, values in found.values.items():
        alone = jd.compare(["sgd"], **SMALL, schedule=name)
        assert values.tolist() == alone.values["sgd"].tolist()
    assert found.about["schedule"] == "of each candidate"
    with pytest.raises(ValueError, match=r"candidates\['a'\].schedule must be one of constant"):
        jd.compare({"a": sgd._replace(schedule="cosin")}, **SMALL)


def test_progress_says_what_each_stage_costs(capsys):
    jd.compare(["sgd", "adam"], **SMALL | {"progress": True})
    lines = capsys.readouterr().out.splitlines()
    tuning, final = "2 candidates × 3 trials × 2 epochs", "2 candidates × 2 seeds × 2 epochs"
    assert lines[0] == f"tuning: {tuning} = 12 epochs; then final: {final} = 8 epochs"
    assert sum(line.startswith(f"final: {final} = 8 epochs; 0:") for line in lines) == 1


@pytest.mark.heavy
def test_a_comparison_goes_on_and_grows(tmp_path):
    first = jd.compare(["sgd", "adam"], **SMALL, checkpoint=tmp_path)
    again = jd.compare(["sgd", "adam"], **SMALL, checkpoint=tmp_path)
    more = jd.compare(["sgd", "adam"], **SMALL | {"budget": 5, "seeds": 4}, checkpoint=tmp_path)
    whole = jd.compare(["sgd", "adam"], **SMALL | {"budget": 5, "seeds": 4})
    assert again.final.rows() == first.final.rows()
    assert more.final.rows() == whole.final.rows()
    assert more.verdict == whole.verdict
    options = SMALL | {"budget": 5, "seeds": 4, "checkpoint": tmp_path}
    for changes, message in (
        ({"batch_size": 16}, "batch_size was 32 and is 16"),
        ({"budget": 4}, "budget was 5 and is 4.*may grow"),
        ({"budget": 12}, "budget was 5 and is 12, which tunes more hyperparameters"),
        (
            {"test": (X[:32], Y[:32]), "validation": (X[32:64], Y[32:64])},
            "rows were|test rows are others",
        ),
        ({"schedule": "cosine"}, "schedule was constant and is cosine"),
        ({"test": 0.3}, "rows were"),
        ({"candidates": ["adam"]}, "sgd"),
    ):
        with pytest.raises(ValueError, match=message):
            jd.compare(**{"candidates": ["sgd", "adam"], **options, **changes})
    assert jd.compare(["sgd", "adam"], **options, worth=0.5).about["worth"] == 0.5


@pytest.mark.heavy
def test_a_refused_question_leaves_the_directory_to_the_one_that_is_there(tmp_path):
    options = SMALL | {"checkpoint": tmp_path, "schedule": "cosine"}
    first = jd.compare(["sgd"], **options)
    with pytest.raises(ValueError, match="epochs was 2 and is 3, and the schedule"):
        jd.compare(["sgd"], **options | {"epochs": 3})
    wider = jd.nn.serial(a=jd.nn.dense(2), b=jd.nn.dense(1))
    with pytest.raises(ValueError, match="model"):
        jd.compare(["sgd"], **options | {"seeds": 4, "model": wider})
    assert jd.compare(["sgd"], **options).final.rows() == first.final.rows()


@pytest.mark.heavy
def test_other_test_rows_are_another_question(tmp_path):
    options = SMALL | {"checkpoint": tmp_path, "validation": 0.2}
    jd.compare(["sgd"], **options, test=(X[:20], Y[:20]))
    with pytest.raises(ValueError, match="the test rows are others"):
        jd.compare(["sgd"], **options, test=(X[20:40], Y[20:40]))


def test_what_diverges_ranks_last_and_is_said():
    wild = Candidate(lambda hp: jd.optimizers.sgd(1e6), {}, {})
    found = jd.compare({"wild": wild, "sgd": "sgd"}, **SMALL)
    assert found.order == ("sgd", "wild")
    assert any("wild: none of its trials" in caution for caution in found.cautions)
    assert found.winners == ("sgd",)
    assert np.isnan(found.rows()[1]["mean"])
    lost = jd.compare({"wild": wild}, **SMALL)
    assert lost.verdict == "None of the candidates could be trained."
    assert "wild" in str(lost)


@pytest.mark.heavy
def test_the_schedule_is_as_long_as_the_run_whatever_its_batches():
    def build(hp, **own):
        return {"optimizer": jd.optimizers.sgd(hp["learning_rate"]), **own}

    space = {"learning_rate": jd.search.log_uniform(1e-3, 1e-1)}
    own = {
        "shared": Candidate(build, space),
        "small": Candidate(lambda hp: build(hp, batch_size=8), space),
        "whole": Candidate(lambda hp: build(hp, batch_size=64, drop_remainder=True), space),
    }
    found = jd.compare(own, **SMALL | {"epochs": 4, "budget": 1}, schedule="cosine")
    steps = {"shared": (3, 12), "small": (12, 48), "whole": (1, 4)}  # an epoch, a run; of 96 rows
    for name, (each, run) in steps.items():
        (rates,) = [
            result.history["learning_rate"]
            for point, result in zip(found.tuning.points, found.tuning.results)
            if point["candidate"] == name
        ]
        (peak,) = {point["learning_rate"] for point in found.plan.points[name]}
        last = each * np.arange(1, 5) - 1
        np.testing.assert_allclose(rates, peak * (1 + np.cos(np.pi * last / run)) / 2, rtol=1e-4)
    assert found.about["schedule"] == "cosine"


@pytest.mark.heavy
def test_a_schedule_that_is_too_long_for_the_runs_is_said_by_its_name():
    short = {**SMALL, "epochs": 1, "batch_size": 10_000}
    words = r"schedule='one-cycle' does not fit runs of 1 × 1 = 1 steps \(epochs × batches\): trans"
    with pytest.raises(ValueError, match=rf"^{words}"):
        jd.compare(["sgd"], **short, schedule="one-cycle")
    own = {"a": jd.comparison.named("sgd")._replace(schedule="one-cycle")}
    with pytest.raises(ValueError, match=rf"^candidates\['a'\]: {words}"):
        jd.compare(own, **short)


def test_schedules_of_some_candidates_are_said():
    sgd = named_candidates(["sgd"])["sgd"]
    found = jd.compare({"a": sgd._replace(schedule="cosine"), "b": sgd}, **SMALL | {"budget": 1})
    assert found.about["schedule"] == "constant (a: cosine)"


def test_data_that_are_not_finite_are_refused_before_training():
    holes, odd = X.copy(), Y.copy()
    holes[:20, 0], odd[3] = np.nan, np.inf
    options = {key: value for key, value in SMALL.items() if key != "data"}
    for data, test, message in (
        ((holes, Y), None, "data must have finite inputs"),
        ((X, Y), (holes, Y), "test must have finite inputs, and 20 of its 160 rows"),
        ((X, Y), (X, odd), "test must have finite targets, and 1 of its 160 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            jd.compare(["sgd"], data=data, test=test, **options)
    imputer = jd.preprocessing.imputer()
    filled = jd.nn.serial(jd.preprocessing.fitted(imputer, imputer.fit(holes)), jd.nn.dense(1))
    found = jd.compare(["sgd"], data=(holes, Y), **options | {"model": filled, "budget": 1, "epochs": 1})
    assert np.isfinite(found.values["sgd"]).all()


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ({}, "must give an optimizer"),
        (Candidate(lambda hp: None), "must give an optimizer, or a dict .* got None"),
        ({"optimizer": optax.sgd(0.1), "lose": 1}, "gives 'lose', which is no argument of fit; did you"),
        ({"optimizer": optax.sgd(0.1), "metrics": {}}, "must not decide about metrics"),
        ({"optimizer": optax.sgd(0.1), "epochs": 3}, "must not decide about epochs"),
        (lambda rate, **_: optax.sgd(rate), "a function whose first argument is learning_rate"),
    ],
)
def test_candidates_that_make_no_run_are_refused_by_name(candidate, message):
    with pytest.raises((ValueError, TypeError), match=r"candidates\['a'\] .*" + message):
        jd.compare({"a": candidate}, **SMALL)


def test_what_judges_is_one_number_and_there_is_a_loss():
    matrix = {"cm": jd.metrics.confusion_matrix(classes=2)}
    with pytest.raises(ValueError, match=r"of 'cm' is of shape \(2, 2\)"):
        jd.compare(["sgd"], **SMALL, metrics=matrix, metric="cm", mode="max")
    with pytest.raises(ValueError, match="compare needs a loss="):
        jd.compare(["sgd"], **SMALL | {"loss": None})
    with pytest.raises(TypeError, match="validation must be a pair"):
        jd.compare(["sgd"], **SMALL, validation=np.ones(3))
    with pytest.raises(ValueError, match="arrays of test must have the same number of rows"):
        jd.compare(["sgd"], **SMALL, test=(X[:5], Y[:4]))


@pytest.mark.parametrize("given", ["test", "validation"])
def test_no_part_is_drawn_from_rows_whose_targets_a_table_has_seen(given):
    table = {"id": ["a", "b", "c", "d"] * 10, "x": np.arange(40.0), "y": [0, 1, 1, 1, 0] * 8}
    columns = jd.tables.fit(table, "y", kinds={"id": "category"}, target_encoding=["id"])
    data = columns.encode(table)
    model = jd.nn.serial(columns.layer(), jd.nn.dense(1))
    own = {"model": model, "loss": jd.losses.sigmoid_cross_entropy, "data": data, given: data}
    other = {"test": "validation", "validation": "test"}[given]
    with pytest.raises(
        ValueError, match=rf"^{other}=0\.2 would hold out .* layer 'columns0' .* as {other}=$"
    ):
        jd.compare(["sgd", "adam"], **SMALL | own)


@pytest.mark.heavy
def test_test_rows_that_were_trained_on_are_said():
    own = {"train": (X[:100], Y[:100]), "validation": (X[100:130], Y[100:130])}
    plan = {"data": own["train"], "validation": own["validation"]}
    said = [
        jd.compare(["sgd"], **SMALL | plan | {"test": (X[first:last], Y[first:last]), "budget": 1})
        for first, last in ((70, 110), (110, 150), (120, 160))
    ]
    words = [[c for c in found.cautions if "test rows" in c] for found in said]
    assert words[0][0].startswith("75% of the test rows stand among those that are trained on, too")
    assert [len(one) for one in words] == [1, 0, 0]
    sums = [found.about["checksums"] for found in said]
    assert sums[0]["train"] == sums[1]["train"]
    assert sums[0]["test"] != sums[1]["test"]


def test_results_are_the_same_bits_but_for_times(tmp_path):
    texts = []
    for name in ("a", "b"):
        jd.compare(["sgd", "adam"], **SMALL).save(tmp_path / name)
        results = json.loads((tmp_path / name / "results.json").read_text())
        results.pop("times")
        texts.append(json.dumps(results))
    assert texts[0] == texts[1]
    lines = (tmp_path / "a" / "trials.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3 + 2 * 2
    assert lines[0].startswith("stage,candidate,seed,learning_rate")
    names = lines[0].split(",")
    assert len(set(names)) == len(names)


@pytest.mark.heavy
def test_a_best_point_beyond_its_space_is_said():
    far = Candidate(
        Made(jd.optimizers.sgd),
        {"learning_rate": jd.search.log_uniform(1e-7, 1e-6)},
        {"learning_rate": 0.1},
    )
    answer = jd.compare({"far": far, "near": jd.optimizers.sgd(0.1)}, **SMALL)
    assert any("far: the best learning_rate, 0.1, is outside of its space" in c for c in answer.cautions)


@pytest.mark.heavy
def test_the_text_fits_eighty_columns():
    found = jd.compare(["sgd", "schedule_free_adamw", "nadam"], **SMALL | {"seeds": 2})
    assert max(map(len, str(found).splitlines())) <= 80
    assert "2 seeds: no difference can be sure below 6" in str(found)
    assert "Holds for this network" in str(found)


def test_trials_of_equal_spaces_are_equal_and_extend():
    adam = named_candidates(["adam"])["adam"]
    points = trials("a", adam, 16, seed=0)
    assert [dict(point) for point in trials("a", adam, 24, seed=0)][:16] == points
    assert {name for name in points[0] if len({p[name] for p in points}) > 1} == {"learning_rate", "b1"}
    assert [width(n) for n in (4, 16, 32, 100)] == [1, 2, 3, 1_000_000]


@pytest.mark.parametrize(
    ("candidates", "changes", "message"),
    [
        (["adm"], {}, "unknown optimizer 'adm'; did you mean adam"),
        (["lbfgs"], {}, "lbfgs.* searches along a line"),
        (["adam", "adam"], {}, "different names"),
        ([], {}, "one at least"),
        ("adam", {}, "candidates must be names"),
        ({"a": 3}, {}, r"candidates\['a'\]"),
        ({"a": (lambda hp: optax.sgd(0.1), {"rate": [1, 2]}, {"other": 1})}, {}, "pair"),
        (["sgd"], {"metric": "accuracy"}, "metric must be one of loss"),
        (["sgd"], {"seeds": 1}, "seeds must be at least 2"),
        (["sgd"], {"budget": 0}, "budget"),
        (["sgd"], {"schedule": "cosin"}, "schedule must be one of constant, cosine"),
        (["sgd"], {"worth": -1.0}, "worth"),
        (["sgd"], {"validation": 0.6, "test": 0.5}, "leave rows to train on"),
        (["sgd"], {"test": 1.5}, "test"),
        (["sgd"], {"test": X}, r"test must be a pair \(x, y\)"),
        (["sgd"], {"test": (X[:, :2], Y)}, r"test must have rows like those of data: x of shape \(4,\)"),
        (["sgd"], {"optimizer": optax.sgd(0.1)}, "optimizer is what candidates"),
        ({"a": (lambda hp: optax.sgd(hp["lrr"]), {"rate": [0.1]})}, {}, "'lrr'; it has rate"),
        ({"a": {"optimizer": optax.sgd(0.1), "loss": jd.losses.mae}}, {}, "loss of its own"),
        ({"a": {"optimizer": optax.sgd(0.1), "early_stopping": 1}}, {}, "early_stopping"),
        (["sgd"], {"metrics": [1]}, "metrics must be a dict"),
        (["sgd"], {"epochs": "two"}, "epochs"),
        (["sgd"], {"epoch": 2}, "did you mean 'epochs'"),
        (["sgd"], {"model": None}, "model"),
        ({"a": optax.sgd(0.1)}, {"schedule": "cosine"}, "needs a learning_rate"),
        ({"a": lambda learning_rate: {"optimizer": optax.sgd(0.1), "epochs": 3}}, {}, "epochs"),
        ({"a": Candidate(jd.optimizers.sgd, {"seed": [1, 2]})}, {}, "seed"),
        ({"a": Candidate(jd.optimizers.sgd, {"b": [1, 2]}, {"c": 1})}, {}, "default must have"),
        (["adabelif"], {}, "unknown optimizer 'adabelif'; did you mean adabelief"),
        (["sgd"], {"early_stopping": jd.train.EarlyStopping()}, "early_stopping must be left out: all"),
        (
            ["sgd"],
            {"data": (X, np.zeros(160, int))},
            "two classes at least; all 96 rows have 0",
        ),
        ({"a": Candidate(jd.optimizers.sgd, [1, 2])}, {}, r"candidates\['a'\].space must be a dict"),
        (
            {"a": Candidate(jd.optimizers.sgd, includes="adam")},
            {},
            "includes must be a sequence of",
        ),
        (
            {"a": Candidate(lambda hp: 1 / 0)},
            {},
            r"candidates\['a'\] builds nothing of {}: Zero",
        ),
        ({"a": Candidate(lambda: optax.sgd(0.1))}, {}, r"candidates\['a'\] builds .* 0 positional arg"),
        (
            {"a": Candidate(Made(jd.optimizers.sgd), {"learning_rate": [1, 2]}, {"learning_rate": "x"})},
            *(
                {},
                r"candidates\['a'\] builds nothing of {'learning_rate': 'x'}: learning_rate must",
            ),
        ),
    ],
)
def test_what_is_refused(candidates, changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        jd.compare(candidates, **SMALL | changes)


def test_muon_leaves_the_last_layer_to_adam():
    model = jd.nn.serial(hidden=jd.nn.dense(8), out=jd.nn.dense(1))
    candidate = named_candidates(["muon"], model=model)["muon"]
    numbers = candidate.build.factory.keywords["muon_weight_dimension_numbers"]
    params, _ = model.init(jax.random.key(0), X[:1])
    assert isinstance(numbers(params)["hidden"]["kernel"], optax.contrib.MuonDimensionNumbers)
    assert numbers(params)["hidden"]["bias"] is None
    assert numbers(params)["out"]["kernel"] is None


@pytest.mark.heavy
@pytest.mark.parametrize("name", jd.comparison.names())
def test_every_named_optimizer_trains(name):
    model = jd.nn.serial(hidden=jd.nn.dense(8, activation=jnp.tanh), out=jd.nn.dense(1))
    found = jd.compare([name], **SMALL | {"model": model, "epochs": 4})
    assert np.isfinite(found.values[name]).all()
    assert found.values[name].mean() < 1.5 * float(np.var(Y))
