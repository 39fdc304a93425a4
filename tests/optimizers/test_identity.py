"""Optimizers are equal by description, and their numbers can be arguments of a compiled init."""

import inspect
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import guessed
from helpers.tracing import traced_once
from helpers.transformations import FACTORIES, PARAMS, make, numbers

import jaxdeep as jd
from jaxdeep import optimizers as o
from jaxdeep._compat import enable_x64
from jaxdeep._identity import key_of
from jaxdeep.optimizers.identity import init_with_numbers, numbers_of, program_key
from jaxdeep.optimizers.scalars import Hyper
from jaxdeep.optimizers.transform import Rule, transform

each = pytest.mark.parametrize("name", FACTORIES)

# Another value of every static argument that is neither a flag nor a number, or has few values, by name.
OTHER = {
    "accumulator_dtype": "bfloat16",
    "axis": 1,
    "eps_mode": {"corrected": "uncorrected", "max": "denominator"},
    "mode": "max",
    "mu_dtype": "bfloat16",
    "optimizer": o.sgd(0.1, momentum=0.9),
    "fast_optimizer": o.sgd(0.1, momentum=0.9),
    "inner": o.sgd(0.1, momentum=0.9),
    "params": "bfloat16",
    "state": "bfloat16",
    "where": "kernel",
}


def equal_programs(a, b):
    assert a is b or (a.update == b.update) == (key_of(a.update) == key_of(b.update))
    return a.update == b.update and hash(a.update) == hash(b.update)


def assert_same_bits(state, expected):
    chex.assert_trees_all_equal_shapes_and_dtypes(state, expected)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected)):
        assert a.weak_type == b.weak_type
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


# --- equality -------------------------------------------------------------------------------------


@each
def test_made_twice_they_are_equal_and_hash_alike(name):
    a, b = make(name), make(name)
    assert a.update is not b.update
    assert a == b
    assert hash(a) == hash(b)


@each
def test_numbers_are_no_part_of_the_update_and_part_of_the_init(name):
    usual = make(name)
    for key, number in numbers(name).items():
        other = make(name, **{key: 0.9 * number + 1e-3})
        assert equal_programs(usual, other), key
        assert usual.init != other.init, key
        assert program_key(usual) == program_key(other), key


@each
def test_every_static_argument_is_part_of_the_update(name):
    static = {
        key: parameter.default
        for key, parameter in inspect.signature(FACTORIES[name]).parameters.items()
        if key not in numbers(name)
    }
    for key, default in static.items():
        other = not default if isinstance(default, bool) else OTHER.get(key) or guessed.other(default)
        other = other[default] if isinstance(other, dict) else other
        assert not equal_programs(make(name), make(name, **{key: other})), key


def test_factories_are_told_apart():
    made = [make(name).update for name in FACTORIES]
    assert len(set(made)) == len(made)
    assert o.sgd(0.1) == o.scale_by_learning_rate(0.1)  # the same rule
    assert o.adam(0.1).update != optax.adam(0.1).update


def test_an_optional_number_that_is_left_out_is_another_program():
    assert not equal_programs(o.sgd(0.1), o.sgd(0.1, momentum=0.9))
    assert not equal_programs(o.nadam(0.1), o.nadam(0.1, momentum_decay=0.0))


def test_a_schedule_is_itself_and_an_array_is_its_value():
    def schedule(step):
        return 0.1

    assert equal_programs(o.adam(schedule), o.adam(schedule))
    assert not equal_programs(o.adam(schedule), o.adam(lambda step: 0.1))
    assert not equal_programs(o.adam(schedule), o.adam(0.1))
    assert equal_programs(o.adam(jnp.float32(0.1)), o.adam(jnp.float32(0.1)))
    assert not equal_programs(o.adam(jnp.float32(0.1)), o.adam(jnp.float32(0.2)))
    assert not equal_programs(o.adam(jnp.float32(0.1)), o.adam(jnp.bfloat16(0.1)))
    assert not equal_programs(o.nag(0.1, momentum=schedule), o.nag(0.1))
    assert not equal_programs(o.ema_params(schedule), o.ema_params(lambda step: 0.1))


