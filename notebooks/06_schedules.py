# %% [markdown]
# # 06 Schedules
#
# A learning rate that is right at the start is too large at the end. Afterwards you can choose a
# schedule, set its peak, and find the rate to begin with in one short run.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/06_schedules.ipynb)

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
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxdeep as jd
from jaxdeep import plotting

real = "JAXDEEP_DATA" in os.environ or "google.colab" in sys.modules
train, validation, test = jd.datasets.load("fashion-mnist" if real else "digits")
train = train[0][:5_000], train[1][:5_000]
plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True})

# %% [markdown]
# ## Shapes
#
# A schedule is a function of the step: `schedule(0)` is the value at the first update. Any function will
# do, optax' too. It goes where a number goes, as a learning rate, a momentum or a weight decay, and
# takes arrays, so that it can be drawn with one call. Dashed lines are the staircase, or the other
# variant named in the title.

# %%
s = jd.schedules
SHAPES = {
    "constant(0.1)": [s.constant(0.1)],
    "power(0.1, 20)": [s.power(0.1, 20), s.power(0.1, 20, staircase=True)],
    "exponential(0.1, 20, 0.5)": [
        s.exponential(0.1, 20, 0.5),
        s.exponential(0.1, 20, 0.5, staircase=True),
    ],
    "piecewise_constant(\n[30, 60], [0.1, 0.05, 0.02])": [
        s.piecewise_constant([30, 60], [0.1, 0.05, 0.02])
    ],
    "polynomial(0.1, 0.01, p, 80)\np = 1; 2 dashed": [
        s.polynomial(0.1, 0.01, 1, 80),
        s.polynomial(0.1, 0.01, 2, 80),
    ],
    "cosine(0.1, 80)\nalpha=0.2 dashed": [s.cosine(0.1, 80), s.cosine(0.1, 80, alpha=0.2)],
    "one_cycle(0.1, 100)\nform='torch' dashed": [
        s.one_cycle(0.1, 100),
        s.one_cycle(0.1, 100, form="torch"),
    ],
    "one_cycle_momentum(100)": [s.one_cycle_momentum(100)],
    "warmup(cosine(0.1, 80), 20)": [s.warmup(s.cosine(0.1, 80), 20)],
    "join([constant(0.1),\nexponential(0.1, 20, 0.5)], [40])": [
        s.join([s.constant(0.1), s.exponential(0.1, 20, 0.5)], [40])
    ],
    "per_epoch(\nexponential(0.1, 1, 0.7), 10)": [s.per_epoch(s.exponential(0.1, 1, 0.7), 10)],
    "your own": [lambda t: 0.05 * (1 + jnp.cos(2 * jnp.pi * t / 25)) * 0.97**t],
}
steps = jnp.arange(111)
figure, axes = plt.subplots(3, 4, figsize=(10, 5.6), sharex=True)
for ax, (title, curves) in zip(axes.flat, SHAPES.items()):
    for curve, style in zip(curves, ("C0-", "C1--")):
        ax.plot(steps, jax.vmap(curve)(steps), style)
    ax.set_title(title, fontsize=9)
    ax.set_ylim(*(0.8, 1.0) if "momentum" in title else (0, 0.11))
    ax.grid(alpha=0.3)
figure.supxlabel("step")
plt.show()

# %% [markdown]
# With $t$ the step, $s$ and $T$ numbers of steps:
#
# * power: $\eta_0 / (1 + t / s)^c$, half after $s$ steps, a third after $2s$: fast first, then ever more
#   slowly;
# * exponential: $\eta_0 \, r^{t/s}$, a factor $r$ in every $s$ steps;
# * polynomial and cosine go from the first value to the last in $T$ steps and stay there;
# * 1cycle rises to its peak, falls as far, and ends near nothing, while the momentum goes the other way;
# * `warmup` puts a rising line in front, `join` puts schedules one after another, `per_epoch` counts
#   epochs.
#
# Power, exponential and constant need not know how long the run will be. The others do.

# %% [markdown]
# ## Finding the rate
#
# All of these want a first rate or a peak. `jd.diagnostics.find_learning_rate` runs 400 steps whose rate
# grows from $10^{-6}$ to 10. The loss stays, falls, then rises; the suggestion is three times the rate
# at which it has come 70 % of the way down. It is a pure function of its key: under `jax.vmap` it is
# done for eight networks at once. Is the suggestion any good? The last figure trains with nine constant
# rates around it.

# %%
batch_size = 32
model = jd.nn.serial(
    flatten=jd.nn.flatten(),
    hidden1=jd.nn.dense(50, activation=jax.nn.relu),
    hidden2=jd.nn.dense(50, activation=jax.nn.relu),
    logits=jd.nn.dense(10),
)
common = {
    "model": model,
    "data": train,
    "validation": validation,
    "loss": jd.losses.softmax_cross_entropy,
    "metrics": {"accuracy": jd.metrics.accuracy},
    "batch_size": batch_size,
    "progress": False,
}


