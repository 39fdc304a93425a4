"""`predict`: what the model puts out, as probabilities and as classes, the same bits for a row alone."""

import functools
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.compilations import nothing_compiled
from helpers.runs import KEY, MODEL, X, Y, fit

import jaxdeep as jd
from jaxdeep.nn import Model

nn, losses = jd.nn, jd.losses
ROWS = np.asarray(X)
PARAMS, STATE = MODEL.init(KEY, X[:1])


def made(model, x=X[:1]):
    return model, *model.init(KEY, x)


def predict(x=ROWS, **options):
    return jd.predict(MODEL, PARAMS, STATE, x, **options)


def test_it_is_what_the_model_puts_out():
    found = predict(batch_size=16)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, MODEL.apply(PARAMS, STATE, X)[0], rtol=1e-5, atol=1e-6)


DEEP = nn.serial(
    nn.dense(33, activation=jax.nn.gelu), nn.layer_norm(), nn.dense(17, activation=jnp.tanh), nn.dense(5)
)
IMAGES = nn.serial(
    nn.conv(4, (3, 3), activation=jax.nn.relu), nn.batch_norm(), nn.flatten(), nn.dense(3)
)


@pytest.mark.optimized
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_a_row_has_the_same_bits_alone_and_among_others(batch_size):
    x = np.random.default_rng(0).normal(size=(300, 29)).astype(np.float32)
    model, params, state = made(DEEP, x[:1])
    put = functools.partial(jd.predict, model, params, state, batch_size=batch_size)
    whole = put(x, output="probability")
    for rows in ([0], [299], list(range(7)), list(range(5, 70)), [3] * 10):
        np.testing.assert_array_equal(put(x[rows], output="probability"), whole[rows])
    in_turn = put((x[first : first + 11] for first in range(0, 300, 11)), output="probability")
    np.testing.assert_array_equal(in_turn, whole)


@pytest.mark.heavy
@pytest.mark.optimized
def test_an_image_has_the_same_bits_alone_and_among_others():
    x = np.random.default_rng(0).normal(size=(70, 9, 9, 2)).astype(np.float32)
    model, params, state = made(IMAGES, x[:1])
    whole = jd.predict(model, params, state, x, batch_size=32)
    for rows in ([0], [69], [5] * 40):
        np.testing.assert_array_equal(
            jd.predict(model, params, state, x[rows], batch_size=32), whole[rows]
        )


def test_another_number_of_rows_compiles_nothing():
    predict(), predict(output="class"), predict(X)
    with nothing_compiled():
        for rows in (1, 7, 100):
            predict(ROWS[:rows]), predict(ROWS[:rows], output="class")
        predict(ROWS[part : part + 9] for part in range(0, 100, 9))
        predict(X)


def test_no_rows_give_no_rows():
    assert predict(ROWS[:0]).shape == (0, 2)
    assert predict(ROWS[:0], output="class").shape == (0,)
    assert predict([[0.0] * 4]).shape == (1, 2)  # a list of lists is one array


def test_nothing_is_random_and_no_statistics_change():
    before = jax.tree.map(np.array, STATE)
    np.testing.assert_array_equal(predict(), predict())
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, STATE))


# --- probabilities and classes ----------------------------------------------------------------------


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


LINEAR = nn.dense(3)
KERNEL = jax.random.normal(jax.random.key(5), (4, 3))
SCORES = ROWS @ np.asarray(KERNEL)


def asked(output, end=None, scores=slice(0, 3), **options):
    params = {"kernel": KERNEL[:, scores], "bias": jnp.zeros(3)[scores]}
    features = len(params["bias"])
    model = nn.dense(features) if end is None else nn.dense(features, activation=end)
    return jd.predict(model, params, {}, ROWS, output=output, **options)


