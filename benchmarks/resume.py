"""A sweep that is killed again and again beside a calm one: its table, and what the journal costs.

    python -m benchmarks.resume --rows 1000 --kills 20 --rounds 5

Networks of 64-16-10 and 64-32-10 on digits, batch 32, Adam, learning rates from 1e-4 to 1e-1, 10 epochs,
rows in threads. First each round runs the sweep twice in processes of its own, without and with
``checkpoint=``: the journal's cost is the median over rounds of the ratio of what the call of `sweep`
took, and of its processor's time, which tells more where others use the machine. Then the
sweep is started again and again, and killed (SIGKILL) after a random time, until it has been killed so
many times; once more to its end. The table must be that of the calm sweep, bit for bit, and no row may
have been trained to its end twice. Last, `sweep` is called once more on the finished directory, which is
what a resumed sweep takes before it goes on.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.throughput import versions


def build(hp):
    import jax

    import jaxdeep as jd

    hidden = jd.nn.dense(hp["units"], activation=jax.nn.relu)
    return {
        "model": jd.nn.serial(jd.nn.flatten(), hidden, jd.nn.dense(10)),
        "optimizer": jd.optimizers.adam(hp["learning_rate"]),
    }


def sweep(rows, directory):
    """Run the sweep, and print what it took and a checksum of its table."""
    import jax

    import jaxdeep as jd

    digits = jd.datasets.digits()
    began, worked = time.perf_counter(), time.process_time()
    table = jd.sweep(
        build,
        {"learning_rate": np.geomspace(1e-4, 1e-1, rows // 4).tolist(), "units": [16, 32]},
        seeds=2,
        data=digits.train,
        validation=digits.test,
        loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy},
        epochs=10,
        batch_size=32,
        strategy="threads",
        checkpoint=directory or None,
        progress=False,
    )
    took = {"seconds": time.perf_counter() - began, "processor": time.process_time() - worked}
    digest = hashlib.sha256(json.dumps(table.rows(), sort_keys=True).encode())
    for i in range(len(table)):
        for leaf in jax.tree.leaves((table.history(i), table.trained(i))):
            digest.update(np.ascontiguousarray(leaf).tobytes())
    print(json.dumps({**took, "table": digest.hexdigest(), "rows": len(table)}))


def start(rows, directory):
    own = [sys.executable, "-m", "benchmarks.resume", "--worker", directory, "--rows", str(rows)]
    return subprocess.Popen(own, stdout=subprocess.PIPE, text=True)


def run(rows, directory=""):
    out, _ = start(rows, directory).communicate()
    return json.loads(out.splitlines()[-1])


def killed(rows, kills, directory, seconds):
    """The sweep, killed so many times; times are such that the last kill comes before the end."""
    moments, done = np.random.default_rng(0), 0
    while done < kills:
        process = start(rows, directory)
        try:
            process.communicate(timeout=5 + seconds / kills * moments.uniform(0.2, 1.2))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            done += 1
    return done, run(rows, directory)


def ended_twice(directory):
    events = [json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines()]
    ended = [event["ended"] for event in events if "ended" in event]
    return len(ended) - len(set(ended))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/resume"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        sweep(args.rows, args.worker)
        return
    place = pathlib.Path(tempfile.mkdtemp(prefix="jaxdeep-resume-"))
    times, processor = {"without": [], "with": []}, {"without": [], "with": []}
    for number in range(args.rounds):
        for name in times if number % 2 else reversed(times):
            calm = run(args.rows, "" if name == "without" else str(place / f"calm{number}"))
            times[name].append(calm["seconds"])
            processor[name].append(calm["processor"])
        print(f"round {number + 1}: {times['without'][-1]:.1f} s, {times['with'][-1]:.1f} s", flush=True)
    ratio, of_processor = (
        statistics.median(b / a for a, b in zip(took["without"], took["with"]))
        for took in (times, processor)
    )
    kills, found = killed(args.rows, args.kills, str(place / "killed"), times["without"][-1])
    again = run(args.rows, str(place / "killed"))
    size = sum(file.stat().st_size for file in (place / "killed").rglob("*") if file.is_file())
    results = {
        "rows": calm["rows"],
        "seconds": times,
        "ratio": ratio,
        "processor_seconds": processor,
        "processor_ratio": of_processor,
        "kills": kills,
        "equal": found["table"] == calm["table"] == again["table"],
        "ended_twice": ended_twice(place / "killed"),
        "resumed_seconds": again["seconds"],
        "megabytes": size / 1e6,
    }
    shutil.rmtree(place)
    about, command = versions(), f"python -m benchmarks.resume --rows {args.rows} --kills {args.kills}"
    command += f" --rounds {args.rounds}"
    text = (
        f"# A sweep that is killed\n\n`{command}`\n\n"
        f"{', '.join(f'{name} {value}' for name, value in about.items())}\n\n"
        "| | |\n| --- | ---: |\n"
        f"| rows of 10 epochs on digits | {results['rows']:,} |\n"
        f"| seconds without a directory, median | {statistics.median(times['without']):.1f} |\n"
        f"| with one, median | {statistics.median(times['with']):.1f} |\n"
        f"| with ÷ without, median of rounds (goal ≤ 1.03) | {ratio:.3f} |\n"
        f"| the same of the processor's time | {of_processor:.3f} |\n"
        f"| kills | {results['kills']} |\n"
        f"| table equal, bit for bit | {'yes' if results['equal'] else 'NO'} |\n"
        f"| rows trained to their end twice | {results['ended_twice']} |\n"
        f"| seconds of the same call when all is done | {again['seconds']:.1f} |\n"
        f"| megabytes of the directory | {results['megabytes']:.1f} |\n"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(
        json.dumps({**about, "command": command, **results}, indent=1) + "\n"
    )
    args.out.with_suffix(".md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
