"""What the samples of logits, probabilities and values say."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.samples import KEY, X, brute, check, network, nn, ready

import jaxdeep as jd
from jaxdeep.uncertainty import mc_dropout


@pytest.mark.heavy
def test_where_all_samples_agree_nothing_is_uncertain_about_the_model():
    model, params, state = ready(nn.serial(nn.dense(3), nn.dropout(0.0)))
    pred = mc_dropout(model, params, state, X, KEY, samples=1000)
    assert float(jnp.abs(pred.std).max()) == 0
    assert float(pred.mutual_information.max()) == 0
    expected = jax.nn.softmax(model.apply(params, state, X)[0])
    np.testing.assert_allclose(pred.mean, expected, rtol=1e-6)


@pytest.mark.heavy
def test_values_of_a_regression_have_no_entropy():
    model, params, state = ready(nn.serial(nn.dropout(0.5), nn.dense(1)))
    pred = mc_dropout(model, params, state, X, KEY, samples=9, outputs="values", return_samples=True)
    expected = brute(model, params, state, X, 9, outputs=lambda y: y)
    assert pred.entropy is None
    assert pred.mutual_information is None
    np.testing.assert_allclose(pred.mean, expected.mean(0), atol=1e-6)
    np.testing.assert_allclose(pred.std, expected.std(0), atol=1e-6)
    np.testing.assert_allclose(pred.samples, expected, atol=1e-6)


@pytest.mark.heavy
def test_probabilities_and_a_single_logit():
    logits, params, state = ready(network())
    model = nn.serial(logits, nn.activation(jax.nn.softmax))
    own = {"serial0": params}
    found = mc_dropout(model, own, state, X, KEY, samples=5, outputs="probabilities")
    check(found, brute(model, own, state, X, 5, outputs=lambda y: y))
    with pytest.raises(ValueError, match="ends in a softmax or a sigmoid"):
        mc_dropout(model, own, state, X, KEY, samples=5, outputs="logits")
    found = mc_dropout(model, own, state, X, KEY, samples=5)  # the model says what they are
    check(found, brute(model, own, state, X, 5, outputs=lambda y: y))
    model, params, state = ready(nn.serial(nn.dropout(0.5), nn.dense(1)))
    both = lambda y: jax.nn.softmax(jnp.concatenate([0 * y, y], axis=1))  # noqa: E731
    two = brute(model, params, state, X, 5, outputs=both)
    with pytest.raises(ValueError, match="a single output may be a value or the logit of one of two"):
        mc_dropout(model, params, state, X, KEY, samples=5)
    one = mc_dropout(model, params, state, X, KEY, samples=5, outputs="logits")
    assert one.mean.shape == (37, 1)
    np.testing.assert_allclose(one.mean, two.mean(0)[:, 1:], atol=1e-6)
    pair = jnp.concatenate([1 - one.mean, one.mean], axis=1)
    check(one._replace(mean=pair, std=jnp.repeat(one.std, 2, axis=1)), two)


@pytest.mark.heavy
def test_several_inputs_and_outputs():
    model = nn.serial(
        nn.parallel(a=nn.serial(nn.select("a"), nn.dropout(0.5)), b=nn.select("b")),
        nn.parallel(
            one=nn.serial(nn.select("a"), nn.dense(3)),
            two=nn.serial(nn.select("b"), nn.dropout(0.5), nn.dense(2)),
        ),
    )
    x = {"a": X, "b": X[:, :2]}
    _, params, state = ready(model, x)
    pred = mc_dropout(model, params, state, x, KEY, samples=4, batch_size=10, outputs="logits")
    keys = jax.random.split(KEY, 4)
    for name in ("one", "two"):
        each = [jax.nn.softmax(model.apply(params, state, x, key=k)[0][name]) for k in keys]
        check(type(pred)(*(None if f is None else f[name] for f in pred)), np.stack(each))


@pytest.mark.heavy
def test_each_of_several_outputs_is_what_the_model_says_or_must_be_said():
    branches = {
        "box": nn.dense(4),
        "kind": nn.dense(3, activation=jax.nn.softmax),
        "score": nn.serial(nn.dense(2), nn.dense(1)),
    }
    model = nn.serial(nn.dropout(0.5), nn.parallel(**branches))
    params, state = model.init(KEY, X)
    predict = functools.partial(mc_dropout, model, params, state, X, KEY, samples=3)
    with pytest.raises(ValueError, match=r"say outputs\['box'\]='logits', 'probabilities' or 'values'"):
        predict()
    with pytest.raises(ValueError, match=r"a single output may be .* outputs\['score'\]"):
        predict(outputs={"box": "values"})
    for words, message in (
        ({"box": "values", "score": "logits", "other": "values"}, r"outputs\['other'\] is of an output"),
        ({"box": "values", "score": "logits", "kind": "logits"}, "ends in a softmax or a sigmoid"),
        ({"box": "boxes"}, r"outputs\[box\] must be one of"),
        ({"box": ("values", "values")}, r"outputs\['box'\] must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(outputs=words)
    found = predict(outputs={"box": "values", "score": "logits"})
    keys = jax.random.split(KEY, 3)
    each = [model.apply(params, state, X, key=k)[0] for k in keys]
    expected = {
        "box": np.mean([y["box"] for y in each], axis=0),
        "kind": np.mean([y["kind"] for y in each], axis=0),
        "score": np.mean([jax.nn.sigmoid(y["score"]) for y in each], axis=0),
    }
    for name, mean in expected.items():
        np.testing.assert_allclose(found.mean[name], mean, rtol=1e-4, atol=1e-5)
    assert found.entropy["box"] is None
    assert found.mutual_information["box"] is None
    p = expected["kind"]
    np.testing.assert_allclose(found.entropy["kind"], -(p * np.log(p)).sum(1), rtol=1e-4)
    tuple_ = nn.serial(nn.dropout(0.5), nn.parallel(**branches, by_position=True))
    in_order = mc_dropout(
        tuple_, params, state, X, KEY, samples=3, outputs=("values", None, "logits"), batch_size=8
    )
    for one, name in zip(in_order.mean, branches):
        np.testing.assert_allclose(one, expected[name], rtol=1e-4, atol=1e-5)
    stacked = jax.tree.map(lambda a: a[None], (params, state))
    with pytest.raises(ValueError, match=r"outputs\['box'\]"):
        jd.uncertainty.ensemble(model, stacked, X)
    joint = jd.uncertainty.ensemble(model, stacked, X, outputs={"box": "values", "score": "values"})
    y = model.apply(params, state, X)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), joint.mean, y)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"samples": 0}, ValueError, "samples must be at least 1, got 0"),
        ({"samples": 2.5}, TypeError, "samples must be a whole number"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"key": 0.5}, TypeError, "key must be a random key such as"),
        ({"key": jax.random.split(KEY, 2)}, ValueError, "a single random key, got"),
        (
            {"outputs": "scores"},
            ValueError,
            "outputs must be one of 'logits', 'label_logits', 'probabilities', 'values'",
        ),
        ({"return_samples": 1}, TypeError, "return_samples must be True or False"),
        ({"x": X[:0]}, ValueError, "x is empty"),
        ({"x": [1.0, 2.0]}, TypeError, "must be an array"),
        ({"mesh": 8}, TypeError, "mesh must be a jax.sharding.Mesh"),
        (
            {"model": nn.dense(3)},
            ValueError,
            r"needs a model with a random layer such as dropout, got de",
        ),
        ({"model": nn.dropout}, TypeError, "must be a Model"),
        (
            {"model": nn.serial(nn.dropout(0.5), nn.lambda_(lambda x: x[:3])), "outputs": "logits"},
            ValueError,
            r"an output for each row of x, got shape \(3, 6\) for 37 rows",
        ),
        (
            {"model": nn.serial(nn.dropout(0.5), nn.lambda_(lambda x: x[:, 0]))},
            ValueError,
            "say outputs='values' or outputs='logits'",
        ),
        *(
            (
                {"model": nn.serial(nn.dropout(0.5), end)},
                ValueError,
                "does not say what it puts out.*: say outputs='logits', 'probabilities' or 'values'",
            )
            for end in (nn.activation(jnp.tanh), nn.lambda_(lambda x: 2 * x), nn.rrelu())
        ),
    ],
)
def test_arguments_that_make_no_sense(change, error, message):
    model, params, state = ready(network())
    given = {"model": model, "params": params, "state": state, "x": X, "key": KEY, "samples": 2} | change
    if "model" in change:
        given |= {"params": {}, "state": {}}
    with pytest.raises(error, match=message):
        mc_dropout(**given)


def test_a_mesh_needs_an_axis_of_data():
    with pytest.raises(ValueError, match="mesh needs an axis called 'data'"):
        mc_dropout(*ready(network()), X, KEY, mesh=jax.make_mesh((8,), ("rows",)))


@pytest.mark.heavy
def test_labels_that_do_not_exclude_each_other_have_their_entropies_added_up():
    binary = lambda p: -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(-1)  # noqa: E731
    sigmoid = nn.serial(nn.dropout(0.5), nn.dense(3, activation=jax.nn.sigmoid))
    layers = nn.serial(nn.dropout(0.5), nn.dense(3), nn.activation(jax.nn.sigmoid))
    _, params, state = ready(sigmoid)
    samples = brute(sigmoid, params, state, X, 6, outputs=lambda y: y).astype(np.float64)
    for model, said in ((sigmoid, None), (layers, None), (sigmoid, "probabilities")):
        found = mc_dropout(model, params, state, X, KEY, samples=6, outputs=said)
        np.testing.assert_allclose(found.mean, samples.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.entropy, binary(samples.mean(0)), atol=1e-5)
        between = binary(samples.mean(0)) - binary(samples).mean(0)
        np.testing.assert_allclose(found.mutual_information, between, atol=1e-5)
    stacked = jax.tree.map(lambda a: np.stack([a, a]), (params, state))
    joint = jd.uncertainty.ensemble(sigmoid, stacked, X)
    np.testing.assert_allclose(joint.entropy, binary(np.asarray(joint.mean, np.float64)), atol=1e-5)
    heads = nn.serial(
        nn.dropout(0.5),
        nn.parallel(
            kind=nn.dense(3, activation=jax.nn.softmax), tags=nn.dense(3, activation=jax.nn.sigmoid)
        ),
    )
    _, params, state = ready(heads)
    found = mc_dropout(heads, params, state, X, KEY, samples=3)
    tags, kind = (np.asarray(found.mean[name], np.float64) for name in ("tags", "kind"))
    np.testing.assert_allclose(found.entropy["tags"], binary(tags), atol=1e-5)
    np.testing.assert_allclose(found.entropy["kind"], -(kind * np.log(kind)).sum(-1), atol=1e-5)


@pytest.mark.heavy
def test_the_program_of_a_function_as_a_layer_says_that_it_puts_out_probabilities():
    ends = {
        "softmax": nn.lambda_(lambda x: jax.nn.softmax(x[:, None, :4])[:, 0]),
        "sigmoid": nn.lambda_(lambda x: jax.nn.sigmoid(x[:, :4])),
    }
    for name, end in ends.items():
        model = nn.serial(nn.dropout(0.5), end)
        predict = functools.partial(mc_dropout, model, {}, {}, X, KEY, samples=3)
        with pytest.raises(ValueError, match="ends in a softmax or a sigmoid"):
            predict(outputs="logits")
        found = predict()
        keys = jax.random.split(KEY, 3)
        expected = np.mean([model.apply({}, {}, X, key=key)[0] for key in keys], axis=0)
        np.testing.assert_allclose(found.mean, expected, atol=1e-6)
        p = found.mean
        entropy = jax.scipy.special.entr(p) + (jax.scipy.special.entr(1 - p) if name == "sigmoid" else 0)
        np.testing.assert_allclose(found.entropy, entropy.sum(-1), atol=1e-5)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("logs", "end", "features"),
    [
        (jax.nn.log_softmax, jax.nn.softmax, 3),
        (jax.nn.log_sigmoid, jax.nn.sigmoid, 3),
        pytest.param(jax.nn.log_sigmoid, jax.nn.sigmoid, 1, marks=pytest.mark.heavy),
        pytest.param(lambda x: -jax.nn.softplus(-x), jax.nn.sigmoid, 3, marks=pytest.mark.heavy),
        pytest.param(lambda x: jnp.log(jax.nn.softmax(x)), jax.nn.softmax, 3, marks=pytest.mark.heavy),
    ],
)
def test_logarithms_of_probabilities_are_taken_for_what_they_are(logs, end, features):
    def model(end):
        return nn.serial(nn.dropout(0.5), nn.dense(features), nn.lambda_(end))

    _, params, state = ready(model(end))
    found = mc_dropout(model(logs), params, state, X, KEY, samples=3)
    for one, expected in zip(found, mc_dropout(model(end), params, state, X, KEY, samples=3)):
        if expected is not None:
            np.testing.assert_allclose(one, expected, atol=1e-6)
    wrong = ["probabilities"] + ["logits"] * (end is jax.nn.sigmoid)
    for said in wrong:
        with pytest.raises(ValueError, match="ends in the logarithm of a softmax or a sigmoid"):
            mc_dropout(model(logs), params, state, X, KEY, samples=3, outputs=said)


def test_a_single_row_is_refused():
    model, params, state = ready(network())
    row = X[0]
    with pytest.raises(ValueError, match=rf"got shape {re.escape(str(row.shape))}, .*: give x\[None\]"):
        mc_dropout(model, params, state, row, KEY, samples=2)
    with pytest.raises(ValueError, match=r"a single row of the model: give x\[None\]"):
        jd.uncertainty.ensemble(model, [(params, state)], row)


def test_from_logits_says_what_outputs_say():
    model, params, state = ready(network())
    predict = functools.partial(mc_dropout, model, params, state, X, KEY, samples=2)
    np.testing.assert_array_equal(predict(from_logits=True).mean, predict(outputs="logits").mean)
    for wrong in ({"from_logits": False}, {"outputs": "probabilities"}):  # of a plain dense
        with pytest.raises(ValueError, match="so that it puts out no probabilities"):
            predict(**wrong)
        with pytest.raises(ValueError, match="so that it puts out no probabilities"):
            jd.uncertainty.ensemble(model, [(params, state)], X, **wrong)
    with pytest.raises(ValueError, match="outputs='logits' and from_logits=False"):
        predict(from_logits=False, outputs="logits")
    with pytest.raises(TypeError, match="from_logits must be True or False"):
        predict(from_logits="no")
