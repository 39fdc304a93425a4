"""The command line, as a user meets it."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxdeep.__main__ import main


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A data set on which everything learns at once."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    np.savez(folder / "small.npz", x=rng.normal(size=(200, 4)) + 3 * np.eye(4)[y], y=y)
    return str(folder / "small.npz")


@pytest.mark.heavy
def test_the_table_the_picture_and_the_results(small, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    args = ["compare", "--data", small, "--optimizers", "sgd:0.1,nag,adam", "--epochs", "3"]
    assert main([*args, "--seeds", "2", "--batch-size", "16", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for word in ("sgd:0.1", "nag", "adam", "training", "validation", "best", "seconds"):
        assert word in text
    assert f"wrote {out}/curves.png, {out}/results.csv, {out}/results.json" in text.splitlines()[-1]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")

    results = json.loads((out / "results.json").read_text())
    assert results["seeds"] == 2
    row = results["optimizers"]["sgd:0.1"]
    assert row["learning_rate"] == 0.1
    accuracy = np.array(row["history"]["val_accuracy"])
    assert accuracy.shape == (2, 3)
    assert row["val_accuracy"] == pytest.approx(accuracy[:, -1].mean())
    assert row["val_accuracy_std"] == pytest.approx(accuracy[:, -1].std(ddof=1))
    assert row["final_loss"] == pytest.approx(np.array(row["history"]["loss"])[:, -1].mean())
    assert row["best_epoch"] == accuracy.mean(0).argmax() + 1
    assert row["seconds"] > 0

    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["optimizer"] for r in rows] == ["sgd:0.1", "nag", "adam"]
    assert float(rows[0]["val_accuracy"]) == row["val_accuracy"]


@pytest.mark.heavy
def test_the_same_command_gives_the_same_accuracies(small, tmp_path):
    found = []
    for run in "ab":
        args = ["compare", "--data", small, "--optimizers", "adam", "--epochs", "2", "--seeds", "2"]
        main([*args, "--out", str(tmp_path / run)])
        results = json.loads((tmp_path / run / "results.json").read_text())
        found.append(results["optimizers"]["adam"]["history"])
    assert found[0] == found[1]
    assert found[0]["loss"][0] != found[0]["loss"][1]  # two seeds, two networks


@pytest.mark.heavy
def test_optimizers_start_from_the_same_networks(small, tmp_path):
    args = [
        "compare",
        "--data",
        small,
        "--optimizers",
        "sgd:1e-9,adam:1e-9",
        "--epochs",
        "1",
        "--seeds",
        "1",
    ]
    main([*args, "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "results.json").read_text())["optimizers"]
    losses = [row["history"]["val_loss"][0][0] for row in rows.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.heavy
def test_a_diverged_run_is_still_valid_json(small, tmp_path):
    args = ["compare", "--data", small, "--optimizers", "sgd:1e30", "--epochs", "2", "--seeds", "1"]
    main([*args, "--out", str(tmp_path)])

    def refuse(name):
        raise AssertionError(name)

    results = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert results["optimizers"]["sgd:1e30"]["final_loss"] is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["compare", "--optimizers", "adm"],
            "unknown optimizer 'adm', choose from sgd, momentum, nag, adam",
        ),
        (["compare", "--optimizers", ""], "unknown optimizer ''"),
        (["compare", "--optimizers", "adam,adam"], "'adam' is named twice"),
        (["compare", "--optimizers", "adam:-1"], "the rate of 'adam:-1' must be a positive number"),
        (["compare", "--epochs", "0"], "--epochs: must be a whole number of at least 1, got '0'"),
        (["compare", "--epochs", "2.5"], "must be a whole number"),
        (["compare", "--seeds", "-1"], "must be a whole number"),
        (["compare", "--batch-size", "many"], "must be a whole number"),
        (
            ["compare", "--batch-size", "1258"],
            "--batch-size: must be at most the 1257 training rows, got 1258",
        ),
        (["compare", "--learning-rate", "nan"], "must be a positive number, got 'nan'"),
        (["compare", "--seed", "99999999999999999999"], "--seed: must be a whole number in [0, 2**32)"),
        (
            ["compare", "--data", "mnist"],
            "must be digits, fashion-mnist or a file ending in .npz, got 'mnist'",
        ),
        (["compare", "--data", "absent.npz"], "no such file: absent.npz"),
        (["compare", "--out", "/dev/null/x"], "cannot make the folder /dev/null/x"),
        (["compare", "--epoch-count", "3"], "unrecognized arguments: --epoch-count 3"),
        (["contrast"], "invalid choice: 'contrast'"),
        ([], "COMMAND"),
    ],
)
def test_wrong_arguments_get_one_line_and_status_2(args, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as info:
        main(args)
    assert info.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
def test_offline_fashion_mnist_gets_one_line(tmp_path):
    env = {**os.environ, "JAXDEEP_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    env |= dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "jaxdeep", "compare", "--data", "fashion-mnist"]
    found = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "JAXDEEP_DATA" in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit) as info:
        main(["compare", "--help"])
    assert info.value.code == 0
    text = capsys.readouterr().out
    for word in (
        "He initialisation",
        "curves.png",
        "results.csv",
        "fashion-mnist",
        "JAXDEEP_DATA",
        "examples:",
    ):
        assert word in text


@pytest.mark.heavy
def test_an_interrupted_comparison_shows_the_optimizers_that_were_trained(small, tmp_path, monkeypatch):
    from jaxdeep.cli import compare

    train = compare._train

    def interrupted(name, *args):
        if name == "adam":
            raise KeyboardInterrupt
        return train(name, *args)

    monkeypatch.setattr(compare, "_train", interrupted)
    args = ["compare", "--data", small, "--epochs", "1", "--out", str(tmp_path)]
    assert main([*args, "--optimizers", "sgd:0.1,adam"]) == 0
    assert list(json.loads((tmp_path / "results.json").read_text())["optimizers"]) == ["sgd:0.1"]
    assert main([*args, "--optimizers", "adam,sgd"]) == 130


def test_a_remote_folder_is_refused(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["compare", "--data", small, "--out", "gs://bucket/runs"])
    assert "argument --out: must be a path on this machine, got 'gs:/" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
