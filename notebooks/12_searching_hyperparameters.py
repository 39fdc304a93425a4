# %% [markdown]
# # 12 · Searching hyperparameters
#
# For those who search with Optuna, Ray Tune or Keras Tuner. Here the trials are rows of one compiled program.
# Afterwards you can draw points from a space, lose a search and get it back, spend a budget of epochs, say how sure
# a choice is, and let an Optuna study choose the points.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/12_searching_hyperparameters.ipynb)

# %%
import importlib.util
import os
import platform
import subprocess
import sys

if importlib.util.find_spec("jaxdeep") is None:  # in Colab: about half a minute
    source = "jaxdeep[datasets,plot,frames,optuna] @ git+https://github.com/jaxdeep/jaxdeep"
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
import json
import pathlib
import tempfile
import time
import warnings

import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr

import jaxdeep as jd

warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm, which Optuna imports
import optuna

train, validation, test = jd.datasets.digits()
plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True})

# %% [markdown]
# ## What is the same, and what is not
#
# A space, a sampler, pruning, a storage, views of what came out: all are here. What differs is the trial. In the other
# libraries it is a call of your function, which builds a model, trains it and reports. Here a *builder* says what a
# point trains, and `jd.sweep` trains all points and seeds in one program.
#
# | | Optuna, Ray Tune, Keras Tuner | jaxdeep |
# | --- | --- | --- |
# | a trial | a call of your objective, any Python | a row; the builder returns arguments of `jd.fit` |
# | floats of a point | numbers | arguments of the program, traced: no `if` on them |
# | whole numbers, names | numbers, words | constants: each combination is a program of its own |
# | points | asked for one by one | a list, all known beforehand (or batches, see Optuna below) |
# | seeds | a loop of yours | `seeds=3`: rows like the others |
# | pruning | you report, and ask whether to stop | the strategy sees every epoch |
#
# So it suits many small or middling networks, of which several fit on a device. It does not suit an objective that is
# not a training by `jd.fit`.

# %%
common = {
    "data": train,
    "validation": validation,
    "loss": jd.losses.softmax_cross_entropy,
    "metrics": {"accuracy": jd.metrics.accuracy},
    "model": jd.nn.serial(
        flatten=jd.nn.flatten(),
        hidden=jd.nn.dense(32, activation=jax.nn.relu),
        logits=jd.nn.dense(10),
    ),
}


def builder(hp):
    return jd.optimizers.adamw(hp["learning_rate"], b1=hp["b1"], weight_decay=hp["weight_decay"])


# %% [markdown]
# ## A space is plain data
#
# A dict of distributions by name. `one_minus` draws the distance from 1 by its logarithm, which is how momenta want to
# be searched. `sobol` draws points that fill the space evenly: with 32 of them, each thirty-second part of every scale
# has one. The points are a list. You can print it, cut it, add the point you have always used.

# %%
space = {
    "learning_rate": jd.search.log_uniform(1e-5, 1.0),
    "b1": jd.search.one_minus(0.01, 0.5),  # 0.5 … 0.99
    "weight_decay": jd.search.log_uniform(1e-5, 1.0),
}
points = jd.search.sobol(space, 32, seed=0)
assert jd.search.sobol(space, 64, seed=0)[:32] == points  # a search can be extended

began = time.perf_counter()
table = jd.sweep(builder, points, seeds=3, epochs=9, progress=False, **common)
print(
    f"{len(table)} runs of {len(points)} points in {time.perf_counter() - began:.1f} s, compilation included"
)
table.to_frame().sort_values("val_loss").head(6)

# %% [markdown]
# The table becomes a frame of pandas (or polars, or pyarrow): here its six best rows. The last column flags values in
# the outer twentieth of their range. If the best points have one, better values may lie beyond.
#
# A row is no approximation: it is the run of `jd.fit` with that seed's key.

# %%
row = table.best("val_loss")
alone = jd.fit(
    optimizer=builder(row), epochs=9, key=jax.random.key(row["seed"]), progress=False, **common
)
i = table.rows().index(row)
leaves = zip(jax.tree.leaves(table.trained(i)[0]), jax.tree.leaves(alone.params))
difference = max(np.abs(swept - fitted).max() for swept, fitted in leaves)
if jax.default_backend() == "cpu":  # elsewhere rows are stacked, and equal to rounding
    assert difference == 0
