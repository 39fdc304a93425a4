# %% [markdown]
# # 07 · Regularisation, MC dropout and what it knows it does not know
#
# Afterwards you can decide which regulariser is worth trying on your data, and whether the probabilities of your
# network deserve to be believed: where to reject a prediction, and when to calibrate.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/07_regularisation_and_uncertainty.ipynb)

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
import jaxdeep.plotting

real = "JAXDEEP_DATA" in os.environ or "google.colab" in sys.modules
train, validation, test = jd.datasets.load("fashion-mnist" if real else "digits")

few = train[0][:300], train[1][:300]  # few examples, so that there is something to regularise
wrong = few[1].copy()
wrong[:90] = np.random.default_rng(0).integers(0, 10, 90)  # three labels in ten are drawn at random
noisy = few[0], wrong

# %% [markdown]
# ## What overfitting looks like
#
# Two hidden layers of 100 units have more parameters than 300 images can pin down. We train on the images as they
# are, and on a copy in which 30 % of the labels were drawn at random. Watch the validation loss and the validation
# accuracy: they need not agree.


# %%
def network(rate=0.0):
    return jd.nn.serial(
        flatten=jd.nn.flatten(),
        hidden1=jd.nn.dense(100, activation=jax.nn.relu),
        drop1=jd.nn.dropout(rate),
        hidden2=jd.nn.dense(100, activation=jax.nn.relu),
        drop2=jd.nn.dropout(rate),
        logits=jd.nn.dense(10),
    )


def recipe(hp):
    """Every regulariser is a number, and 0 or a very large norm switches it off."""
    decayed = jd.optimizers.adamw(3e-3, weight_decay=hp["decay"], where="*/kernel")
    return {
        "model": network(hp["dropout"]),
        "penalty": jd.regularizers.l1_l2(hp["l1"], hp["l2"], where="*/kernel"),
        "optimizer": optax.chain(decayed, jd.optimizers.max_norm(hp["norm"], where="hidden*/kernel")),
        "early_stopping": hp["stop"],
    }


off = {"l1": 0.0, "l2": 0.0, "decay": 0.0, "dropout": 0.0, "norm": 1e6, "stop": None}
common = {
    "loss": jd.losses.softmax_cross_entropy,
    "metrics": {"accuracy": jd.metrics.accuracy},
    "validation": validation,
    "epochs": 60,
    "progress": False,
}
labels = {"clean labels": few, "30 % of labels at random": noisy}
plain = {
    title: jd.sweep(recipe, [off, off | {"dropout": 0.5}], seeds=8, data=data, **common)
    for title, data in labels.items()
}

fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), dpi=80, layout="constrained")
for color, (title, table) in zip(("C0", "C3"), plain.items()):
    for metric, ax in zip(("loss", "accuracy"), axes):
        curves = np.array([table.history(row)[f"val_{metric}"] for row in range(8)])  # no dropout
        epochs = np.arange(1, curves.shape[1] + 1)
        ax.plot(epochs, curves.mean(0), color=color, label=title)
        ax.fill_between(epochs, curves.min(0), curves.max(0), color=color, alpha=0.2, linewidth=0)
        ax.set(xlabel="epoch", ylabel=f"validation {metric}")
        ax.grid(alpha=0.3)
axes[1].legend(loc="lower right")
plt.show()

# %% [markdown]
# The band is the range of 8 seeds. With clean labels the network is right early and stays right: there is little
# to cure, and the loss is flat. With wrong labels both curves have a best epoch, after which the network learns
# the wrong labels by heart. *Look at these two curves before you choose a regulariser.*
#
# ## Which regulariser helps when
#
# Each of them at three strengths, since a comparison at one strength says more about the strength:
#
# * $\ell_1$, $\ell_2$: $\lambda_1 \sum |w|$ or $\lambda_2 \sum w^2$ is added to the loss; Adam then rescales their
#   gradient like any other.
# * decay: $w \leftarrow w - \eta \lambda w$ beside the step (AdamW), which Adam does not rescale.
# * dropout: every unit is switched off with probability $p$ at each step.
# * max-norm: after each step, $\lVert w \rVert_2 \le r$ for the incoming weights of every hidden unit.
# * early stopping: the parameters of the best epoch, after 10 epochs without a better one.
#
# All are numbers, so that `sweep` compiles one program for the whole grid (early stopping is a second). The
# strength is chosen by validation accuracy over the seeds; what is shown is the accuracy on the test images,
# which nothing was chosen by.

