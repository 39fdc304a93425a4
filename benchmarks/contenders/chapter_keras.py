"""The chapter's rows as its book runs them: `model.compile` and `model.fit`, Keras on JAX, one run each.

Each gives the accuracies that the table has. Networks, optimizers and numbers of epochs are those of
`benchmarks.headline`; the loss is on probabilities, as in the book.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import functools

import keras
import numpy as np
from keras import layers, optimizers

from benchmarks import transfer
from benchmarks.headline import STEPS, images

schedules = optimizers.schedules


class OneCycle(schedules.LearningRateSchedule):
    """That of `jaxdeep.schedules.one_cycle`."""

    def __init__(self, peak, steps):
        from jaxdeep.schedules import one_cycle

        self.schedule = one_cycle(peak, steps)

    def __call__(self, step):
        return self.schedule(keras.ops.convert_to_tensor(step))


def dense(units, activation="relu", init="he_normal", **arguments):
    return layers.Dense(units, activation=activation, kernel_initializer=init, **arguments)


def three_hundreds():
    return [dense(100), dense(100), dense(100)]


def selu():
    return [dense(300, "selu", "lecun_normal"), dense(100, "selu", "lecun_normal")]


def hundred(activation, init):
    return [dense(300, activation, init), *(dense(100, activation, init) for _ in range(99))]


def with_batch_norm():
    hidden = [layers.BatchNormalization()]
    for units in (300, 100):
        hidden += [dense(units, None, use_bias=False), layers.BatchNormalization()]
        hidden += [layers.Activation("relu")]
    return hidden


def with_dropout():
    drop = functools.partial(layers.Dropout, 0.2)
    return [drop(), dense(100), drop(), dense(100), drop()]


def with_max_norm():
    limit = keras.constraints.MaxNorm(1.0)
    return [dense(100, kernel_constraint=limit), dense(100, kernel_constraint=limit)]


def network(hidden, head):
    return keras.Sequential([keras.Input((28, 28)), layers.Flatten(), *hidden, head])


def trained(hidden, optimizer, epochs, *, standardized=False, batch_size=32, callbacks=()):
    """The network and its validation accuracy at the end."""
    train, validation, _ = images(standardized)
    model = network(hidden, dense(10, "softmax", "glorot_uniform"))
    model.compile(loss="sparse_categorical_crossentropy", optimizer=optimizer, metrics=["accuracy"])
    history = model.fit(
        *train, validation_data=validation, epochs=epochs, batch_size=batch_size, verbose=0,
        callbacks=list(callbacks),
    )  # fmt: skip
    return model, history.history["val_accuracy"][-1]


def run(hidden, optimizer, epochs, **arguments):
    return lambda: {"validation": trained(hidden(), optimizer(), epochs, **arguments)[1]}


def dropout_row():
    """The book's `MCDropout` by its loop of `model(x, training=True)`."""
    model, found = trained(with_dropout(), optimizers.SGD(0.01, momentum=0.9), 10)
    x, y = images()[2]
    samples = np.stack([np.asarray(model(x, training=True)) for _ in range(100)])
    once = model.predict(x, verbose=0, batch_size=1000).argmax(-1)
    test = {"test": once, "test, MC": samples.mean(0).argmax(-1)}
    return {"validation": found} | {name: float((p == y).mean()) for name, p in test.items()}


def transfer_row():
    data_a, validation_a, data_b, test_b = transfer.tasks()

    def head(units, activation):
        return dense(units, activation, "glorot_uniform")

    def fit(model, loss, data, validation, epochs):
        how = {"optimizer": optimizers.SGD(transfer.RATE), "metrics": ["accuracy"]}
        model.compile(loss=loss, **how)
        history = model.fit(*data, validation_data=validation, epochs=epochs, verbose=0)
        return history.history["val_accuracy"][-1]

    a = network(three_hundreds(), head(8, "softmax"))
    fit(a, "sparse_categorical_crossentropy", data_a, validation_a, transfer.EPOCHS)
    scratch = network(three_hundreds(), head(1, "sigmoid"))
    found = {"test, from scratch": fit(scratch, "binary_crossentropy", data_b, test_b, transfer.EPOCHS)}
    lower = keras.models.clone_model(a)
    lower.set_weights(a.get_weights())
    b = network(lower.layers[1:-1], head(1, "sigmoid"))
    held = transfer.HELD_EPOCHS
    for trainable, epochs in ((False, held), (True, transfer.EPOCHS - held)):
        for layer in b.layers[:-1]:
            layer.trainable = trainable
        found["test, reused"] = fit(b, "binary_crossentropy", data_b, test_b, epochs)
    return found


def scheduled(schedule):
    return run(three_hundreds, lambda: optimizers.SGD(schedule()), 10)


def with_rate(optimizer, **arguments):
    return run(three_hundreds, lambda: optimizer(learning_rate=1e-3, **arguments), 10)


ROWS = {
    "selu100": run(lambda: hundred("selu", "lecun_normal"), lambda: optimizers.SGD(1e-3), 5,
                   standardized=True),
    "relu100": run(lambda: hundred("relu", "he_normal"), lambda: optimizers.SGD(1e-3), 5,
                   standardized=True),
    "bn": run(with_batch_norm, lambda: optimizers.SGD(0.01), 2),
    "transfer": transfer_row,
    "momentum": with_rate(optimizers.SGD, momentum=0.9),
    "nesterov": with_rate(optimizers.SGD, momentum=0.9, nesterov=True),
    "adagrad": with_rate(optimizers.Adagrad),
    "rmsprop": with_rate(optimizers.RMSprop),
    "adam": with_rate(optimizers.Adam),
    "adamax": with_rate(optimizers.Adamax),
    "nadam": with_rate(optimizers.Nadam),
    "adamw": with_rate(optimizers.AdamW),
    "power": scheduled(lambda: schedules.InverseTimeDecay(0.01, 10_000, 1.0)),
    "exponential": scheduled(lambda: schedules.ExponentialDecay(0.01, 20 * STEPS, 0.1)),
    "piecewise": scheduled(
        lambda: schedules.PiecewiseConstantDecay([5 * STEPS, 15 * STEPS], [0.01, 0.005, 0.001])),
    "performance": run(
        selu, lambda: optimizers.SGD(0.02, momentum=0.9), 25, standardized=True,
        callbacks=[keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=5)]),
    "onecycle": run(selu, lambda: optimizers.SGD(OneCycle(0.05, 25 * -(-55_000 // 128))), 25,
                    standardized=True, batch_size=128),
    "dropout": dropout_row,
    "maxnorm": run(with_max_norm, lambda: optimizers.SGD(0.01, momentum=0.9), 10),
}  # fmt: skip
