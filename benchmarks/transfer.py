"""Does it pay to reuse layers? Twenty seeds from scratch beside twenty that begin with another's layers.

    JAXDEEP_DATA=... python -m benchmarks.transfer --seeds 20

As in the textbook (Géron, chapter 11): network A learns eight of the ten classes of Fashion-MNIST; task
B is to tell pullovers from T-shirts by 200 images. B with A's hidden layers, which are held for 4 epochs
and then trained too for 16, beside B from scratch for 20; SGD with a rate of 0.001, batches of 32. All
runs of B are one sweep. The accuracy is that of the 2,000 test images of the two classes; intervals are
95 %, by Student's t over seeds (initial head, order of the batches).
"""

import argparse
import pathlib
import time

import numpy as np

from benchmarks.throughput import write_results

PULLOVER, T_SHIRT = 2, 0
IMAGES, HELD_EPOCHS, EPOCHS, BATCH, RATE = 200, 4, 20, 32, 1e-3
TEXTBOOK = {"from scratch": 0.9185, "reused": 0.9385}


def network(units):
    import jax

    import jaxdeep as jd

    def hidden():
        return jd.nn.dense(100, activation=jax.nn.relu, kernel_init=jd.nn.initializers.he_normal())

    return jd.nn.serial(
        flatten=jd.nn.flatten(), hidden1=hidden(), hidden2=hidden(), hidden3=hidden(),
        logits=jd.nn.dense(units),
    )  # fmt: skip


def tasks():
    """Training and validation data of A; training and test data of B."""
    import jaxdeep as jd

    train, validation, test = jd.datasets.fashion_mnist()
    apart = (PULLOVER, T_SHIRT)

    def of_a(pair):
        x, y = pair
        chosen = ~np.isin(y, apart)
        others = [c for c in range(10) if c not in apart]
        return x[chosen], np.searchsorted(others, y[chosen]).astype(np.int32)

    def of_b(pair, rows=None):
        x, y = pair
        chosen = np.flatnonzero(np.isin(y, apart))[:rows]
        return x[chosen], (y[chosen] == T_SHIRT).astype(np.float32)[:, None]

    return of_a(train), of_a(validation), of_b(train, IMAGES), of_b(test)


def right(logits, labels):
    return ((logits > 0) == (labels > 0.5)).astype(np.float32)[..., 0]


def train_a(data, validation, key):
    import jaxdeep as jd

    return jd.fit(
        network(8), data, validation=validation, loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy}, optimizer=jd.optimizers.sgd(RATE),
        epochs=EPOCHS, batch_size=BATCH, key=key, progress=False,
    )  # fmt: skip


def sweep_b(params, state, data, test, seeds):
    """Both ways of beginning, every seed, as one sweep."""
    import jax.numpy as jnp
    import optax

    import jaxdeep as jd

    held = HELD_EPOCHS * -(-IMAGES // BATCH)
    lower = jd.optimizers.multiply(lambda step: jnp.where(step < held, 0.0, 1.0), where="hidden*")

    def build(hp):
        if not hp["reused"]:
            return {"model": network(1), "optimizer": jd.optimizers.sgd(RATE)}
        model = jd.transfer.pretrained(network(1), params, state, where="hidden*")
        return {"model": model, "optimizer": optax.chain(jd.optimizers.sgd(RATE), lower)}

    return jd.sweep(
        build, {"reused": [False, True]}, seeds=seeds, data=data, validation=test,
        loss=jd.losses.sigmoid_cross_entropy, metrics={"accuracy": right},
        epochs=EPOCHS, batch_size=BATCH, progress=False,
    )  # fmt: skip


def interval(values):
    """Mean and half the width of its 95 % interval."""
    from scipy import stats

    values = np.asarray(values, float)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def measure(seeds):
    import jax

    began = time.perf_counter()
    data_a, validation_a, data_b, test_b = tasks()
    a = train_a(data_a, validation_a, jax.random.key(42))
    seconds_a = time.perf_counter() - began
    table = sweep_b(a.params, a.state, data_b, test_b, seeds)
    rows = table.rows()
    scratch, reused = (
        [row["val_accuracy"] for row in rows if row["reused"] is which] for which in (False, True)
    )
    return {
        "a_validation_accuracy": float(a.history["val_accuracy"][-1]),
        "seconds_a": seconds_a,
        "seconds_b": time.perf_counter() - began - seconds_a,
        "from scratch": scratch,
        "reused": reused,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/transfer"))
    args = parser.parse_args()
    found = measure(args.seeds)
    gain = np.subtract(found["reused"], found["from scratch"])
    lines = [
        "| B, test accuracy | mean, 95 % interval | lowest – highest | textbook |",
        "| --- | --- | --- | ---: |",
    ]
    for name in ("from scratch", "reused"):
        mean, half = interval(found[name])
        lines.append(
            f"| {name} | {mean:.4f} ± {half:.4f} | {min(found[name]):.4f} – {max(found[name]):.4f} | "
            f"{TEXTBOOK[name]:.4f} |"
        )
    mean, half = interval(gain)
    lines.append(
        f"| gain, seed by seed | {mean:+.4f} ± {half:.4f} | {gain.min():+.4f} – {gain.max():+.4f} | "
        f"{TEXTBOOK['reused'] - TEXTBOOK['from scratch']:+.4f} |"
    )
    command = f"python -m benchmarks.transfer --seeds {args.seeds}"
    of_a = f"validation accuracy {found['a_validation_accuracy']:.4f}, {found['seconds_a']:.0f} s"
    lines += ["", f"{args.seeds} seeds. Network A, 8 classes: {of_a};"]
    lines += [f"the {2 * args.seeds} runs of B, one sweep: {found['seconds_b']:.0f} s."]
    write_results(args.out, "Transfer", command, "\n".join(lines), found)


if __name__ == "__main__":
    main()
