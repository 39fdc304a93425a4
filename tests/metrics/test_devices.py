"""Streaming metrics of rows that lie on several devices, and of several tables at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeep import metrics

ROWS, CLASSES = 32, 3
RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
P = np.asarray(jax.nn.softmax(SCORES))
LABELS = RNG.integers(-1, CLASSES, ROWS)
BITS = RNG.integers(0, 2, ROWS)
WEIGHTS = RNG.integers(0, 3, ROWS).astype(np.float32)

METRICS = {
    "r2": (metrics.r2(CLASSES), P, SCORES),
    "rmse": (metrics.rmse(CLASSES), P, SCORES),
    "average_precision": (metrics.average_precision(), P[:, 0], BITS),
    "brier": (metrics.brier(ignore_class=-1), P, LABELS),
    "log_loss": (metrics.log_loss(ignore_class=-1), P, LABELS),
    "balanced_accuracy": (metrics.balanced_accuracy(CLASSES, ignore_class=-1), P, LABELS),
    "cohen_kappa": (metrics.cohen_kappa(CLASSES, ignore_class=-1), P, LABELS),
    "matthews_corrcoef": (metrics.matthews_corrcoef(from_logits=False), P[:, 0], BITS),
    "f1": (metrics.f1(classes=CLASSES, ignore_class=-1), P, LABELS),
}


@pytest.mark.heavy
@pytest.mark.few("r2", "f1")
@pytest.mark.parametrize("name", METRICS)
def test_rows_may_lie_on_several_devices(name):
    metric, *columns = METRICS[name]
    batch = (*columns, WEIGHTS)
    compute, merge = jax.jit(metric.compute), jax.jit(metric.merge)
    expected = jax.jit(lambda *batch: metric.compute(metric.update(metric.init(), *batch)))(*batch)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(batch, jax.NamedSharding(mesh, jax.P("data")))
    whole = jax.jit(lambda *batch: metric.update(metric.init(), *batch))(*spread)
    np.testing.assert_allclose(compute(whole), expected, rtol=1e-5)

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P("data"))
    def each(*batch):
        return jax.tree.map(lambda leaf: leaf[None], metric.update(metric.init(), *batch))

    states = jax.jit(each)(*spread)
    states = jax.tree.map(np.asarray, states)
    parts = [jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in range(8)]
    merged = functools.reduce(merge, parts)
    np.testing.assert_allclose(compute(merged), expected, rtol=1e-5)


@pytest.mark.few("r2", "f1")
@pytest.mark.parametrize("name", METRICS)
def test_several_tables_at_once(name):
    metric, *columns = METRICS[name]

    def value(*batch):
        return metric.compute(metric.update(metric.init(), *batch))

    tables = [tuple(np.roll(a, shift, axis=0)[:16] for a in (*columns, WEIGHTS)) for shift in (0, 5)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tables)
    expected = np.stack([jax.jit(value)(*table) for table in tables])
    np.testing.assert_allclose(jax.jit(jax.vmap(value))(*stacked), expected, rtol=1e-5)
