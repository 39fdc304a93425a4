"""Keras on JAX, `model.fit`."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras

from benchmarks.contenders import tell
from benchmarks.contenders.variants import BATCH, DEPTH, DROPOUT, RATE


def network(kind):
    layers = keras.layers
    if kind == "deep":
        deep = [layers.Dense(100, "selu", kernel_initializer="lecun_normal") for _ in range(DEPTH + 1)]
        return [*deep, layers.Dense(10)]
    if kind == "conv":
        return [
            layers.Conv2D(16, 3, padding="same", activation="relu", kernel_initializer="he_normal"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu", kernel_initializer="he_normal"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    found = []
    for _ in range(3):
        found += [layers.Dropout(DROPOUT)] if kind == "dropout" else []
        found += [layers.Dense(100, kernel_initializer="he_normal")]
        found += [layers.BatchNormalization()] if kind == "bn" else []
        found += [layers.Activation("relu")]
    found += [layers.Dropout(DROPOUT)] if kind == "dropout" else []
    return [*found, layers.Dense(10)]


def train(variant, data, epochs, *, steps_per_execution, rate=RATE):
    model = keras.Sequential(network(variant.name))
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.Adam(rate),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
    )
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: tell(logs["loss"], logs["accuracy"])
    )
    model.fit(*data, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[callback])
