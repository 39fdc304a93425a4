"""Seconds of an epoch by where the batches come from, on the same rows and network.

    python -m benchmarks.batches

784-100-10, Adam, batches of 100 of 20,000 rows of float32, after an epoch that compiles. Libraries that
are not installed are left out.
"""

import importlib.util
import json
import pathlib
import statistics
import time

import jax
import numpy as np

import jaxdeep as jd
from benchmarks.throughput import versions

ROWS, SIZE, EPOCHS = 20_000, 100, 4
RESULT = pathlib.Path(__file__).parent / "results" / "batches"


def pair(batch):
    return batch["image"], batch["label"]


def arrays(columns):
    return pair(columns), {"batch_size": SIZE}


def function_of_the_epoch(columns):
    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(ROWS)
        for rows in order.reshape(-1, SIZE):
            yield {name: array[rows] for name, array in columns.items()}

    return batches, {"batch": pair}


def hugging_face_numpy(columns):
    import datasets

    dataset = datasets.Dataset.from_dict(columns).with_format("numpy")
    return lambda epoch: dataset.shuffle(seed=epoch).iter(SIZE), {"batch": pair}


def hugging_face_lists(columns):
    import datasets

    dataset = datasets.Dataset.from_dict(columns)
    return lambda epoch: dataset.shuffle(seed=epoch).iter(SIZE), {"batch": pair}


def torch_rows(columns, workers=0):
    import torch

    tensors = torch.utils.data.TensorDataset(*map(torch.as_tensor, pair(columns)))
    seeded = torch.Generator().manual_seed(0)
    how = {"multiprocessing_context": "spawn", "persistent_workers": True} if workers else {}
    return torch.utils.data.DataLoader(
        tensors, SIZE, shuffle=True, generator=seeded, num_workers=workers, **how
    ), {}


def torch_two_workers(columns):
    return torch_rows(columns, 2)


def tensorflow_data(columns):
    import tensorflow as tf

    def batches(epoch):
        return (
            tf.data.Dataset.from_tensor_slices(columns).shuffle(ROWS, seed=epoch).batch(SIZE).prefetch(2)
        )

    return batches, {"batch": pair}


def grain_rows(columns):
    import grain

    rows = grain.MapDataset.range(ROWS).seed(0).shuffle().repeat()
    examples = rows.map(lambda i: {name: array[i] for name, array in columns.items()})
    return examples.to_iter_dataset().batch(SIZE), {"batch": pair, "steps_per_epoch": ROWS // SIZE}


LOADERS = {
    "arrays": (arrays, "jax"),
    "a function of the epoch": (function_of_the_epoch, "jax"),
    "Hugging Face, with_format('numpy')": (hugging_face_numpy, "datasets"),
    "Hugging Face, lists": (hugging_face_lists, "datasets"),
    "PyTorch, row by row": (torch_rows, "torch"),
    "PyTorch, two workers (spawn)": (torch_two_workers, "torch"),
    "tf.data": (tensorflow_data, "tensorflow"),
    "Grain, row by row": (grain_rows, "grain"),
}


def seconds(make, columns):
    """The median epoch after the first."""
    data, how = make(columns)
    ends = []
    jd.fit(
        jd.nn.serial(jd.nn.dense(100, activation=jax.nn.relu), jd.nn.dense(10)),
        data,
        loss=jd.losses.softmax_cross_entropy,
        optimizer=jd.optimizers.adam(1e-3),
        epochs=EPOCHS,
        key=jax.random.key(0),
        callbacks=[lambda now: ends.append(time.perf_counter())],
        progress=False,
        **how,
    )
    return statistics.median(np.diff(ends))


def written(found):
    """The page of results."""
    return "\n".join(
        [
            "# Batches from anywhere\n",
            "`python -m benchmarks.batches`\n",
            ", ".join(f"{name} {value}" for name, value in versions().items()) + "\n",
            "| batches from | seconds an epoch | ÷ arrays |",
            "| --- | ---: | ---: |",
            *(f"| {name} | {s:.3f} | {s / found['arrays']:.1f} |" for name, s in found.items()),
            "\n784-100-10, Adam, 200 batches of 100 rows of 784 float32; the median of three epochs "
            "after the first, beside other work on the machine.\n",
        ]
    )


def main():
    rng = np.random.default_rng(0)
    columns = {
        "image": rng.random((ROWS, 784), dtype=np.float32),
        "label": rng.integers(0, 10, ROWS),
    }
    found = {}
    for name, (make, library) in LOADERS.items():
        if importlib.util.find_spec(library) is not None:
            found[name] = round(seconds(make, columns), 3)
            print(f"{name:40} {found[name]:8.3f} s")
    about = {**versions(), "command": "python -m benchmarks.batches", "seconds": found}
    RESULT.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    RESULT.with_suffix(".md").write_text(written(found))


if __name__ == "__main__":
    main()
