"""From raw rows to a trained network and back: fit, save, load, evaluate and predict on tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.frames import containers

import jaxdeep as jd

RNG = np.random.default_rng(0)
N = 200
AGE = RNG.integers(18, 80, N)
CITY = RNG.choice(["Rome", "Oslo", "Bonn"], N)
PEOPLE = {
    "age": [None if i % 17 == 0 else int(age) for i, age in enumerate(AGE)],
    "city": [None if i % 13 == 0 else str(city) for i, city in enumerate(CITY)],
    "member": [bool(age % 2) for age in AGE],
}
LABELS = {
    "binary": np.where((AGE > 50) ^ (CITY == "Oslo"), "high", "low").tolist(),
    "multiclass": np.where(AGE > 60, 7, np.where(CITY == "Oslo", 3, 5)).tolist(),
    "regression": (1e4 + 100 * AGE + np.where(CITY == "Oslo", 500.0, 0.5)).tolist(),
}
HARD = {
    "binary": jd.metrics.binary_accuracy,
    "multiclass": jd.metrics.accuracy,
    "regression": jd.metrics.r2(),
}


def trained(task, recipe, path, **arguments):
    table = {**PEOPLE, "y": LABELS[task]}
    columns = jd.tables.fit(table, target="y")
    made = jd.nn.mlp(task, columns, recipe=recipe, **arguments)
    result = jd.fit(
        made.model,
        columns.encode(table),
        loss=made.loss,
        metrics=made.metrics,
        optimizer=made.optimizer,
        validation=0.2,
        key=jax.random.key(0),
        progress=False,
        **made.options,
    )
    jd.save(path, made.model, result.params, result.state)
    return table, made


@pytest.mark.heavy
def test_a_loaded_model_takes_raw_rows_in_any_container(tmp_path):
    table, made = trained(
        "binary", "textbook", tmp_path / "m", hidden=(16,), epochs=30, learning_rate=0.02
    )
    model, params, state = jd.load(tmp_path / "m")
    labels = jd.predict(model, params, state, PEOPLE, output="class")
    assert (labels == np.array(LABELS["binary"])).mean() > 0.8
    odds = jd.predict(model, params, state, PEOPLE, output="probability")
    for _, frame in containers(PEOPLE, tmp_path):
        np.testing.assert_array_equal(
            jd.predict(model, params, state, frame, output="probability"), odds
        )
    with_target = jd.predict(model, params, state, {**PEOPLE, "y": [None] * N}, output="probability")
    np.testing.assert_array_equal(with_target, odds)
    for i in (0, 13, 17, 199):  # one row is row i of the batch, bit for bit
        row = {name: values[i] for name, values in PEOPLE.items()}
        np.testing.assert_array_equal(
            jd.predict(model, params, state, row, output="probability"), odds[i : i + 1]
        )
    columns = next(layer for layer in model.layers.values() if layer.traits.encodes).traits.encodes
    parts = columns.blocks(tmp_path / "table.csv", rows=33)
    np.testing.assert_array_equal(jd.predict(model, params, state, parts, output="probability"), odds)
    found = jd.evaluate(
        model, params, state, table, loss=made.loss, metrics={"right": jd.metrics.binary_accuracy}
    )
    np.testing.assert_allclose(found["right"], (labels == np.array(LABELS["binary"])).mean(), rtol=1e-6)
    with pytest.raises(ValueError, match="one of the classes 'high', 'low', got 'middle' in row 3"):
        jd.evaluate(
            model,
            params,
            state,
            {**table, "y": [*table["y"][:3], "middle", *table["y"][4:]]},
            loss=made.loss,
        )
    assert len(jd.predict(model, params, state, {name: [] for name in PEOPLE}, output="class")) == 0


@pytest.mark.heavy
@pytest.mark.parametrize("recipe", ["textbook", "strong"])
@pytest.mark.parametrize("task", list(LABELS))
def test_every_task_and_recipe_learns_from_a_table(task, recipe, tmp_path):
    shorter = {"epochs": 60, "batch_size": 32} | ({} if recipe == "strong" else {"learning_rate": 0.01})
    table, made = trained(task, recipe, tmp_path / "m", **shorter)
    model, params, state = jd.load(tmp_path / "m")
    scores = jd.evaluate(model, params, state, table, loss=made.loss, metrics={"score": HARD[task]})
    assert scores["score"] > 0.85
    if task != "regression":
        labels = jd.predict(model, params, state, PEOPLE, output="class")
        assert labels.dtype == np.array(LABELS[task]).dtype
        assert (labels == np.array(LABELS[task])).mean() > 0.85


def network_on(columns, outputs):
    model = jd.nn.serial(columns=columns.layer(), out=jd.nn.dense(outputs))
    return model, *model.init(jax.random.key(0), columns.encode_inputs(PEOPLE))


def network_on_x(columns, rows):
    model = jd.nn.serial(columns=columns.layer(), out=jd.nn.dense(columns.outputs))
    return model, *model.init(jax.random.key(0), columns.encode_inputs(rows))


def test_a_table_without_a_target_has_numbers_of_classes():
    found = jd.predict(*network_on(jd.tables.fit(PEOPLE), 3), PEOPLE, output="class")
    assert found.dtype == np.int32
    assert set(found.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("output", ["class", "probability"])
def test_a_target_of_numbers_has_no_classes(output):
    columns = jd.tables.fit({**PEOPLE, "y": LABELS["regression"]}, target="y")
    with pytest.raises(ValueError, match=r"target 'y' is of numbers and has no classes.*output=None"):
        jd.predict(*network_on(columns, 1), PEOPLE, output=output, from_logits=True)


def test_outputs_must_be_as_many_as_classes():
    columns = jd.tables.fit({**PEOPLE, "y": LABELS["multiclass"]}, target="y")
    model, params, state = network_on(columns, 5)
    params["out"]["bias"] = params["out"]["bias"].at[4].set(100.0)
    with pytest.raises(ValueError, match="'y' has 3 classes, numbered from 0, got class number 4"):
        jd.predict(model, params, state, PEOPLE, output="class")
    with pytest.raises(ValueError, match="got class number -1"):
        columns.labels([-1])


def test_frames_one_after_another_are_one_table():
    import pandas

    frame = pandas.DataFrame({**PEOPLE, "y": LABELS["binary"]})
    columns = jd.tables.fit(frame, target="y")
    network = network_on(columns, 1)
    whole = jd.predict(*network, frame, output="probability")
    parts = [frame[:3], columns.encode_inputs(frame[3:90]), frame[90:].to_dict("list")]
    for iterator in (iter(parts), (part for part in parts), columns.blocks(frame, rows=33)):
        np.testing.assert_array_equal(jd.predict(*network, iterator, output="probability"), whole)
    with pytest.raises(ValueError, match="lacks the column 'age'"):
        jd.predict(*network, iter([frame, frame[["city", "member"]]]))


@pytest.mark.heavy
def test_chunks_of_a_file_are_predicted_and_evaluated(tmp_path):
    import pandas

    frame = pandas.DataFrame({**PEOPLE, "y": LABELS["binary"]})
    network = network_on(jd.tables.fit(frame, target="y"), 1)
    frame.to_csv(tmp_path / "people.csv", index=False)
    with pandas.read_csv(tmp_path / "people.csv", chunksize=50) as chunks:
        labels = jd.predict(*network, chunks, output="class")
    np.testing.assert_array_equal(labels, jd.predict(*network, frame, output="class"))
    assert set(labels) <= {"high", "low"}
    loss = {"loss": jd.losses.sigmoid_cross_entropy}
    found = jd.evaluate(*network, iter([frame[:80], frame[80:]]), **loss)
    np.testing.assert_allclose(found["loss"], jd.evaluate(*network, frame, **loss)["loss"], rtol=1e-6)


@pytest.mark.parametrize("array", [np.ones((3, 1)), jnp.ones(3)])
def test_an_array_is_no_table_and_named_by_its_own_shape(array):
    columns = jd.tables.fit({"x": [1.0, 2.0, 3.0]})
    model = jd.nn.serial(columns.layer(), jd.nn.dense(1))
    params, state = model.init(jax.random.key(0), columns.encode_inputs({"x": [1.0]}))
    with pytest.raises(
        TypeError, match=rf"x must be rows of a table.*got an array of shape \({array.shape[0]},"
    ):
        jd.predict(model, params, state, array)


def test_what_is_no_table_is_refused():
    network = network_on(jd.tables.fit(PEOPLE), 1)
    rows = [{name: values[i] for name, values in PEOPLE.items()} for i in range(3)]
    with pytest.raises(TypeError, match=r"raw rows must be one table.*got a list of 3: join them"):
        jd.predict(*network, rows)
    with pytest.raises(TypeError, match=r"x must be .* got an array of shape \(\d+, 3\)"):
        jd.predict(*network, np.ones((2, 3)))


@pytest.mark.heavy
@pytest.mark.few(1)
@pytest.mark.parametrize("x", [np.linspace(-1, 1, 50).tolist(), ["a", "b"] * 25])
def test_tables_of_numbers_alone_or_categories_alone_are_evaluated(x):
    table = {"x": x, "y": ["no", "yes"] * 25}
    columns = jd.tables.fit(table, "y")
    recipe = jd.nn.mlp("binary", columns, hidden=(4,), epochs=1)
    key = jax.random.key(0)
    result = jd.fit(data=columns.encode(table), key=key, progress=False, **recipe.arguments())
    p = np.asarray(result.predict(table, output="probability"), np.float64).reshape(-1)
    y = np.arange(50) % 2
    expected = -np.mean(np.where(y == 1, np.log(p), np.log1p(-p)))
    # batches that do not divide the rows, the last of which is filled up
    for size in (16, 256):
        found = result.evaluate(table, batch_size=size)["loss"]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.heavy
def test_labels_beside_a_table_may_be_its_words():
    table = {"x": np.linspace(-1, 1, 50).tolist(), "c": ["a", "b"] * 25}
    labels = ["no", "yes", "yes", "no", "yes"] * 10
    columns = jd.tables.fit({**table, "y": labels}, "y")
    recipe = jd.nn.mlp("binary", columns, hidden=(4,), epochs=1)
    data, key = columns.encode({**table, "y": labels}), jax.random.key(0)
    result = jd.fit(data=data, key=key, progress=False, **recipe.arguments())
    expected = result.evaluate({**table, "y": labels})
    assert columns.encode_labels(labels).tolist() == [label == "yes" for label in labels]
    for y in (labels, np.array(labels), np.array(labels, object), data[1]):
        assert result.evaluate((table, y)) == expected
    with pytest.raises(ValueError, match="must be one of the classes 'no', 'yes', got 'maybe'"):
        result.evaluate((table, ["maybe"] * 50))


@pytest.mark.parametrize("standardize", [False, True, "auto"])
def test_a_standardised_target_is_predicted_in_the_unit_of_the_table(standardize, tmp_path):
    """Of a network of known weights: output = 2 x in the unit that it was trained in."""
    rows = {"x": np.arange(8.0), "y": 100.5 + 3 * np.arange(8)}
    columns = jd.tables.fit(rows, target="y", standardize_target=standardize)
    model = jd.nn.serial(columns=columns.layer(scaling=None, clip=False), out=jd.nn.dense(1))
    params = {"columns": {}, "out": {"kernel": np.full((1, 1), 2.0, "f4"), "bias": np.zeros(1, "f4")}}
    inputs, targets = columns.encode(rows)
    state = model.init(jax.random.key(0), inputs)[1]
    bare = np.asarray(model.apply(params, state, inputs)[0])
    expected, dtype = bare, np.float32
    if standardize is True:
        expected, dtype = bare.astype(float) * np.std(rows["y"]) + np.mean(rows["y"]), np.float64
    jd.save(tmp_path / "model", model, params, state)
    for given in (model, params, state), jd.load(tmp_path / "model"):
        for x in rows, inputs, iter([rows]):
            found = jd.predict(*given, x)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, rtol=1e-7 if dtype == np.float32 else 1e-14)
    # judged in the unit that it is trained in
    loss = jd.evaluate(model, params, state, rows, loss=jd.losses.mse)["loss"]
    np.testing.assert_allclose(loss, np.mean((bare[:, 0] - targets) ** 2), rtol=1e-5)


def test_outputs_that_are_no_single_number_stay_as_they_are():
    rows = {"x": np.arange(8.0), "y": 100.5 + 3 * np.arange(8)}
    columns = jd.tables.fit(rows, target="y", standardize_target=True)
    model = jd.nn.serial(columns=columns.layer(), out=jd.nn.dense(2))
    params, state = model.init(jax.random.key(0), columns.encode_inputs(rows))
    bare = model.apply(params, state, columns.encode_inputs(rows))[0]
    np.testing.assert_allclose(jd.predict(model, params, state, rows), bare, rtol=1e-6)


def test_of_several_outputs_that_of_the_table_is_put_in_its_unit_by_its_columns():
    rows = {"x": np.arange(8.0), "y": 100.5 + 3 * np.arange(8)}
    columns = jd.tables.fit(rows, target="y", standardize_target=True)
    model = jd.nn.graph(
        {"c": ("columns", "x"), "a": ("main", "c"), "b": ("aux", "c")},
        {"main": "a", "aux": "b"},
        columns=columns.layer(),
        main=jd.nn.dense(1),
        aux=jd.nn.dense(1),
    )
    inputs = columns.encode_inputs(rows)
    params, state = model.init(jax.random.key(0), inputs)
    bare, found = model.apply(params, state, inputs)[0], jd.predict(model, params, state, rows)
    for name in ("main", "aux"):
        np.testing.assert_allclose(found[name], bare[name], rtol=1e-6)
    expected = np.asarray(bare["main"], float) * np.std(rows["y"]) + np.mean(rows["y"])
    np.testing.assert_allclose(columns.values(found["main"]), expected, rtol=1e-6)


@pytest.mark.few(6)
@pytest.mark.parametrize("wrapped", [list, np.array, jnp.asarray, lambda y: np.array(y)[:, None]])
@pytest.mark.parametrize(
    ("y", "options"),
    [
        ([1, 2, 3] * 4, {}),
        ([1, 2] * 6, {}),
        (["1", "2", "3"] * 4, {}),
        ([100.0 + i for i in range(12)], {"kinds": {"y": "number"}, "standardize_target": True}),
        ([100.0 + i for i in range(12)], {"kinds": {"y": "number"}}),
    ],
)
def test_numbers_beside_raw_rows_are_what_they_are_in_the_table(y, options, wrapped):
    rows = {"x": np.arange(12.0), "y": y}
    columns = jd.tables.fit(rows, "y", **options)
    inputs, targets = columns.encode(rows)
    model = jd.nn.serial(columns.layer(), jd.nn.dense(columns.outputs))
    params, state = model.init(jax.random.key(0), inputs)
    losses = {
        "binary": lambda o, y: jd.losses.sigmoid_cross_entropy(o.reshape(-1), y.reshape(-1)),
        "multiclass": lambda o, y: jd.losses.softmax_cross_entropy(o, y.reshape(-1)),
        "regression": lambda o, y: jd.losses.mse(o.reshape(-1, 1), y.reshape(-1, 1)),
    }
    judge = {"loss": losses[columns.task]}
    expected = jd.evaluate(model, params, state, (inputs, targets), **judge)
    numbers = wrapped([float(label) for label in y])
    assert jd.evaluate(model, params, state, (rows, numbers), **judge) == expected
    if isinstance(numbers, list):
        assert jd.evaluate(model, params, state, iter([(rows, numbers)]), **judge) == expected
        with pytest.raises(ValueError, match=r"target 'y' (is missing|must be)"):
            jd.evaluate(model, params, state, (rows, [float("nan"), *numbers[1:]]), **judge)


def test_numbers_of_classes_that_are_no_labels_are_refused_beside_raw_rows():
    rows = {"x": np.arange(6.0), "y": [1, 2, 3] * 2}
    columns = jd.tables.fit(rows, "y")
    with pytest.raises(ValueError, match="must be one of the classes 1, 2, 3, got 0 in row 0"):
        jd.evaluate(
            *network_on_x(columns, rows), (rows, columns.encode(rows)[1]),
            loss=jd.losses.softmax_cross_entropy,
        )  # fmt: skip


@pytest.mark.parametrize("wrapped", ["list", "array", "objects", "jax", "column", "pandas", "nullable",
                                     "polars"])  # fmt: skip
@pytest.mark.parametrize("y", [[1, 2], [3, 4], [0, 1], [0, 1, 2], ["a", "b", "c"], ["1", "2"]])
def test_truths_beside_raw_rows_are_no_numbers_of_classes(y, wrapped):
    rows = {"x": np.arange(6.0), "y": y * (6 // len(y))}
    columns = jd.tables.fit(rows, "y")
    truths = given_as([True, False] * 3, wrapped)
    with pytest.raises(ValueError, match=r"target 'y' must be one of the classes .*, got True in row 0"):
        jd.evaluate(*network_on_x(columns, rows), (rows, truths), loss=jd.losses.mse)


def given_as(values, wrapped):
    import pandas
    import polars

    kinds = {
        "list": list, "tuple": tuple,
        "array": np.array, "objects": lambda v: np.array(v, object), "jax": jnp.asarray,
        "column": lambda v: np.array(v)[:, None], "pandas": pandas.Series, "polars": polars.Series,
        "nullable": lambda v: pandas.Series(v, dtype="boolean" if v[0] is True else "Int64"),
    }  # fmt: skip
    return kinds[wrapped](values)


@pytest.mark.few(2)
@pytest.mark.parametrize("wrapped", ["list", "tuple", "array", "jax", "pandas", "nullable", "polars"])
def test_labels_of_every_container_are_read_alike(wrapped):
    """Whole numbers of polars and of pandas' Int64 were labels beside inputs, and others numbers."""
    judge = {"loss": lambda o, y: jd.losses.sigmoid_cross_entropy(o.reshape(-1), y.reshape(-1))}
    truths, codes = given_as([True, False] * 3, wrapped), given_as([1, 0] * 3, wrapped)
    for y in ([False, True] * 3, [1, 2] * 3, ["a", "b"] * 3):
        rows = {"x": np.arange(6.0), "y": y}
        columns = jd.tables.fit(rows, "y")
        network, inputs = network_on_x(columns, rows), columns.encode_inputs(rows)
        expected = jd.evaluate(*network, (inputs, np.array([1, 0] * 3)), **judge)
        given = [(inputs, codes), (inputs, truths)]
        given += [] if y[0] == 1 else [(rows, codes), (rows, truths)]
        for data in given:
            assert jd.evaluate(*network, data, **judge) == expected


def test_classes_are_predicted_with_all_digits():
    rows = {"x": np.arange(6.0), "y": [-1, 2**63 + 5] * 3}
    columns = jd.tables.fit(rows, "y")
    labels = jd.predict(*network_on_x(columns, rows), rows, output="class")
    assert labels.dtype == object
    assert set(labels.tolist()) <= {-1, 2**63 + 5}
