# %% [markdown]
# # 11 · From Keras to jaxdeep, call by call
#
# What you write in Keras, and what it becomes here: the same network, the same equations, and where a default
# differs. Afterwards you can translate a training script line by line, and know what to look at twice.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/11_from_keras.ipynb)

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
import optax

import jaxdeep as jd

real = "JAXDEEP_DATA" in os.environ or "google.colab" in sys.modules
train, validation, test = jd.datasets.load("fashion-mnist" if real else "digits")
x, y = train

# %% [markdown]
# ## The model
#
# | Keras | jaxdeep |
# | --- | --- |
# | `Sequential([...])` | `jd.nn.serial(...)`; layers named by keyword, or `dense0`, `dense1`, … |
# | `Flatten()`, `Dense(100, activation="relu")` | `jd.nn.flatten()`, `jd.nn.dense(100, activation=jax.nn.relu)` |
# | `kernel_initializer="he_normal"` | the default for ReLU; else `kernel_init=jd.nn.initializers.he_normal()` |
# | `BatchNormalization()` | `jd.nn.batch_norm(epsilon=1e-3)`: our ε is 1e-5 |
# | `Dropout(0.2)`, `AlphaDropout(0.2)` | `jd.nn.dropout(0.2)`, `jd.nn.alpha_dropout(0.2)` |
# | `Dense(10, activation="softmax")` | `jd.nn.dense(10)`: the loss takes logits, which is exact where a softmax rounds to 0 |
# | `Add()`, `Concatenate()`, two inputs | `jd.nn.residual`, `jd.nn.concatenate`, `jd.nn.select` |
# | `model.summary()` | `print(jd.nn.summary(model, x[:1]))` |
#
# A Keras model *holds* its weights. Here a model is two functions, and what it has learned is a value beside
# it: you can keep two versions, average them, or train a hundred at once.

# %%
model = jd.nn.serial(
    flatten=jd.nn.flatten(),
    hidden1=jd.nn.dense(100, use_bias=False, kernel_init=jd.nn.initializers.he_normal()),
    bn1=jd.nn.batch_norm(epsilon=1e-3),
    act1=jd.nn.activation(jax.nn.relu),
    drop1=jd.nn.dropout(0.2),
    logits=jd.nn.dense(10),
)
print(jd.nn.summary(model, x[:1]))

# %% [markdown]
# ## compile and fit
#
# `compile` does not exist: what it takes are arguments of `fit`, and nothing is kept between calls but
# `result.training`, a dict of these arguments, with which another `fit` goes on.
#
# | Keras | jaxdeep |
# | --- | --- |
# | `loss="sparse_categorical_crossentropy"` | `loss=jd.losses.softmax_cross_entropy` (labels or one-hot) |
# | `metrics=["accuracy"]` | `metrics={"accuracy": jd.metrics.accuracy}` |
# | `SGD(0.01, momentum=0.9)` | `jd.optimizers.sgd(0.01, momentum=0.9)` |
# | `SGD(…, nesterov=True)` | `jd.optimizers.sgd(…, nesterov=True)`, or `nag`, whose parameters are the true iterates |
# | `Adam(1e-3)` (ε 1e-7) | `jd.optimizers.adam(1e-3)`; Keras' numbers: `eps=1e-7, eps_mode="uncorrected"` |
# | `SGD(…, clipnorm=1.0)`, `clipvalue`, `global_clipnorm` | `optax.chain(jd.optimizers.clip_by_norm(1.0), …)`, `clip_by_value`, `clip_by_global_norm` |
# | `kernel_regularizer=l2(1e-4)` | `penalty=jd.regularizers.l2(1e-4, where="*/kernel")` |
# | `kernel_constraint=max_norm(1.)` | `jd.optimizers.max_norm(1.0, where="hidden*/kernel")`, last in the chain |
# | `LearningRateScheduler`, `ExponentialDecay` | the rate is a function of the step: `jd.schedules.exponential(…)` |
# | `ReduceLROnPlateau(factor=0.5, patience=5)` | `plateau=jd.train.ReduceOnPlateau(factor=0.5, patience=5)` |
# | `EarlyStopping(patience=5, restore_best_weights=True)` | `early_stopping=jd.train.EarlyStopping(patience=5)` |
# | `ModelCheckpoint`, `BackupAndRestore` | `checkpoint="runs/a"`: run it again and it goes on, to the same bits |
# | `TensorBoard(logdir)` | `callbacks=[jd.adapters.to_tensorboard(logdir)]` |
# | `CSVLogger("log.csv", append=True)` | `log=jd.adapters.to_csv("log.csv")` |
# | `class_weight`, `sample_weight` | `class_weight=`, `data=(x, y, weights)` |
# | `validation_split=0.1` | `validation=0.1`: rows at random, where Keras takes the last ones; or `validation=(x_val, y_val)` |
# | `tf.random.set_seed(42)` | `key=jax.random.key(42)`, an argument |

