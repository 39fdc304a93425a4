# %% [markdown]
# # 02 · Batch normalisation and folding
#
# Batch norm gives the inputs of a layer the same mean and spread whatever the layers below do.
# Afterwards you can decide where to put it, which momentum and batch size it needs, when its running
# statistics are not to be trusted, and how to be rid of it when the network is deployed.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/02_batch_normalisation_and_folding.ipynb)

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
import time

import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

import jaxdeep as jd

real = "JAXDEEP_DATA" in os.environ or "google.colab" in sys.modules
train, validation, test = jd.datasets.load("fashion-mnist" if real else "digits")
train = train[0][:5_000], train[1][:5_000]
x = train[0]


def network(norm="before", *, depth=5, gain=1.0, momentum=0.9):
    """Dense layers of 50 units with ReLU; batch norm before it, after it, or none."""
    scaled = jd.nn.initializers.variance_scaling(2.0 * gain**2, "fan_in", "truncated_normal")
    layers = {"flatten": jd.nn.flatten()}
    for i in range(1, depth + 1):
        layers[f"hidden{i}"] = jd.nn.dense(50, use_bias=norm is None, kernel_init=scaled)
        if norm == "before":
            layers[f"bn{i}"] = jd.nn.batch_norm(momentum=momentum)
        layers[f"act{i}"] = jd.nn.activation(jax.nn.relu)
        if norm == "after":
            layers[f"bn{i}"] = jd.nn.batch_norm(momentum=momentum)
    return jd.nn.serial(**layers, logits=jd.nn.dense(10))


usual = {
    "data": train, "validation": validation, "loss": jd.losses.softmax_cross_entropy,
    "metrics": {"accuracy": jd.metrics.accuracy}, "progress": False,
}  # fmt: skip

# %% [markdown]
# ## What it does to the signal
#
# For each feature, with mean $\mu$ and variance $\sigma^2$ of the batch and learned $\gamma$, $\beta$:
#
# $$y = \gamma\,\frac{x-\mu}{\sqrt{\sigma^2+\varepsilon}} + \beta$$
#
# Ten layers deep, with initial weights at half, once and twice the size He's rule says: how large are
# the inputs of each ReLU?

# %%
fig, ax = plt.subplots(figsize=(7, 3.2), dpi=80, layout="constrained")
for i, gain in enumerate((0.5, 1.0, 2.0)):
    for norm, layer, style in ((None, "hidden", "--"), ("before", "bn", "-")):
        model = network(norm, depth=10, gain=gain)
        params, state = model.init(jax.random.key(0), x[:1])
        seen = {}
        model.watch(seen).apply(params, state, x[:256], train=True)
        spread = [float(seen[f"{layer}{k}"].std()) for k in range(1, 11)]
        label = f"{'batch norm' if norm else 'none'}, weights × {gain}"
        ax.plot(range(1, 11), spread, style, color=f"C{i}", label=label)
ax.set(xlabel="layer", ylabel="standard deviation before the ReLU", yscale="log")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# Without it the signal shrinks or grows by the same factor at every layer, and only He's size keeps it.
# With it the three solid lines are one: the size of the weights no longer matters to the layers above.
#
# ## Which learning rates are usable
#
# The same network with and without batch norm, eight rates of plain gradient descent, five seeds each,
# four epochs. Floats share one compiled program, so that the rates cost no compilation.

# %%
rates = np.geomspace(0.003, 10, 8)
table = jd.sweep(
    lambda hp: {"model": network(hp["norm"]), "optimizer": jd.optimizers.sgd(hp["rate"])},
    {"norm": [None, "before"], "rate": rates}, seeds=5, epochs=4, validate_every=4, **usual,
)  # fmt: skip

fig, ax = plt.subplots(figsize=(7, 3.2), dpi=80, layout="constrained")
for norm, label in ((None, "none"), ("before", "batch norm")):
    reached = [row["val_accuracy"] for row in table.rows() if row["norm"] == norm]
    reached = np.nan_to_num(np.reshape(reached, (len(rates), 5)), nan=0.0)
    (line,) = ax.plot(rates, reached.mean(1), "o-", label=label)
    ax.fill_between(rates, reached.min(1), reached.max(1), color=line.get_color(), alpha=0.2)
ax.set(xlabel="learning rate", ylabel="validation accuracy", xscale="log", ylim=(-0.03, 1))
ax.text(rates[0], 0.02, "0: diverged", color="grey")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="band: five seeds")
plt.show()

