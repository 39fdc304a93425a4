# %% [markdown]
# # 01 · Vanishing gradients, initialisation and activations
#
# Afterwards you can decide which activation to use with which initialiser, know at what depth the choice begins
# to matter, and see in one table whether gradients reach the first layer of your own network.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/01_initialisation_and_activations.ipynb)

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
import jaxdeep.plotting

real = "JAXDEEP_DATA" in os.environ or "google.colab" in sys.modules
train, validation, test = jd.datasets.load("fashion-mnist" if real else "digits")

mean, std = (
    train[0].mean(),
    train[0].std(),
)  # inputs of mean 0 and standard deviation 1, as SELU wants them
train, validation = [((x - mean) / std, y) for x, y in (train, validation)]
train = train[0][:3000], train[1][:3000]
batch = train[0][:256], train[1][:256]

# %% [markdown]
# ## The functions and their slopes
#
# Going back through a layer, a gradient is multiplied by the slope of its activation and by its weights. So look
# at the right panel: a slope that is below 1 everywhere, or 0 on one side, is multiplied into the gradient once for
# every layer.

# %%
functions = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "gelu": jax.nn.gelu,
    "selu": jax.nn.selu,
}
z = jnp.linspace(-4, 4, 401)
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), dpi=80, layout="constrained")
for i, (name, function) in enumerate(functions.items()):
    style = {"color": f"C{i}", "linestyle": ("-", "--", "-.")[i % 3], "label": name}
    left.plot(z, function(z), **style)
    right.plot(z, jax.vmap(jax.grad(function))(z), **style)
left.set(xlabel="z", ylabel="f(z)", ylim=(-2, 3))
right.set(xlabel="z", ylabel="f'(z)", ylim=(-0.3, 1.9))
fig.legend(*left.get_legend_handles_labels(), loc="outside right center")
for ax in (left, right):
    ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# The slope of a sigmoid is at most ¼, and almost 0 outside of ±4: it *saturates*. That of tanh reaches 1, but only
# at 0. ReLU's is 1 or 0: nothing is lost where a unit is on, and a unit that is off for every example is *dead*.
# Leaky ReLU, GELU and SELU keep a slope below 0, and SELU's is above 1 around 0 and to the right: that is how it makes
# up for what it loses on the left.
#
# ## The network of 2010
#
# Before Glorot and Bengio it was usual to draw weights from $N(0, 1)$ and to use sigmoids. Ten hidden layers of 100
# units, before any training: what goes forward, and what comes back from the loss?

# %%
init = jd.nn.initializers
pairs = {
    "sigmoid, N(0, 1)": (jax.nn.sigmoid, init.normal(1.0)),
    "sigmoid, Glorot": (jax.nn.sigmoid, init.glorot_normal()),
    "tanh, Glorot": (jnp.tanh, init.glorot_normal()),
    "ReLU, He": (jax.nn.relu, init.he_normal()),
    "SELU, LeCun": (jax.nn.selu, init.lecun_normal()),
}


def network(activation, kernel_init, depth, units=100):
    """`depth` hidden layers; those that are alike are a loop, which compiles as fast as one."""
    options = {"activation": activation, "kernel_init": kernel_init}
    return jd.nn.serial(
        flatten=jd.nn.flatten(),
        first=jd.nn.dense(units, **options),
        deep=jd.nn.repeat(jd.nn.dense(units, **options), depth - 1),
        logits=jd.nn.dense(10),
    )


def flows_of(model, seeds=3):
    """How a batch goes through the networks that these seeds make, and the gradients back."""

    def flow(key, batch):
        params, state = model.init(key, batch[0])
        return jd.diagnostics.gradient_flow(
            model, params, state, batch, loss=jd.losses.softmax_cross_entropy
        )

    keys = jax.random.split(jax.random.key(0), seeds)
    return jax.jit(jax.vmap(flow, in_axes=(0, None)))(keys, batch)


def first_of(flows):
    """Of several networks measured together, the first."""
    return jax.tree.map(lambda a: a[0], flows)


