# %% [markdown]
# # 05 Optimizers
#
# Eight optimizers on a surface that can be looked at, and on data. Afterwards you can say what momentum,
# the look-ahead of Nesterov's method and adaptive steps each do, which to try first, and over what range
# of learning rates.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/05_optimizers.ipynb)

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
import optax

import jaxdeep as jd
from jaxdeep import plotting

real = "JAXDEEP_DATA" in os.environ or "google.colab" in sys.modules
train, validation, test = jd.datasets.load("fashion-mnist" if real else "digits")
train = train[0][:5_000], train[1][:5_000]
print(train[0].shape, validation[0].shape)
plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True})

# %% [markdown]
# ## Eight rules
#
# Each optimizer is a function of the learning rate $\eta$. With the gradient $g$ and $\beta = 0.9$:
#
# | | step |
# | --- | --- |
# | sgd | $\theta \leftarrow \theta - \eta g$ |
# | momentum | $b \leftarrow \beta b + g, \quad \theta \leftarrow \theta - \eta b$ |
# | nag | $m \leftarrow \beta m - \eta \nabla J(\theta + \beta m), \quad \theta \leftarrow \theta + m$ |
# | adagrad | $s \leftarrow s + g^2, \quad \theta \leftarrow \theta - \eta g / \sqrt{s}$ |
# | rmsprop | $s \leftarrow 0.9 s + 0.1 g^2, \quad \theta \leftarrow \theta - \eta g / \sqrt{s}$ |
# | adam | momentum divided by RMSProp's root, each corrected for its start at zero |
# | adamax | adam with a decaying maximum of $\lvert g \rvert$ in place of the root |
# | nadam | adam with Nesterov's look-ahead in its momentum |
#
# The first three move all parameters at one rate. The other five are adaptive: they divide each
# parameter's step by how large its own gradients have been.

# %%
OPTIMIZERS = {
    "sgd": jd.optimizers.sgd,
    "momentum": lambda rate: jd.optimizers.sgd(rate, momentum=0.9),
    "nag": lambda rate: jd.optimizers.nag(rate, momentum=0.9),
    "adagrad": jd.optimizers.adagrad,
    "rmsprop": jd.optimizers.rmsprop,
    "adam": jd.optimizers.adam,
    "adamax": jd.optimizers.adamax,
    "nadam": jd.optimizers.nadam,
}

# %% [markdown]
# ## Paths on a surface
#
# A valley, $f(x) = \frac{1}{2} x^\top A x$, is thirty times as curved across as along. In the first row
# it lies along an axis; in the second the same valley is turned by 45°. A learning rate may be a traced
# array, so one compiled program takes 81 of them under `vmap`. Every panel has its optimizer's best of
# these, judged by the mean of $f$ over the last 10 of 60 steps. The gradient is taken at
# `jd.optimizers.gradient_point(state, x)`: that is `x` itself for all but nag.

# %%
turn = jnp.array([[1.0, -1.0], [1.0, 1.0]]) / jnp.sqrt(2)
stretch, start = jnp.diag(jnp.array([1.0, 30.0])), jnp.array([-4.0, 1.0])
VALLEYS = {"along an axis": (stretch, start), "at 45°": (turn @ stretch @ turn.T, turn @ start)}
RATES = jnp.logspace(-3, 1, 81)


def height(x, valley):
    return 0.5 * jnp.einsum("...i,ij,...j", x, valley, x)


