"""Pretraining: layer by layer from inputs alone, and on another task."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.runs import identical

import jaxdeep as jd
from jaxdeep.transfer import pretrain_layerwise, pretrain_on_task

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
# 200 rows of 12 numbers that are made of 3: hidden layers have something to find.
X = np.tanh(RNG.normal(size=(200, 3)) @ RNG.normal(size=(3, 12))).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)


def network(outputs=2):
    return jd.nn.serial(
        flatten=jd.nn.flatten(),
        hidden1=jd.nn.dense(8),
        bn1=jd.nn.batch_norm(),
        act1=jd.nn.activation(jnp.tanh),
        hidden2=jd.nn.dense(4, activation=jnp.tanh),
        logits=jd.nn.dense(outputs),
    )


def rebuilt(model, params, state, name, h):
    """How well the input of a layer is a linear function of its output: the share left."""
    after = ["hidden1", "bn1", "act1"] if name == "hidden1" else [name]
    part = jd.nn.serial(**{one: model.layers[one] for one in after})
    own = {one: params[one] for one in after if one in params}
    out = np.asarray(part.apply(own, {k: v for k, v in state.items() if k in after}, h)[0], float)
    out = np.column_stack([out, np.ones(len(out))])
    target = np.asarray(h, float)
    found = out @ np.linalg.lstsq(out, target, rcond=None)[0]
    return ((target - found) ** 2).mean() / target.var(), out[:, :-1]


@pytest.mark.heavy
def test_every_hidden_layer_learns_to_give_its_input_back():
    model = network()
    drawn = model.init(KEY, X[:1])
    found = pretrain_layerwise(
        model, X, optimizer=optax.adam(0.01), key=KEY, epochs=15, batch_size=20, noise=0.1
    )
    identical(found[0]["logits"], drawn[0]["logits"])
    assert jax.tree.structure(found) == jax.tree.structure(drawn)
    assert np.abs(found[1]["bn1"]["mean"]).max() > 0  # statistics of what goes through
    for parts in (found, drawn):
        left, h = rebuilt(model, *parts, "hidden1", X)
        deeper, _ = rebuilt(model, *parts, "hidden2", h.astype(np.float32))
        parts[0]["left"] = (left, deeper)
    assert all(np.less(found[0]["left"], drawn[0]["left"]))


@pytest.mark.heavy
def test_the_same_key_gives_the_same_bits():
    options = {"optimizer": jd.optimizers.adam(0.01), "epochs": 1, "batch_size": 50}
    once, again = (pretrain_layerwise(network(), X, key=3, **options) for _ in range(2))
    identical(once, again)
    identical(once, pretrain_layerwise(network(), X, key=jax.random.key(3), **options))


@pytest.mark.heavy
def test_convolutions_and_their_pools_are_pretrained_too():
    model = jd.nn.serial(
        conv=jd.nn.conv(3, 3), pool=jd.nn.max_pool(2), flatten=jd.nn.flatten(), out=jd.nn.dense(2)
    )
    images = RNG.normal(size=(20, 6, 6, 1)).astype(np.float32)
    params, _ = pretrain_layerwise(
        model, images, optimizer=jd.optimizers.sgd(0.01), key=KEY, epochs=1, batch_size=10
    )
    fresh, _ = model.init(KEY, images[:1])
    assert not np.array_equal(params["conv"]["kernel"], fresh["conv"]["kernel"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": jd.nn.dense(2)}, ValueError, "layers one after another"),
        ({"model": jd.nn.serial(out=jd.nn.dense(2))}, ValueError, "a hidden layer .* got out"),
        ({"noise": 1.0}, ValueError, r"noise must be in \[0, 1\), got 1.0"),
        ({"noise": "a"}, TypeError, "noise must be a number"),
        ({"key": 0.5}, TypeError, "key"),
        ({"batch_size": 300}, ValueError, "batch_size"),
        ({"x": "a"}, TypeError, "x must be an array"),
    ],
)
def test_what_cannot_be_pretrained_is_refused(changes, error, message):
    arguments = {"model": network(), "x": X, "optimizer": optax.adam(0.01), "key": KEY} | changes
    with pytest.raises(error, match=message):
        pretrain_layerwise(arguments.pop("model"), arguments.pop("x"), **arguments)


TASK = {"loss": jd.losses.softmax_cross_entropy, "batch_size": 50, "progress": False}


@pytest.mark.heavy
def test_a_task_trains_what_is_below_the_head_and_leaves_the_head():
    model = network(10)
    drawn, _ = model.init(KEY, X[:1])
    params, state = pretrain_on_task(
        model, (X, Y), head=jd.nn.dense(2), optimizer=optax.adam(0.01), key=KEY, epochs=20, **TASK
    )
    identical(params["logits"], drawn["logits"])
    # the other task is now a matter of the head alone
    task, *begun = jd.transfer.replace_head(model, params, state, jd.nn.dense(2), X[:1], key=1)
    result = jd.fit(
        task,
        (X, Y),
        optimizer=optax.adam(0.05),
        params=begun[0],
        state=begun[1],
        trainable="logits/*",
        epochs=10,
        key=KEY,
        **TASK,
    )
    right = np.argmax(result.predict(X), axis=-1) == Y
    assert right.mean() > 0.95


def test_what_is_trained_may_be_named():
    model = network()
    drawn, _ = model.init(KEY, X[:1])
    params, _ = pretrain_on_task(
        model, (X, Y), head=jd.nn.dense(2), layer="hidden2", optimizer=optax.sgd(0.1), key=KEY, **TASK
    )
    identical(params["hidden2"], drawn["hidden2"])
    assert not np.array_equal(params["hidden1"]["kernel"], drawn["hidden1"]["kernel"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": X}, TypeError, r"data must be arrays \(x, y\)"),
        ({"params": {}}, TypeError, "unexpected keyword argument 'params'"),
        ({"layer": "nope"}, ValueError, "layer='nope' is no layer"),
        ({"epoch": 2}, TypeError, "did you mean 'epochs'"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(changes, error, message):
    arguments = {"data": (X, Y), "head": jd.nn.dense(2), "optimizer": optax.adam(0.01), "key": KEY}
    arguments |= TASK | changes
    with pytest.raises(error, match=message):
        pretrain_on_task(network(), arguments.pop("data"), **arguments)
