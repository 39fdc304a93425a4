"""Every transformation keeps the contract, and broken ones are found out."""

import itertools

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from helpers import transformations
from helpers.transforms import PARAMS, ZEROS

import jaxdeep as jd
from jaxdeep import optimizers as o

# Each with its defaults, and forms that keep other state.
FORMS = {
    "nag scheduled": o.nag(jd.schedules.constant(0.1), momentum=jd.schedules.constant(0.9)),
    "nesterov": o.sgd(0.1, momentum=0.9, nesterov=True, lr_in_trace=True),
    "without a trace": o.sgd(0.1),
    "adam of Keras": o.adam(0.1, eps_mode="uncorrected", eps=1e-7),
    "nadam of optax": o.nadam(0.1),
    "rmsprop with all": o.rmsprop(0.1, centered=True, momentum=0.9, bias_correction=True),
    "adam in bfloat16": o.adam(0.1, mu_dtype="bfloat16"),
    "adamw scheduled": o.adamw(jd.schedules.one_cycle(0.1, 10), where="kernel"),
    "multiply some": o.multiply(0.5, where=["kernel", "bias"]),
}


CONTRACT = {name: transformations.make(name) for name in transformations.FACTORIES} | FORMS


@pytest.mark.heavy
def test_every_transform_keeps_structure_and_dtypes_without_computing():
    for tx in CONTRACT.values():
        for dtype in ("float32", "bfloat16"):
            params = jax.tree.map(lambda a, dtype=dtype: jax.ShapeDtypeStruct(a.shape, dtype), PARAMS)
            state = jax.eval_shape(tx.init, params)
            update = optax.with_extra_args_support(tx).update
            updates, after = jax.eval_shape(update, params, state, params, value=ZERO)
            chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
            chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", CONTRACT)
def test_every_transform_of_ours_keeps_the_contract(name):
    o.check_transform(CONTRACT[name])


ZERO, COUNT = jnp.zeros(()), itertools.count()


def transform_of(init, update):
    return optax.GradientTransformation(init, update)


@pytest.mark.few(4)
@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (transform_of(lambda p: p, lambda g, s, p=None: (g, s)), "parameters' own buffer"),
        (transform_of(lambda p: (), lambda g, s, p=None: (g, (1,))), "state changes its structure"),
        (
            transform_of(lambda p: jnp.zeros(()), lambda g, s, p=None: (g, s.astype(jnp.int32))),
            "state  is int32",
        ),
        (
            transform_of(
                lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda u: u * jnp.float32(1), g), s)
            ),
            "update bias is float32.* was due .bfloat16",
        ),
        (
            transform_of(
                lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda u: u / jnp.abs(u), g), s)
            ),
            "update .* is not finite for zero gradients",
        ),
        (optax.contrib.reduce_on_plateau(), "scalar of bfloat16"),
        (optax.trace(0.9), "accumulates in bfloat16 because the parameters are bfloat16"),
        (
            transform_of(lambda p: (ZERO, ZERO), lambda g, s, p=None: (g, s)),
            "state 1 is the same buffer as 0",
        ),
        (transform_of(lambda p: 0, lambda g, s, p=None: (g, s)), "state  is 0; every leaf must be"),
        (
            transform_of(
                lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda u: jnp.log(1 - u**2), g), s)
            ),
            "update .* is not finite for random gradients",
        ),
        (
            transform_of(
                lambda p: (), lambda g, s, p=None: (g if float(g["bias"].sum()) == 0 else ZEROS, s)
            ),
            "cannot be traced",
        ),
        (
            transform_of(
                lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda u: u + next(COUNT), g), s)
            ),
            "do not give the same result twice",
        ),
    ],
)
def test_broken_transforms_are_found_out(tx, message):
    with pytest.raises(ValueError, match=message):
        o.check_transform(tx)


@pytest.mark.heavy
def test_the_contract_on_parameters_of_your_own_and_with_further_arguments():
    params = {"hidden1": {"kernel": jnp.ones((3, 3, 4, 5))}, "out": {"bias": jnp.ones(3)}}
    o.check_transform(o.max_norm(1.0, axis=(0, 1, 2), where="hidden*/kernel"), params)
    o.check_transform(o.adamw(0.1, where="*/kernel"), params)
    o.check_transform(optax.MultiSteps(o.adam(0.1), 2))

    def update(updates, state, params=None, *, scale, **extra):
        return jax.tree.map(lambda u: u * scale, updates), state

    tx = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    o.check_transform(tx, scale=2)


