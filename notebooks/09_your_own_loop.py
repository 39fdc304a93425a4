# %% [markdown]
# # 09 Your own loop
#
# `fit` drives functions that are yours to use and to replace: the loss, the weights of examples, the
# gradients, the optimizer's rule, a layer, the whole objective. Afterwards you can say which piece to
# write yourself for what you want, and leave the others as they are.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/09_your_own_loop.ipynb)

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
train = train[0][:2_000], train[1][:2_000]
plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True})

# %% [markdown]
# ## Step, epoch, run
#
# Three pure functions, each made of the one before; the state of a run,
# `TrainState(step, params, state, opt_state, key)`, goes in and comes out:
#
# | | |
# | --- | --- |
# | `step = jd.train.make_step(objective, optimizer)` | `(ts, batch) -> (ts, metrics)` |
# | `epoch = jd.train.make_epoch(step)` | `(ts, data) -> (ts, metrics)`, shuffled |
# | `run = jd.train.make_run(objective, optimizer, …)` | `(ts, data, validation) -> (ts, history)` |
#
# Nothing is compiled until you say so; data are arguments. Do the three and `fit` train the same
# network?

# %%
model = jd.nn.serial(
    flatten=jd.nn.flatten(),
    hidden1=jd.nn.dense(50, activation=jax.nn.relu),
    hidden2=jd.nn.dense(50, activation=jax.nn.relu),
    logits=jd.nn.dense(10),
)
loss, metrics = jd.losses.softmax_cross_entropy, {"accuracy": jd.metrics.accuracy}
optimizer = jd.optimizers.adam(3e-3)
objective = jd.train.supervised(model, loss, metrics=metrics)
key = jax.random.key(0)
step = jd.train.make_step(objective, optimizer)
epoch = jd.train.make_epoch(step, batch_size=32)
run = jd.train.make_run(objective, optimizer, epochs=5)

ts = jd.train.init(model, optimizer, train[0][:1], key=key)
compiled = jax.jit(epoch, donate_argnums=0)
for _ in range(5):
    ts, by_epoch = compiled(ts, train)

whole, history = jax.jit(run)(jd.train.init(model, optimizer, train[0][:1], key=key), train, validation)
fitted = jd.fit(model, train, loss=loss, optimizer=optimizer, epochs=5, key=key, progress=False)
for name, params in {"run": whole.params, "fit": fitted.params}.items():
    apart = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), ts.params, params)
    print(f"epoch by epoch and {name}: at most {max(jax.tree.leaves(apart)):.0e} apart")

# %% [markdown]
# And step by step, where you see every batch. Ten networks go side by side under `jax.vmap`, each from a
# key of its own.

