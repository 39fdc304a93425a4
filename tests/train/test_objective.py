"""What an objective may not do."""

import jax.numpy as jnp
import pytest
from helpers.training import X, fit

import jaxdeep as jd


def test_a_loss_blown_up_by_broadcasting_is_refused():
    with pytest.raises(ValueError, match=r"values of shape \(70, 70\) for outputs of shape \(70, 1\)"):
        fit(
            model=jd.nn.dense(1),
            data=(X, X[:, 0]),
            loss=lambda o, y: (o - y) ** 2,
            metrics=None,
            validation=None,
        )


@pytest.mark.parametrize("name", ["loss", "val_loss"])
def test_a_metric_cannot_take_the_place_of_the_loss(name):
    def objective(params, state, batch, *, key=None, train=False):
        y, state = jd.nn.dense(3).apply(params, state, batch[0])
        return (y**2).mean() + jnp.inf, (state, {name: jnp.float32(0)})

    with pytest.raises(ValueError, match=f"metrics may not be called '{name}'"):
        fit(model=jd.nn.dense(3), loss=None, metrics=None, objective=objective)
