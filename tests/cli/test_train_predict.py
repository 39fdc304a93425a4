"""The commands train and predict: from a file of raw rows to a saved model, and back to a file."""

import contextlib
import csv
import datetime
import io
import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.__main__ import main
from jaxdeep.cli import predictions
from jaxdeep.tables import csv_files

ROWS = 240


def written(path, columns):
    """A CSV file of columns."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))
    return path


def people():
    rng = np.random.default_rng(0)
    age, job = rng.normal(40, 10, ROWS).round(1), rng.choice(["cook", "smith", ""], ROWS)
    days = np.datetime64("2024-01-01") + rng.integers(0, 400, ROWS)
    return {
        "id": [f"{i:04}" for i in range(ROWS)],
        "age": np.where(rng.random(ROWS) < 0.1, "", age.astype(str)),
        "job": job,
        "member": rng.choice(["true", "false"], ROWS),
        "day": days.astype(str),
        "nothing": [""] * ROWS,
        "income": np.where((age > 40) ^ (job == "cook"), "high", "low"),
        "grade": 3 + (age > 35) + (age > 45),
        "price": (3 * age + (job == "smith") + rng.normal(size=ROWS)).round(3),
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return written(tmp_path_factory.mktemp("tables") / "people.csv", people())


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    """A folder that train has written, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "deep" / "people"
    args = ["train", "--data", table, "--target", "income"]
    args += ["--drop", "id", "grade", "price", "--epochs", "3", "--out", out]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(list(map(str, args))) == 0
    return out, printed.getvalue()


def refused(args, capsys):
    """The one line that wrong arguments get."""
    with pytest.raises(SystemExit) as info:
        main(list(map(str, args)))
    assert info.value.code == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1, err
    assert err.startswith(f"jaxdeep {args[0]}: ")
    return err


def read(path):
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, map(list, zip(*rows)))) if rows else {name: [] for name in header}


def test_train_says_what_it_found_and_measures_what_it_held_out(trained):
    out, text = trained
    assert "144 rows; target 'income': 2 classes" in text  # of training, of which statistics are
    assert "day      date" in text
    assert "nothing has no known value: it is a constant" in text
    assert (
        "task: binary; recipe: textbook; rows: 144 for training, 48 for validation, 48 for test" in text
    )
    assert "epoch 3/3" in text
    assert "for comparison: always" in text
    assert f"python -m jaxdeep predict {out} new.csv" in text
    assert {"curves.png", "columns.txt", "results.json", "model.json"} <= {p.name for p in out.iterdir()}
    results = json.loads((out / "results.json").read_text())
    assert results["task"] == "binary"
    assert results["kinds"] == {
        "age": "number", "job": "category", "member": "boolean", "day": "date", "nothing": "number"
    }  # fmt: skip
    assert list(results["metrics"]) == ["validation", "test"]
    assert set(results["metrics"]["test"]) == {"loss", "accuracy", "auc"}
    assert len(results["history"]["val_loss"]) == 3


def test_the_parts_have_the_same_shares_of_classes_and_none_of_the_rows_of_another(trained, table):
    out, _ = trained
    model, params, state = jd.load(out)
    columns = model.layers["inputs"].traits.encodes
    targets = columns.encode(table)[1]
    parts = jd.datasets.split(np.arange(ROWS), (None, 0.2, 0.2), stratify=targets, seed=0)
    again = jd.tables.fit(
        table, "income", kinds=dict.fromkeys(("id", "grade", "price"), "drop"), rows=parts[0]
    )
    assert again == columns
    measured = json.loads((out / "results.json").read_text())["metrics"]
    rows = {name: np.asarray(cells)[parts[2]].tolist() for name, cells in people().items()}
    found = jd.predict(model, params, state, rows, output="class")
    assert np.mean(found == np.asarray(rows["income"])) == pytest.approx(measured["test"]["accuracy"])


