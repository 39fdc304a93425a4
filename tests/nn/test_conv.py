"""Convolutions against flax, and the form of their gradients."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY

import jaxdeep as jd

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


HOW = [(1, "SAME", 1), (2, "VALID", 1), (3, "SAME", 1), (1, "VALID", 2)]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("space", "how"), [*itertools.product((1, 2), HOW), (3, (2, "SAME", 1)), (3, (1, "VALID", 2))]
)
def test_gradients_of_a_convolution_are_in_the_order_that_is_fast_in_a_loop(space, how):
    strides, padding, dilation = how
    x = jax.random.normal(jax.random.key(0), (3, *(7, 8, 6)[:space], 4))
    layer = jd.nn.conv(5, (3, 2, 3)[:space], strides=strides, padding=padding, dilation=dilation)
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
        )

    y, pull = jax.vjp(ours, x, params["kernel"])
    cotangent = jax.random.normal(jax.random.key(2), y.shape)
    expected = jax.vjp(theirs, x, params["kernel"])[1](cotangent)
    for got, want in zip(pull(cotangent), expected):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    tangents = jnp.cos(x), jnp.sin(params["kernel"])
    forward = [jax.jvp(f, (x, params["kernel"]), tangents)[1] for f in (ours, theirs)]
    np.testing.assert_allclose(*forward, rtol=1e-4, atol=1e-4)

    rows = (0, space + 1, *range(1, space + 1))  # batch and channels first, then space
    kernel = (space + 1, space, *range(space))
    backward = jax.make_jaxpr(pull)(cotangent)
    orders = [
        eqn.params["dimension_numbers"]
        for eqn in jax.tree.leaves(backward.eqns, is_leaf=lambda e: hasattr(e, "primitive"))
        if eqn.primitive.name == "conv_general_dilated"
    ]
    assert len(orders) == 2
    for order in orders:
        assert (order.lhs_spec, order.rhs_spec, order.out_spec) == (rows, kernel, rows)


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
