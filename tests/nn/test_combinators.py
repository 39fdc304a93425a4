"""Models made of models: structure, equal results of equal mathematics, stacked models."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (6, 8))


def close(a, b, **kwargs):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-6} | kwargs), a, b
    )


def layer():
    return jd.nn.serial(
        d=jd.nn.dense(8, activation=jax.nn.tanh), bn=jd.nn.batch_norm(), drop=jd.nn.dropout(0.3)
    )


# --- repeat ---------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("switches", [{}, {"train": True}, {"key": KEY}, {"train": True, "key": KEY}])
def test_repeat_equals_the_layers_one_after_another(switches):
    model = jd.nn.repeat(layer(), 5)
    params, state = model.init(KEY, X)
    y, new = model.apply(params, state, X, **switches)
    expected, states = X, []
    for i in range(5):
        p, s = jax.tree.map(lambda a, i=i: a[i], (params["layer"], state["layer"]))
        own = {"key": jax.random.fold_in(KEY, i)} if "key" in switches else {}
        expected, s = layer().apply(p, s, expected, **switches | own)
        states.append(s)
    close(y, expected)
    close(new["layer"], jax.tree.map(lambda *a: jnp.stack(a), *states))


@pytest.mark.heavy
def test_the_gradient_of_repeat_is_that_of_the_unrolled_network():
    model = jd.nn.repeat(jd.nn.dense(8, activation=jax.nn.selu), 4)
    params, state = model.init(KEY, X)
    rows = [jax.tree.map(lambda a, i=i: a[i], params["layer"]) for i in range(4)]
    unrolled = jd.nn.serial(*(jd.nn.dense(8, activation=jax.nn.selu) for _ in range(4)))
    names = list(unrolled.layers)
    found = jax.grad(lambda p: (model.apply(p, state, X)[0] ** 2).sum())(params)["layer"]
    expected = jax.grad(lambda p: (unrolled.apply(p, {}, X)[0] ** 2).sum())(dict(zip(names, rows)))
    close(found, jax.tree.map(lambda *a: jnp.stack(a), *(expected[n] for n in names)), rtol=1e-4)


def test_repeat_with_shared_parameters():
    model = jd.nn.repeat(jd.nn.dense(8, activation=jnp.tanh), 3, shared=True)
    params, state = model.init(KEY, X)
    expected = X
    for _ in range(3):
        expected = jnp.tanh(expected @ params["layer"]["kernel"] + params["layer"]["bias"])
    close(model.apply(params, state, X)[0], expected)


@pytest.mark.heavy
@pytest.mark.parametrize("depth", [100, 1000])
def test_selu_networks_of_any_depth_normalise_themselves(depth):
    x = jax.random.normal(jax.random.key(3), (500, 100))
    dense = jd.nn.dense(100, activation=jax.nn.selu, kernel_init=jd.nn.initializers.lecun_normal())
    model = jd.nn.repeat(dense, depth)
    params, state = model.init(KEY, x)
    y = model.apply(params, state, x)[0]
    assert abs(float(y.mean())) < 0.1
    assert abs(float(y.std()) - 1) < 0.2


@pytest.mark.heavy
def test_alpha_dropout_keeps_a_selu_network_normalised():
    x = jax.random.normal(jax.random.key(3), (500, 100))
    block = jd.nn.serial(d=jd.nn.dense(100, activation=jax.nn.selu), drop=jd.nn.alpha_dropout(0.1))
    model = jd.nn.repeat(block, 100)
    params, state = model.init(KEY, x)
    y = model.apply(params, state, x, key=KEY)[0]
    assert abs(float(y.mean())) < 0.1
    assert abs(float(y.std()) - 1) < 0.2


# --- several inputs and outputs -------------------------------------------------------------------


@pytest.mark.heavy
def test_wide_and_deep():
    deep = jd.nn.serial(jd.nn.select("deep"), jd.nn.dense(4, activation=jax.nn.relu))
    both = jd.nn.concatenate(wide=jd.nn.select("wide"), deep=deep)
    heads = jd.nn.parallel(main=jd.nn.dense(1), auxiliary=jd.nn.dense(2))
    model = jd.nn.serial(both=both, heads=heads)
    x = {"wide": X[:, :3], "deep": X[:, 3:]}
    params, state = model.init(KEY, x)
    y, _ = jax.jit(model.apply)(params, state, x)
    p = params["both"]["deep"]["dense0"]
    hidden = jnp.concatenate([x["wide"], jax.nn.relu(x["deep"] @ p["kernel"] + p["bias"])], axis=-1)
    for name, head in params["heads"].items():
        close(y[name], hidden @ head["kernel"] + head["bias"])
    assert isinstance(jd.nn.parallel(jd.nn.dense(1), jd.nn.dense(2)).apply, object)
    pair = jd.nn.parallel(jd.nn.dense(1), jd.nn.dense(2))
    params, state = pair.init(KEY, X)
    assert [a.shape for a in pair.apply(params, state, X)[0]] == [(6, 1), (6, 2)]


def test_residual_and_its_shortcut():
    inner, shortcut = jd.nn.dense(8), jd.nn.dense(8, use_bias=False)
    for model in (jd.nn.residual(inner), jd.nn.residual(inner, shortcut=shortcut)):
        params, state = model.init(KEY, X)
        p = params["layer"]
        around = X @ params["shortcut"]["kernel"] if "shortcut" in params else X
        close(model.apply(params, state, X)[0], X @ p["kernel"] + p["bias"] + around)


def test_shared_is_one_layer_on_every_input():
    model = jd.nn.shared(layer())
    a, b = X, X + 1
    params, state = model.init(KEY, (a, b))
    ys, new = model.apply(params, state, (a, b), train=True)
    first, s = layer().apply(params["layer"], state["layer"], a, train=True)
    second, s = layer().apply(params["layer"], s, b, train=True)
    close(ys, (first, second))
    close(new["layer"], s)
    params, state = model.init(KEY, {"a": a, "b": b})
    assert set(model.apply(params, state, {"a": a, "b": b})[0]) == {"a", "b"}


# --- mixed precision ------------------------------------------------------------------------------


@pytest.mark.heavy
def test_mixed_precision_computes_low_and_keeps_high():
    seen = []
    probe = jd.nn.lambda_(lambda x: (seen.append(x.dtype), x)[1])
    model = jd.nn.mixed_precision(jd.nn.serial(d=jd.nn.dense(8), bn=jd.nn.batch_norm(), probe=probe))
    params, state = model.init(KEY, X)
    y, new = model.apply(params, state, X, train=True)
    assert seen[-1] == jnp.bfloat16
    assert y.dtype == jnp.float32
    assert {a.dtype for a in jax.tree.leaves((params, state, new))} == {jnp.dtype("float32")}
    grads = jax.grad(lambda p: model.apply(p, state, X)[0].sum())(params)
    assert {a.dtype for a in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    plain = jd.nn.serial(d=jd.nn.dense(8), bn=jd.nn.batch_norm(), probe=jd.nn.lambda_(lambda x: x))
    close(y, plain.apply(params, state, X, train=True)[0], atol=0.1, rtol=0.05)
    assert "dense" in jd.nn.summary(model, X[:1])


# --- stacked models -------------------------------------------------------------------------------


@pytest.mark.heavy
def test_sixteen_stacked_models_train_like_sixteen_separate_ones():
    model = jd.nn.serial(
        jd.nn.dense(7, activation=jax.nn.relu),
        jd.nn.batch_norm(),
        jd.nn.residual(jd.nn.dense(7)),
        jd.nn.dropout(0.2),
        jd.nn.dense(3),
    )
    optimizer = jd.optimizers.sgd(0.1, momentum=0.9)
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    step = jd.train.make_step(objective, optimizer)
    y = jnp.arange(6) % 3

    def train(key):
        ts = jd.train.init(model, optimizer, X, key=key)
        for _ in range(3):
            ts, metrics = step(ts, (X, y))
        return ts.params, ts.state, metrics

    keys = jax.random.split(KEY, 16)
    found = jax.jit(jax.vmap(train))(keys)
    alone = jax.jit(train)
    for i in (0, 7, 15):
        close(jax.tree.map(lambda a, i=i: a[i], found), alone(keys[i]), rtol=1e-3, atol=1e-5)


# --- the chapter's networks -----------------------------------------------------------------------


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.heavy
def test_the_chapters_counts():
    """Weights of the textbook's networks, with and without batch norm, and with learned slopes."""
    images = jax.ShapeDtypeStruct((1, 28, 28), jnp.float32)
    relu = jax.nn.relu
    with_bn = jd.nn.serial(
        jd.nn.flatten(),
        jd.nn.batch_norm(),
        jd.nn.dense(300, activation=relu),
        jd.nn.batch_norm(),
        jd.nn.dense(100, activation=relu),
        jd.nn.batch_norm(),
        jd.nn.dense(10),
    )
    params, state = with_bn.init(KEY, images)
    norms = [count(params[n]) + count(state[n]) for n in ("batch_norm0", "batch_norm1", "batch_norm2")]
    assert (count(params), count(state), norms) == (268_978, 2_368, [3_136, 1_200, 400])
    table = jd.nn.summary(with_bn, images)
    assert "268,978" in table
    assert "2,368" in table
    plain = jd.nn.serial(
        jd.nn.flatten(),
        jd.nn.dense(300, activation=relu),
        jd.nn.dense(100, activation=relu),
        jd.nn.dense(10),
    )
    assert count(plain.init(KEY, images)[0]) == 266_610
    rows = jax.ShapeDtypeStruct((1, 11), jnp.float32)
    sizes = (30, 15, 5)
    small = jd.nn.serial(*(jd.nn.dense(n, activation=relu) for n in sizes), jd.nn.dense(1))
    assert count(small.init(KEY, rows)[0]) == 911
    learned = jd.nn.serial(
        *(part for n in sizes for part in (jd.nn.dense(n), jd.nn.prelu())), jd.nn.dense(1)
    )
    assert count(learned.init(KEY, rows)[0]) == 961