def test_predict_writes_the_labels_and_probabilities_that_jd_predict_gives(trained, table, tmp_path):
    out, _ = trained
    args = ["predict", str(out), str(table), "--id", "id", "--probabilities", "--out"]
    assert main([*args, str(tmp_path / "p.csv")]) == 0
    found = read(tmp_path / "p.csv")
    assert list(found) == ["id", "prediction", "probability_high", "probability_low"]
    assert found["id"] == people()["id"]  # with its zeros
    model, params, state = jd.load(out)
    assert found["prediction"] == jd.predict(model, params, state, table, output="class").tolist()
    low = jd.predict(model, params, state, table, output="probability")[:, 0]
    assert np.float32(found["probability_low"]).tolist() == low.tolist()  # every bit of it
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_predict_needs_no_target_and_writes_parquet(trained, tmp_path, capsys):
    polars = pytest.importorskip("polars")
    columns = {name: people()[name] for name in ("job", "nothing", "age", "day", "member", "id")}
    raw = written(tmp_path / "new.csv", columns)
    for name in ("p.csv", "p.parquet"):
        args = ["predict", trained[0], raw, "--id", "id", "--probabilities", "--out", tmp_path / name]
        assert main(list(map(str, args))) == 0
    assert "'income' of 240 rows" in capsys.readouterr().out
    frame = polars.read_parquet(tmp_path / "p.parquet")
    texts = read(tmp_path / "p.csv")
    assert frame["id"].to_list() == texts["id"]
    assert frame["prediction"].to_list() == texts["prediction"]
    assert frame["probability_low"].to_list() == pytest.approx(
        list(map(float, texts["probability_low"]))
    )


def test_predict_reads_parquet_and_says_what_is_unknown(trained, tmp_path, capsys):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(people()).with_columns(job=polars.lit("pilot"), nothing=polars.lit(1.5))
    frame.write_parquet(tmp_path / "new.parquet")
    assert (
        main(["predict", str(trained[0]), f"{tmp_path}/new.parquet", "--out", f"{tmp_path}/p.csv"]) == 0
    )
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "column 'job': 100% of the cells have values that were not there" in err


@pytest.mark.few("text")
@pytest.mark.parametrize("kind", ["text", "number", "instant", "bytes", "by polars"])
def test_ids_come_out_as_they_came_in(kind, trained, tmp_path, monkeypatch):
    """A country "NA" was empty, blanks were cut, and instants of a Parquet file became texts."""
    polars = pytest.importorskip("polars")
    cells = [" 7", "NA", "None", "?", "007 ", "1.50", "", "x,y"]
    columns = {name: values[: len(cells)] for name, values in people().items()} | {"code": cells}
    out = tmp_path / "p.csv"
    if kind in ("text", "by polars"):
        if kind == "by polars":
            monkeypatch.setattr(predictions, "_has", lambda package: package == "polars")
        raw = written(tmp_path / "new.csv", columns)
        for name in ("p.csv", "p.parquet"):
            assert (
                main(
                    list(
                        map(str, ["predict", trained[0], raw, "--id", "code", "--out", tmp_path / name])
                    )
                )
                == 0
            )
        assert read(out)["code"] == cells
        assert polars.read_parquet(tmp_path / "p.parquet")["code"].to_list() == cells
        return
    pytest.importorskip("pyarrow", reason="without it a Parquet file is written with ids as texts")
    ids = {
        "number": polars.Series([2**60 + 1, None, *range(6)]),
        "bytes": polars.Series([b"a", None, *[b"caf\xc3\xa9"] * 6]),
        "instant": polars.Series([datetime.datetime(2024, 1, day, 5) for day in range(1, 8)] + [None]),
    }[kind]
    frame = polars.DataFrame(columns).with_columns(code=ids)
    frame.write_parquet(tmp_path / "new.parquet")
    args = ["predict", trained[0], tmp_path / "new.parquet", "--id", "code", "--out"]
    for name in ("p.csv", "p.parquet"):
        assert main(list(map(str, [*args, tmp_path / name]))) == 0
    found = polars.read_parquet(tmp_path / "p.parquet")["code"]
    assert found.dtype == ids.dtype
    assert found.to_list() == ids.to_list()
    assert read(out)["code"] == [
        "" if value is None else value.decode() if kind == "bytes" else str(value) for value in ids
    ]


