"""Hyperband beside the whole grid: does it find the best point, and in how many epochs?

    python -m benchmarks.hyperband --repetitions 20

A network of 64-32-10 on digits, batch 32, Adam, 81 epochs; a grid of 18 learning rates from 1e-4 to 1e-1
times 8 values of β1 from 0.5 to 0.99. In each repetition (a seed of its own) the grid is trained whole,
and again by Hyperband and by successive halving, with factor 3 from the first epoch on. All see the same
initial parameters and batches, so that a point that is trained to the end has the same value for all:
what differs is which points are. The rank is the winner's place in the grid of this seed, the regret its
validation loss less that of the grid's best point.

Neighbours in the grid differ by less than a point does from seed to seed, so the whole grid's own winner
is another in each repetition. Whether a point is a good one is therefore asked of the other seeds: the
regret elsewhere is the winner's mean loss in all other repetitions less that of the point that is best
there. It is paired with that of the whole grid's winner, and given with a 95 % interval.
"""

import argparse
import json
import pathlib
import statistics

import numpy as np
import scipy.stats

from benchmarks.throughput import versions

EPOCHS = 81
GRID = {
    "learning_rate": np.geomspace(1e-4, 1e-1, 18).tolist(),
    "b1": (1 - np.geomspace(0.01, 0.5, 8)).tolist(),
}


def strategies():
    import jaxdeep as jd

    return {
        "Hyperband": jd.search.Hyperband(first=1, factor=3),
        "successive halving": jd.search.SuccessiveHalving(first=1, factor=3),
    }


def sweep(seed, halving=None):
    import jax

    import jaxdeep as jd

    digits = jd.datasets.digits()
    hidden = jd.nn.dense(32, activation=jax.nn.relu)
    return jd.sweep(
        lambda hp: jd.optimizers.adam(hp["learning_rate"], b1=hp["b1"]),
        GRID,
        model=jd.nn.serial(jd.nn.flatten(), hidden, jd.nn.dense(10)),
        data=digits.train,
        validation=digits.validation,
        loss=jd.losses.softmax_cross_entropy,
        key=jax.random.key(1000 + seed),
        epochs=EPOCHS,
        batch_size=32,
        halving=halving,
        progress=False,
    )


def measured(seed):
    """The losses of the whole grid, and by strategy the winner's place in it and the epochs' share."""
    grid = sweep(seed)
    points = [(point["learning_rate"], point["b1"]) for point in grid.points]
    losses = [row["val_loss"] for row in grid.rows()]
    ranked = sorted(range(len(points)), key=losses.__getitem__)
    epochs = sum(row["epochs"] for row in grid.rows())
    chosen = {"the whole grid": (ranked[0], 1.0)}
    for name, halving in strategies().items():
        table = sweep(seed, halving)
        best = table.best("val_loss")
        share = sum(row["epochs"] for row in table.rows()) / epochs
        chosen[name] = points.index((best["learning_rate"], best["b1"])), share
    few = round(chosen["Hyperband"][1] * len(points))  # whole points at the same epochs
    drawn = np.random.default_rng(seed).permutation(len(points))[:few]
    best = min((ranked[i] for i in drawn), key=losses.__getitem__)
    chosen["random points, at Hyperband's epochs"] = best, few / len(points)
    found = {
        name: {"point": point, "rank": ranked.index(point) + 1, "share": share}
        for name, (point, share) in chosen.items()
    }
    return losses, found


def regrets(losses, results):
    """By strategy: the winners' regret on their own seeds, and on the others."""
    own = losses - losses.min(axis=1, keepdims=True)
    others = (losses.sum(axis=0) - losses) / (len(losses) - 1)
    elsewhere = others - others.min(axis=1, keepdims=True)
    chosen = {name: [found[name]["point"] for found in results] for name in results[0]}
    seeds = np.arange(len(losses))
    return {name: (own[seeds, points], elsewhere[seeds, points]) for name, points in chosen.items()}


def interval(values):
    """The mean, and half the width of its 95 % interval."""
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.4f} ± {half:.4f}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/hyperband"))
    args = parser.parse_args()
    if args.repetitions < 2:
        parser.error("--repetitions must be at least 2")
    grids, results = [], []
    for seed in range(args.repetitions):
        losses, found = measured(seed)
        grids.append(losses)
        results.append(found)
        print(seed, {name: r["rank"] for name, r in found.items()}, flush=True)
    losses = np.array(grids)
    rows = [
        "| | epochs ÷ grid's | winner's rank, median (range) | best point found | regret, mean ± sd |"
        " regret elsewhere | that less the grid's |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    by_name = regrets(losses, results)
    for name, (own, elsewhere) in by_name.items():
        ranks = [found[name]["rank"] for found in results]
        share = statistics.mean(found[name]["share"] for found in results)
        less = elsewhere - by_name["the whole grid"][1]
        rows.append(
            f"| {name} | {share:.3f} | {statistics.median(ranks):g} ({min(ranks)}–{max(ranks)}) | "
            f"{ranks.count(1)} of {len(ranks)} | {own.mean():.4f} ± {own.std(ddof=1):.4f} | "
            f"{interval(elsewhere)} | {interval(less) if less.any() else '0'} |"
        )
    about, command = versions(), f"python -m benchmarks.hyperband --repetitions {args.repetitions}"
    best, middle = losses.min(axis=1).mean(), np.median(losses, axis=1).mean()
    winners = len({found["the whole grid"]["point"] for found in results})
    near = statistics.mean(np.sort(losses, axis=1)[:, 4] - losses.min(axis=1))
    noise = losses[:, losses.mean(axis=0).argsort()[:10]].std(axis=0, ddof=1).mean()
    text = (
        f"# Hyperband\n\n`{command}`\n\n"
        f"{', '.join(f'{name} {value}' for name, value in about.items())}\n\n" + "\n".join(rows) + "\n\n"
        f"Of a grid of {losses.shape[1]} points and {EPOCHS} epochs on digits. In the mean of the\n"
        f"repetitions its best point has a validation loss of {best:.4f}, the fifth {near:.4f} more,\n"
        f"the median point {middle - best:.4f} more; from seed to seed the loss of a good point has a\n"
        f"standard deviation of {noise:.4f}, and the whole grid has {winners} different winners in\n"
        f"{len(results)} repetitions. Regret is what the winner loses to the best point: on its own\n"
        "seed, and elsewhere, in the mean of all other seeds, with a 95 % interval. Random points are\n"
        "of the same grid, and trained to the end.\n"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(
        json.dumps({**about, "command": command, "repetitions": results, "losses": grids}, indent=1)
        + "\n"
    )
    args.out.with_suffix(".md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
