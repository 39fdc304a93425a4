"""What every loss and every metric owes: a new one is tested by being public."""

import functools
import inspect

import chex
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import guessed
from helpers.properties import of_width, over

import jaxdeep as jd
from jaxdeep import losses, metrics, uncertainty
from jaxdeep.metrics.streaming import tally

ROWS, CLASSES = 6, 3
VALUES = jax.random.normal(jax.random.key(0), (ROWS, 2))
TARGETS = jax.random.normal(jax.random.key(1), (ROWS, 2))
LOGITS = jax.random.normal(jax.random.key(2), (ROWS, CLASSES))
SCORES = jax.random.uniform(jax.random.key(3), (ROWS,))
LABELS = jnp.array([0, 2, 1, 1, 0, 2])
BITS = jnp.array([0, 1, 1, 0, 1, 0])

LOSSES = sorted(losses.__all__)
SCORED = ("average_precision_score", "roc_auc_score")  # which see all at once
METRICS = sorted(set(metrics.__all__) - {"Metric", "Tally", "exact_sums", *SCORED})
SOFT_LABELS = jax.nn.softmax(jax.random.normal(jax.random.key(4), (ROWS, CLASSES)))
SIZES = jnp.exp(VALUES), jnp.exp(TARGETS)

# What losses and metrics without an entry below are tried on, as `guessed.with_batch` says.
BATCHES = {
    "bits": (SCORES, BITS),
    "classes": (jax.nn.softmax(LOGITS), LABELS),
    "values": (VALUES, TARGETS),
}
# Those that deserve another call or another batch than the guess.
LOSS = {
    "softmax_cross_entropy": (losses.softmax_cross_entropy, LOGITS, LABELS),
    "sigmoid_cross_entropy": (losses.sigmoid_cross_entropy, VALUES, (TARGETS > 0).astype(int)),
    "softmax_focal": (losses.softmax_focal, LOGITS, LABELS),
    "sigmoid_focal": (losses.sigmoid_focal, VALUES, (TARGETS > 0).astype(int)),
    "hinge": (losses.hinge, VALUES, (TARGETS > 0).astype(int)),
    "categorical_hinge": (losses.categorical_hinge, LOGITS, LABELS),
    "multiclass_hinge": (losses.multiclass_hinge, LOGITS, LABELS),
    "kl_divergence": (losses.kl_divergence, LOGITS, SOFT_LABELS),
    "mape": (losses.mape, *SIZES),
    "msle": (losses.msle, *SIZES),
    "poisson": (losses.poisson, *SIZES),
    "weighted": (
        losses.weighted({"a": losses.mse, "b": losses.mae}, {"a": 1.0, "b": 0.5}),
        {"a": VALUES, "b": VALUES},
        {"a": TARGETS, "b": TARGETS},
    ),
}
METRIC = {
    "accuracy": (metrics.accuracy, LOGITS, LABELS),
    "binary_accuracy": (functools.partial(metrics.binary_accuracy, from_logits=False), SCORES, BITS),
    "balanced_accuracy": (metrics.balanced_accuracy(CLASSES), LOGITS, LABELS),
    "cohen_kappa": (metrics.cohen_kappa(CLASSES, weights="linear"), LOGITS, LABELS),
    "confusion_matrix": (metrics.confusion_matrix(CLASSES), LOGITS, LABELS),
    "f1": (metrics.f1(classes=CLASSES, average="macro"), LOGITS, LABELS),
    "matthews_corrcoef": (metrics.matthews_corrcoef(from_logits=False), SCORES, BITS),
    "mean": (metrics.mean(losses.mse), VALUES, TARGETS),
    "r2": (metrics.r2(2), VALUES, TARGETS),
    "recall": (metrics.recall(labels=1), SCORES[:, None], BITS),
    "rmse": (metrics.rmse(2, multioutput="raw_values"), VALUES, TARGETS),
    "subset_accuracy": (
        functools.partial(metrics.subset_accuracy, from_logits=False),
        jax.nn.sigmoid(VALUES),
        (TARGETS > 0).astype(int),
    ),
    "top_k_accuracy": (lambda outputs, y: metrics.top_k_accuracy(outputs, y, k=2), LOGITS, LABELS),
}


