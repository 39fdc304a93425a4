"""Weights of examples and of classes."""

import functools

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.properties import of_width, over
from hypothesis import given, settings
from sklearn.utils import class_weight

import jaxdeep as jd
from jaxdeep.losses import mse, softmax_cross_entropy

X = jax.random.normal(jax.random.key(0), (8, 3))
PARAMS = jd.nn.dense(3).init(jax.random.key(1), X)[0]


def value(y, weights=None, loss=softmax_cross_entropy, train=True, x=X, **options):
    objective = jd.train.supervised(jd.nn.dense(3), loss, **options)
    batch = (x, y) if weights is None else (x, y, weights)
    return lambda params: objective(params, {}, batch, train=train)[0]


@pytest.mark.heavy
def test_class_weights_of_soft_labels_are_their_mean():
    table = {0: 1.0, 1: 5.0}  # class 2 is absent: 1
    labels = np.arange(8) % 3
    hard, one_hot = (value(y, class_weight=table)(PARAMS) for y in (labels, jax.nn.one_hot(labels, 3)))
    np.testing.assert_allclose(hard, one_hot, rtol=1e-6)
    soft = jnp.tile(jnp.array([[0.25, 0.5, 0.25]]), (8, 1))
    plain = value(soft)(PARAMS)
    np.testing.assert_allclose(value(soft, class_weight=table)(PARAMS), 3.0 * plain, rtol=1e-6)


def test_class_weights_of_a_share_of_one_class_are_between_both():
    outputs, share = jnp.zeros((3, 1)), np.array([0.0, 0.25, 1.0])
    objective = jd.train.supervised(
        jd.nn.activation(jax.nn.tanh), jd.losses.sigmoid_cross_entropy, class_weight={0: 1.0, 1: 5.0}
    )
    loss = objective({}, {}, (outputs, share[:, None]), train=True)[0]
    np.testing.assert_allclose(loss, np.log(2) * np.mean([1, 2, 5]), rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([1, -1], "must be in .0, inf., got -1"), ([1.0, -1.0], "got -1"), ([0.5, 1.0], "fractions in y")],
)
def test_what_is_no_class_has_no_weight(labels, message):
    objective = jd.train.supervised(jd.nn.dense(1), jd.losses.mse, class_weight={0: 1.0, 1: 5.0})
    params, state = objective.of_model.init(jax.random.key(0), jnp.ones((1, 2)))
    with pytest.raises(ValueError, match=message):
        objective(params, state, (np.ones((2, 2)), np.array(labels)[:, None]), train=True)


@functools.cache
def weighed_by_class():
    def of(y, table):
        return value(y, class_weight=table)(PARAMS)

    return of, jax.jit(of)


@over(3, 100, y=of_width(8, 2), table=st.lists(st.floats(0.125, 8, width=32), min_size=3, max_size=3))
def test_class_weights_of_labels_of_any_width_are_the_same(y, table):
    for of in weighed_by_class():
        np.testing.assert_array_equal(of(y, np.array(table)), of(y.astype(np.int32), np.array(table)))
    by_hand = np.array(table)[y] * softmax_cross_entropy(X @ PARAMS["kernel"] + PARAMS["bias"], y)
    np.testing.assert_allclose(of(y, np.array(table)), by_hand.mean(), rtol=1e-5)


def test_class_weights_are_for_one_output():
    both = jd.losses.weighted({"a": softmax_cross_entropy, "b": softmax_cross_entropy})
    model = jd.nn.parallel(a=jd.nn.dense(2), b=jd.nn.dense(2))
    y = {"a": jnp.zeros(8, int), "b": jnp.zeros(8, int)}
    params, state = model.init(jax.random.key(0), X)
    objective = jd.train.supervised(model, both, class_weight={0: 2.0})
    with pytest.raises(
        TypeError, match="class_weight is for labels y of one output, got targets of several"
    ):
        objective(params, state, (X, y), train=True)
    several = {"a": np.zeros((600, 3)), "b": np.arange(600) % 2}
    for targets in (several, tuple(several.values())):
        with pytest.raises(TypeError, match=r"'balanced' is for .*, got targets of several") as refused:
            jd.fit(
                *(model, (np.ones((600, 3), np.float32), targets)),
                **{"loss": both, "optimizer": optax.sgd(0.1), "key": 0, "class_weight": "balanced"},
            )
        assert len(str(refused.value)) < 250


