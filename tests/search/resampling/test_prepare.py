"""What is fitted to the training rows of a part of the data: its statistics, and its name."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import X, Y
from sklearn import preprocessing

import jaxdeep as jd
from jaxdeep.lasting.identity import text_of
from jaxdeep.search.resampling.prepare import prepare_of
from jaxdeep.search.resampling.subset import DeviceData, Subset

SCALER = jd.preprocessing.standard_scaler()


def test_statistics_are_those_of_the_training_rows_alone():
    x, y = np.array(X), np.array(Y)
    train, validate = np.arange(0, 100, 2), np.arange(1, 100, 2)
    x[validate] = x[validate] * 100 + 7
    data = DeviceData((jnp.asarray(x), jnp.asarray(y)), None, prepare_of(SCALER))
    (ours, _), (others, _) = data.of(Subset({}, train, validate))
    truth = preprocessing.StandardScaler().fit(x[train])
    np.testing.assert_allclose(ours, truth.transform(x[train]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(others, truth.transform(x[validate]), rtol=1e-4, atol=1e-5)


def test_rows_of_weight_0_are_no_part_of_the_statistics():
    x = np.array([[1.0], [3.0], [1e6]], np.float32)
    train = tuple(jnp.asarray(a) for a in (x, x, np.array([1.0, 1.0, 0.0])))
    (scaled, *_), (other, *_) = prepare_of(SCALER)(train, (jnp.array([[2.0]]), jnp.array([[0.0]])))
    np.testing.assert_allclose(scaled[:2], [[-1.0], [1.0]])
    assert float(other[0, 0]) == 0


def test_what_is_prepared_has_a_name_in_a_journal():
    makers = jd.preprocessing
    scalers = [
        makers.standard_scaler(),
        makers.standard_scaler(with_mean=False),
        makers.standard_scaler(axis=None),
        makers.min_max_scaler(),
        makers.min_max_scaler((0, 2)),
        makers.power_transform(),
    ]
    texts = [text_of(prepare_of(scaler)) for scaler in scalers]
    assert len(set(texts)) == len(texts)
    assert texts[0] == text_of(prepare_of(makers.standard_scaler()))
    by = [prepare_of(lambda train, validate, by=by: (train, validate)) for by in (1.0, 2.0)]
    assert text_of(by[0]) != text_of(by[1])


@pytest.mark.heavy
def test_a_power_transform_is_that_of_scikit_learn():
    x = np.exp(np.array(X))
    data = DeviceData(
        (jnp.asarray(x), jnp.asarray(Y)),
        None,
        prepare_of(jd.preprocessing.power_transform(standardize=True)),
    )
    train, validate = np.arange(60), np.arange(60, 100)
    parts = data.of(Subset({}, train, validate))
    truth = preprocessing.PowerTransformer().fit(x[train])
    for (ours, _), rows in zip(parts, (train, validate)):
        np.testing.assert_allclose(ours, truth.transform(x[rows]), rtol=2e-3, atol=2e-3)