# %%
grid = {
    "none": [off],
    "l1": [off | {"l1": v} for v in (3e-4, 1e-3, 3e-3)],
    "l2": [off | {"l2": v} for v in (1e-3, 3e-3, 1e-2)],
    "decay": [off | {"decay": v} for v in (0.3, 1.0, 3.0)],
    "dropout": [off | {"dropout": v} for v in (0.2, 0.4, 0.6)],
    "max-norm": [off | {"norm": v} for v in (0.5, 1.0, 1.5)],
    "early stopping": [off | {"stop": jd.train.EarlyStopping(patience=10)}],
}
space = [point for points in grid.values() for point in points]
names = [name for name, points in grid.items() for _ in points]
SEEDS = 4
net = network()  # without a key dropout does nothing, so that one model serves all rows


@jax.jit
def accuracy(params, state, x, y):
    return jd.metrics.accuracy(net.apply(params, state, x)[0], y).mean()


fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), dpi=80, layout="constrained", sharey=True)
for ax, (title, data) in zip(axes, labels.items()):
    table = jd.sweep(recipe, space, seeds=SEEDS, data=data, **common)
    points = table.over_seeds()
    for place, name in enumerate(grid):
        best = max(
            (i for i in range(len(space)) if names[i] == name),
            key=lambda i: points[i]["val_accuracy_mean"],
        )
        rows = range(SEEDS * best, SEEDS * (best + 1))
        found = [float(accuracy(*table.trained(row), *test)) for row in rows]
        chosen = [f"{v:g}" for k, v in space[best].items() if v != off[k] and k != "stop"]
        ax.plot(found, [place] * SEEDS, "o", color=f"C{place}", alpha=0.5)
        ax.plot(np.mean(found), place, "|", color="black", markersize=14)
        print(
            f"{title:25s} {name:15s}{' '.join(chosen):7s} {np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}"
        )
    ax.set(xlabel="test accuracy", title=title, yticks=range(len(grid)), yticklabels=list(grid))
    ax.invert_yaxis() if ax is axes[0] else None
    ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# A dot is a seed, the bar their mean. The test set of the digits has 270 images, so that one of them is 0.004.
#
# * **Clean labels**: the recipes differ by less than their seeds do. There is nothing to cure here, and whoever runs
#   one seed can "prove" any of them. Spend the time on more data, augmentation or the schedule instead.
# * **Wrong labels**: every recipe helps on average, dropout and early stopping most and most reliably. The network must
#   not be able to learn single examples by heart, which noise in the units and a short training prevent directly;
#   penalties and decay do it only at ten times the strength that was chosen for clean labels (the numbers above).
#
# So: early stopping always, because it costs one argument and nothing else; dropout when training accuracy is far
# above validation accuracy; decay (AdamW) rather than $\ell_2$ with adaptive optimizers; $\ell_1$ when weights
# should become zero; max-norm as a companion of dropout at large rates. And regularise more the less you trust the
# labels.
#
# ## MC dropout: does it know what it does not know?
#
# With a key and without `train`, every pass drops other units: a sample of the networks that dropout trained
# together. Their mean is the prediction. Two numbers say how unsure it is, in nats:
#
# $$\underbrace{H(\bar p)}_{\text{entropy: all doubt}} = \underbrace{H(\bar p) - \tfrac1S \sum_s H(p_s)}_{\text{mutual
# information: the samples disagree}} + \underbrace{\tfrac1S \sum_s H(p_s)}_{\text{each sample is unsure itself}}$$
#
# An ambiguous image should raise the last term, an image unlike anything in the training set the mutual
# information. We ask for test images and for three kinds that the network cannot know: test images turned by a
# quarter, two images glued together (the upper half of one, the lower half of another), and noise. Beside it
# stands a deep ensemble: the 8 seeds of the sweep above without dropout, whose members disagree because they
# began elsewhere.

