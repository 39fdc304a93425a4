# %% [markdown]
# # 04 · Reusing layers, freezing, pretraining
#
# A task with few labelled images can begin with layers that another task has trained. Afterwards you can
# decide what to reuse, what to hold, at which rate to train the rest, and whether it pays at all, by
# intervals over seeds.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/04_reusing_layers.ipynb)

# %%
import importlib.util
import os
import platform
import subprocess
import sys

if importlib.util.find_spec("jaxdeep") is None:  # in Colab: about half a minute
    source = "jaxdeep[datasets,plot,checkpoint] @ git+https://github.com/jaxdeep/jaxdeep"
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
import tempfile

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy import stats

import jaxdeep as jd

real = "JAXDEEP_DATA" in os.environ or "google.colab" in sys.modules
train, validation, test = jd.datasets.load("fashion-mnist" if real else "digits")
x, y = train[0][:10_000], train[1][:10_000]


def interval(values):
    """Mean, and half the width of its 95 % interval over seeds (Student's t)."""
    values = np.asarray(values, float)
    return values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)


# %% [markdown]
# ## Two tasks beside A
#
# Two classes that look alike are set aside. Network A learns the other eight from all their images. It
# is then asked to help with two tasks of 20 labelled images each, tested on images that neither has
# seen:
#
# - *new classes*: tell the two that A has never seen apart;
# - *known classes*: tell four of A's classes from its other four, a new question about what it knows.

# %%
pair = (0, 2) if real else (1, 8)  # T-shirts and pullovers, or the digits 1 and 8
others = [c for c in range(10) if c not in pair]


def of_a(data):
    kept = ~np.isin(data[1], pair)
    return data[0][kept], np.searchsorted(others, data[1][kept]).astype(np.int32)


def new_classes(data):
    kept = np.isin(data[1], pair)
    return data[0][kept], (data[1][kept] == pair[0]).astype(np.float32)[:, None]


def known_classes(data):
    images, classes = of_a(data)
    return images, (classes % 2).astype(np.float32)[:, None]


held_out = np.concatenate([validation[0], test[0]]), np.concatenate([validation[1], test[1]])
data_a = of_a((x, y))
few = {"new classes": new_classes, "known classes": known_classes}
tasks = {name: (tuple(a[:20] for a in of((x, y))), of(held_out)) for name, of in few.items()}
print(
    len(data_a[1]), "images of A;", {name: len(rest[1]) for name, (_, rest) in tasks.items()}, "to test"
)


# %%
def network(units):
    def hidden():
        return jd.nn.dense(100, activation=jax.nn.relu, kernel_init=jd.nn.initializers.he_normal())

    return jd.nn.serial(
        flatten=jd.nn.flatten(),
        hidden1=hidden(),
        hidden2=hidden(),
        hidden3=hidden(),
        logits=jd.nn.dense(units),
    )


a = jd.fit(
    network(8), data_a, loss=jd.losses.softmax_cross_entropy, metrics={"accuracy": jd.metrics.accuracy},
    optimizer=jd.optimizers.adam(1e-3), epochs=15, key=jax.random.key(42), progress=False,
)  # fmt: skip
print("A, training accuracy", round(float(a.history["accuracy"][-1]), 3))

# %% [markdown]
# ## Does it pay? Four ways to begin, ten seeds each
#
# `jd.transfer.pretrained(model, params, state)` is a model whose `init` begins with given layers where
# path and shape fit: `hidden1` to `hidden3` do; the head, of another shape, is drawn. In a sweep every
# seed then begins there. `trainable="logits/*"` holds the rest: no gradient, no optimizer state.
# `layerwise_decay` lets lower layers learn more slowly: the rate of the layer k below the head is
# $\eta\, d^{\,k}$, here with $d = 1/2$.
#
# All 40 runs of a task are one sweep. A seed draws what is new and the order of the batches; the 20
# images are the same throughout, so that the intervals are about seeds, not about other images.


# %%
def build(hp):
    start = hp["start"]
    if start == "from scratch":
        return {"model": network(1), "optimizer": jd.optimizers.adam(3e-3)}
    model = jd.transfer.pretrained(network(1), a.params, a.state, where="hidden*")
    if start == "reused, held":
        return {"model": model, "optimizer": jd.optimizers.adam(1e-2), "trainable": "logits/*"}
    if start == "reused, all trained":
        return {"model": model, "optimizer": jd.optimizers.adam(3e-3)}
    params, _ = model.init(jax.random.key(0), x[:1])
    slower_below = jd.transfer.layerwise_decay(model, params, 0.5)
    return {"model": model, "optimizer": optax.chain(jd.optimizers.adam(3e-3), slower_below)}


