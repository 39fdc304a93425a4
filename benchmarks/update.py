"""Time of one AdamW update: jaxdeep beside optax, PyTorch and the memory's bandwidth.

    python -m benchmarks.update --rounds 5 --out benchmarks/results/update

float32 parameters, gradients and state in three shapes of tree: one big leaf, 400 middling and 4,000
small or middling leaves; with and without clipping by the global norm. JAX' contenders are one jitted
``(params, state, grads) -> (params, state)`` with parameters and state donated, compiled once; the time
to trace and lower and to compile is the first column. A round builds every contender's arrays anew, in
turn, and takes the median of its updates; a ratio is the median over rounds of the ratio within a round.

The memory limit is what moving the same bytes in place takes: seven arrays an update (four read, three
written), at the best bandwidth of an in-place ``x += y`` over one big array in the same rounds. `pass`
is a jitted function of the same arrays that does nothing but hand them back.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import pathlib
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import optax
import torch

import jaxdeep as jd
from benchmarks.throughput import versions

RATE, NORM = 1e-3, 1.0
SIZES = {
    "1 × 50,000,000": (1, 50_000_000),
    "400 × 65,536": (400, 65_536),
    "4,000 × 65,536": (4_000, 65_536),
    "4,000 × 256": (4_000, 256),
}


class Jax:
    """One jitted update, compiled ahead of time."""

    def __init__(self, adamw, clip):
        self.adamw, self.clip = adamw, clip

    def prepare(self, leaves, size, clipped):
        tx = optax.chain(self.clip(NORM), self.adamw(RATE)) if clipped else self.adamw(RATE)
        self.tx, self.leaves, self.size = tx, leaves, size

        def step(params, state, grads):
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        params = [jax.ShapeDtypeStruct((size,), jnp.float32)] * leaves
        began = time.perf_counter()
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(
            params, jax.eval_shape(tx.init, params), params
        )
        middle = time.perf_counter()
        self.step = lowered.compile()
        return middle - began, time.perf_counter() - middle

    def build(self):
        self.params = [jnp.full(self.size, 1.0) for _ in range(self.leaves)]
        self.grads = [jnp.full(self.size, 0.01) for _ in range(self.leaves)]
        self.state = self.tx.init(self.params)

    def update(self):
        self.params, self.state = jax.block_until_ready(self.step(self.params, self.state, self.grads))

    def drop(self):
        del self.params, self.state, self.grads


class Pass(Jax):
    """The same arrays in and out of a jitted function that does nothing with them."""

    def __init__(self):
        nothing = optax.GradientTransformation(
            lambda params: (jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)),
            lambda updates, state, params=None: (updates, state),
        )
        super().__init__(lambda rate: nothing, lambda norm: optax.identity())

    def prepare(self, leaves, size, clipped):
        self.tx, self.leaves, self.size = self.adamw(RATE), leaves, size
        params = [jax.ShapeDtypeStruct((size,), jnp.float32)] * leaves
        state = jax.eval_shape(self.tx.init, params)
        began = time.perf_counter()
        jitted = jax.jit(lambda p, s, g: (p, s), donate_argnums=(0, 1), keep_unused=True)
        lowered = jitted.lower(params, state, params)
        middle = time.perf_counter()
        self.step = lowered.compile()
        return middle - began, time.perf_counter() - middle


class Torch:
    """torch.optim.AdamW in one of its implementations."""

    def __init__(self, **implementation):
        self.implementation = implementation

    def prepare(self, leaves, size, clipped):
        self.leaves, self.size, self.clipped = leaves, size, clipped
        return 0.0, 0.0

    def build(self):
        self.params = [torch.nn.Parameter(torch.full((self.size,), 1.0)) for _ in range(self.leaves)]
        for p in self.params:
            p.grad = torch.full((self.size,), 0.01)
        self.optimizer = torch.optim.AdamW(self.params, lr=RATE, **self.implementation)

    def update(self):
        if self.clipped:
            torch.nn.utils.clip_grad_norm_(self.params, NORM)
        self.optimizer.step()

    def drop(self):
        del self.params, self.optimizer


CONTENDERS = {
    "jaxdeep": lambda: Jax(jd.optimizers.adamw, jd.optimizers.clip_by_global_norm),
    "optax": lambda: Jax(optax.adamw, optax.clip_by_global_norm),
    "pass": Pass,
    "PyTorch": lambda: Torch(foreach=False),
    "PyTorch foreach": lambda: Torch(foreach=True),
    "PyTorch fused": lambda: Torch(fused=True),
}


def give_back():
    """Return freed memory to the system, where the C library has a call for it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def timed(act, repeats):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return times


