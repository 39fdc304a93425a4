"""What a model puts out, logits or probabilities, is decided once and never guessed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


@pytest.mark.parametrize(
    "model",
    [
        dense(3),
        serial(dense(2, activation=jax.nn.relu), dense(3)),
        dense(3, activation=jax.nn.relu),
        serial(dense(3), activation(functools.partial(lambda scale, x: jnp.tanh(x), None))),
    ],
)
def test_logits_are_not_taken_for_probabilities(model):
    with pytest.raises(ValueError, match=r"takes probabilities \(from_logits=False\)"):
        jd.train.supervised(model, of_probabilities)


@pytest.mark.heavy
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


@pytest.mark.heavy
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


SIGMOID, SOFTMAX = activation(jax.nn.sigmoid), activation(jax.nn.softmax)
MEANINGS = {
    "probabilities": [
        serial(dense(3), SOFTMAX, jd.nn.flatten()),
        serial(dense(2, activation=jax.nn.sigmoid), jd.nn.reshape(2, 1), jd.nn.flatten()),
        *(dense(1, activation=f) for f in (jax.scipy.special.expit, jax.lax.logistic)),
        *(dense(1, activation=f) for f in (jax.nn.hard_sigmoid, jax.jit(jax.nn.sigmoid))),
        dense(3, activation=jax.jit(functools.partial(jax.nn.softmax, axis=-1))),
        serial(dense(3), jd.nn.lambda_(jax.nn.softmax)),
        serial(dense(3), SOFTMAX, jd.nn.lambda_(lambda x: x), activation(jax.nn.identity)),
        serial(dense(3), jd.nn.lambda_(lambda x: jax.nn.softmax(x, axis=-1))),
        dense(1, activation=functools.partial(lambda f, x: f(x), jax.nn.sigmoid)),
        dense(3, activation=jax.jit(lambda x: jax.nn.softmax(x, -1))),
        dense(3, activation=lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True)),
        dense(1, activation=lambda x: 1 / (1 + jnp.exp(-x))),
        dense(1, activation=jax.checkpoint(lambda x: jax.nn.sigmoid(x / 2))),
        serial(jd.nn.conv(3, 3, activation=jax.nn.sigmoid), jd.nn.global_average_pool()),
        jd.nn.mixed_precision(serial(dense(3), SOFTMAX)),
        jd.nn.repeat(dense(3, activation=jax.nn.softmax), 2),
        jd.nn.concatenate(serial(dense(1), SIGMOID), serial(dense(2), SIGMOID)),
    ],
    "scores": [
        dense(3),
        serial(dense(3), jd.nn.flatten(), jd.nn.dropout(0.5)),
        jd.nn.residual(dense(3)),
        jd.nn.residual(serial(dense(3), SOFTMAX), shortcut=dense(3)),
        serial(dense(3), SOFTMAX, jd.nn.batch_norm()),
        serial(dense(3), SOFTMAX, jd.nn.layer_norm()),
        jd.nn.repeat(dense(3), 2),
        dense(3, activation=lambda x: x),
    ],
    "log_probabilities": [
        dense(3, activation=jax.nn.log_softmax),
        serial(dense(1), activation(jax.nn.log_sigmoid), jd.nn.flatten()),
        *(
            dense(3, activation=lambda x: -jax.nn.softplus(-x)),
            dense(3, activation=lambda x: jnp.log(jax.nn.softmax(x))),
        ),
    ],
    "values": [
        dense(3, activation=jax.nn.relu),
        dense(3, activation=lambda x: jnp.tanh(x).astype(x.dtype)),
        serial(dense(3), activation(jnp.tanh), jd.nn.flatten()),
        serial(dense(3), jd.nn.prelu(), jd.nn.dropout(0.5)),
        serial(dense(3), jd.nn.lambda_(lambda x: jax.nn.relu(1.0 * x))),
        jd.nn.residual(jd.nn.activation(jax.nn.gelu)),
    ],
    None: [
        dense(3, activation=lambda x: 2 * jax.nn.sigmoid(x)),
        dense(3, activation=functools.wraps(jax.nn.sigmoid)(lambda x: 2 * jax.nn.sigmoid(x))),
        *(
            jd.nn.lambda_(lambda x: x),
            jd.nn.lambda_(lambda x: x.T.reshape(x.shape)),
            jd.nn.lambda_(lambda x: x + 1),
        ),
        jd.nn.flatten(),
        dense(3, activation=lambda x: x.sum(axis=-1)),
        dense(3, activation=lambda x: x.nothing),
        serial(dense(3), SOFTMAX, activation(jax.nn.relu)),
        serial(dense(3, activation=jax.nn.log_softmax), activation(jax.nn.relu)),
        serial(dense(3, activation=jax.nn.log_sigmoid), jd.nn.dropout(0.5)),
        jd.nn.residual(SOFTMAX),
        serial(dense(3), jd.nn.residual(jd.nn.repeat(SOFTMAX, 2), shortcut=SOFTMAX)),
        jd.nn.concatenate(dense(3), serial(dense(2), SIGMOID)),
        serial(),
    ],
}


@pytest.mark.parametrize(
    ("meaning", "model"), [(meaning, model) for meaning, models in MEANINGS.items() for model in models]
)
def test_the_last_layers_say_what_the_model_puts_out(meaning, model):
    assert model.meaning == meaning


def test_what_is_known_goes_through_layers_that_keep_it_to_each_of_several_outputs():
    heads = jd.nn.parallel(a=jd.nn.flatten(), b=dense(2))
    assert serial(dense(3), SOFTMAX, heads).meaning == {"a": "probabilities", "b": "scores"}
    assert serial(heads, jd.nn.lambda_(lambda x: x + 1)).meaning is None


def test_logarithms_of_probabilities_are_logits_of_a_softmax_only():
    logs = dense(3, activation=jax.nn.log_softmax)
    params, state = logs.init(jax.random.key(1), X)
    found, _ = jd.train.supervised(logs, softmax_cross_entropy)(params, state, (X, CLASSES))
    expected, _ = jd.train.supervised(dense(3), softmax_cross_entropy)(params, state, (X, CLASSES))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for model, loss in (
        (logs, of_probabilities),
        (dense(1, activation=jax.nn.log_sigmoid), sigmoid_cross_entropy),
    ):
        with pytest.raises(ValueError, match=r"puts out logarithms of probabilities .* takes"):
            jd.train.supervised(model, loss)


@pytest.mark.parametrize(
    "model",
    [
        dense(1, activation=jax.nn.softmax),
        serial(dense(1), SOFTMAX),
        serial(dense(1), jd.nn.lambda_(jax.nn.softmax), jd.nn.flatten()),
        serial(jd.nn.conv(1, 3), jd.nn.global_average_pool(), SOFTMAX),
        dense(1, activation=jax.nn.log_softmax),
        jd.nn.parallel(a=dense(3), b=dense(1, activation=jax.nn.softmax)),
    ],
)
def test_a_softmax_over_one_output_is_refused(model):
    with pytest.raises(ValueError, match="the model ends in a softmax over a single output"):
        jd.train.supervised(model, jd.losses.mse)
    over_rows = functools.partial(jax.nn.softmax, axis=0)
    jd.train.supervised(dense(1, activation=over_rows), jd.losses.mse)
    jd.train.supervised(serial(dense(2), SOFTMAX), jd.losses.mse)


@pytest.mark.parametrize(
    ("metric", "model", "loss", "match"),
    [
        (sigmoid_cross_entropy, serial(dense(1), SIGMOID), one_of_probabilities, "takes logits"),
        (softmax_cross_entropy, serial(dense(3), SOFTMAX), jd.losses.mse, "takes logits"),
        (of_probabilities, dense(3), softmax_cross_entropy, "takes probabilities"),
        (of_probabilities, dense(3), jd.losses.mse, "takes probabilities"),
        (sigmoid_cross_entropy, jd.nn.lambda_(lambda x: x), one_of_probabilities, "takes logits"),
        (one_of_probabilities, jd.nn.lambda_(lambda x: x), sigmoid_cross_entropy, "takes probabilities"),
    ],
)
def test_a_loss_is_as_strict_as_a_metric(metric, model, loss, match):
    for one in (metric, jd.metrics.mean(metric), jax.jit(metric), functools.partial(metric)):
        with pytest.raises(ValueError, match=rf"metrics\['it'\]: .*{match}"):
            jd.train.supervised(model, loss, metrics={"it": one})


def test_a_loss_beside_itself_is_a_metric():
    smooth = functools.partial(sigmoid_cross_entropy, label_smoothing=0.1)
    told = {"it": sigmoid_cross_entropy, "mean": jd.metrics.mean(smooth), "mse": jd.losses.mse}
    objective = jd.train.supervised(dense(1), sigmoid_cross_entropy, metrics=told)
    params, state = dense(1).init(jax.random.key(1), X)
    loss, (_, found) = objective(params, state, (X, BITS))
    np.testing.assert_allclose(float(found["it"]), loss, rtol=1e-6)


def test_a_mean_is_told_what_the_model_puts_out():
    mean = jd.metrics.mean(jd.metrics.accuracy)
    objective = jd.train.supervised(
        dense(1), sigmoid_cross_entropy, metrics={"a": jd.metrics.accuracy, "b": mean}
    )
    params, state = dense(1).init(jax.random.key(1), X)
    _, (_, found) = objective(params, state, (X, BITS))
    assert float(found["a"]) == pytest.approx(float(found["b"]))


def test_a_loss_of_optax_says_that_the_model_puts_out_logits():
    params, state = dense(1).init(jax.random.key(1), X)

    def recall(loss, metric):
        objective = jd.train.supervised(dense(1), loss, metrics={"it": metric})
        return float(objective(params, state, (X, BITS))[1][1]["it"])

    told = recall(sigmoid_cross_entropy, jd.metrics.recall(from_logits=True))
    assert recall(optax.sigmoid_binary_cross_entropy, jd.metrics.recall()) == told


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["precision", "recall", "f1", "auc"])
@pytest.mark.parametrize(
    "loss", [lambda outputs, y: 2 * sigmoid_cross_entropy(outputs, y), jd.losses.mse]
)
def test_a_metric_is_not_told_by_a_guess(name, loss):
    make = getattr(jd.metrics, name)
    with pytest.raises(ValueError, match=r"metrics\['it'\]: neither .* say from_logits=True or"):
        jd.train.supervised(dense(1), loss, metrics={"it": make()})
    ended = serial(dense(1), SIGMOID)
    jd.train.supervised(ended, jd.losses.mse, metrics={"it": make()})  # the last layer says it
    params, state = dense(1).init(jax.random.key(1), X)
    values = []
    for model, from_logits in ((dense(1), True), (dense(1, activation=jax.nn.sigmoid), False)):
        told = {"it": make(from_logits=from_logits)}
        objective = jd.train.supervised(model, loss, metrics=told)
        values.append(float(objective(params, state, (X, BITS))[1][1]["it"]))
    assert values[0] == pytest.approx(values[1])
    if name != "auc":  # outputs as they are
        raw = make(1.5)
        jd.train.supervised(dense(1), loss, metrics={"it": raw})


def test_a_partial_of_the_loss_of_several_outputs():
    heads = jd.nn.parallel(a=dense(3), b=serial(dense(1), SIGMOID))
    both = jd.losses.weighted({"a": softmax_cross_entropy, "b": one_of_probabilities})
    params, state = heads.init(jax.random.key(1), X)
    batch = X, {"a": CLASSES, "b": BITS}
    expected = jd.train.supervised(heads, both)(params, state, batch)[0]
    found = jd.train.supervised(heads, functools.partial(both))(params, state, batch)[0]
    np.testing.assert_array_equal(found, expected)
    wrong = jd.losses.weighted({"a": softmax_cross_entropy, "b": sigmoid_cross_entropy})
    with pytest.raises(ValueError, match="output 'b': the model ends in a softmax or a sigmoid"):
        jd.train.supervised(heads, functools.partial(wrong))
    with pytest.raises(ValueError, match=r"metrics\['it'\]: output 'b': the model puts out prob"):
        jd.train.supervised(heads, both, metrics={"it": wrong})


class Own:
    """A model of one's own, which says nothing of itself."""

    def __init__(self, end):
        self.end = end

    def init(self, key, x):
        return {"kernel": jnp.ones((x.shape[-1], 3))}, {}

    def apply(self, params, state, x, *, key=None, train=False):
        return self.end(x @ params["kernel"]), state


