"""Masks and labels of other parameters than those at hand are told by their paths."""

from typing import NamedTuple

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


YES = jax.tree.map(lambda leaf: "yes" if leaf.ndim > 1 else "no", PARAMS)
OF_BOOLEANS = r"the mask \(of optax\.masked, or a mask=\) must be of booleans, got "
NOT_OF_BOOLEANS = {
    "a pattern": (optax.adamw(0.1, mask="*/kernel"), r"'\*/kernel'; jaxdeep\.tree\.mask\(params, '\*"),
    "words": (optax.adamw(0.1, mask=YES), r"'no' at 'a/bias'; jaxdeep\.tree\.mask"),
    "words of a function": (optax.lion(0.1, mask=lambda params: YES), "'no' at 'a/bias'"),
    "nothing": (optax.masked(optax.adam(0.1), None), "None; jaxdeep"),
    "nothing of a function": (optax.adamw(0.1, mask=lambda params: None), "None; jaxdeep"),
    "nothing of a layer": (masked({"a": None, "b": True}), "None at 'a'; jaxdeep"),
    "an array": (optax.adamw(0.1, mask=np.ones(3, bool)), r"an array of shape \(3,\); jaxdeep"),
    "arrays": (masked(jax.tree.map(np.ones_like, PARAMS)), r"an array of shape \(2,\) at 'a/bias'"),
    "in a chain": (optax.chain(optax.clip(1.0), optax.lamb(0.1, mask="a/*")), r"'a/\*'; "),
    "every other step": (optax.MultiSteps(optax.adamw(0.1, mask="a/*"), 2), r"'a/\*'; "),
    "injected": (
        optax.inject_hyperparams(optax.adamw, static_args=("mask",))(0.1, mask="a/*"),
        r"'a/\*'; ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_OF_BOOLEANS)
def test_a_mask_that_is_not_of_booleans_is_refused(name):
    tx, message = NOT_OF_BOOLEANS[name]
    with pytest.raises(MisfitError, match="^optimizer: " + OF_BOOLEANS + message):
        begun(tx, PARAMS)


@pytest.mark.parametrize("labels", [None, lambda params: None, {"a": None, "b": "x"}, [np.ones(2)]])
def test_labels_that_are_no_names_are_refused(labels):
    message = r"^optimizer: the labels of optax\.partition must be names of its .*, got (None|an array)"
    with pytest.raises(MisfitError, match=message):
        begun(partition(labels), PARAMS)


class Pair(NamedTuple):
    """Parameters that are a tuple of a kind of its own."""

    a: dict
    b: jax.Array


RIGHT = {
    "booleans": jax.tree.map(lambda leaf: leaf.ndim > 1, PARAMS),
    "of a pattern": jd.tree.mask(PARAMS, "*/kernel"),
    "of a function": lambda params: jd.tree.mask(params, "*/kernel"),
    "numbers": jax.tree.map(lambda leaf: leaf.ndim - 1, PARAMS),
    "booleans of NumPy": jax.tree.map(lambda leaf: np.bool_(leaf.ndim > 1), PARAMS),
    "arrays without axes": jax.tree.map(lambda leaf: jnp.array(leaf.ndim > 1), PARAMS),
}


@pytest.mark.parametrize("name", RIGHT)
def test_masks_that_say_the_same_are_the_same(name):
    decay = optax.masked(optax.add_decayed_weights(1.0), RIGHT[name])
    updates, _ = decay.update(jax.tree.map(jnp.zeros_like, PARAMS), begun(decay, PARAMS), PARAMS)
    assert jd.tree.leaf_paths(updates) == jd.tree.leaf_paths(PARAMS)
    for path, update in zip(jd.tree.leaf_paths(PARAMS), jax.tree.leaves(updates)):
        layer, leaf = path.split("/")
        np.testing.assert_array_equal(update, PARAMS[layer][leaf] * (leaf == "kernel"))


def test_masks_of_named_tuples_of_untrained_parameters_and_of_names_of_ones_own_begin():
    pair = Pair({"kernel": jnp.ones(2)}, jnp.ones(3))
    begun(optax.adamw(0.1, mask=Pair({"kernel": True}, False)), pair)
    begun(optax.adamw(0.1, mask=Pair({"kernel": True}, None)), pair._replace(b=None))
    begun(optax.inject_hyperparams(optax.adamw)(0.1), PARAMS)  # which has mask=None
    begun(optax.partition({"mask": optax.sgd(0.1), 0: optax.sgd(0.2)}, {"a": "mask", "b": 0}), PARAMS)

    def scaled(mask: str) -> optax.GradientTransformation:
        return optax.GradientTransformation(lambda params: (mask, params), optax.identity().update)

    assert begun(scaled("of its own"), PARAMS) == ("of its own", PARAMS)


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
    pattern = r"^optimizer: the mask .* must be of booleans, got '\*/kernel'"
    with pytest.raises(ValueError, match=pattern):
        jd.fit(**options, optimizer=optax.adamw(0.1, mask="*/kernel"), epochs=1, key=0)
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
