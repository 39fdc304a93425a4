"""Which of four optimizers: jaxdeep.compare beside what people do by hand.

    python -m benchmarks.compare_by_hand --rounds 3

The digits (1,797 rows of 64 pixels, 1,257 to train on, 270 to tune by, 270 to judge by), three hidden
layers of 100 ReLU units, batch 32; sgd, nag, rmsprop and adam. Each is tuned with the same number of
trials in the space that jaxdeep has for it, the same for all contenders, and its best point is trained
anew with fresh seeds. By hand, that is a loop over Keras Tuner's `RandomSearch` (Keras on JAX), or over
scikit-learn's searches with the network in PyTorch, wrapped by skorch, in a process for each core, a
thread each. `HalvingRandomSearchCV` begins with as many points, and stops most of them early: it trains
fewer epochs than the others. Each draws points of its own, and Keras Tuner chooses by the best epoch of
a trial, the others by the last, so that accuracies are not those of the same networks.

What a contender by hand answers is the best mean; jaxdeep answers with its verdict. Round r has the seed
r, so the answers of the rounds are those to the same question, asked again.

The time is that from the start of the process to its end, imports, data and compilation included,
without a cache of compiled programs. Each contender runs in a process of its own, one after another,
round by round. A ratio is the median over rounds of the ratio within a round. The seconds of CPU are
those of the process and its children: on a machine that others use, too, they say more than the clock.
Lines of code are those of the contender's file, without imports, blank lines, comments and docstrings;
reading the data, the same for all, is not counted.
"""

import argparse
import ast
import functools
import importlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata

from benchmarks.cross_validation import CORES, cpu_seconds
from benchmarks.throughput import write_results

CANDIDATES, HALVING = ("sgd", "nag", "rmsprop", "adam"), "halving"
BUDGETS = range(10, 25)  # for which `compare` tunes two hyperparameters of each, as the others do here
PEERS = ("keras-tuner", "skorch", "scikit-learn")
SECONDS = ("seconds", "cpu_seconds")
CONTENDERS = {
    "jaxdeep": ("by_hand_jaxdeep", {}, "`jd.compare`"),
    "keras": ("by_hand_keras_tuner", {}, "Keras on JAX, Keras Tuner's `RandomSearch`"),
    "random": ("by_hand_skorch", {}, "PyTorch, skorch, `RandomizedSearchCV`"),
    HALVING: ("by_hand_skorch", {"halving": True}, "PyTorch, skorch, `HalvingRandomSearchCV`"),
}


def digits():
    """The pairs of training, validation and test rows."""
    import numpy as np
    from sklearn import datasets, model_selection

    x, y = datasets.load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int32)
    halves = functools.partial(model_selection.train_test_split, random_state=0)
    x, x_others, y, y_others = halves(x, y, test_size=540, stratify=y)
    x_validation, x_test, y_validation, y_test = halves(
        x_others, y_others, test_size=270, stratify=y_others
    )
    return (x, y), (x_validation, y_validation), (x_test, y_test)


def worker(name, size, seed):
    module, arguments, _ = CONTENDERS[name]
    study = importlib.import_module(f"benchmarks.contenders.{module}").study
    return study(*digits(), **size, seed=seed, **arguments)


def options(size):
    return [word for name, value in size.items() for word in (f"--{name}", str(value))]


def run(name, size, seed):
    """Seconds from the start of a process to its end, seconds of CPU, accuracies, and the answer."""
    environment = dict(os.environ)
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    own = ["--worker", name, "--seed", str(seed), *options(size)]
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "found.json"
        began, used = time.perf_counter(), cpu_seconds()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.compare_by_hand", *own, "--out", str(out)],
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        seconds, used = time.perf_counter() - began, cpu_seconds() - used
        return seconds, used, *json.loads(out.read_text())


