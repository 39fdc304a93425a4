# %% [markdown]
# # 03 · Clipping and diagnosing gradients
#
# Afterwards you can decide whether to clip and by which norm, choose the threshold from what your own gradients do,
# and find the layer that keeps a network from learning.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/03_clipping_and_diagnosing_gradients.ipynb)

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

real = "JAXDEEP_DATA" in os.environ or "google.colab" in sys.modules
train, validation, test = jd.datasets.load("fashion-mnist" if real else "digits")
mean, std = train[0].mean(), train[0].std()
train, validation = [((x - mean) / std, y) for x, y in (train, validation)]
train = train[0][:3000], train[1][:3000]

# %% [markdown]
# ## What clipping does to the direction
#
# With a threshold $c$, `clip_by_value` cuts every element to $[-c, c]$; `clip_by_norm` scales each parameter array to
# a norm of at most $c$; `clip_by_global_norm` scales all of them together,
# $g \leftarrow g \cdot \min(1, c / \lVert g \rVert)$. Left, one gradient of two elements, $(0.5, 4)$. Right, the
# gradient of a whole network of five hidden layers: the angle between what was clipped and what was not, by how much
# of its length is left.

# %%
hidden = {f"hidden{i}": jd.nn.dense(50, activation=jax.nn.relu) for i in range(1, 6)}
model = jd.nn.serial(flatten=jd.nn.flatten(), **hidden, logits=jd.nn.dense(10))
params, state = model.init(jax.random.key(0), train[0][:1])
objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
batch = train[0][:256], train[1][:256]
gradient = jax.jit(jax.grad(objective, has_aux=True))(params, state, batch)[0]
clips = {
    "by value": jd.optimizers.clip_by_value,
    "by norm": jd.optimizers.clip_by_norm,
    "by global norm": jd.optimizers.clip_by_global_norm,
}


def clipped(clip, c, g):
    optimizer = clip(c)
    return optimizer.update(g, optimizer.init(g))[0]


def compare(clip, c, g):
    """Share of the length that is left, and the angle to the gradient."""
    after = clipped(clip, c, g)
    norm, norm_after = optax.global_norm(g), optax.global_norm(after)
    cosine = optax.tree.vdot(after, g) / (norm * norm_after)
    return norm_after / norm, jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1)))


fig, (left, right) = plt.subplots(
    1, 2, figsize=(7, 3.2), dpi=80, layout="constrained", width_ratios=(2, 3)
)
g = jnp.array([0.5, 4.0])
left.annotate("", g, (0, 0), arrowprops={"color": "grey", "width": 1, "headwidth": 6})
for i, clip in enumerate(list(clips.values())[:2]):
    arrow = {"color": f"C{i + 1}", "width": 2, "headwidth": 8}
    left.annotate("", clipped(clip, 1.0, g), (0, 0), arrowprops=arrow)
left.set(
    xlim=(-0.5, 2.5), ylim=(-0.3, 4.4), xlabel="first element", ylabel="second element", title="c = 1"
)
thresholds = jnp.logspace(-4, 1, 60)
for i, (name, clip) in enumerate(clips.items()):
    share, angle = jax.vmap(lambda c, clip=clip: compare(clip, c, gradient))(thresholds)
    right.plot(share, angle, color=f"C{i + 1}", label=name)
right.set(
    xlabel="share of the gradient's length that is left",
    ylabel="angle to the gradient (°)",
    xscale="log",
)
right.legend(loc=(0.05, 0.15))
for ax in (left, right):
    ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Cut by value, the arrow turns (left, orange); by norm it keeps its direction (green, on the grey one). In a network
# (right) only the global norm keeps the direction. Clipped hard, the other two turn it: by value towards the signs of
# the gradient, by norm towards equal lengths for all layers. Near 1, where clipping is rare, the three do the same.
#
# ## A network that explodes
#
# Twelve layers of ReLU whose weights are 1.5 times those of He: gradients grow from layer to layer on their way back.
# Plain SGD, three seeds, four learning rates, and two thresholds for each kind of clipping; beside it, the same network
# with He's weights. A run whose loss is no longer finite counts as diverged (∞), and the others go on.

# %%


def deep_network(scale):
    kernel_init = jd.nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")
    own = {"activation": jax.nn.relu, "kernel_init": kernel_init}
    return jd.nn.serial(
        flatten=jd.nn.flatten(),
        first=jd.nn.dense(50, **own),
        deep=jd.nn.repeat(jd.nn.dense(50, **own), 11),
        logits=jd.nn.dense(10),
    )


