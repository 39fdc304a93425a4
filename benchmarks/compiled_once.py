"""What a second run costs: seconds to the end of the first epoch, in one process and in a second one.

    python -m benchmarks.compiled_once [--fits 16] [--rounds 3]

The network has three hidden layers of 100 units with batch norm and dropout, the data are 2,000 random
rows of 784 numbers, an epoch is 63 steps. In each round a new process runs so many fits of 2 epochs,
each with another learning rate and seed; then a second process runs one, with the compiled programs that
the first one kept on disk. Seconds are from the call of `fit` to the first callback. Medians of the
rounds are written to benchmarks/results/compiled_once.json and .md.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from benchmarks.throughput import versions

RESULTS = pathlib.Path(__file__).parent / "results"

RUN = """
import collections, json, sys, time
import jax, numpy as np
began = time.perf_counter()
import jaxdeep as jd
work = collections.Counter()
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: work.update([name]))
x = np.random.default_rng(0).normal(size=(2_000, 784)).astype(np.float32)
y = np.arange(2_000) % 10
def hidden(i):
    return {f"hidden{i}": jd.nn.dense(100, use_bias=False), f"bn{i}": jd.nn.batch_norm(),
            f"act{i}": jd.nn.activation(jax.nn.relu), f"drop{i}": jd.nn.dropout(0.2)}
def network():
    return jd.nn.serial(**hidden(1), **hidden(2), **hidden(3), logits=jd.nn.dense(10))
first, whole, compiled = [], [], []
for i in range(int(sys.argv[1])):
    begin, before, seen = time.perf_counter(), sum(work.values()), []
    jd.fit(network(), (x, y), loss=jd.losses.softmax_cross_entropy, validation=(x, y), epochs=2,
           metrics={"accuracy": jd.metrics.accuracy}, optimizer=jd.optimizers.adam(1e-3 * (i + 1)),
           key=jax.random.key(i), progress=False,
           callbacks=[lambda now: None if seen else seen.append(time.perf_counter() - begin)])
    first.append(seen[0])
    whole.append(time.perf_counter() - begin)
    compiled.append(sum(work.values()) - before)
print(json.dumps({"first": first, "whole": whole, "compiled": compiled}))
"""


def measure(fits, folder):
    """One process: seconds of each fit to its first epoch's end, and in all."""
    kept = {
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    out = subprocess.run(
        [sys.executable, "-c", RUN, str(fits)],
        capture_output=True, text=True, check=True, env=os.environ | kept,
    )  # fmt: skip
    return json.loads(out.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fits", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            here = measure(args.fits, folder)
            again = measure(1, folder)
        rows.append(
            {
                "first fit, cold": here["first"][0],
                "second fit": here["first"][1],
                f"{args.fits} fits": sum(here["whole"]),
                "first fit, second process": again["first"][0],
                "traces, lowerings and compilations after the first fit": sum(here["compiled"][1:]),
            }
        )
        print({name: round(value, 3) for name, value in rows[-1].items()}, flush=True)
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    RESULTS.joinpath("compiled_once.json").write_text(
        json.dumps({"versions": versions(), "rounds": rows, "medians": medians}, indent=1) + "\n"
    )
    lines = [
        "| | median |",
        "| --- | ---: |",
        *(f"| {name} | {value:.3g} |" for name, value in medians.items()),
    ]
    text = (
        f"Seconds, but for the last row; medians of {args.rounds} rounds, two CPU cores.\n\n"
        + "\n".join(lines)
    )
    RESULTS.joinpath("compiled_once.md").write_text(
        f"# A second run compiles nothing\n\n`python -m benchmarks.compiled_once`\n\n{text}\n"
    )


if __name__ == "__main__":
    main()
