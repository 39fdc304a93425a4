"""Monte Carlo dropout: 100 samples of 10,000 images, seconds and peak memory, beside others.

    python -m benchmarks.mc_dropout --rounds 5

784-100-100-10 with dropout 0.2 before each layer, the same weights for all; every contender ends with
the mean and the standard deviation of the probabilities. Each runs in a process of its own: once to
compile and warm up, then `--repeats` times, of which the median counts. The peak is the resident memory
of the process (Linux) during these, less what it had after the model and the data were there and one
pass was compiled and made. Contenders take turns within a round; a ratio is the median over rounds of
that within a round.

`matmul` is the least there is to do: the matrix products, in the same chunks, with sums of their
outputs and nothing else. `ours` is compared with the loop over the same keys of all rows at once.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

from benchmarks.throughput import versions

RATE, SIZES = 0.2, (784, 100, 100, 10)
CHUNK = 1000  # rows, for contenders in chunks


def weights():
    rng = np.random.default_rng(0)
    shapes = list(itertools.pairwise(SIZES))
    return [(rng.normal(size=s) * (2 / s[0]) ** 0.5).astype(np.float32) for s in shapes]


def images(rows):
    if "JAXDEEP_DATA" in os.environ:
        import jaxdeep as jd

        x, _ = jd.datasets.fashion_mnist().test
        return np.resize(x.reshape(len(x), -1), (rows, 784))
    return np.random.default_rng(1).random((rows, 784), dtype=np.float32)


# --- contenders: make(x, weights, samples) -> run(seed) -> (mean, std) ------------------------------


def network():
    import jax

    import jaxdeep as jd

    def hidden():
        return jd.nn.dense(100, activation=jax.nn.relu)

    drop = functools.partial(jd.nn.dropout, RATE)
    return jd.nn.serial(drop(), hidden(), drop(), hidden(), drop(), jd.nn.dense(10))


def our_params(ws):
    import jax.numpy as jnp

    return {
        f"dense{i}": {"kernel": jnp.asarray(w), "bias": jnp.zeros(w.shape[1])} for i, w in enumerate(ws)
    }


def ours(x, ws, samples, **more):
    import jax
    import jax.numpy as jnp

    import jaxdeep as jd

    model, params, x = network(), our_params(ws), jnp.asarray(x)

    def run(seed):
        pred = jd.uncertainty.mc_dropout(
            model, params, {}, x, jax.random.key(seed), samples=samples, **more
        )
        return jax.block_until_ready((pred.mean, pred.std))

    return run


def brute(x, ws, samples):
    """The loop over the same keys of all rows at once, each pass compiled."""
    import jax
    import jax.numpy as jnp

    model, params, x = network(), our_params(ws), jnp.asarray(x)
    once = jax.jit(lambda params, x, key: jax.nn.softmax(model.apply(params, {}, x, key=key)[0]))

    def run(seed):
        total = np.zeros((2, len(x), 10))
        for key in jax.random.split(jax.random.key(seed), samples):
            p = np.asarray(once(params, x, key), np.float64)
            total += p, p**2
        mean, square = total / samples
        return mean, np.sqrt(np.maximum(square - mean**2, 0))

    return run


def plain(x, ws, samples, *, drop, chunk=None, vmapped=False):
    """Plain JAX: ``drop(key, h)`` before each product, mapped over keys, in chunks of rows or not."""
    import jax
    import jax.numpy as jnp

    ws, x = [jnp.asarray(w) for w in ws], jnp.asarray(x)
    chunk = chunk or len(x)

    def forward(ws, h, key):
        for i, w in enumerate(ws):
            h = drop(jax.random.fold_in(key, i), h) @ w
            h = jax.nn.relu(h) if i < len(ws) - 1 else jax.nn.softmax(h)
        return h

    def of_chunk(ws, keys, part):
        part, number = part
        if vmapped:
            p = jax.vmap(lambda key: forward(ws, part, key))(keys)
            return p.mean(0), p.std(0)

        def add(sums, key):
            p = forward(ws, part, jax.random.fold_in(key, number))
            return (sums[0] + p, sums[1] + p * p), None

        zeros = jnp.zeros((chunk, 10))
        (total, squares), _ = jax.lax.scan(add, (zeros, zeros), keys)
        mean = total / samples
        return mean, jnp.sqrt(jnp.maximum(squares / samples - mean**2, 0))

    @jax.jit
    def predict(ws, x, key):
        keys = jax.random.split(key, samples)
        parts = x.reshape(-1, chunk, x.shape[1]), jnp.arange(len(x) // chunk)
        found = jax.lax.map(functools.partial(of_chunk, ws, keys), parts)
        return jax.tree.map(lambda a: a.reshape(len(x), 10), found)

    return lambda seed: jax.block_until_ready(predict(ws, x, jax.random.key(seed)))


def threefry(key, h):
    import jax
    import jax.numpy as jnp

    return jnp.where(jax.random.bernoulli(key, 1 - RATE, h.shape), h / (1 - RATE), 0)


def matmul(x, ws, samples):
    """The products alone, in the same chunks: what no library can do without."""
    import jax
    import jax.numpy as jnp

    ws, x = [jnp.asarray(w) for w in ws], jnp.asarray(x)
    rows = min(CHUNK, len(x))

    @jax.jit
    def predict(ws, x):
        def of_chunk(part):
            def add(total, _):
                h = part
                for w in ws:
                    h = h @ (w * (1 + 0 * total[0, 0]))  # depends on the pass, or it would be made once
                return total + h, None

            return jax.lax.scan(add, jnp.zeros((rows, 10)), None, length=samples)[0]

        return jax.lax.map(of_chunk, x.reshape(-1, rows, x.shape[1])).reshape(len(x), 10)

    return lambda seed: (jax.block_until_ready(predict(ws, x)),) * 2


def flax_vmap(x, ws, samples):
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for units in SIZES[1:]:
                x = nn.Dense(units)(nn.Dropout(RATE, deterministic=False)(x))
                x = nn.relu(x) if units != 10 else nn.softmax(x)
            return x

    module, x = Net(), jnp.asarray(x)
    params = {
        f"Dense_{i}": {"kernel": jnp.asarray(w), "bias": jnp.zeros(w.shape[1])} for i, w in enumerate(ws)
    }

    @jax.jit
    def predict(params, x, key):
        once = lambda key: module.apply({"params": params}, x, rngs={"dropout": key})  # noqa: E731
        p = jax.vmap(once)(jax.random.split(key, samples))
        return p.mean(0), p.std(0)

    return lambda seed: jax.block_until_ready(predict(params, x, jax.random.key(seed)))


def keras_loop(x, ws, samples, *, predict=False):
    """``np.stack([model(x, training=True) for sample in range(100)])``, or the same by `predict`."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    class MCDropout(keras.layers.Dropout):
        def call(self, inputs, training=False):
            return super().call(inputs, training=True)

    layers = [keras.Input((784,))]
    for units in SIZES[1:]:
        layers += [
            MCDropout(RATE),
            keras.layers.Dense(units, activation="relu" if units != 10 else "softmax"),
        ]
    model = keras.Sequential(layers)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    for layer, w in zip(dense, ws):
        layer.set_weights([w, np.zeros(w.shape[1], np.float32)])

    def run(seed):
        if predict:
            p = np.stack([model.predict(x, batch_size=CHUNK, verbose=0) for _ in range(samples)])
        else:
            p = np.stack([np.asarray(model(x, training=True)) for _ in range(samples)])
        return p.mean(0), p.std(0)

    return run


