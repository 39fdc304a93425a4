"""µs a step and time to the first epoch: jaxdeep beside Keras, PyTorch, Flax, Equinox and optax.

    make bench                                     # or
    python -m benchmarks.throughput --rounds 5 --variants plain bn --contenders jaxdeep keras1

Batch 32, Adam at 1e-3, Fashion-MNIST if it is at hand and noise of that shape otherwise; the networks
are in `benchmarks.contenders.variants`. Every side shuffles each epoch and computes the mean loss and
accuracy of the epoch. Each contender runs in a process of its own, one after another, round by round;
it prints a line when imports and data are there and at the end of each epoch, and the times the lines
arrive are what counts. A step is the median over the epochs after the first; the time to the first step
is that of the first epoch less its other steps. A ratio is the median over rounds of the ratio within a
round.

The results of a variant are written after each of its rounds: a JSON file, and a table of all there are.
"""

import argparse
import compileall
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.variants import VARIANTS, data

LIMIT = 300  # seconds a process may take
US = "us_per_step"
FIRST_EPOCH, FIRST_STEP = "first_epoch_seconds", "first_step_seconds"
KERAS, KERAS_BEST = ("keras1", "keras32"), "keras-best"


def work(name, variant, epochs):
    """What the process of a contender does."""
    CONTENDERS[name].load()
    loaded = data(variant)
    print("ready", flush=True)
    CONTENDERS[name].train(variant, loaded, epochs)


