"""Trained values back in modules of Flax and Equinox, and in again."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import jaxdeep as jd
from jaxdeep.adapters import (
    from_equinox,
    from_linen,
    from_nnx,
    lift,
    lower,
    to_equinox,
    to_linen,
    to_nnx,
    to_opt_state,
)

KEY = jax.random.key(3)
X = jax.random.normal(jax.random.key(1), (8, 5))
Y = jnp.arange(8) % 3


class Linen(linen.Module):
    """Batch norm, and a kernel in a box."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        boxed = linen.with_partitioning(linen.initializers.lecun_normal(), (None, "model"))
        x = linen.Dense(4, kernel_init=boxed)(x)
        return linen.Dense(3)(linen.BatchNorm(use_running_average=not train, momentum=0.9)(x))


class Nnx(nnx.Module):
    """A list and a dict, with digits for names, and a module that is in two places."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(5, 5, rngs=rngs), nnx.Linear(5, 5, rngs=rngs)])
        self.named = nnx.Dict({"0": nnx.Linear(5, 3, rngs=rngs)})
        self.again = self.layers[0]
        self.norm = nnx.BatchNorm(5, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        for layer in (*self.layers, self.again):
            x = nnx.tanh(layer(x))
        return self.named["0"](self.drop(self.norm(x)))


class Eqx(eqx.Module):
    """Batch norm, and an array that is in two places."""

    shared: eqx.nn.Shared
    norm: eqx.nn.BatchNorm
    out: eqx.nn.Linear

    def __init__(self, key):
        one, two, three = jax.random.split(key, 3)
        pair = (eqx.nn.Linear(5, 5, key=one), eqx.nn.Linear(5, 5, key=two))
        self.shared = eqx.nn.Shared(pair, where=lambda p: p[1].weight, get=lambda p: p[0].weight)
        self.norm = eqx.nn.BatchNorm(5, "batch", mode="batch", momentum=0.5)
        self.out = eqx.nn.Linear(5, 3, key=three)

    def __call__(self, x, state):
        for layer in self.shared():
            x = jnp.tanh(layer(x))
        x, state = self.norm(x, state)
        return self.out(x), state


def trained(model, params, state):
    return jd.fit(
        model, (X, Y), loss=jd.losses.softmax_cross_entropy, optimizer=optax.adam(1e-2), epochs=2,
        batch_size=4, params=params, state=state, key=KEY, progress=False,
    )  # fmt: skip


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def plain(tree):
    """The leaves, in an order that boxes do not change."""
    return dict(zip(jd.tree.leaf_paths(tree), jax.tree.leaves(tree)))


def test_linen_variables_keep_their_boxes():
    module = Linen()
    variables = module.init(KEY, X)
    model = from_linen(module)
    params, state = model.init(KEY, X)
    back = to_linen(linen.meta.unbox(params), state, variables)
    assert isinstance(back["params"]["Dense_0"]["kernel"], linen.Partitioned)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    same(to_linen(params, state), {"params": params, **state})
    with pytest.raises(ValueError, match=r"leaves that no array fills \(1\): params/Dense_1/bias"):
        to_linen({**params, "Dense_1": {"kernel": params["Dense_1"]["kernel"]}}, state, variables)


@pytest.mark.heavy
def test_linen_in_trained_out_and_in_again():
    module, model = Linen(), from_linen(Linen())
    params, state = model.init(KEY, X)
    result = trained(model, params, state)
    variables = to_linen(result.params, result.state, module.init(KEY, X))
    logits, _ = model.apply(result.params, result.state, X)
    np.testing.assert_allclose(module.apply(variables, X), logits, rtol=1e-6)
    lifted, *own = lift(model, result.params, result.state, X)
    np.testing.assert_allclose(lifted.apply(*own, X)[0], logits, rtol=1e-5, atol=1e-5)
    same(lower(model, result.params, result.state, *own, X), (result.params, result.state))
    moments = to_opt_state(result.train_state.opt_state, optax.adam(1e-2).init(variables["params"]))
    same(plain(moments), plain(result.train_state.opt_state))


@pytest.mark.heavy
@pytest.mark.parametrize("in_place", [False, True])
def test_nnx_in_trained_out_and_in_again(in_place):
    module = Nnx(nnx.Rngs(0))
    model = from_nnx(module)
    params, state = model.init(KEY, X)
    before = jax.tree.map(jnp.copy, params)
    result = trained(model, params, state)
    new = to_nnx(module, result.params, result.state, in_place=in_place)
    assert (new is module) == in_place
    assert new.again is new.layers[0]
    if not in_place:
        same(from_nnx(module).init(KEY, X)[0], before)
    new.eval()
    np.testing.assert_allclose(new(X), model.apply(result.params, result.state, X)[0], rtol=1e-6)
    same(from_nnx(new).init(KEY, X), (result.params, result.state))
    # names that are texts, as JSON and Orbax give them back, are the same places
    as_text = {**result.params, "layers": {str(i): own for i, own in result.params["layers"].items()}}
    same(from_nnx(to_nnx(Nnx, as_text, result.state)).init(KEY, X), (result.params, result.state))
    optimizer = nnx.Optimizer(new, optax.adam(1e-2), wrt=nnx.Param)
    moments = to_opt_state(result.train_state.opt_state, optimizer.opt_state)
    assert jax.tree.structure(moments) == jax.tree.structure(optimizer.opt_state)
    same(plain(moments), plain(result.train_state.opt_state))


@pytest.mark.heavy
def test_equinox_in_trained_out_and_in_again():
    module, own_state = eqx.nn.make_with_state(Eqx)(KEY)
    model = from_equinox(module, own_state)
    params, state = model.init(KEY, X)
    result = trained(model, params, state)
    new, new_state = to_equinox(module, result.params, result.state, own_state)
    assert jax.tree.structure((new, new_state)) == jax.tree.structure((module, own_state))
    inference = eqx.nn.inference_mode(new)
    logits, _ = jax.vmap(inference, (0, None), (0, None), axis_name="batch")(X, new_state)
    np.testing.assert_allclose(
        logits, model.apply(result.params, result.state, X)[0], rtol=1e-5, atol=1e-6
    )
    same(from_equinox(new, new_state).init(KEY, X), (result.params, result.state))
    made, made_state = to_equinox(Eqx, result.params, result.state)
    same(from_equinox(made, made_state).init(KEY, X), (result.params, result.state))
    like = optax.adam(1e-2).init(eqx.filter(new, eqx.is_inexact_array))
    moments = to_opt_state(result.train_state.opt_state, like)
    same(plain(moments), plain(result.train_state.opt_state))


@pytest.mark.heavy
def test_a_run_goes_on_elsewhere_with_its_moments():
    model = from_equinox(lambda key: eqx.nn.MLP(5, 3, 4, 1, key=key))
    tx = optax.adam(1e-2)
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    ts = jd.train.init(model, tx, X, key=KEY)
    step = jax.jit(jd.train.make_step(objective, tx))
    for _ in range(3):
        ts, _ = step(ts, (X, Y))
    module = to_equinox(lambda key: eqx.nn.MLP(5, 3, 4, 1, key=key), ts.params, ts.state)
    opt_state = to_opt_state(ts.opt_state, tx.init(eqx.filter(module, eqx.is_inexact_array)))

    @eqx.filter_grad
    def gradient(module):
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(jax.vmap(module)(X), Y)
        return losses.mean()

    updates, _ = tx.update(gradient(module), opt_state)
    module = eqx.apply_updates(module, updates)
    ts, _ = step(ts, (X, Y))
    np.testing.assert_allclose(module.layers[0].weight, ts.params["layers"]["0"]["weight"], rtol=1e-5)


def test_what_does_not_fit_is_refused_by_name():
    module = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    params, state = from_nnx(module).init(KEY, X)
    with pytest.raises(ValueError, match=r"kernel has shape \(2, 3\), and kernel \(5, 3\)"):
        to_nnx(module, {**params, "kernel": jnp.ones((2, 3))}, state)
    with pytest.raises(ValueError, match=r"arrays not used \(1\): other"):
        to_nnx(module, {**params, "other": jnp.ones(2)}, state)
    with pytest.raises(TypeError, match=r"module must be a flax\.nnx\.Module"):
        to_nnx(3, params, state)
    with pytest.raises(TypeError, match="in_place=True needs a module"):
        to_nnx(lambda rngs: module, params, state, in_place=True)
    with pytest.raises(TypeError, match="params must be a dict"):
        to_linen(3, {})
    with pytest.raises(TypeError, match=r"module must be an equinox\.Module"):
        to_equinox(3, params, state)
    for call, model in ((to_nnx, from_nnx(module)), (to_equinox, from_equinox(Eqx))):
        with pytest.raises(
            TypeError, match=r"got a model of jaxdeep, \w+\(\), .* pass the module itself"
        ):
            call(model, params, state)
    for adapter in (from_linen, from_nnx, from_equinox):
        with pytest.raises(TypeError, match=r"got a model of jaxdeep, .* pass the module itself"):
            adapter(from_nnx(module))
