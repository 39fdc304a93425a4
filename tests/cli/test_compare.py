"""The command compare, as a user meets it: candidates by flags, its files, and what it refuses."""

import argparse
import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.__main__ import main
from jaxdeep.cli import networks, written
from jaxdeep.cli.comparing import candidates, data, errors
from jaxdeep.cli.comparing import changes as changes_of
from jaxdeep.cli.networks import Network

ROWS = 200
QUICK = ["--budget", "2", "--seeds", "2", "--epochs", "2", "--hidden", "8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data of every kind, and a module of a user's."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 4)).astype(np.float32)
    y = x @ rng.normal(size=(4, 3))
    np.savez(folder / "classes.npz", x=x, y=y.argmax(1))
    np.savez(folder / "hot.npz", x=x, y=np.eye(3)[y.argmax(1)])
    np.savez(folder / "two.npz", x=x, y=(y[:, 0] > 0).astype(int))
    np.savez(folder / "labels.npz", x=x, y=(y > 0).astype(int))
    np.savez(folder / "numbers.npz", x=x, y=y[:, 0])
    np.savez(folder / "floats.npz", x=x, y=(y[:, 0] > 0).astype(np.float32))
    np.savez(folder / "signs.npz", x=x, y=np.where(y[:, 0] > 0, 1, -1))
    np.savez(folder / "one.npz", x=x, y=np.zeros(ROWS, int))
    np.savez(folder / "few.npz", x=x[:3], y=np.array([0, 1, 0]))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "town", "kind", "price"])
        towns = rng.choice(["a", "b"], ROWS)
        kinds = np.where(x[:, 0] + (towns == "a") > 0, "good", "bad")
        writer.writerows(zip(x[:, 0].round(3), towns, kinds, (3 * x[:, 0]).round(3)))
    (folder / "users.py").write_text(
        """
import jax, optax, jaxdeep as jd

def net(outputs):
    return jd.nn.serial(hidden=jd.nn.dense(8, activation=jax.nn.tanh), out=jd.nn.dense(outputs))

def plain(learning_rate):
    return optax.sgd(learning_rate, momentum=0.5)

def broken(outputs):
    return jd.nn.dence(outputs)

def failing_later(learning_rate):
    def loss(outputs, y):
        raise LookupError("no such loss")
    return {"optimizer": optax.sgd(learning_rate), "loss": loss}

LATER = jd.comparison.Candidate(
    lambda hp: failing_later(hp["learning_rate"]), {"learning_rate": jd.search.log_uniform(1e-3, 1.0)}
)

def failing(learning_rate):
    raise RuntimeError("no rates")

def heavy():
    space = {"learning_rate": jd.search.log_uniform(1e-3, 1.0)}
    return jd.comparison.Candidate(
        lambda hp: jd.optimizers.sgd(hp["learning_rate"], momentum=0.9), space, {"learning_rate": 0.1}
    )
"""
    )
    return folder


def run(folder, monkeypatch, *args):
    """What a command printed in a folder."""
    monkeypatch.chdir(folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["compare", *map(str, args)]) == 0
    return printed.getvalue()


def refused(args, capsys):
    """The one line that wrong arguments get."""
    with pytest.raises(SystemExit) as info:
        main(["compare", *map(str, args)])
    assert info.value.code == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1, err
    return err


def results(out):
    """The results, but for what depends on the clock."""
    found = json.loads((out / "results.json").read_text())
    assert found.pop("times")
    return found