# %% [markdown]
# With batch norm the curve is higher in the middle and falls later: at a rate of 1, where the plain
# network has all but failed, it still learns. *Use it* when a rate has to serve without much of a
# search, or a higher one is wanted. It is no licence for any rate: at 10 it fails too. How the rate is
# found is told in [06](06_schedules.ipynb).

# %% [markdown]
# ## Batch or running statistics: momentum
#
# In training (`train=True`) a batch is normalised by its own mean and variance. At inference the running
# ones stand in, which every step of training moves by $1 - m$ of the way: $\mu_\text{run} \leftarrow
# m\,\mu_\text{run} + (1-m)\,\mu_\text{batch}$. They begin at 0 and 1, and after $n$ steps $m^n$ of that
# is left. A short run with a large $m$ is therefore evaluated by statistics that are not those of the
# network. The parameters of all four runs below are the same, seed by seed: $m$ touches nothing but the
# running statistics.

# %%
momenta = [0.5, 0.9, 0.99, 0.999]
table = jd.sweep(
    lambda hp: {"model": network(momentum=hp["momentum"]), "optimizer": jd.optimizers.sgd(0.1)},
    {"momentum": momenta}, seeds=5, epochs=6, **usual,
)  # fmt: skip
model = network()
accuracy = jax.jit(
    lambda p, s: jd.metrics.accuracy(model.apply(p, s, validation[0])[0], validation[1]).mean()
)
exact = jax.jit(lambda p, s: jd.nn.recompute_batch_norm(model, p, s, x))

fig, ax = plt.subplots(figsize=(7, 3.2), dpi=80, layout="constrained")
for i, momentum in enumerate(momenta):
    rows = [k for k, point in enumerate(table.points) if point["momentum"] == momentum]
    curves = np.array([table.history(k)["val_accuracy"] for k in rows])
    ax.plot(range(1, 7), curves.mean(0), "o-", color=f"C{i}", label=f"m = {momentum}")
    ax.fill_between(range(1, 7), curves.min(0), curves.max(0), color=f"C{i}", alpha=0.15)
    again = [float(accuracy(p, exact(p, s))) for p, s in map(table.trained, rows)]
    print(f"m = {momentum}: {curves[:, -1].mean():.3f}, with recomputed statistics {np.mean(again):.3f}")
steps = -(-len(x) // 32)
ax.set(xlabel=f"epoch of {steps} steps", ylabel="validation accuracy", ylim=(0, 1))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="band: five seeds")
plt.show()

# %% [markdown]
# With m = 0.999 the networks look bad, and are not: with statistics recomputed from the training images
# (`recompute_batch_norm`, one pass, no training) all four are the same, as they must be. m = 0.99 starts
# low and catches up; m = 0.5 follows the last few batches and ends lower than 0.9 for their noise.
# *Choose* m so that $m^n$ is small at the first evaluation that matters; *recompute* when training was
# short or the statistics are doubtful.

# %% [markdown]
# ## Small batches
#
# Batch statistics are estimates from so many rows. What that noise does is seen with one trained
# network: its predictions, normalised by the statistics of batches of 2 to 128 images, twenty random
# orders each, beside those with running statistics.

# %%
result = jd.fit(model, optimizer=jd.optimizers.sgd(0.1), epochs=6, key=jax.random.key(0), **usual)
images, labels = (jax.numpy.asarray(a[:256]) for a in validation)


@jax.jit
def by_batches(batches):
    def one(rows):
        logits, _ = model.apply(result.params, result.state, images[rows], train=True)
        return jd.metrics.accuracy(logits, labels[rows]).mean()

    return jax.vmap(one)(batches).mean()


sizes = [2, 4, 8, 16, 32, 64, 128]
orders = [np.random.default_rng(k).permutation(256) for k in range(20)]
found = np.array([[float(by_batches(order.reshape(-1, size))) for order in orders] for size in sizes])
running = float(jd.metrics.accuracy(model.apply(result.params, result.state, images)[0], labels).mean())