def test_only_transformations_are_checked():
    with pytest.raises(TypeError, match="tx must be an optax transformation"):
        o.check_transform(o.adam)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: o.clip_by_value(0.0), r"max_delta must be in \(0, inf\), got 0.0"),
        (lambda: o.clip_by_norm(-1), "max_norm must be in"),
        (lambda: o.clip_by_global_norm(1.0, eps=-1), "eps must be in"),
        (lambda: o.add_decayed_weights(-0.1), "weight_decay must be in"),
        (lambda: o.add_l1_penalty(-1), "l1 must be in"),
        (lambda: o.add_l2_penalty(-1), "l2 must be in"),
        (lambda: o.max_norm(0), "max_norm must be in"),
        (lambda: o.multiply(-1), "factor must be in"),
        (lambda: o.rmsprop(0.1, decay=1.0), "decay must be in"),
        (lambda: o.rmsprop(0.1, nesterov=True), "nesterov needs a momentum"),
        (
            lambda: o.adamax(0.1, eps_mode="keras"),
            "eps_mode must be 'max' or 'denominator', got 'keras'",
        ),
        (lambda: o.nadam(0.1, momentum_decay=-1), "momentum_decay must be in"),
        (lambda: o.adagrad(0.1, eps=-1), "eps must be in"),
        (lambda: o.ema_params(1.0), r"decay must be in \[0, 1\)"),
        (lambda: o.skip_nonfinite(o.adam), "optimizer must be an optax transformation"),
        (lambda: o.lookahead(o.adam), "fast_optimizer must be an optax transformation"),
        (lambda: o.lookahead(o.adam(0.1), 0), "sync_period must be at least 1"),
        (lambda: o.lookahead(o.adam(0.1), 5, 1.5), r"slow_step_size must be in \(0, 1\], got 1.5"),
        (lambda: o.reduce_on_plateau(1.0), r"factor must be in \(0, 1\), got 1.0"),
        (lambda: o.reduce_on_plateau(patience=0), "patience must be at least 1"),
        (lambda: o.reduce_on_plateau(mode="auto"), "mode must be 'min' or 'max', got 'auto'"),
        (lambda: o.adagrad(0.1, initial_accumulator_value=-1), "initial_accumulator_value must be in"),
        (lambda: o.adagrad(0.1, eps_in_sqrt="no"), "eps_in_sqrt must be True or False, got 'no'"),
        (lambda: o.rmsprop(0.1, initial_scale="x"), "initial_scale must be a number"),
        (lambda: o.rmsprop(0.1, centered=None), "centered must be True or False, got None"),
        (lambda: o.adam(0.1, mu_dtype="int32"), "mu_dtype must be a floating-point dtype"),
        (lambda: o.sgd(0.1, momentum=0.9, accumulator_dtype="foo"), "accumulator_dtype must be"),
        (lambda: o.sgd(0.1, nesterov="no"), "nesterov must be True or False"),
        (lambda: o.adamw(0.1, couple_lr=2), "couple_lr must be True or False"),
        (lambda: o.add_l2_penalty(0.1, half="no"), "half must be True or False"),
        (lambda: o.max_norm(1.0, axis="0"), "axis must be a whole number, a tuple of them or None"),
        (lambda: o.max_norm(1.0, axis=True), "axis must be a whole number"),
        (lambda: o.max_norm(1.0, axis=(0, 0)), "axis must name at least one axis, each once"),
        (lambda: o.adam(jnp.array(True)), "learning_rate must be a number.*got an array of bool"),
        (lambda: o.adam(jnp.bfloat16(-1)), "learning_rate must be in"),
        (lambda: o.adamw(0.1, where=3), "where must be a glob"),
        (lambda: o.max_norm(1.0, where=[]), "where must be a glob"),
        (lambda: o.adamw(0.1, where="kernl").init(PARAMS), "where='kernl' matches no leaf"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