def of_bits(loss=jd.losses.sigmoid_cross_entropy, y=None, **options):
    objective = jd.train.supervised(jd.nn.dense(1), loss, **options)
    params, state = jd.nn.dense(1).init(jax.random.key(1), X)
    y = jnp.arange(8) % 2 if y is None else y
    return lambda p=params, x=X: objective(p, state, (x, y), train=True)[0]


@pytest.mark.heavy
def test_labels_with_and_without_a_last_axis_of_1_are_the_same_to_class_weights():
    bits = jnp.arange(8) % 2
    for loss in (jd.losses.sigmoid_cross_entropy, mse):
        column = of_bits(loss, bits[:, None], class_weight={0: 1.0, 1: 3.0})()
        np.testing.assert_array_equal(of_bits(loss, bits, class_weight={0: 1.0, 1: 3.0})(), column)
        each = of_bits(loss, bits, class_weight={1: 0.0})() + of_bits(loss, bits, class_weight={0: 0})()
        np.testing.assert_allclose(each, of_bits(loss, bits)(), rtol=1e-6)


@pytest.mark.heavy
def test_traced_class_weights_have_a_gradient():
    def of(w, shape):
        tables = {"list": [1.0, w], "dict": {1: w}, "array": jnp.stack([jnp.float32(1), w])}
        return of_bits(class_weight=tables[shape])()

    apart = of_bits(class_weight=[0.0, 1.0])()
    for shape in ("list", "dict", "array"):
        for run in (jax.value_and_grad(of), jax.jit(jax.value_and_grad(of), static_argnums=1)):
            found, gradient = run(3.0, shape)
            np.testing.assert_allclose(found, of_bits(class_weight=[1.0, 3.0])(), rtol=1e-6)
            np.testing.assert_allclose(gradient, apart, rtol=1e-6)
    many = jax.vmap(lambda w: of(w, "list"))(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(many[1] - many[0], 2 * apart, rtol=1e-5)
    with pytest.raises(ValueError, match="class_weight must hold weights of at least 0"):
        jax.grad(lambda w: of_bits(class_weight=[-1.0, w])())(3.0)


@pytest.mark.heavy
def test_a_class_that_there_is_not_has_no_weight():
    match = "class_weight has a weight for class 7, and there are {} classes"
    labels = np.arange(8) % 3
    for train in (True, False):
        for y in (labels, jax.nn.one_hot(labels, 3)):
            with pytest.raises(ValueError, match=match.format(3)):
                value(y, class_weight={0: 1.0, 7: 9.0}, train=train)(PARAMS)
    with pytest.raises(ValueError, match=match.format(2)):
        of_bits(class_weight={0: 1.0, 7: 9.0})()
    with pytest.raises(ValueError, match=match.format(3)):
        jd.fit(
            jd.nn.dense(3), (X, labels), loss=softmax_cross_entropy, class_weight={7: 9.0},
            optimizer=jd.optimizers.sgd(0.1), key=jax.random.key(0), progress=False, batch_size=8,
        )  # fmt: skip
    with pytest.raises(ValueError, match="class_weight holds 1e\\+300"):
        of_bits(class_weight={1: 1e300})
    assert np.isfinite(of_bits(mse, class_weight={7: 9.0})())  # of which nobody knows the classes
    several = functools.partial(value, np.eye(3)[labels], loss=jd.losses.sigmoid_cross_entropy)
    with pytest.raises(ValueError, match="2 classes, numbered from 0, the 0 and 1 of each of 3 labels"):
        several(class_weight={2: 2.0})(PARAMS)


def test_an_array_of_class_weights_has_one_for_each_class():
    labels = np.arange(8) % 3
    for table in ([1.0, 5.0], jnp.array([1.0, 5.0])):
        with pytest.raises(ValueError, match="a weight for each of 3 classes, got 2; a dict"):
            value(labels, class_weight=table)(PARAMS)
    three = value(labels, class_weight=[1.0, 5.0, 1.0])(PARAMS)
    np.testing.assert_array_equal(value(labels, class_weight={1: 5.0})(PARAMS), three)
    with pytest.raises(ValueError, match=r"class_weight\[0\] must be a number, got True"):
        value(labels, class_weight={0: True, 1: False})
    options = {"loss": softmax_cross_entropy, "optimizer": jd.optimizers.sgd(0.1), "progress": False}
    balanced = {"class_weight": "balanced", "key": jax.random.key(0), "batch_size": 8}
    result = jd.fit(jd.nn.dense(3), (X, labels % 2), **options, **balanced)  # class 2 does not occur
    assert np.isfinite(result.history["loss"]).all()


@pytest.mark.heavy
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_example_whose_class_has_weight_0_may_be_broken(bad):
    labels = jnp.arange(8) % 2
    whole = {"metrics": {"mse": mse}, "class_weight": {1: 0.0}}
    broken = X.at[1].set(bad).at[3, 0].set(bad)
    params = jd.nn.dense(1).init(jax.random.key(1), X)[0]
    expected, gradient = jax.value_and_grad(of_bits(**whole))(params, X)
    for run in (jax.value_and_grad, lambda f: jax.jit(jax.value_and_grad(f))):
        found, theirs = run(of_bits(**whole))(params, broken)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), theirs, gradient)
    assert not np.isfinite(of_bits(**whole)(params, X.at[0].set(bad)))  # of class 0
    objective = jd.train.supervised(jd.nn.dense(1), jd.losses.sigmoid_cross_entropy, **whole)
    _, (_, seen) = objective(params, {}, (broken, labels), train=True)
    assert np.isnan(seen["mse"])  # metrics know nothing of the weights of classes


