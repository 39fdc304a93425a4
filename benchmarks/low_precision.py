"""Training with the optimizer's state and the parameters in fewer bits, beside float32.

    JAXDEEP_DATA=... python -m benchmarks.low_precision --seeds 5 --out benchmarks/results/low_precision

Quality: AdamW in float32 and in `low_precision` trains three networks: 784-300-100-10 and one of two
convolutions on Fashion-MNIST (on digits without JAXDEEP_DATA), and a transformer of six layers in Flax
on characters of Python's standard library. A seed is the same initial parameters (cast to bfloat16
where they are kept so) and the same order of batches for every preset. The table has the validation
loss after training, its standard deviation over seeds, and the mean difference from float32's, in
standard deviations of float32's.

Update: one donated AdamW update of 10 and 50 million parameters in one array and in 16, presets in
turn; milliseconds are the median over rounds of the fastest in a round, bytes are those of the buffers,
and temporaries what XLA says of the compiled update (`memory_analysis`).
"""

import argparse
import argparse as text_1
import decimal as text_2
import gc
import importlib.util
import json
import os
import pathlib
import statistics
import tarfile as text_3
import time
import typing as text_4

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdeep as jd
from benchmarks.throughput import write_results

PRESETS = {
    "float32": None,
    "bfloat16, bfloat16": ("bfloat16", "bfloat16"),
    "int8, float32": ("int8", "float32"),
    "int8, bfloat16+8": ("int8", "bfloat16+8"),
    "int8, bfloat16": ("int8", "bfloat16"),
}
LENGTH, WIDTH, LAYERS = 48, 64, 6


def optimizer(preset, rate):
    tx = jd.optimizers.adamw(rate)
    return tx if PRESETS[preset] is None else jd.optimizers.low_precision(tx, *PRESETS[preset])


def cast(preset, params):
    if preset.endswith("float32"):
        return params
    return jax.tree.map(lambda p: p.astype("bfloat16"), params)


# --- networks: make() -> (model, training data, validation data, arguments of fit) ------------------


def images(count, side_by_side):
    train, validation, _ = (
        jd.datasets.fashion_mnist() if os.environ.get("JAXDEEP_DATA") else jd.datasets.digits()
    )
    shape = (lambda x: x.reshape(len(x), -1)) if side_by_side else (lambda x: x[..., None])
    return [(shape(x[:count]), y[:count]) for x, y in (train, validation)]


def dense_network(scale):
    model = jd.nn.serial(
        hidden1=jd.nn.dense(300, activation=jax.nn.relu),
        hidden2=jd.nn.dense(100, activation=jax.nn.relu),
        logits=jd.nn.dense(10),
    )
    return model, *images(int(20_000 * scale), True), {"epochs": 5, "batch_size": 64}


def convolutional_network(scale):
    model = jd.nn.serial(
        conv1=jd.nn.conv(16, 3, activation=jax.nn.relu),
        pool1=jd.nn.max_pool(),
        conv2=jd.nn.conv(32, 3, activation=jax.nn.relu),
        pool2=jd.nn.max_pool(),
        flat=jd.nn.flatten(),
        hidden=jd.nn.dense(64, activation=jax.nn.relu),
        logits=jd.nn.dense(10),
    )
    return model, *images(int(6_000 * scale), False), {"epochs": 4, "batch_size": 32}


def transformer(scale):
    import flax.linen as nn

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            mask = nn.make_causal_mask(x[..., 0])
            x = x + nn.SelfAttention(num_heads=4)(nn.LayerNorm()(x), mask)
            return x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))))

    class Characters(nn.Module):
        @nn.compact
        def __call__(self, x):
            places = self.param("places", nn.initializers.normal(0.02), (LENGTH, WIDTH))
            x = nn.Embed(128, WIDTH)(x) + places
            for _ in range(LAYERS):
                x = Block()(x)
            return nn.Dense(128)(nn.LayerNorm()(x))

    files = (importlib.util.find_spec(m.__name__).origin for m in (text_1, text_2, text_3, text_4))
    text = "".join(pathlib.Path(file).read_text() for file in files)
    codes = np.frombuffer(text.encode("ascii", "ignore"), np.uint8).astype(np.int32)
    rows = len(codes) // (LENGTH + 1)
    codes = codes[: rows * (LENGTH + 1)].reshape(rows, LENGTH + 1)
    codes = np.random.default_rng(0).permutation(codes)
    few, many = 256, int(3_200 * scale)
    train, validation = codes[few : few + many], codes[:few]
    model = jd.adapters.from_linen(Characters())
    pairs = [(c[:, :-1], c[:, 1:]) for c in (train, validation)]
    return model, *pairs, {"epochs": 2, "batch_size": 16}


NETWORKS = {"784-300-100-10": dense_network, "convolutions": convolutional_network}
NETWORKS |= {"transformer": transformer}