def test_summary_of_every_combinator():
    model = jd.nn.serial(
        a=jd.nn.residual(jd.nn.dense(8)),
        b=jd.nn.repeat(jd.nn.dense(8), 10),
        c=jd.nn.concatenate(jd.nn.dense(2), jd.nn.dense(3)),
        d=jd.nn.parallel(main=jd.nn.dense(1), other=jd.nn.dense(4)),
    )
    table = jd.nn.summary(model, X[:1])
    for text in ("a/layer", "b/layer", "dense × 10", "720", "c/dense1", "d/main", "d/other", "(1, 4)"):
        assert text in table


def test_summary_of_layers_in_a_repeated_network():
    block = jd.nn.serial(one=jd.nn.dense(8), two=jd.nn.dense(8, use_bias=False))
    table = jd.nn.summary(jd.nn.repeat(block, 10), X[:1])
    rows = [row for row in table.splitlines() if "dense × 10" in row]
    assert [text in row for text, row in zip(("layer/one", "layer/two"), rows)] == [True, True]
    assert [text in row for text, row in zip(("720", "640"), rows)] == [True, True]


def test_names_by_position_never_meet():
    odd = jd.nn.Model(lambda key, x: ({}, {}), lambda p, s, x, **_: (x, s), kind="dense1")
    model = jd.nn.serial(odd, *(jd.nn.dense(2) for _ in range(11)))
    assert len(model.layers) == 12
    assert list(model.layers)[:2] == ["dense10", "dense0"]