def run(name, variant, epochs):
    """Times of one process: µs a step, seconds from its start, loss and accuracy of the last epoch."""
    own = ["--worker", name, "--variants", variant.name, "--epochs", str(epochs)]
    command = [sys.executable, "-u", "-m", "benchmarks.throughput", *own]
    environment = os.environ | {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    ready, ends, said = None, [], []
    with tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process:
            clock = threading.Timer(LIMIT, process.kill)
            clock.start()
            for line in process.stdout:
                now = time.perf_counter() - began
                if line.startswith("ready"):
                    ready = now
                elif line.startswith("epoch"):
                    ends.append(now)
                    said.append([float(value) for value in line.split()[1:]])
        clock.cancel()
        errors.seek(0)
        complaint = errors.read()
    if process.returncode or len(ends) != epochs:
        raise RuntimeError(
            "\n".join(complaint.strip().splitlines()[-3:]) or f"it took more than {LIMIT} s"
        )
    step = statistics.median(b - a for a, b in itertools.pairwise(ends)) / variant.steps
    return {
        US: step * 1e6,
        FIRST_EPOCH: ends[0],
        FIRST_STEP: ends[0] - ready - step * (variant.steps - 1),
        "ready_seconds": ready,
        "loss": said[-1][0],
        "accuracy": said[-1][1],
    }


def measure(variant, names, rounds, epochs, written):
    """Rounds of results by contender; `written` is called with them after each."""
    results, failed = [], {}
    for number in range(rounds):
        found = {"load": round(os.getloadavg()[0], 2)}
        for name in names:
            if name in failed:
                continue
            try:
                found[name] = run(name, variant, epochs)
            except RuntimeError as error:
                failed[name] = str(error)
                print(f"{variant.name} {name} failed: {error}", flush=True)
                continue
            us, epoch, first = (found[name][key] for key in (US, FIRST_EPOCH, FIRST_STEP))
            print(
                f"{variant.name} round {number + 1} {name:14} {us:7.0f} µs/step, first step after "
                f"{first:.2f} s, first epoch at {epoch:.2f} s, accuracy {found[name]['accuracy']:.3f}",
                flush=True,
            )
        results.append(found)
        written(results, failed)


def with_best_keras(results):
    """Rounds with another contender: of Keras' settings, the faster one of the round."""
    return [
        found
        | ({KERAS_BEST: {US: min(found[k][US] for k in KERAS)}} if found.keys() >= {*KERAS} else {})
        for found in results
    ]


def values(results, name, key):
    return [found[name][key] for found in results if key in found.get(name, {})]


def ratio(results, name, key):
    """The median ratio of jaxdeep to a contender within a round; None if it has none."""
    pairs = [(found.get("jaxdeep", {}), found.get(name, {})) for found in results]
    ratios = [ours[key] / theirs[key] for ours, theirs in pairs if key in ours and key in theirs]
    return statistics.median(ratios) if ratios else None


def table(variant, results):
    results = with_best_keras(results)
    rows = [
        "| | µs a step | jaxdeep ÷ it | goal | first epoch, s | jaxdeep ÷ it | goal | first step, s | "
        "accuracy |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    labels = {}
    for name, contender in CONTENDERS.items():
        labels[name] = contender.label + (" (apart)" if contender.apart else "")
        if name == KERAS[-1]:
            labels[KERAS_BEST] = "the faster of the two"
    for name, label in labels.items():
        if not values(results, name, US):
            continue
        cells = [label]
        for key, form, goals in (
            (US, ".0f", variant.step_goals),
            (FIRST_EPOCH, ".2f", variant.epoch_goals),
        ):
            found, share = values(results, name, key), ratio(results, name, key)
            cells.append(f"{statistics.median(found):{form}}" if found else "")
            cells.append(f"{share:.2f}" if share and name != "jaxdeep" else "")
            cells.append(f"≤ {goals[name]:.2f}" if name in goals else "")
        for key, form in ((FIRST_STEP, ".2f"), ("accuracy", ".3f")):
            found = values(results, name, key)
            cells.append(f"{statistics.median(found):{form}}" if found else "")
        if name == "jaxdeep" and variant.first_step:
            cells[-2] += f" (goal ≤ {variant.first_step:.1f})"
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def section(saved):
    variant = VARIANTS[saved["variant"]]
    about = ", ".join(f"{name} {value}" for name, value in saved["about"].items())
    failed = "".join(
        f"\n{CONTENDERS[name].label} failed: `{error.splitlines()[-1]}`\n"
        for name, error in saved["failed"].items()
    )
    load = ", ".join(f"{found['load']}" for found in saved["rounds"])
    return (
        f"## {variant.name}\n\n{variant.about}; {variant.steps:,} steps an epoch\n\n"
        f"{table(variant, saved['rounds'])}\n{failed}\n"
        f"`{saved['command']}`; {about}; load at the beginning of a round {load}\n"
    )


def written(folder, saved):
    """Save the results of a variant, and the table of all variants that there are results of."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"throughput-{saved['variant']}.json"
    path.write_text(json.dumps(saved, indent=1) + "\n")
    there = [path for name in VARIANTS if (path := folder / f"throughput-{name}.json").exists()]
    text = "\n".join(
        ["# Throughput\n", *(section(json.loads(path.read_text())) for path in there), NOTE]
    )
    (folder / "throughput.md").write_text(text)
    return text


NOTE = """\
Medians over rounds; ratios are taken within a round. A step trains on 32 examples and computes loss and
accuracy. The first epoch is timed from the start of the process, imports, data and compilation included;
the first step from when imports and data are there, as the time of the first epoch less its other steps.
The accuracy is that of the last epoch on the training data.
"""


def versions():
    from importlib.metadata import PackageNotFoundError, version

    found = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }
    for name in ("jax", "jaxlib", "optax", "keras", "torch", "flax", "equinox", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_results(out, title, command, body, found, *, peers=()):
    """A benchmark's page and its numbers, as ``out.md`` and ``out.json``; the page is printed, too."""
    about = versions() | dict(peers)
    text = f"# {title}\n\n`{command}`\n\n{', '.join(f'{n} {v}' for n, v in about.items())}\n\n{body}\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    everything = {**about, "command": command, **found}
    out.with_suffix(".json").write_text(json.dumps(everything, indent=1) + "\n")
    out.with_suffix(".md").write_text(text)
    print(f"\n{text}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5, help="of a process; the first is timed apart")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[*CONTENDERS])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results"))
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("--epochs must be at least 2: steps are timed after the first")
    if args.worker:
        work(args.worker, VARIANTS[args.variants[0]], args.epochs)
        return
    # as installing does: the peers are installed, and jaxdeep may be run from its sources
    compileall.compile_dir(pathlib.Path(__file__).parents[1] / "jaxdeep", quiet=2)
    command = f"python -m benchmarks.throughput --rounds {args.rounds} --epochs {args.epochs}"
    if len(args.contenders) < len(CONTENDERS):
        command += f" --contenders {' '.join(args.contenders)}"
    for name in args.variants:
        saved = {"variant": name, "command": f"{command} --variants {name}", "about": versions()}

        def save(rounds, failed, saved=saved):
            return written(args.out, {**saved, "failed": failed, "rounds": rounds})

        measure(VARIANTS[name], args.contenders, args.rounds, args.epochs, save)
    print("\n" + (args.out / "throughput.md").read_text())


if __name__ == "__main__":
    main()