def right(logits, labels):
    return ((logits > 0) == (labels > 0.5)).astype(np.float32)[..., 0]


starts = ["from scratch", "reused, held", "reused, all trained", "reused, decayed rates"]
supervised = {"loss": jd.losses.sigmoid_cross_entropy, "metrics": {"accuracy": right}, "progress": False}
tables = {
    name: jd.sweep(
        build, {"start": starts}, seeds=10, data=data, validation=rest,
        epochs=40, batch_size=10, validate_every=40, **supervised,
    )
    for name, (data, rest) in tasks.items()
}  # fmt: skip

# %%
fig, axes = plt.subplots(1, 2, figsize=(7.4, 2.8), dpi=80, layout="constrained", sharey=True)
for ax, (name, table) in zip(axes, tables.items()):
    found = {start: [r["val_accuracy"] for r in table.rows() if r["start"] == start] for start in starts}
    for i, start in enumerate(starts):
        mean, half = interval(found[start])
        ax.errorbar(mean, -i, xerr=half, fmt="o", color=f"C{i}", capsize=4)
        ax.plot(found[start], np.full(10, -i - 0.25), "|", color=f"C{i}", alpha=0.6)
        gain, half = interval(np.subtract(found[start], found["from scratch"]))
        if i:
            print(f"{name}, {start}: {gain:+.3f} ± {half:.3f} against from scratch, seed by seed")
    ax.set(title=name, xlabel="accuracy, 95 % interval", ylim=(-3.6, 0.4))
axes[0].set_yticks([0, -1, -2, -3], starts)
plt.show()

# %% [markdown]
# On the digits the two tasks differ. *New classes*: nothing is gained; trained further, reused layers
# are within the interval of from scratch, and held they are worse: A's upper layers have learned to tell
# eight digits apart and kept little of what tells these two. *Known classes*: all three ways gain, by
# more than their interval: the question is new, but what it asks about is what the layers know. Between
# the three ways no difference is shown.
#
# *Reuse* when the labels ask for something that the first task had to know, and train the reused layers
# too unless they are surely of use. `layerwise_decay` is between holding and training; with a short run
# like this it changes little. On larger images, where lower layers are more generally useful,
# `benchmarks/transfer.py` measures the same question on Fashion-MNIST.

# %% [markdown]
# ## One run in phases
#
# The usual recipe for a single run: a new head while everything else is held, then all of it at a lower
# rate. `replace_head` gives the network with another head and its parameters; `phases=` is a list of
# `(epochs, trainable, learning_rate)`, each with an optimizer of its own.

# %%
data_b, test_b = tasks["known classes"]
model_b, params_b, state_b = jd.transfer.replace_head(
    network(8), a.params, a.state, jd.nn.dense(1), x[:1], key=jax.random.key(1)
)
b = jd.fit(
    model_b, data_b, validation=test_b, params=params_b, state=state_b,
    optimizer=jd.optimizers.adam,  # a function of the rate: each phase says which
    phases=[jd.train.Phase(20, "logits/*", 1e-2), jd.train.Phase(20, None, 1e-4)],
    batch_size=10, key=jax.random.key(2), **supervised,
)  # fmt: skip

fig, ax = plt.subplots(figsize=(7, 3), dpi=80, layout="constrained")
ax.plot(np.arange(1, 41), b.history["loss"], label="training")
ax.plot(np.arange(1, 41), b.history["val_loss"], label="other images")
ax.axvline(20.5, color="grey", linestyle=":")
ax.text(20, ax.get_ylim()[1] * 0.8, "head, rate 0.01 ", ha="right")
ax.text(21, ax.get_ylim()[1] * 0.8, " all, rate 0.0001", ha="left")
ax.set(xlabel="epoch", ylabel="loss")
ax.legend(loc="upper right")
plt.show()

# %% [markdown]
# The head learns quickly; the second phase, at a hundredth of the rate, moves all layers a little. Here
# that goes on lowering the training loss and no longer helps on other images, which 20 labels could not
# tell: *keep a few labelled images apart*, and let `early_stopping=` end a phase.

# %% [markdown]
# ## Frozen batch norm
#
# A held batch norm has two things that could move: scale and bias, which are parameters and stay, and
# the running statistics, which are not. jaxdeep holds those too, as Keras does: the layers above then
# see the inputs they were trained with. `freeze_batch_norm=False` lets them follow the new data. Here
# network A has a batch norm, and B's head is trained both ways.