@pytest.mark.heavy
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int32])
def test_repeat_of_inputs_narrower_than_its_parameters(dtype, shared):
    model = jd.nn.repeat(jd.nn.dense(8), 3, shared=shared)
    params, state = model.init(KEY, X)
    x = (10 * X).astype(dtype)
    y, _ = model.apply(params, state, x)
    assert y.dtype == jnp.float32
    close(y, model.apply(params, state, x.astype(jnp.float32))[0])


@pytest.mark.heavy
def test_repeat_inside_shard_map_equals_the_whole_batch():
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jax.random.normal(KEY, (16, 8))
    block = jd.nn.serial(jd.nn.dense(8), jd.nn.batch_norm(axis_name="rows"), jd.nn.dropout(0.1))
    whole = jd.nn.serial(jd.nn.dense(8), jd.nn.batch_norm(), jd.nn.dropout(0.1))
    params, state = jd.nn.repeat(block, 3).init(KEY, x)
    spec = jax.sharding.PartitionSpec
    split = jax.shard_map(
        lambda p, s, x: jd.nn.repeat(block, 3).apply(p, s, x, train=True),
        mesh=mesh,
        in_specs=(spec(), spec(), spec("rows")),
        out_specs=(spec("rows"), spec()),
    )
    close(split(params, state, x), jd.nn.repeat(whole, 3).apply(params, state, x, train=True))


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jd.nn.repeat(jd.nn.dense(3), 0), "times must be at least 1"),
        (lambda: jd.nn.repeat(jd.nn.dense, 3), "repeat layer layer must be a Model, got .*; call it"),
        (lambda: jd.nn.repeat(jd.nn.dense(3), 2).init(KEY, X), "repeat needs an output like the input"),
        (lambda: jd.nn.residual(jd.nn.dense(3)).init(KEY, X), "residual adds outputs of the same shape"),
        (lambda: jd.nn.residual(3), "residual layer layer must be a Model, got 3"),
        (lambda: jd.nn.parallel(jd.nn.dense(1), b=jd.nn.dense(1)), "either by position or by name"),
        (jd.nn.concatenate, "concatenate needs at least one branch"),
        (lambda: jd.nn.concatenate(jd.nn.dense(1), axis="x"), "axis must be a whole number, got 'x'"),
        (
            lambda: jd.nn.concatenate(a=jd.nn.dense(2), b=jd.nn.lambda_(jnp.sum)).init(KEY, X),
            r"differ along axis -1 only, got shapes \{'a': \(6, 2\), 'b': \(\)\}",
        ),
        (lambda: jd.nn.serial(**{"": jd.nn.dense(1)}), "name must not be empty"),
        (
            lambda: jd.nn.mixed_precision(jd.nn.dense(1), None),
            "must be a floating-point dtype, got None",
        ),
        (lambda: jd.nn.concatenate(a=3), "concatenate layer a must be a Model"),
        (lambda: jd.nn.select("x").apply({}, {}, {"y": 1}), r"select\('x'\): the inputs are \['y'\]"),
        (lambda: jd.nn.select(3).apply({}, {}, (1, 2)), "the inputs are 2 of them"),
        (lambda: jd.nn.shared(jd.nn.dense(3)).init(KEY, X), "needs a tuple, list or dict of inputs"),
        (lambda: jd.nn.lambda_("relu"), "function must be a function of the input"),
        (lambda: jd.nn.mixed_precision(jd.nn.dense(3), "int8"), "compute_dtype must be a floating"),
        (
            lambda: jd.nn.serial(a=jd.nn.repeat(jd.nn.serial(c=jd.nn.conv(3, 3)), 2)).init(KEY, X),
            "a/layer/c: ",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.heavy
def test_a_reconstruction_penalty_through_an_objective_of_your_own():
    """A loss on what is inside: the hidden layer has to tell the input again."""
    hidden = jd.nn.dense(5, activation=jax.nn.relu)
    heads = jd.nn.parallel(logits=jd.nn.dense(3), again=jd.nn.dense(8))
    model = jd.nn.serial(hidden=hidden, heads=heads)
    loss = jd.losses.weighted(
        {"logits": jd.losses.softmax_cross_entropy, "again": jd.losses.mse}, {"logits": 1, "again": 0.1}
    )
    objective = jd.train.supervised(model, loss)
    optimizer = jd.optimizers.adam(1e-2)
    ts = jd.train.init(model, optimizer, X, key=KEY)
    step = jax.jit(jd.train.make_step(objective, optimizer))
    batch = (X, {"logits": jnp.arange(6) % 3, "again": X})
    losses = []
    for _ in range(100):
        ts, metrics = step(ts, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    point, _ = model.apply(ts.params, ts.state, X)
    expected = (
        optax.losses.softmax_cross_entropy_with_integer_labels(
            point["logits"], batch[1]["logits"]
        ).mean()
        + 0.1 * ((point["again"] - X) ** 2).mean()
    )
    value, _ = objective(ts.params, ts.state, batch)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def kernel_of(model, x, name):
    params, _ = model.init(jax.random.key(0), x)
    return params[name]["kernel"]


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda **own: jd.nn.dense(6, **own), (5, 4)),
        (lambda **own: jd.nn.conv(6, 3, **own), (5, 8, 8, 4)),
    ],
)
def test_a_kernel_in_front_of_a_batch_norm_suits_the_activation_behind_it(layer, shape):
    x, init = jnp.ones(shape), jd.nn.initializers
    relu, selu = jd.nn.activation(jax.nn.relu), jd.nn.activation(jax.nn.selu)
    for bend, make in (
        (relu, init.he_normal),
        (selu, init.lecun_normal),
        (jd.nn.prelu(), init.he_normal),
    ):
        found = kernel_of(jd.nn.serial(a=layer(), bn=jd.nn.batch_norm(), act=bend), x, "a")
        expected = kernel_of(
            jd.nn.serial(a=layer(kernel_init=make()), bn=jd.nn.batch_norm(), act=bend), x, "a"
        )
        np.testing.assert_array_equal(found, expected)