def loss_of(name):
    return LOSS.get(name) or guessed.with_batch(getattr(losses, name), BATCHES)


def metric_of(name):
    metric, outputs, y = METRIC.get(name) or guessed.with_batch(getattr(metrics, name), BATCHES)
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

    # a correlation of 0 is a difference of numbers of about 1
    close = functools.partial(chex.assert_trees_all_close, rtol=1e-6, atol=1e-7)
    close(batched(outputs, y), whole)
    halves = [
        metric.update(metric.init(), rows(outputs, part), rows(y, part))
        for part in (slice(0, 2), slice(2, ROWS))
    ]
    chex.assert_trees_all_close(metric.compute(metric.merge(*halves)), whole, rtol=1e-6)
    chex.assert_trees_all_close(metric.compute(metric.merge(*halves[::-1])), whole, rtol=1e-6)
    counted = jnp.arange(ROWS) < 4
    weighted = metric.compute(metric.update(metric.init(), outputs, y, counted.astype(float)))
    first = metric.update(metric.init(), rows(outputs, slice(4)), rows(y, slice(4)))
    close(weighted, metric.compute(first))


@pytest.mark.few(1)
@pytest.mark.parametrize("name", METRICS)
def test_a_tally_is_the_state_of_a_batch(name):
    """Which is the sum with no examples, in kind and to the bit."""
    metric, outputs, y = metric_of(name)
    for weights in (None, jnp.arange(ROWS) % 3 / 2):
        of_batch = tally(metric, outputs, y, weights).state
        chex.assert_trees_all_equal_shapes_and_dtypes(of_batch, metric.init())
        updated = metric.update(metric.init(), outputs, y, weights)
        chex.assert_trees_all_equal(metric.merge(metric.init(), of_batch), updated)
        chex.assert_trees_all_equal(metric.compute(of_batch), metric.compute(updated))


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
    metric, outputs, y = METRIC.get(name) or guessed.with_batch(getattr(metrics, name), BATCHES)
    objective = jd.train.supervised(
        jd.nn.activation(jax.nn.sigmoid), lambda o, y: jnp.zeros(len(y)), metrics={"it": metric}
    )
    found = jax.eval_shape(lambda: objective({}, {}, (outputs, y)))[1][1]
    assert set(found) == {"it"}


BROKEN = st.sampled_from([np.nan, np.inf, -np.inf, -7, 99, 1e30])
# The seed of a batch's numbers, which rows of it count, with what weights, and what the others hold.
WEIGHED = {
    "seed": st.integers(0, 2**32 - 1),
    "order": st.permutations(range(ROWS)),
    "factors": st.lists(st.floats(0.125, 8, width=32), min_size=4, max_size=4),
    "of_outputs": st.lists(BROKEN, min_size=2, max_size=2),
    "of_targets": st.lists(BROKEN, min_size=2, max_size=2),
}


def redrawn(tree, rng):
    """Other numbers of the same kind: labels and bits in another order."""
    order = rng.permutation(ROWS)

    def leaf(a):
        whole = not jnp.issubdtype(a.dtype, jnp.floating)
        a = np.asarray(a)
        fixed = whole or a.ndim == 1 or (a >= 0).all()  # probabilities, and sizes
        return a[order] if fixed else rng.normal(size=a.shape).astype(a.dtype)

    return jax.tree.map(leaf, tree)


def broken_rows(tree, others, values):
    """The rows hold these values, as far as their dtype can."""

    def leaf(a):
        a = np.array(a)
        for row, value in zip(others, values):
            fits = np.issubdtype(a.dtype, np.floating) or (np.isfinite(value) and abs(value) < 1e9)
            a[row] = value if fits else -1
        return a

    return jax.tree.map(leaf, tree)