ONE = slice(0, 1)
ENDINGS = {
    "logits": ({}, softmax(SCORES), SCORES.argmax(-1)),
    "a softmax": ({"end": jax.nn.softmax}, softmax(SCORES), SCORES.argmax(-1)),
    "a softmax of one's own": (
        {"end": lambda z: jnp.exp(z) / jnp.exp(z).sum(-1, keepdims=True)},
        softmax(SCORES),
        SCORES.argmax(-1),
    ),
    "a log-softmax": ({"end": jax.nn.log_softmax}, softmax(SCORES), SCORES.argmax(-1)),
    "labels": ({"end": jax.nn.sigmoid}, sigmoid(SCORES), SCORES > 0),
    "log-sigmoids": ({"end": jax.nn.log_sigmoid}, sigmoid(SCORES), SCORES > 0),
    "logits of labels": ({"loss": losses.sigmoid_cross_entropy}, sigmoid(SCORES), SCORES > 0),
    "optax's": ({"loss": optax.losses.sigmoid_binary_cross_entropy}, sigmoid(SCORES), SCORES > 0),
    "a hinge, said": (
        {"loss": losses.categorical_hinge, "from_logits": True},
        softmax(SCORES),
        SCORES.argmax(-1),
    ),
    "a focal loss of classes": ({"loss": losses.softmax_focal}, softmax(SCORES), SCORES.argmax(-1)),
    "logits of classes": ({"loss": losses.softmax_cross_entropy}, softmax(SCORES), SCORES.argmax(-1)),
    "one logit": ({"scores": ONE}, sigmoid(SCORES[:, ONE]), SCORES[:, 0] > 0),
    "one probability": (
        {"scores": ONE, "end": jax.nn.sigmoid},
        sigmoid(SCORES[:, ONE]),
        SCORES[:, 0] > 0,
    ),
    "said": ({"end": jnp.sin, "from_logits": True}, softmax(np.sin(SCORES)), np.sin(SCORES).argmax(-1)),
}


@pytest.mark.few(4)
@pytest.mark.parametrize(("options", "p", "classes"), ENDINGS.values(), ids=ENDINGS)
def test_probabilities_and_classes(options, p, classes):
    np.testing.assert_allclose(asked("probability", **options), p, rtol=1e-4, atol=1e-6)
    found = asked("class", **options)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, classes)


@pytest.mark.parametrize(
    ("loss", "classes"),
    [
        (losses.hinge, SCORES > 0),
        (functools.partial(losses.hinge, squared=True), SCORES > 0),
        (losses.categorical_hinge, SCORES.argmax(-1)),
        (losses.multiclass_hinge, SCORES.argmax(-1)),
    ],
)
def test_margins_have_classes_and_no_probabilities_whoever_is_asked(loss, classes):
    np.testing.assert_array_equal(asked("class", loss=loss), classes)
    words = "the output holds scores that a margin separates, as the loss says, .* no probabilities: say"
    with pytest.raises(ValueError, match=words):
        asked("probability", loss=loss)
    model, key = nn.serial(nn.dropout(0.1), nn.dense(3)), jax.random.key(0)
    params, state = model.init(key, ROWS[:1])
    for sampled in (
        lambda: jd.uncertainty.mc_dropout(model, params, state, ROWS, key=key, samples=2, loss=loss),
        lambda: jd.uncertainty.ensemble(model, [(params, state)], ROWS, loss=loss),
    ):
        with pytest.raises(ValueError, match=words):
            sampled()


def test_probabilities_that_a_model_puts_out_are_left_as_they_are():
    for end in (jax.nn.softmax, jax.nn.sigmoid):
        np.testing.assert_array_equal(asked("probability", end=end), asked(None, end=end))


def test_numpys_truths_say_what_pythons_do():
    model = jd.nn.serial(jd.nn.dense(3), jd.nn.lambda_(jax.nn.softmax))
    found = [
        jd.predict(*made(model), ROWS, output="probability", from_logits=said)
        for said in (False, np.False_)
    ]
    np.testing.assert_array_equal(*found)


