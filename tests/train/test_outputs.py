"""What a model puts out, logits or probabilities, is decided once and never guessed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.losses import sigmoid_cross_entropy, softmax_cross_entropy
from jaxdeep.nn import activation, dense, serial

X = jax.random.normal(jax.random.key(0), (12, 3))
CLASSES, BITS = jnp.arange(12) % 3, (jnp.arange(12) % 2)[:, None]
smoothed = functools.partial(sigmoid_cross_entropy, label_smoothing=0.1)
of_probabilities = functools.partial(softmax_cross_entropy, from_logits=False)
one_of_probabilities = functools.partial(sigmoid_cross_entropy, from_logits=False)


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (dense(3, activation=jax.nn.softmax), softmax_cross_entropy),
        (serial(dense(3), activation(jax.nn.softmax)), softmax_cross_entropy),
        (serial(dense(4), dense(1, activation=jax.nn.sigmoid)), sigmoid_cross_entropy),
        (
            dense(1, activation=jax.nn.sigmoid),
            smoothed,
        ),
    ],
)
def test_probabilities_are_not_taken_for_logits(model, loss):
    with pytest.raises(ValueError, match=r"the model ends in a softmax or a sigmoid.*from_logits=False"):
        jd.train.supervised(model, loss)
    with pytest.raises(ValueError, match="the model ends in a softmax or a sigmoid"):
        jd.fit(model, (X, BITS), loss=loss, optimizer=jd.optimizers.sgd(0.1), key=jax.random.key(0))


def test_each_of_several_outputs_is_compared_with_its_loss():
    ends = {"a": dense(3, activation=jax.nn.softmax), "b": dense(1)}
    for losses, message in (
        (
            {"a": softmax_cross_entropy, "b": sigmoid_cross_entropy},
            "output 'a': the model ends in",
        ),
        ({"a": of_probabilities, "b": one_of_probabilities}, "output 'b': the loss takes probabilities"),
    ):
        with pytest.raises(ValueError, match=message):
            jd.train.supervised(jd.nn.parallel(**ends), jd.losses.weighted(losses))
    by_position = jd.nn.parallel(*ends.values())
    with pytest.raises(ValueError, match="output 0: the model ends in a softmax"):
        jd.train.supervised(
            by_position, jd.losses.weighted([softmax_cross_entropy, sigmoid_cross_entropy])
        )
    jd.train.supervised(by_position, jd.losses.weighted([of_probabilities, sigmoid_cross_entropy]))


@pytest.mark.parametrize("model", [dense(3), serial(dense(2, activation=jax.nn.relu), dense(3))])
def test_logits_are_not_taken_for_probabilities(model):
    with pytest.raises(ValueError, match=r"takes probabilities \(from_logits=False\)"):
        jd.train.supervised(model, of_probabilities)


@pytest.mark.parametrize(
    ("softmax", "loss", "told", "y", "features"),
    [
        (jax.nn.softmax, softmax_cross_entropy, of_probabilities, CLASSES, 3),
        (jax.nn.sigmoid, sigmoid_cross_entropy, one_of_probabilities, BITS, 1),
    ],
)
def test_both_ends_are_the_same_loss_and_gradient(softmax, loss, told, y, features):
    params, state = dense(features).init(jax.random.key(1), X)
    of_logits = jd.train.supervised(dense(features), loss)
    ended = jd.train.supervised(serial(dense(features), activation(softmax)), told)
    value = lambda objective: lambda p: objective(p, state, (X, y))[0]  # noqa: E731
    expected, gradient = jax.value_and_grad(value(of_logits))(params)
    found, theirs = jax.value_and_grad(value(ended))({"dense0": params})
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(theirs["dense0"]["kernel"], gradient["kernel"], rtol=1e-4, atol=1e-6)


METRICS = {
    "accuracy": jd.metrics.accuracy,
    "binary": jd.metrics.binary_accuracy,
    "precision": jd.metrics.precision(),
    "recall": jd.metrics.recall(0.7),
    "f1": jd.metrics.f1(),
    "auc": jd.metrics.auc(),
}


def test_metrics_are_told_what_the_model_puts_out():
    params, state = dense(1).init(jax.random.key(1), X)
    tallies = []
    for model, loss in (
        (dense(1), sigmoid_cross_entropy),
        (dense(1, activation=jax.nn.sigmoid), one_of_probabilities),
    ):
        objective = jd.train.supervised(model, loss, metrics=METRICS)
        _, (_, found) = objective(params, state, (X, BITS))
        tallies.append({name: float(value) for name, value in found.items()})
    assert tallies[0] == pytest.approx(tallies[1])
    logits = dense(1).apply(params, state, X)[0]
    assert tallies[0]["accuracy"] == pytest.approx(float(jnp.mean((logits > 0) == (BITS == 1))))


def test_other_thresholds_are_of_the_outputs_as_they_are():
    told = {"raw": jd.metrics.precision(0.0), "above": jd.metrics.precision(1.5)}
    objective = jd.train.supervised(jd.nn.lambda_(lambda x: x), sigmoid_cross_entropy, metrics=told)
    outputs, y = jnp.array([0.4, -0.4, 2.0]), jnp.array([0, 0, 1])
    _, (_, found) = objective({}, {}, (outputs, y))
    assert (float(found["raw"]), float(found["above"])) == (0.5, 1.0)


@pytest.mark.parametrize(
    "metric",
    [
        jd.metrics.precision(from_logits=False),
        jd.metrics.auc(from_logits=False),
        functools.partial(jd.metrics.binary_accuracy, from_logits=False),
    ],
)
def test_a_metric_that_was_told_the_other_is_refused(metric):
    match = r"metrics\['it'\]: from_logits=False for a model that puts out logits"
    with pytest.raises(ValueError, match=match):
        jd.train.supervised(dense(1), sigmoid_cross_entropy, metrics={"it": metric})
    jd.train.supervised(
        dense(1, activation=jax.nn.sigmoid), one_of_probabilities, metrics={"it": metric}
    )


def test_alone_a_metric_refuses_what_is_no_probability():
    metric = jd.metrics.precision()
    with pytest.raises(ValueError, match=r"outputs \(which are probabilities unless from_logits=True\)"):
        metric.update(metric.init(), jnp.array([-1.0, 2.0]), jnp.array([0, 1]))
    with pytest.raises(ValueError, match="the accuracy of a single output depends on what it is"):
        jd.metrics.accuracy(jnp.ones((2, 1)), jnp.ones((2, 1)))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 1\], got -1"):
        metric.update(metric.init(), jnp.array([0.1, 0.2]), jnp.array([-1, 1]))
