"""jaxdeep's optimizers in the loops of Flax and Equinox, which must be those of jaxdeep."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx, serialization
from flax.training.train_state import TrainState

import jaxdeep as jd

X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [2.0], [-1.0]])).astype(np.float32)


def optimizer(where="*/kernel"):
    """One whose weight decay depends on names so much that a wrong leaf shows."""
    return jd.optimizers.adamw(1e-2, weight_decay=0.5, where=where)


def trained_by_hand(loss, params, tx, steps):
    """The parameters after steps that only optax' protocol is known to."""

    @jax.jit
    def step(params, state):
        grads = jax.grad(loss)(jd.optimizers.gradient_point(state, params))
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params


def close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, expected)


class Network(nnx.Module):
    """Layers as attributes and in a list."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.rest = nnx.List([nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)])

    def __call__(self, x):
        x = jnp.tanh(self.first(x))
        return self.rest[1](jnp.tanh(self.rest[0](x)))


@pytest.mark.few(1)
@pytest.mark.parametrize("where", ["*/kernel", ["first/*", "rest/1/bias"]])
def test_in_nnx_a_leaf_has_the_same_name_at_init_and_at_update(where):
    module = Network(nnx.Rngs(0))
    graph, params = nnx.split(module)
    expected = trained_by_hand(
        lambda pure: ((nnx.merge(graph, pure)(X) - Y) ** 2).mean(),
        nnx.to_pure_dict(params),
        optimizer(where),
        3,
    )
    there = nnx.Optimizer(module, optimizer(where), wrt=nnx.Param)

    @nnx.jit
    def step(module, there):
        there.update(module, nnx.grad(lambda module: ((module(X) - Y) ** 2).mean())(module))

    for _ in range(3):
        step(module, there)
    close(nnx.to_pure_dict(nnx.state(module, nnx.Param)), expected)


def test_a_variable_has_no_name_of_its_own():
    variables = nnx.state(Network(nnx.Rngs(0)), nnx.Param)
    assert jd.tree.leaf_paths(variables) == jd.tree.leaf_paths(nnx.to_pure_dict(variables))
    boxed = {"a": linen.Partitioned(jnp.ones(2), ("data",)), "value": jnp.ones(2)}
    assert jd.tree.leaf_paths(boxed) == ["a", "value"]


def test_a_list_of_nnx_names_what_is_not_there():
    with pytest.raises(ValueError, match=r"matches no leaf.*first/bias, first/kernel, rest/0/bias"):
        nnx.Optimizer(Network(nnx.Rngs(0)), optimizer("*/weight"), wrt=nnx.Param)


@pytest.mark.parametrize(
    "tx", [optimizer(), pytest.param(jd.optimizers.nag(1e-2), marks=pytest.mark.heavy)]
)
def test_in_the_train_state_of_flax(tx):
    module = linen.Sequential([linen.Dense(4), jnp.tanh, linen.Dense(1)])
    params = module.init(jax.random.key(0), X)["params"]

    def loss(params):
        return ((module.apply({"params": params}, X) - Y) ** 2).mean()

    @jax.jit
    def step(ts):
        point = jd.optimizers.gradient_point(ts.opt_state, ts.params)
        return ts.apply_gradients(grads=jax.grad(loss)(point))

    ts = TrainState.create(apply_fn=module.apply, params=params, tx=tx)
    for _ in range(20):
        ts = step(ts)
    close(ts.params, trained_by_hand(loss, params, tx, 20))


def test_in_a_loop_of_equinox_where_a_mask_is_a_module_that_can_be_called():
    module = eqx.nn.MLP(3, 1, 4, 1, key=jax.random.key(0))
    mask = jax.tree.map(lambda leaf: eqx.is_inexact_array(leaf) and leaf.ndim == 2, module)
    assert callable(mask)
    assert callable(module)
    params, static = eqx.partition(module, eqx.is_inexact_array)

    @eqx.filter_jit
    def step(module, state, tx):
        grads = eqx.filter_grad(lambda module: ((jax.vmap(module)(X) - Y) ** 2).mean())(module)
        updates, state = tx.update(grads, state, eqx.filter(module, eqx.is_inexact_array))
        return eqx.apply_updates(module, updates), state

    tx = optimizer(mask)
    state = tx.init(params)
    for _ in range(20):
        module, state = step(module, state, tx)
    expected = trained_by_hand(
        lambda params: ((jax.vmap(eqx.combine(params, static))(X) - Y) ** 2).mean(),
        params,
        optimizer("*/weight"),
        20,
    )
    close(eqx.filter(module, eqx.is_inexact_array), expected)
    assert jd.tree.mask(params, mask).layers[0].weight is True


@pytest.mark.heavy
@pytest.mark.parametrize(
    "make",
    [
        optimizer,
        lambda: optax.chain(
            jd.optimizers.clip_by_norm(1.0), jd.optimizers.nadam(jd.schedules.cosine(1e-2, 9))
        ),
        lambda: jd.optimizers.lookahead(jd.optimizers.adam(1e-2), sync_period=2),
    ],
)
def test_a_train_state_of_flax_that_was_saved_goes_on_to_the_same_bits(make):
    module = linen.Sequential([linen.Dense(4), jnp.tanh, linen.Dense(1)])
    params = module.init(jax.random.key(0), X)["params"]

    def fresh():
        return TrainState.create(apply_fn=module.apply, params=params, tx=make())

    @jax.jit
    def step(ts):
        loss = lambda params: ((ts.apply_fn({"params": params}, X) - Y) ** 2).mean()  # noqa: E731
        return ts.apply_gradients(grads=jax.grad(loss)(ts.params))

    def trained(ts, steps):
        for _ in range(steps):
            ts = step(ts)
        return ts

    saved = serialization.to_bytes(trained(fresh(), 3))
    resumed = trained(serialization.from_bytes(fresh(), saved), 3)
    jax.tree.map(
        np.testing.assert_array_equal,
        *((ts.step, ts.params, ts.opt_state) for ts in (resumed, trained(fresh(), 6))),
    )


@pytest.mark.heavy
def test_an_optimizer_of_nnx_that_was_saved_goes_on_to_the_same_bits():
    def fresh():
        module = Network(nnx.Rngs(0))
        return module, nnx.Optimizer(module, optimizer(), wrt=nnx.Param)

    @nnx.jit
    def step(module, there):
        there.update(module, nnx.grad(lambda module: ((module(X) - Y) ** 2).mean())(module))

    def trained(pair, steps):
        for _ in range(steps):
            step(*pair)
        return pair

    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(trained(fresh(), 3)))]
    begun = fresh()
    nnx.update(begun, jax.tree.unflatten(jax.tree.structure(nnx.state(begun)), leaves))
    resumed, whole = (nnx.state(pair) for pair in (trained(begun, 3), trained(fresh(), 6)))
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