fig, ax = plt.subplots(figsize=(7, 3), dpi=80, layout="constrained")
ax.errorbar(
    sizes, found.mean(1), found.std(1, ddof=1), fmt="o-", capsize=4, label="batch statistics, ± sd"
)
ax.axhline(running, color="grey", linestyle=":", label="running statistics")
ax.set(xlabel="images in a batch", ylabel="accuracy", xscale="log")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# This network was trained with batches of 32. Statistics of much smaller batches are so noisy that most
# of its accuracy is gone, and a prediction depends on the images it happens to share a batch with.
# Training with such batches has the same noise in every step. *Evaluate* by running statistics (the
# default); for training with a handful of images a batch take another normalisation, SELU, or good
# initialisation without any.

# %% [markdown]
# ## Before or after the activation
#
# The paper puts batch norm before the activation, and many put it behind. Ten seeds each:

# %%
table = jd.sweep(
    lambda hp: {"model": network(hp["norm"]), "optimizer": jd.optimizers.sgd(0.1)},
    {"norm": ["before", "after"]}, seeds=10, epochs=6, validate_every=6, **usual,
)  # fmt: skip
before, after = (
    np.array([row["val_accuracy"] for row in table.rows() if row["norm"] == norm])
    for norm in ("before", "after")
)
gain = after - before
half = stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain)
print(f"before {before.mean():.3f}, after {after.mean():.3f}")
print(f"after less before, seed by seed: {gain.mean():+.3f}, 95 % interval ± {half:.3f}")

# %% [markdown]
# The interval of the difference contains zero: no winner is shown. It is also wide, because the seeds
# differ much more than the two means; one run of each would have told nothing. *Take* before, as in the
# paper, which also folds into the layer in front of it, and compare with seeds on your own task.

# %% [markdown]
# ## Folding it away
#
# At inference batch norm is a product and a sum with fixed numbers, and a dense layer before it can do
# both: with $k = \gamma / \sqrt{\sigma^2 + \varepsilon}$ its kernel becomes $W k$ and its bias $(b -
# \mu) k + \beta$. `fold_batch_norm` gives the same function without batch norms.

# %%
folded, folded_params, folded_state = jd.compress.fold_batch_norm(model, result.params, result.state)
print(list(folded.layers), "· state:", folded_state)

full = jax.jit(lambda inputs: model.apply(result.params, result.state, inputs)[0])
small = jax.jit(lambda inputs: folded.apply(folded_params, folded_state, inputs)[0])
a, b = np.asarray(full(test[0])), np.asarray(small(test[0]))
print(f"logits up to {np.abs(a).max():.1f}; largest difference {np.abs(a - b).max():.1e}")
print("the same classes:", bool((a.argmax(1) == b.argmax(1)).all()))

# %% [markdown]
# How long a prediction takes is measured in turns, so that whatever else the machine does meets both,
# and told as a median with its quartiles.

# %%
one = jax.numpy.asarray(test[0][:1])
taken = {"with batch norm": [], "folded": []}
for _ in range(300):
    for name, predict in (("with batch norm", full), ("folded", small)):
        began = time.perf_counter()
        predict(one).block_until_ready()
        taken[name].append((time.perf_counter() - began) * 1e6)
for name, each in taken.items():
    low, middle, high = np.percentile(each[20:], [25, 50, 75])
    print(f"{name}: one image in {middle:.0f} µs (quartiles {low:.0f} – {high:.0f})")

# %% [markdown]
# The outputs are equal to rounding; that is what folding promises. What it saves depends on the machine
# and the compiler: under `jax.jit` parameters that are constants, as here, may be folded by the compiler
# too, and on a small network a call is mostly overhead. Where the quartiles overlap no difference is
# shown. Fold when the target cannot compile, when int8 or another format follows, or when the numbers
# above, on *your* machine, say so.
#
# ## In short
#
# | Question | Answer |
# | --- | --- |
# | deep network, a rate or an initialisation that is hard to find | batch norm, `use_bias=False` in the layer before it |
# | where | try both places with seeds; folding before a convolution with padding may be refused |
# | momentum | $m^n$ must be small after the $n$ steps you train: 0.9 for short runs, 0.99 for long ones |
# | evaluation is much worse than training | `recompute_batch_norm`, before anything else is changed |
# | batches below about 16 | no batch norm, or expect noise; never evaluate by batch statistics |
# | deployment | `jd.compress.fold_batch_norm`; outputs compared, time measured |
#
# Functions: `jd.nn.batch_norm`, `jd.nn.recompute_batch_norm`, `jd.compress.fold_batch_norm`, `jd.sweep`.
# Next: [03, clipping and diagnosing gradients](03_clipping_and_diagnosing_gradients.ipynb).
