"""Losses and parameters that are not finite."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.training import X, fit, problem

import jaxdeep as jd


@pytest.mark.heavy
def test_a_non_finite_loss_stops_the_run_and_names_step_epoch_and_leaf():
    data = problem()
    data[0][33] = np.nan
    with pytest.raises(
        FloatingPointError, match=r"not finite at step \d+ \(epoch 1\).*first non-finite leaf is"
    ) as info:
        fit(data=data)
    assert "params/bn/bias" in str(info.value) or "opt_state" in str(info.value)
    history = fit(data=data, on_nonfinite="ignore").history
    assert len(history["loss"]) == 3


def test_the_first_bad_step_is_named_exactly():
    def objective(params, state, batch, *, key=None, train=False):
        loss = (params["w"] * batch.mean()) ** 2
        return loss, (state, {})

    data = np.ones(40, np.float32)
    data[25] = np.inf
    with pytest.raises(FloatingPointError, match=r"step 2 \(epoch 1\)"):
        fit(
            model=jd.nn.flatten(),
            data=data,
            loss=None,
            metrics=None,
            objective=objective,
            validation=None,
            params={"w": jnp.ones(())},
            state={},
            shuffle=False,
            batch_size=10,
        )


@pytest.mark.heavy
def test_parameters_that_end_up_not_finite_are_an_error_even_if_every_loss_was():
    arguments = {
        "model": jd.nn.dense(1, kernel_init=jd.nn.initializers.zeros),
        "data": (X, np.zeros((70, 1), np.float32)),
        "loss": lambda outputs, y: jnp.sqrt((outputs - y) ** 2),
        "metrics": None,
        "validation": None,
        "epochs": 1,
        "batch_size": 70,
    }
    with pytest.raises(
        FloatingPointError, match=r"left params/(bias|kernel) not finite, though every loss was"
    ):
        fit(**arguments)
    assert fit(**arguments, on_nonfinite="ignore").history["loss"] == [0.0]