exploding, sound = deep_network(2 * 1.5**2), deep_network(2.0)
kinds = {"no clipping": None, **clips, "He, no clipping": None}
common = {
    "loss": jd.losses.softmax_cross_entropy,
    "metrics": {"accuracy": jd.metrics.accuracy},
    "progress": False,
}


def recipe(hp):
    sgd, clip = jd.optimizers.sgd(hp["rate"]), kinds[hp["kind"]]
    return {
        "model": sound if hp["kind"] == "He, no clipping" else exploding,
        "optimizer": sgd if clip is None else optax.chain(clip(hp["c"]), sgd),
    }


rates = [1e-3, 1e-2, 1e-1, 3e-1]
limits = {"by value": (0.01, 0.1), "by norm": (0.3, 1.0), "by global norm": (1.0, 3.0)}
space = [
    {"kind": kind, "c": c, "rate": rate}
    for kind in kinds
    for c in limits.get(kind, (1.0,))
    for rate in rates
]
table = jd.sweep(recipe, space, seeds=3, data=train, validation=validation, epochs=6, **common)

fig, ax = plt.subplots(figsize=(7, 3.2), dpi=80, layout="constrained")
rows = table.over_seeds()
for line in range(0, len(rows), len(rates)):
    own = rows[line : line + len(rates)]
    kind, c = own[0]["kind"], own[0]["c"]
    accuracy = [0 if row["diverged"] else row["val_accuracy_mean"] for row in own]
    sd = [0 if row["diverged"] else row["val_accuracy_std"] for row in own]
    label = f"{kind}, c = {c:g}" if kind in limits else kind
    style = {"color": f"C{list(kinds).index(kind)}", "marker": "o", "capsize": 3, "label": label}
    ax.errorbar(rates, accuracy, sd, linestyle="--" if c == limits.get(kind, (0,))[0] else "-", **style)
    cells = [f"{a:12.2f}" if a else f"{row['diverged']:5d} of 3 ∞" for a, row in zip(accuracy, own)]
    print(f"{label:25s}", *cells)
ax.set(xlabel="learning rate", ylabel="validation accuracy\n(0: a run diverged)", xscale="log")
ax.grid(alpha=0.3)
fig.legend(loc="outside right center")
plt.show()

# %% [markdown]
# Bars are a standard deviation over seeds. Without clipping only the smallest rate survives, and learns little. Clipping
# rescues the network: no clipped run diverged, and at rates 100 times as large all three kinds learn. They cannot be
# ranked by this: $c$ means another length for each of them, and the bars overlap. Here clipping acts at nearly every
# step, so that a step is about (rate × $c$) long: a smaller $c$ is the same curve, further to the right.
#
# With He's weights the same network needs no clipping, and at 0.01 it is ahead of all that were clipped: remove the cause
# where you can. At a rate of 0.3 it fails too, and there a small threshold helps. Clip as an insurance against rare large
# gradients, not as a cure for an initialisation.
#
# ## Choosing the threshold
#
# `fit(diagnostics=n)` measures every $n$-th step how gradients, updates and activations go through the layers; the
# history has their means over an epoch, such as `gradient_norm/hidden1`. A measured step costs twice as much, the others
# nothing. Look at the norms of a run that goes well and clip above them: a clip that acts at every step is only
# another learning rate.

# %%
result = jd.fit(
    model, train, validation=validation, optimizer=jd.optimizers.sgd(0.05), epochs=10, diagnostics=5,
    key=jax.random.key(0), **common,
)  # fmt: skip
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), dpi=80, layout="constrained")
epochs = np.arange(1, 11)
layers = ["hidden1", "hidden3", "hidden5", "logits"]
for layer in layers:
    axes[0].plot(epochs, result.history[f"gradient_norm/{layer}"], label=layer)
    axes[1].plot(epochs, result.history[f"update_ratio/{layer}"], label=layer)
squares = [v**2 for name, v in result.history.items() if name.startswith("gradient_norm/")]
axes[0].plot(epochs, np.sqrt(np.sum(squares, 0)), color="black", linestyle="--", label="all together")
axes[0].set(xlabel="epoch", ylabel="norm of the gradient", yscale="log")
axes[1].set(xlabel="epoch", ylabel="update / parameters", yscale="log")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
for ax in axes:
    ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# The dashed line is the norm that `clip_by_global_norm` would see (of the epoch's means). A threshold of two to five
