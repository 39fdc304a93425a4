"""What is said about networks that are known to be well or ill."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.flows import CE, DIGITS, INIT, KEY, SLOW, UNIT, X, Y, begun, flow, network, small

import jaxdeep as jd
from jaxdeep.diagnostics import diagnose, gradient_flow, report

SEEDS = 4


def kinds(model, data=DIGITS, rows=128):
    """The kinds of findings at each of some seeds."""
    batch = jnp.asarray(data[0][:rows]), jnp.asarray(data[1][:rows])

    def of(key):
        return gradient_flow(model, *model.init(key, batch[0]), batch, loss=CE)

    flows = jax.jit(jax.vmap(of))(jax.random.split(KEY, SEEDS))
    return [
        {found.kind for found in diagnose(jax.tree.map(lambda a, i=i: a[i], flows))}
        for i in range(SEEDS)
    ]


CASES = {
    "sigmoid, normal(1)": ((jax.nn.sigmoid, UNIT, UNIT), {"saturated"}),
    "tanh, normal(1)": ((jnp.tanh, UNIT, UNIT), {"saturated"}),
    "sigmoid, Glorot": ((jax.nn.sigmoid, INIT.glorot_normal()), {"vanishing gradient"}),
    "relu, He": ((jax.nn.relu, INIT.he_normal()), set()),
    "relu, normal(1)": (
        (jax.nn.relu, UNIT, UNIT),
        {"exploding gradient", "exploding activations"},
    ),
    "relu, normal(0.01)": (
        (jax.nn.relu, INIT.normal(0.01)),
        {"vanishing gradient", "vanishing activations"},
    ),
    "tanh, Glorot": ((jnp.tanh, INIT.glorot_uniform()), set()),
    "selu, LeCun": ((jax.nn.selu, INIT.lecun_normal()), set()),
    "gelu, He": ((jax.nn.gelu, INIT.he_normal()), set()),
    "elu, He": ((jax.nn.elu, INIT.he_normal()), set()),
}


@pytest.mark.parametrize("function", [jax.nn.relu, jax.nn.relu6])
def test_a_rectifier_at_zero_is_off_and_not_saturated(function):
    zeros = jd.nn.dense(8, activation=function, kernel_init=INIT.zeros)
    model = jd.nn.serial(flat=jd.nn.flatten(), hidden=zeros, logits=jd.nn.dense(10))
    assert {"dead"} <= kinds(model)[0]
    assert "saturated" not in kinds(model)[0]
    hidden = jd.nn.dense(64, activation=function, kernel_init=INIT.he_normal())
    model = jd.nn.serial(flat=jd.nn.flatten(), hidden=hidden, logits=jd.nn.dense(10))
    black = DIGITS[0] * (np.arange(len(DIGITS[0])) % 2)[:, None, None]  # every other row is empty
    assert kinds(model, (black, DIGITS[1])) == [set()] * SEEDS


def judged(name, depth, width, data=DIGITS):
    (activation, init, *head), expected = CASES[name]
    model = network(depth, width, activation, init, head=head[0] if head else None)
    for found in kinds(model, data):
        if expected == {"saturated"}:  # gradients may vanish or explode as well
            assert "saturated" in found, (name, depth, width, found)
        else:
            assert found == expected, (name, depth, width, found)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["sigmoid, normal(1)", "relu, He"])
def test_networks_of_five_hidden_layers_are_told_apart(name):
    judged(name, 5, 100)


@SLOW
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("depth", "width"), [(5, 30), (5, 100), (20, 100), (10, 300)])
def test_networks_of_other_sizes_are_told_apart(name, depth, width):
    if depth == 20 and name == "gelu, He":  # He's variance is that of ReLU: a little too small here
        pytest.skip("neither healthy nor clearly not")
    judged(name, depth, width)


@SLOW
@pytest.mark.parametrize("name", CASES)
def test_networks_on_fashion_mnist_are_told_apart(name):
    judged(name, 5, 100, jd.datasets.fashion_mnist().train)


@SLOW
def test_dying_units_are_named():
    model = network(3, 50, jax.nn.relu, INIT.he_normal())
    params, state = begun(model, DIGITS[0])
    params["hidden2"]["bias"] -= 100.0
    found = gradient_flow(model, params, state, (DIGITS[0][:128], DIGITS[1][:128]), loss=CE)
    assert ("hidden2", "dead", 1.0) in diagnose(found)
    assert ("hidden1", "blocked", 0.0) in diagnose(found)
    assert "units are dead: hidden2 100 %" in report(found)
    assert "no gradient reaches hidden1, hidden2" in report(found)


@SLOW
def test_a_head_of_zeros_blocks_what_is_in_front_of_it():
    model = network(2, 20, jax.nn.relu, INIT.he_normal(), head=INIT.zeros)
    found = flow(model, (DIGITS[0][:64], DIGITS[1][:64]), optimizer=jd.optimizers.adam(1e-3))
    expected = [("hidden1", "blocked", 0.0), ("hidden2", "blocked", 0.0)]
    assert diagnose(found) == expected
    assert "no gradient reaches hidden1, hidden2; the weights behind are zero" in report(found)


@SLOW
def test_a_hundred_selu_layers_are_healthy_and_thirty_sigmoid_layers_are_not():
    def deep(activation, times):
        return jd.nn.serial(
            flatten=jd.nn.flatten(),
            first=jd.nn.dense(50),
            deep=jd.nn.repeat(jd.nn.dense(50, activation=activation), times),
            logits=jd.nn.dense(10),
        )

    assert kinds(deep(jax.nn.selu, 100)) == [set()] * SEEDS
    text = report(flow(deep(jax.nn.sigmoid, 30), (DIGITS[0][:64], DIGITS[1][:64])))
    assert "gradients vanish: first gets" in text
    assert "of what logits gets (first, deep/layer[0], deep/layer[1], …" in text
    assert text.count("deep/layer[") < 12  # not thirty rows


@SLOW
@pytest.mark.parametrize("activation", [jax.nn.relu, jax.nn.sigmoid])
def test_batch_norm_and_convolutions_are_healthy(activation):
    block = [jd.nn.conv(16, 3, use_bias=False), jd.nn.batch_norm(), jd.nn.activation(activation)]
    model = jd.nn.serial(
        jd.nn.reshape(8, 8, 1),
        *block,
        jd.nn.residual(jd.nn.serial(*block)),
        jd.nn.average_pool(2),
        *block,
        jd.nn.global_average_pool(),
        jd.nn.dense(10),
    )
    assert kinds(model) == [set()] * SEEDS


@SLOW
def test_what_is_not_finite_and_what_is_too_large_is_said():
    model = small()
    params, state = begun(model)
    params["logits"]["kernel"] = params["logits"]["kernel"].at[0, 0].set(jnp.nan)
    found = gradient_flow(model, params, state, (X, Y), loss=CE)
    assert {f.kind for f in diagnose(found)} == {"not finite"}
    assert report(found).splitlines()[-1].startswith("not finite: hidden, bn")
    large = flow(model, optimizer=jd.optimizers.sgd(100.0))
    assert "large update" in {f.kind for f in diagnose(large)}
    assert "a step changes the weights by much of their length: hidden" in report(large)


@SLOW
def test_a_trained_network_is_healthy():
    for activation in (jax.nn.relu, jnp.tanh, jax.nn.selu):
        model = jd.nn.serial(
            jd.nn.flatten(),
            jd.nn.dense(100, activation=activation),
            jd.nn.dense(100, activation=activation),
            jd.nn.dense(10),
        )
        result = jd.fit(model, DIGITS, loss=CE, optimizer=jd.optimizers.adam(1e-3), epochs=5,
                        key=KEY, progress=False)  # fmt: skip
        batch = DIGITS[0][:256], DIGITS[1][:256]
        assert diagnose(gradient_flow(model, result.params, result.state, batch, loss=CE)) == []