def test_a_schedule_that_says_to_be_equal_to_all_is_itself():
    class Schedule:
        def __eq__(self, other):
            return True

        __hash__ = None

        def __call__(self, step):
            return 0.1

    schedule = Schedule()
    assert equal_programs(o.adam(schedule), o.adam(schedule))
    assert not equal_programs(o.adam(schedule), o.adam(Schedule()))


def test_selectors_are_compared_by_value_and_predicates_by_identity():
    def predicate(path, leaf):
        return True

    tree = {"kernel": True, "bias": False}
    for a, b, same in (
        ("kernel", "kernel", True),
        ("kernel", "bias", False),
        (["kernel"], ["kernel"], True),
        (tree, dict(tree), True),
        (tree, {"kernel": False, "bias": True}, False),
        (predicate, predicate, True),
        (predicate, lambda path, leaf: True, False),
        ({"kernel": np.True_, "bias": False}, {"kernel": np.False_, "bias": False}, False),
    ):
        assert equal_programs(o.adamw(0.1, where=a), o.adamw(0.1, where=b)) == same


def test_zero_with_a_sign_and_whole_numbers_are_told_apart():
    assert not equal_programs(o.max_norm(1.0, eps=0.0), o.max_norm(1.0, eps=-0.0))
    assert not equal_programs(o.max_norm(1.0, eps=1), o.max_norm(1.0, eps=1.0))


def test_traced_arguments_match_nothing():
    def compare(eps):
        a, b = o.max_norm(1.0, eps=eps), o.max_norm(1.0, eps=eps + 0)
        assert equal_programs(a, a)
        assert not equal_programs(a, b)
        return eps

    jax.jit(compare)(0.1)


def test_wrappers_are_what_is_inside():
    assert equal_programs(o.skip_nonfinite(o.adam(0.1)), o.skip_nonfinite(o.adam(0.2)))
    assert not equal_programs(o.skip_nonfinite(o.adam(0.1)), o.skip_nonfinite(o.adamax(0.1)))
    assert o.skip_nonfinite(o.adam(0.1)).init != o.skip_nonfinite(o.adam(0.2)).init
    assert o.nag(0.1).init != o.nag(0.2).init
    foreign = optax.adam(0.1)
    assert equal_programs(o.skip_nonfinite(foreign), o.skip_nonfinite(foreign))
    assert equal_programs(o.skip_nonfinite(foreign), o.skip_nonfinite(optax.adam(0.1)))
    assert not equal_programs(o.skip_nonfinite(foreign), o.skip_nonfinite(optax.adam(0.2)))


def test_rules_that_no_factory_described_are_equal_by_their_functions():
    def update(g, slots, s, p):
        return g * s["scale"], {}

    def rule(number, function=update):
        return transform(Rule({"scale": Hyper(number, "[0, inf)")}, function))

    assert equal_programs(rule(0.1), rule(0.2))
    assert not equal_programs(rule(0.1), rule(0.1, lambda g, slots, s, p: (g, {})))


def test_equal_updates_are_traced_once():
    schedule = chex.assert_max_traces(lambda step: 0.1, n=1)
    x = jnp.ones(3)
    optimizers = [o.sgd(0.1, momentum=momentum) for momentum in (0.5, 0.9)]
    assert optimizers[0].update == optimizers[1].update
    calls = [jax.jit(tx.update) for tx in optimizers]
    for tx, call in zip(optimizers, calls):
        state = tx.init(x)
        _, after = call(x, state, x)
        np.testing.assert_array_equal(o.hyperparams(after)["momentum"], o.hyperparams(state)["momentum"])
    driven = [o.sgd(schedule, momentum=momentum).update for momentum in (0.5, 0.9)]
    assert driven[0] == driven[1]


# --- numbers as arguments -------------------------------------------------------------------------


def wrapped(tx):
    """A wrapper such as a user writes, that closes over a transformation."""
    return optax.GradientTransformation(lambda params: (tx.init(params),), lambda g, s, p=None: (g, s))


def twice(tx):
    return optax.chain(tx, tx)


