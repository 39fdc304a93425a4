"""Sixteen learning rates: jaxdeep.sweep beside Keras, PyTorch and jaxdeep.fit one after another.

    python -m benchmarks.sweep --rounds 5

The chapter's network (784-100-100-100-10, ReLU, He initialisation), batch 32, Adam, 16 learning rates
from 1e-4 to 1e-1, 500 steps of each, which are an epoch of 16,000 examples. Cold is the time from the
start of the process to the end of the sweep, imports, data and compilation included. Warm is what a step
of a model costs once all is compiled: the difference to a sweep of more epochs, over its further steps.
Each contender and length runs in a process of its own, round by round, after one that is not counted and
leaves modules byte-compiled, as an installation does. A ratio is the median over rounds of the ratio
within a round.
"""

import argparse
import dataclasses
import functools
import pathlib
import statistics
import subprocess
import sys
import time

from benchmarks.contenders.variants import BATCH, VARIANTS, data
from benchmarks.fresh import as_installed
from benchmarks.throughput import write_results

PLAIN = dataclasses.replace(VARIANTS["plain"], examples=500 * BATCH)
RATES = [10 ** (-4 + 3 * i / 15) for i in range(16)]


def one_after_another(module, epochs, **arguments):
    import importlib

    train = importlib.import_module(f"benchmarks.contenders.{module}").train
    examples = data(PLAIN)
    for rate in RATES:
        train(PLAIN, examples, epochs, rate=rate, **arguments)


def at_once(strategy, epochs):
    import jaxdeep as jd
    from benchmarks.contenders.ours import network

    jd.sweep(
        lambda hp: jd.optimizers.adam(hp["learning_rate"]),
        {"learning_rate": RATES},
        model=network("plain"),
        data=data(PLAIN),
        loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy},
        epochs=epochs,
        batch_size=BATCH,
        strategy=strategy,
        progress=False,
    )


CONTENDERS = {
    "threads": (functools.partial(at_once, "threads"), "jaxdeep.sweep, threads"),
    "vmap": (functools.partial(at_once, "vmap"), "jaxdeep.sweep, vmap"),
    "fit": (functools.partial(one_after_another, "ours"), "jaxdeep.fit, one after another"),
    "keras": (
        functools.partial(one_after_another, "keras_fit", steps_per_execution=1),
        "Keras on JAX, one after another",
    ),
    "pytorch": (
        functools.partial(one_after_another, "torch_loop", fused=True),
        "PyTorch eager, Adam(fused=True), one after another",
    ),
}


def run(name, epochs, environment):
    """Seconds from the start of a process to the end of its sweep."""
    own = ["--worker", name, "--epochs", str(epochs)]
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.sweep", *own]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def measure(names, rounds, epochs, environment):
    results = {name: {"us_per_model_step": [], "cold_seconds": []} for name in names}
    steps = (epochs - 1) * len(RATES) * PLAIN.steps
    for name in names:
        run(name, 1, environment)
    for number in range(rounds):
        for name, found in results.items():
            cold, longer = (run(name, length, environment) for length in (1, epochs))
            found["us_per_model_step"].append((longer - cold) / steps * 1e6)
            found["cold_seconds"].append(cold)
            print(
                f"round {number + 1} {name:8} {found['us_per_model_step'][-1]:6.0f} µs a model's step, "
                f"cold {cold:.2f} s",
                flush=True,
            )
    return results


def table(results):
    rows = [
        "| | µs a model's step, warm | it ÷ threads | goal | cold, s | it ÷ threads | goal |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = results["threads"]
    for name, found in results.items():
        cells = [CONTENDERS[name][1]]
        for key, goal, form in (("us_per_model_step", 3.5, ".0f"), ("cold_seconds", 4.5, ".2f")):
            ratio = statistics.median(b / a for a, b in zip(ours[key], found[key]))
            cells += [f"{statistics.median(found[key]):{form}}"]
            cells += [
                "" if name == "threads" else f"{ratio:.2f}",
                f"≥ {goal}" if name == "keras" else "",
            ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5, help="of the longer sweep")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[*CONTENDERS])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/sweep"))
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        CONTENDERS[args.worker][0](args.epochs)
        return
    with as_installed() as environment:
        results = measure(args.contenders, args.rounds, args.epochs, environment)
    command = f"python -m benchmarks.sweep --rounds {args.rounds} --epochs {args.epochs}"
    if len(args.contenders) < len(CONTENDERS):
        command += f" --contenders {' '.join(args.contenders)}"
    body = (
        f"{table(results)}\n\n"
        "Medians over rounds; 16 learning rates, 500 steps of 32 examples each. Cold is from the start\n"
        "of the process to the end of the sweep, imports, data and compilation included."
    )
    write_results(args.out, "Sweep", command, body, results)


if __name__ == "__main__":
    main()
