"""Convolutions against flax, and the form of their gradients."""

import functools
import itertools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY

import jaxdeep as jd
from jaxdeep.nn.convolve import convolve

CONVS = [
    ((2, 9, 3), {"filters": 4, "kernel_size": 3}),
    ((2, 9, 8, 3), {"filters": 4, "kernel_size": (3, 2), "strides": 2}),
    ((2, 9, 8, 4), {"filters": 6, "kernel_size": 3, "groups": 2, "padding": "VALID"}),
    ((2, 9, 8, 3), {"filters": 4, "kernel_size": 3, "dilation": 2, "use_bias": False}),
    ((2, 9, 8, 3), {"filters": 4, "kernel_size": 3, "padding": ((1, 2), (0, 1))}),
    ((1, 5, 6, 7, 2), {"filters": 3, "kernel_size": 2, "strides": (1, 2, 1)}),
    ((2, 6, 6, 4), {"filters": 4, "kernel_size": 3, "groups": 4, "activation": jax.nn.relu}),
]


@pytest.mark.few(1)
@pytest.mark.parametrize(("shape", "kwargs"), CONVS)
def test_convolutions_are_those_of_flax(shape, kwargs):
    x = jax.random.normal(jax.random.key(1), shape)
    layer = jd.nn.conv(**kwargs)
    params, state = layer.init(KEY, x)
    space = len(shape) - 2
    sizes = kwargs["kernel_size"]
    names = {"strides": "strides", "padding": "padding", "dilation": "kernel_dilation"}
    names |= {"groups": "feature_group_count", "use_bias": "use_bias"}
    other = nn.Conv(
        kwargs["filters"],
        (sizes,) * space if isinstance(sizes, int) else sizes,
        **{names[k]: v for k, v in kwargs.items() if k in names},
    )
    expected = other.apply({"params": params}, x)
    if "activation" in kwargs:
        expected = kwargs["activation"](expected)
    np.testing.assert_allclose(layer.apply(params, state, x)[0], expected, rtol=1e-5, atol=1e-5)


HOW = [(1, "SAME", 1), (2, "VALID", 1), (3, "SAME", 1), (1, "VALID", 2), (2, ((2, 1),), 1)]
SPACES = [*itertools.product((1, 2), HOW), (3, (2, "SAME", 1)), (3, (1, "VALID", 2))]


def ours_and_theirs(kernel_size, x, how, filters=5, groups=1):
    """The layer of this kernel size and the convolution of JAX', and parameters."""
    strides, padding, dilation = how
    space = x.ndim - 2
    padding = padding if isinstance(padding, str) else padding * space
    same = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    layer = jd.nn.conv(filters, kernel_size, **same)
    params, state = layer.init(jax.random.key(1), x)
    letters = "DHW"[-space:]

    def ours(x, kernel):
        return layer.apply({**params, "kernel": kernel}, state, x)[0]

    def theirs(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (strides,) * space,
            padding,
            rhs_dilation=(dilation,) * space,
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
            feature_group_count=groups,
        )

    return ours, theirs, params["kernel"]


def derivatives(f, x, kernel):
    """Gradients, a forward derivative, and the gradients of a gradient's length."""
    y, pull = jax.vjp(f, x, kernel)
    gradients = pull(jnp.cos(y))
    tangents = jnp.cos(x), jnp.sin(kernel)
    length = lambda *at: sum(  # noqa: E731
        jnp.sum(g**2) for g in jax.grad(lambda x, k: jnp.sum(jnp.sin(f(x, k))), (0, 1))(*at)
    )
    return y, gradients, jax.jvp(f, (x, kernel), tangents)[1], jax.grad(length, (0, 1))(x, kernel)


def close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), a, b)


def convolutions(program):
    """The orders of axes of every convolution in the text of a program for a CPU."""
    text = program.lower(lowering_platforms=("cpu",)).as_text()
    return re.findall(r"dim_numbers = (\[.*?\]), window", text)


@pytest.mark.few(1)
@pytest.mark.parametrize(("filters", "groups"), [(5, 1), (6, 2), (4, 4), (8, 4)])
@pytest.mark.parametrize(("space", "how"), SPACES)
def test_a_small_convolution_is_a_product_with_all_its_derivatives(space, how, filters, groups):
    x = jax.random.normal(jax.random.key(0), (3, *(7, 8, 6)[:space], 4))
    ours, theirs, kernel = ours_and_theirs((3, 2, 3)[:space], x, how, filters, groups)
    close(*(jax.jit(derivatives, static_argnums=0)(f, x, kernel) for f in (ours, theirs)))
    many = x + jnp.arange(2.0).reshape(-1, *(1,) * x.ndim), jnp.stack([kernel, -kernel])
    close(jax.vmap(ours)(*many), jnp.stack([theirs(*one) for one in zip(*many)]))
    gradient = jax.jit(jax.grad(lambda x, kernel: jnp.sum(ours(x, kernel) ** 2), (0, 1)))
    assert convolutions(gradient.trace(x, kernel)) == []