def test_other_kernels_are_drawn_as_ever():
    x, glorot = jnp.ones((5, 4)), jd.nn.initializers.glorot_uniform()
    dense, bn, relu = jd.nn.dense, jd.nn.batch_norm(), jd.nn.activation(jax.nn.relu)
    zeros = jd.nn.initializers.zeros
    for layers, make in (
        ({"a": dense(6), "act": relu}, glorot),  # no batch norm in between
        ({"a": dense(6), "bn": bn}, glorot),
        ({"a": dense(6), "bn": bn, "b": dense(2, activation=jax.nn.relu)}, glorot),
        ({"a": dense(6), "bn": bn, "tanh": jd.nn.activation(jnp.tanh)}, glorot),
        ({"a": dense(6, kernel_init=zeros), "bn": bn, "act": relu}, zeros),
    ):
        key = jax.random.fold_in(jax.random.key(0), 0)
        np.testing.assert_array_equal(
            kernel_of(jd.nn.serial(**layers), x, "a"), make(key, (4, 6), jnp.float32)
        )
    own = dataclasses.replace(
        dense(6), init=lambda key, x: ({"kernel": jnp.ones((4, 6)), "bias": jnp.zeros(6)}, {})
    )
    np.testing.assert_array_equal(
        kernel_of(jd.nn.serial(a=own, bn=bn, act=relu), x, "a"), jnp.ones((4, 6))
    )