print(f"largest difference between the parameters of a row and of fit: {difference:g}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
table.plot("val_loss", "learning_rate", ax=axes[0])
table.plot("val_loss", "learning_rate", "b1", ax=axes[1])
plt.show()
ranked = sorted(table.over_seeds(), key=lambda row: row["val_loss_mean"])
for name in space:
    values = [row[name] for row in ranked[:8]]
    print(f"{name} of the eight best points: from {min(values):.2g} to {max(values):.2g}")

# %% [markdown]
# Left: each point's mean over three seeds, with a standard deviation either side; dotted lines are the ends of the
# range. The rate does nearly everything, and what scatters about the valley is the rest, and luck. Right: the same
# points by rate and momentum. The dark ones lie in a small part of the range of the rate, at nearly any momentum.

# %%
figure, ax = plt.subplots(figsize=(8, 3.4))
table.plot_parallel("val_loss", ax=ax)
plt.show()

# %% [markdown]
# A line is a point, dark if its loss is small. Dark lines pass a narrow part of the first axis and spread over the
# others: there is no combination to be seen, only a rate.

# %%
importance = table.importance("val_loss")
narrow = {**space, "learning_rate": jd.search.log_uniform(3e-3, 3e-2)}
nearby = jd.sweep(
    builder, jd.search.sobol(narrow, 32, seed=1), seeds=3, epochs=9, progress=False, **common
)
closer = nearby.importance("val_loss")

figure, axes = plt.subplots(1, 2, figsize=(9, 2.2), sharex=True)
for ax, (title, found) in zip(
    axes, {"rates from 0.00001 to 1": importance, "from 0.003 to 0.03": closer}.items()
):
    ax.barh(found.names, found.shares, xerr=2 * found.uncertainties, capsize=3)
    ax.invert_yaxis()
    ax.axvline(0, color="k", linewidth=0.8)
    ax.set(title=title, xlabel="share of the variance, ± 2 standard errors")
plt.show()
print(importance, closer, sep="\n\n")
assert (importance.names[0], closer.names[0]) == ("learning_rate", "weight_decay")

# %% [markdown]
# `table.importance` says how much of the variation between points is due to each hyperparameter, as a random forest
# sees it on points that its trees were not trained with, and how sure that is. In the wide space the rate has it all and
# the decay nothing. In the narrow one, where no rate is bad, the decay has most. So importance belongs to the *range* as
# much as to the network, and a share of nothing only says that other things vary more. It does not say where the best
# values are. And if the forest explains little, as the last line would tell, nothing follows from the shares.

# %% [markdown]
# ## Killed, and resumed
#
# With `checkpoint=` a directory keeps a journal and the states of rows. Here is the search above as a script. It is
# started as a process of its own, and killed by SIGKILL, which no program can catch, as soon as 20 rows have ended.

# %%
script = """
import sys
import jax
import jaxdeep as jd

train, validation, test = jd.datasets.digits()
space = {
    "learning_rate": jd.search.log_uniform(1e-5, 1.0),
    "b1": jd.search.one_minus(0.01, 0.5),
    "weight_decay": jd.search.log_uniform(1e-5, 1.0),
}
model = jd.nn.serial(
    flatten=jd.nn.flatten(),
    hidden=jd.nn.dense(32, activation=jax.nn.relu),
    logits=jd.nn.dense(10),
)
jd.sweep(
    lambda hp: jd.optimizers.adamw(hp["learning_rate"], b1=hp["b1"], weight_decay=hp["weight_decay"]),
    jd.search.sobol(space, 32, seed=0),
    seeds=3, epochs=9, data=train, validation=validation, model=model,
    loss=jd.losses.softmax_cross_entropy, metrics={"accuracy": jd.metrics.accuracy},
    checkpoint=sys.argv[1], progress=False,
)
"""
work = tempfile.TemporaryDirectory()
runs = pathlib.Path(work.name) / "runs"
journal = runs / "journal.jsonl"


def ended():
    """How often each row has ended, by the journal."""
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return collections.Counter(line["ended"] for line in whole if "ended" in line)


process = subprocess.Popen([sys.executable, "-c", script, str(runs)])
while process.poll() is None and len(ended()) < 20:
    time.sleep(0.01)
process.kill()
print(f"exit status {process.wait()}; {len(ended())} of {len(table)} rows had ended")
first = ended()

# %% [markdown]
# The journal is JSON, a line for whatever happened, only ever added to: what the data were, what each row is made of,
# and how it ended, with its history. A row's name is a hash of all that decides its outcome, not a position in a list.

# %%
kinds = {}
for line in journal.read_text().splitlines():
    kinds.setdefault(line.split('"')[1], line)  # the first line of each kind
for line in kinds.values():
    print(line[:230] + " …" * (len(line) > 230), end="\n\n")

# %% [markdown]
# The same call goes on from there: now in this notebook, so that what is "the same" is the content of the call, not
# the process, the file or the name of a function.

# %%
began = time.perf_counter()
resumed = jd.sweep(builder, points, seeds=3, epochs=9, checkpoint=runs, progress=False, **common)
seconds = time.perf_counter() - began
assert resumed.rows() == table.rows()  # that of the sweep above, which nobody killed
for i in range(len(table)):
    for one, other in zip(jax.tree.leaves(resumed.trained(i)), jax.tree.leaves(table.trained(i))):
        np.testing.assert_array_equal(one, other)
assert sorted(ended().values()) == [1] * len(table)
print(
    f"{len(table) - len(first)} rows trained in {seconds:.1f} s, {len(first)} read. No row ended twice,"
)
print("and the table, with histories and parameters, is that of the sweep above, bit for bit.")

# %%
figure, ax = plt.subplots(figsize=(8, 1.8))
resumed.plot_timeline(ax=ax)
plt.show()

# %% [markdown]
# The timeline has the rows of both processes; between them lies the kill. (Ctrl-C is gentler: the table is returned, with
# "interrupted" at rows that go on at the next call. A second Ctrl-C ends at once.)
#
# More points, seeds or epochs extend a search. Anything else that would change the rows that are there is refused:

# %%
began = time.perf_counter()
more = jd.search.sobol(space, 64, seed=0)
extended = jd.sweep(builder, more, seeds=3, epochs=9, checkpoint=runs, progress=False, **common)
print(f"64 points, of which 32 were there: {time.perf_counter() - began:.1f} s")
assert extended.rows()[: len(table)] == table.rows()
try:
    jd.sweep(builder, more, seeds=3, epochs=9, batch_size=64, checkpoint=runs, progress=False, **common)
except ValueError as error:
    print("\nbatch_size=64:", str(error).replace(str(runs), "runs"))

# %% [markdown]
# ## Budgets
#
# `halving=` ends the worst points early. All three strategies go on from where a row is; nothing is trained twice.
# `SuccessiveHalving` begins with all points and keeps the best third at each rung. `Hyperband` does so in brackets that
# begin later and later, and prints what it is going to do. `AsynchronousHalving` (ASHA) sends a point on as soon as it
# is among the best third of those that came so far, so that no worker waits.

# %%
hyperband = jd.search.Hyperband(factor=3)
print(hyperband.plan(epochs=27))

# %% [markdown]
# Three sets of 49 Sobol points from the wide space, and three from the narrow one, in which no rate is bad. Each set is
# run four times: to the end, and by each strategy. A row that goes to its end under a strategy is the row of the full
# sweep, so every choice can be ranked among all that were possible.

# %%
strategies = {
    "all to the end": None,
    "SuccessiveHalving": jd.search.SuccessiveHalving(factor=3),
    "Hyperband": hyperband,
    "AsynchronousHalving": jd.search.AsynchronousHalving(factor=3),
}


def values_of(table):
    return np.array([row["val_loss"] for row in table.rows()])  # NaN where a run diverged


def epochs_of(table):
    return sum(row["epochs"] for row in table.rows())


def found_by(space):
    """For each set of points, the table of each strategy."""
    found = []
    for seed in (10, 11, 12):
        drawn = jd.search.sobol(space, hyperband.points(epochs=27), seed=seed)
        given = {"epochs": 27, "progress": False, **common}
        found.append(
            {name: jd.sweep(builder, drawn, halving=h, **given) for name, h in strategies.items()}
        )
    return found


results = {"wide space": found_by(space), "narrow space": found_by(narrow)}

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
gains = {}
for ax, (title, sets) in zip(axes, results.items()):
    full = [one["all to the end"] for one in sets]
    expected = [jd.search.expected_best(values_of(one), "min") for one in full]
    k = np.arange(1, len(expected[0]) + 1)
    ax.plot(27 * k, np.mean(expected, axis=0), "k-", linewidth=1, label="best of k points, to the end")
    for j, name in enumerate(strategies):
        spent = [epochs_of(one[name]) for one in sets]
        choices = [one[name].best("val_loss")["val_loss"] for one in sets]
        ax.plot(spent, choices, "osD^"[j], color=f"C{j}", alpha=0.7, label=name)
        ranks = [int(np.sum(values_of(one) < best)) + 1 for one, best in zip(full, choices)]
        random_search = [np.interp(e, 27 * k, values) for e, values in zip(spent, expected)]
        gains[title, name] = np.exp(np.mean(np.log(np.divide(choices, random_search))))
        print(
            f"{title:12}  {name:19} {np.mean(spent):5.0f} epochs, choices number {ranks} of {len(k)}, "
            f"loss {gains[title, name]:.2f} × that of random search at equal epochs"
        )
    ax.set(
        title=title, xscale="log", yscale="log", xlabel="epochs trained", ylabel="val_loss of the choice"
    )
    ax.grid(alpha=0.3)
axes[0].legend(fontsize=7)

curves = np.array(
    [
        [one["all to the end"].history(i)["val_loss"] for i in range(len(k))]
        for one in results["wide space"]
    ]
)
for label, kept in {"all 49 points": 49, "the 16 that are best in the end": 16}.items():
    agreement = []
    for one in curves:
        best = one[np.argsort(one[:, -1])[:kept]]
        agreement.append([spearmanr(best[:, e], best[:, -1]).statistic for e in range(27)])
    axes[2].plot(range(1, 28), np.mean(agreement, axis=0), "o-", markersize=3, label=label)
axes[2].set(
    title="wide space",
    xscale="log",
    xlabel="epoch",
    ylabel="rank correlation\nwith the end",
    ylim=(-0.1, 1.05),
)
axes[2].set_xticks([1, 3, 9, 27], [1, 3, 9, 27])
axes[2].grid(alpha=0.3)
axes[2].legend(fontsize=8, loc="lower right")
plt.show()
assert np.mean([gains["wide space", name] for name in strategies if name != "all to the end"]) < 1

# %% [markdown]
# Left and middle: what was found against what was spent, a mark for each set of points. The line is the fair comparison,
# random search at equal epochs: the expected best of k points that all run to the end. In the wide space most points are
# hopeless, and each strategy found better points, on average, than random search with as many epochs. In the narrow
# space there is little to end, and the marks lie on both sides of the line. Three sets do not rank the three strategies
# (`python -m benchmarks.hyperband` repeats this more often). ASHA's choices depend on which rows finish first, and so
# on the machine.
#
# Right: why, and what can go wrong. Over all points the first epoch says much about the last, since hopeless points
# look it. Among those that are best in the end it says little, so that good ones are ended at the first rung, too. This
# is worse with a schedule, whose gain comes when the rate falls, and for small rates, warm-up, decay and dropout, which
# look bad early. Three remedies: a larger `first=`; Hyperband, whose last bracket ends nothing early; and comparing by
# epochs trained, not by points.

# %% [markdown]
# ## Is the best point better than the second?
#
# Validation images that choose are as lucky as seeds. Cross-validation makes the fold a part of the point: six points ×
# ten folds × two seeds are rows of one table.

# %%
candidates = [{name: row[name] for name in space} for row in ranked[:6]]
everything = tuple(np.concatenate(parts) for parts in zip(train, validation))
options = {name: value for name, value in common.items() if name not in ("data", "validation")}
folds = jd.search.cross_validate(
    builder, candidates, data=everything, folds=10, seeds=2, epochs=9, progress=False, **options
)
best = folds.best("val_loss", over_seeds=True)
means = jd.search.intervals(folds, "val_loss")
differences = jd.search.intervals(folds, "val_loss", against=best)

order = sorted(range(6), key=lambda i: means[i]["val_loss_mean"])
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True)
for ax, rows in zip(axes, (means, differences)):
    for place, i in enumerate(order):
        low, mean, high = (rows[i][f"val_loss_{end}"] for end in ("low", "mean", "high"))
        ax.plot([low, high], [place, place], "C0-")
        ax.plot(mean, place, "C0o")
    ax.grid(alpha=0.3)
