"""What every loss and every metric owes: a new one is tested by being public."""

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
METRICS = sorted(set(metrics.__all__) - {"Metric", "Tally"})

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
        jd.nn.lambda_(lambda x: x), lambda o, y: jnp.zeros(len(y)), metrics={"it": metric}
    )
    found = jax.eval_shape(lambda: objective({}, {}, (outputs, y)))[1][1]
    assert set(found) == {"it"}