@pytest.mark.parametrize(
    ("end", "loss", "match"),
    [
        (jax.nn.softmax, softmax_cross_entropy, "takes logits"),
        (lambda y: jax.nn.softmax(y[:, None])[:, 0], softmax_cross_entropy, "takes logits"),
        (jax.nn.sigmoid, sigmoid_cross_entropy, "takes logits"),
        (jax.nn.relu, of_probabilities, "takes probabilities"),
        (jax.nn.log_softmax, of_probabilities, "takes probabilities"),
        (
            lambda y: {"a": y, "b": jax.nn.softmax(y)},
            jd.losses.weighted({"a": softmax_cross_entropy, "b": softmax_cross_entropy}),
            "output 'b': .* takes logits",
        ),
        (
            lambda y: (y, jax.nn.softmax(y)),
            jd.losses.weighted([softmax_cross_entropy, softmax_cross_entropy]),
            "output 1: .* takes logits",
        ),
    ],
)
def test_the_program_of_a_model_that_says_nothing_says_what_it_puts_out(end, loss, match):
    x, y = jnp.ones((8, 2)), jnp.zeros((8, 3)) if loss is sigmoid_cross_entropy else jnp.zeros(8, int)
    y = {"a": y, "b": y} if "'b'" in match else (y, y) if "1" in match else y
    options = {"loss": loss, "optimizer": jd.optimizers.sgd(0.1), "epochs": 1, "progress": False}
    with pytest.raises(ValueError, match=match):
        jd.fit(Own(end), (x, y), batch_size=4, key=jax.random.key(0), **options)


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("end", "loss", "refused"),
    [
        (jax.nn.softmax, lambda o, y: 1.0 * softmax_cross_entropy(o, y), True),
        (
            jax.nn.softmax,
            lambda o, y: optax.losses.poly_loss_cross_entropy(o, jax.nn.one_hot(y, 3)),
            True,
        ),
        (jax.nn.sigmoid, lambda o, y: optax.losses.sigmoid_focal_loss(o[:, 0], y), True),
        (jax.nn.sigmoid, lambda o, y: -jnp.log(jax.nn.sigmoid(o[:, 0])), True),
        (jax.nn.softmax, lambda o, y: -jnp.log(jnp.take_along_axis(o, y[:, None], 1))[:, 0], False),
        (jax.nn.softmax, lambda o, y: softmax_cross_entropy(o, y, from_logits=False), False),
        (jax.nn.sigmoid, lambda o, y: jd.losses.log_cosh(o[:, 0], y), False),
        (jax.nn.sigmoid, lambda o, y: (o[:, 0] - y) ** 2, False),
        (None, lambda o, y: 1.0 * softmax_cross_entropy(o, y), False),
    ],
)
def test_the_program_of_a_loss_says_that_it_takes_logits(end, loss, refused):
    x, y = jnp.ones((8, 2)), jnp.zeros(8, int)
    options = {"optimizer": jd.optimizers.sgd(0.1), "epochs": 1, "progress": False, "batch_size": 4}
    train = functools.partial(jd.fit, dense(3, activation=end), (x, y), loss=loss, **options)
    if refused:
        with pytest.raises(ValueError, match="takes exponentials of them, as of logits"):
            train(key=jax.random.key(0))
    else:
        train(key=jax.random.key(0))


