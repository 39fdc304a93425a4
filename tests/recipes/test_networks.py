"""Networks by task: what they are made of, and that they learn."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

import jaxdeep as jd
from jaxdeep._identity import key_of
from jaxdeep.recipes.endings import in_units

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)).astype(np.float32)
Y = {
    "regression": (1000 + 50 * X[:, 0] - 20 * X[:, 1] ** 2).astype(np.float32),
    "binary": (X[:, 0] + X[:, 1] > 0).astype(np.int32),
    "multilabel": (X[:, :3] > 0).astype(np.int32),
    "multiclass": np.argmax(X[:, :3], axis=1).astype(np.int32),
}
OUTPUTS = {"regression": 1, "binary": 1, "multilabel": 3, "multiclass": 3}
GOOD = {"regression": ("val_mae", 12.0), "multiclass": ("val_accuracy", 0.85)}

textbook = functools.partial(jd.nn.mlp, recipe="textbook")
strong = functools.partial(jd.nn.mlp, recipe="strong")


def fitted(recipe, x, y, **options):
    train, validation = (jax.tree.map(lambda a, s=s: a[s], (x, y)) for s in (slice(90), slice(90, None)))
    return jd.fit(
        recipe.model,
        train,
        validation=validation,
        loss=recipe.loss,
        metrics=recipe.metrics,
        optimizer=recipe.optimizer,
        key=KEY,
        progress=False,
        **recipe.options | options,
    )


@pytest.mark.heavy  # the example of mlp is the cheaper sibling
@pytest.mark.parametrize("task", Y)
@pytest.mark.parametrize("recipe", ["textbook", "strong"])
def test_every_recipe_learns_every_task(recipe, task):
    y = Y[task]
    rate = {"learning_rate": 1e-2} if recipe == "textbook" else {}
    made = jd.nn.mlp(task, recipe=recipe, targets=y[:90], hidden=(32, 32), epochs=40, **rate)
    result = fitted(made, X, y)
    metric, bound = GOOD.get(task, ("val_accuracy", 0.85))
    best = result.history[metric][result.best_epoch]
    assert best < bound if metric == "val_mae" else best > bound
    outputs, _ = made.model.apply(result.params, result.state, X[:7])
    assert outputs.shape == (7, OUTPUTS[task])


def test_the_textbook_has_relu_he_adam_and_patience():
    recipe = textbook("multiclass", outputs=3)
    relu = functools.partial(jd.nn.dense, activation=jax.nn.relu)
    assert recipe.model == jd.nn.serial(hidden1=relu(100), hidden2=relu(100), logits=jd.nn.dense(3))
    params, _ = recipe.model.init(KEY, np.ones((1, 200), np.float32))
    assert abs(np.var(params["hidden1"]["kernel"]) * 200 / 2 - 1) < 0.1  # 2 / fan_in
    assert recipe.loss is jd.losses.softmax_cross_entropy
    assert recipe.options["early_stopping"] == jd.train.EarlyStopping(patience=10)
    assert recipe.optimizer.update == jd.optimizers.adam(1e-3).update
    assert textbook("binary").loss is jd.losses.sigmoid_cross_entropy
    assert list(textbook("binary").metrics) == ["accuracy", "auc"]
    assert textbook("multilabel", outputs=2).metrics == {"accuracy": jd.metrics.binary_accuracy}


def test_the_outputs_of_a_regression():
    x = X[:5]
    for output, bounds, expected in (
        ("softplus", None, lambda z: np.log1p(np.exp(z))),
        ("sigmoid", (2, 5), lambda z: 2 + 3 * expit(z)),
        ("sigmoid", None, expit),
        ("tanh", (-3.0, 3.0), lambda z: 3 * np.tanh(z)),
        ("tanh", None, np.tanh),
        (None, None, lambda z: z),
    ):
        recipe = textbook("regression", outputs=2, hidden=(6,), output=output, bounds=bounds)
        params, state = recipe.model.init(KEY, x)
        hidden = np.maximum(x @ params["hidden1"]["kernel"] + params["hidden1"]["bias"], 0)
        z = hidden @ params["output"]["kernel"] + params["output"]["bias"]
        found, _ = recipe.model.apply(params, state, x)
        np.testing.assert_allclose(found, expected(z), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e9])
def test_positive_outputs_are_in_the_unit_of_the_targets(unit):
    y = unit * np.stack([200_000 + 50_000 * X[:, 0], np.exp(X[:, 1]), np.full(120, 3.0)], axis=1)
    y = np.concatenate([y, np.zeros((120, 1))], axis=1)
    model = textbook("regression", targets=y, hidden=(6,), output="softplus").model
    params, state = model.init(KEY, X)
    of_scores = {"kernel": jnp.zeros((6, 4)), "bias": jnp.zeros(4)}
    for score in (0.0, 1.0, -1.0, -30.0, 30.0):
        params["output"] = of_scores | {"bias": jnp.full(4, score)}
        mean, std = y.mean(0)[:3], np.array([*y.std(0)[:2], 1.0])
        expected = std * np.logaddexp(0, score + mean / std + np.log(-np.expm1(-mean / std)))
        found = model.apply(params, state, X, train=True)[0][0]
        np.testing.assert_allclose(found[:3], expected, rtol=1e-5)
        assert (found[:3] > 0).all()
        assert found[3] < 1e-6
        if score == 0:
            np.testing.assert_allclose(found[:3], mean, rtol=1e-5)
        cut = model.apply(params, state, X)[0][0]
        np.testing.assert_allclose(cut, np.clip([*expected, 0], y.min(0), y.max(0)), rtol=1e-5)


@pytest.mark.heavy
def test_positive_targets_of_any_size_are_learned(tmp_path):
    y = (200_000 + 50_000 * X[:, 0]).clip(1000)
    recipe = textbook(
        "regression", targets=y, hidden=(8,), output="softplus", learning_rate=1e-2, epochs=40
    )
    result = jd.fit(data=(X, y), key=KEY, progress=False, **recipe.arguments())
    assert result.history["r2"][-1] > 0.98
    jd.save(tmp_path / "model", recipe.model, result.params, result.state)
    model, params, state = jd.load(tmp_path / "model")
    assert model == recipe.model
    expected = recipe.model.apply(result.params, result.state, X)[0]
    np.testing.assert_array_equal(model.apply(params, state, X)[0], expected)


def test_the_losses_of_a_regression():
    assert textbook("regression").loss is jd.losses.mse
    assert textbook("regression", loss="mae").loss is jd.losses.mae
    assert textbook("regression", loss="huber").loss is jd.losses.huber
    y, outputs = np.array([3.0, 5.0, 13.0]), np.array([[4.0], [5.0], [3.0]], np.float32)
    std = y.std()
    for name in ("mse", "mae", "huber"):
        errors = (outputs[:, 0] - y) / std
        expected = {
            "mse": errors**2,
            "mae": abs(errors),
            "huber": np.where(abs(errors) <= 1, errors**2 / 2, abs(errors) - 0.5),
        }
        found = textbook("regression", targets=y, loss=name).loss(outputs, y)
        np.testing.assert_allclose(found[:, 0], expected[name], rtol=1e-6)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("output", "units"),
    [
        (None, ((1.0, 0.0), (1e-6, 0.0), (1e6, 2e6))),
        ("softplus", ((1.0, 9.0), (1e-6, 9e-6), (1e6, 9e6))),
    ],
)
def test_targets_of_any_unit_are_learned_alike(output, units):
    """By the numbers that come out, and by the unit of the metrics."""
    histories = []
    for scale, shift in units:
        y = (Y["regression"] - 1000) / 50 * scale + shift
        made = textbook("regression", targets=y[:90], hidden=(8,), epochs=3, output=output)
        result = fitted(made, X, y)
        histories.append((result.history["val_loss"], result.history["val_mae"] / scale))
    for loss, mae in histories[1:]:
        np.testing.assert_allclose(loss, histories[0][0], rtol=1e-3)
        np.testing.assert_allclose(mae, histories[0][1], rtol=1e-3)


def test_several_outputs_of_other_units():
    y = np.stack([Y["regression"], 1e-3 * X[:, 2], np.full(120, 14.62)], axis=1).astype(np.float32)
    recipe = strong("regression", targets=y[:90], hidden=(8,), epochs=3)
    params, state = recipe.model.init(KEY, X)
    params["output"]["kernel"] = jnp.ones((8, 3))
    outputs, _ = recipe.model.apply(params, state, 100 * X)
    losses = recipe.loss(outputs, y)
    np.testing.assert_allclose(losses[:, 0], ((outputs - y)[:, 0] / y[:90, 0].std()) ** 2, rtol=1e-4)
    assert (outputs >= y[:90].min(0) - 1e-6).all()
    assert (outputs <= y[:90].max(0) + 1e-4).all()
    np.testing.assert_array_equal(outputs[:, 2], np.float32(14.62))
    assert (np.abs(losses) < 1e9).all()
    with pytest.raises(ValueError, match="shape"):
        recipe.loss(outputs, y[:, :2])


def test_a_loss_in_units_hands_on_what_it_refuses():
    with pytest.raises(ValueError, match="targets must have the shape of the outputs"):
        in_units(jd.losses.mse, 2.0)(jnp.ones((3, 1)), jnp.ones((4,)))
    whole = in_units(jd.losses.mae, 2.0)(jnp.ones((2, 1), jnp.bfloat16), np.array([3, 5]))
    assert whole.dtype == jnp.bfloat16
    assert whole.tolist() == [[1.0], [2.0]]


def columns(task="binary", *, outputs=1, standardized=False):
    """What `jaxdeep.tables.fit` makes, as far as it is asked."""
    asked = []

    def layer(**options):
        asked.append(options)
        return jd.nn.serial(numbers=jd.nn.select("numbers"))

    target = types.SimpleNamespace(mean=10.0, std=2.0, low=6.0, high=16.0, standardized=standardized)
    return types.SimpleNamespace(
        layer=layer, rows=90, outputs=outputs, task=task, target=target, asked=asked
    )


def test_fitted_columns_are_the_first_layer_and_say_rows_and_outputs():
    table = columns("multiclass", outputs=3)
    recipe = strong("multiclass", table, hidden=(8,), epochs=2)
    assert list(recipe.model.layers) == ["inputs", "scaling", "hidden1", "logits"]
    assert recipe.options["batch_size"] == 90
    (options,) = table.asked
    options.pop("embedding_init")
    assert options == {"scaling": "robust", "clip": True, "one_hot": 9, "embedding": 8}
    params, _ = recipe.model.init(KEY, {"numbers": X})
    assert params["logits"]["kernel"].shape == (8, 3)
    textbook("multiclass", table)
    assert table.asked[-1] == {"scaling": "standard", "clip": False}


def test_targets_beside_columns_say_how_many_rows_are_trained_on():
    recipe = strong("binary", columns(), targets=Y["binary"][:40], hidden=(8,))
    assert recipe.options["batch_size"] == 40
    assert strong("binary", columns(), rows=50).options["batch_size"] == 50


@pytest.mark.parametrize("standardized", [False, True])
def test_the_target_of_columns_is_in_its_own_unit_or_standardised(standardized):
    recipe = textbook("regression", columns("regression", standardized=standardized))
    mean, low, high, std = (0.0, -2.0, 3.0, 1.0) if standardized else (10.0, 6.0, 16.0, 2.0)
    assert recipe.model.layers["units"] == jd.nn.rescale(std, mean, low=low, high=high)
    np.testing.assert_allclose(recipe.loss(jnp.array([[4.0]]), jnp.array([2.0])), [[4.0 / std**2]])


@pytest.mark.parametrize("recipe", ["textbook", "strong"])
@pytest.mark.parametrize("y", [100 + np.arange(40) / 3, 1e9 + 0.25 * np.arange(40)])
def test_targets_of_the_table_beside_standardised_columns_are_refused(recipe, y):
    """At inference outputs in standard deviations would be cut to the range of the table."""
    columns = jd.tables.fit({"x": np.arange(40.0), "y": y}, "y", standardize_target=True)
    words = "targets must be in standard deviations.*columns.encode_labels"
    for given in (y, list(y[:30]), y[:, None]):
        with pytest.raises(ValueError, match=words):
            jd.nn.mlp("regression", columns, recipe=recipe, targets=given)
    encoded = columns.encode_labels(y[:30])
    units = jd.nn.mlp("regression", columns, recipe=recipe, targets=encoded).model.layers["units"].config
    np.testing.assert_allclose(units["high"], encoded.max(), rtol=1e-6)


def test_classes_of_the_table_beside_its_columns_are_refused():
    columns = jd.tables.fit({"x": np.arange(6.0), "y": [1, 2, 3] * 2}, "y")
    with pytest.raises(
        ValueError, match=r"targets must be the classes of the columns, 0 to 2, .* got 3"
    ):
        jd.nn.mlp("multiclass", columns, targets=[1, 2, 3])
    assert jd.nn.mlp("multiclass", columns, targets=columns.encode_labels([1, 2, 3])).model is not None


def test_a_share_of_the_rows_is_held_out_and_the_run_is_as_long_as_what_is_left():
    recipe = strong("binary", targets=Y["binary"], validation=0.25, hidden=(8,))
    assert recipe.options["batch_size"] == 90
    assert recipe.options["validation"] == 0.25
    assert textbook("binary", validation=np.float64(0.25)).options["validation"] == 0.25


@pytest.mark.heavy
def test_a_table_is_fitted_in_one_piece():
    table = {"x": X[:, 0], "kind": np.where(X[:, 1] > 0, "up", "down"), "wage": Y["regression"]}
    table["x"] = np.where(np.arange(120) % 9, table["x"], np.nan)
    fitted_columns = jd.tables.fit(table, target="wage")
    recipe = strong("regression", fitted_columns, validation=0.25, hidden=(8,), epochs=20)
    data = fitted_columns.encode(table)
    result = jd.fit(data=data, key=KEY, progress=False, **recipe.arguments())
    assert result.history["val_r2"][result.best_epoch] > 0.3
    found, _ = recipe.model.apply(result.params, result.state, data[0])
    assert table["wage"].min() <= found.min() < found.max() <= table["wage"].max()


def test_a_model_of_ones_own_may_stand_in_front():
    recipe = textbook("binary", jd.nn.flatten())
    params, _ = recipe.model.init(KEY, np.ones((1, 2, 3), np.float32))
    assert params["hidden1"]["kernel"].shape == (6, 100)


@pytest.mark.heavy
def test_a_sweep_over_rates_is_one_program_and_takes_a_recipe_as_its_row():
    data = X[:64], Y["binary"][:64]

    def build(hp):
        recipe = strong(
            "binary", targets=data[1], hidden=(4,), epochs=4, learning_rate=hp["learning_rate"]
        )
        return recipe.arguments()

    table = jd.sweep(
        build, {"learning_rate": [0.01, 0.04]}, data=data, validation=data, progress=False, seeds=2
    )
    rows = table.rows()
    assert [row["ended"] for row in rows] == ["finished"] * 4
    assert len({row["val_loss"] for row in rows}) == 4


def test_recipes_made_alike_are_one_program():
    """By the keys under which compiled programs are kept."""
    one, other = (strong("binary", targets=Y["binary"], hidden=(4,)) for _ in range(2))
    keys = [key_of(recipe.model, recipe.loss, recipe.optimizer.update) for recipe in (one, other)]
    assert keys[0] == keys[1]
    assert one.options == other.options
    units = [in_units(jd.losses.mse, unit) for unit in (2.0, 2.0, 3.0)]
    assert key_of(units[0]) == key_of(units[1]) != key_of(units[2])


def test_a_recipe_is_saved_and_loaded(tmp_path):
    recipe = strong("regression", targets=Y["regression"], hidden=(4,))
    params, state = recipe.model.init(KEY, X[:1])
    jd.save(tmp_path / "model", recipe.model, params, state)
    model, again, state = jd.load(tmp_path / "model")
    assert model == recipe.model
    np.testing.assert_array_equal(again["hidden1"]["kernel"], params["hidden1"]["kernel"])


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("task", Y)
def test_the_dtype_of_the_inputs_is_kept(task, dtype):
    recipe = strong(task, targets=Y[task], hidden=(4,))
    x = jnp.asarray(X[:2], dtype)
    params, state = recipe.model.init(KEY, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert recipe.model.apply(params, state, x)[0].dtype == dtype


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: textbook("ranking"),
            "task must be 'regression', 'binary', 'multilabel' or 'multiclass'",
        ),
        (lambda: jd.nn.mlp("binary", recipe="best"), "recipe must be 'textbook' or 'strong'"),
        (lambda: textbook("multiclass"), "outputs must be given .* number of classes"),
        (lambda: textbook("multilabel"), "outputs must be given .* number of labels"),
        (lambda: textbook("binary", outputs=2), "outputs must be 1"),
        (lambda: textbook("multiclass", outputs=1), "outputs must be at least 2"),
        (lambda: textbook("multiclass", outputs=2, targets=[0, 1, 2]), "outputs must be 3"),
        (lambda: strong("binary"), "rows must be given for recipe='strong'"),
        (lambda: strong("binary", rows=10, batch_size=11), "batch_size must be at most the 10"),
        (lambda: textbook("binary", targets=[0, 2]), "targets must be 0 or 1 .* got 2"),
        (lambda: textbook("binary", targets=[[0, 1]]), r"targets must be of shape \(rows,\)"),
        (lambda: textbook("multiclass", targets=[0.5, 1.5]), "targets must be classes"),
        (lambda: textbook("multiclass", targets=[-1, 1]), "targets must be classes"),
        (lambda: textbook("regression", targets=[1.0, np.nan]), "targets must be finite, .* row 1"),
        (lambda: textbook("regression", targets=[1e300, 0.0]), "targets"),
        (lambda: textbook("regression", targets=[]), "targets must be of shape"),
        (lambda: textbook("binary", output="softplus"), "output is for task='regression'"),
        (lambda: textbook("binary", loss="mse"), "loss is for task='regression'"),
        (lambda: textbook("regression", loss="crps"), "loss must be 'mse', 'mae', 'huber' or None"),
        (lambda: textbook("regression", bounds=(0, 1)), "bounds are for output='sigmoid' or 'tanh'"),
        (lambda: textbook("regression", output="tanh", bounds=(1, 1)), "low below high"),
        (lambda: textbook("regression", output="tanh", bounds=3), "bounds must be a pair"),
        (lambda: textbook("binary", hidden=(0,)), "hidden must be at least 1"),
        (lambda: textbook("binary", hidden=8), "hidden"),
        (lambda: textbook("binary", activation="relu"), "activation must be a function"),
        (lambda: textbook("binary", epochs=0), "epochs must be at least 1"),
        (lambda: textbook("binary", X), "inputs must be None, the columns"),
        (lambda: strong("binary", rows=9, learning_rate=-1.0), "learning_rate must be in"),
        (lambda: textbook("binary", validation=1.5), "validation must be in"),
        (lambda: strong("binary", rows=1, validation=0.5), "at least two rows"),
        (lambda: textbook("binary", best_epoch=None), "best_epoch must be True or False"),
        (lambda: textbook("multiclass", columns("binary")), "task must be 'binary', as the target"),
        (
            lambda: jax.jit(lambda y: textbook("binary", targets=y).model(y))(Y["binary"]),
            "targets must be known when the network is made",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_classes_beyond_32_bits_are_refused_before_there_is_a_network():
    with pytest.raises(ValueError, match="targets holds 1099511627776, which needs more than 32 bits"):
        jd.nn.mlp("multiclass", targets=np.array([0, 2**40]))


def test_known_targets_that_the_output_or_float32_cannot_reach_are_refused():
    with pytest.raises(
        ValueError, match=r"sigmoid' reaches from 0\.0 to 1\.0, and the targets go from -5"
    ):
        jd.nn.mlp("regression", targets=[-5.0, 7.0], output="sigmoid")
    with pytest.raises(ValueError, match=r"softplus' reaches from 0\.0 to inf"):
        jd.nn.mlp("regression", targets=[-5.0, 7.0], output="softplus")
    jd.nn.mlp("regression", targets=[-5.0, 7.0], output="tanh", bounds=(-5, 7))
    with pytest.raises(ValueError, match="targets holds numbers from 1700000000"):
        jd.nn.mlp("regression", targets=1.7e9 + np.arange(64.0))


def test_a_batch_of_few_rows_is_all_of_them():
    made = jd.nn.mlp(
        "binary", jd.tables.fit({"x": range(10), "y": ["a", "b"] * 5}, target="y"), validation=0.2
    )
    assert made.options["batch_size"] == 8
    assert jd.nn.mlp("binary", targets=np.array([0, 1] * 50)).options["batch_size"] == 32
