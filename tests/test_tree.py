import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd

PARAMS = {
    "hidden1": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
    "hidden2": {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)},
    "logits": {"kernel": jnp.ones((3, 2))},
}


def chosen(where):
    mask = jd.tree.mask(PARAMS, where)
    assert jax.tree.structure(mask) == jax.tree.structure(PARAMS)
    return [path for path, on in zip(jd.tree.leaf_paths(PARAMS), jax.tree.leaves(mask)) if on]


def test_paths_follow_the_order_of_the_leaves():
    tree = {"b": [1.0, {"c": 2.0}], "a": (3.0,)}
    assert jd.tree.leaf_paths(tree) == ["a/0", "b/0", "b/1/c"]
    assert jax.tree.leaves(tree) == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("hidden*/kernel", ["hidden1/kernel", "hidden2/kernel"]),
        ("*/kernel", ["hidden1/kernel", "hidden2/kernel", "logits/kernel"]),
        ("hidden1/*", ["hidden1/bias", "hidden1/kernel"]),
        ("hidden[12]/bias", ["hidden1/bias", "hidden2/bias"]),
        (["hidden1/bias", "logits/*"], ["hidden1/bias", "logits/kernel"]),
        (("logits/*",), ["logits/kernel"]),
        (
            lambda path, leaf: leaf.ndim == 2 and path != "logits/kernel",
            ["hidden1/kernel", "hidden2/kernel"],
        ),
        ({"hidden1": True, "hidden2": False, "logits": False}, ["hidden1/bias", "hidden1/kernel"]),
        (True, jd.tree.leaf_paths(PARAMS)),
    ],
)
def test_every_kind_of_selector(where, expected):
    assert chosen(where) == expected


def test_a_mask_selects_itself():
    mask = jd.tree.mask(PARAMS, "*/bias")
    assert jax.tree.leaves(jd.tree.mask(PARAMS, mask)) == jax.tree.leaves(mask)


def test_a_glob_reaches_any_depth():
    deep = {"block": {"hidden1": {"kernel": 1.0}}}
    assert jax.tree.leaves(jd.tree.mask(deep, "*/kernel")) == [True]


def test_only_shapes_are_needed():
    spec = jd.tree.shapes(PARAMS)
    assert jax.tree.leaves(jd.tree.mask(spec, lambda _, leaf: leaf.ndim == 1)).count(True) == 2
    jax.jit(lambda p: jd.tree.mask(p, "*/bias"))(PARAMS)


def test_the_mask_is_one_for_optax():
    tx = optax.masked(optax.sgd(1.0), jd.tree.mask(PARAMS, "logits/*"))
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    assert updates["logits"]["kernel"][0, 0] == -1
    assert updates["hidden1"]["kernel"][0, 0] == 1


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("hiden1/kernel", "'hiden1/kernel' matches no leaf; did you mean 'hidden1/kernel'"),
        (["logits/*", "head/*"], r"'head/\*' .* matches no leaf"),
        ("HIDDEN1/*", "matches no leaf"),
        (lambda path, leaf: False, "matches no leaf"),
        (False, "matches no leaf"),
        ({"hidden1": True}, "structure"),
    ],
)
def test_what_selects_nothing_is_refused(where, message):
    with pytest.raises(ValueError, match=message):
        jd.tree.mask(PARAMS, where)


def test_kernels_of_another_name_are_told():
    weights = {"layers": {"0": {"weight": jnp.ones((2, 2)), "bias": jnp.ones(2)}}}
    with pytest.raises(
        ValueError, match=r"'\*/kernel' matches no leaf; .*: '\*/weight'; the leaves are"
    ):
        jd.compress.prune(weights, 0.5)
    with pytest.raises(ValueError, match="'head/kernel' matches no leaf; the leaves are"):
        jd.compress.prune(weights, 0.5, where="head/kernel")


@pytest.mark.parametrize("where", [None, 3, [], [1, 2], {"hidden1": "yes"}])
def test_other_kinds_are_refused(where):
    with pytest.raises(TypeError, match="where must be a glob"):
        jd.tree.mask(PARAMS, where)


def test_a_predicate_must_answer_yes_or_no():
    with pytest.raises(TypeError, match="True or False, got 1 for leaf 'hidden1/bias'"):
        jd.tree.mask(PARAMS, lambda path, leaf: 1)


def test_the_message_lists_the_leaves():
    with pytest.raises(
        ValueError, match=r"the leaves are hidden1/bias, hidden1/kernel, .*logits/kernel"
    ):
        jd.tree.mask(PARAMS, "nothing")
    with pytest.raises(ValueError, match="no leaves"):
        jd.tree.mask({}, "nothing")


def test_shapes_are_those_of_jax_arrays():
    spec = jd.tree.shapes({"a": np.zeros(2), "b": 1.0, "c": jnp.zeros((1,), jnp.bfloat16)})
    assert spec["a"].dtype == jnp.float32
    assert spec["b"].shape == ()
    assert spec["c"].dtype == jnp.bfloat16


def test_a_mask_function_of_optax_is_refused_in_words():
    def mask(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    for make in (
        lambda: jd.optimizers.add_decayed_weights(0.1, where=mask),
        lambda: jd.regularizers.l2(0.1, where=mask),
        lambda: jd.tree.mask({"a": jnp.ones(2)}, mask),
    ):
        with pytest.raises(TypeError, match=r"where must be a predicate .* give the result"):
            make()
    chosen = jd.tree.mask({"a": jnp.ones(2)}, lambda *both: True)
    assert chosen == {"a": True}