@pytest.mark.parametrize("run", [lambda f: f, jax.jit, jax.vmap])
def test_sums_of_whole_numbers_do_not_wrap(run):
    same = jd.nn.activation(lambda v: v)
    add = run(lambda x: jd.nn.residual(same).apply({}, {}, x)[0])
    pixels = jnp.array([[200], [255]], jnp.uint8)
    np.testing.assert_array_equal(add(pixels), [[400.0], [510.0]])
    np.testing.assert_array_equal(add(jnp.array([[True]])), [[2.0]])
    np.testing.assert_array_equal(add(jnp.array([[2**31 - 1]])), [[2.0**32]])
    beside = jd.nn.residual(same, shortcut=jd.nn.activation(lambda v: v.astype(jnp.int8) * 0 + 100))
    np.testing.assert_array_equal(run(lambda x: beside.apply({}, {}, x)[0])(pixels), [[300.0], [355.0]])
    half = jnp.array([[0.5]], jnp.bfloat16)
    assert add(half).dtype == jnp.bfloat16


def test_signed_and_unsigned_numbers_beside_each_other():
    both = jd.nn.concatenate(
        jd.nn.activation(lambda v: -v.astype(jnp.int32)), jd.nn.activation(lambda v: v)
    )
    found = both.apply({}, {}, jnp.array([[2**31 - 2**10, 2**31 + 2**10]], jnp.uint32))[0]
    assert float(found[0, 3]) == 2**31 + 2**10
    small = both.apply({}, {}, jnp.array([[3]], jnp.uint8))[0]
    assert small.dtype == jnp.int32


NEUTRAL = {
    "batch_norm": jd.nn.batch_norm,
    "layer_norm": jd.nn.layer_norm,
    "group_norm": lambda: jd.nn.group_norm(2),
    "dropout": lambda: jd.nn.dropout(0.1),
    "alpha_dropout": lambda: jd.nn.alpha_dropout(0.1),
    "gaussian_noise": lambda: jd.nn.gaussian_noise(0.1),
    "flatten": jd.nn.flatten,
    "reshape": lambda: jd.nn.reshape(-1),
}
OF_IMAGES = {
    "max_pool": lambda: jd.nn.max_pool(2),
    "average_pool": lambda: jd.nn.average_pool(2),
    "global_average_pool": jd.nn.global_average_pool,
    "global_max_pool": jd.nn.global_max_pool,
    "resize": lambda: jd.nn.resize(8, 8),
}


