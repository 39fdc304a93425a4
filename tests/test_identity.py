"""Keys of computations: where a value that a user's function reads was changed, the key is another."""

import abc
import collections
import enum
import sys
import types
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep._identity import key_of

CONFIG = types.ModuleType("config_of_a_user")
exec(  # as a file of the user's
    "scale = 1.0\ndef scaled(x): return scale * x\nclass Options:\n    scale = 1.0\n", CONFIG.__dict__
)
CONFIG.Options.__module__ = CONFIG.__name__


class Options:
    scale = 1.0


class Slots:
    __slots__ = ("scale",)

    def __call__(self, x):
        return self.scale * x


class Kind(enum.Enum):
    BIG = 1.0


class Pair(NamedTuple):
    scale: float


class Abstract(abc.ABC):
    @abc.abstractmethod
    def scaled(self): ...


QUEUE = collections.deque([1.0])
SLOTS = Slots()
SLOTS.scale = 1.0


def of_a_module(x):
    return CONFIG.scale * x


def of_a_function_of_a_module(x):
    return CONFIG.scaled(x)


def of_a_helper(x):
    return of_a_module(x)


def of_a_class(x):
    return Options.scale * x


def of_a_class_of_a_module(x):
    return CONFIG.Options.scale * x


def of_its_own(x):
    return of_its_own.scale * x


def of_an_import(x):
    import config_of_a_user

    return config_of_a_user.scale * x


def of_a_queue(x):
    return QUEUE[0] * x


def closed_over():
    config = CONFIG
    return lambda x: config.scale * x


of_its_own.scale = 1.0
READERS = [
    (of_a_module, CONFIG),
    (of_a_function_of_a_module, CONFIG),
    (of_a_helper, CONFIG),
    (closed_over(), CONFIG),
    (of_an_import, CONFIG),
    (of_a_class, Options),
    (of_a_class_of_a_module, CONFIG.Options),
    (of_its_own, of_its_own),
]


@pytest.mark.parametrize(
    ("function", "place"), READERS, ids=lambda thing: getattr(thing, "__name__", "")
)
def test_what_a_function_reads_counts_wherever_it_stands(function, place, monkeypatch):
    monkeypatch.setitem(sys.modules, CONFIG.__name__, CONFIG)
    before = key_of(function)
    assert before.usable
    assert before == key_of(function)
    monkeypatch.setattr(place, "scale", 2.0)
    assert before != key_of(function)
    monkeypatch.setattr(place, "scale", 1.0)
    assert before == key_of(function)


def test_values_in_slots_count(monkeypatch):
    before = key_of(SLOTS)
    monkeypatch.setattr(SLOTS, "scale", 2.0)
    assert before != key_of(SLOTS)


def test_what_is_not_understood_matches_nothing():
    before = key_of(of_a_queue)
    QUEUE[0] = 2.0
    assert before != key_of(of_a_queue)
    QUEUE[0] = 1.0


def test_objects_of_libraries_that_may_change_count():
    every = {"steps": 1}
    tx = optax.MultiSteps(optax.sgd(0.1), lambda step: every["steps"]).gradient_transformation()
    polynomial = np.polynomial.Polynomial([0.0, 1.0])

    def coefficient():
        return polynomial.coef[1]

    before, before_coefficient = key_of(tx.update), key_of(coefficient)
    assert (before, before_coefficient) == (key_of(tx.update), key_of(coefficient))
    every["steps"], polynomial.coef[1] = 3, 2.0
    assert before != key_of(tx.update)
    assert before_coefficient != key_of(coefficient)


def test_functions_of_libraries_that_were_replaced_count(monkeypatch):
    def loss(x):
        return jd.losses.mse(jax.nn.relu(x), x)

    before = key_of(loss)
    assert before == key_of(loss)
    for module, name in ((jax.nn, "relu"), (jd.losses, "mse")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, lambda *x: x[0])
            assert before != key_of(loss)
        assert before == key_of(loss)


def of_numpy(shape):
    return np.random.normal(size=shape)  # noqa: NPY002


def of_an_import_of_numpy(shape):
    import numpy

    return numpy.random.normal(size=shape)  # noqa: NPY002


def of_python(shape):
    from random import uniform

    return uniform(0, 1)


def of_a_file(x):
    return np.load("scale.npy") * x


def of_a_text(x):
    return eval("SCALE") * x


def of_keys(shape):
    return jax.random.normal(jax.random.key(0), shape) + np.pi


def test_what_is_random_or_read_from_elsewhere_matches_nothing():
    for function in (of_numpy, of_an_import_of_numpy, of_python, of_a_file, of_a_text):
        assert not key_of(function).usable, function
    assert not key_of(np.frompyfunc(of_keys, 1, 1)).usable
    assert key_of(of_keys).usable


def test_ordinary_functions_and_classes_are_understood():
    def of_classes(x):
        return Pair(Kind.BIG.value).scale * x if isinstance(x, Abstract) else x

    for thing in (of_classes, jax.nn.relu, jd.losses.mse, optax.adam(0.1), np.tanh):
        key = key_of(thing)
        assert key.usable
        assert key == key_of(thing)


@pytest.mark.heavy
def test_a_schedule_that_reads_a_module_is_followed(monkeypatch):
    def rate(step):
        return 0.1 * CONFIG.scale + 0 * step

    def history():
        x = np.ones((4, 1), np.float32)
        options = {"loss": jd.losses.mse, "epochs": 1, "batch_size": 4, "progress": False}
        optimizer = jd.optimizers.sgd(rate)
        run = jd.fit(jd.nn.dense(1), (x, x), optimizer=optimizer, key=jax.random.key(0), **options)
        return float(run.history["learning_rate"][0])

    assert history() == pytest.approx(0.1)
    monkeypatch.setattr(CONFIG, "scale", 2.0)
    assert history() == pytest.approx(0.2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metrics": {"mae": jd.losses.mae}},
        {"metrics": {"rate": jd.metrics.r2()}},
        {"metrics": {"a": {"mae": jd.losses.mae}, "b": {"mse": jd.losses.mse}}},
        {"class_weight": {0: 1.0, 1: 2.0}},
        {"penalty": jd.regularizers.l2(0.1)},
        {"trainable": "*/kernel"},
    ],
    ids=", ".join,
)
def test_an_objective_made_again_of_the_same_is_the_same_program(options):
    model = jd.nn.dense(2)
    keys = [key_of(jd.train.supervised(model, jd.losses.mse, **options)) for _ in range(2)]
    assert keys[0].usable
    assert keys[0] == keys[1]
