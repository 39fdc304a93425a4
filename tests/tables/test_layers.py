"""The first layer of a network on a table: what each column becomes, in every dtype, and trained."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep._compat import enable_x64
from jaxdeep.tables import layers

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
N = 60
CITIES = ["Rome", "Oslo", "Bonn"]
TABLE = {
    "age": [None if i % 7 == 0 else float(v) for i, v in enumerate(RNG.normal(40, 10, N))],
    "city": [None if i % 9 == 0 else CITIES[i % 3] for i in range(N)],
    "street": [f"street {i % 20}" for i in range(N)],
    "pay": RNG.lognormal(size=N).tolist(),
    "member": [None if i % 11 == 0 else i % 2 == 0 for i in range(N)],
    "day": [f"2020-0{1 + i % 9}-11" for i in range(N)],
    "sex": ["m" if i % 2 else "f" for i in range(N)],
}
COLUMNS = jd.tables.fit(TABLE)
INPUTS = COLUMNS.encode_inputs(TABLE)


def matrix(columns, inputs, **options):
    layer = columns.layer(**options)

    @jax.jit
    def run(inputs):
        params, state = layer.init(KEY, inputs)
        return layer.apply(params, state, inputs), state

    (y, same), state = run(inputs)
    assert y.shape == (len(inputs["codes"]), layer.traits.features)
    chex.assert_trees_all_equal(same, state)
    return dict(
        zip(
            columns.output_names(**{k: v for k, v in options.items() if k != "embedding_init"}),
            np.asarray(y).T,
        )
    )


def robust(x):
    lower, median, upper = np.nanpercentile(x, [25, 50, 75])
    return np.where(np.isnan(x), 0, (x - median) / (upper - lower))


def clipped(z):
    return z / np.sqrt(1 + (z / 3) ** 2)


def test_what_each_column_becomes():
    found = matrix(COLUMNS, INPUTS)
    names = [name.split("[")[0] for name in found]
    assert list(dict.fromkeys(names)) == [
        "age", "age=missing", "city=Bonn", "city=Oslo", "city=Rome", "city=missing", "street", "pay",
        "member=True", "member=missing", "day_elapsed", "day_year_sin", "day_year_cos", "day_week_sin",
        "day_week_cos", "sex=m",
    ]  # fmt: skip
    age = np.array(TABLE["age"], float)
    np.testing.assert_allclose(found["age"], clipped(robust(age)), atol=1e-6)
    np.testing.assert_array_equal(found["age=missing"], np.isnan(age))
    np.testing.assert_allclose(
        found["pay"], clipped(robust(np.array(TABLE["pay"]))), rtol=1e-5, atol=1e-6
    )
    for city in CITIES:
        np.testing.assert_array_equal(found[f"city={city}"], [value == city for value in TABLE["city"]])
    np.testing.assert_array_equal(found["city=missing"], [value is None for value in TABLE["city"]])
    signs = {True: 1, False: -1, None: 0}
    np.testing.assert_array_equal(found["member=True"], [signs[value] for value in TABLE["member"]])
    np.testing.assert_array_equal(found["sex=m"], [1 if value == "m" else -1 for value in TABLE["sex"]])
    assert sum(name.startswith("street[") for name in found) == 8
    assert np.isfinite(list(found.values())).all()


def test_scaling_as_scikit_learn_does():
    sk = pytest.importorskip("sklearn.preprocessing")
    x = np.array(TABLE["pay"])[:, None]
    for scaling, scaler in (("standard", sk.StandardScaler()), ("robust", sk.RobustScaler())):
        found = matrix(COLUMNS, INPUTS, scaling=scaling, clip=False)
        np.testing.assert_allclose(found["pay"], scaler.fit_transform(x)[:, 0], rtol=1e-5, atol=1e-6)
    found = matrix(COLUMNS, INPUTS, scaling=None, clip=False)
    np.testing.assert_allclose(found["pay"], x[:, 0] - np.median(x), rtol=1e-5, atol=1e-6)


def test_one_hot_as_scikit_learn_does():
    sk = pytest.importorskip("sklearn.preprocessing")
    columns = jd.tables.fit({"street": TABLE["street"]})
    found = matrix(columns, columns.encode_inputs(TABLE), one_hot=20)
    expected = sk.OneHotEncoder(sparse_output=False).fit_transform(np.array(TABLE["street"])[:, None])
    np.testing.assert_array_equal(np.stack(list(found.values()), 1), expected)


def test_constant_and_empty_columns_are_constant_and_finite():
    table = {"c": [14.62] * 5, "e": [None] * 5, "one": [None, None, 3.5, None, None], "w": ["x"] * 5}
    columns = jd.tables.fit(table)
    inputs = columns.encode_inputs(
        {**table, "c": [14.62, 1e9, -1e9, None, 0.0], "e": [1, "a", None, 2, 3]}
    )
    for scaling in ("robust", "standard"):
        found = matrix(columns, inputs, scaling=scaling)
        for name in ("c", "e", "one"):
            np.testing.assert_array_equal(found[name], 0)
        np.testing.assert_array_equal(found["w=x"], 1)
    assert list(found) == list(matrix(columns, columns.encode_inputs({name: [None] for name in table})))
    half = jd.tables.fit({"x": [0.0] * 90 + [10.0] * 10})  # quartiles of no distance
    assert matrix(half, half.encode_inputs({"x": [0.0, 10.0]}), clip=False)["x"].tolist() == [0.0, 2.0]


@pytest.mark.heavy
def test_unknown_and_missing_cells_have_vectors_of_their_own():
    layer = COLUMNS.layer(embedding=4, embedding_init=jd.nn.initializers.normal(1.0))
    params, state = layer.init(KEY, INPUTS)
    table = params["street"]
    assert table.shape == (22, 4)
    np.testing.assert_array_equal(table[:2], 0)  # none was there
    assert (np.abs(table[2:]).max(axis=1) > 0).all()
    inputs = COLUMNS.encode_inputs(
        {**{name: [None] * 3 for name in TABLE}, "street": ["street 3", None, "?!"]}
    )
    params = {"street": jnp.arange(88.0).reshape(22, 4)}
    y, _ = layer.apply(params, state, inputs)
    place = COLUMNS.output_names(embedding=4).index("street[0]")
    code = inputs["codes"][0, 1]
    assert y[:, place].tolist() == [4.0 * code, 0.0, 4.0]


def test_embeddings_learn_and_statistics_do_not():
    layer = COLUMNS.layer()
    params, state = layer.init(KEY, INPUTS)
    grads = jax.jit(jax.grad(lambda p: layer.apply(p, state, INPUTS, train=True, key=KEY)[0].sum()))(
        params
    )
    counts = np.bincount(INPUTS["codes"][:, 1], minlength=22)
    np.testing.assert_allclose(grads["street"], np.repeat(counts[:, None], 8, 1))
    assert set(state) == {"shift", "scale"}


def test_encodings_may_be_chosen_by_column():
    options = {"encodings": {"street": "one_hot", "city": "embedding", "sex": "one_hot", "age": "drop"}}
    found = matrix(COLUMNS, INPUTS, **options)
    assert "sex=f" in found
    assert "age" not in found
    assert "street=street 3" in found
    assert "city[7]" in found
    assert not any(name.endswith("missing") for name in matrix(COLUMNS, INPUTS, indicators=False))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scaling": "minmax"}, "scaling must be 'robust', 'standard' or None"),
        ({"clip": 3}, "clip must be True or False"),
        ({"one_hot": -1}, "one_hot must be at least 0"),
        ({"embedding": 0}, "embedding must be at least 1"),
        ({"encodings": {"town": "drop"}}, "encodings names a column 'town'"),
        ({"encodings": {"street": "mean"}}, r"encodings\['street'\] must be 'one_hot' or 'embedding'"),
        ({"encodings": {"street": "target"}}, r"fitted with target_encoding=\['street'\]"),
        (
            {"encodings": {"age": "one_hot"}},
            r"encodings\['age'\] must be 'drop' for a column of the kind number",
        ),
        ({"encodings": "drop"}, "encodings must be a dict"),
        ({"encodings": dict.fromkeys(TABLE, "drop")}, "no column that the layer puts anything out for"),
        ({"embedding_init": 3}, "embedding_init must be a function"),
        ({"widths": 3}, "unexpected keyword argument 'widths'"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        COLUMNS.layer(**options)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (INPUTS["numbers"], "x must be"),
        ({"numbers": INPUTS["numbers"]}, "x must be"),
        (TABLE, "encode_inputs"),
        (INPUTS | {"numbers": INPUTS["numbers"][:, :2]}, r"x\['numbers'\] must have shape \(n, 7\)"),
        (INPUTS | {"codes": INPUTS["codes"][:5]}, "as many rows of numbers as of codes"),
        (INPUTS | {"codes": INPUTS["codes"] + 50}, "must be the codes of levels"),
        (INPUTS | {"codes": INPUTS["codes"] - 3}, "must be the codes of levels"),
        (INPUTS | {"codes": INPUTS["codes"].astype(np.float32)}, r"x\['codes'\] must be integers"),
        (INPUTS | {"numbers": INPUTS["codes"][:, [0] * 7]}, r"x\['numbers'\] must be floats"),
    ],
)
def test_inputs_are_checked(x, words):
    layer = COLUMNS.layer()
    params, state = layer.init(KEY, INPUTS)
    with pytest.raises((ValueError, TypeError), match=words):
        layer.apply(params, state, x)


def test_parameters_and_state_are_checked():
    layer = COLUMNS.layer()
    params, state = layer.init(KEY, INPUTS)
    with pytest.raises(ValueError, match="params: street has shape"):
        layer.apply({"street": params["street"][:, :1]}, state, INPUTS)
    with pytest.raises(ValueError, match="state: scale has shape"):
        layer.apply(params, state | {"scale": jnp.ones(1)}, INPUTS)
    with pytest.raises(ValueError, match="lack 'street'"):
        layer.apply({}, state, INPUTS)
    with pytest.raises(TypeError, match=r"made by jaxdeep.tables.fit"):
        layers.columns({"age": 3})


def test_traced_codes_of_no_level_are_unknown():
    layer = COLUMNS.layer()
    params, state = layer.init(KEY, INPUTS)
    apply = jax.jit(lambda x: layer.apply(params, state, x)[0])
    codes = INPUTS["codes"]
    for odd in (-1, 1000):
        found = apply(INPUTS | {"codes": np.full_like(codes, odd)})
        np.testing.assert_array_equal(found, apply(INPUTS | {"codes": np.ones_like(codes)}))


def test_dtypes_are_kept():
    layer = COLUMNS.layer()
    exact, _ = layer.apply(*layer.init(KEY, INPUTS), INPUTS)
    for dtype, tolerance in ((jnp.bfloat16, 2e-2), (jnp.float16, 5e-3)):
        x = {
            "numbers": jnp.asarray(INPUTS["numbers"]).astype(dtype),
            "codes": jnp.asarray(INPUTS["codes"]),
        }
        params, state = jax.jit(layer.init)(KEY, x)
        y, _ = jax.jit(layer.apply)(params, state, x)
        assert y.dtype == params["street"].dtype == dtype
        assert state["scale"].dtype == jnp.float32
        keep = [
            i for i, name in enumerate(COLUMNS.output_names()) if name in ("age", "city=Rome", "sex=m")
        ]
        np.testing.assert_allclose(y[:, keep].astype(jnp.float32), exact[:, keep], atol=tolerance)
    with enable_x64(True):
        x = INPUTS | {"numbers": INPUTS["numbers"].astype(np.float64)}
        params, state = jax.eval_shape(layer.init, jax.random.key(0), x)
        y, _ = jax.eval_shape(layer.apply, params, state, x)
        assert y.dtype == params["street"].dtype == state["scale"].dtype == jnp.float64


@pytest.mark.heavy
def test_stacked_models_are_each_of_them_and_nothing_retraces():
    layer = COLUMNS.layer()
    keys = jax.random.split(KEY, 3)
    params, state = jax.vmap(lambda key: layer.init(key, INPUTS))(keys)
    stacked = jax.vmap(lambda p, s: layer.apply(p, s, INPUTS)[0])(params, state)
    chex.clear_trace_counter()
    apply = jax.jit(chex.assert_max_traces(lambda p, s, x: layer.apply(p, s, x)[0], n=1))
    for i in range(3):
        own = jax.tree.map(lambda a, i=i: a[i], (params, state))
        np.testing.assert_allclose(apply(*own, INPUTS), stacked[i], rtol=1e-6, atol=1e-6)


@pytest.mark.heavy
def test_one_hot_columns_that_would_not_fit_are_refused_before_they_are_made():
    rows = 50_000
    with pytest.warns(UserWarning, match="looks like an id"):
        columns = jd.tables.fit({"x": [f"k{i}" for i in range(rows)]})
    with pytest.raises(
        ValueError, match=r"50,000 of them of 'x', would take 9.3 GiB for 50,000 rows.*embedding"
    ):
        columns.layer(one_hot=rows)
    layer = columns.layer()  # as an embedding it runs
    inputs = columns.encode_inputs({"x": ["k7", "k49999", "new"]})
    assert layer.apply(*layer.init(KEY, inputs), inputs)[0].shape == (3, 8)
    assert "looks like an id" in columns.summary()


def test_names_of_outputs_are_all_different():
    table = {
        "a": ["b_c", "x", "y"],
        "a_b": ["c", "x", "y"],
        "d=1": ["2", "b", "c"],
        "d": ["1=2", "2", "3"],
    }
    names = jd.tables.fit(table).output_names()
    assert len(set(names)) == len(names) == 12
    assert "a=b_c" in names
    assert "a_b=c" in names
    assert "d=1=2" in names
    assert "d=1=2 (2)" in names


@pytest.mark.heavy
def test_a_network_on_a_table_learns():
    y = [
        "yes" if city == "Oslo" and age is not None and age > 40 else "no"
        for city, age in zip(TABLE["city"], TABLE["age"])
    ]
    columns = jd.tables.fit({**TABLE, "y": y}, target="y")
    model = jd.nn.serial(
        columns=columns.layer(), hidden=jd.nn.dense(16, activation=jax.nn.relu), logits=jd.nn.dense(1)
    )
    inputs, targets = columns.encode({**TABLE, "y": y})
    result = jd.fit(
        model,
        (inputs, targets[:, None]),
        loss=jd.losses.sigmoid_cross_entropy,
        optimizer=jd.optimizers.adam(0.02),
        epochs=40,
        batch_size=20,
        key=KEY,
        progress=False,
    )
    logits, _ = model.apply(result.params, result.state, inputs)
    found = columns.labels((logits[:, 0] > 0).astype(int))
    assert (found == np.array(y)).mean() > 0.95
    state = model.init(KEY, inputs)[1]
    chex.assert_trees_all_equal(result.state, state)
    assert "columns" in jd.nn.summary(model, inputs)
    assert model.traits.encodes is None
    assert columns.layer().traits.encodes is columns