def drawn_with(model, shape):
    """The first kernel of a model."""
    params, _ = model.init(jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    return next(leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1)


def assert_he(model, shape):
    """Its standard deviation is He's √(2 / fan in), not Glorot's √(1 / n)."""
    kernel = drawn_with(model, shape)
    fan_in = kernel.size // kernel.shape[-1]
    assert abs(float(kernel.std()) * (fan_in / 2) ** 0.5 - 1) < 0.1


RELU = jd.nn.activation(jax.nn.relu)


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_kernel_suits_the_activation_behind_what_is_neither_weights_nor_activation(name):
    between = NEUTRAL[name]()
    assert_he(jd.nn.serial(jd.nn.dense(64), between, RELU), (1, 64))
    assert_he(jd.nn.serial(jd.nn.dense(64), jd.nn.batch_norm(), between, RELU), (1, 64))


@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_kernel_of_a_convolution_suits_the_activation_behind_a_pool(name):
    assert_he(jd.nn.serial(jd.nn.conv(64, 3), OF_IMAGES[name](), RELU), (1, 8, 8, 16))


@pytest.mark.heavy
@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(cuts=st.lists(st.integers(0, 5), max_size=4), low=st.booleans())
def test_it_makes_no_difference_in_which_serial_the_layers_are(cuts, low):
    layers = [jd.nn.dense(64), jd.nn.batch_norm(), jd.nn.dropout(0.1), jd.nn.serial(), RELU]
    for cut in cuts:
        head = jd.nn.serial(*layers[:cut])
        layers = [jd.nn.mixed_precision(head) if low else head, *layers[cut:]]
    assert_he(jd.nn.serial(*layers), (1, 64))


def test_a_branch_is_not_looked_into_or_out_of():
    dense, norm = jd.nn.dense(64), jd.nn.batch_norm()
    own = jd.nn.Model(lambda key, x: ({}, {}), lambda params, state, x, **_: (x, state))
    for model in (
        jd.nn.serial(jd.nn.residual(jd.nn.serial(dense, norm)), RELU),
        jd.nn.serial(dense, norm, jd.nn.residual(RELU)),
        jd.nn.serial(jd.nn.concatenate(dense), norm, RELU),
        jd.nn.serial(dense, norm, jd.nn.lambda_(jnp.sin), RELU),
        jd.nn.serial(dense, norm, own, RELU),
        jd.nn.serial(dense, norm, jd.nn.dense(64), norm, RELU),
    ):
        assert abs(float(drawn_with(model, (1, 64)).std()) * 64**0.5 - 1) < 0.1
    inside = jd.nn.residual(jd.nn.serial(dense, norm, RELU, dense))
    assert_he(inside, (1, 64))


def test_a_serial_with_an_init_of_its_own_keeps_it():
    def ones(key, x):
        return {"dense0": {"kernel": jnp.ones((4, 6)), "bias": jnp.zeros(6)}}, {}

    own = dataclasses.replace(jd.nn.serial(jd.nn.dense(6)), init=ones)
    model = jd.nn.serial(own, jd.nn.layer_norm(), RELU)
    np.testing.assert_array_equal(drawn_with(model, (1, 4)), jnp.ones((4, 6)))


def test_mixed_precision_begins_in_float32_whatever_the_inputs_are_kept_in():
    model = jd.nn.mixed_precision(jd.nn.serial(jd.nn.dense(4), jd.nn.batch_norm(), jd.nn.dense(2)))
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32, jnp.int32):
        x = jnp.ones((3, 5), dtype)
        for inputs in (x, jax.ShapeDtypeStruct(x.shape, dtype)):
            variables = jax.eval_shape(model.init, KEY, inputs)
            assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        params, state = model.init(KEY, x)
        assert model.apply(params, state, x)[0].dtype == (jnp.float32 if dtype == jnp.int32 else dtype)