NORMED = jd.nn.serial(jd.nn.dense(4), jd.nn.batch_norm(), jd.nn.activation(jax.nn.relu), jd.nn.dense(3))


@pytest.mark.heavy
@pytest.mark.parametrize("junk", [100.0, np.nan])
def test_a_batch_with_rows_of_weight_0_is_the_batch_without_them(junk):
    params, state = NORMED.init(jax.random.key(1), X)
    objective = jd.train.supervised(
        NORMED, softmax_cross_entropy, metrics={"mse": softmax_cross_entropy}
    )
    y, weights = np.arange(8) % 3, np.array([0.0, 1, 1, 0, 1, 1, 1, 0])
    counted = weights > 0
    dirty, labels = np.where(counted[:, None], X, junk), np.where(counted, y, 99)

    def run(x, y, w):
        graded = jax.value_and_grad(lambda p: objective(p, state, (x, y, w), train=True), has_aux=True)
        (loss, (after, metrics)), gradient = graded(params)
        return loss, after, gradient, jax.tree.map(lambda m: m.compute(), metrics, is_leaf=is_tally)

    is_tally = lambda leaf: isinstance(leaf, jd.metrics.Tally)  # noqa: E731
    expected = run(X[counted], y[counted], np.ones(5))
    for found in (
        run(dirty, labels, weights),
        jax.jit(run)(dirty, labels, weights),
        run(jnp.asarray(dirty), jnp.asarray(labels), jnp.asarray(weights)),
    ):
        for one, other, share in zip(found, expected, (5 / 8, 1, 5 / 8, 1), strict=True):
            jax.tree.map(
                lambda a, b, share=share: np.testing.assert_allclose(a, share * b, rtol=2e-5, atol=1e-6),
                one, other,
            )  # fmt: skip


