"""Two versions of jaxdeep side by side: the same work in turn, so that both meet the same machine.

    git worktree add ../before abd22a7
    python -m benchmarks.versions ../before . [--tasks plain bn dropout mc_dropout sweep] [--rounds 30]

A process of each version does one round of a task after the other's, in an order that alternates: an
epoch of 625 steps of three hidden layers of 100 units (plain, with batch norm, with dropout), twenty
passes of `mc_dropout` over 2,000 rows, or a sweep of sixteen rates in threads, its compilation included.
The ratio is taken within a round and its median and quartiles are printed: they stay where the machine
is twice as slow for a while. The data are random. Results go to versions.json and .md in
benchmarks/results.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

RESULTS = pathlib.Path(__file__).parent / "results"
TASKS = ["plain", "bn", "dropout", "mc_dropout", "sweep"]

# Run in the folder of a version: does a round for each line that it is sent, and prints its seconds.
WORKER = """
import os, sys, time
sys.path.insert(0, os.getcwd())
import jax, numpy as np
import jaxdeep as jd
assert jd.__file__.startswith(os.getcwd()), jd.__file__
task, nn, began = sys.argv[1], jd.nn, None

def turn():
    global began
    if began is not None:
        print("took", time.perf_counter() - began, flush=True)
    if not sys.stdin.readline():
        os._exit(0)
    began = time.perf_counter()

def network(kind):
    layers = []
    for _ in range(3):
        layers += [nn.dropout(0.2)] if kind in ("dropout", "mc_dropout") else []
        layers += [nn.dense(100)] + ([nn.batch_norm()] if kind == "bn" else [])
        layers += [nn.activation(jax.nn.relu)]
    return nn.serial(*layers, nn.dense(10))

random = np.random.default_rng(0)
x, y = random.normal(size=(20_000, 784)).astype(np.float32), random.integers(0, 10, 20_000)
how = dict(loss=jd.losses.softmax_cross_entropy, batch_size=32, key=jax.random.key(0), progress=False)
if task == "mc_dropout":
    model = network(task)
    params, state = model.init(jax.random.key(0), x[:1])
    while True:
        turn()
        of = jd.uncertainty.mc_dropout(model, params, state, x[:2000], jax.random.key(1), samples=20)
        jax.block_until_ready(of.mean)
elif task == "sweep":
    rates = np.logspace(-4, -2, 16).tolist()
    while True:
        turn()
        jd.sweep(lambda point: jd.optimizers.adam(**point), {"learning_rate": rates},
                 model=network(task), data=(x[:4000], y[:4000]), epochs=2, **how)
else:
    metrics = {"accuracy": jd.metrics.accuracy}
    jd.fit(network(task), (x, y), metrics=metrics, optimizer=jd.optimizers.adam(1e-3), epochs=10_000,
           callbacks=[lambda now: turn()], **how)
"""


class Worker:
    """A process of one version."""

    def __init__(self, folder, task):
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, task],
            cwd=folder.resolve(), env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def begin(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def seconds(self):
        """Of one round more."""
        self.begin()
        for line in self.process.stdout:
            if line.startswith("took "):
                return float(line.split()[1])
        raise RuntimeError("a version has ended early; its error is above")


def measure(folders, task, rounds):
    """For each version the seconds of its rounds, which begin when both have compiled."""
    workers = [Worker(folder, task) for folder in folders]
    found = [[], []]
    try:
        for worker in workers:
            worker.begin()
            worker.seconds()
        for number in range(rounds):
            for i in (0, 1) if number % 2 else (1, 0):
                found[i].append(workers[i].seconds())
    finally:
        for worker in workers:
            worker.process.kill()
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs=2, type=pathlib.Path, help="the checkouts: before, and after")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    results, lines = {}, ["| | after ÷ before, median | quartiles |", "| --- | ---: | ---: |"]
    for task in args.tasks:
        before, after = measure(args.folders, task, args.rounds if task != "sweep" else args.rounds // 3)
        ratios = [b / a for a, b in zip(before, after)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        results[task] = {"before": before, "after": after}
        lines.append(f"| {task} | {middle:.3f} | {low:.3f} to {high:.3f} |")
        print(lines[-1], flush=True)
    names = [
        subprocess.run(
            ["git", "-C", folder, "rev-parse", "--short", "HEAD"],
            capture_output=True, text=True, check=False,
        ).stdout.strip() or folder.name
        for folder in args.folders
    ]  # fmt: skip
    RESULTS.joinpath("versions.json").write_text(
        json.dumps({"versions": names, "rounds": results}, indent=1) + "\n"
    )
    RESULTS.joinpath("versions.md").write_text(
        f"# {names[0]} and {names[1]}\n\n`python -m benchmarks.versions BEFORE AFTER --rounds "
        f"{args.rounds}`, two CPU cores\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
