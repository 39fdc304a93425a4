"""Names that last: equal for what is the same in another process, and for nothing else."""

import contextlib
import functools
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep._identity import key_of
from jaxdeep.lasting import public_names
from jaxdeep.lasting.identity import digest_of, text_of, words_of
from jaxdeep.lasting.made_of import made_of


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


def restarts(steps):
    one = {"init_value": 0.1, "peak_value": 1.0, "decay_steps": steps, "warmup_steps": 2}
    return optax.sgdr_schedule([one, one])


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "schedule",
    [
        lambda steps: optax.cosine_decay_schedule(0.1, steps),
        lambda steps: optax.piecewise_constant_schedule(0.1, {steps: 0.5}),
        lambda steps: optax.linear_schedule(0.1, 0.2, steps),
        lambda steps: optax.join_schedules([optax.constant_schedule(0.1)] * 2, [steps]),
        lambda steps: jd.schedules.piecewise_constant([steps], [0.1, 0.2]),
        restarts,
    ],
    ids=["cosine", "piecewise", "linear", "join", "ours", "restarts"],
)
def test_the_steps_of_a_schedule_count_wherever_it_is(schedule):
    users = [lambda s: s, jd.optimizers.adam, jd.optimizers.sgd, optax.adam, optax.sgd]
    users += [lambda s: optax.chain(optax.clip(1.0), optax.adam(s)), lambda s: {"a": [s]}]
    for use in users:
        same, other = schedule(9), schedule(900)
        before = text_of(use(same))
        assert before != text_of(use(other))
        same(3)
        jax.jit(same)(jnp.int32(3))  # after which optax has floats in place of integers
        assert before == text_of(use(same)) == text_of(use(schedule(9)))


FACTORIES = {  # what arguments of optax's factories are that have no default
    **dict.fromkeys(["inner", "opt", "base_optimizer", "optimizer"], optax.sgd(0.1)),
    **{"inner_factory": optax.sgd, "transforms": {"a": optax.sgd(0.1)}, "param_labels": {"x": "a"}},
    **dict.fromkeys(["schedule", "step_size_fn"], optax.constant_schedule(0.1)),
    **{"schedules": [optax.constant_schedule(0.1)] * 2, "boundaries": [9], "mask": {"x": True}},
    **{"boundaries_and_scales": {9: 0.5}, "interpolate_type": "linear"},
    **dict.fromkeys(["seed", "key", "k", "n", "max_consecutive_errors", "sync_period"], 3),
}


def made_by(factory):
    """A call of a factory with all of its numbers, as far as they can be guessed."""
    arguments = {}
    for name, one in inspect.signature(factory).parameters.items():
        if one.default is inspect.Parameter.empty and one.kind.name.startswith(("POS", "KEY")):
            arguments[name] = FACTORIES.get(name, 9 if "step" in name else 0.1)
        elif isinstance(one.default, (int, float)) and not isinstance(one.default, bool):
            arguments[name] = one.default
    return arguments


def made_with(factory, arguments):
    """What a factory makes of arguments; None if it refuses them, or is none."""
    try:
        made = factory(**arguments)
    except Exception:
        return None
    known = optax.GradientTransformation, optax.MultiSteps
    return made if callable(made) or isinstance(made, known) else None


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")  # of factories that are deprecated
@pytest.mark.parametrize("namespace", [optax, optax.contrib], ids=["optax", "contrib"])
def test_every_number_of_every_factory_of_optax_counts(namespace):
    same, asked = [], 0
    for name, factory in vars(namespace).items():
        if name.startswith("_") or not (inspect.isroutine(factory) or factory is optax.MultiSteps):
            continue
        arguments = made_by(factory)
        made = made_with(factory, arguments)
        if made is None:
            continue
        text = text_of(made)
        assert text == text_of(factory(**arguments))
        for argument, value in arguments.items():
            if not isinstance(value, (int, float)):
                continue
            for new in {value + 1, value * 0.5} - {value}:  # of which one is in the range
                other = made_with(factory, {**arguments, argument: new})
                if other is not None:
                    asked += 1
                    if text_of(other) == text:
                        same.append((name, argument, value, new))
    assert not same
    assert asked > 100