# %%
keys = jax.random.split(jax.random.key(1), 10)
many = jax.vmap(lambda key: jd.train.init(model, optimizer, train[0][:1], key=key))(keys)
steps = jax.jit(jax.vmap(step, in_axes=(0, None)), donate_argnums=0)
rng = np.random.default_rng(0)
losses = []
for _ in range(3):
    for rows in np.array_split(rng.permutation(len(train[0])), len(train[0]) // 32):
        many, values = steps(many, (train[0][rows], train[1][rows]))
        losses.append(values["loss"])
losses = np.array(losses)

figure, ax = plt.subplots(figsize=(7, 2.8))
ax.fill_between(range(len(losses)), losses.min(1), losses.max(1), alpha=0.3, label="ten networks")
ax.plot(losses.mean(1), linewidth=1, label="their mean")
ax.set(xlabel="step", ylabel="loss of the batch", yscale="log")
ax.legend()
plt.show()

# %% [markdown]
# The first three agree to the last bit, since the randomness of step t is `fold_in(key, t)`, whoever
# drives it. *When to use which*: `fit` as long as it has what you need; `make_step` where you must see
# or choose every batch; `make_epoch` inside a larger program; `make_run` to `jit` or `vmap` whole runs;
# `sweep` for many runs that differ in more than their keys (notebook 08).

# %% [markdown]
# ## Losses, metrics and weights of examples
#
# A loss or a metric is a function `(outputs, y) -> one value an example`. Weights of examples are the
# third array of the data, or come from an objective around `supervised`, as here, where they depend on a
# hyperparameter.
#
# The question: 60 % of the labels come from a careless annotator, who is wrong every other time, and we
# know which. What weight should they get? And if we did not know, does a robust loss help? The one
# below, $(1 - p_y^{0.7}) / 0.7$ with $p_y$ the probability of the label, bounds what one wrong label can
# do.

# %%
rng = np.random.default_rng(0)
careless = rng.random(len(train[1])) < 0.6
wrong = careless & (rng.random(len(train[1])) < 0.5)
labels = np.where(wrong, rng.integers(0, 10, len(train[1])), train[1]).astype(np.int32)


def robust(logits, y, q=0.7):
    p = jnp.exp(-jd.losses.softmax_cross_entropy(logits, y))
    return (1 - p**q) / q


def confidence(logits, y):
    return jax.nn.softmax(logits).max(-1)


def weighing(hp):
    """An objective that gives the careless annotator's examples a weight."""
    losses = {"cross-entropy": jd.losses.softmax_cross_entropy, "robust": robust}
    inner = jd.train.supervised(
        model,
        losses[hp["criterion"]],
        metrics={"accuracy": jd.metrics.accuracy, "confidence": confidence},
    )

    def objective(params, state, batch, *, key=None, train=False):
        x, y, careless = batch
        weights = jnp.where(careless, hp["weight"], 1.0)
        return inner(params, state, (x, y, weights), key=key, train=train)

    return {"objective": objective, "optimizer": jd.optimizers.adam(3e-3)}


weighed = jd.sweep(
    weighing,
    {"criterion": ["cross-entropy", "robust"], "weight": [0.0, 0.1, 0.2, 0.5, 1.0]},
    seeds=5,
    model=model,
    data=(train[0], labels, careless),
    validation=(*validation, np.zeros(len(validation[1]), bool)),
    epochs=20,
    progress=False,
)
figure, axes = plt.subplots(1, 2, figsize=(8, 3))
weighed.plot("val_accuracy", "weight", ax=axes[0])
weighed.plot("val_confidence", "weight", ax=axes[1])
for ax in axes:
    ax.set_xlabel("weight of the careless")
    ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# With cross-entropy, the careless labels cost four in a hundred of accuracy at full weight, and make the
# network doubt everything: it says 0.69 where it is right at 0.93. At a weight of 0.1 or 0 nothing is
# lost, since enough good examples are left. The robust loss stays within its seeds' spread whatever the
# weight. *When to use which*: if you know whom not to trust, weights; if you do not, a robust loss. Note
# that the metric was a function of three lines; a metric that is no mean of examples, such as
# `jd.metrics.f1(class_id=3)`, goes in the same place.

# %% [markdown]
# ## Several losses, each with its gradient
#
# One network is to name the class and to tell the amount of ink (the sum of the pixels), in units in
# which its squared error is hundreds of times the cross-entropy. `make_step` adds losses up; a step of
# your own can do anything with their gradients, which `jax.jacobian` gives one by one. Here each is
# divided by its length, so that both have a say.

# %%
two_heads = jd.nn.serial(
    flatten=jd.nn.flatten(),
    hidden=jd.nn.dense(50, activation=jax.nn.relu),
    outputs=jd.nn.parallel(label=jd.nn.dense(10), ink=jd.nn.dense(1)),
)
adam = jd.optimizers.adam(3e-3)


def both(data):
    return data[0], {"label": data[1], "ink": data[0].sum((1, 2))[:, None]}


def losses_of(params, batch):
    x, y = batch
    outputs, _ = two_heads.apply(params, {}, x, train=True)
    cross_entropy = jd.losses.softmax_cross_entropy(outputs["label"], y["label"]).mean()
    return jnp.stack([cross_entropy, jd.losses.mse(outputs["ink"], y["ink"]).mean()])


def make_two_step(equal):
    def step(ts, batch):
        each = jax.jacobian(losses_of)(ts.params, batch)  # a leaf's first axis is the loss
        lengths = jax.vmap(optax.global_norm)(each)
        scale = 1 / lengths if equal else jnp.ones(2)
        grads = jax.tree.map(lambda g: jnp.tensordot(scale, g, 1), each)
        updates, opt_state = adam.update(grads, ts.opt_state, ts.params)
        params = optax.apply_updates(ts.params, updates)
        values = {"loss": losses_of(ts.params, batch).sum(), "label": lengths[0], "ink": lengths[1]}
        return ts._replace(step=ts.step + 1, params=params, opt_state=opt_state), values

    return step


def validate(params):
    x, y = both(validation)
    outputs, _ = two_heads.apply(params, {}, x)
    accuracy = jd.metrics.accuracy(outputs["label"], y["label"]).mean()
    return accuracy, 1 - jd.losses.mse(outputs["ink"], y["ink"]).mean() / y["ink"].var()


validated = jax.jit(jax.vmap(validate))
keys = jax.random.split(jax.random.key(2), 5)
results = {}
for equal in (False, True):
    epoch = jax.jit(jax.vmap(jd.train.make_epoch(make_two_step(equal)), in_axes=(0, None)))
    ts = jax.vmap(lambda key: jd.train.init(two_heads, adam, train[0][:1], key=key))(keys)
    results[equal] = []
    for _ in range(15):
        ts, values = epoch(ts, both(train))
        results[equal].append([values["label"], values["ink"], *validated(ts.params)])
    results[equal] = np.array(results[equal])  # (epochs, 4, seeds)

figure, axes = plt.subplots(1, 3, figsize=(10, 3))
for equal, style in ((False, "C7"), (True, "C0")):
    name = "each of length 1" if equal else "added up"
    for ax, column in zip(axes[1:], (2, 3)):
        values = results[equal][:, column]
        ax.plot(range(1, 16), values.mean(1), style, label=name)
        ax.fill_between(range(1, 16), values.min(1), values.max(1), color=style, alpha=0.25, linewidth=0)
for column, name in enumerate(("label", "ink")):
    axes[0].plot(range(1, 16), results[False][:, column].mean(1), f"C{column + 1}", label=name)
axes[0].set(title="added up: lengths of gradients", yscale="log", xlabel="epoch")
axes[1].set(title="validation accuracy", xlabel="epoch")
axes[2].set(title="ink: share explained", xlabel="epoch", ylim=(0, 1.02))
axes[0].legend()
axes[1].legend()
plt.show()

# %% [markdown]
# Added up, the gradient of the ink is a hundred times as long at first, and the label waits until the
# ink is learned: after 15 epochs it is still behind. With both at length 1 both are learned, and the ink
# no worse. *When to use which*: `jd.losses.weighted` where one constant weight will do; a step with
# `jax.jacobian` where the balance should hold by itself, or where one loss's gradient must not undo
# another's. The step went into `make_epoch` and `jax.vmap` as ours do.

# %% [markdown]
# ## Your own optimizer
#
# An optimizer is a pair of functions, optax' protocol: `init(params) -> state` and
# `update(grads, state, params) -> (updates, state)`. This one is Lion (Chen et al., 2023): steps are the
# *sign* of a momentum. As first written it keeps its momentum in the parameters' own dtype.
# `jd.optimizers.check_transform` tests what compiled loops rely on.


# %%
def lion(b1=0.9, b2=0.99, dtype=None):
    def init(params):
        return jax.tree.map(lambda p: jnp.zeros_like(p, dtype), params)

    def update(grads, momentum, params=None):
        step = jax.tree.map(
            lambda g, m: jnp.sign(b1 * m + (1 - b1) * g).astype(g.dtype), grads, momentum
        )
        momentum = jax.tree.map(lambda g, m: (b2 * m + (1 - b2) * g).astype(m.dtype), grads, momentum)
        return step, momentum

    return optax.GradientTransformation(init, update)


try:
    jd.optimizers.check_transform(lion())
except ValueError as error:
    print(error)
jd.optimizers.check_transform(lion(dtype=jnp.float32))
print("with float32 it passes")

# %% [markdown]
# A decay of 0.99 is lost in bfloat16, which is what the check says. With its learning rate in a link of
# jaxdeep's behind it, which holds it as a leaf of the state, all rates share a program. Where is Lion's
# rate, beside Adam's?

# %%
RULES = {
    "adam": jd.optimizers.adam,
    "lion": lambda rate: optax.chain(
        lion(dtype=jnp.float32), jd.optimizers.scale_by_learning_rate(rate)
    ),
}
rules = jd.sweep(
    lambda hp: RULES[hp["rule"]](hp["learning_rate"]),
    {"rule": list(RULES), "learning_rate": np.geomspace(3e-5, 0.1, 8)},
    seeds=3,
    model=model,
    data=train,
    validation=validation,
    loss=loss,
    metrics=metrics,
    epochs=6,
    progress=False,
)
figure, ax = plt.subplots(figsize=(7, 2.8))
rules.plot("val_accuracy", "learning_rate", ax=ax)
plt.show()

# %% [markdown]
# At its best Lion is as good as Adam here, over a narrower range: every weight moves by $\eta$ at every
# step, so that rates that Adam still bears are too much. Start at a third of Adam's. *When to use
# which*: write `init` and `update` for a new rule; for what happens to gradients before or after one, a
# link in `optax.chain` is enough.

# %% [markdown]
# ## An objective that is not supervised
#
# An objective is any function
# `(params, state, batch, *, key=None, train=False) -> (loss, (state, metrics))`. This one has no labels:
# an autoencoder puts an image through two numbers and back, with noise on its inputs while it trains
# (where there is a key). What do the two numbers know of the classes, which nobody told them?

# %%
pixels = train[0][0].size
autoencoder = jd.nn.serial(
    encoder=jd.nn.serial(
        flatten=jd.nn.flatten(),
        hidden=jd.nn.dense(100, activation=jax.nn.elu),
        code=jd.nn.dense(2),
    ),
    decoder=jd.nn.serial(
        hidden=jd.nn.dense(100, activation=jax.nn.elu),
        pixels=jd.nn.dense(pixels, activation=jax.nn.sigmoid),
        image=jd.nn.reshape(*train[0].shape[1:]),
    ),
)


def reconstruction(params, state, images, *, key=None, train=False):
    noisy = images if key is None else images + 0.1 * jax.random.normal(key, images.shape)
    outputs, state = autoencoder.apply(params, state, noisy, train=train, key=key)
    return jd.losses.mse(outputs, images).mean(), (state, {"mae": jd.losses.mae(outputs, images).mean()})


result = jd.fit(
    autoencoder,
    train[0],
    objective=reconstruction,
    optimizer=jd.optimizers.nadam(jd.schedules.cosine(5e-3, 60 * -(-len(train[0]) // 32))),
    validation=validation[0],
    epochs=60,
    key=jax.random.key(0),
    progress=False,
)
codes, _ = autoencoder.layers["encoder"].apply(result.params["encoder"], {}, validation[0])
images, _ = autoencoder.apply(result.params, result.state, validation[0])

figure = plt.figure(figsize=(9, 2.8))
left, right = figure.subfigures(1, 2, width_ratios=(1, 1.4))
ax = left.subplots()
points = ax.scatter(*codes.T, c=validation[1], cmap="tab10", s=8)
left.colorbar(points, ax=ax, label="class", ticks=range(10))
ax.set(xlabel="first number", ylabel="second number")
for row, shown in zip(right.subplots(2, 8), (validation[0], images)):
    for ax, image in zip(row, shown):
        ax.imshow(image, cmap="Greys", vmin=0, vmax=1)
        ax.axis("off")
right.suptitle("images of the validation data, and what comes back", fontsize=10)
plt.show()
print({name: round(float(values[-1]), 4) for name, values in result.history.items()})

# %% [markdown]
# Some classes have a place of their own, others share one, and an image comes back as a typical one of
# its place: two numbers are too few. `fit` took the images alone as its data; with an objective, data
# are any pytree of arrays with a row for each example. *When to use which*: `supervised` where a loss
# compares outputs with `y`, one example at a time; an objective for all else, such as a contrastive
# loss, which compares the rows of a batch, or one with two passes through a network.

# %% [markdown]
# ## Your own layer, and Flax
#
# A layer is a pair of functions too: `jd.nn.Model(init, apply)`. This is a highway layer (Srivastava et
# al., 2015), which passes on a learned share of its input:
# $y = t \odot \mathrm{relu}(x W) + (1 - t) \odot x$ with $t = \sigma(x V + b)$. Does that train a stack
# of 30, where plain layers do not?


# %%
def highway(bias=-2.0):
    draw = jd.nn.initializers.he_normal()

    def init(key, x):
        size = x.shape[-1]
        transform, gate = (draw(k, (size, size), x.dtype) for k in jax.random.split(key))
        return {"transform": transform, "gate": gate, "bias": jnp.full(size, bias, x.dtype)}, {}

    def apply(params, state, x, *, train=False, key=None, **_):
        t = jax.nn.sigmoid(x @ params["gate"] + params["bias"])
        return t * jax.nn.relu(x @ params["transform"]) + (1 - t) * x, state

    return jd.nn.Model(init, apply, "highway", stochastic=False)


def stack(layer, depth=30):
    return jd.nn.serial(
        flatten=jd.nn.flatten(),
        first=jd.nn.dense(50),
        stack=jd.nn.repeat(layer, depth),
        logits=jd.nn.dense(10),
    )


LAYERS = {"plain": jd.nn.dense(50, activation=jax.nn.relu), "highway": highway()}
deep = jd.sweep(
    lambda hp: {"model": stack(LAYERS[hp["layer"]]), "optimizer": jd.optimizers.adam(1e-3)},
    {"layer": list(LAYERS)},
    seeds=3,
    data=train,
    validation=validation,
    loss=loss,
    metrics=metrics,
    epochs=8,
    progress=False,
)
figure, ax = plt.subplots(figsize=(7, 2.8))
for i, point in enumerate(deep.points):
    style = "C7" if point["layer"] == "plain" else "C0"
    label = point["layer"] if point["seed"] == 0 else None
    ax.plot(range(1, 9), deep.history(i)["val_accuracy"], style, label=label)
ax.set(xlabel="epoch", ylabel="validation accuracy", title="30 layers, 3 seeds")
ax.grid(alpha=0.3)
ax.legend()
plt.show()

# %% [markdown]
# Plain layers do learn at this depth, from He's initialisation and with Adam, but the highway layers are
# ahead of them from the second epoch on. `repeat` compiled one layer and runs it 30 times; your own
# layer is treated as those of jaxdeep. (It was told `stochastic=False`, that no key makes a difference
# to it.)
#
# Modules of Flax are models after one call. The two switches stay apart: `train=True` is batch
# statistics, a `key` is randomness, so that MC dropout of a Linen module needs no flag of its own.

# %%
import flax.linen as nn
from flax import nnx


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.relu(nn.Dense(50)(x.reshape(len(x), -1)))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(10)(nn.Dropout(0.2, deterministic=not train)(x))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(pixels, 50, rngs=rngs)
        self.norm = nnx.BatchNorm(50, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)
        self.logits = nnx.Linear(50, 10, rngs=rngs)

    def __call__(self, x):
        return self.logits(self.drop(self.norm(nnx.relu(self.hidden(x.reshape(len(x), -1))))))


MODELS = {
    "Flax Linen": jd.adapters.from_linen(Linen()),
    "Flax NNX": jd.adapters.from_nnx(Nnx),
}
adapted = jd.sweep(
    lambda hp: {"model": MODELS[hp["model"]], "optimizer": jd.optimizers.adam(3e-3)},
    {"model": list(MODELS)},
    seeds=5,
    data=train,
    validation=validation,
    loss=loss,
    metrics=metrics,
    epochs=8,
    progress=False,
)
for row in adapted.over_seeds():
    print(f"{row['model']:11}{row['val_accuracy_mean']:.3f} ± {row['val_accuracy_std']:.3f}")
params, state = adapted.trained(0)  # the first run of the Linen module
print(jax.tree.map(jnp.shape, params))

samples = jax.vmap(
    lambda key: jax.nn.softmax(MODELS["Flax Linen"].apply(params, state, validation[0][:3], key=key)[0])
)(jax.random.split(jax.random.key(3), 100))
print("probability of the class, 100 samples with dropout, three images:")
top = samples.mean(0).argmax(-1)
chosen = np.asarray(samples[:, np.arange(3), top])
print(chosen.mean(0).round(3), "±", chosen.std(0).round(3))

# %% [markdown]
# Flax modules train in `fit` and `sweep` as models of jaxdeep do; their parameters keep the names that
# Flax gives them, and selectors such as `trainable="Dense_1/*"` use those.
#
# ## In short
#
# | you want | write | keep |
# | --- | --- | --- |
# | another loss or metric | `(outputs, y) -> values` | all else |
# | weights of examples | `(x, y, weights)`, or an objective around `supervised` | all else |
# | a loss that is no mean over examples | an objective | `make_step`, `fit`, `sweep` |
# | to change gradients | a link in `optax.chain` | all else |
# | a rule of your own | `init` and `update`, tested by `check_transform` | all else |
# | several gradients | a step, with `jax.jacobian` | `make_epoch`, `jax.vmap` |
# | to see every batch | the loop over `jax.jit(step)` | the step |
# | a layer | `jd.nn.Model(init, apply)` | all else |
# | a Flax module | `jd.adapters.from_linen`, `from_nnx` | all else |
#
# Before: [08 A thousand runs](08_sweeps.ipynb). Next: [10 Devices](10_devices_tpu_and_colab.ipynb).