def path(optimizer, valley, start, steps=60):
    """Where an optimizer goes: an array (steps + 1, 2)."""

    def step(carry, _):
        x, state = carry
        gradient = jax.grad(height)(jd.optimizers.gradient_point(state, x), valley)
        updates, state = optimizer.update(gradient, state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    _, xs = jax.lax.scan(step, (start, optimizer.init(start)), None, length=steps)
    return jnp.vstack([start, xs])


def try_rates(make, valley, start):
    """The paths of all rates, and how high each ends."""
    xs = jax.jit(jax.vmap(lambda rate: path(make(rate), valley, start)))(RATES)
    return xs, jnp.nan_to_num(height(xs[:, -10:], valley).mean(1), nan=jnp.inf)


tried = {
    (lie, name): try_rates(make, *valley)
    for lie, valley in VALLEYS.items()
    for name, make in OPTIMIZERS.items()
}

# %%
shown = ["sgd", "momentum", "nag", "adagrad", "rmsprop", "adam"]
grid = jnp.stack(jnp.meshgrid(jnp.linspace(-5, 2.5, 90), jnp.linspace(-4, 2.5, 90)), axis=-1)
figure, axes = plt.subplots(2, 6, figsize=(10, 3.6), sharex=True, sharey=True)
for row, (lie, (valley, _)) in zip(axes, VALLEYS.items()):
    row[0].set_ylabel(lie)
    for ax, name in zip(row, shown):
        xs, ends = tried[lie, name]
        best = int(ends.argmin())
        ax.contour(
            *grid.T, jnp.log10(1 + height(grid, valley)).T, levels=10, cmap="Greys", linewidths=0.5
        )
        ax.plot(*xs[best].T, ".-", linewidth=1, markersize=3)
        ax.plot(0, 0, "*", color="C3", markersize=7)
        ax.set_title(f"{name}, η = {RATES[best]:.2g}\nf = {ends[best]:.0e}", fontsize=9)
        ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Gradient descent zigzags across the valley: the curvature across, 30, bounds its rate by $2 / 30$, and
# at that rate it is slow along it. Momentum averages the zigzag away but swings; nag looks where it is
# going, hardly swings across, and is best at a larger rate. RMSProp and AdaGrad divide each *coordinate*
# by its own gradients: along an axis they undo the stretching, and nothing is left of the valley.
#
# Turned by 45°, the first three do exactly the same as before, only turned: they know no axes. The
# adaptive ones lose most of their advantage, since both coordinates now see the same steepness.
# **Adaptive steps cure differences of scale between parameters, not curvature as such.**

# %%
styles = {"sgd": "C7-", "momentum": "C0-", "nag": "C1-", "rmsprop": "C2--", "adam": "C3--"}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
for ax, lie in zip(axes, VALLEYS):
    for name, style in styles.items():
        ax.loglog(RATES, jnp.minimum(tried[lie, name][1], 1e4), style, label=name)
    ax.set(xlabel="learning rate", title=f"valley {lie}", ylim=(1e-8, 1e3))
    ax.grid(alpha=0.3)
axes[0].set_ylabel("f, mean of last 10 steps")
axes[1].legend(loc="lower right", fontsize=8, ncols=2)
plt.show()

# %% [markdown]
# The same runs against the learning rate. Those that know no axes end in a wall: one rate too many and
# they diverge, nag at $1.36 / 30$, sgd at $2 / 30$, momentum at $3.8 / 30$. The adaptive ones have no
# wall, because their steps are about $\eta$ long whatever the gradient; with too large a rate they stay
# that far from the minimum. On a surface like this, an adaptive optimizer forgives a rate that is too
# large.

# %% [markdown]
# ## What nag's look-ahead is
#
# Most frameworks' Nesterov momentum is a reformulation: it keeps the look-ahead points
# $\theta + \beta m$ as "the parameters". `jd.optimizers.nag` keeps Nesterov's own $\theta$ and takes the
# gradient ahead of it; `make_step` and `fit` do that for you. Below is the coordinate across the valley.

# %%
rate, valley = 0.02, stretch
classic = path(jd.optimizers.sgd(rate, momentum=0.9), valley, start, 40)
nesterov = path(jd.optimizers.sgd(rate, momentum=0.9, nesterov=True), valley, start, 40)
true = path(jd.optimizers.nag(rate, momentum=0.9), valley, start, 40)
ahead = true[1:] + 0.9 * jnp.diff(true, axis=0)  # θ + βm

figure, ax = plt.subplots(figsize=(7, 3))
ax.plot(classic[:, 1], "C0-", label="momentum")
ax.plot(true[:, 1], "C1-", label="nag: θ")
ax.plot(range(1, 41), ahead[:, 1], "C3-", label="nag: θ + βm")
ax.plot(nesterov[:, 1], "k.", markersize=4, label="sgd(…, nesterov=True)")
ax.set(xlabel="step", ylabel="across the valley")
ax.grid(alpha=0.3)
ax.legend(ncols=2)
plt.show()
print(f"largest difference between dots and θ + βm: {jnp.abs(nesterov[1:] - ahead).max():.0e}")

# %% [markdown]
# The dots lie on the red line: the two are one method, read at two places. They stay so while the rate
# is constant (or inside the trace, `lr_in_trace=True`). Both damp the swing that plain momentum keeps
# up. *When to use which*: nag wherever you would use momentum, the gradient costs the same;
# `sgd(…, nesterov=True)` where the iterates must match another framework's.

# %% [markdown]
# ## Curves on data
#
# The same eight on images: two hidden layers of 50 ReLU units, 8 epochs, batches of 32, every learning
# rate with three seeds. Rates are floats, so each optimizer is compiled once for all its runs. The
# question is not only which is best at its best rate, but how wide the range of good rates is.

# %%
model = jd.nn.serial(
    flatten=jd.nn.flatten(),
    hidden1=jd.nn.dense(50, activation=jax.nn.relu),
    hidden2=jd.nn.dense(50, activation=jax.nn.relu),
    logits=jd.nn.dense(10),
)
common = {
    "data": train,
    "validation": validation,
    "loss": jd.losses.softmax_cross_entropy,
    "metrics": {"accuracy": jd.metrics.accuracy},
    "progress": False,
}
table = jd.sweep(
    lambda hp: OPTIMIZERS[hp["optimizer"]](hp["learning_rate"]),
    {"optimizer": list(OPTIMIZERS), "learning_rate": np.logspace(-3.5, 0, 8)},
    seeds=3,
    model=model,
    epochs=8,
    **common,
)
print(f"{len(table)} runs")

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
means = {name: [row for row in table.over_seeds() if row["optimizer"] == name] for name in OPTIMIZERS}
panels = {"one rate for all": ["sgd", "momentum", "nag"], "adaptive": list(OPTIMIZERS)[3:]}
for ax, (title, names) in zip(axes, panels.items()):
    for name in names:
        rates, accuracy, sd = (
            np.array([row[column] for row in means[name]])
            for column in ("learning_rate", "val_accuracy_mean", "val_accuracy_std")
        )
        ax.errorbar(rates, accuracy, sd, fmt="o-", markersize=3, capsize=2, label=name)
    ax.set(xscale="log", xlabel="learning rate", title=title)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="lower center")