@functools.cache
def weighed(name):
    """A loss in an objective: sum, mean and gradient by the outputs of a batch with weights."""
    loss = loss_of(name)[0]
    of_x = lambda outputs, y: loss(outputs["x"], y)  # noqa: E731  # in a dict, whatever the shapes
    objective = jd.train.supervised(jd.nn.lambda_(lambda x: x), of_x, metrics={"metric": of_x})

    def run(outputs, y, weights):
        def total(outputs):
            value, (_, found) = objective({}, {}, ({"x": outputs}, y, weights), train=True)
            return value * len(weights), found["metric"].compute()

        return jax.value_and_grad(total, has_aux=True)(outputs)

    return run, jax.jit(run)


@pytest.mark.few("mse")
@pytest.mark.parametrize("name", LOSSES)
@over(2, 30, **WEIGHED)
def test_rows_of_weight_0_are_as_if_they_were_not_there(
    name, seed, order, factors, of_outputs, of_targets
):
    """Whatever they hold, in loss, gradient and metrics, known or traced."""
    rng = np.random.default_rng(seed)
    _, outputs, y = loss_of(name)
    outputs, y = redrawn(outputs, rng), redrawn(y, rng)
    counted, others = np.array(order[:4]), np.array(order[4:])
    weights = np.zeros(ROWS, np.float32)
    weights[counted] = factors
    run, compiled = weighed(name)
    (expected, mean), gradient = compiled(rows(outputs, counted), rows(y, counted), weights[counted])
    dirty, labels = broken_rows(outputs, others, of_outputs), broken_rows(y, others, of_targets)
    for function in (run, compiled):
        (value, metric), found = function(dirty, labels, weights)
        np.testing.assert_allclose(value, expected, rtol=2e-6)
        np.testing.assert_allclose(metric, mean, rtol=2e-6)
        chex.assert_trees_all_close(rows(found, counted), gradient, rtol=1e-5, atol=1e-6)
        for leaf in jax.tree.leaves(rows(found, others)):
            np.testing.assert_array_equal(leaf, 0)


def classified(name):
    if name == "confusion_matrix":
        metric = metrics.confusion_matrix(256)
        return lambda outputs, y: metric.compute(metric.update(metric.init(), outputs, y))
    if name == "recall":
        metric = metrics.recall(class_id=200)
        return lambda outputs, y: metric.compute(metric.update(metric.init(), outputs, y))
    return getattr(losses, name, None) or getattr(metrics, name)


OF_CLASSES = ["softmax_cross_entropy", "accuracy", "top_k_accuracy", "confusion_matrix", "recall"]


@functools.cache
def compiled_of_classes(name):
    return jax.jit(classified(name))


@pytest.mark.few("softmax_cross_entropy")
@pytest.mark.parametrize("name", OF_CLASSES)
@over(3, 60, labels=of_width(5, 255), scale=st.floats(0.1, 10))
def test_labels_of_any_width_are_the_same(name, labels, scale):
    """256 classes do not fit into int8."""
    function, compiled = classified(name), compiled_of_classes(name)
    outputs = np.random.default_rng(len(set(labels))).normal(size=(5, 256)).astype(np.float32) * scale
    outputs = outputs.astype(np.float32)
    wide = labels.astype(np.int32)
    for known in (function, compiled):
        np.testing.assert_array_equal(known(outputs, labels), known(outputs, wide))


@pytest.mark.parametrize("name", OF_CLASSES[:4])
@over(10, 60, codes=st.lists(st.integers(-128, 127), min_size=5, max_size=5))
def test_a_traced_label_below_0_stays_one_in_any_width(name, codes):
    compiled = compiled_of_classes(name)
    outputs = np.random.default_rng(0).normal(size=(5, 256)).astype(np.float32)
    expected = compiled(outputs, np.array(codes, np.int32))
    for narrow in ("int8", "int16", "int64"):
        np.testing.assert_array_equal(compiled(outputs, np.array(codes, narrow)), expected)


