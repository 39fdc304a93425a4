"""`evaluate` and `predict` beside the bare compiled pass in blocks that one would write by hand.

    python -m benchmarks.predict --rounds 15 --out benchmarks/results/predict

An MLP, 784-300-100-10, on 60,000 rows of random float32 in the host's memory, 256 rows at a time. The
bare passes are a function under `jax.jit`, called in a Python loop over slices: one collects the logits,
one adds up loss and right answers. All are compiled before they are timed. A round times every contender
in turn; a ratio is the median over rounds of the ratio to the bare pass within a round. CPU seconds are
those of all threads of the process, which another load of the machine changes less than the time.
"""

import argparse
import json
import pathlib
import statistics
import time

import jax
import numpy as np

import jaxdeep as jd
from benchmarks.throughput import versions

ROWS, SIZE = 60_000, 256
LOSS = jd.losses.softmax_cross_entropy


def contenders(rows=ROWS):
    """Functions without arguments, by name; each stands beside the bare one that is named with it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 784)).astype(np.float32)
    y = rng.integers(0, 10, rows).astype(np.int32)
    model = jd.nn.serial(
        jd.nn.dense(300, activation=jax.nn.relu),
        jd.nn.dense(100, activation=jax.nn.relu),
        jd.nn.dense(10),
    )
    params, state = model.init(jax.random.key(0), x[:1])
    apply = jax.jit(lambda params, x: model.apply(params, state, x)[0])

    @jax.jit
    def sums(params, x, y):
        logits = model.apply(params, state, x)[0]
        return LOSS(logits, y).sum(), (logits.argmax(-1) == y).sum()

    def bare_pass():
        parts = [np.asarray(apply(params, x[i : i + SIZE])) for i in range(0, rows, SIZE)]
        return np.concatenate(parts)

    def bare_sums():
        loss = right = 0.0
        for i in range(0, rows, SIZE):
            more, more_right = sums(params, x[i : i + SIZE], y[i : i + SIZE])
            loss, right = loss + more, right + more_right
        return float(loss) / rows, float(right) / rows

    predict = lambda **options: jd.predict(model, params, state, x, batch_size=SIZE, **options)  # noqa: E731
    accuracy = {"accuracy": jd.metrics.accuracy}
    numbers = {"loss": LOSS, "metrics": accuracy, "batch_size": SIZE}
    return {
        "bare pass": (bare_pass, "bare pass"),
        "predict": (predict, "bare pass"),
        'predict, output="class"': (lambda: predict(output="class"), "bare pass"),
        'predict, output="probability"': (lambda: predict(output="probability"), "bare pass"),
        "bare sums": (bare_sums, "bare sums"),
        "evaluate": (lambda: jd.evaluate(model, params, state, (x, y), **numbers), "bare sums"),
    }


def measure(rounds, rows=ROWS):
    """Seconds, CPU seconds, and ratios to the bare pass, by contender."""
    functions = contenders(rows)
    for function, _ in functions.values():
        function()
    taken = {name: [] for name in functions}
    for _ in range(rounds):
        for name, (function, _) in functions.items():
            began = time.perf_counter(), time.process_time()
            function()
            taken[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    found = {}
    for name, (_, bare) in functions.items():
        seconds, cpu = (statistics.median(column) for column in zip(*taken[name]))
        pairs = list(zip(taken[name], taken[bare]))
        found[name] = {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "ratio": statistics.median(mine[0] / theirs[0] for mine, theirs in pairs),
            "cpu_ratio": statistics.median(mine[1] / theirs[1] for mine, theirs in pairs),
        }
    return found


def table(found):
    lines = ["| | seconds | of the bare pass | CPU seconds | of the bare pass |", "| --- " * 5 + "|"]
    for name, row in found.items():
        cells = (f"{row[key]:.2f}" for key in ("seconds", "ratio", "cpu_seconds", "cpu_ratio"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--out", type=pathlib.Path, help="write .json and .md there")
    args = parser.parse_args()
    found = measure(args.rounds, args.rows)
    print(table(found))
    if args.out:
        about = {"rounds": args.rounds, "rows": args.rows, "versions": versions(), "contenders": found}
        args.out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
        text = (
            f"{args.rows:,} rows, medians of {args.rounds} rounds: `python -m benchmarks.predict`.\n\n"
        )
        args.out.with_suffix(".md").write_text(text + table(found) + "\n")


if __name__ == "__main__":
    main()