def test_classes_are_those_that_accuracies_count():
    y = (SCORES[:, 0] > 0.3).astype(np.int32)
    params = {"kernel": KERNEL[:, :1], "bias": jnp.full(1, -0.1)}
    model, loss = nn.dense(1), losses.sigmoid_cross_entropy
    found = jd.evaluate(
        model, params, {}, (ROWS, y[:, None]), loss=loss, metrics={"a": jd.metrics.binary_accuracy}
    )
    classes = jd.predict(model, params, {}, ROWS, output="class")
    np.testing.assert_allclose(found["a"], (classes == y).mean(), rtol=1e-6)


def test_sequences_and_low_precision():
    x = np.random.default_rng(0).normal(size=(5, 7, 4)).astype(np.float32)
    model, params, state = made(nn.dense(3), x[:1])
    assert jd.predict(model, params, state, x, output="class").shape == (5, 7)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    out = jd.predict(model, half, state, jnp.asarray(x, jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    probabilities = jd.predict(model, half, state, jnp.asarray(x, jnp.bfloat16), output="probability")
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-6)


def test_one_logit_of_infinity_is_certain():
    x = np.array([[np.inf, 0.0, 1.0], [0.0, 1.0, 2.0]], np.float32)
    model, params, state = made(nn.lambda_(lambda x: x), x)
    found = jd.predict(model, params, state, x, output="probability", from_logits=True)
    np.testing.assert_allclose(found, [[1, 0, 0], softmax(x[1])], rtol=1e-5)


def test_a_single_row_is_told_by_its_own_shape():
    for model, row in (
        (nn.dense(3), ROWS[0]),
        (nn.serial(nn.conv(2, 3), nn.flatten(), nn.dense(3)), np.ones((8, 8, 1), np.float32)),
    ):
        _, params, state = made(model, row[None])
        for output in (None, "class"):
            with pytest.raises(ValueError, match=rf"got shape {re.escape(str(row.shape))}, .*x\[None\]"):
                jd.predict(model, params, state, row, output=output)
        assert jd.predict(model, params, state, row[None]).shape == (1, 3)
    # what fits neither way is told as it was
    with pytest.raises(
        ValueError, match=r"initialised for 4 features, got an input x of shape \(256, 5\)"
    ):
        jd.predict(LINEAR, *made(LINEAR, ROWS)[1:], np.ones((2, 5), np.float32))


@pytest.mark.parametrize("batch_size", [2**40, 2**70])
def test_a_batch_size_beyond_all_memory(batch_size, monkeypatch):
    monkeypatch.setattr("jaxdeep.fitting.rows._FILLED_BYTES", 2**16)  # a GiB takes seconds to compute
    model, params, state = made(LINEAR, ROWS)
    expected = jd.predict(model, params, state, ROWS)
    for x in (ROWS, iter([ROWS[:20], ROWS[20:]])):
        found = jd.predict(model, params, state, x, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    y = np.zeros(len(ROWS), np.int32)
    evaluate = functools.partial(jd.evaluate, model, params, state, loss=losses.softmax_cross_entropy)
    for data in ((ROWS, y), iter([(ROWS[:20], y[:20]), (ROWS[20:], y[20:])])):
        found = evaluate(data, batch_size=batch_size)["loss"]
        np.testing.assert_allclose(found, evaluate((ROWS, y))["loss"], rtol=1e-6)


def test_nan_has_no_class():
    x = ROWS.copy()
    x[41, 2] = np.nan
    with pytest.raises(ValueError, match=r"the output is NaN in row 41 of x.*no class"):
        predict(x, output="class", batch_size=16)
    with pytest.raises(ValueError, match="NaN in row 41"):
        predict((x[first : first + 30] for first in range(0, 100, 30)), output="class")
    model, params, state = made(nn.dense(1))
    with pytest.raises(ValueError, match="NaN in row 41"):
        jd.predict(model, params, state, x, output="class")
    assert np.isnan(predict(x, output="probability")[41]).all()


# --- several inputs and outputs -----------------------------------------------------------------------


def boxes():
    model = nn.parallel(box=nn.dense(1), kind=nn.dense(3), tags=nn.dense(2))
    return made(model)


def test_each_of_several_outputs_may_be_asked_for_its_own():
    put = functools.partial(jd.predict, *boxes(), ROWS)
    plain = put()
    assert {name: a.shape for name, a in plain.items()} == {
        "box": (100, 1),
        "kind": (100, 3),
        "tags": (100, 2),
    }
    loss = losses.weighted(
        {"box": losses.mse, "kind": losses.softmax_cross_entropy, "tags": losses.sigmoid_cross_entropy}
    )
    found = put(output={"box": None, "kind": "class", "tags": "class"}, loss=loss)
    np.testing.assert_array_equal(found["box"], plain["box"])
    np.testing.assert_array_equal(found["kind"], plain["kind"].argmax(-1))
    np.testing.assert_array_equal(found["tags"], plain["tags"] > 0)
    with pytest.raises(ValueError, match=r"output 'box' holds values, as the loss says"):
        put(output="class", loss=loss)
    with pytest.raises(ValueError, match=r"output 'kind' is one of several"):
        put(output={"box": None, "kind": "class", "tags": None})
    with pytest.raises(ValueError, match=r"output\['size'\] is of an output that the model has not"):
        put(output={"size": "class"})


def test_inputs_may_be_a_dict():
    model = nn.concatenate(a=nn.select("wide"), b=nn.serial(nn.select("deep"), nn.dense(2)))
    x = {"wide": ROWS, "deep": ROWS[:, :2]}
    model, params, state = made(model, jax.tree.map(lambda a: a[:1], x))
    found = jd.predict(model, params, state, x, batch_size=16)
    assert found.shape == (100, 6)
    one = jd.predict(model, params, state, jax.tree.map(lambda a: a[4:5], x), batch_size=16)
    np.testing.assert_array_equal(one[0], found[4])


class _Reads:
    """Raw rows are lists of words, each a number with the class that it has."""

    def is_raw(self, data):
        return isinstance(data, list) and isinstance(data[0], str)

    def encode_inputs(self, rows):
        return np.array([[float(row.split()[0])] for row in rows], np.float32)

    def encode(self, rows):
        return self.encode_inputs(rows), np.array([row.endswith("b") for row in rows], np.int32)

    def labels(self, classes):
        return np.array(["a", "b"])[classes]


def test_a_layer_says_how_raw_rows_enter():
    first = Model(
        lambda key, x: ({}, {}),
        lambda params, state, x, **_: (x, state),
        stochastic=False,
        traits=nn.traits.Traits(encodes=_Reads()),
    )
    model = nn.serial(read=first, out=nn.dense(2))
    params = {"out": {"kernel": jnp.array([[-1.0, 1.0]]), "bias": jnp.zeros(2)}}
    rows = ["1 b", "-2 a", "3 a"]
    assert jd.predict(model, params, {}, rows, output="class").tolist() == ["b", "a", "b"]
    assert jd.predict(model, params, {}, rows).shape == (3, 2)
    found = jd.evaluate(
        model,
        params,
        {},
        rows,
        loss=losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy},
    )
    np.testing.assert_allclose(found["accuracy"], 2 / 3, rtol=1e-6)
    pair = (rows, np.array([1, 0, 1]))
    assert jd.evaluate(model, params, {}, pair, loss=losses.softmax_cross_entropy)["loss"] < 0.2
    encoded = np.array([[1.0]], np.float32)
    assert jd.predict(model, params, {}, encoded, output="class").tolist() == ["b"]


# --- data of other kinds ----------------------------------------------------------------------------


def test_memory_maps_and_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    np.save(tmp_path / "x", ROWS.astype(np.float64))
    whole = predict()
    np.testing.assert_array_equal(predict(np.load(tmp_path / "x.npy", mmap_mode="r")), whole)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        np.testing.assert_array_equal(predict(file.create_dataset("x", data=ROWS)), whole)


@pytest.mark.heavy
def test_eight_devices_predict_what_one_does():
    mesh = jax.make_mesh((8,), ("data",))
    for x in (ROWS, X, ROWS[:3]):
        np.testing.assert_allclose(
            predict(x, mesh=mesh, batch_size=16), predict(x), rtol=1e-5, atol=1e-6
        )
    split = fit(epochs=1, mesh=mesh)
    assert split.predict(X, output="class").shape == (100,)
    with pytest.raises(ValueError, match="batch_size must be a multiple of the mesh's data axis"):
        predict(mesh=mesh, batch_size=12)


def test_modules_of_other_libraries():
    flax = pytest.importorskip("flax.linen")
    model = jd.adapters.from_linen(flax.Sequential([flax.Dense(8), flax.relu, flax.Dense(3)]))
    model, params, state = made(model)
    logits = jd.predict(model, params, state, ROWS)
    p = jd.predict(model, params, state, ROWS, output="probability")
    np.testing.assert_allclose(p, softmax(logits), rtol=1e-5)


# --- results ----------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_result_predicts_and_knows_its_loss():
    result = fit(epochs=1)
    np.testing.assert_array_equal(result.predict(X), jd.predict(MODEL, result.params, result.state, X))
    assert (result.predict(X, output="class") == np.asarray(Y)).mean() > 0.5
    labels = jnp.stack([Y, 1 - Y], 1).astype(jnp.float32)
    tagged = jd.fit(
        nn.dense(2),
        (X, labels),
        loss=losses.sigmoid_cross_entropy,
        optimizer=jd.optimizers.sgd(0.1),
        key=KEY,
        progress=False,
    )
    assert tagged.predict(X, output="class").shape == (100, 2)
    values = jd.fit(
        nn.dense(1),
        (X, X[:, :1]),
        loss=losses.mse,
        optimizer=jd.optimizers.sgd(0.1),
        key=KEY,
        progress=False,
    )
    with pytest.raises(ValueError, match="the output holds values, as the loss says"):
        values.predict(X, output="class")


def test_a_pickled_result_has_forgotten_its_model():
    result = fit(epochs=1)
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.history["loss"], result.history["loss"])
    with pytest.raises(
        ValueError, match=r"does not know its model.*jaxdeep.predict\(model, result.params"
    ):
        again.predict(X)
    doubled = jax.tree.map(lambda a: a, result)
    assert doubled.problem == result.problem


