"""Layers and models against recorded frameworks, closed forms and invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.nn import (
    Model,
    activation,
    batch_norm,
    dense,
    dropout,
    flatten,
    initializers,
    serial,
    summary,
)

KEY = jax.random.key(0)


def chapter(rate=0.2):
    return serial(
        flatten=flatten(),
        bn0=batch_norm(),
        hidden1=dense(300, kernel_init=initializers.he_normal()),
        bn1=batch_norm(),
        act1=activation(jax.nn.relu),
        drop1=dropout(rate),
        hidden2=dense(100, kernel_init=initializers.he_normal()),
        bn2=batch_norm(),
        act2=activation(jax.nn.relu),
        logits=dense(10),
    )


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# --- models -------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_the_chapters_batch_norm_network_has_the_chapters_counts():
    params, state = chapter().init(KEY, jax.ShapeDtypeStruct((1, 28, 28), jnp.float32))
    gamma_beta_mean_var = 2 * 784, 2 * 300, 2 * 100
    assert count(state) == sum(gamma_beta_mean_var)
    assert count(params) == 268_978
    assert count(state) == 2_368


def test_parameters_are_plain_nested_dicts_without_empty_entries():
    params, state = chapter().init(KEY, jnp.ones((1, 8, 8)))
    assert sorted(params) == ["bn0", "bn1", "bn2", "hidden1", "hidden2", "logits"]
    assert sorted(state) == ["bn0", "bn1", "bn2"]
    assert {type(v) for v in (params, params["bn1"], state["bn1"])} == {dict}
    assert jd.tree.leaf_paths(state)[0] == "bn0/mean"


@pytest.mark.heavy
def test_init_from_an_example_or_from_its_shape():
    x = np.ones((1, 8, 8), np.float32)
    a = chapter().init(KEY, x)
    b = chapter().init(KEY, jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert jax.tree.all(jax.tree.map(lambda u, v: bool((u == v).all()), a, b))


@pytest.mark.heavy
def test_the_two_switches():
    model = chapter(rate=0.5)
    x = jax.random.normal(jax.random.key(1), (16, 8, 8))
    params, state = model.init(KEY, x)

    def run(**switches):
        return model.apply(params, state, x, **switches)

    def same(a, b):
        return jax.tree.all(jax.tree.map(lambda u, v: bool((u == v).all()), a, b))

    quiet, after = run()
    assert same(after, state)
    assert same(run()[0], quiet)

    sample, after = run(key=KEY)  # MC dropout: random, statistics frozen
    assert same(after, state)
    assert not same(sample, quiet)
    assert same(run(key=KEY)[0], sample)
    assert not same(run(key=jax.random.key(5))[0], sample)

    batch, after = run(train=True)  # batch statistics without randomness
    assert not same(after, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert same(run(train=True)[0], batch)

    both, moved = run(train=True, key=KEY)
    assert not same(both, batch)
    assert same(moved["bn0"], after["bn0"])


def test_positions_are_named_by_kind_and_count():
    model = serial(flatten(), dense(3), batch_norm(), dense(3), batch_norm(), dense(1))
    assert list(model.layers) == ["flatten0", "dense0", "batch_norm0", "dense1", "batch_norm1", "dense2"]


@pytest.mark.heavy
def test_nested_serials_nest_their_parameters_and_paths():
    block = serial(dense(4), batch_norm())
    model = serial(block=block, head=dense(2))
    params, state = model.init(KEY, jnp.ones((2, 3)))
    assert jd.tree.leaf_paths(params)[:2] == ["block/batch_norm0/bias", "block/batch_norm0/scale"]
    y, new = model.apply(params, state, jnp.ones((2, 3)), train=True)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert y.shape == (2, 2)


@pytest.mark.heavy
def test_layers_get_different_keys():
    model = serial(a=dropout(0.5), b=dropout(0.5))
    y, _ = model.apply({}, {}, jnp.ones(4000), key=KEY)
    assert abs(float((y > 0).mean()) - 0.25) < 0.03


def test_a_pair_of_functions_is_a_model():
    scale = Model(
        lambda key, x: ({"by": jnp.array(2.0)}, {}),
        lambda params, state, x, *, train=False, key=None: (params["by"] * x, state),
    )
    model = serial(dense=dense(3), scale=scale)
    params, state = model.init(KEY, jnp.ones((1, 2)))
    assert float(params["scale"]["by"]) == 2.0
    assert model.apply(params, state, jnp.ones((1, 2)))[0].shape == (1, 3)
    assert serial(scale, scale).layers.keys() == {"model0", "model1"}


@pytest.mark.heavy
def test_jit_vmap_over_stacked_parameters_and_grad():
    model = chapter()
    x = jax.random.normal(jax.random.key(1), (4, 8, 8))
    keys = jax.random.split(KEY, 3)
    params, state = jax.vmap(lambda k: model.init(k, x))(keys)
    stacked, states = jax.jit(jax.vmap(lambda p, s, k: model.apply(p, s, x, train=True, key=k)))(
        params, state, keys
    )
    for i in range(3):
        take = lambda tree, i=i: jax.tree.map(lambda leaf: leaf[i], tree)  # noqa: E731
        one, after = model.apply(take(params), take(state), x, train=True, key=keys[i])
        np.testing.assert_allclose(stacked[i], one, atol=1e-5)
        np.testing.assert_allclose(states["bn1"]["var"][i], after["bn1"]["var"], rtol=1e-5)
    grads = jax.grad(lambda p: model.apply(p, take(state), x, train=True)[0].sum())(take(params))
    assert jax.tree.structure(grads) == jax.tree.structure(take(params))


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_dtype_of_the_input_is_kept(dtype):
    model = chapter()
    x = jnp.ones((4, 3, 3), dtype)
    params, state = model.init(KEY, x)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {dtype}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"float32"}  # statistics
    y, after = model.apply(params, state, x, train=True, key=KEY)
    assert y.dtype == dtype
    assert {leaf.dtype.name for leaf in jax.tree.leaves(after)} == {"float32"}


@pytest.mark.heavy
def test_float64_and_integers(x64):
    model = chapter()
    params, state = model.init(KEY, jnp.ones((4, 3, 3), jnp.float64))
    y, after = model.apply(params, state, jnp.ones((4, 3, 3), jnp.float64), train=True, key=KEY)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, after, y))} == {"float64"}
    params, state = model.init(KEY, jnp.ones((4, 3, 3), jnp.uint8))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float64"}


def test_combine_makes_the_model_again_with_layers_replaced():
    model = serial(a=dense(3), b=dense(2))
    other = model.combine({**model.layers, "b": dense(7)})
    assert other.init(KEY, jnp.ones((1, 4)))[0]["b"]["kernel"].shape == (3, 7)


def test_repr_reads_like_the_call():
    assert repr(dense(3, use_bias=False, activation=jax.nn.relu)) == (
        "dense(features=3, activation=relu, use_bias=False)"
    )
    assert repr(serial(a=dense(3), b=serial(dropout(0.5)))) == (
        "serial(\n    a=dense(features=3),\n    b=serial(\n"
        "        dropout0=dropout(rate=0.5),\n    ),\n)"
    )


# --- layers -------------------------------------------------------------------------------------


def test_dense_is_the_equation():
    layer = dense(2, activation=jnp.tanh)
    params = {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "bias": jnp.array([0.5, -0.5])}
    y, _ = layer.apply(params, {}, jnp.array([[0.1, 0.2]]))
    np.testing.assert_allclose(y, np.tanh([[0.1 + 0.6 + 0.5, 0.2 + 0.8 - 0.5]]), rtol=1e-6)
    assert layer.apply(params, {}, jnp.ones((5, 4, 2)))[0].shape == (5, 4, 2)
    assert layer.apply(params, {}, jnp.ones((0, 2)))[0].shape == (0, 2)


def test_flatten_keeps_rows_even_none():
    assert flatten().apply({}, {}, jnp.ones((0, 2, 3)))[0].shape == (0, 6)
    assert flatten().apply({}, {}, jnp.ones(5))[0].shape == (5, 1)


@pytest.mark.parametrize("case", ["dense", "conv_nhwc"])
@pytest.mark.parametrize("jit", [False, True])
def test_batch_norm_is_the_recorded_one(golden, case, jit):
    """Three training batches, running statistics and inference, as Keras and flax compute them."""
    row = golden["batch_norm"][case]
    layer = batch_norm(
        momentum=golden["batch_norm"]["momentum"], epsilon=golden["batch_norm"]["epsilon"]
    )
    batches = jnp.asarray(row["x"])
    _, state = layer.init(KEY, batches[0])
    params = {"scale": jnp.asarray(row["gamma"]), "bias": jnp.asarray(row["beta"])}
    train = lambda s, x: layer.apply(params, s, x, train=True)  # noqa: E731
    train = jax.jit(train) if jit else train
    for x, expected in zip(batches, row["train_y"]):
        y, state = train(state, x)
        np.testing.assert_allclose(y, expected, atol=2e-6)
    for peer in ("keras", "flax"):
        mean, var = row["biased running stats"][peer]
        np.testing.assert_allclose(state["mean"], mean, atol=1e-6)
        np.testing.assert_allclose(state["var"], var, atol=1e-6)
        y, same = layer.apply(params, state, batches[0])
        np.testing.assert_allclose(y, row["eval_y_on_x0"][peer], atol=2e-6)
        assert same is state


def test_batch_norm_of_each_pixel(golden):
    row = golden["batch_norm"]["axis=(1,2) kept, reduce batch+channel (flax)"]
    layer = batch_norm(axis=(1, 2), epsilon=golden["batch_norm"]["epsilon"])
    x = jnp.asarray(row["x"])
    params, state = layer.init(KEY, x)
    assert list(params["scale"].shape) == row["param_shape"]
    y, _ = layer.apply(params, state, x, train=True)
    np.testing.assert_allclose(y, row["y"], atol=1e-5)


def test_batch_norm_keeps_small_variances_on_large_means():
    x = jnp.array([[1e4 + 0.1], [1e4 + 0.2], [1e4 + 0.3]])
    layer = batch_norm(epsilon=0.0)
    params, state = layer.init(KEY, x)
    y, _ = layer.apply(params, state, x, train=True)
    exact = (np.asarray(x, np.float64) - np.mean(np.asarray(x, np.float64))) / np.std(
        np.asarray(x, np.float64)
    )
    # the sum, 30,000.6, is rounded to 2e-3, so the mean is off by 1.6e-2 standard deviations at most
    np.testing.assert_allclose(y, exact, atol=2e-2)


def test_batch_norm_edges():
    layer = batch_norm(use_scale=False, use_bias=False)
    params, state = layer.init(KEY, jnp.ones((1, 3)))
    assert params == {}
    y, after = layer.apply(params, state, 5 * jnp.ones((1, 3)), train=True)
    np.testing.assert_array_equal(y, 0)  # one row: variance 0
    np.testing.assert_array_equal(after["mean"], 0)  # and no mean to learn from
    assert layer.apply(params, state, jnp.ones((0, 3)))[0].shape == (0, 3)
    with pytest.raises(ValueError, match=r"no rows .* shape \(0, 3\)"):
        layer.apply(params, state, jnp.ones((0, 3)), train=True)


@pytest.mark.heavy
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_zeroes_the_right_share_and_keeps_the_mean(rate):
    n = 100_000
    y, _ = dropout(rate).apply({}, {}, jnp.ones(n), key=KEY)
    kept = float((y != 0).mean())
    assert abs(kept - (1 - rate)) <= 4 * np.sqrt(rate * (1 - rate) / n) + 2**-16
    if rate < 1:
        np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=2e-4)
    gradient = jax.grad(lambda x: dropout(rate).apply({}, {}, x, key=KEY)[0].sum())(jnp.ones(n))
    np.testing.assert_array_equal(gradient, y)


def test_dropout_is_the_identity_without_a_key_even_in_training():
    x = jnp.ones(5)
    assert dropout(0.5).apply({}, {}, x)[0] is x
    assert dropout(0.5).apply({}, {}, x, train=True)[0] is x


@pytest.mark.heavy
def test_dropout_of_a_traced_rate_and_the_same_under_jit_and_vmap():
    x = jnp.ones((8, 50))
    keys = jax.random.split(KEY, 4)
    run = lambda k, r: dropout(r).apply({}, {}, x, key=k)[0]  # noqa: E731
    rates = jnp.array([0.1, 0.2, 0.5, 0.9])
    together = jax.jit(jax.vmap(run))(keys, rates)
    for i in range(4):
        np.testing.assert_allclose(together[i], run(keys[i], float(rates[i])), rtol=1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "name", [f"{a}_{b}" for a in ("he", "glorot", "lecun") for b in ("normal", "uniform")]
)
def test_initialisers_have_their_variance_and_bounds(golden, name, x64):
    row = golden["initializers"]["dense"]
    shape = tuple(row["shape"])
    kernel = getattr(initializers, name)()(KEY, shape)
    np.testing.assert_allclose(np.ravel(kernel)[:3], row[name]["jax"]["first3 key(0)"], rtol=1e-5)
    wide = getattr(initializers, name)()(KEY, (1000, 500))
    fan = {"he": 2 / 1000, "glorot": 2 / 1500, "lecun": 1 / 1000}[name.split("_")[0]]
    assert abs(float(wide.var()) / fan - 1) < 0.02
    bound = np.sqrt(3 * fan) if name.endswith("uniform") else 2 * np.sqrt(fan) / 0.87962566
    assert float(abs(wide).max()) <= bound * 1.0001


def test_the_initialiser_follows_the_activation():
    def variance(function):
        params, _ = dense(500, activation=function).init(KEY, jnp.ones((1, 1000)))
        return float(params["kernel"].var())

    assert variance(jax.nn.relu) == pytest.approx(2 / 1000, rel=0.05)
    assert variance(jax.nn.selu) == pytest.approx(1 / 1000, rel=0.05)
    assert variance(None) == variance(jnp.tanh) == pytest.approx(2 / 1500, rel=0.05)


# --- errors -------------------------------------------------------------------------------------


def broken_input():
    model = serial(block=serial(dense(3)), logits=dense(2))
    params, state = model.init(KEY, jnp.ones((1, 4)))
    model.apply(params, state, jnp.ones((1, 5)))


def missing_parameters():
    model = serial(hidden=dense(3), logits=dense(2))
    params, state = model.init(KEY, jnp.ones((1, 4)))
    model.apply({"hidden": params["hidden"]}, state, jnp.ones((1, 4)))


def foreign_parameters():
    model = serial(hidden=dense(3))
    params, state = model.init(KEY, jnp.ones((1, 4)))
    model.apply({**params, "hiden": {}}, state, jnp.ones((1, 4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken_input, r"block/dense0: dense was initialised for 4 features, got .* \(1, 5\)"),
        (missing_parameters, "logits: the parameters or the state lack 'kernel'"),
        (foreign_parameters, "unknown layer 'hiden'; the layers are hidden"),
        (lambda: serial(dense, dense(2)), "layer 0 must be a Model, .*; call it"),
        (lambda: serial(a=3), "layer a must be a Model, got 3"),
        (lambda: serial(dense(2), b=dense(2)), "either by position or by name"),
        (lambda: serial(**{"a/b": dense(2)}), "a layer's name must not contain '/', got 'a/b'"),
        (lambda: batch_norm(axis="last"), "axis must be a whole number or a tuple of them, got 'last'"),
        (lambda: dense(0), "features must be at least 1, got 0"),
        (lambda: dense(2.5), "features must be a whole number, got 2.5"),
        (
            lambda: dense(2, activation="relu"),
            "activation must be a function such as jax.nn.relu, got 'relu'",
        ),
        (lambda: activation("relu"), "function must be a function such as jax.nn.relu, got 'relu'"),
        (lambda: dense(2).init(KEY, jnp.float32(1)), "got a scalar"),
        (lambda: dense(2).init(0, jnp.ones((1, 2))), "key must be a random key such as .* got 0"),
        (lambda: dropout(-0.1), r"rate must be in \[0, 1\], got -0.1"),
        (lambda: dropout(1.5), r"rate must be in \[0, 1\], got 1.5"),
        (lambda: dropout("0.5"), "rate must be a number"),
        (
            lambda: dropout(0.5).apply({}, {}, jnp.ones(3), key=0.5),
            "key must be a random key .* got 0.5",
        ),
        (lambda: dropout(0.5).apply({}, {}, jnp.ones(3), key=jnp.ones(2)), "dtype float32 and shape"),
        (
            lambda: dropout(0.5).apply({}, {}, jnp.ones(3), key=jax.random.split(KEY, 3)),
            "single random key",
        ),
        (lambda: serial(dense(2)).apply({}, {}, jnp.ones(3), key=1.0), "key must be a random key"),
        (lambda: batch_norm(momentum=1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: batch_norm(epsilon=-1), r"epsilon must be in \[0, inf\), got -1"),
        (
            lambda: batch_norm(axis=3).init(KEY, jnp.ones((2, 3))),
            "axis must name different axes .* got 3",
        ),
        (lambda: serial(bn=batch_norm(axis=(1, -1))).init(KEY, jnp.ones((2, 3))), "bn: axis must name"),
    ],
)
def test_errors_name_the_layer_the_argument_and_what_is_allowed(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_batch_norm_input_of_another_width():
    layer = serial(bn=batch_norm())
    params, state = layer.init(KEY, jnp.ones((1, 4)))
    with pytest.raises(
        ValueError, match=r"bn: batch_norm was initialised for axes of \(4,\), got .* \(2, 5\)"
    ):
        layer.apply(params, state, jnp.ones((2, 5)))


def test_a_layer_error_survives_a_process_boundary():
    import pickle

    with pytest.raises(ValueError, match="block/dense0") as info:
        broken_input()
    again = pickle.loads(pickle.dumps(info.value))
    assert str(again) == str(info.value)
    assert again.path == "block/dense0"


# --- summary ------------------------------------------------------------------------------------


def test_summary_shows_every_layer_and_the_chapters_counts():
    table = summary(chapter(), jnp.ones((1, 28, 28)))
    for text in ("flatten", "(1, 784)", "235,500", "hidden1", "2,368"):
        assert text in table
    assert "268,978" in table.splitlines()[-2]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_summary_counts_what_is_trained():
    model = jd.nn.serial(hidden=jd.nn.dense(3), bn=jd.nn.batch_norm(), out=jd.nn.dense(2))
    rows = jd.nn.summary(model, jnp.ones((1, 2)), trainable="out/*").splitlines()
    counts = {row.split()[1]: [int(c) for c in row.split("│")[4:6]] for row in rows if "│" in row}
    assert counts == {"hidden": [0, 9], "bn": [0, 12], "out": [8, 0], "total": [8, 21]}
    with pytest.raises(ValueError, match=r"trainable='ou/\*' matches no leaf"):
        jd.nn.summary(model, jnp.ones((1, 2)), trainable="ou/*")


def test_summary_of_nested_and_foreign_models():
    foreign = Model(lambda key, x: ({"w": jnp.ones(3)}, {}), lambda p, s, x, **_: (x @ p["w"], s))
    table = summary(serial(body=serial(dense(3)), f=foreign), jnp.ones((2, 4)))
    assert "body/dense0" in table
    assert "model" in table
    assert "(2,)" in table
    assert "18" in table.splitlines()[-2]
    assert "total" in summary(foreign, jnp.ones((2, 3)))
