"""The commands summary, find-lr and uncertainty, as a user meets them."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.__main__ import main
from jaxdeep.cli import arguments, compare, find_lr
from jaxdeep.cli.comparing import data as read_data
from jaxdeep.cli.comparing.question import question_of


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A data set of three classes that overlap a little, with test rows."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    arrays = {}
    for name, rows in (("", 300), ("_validation", 100), ("_test", 100)):
        y = rng.integers(0, 3, rows)
        arrays |= {f"x{name}": rng.normal(size=(rows, 4)) + 2 * np.eye(4)[y], f"y{name}": y}
    np.savez(folder / "small.npz", **arrays)
    return str(folder / "small.npz")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved model of images."""
    path = tmp_path_factory.mktemp("models") / "mine"
    model = jd.nn.serial(
        conv=jd.nn.conv(4, (3, 3)), bn=jd.nn.batch_norm(), flatten=jd.nn.flatten(), out=jd.nn.dense(2)
    )
    jd.save(path, model, *model.init(jax.random.key(0), jnp.ones((1, 6, 6, 1))))
    return str(path)


def refused(args, capsys):
    """The one line that wrong arguments get."""
    with pytest.raises(SystemExit) as info:
        main(args)
    assert info.value.code == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert err.startswith(f"jaxdeep {args[0]}: ")
    return err


def test_summary_of_the_network_that_is_trained(small, capsys):
    assert main(["summary", "--data", small]) == 0
    text = capsys.readouterr().out
    assert "hidden3" in text
    assert f"{4 * 100 + 100 + 2 * (100 * 100 + 100) + 100 * 3 + 3:,}" in text
    assert main(["summary"]) == 0
    assert "(1, 64)" in capsys.readouterr().out


def test_summary_of_a_saved_model(saved, capsys):
    assert main(["summary", "--model", saved, "--input", "6,6,1", "--dtype", "bfloat16"]) == 0
    text = capsys.readouterr().out
    assert "batch_norm" in text
    assert "(1, 6, 6, 4)" in text


def test_summary_of_the_winner_of_a_comparison(saved, tmp_path, capsys):
    model = jd.nn.serial(flatten=jd.nn.flatten(), logits=jd.nn.dense(10))
    jd.save(tmp_path / "model", model, *model.init(jax.random.key(0), jnp.ones((1, 64))))
    assert "say what its inputs are" in refused(["summary", "--model", str(tmp_path)], capsys)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "asked.json").write_text(json.dumps({"data": "digits"}))
    assert main(["summary", "--model", str(tmp_path)]) == 0
    assert "│ flatten │ flatten │ (1, 64) │" in capsys.readouterr().out


@pytest.mark.heavy
def test_summary_on_a_terminal_that_knows_ascii_only(small):
    command = [sys.executable, "-m", "jaxdeep", "summary", "--data", small]
    found = subprocess.run(
        command, capture_output=True, check=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    lines = found.stdout.decode("ascii").splitlines()
    assert lines[0].startswith("+--")
    assert not any("?" in line for line in lines)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--input", "3,0"], "--input: must be whole numbers of at least 1 with commas between them"),
        (["--input", "3"], "--input: goes with --model"),
        (["--dtype", "float32"], "--dtype: goes with --input"),
        (["--model", "SAVED"], "--model: say what its inputs are with --input SHAPE"),
        (["--model", "SAVED", "--input", "6,6,1", "--data", "digits"], "leave out one of them"),
        (
            ["--model", "SAVED", "--input", "5,5,1"],
            "(1, 5, 5, 1): out/kernel would be (100, 2), but was saved as (144, 2)",
        ),
        (
            ["--model", "SAVED", "--data", "digits"],
            "--data: the model refuses an input of shape (1, 8, 8",
        ),
        (["--model", "/absent"], "--model: there is no folder '/absent'"),
        (["--model", "/dev"], "--model: there is no '/dev/model.json'"),
        (["--model", "/dev/null", "--input", "3"], "--model: "),
        (["--data", "mnist"], "must be digits, fashion-mnist or a file ending in .npz, got 'mnist'"),
    ],
)
def test_summary_refuses(args, message, saved, capsys):
    args = [saved if arg == "SAVED" else arg for arg in args]
    assert message in refused(["summary", *args], capsys)