@pytest.mark.heavy
@pytest.mark.parametrize(("space", "how"), SPACES)
def test_gradients_of_other_convolutions_are_in_the_order_that_is_fast_in_a_loop(space, how):
    # kernels with more places than a product takes
    x = jax.random.normal(jax.random.key(0), (3, *[(120,), (24, 14), (12, 13, 6)][space - 1], 4))
    ours, theirs, kernel = ours_and_theirs([(50,), (10, 5), (5, 5, 2)][space - 1], x, how)
    close(*(jax.jit(derivatives, static_argnums=0)(f, x, kernel) for f in (ours, theirs)))
    gradient = jax.jit(jax.grad(lambda x, kernel: jnp.sum(ours(x, kernel) ** 2), (0, 1)))
    letters = ", ".join("012"[:space])
    order = f"[b, {letters}, f]x[{letters}, i, o]->[b, {letters}, f]"
    assert convolutions(gradient.trace(x, kernel)) == [order] * 3


def test_what_a_small_convolution_puts_side_by_side_is_not_kept():
    x, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 5))
    how = {"strides": (1, 1), "padding": "SAME", "dilation": (1, 1), "groups": 1}
    _, pull = jax.vjp(functools.partial(convolve, **how), x, kernel)
    assert max(leaf.size for leaf in jax.tree.leaves(pull)) == x.size


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_small_convolution_keeps_the_dtype(dtype, groups):
    x, kernel = jnp.ones((2, 5, 5, 4), dtype), jnp.full((3, 3, 4 // groups, 8), 0.1, dtype)
    how = {"strides": (1, 1), "padding": "VALID", "dilation": (1, 1), "groups": groups}
    y, pull = jax.vjp(functools.partial(convolve, **how), x, kernel)
    assert {a.dtype for a in (y, *pull(y))} == {jnp.dtype(dtype)}
    np.testing.assert_allclose(y.astype(jnp.float32), 3.6 / groups, rtol=2e-2)


@pytest.mark.heavy
def test_a_convolution_of_a_batch_whose_size_is_not_known():
    model = jd.nn.conv(5, 3)
    params, state = model.init(KEY, jnp.ones((1, 8, 8, 4)))
    (batch,) = jax.export.symbolic_shape("batch")
    like = jax.ShapeDtypeStruct((batch, 8, 8, 4), jnp.float32)
    exported = jax.export.export(jax.jit(lambda x: model.apply(params, state, x)[0]))(like)
    x = jax.random.normal(KEY, (3, 8, 8, 4))
    close(exported.call(x), model.apply(params, state, x)[0])


TRANSPOSED = [
    ((2, 5, 3), {"kernel_size": 3, "strides": 2, "padding": "SAME"}),
    ((2, 5, 4, 3), {"kernel_size": (2, 3), "strides": (3, 2), "padding": "VALID"}),
    ((2, 5, 4, 3), {"kernel_size": 4, "strides": 2, "padding": "SAME", "dilation": 2}),
    ((1, 3, 4, 2, 2), {"kernel_size": 2, "padding": "VALID"}),
]


@pytest.mark.few(1)
@pytest.mark.parametrize(("shape", "kwargs"), TRANSPOSED)
def test_transposed_convolutions_are_those_of_flax(shape, kwargs):
    x = jax.random.normal(jax.random.key(1), shape)
    layer = jd.nn.conv_transpose(4, **kwargs)
    params, state = layer.init(KEY, x)
    space = len(shape) - 2
    wide = {n: (v,) * space if isinstance(v, int) else v for n, v in kwargs.items() if n != "padding"}
    other = nn.ConvTranspose(
        4,
        wide["kernel_size"],
        strides=wide.get("strides"),
        kernel_dilation=wide.get("dilation"),
        padding=kwargs["padding"],
    )
    expected = other.apply({"params": params}, x)
    np.testing.assert_allclose(layer.apply(params, state, x)[0], expected, rtol=1e-5, atol=1e-5)


def test_a_transposed_convolution_is_the_sum_of_shifted_kernels():
    layer = jd.nn.conv_transpose(1, 2, strides=2, padding="VALID", use_bias=False)
    params = {"kernel": jnp.array([[[3.0]], [[5.0]]])}
    y, _ = layer.apply(params, {}, jnp.array([[[1.0], [2.0]]]))
    # as flax, the kernel is not turned: an input x puts x · (last, …, first) down
    assert y.ravel().tolist() == [5.0, 3.0, 10.0, 6.0]
    with pytest.raises(TypeError, match="padding must be 'SAME' or 'VALID'"):
        jd.nn.conv_transpose(1, 2, padding=((1, 1),))
    with pytest.raises(ValueError, match=r"was initialised for .* 1 channels"):
        layer.apply(params, {}, jnp.ones((1, 2, 3)))


def test_a_batch_norm_behind_a_transposed_convolution_is_folded_into_it():
    x = jax.random.normal(KEY, (2, 3, 3, 2))
    model = jd.nn.serial(up=jd.nn.conv_transpose(4, 3, strides=2), bn=jd.nn.batch_norm())
    params, state = model.init(KEY, x)
    state = {"bn": {"mean": jnp.arange(4.0), "var": jnp.arange(1.0, 5.0)}}
    folded, fparams, fstate = jd.compress.fold_batch_norm(model, params, state)
    assert list(folded.layers) == ["up"]
    np.testing.assert_allclose(
        folded.apply(fparams, fstate, x)[0], model.apply(params, state, x)[0], atol=1e-5
    )