def test_hinges_take_scores():
    hinge, of_classes = jd.losses.hinge, jd.losses.categorical_hinge
    for ending, loss in ((jax.nn.sigmoid, hinge), (jax.nn.softmax, of_classes)):
        with pytest.raises(ValueError, match=f"{loss.__name__}\\) takes scores of any size and sign"):
            jd.train.supervised(dense(3, activation=ending), loss)
    jd.train.supervised(dense(3, activation=jnp.tanh), hinge)
    options = {"optimizer": jd.optimizers.sgd(0.1), "progress": False, "key": jax.random.key(0)}
    own = serial(dense(1), jd.nn.lambda_(lambda x: 1 / (1 + jnp.exp(-x))))
    with pytest.raises(ValueError, match="takes scores of any size and sign"):
        jd.fit(own, (jnp.ones((4, 2)), jnp.zeros(4, int)), loss=hinge, batch_size=4, **options)


def test_dropped_probabilities_are_none():
    model = serial(dense(3), SOFTMAX, jd.nn.dropout(0.5))
    assert model.meaning is None
    assert serial(dense(3), jd.nn.dropout(0.5)).meaning == "scores"
    params, state = model.init(jax.random.key(0), jnp.ones((4, 2)))
    with pytest.raises(ValueError, match="does not say what it puts out"):
        jd.uncertainty.mc_dropout(model, params, state, jnp.ones((4, 2)), jax.random.key(0), samples=2)


