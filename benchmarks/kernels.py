"""What XLA compiles for a run on a CPU, kernel by kernel.

    python -m benchmarks.kernels --variant bn

Most of the time before a first step goes to LLVM, which compiles every kernel (a fused loop, a product,
a reduction) apart: some ten milliseconds of a core each, and ten times that for one whose loops it
writes out. XLA tells of each in its log. A kernel that occurs twice is compiled once. The run is an
epoch of full batches and a smaller one at the end, with validation.
"""

import argparse
import dataclasses
import os
import re
import subprocess
import sys

from benchmarks.contenders.variants import BATCH, VARIANTS, data

LOG = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "ir_compiler=1"}
LINE = re.compile(r"Compiled LLVM module: (?:__compute_module_)?(\S+) time: .*?\((\d+) us\)")


def work(variant):
    """The run, in a process of its own."""
    import jax

    import jaxdeep as jd
    from benchmarks.contenders.ours import network

    x, y = data(dataclasses.replace(VARIANTS[variant], examples=10 * BATCH + BATCH // 2))
    jd.fit(
        network(variant),
        (x, y),
        validation=(x[:101], y[:101]),
        loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy},
        optimizer=jd.optimizers.adam(1e-3),
        epochs=1,
        batch_size=BATCH,
        key=jax.random.key(0),
        progress=False,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", choices=VARIANTS, default="plain")
    parser.add_argument("--most", type=int, default=20, help="kernels to show")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.variant)
        return
    command = [sys.executable, "-m", "benchmarks.kernels", "--worker", "--variant", args.variant]
    log = subprocess.run(command, env=os.environ | LOG, capture_output=True, text=True, check=False)
    if log.returncode:
        sys.exit(log.stderr)
    kernels = [(int(us) / 1000, name) for name, us in LINE.findall(log.stderr)]
    if not kernels:
        sys.exit("this version of XLA says nothing of its kernels")
    total = sum(ms for ms, _ in kernels)
    print(f"{len(kernels)} modules of kernels, {total:.0f} ms of LLVM; the longest:\n")
    for ms, name in sorted(kernels, reverse=True)[: args.most]:
        print(f"{ms:7.1f} ms  {name.removesuffix('_kernel_module')}")


if __name__ == "__main__":
    main()
