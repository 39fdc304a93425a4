"""Half precision, and sizes."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compressed import dense, draw, network, nn, norm, relative, trained

import jaxdeep as jd


@pytest.mark.heavy
@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.03), ("float16", 0.004)])
def test_casting_computes_in_half_precision(dtype, tolerance):
    model, x = nn.serial(norm(), network()), draw(20, 6)
    params, state = trained(model, x)
    half, hparams, hstate = jd.compress.cast(model, params, state, dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(hparams)} == {jnp.dtype(dtype)}
    assert {leaf.dtype for leaf in jax.tree.leaves(hstate)} == {jnp.dtype("float32")}
    assert jd.compress.size_bytes(hparams) * 2 == jd.compress.size_bytes(params)
    y, _ = half.apply(hparams, hstate, x)
    assert y.dtype == jnp.float32
    assert 0 < relative(y, model.apply(params, state, x)[0]) < tolerance
    text = jax.jit(half.apply).lower(hparams, hstate, x).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    short = {"bfloat16": "xbf16>", "float16": "xf16>"}[dtype]
    assert len(products) == 3
    assert all(short in line and "xf32>" not in line for line in products)
    again, *_ = jd.compress.cast(half, hparams, hstate, dtype)
    assert again.layers[""] is model  # not wrapped twice


def test_casting_refuses_what_has_no_place_in_the_dtype():
    model, params = nn.serial(out=dense(2)), {"out": {"kernel": np.ones((3, 2)), "bias": np.ones(2)}}
    params["out"]["bias"][0] = 1e5
    with pytest.raises(ValueError, match=r"out/bias has values up to 1e\+05, and float16 ends"):
        jd.compress.cast(model, params, {}, jnp.float16)
    with pytest.raises(TypeError, match="dtype"):
        jd.compress.cast(model, params, {}, jnp.int8)
    with pytest.raises(TypeError, match="Model"):
        jd.compress.cast(jnp.tanh, params, {})
    traced = jax.eval_shape(lambda p: jd.compress.cast(model, p, {}, jnp.float16)[1], params)
    assert traced["out"]["bias"].dtype == jnp.float16


def test_sizes_of_arrays_and_of_their_shapes():
    shape = jax.ShapeDtypeStruct((3, 4), jnp.bfloat16)
    assert jd.compress.size_bytes({"a": shape, "b": np.zeros(5, np.int8)}, jnp.zeros(())) == 24 + 5 + 4
