# %% [markdown]
# # 08 A thousand runs
#
# `jd.sweep` trains many networks in few compiled programs. Afterwards you can choose hyperparameters
# without being fooled by a lucky seed, say how many seeds a comparison needs, and spend a budget of
# epochs well.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/08_sweeps.ipynb)

# %%
import importlib.util
import os
import platform
import subprocess
import sys

if importlib.util.find_spec("jaxdeep") is None:  # in Colab: about half a minute
    source = "jaxdeep[datasets,plot] @ git+https://github.com/jaxdeep/jaxdeep"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# What is compiled is kept for the next start on this machine; JAX_ENABLE_COMPILATION_CACHE=0 turns it off.
folder = os.path.expanduser(f"~/.cache/jaxdeep/compiled/notebooks-{platform.node()}")
kept = {
    "JAX_COMPILATION_CACHE_DIR": folder,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
for name, value in kept.items():
    os.environ.setdefault(name, value)

# %%
import collections
import time

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxdeep as jd

real = "JAXDEEP_DATA" in os.environ or "google.colab" in sys.modules
train, validation, test = jd.datasets.load("fashion-mnist" if real else "digits")
train = train[0][:2_000], train[1][:2_000]
plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True})

# %% [markdown]
# ## A grid
#
# A sweep is a function from a point to an optimizer, or to a dict of any arguments of `fit`, and a
# space. Values that are floats are arguments of one compiled program, however many there are; whole
# numbers and names (here the number of units) are compiled apart. Every row is the run that `fit` does
# with the key of that seed.

# %%
common = {
    "data": train,
    "validation": validation,
    "loss": jd.losses.softmax_cross_entropy,
    "metrics": {"accuracy": jd.metrics.accuracy},
    "progress": False,
}


def network(units, dropout=0.0):
    return jd.nn.serial(
        flatten=jd.nn.flatten(),
        hidden1=jd.nn.dense(units, activation=jax.nn.relu),
        drop1=jd.nn.dropout(dropout),
        hidden2=jd.nn.dense(units, activation=jax.nn.relu),
        logits=jd.nn.dense(10),
    )


grid = jd.sweep(
    lambda hp: {
        "model": network(hp["units"]),
        "optimizer": jd.optimizers.sgd(hp["learning_rate"], momentum=0.9),
    },
    {"learning_rate": np.geomspace(0.003, 0.3, 7), "units": [8, 32, 128]},
    seeds=3,
    epochs=5,
    **common,
)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
grid.plot("val_loss", "learning_rate", ax=axes[0])
grid.plot("val_accuracy", "learning_rate", "units", ax=axes[1])
plt.show()
best = grid.best("val_accuracy", over_seeds=True)
print(
    "best mean:",
    {name: round(best[name], 4) for name in ("learning_rate", "units", "val_accuracy_mean")},
)

# %% [markdown]
# `table.plot` shows means over seeds, with a standard deviation either side, against one hyperparameter,
# or against two as a map. Every size wants about the same rate, and 8 units are too few. Where the bars
# overlap, as for 32 and 128 units at their best rates, three seeds do not say which is better. *When to
# use which*: a grid for one or two hyperparameters, of which you want to see the shape.

# %% [markdown]
# ## A thousand runs
#
# Two hundred points in four dimensions, five seeds each: learning rate, momentum (by its distance from 1),
# dropout and label smoothing. They go into the optimizer, the model and the loss; as all four are floats, it
# is one program for all thousand runs. The space is plain data, and `sobol` fills it more evenly than chance
# does.


# %%
def short_run(hp):
    return {
        "optimizer": jd.optimizers.sgd(hp["learning_rate"], momentum=1 - hp["friction"]),
        "model": network(32, hp["dropout"]),
        "loss": lambda logits, labels: jd.losses.softmax_cross_entropy(
            logits, labels, label_smoothing=hp["smoothing"]
        ),
        "epochs": 5,
    }