MASK = {"kernel": True, "bias": False}
GROUPS = {"kernel": "a", "bias": "b"}
# Optimizers of a number, which must reach every part of their states.
NESTED = {
    "chain": lambda r: optax.chain(optax.clip(1.0), o.clip_by_norm(r), optax.trace(0.9), o.adam(r)),
    "chain in a chain": lambda r: optax.chain(optax.chain(o.sgd(r), o.sgd(2 * r)), o.multiply(r)),
    "named chain": lambda r: optax.named_chain(("b", o.sgd(r)), ("a", o.adam(0.5 * r, b1=r))),
    "masked": lambda r: optax.masked(o.adam(r), MASK),
    "partition": lambda r: optax.partition({"b": o.sgd(r), "a": o.adam(2 * r)}, GROUPS),
    "multi steps": lambda r: optax.MultiSteps(o.nadam(r), 2),
    "apply if finite": lambda r: optax.apply_if_finite(o.rmsprop(r, momentum=r), 3),
    "flatten": lambda r: optax.flatten(o.adamax(r)),
    "skip around a chain": lambda r: o.skip_nonfinite(optax.chain(o.adam(r), o.ema_params(r))),
    "nag": lambda r: optax.chain(o.clip_by_global_norm(r), o.nag(r, momentum=r)),
    "scheduled": lambda r: o.adam(jd.schedules.constant(0.3), b1=r, b2=jnp.float32(0.5)),
    "plateau": lambda r: optax.chain(o.sgd(r), o.reduce_on_plateau(r, min_scale=0.5 * r)),
    "a user's wrapper": lambda r: wrapped(optax.chain(o.adam(r), o.add_decayed_weights(r))),
    "the same twice": lambda r: twice(o.sgd(r)),
    "vmapped": lambda r: optax.GradientTransformation(
        jax.vmap(o.adam(r).init, axis_size=2, in_axes=None), o.adam(r).update
    ),
    "with extra arguments": lambda r: optax.with_extra_args_support(wrapped(o.sgd(r))),
}


def check_round_trip(tx, other):
    init = traced_once(lambda params, numbers: init_with_numbers(tx, params, numbers))
    for one in (tx, other):
        expected = one.init(PARAMS)
        assert_same_bits(init(PARAMS, numbers_of(one)), expected)
        assert_same_bits(init_with_numbers(tx, PARAMS, numbers_of(one)), expected)


@pytest.mark.few(12)
@each
@pytest.mark.parametrize("wide", [False, True])
def test_an_init_takes_the_numbers_of_another(name, wide):
    with enable_x64(wide):
        others = {key: 0.9 * number + 1e-3 for key, number in numbers(name).items()}
        check_round_trip(make(name), make(name, **others))


@pytest.mark.few(9)
@pytest.mark.parametrize("name", NESTED)
def test_numbers_are_found_wherever_a_transformation_is(name):
    check_round_trip(NESTED[name](0.25), NESTED[name](0.3))


def test_numbers_are_python_floats_by_place():
    tx = optax.chain(optax.clip(1.0), o.sgd(0.1, momentum=0.999))
    (place,), (values,) = numbers_of(tx).keys(), numbers_of(tx).values()
    assert place == "init_fns/1"
    assert values == {
        "learning_rate": 0.1,
        "momentum": 0.999,
        "momentum_rounding": 0.999 - float(np.float32(0.999)),
    }
    assert numbers_of(optax.adam(0.1)) == {}


def test_which_transformations_are_one_is_in_the_structure():
    a, b, c = o.sgd(0.1), o.sgd(0.2), o.sgd(0.3)
    structures = {
        jax.tree.structure(numbers_of(optax.chain(*chained)))
        for chained in ((a, b, c), (a, a, b), (a, b, b), (a, b, a), (a, a, a))
    }
    assert len(structures) == 5
    with pytest.raises(ValueError, match="numbers must be those of an optimizer like this one"):
        init_with_numbers(optax.chain(a, a, b), PARAMS, numbers_of(optax.chain(a, b, b)))