def torch_loop(x, ws, samples):
    import torch
    from torch import nn

    torch.set_num_threads(os.cpu_count())
    layers = []
    for n, units in itertools.pairwise(SIZES):
        layers += [nn.Dropout(RATE), nn.Linear(n, units), nn.ReLU() if units != 10 else nn.Softmax(-1)]
    model = nn.Sequential(*layers).train()  # dropout on; there is no batch norm
    with torch.no_grad():
        for layer, w in zip([m for m in model if isinstance(m, nn.Linear)], ws):
            layer.weight.copy_(torch.tensor(w.T))
            layer.bias.zero_()
    x = torch.tensor(x)

    def run(seed):
        torch.manual_seed(seed)
        with torch.inference_mode():
            total = squares = 0
            for _ in range(samples):
                p = model(x)
                total, squares = total + p, squares + p * p
        mean = total / samples
        return mean.numpy(), (squares / samples - mean**2).clamp(min=0).sqrt().numpy()

    return run


CONTENDERS = {
    "ours": ("`jaxdeep.uncertainty.mc_dropout`", ours),
    "matmul": ("the matrix products alone", matmul),
    "chunks": (
        "plain JAX, chunks of 1,000 rows, threefry",
        functools.partial(plain, drop=threefry, chunk=CHUNK),
    ),
    "map": ("plain JAX, `lax.map` over keys, threefry", functools.partial(plain, drop=threefry)),
    "flax": ("Flax, `vmap` over keys", flax_vmap),
    "keras": ("Keras on JAX, a loop of `model(x, training=True)`", keras_loop),
    "keras-predict": (
        "Keras on JAX, a loop of `predict` in batches of 1,000",
        functools.partial(keras_loop, predict=True),
    ),
    "torch": ("PyTorch, a loop", torch_loop),
}
GOALS = {"matmul": "≤ 1.5", "flax": "≥ 8", "keras": "≥ 8", "torch": "≥ 5"}


