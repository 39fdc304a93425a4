"""Learning curves: a row is `fit` on so many of the rows, and sizes are parts of each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import ARGUMENTS, X, close, fit, identical
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import preprocessing

import jaxdeep as jd
from jaxdeep.search import sweeping
from jaxdeep.search.resampling import sizes as module

# A model that compiles in no time.
LINEAR = {
    "model": jd.nn.dense(1),
    "data": (X, X[:, :1]),
    "validation": (X, X[:, :1]),
    "loss": jd.losses.mse,
    "metrics": None,
}


def sgd(hp):
    return jd.optimizers.sgd(hp.get("learning_rate", 0.1))


def curve(space=None, **changes):
    arguments = ARGUMENTS | LINEAR | {"epochs": 2, "progress": False} | changes
    return jd.search.learning_curve(sgd, {} if space is None else space, **arguments)


@pytest.fixture
def drawn(monkeypatch):
    """The subsets of a learning curve that is not trained: rows by size and seed."""

    def subsets_of(**changes):
        found = {}
        monkeypatch.setattr(
            module,
            "trained",
            lambda sweeping, points, *, subsets, prepare: found.update(
                {(subset.names["size"], subset.seed): subset.train for subset in subsets}
            ),
        )
        curve(**changes)
        return found

    return subsets_of


def test_sizes_are_shares_or_counts(drawn):
    found = drawn(sizes=(0.29, 0.5, 50, 1.0, 7))
    assert [size for size, _ in found] == [29, 50, 100, 7]
    assert all(len(rows) == size == len({*rows}) for (size, _), rows in found.items())
    assert found[100, 0].tolist() == list(range(100))
    assert [size for size, _ in drawn(sizes=np.array([0.5, 1.0]))] == [50, 100]
    assert [size for size, _ in drawn(sizes=jnp.array([5, 10]))] == [5, 10]


def test_smaller_sets_are_parts_of_larger_ones_of_the_same_seed(drawn):
    found = drawn(sizes=(10, 40, 70), seeds=2)
    for seed in (0, 1):
        assert {*found[10, seed]} < {*found[40, seed]} < {*found[70, seed]}
    assert {*found[40, 0]} != {*found[40, 1]}
    # more sizes and seeds leave those that there were
    grown = drawn(sizes=(5, 10, 40, 70), seeds=3)
    assert all(np.array_equal(grown[place], rows) for place, rows in found.items())
    apart = drawn(sizes=(10, 40, 70), seeds=2, nested=False)
    assert not {*apart[40, 0]} < {*apart[70, 0]}
    grown = drawn(sizes=(5, 10, 40, 70), seeds=2, nested=False)
    assert all(np.array_equal(grown[place], rows) for place, rows in apart.items())
    assert {*drawn(sizes=(40,), key=jax.random.key(1))[40, 0]} != {*found[40, 0]}


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_beginnings_have_the_shares_of_classes_of_the_whole(labels, seed):
    codes = np.unique(labels, return_inverse=True)[1]
    order = module.in_shares(np.random.default_rng(seed), len(codes), codes)
    assert sorted(order) == list(range(len(codes)))
    classes = codes.max() + 1
    for size in range(1, len(codes) + 1):
        counts = np.bincount(codes[order[:size]], minlength=classes)
        expected = np.bincount(codes) * size / len(codes)
        # of each class, all counts are within 1 at the same point in [0, 1)
        assert np.all(np.abs(counts - expected) <= classes)


def test_classes_keep_their_shares(drawn):
    y = np.repeat([0, 1], [80, 20])
    rows = drawn(model=ARGUMENTS["model"], data=(X, y), loss=ARGUMENTS["loss"], sizes=(10, 50))
    assert [int(np.sum(y[rows[size, 0]])) for size in (10, 50)] == [2, 10]


@pytest.mark.optimized
@pytest.mark.heavy
@pytest.mark.few("threads")
@pytest.mark.parametrize("strategy", ["threads", "vmap"])
def test_every_row_is_fit_on_so_many_rows(strategy, monkeypatch):
    seen = []
    trained = sweeping.trained
    monkeypatch.setattr(
        module,
        "trained",
        lambda *a, subsets, **k: seen.extend(subsets) or trained(*a, subsets=subsets, **k),
    )
    table = curve([{"learning_rate": 0.05}], sizes=(33, 1.0), seeds=2, strategy=strategy)
    assert [(p["size"], p["seed"]) for p in table.points] == [(33, 0), (33, 1), (100, 0), (100, 1)]
    x, y = LINEAR["data"]
    for i in (1, 2):
        rows = seen[i].train
        alone = fit(
            **(LINEAR | {"data": (x[rows], y[rows])}),
            optimizer=jd.optimizers.sgd(0.05),
            key=jax.random.key(table.points[i]["seed"]),
            epochs=2,
        )
        same = identical if strategy == "threads" else lambda a, b: close(a, b, rtol=1e-4)
        same(table.trained(i), (alone.params, alone.state))
        same(table.history(i), dict(alone.history))


@pytest.mark.heavy
def test_a_size_is_a_column_over_which_nothing_is_averaged():
    table = curve({"learning_rate": [0.01, 0.1]}, sizes=(20, 60), seeds=2)
    summaries = table.over_seeds()
    assert [(s["learning_rate"], s["size"], s["runs"]) for s in summaries] == [
        (0.01, 20, 2),
        (0.01, 60, 2),
        (0.1, 20, 2),
        (0.1, 60, 2),
    ]
    assert table.plot("val_loss", "size").axes[0].get_xlabel() == "size"
    intervals = jd.search.intervals(table, "val_loss")
    assert [row["n"] for row in intervals] == [2] * 4


@pytest.mark.heavy
def test_sizes_may_grow(tmp_path):
    curve(sizes=(20,), checkpoint=tmp_path / "a")
    table = curve(sizes=(20, 40), checkpoint=tmp_path / "a")
    whole = curve(sizes=(20, 40))
    for i in range(2):
        identical(table.trained(i), whole.trained(i))
    with pytest.raises(ValueError, match="holds a sweep of 1 more rows"):
        curve(sizes=(20,), checkpoint=tmp_path / "a")


@pytest.mark.heavy
def test_the_statistics_of_a_scaler_are_those_of_each_training_set(drawn, monkeypatch):
    rows = drawn(sizes=(20, 100))[20, 0]
    monkeypatch.undo()
    table = curve(sizes=(20, 100), prepare=jd.preprocessing.standard_scaler())
    x, y = (np.array(part) for part in LINEAR["data"])
    scale = preprocessing.StandardScaler().fit(x[rows]).transform
    data = {"data": (scale(x[rows]), y[rows]), "validation": (scale(x), y)}
    alone = fit(**(LINEAR | data), optimizer=jd.optimizers.sgd(0.1), key=jax.random.key(0), epochs=2)
    close(table.history(0), dict(alone.history), rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": ()}, "sizes must hold a size, got none"),
        ({"sizes": 3}, "sizes must be a list, got 3"),
        ({"sizes": "text"}, "sizes must be a list, got 'text'"),
        ({"sizes": (0,)}, r"sizes\[0\] must be of 1 to 100 rows, got 0"),
        ({"sizes": (0.5, 101)}, r"sizes\[1\] must be of 1 to 100 rows, got 101"),
        ({"sizes": (0.001,)}, r"sizes\[0\] must be of 1 to 100 rows, got 0.001, which is 0"),
        ({"sizes": (1.5,)}, r"sizes\[0\] must be in \(0, 1\], got 1.5"),
        ({"sizes": (0.0,)}, r"sizes\[0\] must be in \(0, 1\], got 0.0"),
        ({"sizes": (float("nan"),)}, r"sizes\[0\] must be in \(0, 1\]"),
        ({"sizes": (True,)}, r"sizes\[0\] must be"),
        ({"sizes": (None,)}, r"sizes\[0\] must be a number"),
        ({"nested": "yes"}, "nested must be True or False"),
        ({"validation": None}, "learning_curve needs validation="),
        ({"space": {"size": [1.0]}}, "space must not have the name 'size'"),
        ({"stratify": [1, 2]}, "stratify must be one label a row"),
        ({"prepare": 3}, "prepare must be a function"),
        ({"data": iter([1])}, "learning_curve needs arrays as data"),
        ({"sizes": (10, 50)}, "batch_size must be at most the number of examples, 10, got 16"),
    ],
)
def test_wrong_arguments(changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        curve(**changes)
