import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep._compat import enable_x64
from jaxdeep.losses import softmax_cross_entropy
from jaxdeep.metrics import accuracy

LOGITS = jnp.array([[2.0, 1.0, -1.0], [0.0, 0.0, 0.0]])


def test_cross_entropy_is_the_closed_form_for_every_kind_of_label():
    labels = jnp.array([1, 2])
    exact = -np.log(np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True))
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS, labels), [exact[0, 1], exact[1, 2]], rtol=1e-6
    )
    one_hot = jax.nn.one_hot(labels, 3)
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS, one_hot), softmax_cross_entropy(LOGITS, labels), rtol=1e-6
    )
    smooth = 0.9 * one_hot + 0.1 / 3
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS, smooth), (exact * smooth).sum(-1), rtol=1e-6
    )


def test_extreme_logits_are_finite():
    loss = softmax_cross_entropy(jnp.array([[1e4, -1e4]]), jnp.array([1]))
    np.testing.assert_allclose(loss, [2e4])


@pytest.mark.heavy
def test_further_axes_and_dtypes():
    labels = np.zeros((2, 5), np.uint8)
    loss = softmax_cross_entropy(jnp.zeros((2, 5, 4), jnp.bfloat16), labels)
    assert loss.shape == (2, 5)
    assert loss.dtype == jnp.bfloat16
    assert accuracy(jnp.zeros((2, 5, 4)), labels).shape == (2, 5)


def test_accuracy():
    assert accuracy(LOGITS, np.array([0, 1])).tolist() == [1.0, 0.0]
    assert accuracy(LOGITS, jax.nn.one_hot(jnp.array([0, 1]), 3)).tolist() == [1.0, 0.0]
    assert accuracy(LOGITS, np.array([0, 1])).dtype == jnp.float32


@pytest.mark.parametrize("function", [softmax_cross_entropy, accuracy])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.array([0, 3]),
            r"labels must be in \[0, 3\) for outputs of 3 classes, got labels from 0 to 3",
        ),
        (jnp.array([-1, 2]), "got labels from -1 to 2"),
        (np.array([0, 1, 2]), r"labels must have shape \(2,\)"),
        (np.array([0.0, 1.0]), "must be integers, got float"),
        (np.zeros((2, 2), int), r"labels must have shape \(2,\)"),
        (
            np.array([[0.2, 0.2, 0.2], [1.0, 0.0, 0.0]]),
            "must sum to 1 over the classes .*got a sum of 0.6",
        ),
        (np.array([[1.2, -0.2, 0.0], [1.0, 0.0, 0.0]]), r"labels must be in \[0, inf\], got -0.2"),
        (
            np.array([0, 1], complex),
            "labels must be an array of real numbers, got one of dtype complex128",
        ),
        (["a", "b"], "labels must be an array of real numbers"),
        (np.ma.masked_equal([0, 1], 1), "labels is a masked array with masked values"),
    ],
)
def test_labels_that_do_not_fit(function, labels, message):
    with pytest.raises((ValueError, TypeError), match=message):
        function(LOGITS, labels)


def test_traced_labels_are_not_checked():
    jax.jit(softmax_cross_entropy)(LOGITS, jnp.array([0, 7]))


# --- losses ---------------------------------------------------------------------------------------

ERRORS = np.array([-3.0, -1.0, -0.2, 0.0, 0.5, 2.0])


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("loss", "equation"),
    [
        (jd.losses.mse, lambda e: e**2),
        (jd.losses.mae, np.abs),
        (
            functools.partial(jd.losses.huber, delta=0.7),
            lambda e: np.where(np.abs(e) <= 0.7, e**2 / 2, 0.7 * (np.abs(e) - 0.35)),
        ),
        (jd.losses.log_cosh, lambda e: np.log(np.cosh(e))),
    ],
)
def test_regression_losses_are_their_equations(loss, equation):
    y = jnp.linspace(-1, 1, 6)
    found = loss(y + jnp.asarray(ERRORS, jnp.float32), y)
    np.testing.assert_allclose(found, equation(ERRORS), rtol=1e-4, atol=1e-6)
    assert loss(jnp.ones(3, jnp.bfloat16), jnp.zeros(3)).dtype == jnp.bfloat16
    for one, other in (((6, 1), (6,)), ((6,), (6, 1))):  # one meaning, and nothing is broadcast
        error = jnp.asarray(ERRORS, jnp.float32).reshape(one)
        np.testing.assert_allclose(loss(error, jnp.zeros(other)), loss(error, jnp.zeros(one)))
    with pytest.raises(ValueError, match=r"the shape of the outputs, \(3, 2\), got \(3,\)"):
        loss(jnp.ones((3, 2)), jnp.ones(3))