# --- one process ----------------------------------------------------------------------------------


def resident(field):
    """Resident memory in MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise SystemExit("this machine does not tell the memory of a process")


def work(name, samples, rows, repeats):
    """Seconds of each run after the first, and MiB at the peak above model, data and one pass."""
    x, ws = images(rows), weights()
    make = CONTENDERS[name][1]
    first = make(x, ws, 1)  # libraries are loaded and one pass compiled: the base
    first(0)
    del first
    run = make(x, ws, samples)
    base = resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    run(0)
    times = []
    for i in range(repeats):
        began = time.perf_counter()
        run(i + 1)
        times.append(time.perf_counter() - began)
    return {"seconds": times, "peak_mib": resident("VmHWM") - base}


def equality(samples, rows):
    """Largest distance of the mean and of the standard deviation from the loop over the same keys."""
    x, ws = images(rows), weights()
    found, expected = ours(x, ws, samples)(3), brute(x, ws, samples)(3)
    mean, std = (float(np.abs(np.asarray(a, np.float64) - b).max()) for a, b in zip(found, expected))
    return {"mean": mean, "std": std}


def process(*arguments):
    command = [sys.executable, "-m", "benchmarks.mc_dropout", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# --- report ---------------------------------------------------------------------------------------


def report(saved):
    rounds = saved["rounds"]

    def median(value):
        return statistics.median(value(found) for found in rounds)

    def seconds(found, name):
        return statistics.median(found[name]["seconds"])

    lines = [
        "| | s | ÷ jaxdeep | goal | peak above model and data, MiB | goal |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in rounds[0]:
        ratio = median(lambda r, n=name: seconds(r, n) / seconds(r, "ours"))
        goal = GOALS.get(name, "")
        if name == "matmul":
            inverse = median(lambda r: seconds(r, "ours") / seconds(r, "matmul"))
            goal = f"jaxdeep ÷ it {inverse:.2f}, {goal}"
        memory = median(lambda r, n=name: r[n]["peak_mib"])
        lines.append(
            f"| {CONTENDERS[name][0]} | {median(lambda r, n=name: seconds(r, n)):.2f} "
            f"| {'' if name == 'ours' else f'{ratio:.2f}'} | {goal} | {memory:,.0f} "
            f"| {'≤ 150' if name == 'ours' else ''} |"
        )
    distance, flat = saved["distance"], saved["peak_by_samples"]
    lines += [
        "",
        f"Distance from the loop over the same keys: mean {distance['mean']:.1e}, standard deviation "
        f"{distance['std']:.1e} (goal ≤ 1e-5).",
        "",
        "Peak of jaxdeep by samples: "
        + ", ".join(f"{samples} samples {peak:.0f} MiB" for samples, peak in flat.items())
        + " (goal: flat).",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="of a process; the median counts")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--rows", type=int, default=10_000, help="a multiple of 1,000")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[*CONTENDERS])
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/mc_dropout")
    )
    parser.add_argument("--worker", choices=[*CONTENDERS, "equality"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        if args.worker == "equality":
            print(json.dumps(equality(args.samples, args.rows)))
        else:
            print(json.dumps(work(args.worker, args.samples, args.rows, args.repeats)))
        return
    if args.rows % CHUNK:
        parser.error(f"--rows must be a multiple of {CHUNK}, got {args.rows}")
    names = ["ours", *(name for name in args.contenders if name != "ours")]
    size = ["--samples", args.samples, "--rows", args.rows, "--repeats", args.repeats]
    asked = " ".join(map(str, ["--rounds", args.rounds, *size]))
    saved = {
        **versions(),
        "command": f"python -m benchmarks.mc_dropout {asked}",
        "distance": process(*size, "--worker", "equality"),
        "peak_by_samples": {},
        "rounds": [],
    }
    for samples in (args.samples // 10 or 1, args.samples, args.samples * 10):
        few = ["--samples", samples, "--rows", args.rows, "--repeats", 1]
        saved["peak_by_samples"][samples] = process(*few, "--worker", "ours")["peak_mib"]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(args.rounds):
        found = {}
        for name in names:
            found[name] = process(*size, "--worker", name)
            print(name, found[name], flush=True)
        saved["rounds"].append(found)
        args.out.with_suffix(".json").write_text(json.dumps(saved, indent=1) + "\n")
        about = ", ".join(f"{k} {v}" for k, v in versions().items())
        text = (
            f"# Monte Carlo dropout\n\n`{saved['command']}`\n\n{about}\n\n{report(saved)}\n\n"
            f"{args.samples} samples × {args.rows:,} rows, 784-100-100-10, dropout {RATE} before each "
            "layer; medians, compilation not included.\n"
        )
        args.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
