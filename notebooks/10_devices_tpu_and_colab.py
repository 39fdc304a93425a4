# %% [markdown]
# # 10 · Several devices, TPU and Colab
#
# The same program on one core, on several GPUs, or on a TPU that Colab takes away in the middle of a
# run. Afterwards you can say which of `mesh=`, `shard=`, a memory map, `checkpoint=` and
# `mixed_precision` a training needs, and which it does not.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/10_devices_tpu_and_colab.ipynb)

# %%
import importlib.util
import os
import platform
import subprocess
import sys

if importlib.util.find_spec("jaxdeep") is None:  # in Colab: about half a minute
    source = "jaxdeep[datasets,plot,checkpoint,data] @ git+https://github.com/jaxdeep/jaxdeep"
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

# %% [markdown]
# ## What runs where
#
# JAX takes the best devices it finds: TPUs, else GPUs, else the CPU. Nothing in a program names them. In
# Colab the kind is chosen under Runtime → Change runtime type, before anything is run. The installation
# above leaves Colab's JAX as it is, with the plugin that belongs to it: jaxdeep runs on jax 0.7.2 and newer.
# The next cell says what was found.
#
# Most of this notebook needs several devices. A CPU can pretend to be some: `jax_num_cpu_devices`, set
# before the first computation (or the environment variable
# `XLA_FLAGS=--xla_force_host_platform_device_count=4`, set before JAX is imported). They share the same
# cores, so they are for trying out and for tests, and nothing gets faster.

# %%
import pathlib
import tempfile

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxdeep as jd

jax.config.update("jax_num_cpu_devices", 4)  # no effect on GPUs and TPUs
devices = jax.devices()
kind = devices[0].device_kind
print(
    f"JAX {jax.__version__} on {len(devices)} × {kind} ({jax.default_backend()}), {jax.process_count()} process"
)

real = "JAXDEEP_DATA" in os.environ or "google.colab" in sys.modules
train, validation, test = jd.datasets.load("fashion-mnist" if real else "digits")
train = train[0][:10_000], train[1][:10_000]

model = jd.nn.serial(
    flatten=jd.nn.flatten(),
    hidden1=jd.nn.dense(128, activation=jax.nn.relu),
    hidden2=jd.nn.dense(128, activation=jax.nn.relu),
    logits=jd.nn.dense(10),
)


def fit(data=train, epochs=6, **more):
    return jd.fit(
        model, data, validation=validation, loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy}, optimizer=jd.optimizers.adam(1e-3), epochs=epochs,
        batch_size=32, key=jax.random.key(0), progress=False, **more,
    )  # fmt: skip


# %% [markdown]
# ## More data a second: `mesh=`
#
# A mesh is an array of devices with named axes. `fit(mesh=…)` splits every batch over the axis `data`
# and copies the parameters to all; the gradients are summed across devices in the middle of the step.
# The batch is the one you asked for, so that the numbers are those of one device: a *different* batch
# size is your decision, not the mesh's. The batch size must be a multiple of the devices.

# %%
mesh = jax.make_mesh((len(devices),), ("data",))
alone, spread = fit(), fit(mesh=mesh)

fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3), dpi=80, layout="constrained")
epochs = np.arange(1, 7)
left.plot(epochs, alone.history["val_loss"], linewidth=5, alpha=0.35, label="one device")
left.plot(epochs, spread.history["val_loss"], "k--", linewidth=1, label=f"mesh of {len(devices)}")
left.set(xlabel="epoch", ylabel="validation loss")
left.legend()
apart = np.abs(spread.history["val_loss"] / alone.history["val_loss"] - 1)
right.plot(epochs, np.maximum(apart, 1e-9), "o-")
right.axhline(np.finfo(np.float32).eps, color="grey", linestyle=":")
right.text(1, 1.3 * np.finfo(np.float32).eps, "spacing of float32 at 1", va="bottom")
right.set(xlabel="epoch", ylabel="relative difference of the loss", yscale="log", ylim=(1e-9, 1e-3))
plt.show()

