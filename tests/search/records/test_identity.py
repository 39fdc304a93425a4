"""Names that last: equal for what is the same in another process, and for nothing else."""

import contextlib
import functools
import json
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep.search.records import public_names
from jaxdeep.search.records.identity import digest_of, text_of, words_of


def relu_like(x):
    return jnp.maximum(x, 0)


def scaled(factor):
    def loss(outputs, y):
        return factor * (outputs - y) ** 2

    return loss


def counting():
    calls = 0

    def loss(outputs, y):
        nonlocal calls
        calls += 1
        return (outputs - y) ** 2

    return loss


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        ("1", 1),
        (None, "None"),
        ((1, 2), [1, 2]),
        (np.float32(0.1), 0.1),
        (np.zeros(2), np.zeros(2, np.float32)),
        (np.zeros(2), np.zeros((2, 1))),
        (jax.nn.relu, jax.nn.silu),
        (jnp.float32, jnp.bfloat16),
        (float("nan"), float("inf")),
        ({"a": 1}, {"a": 2}),
        (functools.partial(relu_like, 1), functools.partial(relu_like, 2)),
        (jd.nn.dense(3), jd.nn.dense(4)),
        (jd.nn.dense(3), jd.nn.dense(3, use_bias=False)),
        (jd.optimizers.adam(0.1), jd.optimizers.adam(0.2)),
        (jd.optimizers.adam(0.1), jd.optimizers.sgd(0.1)),
        (optax.adam(0.1), optax.adam(0.2)),
    ],
)
def test_what_is_different_has_other_words(one, other):
    assert digest_of(words_of("a", one)) != digest_of(words_of("a", other))


@pytest.mark.parametrize(
    "value",
    [lambda x: x, scaled(1.0), object(), {1, 2}, iter([1])],
    ids=["lambda", "inner function", "object", "set", "iterator"],
)
def test_what_has_no_name_is_refused(value):
    with pytest.raises(ValueError, match="activation must have values that a journal can name"):
        words_of("activation", value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (scaled(1.0), scaled(2.0)),
        (lambda x: x + 1, lambda x: x + 2),
        (lambda x, a=1: x, lambda x, a=2: x),
        (jd.regularizers.l2(0.1), jd.regularizers.l2(0.2)),
        ({"a": jd.metrics.accuracy}, {"a": jd.metrics.precision()}),
        (optax.adam(0.1, b1=0.9), optax.adam(0.1, b1=0.8)),
        (jd.optimizers.sgd(0.1, momentum=0.9), jd.optimizers.sgd(0.1)),
        (np.arange(3000), np.arange(3000)[::-1]),
        (
            jd.optimizers.sgd(jd.schedules.exponential(0.1, transition_steps=9, decay_rate=0.5)),
            jd.optimizers.sgd(jd.schedules.exponential(0.2, transition_steps=9, decay_rate=0.5)),
        ),
    ],
)
def test_what_was_changed_has_another_text(one, other):
    assert text_of(one) != text_of(other)


WEIGHTS = [1.0, 2.0]
SCALE = 1.0


def helper(x):
    return SCALE * x


class Scaled:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, outputs, y):
        return self.scale * (outputs - y) ** 2

    def method(self, outputs, y):
        return self.scale * (outputs - y) ** 2


def test_what_a_function_refers_to_counts(monkeypatch):
    def by_list(outputs, y):
        return WEIGHTS[0] * (outputs - y)

    def nested(outputs, y):
        def inner(a):
            return helper(a)

        return inner(outputs) - y

    before = text_of(by_list), text_of(nested)
    monkeypatch.setitem(globals(), "WEIGHTS", [3.0, 2.0])
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert text_of(by_list) != before[0]
    assert text_of(nested) != before[1]
    assert text_of(Scaled(1.0)) != text_of(Scaled(2.0))
    assert text_of(Scaled(1.0).method) != text_of(Scaled(2.0).method)
    assert text_of(Scaled(1.0)) == text_of(Scaled(1.0))