# %%
x, y = test[0][:1000], test[1][:1000]
rows = x.shape[1] // 2
others = np.argsort(y, kind="stable")[::-1]  # so that most partners are of another class
ours = np.argsort(y, kind="stable")
asked = {
    "test": x,
    "turned": np.rot90(x, axes=(1, 2)).copy(),
    "glued": np.concatenate([x[ours, :rows], x[others, rows:]], axis=1)[y[ours] != y[others]],
    "noise": np.random.default_rng(1).uniform(size=x.shape).astype(np.float32),
}
fig, axes = plt.subplots(4, 6, figsize=(5, 3.4), dpi=80, layout="constrained")
for line, (name, images) in zip(axes, asked.items()):
    for ax, image in zip(line, images[:: len(images) // 6]):
        ax.imshow(image, cmap="gray_r")
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(name)
plt.show()

# %%
dropped = network(0.5)
table = plain["clean labels"]
singles = [table.trained(row) for row in range(8)]  # 8 seeds without dropout
droppers = [table.trained(row) for row in range(8, 16)]  # 8 seeds with dropout 0.5


def predictions(images, seed):
    """Of one network, of MC dropout and of the ensemble."""
    key = jax.random.key(seed)
    one = jd.uncertainty.ensemble(net, [singles[seed]], images)
    mc = jd.uncertainty.mc_dropout(dropped, *droppers[seed], images, key=key, samples=100)
    return {
        "one network": one,
        "MC dropout": mc,
        "ensemble of 8": jd.uncertainty.ensemble(net, singles, images),
    }


found = {name: predictions(images, seed=0) for name, images in asked.items()}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), dpi=80, layout="constrained")
for ax, field in zip(axes, ("entropy", "mutual_information")):
    for shift, color, how in ((-0.2, "C0", "MC dropout"), (0.2, "C1", "ensemble of 8")):
        values = [np.asarray(getattr(found[name][how], field)) for name in asked]
        style = {"color": color}
        ax.boxplot(
            values, positions=np.arange(4) + shift, widths=0.3, showfliers=False, label=how,
            boxprops=style, medianprops=style, whiskerprops=style, capprops=style,
        )  # fmt: skip
    ax.set(ylabel=f"{field.replace('_', ' ')} (nats)", xticks=range(4), xticklabels=list(asked))
    ax.grid(alpha=0.3, axis="y")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
plt.show()

# %% [markdown]
# Boxes hold the middle half of the images. How well would an alarm work? The chance that a strange image is
# more uncertain than a test image (the area under the ROC curve) is 0.5 for a coin and 1 for a perfect alarm.
# One network without dropout has an entropy too: that is what the others must beat.

# %%
strange = [name for name in asked if name != "test"]
scores = {}
for seed in range(8):
    found = {name: predictions(images, seed) for name, images in asked.items()}
    for how in found["test"]:
        for field in ("entropy", "mutual_information"):
            known = np.asarray(getattr(found["test"][how], field))
            scores.setdefault((how, field), []).append(
                [(np.asarray(getattr(found[n][how], field))[:, None] > known).mean() for n in strange]
            )
print(f"{'':38s}" + "".join(f"{name:>15s}" for name in strange))
for (how, field), values in scores.items():
    if (how, field) != ("one network", "mutual_information"):  # which is 0
        means, spreads = np.mean(values, 0), np.std(values, 0, ddof=1)
        cells = [f"{m:.3f}" + (f" ± {sd:.3f}" if sd > 0 else "") for m, sd in zip(means, spreads)]
        print(f"{how:15s}{field.replace('_', ' '):23s}" + "".join(f"{cell:>15s}" for cell in cells))

# %% [markdown]
# Noise is found by nearly all of them, glued images by most. Images that are turned are the hard case: many
# still look like another digit (or a garment), and a single network believes it. There the mutual information of
# MC dropout and of the ensemble is a better alarm than the entropy of one network; entropy confuses "unlike what I
# have seen" with "ambiguous". The ensemble of 8 is the best alarm on average, for eight times the training; it has
# no spread here, since all 8 seeds are in it. MC dropout costs no training at all, only passes.
#
# *None is perfect*: an alarm of 0.75 misses many. Do not use it as the only guard against foreign inputs.
#
# ## Rejecting what it is unsure of
#
# Whoever can hand difficult cases to a person wants the accuracy of what is left. We take the networks that
# were trained with wrong labels, which have reason to be unsure, and reject the test images with the highest
# entropy first.

# %%
table = plain["30 % of labels at random"]
singles = [table.trained(row) for row in range(8)]
droppers = [table.trained(row) for row in range(8, 16)]
curves = {}
for seed in range(8):
    for how, prediction in predictions(x, seed).items():
        curve = jd.uncertainty.rejection_curve(prediction.mean, y, prediction.entropy)
        curves.setdefault(how, []).append(np.asarray(curve.accuracy))