@pytest.mark.heavy
def test_cross_entropy_of_probabilities_has_all_digits():
    p = np.array([1e-30, 1e-10, 1e-3, 0.3, 0.5, 0.9, 1 - 2.0**-20], np.float32)
    exact = -np.log1p(-p.astype(np.float64))
    loss = jd.losses.sigmoid_cross_entropy
    np.testing.assert_allclose(loss(p, np.zeros(7), from_logits=False), exact, rtol=1e-6)
    slopes = jax.grad(lambda p: loss(p, np.zeros(7), from_logits=False).sum())(jnp.asarray(p))
    np.testing.assert_allclose(slopes, 1 / (1 - p.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["float64", "int64", "uint32", "targets only", "int32 of JAX"])
def test_differences_that_float32_does_not_hold_are_kept(kind):
    """At 1.7e9, seconds since 1970, it has steps of 128: the errors were 0 or 128."""
    targets = 1_700_000_000 + np.arange(4)
    errors = np.array([1.0, -2.0, 3.0, 100.0])
    if kind in ("float64", "targets only"):
        targets, errors = targets + 0.25, errors + 0.5
    outputs = targets + errors
    if kind == "targets only":
        outputs = jnp.full(4, 1.7e9)
        errors = np.float64(np.float32(1.7e9)) - targets
    elif kind == "int32 of JAX":
        outputs, targets = jnp.asarray(outputs, jnp.int32), jnp.asarray(targets, jnp.int32)
    else:
        outputs, targets = outputs.astype(kind), targets.astype(kind)
    for loss, equation in (
        (jd.losses.mse, np.square),
        (jd.losses.mae, np.abs),
        (jd.losses.log_cosh, log_cosh_in_float64),
        (jd.losses.huber, lambda e: np.where(np.abs(e) <= 1, e * e / 2, np.abs(e) - 0.5)),
    ):
        np.testing.assert_allclose(loss(outputs, targets), equation(errors), rtol=1e-6)
    metric = jd.metrics.mean(jd.losses.mae)
    state = metric.update(metric.init(), outputs, targets, np.array([1, 1, 1, 0]))
    assert float(metric.compute(state)) == pytest.approx(np.abs(errors[:3]).mean(), rel=1e-6)


def test_a_difference_of_numpy_arrays_beyond_float32_is_refused():
    with pytest.raises(ValueError, match=r"outputs - targets holds 6.*e\+38, which float32 cannot"):
        jd.losses.mae(np.array([3e38]), np.array([-3e38]))
    with enable_x64(True):
        assert float(jd.losses.mae(np.array([3e38]), np.array([-3e38]))[0]) == 6e38
        far = np.array([2**53 + 1]), np.array([2**53])
        assert float(jd.losses.mae(*far)[0]) == 1


SIZES = np.concatenate([np.geomspace(1e-30, 1e30, 241), np.linspace(0.01, 20, 400)])


def log_cosh_in_float64(e):
    e = np.minimum(np.abs(e), 1e300)
    near = np.log1p(2 * np.sinh(np.minimum(e, 1) / 2) ** 2)
    return np.where(e < 1, near, e + np.log1p(np.exp(-2 * e)) - np.log(2))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_log_cosh_is_the_closed_form_at_any_size(dtype):
    """Of small errors it was a difference of 0.69 and 0.69: 7 % off at 1e-3."""
    e = jnp.asarray(np.concatenate([SIZES, -SIZES]), dtype)
    exact = log_cosh_in_float64(np.asarray(e, np.float64))
    info = jnp.finfo(dtype)
    found = jd.losses.log_cosh(e, jnp.zeros_like(e)).astype(jnp.float32)
    np.testing.assert_allclose(found, exact, rtol=5 * float(info.eps), atol=float(info.tiny))
    grads = jax.grad(lambda e: jd.losses.log_cosh(e, jnp.zeros_like(e)).astype(jnp.float32).sum())(e)
    expected = np.tanh(np.asarray(e, np.float64))
    np.testing.assert_allclose(grads.astype(jnp.float32), expected, rtol=2 * float(info.eps) + 1e-6)


@pytest.mark.heavy
def test_log_cosh_has_an_end_and_a_curvature():
    most = float(jnp.finfo(jnp.float32).max)
    loss = lambda e: jd.losses.log_cosh(e, jnp.zeros_like(e))  # noqa: E731
    e = jnp.array([most, -most, 3e38, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(loss(e), [most, most, jnp.float32(3e38), np.inf, np.nan])
    np.testing.assert_array_equal(jax.vmap(jax.grad(loss))(e), [1, -1, 1, 1, np.nan])
    curvature = jax.vmap(jax.grad(jax.grad(loss)))(jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(curvature, [1, 1 - np.tanh(0.5) ** 2], rtol=1e-6)
    with enable_x64(True):
        e = jnp.asarray(SIZES)
        np.testing.assert_allclose(loss(e), log_cosh_in_float64(SIZES), rtol=2e-15)


@pytest.mark.heavy
@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_smoothed_labels_are_mixed_with_the_uniform_distribution(alpha):
    logits = jax.random.normal(jax.random.key(0), (6, 4))
    labels = jnp.arange(6) % 4
    mixed = (1 - alpha) * jax.nn.one_hot(labels, 4) + alpha / 4
    expected = jd.losses.softmax_cross_entropy(logits, mixed)
    for given in (labels, jax.nn.one_hot(labels, 4)):
        found = jd.losses.softmax_cross_entropy(logits, given, label_smoothing=alpha)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    x, y = logits[:, 0], labels % 2
    p = (1 - alpha) * y + alpha / 2
    s = 1 / (1 + np.exp(-np.asarray(x, np.float64)))
    np.testing.assert_allclose(
        jd.losses.sigmoid_cross_entropy(x, y, label_smoothing=alpha),
        -p * np.log(s) - (1 - p) * np.log(1 - s),
        rtol=1e-5,
    )


@pytest.mark.heavy
def test_weighted_losses_of_several_outputs():
    loss = jd.losses.weighted([jd.losses.mse, jd.losses.softmax_cross_entropy], [2.0, 0.5])
    outputs = (jnp.ones((3, 2)), jnp.zeros((3, 4)))
    found = loss(outputs, (jnp.zeros((3, 2)), jnp.array([0, 1, 2])))
    np.testing.assert_allclose(found, np.full(3, 2 + 0.5 * np.log(4)), rtol=1e-6)
    with pytest.raises(ValueError, match="weights must be one for each of"):
        jd.losses.weighted({"a": jd.losses.mse}, {"b": 1.0})
    with pytest.raises(TypeError, match=r"losses\['a'\] must be a function"):
        jd.losses.weighted({"a": "mse"})
    with pytest.raises(ValueError, match=r"weights must be one for each of \[1\], got \['1'\]"):
        jd.losses.weighted({1: jd.losses.mse}, {"1": 2.0})
    for argument, pair in (("outputs", (outputs, outputs[:1])), ("targets", (outputs[:1], outputs))):
        with pytest.raises(ValueError, match=f"the {argument} are 2, and a list has losses of 1"):
            jd.losses.weighted([jd.losses.mse])(*pair)


@pytest.mark.parametrize("weight", [2, 2.0, np.float64(2), np.float32(2), jnp.float32(2)])
def test_a_weight_of_a_loss_does_not_change_the_dtype(weight):
    outputs = {"a": jnp.ones(3, jnp.bfloat16)}
    found = jd.losses.weighted({"a": jd.losses.mse}, {"a": weight})(
        outputs, {"a": jnp.zeros(3, jnp.bfloat16)}
    )
    assert (found.dtype, found.tolist()) == (jnp.bfloat16, [2, 2, 2])


# --- metrics --------------------------------------------------------------------------------------


def stream(metric, batches):
    state = metric.init()
    for batch in batches:
        state = jax.jit(metric.update)(state, *batch)
    return metric.compute(state)


@pytest.mark.heavy
@hypothesis.settings(max_examples=4)
@hypothesis.given(st.integers(0, 10_000))
def test_streaming_metrics_are_those_of_scikit_learn_whatever_the_batches(seed):
    from sklearn import metrics as sk

    rng = np.random.default_rng(seed)
    n, cut = 60, int(rng.choice([1, 17, 30, 58]))  # of few shapes: each is compiled
    scores = rng.random(n).astype(np.float32)
    labels = (rng.random(n) < 0.4).astype(int)
    labels[:2] = 0, 1
    weights = rng.integers(1, 4, n).astype(np.float32)
    parts = [tuple(a[s] for a in (scores, labels, weights)) for s in (slice(0, cut), slice(cut, n))]
    logits = np.log(scores / (1 - scores)).astype(np.float64)
    of_logits = [(logits[s], *part[1:]) for s, part in zip((slice(0, cut), slice(cut, n)), parts)]
    for make, reference in (
        (jd.metrics.precision, sk.precision_score),
        (jd.metrics.recall, sk.recall_score),
        (jd.metrics.f1, sk.f1_score),
    ):
        metric = make()
        expected = reference(labels, scores > 0.5, sample_weight=weights, zero_division=0)
        np.testing.assert_allclose(stream(metric, parts), expected, rtol=1e-5)
        found = stream(make(from_logits=True), of_logits)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        merged = metric.merge(*(metric.update(metric.init(), *part) for part in parts))
        np.testing.assert_allclose(metric.compute(merged), expected, rtol=1e-5)
    exact = sk.roc_auc_score(labels, scores, sample_weight=weights)
    np.testing.assert_allclose(stream(jd.metrics.auc(bins=2000), parts), exact, atol=5e-3)


@pytest.mark.heavy
def test_confusion_matrix_and_classes_of_scikit_learn():
    from sklearn import metrics as sk

    rng = np.random.default_rng(0)
    outputs, labels = rng.random((50, 4)).astype(np.float32), rng.integers(0, 4, 50)
    predicted = outputs.argmax(-1)
    batches = [(outputs[:20], labels[:20]), (outputs[20:], labels[20:])]
    np.testing.assert_array_equal(
        stream(jd.metrics.confusion_matrix(4), batches), sk.confusion_matrix(labels, predicted)
    )
    for c in range(4):
        expected = sk.precision_score(labels == c, predicted == c)
        np.testing.assert_allclose(
            stream(jd.metrics.precision(class_id=c), batches), expected, rtol=1e-6
        )
    expected = sk.top_k_accuracy_score(labels, outputs, k=2)
    assert float(jd.metrics.top_k_accuracy(outputs, labels, k=2).mean()) == pytest.approx(expected)


@pytest.mark.heavy
@pytest.mark.parametrize("make", [jd.metrics.precision, jd.metrics.recall, jd.metrics.f1])
def test_a_threshold_of_probabilities_on_logits(make):
    logits = jnp.array([-1e30, -200.0, -1.0, -1e-3, 1e-3, 1.0, 200.0, 1e30])
    labels = jnp.array([1, 0, 0, 1, 0, 1, 0, 1])

    def value(threshold, outputs=logits, **how):
        metric = make(threshold, **how)
        return metric.compute(metric.update(metric.init(), outputs, labels))

    thresholds = jnp.array([0.0, 0.3, 0.5, 0.9, 1.0])
    found = jax.vmap(lambda t: value(t, from_logits=True))(thresholds)
    with np.errstate(divide="ignore"):
        expected = [value(np.log(t) - np.log(1 - t)) for t in np.array([0.3, 0.5, 0.9])]
    np.testing.assert_allclose(found[1:4], expected)
    assert np.isfinite(found).all()
    low = value(0.5, logits.astype(jnp.bfloat16), from_logits=True)
    np.testing.assert_allclose(low, expected[1])  # σ(0.001) is above a half
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got -0.5"):
        make(-0.5, from_logits=True)
    with pytest.raises(TypeError, match="from_logits must be True or False"):
        make(from_logits=1)


@pytest.mark.heavy
def test_metrics_under_scan_vmap_and_across_devices():
    metric = jd.metrics.precision()
    scores = jax.random.uniform(jax.random.key(0), (8, 4, 10))
    labels = jax.random.bernoulli(jax.random.key(1), 0.5, (8, 4, 10)).astype(int)
    expected = [
        metric.compute(metric.update(metric.init(), scores[:, i], labels[:, i])) for i in range(4)
    ]

    def run(scores, labels):
        def body(state, batch):
            return metric.update(state, *batch), None

        return metric.compute(jax.lax.scan(body, metric.init(), (scores, labels))[0])

    np.testing.assert_allclose(jax.vmap(run, in_axes=1)(scores, labels), expected, rtol=1e-6)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    counts = jax.shard_map(
        lambda s, y: jax.lax.psum(metric.update(metric.init(), s, y), "data"),
        mesh=mesh,
        in_specs=jax.P("data"),
        out_specs=jax.P(),
    )(scores[:, 0], labels[:, 0])
    np.testing.assert_allclose(metric.compute(counts), expected[0], rtol=1e-6)


@pytest.mark.heavy
def test_a_streaming_metric_of_an_epoch_is_not_the_average_of_its_batches():
    model = jd.nn.lambda_(lambda x: x)
    book = [
        ([1, 1, 0, 1, 0, 1, 0, 1], [0, 1, 1, 1, 0, 1, 0, 1]),
        ([1, 0, 1, 0, 0, 1, 0, 0], [0, 1, 0, 1, 1, 0, 0, 0]),
    ]
    x, y = (jnp.array([*a, *b], jnp.float32) for a, b in zip(*book))
    told = jd.metrics.precision(from_logits=False)
    objective = jd.train.supervised(
        model, jd.losses.mse, metrics={"precision": told, "huber": jd.losses.huber}
    )
    for batch_size in (8, 5, 16):
        found = jd.train.make_evaluate(objective, batch_size=batch_size)({}, {}, (x, y))
        assert float(found["precision"]) == pytest.approx(0.5)
    weights = jnp.where(jnp.arange(16) < 8, 1.0, 0.0)
    found = jd.train.make_evaluate(objective, batch_size=4)({}, {}, (x, y, weights))
    assert float(found["precision"]) == pytest.approx(0.8)
    loss, (_, metrics) = objective({}, {}, (x, y, weights))
    np.testing.assert_allclose(loss, (weights * (x - y) ** 2).mean(), rtol=1e-6)
    assert float(metrics["precision"]) == pytest.approx(0.8)
    result = jd.fit(
        jd.nn.serial(jd.nn.dense(1)),
        (jax.random.normal(jax.random.key(0), (40, 3)), jnp.arange(40)[:, None] % 2 * 1.0),
        loss=jd.losses.sigmoid_cross_entropy,
        metrics={"auc": jd.metrics.auc(from_logits=True), "recall": jd.metrics.recall(from_logits=True)},
        optimizer=jd.optimizers.adam(1e-2),
        epochs=2,
        batch_size=16,
        key=jax.random.key(0),
        progress=False,
    )
    assert result.history["auc"].shape == (2,)


# --- regularisers ---------------------------------------------------------------------------------

WEIGHTS = {
    "a": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([5.0])},
    "b": {"kernel": jnp.array(3.0)},
}


def test_penalties_are_their_sums_where_told():
    l1, l2 = jd.regularizers.l1(0.1, where="*/kernel"), jd.regularizers.l2(0.1, where="a/*")
    assert float(l1(WEIGHTS)) == pytest.approx(0.6)
    assert float(l2(WEIGHTS)) == pytest.approx(3.0)
    assert float(jd.regularizers.l2(0.1, where="a/*", half=True)(WEIGHTS)) == pytest.approx(1.5)
    assert float(jd.regularizers.total(l1, l2)(WEIGHTS)) == pytest.approx(3.6)
    assert float(jd.regularizers.l1_l2(0.1, 0.2)(WEIGHTS)) == pytest.approx(0.1 * 11 + 0.2 * 39)
    assert float(jd.regularizers.l1_l2(l1=0.1)(WEIGHTS)) == pytest.approx(0.1 * 11)
    assert float(jd.regularizers.l1_l2(l2=0.2)(WEIGHTS)) == pytest.approx(0.2 * 39)
    assert float(jd.regularizers.l1_l2()(WEIGHTS)) == 0
    low = jax.tree.map(lambda w: w.astype(jnp.bfloat16), WEIGHTS)
    assert l2(low).dtype == jnp.float32
    with pytest.raises(ValueError, match="where='kernl' matches no leaf"):
        jd.regularizers.l1(0.1, where="kernl")(WEIGHTS)
    with pytest.raises(ValueError, match="factor must be in"):
        jd.regularizers.l2(-1)
    with pytest.raises(TypeError, match="where must be a glob"):
        jd.regularizers.l2(0.1, where=3)


def test_the_slope_of_an_absolute_value_of_0_is_0():
    # as of PyTorch and TensorFlow; jnp.abs has 1 there
    x = jnp.array([-2.0, 0.0, -0.0, 3.0, jnp.inf])
    for total in (
        jd.regularizers.l1(1.0),
        jd.regularizers.l1_l2(1.0),
        lambda x: jd.losses.mae(x, jnp.zeros(5)).sum(),
        lambda x: jd.losses.mape(x - 1, -jnp.ones(5)).sum(),
    ):
        assert jax.grad(total)(x).tolist() == [-1, 0, 0, 1, 1]
        assert jax.jit(jax.grad(total))(x).tolist() == [-1, 0, 0, 1, 1]
    assert jd.losses.mae(x, jnp.zeros(5)).tolist() == [2, 0, 0, 3, jnp.inf]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_fractions_of_an_error_of_nothing_are_huge_and_finite(dtype):
    outputs, targets = np.array([1.0, 0.0, 3.0], dtype), np.array([0.0, 0.0, 2.0])
    least = 2.0**-14 if dtype == "float16" else np.finfo(np.float64).eps
    found = jd.losses.mape(outputs, targets)
    assert found.dtype == outputs.dtype
    np.testing.assert_allclose(np.asarray(found, float), [1 / least, 0, 0.5], rtol=1e-2)


@pytest.mark.heavy
def test_the_activity_of_hidden_layers_is_penalised():
    model = jd.nn.serial(
        hidden1=jd.nn.dense(4, activation=jax.nn.relu),
        inner=jd.nn.serial(hidden2=jd.nn.dense(3)),
        out=jd.nn.dense(1),
    )
    x, y = jax.random.normal(jax.random.key(0), (5, 2)), jnp.zeros((5, 1))
    params, state = model.init(jax.random.key(1), x)
    plain = jd.train.supervised(model, jd.losses.mse)
    activity = jd.regularizers.activity(jd.regularizers.l1(0.1), where=["hidden1", "*/hidden2"])
    found = jax.jit(jd.train.supervised(model, jd.losses.mse, activity=activity))(params, state, (x, y))[
        0
    ]
    h1 = jax.nn.relu(x @ params["hidden1"]["kernel"] + params["hidden1"]["bias"])
    p = params["inner"]["hidden2"]
    h2 = h1 @ p["kernel"] + p["bias"]
    expected = plain(params, state, (x, y))[0] + 0.1 * (jnp.abs(h1).sum() + jnp.abs(h2).sum()) / 5
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    missing = jd.regularizers.activity(jd.regularizers.l1(0.1), where="hiden*")
    with pytest.raises(ValueError, match=r"where='hiden.*' matches no leaf"):
        jd.train.supervised(model, jd.losses.mse, activity=missing)(params, state, (x, y))


@pytest.mark.heavy
def test_the_order_of_scores_that_float32_cannot_tell_apart_is_kept():
    scores, labels = 1 - np.array([4e-9, 3e-9, 2e-9, 1e-9]), np.array([0, 1, 0, 1])
    assert float(jd.metrics.roc_auc_score(scores, labels)) == 0.75
    assert float(jd.metrics.roc_auc_score(2**40 + np.arange(4), labels)) == 0.75
    assert np.isnan(jd.metrics.roc_auc_score(np.where(labels, np.nan, scores), labels))
    rows = np.array([[1.0, 1 + 1e-12, 0.0], [1 + 1e-12, 1.0, np.nan], [2.0, 2.0, 1.0]])
    assert jd.metrics.accuracy(rows, [1, 0, 0]).tolist() == [1, 0, 1]
    assert jd.metrics.top_k_accuracy(rows[[0, 2]], [0, 1], k=1).tolist() == [0, 1]  # a tie counts
    assert jd.metrics.top_k_accuracy(np.array([[3, 1, 2]]), [2], k=2).tolist() == [1]


def test_optax_losses_of_logits_are_known():
    model = jd.nn.dense(2, activation=jax.nn.softmax)
    loss = optax.losses.softmax_cross_entropy_with_integer_labels
    with pytest.raises(
        ValueError, match=r"partial\(jaxdeep.losses.softmax_cross_entropy, from_logits=False"
    ):
        jd.train.supervised(model, loss)


def test_outputs_of_different_numbers_of_examples_are_not_added_up():
    loss = jd.losses.weighted({"a": jd.losses.mse, "b": jd.losses.mae})
    with pytest.raises(ValueError, match=r"same number of examples, got {'a': 1, 'b': 3}"):
        loss({"a": jnp.ones(1), "b": jnp.ones(3)}, {"a": jnp.ones(1), "b": jnp.zeros(3)})


def test_booleans_are_labels_of_two_classes():
    logits = jnp.array([[2.0, 1.0], [0.0, 1.0]])
    for of in (softmax_cross_entropy, jd.metrics.accuracy):
        assert of(logits, np.array([True, True])).tolist() == of(logits, np.array([1, 1])).tolist()
    with pytest.raises(TypeError, match="must be integers, got bool"):
        softmax_cross_entropy(jnp.zeros((2, 3)), np.array([True, False]))


@pytest.mark.heavy
@pytest.mark.parametrize("train", [False, True])
def test_examples_of_weight_0_have_no_activity(train):
    model = jd.nn.serial(hidden=jd.nn.dense(4), out=jd.nn.dense(1))
    x, y = jax.random.normal(jax.random.key(0), (5, 2)), jnp.zeros((5, 1))
    params, state = model.init(jax.random.key(1), x)
    activity = jd.regularizers.activity(jd.regularizers.l2(0.1), where="hidden")
    objective = jd.train.supervised(model, lambda outputs, y: jnp.zeros(len(y)), activity=activity)
    weights = np.array([1.0, 0.0, 2.0, 1.0, 0.0], np.float32)
    kept = weights != 0

    @jax.value_and_grad
    def with_activity(params, batch):
        return objective(params, state, batch, train=train)[0]

    of_kept = with_activity(params, (x[kept], y[kept]))
    expected = jax.tree.map(lambda a: a * 3 / 5, of_kept)  # divided as the loss is, by all rows
    for inputs in (x, x.at[1].set(jnp.nan)):
        found = with_activity(params, (inputs, y, weights))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, expected)


@pytest.mark.heavy
def test_activity_with_weights_is_the_same_in_any_batches():
    model = jd.nn.serial(hidden=jd.nn.dense(4), out=jd.nn.dense(1))
    x, y = jax.random.normal(jax.random.key(0), (16, 2)), jnp.zeros((16, 1))
    weights = np.array([1.0, 0.0] + [0.0] * 6 + [2.0] * 8, np.float32)
    how = {
        "loss": jd.losses.mse,
        "activity": jd.regularizers.activity(jd.regularizers.l2(1.0), where="h*"),
    }
    params, state = model.init(jax.random.key(1), x)
    losses = [
        jd.evaluate(model, params, state, (x, y, weights), batch_size=n, **how)["loss"]
        for n in (2, 8, 16)
    ]
    np.testing.assert_allclose(losses, losses[-1], rtol=1e-6)
    step = {
        "optimizer": jd.optimizers.sgd(0.1),
        "epochs": 1,
        "batch_size": 16,
        "key": 0,
        "progress": False,
    }
    runs = [
        jd.fit(model, (x, y, weights), params=params, accumulation_steps=n, **how, **step)
        for n in (1, 8)
    ]
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        *(run.params for run in runs),
    )


def test_the_activity_of_one_layer_among_others_with_several_outputs():
    model = jd.nn.serial(
        a=jd.nn.parallel(p=jd.nn.lambda_(lambda x: x), q=jd.nn.lambda_(lambda x: x)),
        b=jd.nn.lambda_(lambda d: 10 * d["p"]),
        c=jd.nn.lambda_(lambda x: 10 * x),
        e=jd.nn.lambda_(lambda x: x[:, :1]),
    )
    batch = (jnp.ones((2, 1)), jnp.zeros((2, 1)))
    for where, expected in (("b", 10.0), ("c", 100.0), ("e", 100.0), ("a", 2.0), ("a/q", 1.0)):
        activity = jd.regularizers.activity(jd.regularizers.l1(1.0), where=where)
        objective = jd.train.supervised(model, lambda o, y: jnp.zeros(2), activity=activity)
        assert float(objective({}, {}, batch)[0]) == expected


def test_metrics_do_not_take_what_is_not_a_number_for_right():
    nan = jnp.full((2, 5), jnp.nan)
    assert jd.metrics.top_k_accuracy(nan, jnp.array([1, 2]), k=1).sum() == 0
    assert jd.metrics.accuracy(nan, jnp.array([0, 0])).sum() == 0
    outside = jax.jit(functools.partial(jd.metrics.top_k_accuracy, k=1))
    assert outside(jnp.arange(10.0).reshape(2, 5), jnp.array([9, -1])).sum() == 0


@pytest.mark.heavy
def test_an_impossible_class_has_no_part_in_the_cross_entropy():
    logits, one_hot = jnp.array([[0.0, 1.0, -jnp.inf]]), jnp.array([[1.0, 0.0, 0.0]])
    value, slope = jax.value_and_grad(lambda x: softmax_cross_entropy(x, one_hot).sum())(logits)
    np.testing.assert_allclose(value, np.log1p(np.e), rtol=1e-6)
    np.testing.assert_allclose(slope[0, 2], 0.0)
    assert np.isfinite(slope).all()
    whole = softmax_cross_entropy(jnp.array([[1, 2]]), jnp.array([0]))  # whole numbers are logits too
    np.testing.assert_allclose(whole, np.log1p(np.e), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jd.losses.weighted({}), ValueError, "at least one loss"),
        (lambda: jd.losses.weighted(jd.losses.mse), TypeError, "losses must be a dict"),
        (lambda: jd.losses.weighted([jd.losses.mse], 2.0), TypeError, "weights must be a dict"),
        (
            lambda: jd.losses.weighted({"a": jd.losses.mse})({"b": jnp.ones(2)}, {"a": jnp.ones(2)}),
            ValueError,
            "outputs lack 'a'",
        ),
        (
            lambda: jd.metrics.precision().update(
                jd.metrics.precision().init(), jnp.ones((2, 3)), jnp.ones((3, 2))
            ),
            ValueError,
            "one output for each label",
        ),
        (
            lambda: jd.metrics.recall(class_id=3).update(
                jd.metrics.recall().init(), jnp.ones((2, 3)), jnp.zeros(2, int)
            ),
            ValueError,
            "class_id must be below the 3 classes, got 3",
        ),
        (
            lambda: jd.train.supervised(jd.nn.dense(1), jd.losses.mse, metrics={1: jd.losses.mae}),
            TypeError,
            "names of metrics must be strings",
        ),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.heavy
def test_fit_takes_an_activity_penalty():
    x, y = jnp.ones((8, 2)), jnp.zeros((8, 1))
    model = jd.nn.serial(hidden=jd.nn.dense(3), out=jd.nn.dense(1))
    shared = {"loss": jd.losses.mse, "optimizer": jd.optimizers.sgd(0.0), "batch_size": 8}
    shared |= {"key": jax.random.key(0), "progress": False}
    plain = jd.fit(model, (x, y), **shared)
    penalty = jd.regularizers.activity(jd.regularizers.l1(0.1), where="hidden")
    fined = jd.fit(model, (x, y), activity=penalty, **shared)
    hidden = x @ plain.params["hidden"]["kernel"]
    expected = plain.history["loss"] + 0.1 * jnp.abs(hidden).sum() / 8
    np.testing.assert_allclose(fined.history["loss"], expected, rtol=1e-5)


def test_traced_labels_below_zero_are_no_class():
    outputs, labels = jnp.zeros((1, 3)).at[:, 2].set(5.0), jnp.array([-1])
    metric = jd.metrics.confusion_matrix(3)
    count = jax.jit(lambda o, y: metric.update(metric.init(), o, y))
    assert float(metric.compute(count(outputs, labels)).sum()) == 0
    assert np.isnan(jax.jit(softmax_cross_entropy)(outputs, labels)).all()


@pytest.mark.heavy
def test_nan_scores_are_not_hidden_and_weight_0_hides():
    metric = jd.metrics.auc()
    scores, labels = jnp.array([jnp.nan, 0.2, 0.9]), jnp.array([0, 0, 1])
    assert np.isnan(metric.compute(metric.update(metric.init(), scores, labels)))
    top = jd.metrics.top_k_accuracy(jnp.array([[jnp.nan, 1.0, 2.0]]), jnp.array([0]), k=5)
    assert float(top[0]) == 0
    mean = jd.metrics.mean(jd.losses.mse)
    state = mean.update(mean.init(), jnp.array([1.0, jnp.nan]), jnp.zeros(2), jnp.array([1.0, 0.0]))
    assert float(mean.compute(state)) == 1


@pytest.mark.heavy
def test_the_area_of_a_rare_class_is_not_that_of_one_bin():
    """Scores near 0.001, where bins that are even in the probability hold all in one."""
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 0.01).astype(int)
    logits = rng.normal(size=20_000) + 1.2 * y - 7
    exact = sk.roc_auc_score(y, logits)
    for metric, scores in (
        (jd.metrics.auc(), 1 / (1 + np.exp(-logits))),
        (jd.metrics.auc(from_logits=True), logits),
    ):
        found = metric.compute(metric.update(metric.init(), scores, y))
        assert float(found) == pytest.approx(exact, abs=2e-3)
    certain = metric.update(metric.init(), jnp.array([jnp.inf, -jnp.inf]), jnp.array([1, 0]))
    assert float(metric.compute(certain)) == 1


