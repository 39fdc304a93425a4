"""What every layer of `jaxdeep.nn` owes: a new one is tested by being public."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import guessed
from helpers.guessed import block

from jaxdeep import nn

KEY = jax.random.key(0)
IMAGES = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))

NO_LAYERS = {"Model", "Recipe", "activations", "initializers", "mlp", "recompute_batch_norm", "summary"}
LAYERS = sorted(set(nn.__all__) - NO_LAYERS)


# Those of which the guess is wrong, or too small; the others are called as `guessed` says.
MAKE = {
    "concatenate": lambda: nn.concatenate(nn.flatten(), nn.flatten()),
    "conv_transpose": lambda: nn.conv_transpose(4, 3, strides=2),
    "embedding": lambda: nn.embedding(9, 4),
    "get_item": lambda: nn.get_item((1, 3), 0),
    "graph": lambda: nn.graph(
        {"a": ("both", "x"), "b": ("both", "a"), "c": ("join", ("a", "b"))},
        both=block(),
        join=nn.merge(),
    ),
    "group_norm": lambda: nn.group_norm(3),
    "parallel": lambda: nn.parallel(a=nn.dense(2), b=block()),
    "repeat": lambda: nn.repeat(block(), 2),
    "rescale": lambda: nn.rescale(2.0, [1.0, 2.0, 3.0], low=-2.0, high=4.0),
    "reshape": lambda: nn.reshape(2, -1),
    "resize": lambda: nn.resize(5, 3),
    "select": lambda: nn.select("b"),
    "serial": lambda: nn.serial(block(), nn.batch_norm()),
}
INPUTS = {
    "embedding": jnp.arange(6).reshape(2, 3),
    "merge": (IMAGES, 2 * IMAGES),
    "select": {"a": IMAGES, "b": 2 * IMAGES},
    "shared": (IMAGES, 2 * IMAGES),
}

each = pytest.mark.parametrize("name", LAYERS)


def made(name):
    make = MAKE.get(name, lambda: guessed.call(getattr(nn, name)))
    return make(), INPUTS.get(name, IMAGES)


def cast(tree, dtype):
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def total(tree):
    return sum(jnp.sum(jnp.sin(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree))


def everything(model):
    """Inference, training and gradients of a layer in one function, so in one program."""

    def run(params, state, x, key):
        def loss(params):
            y, moved = model.apply(params, state, x, train=True, key=key)
            return total(y), (y, moved)

        grads, (trained, moved) = jax.grad(loss, has_aux=True)(params)
        return model.apply(params, state, x), (trained, moved), grads

    return run


@pytest.mark.few(4)
@each
def test_shapes_and_dtypes_without_computing(name):
    """Structure is the same from a shape, at inference, in training, and in low precision."""
    model, x = made(name)
    for dtype in ("float32", "bfloat16", "float16"):
        given = jax.eval_shape(lambda dtype=dtype: cast(x, dtype))
        params, state = jax.eval_shape(lambda key, given=given: model.init(key, given), KEY)
        (y, kept), (trained, moved), grads = jax.eval_shape(everything(model), params, state, given, KEY)
        chex.assert_trees_all_equal_shapes_and_dtypes(y, trained)
        chex.assert_trees_all_equal_shapes_and_dtypes(state, kept, moved)
        chex.assert_trees_all_equal_shapes_and_dtypes(params, grads)
        if name != "embedding":  # its input is integers
            chex.assert_type(jax.tree.leaves(y), jnp.dtype(dtype))


@pytest.mark.few(1)
@each
def test_one_program_for_all_values_stacked_or_not(name):
    """One trace for other values, the same from the same key, and a stack of models is each of them."""
    model, x = made(name)
    keys = jax.random.split(KEY, 2)
    models = jax.vmap(lambda key: model.init(key, x))(keys)
    at = lambda tree, i: jax.tree.map(lambda a: a[i], tree)  # noqa: E731
    chex.clear_trace_counter()
    run = jax.jit(chex.assert_max_traces(everything(model), n=1))
    found = run(*at(models, 0), x, keys[0])
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_equal(run(*at(models, 0), x, keys[0]), found)
    run(*at(models, 1), x, keys[1])
    chex.assert_trees_all_equal(found[0][1], at(models, 0)[1])  # inference leaves the state as it is
    stacked = jax.jit(jax.vmap(everything(model), in_axes=(0, 0, None, 0)))(*models, x, keys)
    low = name == "mixed_precision"  # sums of bfloat16 in another order
    chex.assert_trees_all_close(
        at(stacked, 0), found, rtol=0.1 if low else 1e-4, atol=0.1 if low else 1e-5
    )


@pytest.mark.few(3)
@each
def test_an_input_is_not_changed_by_its_neighbours(name):
    """At inference each row is computed alone, whatever else is in the batch."""
    model, x = made(name)
    params, state = model.init(KEY, x)
    apply = jax.jit(lambda x: model.apply(params, state, x)[0])
    first = apply(jax.tree.map(lambda a: a[:1], x))
    chex.assert_trees_all_close(jax.tree.map(lambda a: a[:1], apply(x)), first, rtol=1e-5, atol=1e-6)


def replaced(tree, number, leaf):
    """The tree with another leaf in place of one of its own."""
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, [*leaves[:number], leaf, *leaves[number + 1 :]])


@each
def test_parameters_and_statistics_of_other_shapes_are_never_broadcast(name):
    """A leaf of one column, or of one axis more where it has one, is refused when traced."""
    model, x = made(name)
    trees = jax.eval_shape(model.init, KEY, x)
    for which in range(2):
        for number, leaf in enumerate(jax.tree.leaves(trees[which])):
            smaller = jax.ShapeDtypeStruct((*leaf.shape[:-1], 1), leaf.dtype)
            if leaf.shape in ((), smaller.shape):
                smaller = jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype)
            given = list(trees)
            given[which] = replaced(trees[which], number, smaller)
            with pytest.raises(ValueError, match=r"(shape.*(params|\bneeds\b|first axis)|do not fit)"):
                jax.eval_shape(model.apply, *given, x)


@each
def test_a_leaf_or_a_layer_too_many_is_refused(name):
    model, x = made(name)
    params, state = jax.eval_shape(model.init, KEY, x)
    more = jax.ShapeDtypeStruct((1,), jnp.float32)
    for given in ((params | {"more": more}, state), (params, state | {"more": more})):
        with pytest.raises(ValueError, match="more"):
            jax.eval_shape(model.apply, *given, x)


@each
def test_a_layer_says_what_it_is(name):
    model, x = made(name)
    assert isinstance(model, nn.Model)
    assert model.kind == name.rstrip("_")
    assert str(model.kind) in repr(model)
    total = sum(np.size(leaf) for leaf in jax.tree.leaves(jax.eval_shape(model.init, KEY, x)[0]))
    assert f"{total:,}" in str(nn.summary(model, x))


def test_every_exception_is_still_needed():
    assert set(nn.__all__) > NO_LAYERS
    assert set(LAYERS) >= {*INPUTS, *MAKE}