def test_predict_of_no_rows_is_a_file_of_none(trained, tmp_path):
    columns = {name: [] for name in people() if name != "income"}
    raw = written(tmp_path / "new.csv", columns)
    args = ["predict", trained[0], raw, "--id", "id", "--out", tmp_path / "p.csv"]
    assert main(list(map(str, args))) == 0
    assert (tmp_path / "p.csv").read_text() == "id,prediction\n"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("target", "more", "task", "metric", "labels"),
    [
        ("grade", [], "multiclass", "accuracy", {"3", "4", "5"}),
        ("grade", ["--task", "regression"], "regression", "rmse", None),
        ("price", ["--recipe", "strong"], "regression", "r2", None),
        ("member", ["--recipe", "strong"], "binary", "auc", {"True", "False"}),
    ],
)
def test_every_task_goes_from_rows_to_labels(target, more, task, metric, labels, table, tmp_path):
    out, file = tmp_path / "run", tmp_path / "p.csv"
    args = ["train", "--data", table, "--target", target, "--epochs", "4", "--out", out, *more]
    assert main(list(map(str, [*args, "--drop", "id", "--kinds", "job=category"]))) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["task"] == task
    assert metric in results["metrics"]["test"]
    assert main(["predict", str(out), str(table), "--out", str(file)]) == 0
    found = read(file)["prediction"]
    if labels is None:
        values = np.array(list(map(float, found)))
        assert np.isfinite(values).all()
        assert people()[target].min() <= values.min() <= values.max() <= people()[target].max()
    else:
        assert set(found) <= labels


@pytest.mark.heavy
def test_rows_of_rare_classes_are_trained_on_and_files_without_a_test_part_train(tmp_path, capsys):
    columns = people()
    columns["income"] = [*columns["income"][:-1], "none"]
    args = [
        "train",
        "--data",
        written(tmp_path / "a.csv", columns),
        "--target",
        "income",
        "--epochs",
        "1",
    ]
    assert main(list(map(str, [*args, "--test", "0", "--out", tmp_path / "run"]))) == 0
    text = capsys.readouterr().out
    assert "1 row of classes with fewer rows than there are parts: for training only" in text
    assert "for comparison" not in text
    assert "id looks like an id, with 192 levels in 192 cells: --drop leaves it out" in " ".join(
        text.split()
    )