# %%
def with_norm(units):
    layers = dict(network(units).layers)
    logits = layers.pop("logits")
    return jd.nn.serial(**layers, norm=jd.nn.batch_norm(momentum=0.9), logits=logits)


norm_a = jd.fit(
    with_norm(8), data_a, loss=jd.losses.softmax_cross_entropy, optimizer=jd.optimizers.adam(1e-3),
    epochs=15, key=jax.random.key(42), progress=False,
)  # fmt: skip
held = jd.sweep(
    lambda hp: {"optimizer": jd.optimizers.adam(1e-2), "freeze_batch_norm": hp["frozen"]},
    {"frozen": [True, False]}, seeds=10, data=data_b, validation=test_b, epochs=20, batch_size=10,
    model=jd.transfer.pretrained(with_norm(1), norm_a.params, norm_a.state), trainable="logits/*",
    validate_every=20, **supervised,
)  # fmt: skip
for frozen in (True, False):
    chosen = [i for i, point in enumerate(held.points) if point["frozen"] is frozen]
    moved = np.abs(held.trained(chosen[0])[1]["norm"]["mean"] - norm_a.state["norm"]["mean"]).max()
    mean, half = interval([held.rows()[i]["val_accuracy"] for i in chosen])
    print(f"frozen={frozen}: running means moved by {moved:.3f}, accuracy {mean:.3f} ± {half:.3f}")

# %% [markdown]
# Held, the running statistics are A's to the bit; otherwise they move. The intervals of the two
# accuracies overlap, so that nothing speaks against the default here. *Let them follow* when the new
# inputs are distributed otherwise (another scanner, another brightness) and there are enough of them to
# estimate a mean.

# %% [markdown]
# ## To and from disk
#
# What is reused was often trained elsewhere. `jd.save` writes architecture, parameters and statistics,
# without pickle; `jd.load` gives all three back.

# %%
with tempfile.TemporaryDirectory() as folder:
    jd.save(f"{folder}/a", with_norm(8), norm_a.params, norm_a.state)
    print(sorted(os.listdir(f"{folder}/a")))
    loaded, params, state = jd.load(f"{folder}/a")
before, _ = with_norm(8).apply(norm_a.params, norm_a.state, test[0])
after, _ = loaded.apply(params, state, test[0])
print("the same outputs:", bool((before == after).all()))

# %% [markdown]
# ## Unlabelled images: greedy pretraining with autoencoders
#
# Without a network A, but with many unlabelled images: `hidden1` learns to reconstruct the pixels, some
# of which are set to 0, through a linear layer that is thrown away, then `hidden2` to reconstruct what
# `hidden1` gives, and so on, one layer at a time. That is `jd.transfer.pretrain_layerwise`. Then the
# network is trained on the few labels.
#
# The question is about few labels, so what has to vary is *which* images have them. Eight networks have
# each its own key, its own pretraining and its own labelled images; on these they are trained side by
# side with `jax.vmap`.

# %%
runs = 8
keys = jax.random.split(jax.random.key(0), runs)
unlabelled = jnp.asarray(x[:2000])
optimizer = jd.optimizers.adam(1e-3)


def stacked(pretrained, names):
    """The layers of these names of all runs, as one stack."""
    own = [{name: params[name] for name in names} for params, _ in pretrained]
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *own)


stack = stacked(
    [
        jd.transfer.pretrain_layerwise(
            network(10), unlabelled, optimizer=optimizer, key=key, epochs=12, batch_size=64
        )
        for key in keys
    ],
    ["hidden1", "hidden2", "hidden3"],
)
print({name: layer["kernel"].shape for name, layer in stack.items()})

# %% [markdown]
# Fine-tuning on 20 and on 100 labelled images, drawn anew for each run. Parameters that begin with
# another run's layers come from `pretrained`, under the same `vmap`.

# %%
counts = (20, 100)
drawn = np.array([np.random.default_rng(run).permutation(len(y)) for run in range(runs)])


def start_all(model, like):
    return jax.vmap(lambda key: jd.train.init(model, optimizer, like[:1], key=key))(keys)


def accuracies(start):
    """Test accuracy of each run, for each number of labels; `start` makes the train states."""
    model = network(10)
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    predict = jax.jit(jax.vmap(lambda params: model.apply(params, {}, test[0])[0].argmax(-1)))
    found = []
    for n in counts:
        data = jnp.asarray(x[drawn[:, :n]]), jnp.asarray(y[drawn[:, :n]])
        epoch = jd.train.make_epoch(jd.train.make_step(objective, optimizer), batch_size=10)
        epoch, ts = jax.jit(jax.vmap(epoch)), start(model)
        for _ in range(30):
            ts, _ = epoch(ts, data)
        found.append((np.asarray(predict(ts.params)) == test[1]).mean(1))
    return np.array(found)