@pytest.mark.heavy
def test_the_exact_area_is_scikit_learns():
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    y, scores, weights = rng.integers(2, size=500), rng.normal(size=500).round(1), rng.random(500)
    for w in (None, weights):
        expected = sk.roc_auc_score(y, scores, sample_weight=w)
        found = jax.jit(jd.metrics.roc_auc_score)(scores, y, w)
        assert float(found) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(jd.metrics.roc_auc_score(scores, 0 * y))
    assert np.isnan(jd.metrics.roc_auc_score(np.where(y, np.nan, scores), y))


def test_infinite_logits_are_certain():
    found = jd.losses.sigmoid_cross_entropy(jnp.array([-1, 1, -1, 1]) * jnp.inf, jnp.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(found, [0, np.inf, np.inf, 0])
    gradient = jax.grad(lambda x: jd.losses.sigmoid_cross_entropy(x, jnp.array([0, 1])).sum())
    np.testing.assert_array_equal(gradient(jnp.array([-jnp.inf, jnp.inf])), [0, 0])


@pytest.mark.parametrize("weight", [0.0, jnp.float32(0)])
def test_an_output_of_weight_0_has_no_part(weight):
    loss = jd.losses.weighted({"a": jd.losses.mse, "b": jd.losses.mse}, {"a": 1.0, "b": weight})
    targets = {"a": jnp.zeros((2, 1)), "b": jnp.zeros((2, 1))}
    of = lambda outputs: loss(outputs, targets).sum()  # noqa: E731
    value, gradient = jax.value_and_grad(of)({"a": jnp.ones((2, 1)), "b": jnp.full((2, 1), jnp.nan)})
    assert value == 2
    np.testing.assert_array_equal(gradient["b"], 0)


REGRESSION = [jd.losses.mse, jd.losses.mae, jd.losses.huber, jd.losses.log_cosh]


@pytest.mark.parametrize("loss", REGRESSION)
@pytest.mark.parametrize(
    ("targets", "held"),
    [
        (np.array([2**32 + 1]), "holds 4294967297, which needs more than 32 bits"),
        (np.array([2**63 + 5], np.uint64), "holds 9223372036854775813, which needs more than 32 bits"),
        (np.array([1e300]), r"holds 1e\+300, which float32 cannot hold"),
        ([-(2**40)], "holds -1099511627776, which needs more than 32 bits"),
    ],
)
def test_targets_that_would_be_cut_are_refused(loss, targets, held):
    with pytest.raises(ValueError, match=f"targets {held}"):
        loss(jnp.zeros(1), targets)
    both = jd.losses.weighted({"a": loss})
    with pytest.raises(ValueError, match=f"targets {held}"):
        both({"a": jnp.zeros(1)}, {"a": np.asarray(targets)})


@pytest.mark.heavy
@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_targets_are_not_rounded_to_narrow_outputs(dtype):
    outputs, targets = jnp.array([4096.0], dtype), np.array([4097.0])
    for loss in REGRESSION:
        found = loss(outputs, targets)
        np.testing.assert_allclose(found, loss(jnp.array([4096.0]), targets), rtol=8e-3)
        gradient = jax.grad(lambda o, loss=loss: loss(o, targets).sum())(outputs)
        assert (found.dtype, gradient.dtype) == (dtype, dtype)
    assert float(jd.losses.mae(outputs, targets)[0]) == 1
    with pytest.raises(
        ValueError, match=r"targets holds 100000\.0, which float16 of the outputs cannot"
    ):
        jd.losses.mse(jnp.zeros(1, jnp.float16), np.array([1e5]))


INF = float("inf")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(
    ("logits", "label", "expected"),
    [
        ([INF, 0.0, 1.0], 0, 0.0),
        ([INF, -INF, 1.0], 0, 0.0),
        ([0.0, INF, 1.0], 0, INF),
        ([-INF, 0.0, 0.0], 0, INF),
        ([-INF, 0.0, 0.0], 1, math.log(2)),
        ([INF, INF, 0.0], 0, math.nan),
        ([-INF, -INF, -INF], 0, math.nan),
        ([INF, math.nan, 0.0], 0, math.nan),
        ([math.nan, 0.0, 0.0], 1, math.nan),
    ],
)
def test_a_logit_of_infinity_is_certain(logits, label, expected, dtype):
    x = jnp.array([logits, [0.0, 0.0, 0.0]], dtype)
    labels = jnp.array([label, 1])
    for y in (labels, jax.nn.one_hot(labels, 3)):
        for function in (softmax_cross_entropy, jax.jit(softmax_cross_entropy)):
            loss = function(x, y)
            assert loss.dtype == dtype
            np.testing.assert_allclose(
                np.asarray(loss, float),
                [expected, math.log(3)],
                rtol=1e-6 if dtype == jnp.float32 else 1e-2,
            )


@pytest.mark.heavy
def test_the_gradient_of_a_certain_prediction_is_its_limit():
    x = jnp.array([[INF, 0.0], [1.0, 2.0], [0.0, INF]])
    expected = [[0.0, 0.0], jax.nn.softmax(x[1]) - jnp.array([1.0, 0.0]), [-1.0, 1.0]]
    grads = jax.grad(lambda x: softmax_cross_entropy(x, jnp.zeros(3, int)).sum())(x)
    np.testing.assert_allclose(grads, expected, rtol=1e-6)
    # what is smoothed puts some of its weight on what cannot be
    smoothed = softmax_cross_entropy(x, jnp.zeros(3, int), label_smoothing=0.1)
    assert jnp.isposinf(smoothed[0])
    with jax.debug_infs(True):
        softmax_cross_entropy(x[1:2], jnp.array([0]))


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "name", ["softmax_cross_entropy", "softmax_focal", "categorical_hinge", "multiclass_hinge"]
)
def test_slopes_are_the_same_where_a_compiler_computes_the_scores_twice(name):
    """Under jit(vmap) of two steps XLA's fusions round scores otherwise than their largest."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 4)).astype(np.float32), rng.integers(0, 3, 100)
    kernel = jnp.asarray(rng.normal(size=(4, 3)).astype(np.float32))
    loss = getattr(jd.losses, name)

    def trained(rate):
        optimizer, params = optax.rmsprop(rate), {"kernel": kernel, "bias": jnp.zeros(3)}
        state = optimizer.init(params)
        for _ in range(2):
            slopes = jax.grad(lambda p: loss(x @ p["kernel"] + p["bias"], y).mean())(params)
            updates, state = optimizer.update(slopes, state, params)
            params = optax.apply_updates(params, updates)
        return params["kernel"].sum()

    rates = jnp.array([1e-3, 1e-2])
    together = jax.jit(jax.vmap(trained))(rates)
    np.testing.assert_allclose(together, [trained(rate) for rate in rates], rtol=1e-5)


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_half_a_float_is_rounded_once(dtype, smoothing):
    z = jnp.asarray(np.random.default_rng(0).normal(scale=4.0, size=(200, 5)), dtype)
    y = np.arange(200) % 5
    for labels in (y, jax.nn.one_hot(y, 5, dtype=dtype)):
        found = softmax_cross_entropy(z, labels, label_smoothing=smoothing)
        wide = softmax_cross_entropy(
            z.astype(jnp.float32), jnp.asarray(labels), label_smoothing=smoothing
        )
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.astype(float), wide.astype(dtype).astype(float))
    slopes = jax.grad(lambda z: softmax_cross_entropy(z, y, label_smoothing=smoothing).sum())(z)
    sums = np.asarray(slopes, float).sum(axis=-1)
    np.testing.assert_allclose(sums, 0, atol=5 * float(jnp.finfo(dtype).eps))
