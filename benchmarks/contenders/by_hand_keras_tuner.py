"""The study of `benchmarks.compare_by_hand` in Keras on JAX and Keras Tuner."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import tempfile

import keras
import keras_tuner
from keras import layers, optimizers

OPTIMIZERS = {
    "sgd": lambda hp: optimizers.SGD(log(hp, "rate", 1e-3, 10.0)),
    "nag": lambda hp: optimizers.SGD(
        log(hp, "rate", 1e-4, 1.0), momentum=1 - log(hp, "rest", 5e-3, 0.5), nesterov=True
    ),
    "rmsprop": lambda hp: optimizers.RMSprop(
        log(hp, "rate", 1e-5, 1e-1), rho=1 - log(hp, "rest", 1e-3, 0.5), epsilon=1e-8
    ),
    "adam": lambda hp: optimizers.Adam(
        log(hp, "rate", 1e-5, 1e-1), beta_1=1 - log(hp, "rest", 1e-2, 0.5), epsilon=1e-8
    ),
}


def log(hp, name, low, high):
    return hp.Float(name, low, high, sampling="log")


def network(optimizer):
    hidden = [layers.Dense(100, "relu", kernel_initializer="he_normal") for _ in range(3)]
    model = keras.Sequential([layers.Input((64,)), *hidden, layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def study(train, validation, test, *, budget, epochs, seeds, seed):
    """The test accuracies of each optimizer, and what the answer says."""
    found = {}
    for name, optimizer in OPTIMIZERS.items():

        def build(hp, optimizer=optimizer):
            return network(optimizer(hp))

        with tempfile.TemporaryDirectory() as folder:
            tuner = keras_tuner.RandomSearch(
                build, "val_accuracy", max_trials=budget, seed=seed, directory=folder
            )
            tuner.search(*train, epochs=epochs, batch_size=32, validation_data=validation, verbose=0)
        best = tuner.get_best_hyperparameters()[0]
        found[name] = []
        for number in range(seeds):
            keras.utils.set_random_seed(1000 * seed + number)
            model = build(best)
            model.fit(*train, epochs=epochs, batch_size=32, verbose=0)
            found[name].append(model.evaluate(*test, verbose=0)[1])
    means = {name: sum(values) / len(values) for name, values in found.items()}
    best = max(means, key=means.get)
    return found, f"{best} has the best mean, {means[best]:.4f}"