def quality(name, seeds, scale, rate=1e-3):
    """Validation losses by preset, one a seed; bytes a parameter."""
    model, train, validation, options = NETWORKS[name](scale)
    found = {preset: {"loss": [], "bytes": 0.0} for preset in PRESETS}
    for seed in range(seeds):
        key = jax.random.key(seed)
        params, state = model.init(jax.random.split(key)[0], train[0][:1])
        for preset, row in found.items():
            began = time.perf_counter()
            result = jd.fit(
                model,
                train,
                loss=jd.losses.softmax_cross_entropy,
                optimizer=optimizer(preset, rate),
                params=cast(preset, params),
                state=state,
                validation=validation,
                key=key,
                progress=False,
                **options,
            )
            row["loss"].append(float(result.history["val_loss"][-1]))
            row["bytes"] = jd.optimizers.bytes_per_param(result.train_state.opt_state, result.params)
            took = time.perf_counter() - began
            print(f"{name}, {preset}, seed {seed}: {row['loss'][-1]:.4f} ({took:.0f} s)", flush=True)
    return found


def quality_table(name, measured):
    found = measured["presets"]
    exact = found["float32"]["loss"]
    deviation = statistics.stdev(exact) if len(exact) > 1 else float("nan")
    lines = [f"## {name}", "", f"`{measured['command']}`", ""]
    lines += ["| state, parameters | validation loss | sd | difference, sd of float32's | bytes |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for preset, row in found.items():
        losses = row["loss"]
        off = (statistics.mean(losses) - statistics.mean(exact)) / deviation
        own = statistics.stdev(losses) if len(losses) > 1 else float("nan")
        lines += [
            f"| {preset} | {statistics.mean(losses):.4f} | {own:.4f} | {off:+.2f} | {row['bytes']:.2f} |"
        ]
    return "\n".join(lines)


# --- the update -------------------------------------------------------------------------------------


def compiled_update(preset, leaves, size):
    tx = optimizer(preset, 1e-3)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = cast(preset, [jnp.ones((size // leaves // 2_500, 2_500)) for _ in range(leaves)])
    grads = jax.tree.map(lambda p: jnp.full_like(p, 0.01), params)
    state = tx.init(params)
    began = time.perf_counter()
    step = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, grads).compile()
    about = {
        "compile": time.perf_counter() - began,
        "bytes": jd.optimizers.bytes_per_param(state, params),
        "temporary": step.memory_analysis().temp_size_in_bytes / size,
    }
    return step, params, state, grads, about


def update_times(leaves, size, rounds, repeats=5):
    found = {}
    for preset in PRESETS:
        step, params, state, grads, about = compiled_update(preset, leaves, size)
        del params, state, grads
        found[preset] = {"step": step, **about, "ms": []}
    for _ in range(rounds):
        for preset, row in found.items():
            gc.collect()
            tx, times = optimizer(preset, 1e-3), []
            params = cast(preset, [jnp.ones((size // leaves // 2_500, 2_500)) for _ in range(leaves)])
            grads = jax.tree.map(lambda p: jnp.full_like(p, 0.01), params)
            state = tx.init(params)
            for _ in range(repeats):
                began = time.perf_counter()
                params, state = jax.block_until_ready(row["step"](params, state, grads))
                times.append((time.perf_counter() - began) * 1e3)
            row["ms"].append(min(times))
            del params, state, grads
    for row in found.values():
        del row["step"]
        row["ratio"] = statistics.median(
            ms / exact for ms, exact in zip(row["ms"], found["float32"]["ms"])
        )
        print(row, flush=True)
    return found


def update_table(name, measured):
    found = measured["presets"]
    lines = [f"## Update of {name} parameters", "", f"`{measured['command']}`", ""]
    lines += ["| state, parameters | ms | × float32 | bytes | temporary bytes | compile, s |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for preset, row in found.items():
        ms = statistics.median(row["ms"])
        lines += [
            f"| {preset} | {ms:.1f} | {row['ratio']:.2f} | {row['bytes']:.2f} | {row['temporary']:.2f} "
            f"| {row['compile']:.1f} |"
        ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the training data")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--sizes", nargs="*", type=int, default=[10, 50], help="millions of parameters")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    # What is not measured now stays as the file has it.
    old = args.out.with_suffix(".json") if args.out else pathlib.Path(os.devnull)
    found = json.loads(old.read_text()) if old.is_file() else {}
    found = {kind: found.get(kind, {}) for kind in ("quality", "update")}
    data = "JAXDEEP_DATA=... " if os.environ.get("JAXDEEP_DATA") else ""
    module = "python -m benchmarks.low_precision"
    for name in args.networks:
        presets = quality(name, args.seeds, args.scale)
        command = f"{data}{module} --seeds {args.seeds} --scale {args.scale:g} --networks {name} --sizes"
        found["quality"][name] = {"command": command, "presets": presets}
    for millions in args.sizes:
        command = f"{module} --rounds {args.rounds} --sizes {millions} --networks"
        for leaves in (1, 16):
            presets = update_times(leaves, millions * 1_000_000, args.rounds)
            name = f"{leaves} × {millions * 1_000_000 // leaves:,}"
            found["update"][name] = {"command": command, "presets": presets}
    tables = [quality_table(name, measured) for name, measured in found["quality"].items()]
    tables += [update_table(name, measured) for name, measured in found["update"].items()]
    if args.out is None:
        print("\n\n".join(tables))
        return
    title = "Optimizer state and parameters in fewer bits"
    write_results(args.out, title, f"{data}{module}", "\n\n".join(tables), found)


if __name__ == "__main__":
    main()