@functools.cache
def of_ordinals(name):
    """A loss or a metric of whole numbers, eager and compiled."""
    found = {**LOSS, **METRIC}.get(name, (None,))[0] or getattr(losses, name, None)
    metric = found or getattr(metrics, name)()
    if isinstance(metric, metrics.Metric):
        return (each := lambda o, y: metric.compute(metric.update(metric.init(), o, y))), jax.jit(each)
    return metric, jax.jit(metric)


@pytest.mark.few("mse")
@pytest.mark.parametrize("name", ["mse", "mae", "huber", "log_cosh", "mean"])
@over(3, 60, targets=of_width(6, 255), outputs=of_width(6, 255))
def test_targets_and_outputs_of_any_width_are_the_same(name, targets, outputs):
    for function in of_ordinals(name):
        expected = function(outputs.astype(np.float32), targets.astype(np.float32))
        np.testing.assert_array_equal(function(outputs, targets), expected)


@pytest.mark.few("auc")
@pytest.mark.parametrize(
    "name",
    [
        *("auc", "average_precision", "average_precision_score", "binary_accuracy", "brier", "log_loss"),
        *("matthews_corrcoef", "precision", "roc_auc_score", "sigmoid_cross_entropy"),
    ],
)
@over(3, 60, labels=of_width(6, 1), seed=st.integers(0, 99))
def test_bits_of_any_width_are_the_same(name, labels, seed):
    if name in SCORED:
        functions = getattr(metrics, name), jax.jit(getattr(metrics, name))
    else:
        functions = of_ordinals(name)
    scores = np.random.default_rng(seed).uniform(size=6).astype(np.float32)
    for function in functions:
        np.testing.assert_array_equal(
            function(scores, labels), function(scores, labels.astype(np.int32))
        )


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


COUNTING = {
    "precision": (metrics.precision(), SCORES, BITS),
    "f1": (metrics.f1(), SCORES, BITS),
    "confusion_matrix": (metrics.confusion_matrix(CLASSES), LOGITS, LABELS),
    "mean": (metrics.mean(lambda outputs, y: y), SCORES, LABELS),
}


@functools.cache
def counting(name):
    metric = COUNTING[name][0]
    return jax.jit(metric.update), jax.jit(metric.merge)


def exactly(state):
    """The sums of a state as whole numbers of Python."""
    lost = state["lost"]
    return {
        n: (np.asarray(a, float) + np.asarray(lost[n], float)) for n, a in state.items() if n != "lost"
    }


@pytest.mark.few("confusion_matrix")
@pytest.mark.parametrize("name", COUNTING)
@over(
    3,
    60,
    start=st.integers(2**24 - 1000, 2**24 + 1000),
    parts=st.lists(st.lists(st.integers(0, 1001), min_size=ROWS, max_size=ROWS), min_size=2, max_size=5),
    merges=st.randoms(use_true_random=False),
)
def test_counts_are_exact_through_2_to_the_24_in_any_batches_and_merges(name, start, parts, merges):
    """Whole weights, of which a float32 would lose every odd one."""
    metric, outputs, y = COUNTING[name]
    update, merge = counting(name)
    alone = [exactly(update(metric.init(), outputs, y, np.array(part, np.int32))) for part in parts]
    zero = {key: value + start for key, value in exactly(metric.init()).items()}
    expected = jax.tree.map(lambda *sums: sum(sums), zero, *alone)
    begun = metric.init() | {key: jnp.asarray(value, jnp.float32) for key, value in zero.items()}
    begun["lost"] = {
        key: jnp.asarray(value - np.float32(value), jnp.float32) for key, value in zero.items()
    }
    states = [begun]
    for part in parts:
        if merges.random() < 0.5:
            states[0] = update(states[0], outputs, y, np.array(part, np.int32))
        else:
            states.append(update(metric.init(), outputs, y, np.array(part, np.int32)))
    while len(states) > 1:
        merges.shuffle(states)
        states.append(merge(states.pop(), states.pop()))
    for key, value in exactly(states[0]).items():
        np.testing.assert_array_equal(value, expected[key])
    # and by hand: what a batch adds is the sum of its weights
    if name == "confusion_matrix":
        total = sum(map(sum, parts)) + start * CLASSES**2
        assert exactly(states[0])["matrix"].sum() == total