def reusing(layers):
    def begin(model):
        def one(key, params):
            return jd.train.init(jd.transfer.pretrained(model, params, {}), optimizer, x[:1], key=key)

        return jax.vmap(one)(keys, layers)

    return begin


scratch = accuracies(lambda model: start_all(model, x))
greedy = accuracies(reusing(stack))


def compare(**found):
    _, ax = plt.subplots(figsize=(7, 3.2), dpi=80, layout="constrained")
    for i, (name, each) in enumerate(found.items()):
        middles, halves = zip(*map(interval, each))
        at = np.array(counts) * 1.04 ** (i - 1)
        ax.errorbar(at, middles, halves, fmt="o-", capsize=4, label=name.replace("_", " "))
        if i:
            for n, gain in zip(counts, each - found["from_scratch"]):
                mean, half = interval(gain)
                print(
                    f"{name.replace('_', ' ')}, {n} labels: {mean:+.3f} ± {half:.3f} against from scratch"
                )
    ax.set(xlabel="labelled images", ylabel="test accuracy", xscale="log")
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
    ax.legend(loc="lower right")
    plt.show()


compare(from_scratch=scratch, autoencoders=greedy)

# %% [markdown]
# On these images greedy pretraining does not help: with 20 labels it harms a little, by about its
# interval, and with 100 there is no difference to be seen. To reconstruct pixels is not the same as to
# know classes, and with a good initialisation a network this shallow trains without help. It was the way
# to train deep networks before He's initialisation and batch norm; *try it* when unlabelled data abound,
# and compare as here.

# %% [markdown]
# ## Unlabelled images: an auxiliary task
#
# Another task for which labels cost nothing: turn each image by 0, 90, 180 or 270 degrees and let the
# network say which: `jd.transfer.pretrain_on_task` puts a head of that task in the place of its own, and
# throws it away afterwards. What it learns about shapes for that may be of use for the labels. The two lower
# hidden layers are reused, the third and the head are drawn anew: upper layers know most about the task
# they were trained on.

# %%
turned = jnp.concatenate([jnp.rot90(unlabelled, k, axes=(1, 2)) for k in range(4)])
turns = jnp.repeat(jnp.arange(4), len(unlabelled))
told = []
begun = [
    jd.transfer.pretrain_on_task(
        network(10), (turned, turns), head=jd.nn.dense(4), optimizer=optimizer, key=key,
        loss=jd.losses.softmax_cross_entropy, metrics={"told": jd.metrics.accuracy},
        epochs=10, batch_size=128, log=lambda values, step: told.append(values["told"]), progress=False,
    )
    for key in keys
]  # fmt: skip
print("turns told right on the training images:", round(np.mean(told[9::10]), 3))
lower = stacked(begun, ["hidden1", "hidden2"])
compare(from_scratch=scratch, autoencoders=greedy, rotations=accuracies(reusing(lower)))

# %% [markdown]
# The turns are learned well, and the reused layers gain nothing that this experiment can show: each
# difference is smaller than its interval. The spread comes from *which* images are labelled; a few more
# labels are worth far more than either pretraining, as the step from 20 to 100 shows. Auxiliary tasks
# pay where networks are deeper, images larger and unlabelled images many; the comparison to make stays
# this one.

# %% [markdown]
# ## In short
#
# | You have | Do |
# | --- | --- |
# | a network for a related task, few labels | `pretrained` or `replace_head`; hold the layers below first (`trainable=`) |
# | the same, and somewhat more labels | `phases=`: the head, then all at a tenth of the rate or less |
# | lower layers that should change least | `layerwise_decay` at the end of the chain |
# | batch norms in what you hold | leave `freeze_batch_norm=True`, unless the new inputs are distributed otherwise |
# | only unlabelled images | `pretrain_on_task` or `pretrain_layerwise`, *beside* from scratch, over draws of the labels |
# | a gain smaller than its interval | nothing yet: more seeds, or from scratch |
#
# Functions: `jd.transfer.pretrained`, `replace_head`, `take_layers`, `drop_layers`, `layerwise_decay`,
# `pretrain_layerwise`, `pretrain_on_task`, `jd.train.Phase`, `jd.save`, `jd.load`, `jd.sweep`. Next: [05, optimizers](05_optimizers.ipynb).
