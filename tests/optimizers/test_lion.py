"""Lion beside the installed optax, and its hyperparameters where a sign hides most of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.optax_parity import check_every_step, trained

from jaxdeep import optimizers as o

OPTIONS = {"b1": 0.8, "b2": 0.95, "weight_decay": 0.02}


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["defaults", "options"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_step_is_that_of_optax(options, dtype):
    check_every_step(o.lion(0.01, **options), optax.lion(0.01, **options), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rule_alone_is_that_of_optax(dtype):
    check_every_step(o.scale_by_lion(b1=0.8, b2=0.95), optax.scale_by_lion(0.8, 0.95), dtype)


def test_decay_of_the_selected_leaves():
    mask = {"kernel": True, "bias": False}
    ours, theirs = o.lion(0.01, where="kernel"), optax.lion(0.01, mask=mask)
    check_every_step(ours, theirs, "float32")
    with pytest.raises(ValueError, match="weight decay needs the parameters"):
        ours.update(jnp.ones(2), o.lion(0.01).init(jnp.ones(2)))


@pytest.mark.few(1)
@pytest.mark.parametrize("name", OPTIONS)
def test_vmap_over_a_hyperparameter_equals_a_loop(name):
    values = [0.5, 0.99]

    def train(value):
        return trained(o.lion(0.01, **{name: value}))["kernel"]

    stacked = jax.vmap(train)(jnp.array(values))
    np.testing.assert_allclose(stacked, [train(value) for value in values], rtol=1e-5, atol=1e-6)
    assert not np.allclose(stacked[0], stacked[1])


def test_every_element_moves_by_the_learning_rate():
    tx = o.lion(0.25, weight_decay=0.0)
    g = jnp.array([1e-20, -3.0, 0.0])
    u, state = tx.update(g, tx.init(g), g)
    np.testing.assert_array_equal(u, [-0.25, 0.25, 0.0])
    assert set(o.hyperparams(state)) == {"b1", "b2", "learning_rate", "weight_decay"}


def test_the_momentum_of_bfloat16_parameters_is_float32_unless_told():
    x = jnp.ones(3, jnp.bfloat16)
    assert o.lion(0.1).init(x).slots["mu"].dtype == jnp.float32
    assert o.lion(0.1, mu_dtype="bfloat16").init(x).slots["mu"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: o.lion(-1.0), "learning_rate must be in"),
        (lambda: o.lion(0.1, b1=1.0), r"b1 must be in \[0, 1\), got 1.0"),
        (lambda: o.lion(0.1, b2=-0.1), "b2 must be in"),
        (lambda: o.lion(0.1, weight_decay=-0.1), "weight_decay must be in"),
        (lambda: o.lion(0.1, mu_dtype="int8"), "mu_dtype must be a floating-point dtype"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