names = [
    f"rate {means[i]['learning_rate']:.4f}, b1 {means[i]['b1']:.2f}, decay {means[i]['weight_decay']:.0e}"
    for i in order
]
axes[0].set_yticks(range(6), names)
axes[0].invert_yaxis()
axes[0].set(xlabel="val_loss, 95 % interval")
axes[1].axvline(0, color="k", linewidth=0.8)
axes[1].set(xlabel="difference to the best, 95 % interval")
plt.show()

second = differences[order[1]]
low, mean, high = (second[f"val_loss_{end}"] for end in ("low", "mean", "high"))
verdict = "0 lies in it, so they are not told apart" if low <= 0 <= high else "0 lies outside"
print(f"the second is worse by {mean:.4f}, interval {low:.4f} to {high:.4f}; {verdict}")
worse = sum(row["val_loss_low"] > 0 for row in differences)
print(f"{worse} of the 5 others have an interval above 0")
assert max(row["val_loss_low"] for row in means) < min(row["val_loss_high"] for row in means)
print(f"best in the sweep: {names[order.index(0)]}; by cross-validation: {names[0]}")

# %% [markdown]
# Left: the intervals of all six means overlap, since folds differ more than points do. Right: differences to the best in
# the same folds and seeds, which vary less. An interval without 0 tells a point from the best one. Even that is generous:
# the best was chosen by these very folds, so that differences to it look larger than they are, and of five intervals one
# excludes 0 by chance more often than one alone. The intervals take into account that folds share their training rows,
# by Nadeau and Bengio's correction; the usual ones would be too narrow.
#
# If points cannot be told apart, take the one that is cheaper or simpler. Then ask what else would help, say more data:

# %%
curve = jd.search.learning_curve(
    builder,
    [{name: best[name] for name in space}],
    data=train,
    validation=validation,
    sizes=(0.1, 0.2, 0.4, 0.7, 1.0),
    seeds=5,
    epochs=27,
    progress=False,
    **options,
)
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
curve.plot("val_loss", "size", ax=axes[0])
curve.plot("val_accuracy", "size", ax=axes[1])
plt.show()
(last,) = [row["val_loss_mean"] for row in curve.over_seeds() if row["size"] == len(train[0])]
(before,) = [
    row["val_loss_mean"] for row in curve.over_seeds() if row["size"] == round(0.7 * len(train[0]))
]
print(f"the last {0.3:.0%} of the images took {1 - last / before:.0%} off the loss")
assert last < before

# %% [markdown]
# Each seed draws its own training set, so the bars are the luck of the data as well. The curve has not levelled off at
# all the images there are: more of them would help this network more than the third digit of its rate.

# %% [markdown]
# ## A population beside random search
#
# `jd.search.population` is population-based training: eight members side by side, and every third epoch the worst two
# become copies of the best two and explore other hyperparameters from there. With `fraction=0` nobody is copied, and
# it is random search with the same members, keys and epochs.

# %%
members = jd.search.sobol(space, 8, seed=1)
how = {"every": 3, "epochs": 27, "key": jax.random.key(0), "progress": False, **common}
apart = jd.search.population(builder, members, fraction=0.0, **how)
evolved = jd.search.population(builder, members, fraction=0.25, **how)