axes[0].set_ylabel("validation accuracy, 3 seeds")
plt.show()

print("optimizer   best rate   validation accuracy   rates within 0.02 of it")
for name, rows in means.items():
    best = max(rows, key=lambda row: row["val_accuracy_mean"])
    mean, sd = best["val_accuracy_mean"], best["val_accuracy_std"]
    near = sum(row["val_accuracy_mean"] >= mean - 0.02 for row in rows)
    print(f"{name:10}  {best['learning_rate']:9.4f}   {mean:.3f} ± {sd:.3f}{near:>17} of {len(rows)}")

# %% [markdown]
# At their best rates momentum, nag, adam, adamax and nadam lie within each other's spread; sgd, adagrad
# and rmsprop come out behind in these 8 epochs. (Among 270 validation images 0.01 is three images: do
# not read more into the third digit.) The range of good rates is about a factor 10 for all of them. What
# differs is where it lies: sgd needs ten times the rate of momentum, which adds up
# $1 / (1 - \beta) = 10$ gradients, and the adaptive ones want 0.001 to 0.03. The forgiving of large
# rates did not carry over: a network whose steps are too large is ruined early, whoever takes them.
# **Comparing optimizers at one learning rate compares rates.**

# %%
best_rate = {
    name: max(rows, key=lambda row: row["val_accuracy_mean"])["learning_rate"]
    for name, rows in means.items()
}
histories = {}
for name in ("sgd", "momentum", "nag", "rmsprop", "adam"):
    seeds = [
        table.history(i)
        for i, point in enumerate(table.points)
        if (point["optimizer"], point["learning_rate"]) == (name, best_rate[name])
    ]
    label = f"{name}, η = {best_rate[name]:.2g}"
    histories[label] = {m: np.stack([h[m] for h in seeds]) for m in ("loss", "val_accuracy")}
