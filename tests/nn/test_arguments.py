"""Arguments that make no sense, and inputs at the edge of what layers take."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY, run

import jaxdeep as jd


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jd.nn.conv(0, 3), "filters must be at least 1, got 0"),
        (lambda: jd.nn.conv(4, 0), "kernel_size must be at least 1"),
        (lambda: jd.nn.conv(4, "3"), "kernel_size must be a whole number"),
        (lambda: jd.nn.conv(4, 3, padding="FULL"), "padding must be 'SAME', 'VALID' or"),
        (lambda: jd.nn.conv(4, 3, padding=[(1, -1)]), "padding must be pairs that are not negative"),
        (lambda: jd.nn.conv(4, 3, groups=3), "groups must divide filters=4, got groups=3"),
        (
            lambda: jd.nn.conv(4, 3, activation="relu"),
            "activation must be a function such as jax.nn.relu, got 'relu'",
        ),
        (
            lambda: jd.nn.conv(4, 3, activation=jd.nn.prelu),
            r"jd\.nn\.prelu makes a layer; the function is jd\.nn\.activations\.prelu",
        ),
        (
            lambda: jd.nn.dense(4, activation=functools.partial(jd.nn.swish, 2.0)),
            r"jd\.nn\.swish makes a layer; the function is jd\.nn\.activations\.swish",
        ),
        (
            lambda: jd.nn.dense(4, activation=jd.nn.rrelu()),
            "activation must be a function, got the layer rrelu",
        ),
        (
            lambda: jd.nn.activation(jd.nn.rrelu),
            r"function must be .* jd\.nn\.rrelu makes a layer",
        ),
        (lambda: run(jd.nn.conv(4, 3, groups=2), jnp.ones((1, 8, 8, 3))), "must divide the 3 channels"),
        (lambda: run(jd.nn.conv(4, (3, 3)), jnp.ones((1, 8, 3))), "kernel_size must be one number or 1"),
        (lambda: run(jd.nn.conv(4, 3), jnp.ones((8, 3))), "1 to 3 axes of space, got shape"),
        (lambda: run(jd.nn.max_pool(2), jnp.ones((8, 3))), "1 to 3 axes of space"),
        (lambda: jd.nn.max_pool(0), "window must be at least 1"),
        (lambda: jd.nn.dropout(1.5), r"rate must be in \[0, 1\], got 1.5"),
        (lambda: jd.nn.alpha_dropout(1.0), r"rate must be in \[0, 1\), got 1.0"),
        (
            lambda: run(jd.nn.dropout(0.5, noise_shape=(1, 2)), jnp.ones((4, 3)), key=KEY),
            r"noise_shape=\(1, 2\) does not broadcast",
        ),
        (lambda: jd.nn.gaussian_noise(-1), "stddev must be in"),
        (lambda: jd.nn.rrelu(0.5, 0.1), "lower must be at most upper, got lower=0.5, upper=0.1"),
        (lambda: run(jd.nn.prelu(shared_axes=(0,)), jnp.ones((1, 3))), "other than 0"),
        (
            lambda: jd.nn.batch_norm(axis_name=3),
            "axis_name must be a name, a tuple of names or None, got 3",
        ),
        (
            lambda: jd.nn.serial(d=jd.nn.dropout(0.5, noise_shape=(2,))).init(KEY, jnp.ones((3, 4))),
            r"d: noise_shape=\(2,\) does not broadcast",
        ),
        (
            lambda: run(jd.nn.conv(3, 5, padding="VALID"), jnp.ones((1, 3, 3, 1))),
            r"kernel_size must fit into the input, got \(5, 5\)",
        ),
        (lambda: run(jd.nn.max_pool(5), jnp.ones((1, 3, 3, 1))), "window must fit into the input"),
        (lambda: jd.nn.prelu(shared_axes="ab"), "shared_axes must be whole numbers, got 'ab'"),
        (lambda: jd.nn.prelu(shared_axes=True), "shared_axes must be whole numbers, got True"),
        (
            lambda: jd.nn.prelu(shared_axes=(1, True)),
            r"shared_axes must be whole numbers, got \(1, True",
        ),
        (
            lambda: jd.nn.batch_norm(axis=True),
            "axis must be a whole number or a tuple of them, got True",
        ),
        (lambda: jd.nn.batch_norm(axis=(1, np.True_)), "axis must be a whole number or a tuple of them"),
        (lambda: jd.nn.layer_norm(axis=False), "axis must be a whole number or a tuple of them, got F"),
        (lambda: jd.nn.group_norm(True), "groups must be a whole number, got True"),
        (lambda: jd.nn.select(True), "name must be a key or the place of an input, got True"),
        (lambda: jd.nn.conv(True, 3), "filters must be a whole number, got True"),
        (lambda: jd.nn.conv(4, (3, True)), "kernel_size must be a whole number, got True"),
        (lambda: jd.nn.conv(4, 3, strides=True), "strides must be a whole number, got True"),
        (lambda: jd.nn.conv(4, 3, dilation=np.True_), "dilation must be a whole number"),
        (lambda: jd.nn.conv(4, 3, padding=[(True, 1)]), "padding must be 'SAME', 'VALID' or"),
        (lambda: jd.nn.max_pool(2, padding=((1, np.True_),)), "padding must be 'SAME', 'VALID' or"),
        (lambda: jd.nn.average_pool(True), "window must be a whole number, got True"),
        (lambda: jd.nn.layer_norm(epsilon=1e-50), "epsilon must be .*, got 1e-50, which float32 rounds"),
        (lambda: jd.nn.group_norm(1, epsilon=1e-50), "epsilon must be .*, which float32 rounds to 0"),
        (lambda: jd.nn.batch_norm(epsilon=1e-50), "epsilon must be .*, which float32 rounds to 0"),
        (lambda: jd.regularizers.l1(1e-50), "factor must be .*, which float32 rounds to 0"),
        (lambda: jd.regularizers.l1_l2(1, 1e-50), "l2 must be .*, which float32 rounds to 0"),
        (
            lambda: jd.losses.weighted({"a": jd.losses.mse}, {"a": 1e-50}),
            r"weights\['a'\] must be .*, which float32 rounds to 0",
        ),
        (lambda: jd.nn.reshape(True, 3), "sizes must be a whole number, got True"),
        (lambda: jd.nn.concatenate(jd.nn.flatten(), axis=True), "axis must be a whole number, got True"),
        (
            lambda: jd.nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=True),
            "in_axis must be a whole number or a tuple of them, got True",
        ),
        (lambda: jd.optimizers.max_norm(1.0, axis=True), "axis must be a whole number, a tuple"),
        (
            lambda: jd.preprocessing.standard_scaler(axis=(0, True)),
            "axis must be a whole number, a tuple",
        ),
        (lambda: jd.preprocessing.power_transform(axis=True), "axis must be a whole number, a tuple"),
        (lambda: jd.preprocessing.box_cox(jnp.ones(3), 1.0, axis=True), "axis must be a whole number"),
        (lambda: jd.nn.dense(3, bias_init=None), "bias_init must be a function, got None"),
        (lambda: jd.nn.conv(3, 3, bias_init=None), "bias_init must be a function, got None"),
        (
            lambda: run(jd.nn.average_pool(2, padding=[(2, 0)]), jnp.ones((1, 4, 1))),
            "padding must be smaller than the window",
        ),
        (lambda: jd.nn.embedding(0, 3), "num_embeddings must be at least 1"),
        (lambda: run(jd.nn.embedding(4, 3), jnp.ones(2)), "embedding needs integers, got"),
        (lambda: run(jd.nn.embedding(4, 3), jnp.array([4])), "4 vectors, got numbers from 4 to 4"),
        (lambda: jd.nn.reshape(-1, -1), "one size may be -1"),
        (
            lambda: run(jd.nn.batch_norm(), jnp.ones((4, 3)), train=True, mask=jnp.ones(5, bool)),
            "mask must have the leading axes",
        ),
        (
            lambda: run(jd.nn.serial(block=jd.nn.serial(c=jd.nn.conv(4, 3))), jnp.ones((8, 3))),
            "block/c: ",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.heavy
def test_empty_batches_and_whole_numbers():
    assert run(jd.nn.reshape(28, -1), jnp.ones((0, 784))).shape == (0, 28, 28)
    np.testing.assert_array_equal(run(jd.nn.prelu(0.5), jnp.array([[-4, 2]])), [[-2.0, 2.0]])
    np.testing.assert_array_equal(run(jd.nn.rrelu(), jnp.array([-48])), [-11.0])
    assert run(jd.nn.swish(), jnp.array([[1, 2]])).dtype == jnp.float32
    assert np.isfinite(run(jd.nn.alpha_dropout(0.9999999), jnp.ones(4), key=KEY)).all()
    with pytest.raises(ValueError, match=r"select\(0\): the inputs are"):
        run(jd.nn.select(0), jnp.ones((3, 2)))