figure, axes = plt.subplots(1, 3, figsize=(12, 3.2))
for ax, (title, result) in zip(axes, {"random search": apart, "population": evolved}.items()):
    curves = result.history["val_loss"]
    ax.plot(range(1, 28), curves, color="C7", linewidth=0.8, alpha=0.6)
    own = curves[np.arange(27), result.ancestors()]
    ax.plot(range(1, 28), own, "C0", linewidth=2, label="the winner and its ancestors")
    ax.set(title=title, xlabel="epoch", ylabel="val_loss", yscale="log", ylim=(0.03, 3))
    ax.legend(fontsize=8, loc="upper right")
ends = [*(generation.epoch for generation in evolved.lineage[1:]), 27]
rates = [generation.hyperparameters["learning_rate"] for generation in evolved.lineage]
for g, (generation, end) in enumerate(zip(evolved.lineage, ends)):
    axes[2].hlines(rates[g], generation.epoch, end, color="C7", linewidth=0.8)
    if g:  # from parent to child
        axes[2].vlines(
            [generation.epoch] * 8, rates[g - 1][generation.parents], rates[g], color="C7", linewidth=0.4
        )
epochs, values = zip(*evolved.schedule())
axes[2].step(
    [*epochs, 27], [v["learning_rate"] for v in (*values, values[-1])], "C0", where="post", linewidth=2
)
axes[2].set(title="rates of the population", xlabel="epoch", ylabel="learning_rate", yscale="log")
plt.show()


