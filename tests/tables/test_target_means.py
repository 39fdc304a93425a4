"""Categories encoded by the target: scikit-learn's means, and in training never a row's own target."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing as sk
from sklearn.metrics import roc_auc_score

import jaxdeep as jd
from jaxdeep.tables import target_means
from jaxdeep.tables.target_means import FOLDS, folds_of

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
N = 300
CITY = RNG.integers(0, 30, N)
TABLE = {
    "age": RNG.normal(40, 10, N).tolist(),
    "city": [None if i % 9 == 0 else f"city {c}" for i, c in enumerate(CITY)],
    "member": (RNG.random(N) < 0.5).tolist(),
}
EFFECT = RNG.normal(size=30)[CITY]
TARGETS = {
    "binary": np.where(EFFECT + RNG.normal(size=N) > 0, "yes", "no"),
    "multiclass": np.digitize(EFFECT + RNG.normal(size=N), [-0.7, 0.7]),
    "continuous": 1e6 + 100 * EFFECT + RNG.normal(size=N),
}


def fitted(task, table=TABLE, y=None, **options):
    y = TARGETS[task] if y is None else y
    return jd.tables.fit({**table, "y": y}, "y", target_encoding=["city"], **options)


def encoded(columns, inputs, train=False):
    """What the layer makes of the city, in the unit of the target."""
    layer = columns.layer(encodings={"age": "drop", "member": "drop"})
    params, state = layer.init(KEY, inputs)
    assert params == {}
    y = jax.jit(layer.apply, static_argnames="train")(params, state, inputs, train=train)[0]
    scales = np.array(columns.features[1].scales)[1 + np.asarray(folds_of(**inputs)) if train else 0]
    return np.asarray(y, np.float64) * scales[..., 1] + scales[..., 0]


@pytest.mark.parametrize("task", TARGETS)
def test_means_are_scikit_learns(task):
    y, x = TARGETS[task], np.array(TABLE["city"], object)[:, None]
    peer = sk.TargetEncoder(target_type=task, smooth=target_means.SMOOTH).fit(x, y)
    columns = fitted(task, standardize_target=task == "continuous")
    rows = {**TABLE, "city": [*TABLE["city"][:-2], None, "Atlantis"]}
    found = encoded(columns, columns.encode_inputs(rows))
    expected = peer.transform(np.array(rows["city"], object)[:, None])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    names = columns.output_names(encodings={"age": "drop", "member": "drop"})
    assert names == (
        [f"city=target[{k}]" for k in range(3)] if task == "multiclass" else ["city=target"]
    )


@pytest.mark.parametrize("task", ["binary", "continuous"])
def test_training_rows_have_the_means_of_others(task):
    columns = fitted(task)
    inputs, y = columns.encode({**TABLE, "y": TARGETS[task]})
    found = encoded(columns, inputs, train=True)
    fold = np.asarray(folds_of(**inputs))
    assert np.bincount(fold, minlength=FOLDS).min() > N / FOLDS / 2
    code, y = inputs["codes"][:, 0], y.astype(np.float64)
    for row in range(N):
        others = y[fold != fold[row]]
        same = others[code[fold != fold[row]] == code[row]]
        mean = (same.sum() + 10 * others.mean()) / (len(same) + 10)
        np.testing.assert_allclose(found[row], mean, rtol=1e-6, atol=1e-6)


def test_flipping_a_label_does_not_change_what_its_row_is_encoded_from():
    y = TARGETS["binary"]
    inputs, _ = fitted("binary").encode({**TABLE, "y": y})
    fold, code = np.asarray(folds_of(**inputs)), inputs["codes"][:, 0]
    before = np.array(fitted("binary").features[1].means)
    for row in range(0, N, 50):
        flipped = np.where(np.arange(N) == row, np.where(y == "yes", "no", "yes"), y)
        after = np.array(fitted("binary", y=flipped).features[1].means)
        np.testing.assert_array_equal(after[1 + fold[row]], before[1 + fold[row]])
        assert (after[0, code[row]] != before[0, code[row]]).all()


@pytest.mark.parametrize(
    ("task", "standardize"), [*((task, False) for task in TARGETS), ("continuous", True)]
)
def test_the_encoding_of_a_training_row_has_nothing_of_its_own_label(task, standardize):
    """Bit for bit, as the layer puts it out."""
    y = TARGETS[task]
    others = {"binary": {"yes": "no", "no": "yes"}, "multiclass": {0: 1, 1: 2, 2: 0}}.get(task)

    def put_out(y):
        columns = fitted(task, y=y, standardize_target=standardize)
        layer = columns.layer(encodings={"age": "drop", "member": "drop"})
        inputs = columns.encode_inputs(TABLE)
        held = layer.init(KEY, inputs)
        return [np.asarray(layer.apply(*held, inputs, train=train)[0]) for train in (True, False)]

    before = put_out(y)
    for row in (0, 7, N - 1):
        changed = y.copy()
        changed[row] = y[row] * 1.37 + 12_345.678 if others is None else others[y[row]]
        after = put_out(changed)
        np.testing.assert_array_equal(after[0][row], before[0][row])
        assert (after[1][row] != before[1][row]).any()  # the means of all rows, for rows of tomorrow
        assert (after[0] != before[0]).any()


@pytest.mark.parametrize("task", TARGETS)
def test_means_are_in_standard_deviations_of_the_target_of_the_same_rows(task):
    columns = fitted(task)
    inputs, targets = columns.encode({**TABLE, "y": TARGETS[task]})
    fold, column = np.asarray(folds_of(**inputs)), columns.features[1]
    y = np.asarray(TARGETS[task])[:, None]
    if task != "continuous":
        y = targets[:, None] == np.arange(1 if task == "binary" else 0, len(columns.classes))
    for table, scales in enumerate(column.scales):
        rows = fold != table - 1
        np.testing.assert_allclose(np.array(scales).T, [y[rows].mean(0), y[rows].std(0)], rtol=1e-9)


def test_states_of_before_are_in_standard_deviations_of_all_rows():
    columns = fitted("continuous")
    city = columns.features[1]
    features = (columns.features[0], city._replace(scales=()), *columns.features[2:])
    old = jd.tables.from_json(dataclasses.replace(columns, features=features).to_json())
    assert "scales" not in json.loads(old.to_json())["columns"][1]
    layer = old.layer()
    state = layer.init(KEY, old.encode_inputs(TABLE))[1]
    expected = (np.array(city.means) - old.target.mean) / old.target.std
    np.testing.assert_allclose(state["city=target"], expected, rtol=1e-5, atol=1e-6)


def test_parts_follow_from_the_rows_alone():
    inputs = fitted("binary").encode_inputs(TABLE)
    whole = np.asarray(folds_of(**inputs))
    order = RNG.permutation(N)
    shuffled = {name: part[order] for name, part in inputs.items()}
    np.testing.assert_array_equal(jax.jit(folds_of)(**shuffled), whole[order])
    half = jnp.asarray(inputs["numbers"]).astype(jnp.bfloat16)
    np.testing.assert_array_equal(folds_of(half, inputs["codes"]), whole)
    np.testing.assert_array_equal(folds_of(inputs["numbers"][:1], inputs["codes"][:1]), whole[:1])


def test_only_the_named_rows_count():
    rows = np.arange(0, N, 2)
    table = {name: [values[i] for i in rows] for name, values in TABLE.items()}
    named = fitted("continuous", rows=rows).features[1].means
    alone = fitted("continuous", table, TARGETS["continuous"][rows])
    np.testing.assert_allclose(named[0], alone.features[1].means[0], rtol=1e-9)


def test_saved_as_readable_json_with_the_model(tmp_path):
    columns = fitted("multiclass", min_frequency=7)
    assert jd.tables.from_json(columns.to_json()) == columns
    assert len(json.loads(columns.to_json())["columns"][1]["means"]) == 1 + FOLDS
    model = jd.nn.serial(columns=columns.layer(), out=jd.nn.dense(3))
    params, state = model.init(KEY, columns.encode_inputs(TABLE))
    jd.save(tmp_path / "model", model, params, state)
    again = jd.load(tmp_path / "model")
    assert again[0] == model
    np.testing.assert_array_equal(jd.predict(*again, TABLE), jd.predict(model, params, state, TABLE))
    assert "means of the target: 3" in columns.summary()


@pytest.mark.heavy
def test_encodings_of_training_rows_say_nothing_of_random_labels():
    """On average: of one draw it depends on how many of the pairs of rows of a level agree by chance."""
    found, n = [], 2000
    for seed in range(10):
        rng = np.random.default_rng(seed)
        ids = rng.permutation([f"id {i // 2}" for i in range(n)])
        table = {"id": ids, "x": rng.normal(size=n), "y": rng.integers(0, 2, n)}
        columns = jd.tables.fit(table, "y", target_encoding=["id"])
        inputs, y = columns.encode(table)
        layer = columns.layer(encodings={"x": "drop"})
        _, state = layer.init(KEY, inputs)
        given = (layer.apply({}, state, inputs, train=train)[0].ravel() for train in (False, True))
        found.append([roc_auc_score(y, scores) for scores in given])
    own, others = np.mean(found, axis=0)
    assert own > 0.8  # what a network would learn from
    assert abs(others - 0.5) < 0.025  # 0.017 of one draw, and ranks of five parts by their means


@pytest.mark.heavy
def test_a_network_learns_nothing_from_random_labels():
    n = 2000
    ids = [f"id {i // 2}" for i in range(n)]  # two rows of each
    first, second = (
        {"id": RNG.permutation(ids), "x": RNG.normal(size=n), "y": RNG.integers(0, 2, n)} for _ in "12"
    )
    columns = jd.tables.fit(first, "y", target_encoding=["id"])
    model = jd.nn.serial(columns.layer(), jd.nn.dense(16, activation=jax.nn.relu), jd.nn.dense(1))
    result = jd.fit(
        model,
        columns.encode(first),
        loss=jd.losses.sigmoid_cross_entropy,
        optimizer=jd.optimizers.adam(0.003),
        epochs=10,
        batch_size=100,
        key=KEY,
        progress=False,
    )
    later = jd.predict(model, result.params, result.state, second)
    assert abs(roc_auc_score(second["y"], later.ravel()) - 0.5) < 0.05
    inputs = columns.encode_inputs(first)
    before = model.init(KEY, inputs)[1]["columns0"]
    chex.assert_trees_all_equal(result.state["columns0"], before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_encoding": "city"}, "must be a list of names"),
        ({"target_encoding": ["town"]}, "names a column 'town'"),
        ({"target_encoding": ["age"]}, "'age' is a number, and only levels of a category"),
        ({"target": None}, "target_encoding needs a target"),
    ],
)
def test_refused(options, words):
    table = {**TABLE, "y": TARGETS["binary"]}
    with pytest.raises((ValueError, TypeError), match=words):
        jd.tables.fit(table, **{"target": "y", "target_encoding": ["city"], **options})


def test_rows_that_nothing_tells_apart_and_too_many_levels_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="rows of one level of column 'city' are alike in all other"):
        fitted("binary", {"city": TABLE["city"]})
    monkeypatch.setattr(target_means, "_MOST", 100)
    with pytest.raises(ValueError, match="'city' has 30 levels, for which 192 numbers would be kept"):
        fitted("binary")


@pytest.mark.parametrize("rows", [2, 3, 9])
def test_levels_of_few_rows_that_are_alike_are_refused(rows):
    levels = [f"l{level}" for level in np.repeat(np.arange(60), rows)]
    countries = [f"c{level}" for level in np.repeat(np.arange(60) % 7, rows)]
    y = np.arange(60 * rows) % 2
    table = {"city": levels, "country": countries, "y": y}
    with pytest.raises(ValueError, match="rows of one level of column 'city' are alike in all other"):
        jd.tables.fit(table, "y", target_encoding=["city"])
    jd.tables.fit(table | {"age": np.arange(60.0 * rows) ** 2}, "y", target_encoding=["city"])


def test_fifty_thousand_levels_are_encoded():
    words = [f"w{i}" for i in range(50_000)]
    table = {"word": words * 2, "age": np.arange(100_000.0) % 977, "y": [0, 1] * 50_000}
    columns = jd.tables.fit(table, "y", target_encoding=["word"])
    assert columns.output_names() == ["word=target", "age"]


def test_columns_may_be_encoded_in_another_way_all_the_same():
    columns = fitted("binary")
    names = columns.output_names(encodings={"city": "embedding"})
    assert "city[7]" in names
    params, state = columns.layer(encodings={"city": "embedding"}).init(
        KEY, columns.encode_inputs(TABLE)
    )
    assert list(params) == ["city"]
    assert set(state) == {"shift", "scale"}


def held_out(validation, **options):
    columns = fitted("binary")
    data = columns.encode({**TABLE, "y": TARGETS["binary"]})
    return jd.fit(
        jd.nn.serial(columns.layer(**options), jd.nn.dense(1)),
        data,
        loss=jd.losses.sigmoid_cross_entropy,
        optimizer=jd.optimizers.adam(1e-2),
        validation=data if validation is None else validation,
        epochs=1,
        key=KEY,
        progress=False,
    )


def test_rows_whose_targets_the_table_has_seen_are_not_held_out():
    words = r"validation=0\.2 would hold out .* layer 'columns0' .*rows=train.* as validation=$"
    with pytest.raises(ValueError, match=words):
        held_out(0.2)


def test_sweeps_hold_out_no_such_rows_either():
    columns = fitted("binary")
    model = jd.nn.serial(columns.layer(), jd.nn.dense(1))
    options = {
        "data": columns.encode({**TABLE, "y": TARGETS["binary"]}),
        "loss": jd.losses.sigmoid_cross_entropy,
        "validation": 0.2,
        "progress": False,
    }
    rates = {"rate": [0.1, 0.2, 0.3, 0.4]}
    with pytest.raises(ValueError, match=r"validation=0\.2 would hold out .* layer 'columns0'"):
        jd.sweep(lambda hp: jd.optimizers.sgd(hp["rate"]), rates, model=model, **options)
    with pytest.raises(ValueError, match=r"validation=0\.2 would hold out .* layer 'columns0'"):
        jd.search.population(
            lambda hp: {"model": model, "optimizer": jd.optimizers.sgd(hp["rate"])},
            rates,
            key=KEY,
            every=1,
            epochs=2,
            **options,
        )


@pytest.mark.heavy
def test_what_has_seen_no_targets_is_held_out_and_rows_of_ones_own_choice_are_taken():
    assert "val_loss" in held_out(0.2, encodings={"city": "embedding"}).history
    assert "val_loss" in held_out(None).history


@pytest.mark.heavy
def test_means_of_training_rows_say_nothing_of_the_labels_of_others():
    n, rng = 400, np.random.default_rng(0)
    ids = [f"id {i // 2}" for i in rng.permutation(n)]
    noise = {"id": ids, "y": rng.integers(0, 2, n), "x": rng.normal(size=n)}
    train, others = jd.datasets.split(np.arange(n), 0.5, seed=0)

    def auc(rows):
        columns = jd.tables.fit(noise, "y", target_encoding=["id"], kinds={"id": "category"}, rows=rows)
        inputs, y = columns.encode(noise)
        layer = columns.layer()
        return roc_auc_score(y[others], layer.apply(*layer.init(KEY, inputs), inputs)[0][others, 0])

    with pytest.warns(UserWarning, match="not there when the table was fitted"):
        assert abs(auc(train) - 0.5) < 0.1
    assert auc(None) > 0.8  # which is why such rows are not held out