def test_what_objects_of_a_library_hold_counts():
    for made in (
        lambda k: optax.MultiSteps(optax.sgd(0.1), k),
        lambda k: optax.MultiSteps(optax.sgd(0.1), k).gradient_transformation(),
        lambda k: jd.search.SuccessiveHalving(first=k),
        lambda k: types.SimpleNamespace(a=[{"b": k}]),
        np.random.default_rng,
        lambda k: re.compile("a" * k),
    ):
        assert text_of(made(1)) == text_of(made(1)) != text_of(made(9))


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


class Tracker:
    """Holds what is computed with, and what it only adds to."""

    calls = 0

    def __init__(self, scales):
        self.scales, self.seen = scales, []

    def factor(self):
        return self.scales["a"][0]

    def __call__(self, outputs, y):
        self.seen.append(1)
        self.calls += 1
        return self.factor() * jnp.add(outputs, y)


def changed_within(weights):
    def by_element(outputs, y):
        return jnp.add(outputs * weights[0], 0.0)

    def by_name(outputs, y):
        traced = []
        traced.append(y)
        return outputs * weights[0]

    def nested(outputs, y):
        return {"sum": lambda: jnp.add(weights[0], y)}["sum"]().clip(0).at[0].add(1)

    def by_default(outputs, y, held=weights):
        return jnp.add(outputs, held[0])

    return by_element, by_name, nested, by_default, Tracker({"a": weights})


@pytest.mark.parametrize("place", range(5))
def test_what_is_computed_with_counts_whatever_else_is_called(place):
    weights = [1.0, 5.0]
    loss = changed_within(weights)[place]
    before = text_of(loss), text_of(functools.partial(loss)), text_of({"loss": [loss]})
    weights[0] = 50.0
    after = text_of(loss), text_of(functools.partial(loss)), text_of({"loss": [loss]})
    assert not {*before} & {*after}
    weights[0] = 1.0
    assert text_of(loss) == before[0]
    assert text_of(changed_within([1.0, 5.0])[place]) == before[0]


def test_the_methods_of_an_object_count(monkeypatch):
    before = text_of(Tracker({}))
    monkeypatch.setattr(Tracker, "factor", lambda self: 2.0)  # which only __call__ refers to
    assert text_of(Tracker({})) != before


def test_what_is_only_added_to_says_nothing_until_it_is_read():
    tracker = Tracker({"a": [1.0]})
    before = text_of(tracker)
    tracker(1.0, 2.0)
    assert (tracker.calls, tracker.seen, text_of(tracker)) == (1, [1], before)

    def reads(outputs, y):
        return tracker(outputs, y) * len(tracker.seen)

    before = text_of(reads)
    tracker(1.0, 2.0)
    assert text_of(reads) != before


def test_a_method_that_is_called_add_is_looked_into():
    class Scale:
        def __init__(self, by):
            self.by = by

        def add(self, x):
            return self.by * x

    def loss_of(scale):
        def loss(outputs, y):
            return scale.add(outputs)

        return loss

    module = types.ModuleType("losses_of_mine")
    texts = []
    for by in (1.0, 2.0):
        module.add = scaled(by)

        def loss(outputs, y):
            return module.add(outputs, y)

        texts.append((text_of(loss_of(Scale(by))), text_of(loss)))
    assert texts[0][0] != texts[1][0]
    assert texts[0][1] != texts[1][1]


def test_what_cannot_be_described_is_refused_by_name():
    generator = (i for i in range(3))

    def loss(outputs, y):
        return outputs * next(generator)

    with pytest.raises(ValueError, match=r"^loss must be made of what a journal.*generator holds <gene"):
        text_of({"a": loss}, "loss")
    with open(__file__) as file, pytest.raises(ValueError, match="TextIOWrapper"):
        text_of(Scaled(file).method, "loss")


def test_what_refers_to_itself_has_an_end():
    held: list = [1.0]
    held.append(held)

    def loss(outputs, y):
        return loss(held[0], y)

    assert text_of(loss) == text_of(loss)


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


def test_what_was_that_of_jax_and_computes_the_same_is_still_the_same():
    for ours, theirs in (
        (jd.nn.activations.gelu, jax.nn.gelu),
        (jd.nn.initializers.orthogonal(2.0, 0), jax.nn.initializers.orthogonal(2.0, 0)),
    ):
        assert ours is not theirs
        assert made_of(ours) == made_of(theirs)
    assert made_of(jd.nn.initializers.orthogonal(2.0)) != made_of(jd.nn.initializers.orthogonal(3.0))
    assert words_of("activation", jd.nn.activations.gelu) == {"name": "jax.nn.gelu"}