# %% [markdown]
# The curves lie on each other. What differs, on the right, is rounding: sums over the batch are taken in
# another order (equal losses are drawn at the lower edge). *Use `mesh=`* where one device is busy all
# the time, which a network of this size on an accelerator is not: there the devices would mostly wait
# for each other. For many small runs, `jd.sweep` uses them better, a share of the rows on each.

# %% [markdown]
# ## A model too large for one device: `shard=`
#
# With a second axis, `model`, the parameters that `shard=` selects are split along their longest axis
# that the devices divide, and with them what the optimizer keeps for each: for Adam two more numbers a
# parameter.

# %%
grid = jax.make_mesh((len(devices) // 2, 2) if len(devices) > 1 else (1, 1), ("data", "model"))
split = fit(mesh=grid, shard="hidden*/kernel")
for name in ("hidden1", "hidden2", "logits"):
    print(name, split.params[name]["kernel"].shape, split.params[name]["kernel"].sharding.spec)


def bytes_on_first(result):
    kept = result.train_state.params, result.train_state.opt_state
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(kept))


held = {"one device": alone, 'mesh=("data",)': spread, 'shard="hidden*/kernel"': split}
fig, ax = plt.subplots(figsize=(7, 2.2), dpi=80, layout="constrained")
ax.barh(list(held), [bytes_on_first(result) / 1024 for result in held.values()], height=0.5)
ax.invert_yaxis()
ax.set(xlabel="parameters and optimizer state on the first device, KiB")
plt.show()
print(
    "largest relative difference:",
    float(np.abs(split.history["loss"] / alone.history["loss"] - 1).max()),
)

# %% [markdown]
# A data mesh saves no memory: every device holds everything. Splitting does, and pays with communication
# in each layer. *Use `shard=`* only when parameters and optimizer do not fit, and begin with the widest
# layers.

# %% [markdown]
# ## Data larger than memory
#
# A NumPy memory map is an array on disk. `fit` reads its rows when they are due, in blocks, one being
# read while another is computed, and shuffles over the whole file. The batches are those of the array in
# memory.

# %%
folder = tempfile.TemporaryDirectory()
path = pathlib.Path(folder.name)
np.save(path / "x.npy", train[0])
on_disk = np.load(path / "x.npy", mmap_mode="r")
streamed = fit(data=(on_disk, train[1]))
same = np.array_equal(streamed.history["loss"], alone.history["loss"])
print(type(on_disk).__name__, "gives the same losses:", same)
print("largest difference:", np.abs(streamed.history["loss"] - alone.history["loss"]).max())

# %% [markdown]
# What has to be decoded or augmented on the host comes as an iterable of batches, `steps_per_epoch` of
# them an epoch. A loader with a state of its own, as Grain's have, is put back where a checkpoint left
# it.

# %%
if importlib.util.find_spec("grain") is not None:  # pip install grain
    import grain

    rows = grain.MapDataset.source(list(zip(*train))).seed(0).shuffle().repeat()
    batches = iter(rows.to_iter_dataset().batch(32))
    loaded = fit(data=batches, epochs=2, steps_per_epoch=len(train[1]) // 32)
    print("validation accuracy from Grain:", loaded.history["val_accuracy"].round(3))

# %% [markdown]
# *Use* arrays on the device as long as they fit, then memory maps, and a loader only for what a file of
# rows cannot hold.

# %% [markdown]
# ## Interrupted, and going on: `checkpoint=`
#
# Colab ends a session when it likes. With `checkpoint=` the whole run (parameters, optimizer, key,
# history, early stopping) is saved after every epoch; the same call, made again, goes on
# from there. Here the interruption is a callback that raises one. In Colab, let the directory be on a
# mounted Drive.


# %%
def interrupt(now):
    if now.epoch == 3:
        raise KeyboardInterrupt


try:
    fit(checkpoint=path / "run", callbacks=[interrupt])
except KeyboardInterrupt:
    print("interrupted; saved:", sorted(p.name for p in (path / "run").iterdir()))

resumed = fit(checkpoint=path / "run")  # the same call
bits = jax.tree.map(lambda a, b: bool((a == b).all()), resumed.params, alone.params)
print(len(resumed.history["loss"]), "epochs; the same bits as without the interruption:", bits)

# %% [markdown]
# A directory belongs to one run: with another model, other data or another batch size it is refused, and
# the message says what differs. Only `epochs` may grow.

# %% [markdown]
# ## `mixed_precision`
#
# The matrix units of GPUs and TPUs multiply bfloat16 several times faster than float32, and half the
# bytes are moved. `jd.nn.mixed_precision(model)` computes in bfloat16 and keeps parameters, statistics,
# optimizer and gradients in float32. bfloat16 has float32's range, so that no loss has to be scaled.
# Does it cost accuracy? Five seeds each:

# %%
table = jd.sweep(
    lambda hp: {
        "model": jd.nn.mixed_precision(model) if hp["precision"] == "bfloat16" else model,
        "optimizer": jd.optimizers.adam(1e-3),
    },
    {"precision": ["float32", "bfloat16"]}, seeds=5, data=train, validation=validation, epochs=6,
    loss=jd.losses.softmax_cross_entropy, metrics={"accuracy": jd.metrics.accuracy}, progress=False,
    strategy="threads",
)  # fmt: skip
for row in table.over_seeds():
    mean, sd = row["val_accuracy_mean"], row["val_accuracy_std"]
    print(f"{row['precision']}: validation accuracy {mean:.3f}, standard deviation over seeds {sd:.3f}")

folder.cleanup()

# %% [markdown]
# The means are apart by less than the spread of the seeds. *Use it* on GPUs and TPUs when large products
# take the time; on a CPU there are seldom units for it. Compare the accuracy as here, and the time on
# the device you will use, before relying on it.

# %% [markdown]
# ## What changes on a TPU
#
# From the documentation of JAX and of the devices, not measured in this notebook:
#
# - `jax.devices()` lists its cores: eight on a v2-8 or v3-8, fewer on newer kinds. The mesh above is all it takes.
# - A float32 product is computed in bfloat16 by default. `jax.default_matmul_precision("float32")` around a
#   computation gives it back, at a price; look at it first when a result differs from a CPU's.
# - float64 is emulated, and slow.
# - Shapes are padded to tiles (128 in the last axis): 128 units cost what 100 do.
# - A first compilation takes longer; `jax.config.update("jax_compilation_cache_dir", …)` keeps it for the next.
# - `jd.sweep` stacks its rows with `vmap`, spread over the cores, instead of running them in threads.
# - The host reads and ships every streamed batch: arrays that fit are best left on the device.
#
# ## Several hosts
#
# The program is the same in each process; the mesh spans all devices:
#
# ```python
# import jax
# jax.distributed.initialize()  # on a TPU pod nothing else; elsewhere address, number of processes, own number
# import jaxdeep as jd
#
# mesh = jax.make_mesh((jax.device_count(),), ("data",))
# result = jd.fit(…, mesh=mesh, checkpoint="/shared/run")  # a path that all of them see
# if jax.process_index() == 0:
#     print(result.history["val_accuracy"])
# ```
#
# Arrays must be the same in every process, and each reads its part of every batch; an iterable gives
# each process's own share.
#
# ## In short
#
# | Situation | Use |
# | --- | --- |
# | fits on a device, finishes soon | nothing of this |
# | many small runs | `jd.sweep`, which spreads its rows |
# | a large batch on each step, several devices | `mesh=` with an axis `data` |
# | parameters and optimizer do not fit | `shard=`, axes `data` and `model` |
# | data do not fit | a memory map; a loader if rows must be decoded |
# | sessions that end early | `checkpoint=` on a disk that stays |
# | GPU or TPU, time spent in large products | `mixed_precision` |
#
# Functions: `jd.fit`, `jd.sweep`, `jd.nn.mixed_precision`, `jax.make_mesh`. Next:
# [11, from Keras to jaxdeep](11_from_keras.ipynb).