def test_rates(key):
    return jd.diagnostics.find_learning_rate(
        model,
        train,
        optimizer=lambda rate: jd.optimizers.sgd(rate, momentum=0.9),
        loss=jd.losses.softmax_cross_entropy,
        batch_size=batch_size,
        key=key,
    )


plotting.learning_rate(test_rates(jax.random.key(0)))

# %%
found = jax.vmap(test_rates)(jax.random.split(jax.random.key(1), 8))
rate = float(jnp.median(found.suggestion))
print("suggestions:", np.sort(np.asarray(found.suggestion)).round(3), "median:", round(rate, 3))

# %%
rates = np.geomspace(rate / 10, rate * 10, 9)
check = jd.sweep(
    lambda hp: jd.optimizers.sgd(hp["learning_rate"], momentum=0.9),
    {"learning_rate": rates},
    seeds=3,
    epochs=6,
    **common,
)
figure, ax = plt.subplots(figsize=(7, 3))
check.plot("val_loss", "learning_rate", ax=ax)
ax.axvline(rate, color="C1", linestyle="--", label=f"suggestion, {rate:.2g}")
ax.set(xlabel="learning rate, constant", ylabel="validation loss, 6 epochs")
ax.legend()
plt.show()

# %% [markdown]
# The suggestion is at the upper end of the good rates: half of it is as good, twice as much is not. That
# is where a falling rate should begin, and about twice what a constant one should be. The test costs 400
# steps and one compilation; a sweep then needs three rates around it instead of nine over six decades.
# Run it anew when the optimizer, the batch size or the network changes, for the good rate changes with
# each.

# %% [markdown]
# ## What they do
#
# Every schedule with four peak rates, a third to three times the suggestion, and four seeds: sgd with
# momentum 0.9, 12 epochs, batches of 32. Peaks are floats: one program for each schedule. The question:
# which rate is best for each, and how good is it then?

