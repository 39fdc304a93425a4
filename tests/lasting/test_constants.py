"""A constant that a function takes from elsewhere is a part of what it is, however it is taken."""

import contextvars
import dataclasses
import functools
import sys
import types

import numpy as np
import pytest

from jaxdeep._identity import key_of
from jaxdeep.lasting.identity import text_of

CONFIG = types.ModuleType("a_users_package.config")
PACKAGE = types.ModuleType("a_users_package")
PACKAGE.config = CONFIG
PACKAGE.__path__ = []
MODULES = [CONFIG]
SCALE = 1.0
VARIABLE = contextvars.ContextVar("VARIABLE")
MASKED = np.ma.masked_array([1.0, 3.0], mask=[False, True])


@pytest.fixture(autouse=True)
def package(monkeypatch):
    monkeypatch.setitem(sys.modules, "a_users_package", PACKAGE)
    monkeypatch.setitem(sys.modules, "a_users_package.config", CONFIG)
    change(1.0)
    yield
    change(1.0)


def change(value):
    globals()["SCALE"] = CONFIG.SCALE = value
    VARIABLE.set(value)
    MASKED.mask = [False, value == 1.0]


def of(module):
    return module.SCALE


def attribute(x):
    return x * PACKAGE.config.SCALE


def attribute_handed_on(x):
    return x * of(PACKAGE.config)


def by_its_dict(x):
    return x * CONFIG.__dict__["SCALE"]


def imported(x):
    import a_users_package.config as c

    return x * c.SCALE


def imported_and_handed_on(x):
    from a_users_package import config

    return x * of(config)


def imported_by_name(x):
    from a_users_package.config import SCALE

    return x * SCALE


def in_a_list(x):
    return x * MODULES[0].SCALE


def default(x, module=CONFIG):
    return x * module.SCALE


def of_a_context(x):
    return x * VARIABLE.get()


def masked(x):
    return x * MASKED.sum()


class Holder:
    def __init__(self):
        self.module = CONFIG

    def __call__(self, x):
        return x * self.module.SCALE


class Made:
    def __init__(self):
        self.scale = SCALE


def made(x):
    return x * Made().scale


@dataclasses.dataclass
class Data:
    scale: float = 1.0

    def __post_init__(self):
        self.scale = SCALE


def made_data(x):
    return x * Data().scale


class Asked(type):
    def __getattr__(cls, name):
        return SCALE

    def __getitem__(cls, index):
        return SCALE


class Answers(metaclass=Asked):
    def __getitem__(self, index):
        return SCALE

    def __float__(self):
        return SCALE

    def __enter__(self):
        return SCALE

    def __exit__(self, *ended):
        return None


ANSWERS = Answers()


def item(x):
    return x * ANSWERS[0]


def item_of_the_class(x):
    return x * Answers["scale"]


def attribute_of_the_class(x):
    return x * Answers.scale


def as_a_float(x):
    return x * float(ANSWERS)


def context(x):
    with ANSWERS as scale:
        return x * scale


class Missing(dict):
    def __missing__(self, name):
        return SCALE


class Listed(list):
    def scale(self):
        return SCALE


class Number(float):
    def scale(self):
        return SCALE


MISSING, LISTED, NUMBER = Missing(), Listed([1]), Number(1.0)


def missing(x):
    return x * MISSING["scale"]


def of_a_list(x):
    return x * LISTED.scale()


def of_a_number(x):
    return x * NUMBER.scale()


TAKEN = {
    f.__name__: f
    for f in (
        *(attribute, attribute_handed_on, by_its_dict, imported, imported_and_handed_on),
        *(imported_by_name, in_a_list, default, of_a_context, masked, made, made_data, item),
        *(item_of_the_class, attribute_of_the_class, as_a_float, context, missing, of_a_list),
        of_a_number,
    )
} | {
    "in a partial": functools.partial(default, module=CONFIG),
    "in an attribute": Holder(),
}
# what may take anything from a module is compiled anew each time
UNKNOWN = {"attribute_handed_on", "by_its_dict", "in_a_list", "imported_and_handed_on"}
UNKNOWN |= {"default", "of_a_context", "in a partial", "in an attribute"}


@pytest.mark.parametrize("name", TAKEN)
def test_it_counts(name):
    function = TAKEN[name]
    assert function(2.0) == 2.0
    text, key = text_of(function, strict=False), key_of(function)
    assert text == text_of(function, strict=False)
    assert key.usable == (name not in UNKNOWN)
    if key.usable:
        assert key == key_of(function)
    change(4.0)
    assert function(2.0) == 8.0
    assert text_of(function, strict=False) != text
    assert key_of(function) != key


class Point(tuple):
    __slots__ = ()

    def total(self):
        return sum(self)


POINT, NEVER = Point((1, 2)), Data()


def of_ordinary_objects(x):
    return x * POINT.total() * NEVER.scale


def test_ordinary_classes_of_the_user_are_found_again():
    key = key_of(of_ordinary_objects, NEVER, Made)
    assert key.usable
    assert key_of(of_ordinary_objects).usable
    assert key_of(of_ordinary_objects) == key_of(of_ordinary_objects)
    assert key_of(POINT) == key_of(Point((1, 2)))
    assert key_of(POINT) != key_of(Point((1, 3)))


@functools.singledispatch
def dispatched(x):
    return x


def dispatching(x):
    return dispatched(x)


def test_a_cache_of_weak_keys_counts_for_nothing_and_what_is_registered_does():
    text = text_of(dispatching)
    dispatching(1)
    assert text_of(dispatching) == text
    dispatched.register(str, of)
    assert text_of(dispatching) != text


def test_a_frozen_distribution_is_the_same_whatever_was_drawn_elsewhere():
    stats = pytest.importorskip("scipy.stats")
    text = text_of(stats.norm(0, 1))
    np.random.rand()  # noqa: NPY002
    assert text_of(stats.norm(0, 1)) == text != text_of(stats.norm(0, 2))
