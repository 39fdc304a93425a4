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


@pytest.mark.few(2)
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


@pytest.mark.few("mse", "softmax_cross_entropy")
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


def test_a_batch_of_more_than_2_to_the_24_is_counted():
    rows = 2**24 + 1000
    state = metrics.precision().update(metrics.precision().init(), jnp.ones(rows), jnp.ones(rows))
    assert int(state["tp"]) == rows
