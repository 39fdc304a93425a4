"""What every loss and every metric owes: a new one is tested by being public."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep import losses, metrics

ROWS, CLASSES = 6, 3
VALUES = jax.random.normal(jax.random.key(0), (ROWS, 2))
TARGETS = jax.random.normal(jax.random.key(1), (ROWS, 2))
LOGITS = jax.random.normal(jax.random.key(2), (ROWS, CLASSES))
SCORES = jax.random.uniform(jax.random.key(3), (ROWS,))
LABELS = jnp.array([0, 2, 1, 1, 0, 2])
BITS = jnp.array([0, 1, 1, 0, 1, 0])

LOSSES = sorted(losses.__all__)
METRICS = sorted(set(metrics.__all__) - {"Metric", "Tally", "roc_auc_score"})  # which sees all at once

# Those that want something else than outputs and targets of the same shape.
LOSS = {
    "softmax_cross_entropy": (losses.softmax_cross_entropy, LOGITS, LABELS),
    "sigmoid_cross_entropy": (losses.sigmoid_cross_entropy, VALUES, (TARGETS > 0).astype(int)),
    "weighted": (
        losses.weighted({"a": losses.mse, "b": losses.mae}, {"a": 1.0, "b": 0.5}),
        {"a": VALUES, "b": VALUES},
        {"a": TARGETS, "b": TARGETS},
    ),
}
# Those that want something else than a score and a bit for each example.
METRIC = {
    "accuracy": (metrics.accuracy, LOGITS, LABELS),
    "binary_accuracy": (functools.partial(metrics.binary_accuracy, from_logits=False), SCORES, BITS),
    "confusion_matrix": (metrics.confusion_matrix(CLASSES), LOGITS, LABELS),
    "mean": (metrics.mean(losses.mse), VALUES, TARGETS),
    "top_k_accuracy": (lambda outputs, y: metrics.top_k_accuracy(outputs, y, k=2), LOGITS, LABELS),
}


def loss_of(name):
    return LOSS.get(name) or (getattr(losses, name), VALUES, TARGETS)


def metric_of(name):
    metric, outputs, y = METRIC.get(name) or (getattr(metrics, name)(), SCORES, BITS)
    return metric if isinstance(metric, metrics.Metric) else metrics.mean(metric), outputs, y


def rows(tree, part):
    return jax.tree.map(lambda a: a[part], tree)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_of_each_example_alone_and_compiled_once(name):
    loss, outputs, y = loss_of(name)
    chex.clear_trace_counter()
    compiled = jax.jit(chex.assert_max_traces(loss, n=1))
    found = compiled(outputs, y)
    assert found.shape[0] == ROWS
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_close(loss(outputs, y), found, rtol=1e-6)
    shuffled = np.array([3, 1, 5, 0, 2, 4])
    chex.assert_trees_all_close(
        compiled(rows(outputs, shuffled), rows(y, shuffled)), found[shuffled], rtol=1e-6
    )
    alone = jax.vmap(lambda *row: loss(*jax.tree.map(lambda a: a[None], row))[0])
    chex.assert_trees_all_close(alone(outputs, y), found, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_has_gradients_and_keeps_the_dtype(name):
    loss, outputs, y = loss_of(name)
    grads = jax.jit(jax.grad(lambda outputs: loss(outputs, y).mean()))(outputs)
    chex.assert_trees_all_equal_shapes_and_dtypes(grads, outputs)
    chex.assert_tree_all_finite(grads)
    small = jax.tree.map(lambda o, g: o - 0.01 * g, outputs, grads)
    assert loss(small, y).mean() < loss(outputs, y).mean()
    for dtype in ("bfloat16", "float16"):
        low = jax.eval_shape(lambda dtype=dtype: jax.tree.map(lambda a: a.astype(dtype), outputs))
        chex.assert_type(jax.eval_shape(loss, low, y), jnp.dtype(dtype))


@pytest.mark.few(1)
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_the_same_in_any_batches(name):
    """Whole, as batches in a scan, as two halves merged, and next to examples of weight 0."""
    metric, outputs, y = metric_of(name)
    whole = metric.compute(metric.update(metric.init(), outputs, y))

    @jax.jit
    def batched(outputs, y):
        batches = jax.tree.map(lambda a: a.reshape(3, 2, *a.shape[1:]), (outputs, y))
        add = lambda state, batch: (metric.update(state, *batch), None)  # noqa: E731
        return metric.compute(jax.lax.scan(add, metric.init(), batches)[0])

    chex.assert_trees_all_close(batched(outputs, y), whole, rtol=1e-6)
    halves = [
        metric.update(metric.init(), rows(outputs, part), rows(y, part))
        for part in (slice(0, 2), slice(2, ROWS))
    ]
    chex.assert_trees_all_close(metric.compute(metric.merge(*halves)), whole, rtol=1e-6)
    chex.assert_trees_all_close(metric.compute(metric.merge(*halves[::-1])), whole, rtol=1e-6)
    counted = jnp.arange(ROWS) < 4
    weighted = metric.compute(metric.update(metric.init(), outputs, y, counted.astype(float)))
    first = metric.update(metric.init(), rows(outputs, slice(4)), rows(y, slice(4)))
    chex.assert_trees_all_close(weighted, metric.compute(first), rtol=1e-6)


@pytest.mark.heavy
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_vmapped_and_its_state_does_not_retrace(name):
    metric, outputs, y = metric_of(name)
    state = metric.init()
    after = jax.eval_shape(metric.update, state, outputs, y)
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(lambda: state), after)
    stack = jax.tree.map(lambda a: jnp.stack([a, a[::-1]]), (outputs, y))
    found = jax.vmap(lambda o, y: metric.compute(metric.update(metric.init(), o, y)))(*stack)
    whole = metric.compute(metric.update(metric.init(), outputs, y))
    chex.assert_trees_all_close(found, jnp.stack([whole, whole]), rtol=1e-6)  # in any order too


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_taken_by_supervised(name):
    metric = METRIC.get(name, (None,))[0] or getattr(metrics, name)()
    _, outputs, y = metric_of(name)
    objective = jd.train.supervised(
        jd.nn.activation(jax.nn.sigmoid), lambda o, y: jnp.zeros(len(y)), metrics={"it": metric}
    )
    found = jax.eval_shape(lambda: objective({}, {}, (outputs, y)))[1][1]
    assert set(found) == {"it"}


@pytest.mark.heavy
@pytest.mark.parametrize("name", LOSSES)
def test_rows_of_weight_0_are_as_if_they_were_not_there(name):
    """Whatever their targets, in loss, gradient and metrics, known or traced."""
    loss, outputs, y = loss_of(name)
    weights = jnp.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    counted, others = slice(4), slice(4, None)
    of_x = lambda outputs, y: loss(outputs["x"], y)  # noqa: E731  # in a dict, whatever the shapes
    identity = jd.nn.lambda_(lambda x: x)
    objective = jd.train.supervised(identity, of_x, metrics={"metric": of_x})

    def weighed(outputs, y):
        value, (_, found) = objective({}, {}, ({"x": outputs}, y, weights), train=True)
        return value * ROWS, found["metric"].compute()

    def alone(outputs):
        return loss(outputs, rows(y, counted)).sum() * 4 / loss(outputs, rows(y, counted)).size

    expected, gradient = jax.value_and_grad(alone)(rows(outputs, counted))
    for bad in (jnp.nan, jnp.inf, -7):
        broken = jax.tree.map(lambda a, bad=bad: a.at[others].set(jnp.asarray(bad).astype(a.dtype)), y)
        for function in (weighed, jax.jit(weighed)):
            value, metric = function(outputs, broken)
            np.testing.assert_allclose(value, expected, rtol=1e-6)
            np.testing.assert_allclose(metric, expected / 4, rtol=1e-6)
        found = jax.grad(lambda *batch: weighed(*batch)[0])(outputs, broken)
        chex.assert_trees_all_close(rows(found, counted), gradient, rtol=1e-5)
        chex.assert_trees_all_equal(
            rows(found, others), jax.tree.map(jnp.zeros_like, rows(found, others))
        )


def classified(name):
    if name == "confusion_matrix":
        metric = metrics.confusion_matrix(200)
        return lambda outputs, y: metric.compute(metric.update(metric.init(), outputs, y))
    return getattr(losses, name, None) or getattr(metrics, name)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "name", ["softmax_cross_entropy", "accuracy", "top_k_accuracy", "confusion_matrix"]
)
def test_labels_of_any_width_are_the_same(name):
    """200 classes do not fit into int8, and a traced −1 stays one."""
    function, outputs = classified(name), jax.random.normal(jax.random.key(3), (5, 200))
    compiled = jax.jit(function)
    for dtype, codes in {"int8": [0, 100, 127, 3, -1], "uint8": [0, 199, 150, 3, 9]}.items():
        wide = np.array(codes, np.int32)
        expected, known = compiled(outputs, wide), function(outputs[:4], wide[:4])
        for narrow in (dtype, "int16", "int64"):
            labels = np.array(codes, narrow)
            np.testing.assert_array_equal(compiled(outputs, labels), expected)
            np.testing.assert_array_equal(function(outputs[:4], labels[:4]), known)


def test_labels_beyond_32_bits_are_refused():
    with pytest.raises(ValueError, match="4294967297"):
        losses.softmax_cross_entropy(LOGITS[:1], np.array([2**32 + 1]))


@pytest.mark.heavy
def test_counts_go_on_where_a_float32_stops():
    """2²⁴ + 1,000, in batches of one after one of many, and merged."""
    many, metric = 2**24, metrics.confusion_matrix(2)
    one, zero = jnp.array([[0.9, 0.1]]), jnp.array([0])
    start = metric.init() | {"matrix": jnp.array([[float(many), 0.0], [0.0, 0.0]])}
    add = lambda state, _: (metric.update(state, one, zero), None)  # noqa: E731
    state, _ = jax.jit(lambda state: jax.lax.scan(add, state, length=1000))(start)
    assert int(metric.compute(state)[0, 0]) == many + 1000
    assert int(metric.compute(metric.merge(state, state))[0, 0]) == 2 * many + 2000
    odd = metric.update(state, one, zero)
    assert int(odd["matrix"][0, 0]) + int(odd["lost"]["matrix"][0, 0]) == many + 1001


@pytest.mark.heavy
def test_a_batch_of_more_than_2_to_the_24_is_counted():
    rows = 2**24 + 1000
    state = metrics.precision().update(metrics.precision().init(), jnp.ones(rows), jnp.ones(rows))
    assert int(state["tp"]) == rows


# --- rows of weight 0, NaN, weights ----------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*METRICS, "roc_auc_score", "recall(class_id=1)"])
def test_a_metric_itself_does_not_look_at_rows_of_weight_0(name):
    """Sentinel labels and NaN, known or traced, weights of any kind, and lists."""
    if name == "recall(class_id=1)":
        metric, outputs, y = metrics.recall(class_id=1), LOGITS, LABELS
    elif name != "roc_auc_score":
        metric, outputs, y = metric_of(name)
    else:
        metric, outputs, y = None, SCORES, BITS

    def value(outputs, y, weights=None):
        if metric is None:
            return metrics.roc_auc_score(outputs, y, weights)
        return metric.compute(metric.update(metric.init(), outputs, y, weights))

    counted, others = slice(4), slice(4, None)
    expected = value(rows(outputs, counted), rows(y, counted))
    compiled = jax.jit(value)
    weights = np.array([1, 1, 1, 1, 0, 0])
    for bad in (7, -1, np.nan):
        broken = np.array(y, np.float32 if np.isnan(bad) else y.dtype)
        if np.isnan(bad) and y.ndim < outputs.ndim:
            broken = np.array(jax.nn.one_hot(y, CLASSES))
        broken[others] = bad
        nan = np.array(outputs)
        nan[others] = np.nan
        for w in (weights, weights.astype(bool), weights.astype(np.float32), jnp.array(weights, float)):
            np.testing.assert_allclose(value(nan, broken, w), expected, rtol=1e-6)
        np.testing.assert_allclose(compiled(nan, broken, weights * 1.0), expected, rtol=1e-6)
        listed = nan.tolist(), broken.tolist(), weights.tolist()
        np.testing.assert_allclose(value(*listed), expected, rtol=1e-6)
        inside = jax.jit(lambda o, y=broken: value(o, jnp.asarray(y), weights))  # known in a trace
        np.testing.assert_allclose(inside(nan), expected, rtol=1e-6)
    none = value(outputs, np.full_like(y, 7), np.zeros(ROWS))
    np.testing.assert_array_equal(none, value(outputs, y, np.zeros(ROWS)))


@pytest.mark.parametrize("name", ["auc", "confusion_matrix", "mean", "precision", "roc_auc_score"])
def test_known_weights_of_metrics_are_weights(name):
    if name == "roc_auc_score":
        update = lambda w: metrics.roc_auc_score(SCORES, BITS, w)  # noqa: E731
    else:
        metric, outputs, y = metric_of(name)
        update = lambda w: metric.update(metric.init(), outputs, y, w)  # noqa: E731
    for bad, message in (
        (-1, "weights must be at least 0, got -1"),
        (-0.5, "weights must be at least 0, got -0.5"),
        (np.nan, "weights must be finite, got nan"),
        (np.inf, "weights must be finite, got inf"),
    ):
        weights = [1, 1, bad, 1, 0, 1]
        for given in (weights, np.array(weights), jnp.array(weights)):
            with pytest.raises(ValueError, match=message):
                update(given)


@pytest.mark.heavy
def test_labels_that_are_nan_are_no_negatives():
    scores, labels = np.array([0.9, 0.8, 0.1]), np.array([1, np.nan, 0])
    binary = [metrics.auc(), metrics.precision(), metrics.recall(), metrics.f1()]
    update = lambda m, *batch: m.compute(m.update(m.init(), *batch))  # noqa: E731
    functions = [functools.partial(update, metric) for metric in binary] + [metrics.roc_auc_score]
    for function in functions:
        with pytest.raises(ValueError, match="labels must be numbers, got nan"):
            function(scores, labels)
        assert np.isnan(jax.jit(function)(scores, labels))
        assert np.isnan(function(np.array([0.9, np.nan, 0.1]), np.array([1, 0, 0])))
    outputs, one_hot = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[np.nan, 1.0], [0.0, 1.0]])
    top = functools.partial(metrics.top_k_accuracy, k=1)
    for right in (metrics.accuracy, top):
        with pytest.raises(ValueError, match="labels must be numbers, got nan"):
            right(outputs, one_hot)
        assert jax.jit(right)(outputs, one_hot).tolist() == [0, 1]
    for metric in (metrics.confusion_matrix(2), metrics.recall(class_id=1)):
        with pytest.raises(ValueError, match="labels must be numbers, got nan"):
            update(metric, outputs, one_hot)
        assert np.isnan(jax.jit(functools.partial(update, metric))(outputs, one_hot)).all()
        broken = np.where(np.isnan(one_hot), np.nan, outputs)
        assert np.isnan(update(metric, broken, np.array([1, 1]))).all()
    no_class = jax.jit(functools.partial(update, metrics.precision(class_id=1)))
    for label in (-1, 2):
        assert np.isnan(no_class(outputs, np.array([label, 1])))
    of_one = functools.partial(metrics.binary_accuracy, from_logits=False)
    with pytest.raises(ValueError, match="labels must be numbers, got nan"):
        of_one(scores, labels)
    assert jax.jit(of_one)(scores, labels).tolist() == [1, 0, 1]


# --- exact counts -----------------------------------------------------------------------------------


@pytest.mark.heavy
def test_more_than_2_to_the_24_scores_in_one_bin():
    low, high, positive = 2**24 + 2**22, 2**22, 10
    scores = np.repeat(np.array([0.1, 0.9, 0.5], np.float32), [low, high, positive])
    labels = np.repeat(np.array([0, 0, 1], np.int8), [low, high, positive])
    exact = low / (low + high)
    metric = metrics.auc()
    update = jax.jit(lambda *batch: metric.compute(metric.update(metric.init(), *batch)))
    assert float(update(scores, labels)) == pytest.approx(exact, rel=1e-6)


def test_weights_are_added_beyond_2_to_the_24():
    """One huge weight before many small ones, in one batch; and whole numbers beyond 2³¹."""
    count, many = 70_000, 2.0**24
    outputs, labels = np.tile(np.float32([0.9, 0.1]), (count, 1)), np.zeros(count, int)
    metric = metrics.confusion_matrix(2)
    update = jax.jit(lambda *batch: metric.update(metric.init(), *batch))
    weights = np.ones(count, np.float32)
    weights[0] = 2.0**30
    state = update(outputs, labels, weights)  # blocks of 2¹⁶: those after the first are exact
    assert float(metric.compute(state)[0, 0]) >= 2.0**30 + count - 2**16
    blocks = np.where(np.arange(count) < 2**16, many / 2**16, 1.0).astype(np.float32)
    state = update(outputs, labels, blocks)
    assert int(metric.compute(state)[0, 0]) + int(state["lost"]["matrix"][0, 0]) == many + count - 2**16
    whole = np.full(count, 2**31 - 1, np.int32)
    state = update(outputs, labels, whole)
    exact = count * (2**31 - 1)
    assert int(metric.compute(state)[0, 0]) + int(state["lost"]["matrix"][0, 0]) == exact


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32"])
def test_sums_of_whole_numbers_do_not_wrap(dtype):
    metric = metrics.mean(lambda outputs, y: y)
    update = jax.jit(lambda y, w=None: metric.update(metric.init(), y, y, w))
    info, rng = np.iinfo(dtype), np.random.default_rng(0)
    for values in (
        np.full(3, info.max, dtype),
        np.full(3, info.min, dtype),
        rng.integers(info.min, info.max, 50_000, dtype),
    ):
        exact = int(values.sum(dtype=np.int64))
        for weights in (None, np.ones(len(values), bool)):
            state = update(values, weights)
            assert int(state["total"]) + int(state["lost"]["total"]) == exact
            assert int(state["weight"]) == len(values)
            np.testing.assert_allclose(metric.compute(state), exact / len(values), rtol=1e-6)


# --- thresholds -------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "uint32", "bfloat16", "float16"])
def test_thresholds_are_real_numbers(dtype):
    """As Python compares them, whatever the dtype of the scores."""
    scores = jnp.array([0, 1] if dtype == "bool" else [0, 1, 3, 100], dtype)
    if not jnp.issubdtype(dtype, jnp.floating) and dtype != "bool":
        info = jnp.iinfo(dtype)
        scores = jnp.concatenate([scores, jnp.array([info.min, info.max], dtype)])
    else:
        scores = jnp.concatenate([scores, jnp.array([0.3], dtype)])
    thresholds = [0.3, 1.5, -0.5, 300, -200, 2.0**31, -(2.0**31), 2.0**32, 1e30, 2**40, -1e30]
    for threshold in thresholds:
        expected = [float(np.asarray(s, np.float64)) > np.float32(threshold) for s in scores]
        for given in (threshold, jnp.float32(threshold)):
            metric = metrics.precision(given)
            if 0 < threshold < 1 and scores.max() > 1:
                continue
            state = metric.update(metric.init(), scores, jnp.ones(len(scores)))
            assert int(state["tp"]) == sum(expected), (threshold, given)
    low = jnp.array([0.3], jnp.bfloat16)  # 0.30078
    right = metrics.binary_accuracy(low, jnp.array([1]), threshold=0.3, from_logits=False)
    assert right.tolist() == [1]
    state = metrics.precision(0.3).update(metrics.precision(0.3).init(), low, jnp.array([1]))
    assert int(state["tp"]) == 1
    metric = metrics.precision
    traced = jax.jit(lambda t, s: metric(t).update(metric(t).init(), s, jnp.ones(s.shape)))
    assert int(traced(300.0, jnp.array([10, 255], jnp.uint8))["tp"]) == 0
    assert int(traced(-200.0, jnp.array([10, -100], jnp.int8))["tp"]) == 2