# %%
epochs = 12
per_epoch = -(-len(train[0]) // batch_size)
T = epochs * per_epoch
SCHEDULES = {
    "constant": s.constant,
    "power": lambda peak: s.power(peak, T // 10),
    "exponential": lambda peak: s.exponential(peak, T // 2, 0.1),
    "piecewise": lambda peak: s.piecewise_constant([T // 2, 3 * T // 4], [peak, peak / 5, peak / 20]),
    "cosine": lambda peak: s.cosine(peak, T),
    "warmup, cosine": lambda peak: s.warmup(s.cosine(peak, T - T // 10), T // 10),
    "1cycle": lambda peak: s.one_cycle(peak, T),
    "1cycle, momentum too": lambda peak: s.one_cycle(peak, T),
}


def scheduled(hp):
    momentum = s.one_cycle_momentum(T) if hp["schedule"] == "1cycle, momentum too" else 0.9
    return jd.optimizers.sgd(SCHEDULES[hp["schedule"]](hp["peak"]), momentum=momentum)


multiples = (1 / 3, 1, 2, 3)
table = jd.sweep(
    scheduled,
    {"schedule": list(SCHEDULES), "peak": [multiple * rate for multiple in multiples]},
    seeds=4,
    epochs=epochs,
    **common,
)
print(f"{len(table)} runs of {T} steps")

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharex=True)
panels = {"loss": "training loss", "val_loss": "validation loss"}
for ax, (metric, label) in zip(axes, panels.items()):
    for i, name in enumerate(SCHEDULES):
        rows = [row for row in table.over_seeds() if row["schedule"] == name]
        means = [row[f"{metric}_mean"] for row in rows]
        ax.plot(multiples, means, ("o-", "s--")[i % 2], color=f"C{i // 2}", markersize=4, label=name)
    ax.set(xscale="log", yscale="log", xlabel="peak ÷ suggestion", ylabel=f"{label}, mean of 4 seeds")
    ax.set_xticks(multiples, ["⅓", "1", "2", "3"])
    ax.set_xticks([], minor=True)
    ax.grid(alpha=0.3)
axes[1].legend(fontsize=8)
plt.show()

print("schedule               peak   training loss   validation loss   validation accuracy")
for name in SCHEDULES:
    rows = [row for row in table.over_seeds() if row["schedule"] == name]
    best = min(rows, key=lambda row: row["val_loss_mean"])
    spread = [f"{best[f'{m}_mean']:.3f} ± {best[f'{m}_std']:.3f}" for m in ("val_loss", "val_accuracy")]
    print(f"{name:22} {best['peak']:<6.2g} {best['loss_mean']:.4f}          {'     '.join(spread)}")

# %% [markdown]
# A constant rate does best at a third of the suggestion, the others at the suggestion or above: **a
# falling rate may begin three times as high**, since what is too large for the end is only too large for
# a while. Those that fall near to zero late (piecewise, cosine, 1cycle) end with a quarter to a third of
# the constant rate's training loss. Power and exponential fall at once: they get less far from a good
# peak, and are the least sensitive to one that is too high.
#
# On the validation images piecewise, cosine and 1cycle are a little better than the constant rate; among
# them the seeds' spread is as large as the differences, a short warm-up included. Letting the momentum
# fall while the rate is high lets 1cycle bear the highest peaks: the effective rate is
# $\eta / (1 - \beta)$, and 0.85 in place of 0.95 makes it a third.

# %%
histories = {}
for name in ("constant", "exponential", "cosine", "1cycle, momentum too"):
    seeds = [
        table.history(i)
        for i, point in enumerate(table.points)
        if (point["schedule"], point["peak"]) == (name, rate)
    ]
    histories[name] = {m: np.stack([h[m] for h in seeds]) for m in ("loss", "val_accuracy")}
plotting.curves(histories, title="peak at the suggestion; bands from the lowest to the highest seed")

# %% [markdown]
# Half-way, exponential is ahead and 1cycle level with the constant rate; at the end 1cycle and cosine
# have passed both. So **do not judge such a schedule before its end**, and do not stop it early: its
# gain is made in the last third.

# %% [markdown]
# ## Performance scheduling
#
# A schedule must be told when to fall. `plateau=jd.train.ReduceOnPlateau(…)` watches instead: after `patience`
# epochs in which the validation loss did not improve, the rate is multiplied by `factor`. The
# optimizer's rate must be a number then, not a schedule. Here are five seeds of 25 epochs, with and
# without.

# %%
plateau = jd.train.ReduceOnPlateau(factor=0.5, patience=2)
watched = jd.sweep(
    lambda hp: {
        "optimizer": jd.optimizers.sgd(rate, momentum=0.9),
        "plateau": plateau if hp["rate"] == "performance" else None,
    },
    {"rate": ["constant", "performance"]},
    seeds=5,
    epochs=25,
    **common,
)
figure, axes = plt.subplots(1, 3, figsize=(10, 3))
for i, point in enumerate(watched.points):
    history, style = watched.history(i), "C7-" if point["rate"] == "constant" else "C0-"
    label = point["rate"] if point["seed"] == 0 else None
    for ax, metric in zip(axes, ("learning_rate", "loss", "val_loss")):
        ax.plot(range(1, 26), history[metric], style, linewidth=1, alpha=0.7, label=label)
for ax, label in zip(axes, ("learning rate", "training loss", "validation loss")):
    ax.set(xlabel="epoch", ylabel=label, yscale="linear" if "validation" in label else "log")
    ax.grid(alpha=0.3)
axes[0].legend()
plt.show()
for row in watched.over_seeds():
    mean, sd = row["val_accuracy_mean"], row["val_accuracy_std"]
    print(f"{row['rate']:12} validation accuracy {mean:.3f} ± {sd:.3f}")

# %% [markdown]
# On the digits both end with the same accuracy: the falling rate has not won anything that 25 epochs of
# a constant one did not find as well. What it has won is steadiness: from the 15th epoch on its
# validation loss lies still, while the constant rate's jumps by a factor of two to four from epoch to
# epoch, and any of them could be the last. (With 5,000 images of Fashion-MNIST, which no rate fits so
# easily, it wins: 0.852 ± 0.002 against 0.827 ± 0.014.) The falls are triggered by noise: the seeds'
# last rates differ by a factor of ten and more. *When to use which*: performance scheduling where you do
# not know how long to train; with a `patience` longer than the jumps, and with
# `early_stopping=jd.train.EarlyStopping(…)` for the end. Where the length is known, 1cycle did about as
# well in half the epochs.

# %% [markdown]
# ## In short
#
# | situation | schedule | peak |
# | --- | --- | --- |
# | the length is known | `one_cycle`, `one_cycle_momentum` for a high peak | 1 to 2 × suggestion |
# | the same, with Adam or a long run | `warmup(cosine(…), …)` | suggestion |
# | the length is open | constant with `jd.train.ReduceOnPlateau`, or `power` | suggestion |
# | the peak is a guess | `exponential` or `power`, least sensitive to it | 1 to 2 × suggestion |
# | a recipe from a paper | `piecewise_constant`, `join`, `per_epoch` | as there |
# | a first look | a number | a third to a half of the suggestion |
#
# * A schedule is a function of the step; count epochs with `per_epoch`, and know the last step of 1cycle
#   and cosine: `epochs * steps an epoch`.
# * Choose peaks with seeds: `jd.sweep` compiles a schedule once for all its peaks.
# * `result.history["learning_rate"]` and `["momentum"]` are what was in force.
#
# Before: [05 Optimizers](05_optimizers.ipynb). Next: [07
# Regularisation](07_regularisation_and_uncertainty.ipynb).