def test_broken_tables_are_refused_in_one_line(tmp_path, capsys):
    good = people()
    hole = {**good, "income": ["high", "low", "", *good["income"][3:]]}
    cases = {
        "hole": (hole, "argument --target: target 'income' is missing in row 2; leave"),
        "one": ({**good, "income": ["low"] * ROWS}, "'income' has a single class, 'low'"),
        "two": (
            {**good, "age": ["tall", *map(str, range(ROWS - 1))]},
            "argument --data: column 'age' holds numbers, 239 of 240 cells, and text, 'tall' in row 0",
        ),
        "same": ({**good, "income": ["14.62"] * ROWS}, "'income' has a single value, 14.62: there is"),
        "comma": (
            {**good, "income": [f"{i},5" for i in range(ROWS)]},
            "argument --target: target 'income' holds numbers with a decimal comma, such as '0,5'",
        ),
        "own": (
            {**good, "income": [f"{i} kg" for i in range(ROWS)]},
            "has 240 classes in 240 rows, and none has a row for every part: is it an id, or are these",
        ),
        "digits": (
            {**good, "income": [f"1_{i:03}" for i in range(ROWS)]},
            "not written plainly, such as '1_000': write plain numbers, as 12.5; if they are labels, "
            "declare it: --kinds income=category",
        ),
        "few": ({name: cells[:2] for name, cells in good.items()}, "argument --"),
    }
    for name, (columns, message) in cases.items():
        file = written(tmp_path / f"{name}.csv", columns)
        err = refused(["train", "--data", file, "--target", "income", "--out", tmp_path / "run"], capsys)
        assert message in err
    assert "(--kinds age=number)" in refused(
        ["train", "--data", tmp_path / "two.csv", "--target", "income", "--out", tmp_path / "run"],
        capsys,
    )
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("a,b\n1,x\n2,y\n3\n4,x\n")
    err = refused(["train", "--data", ragged, "--target", "b", "--out", tmp_path / "run"], capsys)
    assert "ragged.csv', line 4: 1 cells, where the first line names 2 columns" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--target", "incme"], "argument --target: target='incme' is no column of the table; 'income'"),
        (
            ["--kinds", "sex=category"],
            "argument --kinds: 'sex' is no column of the table; it has ['id', 'age'",
        ),
        (
            ["--drop", "jobs", "id"],
            "argument --drop: 'jobs' is no column of the table; 'job' is one; it has",
        ),
        (
            ["--target", "price", "--task", "binary"],
            "argument --task: task=binary does not fit 'price', which",
        ),
        (["--kinds", "age=numbr"], "argument --kinds: must be COLUMN=KIND with a kind of number"),
        (["--task", "multiclass"], "argument --task: task=multiclass does not fit 'income'"),
        (["--task", "regression"], "argument --target: target 'income' must be finite numbers"),
        (["--validation", "0"], "argument --validation: must be above 0"),
        (["--validation", "0.6", "--test", "0.4"], "argument --test: must leave rows to train on"),
        (["--batch-size", "1000"], "argument --batch-size: batch_size must be at most the 144"),
        (["--out", "TABLE"], "is there already and would be overwritten; name a new folder"),
        (["--out", "gs://bucket/run"], "argument --out"),
        (["--data", "/absent.csv"], "argument --data: there is no file '/absent.csv'"),
        (["--data", "/absent.xlsx"], "argument --data: "),
    ],
)
def test_train_refuses(more, message, table, tmp_path, capsys):
    more = [str(table) if word == "TABLE" else word for word in more]
    args = ["train", "--data", table, "--target", "income", "--out", tmp_path / "run", *more]
    assert message in refused(args, capsys)
    assert not (tmp_path / "run").exists()


def test_predict_refuses(trained, table, tmp_path, capsys):
    out = tmp_path / "p.csv"
    taken = tmp_path / "taken.csv"
    taken.write_text("mine\n")
    ragged = tmp_path / "ragged.csv"
    ragged.write_text(table.read_text() + "1,2\n")
    lacking = written(tmp_path / "lacking.csv", {"aeg": [1], "job": ["cook"], "day": ["2024-01-01"]})
    cases = [
        ([tmp_path, table, "--out", out], "argument DIR: there is no '"),
        ([trained[0], table, "--out", taken], "taken.csv is there already and would be overwritten"),
        ([trained[0], table, "--out", tmp_path / "p.xlsx"], "must end with .csv or .parquet"),
        ([trained[0], table, "--out", tmp_path / "no" / "p.csv"], "argument --out: there is no folder"),
        (
            [trained[0], table, "--out", out, "--id", "idd"],
            "argument --id: 'idd' is no column of the file; 'id' is",
        ),
        ([trained[0], table, "--out", out, "--id", "prediction"], "is written; rename it in the file"),
        ([trained[0], ragged, "--out", out], "line 242: 2 cells, where the first line names 9"),
        ([trained[0], lacking, "--out", out], "the file lacks the columns 'age', 'member', 'nothing'"),
        ([trained[0], "/absent.csv", "--out", out], "there is no file '/absent.csv'"),
    ]
    for args, message in cases:
        assert message in refused(["predict", *args], capsys)
    assert taken.read_text() == "mine\n"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "p."))]


