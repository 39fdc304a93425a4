"""What the arrays of known states hold."""

import sys

import jax.numpy as jnp
import optax

import jaxdeep as jd
from jaxdeep.optimizers import slots
from jaxdeep.optimizers.slots import kinds_of


def test_every_field_that_is_known_is_one_of_a_state_of_optax():
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "optax"]
    for name, fields in slots._KNOWN.items():
        found = {getattr(module, name) for module in modules if hasattr(module, name)}
        if name != "TransformState":  # jaxdeep's
            (state,) = found
            assert {*fields} <= {*state._fields}


def test_the_same_name_is_something_else_in_another_state():
    params = {"nu": jnp.ones((2, 2)), "none": None}
    assert kinds_of(optax.scale_by_adam().init(params)) == ["other", "average", "square"]
    assert kinds_of(optax.scale_by_sm3().init(params)) == ["other", "other", "average"]
    assert kinds_of(optax.MultiSteps(optax.scale_by_rss(), 2).init(params)) == [
        *("other", "other", "sum", "average")
    ]
    masked = optax.masked(jd.optimizers.adagrad(0.1), {"nu": True, "none": None})
    assert kinds_of(masked.init(params)).count("sum") == 1


def test_a_class_that_only_has_the_name_of_one_is_not_known():
    ScaleByAdamState = type("ScaleByAdamState", (optax.ScaleByAdamState,), {"__module__": "elsewhere"})
    state = ScaleByAdamState(*optax.scale_by_adam().init(jnp.ones(2)))
    assert kinds_of(state) == ["other"] * 3