flows = {name: first_of(flows_of(network(*pair, depth=10), seeds=1)) for name, pair in pairs.items()}
figure = jd.plotting.gradient_flow(flows)
figure.set_dpi(60)
figure

# %% [markdown]
# The scales are logarithmic and layers go from the input (left) to the output. In the middle panel, the gradient
# that comes back should be a level line. With Glorot's weights, the sigmoid's loses a factor of 4 or
# so in each layer, since its slope is at most ¼, so that the first layer learns a million times more slowly than the last. tanh, ReLU and SELU, each
# with the initialiser made for it, stay within a small factor. `report` says the same in words:

# %%
print(jd.diagnostics.report(flows["sigmoid, N(0, 1)"]))

# %%
print(jd.diagnostics.report(flows["ReLU, He"]).splitlines()[-1])

# %% [markdown]
# So the network of 2010 is not what its reputation says: the *norm* of its gradients does not vanish. Weights of
# variance 1 amplify tenfold what the flat slopes had taken away. What it suffers from is saturation: two thirds of its
# units sit where their function is flat, and what comes back passes through the few others. And its gradients are small
# beside its weights: 0.06 of 80 in the first layer, 1.8 of 4 in the last, so that a step which suits the last changes
# the first by next to nothing. With Glorot's smaller weights nothing is saturated, and the gradient vanishes instead. A
# sigmoid cannot have both.
#
# ## Where the factor comes from
#
# For a layer of $n$ inputs with independent weights of variance $\sigma^2$,
#
# $$\operatorname{Var}(z) = n\, \sigma^2\, \mathbb{E}[x^2], \qquad
# \operatorname{Var}(\partial x) \approx n_{\text{out}}\, \sigma^2\, \mathbb{E}[f'(z)^2]\, \operatorname{Var}(\partial y).$$
#
# A level line needs a factor 1. With tanh or no activation that is $\sigma^2 = 1/n$ (Glorot takes the mean of both
# fans, LeCun the inputs); a ReLU throws half of the variance away, so that it needs $2/n$ (He). We draw ReLU
# networks of 50 layers with $\sigma^2 = c/n$ and see what being off by a factor 2 does.

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), dpi=80, layout="constrained")


@jax.jit
def scaled(scale):  # a number, so that one program does for all
    kernel_init = init.variance_scaling(scale, "fan_in", "truncated_normal")
    return flows_of(network(jax.nn.relu, kernel_init, depth=51))["deep/layer"]


for color, scale in (("C0", 1.0), ("C2", 2.0), ("C3", 4.0)):
    deep = scaled(scale)
    layers = np.arange(2, 52)
    axes[0].plot(
        layers, deep.activation_std.T, color=color, alpha=0.7, label=[f"c = {scale:g}", None, None]
    )
    axes[1].plot(layers, deep.output_gradient.T, color=color, alpha=0.7)
axes[0].set(xlabel="layer", ylabel="std of activations", yscale="log")
axes[1].set(xlabel="layer", ylabel="gradient of the output", yscale="log")
axes[0].legend()
for ax in axes:
    ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Three seeds each. $\sqrt2$ a layer, up or down, is $2^{25}$ after 50 layers: activations vanish with $c = 1$ and
# explode with $c = 4$, and gradients do the same on their way back. He's 2 is no rule of thumb but the edge between
# both.
#
# ## Does it matter for your network?
#
# Now we train: 3 and 50 hidden layers of 50 units, Adam, 6 epochs, three seeds, and for each pair the better of
# two learning rates. The fifth pair, ReLU with Glorot's initialisation, is what Keras' `Dense` gives you by default.

