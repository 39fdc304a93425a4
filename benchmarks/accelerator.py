"""An accelerator's day: what jaxdeep does on a GPU or TPU, beside others and the device's own limits.

    python -m benchmarks.accelerator                        # at most 8 minutes on one GPU
    python -m benchmarks.accelerator --small                # a minute on a CPU, to see that it runs

Each part runs in a process of its own, one after another, so that one's memory and programs are not
another's; what fails or finds no time is said in the table. Peers run if they are installed there.

- *update*: one AdamW update of float32 parameters in place, as bytes moved (28 a parameter) a second,
  beside the rate of an in-place ``x += y`` (12 a number), optax and PyTorch's fused AdamW.
- *trainings*: many trainings of the chapter's network on Fashion-MNIST as one program, learning rates ×
  seeds, beside one of them alone.
- *steps*: µs a step and seconds to the first epoch of `benchmarks.throughput`'s networks, beside Flax
  with optax, Keras on JAX and PyTorch compiled.
- *mc_dropout*: 100 samples of 10,000 images.
- *bits*: two runs of the same key, compared bit for bit.

A part's compile time is what JAX says it spent in the compiler; its peak is the device's, where the
device tells.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.throughput import FIRST_EPOCH, US, run, write_results

MINUTES = 8
PEERS = {"linen": "Flax Linen and optax", "keras1": "Keras on JAX", "torch-compiled": "PyTorch compiled"}


# --- parts: small -> dict of what was found --------------------------------------------------------


def update(small):
    import jax
    import jax.numpy as jnp
    import optax

    import jaxdeep as jd

    size, repeats = (10**6, 5) if small else (5 * 10**7, 50)

    def rate(step, carry, bytes_moved):
        """Gigabytes a second of ``carry = step(*carry)``."""
        carry = jax.block_until_ready(step(*carry))
        times = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(repeats):
                carry = step(*carry)
            jax.block_until_ready(carry)
            times.append((time.perf_counter() - began) / repeats)
        return bytes_moved / statistics.median(times) / 1e9

    copy = jax.jit(lambda x, y: (x + y, y), donate_argnums=0)
    limit = rate(copy, (jnp.ones(size), jnp.ones(size)), 12 * size)
    found = {"parameters": size, "GB/s": {"x += y": limit}}
    wrappers = {"jaxdeep": jd.optimizers.adamw(1e-3), "optax": optax.adamw(1e-3)}
    if low := getattr(jd.optimizers, "low_precision", None):
        wrappers["jaxdeep, int8 state"] = low(jd.optimizers.adamw(1e-3), state="int8")
    for name, tx in wrappers.items():

        def step(params, state, grads, tx=tx):
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state, grads

        params = {"w": jnp.ones((size // 1000, 1000))}
        carry = params, tx.init(params), {"w": jnp.full((size // 1000, 1000), 0.01)}
        found["GB/s"][name] = rate(jax.jit(step, donate_argnums=(0, 1)), carry, 28 * size)
    for name, value in _torch_update(size, repeats).items():
        found["GB/s"][name] = value
    found["÷ x += y"] = {name: v / limit for name, v in found["GB/s"].items()}
    return found


def _torch_update(size, repeats):
    try:
        import torch
    except ImportError:
        return {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weight = torch.nn.Parameter(torch.ones(size, device=device))
    weight.grad = torch.full_like(weight, 0.01)
    optimizer, times = torch.optim.AdamW([weight], lr=1e-3, fused=True), []
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(6):
        wait()
        began = time.perf_counter()
        for _ in range(repeats):
            optimizer.step()
        wait()
        times.append((time.perf_counter() - began) / repeats)
    return {"PyTorch, AdamW(fused=True)": 28 * size / statistics.median(times[1:]) / 1e9}


def trainings(small):
    import jax
    import numpy as np

    import jaxdeep as jd
    from benchmarks.contenders.ours import network
    from benchmarks.contenders.variants import VARIANTS, data

    rows, epochs = (4, 1) if small else (1000, 5)
    x, y = data(VARIANTS["plain"])
    x, y = (x[:640], y[:640]) if small else (x, y)
    rates = np.geomspace(1e-4, 1e-2, rows // (2 if small else 10)).tolist()

    def swept(rates, seeds, epochs):
        began = time.perf_counter()
        table = jd.sweep(
            lambda hp: jd.optimizers.adam(hp["learning_rate"]),
            {"learning_rate": rates},
            model=network("plain"),
            data=(jax.device_put(x), jax.device_put(y)),
            loss=jd.losses.softmax_cross_entropy,
            metrics={"accuracy": jd.metrics.accuracy},
            seeds=seeds,
            epochs=epochs,
            batch_size=32,
            strategy="vmap",
            progress=False,
        )
        best = table.best("accuracy", over_seeds=True)["accuracy_mean"]
        return time.perf_counter() - began, float(best)

    one, _ = swept(rates[:1], 1, epochs)
    again, _ = swept(rates[:1], 1, epochs)
    seconds, best = swept(rates, 2 if small else 10, epochs)
    return {
        "trainings": rows,
        "epochs": epochs,
        "seconds, compiling included": seconds,
        "goal, seconds": 60,
        "seconds of one": again,
        "÷ one": seconds / again,
        "seconds of one, cold": one,
        "best mean accuracy": best,
    }


def steps(small):
    from benchmarks.contenders.variants import VARIANTS

    names = {"jaxdeep": "jaxdeep.fit"} | ({} if small else PEERS)
    found = {}
    for kind in ("plain",) if small else ("plain", "bn", "conv"):
        found[kind] = {}
        for name, label in names.items():
            try:
                measured = run(name, VARIANTS[kind], 2 if small else 3)
            except RuntimeError as error:
                found[kind][label] = f"failed: {str(error).splitlines()[-1]}"
                continue
            found[kind][label] = {"µs a step": measured[US], "first epoch, s": measured[FIRST_EPOCH]}
    return found


def mc_dropout(small):
    import jax

    from benchmarks.mc_dropout import images, ours, weights

    rows, samples = (200, 10) if small else (10_000, 100)
    sample = ours(images(rows), weights(), samples)
    sample(0)
    times = []
    for seed in range(1, 4 if small else 8):
        began = time.perf_counter()
        sample(seed)
        times.append(time.perf_counter() - began)
    found = {"rows": rows, "samples": samples, "ms": 1e3 * statistics.median(times), "goal, ms": 50}
    return found | {"backend": jax.default_backend()}


def bits(small):
    import jax
    import numpy as np

    import jaxdeep as jd
    from benchmarks.contenders.ours import network
    from benchmarks.contenders.variants import VARIANTS, data

    found = {}
    for kind in ("dropout", "bn", "conv"):
        x, y = data(VARIANTS[kind])
        rows = 320 if small else 9_600
        results = [
            jd.fit(
                network(kind),
                (x[:rows], y[:rows]),
                loss=jd.losses.softmax_cross_entropy,
                optimizer=jd.optimizers.adam(1e-3),
                epochs=2,
                key=jax.random.key(0),
                progress=False,
            ).params
            for _ in range(2)
        ]
        same = jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), *results)
        found[kind] = "equal" if all(jax.tree.leaves(same)) else "not equal"
    return found


PARTS = {one.__name__: one for one in (update, trainings, steps, mc_dropout, bits)}


# --- a process for each ----------------------------------------------------------------------------


def work(name, small, out):
    """What the process of a part does: its findings as JSON."""
    import jax

    spent = []

    def note(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            spent.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(note)
    began = time.perf_counter()
    found = PARTS[name](small)
    device = jax.local_devices()[0] if name != "steps" else None  # whose own processes need the device
    memory = (device.memory_stats() or {}) if device is not None else {}
    found["about"] = {
        "seconds": time.perf_counter() - began,
        "compiling, s": sum(spent),
        "peak, MiB": memory.get("peak_bytes_in_use", 0) / 2**20 or None,
        "device": None if device is None else device.device_kind,
    }
    out.write_text(json.dumps(found))


def measured(name, small, seconds):
    """The findings of a part, or a sentence on why there are none."""
    if seconds < 5:
        return "no time was left"
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.accelerator", "--part", name, "--out", str(out)]
        # the process of a peer needs memory, too
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        try:
            ran = subprocess.run(
                [*command, *["--small"] * small],
                check=False,
                timeout=seconds,
                capture_output=True,
                text=True,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return f"took more than the {seconds:.0f} s that were left"
        if ran.returncode:
            return "failed: " + (ran.stderr.strip().splitlines() or ["without a word"])[-1]
        return json.loads(out.read_text())


def table(found):
    """The findings as lines of a table: part, what, value."""
    rows = ["| part | | |", "| --- | --- | ---: |"]

    def lines(part, path, value):
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from lines(part, [*path, name], inner)
        elif value is not None:
            shown = f"{value:,.3g}" if isinstance(value, float) and abs(value) < 1000 else value
            shown = f"{shown:,.0f}" if isinstance(shown, float) else shown
            yield f"| {part} | {', '.join(path)} | {shown} |"

    for part, findings in found.items():
        rows += lines(part, [], findings)
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all parts together")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/accelerator")
    )
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        work(args.part, args.small, args.out)
        return
    ends, found = time.monotonic() + 60 * args.minutes, {}
    command = "python -m benchmarks.accelerator" + " --small" * args.small
    for name in args.parts:
        found[name] = measured(name, args.small, ends - time.monotonic())
        print(f"{name}: {found[name]}", flush=True)
        write_results(args.out, "On an accelerator", command, table(found), {"found": found})


if __name__ == "__main__":
    main()