space = {
    "learning_rate": jd.search.log_uniform(1e-3, 1.0),
    "friction": jd.search.log_uniform(0.01, 1.0),
    "dropout": jd.search.uniform(0.0, 0.6),
    "smoothing": jd.search.uniform(0.0, 0.3),
}
points = jd.search.sobol(space, 200)
began = time.process_time()
table = jd.sweep(short_run, points, seeds=5, **common)
seconds = time.process_time() - began
ended = collections.Counter(row["ended"] for row in table.rows())
print(f"{len(table)} runs of {5 * -(-len(train[0]) // 32)} steps: {dict(ended)}")
print(f"{seconds:.0f} s of processor time, compilation included")

# %%
means = table.over_seeds()
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), sharey=True)
for ax, name in zip(axes, ("learning_rate", "friction", "dropout", "smoothing")):
    ax.plot([row[name] for row in means], [row["val_accuracy_mean"] for row in means], ".", alpha=0.6)
    ax.set(xlabel=name, xscale="log" if name in ("learning_rate", "friction") else "linear")
    ax.grid(alpha=0.3)
axes[0].set_ylabel("validation accuracy,\nmean of 5 seeds")
plt.show()

# %%
figure, ax = plt.subplots(figsize=(6, 3.2))
table.plot("val_accuracy", "learning_rate", "friction", ax=ax)
ax.set_ylabel("friction, 1 − β")
plt.show()

# %% [markdown]
# Read singly, only the learning rate shows something. The map shows why: what counts is the rate and the
# friction together, $\eta / (1 - \beta)$, a band from lower left to upper right. Dropout and smoothing
# hardly matter for these five epochs. *When to use which*: drawn points for three hyperparameters or more.
# A grid of 200 points would have had fewer than four values of each, and spent most runs on repeating
# dropout and smoothing; here every point is a new learning rate.

# %% [markdown]
# ## The best row or the best mean
#
# The best of a thousand rows was good, and lucky. To see how lucky, the ten points with the best single
# rows and the ten with the best means are run again with ten new seeds (`key=` gives other ones).

# %%
rows = table.rows()
single = sorted(
    range(len(points)), key=lambda i: -max(r["val_accuracy"] for r in rows[5 * i : 5 * i + 5])
)
mean = sorted(range(len(points)), key=lambda i: -means[i]["val_accuracy_mean"])
chosen = {"best single rows": single[:10], "best means": mean[:10]}
promised = {
    "best single rows": [max(r["val_accuracy"] for r in rows[5 * i : 5 * i + 5]) for i in single[:10]],
    "best means": [means[i]["val_accuracy_mean"] for i in mean[:10]],
}
distinct = sorted({i for which in chosen.values() for i in which})  # some are chosen both ways
again = jd.sweep(
    short_run, [points[i] for i in distinct], seeds=10, key=jax.random.key(1), **common
).over_seeds()

figure, ax = plt.subplots(figsize=(6, 3.4))
for which, label in zip(chosen, "os"):
    kept = [again[distinct.index(i)] for i in chosen[which]]
    sd = np.array([row["val_accuracy_std"] for row in kept])
    got = np.array([row["val_accuracy_mean"] for row in kept])
    ax.errorbar(promised[which], got, 2.26 * sd / np.sqrt(10), fmt=label, capsize=2, label=which)
    print(f"{which:18} promised {np.mean(promised[which]):.3f}, kept {got.mean():.3f}")
ax.axline((got.mean(), got.mean()), slope=1, color="k", linestyle=":", label="kept = promised")
ax.set(xlabel="validation accuracy it was chosen for", ylabel="10 new seeds,\n95 % interval of the mean")
ax.legend(fontsize=8)
ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# The best single rows promised more than the best means, and kept less: two in a hundred were luck. The
# best means kept what they promised. **Choose by the mean over seeds**
# (`table.best("val_accuracy", over_seeds=True)`), **and report from runs that did not choose**: new seeds,
# and the test images, since validation images that were used to choose are as lucky as seeds. Intervals of
# the ten points overlap: this search found a region, not a point.

# %% [markdown]
# ## How many seeds
#
# Three of those points, of different quality, with forty seeds each. Left, all of them. Right, how often
# the order of two points comes out wrong if n seeds of each are compared.

