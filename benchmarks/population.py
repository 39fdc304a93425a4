"""Population-based training beside random search, at equal epochs, on digits.

    python -m benchmarks.population --repetitions 20

A network of 64-64-10 (ReLU, batch 32, AdamW), 16 members of 30 epochs. Learning rate, weight decay and
1 − b1 are drawn on logarithmic scales. In each repetition all contenders begin with the same 16 points,
parameters and orders of the examples; random search is the population without exploits. The winner has
the smallest validation loss after the last epoch, and is reported on the test images. Then it is run
again, alone and with five other keys: random search's point, or the schedule that the population has
found. Differences are within repetitions, with a 95 % t interval.
"""

import argparse
import json
import pathlib
import time

import numpy as np

from benchmarks.throughput import versions

MEMBERS, EPOCHS, BATCH = 16, 30, 32
AGAIN = 5  # runs that follow what a winner was trained with
CONTENDERS = {
    "random": ({"fraction": 0.0, "every": 5}, "random search"),
    "every 5": ({"every": 5}, "population, every 5 epochs"),
    "every 2": ({"every": 2}, "population, every 2 epochs"),
    "factors": ({"every": 5, "resample": 0.0}, "every 5 epochs, by factors alone"),
}
MEASURES = {
    "val_loss": "validation loss of the winner",
    "test_loss": "its test loss",
    "test_error": "its test error, %",
    "again_loss": "test loss, run again",
    "again_error": "test error, run again, %",
}


def build(hp):
    import jaxdeep as jd

    return jd.optimizers.adamw(hp["learning_rate"], b1=hp["b1"], weight_decay=hp["weight_decay"])


def space():
    import jaxdeep as jd

    return {
        "learning_rate": jd.search.log_uniform(1e-5, 1.0),
        "weight_decay": jd.search.log_uniform(1e-5, 1.0),
        "b1": jd.search.one_minus(0.01, 0.5),
    }


def setting():
    """The model, the data, and what all runs have in common."""
    import jax

    import jaxdeep as jd

    train, validation, test = jd.datasets.digits()
    hidden = jd.nn.dense(64, activation=jax.nn.relu)
    model = jd.nn.serial(jd.nn.flatten(), hidden, jd.nn.dense(10))
    return model, train, validation, test, {"epochs": EPOCHS, "batch_size": BATCH}


def searched(repetitions, names):
    """For each contender, the results of all repetitions, which begin with the same members."""
    import jax

    import jaxdeep as jd

    model, train, validation, _, how = setting()
    found = {name: [] for name in names}
    for number in range(repetitions):
        for name, results in found.items():
            result = jd.search.population(
                build,
                jd.search.random(space(), MEMBERS, seed=number),
                data=train,
                model=model,
                validation=validation,
                loss=jd.losses.softmax_cross_entropy,
                key=jax.random.key(number),
                progress=False,
                **how,
                **CONTENDERS[name][0],
            )
            results.append(result)
        losses = {
            n: round(float(r[-1].history["val_loss"][-1, r[-1].best]), 4) for n, r in found.items()
        }
        print(f"repetition {number + 1}: validation loss {losses}", flush=True)
    return found


def on_test(params, state):
    """Loss, and error in per cent, on the test images."""
    import jax.numpy as jnp

    import jaxdeep as jd

    model, _, _, (x, y), _ = setting()
    logits, _ = model.apply(params, state, x)
    loss = jd.losses.softmax_cross_entropy(logits, y).mean()
    return loss, 100 * jnp.mean(jnp.argmax(logits, axis=1) != y)


