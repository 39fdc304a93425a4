# %% [markdown]
# # 13 · How much data
#
# Would more data help, and how much of it for the accuracy you want? A learning curve over the size of the training
# set answers, before anybody is paid for labels. Afterwards you can train all sizes and seeds in one call, fit a power
# law to them, check it on data it has not seen, and read off a size with its uncertainty.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/13_how_much_data.ipynb)

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
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import curve_fit

import jaxdeep as jd

train, validation, test = jd.datasets.digits()
plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True})

# %% [markdown]
# ## One sweep: sizes × seeds
#
# Six sizes, ten seeds: sixty runs. A size is a hyperparameter of the sweep like any other, and its training set is an index
# set into the same arrays on the device. Each seed draws its own training sets, of which the smaller ones are parts of the
# larger ones, in the shares of the classes. So the spread over seeds is that of the data and of the network together.
#
# An epoch of a small training set has few steps, and a network that was stopped too early would look as if it lacked
# data. So every size may train long, and stops when its loss has not become better for fifteen epochs. What is judged is the
# best epoch, on images that no training set holds. The judged images also choose that epoch, which flatters all sizes a
# little, and all of them alike.

# %%
judged = tuple(np.concatenate(parts) for parts in zip(validation, test))
model = jd.nn.serial(jd.nn.flatten(), jd.nn.dense(100, activation=jax.nn.relu), jd.nn.dense(10))
sizes = (32, 64, 128, 256, 512, len(train[0]))
table = jd.search.learning_curve(
    lambda hp: jd.optimizers.adam(3e-3),
    {},
    data=train,
    validation=judged,
    sizes=sizes,
    seeds=10,
    stratify=True,
    model=model,
    loss=jd.losses.softmax_cross_entropy,
    metrics={"accuracy": jd.metrics.accuracy},
    epochs=150,
    batch_size=32,
    early_stopping=jd.train.EarlyStopping(patience=15),
    progress=False,
)
losses = np.array(
    [
        [row["val_loss"] for row in sorted(rows, key=lambda row: row["seed"])]
        for rows in ([row for row in table.rows() if row["size"] == size] for size in sizes)
    ]
)  # (sizes, seeds)
print("images      " + "".join(f"{size:>8}" for size in sizes))
print("loss, mean  " + "".join(f"{value:8.3f}" for value in losses.mean(axis=1)))
print("its error   " + "".join(f"{value:8.3f}" for value in losses.std(axis=1, ddof=1) / np.sqrt(10)))
ended = [np.mean([row["epochs"] for row in table.rows() if row["size"] == size]) for size in sizes]
print("epochs      " + "".join(f"{value:8.0f}" for value in ended))
assert (np.diff(losses.mean(axis=1)) < 0).all()

# %% [markdown]
# ## A power law
#
# Over a wide range the loss of most networks falls as $\text{loss}(n) \approx a\,n^{-b} + c$: a straight line on paper with two
# logarithmic axes, which bends where it nears the floor $c$ that no amount of such data goes below (Hestness and others,
# 2017, [arXiv:1712.00409](https://arxiv.org/abs/1712.00409)). Look at what the data say before you believe three parameters: fitted with $c \ge 0$, the
# floor comes out at 0 here, so that two parameters do.
#
# The fit is to the means, weighted by their standard errors. How sure it is comes from the seeds: each resample draws
# ten of the ten seeds with replacement, *whole curves* and not single runs, since the sizes of a seed share images.


# %%
def law(n, a, b):
    return a * n**-b


def fitted(losses, sizes):
    """The parameters of the power law of means over seeds, by least squares of logarithms."""
    slope, height = np.polyfit(np.log(sizes), np.log(losses.mean(axis=1)), 1)
    return np.exp(height), -slope


def resampled(losses, sizes, draws=2_000, seed=0):
    """The same for samples of seeds, drawn with replacement: (draws, 2)."""
    rng = np.random.default_rng(seed)
    seeds = losses.shape[1]
    return np.array([fitted(losses[:, rng.integers(seeds, size=seeds)], sizes) for _ in range(draws)])