def measure(size, rounds):
    results = {name: {key: [] for key in (*SECONDS, "accuracies", "answers")} for name in CONTENDERS}
    loads = []
    for number in range(rounds):
        for name, found in results.items():
            loads.append(os.getloadavg()[0])
            for key, value in zip(found, run(name, size, number)):
                found[key].append(value)
            print(
                f"round {number + 1} {name:8} {found['seconds'][-1]:7.2f} s, CPU "
                f"{found['cpu_seconds'][-1]:7.2f} s; load before {loads[-1]:.1f}; "
                f"{found['answers'][-1]}",
                flush=True,
            )
    return results, loads


def lines_of(name):
    """The lines of code of a contender's file, without imports, comments and docstrings."""
    text = (
        pathlib.Path(__file__).with_name("contenders").joinpath(f"{CONTENDERS[name][0]}.py").read_text()
    )
    left_out = set()
    for node in ast.walk(ast.parse(text)):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, (ast.Import, ast.ImportFrom)):
            left_out |= set(range(node.lineno, node.end_lineno + 1))
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in left_out
        for number, line in enumerate(text.splitlines(), 1)
    )


def epochs_of(name, *, budget, epochs, seeds):
    """The epochs that a contender trains in all."""
    tuning = budget * epochs
    if name == HALVING:  # a third is trained anew for three times as long
        lengths = [3**rung for rung in range(epochs) if 3**rung <= epochs]
        tuning = sum(math.ceil(budget / length) * length for length in lengths)
    return len(CANDIDATES) * (tuning + seeds * epochs)


def table(results, size):
    rows = [
        "| | lines of code | epochs trained | s, all | ÷ jaxdeep | goal | s of CPU | ÷ jaxdeep |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results.items():
        cells = [CONTENDERS[name][2], str(lines_of(name)), f"{epochs_of(name, **size):,}"]
        for key in SECONDS:
            cells.append(f"{statistics.median(found[key]):.1f}")
            others = [b / a for a, b in zip(results["jaxdeep"][key], found[key])]
            cells.append("" if name == "jaxdeep" else f"{statistics.median(others):.2f}")
            if key == "seconds":
                cells.append("" if name == "jaxdeep" else "≥ 5")
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def answers(results):
    rows = [f"| round | | answer | {' | '.join(CANDIDATES)} |"]
    rows.append("| ---: | --- | --- |" + " ---: |" * len(CANDIDATES))
    for number in range(len(next(iter(results.values()))["answers"])):
        for name, found in results.items():
            means = [f"{statistics.mean(found['accuracies'][number][one]):.4f}" for one in CANDIDATES]
            cells = [str(number + 1), name, found["answers"][number], *means]
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=16, choices=BUDGETS, help="trials of each")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=10, help="final runs of each")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/compare_by_hand")
    )
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = {name: getattr(args, name) for name in ("budget", "epochs", "seeds")}
    if args.worker:
        args.out.write_text(json.dumps(worker(args.worker, size, args.seed)))
        return
    results, loads = measure(size, args.rounds)
    peers = {name: metadata.version(name) for name in PEERS}
    words = " ".join(options(size))
    command = f"python -m benchmarks.compare_by_hand --rounds {args.rounds} {words}"
    body = (
        f"{table(results, size)}\n\n"
        f"Medians over {args.rounds} rounds, contenders one after another in each; {len(CANDIDATES)} "
        f"optimizers, {args.budget} trials and {args.seeds} final seeds\nof each, {args.epochs} epochs "
        "of batches of 32. All is from the start of the process to its end. The two of\nskorch are one "
        "file, and halving trains fewer epochs. The load of the machine before a run was\n"
        f"{min(loads):.1f} to {max(loads):.1f}, on {CORES} cores: others worked on it, too.\n\n"
        "What the answer says, round by round (each has another seed), and the mean test accuracies:\n\n"
        f"{answers(results)}"
    )
    write_results(args.out, "Compare by hand", command, body, {"loads": loads, **results}, peers=peers)


if __name__ == "__main__":
    main()