def error(result):
    logits, _ = common["model"].apply(result.params, result.state, test[0])
    return float((logits.argmax(-1) != test[1]).mean())


for name, result in {"random search": apart, "population": evolved}.items():
    loss = result.history["val_loss"][-1, result.best]
    print(f"{name:14} val_loss {loss:.4f}, test error {error(result):.1%}")
for epoch, values in evolved.schedule():
    print(f"from epoch {epoch:2}:", {name: float(f"{value:.3g}") for name, value in values.items()})

# %% [markdown]
# Left and middle: every member in grey. The bad ones of the population jump onto the good ones' curves. Right: the
# rates of all members, a line from parent to child, and in blue the rates that the winner's parameters were trained
# with. The result is a model and a *schedule*, which `jd.fit` can follow: `builder(evolved.schedules())`.
#
# One repetition is an anecdote. In [twenty](../benchmarks/results/population.md) the winner's validation loss was
# smaller, and its test error was not: who is selected again and again fits the validation data.

# %% [markdown]
# ## An Optuna study drives a sweep
#
# Optuna's samplers learn from what was told to them. `sampler=` takes a study: it is asked for a batch of points, they
# run as one program with all seeds, and it is told their values, with those of each epoch on the way. With
# `constant_liar=True`, TPE spreads the points of a batch; `batch=1` would be plain sequential search.

# %%
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, constant_liar=True))
sampler = jd.search.AskTell(study, trials=64, batch=16, monitor="val_loss")
asked = jd.sweep(builder, space, sampler=sampler, epochs=9, progress=False, **common)
even = jd.sweep(builder, jd.search.sobol(space, 64, seed=0), epochs=9, progress=False, **common)
assert len(study.trials) == len(asked) == 64
assert study.best_value == asked.best("val_loss")["val_loss"]

figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True)
for ax, (title, found) in zip(
    axes, {"Optuna's TPE, in batches of 16": asked, "64 Sobol points": even}.items()
):
    values = np.array([row["val_loss"] for row in found.rows()])
    ax.plot(range(1, 65), values, ".", color="C7")
    ax.plot(
        range(1, 65), np.minimum.accumulate(values), "C0", drawstyle="steps-post", label="best so far"
    )
    for start in range(0, 64, 16):
        middle = np.median(values[start : start + 16])
        ax.plot(
            [start + 1, start + 16], [middle, middle], "C1", label="median of 16" if start == 0 else None
        )
    ax.set(title=title, xlabel="trial", yscale="log")
    ax.grid(alpha=0.3)
axes[0].set_ylabel("val_loss")
axes[0].legend(fontsize=8)
plt.show()
halves = [np.median([row["val_loss"] for row in found.rows()][32:]) for found in (asked, even)]
print("median of the second half: {:.3f} and {:.3f}".format(*halves))
assert halves[0] < halves[1]
print("best:", {name: float(f"{value:.3g}") for name, value in study.best_params.items()})

# %% [markdown]
# The later batches of the study are better than the first ones, as it spends its trials where they are good; those of
# Sobol points are alike. The best points of the two do not differ much here: in three dimensions 64 points are many,
# whoever draws them. And steered points say less of the rest of the space, so read importance and the shape of the
# valley from points that nobody steered. (This is one repetition, with one seed a point.)
#
# It remains your study. With `storage="sqlite:///search.db"` and `load_if_exists=True` the same call goes on after a
# kill, and its plots are drawn from what was told:

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    axes = optuna.visualization.matplotlib.plot_slice(
        study,
        params=["learning_rate", "1 - b1"],
        target=lambda trial: np.log10(trial.value),
        target_name="log10 of val_loss",
    )