# %%
compared = {
    "sigmoid, Glorot": pairs["sigmoid, Glorot"],
    "tanh, Glorot": pairs["tanh, Glorot"],
    "ReLU, Glorot": (jax.nn.relu, init.glorot_normal()),
    "ReLU, He": pairs["ReLU, He"],
    "SELU, LeCun": pairs["SELU, LeCun"],
}
depths = [3, 50]
table = jd.sweep(
    lambda hp: {
        "model": network(*compared[hp["pair"]], depth=hp["depth"], units=50),
        "optimizer": jd.optimizers.adam(hp["rate"]),
    },
    {"pair": list(compared), "depth": depths, "rate": [3e-4, 2e-3]},
    seeds=3,
    data=train,
    validation=validation,
    loss=jd.losses.softmax_cross_entropy,
    metrics={"accuracy": jd.metrics.accuracy},
    epochs=6,
    batch_size=64,
    progress=False,
)

# %%
means = table.over_seeds()
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), dpi=80, layout="constrained")
for i, name in enumerate(compared):
    for depth, marker in zip(depths, "os"):
        same = [k for k, row in enumerate(means) if (row["pair"], row["depth"]) == (name, depth)]
        best = max(same, key=lambda k: means[k]["val_accuracy_mean"])
        runs = [table.history(row) for row in range(3 * best, 3 * best + 3)]
        ends = [run["val_accuracy"][-1] for run in runs]
        left.plot(
            ends, [i] * 3, marker, color=f"C{i}", alpha=0.6, fillstyle="full" if depth > 3 else "none"
        )
        print(
            f"{name:16s} {depth:2d} layers: {np.mean(ends):.3f} ± {np.std(ends, ddof=1):.3f}", end=", "
        )
        print(f"with a learning rate of {means[best]['rate']:g}")
    losses = np.array([run["loss"] for run in runs])  # of 50 layers
    right.plot(range(1, 7), losses.mean(0), color=f"C{i}", label=name)
    right.fill_between(range(1, 7), losses.min(0), losses.max(0), color=f"C{i}", alpha=0.2, linewidth=0)
left.set(xlabel="validation accuracy (hollow: 3 layers, full: 50)", yticks=range(len(compared)))
left.set_yticklabels(list(compared))
left.invert_yaxis()
right.set(xlabel="epoch", ylabel="training loss, 50 layers", yscale="log")
for ax in (left, right):
    ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# **Three layers** (hollow): tanh, ReLU and SELU differ by no more than their seeds, and ReLU learns as well with Glorot's
# initialiser as with He's. Only the sigmoid lags behind. Choose by habit.
#
# **Fifty layers** (full): the sigmoid and ReLU with Glorot's initialiser stay at chance, one class in ten. ReLU with He's
# learns, slowly; tanh and SELU get furthest in these six epochs. SELU's training loss is the lowest (right, in the colours
# of the left), while its accuracy is within the seeds' spread of that of tanh. A good initialisation lets a deep network
# start; it does not make depth pay on data that are this easy: all of them are below the three layers. For deeper networks
# than these, look at batch norm ([02](02_batch_normalisation_and_folding.ipynb)) and `jd.nn.residual` as well.
#
# ## In short
#
# | network | activation and initialiser |
# | --- | --- |
# | up to about 5 layers | ReLU; the initialiser is chosen for you: `jd.nn.dense(100, activation=jax.nn.relu)` takes He's |
# | deep, dense, without skips or normalisation | `jax.nn.selu` with LeCun's (the default for it), inputs standardised, `jd.nn.alpha_dropout` |
# | deep with batch norm or `jd.nn.residual` | ReLU or GELU with He's: the scale is taken care of |
# | recurrent, outputs in (−1, 1) | tanh with Glorot's |
# | hidden layers | not the sigmoid; it is for probabilities and gates |
# | units die (`dead` in the report) | `jax.nn.leaky_relu` or `jd.nn.prelu`, and a smaller learning rate |
# | anything of your own | `jd.nn.initializers.variance_scaling`, then `jd.diagnostics.gradient_flow`: the line should be level |
#
# Next: [02](02_batch_normalisation_and_folding.ipynb), batch normalisation, which makes all of this matter less.
# Docstrings: `jd.nn.initializers.initializer_for`, `jd.nn.repeat`, `jd.diagnostics.gradient_flow`, `diagnose`, `report`.