plotting.curves(histories, title="each at its best rate; bands from the lowest to the highest seed")

# %% [markdown]
# Adam's training loss is the lowest from the first epoch on. On validation images adam, nag and momentum
# cannot be told apart after the fourth. RMSProp at its best rate is slow but steady, and sgd at 0.32,
# just below where it fails, is unsteady: its seeds are up to 0.3 apart. *When to use which*: Adam to see
# quickly whether something learns; for the final run, momentum or nag with a tuned and falling rate is
# as good (notebook 06).

# %% [markdown]
# ## Adaptive or not: the scale of the inputs
#
# On the surface, adaptive steps cured differences of scale along the axes. In a network these come, for
# example, from inputs in different units. Here each pixel is multiplied by a factor of its own, from
# 0.03 to 30; the information is the same. (The factor to the power of 0 leaves them as they are: with a
# float in place of a choice, both are one program.)

# %%
factors = 10 ** jax.random.uniform(jax.random.key(1), train[0].shape[1:], minval=-1.5, maxval=1.5)
SPREADS = {"inputs as they are": 0.0, "inputs in mixed units": 1.0}


def in_units(spread):
    return jd.nn.serial(units=jd.nn.lambda_(lambda x: x * factors**spread), network=model)


units = jd.sweep(
    lambda hp: {
        "model": in_units(hp["spread"]),
        "optimizer": OPTIMIZERS[hp["optimizer"]](hp["learning_rate"]),
    },
    {
        "spread": list(SPREADS.values()),
        "optimizer": ["momentum", "adam"],
        "learning_rate": np.logspace(-5, 0, 11),
    },
    seeds=3,
    epochs=8,
    **common,
)

figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
for ax, (inputs, spread) in zip(axes, SPREADS.items()):
    for name in ("momentum", "adam"):
        rows = [r for r in units.over_seeds() if (r["spread"], r["optimizer"]) == (spread, name)]
        rates, accuracy, sd = (
            np.array([row[column] for row in rows])
            for column in ("learning_rate", "val_accuracy_mean", "val_accuracy_std")
        )
        ax.errorbar(rates, accuracy, sd, fmt="o-", markersize=3, capsize=2, label=name)
    ax.set(xscale="log", xlabel="learning rate", title=inputs)
    ax.grid(alpha=0.3)
axes[0].set_ylabel("validation accuracy, 3 seeds")
axes[1].legend()
plt.show()
for name in ("momentum", "adam"):
    for inputs, spread in SPREADS.items():
        rows = [r for r in units.over_seeds() if (r["spread"], r["optimizer"]) == (spread, name)]
        best = max(rows, key=lambda row: row["val_accuracy_mean"])
        print(f"{name:10}{inputs:24}{best['val_accuracy_mean']:.3f} ± {best['val_accuracy_std']:.3f}")

# %% [markdown]
# As they are, the inputs suit both. In mixed units momentum loses a tenth of its accuracy at every rate:
# the largest inputs bound the rate, and at that rate nothing is learned from the small ones. Adam loses
# little. *When to use which*: standardise inputs, or normalise inside the network (notebook 02), and
# momentum and Adam do equally well. Where the scales cannot be set right beforehand (sparse features,
# embeddings, several losses), use an adaptive one.

# %% [markdown]
# ## Weight decay is not an L2 penalty
#
# With sgd the two are the same: a penalty $\frac{\lambda}{2} \lVert \theta \rVert^2$ in the loss shrinks
# every weight by $1 - \eta\lambda$ a step. In Adam the penalty's gradient is divided by $\sqrt{\hat v}$
# with the rest, so a weight with large gradients hardly shrinks. AdamW shrinks them all alike, behind
# the division. Below are weights that start at 1 and see nothing but noise as gradients, some small,
# some large.

# %%
DECAYS = {
    "adam with L2": lambda rate, decay: optax.chain(
        jd.optimizers.add_l2_penalty(decay, half=True), jd.optimizers.adam(rate)
    ),
    "adamw": lambda rate, decay: jd.optimizers.adamw(rate, weight_decay=decay),
}