fig, ax = plt.subplots(figsize=(6, 3.2), dpi=80, layout="constrained")
for how, values in curves.items():
    share = np.asarray(curve.rejected) * 100
    (line,) = ax.plot(share, np.mean(values, 0), label=how)
    band = np.min(values, 0), np.max(values, 0)
    ax.fill_between(share, *band, color=line.get_color(), alpha=0.2, linewidth=0)
ax.set(xlabel="rejected (%)", ylabel="accuracy of the rest", xlim=(0, 80))
ax.legend(loc="lower right")
ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Bands are the range over 8 seeds. All curves rise: the entropy says something about which predictions are wrong,
# even in networks that were taught wrong labels. MC dropout starts higher because dropout had made the better
# network; with half of the images rejected it is right about 96 times in 100. Eight overfitted networks are better than one
# of them, but averaging does not replace regularising. Read the curve from the right: choose the accuracy you need,
# and the share that people must look at follows.
#
# ## Are the probabilities true?
#
# Of predictions with 80 % confidence, 80 % should be right. A network trained until it knows its labels by heart
# is far too confident. Temperature scaling divides the logits by one number $T$, fitted on the *validation*
# data; it changes no prediction, only how sure they are.

# %%
logits = {
    name: net.apply(*singles[0], data[0])[0] for name, data in (("val", validation), ("test", test))
}
temperature = jd.uncertainty.fit_temperature(logits["val"], validation[1])
probabilities = {
    "as trained": jax.nn.softmax(logits["test"]),
    f"T = {float(temperature):.2f}": jax.nn.softmax(
        jd.uncertainty.temperature_scale(logits["test"], temperature)
    ),
}
jd.plotting.reliability(
    {name: jd.uncertainty.reliability(p, test[1], bins=10) for name, p in probabilities.items()}
)

# %%
on_validation, on_test = (predictions(data[0], seed=0) for data in (validation, test))
for how in ("MC dropout", "ensemble of 8"):
    probabilities[how] = on_test[how].mean
    logits_of = [jnp.log(found[how].mean) for found in (on_validation, on_test)]  # softmax undoes it
    t = jd.uncertainty.fit_temperature(logits_of[0], validation[1])
    scaled = jax.nn.softmax(jd.uncertainty.temperature_scale(logits_of[1], t))
    probabilities[f"{how}, T = {float(t):.2f}"] = scaled
print(f"{'':24s}accuracy  calibration error  negative log-likelihood")
for how, p in probabilities.items():
    right = float((p.argmax(-1) == test[1]).mean())
    error = float(jd.uncertainty.expected_calibration_error(p, test[1], bins=10))
    nll = float(jd.uncertainty.negative_log_likelihood(p, test[1]))
    print(f"{how:24s}{right:8.3f}{error:19.3f}{nll:25.3f}")

# %% [markdown]
# Below the diagonal a network promises more than it keeps. One number repairs most of that, with the accuracy
# untouched. Of MC dropout the table says the opposite: it is the most accurate and the least sure, because it
# believes what it was taught, that three labels in ten are odd, while the labels of the test are right. Its
# averaged probabilities have logarithms, which are logits, so that temperature scaling repairs that too, with
# $T < 1$, and gives the best likelihood of all. The ensemble is calibrated well enough that a temperature changes
# nothing 270 images could show. Accuracy and calibration are two things: measure both, and calibrate last, on data
# like those you will meet.
#
# ## In short
#
# | when | use |
# | --- | --- |
# | always | `jd.train.EarlyStopping(patience=…)` with a validation set |
# | training accuracy far above validation | `jd.nn.dropout(0.2 … 0.6)`; with SELU `jd.nn.alpha_dropout` |
# | an adaptive optimizer | `jd.optimizers.adamw(weight_decay=…)` rather than `jd.regularizers.l2` |
# | weights should become zero | `jd.regularizers.l1` |
# | large dropout rates, large learning rates | `jd.optimizers.max_norm`, last in the chain |
# | a doubtful prediction costs money | `jd.uncertainty.rejection_curve` and a person |
# | inputs may be foreign | mutual information of `jd.uncertainty.ensemble`; `mc_dropout` if training 5–10 is too much |
# | probabilities are used as such | `jd.uncertainty.fit_temperature` on validation data, last |
#
# Next: [08](08_sweeps.ipynb), sweeps with seeds and intervals. Docstrings of `jd.regularizers`,
# `jd.uncertainty` and `jd.plotting.reliability` say more.