@pytest.mark.heavy
def test_models_of_which_is_not_known_where_their_rows_are_are_not_masked():
    merged = jd.nn.serial(
        jd.nn.lambda_(lambda x: x.reshape(-1, 1)), jd.nn.batch_norm(),
        jd.nn.lambda_(lambda x: x.reshape(8, 3)),
    )  # fmt: skip
    assert [model.masks for model in (NORMED, merged, jd.nn.dense(3))] == [True, False, False]
    params, state = merged.init(jax.random.key(1), X)
    objective = jd.train.supervised(merged, mse)
    loss, _ = objective(params, state, (X.at[7].set(jnp.nan), X, jnp.arange(8.0) % 7), train=True)
    assert np.isfinite(loss)


def test_whole_numbers_of_64_bits_are_checked_with_weights_as_without():
    model = jd.nn.serial(jd.nn.embedding(5, 2), jd.nn.flatten(), jd.nn.dense(1))
    params, state = model.init(jax.random.key(0), jnp.zeros((2, 1), int))
    objective = jd.train.supervised(model, mse)
    y, ids = np.zeros((2, 1)), np.array([[2**32 + 1], [1]])
    for weights in ((), (np.ones(2),), (np.array([1.0, 0.0]),), (jnp.ones(2),)):
        with pytest.raises(ValueError, match="x holds 4294967297, which needs more than 32 bits"):
            objective(params, state, (ids, y, *weights))
    found, _ = objective(params, state, (ids[::-1], y, np.array([1.0, 0.0])))  # which does not count
    expected, _ = objective(params, state, (np.array([[1], [1]]), y, np.array([1.0, 0.0])))
    np.testing.assert_array_equal(found, expected)


def test_inputs_of_weight_0_may_be_anything():
    weights = jnp.arange(8) < 6
    broken = X.at[6].set(jnp.nan).at[7].set(jnp.inf)
    y = jnp.ones((8, 3))
    for train in (True, False):
        expected = jax.value_and_grad(value(y, weights, mse, train))(PARAMS)
        found = jax.value_and_grad(value(y, weights, mse, train, broken))(PARAMS)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_batch_of_weights_0_is_no_loss_and_no_gradient():
    y = jnp.full((8, 3), jnp.nan)
    found = jax.value_and_grad(value(y, jnp.zeros(8), mse))(PARAMS)
    jax.tree.map(lambda a: np.testing.assert_array_equal(a, jnp.zeros_like(a)), found)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_known_weights_are_finite(bad):
    with pytest.raises(ValueError, match="weights must be finite"):
        value(jnp.ones((8, 3)), np.array([bad] + 7 * [1.0]), mse)(PARAMS)


@pytest.mark.heavy
def test_weights_on_a_device_are_not_waited_for(monkeypatch):
    expected = value(jnp.ones((8, 3)), np.arange(8.0), mse)(PARAMS)
    with pytest.raises(ValueError, match="weights must be at least 0, got -1"):
        value(jnp.ones((8, 3)), np.arange(8.0) - 1, mse)(PARAMS)
    objective = value(jnp.ones((8, 3)), jnp.arange(8.0), mse)
    objective(PARAMS)  # constants have been made

    def refuse(self):
        raise AssertionError("a value was fetched from the device")

    with monkeypatch.context() as patch:
        patch.setattr(type(X), "_value", property(refuse))
        found, _ = jax.value_and_grad(objective)(PARAMS)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.heavy
def test_a_wrong_label_counts_unless_its_weight_is_0():
    weights = np.array([0.0] + 7 * [1.0])
    labels = np.array([-1] + 7 * [1])
    assert np.isfinite(value(labels, weights)(PARAMS))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\)"):
        value(labels, weights[::-1])(PARAMS)
    model, optimizer = jd.nn.dense(3), jd.optimizers.sgd(0.1)
    run = {
        "batch_size": 8,
        "loss": softmax_cross_entropy,
        "optimizer": optimizer,
        "key": jax.random.key(0),
        "progress": False,
    }
    assert np.isfinite(jd.fit(model, (X, labels, weights), **run).history["loss"]).all()
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\)"):
        jd.fit(model, (X, labels, weights[::-1]), **run)


labels = st.lists(st.integers(0, 4), min_size=1, max_size=50).map(np.array)


