"""Hyperband beside the whole grid: does it find the best point, and in how many epochs?

    python -m benchmarks.hyperband --repetitions 20

A network of 64-32-10 on digits, batch 32, Adam, 81 epochs; a grid of 18 learning rates from 1e-4 to 1e-1
times 8 values of β1 from 0.5 to 0.99. In each repetition (a seed of its own) the grid is trained whole,
and again by Hyperband and by successive halving, with factor 3 from the first epoch on. All see the same
initial parameters and batches, so that a point that is trained to the end has the same value for all:
what differs is which points are. The regret is the validation loss of the winner less that of the grid's
best point; the rank is the winner's place in the grid.
"""

import argparse
import json
import pathlib
import statistics

import numpy as np

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
    grid = sweep(seed)
    losses = {(p["learning_rate"], p["b1"]): row["val_loss"] for p, row in zip(grid.points, grid.rows())}
    ranked = sorted(losses, key=losses.get)
    found = {}
    for name, halving in strategies().items():
        table = sweep(seed, halving)
        best = table.best("val_loss")
        point = best["learning_rate"], best["b1"]
        found[name] = {
            "rank": ranked.index(point) + 1,
            "regret": losses[point] - losses[ranked[0]],
            "share": sum(row["epochs"] for row in table.rows())
            / sum(row["epochs"] for row in grid.rows()),
        }
    chosen = np.random.default_rng(seed).permutation(len(ranked))
    few = round(found["Hyperband"]["share"] * len(ranked))  # whole points at the same epochs
    best = min((ranked[i] for i in chosen[:few]), key=losses.get)
    found["random points, at Hyperband's epochs"] = {
        "rank": ranked.index(best) + 1,
        "regret": losses[best] - losses[ranked[0]],
        "share": few / len(ranked),
    }
    spread = losses[ranked[len(ranked) // 2]] - losses[ranked[0]]
    return found, {"best": losses[ranked[0]], "median_regret": spread}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/hyperband"))
    args = parser.parse_args()
    results, grids = [], []
    for seed in range(args.repetitions):
        found, grid = measured(seed)
        results.append(found)
        grids.append(grid)
        print(seed, {name: (r["rank"], round(r["regret"], 4)) for name, r in found.items()}, flush=True)
    rows = [
        "| | epochs ÷ grid's | winner's rank, median (range) | best point found | regret, mean ± sd |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in results[0]:
        ranks = [found[name]["rank"] for found in results]
        regrets = [found[name]["regret"] for found in results]
        share = statistics.mean(found[name]["share"] for found in results)
        rows.append(
            f"| {name} | {share:.3f} | {statistics.median(ranks):g} ({min(ranks)}–{max(ranks)}) | "
            f"{ranks.count(1)} of {len(ranks)} | {statistics.mean(regrets):.4f} ± "
            f"{statistics.stdev(regrets) if len(regrets) > 1 else 0:.4f} |"
        )
    about, command = versions(), f"python -m benchmarks.hyperband --repetitions {args.repetitions}"
    best = statistics.mean(grid["best"] for grid in grids)
    middle = statistics.mean(grid["median_regret"] for grid in grids)
    text = (
        f"# Hyperband\n\n`{command}`\n\n"
        f"{', '.join(f'{name} {value}' for name, value in about.items())}\n\n" + "\n".join(rows) + "\n\n"
        f"Of a grid of {len(GRID['learning_rate']) * len(GRID['b1'])} points and {EPOCHS} epochs on "
        f"digits, whose best point has a validation loss of {best:.4f}, and whose\nmedian point has "
        f"{middle:.4f} more, in the mean of the repetitions. Random points are of the same grid, and "
        "trained to the end.\n"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(
        json.dumps({**about, "command": command, "repetitions": results, "grids": grids}, indent=1)
        + "\n"
    )
    args.out.with_suffix(".md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