def test_injected_hyperparameters_keep_their_own_numbers():
    tx = optax.inject_hyperparams(o.adam)(0.1)
    assert_same_bits(init_with_numbers(tx, PARAMS, numbers_of(tx)), tx.init(PARAMS))


def test_what_was_compiled_before_keeps_the_numbers_that_it_was_traced_with():
    tx = o.sgd(0.1)
    compiled = optax.GradientTransformationExtraArgs(jax.jit(tx.init), tx.update)
    assert numbers_of(compiled) == {}
    assert_same_bits(init_with_numbers(compiled, PARAMS, {}), tx.init(PARAMS))


def test_numbers_are_replaced_for_the_one_call_only():
    def fails(params):
        raise RuntimeError("no state today")

    tx = o.sgd(0.1)
    broken = optax.chain(tx, optax.GradientTransformation(fails, tx.update))
    numbers = numbers_of(optax.chain(o.sgd(0.5), broken))["init_fns/0"]
    with pytest.raises(RuntimeError, match="no state today"):
        init_with_numbers(broken, PARAMS, {"init_fns/0": numbers})
    assert_same_bits(tx.init(PARAMS), o.sgd(0.1).init(PARAMS))


def test_numbers_of_another_kind_of_optimizer_are_refused():
    with pytest.raises(ValueError, match="numbers must be those of an optimizer like this one"):
        init_with_numbers(o.sgd(0.1), PARAMS, numbers_of(o.adam(0.1)))


def test_a_function_that_refers_to_itself_is_walked_once():
    tx = o.sgd(0.1)

    def init(params):
        return tx.init(params) if params is not None else init({})

    assert len(numbers_of(optax.GradientTransformation(init, tx.update))) == 1


INNER = o.sgd(0.1)


def begun_inside(params):
    return INNER.update(params, INNER.init(params), params)


def begun(params):
    return INNER.init(params)


def used_inside(params, state):
    return INNER.update(params, state, params)


def test_the_numbers_of_an_optimizer_that_a_program_begins_are_constants_of_it(monkeypatch):
    keys = key_of(begun_inside), key_of(used_inside)
    monkeypatch.setattr(sys.modules[__name__], "INNER", o.sgd(0.2))
    assert key_of(begun_inside) != keys[0]
    assert key_of(used_inside) == keys[1]


BEGIN = INNER.init


def begun_by_name(params):
    return BEGIN(params)


def test_so_are_those_of_an_init_that_code_holds_by_another_name(monkeypatch):
    key = key_of(begun_by_name)
    assert key == key_of(begun_by_name)
    monkeypatch.setattr(sys.modules[__name__], "BEGIN", o.sgd(0.2).init)
    assert key_of(begun_by_name) != key


def test_a_transformation_of_the_users_that_begins_another_one_is_compiled_with_its_numbers(monkeypatch):
    tx = optax.GradientTransformation(begun, INNER.update)
    key = program_key(tx)
    monkeypatch.setattr(sys.modules[__name__], "INNER", o.sgd(0.2))
    assert program_key(tx) != key


WRAPPERS = {
    "masked": lambda tx: optax.masked(tx, {"a": True}),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "lookahead": lambda tx: o.lookahead(tx, 2, 0.5, reset_state=True),
    "partition": lambda tx: optax.partition({"x": tx}, {"a": "x"}),
    "low precision": o.low_precision,
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_the_numbers_of_an_optimizer_inside_another_one_are_arguments(wrap):
    assert program_key(wrap(o.adam(0.1))) == program_key(wrap(o.adam(0.2)))


def test_points_of_a_sweep_with_another_ascent_of_sam_are_not_one_program():
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    kinds = {"loss": jd.losses.mse, "update_args": ("grad_fn",), "epochs": 2, "progress": False}

    def sam(hp):
        return optax.contrib.sam(o.sgd(0.1), o.sgd(hp["rho"]), opaque_mode=True)

    def losses(rhos):
        data = x, x[:, :1]
        table = jd.sweep(sam, {"rho": rhos}, model=jd.nn.dense(1), data=data, **kinds)
        return [float(row.history["loss"][-1]) for row in table.results]

    assert losses([0.05, 5.0]) == losses([0.05]) + losses([5.0])