def test_a_model_that_knows_no_columns_is_refused(table, tmp_path, capsys):
    jd.save(
        tmp_path / "plain",
        jd.nn.dense(1),
        {"kernel": np.float32([[1], [2]]), "bias": np.float32([1])},
        {},
    )
    err = refused(["predict", tmp_path / "plain", table, "--out", tmp_path / "p.csv"], capsys)
    assert "does not know the columns of a table; train one with jaxdeep train" in err


@pytest.mark.parametrize("command", ["train", "predict"])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as info:
        main([command, "--help"])
    assert info.value.code == 0
    assert f"examples:\n  python -m jaxdeep {command} " in capsys.readouterr().out


@pytest.mark.heavy
def test_predict_needs_no_library_of_frames(trained, table, tmp_path):
    """In a process where none can be imported."""
    code = (
        "import sys\n"
        "for name in ('pandas', 'polars', 'pyarrow', 'narwhals'): sys.modules[name] = None\n"
        "from jaxdeep.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    args = ["predict", trained[0], table, "--out", tmp_path / "p.csv"]
    subprocess.run([sys.executable, "-c", code, *map(str, args)], check=True, env=dict(os.environ))
    assert len(read(tmp_path / "p.csv")["prediction"]) == ROWS


@pytest.mark.heavy
def test_a_run_that_diverges_leaves_nothing(table, tmp_path, capsys):
    args = ["train", "--data", table, "--target", "price", "--learning-rate", "1e30", "--epochs", "2"]
    assert main(list(map(str, [*args, "--drop", "id", "--out", tmp_path / "run"]))) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert err.startswith("jaxdeep train: ")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_interrupted_at_once_leaves_nothing(table, tmp_path, capsys, monkeypatch):
    def interrupted(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(jd, "fit", interrupted)
    args = ["train", "--data", table, "--target", "income", "--drop", "id", "--out", tmp_path / "run"]
    assert main(list(map(str, args))) == 130
    assert capsys.readouterr().err == "jaxdeep: interrupted\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
def test_a_run_that_is_told_to_end_keeps_what_it_has_trained(table, tmp_path):
    args = ["train", "--data", table, "--target", "income", "--drop", "id", "--recipe", "strong"]
    args += ["--epochs", "5000", "--out", tmp_path / "run"]
    command = [sys.executable, "-m", "jaxdeep", *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    said = []
    with subprocess.Popen(command, env=dict(os.environ), **pipes) as process:
        for line in process.stdout:
            if line.startswith("epoch") and not any(of.startswith("epoch") for of in said):
                process.send_signal(signal.SIGTERM)
            said.append(line)
    assert any(line.startswith("interrupted: ends after the epochs at hand") for line in said)
    assert process.returncode == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["stopped"] == "interrupted"
    assert 1 <= len(results["history"]["loss"]) < 5000
    assert jd.load(tmp_path / "run")


def test_summary_knows_the_inputs_of_its_model(trained, table, tmp_path, capsys):
    args = ["summary", "--model", trained[0]]
    assert main(list(map(str, args))) == 0
    shown = capsys.readouterr().out
    assert "(1, 1)" in shown
    assert main(list(map(str, [*args, "--data", table]))) == 0
    assert capsys.readouterr().out == shown
    other = written(tmp_path / "other.csv", {"age": [3]})
    for more, words in (
        (["--data", other], "argument --data: the file lacks"),
        (["--data", "no.csv"], "argument --data: there is no file 'no.csv'"),
        (["--input", "3"], "argument --input: is for arrays, and the model reads a table"),
    ):
        assert words in refused([*args, *more], capsys)


def test_predict_takes_the_winner_of_a_comparison(trained, table, tmp_path):
    compared = tmp_path / "compared"
    shutil.copytree(trained[0], compared / "model")
    for name, folder in (("one.csv", trained[0]), ("other.csv", compared)):
        assert main(["predict", str(folder), str(table), "--out", str(tmp_path / name)]) == 0
    assert read(tmp_path / "one.csv") == read(tmp_path / "other.csv")


def test_its_results_are_not_overwritten_by_another_command(trained, capsys):
    with pytest.raises(SystemExit):
        main(["uncertainty", "--out", str(trained[0])])
    assert f"{trained[0]} holds the results of train, which" in capsys.readouterr().err


def test_predict_reads_its_file_once(trained, table, tmp_path, monkeypatch):
    read_blocks = []
    columns_of = csv_files._columns
    monkeypatch.setattr(
        csv_files, "_columns", lambda *args: read_blocks.append(args) or columns_of(*args)
    )
    args = ["predict", str(trained[0]), str(table), "--id", "id", "--out", str(tmp_path / "p.csv")]
    assert main(args) == 0
    assert len(read_blocks) == 2  # all rows, and none


@pytest.mark.heavy
def test_a_command_loads_no_other():
    code = (
        "import sys; from jaxdeep.cli import main\n"
        "try: main(['predict', '--help'])\n"
        "except SystemExit: print(*(f'jaxdeep.cli.{n}' in sys.modules for n in ('predict', 'compare')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "True False"


@pytest.mark.heavy
@pytest.mark.few(1)
@pytest.mark.parametrize(("offset", "unit"), [(1e9, 0.25), (0.0, 1e60), (0.0, 1e-60)])
def test_numbers_that_float32_cannot_tell_are_standardised_and_come_back(tmp_path, capsys, offset, unit):
    y = offset + unit * (np.arange(ROWS) + 0.5)
    file = written(tmp_path / "t.csv", {"x": np.arange(1.0 * ROWS), "y": list(map(repr, y.tolist()))})
    args = ["train", "--data", file, "--target", "y", "--out", tmp_path / "m", "--epochs", "40"]
    assert main(list(map(str, args))) == 0
    assert "losses and errors are in its standard deviations of" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "m"), str(file), "--out", str(tmp_path / "p.csv")]) == 0
    found = np.array(read(tmp_path / "p.csv")["prediction"], float)
    assert np.abs(found - y).max() < y.std()  # a constant is further off, and so is float32
    assert len(set(found)) > 200


@pytest.mark.few(4)
@pytest.mark.parametrize("library", ["pyarrow", "polars"])
@pytest.mark.parametrize(
    "y", [[-1, 2**63 + 5], [2**63 + 1, 2**63 + 5], [0.5, 2**53 + 1], [1, 2.5], [1, 2]]
)
def test_predict_writes_labels_with_all_digits(y, library, tmp_path, monkeypatch):
    polars = pytest.importorskip(library) and pytest.importorskip("polars")
    monkeypatch.setattr(predictions, "_has", lambda package: package == library)
    rows = {"x": [1.0, 2.0] * 3, "y": y * 3}
    columns = jd.tables.fit(rows, "y", kinds={"y": "category"})
    model = jd.nn.serial(columns=columns.layer(), out=jd.nn.dense(1))
    params, state = model.init(jax.random.key(0), columns.encode_inputs(rows))
    jd.save(tmp_path / "m", model, params, state)
    raw = written(tmp_path / "new.csv", rows)
    for name in ("p.csv", "p.parquet"):
        args = ["predict", tmp_path / "m", raw, "--probabilities", "--out", tmp_path / name]
        assert main(list(map(str, args))) == 0
    labels = jd.predict(model, params, state, rows, output="class").tolist()
    assert set(labels) == set(y)
    assert read(tmp_path / "p.csv")["prediction"] == list(map(str, labels))
    found = polars.read_parquet(tmp_path / "p.parquet")["prediction"].to_list()
    assert found == (list(map(str, labels)) if max(y) > 2**53 else labels)