def bandwidth():
    """Bytes a second of ``x += y`` in place, over 200 MB each: the best of PyTorch and JAX."""
    x, y = torch.ones(50_000_000), torch.ones(50_000_000)
    add = jax.jit(lambda x, y: x + y, donate_argnums=0)
    z, w = jnp.ones(50_000_000), jnp.ones(50_000_000)

    def jax_add():
        nonlocal z
        z = jax.block_until_ready(add(z, w))

    jax_add()
    best = min(timed(lambda: x.add_(y), 8) + timed(jax_add, 8))
    return 3 * 4 * 50_000_000 / best


def measure(leaves, size, clipped, rounds, repeats):
    contenders = {name: make() for name, make in CONTENDERS.items()}
    found = {}
    for name, contender in contenders.items():
        lowering, compiling = contender.prepare(leaves, size, clipped)
        found[name] = {"lower_seconds": lowering, "compile_seconds": compiling, "ms": []}
    limit = []
    for _ in range(rounds):
        limit.append(7 * 4 * leaves * size / bandwidth() * 1e3)
        for name, contender in contenders.items():
            contender.build()
            timed(contender.update, 2)
            found[name]["ms"].append(statistics.median(timed(contender.update, repeats)) * 1e3)
            contender.drop()
            give_back()
    return {"limit_ms": limit, **found}


def ratio(found, name, other):
    return statistics.median(a / b for a, b in zip(found[name]["ms"], found[other]["ms"]))


def table(found):
    rows = [
        "| | trace and lower, s | compile, s | update, ms | jaxdeep ÷ it |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in CONTENDERS:
        row = found[name]
        built = "PyTorch" not in name
        cells = [f"{row[key]:.2f}" if built else "" for key in ("lower_seconds", "compile_seconds")]
        share = "" if name in ("jaxdeep", "pass") else f"{ratio(found, 'jaxdeep', name):.2f}"
        rows.append(f"| {name} | {' | '.join(cells)} | {statistics.median(row['ms']):.1f} | {share} |")
    rows.append(f"| memory limit | | | {statistics.median(found['limit_ms']):.1f} | |")
    return "\n".join(rows)


def section(label, clipped, rounds, repeats):
    """One tree in a process of its own, which gives its memory back."""
    command = [sys.executable, "-m", "benchmarks.update", "--only", label, "--worker", str(int(clipped))]
    command += ["--rounds", str(rounds), "--repeats", str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="updates of a round")
    parser.add_argument("--only", choices=SIZES, action="append", help="one of the trees")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/update"))
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        leaves, size = SIZES[args.only[0]]
        print(json.dumps(measure(leaves, size, bool(args.worker), args.rounds, args.repeats)))
        return
    command = f"python -m benchmarks.update --rounds {args.rounds} --repeats {args.repeats}"
    command += "".join(f" --only '{label}'" for label in args.only or ())
    about = versions()
    heading = f"# One AdamW update\n\n`{command}`\n\n{', '.join(f'{k} {v}' for k, v in about.items())}\n"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sections, results = [], {}
    for label in args.only or SIZES:
        for clipped in (False, True):
            title = f"{label}{', clipped by the global norm' if clipped else ''}"
            results[title] = section(label, clipped, args.rounds, args.repeats)
            sections.append(f"## {title}\n\n{table(results[title])}\n")
            print(sections[-1], flush=True)
            # after every tree: thousands of leaves take minutes to compile
            args.out.with_suffix(".md").write_text("\n".join([heading, *sections]))
            args.out.with_suffix(".json").write_text(
                json.dumps({**about, "command": command, **results}, indent=1) + "\n"
            )


if __name__ == "__main__":
    main()
