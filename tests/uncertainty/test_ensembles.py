"""Several models as one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.samples import KEY, X, check, nn

import jaxdeep as jd
from jaxdeep.search.tables.table import Result, Table


@pytest.fixture(scope="module")
def members():
    model = nn.serial(nn.dense(8), nn.batch_norm(), nn.dropout(0.5), nn.dense(3))
    stacked = jax.vmap(lambda key: model.init(key, X))(jax.random.split(KEY, 5))
    pairs = [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(5)]
    each = np.stack([np.asarray(jax.nn.softmax(model.apply(*pair, X)[0])) for pair in pairs])
    return model, stacked, pairs, each


@pytest.mark.heavy
@pytest.mark.parametrize("batch_size", [None, 10])
def test_an_ensemble_stacked_listed_or_from_a_table(members, batch_size):
    model, stacked, pairs, each = members
    ends = ["finished", "stopped", "diverged", "finished", "halved"]
    history = {"loss": np.zeros(1)}
    results = [Result(*pair, history, 0, end) for pair, end in zip(pairs, ends)]
    table = Table([{"seed": i} for i in range(5)], results)
    ensemble = jd.uncertainty.ensemble
    check(ensemble(model, stacked, X, batch_size=batch_size), each)
    check(ensemble(model, pairs, X, batch_size=batch_size), each)
    check(ensemble(model, results, X, batch_size=batch_size), each)
    check(ensemble(model, table, X, batch_size=batch_size), each[[0, 1, 3]])
    kept = ensemble(model, stacked, X, batch_size=batch_size, return_samples=True).samples
    np.testing.assert_allclose(kept, each, atol=1e-6)
    mesh = jax.make_mesh((8,), ("data",))
    check(ensemble(model, stacked, X, batch_size=batch_size, mesh=mesh), each)
    check(jax.jit(lambda s, x: ensemble(model, s, x, batch_size=batch_size))(stacked, X), each)


@pytest.mark.heavy
def test_an_ensemble_of_a_sweep_over_seeds():
    y = (X[:, 0] > 0).astype(jnp.int32)
    model = nn.serial(nn.dense(2))
    table = jd.sweep(
        lambda hp: jd.optimizers.sgd(hp["learning_rate"]),
        {"learning_rate": [0.1]},
        seeds=3,
        model=model,
        data=(X, y),
        loss=jd.losses.softmax_cross_entropy,
        epochs=1,
        batch_size=8,
        progress=False,
    )
    each = [jax.nn.softmax(model.apply(*table.trained(i), X)[0]) for i in range(3)]
    check(jd.uncertainty.ensemble(model, table, X), np.stack(each))


@pytest.mark.heavy
def test_ensembles_that_make_no_sense(members):
    model, (params, _), pairs, _ = members
    ensemble = jd.uncertainty.ensemble
    with pytest.raises(ValueError, match="must not be an empty list"):
        ensemble(model, [], X)
    with pytest.raises(TypeError, match="members must be a Table, a list"):
        ensemble(model, params, X)
    with pytest.raises(TypeError, match=r"members\[0\] must be \(params, state\)"):
        ensemble(model, [params], X)
    with pytest.raises(ValueError, match="must have a leading axis of members on every leaf"):
        ensemble(model, pairs[0], X)
    other = nn.serial(nn.dense(9), nn.batch_norm(), nn.dropout(0.5), nn.dense(3)).init(KEY, X)
    with pytest.raises(ValueError, match=r"same shapes; member 1 has .*'dense0/kernel': \(6, 9\)"):
        ensemble(model, [pairs[0], other], X)
    table = Table([{"seed": 0}], [Result({}, {}, {"loss": np.zeros(1)}, 0, "diverged")])
    with pytest.raises(ValueError, match="no run that went to its end"):
        ensemble(model, table, X)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("loss", "targets", "said"),
    [
        (jd.losses.mse, np.stack([10 * X[:, 0], 5 + X[:, 1]], axis=1), "values"),
        (jd.losses.sigmoid_cross_entropy, np.float32(X[:, :2] > 0), "label_logits"),
        (jd.losses.softmax_cross_entropy, np.int32(X[:, 0] > 0), "logits"),
    ],
)
def test_results_of_fit_know_what_their_model_puts_out(loss, targets, said):
    model, ensemble = nn.dense(2), jd.uncertainty.ensemble
    options = {"loss": loss, "optimizer": jd.optimizers.sgd(0.1), "progress": False}
    results = [jd.fit(model, (X, targets), **options, key=jax.random.key(i)) for i in range(2)]
    asked = None if said == "values" else "probability"
    expected = np.mean([result.predict(X, output=asked) for result in results], axis=0)
    pairs = [(result.params, result.state) for result in results]
    for found in (
        ensemble(model, results, X),
        ensemble(model, pairs, X, loss=loss),
        ensemble(model, pairs, X, outputs=said),
    ):
        np.testing.assert_allclose(found.mean, expected, rtol=1e-5, atol=1e-6)
        assert (found.entropy is None) == (said == "values")
    if said == "label_logits":
        p = np.asarray(found.mean, np.float64)
        entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=1)
        np.testing.assert_allclose(found.entropy, entropy, rtol=1e-5)


def test_a_table_knows_what_its_models_put_out(tmp_path):
    model, targets = nn.dense(2), np.stack([10 * X[:, 0], 5 + X[:, 1]], axis=1)
    options = {"model": model, "data": (X, targets), "loss": jd.losses.mse, "progress": False}
    table = jd.sweep(lambda hp: jd.optimizers.sgd(hp["rate"]), {"rate": [0.1]}, seeds=2, **options)
    expected = np.mean([model.apply(*table.trained(i), X)[0] for i in range(2)], axis=0)
    table.save(tmp_path / "table.npz")
    for one in (table, Table.load(tmp_path / "table.npz")):
        assert one.outputs == "values"
        found = jd.uncertainty.ensemble(model, one, X)
        np.testing.assert_allclose(found.mean, expected, rtol=1e-5)
        assert found.entropy is None


def test_members_of_different_losses_are_no_ensemble():
    options = {"optimizer": jd.optimizers.sgd(0.1), "key": KEY, "progress": False}
    cross_entropy, model = jd.losses.softmax_cross_entropy, nn.dense(2)
    one = jd.fit(model, (X, X[:, :2]), loss=jd.losses.mse, **options)
    other = jd.fit(model, (X, np.int32(X[:, 0] > 0)), loss=cross_entropy, **options)
    with pytest.raises(ValueError, match="losses that take the outputs for the same"):
        jd.uncertainty.ensemble(model, [one, other], X)
    third = jd.fit(model, (X, X[:, :2]), objective=jd.train.supervised(model, jd.losses.mse), **options)
    assert jd.uncertainty.ensemble(model, [third], X).entropy is None
    with pytest.raises(ValueError, match="the output holds values"):
        third.predict(X, output="class")