@pytest.mark.parametrize("said", [True, False])
def test_metrics_do_not_take_logarithms_of_sigmoids_for_logits(said):
    logs = dense(1, activation=jax.nn.log_sigmoid)
    loss = lambda outputs, y: -outputs[:, 0] * y  # noqa: E731
    metrics = jd.metrics
    for metric in (
        *(metrics.precision(from_logits=said), metrics.log_loss(from_logits=said)),
        functools.partial(metrics.binary_accuracy, from_logits=said),
        metrics.mean(functools.partial(metrics.binary_accuracy, from_logits=said)),
    ):
        with pytest.raises(ValueError, match=r"metrics\['m'\]: the model puts out logarithms of prob"):
            jd.train.supervised(logs, loss, metrics={"m": metric})
    # the largest is the largest
    jd.train.supervised(dense(3, activation=jax.nn.log_sigmoid), loss, metrics={"m": metrics.accuracy})


def test_metrics_take_logarithms_of_a_softmax_for_logits():
    loss = lambda outputs, y: -jnp.take_along_axis(outputs, y[:, None], 1)[:, 0]  # noqa: E731
    found = []
    for end, of in ((jax.nn.log_softmax, loss), (None, softmax_cross_entropy)):
        model = dense(3) if end is None else dense(3, activation=end)
        params, state = model.init(jax.random.key(1), X)
        named = {"m": jd.metrics.log_loss(), "b": jd.metrics.brier()}
        found.append(jd.evaluate(model, params, state, (X, CLASSES), loss=of, metrics=named))
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], rtol=1e-6)
    of_probabilities = {"m": jd.metrics.log_loss(from_logits=False)}
    with pytest.raises(ValueError, match="from_logits=False for a model that puts out logits"):
        jd.train.supervised(dense(3, activation=jax.nn.log_softmax), loss, metrics=of_probabilities)