# %%
result = jd.fit(
    model,
    train,
    validation=validation,
    loss=jd.losses.softmax_cross_entropy,
    metrics={"accuracy": jd.metrics.accuracy},
    optimizer=optax.chain(
        jd.optimizers.clip_by_global_norm(1.0),
        jd.optimizers.sgd(0.02, momentum=0.9, nesterov=True),
        jd.optimizers.max_norm(3.0, where="hidden*/kernel"),
    ),
    penalty=jd.regularizers.l2(1e-4, where="*/kernel"),
    plateau=jd.train.ReduceOnPlateau(factor=0.5, patience=3),
    early_stopping=jd.train.EarlyStopping(patience=8),
    epochs=30,
    key=jax.random.key(42),
    progress=False,
)
history = result.history  # a dict of arrays, as Keras' history.history
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3), dpi=80, layout="constrained")
epochs = np.arange(1, len(history["loss"]) + 1)
left.plot(epochs, history["loss"], label="training")
left.plot(epochs, history["val_loss"], label="validation")
left.axvline(result.best_epoch + 1, color="grey", linestyle=":", label="best epoch, restored")
left.set(xlabel="epoch", ylabel="loss", yscale="log")
left.legend()
right.step(epochs, history["learning_rate"], where="mid")
right.set(xlabel="epoch", ylabel="learning rate")
plt.show()

# %% [markdown]
# The right panel is what Keras shows only with a callback: the rate in force is in the history, because it is a
# leaf of the optimizer's state. It can be read and set without retracing.

# %%
state = result.train_state.opt_state
print({name: round(float(value), 4) for name, value in jd.optimizers.hyperparams(state).items()})

# %% [markdown]
# ## predict, evaluate, training=True
#
# | Keras | jaxdeep |
# | --- | --- |
# | `model.predict(x)` | `result.predict(x)`, or `jd.predict(model, params, state, x)`; `output="probability"`, `output="class"` |
# | `model.evaluate(x, y)` | `result.evaluate((x, y))`, or `jd.evaluate(model, params, state, (x, y), loss=…, metrics=…)` |
# | `model(x, training=True)` | *two* switches: `train=True` for batch statistics, `key=` for randomness |
# | a subclass of `Dropout` for MC dropout | `jd.uncertainty.mc_dropout(model, params, state, x, key=…, samples=100)` |
#
# In Keras `training=True` switches dropout *and* batch norm, so that MC dropout on a network with batch norm
# also normalises by the batch it happens to be in. A key without `train` cannot do that.

# %%
params, model_state = result.params, result.state
classes = result.predict(test[0], output="class")
print("test accuracy", round(float((classes == test[1]).mean()), 3))

sample, after = model.apply(params, model_state, test[0], key=jax.random.key(1))
same = jax.tree.map(lambda a, b: bool((a == b).all()), model_state, after)
print("an MC dropout sample leaves the statistics alone:", same)

# %% [markdown]
# ## Freezing, transfer, saving
#
# | Keras | jaxdeep |
# | --- | --- |
# | `layer.trainable = False`, then `compile` again | `fit(trainable="logits/*")`: no gradient, no optimizer state for the rest |
# | `clone_model` and `set_weights` | `clone = params`: arrays do not change |
# | `Sequential(model_a.layers[:-1])` and a new `Dense` | `jd.transfer.replace_head(model, params, state, jd.nn.dense(1), x[:1], key=…)` |
# | unfreeze and `compile` at a lower rate | `fit(phases=[(5, "logits/*", 1e-2), (10, None, 1e-3)])` |
# | `model.save("m.keras")`, `load_model` | `jd.save("m", model, params, state)`, `jd.load("m")`; with `training=result.training` and `training=True`, the optimizer and the rest of `compile`, too |
# | a `.keras` file that you have | `jd.adapters.from_keras("m.keras")`, without Keras; `to_keras` writes one |
# | `GradientTape` | `jax.grad`; a training loop is `jax.jit(jd.train.make_step(objective, optimizer))` |

# %%
binary, new_params, new_state = jd.transfer.replace_head(
    model, params, model_state, jd.nn.dense(1), x[:1], key=jax.random.key(5)
)
small = (x[:200], (y[:200] % 2).astype(np.float32)[:, None])  # odd or even, from 200 examples
odd = jd.fit(
    binary, small, params=new_params, state=new_state, trainable="logits/*",
    loss=jd.losses.sigmoid_cross_entropy, optimizer=jd.optimizers.adam(1e-2), epochs=20,
    key=jax.random.key(6), progress=False,
)  # fmt: skip
outputs, _ = binary.apply(odd.params, odd.state, test[0])
right = float(((outputs[:, 0] > 0) == (test[1] % 2 == 1)).mean())
print("odd or even, on the test images:", round(right, 3))

# %% [markdown]
# ## In short: what to look at twice
#
# | | Keras | here |
# | --- | --- | --- |
# | ε of batch norm | 1e-3 | 1e-5 |
# | momentum | the rate is inside: m = βm − ηg | outside, as in PyTorch and optax; `lr_in_trace=True` is Keras' |
# | ε of Adam | 1e-7, beside the uncorrected root | 1e-8, beside the corrected one |
# | initialiser of `Dense` | Glorot uniform, always | what suits the activation |
# | padding of `Conv2D` | "valid" | "SAME" |
# | last batch, order | short one counted by its weight; shuffled | the same |
# | a layer's `activity_regularizer` | on the layer | `activity=`, by the layer's path |
#
# Your own layers, losses and loops: [09](09_your_own_loop.ipynb). Flax modules need no translation:
# `jd.adapters.from_linen(module)`. Next: [12, searching hyperparameters](12_searching_hyperparameters.ipynb).