@pytest.fixture
def moved(monkeypatch):
    """Have a function of jaxdeep, and what is made in it, be written in another module."""

    def forget():
        public_names._shown.cache_clear()
        public_names._shown_around.cache_clear()

    def move(*functions):
        for function in functions:
            monkeypatch.setattr(function, "__module__", "jaxdeep.elsewhere.of_it")
        forget()

    yield move
    monkeypatch.undo()
    forget()


def test_a_function_that_moves_to_another_module_stays_the_same(moved):
    schedule = jd.schedules.exponential(0.1, transition_steps=9, decay_rate=0.5)
    things = [jd.losses.mse, functools.partial(jd.losses.huber, delta=2.0), jd.optimizers.sgd(schedule)]
    before = [text_of(thing) for thing in things], words_of("loss", jd.losses.mse)
    moved(jd.losses.mse, jd.losses.huber, jd.schedules.exponential, schedule)
    assert jd.losses.mse.__module__ == "jaxdeep.elsewhere.of_it"
    assert [text_of(thing) for thing in things] == before[0]
    assert before[1] == {"name": "jaxdeep.losses.mse"}


def test_names_that_are_found_nearby_are_those_of_all_that_is_shown():
    shown = {key: name for key, name in public_names._shown("jaxdeep").items() if "jaxdeep" in key[0]}
    assert len(shown) > 300
    assert not [name for _, name in shown if name.startswith("_")]
    assert {key: public_names.name_of(*key) for key in shown} == shown
    near = {key: public_names._shown_around(*key) for key in shown}
    assert sum(near[key] == name for key, name in shown.items()) > 0.9 * len(shown)


def test_a_function_of_the_users_that_moves_is_another(monkeypatch):
    before = words_of("loss", relu_like)
    assert before == {"name": f"{__name__}:relu_like"}
    module = types.ModuleType("elsewhere")
    module.relu_like = relu_like
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    monkeypatch.setattr(relu_like, "__module__", "elsewhere")
    assert words_of("loss", relu_like) == {"name": "elsewhere:relu_like"}


@pytest.mark.parametrize("room", ["losses", "metrics", "optimizers", "regularizers", "schedules"])
def test_what_jaxdeep_shows_has_texts_of_its_own(room):
    namespace, names = getattr(jd, room), {}
    for name in namespace.__all__:
        thing = getattr(namespace, name)
        for args in ((), (0.1,), (3,)):
            with contextlib.suppress(TypeError, ValueError):
                names.setdefault(text_of(thing(*args)), set()).add(name)
        names.setdefault(text_of(thing), set()).add(name)
    same = [sorted(names) for names in names.values() if len(names) > 1]
    assert same in ([], [["scale_by_learning_rate", "sgd"]])


def test_what_a_function_adds_to_says_nothing():
    traced = []

    def loss(outputs, y):
        traced.append(1)
        return outputs - y

    before = text_of(loss)
    loss(1.0, 2.0)
    assert text_of(loss) == before


def test_the_same_code_with_the_same_values_has_the_same_text():
    assert text_of(scaled(1.5)) == text_of(scaled(1.5))
    assert text_of(jd.optimizers.adam(0.1)) == text_of(jd.optimizers.adam(0.2))  # its numbers are apart


def test_a_counter_that_a_function_keeps_says_nothing():
    loss = counting()
    before = text_of(loss)
    loss(1.0, 2.0)
    assert text_of(loss) == before


@pytest.mark.heavy
def test_words_and_texts_are_those_of_another_process():
    code = (
        "import json, jax, jaxdeep as jd; from jaxdeep.search.records.identity import text_of, words_of;"
        "print(json.dumps([words_of('a', (1, jax.nn.relu, {'b': 0.1})),"
        "text_of(jd.nn.serial(jd.nn.dense(3, activation=jax.nn.relu), jd.nn.dropout(0.2))),"
        "text_of(jd.optimizers.adam(0.1)), text_of(jd.losses.mse), text_of(jd.metrics.precision())]))"
    )
    outs = {subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)}
    assert len(outs) == 1
    words, *_ = json.loads(outs.pop())
    assert words == words_of("a", (1, jax.nn.relu, {"b": 0.1}))