def test_functions_with_from_logits_are_told_as_metrics():
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    model, data = jd.nn.dense(2), (x, np.int32(x[:, 0] > 0))
    params, state = model.init(jax.random.key(0), x)
    logits = np.asarray(model.apply(params, state, x)[0], np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    options = {"loss": jd.losses.softmax_cross_entropy, "batch_size": 32}
    brier = jd.uncertainty.brier_score
    found = jd.evaluate(model, params, state, data, metrics={"brier": brier}, **options)
    expected = ((p - np.eye(2)[data[1]]) ** 2).sum(axis=1).mean()
    np.testing.assert_allclose(found["brier"], expected, rtol=1e-5)
    wrong = functools.partial(brier, from_logits=False)
    with pytest.raises(ValueError, match=r"metrics\['brier'\]: from_logits=False for a model that puts"):
        jd.evaluate(model, params, state, data, metrics={"brier": wrong}, **options)


def test_a_softmax_that_is_clipped_is_one():
    x, y = np.ones((32, 3), np.float32), np.zeros(32, int)
    options = {"loss": softmax_cross_entropy, "optimizer": jd.optimizers.sgd(0.1), "progress": False}
    clipped = serial(dense(3), jd.nn.lambda_(lambda z: jnp.clip(jax.nn.softmax(z), 1e-7, 1)))
    with pytest.raises(ValueError, match="ends in a softmax or a sigmoid"):
        jd.fit(clipped, (x, y), key=jax.random.key(0), **options)
    bounded = serial(dense(3), jd.nn.lambda_(lambda z: jnp.clip(z, -1, 1)))
    jd.fit(bounded, (x, y), key=jax.random.key(0), **options)


def test_metrics_of_a_whole_batch_are_refused_where_rows_do_not_count():
    x, y = np.ones((8, 3), np.float32), np.zeros(8, int)
    model = dense(2)
    params, state = model.init(jax.random.key(0), x)
    options = {"loss": softmax_cross_entropy, "metrics": {"m": lambda outputs, y: jnp.mean(outputs)}}
    jd.evaluate(model, params, state, (x, y), batch_size=8, **options)
    with pytest.raises(ValueError, match=r"metrics\['m'\] must give a value for each row"):
        jd.evaluate(model, params, state, (x, y), batch_size=5, **options)