def run_again(found):
    """What the schedules that were found lead to, on average over runs with other keys.

    For each contender the measures of each repetition; the keys are the same for all contenders.
    """
    import jax
    import jax.numpy as jnp

    import jaxdeep as jd

    model, train, validation, _, how = setting()
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    results = [result for each in found.values() for result in each]
    steps, repetitions = results[0].steps_per_epoch, len(results) // len(found)

    def run(tables, key):
        optimizer = build({name: lambda step, t=t: t[step // steps] for name, t in tables.items()})
        ts = jd.train.init(model, optimizer, train[0][:1], key=key)
        ts, _ = jd.train.make_run(objective, optimizer, **how)(ts, train, validation)
        return on_test(ts.params, ts.state)

    def tables(result):
        changes = result.schedule()
        lengths = np.diff([*(epoch for epoch, _ in changes), EPOCHS])
        return {
            name: np.repeat(np.float32([values[name] for _, values in changes]), lengths)
            for name in changes[0][1]
        }

    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *map(tables, results))
    keys = jax.random.split(jax.random.key(2**31), (repetitions, AGAIN))
    ended = jax.jit(jax.vmap(jax.vmap(run, (None, 0))))(stacked, jnp.tile(keys, (len(found), 1)))
    means = np.stack([np.mean(values, axis=1) for values in ended], axis=1)
    return dict(zip(found, means.reshape(len(found), repetitions, 2).tolist()))


def measured(found):
    """The measures of each contender and repetition."""
    repetitions = [{} for _ in next(iter(found.values()))]
    again = run_again(found)
    for name, results in found.items():
        for i, result in enumerate(results):
            chosen = float(result.history["val_loss"][-1, result.best])
            tested = map(float, on_test(result.params, result.state))
            values = dict(zip(MEASURES, (chosen, *tested, *again[name][i])))
            repetitions[i][name] = values | {"changes": len(result.schedule()) - 1}
    return repetitions


def interval(values):
    """The mean, and half the width of its 95 % t interval."""
    from scipy import stats

    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return float(np.mean(values)), float(half)


def table(repetitions):
    first, *others = repetitions[0]
    rows = [
        "| | " + " | ".join(CONTENDERS[name][1] for name in (first, *others)) + " |",
        "| --- |" + " ---: |" * (1 + len(others)),
    ]
    for measure, text in MEASURES.items():
        columns = {name: np.array([r[name][measure] for r in repetitions]) for name in (first, *others)}
        digits = 2 if "error" in measure else 4
        rows.append(
            f"| {text} | " + " | ".join(f"{columns[name].mean():.{digits}f}" for name in columns) + " |"
        )
        cells = []
        for name in others:
            mean, half = interval(columns[name] - columns[first])
            wins = int((columns[name] < columns[first]).sum())
            losses = int((columns[name] > columns[first]).sum())
            cells.append(f"{mean:+.{digits}f} ± {half:.{digits}f}, {wins} : {losses}")
        rows.append(f"| … less that of random search; better : worse | | {' | '.join(cells)} |")
    changes = [np.mean([r[name]["changes"] for r in repetitions]) for name in (first, *others)]
    rows.append("| changes in the winner's schedule | " + " | ".join(f"{c:.1f}" for c in changes) + " |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[*CONTENDERS])
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/population")
    )
    args = parser.parse_args()
    began = time.perf_counter()
    repetitions = measured(searched(args.repetitions, args.contenders))
    about, seconds = versions(), time.perf_counter() - began
    command = f"python -m benchmarks.population --repetitions {args.repetitions}"
    if len(args.contenders) < len(CONTENDERS):
        command += f" --contenders {' '.join(map(repr, args.contenders))}"
    text = (
        "# Populations\n\n"
        f"`{command}` ({seconds:.0f} s)\n\n"
        f"{', '.join(f'{name} {value}' for name, value in about.items())}\n\n"
        f"{table(repetitions)}\n\n"
        f"Means over {args.repetitions} repetitions; {MEMBERS} members of {EPOCHS} epochs each for\n"
        "every contender, and all begin with the same members. Differences are within repetitions,\n"
        "with a 95 % t interval. Run again: the winner's point or schedule, alone, on average over\n"
        f"{AGAIN} other keys.\n"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(
        json.dumps({**about, "command": command, "repetitions": repetitions}, indent=1) + "\n"
    )
    args.out.with_suffix(".md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