def again(script, cwd):
    """What ``best.py`` prints at its end, in a process of its own."""
    env = os.environ | {"PYTHONPATH": os.getcwd()}
    env.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)
    found = subprocess.run(
        [sys.executable, script], env=env, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()[-1]


# --- candidates -----------------------------------------------------------------------------------


def entrants(optimizers=None, vary=(), changes=(), network=None):
    made = candidates.entrants(
        optimizers,
        candidates.vary(vary),
        [changes_of.change(flag, text) for flag, text in changes],
        network or Network(),
        lambda network: None,
    )
    return made


def test_what_varies_is_crossed_with_the_optimizers_that_are_named():
    found = entrants(("nag", "adam"), ["dropout=0,0.2", "init=he_normal,glorot_uniform"])
    assert list(found)[:2] == [
        "nag, dropout=0, init=he_normal",
        "nag, dropout=0, init=glorot_uniform",
    ]
    assert len(found) == 8
    one = found["adam, dropout=0.2, init=glorot_uniform"]
    assert one.network == Network(dropout=0.2, init="glorot_uniform")
    assert [*entrants(None, ["schedule=constant,cosine"])] == ["schedule=constant", "schedule=cosine"]
    alone = entrants(None, ["momentum=0.5,0.9"])
    assert [(one.optimizer, one.candidate.fixed) for one in alone.values()] == [
        ("nag", {"momentum": 0.5}),
        ("nag", {"momentum": 0.9}),
    ]


def test_a_value_that_is_set_is_not_tuned_and_bounds_keep_their_scale():
    found = entrants(
        ("adam", "nag"),
        changes=[("--set", "adam.learning_rate=1"), ("--space", "nag.momentum=0.5:0.8")],
    )
    adam, nag = found["adam"].candidate, found["nag"].candidate
    assert adam.fixed == {"learning_rate": 1.0}
    assert "learning_rate" not in {**adam.space, **adam.default}
    assert nag.space["momentum"].bounds == pytest.approx((0.5, 0.8))
    assert type(nag.space["momentum"]) is type(jd.search.one_minus(0.1, 0.5))
    assert 0.5 < nag.default["momentum"] < 0.8  # 0.9, the field's, is outside


def test_what_a_user_bounds_is_tuned_before_the_others():
    found = entrants(("adam",), changes=[("--space", "adam.eps=1e-8:1")])
    assert [*found["adam"].candidate.space][:2] == ["learning_rate", "eps"]


def test_a_norm_takes_the_bias_of_the_dense_layer_before_it():
    for place, bias in (("before", False), ("after", True), ("none", True)):
        model = networks.serial(Network(hidden=(8, 8), batch_norm=place), {}, {}).value
        params, _ = model.init(jax.random.key(0), np.ones((2, 4), np.float32))
        assert ("bias" in params["hidden1"]) is bias
        assert [*model.layers][:2] == (
            ["hidden1", "hidden2"] if place == "none" else ["hidden1", "norm1"]
        )


@pytest.mark.heavy
def test_clipping_and_max_norm_are_around_the_optimizer():
    network = Network(clip=2.0, max_norm=1.0)
    tx = networks.around(network, written.call("optax.sgd", 1.0)).value
    params = {"hidden": {"kernel": np.zeros((2, 1)), "bias": np.zeros(1)}}
    gradients = {"hidden": {"kernel": np.array([[3.0], [4.0]]), "bias": np.zeros(1)}}
    updates, _ = tx.update(gradients, tx.init(params), params)
    np.testing.assert_allclose(updates["hidden"]["kernel"], [[-0.6], [-0.8]], atol=1e-6)
    assert networks.serial(Network(init="zeros"), {}, {}).code.count("initializers.zeros,") == 3
    plain = written.call("optax.sgd", 1.0)
    assert networks.around(Network(), plain) is plain


def test_what_is_run_is_what_the_script_says():
    flags = Network((8, 16), "elu", "before", 0.5, "he_uniform")
    for network in (flags, Network(), Network(activation="prelu"), Network(hidden=())):
        made = networks.serial(network, {}, {"logits": networks.call("jd.nn.dense", 3)})
        assert repr(eval(made.code, {"jd": jd, "jax": jax})) == repr(made.value)


# --- the command ----------------------------------------------------------------------------------


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit) as info:
        main(["compare", "--help"])
    assert info.value.code == 0
    text = capsys.readouterr().out
    for word in (
        *("--vary", "--set", "--space", "--quick", "--worth", "--reach", "fashion-mnist", "best.py"),
        *("He initialisation", "schedule_free_adamw", "module:function", "JAXDEEP_DATA", "examples:"),
    ):
        assert word in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--optimizers adm", "argument --optimizers: unknown optimizer 'adm'; did you mean adam?"),
        ("--optimizers adam,adam", "'adam' is named twice"),
        ("--optimizers sgd:0.1", "--set sgd.learning_rate=0.1 fixes one"),
        ("--optimizers lbfgs", "'lbfgs' cannot be compared: it searches along a line"),
        ("--optimizers absent:f", "argument --optimizers: no module 'absent'"),
        ("--optimizers users:hevy", "no 'hevy' in the module 'users'; did you mean heavy?"),
        ("--optimizers users:net", "users:net must be a jaxdeep.comparison.Candidate"),
        (
            "--optimizers users:failing",
            "users:failing raises RuntimeError: no rates (users.py,",
        ),
        (
            "--model users:broken",
            "--model: users:broken raises AttributeError: module 'jaxdeep.nn' has",
        ),
        ("--space adam.b1=0.5:1.5", "argument --space: adam.b1 must be in [0, 1), got 1.5"),
        ("--space adam.learning_rate=1:0.1", "adam.learning_rate has no room between 1 and 0.1"),
        ("--space adm.b1=0.1:1", "argument --space: no candidate 'adm'; did you mean adam?"),
        ("--space adam.learning_rat=0.1:1", "did you mean learning_rate?"),
        ("--space adam.learning_rate=0:1", "low of log_uniform must be in (0, inf)"),
        ("--space adam.b2=0.9:0.99 --budget 4", "4 trials tune learning_rate of adam alone; b2 takes"),
        ("--space adam", "must be CANDIDATE.NAME=LOW:HIGH"),
        ("--set adam.b=1", "argument --set: adam has no 'b'"),
        ("--set adam.b1=2", "argument --set: b1 must be in [0, 1)"),
        ("--set adam.b1=x", "adam.b1 must be a number, got 'x'"),
        ("--vary dropout=0,2", "argument --vary: dropout must be at least 0 and below 1"),
        ("--vary dropout=0.2", "argument --vary: must be NAME=V1,V2"),
        ("--vary epochs=1,2", "all candidates have the same epochs"),
        ("--vary schedule=cosin,constant", "did you mean cosine?"),
        ("--vary wheels=1,2", "adam has no 'wheels'"),
        ("--metric acuracy", "argument --metric: must be one of accuracy,"),
        ("--seeds 1", "argument --seeds: must be at least 2"),
        ("--level 2", "argument --level: "),
        ("--schedule cosin", "argument --schedule: must be one of constant, cosine"),
        ("--recipe strong --dropout 0.1", "argument --dropout: does not go with --recipe"),
        ("--model users:plain", "argument --model: users:plain must return a jaxdeep Model"),
        ("--epochs 2.5", "argument --epochs: must be a whole number"),
        ("--batch-size 1258", "argument --batch-size: must be at most the 1257 training rows"),
        ("--seed 99999999999999999999", "argument --seed: must be a whole number in [0, 2**32)"),
        ("--data absent.npz", "argument --data: no such file: absent.npz"),
        ("--data mnist", "argument --data: must be one of, or a file of, digits"),
        ("--data table.csv", "argument --target: must name the column"),
        ("--data table.csv --target pric", "'price' is one"),
        ("--data table.csv --target price --task classification", "none has a row for every part"),
        (
            "--data table.csv --target price --task binary",
            "argument --task: task=binary does not fit 'price', which",
        ),
        ("--data one.npz", "argument --data: the targets have a single class, 0"),
        ("--data few.npz", "argument --data: few.npz has too few rows"),
        ("--optimizers ,", "argument --optimizers: must be names between commas, got ','"),
        ("--optimizers adam, --clip 1", "must be names between commas, got 'adam,'"),
        (
            "--max-norm 1 --optimizers schedule_free_sgd",
            "--max-norm: does not go with schedule_free_sgd",
        ),
        ("--clip -1", "argument --clip: must be a number of at least 0"),
        ("--max-norm 1 --model users:net", "argument --max-norm: does not go with --model"),
        ("--data digits --test 0.2", "argument --test: must be left out"),
        ("--out /dev/null/x", "argument --out: cannot make the folder /dev/null/x"),
        ("--out gs://bucket/runs", "argument --out: must be a path on this machine"),
    ],
)
def test_wrong_arguments_get_one_line_and_nothing_is_made(args, message, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    before = {path.name for path in folder.iterdir()} | {"__pycache__"}
    assert message in refused(args.split(), capsys)
    assert {path.name for path in folder.iterdir()} <= before


def test_what_a_loss_of_the_users_raises_gets_one_line(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    args = ["--optimizers", "users:LATER", "--quick", "--out", str(tmp_path / "runs")]
    assert "users:LATER raises LookupError: no such loss (users.py, line" in refused(args, capsys)


def test_a_folder_that_cannot_be_written_gets_one_line(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert "argument --out: cannot write runs" in refused(["--out", "runs"], capsys)


def test_it_prints_the_answer_and_writes_its_files(folder, monkeypatch, tmp_path):
    args = "--data numbers.npz --optimizers sgd --hidden none --budget 1 --seeds 2 --epochs 1"
    text = run(folder, monkeypatch, *args.split(), "--out", tmp_path)
    assert "numbers.npz: regression; rows: 144 to train on, 20 to tune by, 36 to judge by" in text
    assert "sgd alone was trained; there is nothing to compare it with." in text
    assert "2 seeds: no difference can be sure below 6" in text
    assert "Holds for this network" in text
    assert {"results.json", "trials.csv", "model", "best.py"} <= {p.name for p in tmp_path.iterdir()}
    script = (tmp_path / "best.py").read_text()
    assert "optimizer=jd.optimizers.sgd(0.01)" in script
    (value,) = {float(line.split()[2]) for line in script.splitlines() if line.startswith("REPORTED")}
    assert value in results(tmp_path)["test"]["sgd"]["mae"]


@pytest.mark.parametrize(
    ("file", "task", "notes"),
    [
        ("two", "binary", 0),
        ("floats", "binary", 0),
        ("numbers", "regression", 0),
        ("signs", "regression", 1),  # which are taken for numbers
        ("labels", "multilabel", 0),
        ("hot", "multiclass", 0),
    ],
)
def test_tasks_of_files_are_what_their_targets_look_like(file, task, notes, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = ("target", "task", "validation", "test", "kinds", "drop", "null", "min_frequency")
    args = argparse.Namespace(**dict.fromkeys(names), data=f"{file}.npz", seed=0)
    found = data.read(args)
    assert (found.task, len(found.notes)) == (task, notes)


def test_labels_that_leave_out_classes_are_said():
    labels = np.array([0, 7])
    (note,) = data.notes_of([labels, labels[:1]], 8)
    assert note == "the labels are numbers of classes, 0 to 7, of which 2 have rows"
    assert data.notes_of([np.arange(8)], 8) == []


_ELSE = "Give a new directory, or delete that one"


_SHORT = "schedule='one-cycle' does not fit runs of 1 × 1 = 1 steps"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "checkpoint='/a/runs/tuning' holds another sweep; it differs in key: [1] there, [2] here. "
            f"{_ELSE}",
            "--out: /a holds another comparison: of another --seed. Ask that one, or name a new folder",
        ),
        (
            "checkpoint='/a/runs/final' holds a sweep whose row {'candidate': 'nag', 'b': 1} with "
            f"seed 0 has another model: x there, y here. {_ELSE}",
            "--out: /a holds another comparison: the model of nag was x and is y. Ask that one, or "
            "name a new folder",
        ),
        (
            "checkpoint='/a/runs/tuning' is in use by another sweep; wait until that has ended",
            "--out: /a is in use by another comparison; wait until that has ended",
        ),
        ("metric must be one of loss,\n got 'a'", "--metric: metric must be one of loss, got 'a'"),
        (f"candidates['adam, schedule=one-cycle']: {_SHORT}", f"--vary: {_SHORT}"),
        (f"candidates['own']: {_SHORT}", f"--optimizers: own {_SHORT}"),
    ],
)
def test_errors_are_said_in_the_words_of_the_command(text, line):
    assert errors.said(ValueError(text)) == f"argument {line}"


@pytest.mark.parametrize("flag", ["--schedule one-cycle", "--vary schedule=one-cycle,constant"])
def test_a_schedule_for_which_runs_are_too_short_is_refused_by_its_flag(
    flag, folder, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(folder)
    args = f"--data classes.npz --optimizers sgd --epochs 2 --batch-size 144 {flag}".split()
    said = (
        "schedule='one-cycle' does not fit runs of 2 × 1 = 2 steps (epochs × batches): transition_steps"
    )
    assert f"argument {flag.split()[0]}: {said}" in refused([*args, "--out", tmp_path / "a"], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
@pytest.mark.optimized
@pytest.mark.parametrize(
    "args",
    [
        "--data classes.npz --optimizers nag,adam",
        "--data table.csv --target kind --drop price --optimizers nag",
        "--data two.npz --optimizers adam --schedule cosine --clip 0.5 --max-norm 1",
        "--data two.npz --optimizers nag --clip 0.5 --max-norm 1",
        "--data numbers.npz --optimizers adabelief --dropout 0.1",
        "--data labels.npz --optimizers users:heavy --metric f1 --l2 1e-3",
        "--data numbers.npz --optimizers users:plain --model users:net",
    ],
)
def test_best_py_reaches_the_reported_value_exactly(args, folder, monkeypatch, tmp_path):
    out, here = tmp_path / "out", os.getcwd()
    size = QUICK if "--model" not in args else QUICK[:-2]
    text = run(folder, monkeypatch, *args.split(), *size, "--out", out)
    monkeypatch.chdir(here)
    for name in ("results.json", "trials.csv", "model", "best.py"):
        assert (out / name).exists()
        assert str(out / name) in text
    best = again(out / "best.py", cwd=here)
    assert best.endswith(" as reported"), best
    found = results(out)
    values = found["test"][found["winners"][0]][best.split()[1]]
    assert float(best.split()[2]) in values


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("args", "task", "metric"),
    [
        ("--data hot.npz", "multiclass", "accuracy"),
        ("--data table.csv --target price", "regression", "mae"),
        ("--data two.npz --metric auc", "binary", "auc"),
        ("--data labels.npz", "multilabel", "accuracy"),
        ("--data classes.npz --metric loss --task classification", "multiclass", "loss"),
    ],
)
def test_the_task_is_what_the_targets_look_like(args, task, metric, folder, monkeypatch, tmp_path):
    text = run(folder, monkeypatch, *args.split(), *QUICK, "--optimizers", "adam", "--out", tmp_path)
    assert f": {task}; rows: " in text
    assert f"test {metric}" in text
    assert "2 seeds: no difference can be sure below 6" in text
    assert "tuning: 1 candidate × 2 trials × 2 epochs = 4 epochs" in text
    assert max(map(len, text[text.index("candidate  ") :].split("\nwrote")[0].splitlines())) <= 80


@pytest.mark.heavy
def test_the_columns_are_those_of_the_training_rows(folder, monkeypatch, tmp_path):
    args = "--data table.csv --target kind --drop price --optimizers adam"
    run(folder, monkeypatch, *args.split(), *QUICK, "--out", tmp_path)
    rows = np.load(tmp_path / "rows.npz")
    assert sorted(np.concatenate([rows[part] for part in rows])) == list(range(ROWS))
    model, params, state = jd.load(tmp_path / "model")
    expected = jd.tables.fit("table.csv", "kind", kinds={"price": "drop"}, rows=rows["training"])
    assert model.layers["inputs"].traits.encodes == expected
    assert jd.predict(model, params, state, "table.csv", output="class").shape == (ROWS,)


@pytest.mark.heavy
def test_the_same_command_goes_on_and_another_question_is_refused(folder, monkeypatch, tmp_path, capsys):
    args = ["--data", "classes.npz", "--optimizers", "sgd,nag", *QUICK, "--out", tmp_path]
    run(folder, monkeypatch, *args)
    first = results(tmp_path)
    text = run(folder, monkeypatch, *args)
    assert results(tmp_path) == first
    assert "epoch 1/" not in text  # nothing is trained again
    holds = f"argument --out: {tmp_path} holds another comparison"
    for more, differs in (
        (["--batch-size", "16"], "--batch-size was not given and is 16."),
        (["--hidden", "9"], "--hidden was 8 and is 9."),
        (["--l2", "0.1", "--seed", "1"], "--l2 was not given and is 0.1; --seed was 0 and is 1."),
        (["--clip", "1"], "--clip was not given and is 1.0."),
        (["--data", "two.npz"], "--data was classes.npz and is two.npz."),
        (["--epochs", "1"], "epochs was 2 and is 1 (it may grow)."),
    ):
        assert f"{holds}: {differs} Ask that one, or name" in refused([*args, *more], capsys)
    assert results(tmp_path) == first


@pytest.mark.heavy
def test_recipes_and_varied_networks_are_compared(folder, monkeypatch, tmp_path):
    args = ["--data", "classes.npz", *QUICK]
    vary = ["--vary", "batch-norm=none,before", "--vary", "activation=relu,prelu", "--optimizers", "nag"]
    run(folder, monkeypatch, *args, *vary, "--out", tmp_path / "varied")
    assert "batch-norm=before, activation=prelu" in results(tmp_path / "varied")["values"]
    run(folder, monkeypatch, *args, "--recipe", "strong", "--quick", "--out", tmp_path / "strong")
    assert len(results(tmp_path / "strong")["values"]) == 3


@pytest.mark.heavy
def test_an_interrupted_comparison_says_how_to_go_on(folder, monkeypatch, tmp_path, capsys):
    def interrupted(**arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(jd, "compare", interrupted)
    monkeypatch.chdir(folder)
    assert main(["compare", "--data", "classes.npz", "--out", str(tmp_path)]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


@pytest.mark.heavy
def test_offline_fashion_mnist_gets_one_line(tmp_path):
    env = {**os.environ, "JAXDEEP_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    env |= dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    env["PYTHONPATH"] = os.getcwd()
    command = [sys.executable, "-m", "jaxdeep", "compare", "--data", "fashion-mnist"]
    found = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "JAXDEEP_DATA" in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_comparison_killed_three_times_gives_the_same_results(tmp_path):
    command = [
        sys.executable,
        "-m",
        "jaxdeep",
        "compare",
        "--optimizers",
        "sgd,nag,adam",
        "--epochs",
        "4",
    ]
    command += ["--budget", "4", "--seeds", "6", "--out"]
    env = os.environ | {"PYTHONPATH": os.getcwd()}
    quiet = {"env": env, "cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, "whole"], check=True, **quiet)
    runs = tmp_path / "killed" / "runs"

    def ended():
        return sum(path.read_bytes().count(b'"ended"') for path in runs.rglob("journal.jsonl"))

    for rows in (4, 14, 22):  # of 12 for tuning, and 18 final ones
        process = subprocess.Popen([*command, "killed"], **quiet)
        while ended() < rows and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run([*command, "killed"], check=True, **quiet)
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
