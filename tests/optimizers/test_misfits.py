"""Masks and labels of other parameters than those at hand are told by their paths."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep.optimizers.misfits import MisfitError, begun

NET = jd.nn.serial(a=jd.nn.dense(2), b=jd.nn.dense(1))
X, Y = jnp.ones((4, 3)), jnp.ones((4, 1))
PARAMS, _ = NET.init(jax.random.key(0), X)
KERNEL = {"kernel": True}
ALL = {"kernel": "x", "bias": "x"}


def masked(tree):
    return optax.masked(optax.adam(0.1), tree)


def partition(tree):
    return optax.partition({"x": optax.sgd(0.1)}, tree)


MISFITS = {
    "other names": (
        masked(KERNEL),
        r"the mask of optax\.masked is of other parameters: 'a/bias', 'a/kernel', 'b/bias', 'b/kernel' "
        r"are missing and 'kernel' is too much; those are 'a/bias', .*jaxdeep\.tree\.mask",
    ),
    "a leaf": (masked({"a": {**KERNEL}, "b": False}), r"the mask .*: 'a/bias' is missing; those are"),
    "in a chain": (optax.chain(optax.clip(1.0), masked({"a": True})), r"'b/bias', 'b/kernel' are"),
    "of adamw": (optax.adamw(0.1, mask={"b": True}), r"the mask .*'a/bias', 'a/kernel' are missing"),
    "every other step": (optax.MultiSteps(masked({"b": True}), 2), r"'a/bias', 'a/kernel' are missing"),
    "injected": (
        optax.inject_hyperparams(optax.adamw, static_args=("mask",))(0.1, mask={"b": True}),
        r"'a/bias', 'a/kernel' are missing",
    ),
    "a function": (masked(lambda params: {"a": True}), r"'b/bias', 'b/kernel' are missing"),
    "labels": (partition({"a": ALL}), r"the labels of optax\.partition are of other .*: 'b/bias'"),
    "a label": (
        partition({"a": ALL, "b": "y"}),
        r"optax\.partition has no transformation for the labels 'y', but for 'x'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_a_tree_of_other_parameters_is_told_by_its_paths(name):
    tx, message = MISFITS[name]
    with pytest.raises(MisfitError, match="^optimizer: .*" + message):
        begun(tx, PARAMS)


def test_what_fits_begins_and_other_errors_stay():
    tx = masked({"a": True, "b": {"kernel": True, "bias": False}})
    jax.tree.map(np.testing.assert_array_equal, begun(tx, PARAMS), tx.init(PARAMS))

    def init(params):
        raise ValueError("of its own")

    with pytest.raises(ValueError, match=r"^of its own$"):
        begun(optax.GradientTransformation(init, tx.update), PARAMS)
    with pytest.raises(ValueError, match=r"^of its own$"):
        begun(masked(init), PARAMS)


def test_fit_sweep_and_phases_say_it_too():
    options = {"model": NET, "data": (X, Y), "loss": jd.losses.mse, "batch_size": 4, "progress": False}
    tx, message = masked(KERNEL), r"optimizer: the mask of optax\.masked is of other parameters"
    with pytest.raises(ValueError, match="^" + message):
        jd.fit(**options, optimizer=tx, epochs=1, key=0)
    with pytest.raises(ValueError, match="^" + message):
        jd.sweep(
            lambda hp: optax.masked(optax.adam(hp["rate"]), KERNEL), {"rate": [0.1]}, epochs=1, **options
        )
    with pytest.raises(ValueError, match=message):
        jd.fit(**options, optimizer=tx, phases=[jd.train.Phase(1), jd.train.Phase(1)], key=0)


def test_a_mask_of_all_parameters_goes_with_a_part_that_is_trained():
    tx = masked(jax.tree.map(lambda _: True, PARAMS))
    result = jd.fit(
        NET, (X, Y), loss=jd.losses.mse, optimizer=tx, epochs=1, batch_size=4, key=0, progress=False,
        trainable="b/*",
    )  # fmt: skip
    assert result.params["b"]["kernel"].shape == (2, 1)
    with pytest.raises(
        ValueError, match=r"optimizer: .*: 'b/bias', 'b/kernel' are missing; those are 'a/bia"
    ):
        jd.fit(
            NET, (X, Y), loss=jd.losses.mse, optimizer=masked({"a": True}), epochs=1, batch_size=4,
            key=0, progress=False, trainable="b/*",
        )  # fmt: skip