@given(labels, st.booleans())
@settings(max_examples=60, deadline=None)
def test_balanced_weights_are_those_of_scikit_learn(y, weighted):
    weights = 1.0 + np.arange(len(y)) % 3 if weighted else None
    table = jd.train.balanced_class_weight(y, weights=weights)
    classes = np.unique(y)
    rows = np.ones(len(y)) if weights is None else weights
    held = np.array([rows[y == k].sum() for k in classes])
    np.testing.assert_allclose(table[classes], rows.sum() / (len(classes) * held), rtol=1e-12)
    if not weighted:
        theirs = class_weight.compute_class_weight("balanced", classes=classes, y=y)
        np.testing.assert_allclose(table[classes], theirs, rtol=1e-12)
    assert (np.delete(table, classes) == 1).all()
    hot = np.eye(6)[y]
    np.testing.assert_allclose(
        jd.train.balanced_class_weight(hot, weights=weights)[:5][classes], table[classes]
    )
    for other in (y[:, None], y.tolist(), y.astype(np.uint8), y.astype(np.float32), jnp.asarray(y)):
        np.testing.assert_array_equal(jd.train.balanced_class_weight(other, weights=weights), table)


def test_rows_of_weight_0_are_not_balanced():
    table = jd.train.balanced_class_weight([0, 0, 1, -7], weights=[1, 1, 1, 0])
    np.testing.assert_allclose(table, [0.75, 1.5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": [0, -1]}, "labels that are classes, numbered from 0, got -1"),
        ({"y": [0.0, 0.5]}, "labels that are classes, numbered from 0, got 0.5"),
        ({"y": [0.0, np.nan]}, "labels that are classes, numbered from 0, got nan"),
        ({"y": [2**31, 1]}, "labels that are classes, numbered from 0, got 2147483648"),
        ({"y": np.zeros((2, 2))}, "must sum to 1"),
        ({"y": np.zeros((2, 2, 2))}, r"one class a row, got y of shape \(2, 2, 2\)"),
        ({"y": []}, "y must have rows that count"),
        ({"y": [0, 1], "weights": [0, 0]}, "y must have rows that count"),
        ({"y": [0, 1], "weights": [1]}, "weights must be one a row of y"),
        ({"y": [0, 1], "weights": [1, -1]}, "weights must be at least 0"),
        ({"y": {"a": [0, 1]}}, "class_weight='balanced' is for labels y of one"),
        ({"y": ["a", "b"]}, "y must be an array of real numbers"),
        ({"y": None}, "is for labels y of one output"),
    ],
)
def test_wrong_labels_to_balance(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jd.train.balanced_class_weight(**arguments)


def test_balanced_is_for_those_who_know_all_labels():
    with pytest.raises(TypeError, match=r"here give jaxdeep.train.balanced_class_weight\(y\)"):
        jd.train.supervised(jd.nn.dense(2), jd.losses.softmax_cross_entropy, class_weight="balanced")
    with pytest.raises(TypeError, match="balanced_class_weight counts labels on the host"):
        jax.jit(jd.train.balanced_class_weight)(jnp.zeros(3, int))


X_RARE = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
Y_RARE = np.repeat([0, 1, 2], [40, 15, 5])
RARE = {
    "loss": jd.losses.softmax_cross_entropy,
    "epochs": 2,
    "batch_size": 20,
    "progress": False,
}


@pytest.mark.heavy
def test_fit_balances_the_classes_of_its_data():
    def trained(y, class_weight, *more):
        model, optimizer = jd.nn.dense(3), jd.optimizers.sgd(0.1)
        return jd.fit(
            *(model, (X_RARE, y, *more)),
            **RARE,
            optimizer=optimizer,
            key=jax.random.key(0),
            class_weight=class_weight,
        )

    table = 60 / (3 * np.array([40, 15, 5]))
    for y in (Y_RARE, np.eye(3, dtype=np.float32)[Y_RARE]):
        ours, theirs = trained(y, "balanced"), trained(y, table)
        chex.assert_trees_all_equal(ours.params, theirs.params)
        np.testing.assert_array_equal(ours.history["loss"], theirs.history["loss"])
    weights = np.where(Y_RARE == 0, 0, 1).astype(np.float32)
    ours, theirs = trained(Y_RARE, "balanced", weights), trained(Y_RARE, [1, 20 / 30, 2], weights)
    chex.assert_trees_all_equal(ours.params, theirs.params)


def test_what_cannot_be_balanced_is_refused():
    fit = functools.partial(
        jd.fit, jd.nn.dense(3), **RARE, optimizer=optax.sgd(0.1), key=jax.random.key(0)
    )
    with pytest.raises(ValueError, match="a loader has them batch by batch; give numbers"):
        fit(lambda epoch: iter([(X_RARE, Y_RARE)]), class_weight="balanced")
    with pytest.raises(ValueError, match="labels that are classes, numbered from 0, got -1"):
        fit((X_RARE, Y_RARE - 1), class_weight="balanced")
    with pytest.raises(
        TypeError, match="class_weight must be a dict or an array of numbers, or 'balanced'"
    ):
        fit((X_RARE, Y_RARE), class_weight="balance")


@pytest.mark.heavy
@pytest.mark.parametrize("strategy", ["threads", "vmap"])
def test_searches_balance_the_classes_of_each_rows_data(strategy):
    def builder(hp):
        return {"optimizer": jd.optimizers.sgd(hp["rate"]), "class_weight": hp["weights"]}

    how = {**RARE, "model": jd.nn.dense(3), "strategy": strategy}
    points = [{"rate": rate, "weights": "balanced"} for rate in (0.05, 0.1)]
    data = X_RARE, Y_RARE
    table = jd.sweep(builder, points, data=data, **how)

    def run(rows, rate, seed=0):
        return jd.fit(
            *(jd.nn.dense(3), (X_RARE[rows], Y_RARE[rows])),
            **RARE,
            optimizer=jd.optimizers.sgd(rate),
            class_weight="balanced",
            key=jax.random.key(seed),
        )

    # under vmap the terms of a gradient, of 0.1 and less, are added in another order: 0.1 x 2^-24 each
    within = {"rtol": 0, "atol": 0} if strategy == "threads" else {"rtol": 1e-5, "atol": 1e-7}
    for i, rate in enumerate((0.05, 0.1)):
        expected = run(np.arange(60), rate)
        chex.assert_trees_all_close(table.results[i].params, expected.params, **within)
    # class 2 is rarer in some folds than in others
    pairs = jd.datasets.folds(data, 3, groups=np.arange(60) // 4)
    folded = jd.search.cross_validate(builder, points, data=data, folds=pairs, **how)
    for i, result in enumerate(folded.results):
        expected = run(pairs[i % 3][0], (0.05, 0.1)[i // 3])
        chex.assert_trees_all_close(result.params, expected.params, rtol=1e-4, atol=1e-6)


def test_weights_of_a_column_are_those_of_rows():
    x = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    y, weights = (x[:, 0] > 0).astype(int), np.arange(12) % 3 / 2
    x = np.where(weights[:, None] > 0, x, np.nan)  # which are not looked at
    model = jd.nn.dense(2)
    params, state = model.init(jax.random.key(0), x)
    metrics = {"a": jd.metrics.accuracy, "mean": jd.metrics.mean(jd.metrics.accuracy)}
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy, metrics=metrics)
    flat, column = (objective(params, state, (x, y, w)) for w in (weights, weights[:, None]))
    assert np.isfinite(flat[0])
    assert flat[0] == column[0]
    for name in metrics:
        assert float(flat[1][1][name]) == float(column[1][1][name])
    np.testing.assert_array_equal(
        jd.train.balanced_class_weight(y, weights=weights),
        jd.train.balanced_class_weight(y, weights=weights[:, None]),
    )
    scaler, known = jd.preprocessing.standard_scaler(), np.nan_to_num(x)
    states = (scaler.fit(known, w) for w in (weights, weights[:, None]))
    jax.tree.map(np.testing.assert_array_equal, *states)
    with pytest.raises(ValueError, match=r"weights must be one a row, .* \(12,\), got \(12, 3\)"):
        objective(params, state, (x, y, np.ones((12, 3))))