@pytest.mark.heavy
def test_a_batch_of_more_than_2_to_the_24_is_counted():
    rows = 2**24 + 1000
    state = metrics.precision().update(metrics.precision().init(), jnp.ones(rows), jnp.ones(rows))
    assert int(state["tp"]) == rows


# --- rows of weight 0, NaN, weights ----------------------------------------------------------------


@functools.cache
def valued(name):
    """A metric's value of a batch, eager and compiled."""
    if name in SCORED:
        return getattr(metrics, name), jax.jit(getattr(metrics, name))
    metric = metrics.recall(class_id=1) if name == "recall(class_id=1)" else metric_of(name)[0]

    def value(outputs, y, weights=None):
        return metric.compute(metric.update(metric.init(), outputs, y, weights))

    return value, jax.jit(value)


@pytest.mark.few("confusion_matrix")
@pytest.mark.parametrize("name", [*METRICS, *SCORED, "recall(class_id=1)"])
@over(2, 30, **WEIGHED, kind=st.sampled_from(["float32", "float16", "int8", "bool", "list", "jax"]))
def test_a_metric_itself_does_not_look_at_rows_of_weight_0(
    name, seed, order, factors, of_outputs, of_targets, kind
):
    """Sentinel labels and NaN, known or traced, weights of any kind, and lists."""
    value, compiled = valued(name)
    rng = np.random.default_rng(seed)
    if name in SCORED or name == "recall(class_id=1)":
        outputs, y = (SCORES, BITS) if name in SCORED else (LOGITS, LABELS)
    else:
        _, outputs, y = metric_of(name)
    outputs, y = redrawn(outputs, rng), redrawn(y, rng)
    counted, others = np.array(order[:4]), np.array(order[4:])
    weights = np.zeros(ROWS, np.float32)
    weights[counted] = np.ceil(factors) if kind == "int8" else factors
    weights = np.asarray(weights, kind if kind in ("float16", "int8", "bool") else np.float32)
    expected = compiled(
        rows(outputs, counted), rows(y, counted), np.asarray(weights[counted], np.float32)
    )
    # kappa and Matthews' coefficient are differences: near 0 their rounding is that of 1
    dirty, labels = broken_rows(outputs, others, of_outputs), broken_rows(y, others, of_targets)
    np.testing.assert_allclose(compiled(dirty, labels, weights), expected, rtol=2e-6, atol=2e-7)
    given = jnp.asarray(weights) if kind == "jax" else weights
    if kind == "list":
        dirty, labels, given = (
            jax.tree.map(lambda a: a.tolist(), tree) for tree in (dirty, labels, weights)
        )
    np.testing.assert_allclose(value(dirty, labels, given), expected, rtol=2e-6, atol=2e-7)
    if kind == "jax":  # known in a trace
        inside = jax.jit(lambda o: value(o, jax.tree.map(jnp.asarray, labels), weights))
        np.testing.assert_allclose(inside(dirty), expected, rtol=2e-6, atol=2e-7)


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*METRICS, *SCORED])
def test_a_batch_of_weights_0_is_no_rows(name):
    _, outputs, y = (None, SCORES, BITS) if name in SCORED else metric_of(name)
    value, _ = valued(name)
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


