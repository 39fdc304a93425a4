"""The state of a run at its beginning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tracing import checking_leaks
from helpers.training import KEY, X, network

import jaxdeep as jd


@pytest.mark.heavy
def test_init_under_vmap_over_hyperparameters_leaks_no_tracer():
    def one(rate, key):
        return jd.train.init(network(), jd.optimizers.adam(rate), X[:1], key=key).params["hidden"][
            "bias"
        ]

    with checking_leaks():
        jax.vmap(one)(jnp.array([0.1, 0.2]), jax.random.split(KEY, 2))


def _forms(tmp_path):
    torch, pandas, h5py = map(pytest.importorskip, ("torch", "pandas", "h5py"))
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    file = h5py.File(tmp_path / "x.h5", "w")
    file["x"] = x
    return x, {
        "torch": torch.tensor(x),
        "pandas": pandas.DataFrame(x),
        "h5py": file["x"],
        "lists": x.tolist(),
        "shapes": jax.ShapeDtypeStruct((8, 3), jnp.float32),
    }


@pytest.mark.heavy
def test_examples_are_whatever_fit_takes(tmp_path):
    x, forms = _forms(tmp_path)
    model = jd.nn.serial(jd.nn.dense(4), jd.nn.batch_norm(), jd.nn.dense(1))
    tx, key = jd.optimizers.adam(0.1), jax.random.key(0)
    params, state = model.init(key, x)
    expected = jd.train.init(model, tx, x, key=key)
    equal = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    for form in forms.values():
        equal(model.init(key, form), (params, state))
        equal(jd.train.init(model, tx, form, key=key)._replace(key=0), expected._replace(key=0))
        head = jd.transfer.replace_head(model, params, state, jd.nn.dense(2), form, key=key)
        assert head[1]["dense1"]["kernel"].shape == (4, 2)
        assert jd.nn.summary(model, form) == jd.nn.summary(model, x)
    for bad, message in (
        ("abc", "x must be an array of numbers, got 'abc'"),
        (np.array([["a"]]), "x must be an array of real numbers"),
        (np.array([[1, None]]), "x must be an array of real numbers"),
        (np.ma.masked_greater(x, 0), "x is a masked array"),
        ([[1.0], [1.0, 2.0]], "x must be an array of numbers, and a list gives none"),
        (None, "x must be an array, got None"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            model.init(key, bad)
        with pytest.raises((TypeError, ValueError), match=message):
            jd.train.init(model, tx, bad, key=key)


@pytest.mark.heavy
def test_data_of_epochs_runs_and_evaluations_are_whatever_fit_takes(tmp_path):
    x, forms = _forms(tmp_path)
    y = x[:, :1]
    model, tx, key = jd.nn.dense(1), jd.optimizers.sgd(0.1), jax.random.key(0)
    objective = jd.train.supervised(model, jd.losses.mse)
    ts = jd.train.init(model, tx, x, key=key)
    epoch = jd.train.make_epoch(jd.train.make_step(objective, tx), batch_size=4)
    run = jd.train.make_run(objective, tx, epochs=1, batch_size=4)
    evaluate = jd.train.make_evaluate(objective)
    results = [
        (epoch(ts, (a, y))[1], run(ts, (a, y), (a, y))[1], evaluate(ts.params, {}, (a, y)))
        for a in (x, forms["torch"], forms["pandas"], forms["h5py"], forms["lists"])
    ]
    for found in results[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, results[0])
    fit = functools.partial(
        jd.fit, model, (x, y), loss=jd.losses.mse, optimizer=tx, key=key, batch_size=8, progress=False
    )
    begun = {"kernel": ts.params["kernel"].tolist(), "bias": [0.0]}
    jax.tree.map(np.testing.assert_array_equal, fit(params=begun).params, fit(params=ts.params).params)
    with pytest.raises(TypeError, match=r"params\[bias\] must be an array of numbers, got 'zero'"):
        fit(params={"kernel": ts.params["kernel"], "bias": "zero"})
    with pytest.raises(TypeError, match=r"data\[0\], the inputs, must be an array"):
        jd.fit(model, (None, y), loss=jd.losses.mse, optimizer=tx, key=key)
