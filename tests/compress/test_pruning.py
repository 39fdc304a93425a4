"""The smallest weights go, and stay away."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.compressed import dense, draw, network, nn, trained

import jaxdeep as jd


@pytest.mark.heavy
@pytest.mark.parametrize("scope", ["global", "leaf"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9, 1.0])
def test_exactly_the_smallest_weights_go(scope, share):
    params, _ = trained(network(), draw(1, 6))
    pruned = jd.compress.prune(params, share, scope=scope)
    kept = jd.compress.pruning_mask(params, share, scope=scope)
    weights = {name: np.abs(own["kernel"]) for name, own in params.items()}
    everything = np.concatenate([w.ravel() for w in weights.values()])
    for name, w in weights.items():
        sizes = np.sort(everything if scope == "global" else w.ravel())
        count = round(share * sizes.size)
        expected = w >= (sizes[count] if count < sizes.size else np.inf)
        np.testing.assert_array_equal(kept[name]["kernel"], expected)
        np.testing.assert_array_equal(pruned[name]["kernel"], params[name]["kernel"] * expected)
        np.testing.assert_array_equal(pruned[name]["bias"], params[name]["bias"])
        assert kept[name]["bias"].all()


def test_ties_are_cut_in_order():
    params = {"a": {"kernel": jnp.ones((2, 2))}, "b": {"kernel": -jnp.ones(3)}}
    kept = jd.compress.pruning_mask(params, 5 / 7)
    assert kept["a"]["kernel"].tolist() == [[False, False], [False, False]]
    assert kept["b"]["kernel"].tolist() == [False, True, True]


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_pruning_keeps_dtypes(x64, dtype):
    params = {"a": {"kernel": jnp.arange(1, 9, dtype=dtype)}, "b": {"kernel": jnp.ones(2, jnp.float32)}}
    pruned = jd.compress.prune(params, 0.3)
    assert pruned["a"]["kernel"].dtype == jnp.dtype(dtype)
    assert pruned["a"]["kernel"].tolist() == [0, *range(2, 9)]
    assert pruned["b"]["kernel"].tolist() == [0, 0]


@pytest.mark.heavy
def test_pruning_under_jit_and_vmap():
    params, _ = trained(network(), draw(1, 6))
    many = jax.jit(jax.vmap(lambda s: jd.compress.prune(params, s)))(jnp.array([0.25, 0.5]))
    for i, share in enumerate((0.25, 0.5)):
        expected = jd.compress.prune(params, share)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), many, expected)


def test_arguments_of_pruning():
    params = {"a": {"kernel": np.ones(3), "steps": np.ones(3, np.int32)}}
    with pytest.raises(ValueError, match="sparsity"):
        jd.compress.prune(params, 1.5)
    with pytest.raises(ValueError, match="scope"):
        jd.compress.prune(params, 0.5, scope="layer")
    with pytest.raises(ValueError, match="no leaf"):
        jd.compress.prune(params, 0.5, where="*/kernal")
    with pytest.raises(ValueError, match="a/steps is int32"):
        jd.compress.prune(params, 0.5, where="a/*")


def test_sparsity_counts_zeros():
    a, b = {"kernel": jnp.array([0.0, -0.0, 3.0]), "bias": jnp.zeros(1)}, {"kernel": jnp.ones(1)}
    report = jax.jit(jd.compress.sparsity)({"a": a, "b": b})
    assert float(report.share) == 0.5
    shares = {path: round(float(share), 3) for path, share in report.leaves.items()}
    assert shares == {"a/kernel": 0.667, "b/kernel": 0}
    assert float(jd.compress.sparsity({"a": a, "b": b}, where="*").share) == pytest.approx(0.6)


@pytest.mark.heavy
def test_zeros_stay_zero_in_training():
    x, y = draw(64, 6), np.arange(64) % 3
    model = network()
    params, state = trained(model, x)
    pruned = jd.compress.prune(params, 0.8)
    optimizer = optax.chain(jd.optimizers.adamw(0.01), jd.compress.keep_zeros())
    loss = jd.losses.softmax_cross_entropy
    how = {"params": pruned, "state": state, "epochs": 3, "key": jax.random.key(0), "progress": False}
    after = jd.fit(model, (x, y), optimizer=optimizer, loss=loss, **how).params
    for name, own in pruned.items():
        np.testing.assert_array_equal(own["kernel"] == 0, after[name]["kernel"] == 0)
        assert (own["bias"] != after[name]["bias"]).any()
    assert (after["logits"]["kernel"] != pruned["logits"]["kernel"]).any()


@pytest.mark.heavy
def test_keep_zeros_is_a_transformation():
    jd.optimizers.check_transform(jd.compress.keep_zeros("kernel"))
    tx = jd.compress.keep_zeros(["*/kernel"])
    params = {"a": {"kernel": jnp.array([0.0, 1.0], jnp.bfloat16), "bias": jnp.zeros(1)}}
    bad = {"a": {"kernel": jnp.array([jnp.nan, 1.0], jnp.bfloat16), "bias": jnp.ones(1)}}
    updates, _ = jax.jit(tx.update)(bad, tx.init(params), params)
    assert updates["a"]["kernel"].tolist() == [0, 1]
    assert updates["a"]["kernel"].dtype == jnp.bfloat16
    assert updates["a"]["bias"].tolist() == [1]
    many = jax.vmap(tx.init)(jax.tree.map(lambda a: jnp.stack([a, a + 1]), params))
    assert many.moving["a/kernel"].tolist() == [[False, True], [True, True]]
    with pytest.raises(ValueError, match="no leaf"):
        jd.compress.keep_zeros("nothing").init(params)
    with pytest.raises(TypeError, match="where"):
        jd.compress.keep_zeros(3)


@pytest.mark.heavy
@pytest.mark.parametrize("scope", ["global", "leaf"])
def test_the_curve_is_pruning_level_by_level(scope):
    model, x = network(), draw(70, 6)
    params, state = trained(model, x)
    apply = jax.jit(lambda params: model.apply(params, state, x)[0])
    y = jnp.argmax(apply(params), axis=-1)
    levels = [0.0, 0.3, 0.77, 1.0]
    curve = jd.compress.sparsity_curve(model, params, state, (x, y), levels, scope=scope, batch_size=32)
    expected = [
        np.mean(jd.metrics.accuracy(apply(jd.compress.prune(params, level, scope=scope)), y))
        for level in levels
    ]
    assert curve.sparsity.tolist() == levels
    np.testing.assert_allclose(curve.value, expected, rtol=1e-6)
    assert curve.value[0] == 1 > curve.value[1]


@pytest.mark.heavy
def test_the_curve_of_a_streaming_metric():
    model, x = nn.serial(dense(1), nn.lambda_(lambda y: jax.nn.sigmoid(y[:, 0]))), draw(70, 6)
    params, state = trained(model, x)
    y = (model.apply(params, state, x)[0] > 0.6).astype(int)
    metric = jd.metrics.precision()
    curve = jd.compress.sparsity_curve(model, params, state, (x, y), [0.0, 0.5], metric, batch_size=32)
    for level, value in zip(*curve):
        outputs, _ = model.apply(jd.compress.prune(params, level), state, x)
        expected = metric.compute(metric.update(metric.init(), outputs, y))
        assert value == pytest.approx(float(expected), rel=1e-6)


def test_the_curve_compiles_once():
    model, x = nn.serial(out=dense(3)), draw(70, 6)
    (params, state), traced = trained(model, x), []

    def counted(outputs, labels):
        traced.append(1)
        return jd.metrics.accuracy(outputs, labels)

    curve = functools.partial(jd.compress.sparsity_curve, model, metric=counted)
    curve(params, state, (x, np.zeros(70, int)), [0.1, 0.2])
    once = len(traced)
    curve(trained(model, x, seed=3)[0], state, (x + 1, np.zeros(70, int)), [0.3, 0.4])
    assert len(traced) == once


def test_arguments_of_the_curve():
    model, x = network(), draw(70, 6)
    curve = functools.partial(jd.compress.sparsity_curve, model, *trained(model, x))
    data = (x, np.zeros(70, int))
    with pytest.raises(ValueError, match="number of rows"):
        curve((x, np.zeros(3, int)))
    with pytest.raises(ValueError, match="at least one"):
        curve(data, [])
    with pytest.raises(ValueError, match="levels"):
        curve(data, [2.0])
    with pytest.raises(TypeError, match="metric"):
        curve(data, [0.5], "accuracy")


@pytest.mark.parametrize("streaming", [False, True])
def test_the_curve_counts_rows_by_their_weights(streaming):
    model, x = nn.serial(out=dense(3)), draw(70, 6)
    params, state = trained(model, x)
    y = np.arange(70) % 3
    weights = np.where(np.arange(70) % 4, np.arange(70) % 5 + 0.5, 0)
    broken = np.where(weights[:, None] > 0, x, np.nan)
    metric = jd.metrics.mean(jd.metrics.accuracy) if streaming else jd.metrics.accuracy
    curve = jd.compress.sparsity_curve(
        model, params, state, (broken, y, weights), [0.0, 0.5], metric, batch_size=32
    )
    for level, value in zip(*curve):
        outputs, _ = model.apply(jd.compress.prune(params, level), state, x)
        right = np.argmax(outputs, axis=-1) == y
        assert value == pytest.approx(np.average(right, weights=weights if streaming else weights > 0))
    with pytest.raises(ValueError, match="the weights, must be at least 0"):
        jd.compress.sparsity_curve(model, params, state, (x, y, -weights))


def test_weights_that_are_no_numbers_are_not_ranked():
    params = {"a": {"kernel": jnp.array([jnp.nan, 1.0, 2.0])}, "b": {"kernel": jnp.ones(2)}}
    for function in (jd.compress.prune, jd.compress.pruning_mask):
        with pytest.raises(ValueError, match="a/kernel must be numbers, got nan"):
            function(params, 0.5)
    assert float(jd.compress.prune(params, 0.5, where="b/*")["b"]["kernel"].sum()) == 1