with_floor, _ = curve_fit(
    lambda n, a, b, c: a * n**-b + c,
    np.array(sizes, float),
    losses.mean(axis=1),
    p0=(5, 0.5, 0.0),
    sigma=losses.std(axis=1, ddof=1),
    bounds=([0, 0, 0], [np.inf, 3, 1]),
)
a, b = fitted(losses, sizes)
draws = resampled(losses, sizes)
low, high = np.percentile(draws[:, 1], [2.5, 97.5])
print(f"loss(n) = {a:.2f} n^-{b:.3f}; 95 % of the resamples have exponents of {low:.3f} to {high:.3f}")
print(f"with a floor: {with_floor[0]:.2f} n^-{with_floor[1]:.3f} + {with_floor[2]:.3f}")

# %% [markdown]
# ## Does it predict?
#
# A law that fits the points it was fitted to has shown nothing. Fit it to all sizes *but the largest*, and see what it says
# about that one: what you would have said before you had the other images.

# %%
a_less, b_less = fitted(losses[:-1], sizes[:-1])
predicted = law(sizes[-1], a_less, b_less)
spread = np.percentile(
    [law(sizes[-1], *pair) for pair in resampled(losses[:-1], sizes[:-1])], [2.5, 97.5]
)
seen = losses[-1].mean()
print(
    f"said of {sizes[-1]} images by {sizes[-2]} and fewer: {predicted:.3f} ({spread[0]:.3f} to {spread[1]:.3f})"
)
print(f"seen: {seen:.3f}, {seen / predicted - 1:+.0%}")
steps = np.diff(np.log(losses.mean(axis=1))) / np.diff(np.log(sizes))
print("exponent from size to size: " + ", ".join(f"{-step:.2f}" for step in steps))
assert seen < spread[0]

grid = np.geomspace(sizes[0], 8 * sizes[-1], 100)
figure, ax = plt.subplots(figsize=(7, 4))
curves = np.array([law(grid, *pair) for pair in draws])
ax.fill_between(grid, *np.percentile(curves, [2.5, 97.5], axis=0), alpha=0.2, label="95 % of resamples")
ax.plot(grid, law(grid, a, b), label="all sizes")
ax.plot(grid, law(grid, a_less, b_less), "C2--", label="all but the largest size")
ax.plot(np.repeat(sizes, 10), losses.ravel(), "k.", markersize=3, alpha=0.4)
ax.plot(sizes, losses.mean(axis=1), "ko", label="mean over ten seeds")
ax.set(xscale="log", yscale="log", xlabel="training images", ylabel="val_loss at the best epoch")
ax.grid(alpha=0.3, which="both")
ax.legend()
plt.show()

# %% [markdown]
# It does not, and says so only because we asked. From size to size the exponent is much the same up to 512 images and then
# larger: with a thousand of these digits, nearly every judged one has a near relative among them, by the same writer. The
# interval of the resamples was narrow and wrong: it covers the luck of images and seeds, and not that the law is
# another one. What was said erred on the safe side here. Where the floor is near it errs on the other.
#
# So judge a law by how it predicts the largest size at hand, and take the error that you saw as the error to expect.
#
# ## The size for a score
#
# Solve the law for $n$: $n = (a / \text{loss})^{1/b}$. Two answers are better than one: by the law of all sizes, which lies
# above what the largest one shows, and by the last step alone, which takes what was seen there for what comes.

# %%
wanted = 0.5 * seen
images = (a / wanted) ** (1 / b)
few, many = np.percentile((draws[:, 0] / wanted) ** (1 / draws[:, 1]), [2.5, 97.5])
steep = sizes[-1] * (seen / wanted) ** (-1 / steps[-1])
print(
    f"half of today's loss, by the law: {images:,.0f} images (95 % of resamples: {few:,.0f} to {many:,.0f})"
)
print(f"by the last step: {steep:,.0f} images")
assert sizes[-1] < steep < images

# %% [markdown]
# Between the two lies an honest answer: two to four times of the images there are. That is enough to decide whether to
# ask for a price, and further than a factor of a few no curve should be drawn.
#
# Before you buy them, look at what else moves the curve: augmentation, a better network, a lower rate. Each is the same
# call with another builder, or all are points of one table in the place of `{}`. What counts is the curve as a whole: a
# change that helps at 32 images may not at a thousand.
