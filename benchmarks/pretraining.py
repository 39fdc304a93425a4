"""Does it pay to pretrain where labels are few? From scratch beside pretrained, over twenty seeds.

    JAXDEEP_DATA=... python -m benchmarks.pretraining --seeds 20

Fashion-MNIST: 10,000 training images whose labels are not looked at, a few labelled ones among them (as
many of each class), accuracy on the first 5,000 test images. A seed draws the labelled images, the
parameters and the orders. Two networks:

* deep: five hidden layers of 100 sigmoids, Glorot's initialisation, SGD at 0.1 with momentum 0.9, 300
  labels, 60 epochs of batches of 20; what greedy layer-wise pretraining was made for.
* usual: three hidden layers of 100 rectified units, He's initialisation, Adam at 0.001, 100 labels, 60
  epochs of batches of 20.

Both with `pretrain_layerwise` (Adam at 0.002 and 0.001, ten epochs a layer, batches of 64) and with
`pretrain_on_task` (Adam at 0.001, ten epochs), whose task is the kind of garment of the 10,000 images:
one of five instead of ten, a label that is cheaper. Intervals are 95 %, by Student's t over seeds.
"""

import argparse
import pathlib
import time

import numpy as np

from benchmarks.throughput import write_results
from benchmarks.transfer import interval

UNLABELLED, TESTED, EPOCHS, BATCH = 10_000, 5_000, 60, 20
KINDS = np.array(
    [0, 1, 0, 2, 0, 3, 0, 3, 4, 3]
)  # of the ten classes: tops, trousers, dresses, shoes, bags
WAYS = ("from scratch", "layer by layer", "on a task")


def networks():
    """By name: the network, its labels, its optimizer, and the rate of layer-wise pretraining."""
    import jax

    import jaxdeep as jd

    def made(depth, activation, kernel_init):
        hidden = {
            f"hidden{i}": jd.nn.dense(100, activation=activation, kernel_init=kernel_init)
            for i in range(1, depth + 1)
        }
        return jd.nn.serial(flatten=jd.nn.flatten(), **hidden, logits=jd.nn.dense(10))

    init = jd.nn.initializers
    deep = made(5, jax.nn.sigmoid, init.glorot_uniform())
    usual = made(3, jax.nn.relu, init.he_normal())
    return {
        "deep": (deep, 300, jd.optimizers.sgd(0.1, momentum=0.9), 2e-3),
        "usual": (usual, 100, jd.optimizers.adam(1e-3), 1e-3),
    }


def begun(way, model, rate, x, y, seed):
    """Parameters and state to begin with, or none."""
    import jaxdeep as jd

    if way == "from scratch":
        return {}
    if way == "layer by layer":
        made = jd.transfer.pretrain_layerwise(
            model, x, optimizer=jd.optimizers.adam(rate), key=seed, epochs=10, batch_size=64
        )
    else:
        made = jd.transfer.pretrain_on_task(
            model, (x, KINDS[y].astype(np.int32)), head=jd.nn.dense(5), key=seed, epochs=10,
            batch_size=64, loss=jd.losses.softmax_cross_entropy, optimizer=jd.optimizers.adam(1e-3),
            progress=False,
        )  # fmt: skip
    return dict(zip(("params", "state"), made))


def accuracy(name, way, data, seed):
    import jaxdeep as jd

    (x, y), test = data
    model, labelled, optimizer, rate = networks()[name]
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(y == c))[: labelled // 10] for c in range(10)]
    rows = np.concatenate(rows)
    result = jd.fit(
        model, (x[rows], y[rows]), loss=jd.losses.softmax_cross_entropy, optimizer=optimizer,
        epochs=EPOCHS, batch_size=BATCH, key=seed, progress=False, **begun(way, model, rate, x, y, seed),
    )  # fmt: skip
    metrics = {"accuracy": jd.metrics.accuracy}
    return float(result.evaluate(test, metrics=metrics, batch_size=1000)["accuracy"])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    out = pathlib.Path("benchmarks/results/pretraining")
    parser.add_argument("--out", type=pathlib.Path, default=out)
    args = parser.parse_args()
    import jaxdeep as jd

    train, _, test = jd.datasets.fashion_mnist()
    few = tuple(np.asarray(part[:UNLABELLED]) for part in train)
    data = few, tuple(np.asarray(part[:TESTED]) for part in test)
    began = time.perf_counter()
    found = {
        name: {way: [accuracy(name, way, data, seed) for seed in range(args.seeds)] for way in WAYS}
        for name in networks()
    }
    lines = [
        "| network | way | test accuracy, mean and 95 % interval | gain, seed by seed |",
        "| --- | --- | --- | --- |",
    ]
    for name, ways in found.items():
        for way, values in ways.items():
            mean, half = interval(values)
            gain, wide = interval(np.subtract(values, ways["from scratch"]))
            of_gain = f"{gain:+.3f} ± {wide:.3f}" if way != "from scratch" else ""
            lines.append(f"| {name} | {way} | {mean:.3f} ± {half:.3f} | {of_gain} |")
    command = f"python -m benchmarks.pretraining --seeds {args.seeds}"
    seconds = f"{args.seeds} seeds, {time.perf_counter() - began:.0f} s"
    lines += ["", f"{seconds}. The networks and the task: `benchmarks/pretraining.py`."]
    write_results(args.out, "Pretraining", command, "\n".join(lines), found)


if __name__ == "__main__":
    main()
