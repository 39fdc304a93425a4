"""Loops that carry arrays of short rows flat: the same results, errors and derivatives as JAX' own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeep import _loops

SHAPES = [(), (7,), (5, 10), (5, 30), (3, 3, 2, 16), (4, 1), (0, 5)]


def _carry(key):
    keys = jax.random.split(key, len(SHAPES))
    arrays = [jax.random.normal(k, shape) for k, shape in zip(keys, SHAPES)]
    return {
        "a": arrays,
        "count": jnp.arange(6).reshape(3, 2),
        "half": arrays[2].astype(jnp.bfloat16),
        "key": key,
    }


def _body(carry, x):
    new = jax.tree.map(lambda a: a * x.astype(a.dtype) + 1, (carry["a"], carry["count"], carry["half"]))
    new = dict(zip(("a", "count", "half"), new), key=jax.random.fold_in(carry["key"], 1))
    return new, new["a"][2]


@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_scan_is_that_of_jax_bit_for_bit(wrap):
    xs = jnp.arange(1.0, 4.0)
    ours = wrap(lambda c: _loops.scan(_body, c, xs))(_carry(jax.random.key(0)))
    chex.assert_trees_all_equal(
        ours, wrap(lambda c: jax.lax.scan(_body, c, xs))(_carry(jax.random.key(0)))
    )


def test_while_loop_is_that_of_jax_for_many_side_by_side():
    def run(loop, carry, n):
        return loop(
            lambda at: at[0] < n, lambda at: (at[0] + 1, _body(at[1], jnp.float32(2))[0]), (0, carry)
        )

    carries = jax.vmap(_carry)(jax.random.split(jax.random.key(1), 3))
    many = [
        jax.vmap(lambda c, n, loop=loop: run(loop, c, n))(carries, jnp.array([1, 4, 2]))
        for loop in (_loops.while_loop, jax.lax.while_loop)
    ]
    chex.assert_trees_all_equal(*many)


def test_a_gradient_goes_through_a_scan():
    def total(loop, w):
        return loop(lambda c, x: (jnp.tanh(c * x + w), c.sum()), jnp.ones((4, 10)), jnp.arange(3.0))[
            1
        ].sum()

    w = jax.random.normal(jax.random.key(0), (4, 10))
    ours, theirs = (jax.grad(total, 1)(loop, w) for loop in (_loops.scan, jax.lax.scan))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere, arrays keep their shapes")
def test_short_rows_of_real_numbers_are_carried_flat():
    def shapes(shape, dtype=jnp.float32):
        jaxpr = jax.make_jaxpr(lambda c: _loops.scan(lambda c, x: (c + c, x), c, jnp.arange(2)))(
            jnp.ones(shape, dtype)
        )
        (loop,) = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan")
        return loop.outvars[0].aval.shape

    assert shapes((5, 10)) == (50,)
    assert shapes((5, 24)) == (5, 24)
    assert shapes((5, 10), jnp.int32) == (5, 10)
    assert shapes((5000, 10)) == (5000, 10)


def test_sizes_may_be_symbols():
    (d,) = jax.export.symbolic_shape("d")
    loop = jax.jit(lambda c: _loops.scan(lambda c, x: (c + x, None), c, jnp.arange(2.0))[0])
    for shape in ((d, 3), (3, d)):
        jax.export.export(loop)(jax.ShapeDtypeStruct(shape, jnp.float32))


def test_a_body_that_changes_a_shape_is_refused_in_the_shapes_of_the_caller():
    with pytest.raises(TypeError, match=r"\[5,10\].*\[10,5\]"):
        _loops.scan(lambda c, x: (c.T, None), jnp.ones((5, 10)), jnp.arange(2))
    with pytest.raises(TypeError, match=r"\[5,10\].*\[10,5\]"):
        _loops.while_loop(lambda c: True, lambda c: c.T, jnp.ones((5, 10)))
    with pytest.raises(TypeError, match=r"\[5,10\].*\[50\]"):
        _loops.scan(lambda c, x: (c.ravel(), None), jnp.ones((5, 10)), jnp.arange(2))


def test_a_body_that_changes_the_structure_is_refused_as_jax_refuses_it():
    with pytest.raises(TypeError, match="structure"):
        _loops.scan(lambda c, x: ((c, c), None), jnp.ones((5, 10)), jnp.arange(2))