@pytest.mark.parametrize("name", ["even_positive", "negative"])
@over(
    3,
    60,
    heavy=True,
    start=st.integers(2**24 - 1000, 2**24 + 1000),
    parts=st.lists(st.lists(st.integers(0, 1001), min_size=ROWS, max_size=ROWS), min_size=2, max_size=5),
    merges=st.randoms(use_true_random=False),
)
def test_the_bins_of_an_area_count_exactly_in_any_batches_and_merges(name, start, parts, merges):
    """They become wider as scores come: in any order the sums are those of all rows at once."""
    metric = metrics.auc(from_logits=True)
    update, merge = AREA
    parts = [[start] * ROWS, *parts]
    scores = [np.asarray(SCORES) * 4.0**i for i, _ in enumerate(parts)]
    batches = [
        (s.astype(np.float32), np.asarray(BITS), np.array(w, np.int32)) for s, w in zip(scores, parts)
    ]
    whole = [jnp.concatenate(columns) for columns in zip(*batches)]
    once = exactly_of(update(metric.init(), *whole), name)
    states = [metric.init()]
    for batch in batches:
        if merges.random() < 0.5:
            states[0] = update(states[0], *batch)
        else:
            states.append(update(metric.init(), *batch))
    while len(states) > 1:
        merges.shuffle(states)
        states.append(merge(states.pop(), states.pop()))
    assert exactly_of(states[0], name).tolist() == once.tolist()
    wanted = np.asarray(whole[1]) == name.endswith("positive")
    assert once.sum() == np.asarray(whole[2], float)[wanted].sum()


AREA = (
    jax.jit(metrics.auc(from_logits=True).update),
    jax.jit(metrics.auc(from_logits=True).merge),
)


def exactly_of(state, name):
    return np.asarray(state[name], float) + np.asarray(state["lost"][name], float)


AREA_OF = jax.jit(lambda *batch: AREA_METRIC.compute(AREA_METRIC.update(AREA_METRIC.init(), *batch)))
AREA_METRIC = metrics.auc(from_logits=True)
POWERS = st.floats(-6, 6).map(lambda power: 10**power)


@over(
    10,
    200,
    location=st.just(0.0) | st.tuples(st.sampled_from([-1, 1]), POWERS).map(np.prod),
    scale=POWERS,
    apart=st.floats(0, 3),
    share=st.sampled_from([0.01, 0.1, 0.5]),
    seed=st.integers(0, 9),
)
def test_the_area_is_near_the_exact_one_at_any_location_and_scale(location, scale, apart, share, seed):
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    y = (np.arange(2000) < 2000 * share).astype(int)
    logits = (location + scale * (rng.normal(size=2000) + apart * y)).astype(np.float32)
    assert float(AREA_OF(logits, y)) == pytest.approx(sk.roc_auc_score(y, logits), abs=3e-3)


@pytest.mark.heavy
def test_the_area_of_far_and_of_small_scores():
    """All of them were in one bin: 0.51 for 0.91."""
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=2000)
    spread = rng.normal(size=2000) + 1.9 * y
    for logits in (60 * spread - 12, spread + 1e3, 1e-4 * spread, np.where(y, np.inf, spread + 1e3)):
        scores = logits.astype(np.float32)
        exact = sk.roc_auc_score(y, np.minimum(scores, 1e30))
        assert float(AREA_OF(scores, y)) == pytest.approx(exact, abs=3e-3)
    metric = metrics.auc(from_logits=True)
    with pytest.raises(ValueError, match=r"outputs holds numbers from .* whose differences float32"):
        metric.update(metric.init(), 1e6 + 1e-3 * spread, y)
    assert metric.update(metric.init(), np.full(3, 1e6), np.array([0, 1, 1]))["positive"].sum() == 2


@pytest.mark.heavy
def test_states_of_areas_that_are_added_up_have_the_fixed_bins():
    metric = metrics.auc(from_logits=True)
    states = [AREA[0](metric.init(), VALUES[:, i] - i, BITS) for i in range(2)]
    both = jnp.concatenate([VALUES[:, i] - i for i in range(2)])
    whole = metric.compute(AREA[0](metric.init(), both, jnp.tile(BITS, 2)))
    added = jax.tree.map(jnp.add, *states)
    assert float(metric.compute(added)) == pytest.approx(float(whole), abs=1e-6)


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


# --- logits and probabilities -----------------------------------------------------------------------

