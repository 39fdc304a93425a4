"""Trained networks made smaller and faster for inference: time, bytes, accuracy.

    python -m benchmarks.compress --data fashion-mnist --rounds 9

Two networks with batch norm, 784-300-100-10 and one of two convolutions, are trained and then run as
they are, with batch norms folded, and folded with bfloat16 or int8 weights: compiled, parameters as
arguments, and from a file of `jd.compress.export`, where they are constants. A round times every form
once, turn by turn, the mean of a tenth of a second of calls; a ratio is the median over rounds of the
ratio to the network as trained within a round.

Then 784-300-100-10 without batch norm: accuracy after magnitude pruning, of the network trained without
and with L1 (of the strength that is best on the validation data), and after fine-tuning at 90 % zeros.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
import optax

import jaxdeep as jd
from benchmarks.throughput import versions

nn, compress = jd.nn, jd.compress
LEVELS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
HOW = {  # of the pruning: strengths of L1, epochs, epochs of fine-tuning, rows of a batch
    "digits": ((1e-4, 3e-4, 1e-3), 30, 10, 32),
    "fashion-mnist": ((3e-6, 1e-5, 3e-5), 10, 3, 128),
}
relu = jax.nn.relu


def dense_network():
    return nn.serial(
        flatten=nn.flatten(),
        bn0=nn.batch_norm(),
        hidden1=nn.dense(300, use_bias=False, kernel_init=nn.initializers.he_normal()),
        bn1=nn.batch_norm(),
        act1=nn.activation(relu),
        hidden2=nn.dense(100, use_bias=False, kernel_init=nn.initializers.he_normal()),
        bn2=nn.batch_norm(),
        act2=nn.activation(relu),
        logits=nn.dense(10),
    )


def convolutional_network(side):
    return nn.serial(
        image=nn.reshape(side, side, 1),
        conv1=nn.conv(32, 3, use_bias=False),
        bn1=nn.batch_norm(),
        act1=nn.activation(relu),
        pool1=nn.max_pool(2),
        conv2=nn.conv(64, 3, use_bias=False),
        bn2=nn.batch_norm(),
        act2=nn.activation(relu),
        pool2=nn.max_pool(2),
        flatten=nn.flatten(),
        logits=nn.dense(10),
    )


def plain_network():
    return nn.serial(
        flatten=nn.flatten(),
        hidden1=nn.dense(300, activation=relu),
        hidden2=nn.dense(100, activation=relu),
        logits=nn.dense(10),
    )


def train(model, data, epochs, batch_size, **more):
    how = {"loss": jd.losses.softmax_cross_entropy, "progress": False, "key": jax.random.key(0)}
    how |= {"optimizer": jd.optimizers.adam(1e-3), "batch_size": batch_size, "epochs": epochs}
    result = jd.fit(model, data, **{**how, **more})
    return model, result.params, result.state


def forms(trained):
    """The same network in the forms compared, by name."""
    folded = compress.fold_batch_norm(*trained)
    return {
        "as trained": trained,
        "folded": folded,
        "folded, bfloat16": compress.cast(*folded),
        "folded, int8": compress.quantize(*folded),
    }


def outputs_of(apply, x, rows=1000):
    return np.concatenate([np.asarray(apply(x[i : i + rows])) for i in range(0, len(x), rows)])


def seconds(call, x, length):
    """Mean seconds of a call, over `length` seconds of calls."""
    calls, began = 0, time.perf_counter()
    while not calls or time.perf_counter() < began + length:
        jax.block_until_ready(call(x))
        calls += 1
    return (time.perf_counter() - began) / calls


def inference(trained, test, batches, rounds, length):
    """Accuracy, bytes and times of every form of a network."""
    x, y = test
    found, calls = {}, {}
    expected = None
    with tempfile.TemporaryDirectory() as folder:
        for name, (model, params, state) in forms(trained).items():
            program = jax.jit(lambda params, state, x, model=model: model.apply(params, state, x)[0])
            path = pathlib.Path(folder) / "model"
            compress.export(path, model, params, state, x[:1])
            calls[name] = lambda x, p=program, a=(params, state): p(*a, x)
            calls[f"{name}, exported"] = compress.load_exported(path)
            outputs = outputs_of(calls[name], x)
            expected = outputs if expected is None else expected
            about = {
                "accuracy": 100 * float(np.mean(jd.metrics.accuracy(outputs, y))),
                "difference": float(np.abs(outputs - expected).max() / np.abs(expected).max()),
                "bytes": compress.size_bytes(params, state),
                "file": path.stat().st_size,
            }
            found[name] = about
            found[f"{name}, exported"] = {**about, "bytes": about["file"]}
        times = {name: {batch: [] for batch in batches} for name in calls}
        for batch in batches:
            rows = np.resize(x, (batch, *x.shape[1:]))
            rows = jax.device_put(rows)
            for call in calls.values():
                jax.block_until_ready(call(rows))
            for _ in range(rounds):
                for name, call in calls.items():
                    times[name][batch].append(seconds(call, rows, length))
    return {name: {**found[name], "seconds": times[name]} for name in calls}


def pruning(data, validation, test, strengths, epochs, tuning, batch_size):
    """Accuracy at every level of zeros, and after fine-tuning at 90 %.

    Of the strengths of L1 the one whose fine-tuned network is best on the validation data.
    """

    def at_ninety(trained):
        pruned = compress.prune(trained[1], 0.9)
        optimizer = optax.chain(jd.optimizers.adam(5e-4), compress.keep_zeros())
        return train(trained[0], data, tuning, batch_size, params=pruned, optimizer=optimizer)

    def with_l1(strength):
        penalty = jd.regularizers.l1(strength, where="*/kernel")
        trained = train(plain_network(), data, epochs, batch_size, penalty=penalty)
        return strength, trained, at_ninety(trained)

    def curve(trained, rows, levels):
        return (100 * compress.sparsity_curve(*trained, rows, levels).value).tolist()

    plain = train(plain_network(), data, epochs, batch_size)
    runs = [with_l1(strength) for strength in strengths]
    strength, sparse, tuned = max(runs, key=lambda run: curve(run[2], validation, [0.9]))
    forms = {"without L1": (plain, at_ninety(plain)), f"with L1 of {strength:g}": (sparse, tuned)}
    found = {"levels": list(LEVELS)}
    for name, (before, after) in forms.items():
        found[name] = curve(before, test, LEVELS)
        found[f"{name}, fine-tuned at 90 %"] = curve(after, test, [0.9])
    return found


def ratio(forms, name, batch):
    pairs = zip(forms["as trained"]["seconds"][batch], forms[name]["seconds"][batch])
    return statistics.median(base / own for base, own in pairs)


def table(forms, batches):
    head = "".join(f" {b:,} rows, µs | × |" for b in batches)
    lines = [f"| | KiB | accuracy, % | largest difference |{head}"]
    lines.append("| --- | ---: | ---: | ---: |" + " ---: | ---: |" * len(batches))
    for name, form in forms.items():
        cells = [name, f"{form['bytes'] / 1024:,.0f}", f"{form['accuracy']:.2f}"]
        cells.append(f"{form['difference']:.0e}")
        for batch in batches:
            cells.append(f"{statistics.median(form['seconds'][batch]) * 1e6:,.0f}")
            cells.append(f"{ratio(forms, name, batch):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curve_table(curves):
    levels = curves["levels"]
    head = "".join(f" {100 * level:g} % |" for level in levels)
    lines = [f"| accuracy, %, at zeros of |{head}", "| --- |" + " ---: |" * len(levels)]
    for name, values in curves.items():
        if name == "levels":
            continue
        at = dict(zip(levels if len(values) > 1 else [0.9], values))
        cells = [f"{at[level]:.2f}" if level in at else "" for level in levels]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = "fashion-mnist" if os.environ.get("JAXDEEP_DATA") else "digits"
    parser.add_argument("--data", choices=HOW, default=usual)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--length", type=float, default=0.1, help="seconds of calls a round")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/compress"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    data, validation, test = jd.datasets.load(args.data)
    _, epochs, _, rows = HOW[args.data]
    side = data[0].shape[-1]
    name = f"{side * side}-300-100-10"
    networks = {
        name: (dense_network(), epochs, [1, 32, 1000, 10_000]),
        "two convolutions": (convolutional_network(side), max(1, epochs // 10), [1, 32, 1000]),
    }
    about = versions()
    command = f"python -m benchmarks.compress --data {args.data} --rounds {args.rounds}"
    saved = {**about, "command": command, "networks": {}}
    text = f"# Compression\n\n`{command}`\n\n{', '.join(f'{k} {v}' for k, v in about.items())}\n"
    for title, (model, passes, batches) in networks.items():
        trained = train(model, data, passes, rows)
        found = inference(trained, test, batches, args.rounds, args.length)
        saved["networks"][title] = found
        text += f"\n## {title}, batch norm, {passes} epochs on {args.data}\n\n{table(found, batches)}\n"
    saved["pruning"] = pruning(data, validation, test, *HOW[args.data])
    text += f"\n## Pruning {name}\n\n{curve_table(saved['pruning'])}\n"
    text += (
        "\nAccuracies are of the test images; the strength of L1 is chosen on the validation images.\n"
    )
    text += "Medians over rounds; × is how many times faster than as trained.\n"
    args.out.with_suffix(".json").write_text(json.dumps(saved, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