@pytest.mark.heavy
def test_the_result_of_phases():
    result = fit(phases=[(1,), (1, "out/*")], epochs=1)
    np.testing.assert_allclose(
        result.evaluate((X, Y), batch_size=16)["loss"], result.history["val_loss"][-1], rtol=1e-6
    )


LABELS = np.zeros((len(ROWS), 1), np.float32)
ALONE = "part 0 alone: say batch=lambda b: b[0]"


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (
            lambda: iter([(ROWS, LABELS)]),
            f"x gives batches (x, y) that are tuples of 2, and the model takes {ALONE}",
        ),
        (lambda: iter([(ROWS, ROWS)]), ALONE),
        (
            lambda: lambda epoch: [[ROWS, LABELS, LABELS]],
            f"(x, y) that are lists of 3, and the model takes {ALONE}",
        ),
        (
            lambda: iter([{"label": LABELS, "pixels": ROWS}]),
            "x gives batches that are dicts of 2, and the model takes part 'pixels' alone: say "
            "batch=lambda b: b['pixels']",
        ),
        (lambda: (ROWS, LABELS), "x is a tuple of 2, and the model takes part 0 alone: give x[0]"),
        (
            lambda: {"label": LABELS, "pixels": ROWS},
            "x is a dict of 2, and the model takes part 'pixels' alone: give x['pixels']",
        ),
    ],
)
def test_pairs_are_told_what_the_model_takes_of_them(x, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        predict(x=x())


def test_pairs_that_are_taken_apart_as_they_are_told():
    pairs = [(ROWS, LABELS)]
    np.testing.assert_array_equal(predict(x=iter(pairs), batch=lambda b: b[0]), predict(x=ROWS))
    with pytest.raises(TypeError, match="x must be an array, got a tuple"):
        predict(x=iter([(LABELS, LABELS)]))  # of which it takes none


def test_refusals():
    for changes, message in (
        ({"output": "classes"}, "output must be None, 'probability' or 'class', got 'classes'"),
        ({"output": 1}, "output must be None"),
        ({"from_logits": "yes"}, "from_logits must be True or False"),
        ({"loss": 3}, "loss must be a function"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"x": "text"}, "x must be"),
        ({"x": iter(())}, "x holds no batches"),
        ({"x": X[:, :2]}, "hidden"),
        ({"x": {1, 2}}, "x must be arrays, or give batches of them in an order, got a set"),
        ({"x": b"abc"}, "x must be arrays, or give batches of them in an order, got a bytes"),
        ({"x": [[None] * 4] * 8}, "x holds no arrays, only None"),
        ({"x": lambda: [X]}, r"lambda epoch: batches\), got .*, which does not take one argument"),
        ({"x": jnp.ones((8, X.shape[1]), jnp.int4)}, r"x holds int4, .*: give x\.astype\('int8'\)"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            predict(**changes)
    with pytest.raises(ValueError) as single_rows:
        predict(x=(row for row in X))
    assert "put single rows together" in single_rows.value.__notes__[-1]
    with pytest.raises(ValueError, match="does not say what the output holds"):
        asked("class", end=jnp.sin)
    with pytest.raises(
        ValueError, match="does not say what the output holds, since it is an activation"
    ):
        asked("class", end=jax.nn.relu)
    with pytest.raises(ValueError, match="comes out of a softmax or a sigmoid"):
        asked("probability", end=jax.nn.sigmoid, from_logits=True)
    for end in (None, jax.nn.relu):
        with pytest.raises(ValueError, match="so that it puts out no probabilities"):
            asked("probability", end=end, from_logits=False)
    with pytest.raises(TypeError, match=r"predict drives devices.*model\.apply"):
        jax.jit(lambda x: jd.predict(MODEL, PARAMS, STATE, x))(X)
    with pytest.raises(ValueError, match="an output for each row of x"):
        jd.predict(nn.lambda_(lambda x: x.sum(0)), {}, {}, ROWS)
    with pytest.raises(TypeError, match=r"model must be a jaxdeep\.nn\.Model"):
        jd.predict(nn.dense, {}, {}, ROWS)


def test_fitted_layers_see_times_as_they_are():
    times, scaler = 1.7e9 + np.arange(100.0)[:, None], jd.preprocessing.standard_scaler()
    layer = jd.preprocessing.fitted(scaler, scaler.fit(times))
    model = jd.nn.serial(scaler=layer, out=jd.nn.dense(1, kernel_init=jax.nn.initializers.ones))
    params, state = model.init(jax.random.key(0), times[:1])
    expected = (times - times.mean()) / times.std()
    found = jd.predict(model, params, state, times)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(jd.predict(model, params, state, times[7:9]), found[7:9])
    loss = jd.evaluate(model, params, state, (times, expected), loss=jd.losses.mse)["loss"]
    assert loss < 1e-10


def test_times_that_no_fitted_layer_would_tell_apart_are_refused(tmp_path):
    times, scaler = 1.7e9 + np.arange(100.0)[:, None], jd.preprocessing.standard_scaler()
    layer, key = jd.preprocessing.fitted(scaler, scaler.fit(times)), jax.random.key(0)
    model = jd.nn.serial(layer, jd.nn.dense(1))
    params, state = model.init(key, times[:1])
    expected = jd.predict(model, params, state, times)
    np.testing.assert_array_equal(jd.predict(model, params, state, times.tolist()), expected)
    np.save(tmp_path / "x.npy", times)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    inside = jd.nn.serial(body=model)
    for call in (
        lambda: jd.predict(model, params, state, mapped),
        lambda: jd.predict(model, params, state, iter([times])),
        lambda: jd.predict(inside, *inside.init(key, times[:1]), times),
        lambda: jd.evaluate(model, params, state, (mapped, expected), loss=jd.losses.mse),
        lambda: jd.evaluate(model, params, state, iter([(times, expected)]), loss=jd.losses.mse),
        lambda: jd.uncertainty.ensemble(model, [(params, state)], times, outputs="values"),
    ):
        with pytest.raises(ValueError, match="whose differences float32 cannot tell"):
            call()