def test_names_that_are_found_nearby_are_those_of_all_that_is_shown():
    shown = {key: name for key, name in public_names._shown("jaxdeep").items() if "jaxdeep" in key[0]}
    assert len(shown) > 300
    assert not [name for _, name in shown if name.startswith("_")]
    assert {key: public_names.name_of(*key) for key in shown} == shown | public_names._FORMERLY
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
        "import json, equinox, flax, flax.nnx, jax, optax, jaxdeep as jd;"
        "from jaxdeep.lasting.identity import text_of, words_of;"
        "print(json.dumps([words_of('a', (1, jax.nn.relu, {'b': 0.1})),"
        "text_of(jd.nn.serial(jd.nn.dense(3, activation=jax.nn.relu), jd.nn.dropout(0.2))),"
        "text_of(jd.optimizers.adam(0.1)), text_of(jd.losses.mse), text_of(jd.metrics.precision()),"
        "text_of(jd.adapters.from_linen(flax.linen.Dense(3))),"
        "text_of(jd.adapters.from_nnx(flax.nnx.Dropout(0.5, rngs=flax.nnx.Rngs(0)))),"
        "text_of(jd.adapters.from_equinox(equinox.nn.Linear(2, 3, key=jax.random.key(0)))),"
        "text_of(optax.MultiSteps(optax.adam(optax.cosine_decay_schedule(0.1, 9)), 3)),"
        "text_of(lambda x: jax.scipy.special.logsumexp(x + {'a', 'b', 'c'}))]))"
    )
    outs = {subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)}
    assert len(outs) == 1
    words, *_ = json.loads(outs.pop())
    assert words == words_of("a", (1, jax.nn.relu, {"b": 0.1}))


class Decorated:
    """A decorator as a class, which has the name and documentation of what it decorates."""

    scale = 1.0

    def __init__(self, function):
        functools.update_wrapper(self, function)

    def __call__(self, outputs, y):
        return self.scale * self.__wrapped__(outputs, y)


def test_the_class_of_a_decorator_counts(monkeypatch):
    before = text_of(Decorated(jd.losses.mse))
    assert before == text_of(Decorated(jd.losses.mse))
    monkeypatch.setattr(Decorated, "scale", 5.0)
    assert text_of(Decorated(jd.losses.mse)) != before


class Timed:
    """A loss that counts and times its calls."""

    seconds = 0.0

    def __init__(self):
        self.calls = {"n": 0}

    def __call__(self, outputs, y):
        began = len(str(y))
        self.calls["n"] += 1
        values = jd.losses.mse(outputs, y)
        self.seconds += len(str(y)) - began + 1
        return values


class Read(Timed):
    """One whose loss is of its calls."""

    def __call__(self, outputs, y):
        return self.calls["n"] * super().__call__(outputs, y)


def test_what_is_only_added_to_does_not_count():
    for kind, is_same in ((Timed, True), (Read, False)):
        loss = kind()
        before = text_of(loss)
        loss(jnp.ones(2), jnp.zeros(2))
        assert (text_of(loss) == before) == is_same


def test_a_linen_module_is_the_same_whichever_was_made_before():
    linen = pytest.importorskip("flax.linen")

    class Network(linen.Module):
        features: int = 1

        @linen.compact
        def __call__(self, x):
            return linen.Dense(self.features)(x)

    def text(features=1):
        return text_of(jd.adapters.from_linen(Network(features)))

    before = text()
    Network(3)
    assert text() == before != text(2)


def test_first_parameters_of_adapted_modules_count_when_strict_only():
    nnx = pytest.importorskip("flax.nnx")

    def network(seed, rate=0.5):
        rngs = nnx.Rngs(seed)
        return nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.Dropout(rate, rngs=rngs))

    def text(module, strict=False):
        return text_of(jd.adapters.from_nnx(module), strict=strict)

    called = network(0)
    called(jnp.ones((1, 2)))
    assert text(network(0)) == text(network(1)) == text(called)
    assert text(network(0)) != text(network(0, rate=0.4))
    assert text(network(0), strict=True) != text(network(1), strict=True)


def test_an_array_in_a_layer_counts():
    def shifted(value):
        shift = np.full(2, value, np.float32)
        return jd.nn.activation(lambda x: x + shift)

    assert text_of(shifted(0.0), strict=False) != text_of(shifted(5.0), strict=False)


