"""Dropout beside flax', and deep networks: `repeat` beside one layer and the unrolled network.

    python -m benchmarks.layers --rounds 7

Dropout: 10,000 × 784 float32 at rate 0.2, compiled, the key an argument. Deep network: 100 dense
layers of 100 SELU units between an input and an output layer, batch 32: seconds to trace, lower and
compile the forward pass, loss and gradients, and a training step with Adam, and seconds of
`jd.train.init`, each in a new process without a cache.
A ratio is the median over rounds of the ratio within a round.
"""

import argparse
import functools
import json
import pathlib
import statistics
import subprocess
import sys
import time

from benchmarks.throughput import versions

DEPTH = 100


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


def network(kind):
    import jax

    import jaxdeep as jd

    def layer():
        return jd.nn.dense(100, activation=jax.nn.selu)

    deep = {
        "repeat": lambda: jd.nn.repeat(layer(), DEPTH),
        "scan": lambda: by_hand(layer()),
        "one": layer,
        "unrolled": lambda: jd.nn.serial(*(layer() for _ in range(DEPTH))),
    }[kind]()
    return jd.nn.serial(first=layer(), deep=deep, logits=jd.nn.dense(10))


def by_hand(layer):
    """The same loop with nothing around it: what `repeat` could cost at least."""
    import jax

    import jaxdeep as jd

    def init(key, x):
        return jax.vmap(lambda key: layer.init(key, x)[0])(jax.random.split(key, DEPTH)), {}

    def apply(params, state, x, **switches):
        def body(x, own):
            return jax.nn.selu(x @ own["kernel"] + own["bias"]), None

        return jax.lax.scan(body, x, params)[0], state

    return jd.nn.Model(init, apply, stochastic=False)


def build(part, kind):
    """Seconds to trace, lower and compile a part of the training of a network."""
    import jax
    import jax.numpy as jnp

    import jaxdeep as jd

    model, optimizer = network(kind), jd.optimizers.adam(1e-3)
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    x, y = jax.ShapeDtypeStruct((32, 784), jnp.float32), jax.ShapeDtypeStruct((32,), jnp.int32)
    start = functools.partial(jd.train.init, model, optimizer, x)
    key = jax.random.key(0)
    ts = jax.eval_shape(lambda key: start(key=key), key)
    gradients = jax.value_and_grad(objective, has_aux=True)
    lower = {
        "forward": lambda: jax.jit(lambda *args: model.apply(*args)[0]).lower(ts.params, ts.state, x),
        "gradients": lambda: jax.jit(gradients).lower(ts.params, ts.state, (x, y)),
        "step": lambda: jax.jit(jd.train.make_step(objective, optimizer), donate_argnums=0).lower(
            ts, (x, y)
        ),
    }
    jax.jit(lambda x: x + 1).lower(x).compile()
    began = time.perf_counter()
    if part == "init":
        jax.block_until_ready(start(key=key).params)
    else:
        lower[part]().compile()
    return {"seconds": time.perf_counter() - began}


PARTS = {
    "forward": "forward pass",
    "gradients": "loss and gradients",
    "step": "training step with Adam",
    "init": "`jd.train.init`, run too",
}
KINDS = {  # with the goals of repeat ÷ it
    "repeat": ("`repeat`", ""),
    "scan": ("`jax.lax.scan` by hand", ""),
    "one": ("one layer", "≤ 2"),
    "unrolled": ("unrolled", "≤ 0.1"),
}
TASKS = {"dropout": dropout_times} | {
    f"{part} {kind}": functools.partial(build, part, kind) for part in PARTS for kind in KINDS
}


def run(task):
    command = [sys.executable, "-m", "benchmarks.layers", "--task", task]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(rounds):
    def median(value):
        return statistics.median(value(found) for found in rounds)

    lines = [
        "| dropout | ms | ratio | goal |",
        "| --- | ---: | ---: | ---: |",
        f"| jaxdeep | {median(lambda r: r['dropout']['jaxdeep']):.1f} | | |",
        f"| flax | {median(lambda r: r['dropout']['flax']):.1f} | "
        f"{median(lambda r: r['dropout']['jaxdeep'] / r['dropout']['flax']):.2f} | ≤ 0.40 |",
        "",
        f"{DEPTH} layers, seconds to trace, lower and compile, and `repeat` ÷ it:",
        "",
    ]
    head, rule = ["| |"], ["| --- |"]
    for name, goal in KINDS.values():
        head.append(f" {name} |" + (f" {goal or '÷'} |" if name != KINDS["repeat"][0] else ""))
        rule.append(" ---: |" + (" ---: |" if name != KINDS["repeat"][0] else ""))
    lines += ["".join(head), "".join(rule)]
    for part, label in PARTS.items():
        cells = [label]
        for kind in KINDS:
            cells.append(f"{median(lambda r, t=f'{part} {kind}': r[t]['seconds']):.2f}")
            if kind != "repeat":
                cells.append(f"{median(lambda r, k=kind, p=part: ratio(r, p, k)):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(found, part, kind):
    return found[f"{part} repeat"]["seconds"] / found[f"{part} {kind}"]["seconds"]


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
    args.out.parent.mkdir(parents=True, exist_ok=True)
    about, command = versions(), f"python -m benchmarks.layers --rounds {args.rounds}"
    rounds = []
    for _ in range(args.rounds):
        rounds.append({task: run(task) for task in TASKS})
        saved = {**about, "command": command, "rounds": rounds}
        args.out.with_suffix(".json").write_text(json.dumps(saved, indent=1) + "\n")
        text = (
            f"# Layers\n\n`{command}`\n\n{', '.join(f'{k} {v}' for k, v in about.items())}\n\n"
            f"{report(rounds)}\n\n"
            "Medians over rounds; a ratio is jaxdeep's figure over the one it stands beside.\n"
        )
        args.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