def shrink(optimizer, noise, steps=1_000):
    """The mean of 500 weights after each step."""

    def step(carry, key):
        w, state = carry
        updates, state = optimizer.update(noise * jax.random.normal(key, w.shape), state, w)
        return (w + updates, state), (w + updates).mean()

    w = jnp.ones(500)
    keys = jax.random.split(jax.random.key(2), steps)
    return jax.lax.scan(step, (w, optimizer.init(w)), keys)[1]


figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
for ax, (name, decay) in zip(axes, {"adam with L2": 0.01, "adamw": 1.0}.items()):
    for noise, style in ((0.01, "C0-"), (0.1, "C1--"), (1.0, "C3-.")):
        shrunk = jax.jit(shrink, static_argnums=0)(DECAYS[name](1e-3, decay), noise)
        ax.plot(shrunk, style, label=f"gradients of {noise:g}")
    ax.set(xlabel="step", title=f"{name}, λ = {decay:g}")
    ax.grid(alpha=0.3)
axes[0].set_ylabel("mean weight")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# Under Adam with L2 the weights with gradients of 0.01 have halved after 1,000 steps; those with
# gradients of 1 have lost one part in a hundred. AdamW has taken all of them to
# $e^{-\eta\lambda t} = e^{-1}$.
#
# What does it mean for a result? Here are 300 images, of which a fifth have a random label, so that a
# network that learns them by heart does badly on others; λ from almost nothing to too much.

# %%
rng = np.random.default_rng(0)
x, y = train[0][:300], train[1][:300].copy()
wrong = rng.random(300) < 0.2
y[wrong] = rng.integers(0, 10, wrong.sum())

decays = jd.sweep(
    lambda hp: DECAYS[hp["method"]](1e-3, hp["decay"]),
    {"method": list(DECAYS), "decay": np.logspace(-4, 1, 11)},
    seeds=5,
    model=model,
    epochs=60,
    **common | {"data": (x, y)},
)
figure, ax = plt.subplots(figsize=(7, 3.2))
decays.plot("val_accuracy", "decay", ax=ax)
ax.set(xlabel="λ", ylabel="validation accuracy, 5 seeds", yscale="linear")
plt.show()
for method in DECAYS:
    rows = [row for row in decays.over_seeds() if row["method"] == method]
    best = max(rows, key=lambda row: row["val_accuracy_mean"])
    for what, row in (("almost none", rows[0]), ("best", best)):
        mean, sd = row["val_accuracy_mean"], row["val_accuracy_std"]
        print(f"{method:14}{what:14}λ = {row['decay']:<8.2g}{mean:.3f} ± {sd:.3f}")

# %% [markdown]
# Both help, by about as much, each at its own λ, and each is ruinous a factor 10 above it. So AdamW is
# not the better regulariser here; it is the one whose λ has a meaning: weights forget within
# $1 / (\eta\lambda)$ steps, in every layer, whatever the size of the gradients. The L2 factor has to be
# found anew when the loss, the batch or the layer changes. *When to use which*: with sgd, momentum and
# nag either (they are the same), with an adaptive optimizer `adamw`; and `where="*/kernel"` leaves
# biases and normalisation alone.
#
# ## In short
#
# | situation | first choice | rate to begin with |
# | --- | --- | --- |
# | little time to tune, or scales unknown | `jd.optimizers.nadam` or `adam` | 0.001 to 0.01 |
# | inputs standardised, rate tuned or scheduled | `jd.optimizers.nag(η, momentum=0.9)` | 0.01 to 0.1 |
# | weights should stay small under Adam | `jd.optimizers.adamw(η, weight_decay=λ)` | as adam |
# | match another framework's Nesterov | `jd.optimizers.sgd(η, momentum=0.9, nesterov=True)` | as nag |
# | features that occur rarely, a convex problem | `jd.optimizers.adagrad` | 0.03 to 0.3 |
# | nothing but memory counts | `jd.optimizers.sgd` | ten times that of momentum |
#
# * Compare optimizers each at its own best rate, with seeds: `jd.sweep`.
# * Any optax transformation goes where these go; `jd.optimizers.hyperparams` shows the rate in force.
#
# Next: [06 Schedules](06_schedules.ipynb), which move the rate during training.