@pytest.mark.heavy
def test_find_lr_writes_what_it_found(small, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    args = ["find-lr", "--data", small, "--optimizer", "sgd", "--batch-size", "16", "--seeds", "3"]
    assert main([*args, "--low", "1e-4", "--steps", "150", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith("suggested learning rate: ")
    assert f"wrote {out}/learning_rate.png, {out}/learning_rate.json" in text.splitlines()[-1]
    assert (out / "learning_rate.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((out / "learning_rate.json").read_text())
    assert found["optimizer"] == "sgd"
    np.testing.assert_allclose(found["learning_rates"], np.geomspace(1e-4, 10, 150), rtol=1e-5)
    assert np.shape(found["losses"]) == (3, 150)
    assert found["suggestion"] == sorted(found["suggestions"])[1]
    assert f"{found['suggestion']:.2g}" in text
    # the same as by the function, for the same keys
    model = jd.nn.serial(
        flatten=jd.nn.flatten(),
        **{
            f"hidden{i}": jd.nn.dense(
                100, activation=jax.nn.relu, kernel_init=jd.nn.initializers.he_normal()
            )
            for i in (1, 2, 3)
        },
        logits=jd.nn.dense(3),
    )
    by_hand = jd.diagnostics.find_learning_rate(
        model,
        jd.datasets.load(small).train,
        loss=jd.losses.softmax_cross_entropy,
        optimizer=jd.optimizers.sgd,
        key=jax.random.split(jax.random.key(0), 3)[0],
        low=1e-4,
        steps=150,
        batch_size=16,
    )
    early = slice(0, 60)  # before the rates that amplify rounding
    np.testing.assert_allclose(
        np.array(found["losses"][0][early], float), by_hand.losses[early], rtol=1e-3
    )


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "lion"])
def test_compare_takes_what_find_lr_proposes(optimizer, small, tmp_path):
    def parsed(words):
        parser = arguments.Parser()
        commands = parser.add_subparsers()
        find_lr.add(commands)
        compare.add(commands)
        return parser.parse_args(words)

    data = shutil.copy(small, tmp_path / "my own.npz")
    args = parsed(["find-lr", "--data", str(data), "--optimizer", optimizer, "--batch-size", "16"])
    words = shlex.split(find_lr._trial(args, 3.1234e-5))
    assert words[:4] == ["python", "-m", "jaxdeep", "compare"]
    asked = parsed(words[3:])
    assert (asked.data, asked.batch_size) == (str(data), 16)
    asked.epochs, asked.budget, asked.seeds = 1, 1, 2
    (found,) = question_of(asked, read_data.read(asked)).entrants.values()
    assert found.optimizer == optimizer
    assert found.candidate.fixed == {"learning_rate": 3.1e-5}


@pytest.mark.slow
def test_find_lr_says_so_when_no_rate_helps(small, tmp_path, capsys):
    args = ["find-lr", "--data", small, "--low", "1e5", "--high", "1e6", "--optimizer", "sgd"]
    assert main([*args, "--steps", "20", "--seeds", "2", "--out", str(tmp_path)]) == 1
    assert "no rate from 100000 to 1e+06 lowered the loss" in capsys.readouterr().out
    found = json.loads((tmp_path / "learning_rate.json").read_text())
    assert found["suggestion"] is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--optimizer", "adm"], "unknown optimizer 'adm', choose from sgd, momentum, nag, adam"),
        (["--low", "1", "--high", "0.1"], "--low: must be below --high 0.1, got 1"),
        (["--low", "0"], "--low: must be a positive number, got '0'"),
        (["--steps", "19"], "--steps: must be at least 20, got 19"),
        (["--batch-size", "1258"], "--batch-size: must be at most the 1257 training rows, got 1258"),
        (["--out", "/dev/null/x"], "cannot make the folder /dev/null/x"),
        (["--data", "absent.npz"], "no such file: absent.npz"),
    ],
)
def test_find_lr_refuses(args, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert message in refused(["find-lr", *args], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
def test_uncertainty_writes_what_it_measured(small, tmp_path, capsys):
    out = tmp_path / "out"
    args = ["uncertainty", "--data", small, "--epochs", "8", "--samples", "40", "--show", "4"]
    assert main([*args, "--learning-rate", "0.01", "--dropout", "0.3", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for word in (
        "one pass",
        "mean of 40",
        "calibrated",
        "Brier",
        "mutual",
        "without the most uncertain",
    ):
        assert word in text
    names = ("reliability.png", "reliability_calibrated.png", "rows.csv", "results.json")
    assert f"wrote {', '.join(str(out / name) for name in names)}" in text.splitlines()[-1]
    for name in names[:2]:
        assert (out / name).read_bytes().startswith(b"\x89PNG")

    results = json.loads((out / "results.json").read_text())
    methods = results["methods"]
    assert list(methods) == [
        "one pass",
        "one pass, calibrated",
        "mean of 40",
        "mean of 40, calibrated",
    ]
    assert all(0.7 < row["accuracy"] <= 1 for row in methods.values())
    for name in ("one pass", "mean of 40"):  # a temperature changes no prediction
        assert methods[name]["accuracy"] == methods[f"{name}, calibrated"]["accuracy"]
        assert results["temperatures"][name] > 0
    with (out / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = jd.datasets.load(small).test[1]
    assert sorted(int(row["row"]) for row in rows) == list(range(100))
    assert all(labels[int(row["row"])] == int(row["label"]) for row in rows)
    right = np.array([row["label"] == row["predicted"] for row in rows])
    assert right.mean() == pytest.approx(methods["mean of 40"]["accuracy"])
    entropy = [float(row["entropy"]) for row in rows]
    assert entropy == sorted(entropy, reverse=True)
    assert all(0 <= float(row["mutual_information"]) <= float(row["entropy"]) for row in rows)
    assert len(results["most_uncertain"]) == 4
    assert results["most_uncertain"][0]["row"] == int(rows[0]["row"])
    np.testing.assert_allclose(
        [results["rejection"]["accuracy"][i] for i in (0, 50)], [right.mean(), right[50:].mean()]
    )


@pytest.mark.heavy
def test_uncertainty_that_is_interrupted_says_what_was_trained(small, tmp_path, capsys, monkeypatch):
    fit, told = jd.fit, []

    def interrupted(*args, **options):
        def interrupt(epochs):
            if not told:
                told.append(os.kill(os.getpid(), signal.SIGINT))

        return fit(*args, **options, callbacks=[interrupt])

    monkeypatch.setattr(jd, "fit", interrupted)
    args = ["uncertainty", "--data", small, "--epochs", "50", "--samples", "2", "--out", str(tmp_path)]
    assert main(args) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["epochs"], results["stopped"]) == (50, "interrupted")
    assert 1 <= results["epochs_done"] < 50
    said = f"interrupted after {results['epochs_done']} of 50 epochs"
    assert said in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("raises", [True, False])
def test_uncertainty_that_is_interrupted_at_once_leaves_nothing(
    raises, small, tmp_path, capsys, monkeypatch
):
    def interrupted(*args, **options):
        if raises:
            raise KeyboardInterrupt
        return types.SimpleNamespace(history={"loss": []}, stopped="interrupted")

    monkeypatch.setattr(jd, "fit", interrupted)
    assert main(["uncertainty", "--data", small, "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "jaxdeep: interrupted\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_uncertainty_without_test_rows_halves_the_validation_rows(tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100)
    arrays = {"x": rng.normal(size=(100, 3)) + y[:, None], "y": y}
    np.savez(tmp_path / "a.npz", **arrays, x_validation=arrays["x"][:21], y_validation=y[:21])
    args = ["uncertainty", "--data", str(tmp_path / "a.npz"), "--epochs", "1", "--samples", "2"]
    assert main([*args, "--out", str(tmp_path / "out")]) == 0
    assert "mean of 2" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"] == 10


@pytest.mark.heavy
def test_a_run_that_diverges_says_so(small, tmp_path, capsys):
    args = ["uncertainty", "--data", small, "--optimizer", "sgd", "--learning-rate", "1e30"]
    assert main([*args, "--epochs", "2", "--out", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("jaxdeep uncertainty: the loss was not finite at step")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dropout", "1"], "--dropout: must be above 0 and below 1, got '1'"),
        (["--dropout", "0"], "--dropout: must be a positive number, got '0'"),
        (["--samples", "0"], "--samples: must be a whole number of at least 1, got '0'"),
        (["--show", "many"], "--show: must be a whole number"),
        (["--optimizer", "adm"], "unknown optimizer 'adm', choose from sgd, momentum, nag, adam"),
        (["--learning-rate", "nan"], "must be a positive number, got 'nan'"),
        (["--batch-size", "1258"], "--batch-size: must be at most the 1257 training rows, got 1258"),
        (["--out", "/dev/null/x"], "cannot make the folder /dev/null/x"),
    ],
)
def test_uncertainty_refuses(args, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert message in refused(["uncertainty", *args], capsys)
    assert list(tmp_path.iterdir()) == []


OWN = {"train": "best_epoch", "compare": "verdict", "uncertainty": "temperatures"}


@pytest.mark.parametrize("command", ["compare", "uncertainty"])
@pytest.mark.parametrize("other", [*OWN, "mine", "begun"])
def test_results_of_another_command_are_not_overwritten(
    command, other, small, tmp_path, capsys, monkeypatch
):
    def begins(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(jd, "compare", begins)
    monkeypatch.setattr(jd, "fit", begins)
    (tmp_path / "picture.png").write_text("mine")
    file = tmp_path / "results.json"
    if other == "begun":  # a comparison that was interrupted
        file = tmp_path / "runs" / "asked.json"
        file.parent.mkdir()
    file.write_text(json.dumps({OWN.get(other, "data"): 1}))
    args = [command, "--data", small, "--out", str(tmp_path)]
    if command == (other if other != "begun" else "compare"):
        assert main(args) == 130
    else:
        holds = {"mine": f"a results.json that is not of {command}", "begun": "the results of compare"}
        said = holds.get(other, f"the results of {other}")
        assert f"--out: {tmp_path} holds {said}, which would be overwritten; name" in refused(
            args, capsys
        )
    assert file.exists()
    file.unlink()
    if command == "uncertainty":
        assert main(args) == 130  # a picture of the user's is no results of anyone


@pytest.mark.heavy
def test_what_a_command_writes_is_known_for_its_own(small, tmp_path, capsys):
    out = ["--data", small, "--epochs", "1", "--out", str(tmp_path)]
    for _ in range(2):
        assert main(["uncertainty", *out, "--samples", "2"]) == 0
    assert "holds the results of uncertainty" in refused(["compare", *out], capsys)
    out[-1] = str(tmp_path / "compared")
    quick = ["--optimizers", "sgd", "--budget", "1", "--seeds", "2", "--no-report"]
    for _ in range(2):
        assert main(["compare", *out, *quick]) == 0
    assert "holds the results of compare" in refused(["uncertainty", *out], capsys)


@pytest.mark.parametrize("command", ["summary", "find-lr", "uncertainty"])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as info:
        main([command, "--help"])
    assert info.value.code == 0
    text = capsys.readouterr().out
    assert f"examples:\n  python -m jaxdeep {command}\n" in text
    assert "JAXDEEP_DATA" in text


def test_the_help_of_find_lr_says_the_rule_of_the_range_test():
    from jaxdeep.diagnostics import learning_rate

    words = " ".join((find_lr._find.__doc__ or "").split())
    assert f"{100 * learning_rate.DESCENT:.0f} % of the way down" in words
    assert learning_rate.FACTOR == 3
    assert "suggest three times the rate" in words


@pytest.mark.parametrize("command", ["summary", "find-lr", "compare", "uncertainty"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_not_finite_are_refused_by_name(command, value, tmp_path, capsys):
    x, y = np.ones((40, 2)), np.zeros(40, int)
    x[[3, 5], 1] = value
    np.savez(tmp_path / "a.npz", x=x, y=y, x_validation=x[:3], y_validation=y[:3])
    message = refused([command, "--data", str(tmp_path / "a.npz")], capsys)
    assert "the inputs x must be finite, and 2 of the 40 train rows hold NaN" in message
