"""Dropout beside flax', and deep networks: `repeat` beside one layer and the unrolled network.

    python -m benchmarks.layers --rounds 7

Dropout: 10,000 × 784 float32 at rate 0.2, compiled, the key an argument. Deep network: 100 dense
layers of 100 SELU units between an input and an output layer, batch 32: seconds to trace and lower, and
to compile, a training step with Adam, each in a new process without a cache.
A ratio is the median over rounds of the ratio within a round.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

from benchmarks.throughput import versions


def dropout_times(repeats=20):
    """Milliseconds of both, turn by turn."""
    import flax.linen as nn
    import jax

    import jaxdeep as jd

    x = jax.random.normal(jax.random.key(0), (10_000, 784))
    ours = jax.jit(lambda x, key: jd.nn.dropout(0.2).apply({}, {}, x, key=key)[0])
    module = nn.Dropout(0.2, deterministic=False)
    theirs = jax.jit(lambda x, key: module.apply({}, x, rngs={"dropout": key}))
    found = {"jaxdeep": [], "flax": []}
    for i in range(repeats + 2):
        key = jax.random.key(i)
        for name, function in (("jaxdeep", ours), ("flax", theirs)):
            began = time.perf_counter()
            function(x, key).block_until_ready()
            if i >= 2:
                found[name].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(times) for name, times in found.items()}


def build(kind, depth):
    """Seconds to trace and lower, and to compile, a training step with Adam."""
    import jax
    import jax.numpy as jnp

    import jaxdeep as jd

    def layer():
        return jd.nn.dense(100, activation=jax.nn.selu)

    deep = {
        "repeat": lambda: jd.nn.repeat(layer(), depth),
        "unrolled": lambda: jd.nn.serial(*(layer() for _ in range(depth))),
    }[kind]()
    model, optimizer = (
        jd.nn.serial(first=layer(), deep=deep, logits=jd.nn.dense(10)),
        jd.optimizers.adam(1e-3),
    )
    step = jd.train.make_step(jd.train.supervised(model, jd.losses.softmax_cross_entropy), optimizer)
    x, y = jax.ShapeDtypeStruct((32, 784), jnp.float32), jax.ShapeDtypeStruct((32,), jnp.int32)
    ts = jax.eval_shape(lambda key: jd.train.init(model, optimizer, x, key=key), jax.random.key(0))
    jax.jit(lambda x: x + 1).lower(x).compile()
    began = time.perf_counter()
    lowered = jax.jit(step, donate_argnums=0).lower(ts, (x, y))
    middle = time.perf_counter()
    lowered.compile()
    return {"lower_seconds": middle - began, "compile_seconds": time.perf_counter() - middle}


TASKS = {
    "dropout": dropout_times,
    "repeat 100": lambda: build("repeat", 100),
    "one layer": lambda: build("unrolled", 1),
    "unrolled 100": lambda: build("unrolled", 100),
}


def run(task):
    command = [sys.executable, "-m", "benchmarks.layers", "--task", task]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def seconds(row):
    return row["lower_seconds"] + row["compile_seconds"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/layers"))
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        print(json.dumps(TASKS[args.task]()))
        return
    rounds = [{task: run(task) for task in TASKS} for _ in range(args.rounds)]

    def median(value):
        return statistics.median(value(found) for found in rounds)

    rows = [
        "| | | ratio | goal |",
        "| --- | ---: | ---: | ---: |",
        f"| dropout, jaxdeep | {median(lambda r: r['dropout']['jaxdeep']):.1f} ms | | |",
        f"| dropout, flax | {median(lambda r: r['dropout']['flax']):.1f} ms | "
        f"{median(lambda r: r['dropout']['jaxdeep'] / r['dropout']['flax']):.2f} | ≤ 0.40 |",
        f"| repeat of 100 layers | {median(lambda r: seconds(r['repeat 100'])):.2f} s | | |",
    ]
    for task, goal in (("one layer", "≤ 2"), ("unrolled 100", "≤ 0.1")):
        ratio = median(lambda r, t=task: seconds(r["repeat 100"]) / seconds(r[t]))
        rows.append(
            f"| {task} | {median(lambda r, t=task: seconds(r[t])):.2f} s | {ratio:.2f} | {goal} |"
        )
    about, command = versions(), f"python -m benchmarks.layers --rounds {args.rounds}"
    text = "\n".join(
        [
            "# Layers",
            "",
            f"`{command}`",
            "",
            ", ".join(f"{k} {v}" for k, v in about.items()),
            "",
            *rows,
            "",
        ]
    )
    text += "\nMedians over rounds; the ratio is jaxdeep's row over the one it stands in.\n"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".md").write_text(text)
    args.out.with_suffix(".json").write_text(
        json.dumps({**about, "command": command, "rounds": rounds}, indent=1) + "\n"
    )
    print(text)


if __name__ == "__main__":
    main()
