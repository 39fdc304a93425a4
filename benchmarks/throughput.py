"""µs a step and time to the first epoch: jaxdeep beside Keras, PyTorch and a hand-written loop.

    make bench                                     # or
    python -m benchmarks.throughput --rounds 5 --epochs 5

The chapter's network (784-100-100-100-10, ReLU, He initialisation), batch 32, Adam at 1e-3, 55,000
examples: Fashion-MNIST if it is at hand, noise of that shape otherwise. Every side shuffles each
epoch and computes the mean loss and accuracy of the epoch. Each contender runs in a process of its
own, one after another, round by round; it prints a line at the end of an epoch and the time of the
line's arrival is what counts. A ratio is the median over rounds of the ratio within a round.
"""

import argparse
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

BATCH, RATE = 32, 1e-3


def data():
    import numpy as np

    from jaxdeep import datasets

    try:
        return datasets.fashion_mnist().train
    except (FileNotFoundError, ImportError):
        rng = np.random.default_rng(0)
        x = rng.random((55_000, 28, 28), dtype=np.float32)
        return x, rng.integers(0, 10, 55_000).astype(np.int32)


def tell():
    print("epoch", flush=True)


def setting():
    """The chapter's network and what it is trained with, in jaxdeep."""
    import jax

    import jaxdeep as jd

    def hidden():
        return jd.nn.dense(100, activation=jax.nn.relu, kernel_init=jd.nn.initializers.he_normal())

    return {
        "model": jd.nn.serial(jd.nn.flatten(), hidden(), hidden(), hidden(), jd.nn.dense(10)),
        "loss": jd.losses.softmax_cross_entropy,
        "metrics": {"accuracy": jd.metrics.accuracy},
        "batch_size": BATCH,
    }


def jaxdeep(epochs, rate=RATE, examples=None, *, progress=True):
    import jax

    import jaxdeep as jd

    jd.fit(
        data=data() if examples is None else examples,
        **setting(),
        optimizer=jd.optimizers.adam(rate),
        epochs=epochs,
        key=jax.random.key(0),
        progress=progress,
    )


def keras(epochs, rate=RATE, examples=None, *, tell=tell):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    layers = [keras.layers.Dense(100, "relu", kernel_initializer="he_normal") for _ in range(3)]
    model = keras.Sequential([keras.layers.Flatten(), *layers, keras.layers.Dense(10)])
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.Adam(rate),
        metrics=["accuracy"],
    )
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: tell())
    examples = data() if examples is None else examples
    model.fit(*examples, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[callback])


def pytorch(epochs, rate=RATE, examples=None, *, tell=tell):
    import torch
    from torch import nn

    x, y = (torch.from_numpy(array) for array in (data() if examples is None else examples))
    x, y = x.reshape(len(x), -1), y.long()
    layers = [nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    for layer in model[:-1:2]:
        nn.init.kaiming_normal_(layer.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    for _ in range(epochs):
        total, right = torch.zeros(()), torch.zeros(())
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            outputs, labels = model(x[rows]), y[rows]
            loss = nn.functional.cross_entropy(outputs, labels)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
            right += (outputs.argmax(-1) == labels).sum()
        float(total / len(x)), float(right / len(x))
        tell()


def optax_loop(epochs):
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    x, y = data()
    x = x.reshape(len(x), -1)
    sizes = [784, 100, 100, 100, 10]
    keys = jax.random.split(jax.random.key(0), 4)
    he = jax.nn.initializers.he_normal()
    params = [{"kernel": he(k, (m, n)), "bias": jnp.zeros(n)} for k, m, n in zip(keys, sizes, sizes[1:])]
    tx = optax.adam(RATE)

    def loss_fn(params, x, y):
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        logits = x @ params[-1]["kernel"] + params[-1]["bias"]
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss, (logits.argmax(-1) == y).sum()

    def step(params, state, totals, x, y):
        (loss, right), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, x, y)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return params, state, (totals[0] + loss * len(x), totals[1] + right)

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    state, rng = tx.init(params), np.random.default_rng(0)
    for _ in range(epochs):
        totals = (jnp.zeros(()), jnp.zeros((), jnp.int32))
        order = rng.permutation(len(x))
        for i in range(0, len(x), BATCH):
            rows = order[i : i + BATCH]
            params, state, totals = step(params, state, totals, x[rows], y[rows])
        jax.device_get(totals)
        tell()


CONTENDERS = {
    "jaxdeep": (jaxdeep, "jaxdeep.fit", None, None),
    "keras": (keras, "Keras on JAX, model.fit", 0.70, 0.75),
    "pytorch": (pytorch, "PyTorch eager, Adam(fused=True)", 0.50, None),
    "optax": (optax_loop, "jitted step with optax, donated, in a Python loop", 0.80, None),
}


def run(name, epochs, *, module="benchmarks.throughput", lines=None):
    """Arrival times of the lines told, one an epoch, in seconds from the start of the process."""
    command = [sys.executable, "-u", "-m", module, "--worker", name, "--epochs", str(epochs)]
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        times = [time.perf_counter() - began for line in process.stdout if line.startswith("epoch")]
    if process.returncode or len(times) != (epochs if lines is None else lines):
        raise SystemExit(f"{name} failed: {' '.join(command)}")
    return times


def measure(rounds, epochs):
    steps = -(-55_000 // BATCH)
    results = {name: {"us_per_step": [], "first_epoch_seconds": []} for name in CONTENDERS}
    for number in range(rounds):
        for name, found in results.items():
            times = run(name, epochs)
            each = [(b - a) / steps * 1e6 for a, b in itertools.pairwise(times)]
            found["us_per_step"].append(statistics.median(each))
            found["first_epoch_seconds"].append(times[0])
            print(
                f"round {number + 1} {name:8} {found['us_per_step'][-1]:6.0f} µs/step, "
                f"first epoch after {times[0]:.2f} s",
                flush=True,
            )
    return results


def table(results):
    rows = [
        "| | µs a step | jaxdeep ÷ it | goal | first epoch, s | jaxdeep ÷ it | goal |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = results["jaxdeep"]
    for name, found in results.items():
        _, label, step_goal, first_goal = CONTENDERS[name]
        cells = [label]
        for key, goal, form in (
            ("us_per_step", step_goal, ".0f"),
            ("first_epoch_seconds", first_goal, ".2f"),
        ):
            ratio = statistics.median(a / b for a, b in zip(ours[key], found[key]))
            cells += [f"{statistics.median(found[key]):{form}}"]
            cells += ["" if name == "jaxdeep" else f"{ratio:.2f}", f"≤ {goal:.2f}" if goal else ""]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def versions():
    from importlib.metadata import version

    names = ("jax", "jaxlib", "optax", "keras", "torch", "numpy")
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        **{name: version(name) for name in names},
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5, help="of a process; the first is timed apart")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/throughput")
    )
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        CONTENDERS[args.worker][0](args.epochs)
        return
    results = measure(args.rounds, args.epochs)
    about = versions()
    command = f"python -m benchmarks.throughput --rounds {args.rounds} --epochs {args.epochs}"
    text = (
        "# Throughput\n\n"
        f"`{command}`\n\n"
        f"{', '.join(f'{name} {value}' for name, value in about.items())}\n\n"
        f"{table(results)}\n\n"
        "Medians over rounds. A step trains on 32 examples and computes loss and accuracy; the first\n"
        "epoch is timed from the start of the process, imports, data and compilation included.\n"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(
        json.dumps({**about, "command": command, **results}, indent=1) + "\n"
    )
    args.out.with_suffix(".md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
