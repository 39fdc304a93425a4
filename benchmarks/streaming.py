"""Peak memory and speed of a streamed run: a memory map on disk, of any size.

    python -m benchmarks.streaming --gib 4

A file of float32 rows of 784 pixels is written once (`--file`), and trained on for one epoch from a
memory map: 784-100-10, batch 32, Adam. The peak is the resident memory of the process (Linux), less that
of the same run with blocks of one batch, so that what is left is what the blocks take.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.throughput import versions

ROW_BYTES = 784 * 4


def write(path, rows):
    if path.exists() and len(np.load(path, mmap_mode="r")) == rows:
        return
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, 784))
    rng = np.random.default_rng(0)
    for first in range(0, rows, 20_000):
        part = array[first : first + 20_000]
        part[:] = rng.random(part.shape, dtype=np.float32)


def status(field):
    """Resident memory in MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise SystemExit("this machine does not tell the memory of a process")


def train(path, block_bytes):
    """MiB at the peak of a run and steps a second, in a process that is warm."""
    import jax

    import jaxdeep as jd

    x = np.load(path, mmap_mode="r")
    y = np.arange(len(x), dtype=np.int32) % 10

    def fit(x, y, **more):
        jd.fit(
            jd.nn.serial(jd.nn.dense(100, activation=jax.nn.relu), jd.nn.dense(10)),
            (x, y),
            loss=jd.losses.softmax_cross_entropy,
            optimizer=jd.optimizers.adam(1e-3),
            batch_size=32,
            key=jax.random.key(0),
            progress=False,
            **more,
        )

    fit(np.array(x[:64]), y[:64], stream=True)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    began = time.perf_counter()
    fit(x, y, block_bytes=block_bytes)
    passed = time.perf_counter() - began
    return {"peak_mib": status("VmHWM"), "steps_per_second": -(-len(x) // 32) / passed}


def run(path, block_bytes):
    own = ["--file", str(path), "--worker", str(block_bytes)]
    command = [sys.executable, "-m", "benchmarks.streaming", *own]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, nargs="+", default=[0.5, 4.0])
    parser.add_argument("--block-mib", type=int, default=64)
    parser.add_argument("--file", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/streaming"))
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(train(args.file, args.worker)))
        return
    path = args.file or pathlib.Path(tempfile.gettempdir()) / "jaxdeep-streaming.npy"
    found = []
    for gib in args.gib:
        write(path, int(gib * 2**30 / ROW_BYTES))
        base, whole = run(path, 1), run(path, args.block_mib * 2**20)
        taken = whole["peak_mib"] - base["peak_mib"]
        found.append({"gib": gib, "blocks_mib": taken, "one_batch": base, "blocks": whole})
        print(found[-1], flush=True)
    if not args.file:
        path.unlink()
    command = f"python -m benchmarks.streaming --gib {' '.join(f'{g:g}' for g in args.gib)}"
    about = {**versions(), "command": command, "block_mib": args.block_mib, "runs": found}
    rows = [
        "| file, GiB | peak above blocks of one batch, MiB | ÷ two blocks | goal | steps/s |",
        "| ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {f['gib']:g} | {f['blocks_mib']:.0f} | {f['blocks_mib'] / 2 / args.block_mib:.2f} "
            f"| ≤ 1.20 | {f['blocks']['steps_per_second']:,.0f} |"
            for f in found
        ),
    ]
    text = "\n".join(
        [
            "# Streaming\n",
            f"`{command}`, blocks of {args.block_mib} MiB\n",
            ", ".join(f"{name} {value}" for name, value in versions().items()) + "\n",
            *rows,
            "\nA memory map on disk, 784-100-10, batch 32, Adam, one epoch; compilation included.\n",
        ]
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
