"""Gradients, parameters and states that do not belong together, and leaves that are None."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import transformations
from helpers.properties import damaged, over

import jaxdeep as jd

PARAMS = {"a": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, "b": jnp.ones(())}
STATELESS = {
    "clip_by_value": lambda: jd.optimizers.clip_by_value(1.0),
    "clip_by_global_norm": lambda: jd.optimizers.clip_by_global_norm(1.0),
    "add_decayed_weights": lambda: jd.optimizers.add_decayed_weights(0.1),
    "multiply": lambda: jd.optimizers.multiply(0.1),
}
OPTIMIZERS = {
    "sgd": lambda: jd.optimizers.sgd(0.1),
    "nag": lambda: jd.optimizers.nag(0.1),
    "adam": lambda: jd.optimizers.adam(0.1),
    "ema_params": lambda: jd.optimizers.ema_params(0.9),
    "max_norm": lambda: jd.optimizers.max_norm(1.0, axis=None),
    "skip_nonfinite": lambda: jd.optimizers.skip_nonfinite(jd.optimizers.sgd(0.1)),
}
ALL = STATELESS | OPTIMIZERS
EVERY = {
    name: optax.with_extra_args_support(transformations.make(name)) for name in transformations.FACTORIES
}
VALUE = {"value": jnp.zeros(())}  # of reduce_on_plateau


@pytest.mark.few("adam", "clip_by_value")
@pytest.mark.parametrize("name", EVERY)
@over(8, 200, damage=damaged(PARAMS))
def test_gradients_of_another_structure_or_shape_are_refused_by_their_path(name, damage):
    tx, (grads, path) = EVERY[name], damage
    state = tx.init(PARAMS)
    for update in (tx.update, jax.jit(tx.update)):
        with pytest.raises(ValueError, match=path):
            update(grads, state, PARAMS, **VALUE)


@pytest.mark.few("adam", "clip_by_value")
@pytest.mark.parametrize("name", EVERY)
@over(8, 200, damage=damaged(PARAMS))
def test_parameters_of_another_structure_or_shape_are_refused_by_their_path(name, damage):
    tx, (params, path) = EVERY[name], damage
    with pytest.raises(ValueError, match=path.removesuffix("2")):
        tx.update(PARAMS, tx.init(PARAMS), params, **VALUE)


@pytest.mark.few("adam", "low_precision")
@pytest.mark.parametrize("name", EVERY)
def test_gradients_of_whole_numbers_are_refused_by_their_path(name):
    params = {"n": jnp.arange(3), "w": jnp.ones(3)}
    grads = jax.grad(lambda p: (p["w"] * p["n"]).sum(), allow_int=True)(params)
    with pytest.raises(TypeError, match="n must be an array of real numbers, got float0; leave it out"):
        EVERY[name].update(grads, EVERY[name].init(params), params, **VALUE)


@pytest.mark.few("adam", "low_precision")
@pytest.mark.parametrize("name", EVERY)
def test_random_keys_among_parameters_are_refused_by_their_path(name):
    """Where the optimizer keeps nothing, only in the gradients."""
    params, tx = {"k": jax.random.key(0), "w": jnp.ones(3)}, EVERY[name]
    with pytest.raises(TypeError, match=r"k must be an array of real numbers, got (key<fry>|float0)"):
        tx.update(
            {"k": np.zeros((), jax.dtypes.float0), "w": jnp.ones(3)}, tx.init(params), params, **VALUE
        )


@pytest.mark.few("adam", "clip_by_value")
@pytest.mark.parametrize("name", EVERY)
@over(8, 200, damage=damaged(PARAMS))
def test_a_state_of_other_parameters_is_refused_by_its_path(name, damage):
    tx, (params, path) = EVERY[name], damage
    state = tx.init(params)
    shapes = [jax.tree.map(jnp.shape, s) for s in (state, tx.init(PARAMS))]
    if shapes[0] == shapes[1]:
        return  # nothing of the leaves is in it
    with pytest.raises(ValueError, match=path.split("|")[0].split("/")[-1].removesuffix("2")):
        tx.update(PARAMS, state, PARAMS, **VALUE)


def test_gradients_that_are_not_those_of_the_state_are_refused_without_parameters():
    tx = jd.optimizers.adam(0.1)
    with pytest.raises(
        ValueError, match=r"the update of w has shape \(3,\), and the state there \(2, 3\)"
    ):
        tx.update({"w": jnp.ones(3)}, tx.init({"w": jnp.ones((2, 3))}))


@pytest.mark.parametrize("name", [*ALL, "reduce_on_plateau", "keep_zeros"])
def test_a_state_that_is_none_is_refused(name):
    makers = {"reduce_on_plateau": jd.optimizers.reduce_on_plateau}
    makers["keep_zeros"] = lambda: jd.compress.keep_zeros("*kernel")
    tx = (ALL | makers)[name]()
    with pytest.raises(TypeError, match=r"state must be what init\(params\) returned, a \w+, got None"):
        tx.update(PARAMS, None, PARAMS)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gradient_that_is_none_leaves_its_parameter(name):
    tx = OPTIMIZERS[name]()
    state = tx.init(PARAMS)
    grads = {"a": {"kernel": jnp.ones((3, 2)), "bias": None}, "b": jnp.ones(())}
    updates, new = tx.update(grads, state, PARAMS)
    assert updates["a"]["bias"] is None
    assert jax.tree.structure(new) == jax.tree.structure(state)
    full, _ = tx.update({**grads, "a": {**grads["a"], "bias": jnp.zeros(2)}}, state, PARAMS)
    np.testing.assert_array_equal(updates["a"]["kernel"], full["a"]["kernel"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_that_are_none_have_no_state(name):
    tx = OPTIMIZERS[name]()
    params = {"a": None, "b": jnp.ones(2)}
    updates, state = tx.update({"a": None, "b": jnp.ones(2)}, tx.init(params), params)
    alone, _ = tx.update({"b": jnp.ones(2)}, tx.init({"b": params["b"]}), {"b": params["b"]})
    np.testing.assert_array_equal(updates["b"], alone["b"])
    assert updates["a"] is None
    with pytest.raises(
        ValueError, match="the update of a is an array, and the parameters there are None"
    ):
        tx.update({"a": jnp.ones(2), "b": jnp.ones(2)}, state, params)


@pytest.mark.parametrize(("there", "here"), [("adam", "sgd"), ("adamw", "adam"), ("adam", "rmsprop")])
def test_the_state_of_another_optimizer_is_refused(there, here):
    params = {"w": jnp.ones(2)}
    state = getattr(jd.optimizers, there)(0.1).init(params)
    with pytest.raises(ValueError, match="the state is of another optimizer: it has"):
        getattr(jd.optimizers, here)(0.1).update(params, state, params)