# times its usual level leaves ordinary steps alone and catches the odd one. The right panel is the better gauge of the
# learning rate: about 1e-3 is usual; above 0.1 a step forgets what the weights knew.
#
# ## Which layer is it?
#
# In the same network somebody has given `hidden3` a sigmoid and weights from $N(0, 1)$, and we pretend not to know which. `gradient_flow` looks at one batch, `report` prints it, and `diagnose` gives the findings as
# data, for a test or an alert.

# %%
guilty = jd.nn.dense(50, activation=jax.nn.sigmoid, kernel_init=jd.nn.initializers.normal(1.0))
broken = jd.nn.serial(flatten=jd.nn.flatten(), **(hidden | {"hidden3": guilty}), logits=jd.nn.dense(10))
params, state = broken.init(jax.random.key(0), train[0][:1])
flow = jd.diagnostics.gradient_flow(
    broken, params, state, batch, loss=jd.losses.softmax_cross_entropy, optimizer=jd.optimizers.sgd(0.05)
)
print(jd.diagnostics.report(flow))

# %%
for finding in jd.diagnostics.diagnose(flow):
    print(f"{finding.layer}: {finding.kind}, {finding.value:.3g}")

# %% [markdown]
# The same network as it was:

# %%
params, state = model.init(jax.random.key(0), train[0][:1])
flow = jd.diagnostics.gradient_flow(model, params, state, batch, loss=jd.losses.softmax_cross_entropy)
print(jd.diagnostics.report(flow).splitlines()[-1])

# %% [markdown]
# The verdict names `hidden3`: 72 % of its units sit where the sigmoid is flat. The table shows what follows: its gradient
# is small beside its weights, and a step changes it by a twentieth to an eightieth of what it changes the other layers.
# Gradients do reach the layers in front of it, since large weights amplify what flat slopes take away. Whoever had looked
# only at the gradient of the first layer would have found nothing.
#
# ## When it is too late: values that are not finite
#
# One broken image, and every parameter is NaN after the next step. By default `fit` stops at the end of that epoch and
# says where; `on_nonfinite="skip"` undoes such steps and counts them; `"ignore"` goes on. Clipping does not help: a NaN
# divided by its norm is NaN.

# %%
x = train[0].copy()
x[7] = np.nan
broken_data = x, train[1]
optimizer = optax.chain(jd.optimizers.clip_by_global_norm(1.0), jd.optimizers.sgd(0.05))
try:
    jd.fit(model, broken_data, optimizer=optimizer, epochs=5, key=jax.random.key(0), **common)
except FloatingPointError as error:
    print(error)

# %%
result = jd.fit(
    model, broken_data, validation=validation, optimizer=optimizer, epochs=5, on_nonfinite="skip",
    key=jax.random.key(0), **common,
)  # fmt: skip
print("steps skipped in each epoch:", result.history["skipped"])
print("validation accuracy:", round(float(result.history["val_accuracy"][-1]), 3))

# %% [markdown]
# The batch with the broken image is skipped, once an epoch, and the rest is learned. Use "skip" where a bad example now
# and then is expected (streams, mixed precision); where it is not, keep "raise" and repair the data. In a loop of your own,
# `jd.optimizers.skip_nonfinite(optimizer)` skips updates whose gradient is not finite.
#
# ## In short
#
# | when | use |
# | --- | --- |
# | recurrent, very deep or attention networks; large learning rates | `jd.optimizers.clip_by_global_norm(c)`, first in the chain |
# | layers whose gradients differ by orders of magnitude | `jd.optimizers.clip_by_norm(c)`, if turning the direction is acceptable |
# | single elements that spike | `jd.optimizers.clip_by_value(c)` |
# | choosing $c$ | `fit(diagnostics=…)`: 2 to 5 times the usual norm |
# | it explodes at every step | not clipping: the initialiser ([01](01_initialisation_and_activations.ipynb)) or batch norm ([02](02_batch_normalisation_and_folding.ipynb)) |
# | it does not learn | `print(jd.diagnostics.report(jd.diagnostics.gradient_flow(…)))` |
# | NaN | `on_nonfinite="raise"` to find it, `"skip"` to live with it |
#
# Next: [04](04_reusing_layers.ipynb), reusing layers, freezing and pretraining.