HALVES = st.integers(-12, 12).map(lambda half: half / 2)  # further apart than the bins of auc
OF_LOGITS = {
    **{
        f"softmax {name}": (getattr(module, name), jax.nn.softmax)
        for module, name in (
            (losses, "softmax_cross_entropy"),
            (losses, "softmax_focal"),
            (uncertainty, "brier_score"),
            (uncertainty, "negative_log_likelihood"),
            (uncertainty, "expected_calibration_error"),
            (uncertainty, "maximum_calibration_error"),
            (uncertainty, "reliability"),
            (uncertainty, "rejection_curve"),
        )
    },
    **{
        f"sigmoid {name}": (function, jax.nn.sigmoid)
        for name, function in (
            ("sigmoid_cross_entropy", losses.sigmoid_cross_entropy),
            ("sigmoid_focal", losses.sigmoid_focal),
            (
                "kl_divergence",
                lambda o, y, from_logits: losses.kl_divergence(
                    jnp.stack([jnp.zeros_like(o) if from_logits else 1 - o, o], axis=-1),
                    jax.nn.one_hot(y, 2),
                    from_logits=from_logits,
                ),
            ),
            ("binary_accuracy", metrics.binary_accuracy),
            (
                "accuracy",
                lambda o, y, from_logits: metrics.accuracy(o[:, None], y, from_logits=from_logits),
            ),
            (
                "subset_accuracy",
                lambda o, y, from_logits: metrics.subset_accuracy(
                    o[:, None], y[:, None], from_logits=from_logits
                ),
            ),
            *(
                (name, lambda o, y, from_logits, name=name: streamed(name, o, y, from_logits))
                for name in (
                    *("auc", "average_precision", "brier", "f1", "log_loss", "precision", "recall"),
                    *("balanced_accuracy", "cohen_kappa", "confusion_matrix", "matthews_corrcoef"),
                )
            ),
        )
    },
}


def streamed(name, outputs, y, from_logits):
    classes = {"classes": 2} if name == "confusion_matrix" else {}
    metric = getattr(metrics, name)(**classes, from_logits=from_logits)
    return metric.compute(metric.update(metric.init(), outputs, y))


def test_every_function_with_from_logits_is_among_them():
    for module in (losses, metrics, uncertainty):
        for name in {*module.__all__} - {"mc_dropout", "ensemble"}:  # of a model: tests/uncertainty
            if "from_logits" in inspect.signature(getattr(module, name)).parameters:
                assert f"softmax {name}" in OF_LOGITS or f"sigmoid {name}" in OF_LOGITS, name


@pytest.mark.few("softmax softmax_cross_entropy", "sigmoid auc", "softmax brier_score")
@pytest.mark.parametrize("name", OF_LOGITS)
@over(
    3,
    60,
    logits=hnp.arrays(np.float32, (ROWS, CLASSES), elements=HALVES),
    labels=hnp.arrays(np.int32, ROWS, elements=st.integers(0, CLASSES - 1)),
)
def test_logits_are_the_probabilities_behind_them(name, logits, labels):
    function, squash = OF_LOGITS[name]
    if squash is jax.nn.sigmoid:
        logits, labels = logits[:, 0], labels % 2
    found = function(logits, labels, from_logits=True)
    expected = function(squash(logits), labels, from_logits=False)
    chex.assert_trees_all_close(found, expected, rtol=2e-5, atol=2e-6)


SOFT = ["softmax_cross_entropy", "brier_score", "negative_log_likelihood"]


@pytest.mark.few("softmax_cross_entropy")
@pytest.mark.parametrize("name", SOFT)
@over(
    5,
    60,
    soft=hnp.arrays(np.float32, (ROWS, CLASSES), elements=st.floats(0, 1, width=32)),
    row=st.integers(0, ROWS - 1),
    off=st.floats(0.01, 2) | st.floats(-2, -0.01),
)
def test_soft_labels_that_do_not_sum_to_one_are_refused(name, soft, row, off):
    function, _ = OF_LOGITS[f"softmax {name}"]
    soft = (soft + 0.1) / (soft + 0.1).sum(-1, keepdims=True)
    assert np.isfinite(function(LOGITS, soft, from_logits=True)).all()
    wrong = soft.copy()
    wrong[row, 0] += off
    with pytest.raises(ValueError, match=r"(labels|probabilities).* must (sum to 1|be in )"):
        function(LOGITS, wrong, from_logits=True)