def test_what_is_not_known_hides_nothing_else(tmp_path):
    with (tmp_path / "log").open("w") as log:

        def weighted(weight):
            return lambda outputs, y: print(weight, file=log) or weight * outputs

        assert text_of(weighted(1.0), strict=False) != text_of(weighted(2.0), strict=False)
        with pytest.raises(ValueError, match="must be made of what a journal can describe"):
            text_of(weighted(1.0))


SETS = """
import dataclasses
from jaxdeep.lasting.identity import text_of

@dataclasses.dataclass(frozen=True)
class Term:
    name: str
    weight: float

TERMS = frozenset({Term("a", 1.0), Term("b", 0.5), Term("c", 0.5)})

def loss(outputs, y):
    return sum(term.weight for term in TERMS) * outputs

print(text_of(loss))
"""


@pytest.mark.heavy
def test_sets_of_objects_are_the_same_in_another_process():
    texts = {
        subprocess.run(
            [sys.executable, "-c", SETS],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "3", "7")
    }
    assert len(texts) == 1


CONFIG = types.ModuleType("config_of_a_user")
CONFIG.scale = 1.0


def scale_of(module):
    return module.scale


def by_a_helper(outputs, y):
    return scale_of(CONFIG) * outputs


def by_name(outputs, y):
    return getattr(CONFIG, "scale") * outputs  # noqa: B009


def by_dict(outputs, y):
    return vars(CONFIG)["scale"] * outputs


def by_attribute(outputs, y):
    return CONFIG.scale * outputs


class Scaling(type):
    def scale(cls):
        return 1.0


class Metered(metaclass=Scaling):
    def __call__(self, outputs, y):
        return type(self).scale() * outputs


METERED = Metered()


@pytest.mark.parametrize("loss", [by_a_helper, by_name, by_dict, by_attribute, METERED])
def test_what_is_taken_from_a_module_or_a_metaclass_counts_however_it_is_taken(loss, monkeypatch):
    text, key = text_of(loss), key_of(loss)
    assert text == text_of(loss)
    monkeypatch.setattr(CONFIG, "scale", 3.0)
    monkeypatch.setattr(Scaling, "scale", lambda cls: 3.0)
    assert text_of(loss) != text
    assert key_of(loss) != key
    # what is read as an attribute is known, and its program is found again
    assert key_of(by_attribute).usable
    assert key_of(METERED).usable
    assert not key_of(by_a_helper).usable


def test_a_function_that_is_reached_by_what_it_wraps_counts():
    def wrapping(function):
        def call(*args):
            return call.__wrapped__(*args)

        call.__wrapped__ = function
        return call

    assert text_of(wrapping(jnp.mean)) != text_of(wrapping(jnp.sum))


def test_tensors_of_any_kind_are_known():
    torch = pytest.importorskip("torch")
    for tensor in (
        torch.tensor([2.0], dtype=torch.bfloat16),
        torch.eye(2).to_sparse(),
        torch.tensor([1 + 2j]).conj(),
    ):
        assert text_of([tensor]) == text_of([tensor.clone()]) != text_of([tensor * 2])


FACTOR = 2.0
VECTOR = np.vectorize(lambda v: FACTOR * v)


def vectorised(outputs, y):
    return outputs * float(VECTOR(1.0))


def of_globals(outputs, y):
    return outputs * globals()["FACTOR"]


def test_what_numpy_vectorises_counts_and_what_comes_from_nowhere_matches_nothing(monkeypatch):
    key = key_of(vectorised)
    assert key == key_of(vectorised)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    assert key_of(vectorised) != key
    assert key_of(np.vectorize(max, excluded=[0])) != key_of(np.vectorize(max))
    assert not key_of(of_globals).usable


def test_a_module_of_flax_whose_variables_may_change_matches_nothing():
    nnx = pytest.importorskip("flax.nnx")
    teacher = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

    def loss(outputs, y):
        return outputs - teacher(y)

    assert not key_of(loss).usable


def test_a_file_of_the_users_may_have_the_name_of_a_module_of_python(tmp_path, monkeypatch):
    (tmp_path / "profile.py").write_text("W = 1.0\ndef loss(outputs, y): return W * outputs\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "profile", raising=False)
    profile = importlib.import_module("profile")
    key = key_of(profile.loss)
    monkeypatch.setattr(profile, "W", 2.0)
    assert key_of(profile.loss) != key
    monkeypatch.delitem(sys.modules, "profile")