axes[0].figure.set_size_inches(9, 3)
plt.show()

# %% [markdown]
# Dark points are late ones. They gather in the valley of the rate. `b1` is asked for as `1 - b1`, by its logarithm.
#
# A run that was halved is told as PRUNED, one that diverged or raised as FAIL, with the reason in its attributes. (With
# `AskTell(…, diverged="prune")` TPE learns to stay away from where runs diverge.) Anything with `ask()` and
# `tell(asked, value)` can take the study's place.

# %% [markdown]
# ## Leaving the machine
#
# `executor=` takes what has the form of `concurrent.futures`. The sweep stays the same call, and gives the table that
# threads give. With processes, everything belongs into a module, and the call under `if __name__ == "__main__":`
#
# ```python
# import multiprocessing
# from concurrent.futures import ProcessPoolExecutor
#
# spawned = multiprocessing.get_context("spawn")  # forking hangs once JAX has begun, and is refused
# with ProcessPoolExecutor(4, mp_context=spawned) as pool:
#     table = jd.sweep(builder, points, executor=pool, epochs=9, checkpoint="runs/search", **common)
#
# from distributed import Client  # Dask: this machine, a cluster, Slurm through dask_jobqueue
#
# with Client("tcp://scheduler:8786") as client:
#     table = jd.sweep(builder, points, executor=client.get_executor(), epochs=9, **common)
# ```
#
# A worker is told of the builder and the data once; after that a task is the number of a row and an epoch to go to.
# Rows of a worker that is lost run again. A closure that carries an array, or that cannot be pickled, is refused by name
# before anything starts. Only the process that called `sweep` writes to the directory of `checkpoint=`.
#
# ## In short
#
# | you want | use |
# | --- | --- |
# | to see a space | `jd.search.sobol(space, 32)`, three seeds, `table.plot`, `table.plot_parallel` |
# | to know what matters | `table.importance`, its uncertainty, and what the forest explains |
# | a search that survives the night | `checkpoint=`; the same call again |
# | more of the same | more points of the same seed, more `seeds=`, more `epochs=`, same `checkpoint=` |
# | many points, most of them bad | `halving=jd.search.Hyperband(…)`; print its `plan` first |
# | rows of very different length, many workers | `jd.search.AsynchronousHalving` |
# | to choose with few rows | `jd.search.cross_validate`, `jd.search.intervals(…, against=best)` |
# | to know whether to label more | `jd.search.learning_curve` |
# | a schedule, not a point | `jd.search.population` |
# | a sampler that learns | `sampler=study` |
# | more machines | `executor=` |
# | the table elsewhere | `table.to_frame("polars")`, `table.save`, `jd.search.Table.load` |
#
# And if you come from elsewhere:
#
# | Optuna | Ray Tune | Keras Tuner | jaxdeep |
# | --- | --- | --- | --- |
# | `suggest_float(…, log=True)` | `tune.loguniform` | `hp.Float(…, sampling="log")` | `jd.search.log_uniform` |
# | `suggest_categorical` | `tune.choice` | `hp.Choice` | a list, or `jd.search.choice` |
# | `n_trials=` | `num_samples=` | `max_trials=` | the number of points |
# | `HyperbandPruner` | `HyperBandScheduler` | `Hyperband` | `halving=jd.search.Hyperband()` |
# | `SuccessiveHalvingPruner` | `ASHAScheduler` | | `halving=jd.search.AsynchronousHalving()` |
# | | `PopulationBasedTraining` | | `jd.search.population` |
# | `storage=`, `load_if_exists=True` | `Tuner.restore` | `overwrite=False` | `checkpoint=` |
# | `study.best_trial` | `results.get_best_result()` | `get_best_hyperparameters()` | `table.best(…, over_seeds=True)` |
# | `study.trials_dataframe()` | `results.get_dataframe()` | | `table.to_frame()` |
#
# Before: [08 A thousand runs](08_sweeps.ipynb), of seeds, luck and how many of them a comparison needs.
