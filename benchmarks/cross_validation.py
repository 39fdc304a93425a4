"""5 folds × 10 learning rates × 3 seeds: cross_validate beside scikit-learn's GridSearchCV.

    python -m benchmarks.cross_validation --rounds 5

The digits (1,797 rows of 64 pixels), 64-64-64-10, ReLU, He initialisation, batch 32, Adam, 20 epochs,
learning rates from 1e-4 to 1e-1: 150 runs, each validated at its end on the rows of its fold. All
contenders have the same folds (`StratifiedKFold`). GridSearchCV runs the network in PyTorch,
wrapped as an estimator, with the seed as a parameter of the grid, in a process for each core, a thread
each. It does not train the best point again (``refit=False``), which cross_validate does not either.

The time is that from the start of the process to the end of the search, imports, data and compilation
included; "without imports" begins when imports and data are there. Each contender runs in a process of
its own, one after another, round by round. A ratio is the median over rounds of the ratio within a
round. The seconds of CPU are those of the process and its children: on a machine that others use, too,
they say more than the clock.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.throughput import write_results

EPOCHS, BATCH, FOLDS, SEEDS, UNITS = 20, 32, 5, 3, 64
SECONDS = ("seconds", "seconds_without_imports", "cpu_seconds")
RATES = [10 ** (-4 + 3 * i / 9) for i in range(10)]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def digits():
    """``x, y, folds``."""
    import numpy as np
    from sklearn import datasets, model_selection

    x, y = datasets.load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int32)
    split = model_selection.StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return x, y, list(split.split(x, y))


def jaxdeep(strategy):
    """Seconds without imports, and the mean accuracy of each rate."""
    import jax

    import jaxdeep as jd

    x, y, folds = digits()
    began = time.perf_counter()
    # He's normal as PyTorch has it, which does not cut it off
    he = {"kernel_init": jd.nn.initializers.variance_scaling(2.0, "fan_in", "normal")}
    relu = {"activation": jax.nn.relu, **he}
    table = jd.search.cross_validate(
        lambda hp: jd.optimizers.adam(hp["learning_rate"]),
        {"learning_rate": RATES},
        data=(x, y),
        folds=folds,
        seeds=SEEDS,
        model=jd.nn.serial(
            jd.nn.dense(UNITS, **relu), jd.nn.dense(UNITS, **relu), jd.nn.dense(10, **he)
        ),
        loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy},
        epochs=EPOCHS,
        validate_every=EPOCHS,
        batch_size=BATCH,
        strategy=strategy,
        progress=False,
    )
    seconds = time.perf_counter() - began
    return seconds, [row["val_accuracy_mean"] for row in table.over_seeds()]


def grid_search():
    """Seconds without imports, and the mean accuracy of each rate."""
    from sklearn import model_selection

    from benchmarks.contenders.torch_estimator import Network

    x, y, folds = digits()
    began = time.perf_counter()
    search = model_selection.GridSearchCV(
        Network(),
        {"rate": RATES, "seed": [*range(SEEDS)]},
        scoring="accuracy",
        cv=folds,
        n_jobs=CORES,
        refit=False,
    )
    search.fit(x, y)
    seconds = time.perf_counter() - began
    found = search.cv_results_
    means = [
        statistics.mean(m for m, r in zip(found["mean_test_score"], found["param_rate"]) if r == rate)
        for rate in RATES
    ]
    return seconds, means


CONTENDERS = {
    "threads": (lambda: jaxdeep("threads"), "jaxdeep.search.cross_validate, threads"),
    "vmap": (lambda: jaxdeep("vmap"), "jaxdeep.search.cross_validate, vmap"),
    "pytorch": (
        grid_search,
        "GridSearchCV over PyTorch, Adam(fused=True), a process for each core",
    ),
}


def run(name):
    """Seconds from the start of a process to its end, without imports, of CPU, and accuracies."""
    environment = dict(os.environ)
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "found.json"
        began, used = time.perf_counter(), cpu_seconds()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.cross_validation", "--worker", name, "--out", str(out)],
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        seconds, used = time.perf_counter() - began, cpu_seconds() - used
        inside, accuracies = json.loads(out.read_text())
    return seconds, inside, used, accuracies


def cpu_seconds():
    """Seconds of CPU of all processes that have been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(names, rounds):
    results = {name: {key: [] for key in (*SECONDS, "accuracies")} for name in names}
    loads = []
    for number in range(rounds):
        for name, found in results.items():
            loads.append(os.getloadavg()[0])
            for key, value in zip(found, run(name)):
                found[key].append(value)
            print(
                f"round {number + 1} {name:8} {found['seconds'][-1]:7.2f} s, without imports "
                f"{found['seconds_without_imports'][-1]:7.2f} s, CPU {found['cpu_seconds'][-1]:7.2f} s; "
                f"load before {loads[-1]:.1f}",
                flush=True,
            )
    return results, loads


def table(results):
    rows = [
        "| | s, all | ÷ threads | goal | s, without imports | ÷ threads | s of CPU | ÷ threads | best "
        "mean accuracy |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = results["threads"]
    for name, found in results.items():
        cells = [CONTENDERS[name][1]]
        for key in SECONDS:
            ratio = statistics.median(b / a for a, b in zip(ours[key], found[key]))
            cells += [
                f"{statistics.median(found[key]):.1f}",
                "" if name == "threads" else f"{ratio:.2f}",
            ]
            if key == "seconds":
                cells += ["≥ 3" if name == "pytorch" else ""]
        cells += [f"{max(found['accuracies'][0]):.4f}"]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def by_rate(results):
    rows = ["| learning rate | " + " | ".join(f"{rate:.1e}" for rate in RATES) + " |"]
    rows.append("| --- |" + " ---: |" * len(RATES))
    for name, found in results.items():
        cells = " | ".join(f"{accuracy:.3f}" for accuracy in found["accuracies"][0])
        rows.append(f"| {name} | {cells} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[*CONTENDERS])
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/cross_validation")
    )
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        args.out.write_text(json.dumps(CONTENDERS[args.worker][0]()))
        return
    results, loads = measure(args.contenders, args.rounds)
    command = f"python -m benchmarks.cross_validation --rounds {args.rounds}"
    if len(args.contenders) < len(CONTENDERS):
        command += f" --contenders {' '.join(args.contenders)}"
    body = (
        f"{table(results)}\n\n"
        f"Medians over {args.rounds} rounds, contenders one after another in each; {FOLDS} folds, "
        f"{len(RATES)} learning rates,\n{SEEDS} seeds, {EPOCHS} epochs of batches of {BATCH}. All is "
        "from the start of the process to the end of the search.\nThe load of the machine before a "
        f"run was {min(loads):.1f} to {max(loads):.1f}, on {CORES} cores: others worked on it, too.\n\n"
        "Mean accuracy over folds and seeds, of the first round. (Each of the three seeds draws the "
        "first parameters\nfor all folds and rates, so that rows may differ by a hundredth or two.)\n\n"
        f"{by_rate(results)}"
    )
    write_results(args.out, "Cross-validation", command, body, {"loads": loads, **results})


if __name__ == "__main__":
    main()