# %%
ranked = sorted(again, key=lambda row: -row["val_accuracy_mean"])
some = [{name: row[name] for name in space} for row in (ranked[0], ranked[len(ranked) // 2], ranked[-1])]
many = jd.sweep(short_run, some, seeds=40, key=jax.random.key(2), **common)
accuracy = np.array([row["val_accuracy"] for row in many.rows()]).reshape(3, 40)
accuracy = accuracy[np.argsort(-accuracy.mean(1))]

rng = np.random.default_rng(0)
counts = [1, 2, 3, 5, 8, 12, 20, 30]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
for i, (values, label) in enumerate(zip(accuracy, "abc")):
    axes[0].plot(values, np.full(40, i) + rng.uniform(-0.2, 0.2, 40), ".", color=f"C{i}")
    axes[0].plot(values.mean(), i, "k|", markersize=25)
    print(f"{label}: {values.mean():.4f} ± {values.std(ddof=1):.4f}")
axes[0].set_yticks(range(3), ["a", "b", "c"])
axes[0].set(xlabel="validation accuracy, 40 seeds; bars are means", ylabel="point")
for i, j in ((0, 1), (1, 2), (0, 2)):
    wrong = [
        np.mean(
            [
                rng.choice(accuracy[i], n).mean() <= rng.choice(accuracy[j], n).mean()
                for _ in range(1_000)
            ]
        )
        for n in counts
    ]
    gap = accuracy[i].mean() - accuracy[j].mean()
    deviation = np.sqrt((accuracy[i].var(ddof=1) + accuracy[j].var(ddof=1)) / 2)
    shares = ", ".join(f"{share:.0%} with {n}" for n, share in zip(counts, wrong) if n in (1, 5, 12))
    print(f"{'abc'[i]} and {'abc'[j]}: wrong {shares}; 8 (σ / Δ)² = {8 * (deviation / gap) ** 2:.0f}")
    axes[1].plot(counts, wrong, "o-", markersize=4, label=f"{'abc'[i]} and {'abc'[j]}, {gap:.4f} apart")
axes[1].set(xlabel="seeds of each", ylabel="share of wrong orders", ylim=(0, None))
axes[1].grid(alpha=0.3)
axes[1].legend()
plt.show()

# %% [markdown]
# The points a and b are half a standard deviation σ of their seeds apart. With one seed each they come out
# in the wrong order four times in ten, with five still more than one time in five. The point c is clearly
# worse, and still looks better than b in one comparison of single seeds in five: its seeds spread wider.
# Look at the seeds, not only at their mean.
#
# With n seeds of each, the difference of two means has a standard deviation of $\sigma\sqrt{2 / n}$. To
# see a difference Δ as two of these takes $n = 8 (\sigma / \Delta)^2$: as printed, dozens for a and b. So:
# one seed to find the region, three to five to choose in it, eight or more to claim a difference the size
# of the spread.

# %% [markdown]
# ## SuccessiveHalving: fewer epochs for the hopeless
#
# With `halving=jd.search.SuccessiveHalving(factor=3)` all points run one epoch, the best third goes on to
# three, the best of those to nine, and so on. Here 81 points are run both ways, up to 27 epochs.

# %%
candidates = jd.search.sobol(space, 81, seed=3)


def long_run(hp):
    return short_run(hp) | {"epochs": 27}


whole = jd.sweep(long_run, candidates, **common)
halved = jd.sweep(
    long_run, candidates, halving=jd.search.SuccessiveHalving(factor=3, monitor="val_accuracy"), **common
)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for ax, (title, results) in zip(axes, {"all to the end": whole, "halving": halved}.items()):
    for i, row in enumerate(results.rows()):
        history = results.history(i)["val_accuracy"]
        last = row["ended"] == "finished" and title == "halving"
        style = {"color": "C0" if last else "C7", "alpha": 1 if last else 0.35, "zorder": 2 + last}
        marker = "." if len(history) == 1 else None
        ax.plot(range(1, len(history) + 1), history, linewidth=1, marker=marker, **style)
    total = sum(row["epochs"] for row in results.rows())
    ax.set(title=f"{title}: {total} epochs", xlabel="epoch", xscale="log")
    ax.set_xticks([1, 3, 9, 27], [1, 3, 9, 27])
    ax.grid(alpha=0.3)
axes[0].set_ylabel("validation accuracy")
plt.show()

winner = max(range(81), key=lambda i: (halved.rows()[i]["epochs"], halved.rows()[i]["val_accuracy"]))
order = sorted(range(81), key=lambda i: -whole.rows()[i]["val_accuracy"])
print(f"halving's choice is number {order.index(winner) + 1} of 81 of those run to the end:")
print(
    f"{whole.rows()[winner]['val_accuracy']:.3f}, the best {whole.rows()[order[0]]['val_accuracy']:.3f}"
)
lost = [i for i in order[:10] if halved.rows()[i]["epochs"] < 27]
print("of the ten best, ended by halving after epochs", [halved.rows()[i]["epochs"] for i in lost])

# %% [markdown]
# Successive halving took a ninth of the epochs, and its choice is among the very best after 27 epochs, too.
# But of the ten best it had ended most, some of them after one epoch: points with a slow start, such as
# small rates or much dropout, are never seen to finish. *When to use which*: halving where there are many
# points and most are hopeless; with a larger `first=` where the order changes late; not to compare
# schedules, whose gain comes at the end (notebook 06). Then run the few that are left with seeds. (Other
# strategies, and what they cost: notebook 12.)

# %% [markdown]
# ## Rows that stop, rows that diverge
#
# Early stopping works row by row: each stops when it is done with, and returns to its best epoch. A run
# whose loss is not finite ends there, is marked, and leaves the others alone.

# %%
stopping = jd.sweep(
    lambda hp: {
        "model": network(32),
        "optimizer": jd.optimizers.sgd(hp["learning_rate"]),
        "loss": lambda logits, labels: jd.losses.mse(logits, jax.nn.one_hot(labels, 10)),
    },
    {"learning_rate": np.geomspace(0.01, 30.0, 12)},
    seeds=3,
    epochs=40,
    early_stopping=jd.train.EarlyStopping(patience=4, monitor="val_accuracy"),
    **{name: value for name, value in common.items() if name != "loss"},
)
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
markers = {"finished": "C0o", "stopped": "C1s", "diverged": "C3x"}
for ended, marker in markers.items():
    some = [row for row in stopping.rows() if row["ended"] == ended]
    axes[0].plot([r["learning_rate"] for r in some], [r["epochs"] for r in some], marker, label=ended)
axes[0].set(xscale="log", xlabel="learning rate", ylabel="epochs done")
axes[0].legend()
axes[0].grid(alpha=0.3)
stopping.plot("val_accuracy", "learning_rate", ax=axes[1])
plt.show()
used = sum(row["epochs"] for row in stopping.rows())
print(f"{used} epochs of {40 * len(stopping)}")

# %% [markdown]
# Small rates use all 40 epochs and are not done; near the best ones a third to a half suffices; above 3
# the squared error diverges in the first epoch. A cross marks points of which a seed diverged:
# `best(…, over_seeds=True)` leaves them out.
#
# ## In short
#
# | question | use |
# | --- | --- |
# | one or two hyperparameters, and their shape | a grid of floats, three seeds, `table.plot` |
# | three or more | `jd.search.sobol`, logarithmic where a factor is what counts |
# | many points, long runs | `halving=jd.search.SuccessiveHalving(factor=3)` |
# | which point to keep | `table.best(metric, over_seeds=True)`, three to five seeds |
# | is a better than b? | $n = 8 (\sigma / \Delta)^2$ new seeds of each |
# | what to report | new seeds (`key=`), test images, mean and interval |
#
# * Floats share a program; keep whole numbers and names few, or give each its own sweep.
# * `table.rows()` and `table.to_pandas()` hold every run, `table.history(i)` its epochs,
#   `table.trained(i)` its network.
# * A search that survives a kill, importance, cross-validation, populations and Optuna:
#   [12 Searching hyperparameters](12_searching_hyperparameters.ipynb).
#
# Before: [07 Regularisation](07_regularisation_and_uncertainty.ipynb). Next: [09 Your own
# loop](09_your_own_loop.ipynb).
