"""Layers against flax, closed forms and invariants."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.nn import initializers as init
from jaxdeep.nn.stochastic import random_words

KEY = jax.random.key(0)


def run(layer, x, **switches):
    params, state = layer.init(KEY, x)
    return layer.apply(params, state, x, **switches)[0]


# --- initialisers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "variance", "bound"),
    [
        (init.glorot_uniform(), 1 / 1250, (3 / 1250) ** 0.5),
        (init.glorot_normal(), 1 / 1250, 2 * (1 / 1250) ** 0.5 / 0.87962566),
        (init.he_uniform(), 2 / 2000, (6 / 2000) ** 0.5),
        (init.he_normal(), 2 / 2000, 2 * (2 / 2000) ** 0.5 / 0.87962566),
        (init.lecun_uniform(), 1 / 2000, (3 / 2000) ** 0.5),
        (init.lecun_normal(), 1 / 2000, 2 * (1 / 2000) ** 0.5 / 0.87962566),
        (init.variance_scaling(2, "fan_avg", "uniform"), 2 / 1250, (6 / 1250) ** 0.5),
        (init.variance_scaling(2, "fan_out", "normal"), 2 / 500, np.inf),
        (init.truncated_normal(0.05), (0.05 * 0.87962566) ** 2, 0.1),
        (init.normal(0.05), 0.05**2, np.inf),
    ],
)
def test_moments_and_bounds_of_initialisers_on_a_million_draws(make, variance, bound):
    w = np.asarray(make(KEY, (2000, 500)), np.float64)
    n = w.size
    assert abs(w.mean()) < 4 * (variance / n) ** 0.5
    kurtosis = ((w - w.mean()) ** 4).mean() / w.var() ** 2
    assert abs(w.var() - variance) < 4 * variance * ((kurtosis - 1) / n) ** 0.5
    assert np.abs(w).max() <= bound * (1 + 1e-6)


def test_orthogonal_identity_and_constant():
    q = init.orthogonal(2.0)(KEY, (7, 5))
    np.testing.assert_allclose(q.T @ q, 4 * np.eye(5), atol=1e-5)
    np.testing.assert_array_equal(init.identity()(KEY, (3, 3)), np.eye(3))
    np.testing.assert_array_equal(init.constant(0.3)(KEY, (2,)), np.full(2, 0.3, np.float32))
    assert init.identity()(KEY, (2, 2), jnp.bfloat16).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="identity makes matrices, got shape"):
        init.identity()(KEY, (3,))


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (None, "glorot_uniform"),
        (jnp.tanh, "glorot_uniform"),
        (jax.nn.relu, "he_normal"),
        (jax.nn.gelu, "he_normal"),
        (jd.nn.activations.swish, "he_normal"),
        (jax.tree_util.Partial(jax.nn.leaky_relu, negative_slope=0.2), "he_normal"),
        (jax.nn.selu, "lecun_normal"),
    ],
)
def test_a_dense_layer_takes_the_initialiser_of_its_activation(activation, name):
    params, _ = jd.nn.dense(50, activation=activation).init(KEY, jnp.ones((1, 40)))
    np.testing.assert_array_equal(params["kernel"], getattr(init, name)()(KEY, (40, 50), jnp.float32))


# --- activations ----------------------------------------------------------------------------------

Z = jnp.linspace(-5, 5, 101)


@pytest.mark.parametrize(
    ("function", "equation"),
    [
        ("sigmoid", lambda z: 1 / (1 + np.exp(-z))),
        ("tanh", np.tanh),
        ("softplus", lambda z: np.logaddexp(z, 0)),
        ("relu", lambda z: np.maximum(z, 0)),
        ("leaky_relu", lambda z: np.maximum(0.01 * z, z)),
        ("elu", lambda z: np.where(z > 0, z, np.expm1(z))),
        (
            "selu",
            lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(z)),
        ),
        ("silu", lambda z: z / (1 + np.exp(-z))),
        ("swish", lambda z: z / (1 + np.exp(-z))),
        ("mish", lambda z: z * np.tanh(np.logaddexp(z, 0))),
    ],
)
def test_activations_are_their_equations(function, equation):
    found = getattr(jd.nn.activations, function)(Z)
    np.testing.assert_allclose(found, equation(np.asarray(Z, np.float64)), rtol=2e-5, atol=1e-6)


def test_swish_with_a_beta_prelu_and_rrelu():
    z = np.asarray(Z, np.float64)
    found = jd.nn.activations.swish(Z, beta=1.702)
    np.testing.assert_allclose(found, z / (1 + np.exp(-1.702 * z)), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(jd.nn.activations.prelu(Z, 0.3), np.where(z >= 0, z, 0.3 * z), rtol=1e-6)
    np.testing.assert_allclose(run(jd.nn.rrelu(), Z), np.where(z >= 0, z, 11 / 48 * z), rtol=1e-6)
    x = -jnp.ones(100_000)
    slopes = -run(jd.nn.rrelu(), x, key=KEY)
    assert 1 / 8 <= slopes.min() < slopes.max() <= 1 / 3
    assert abs(float(slopes.mean()) - 11 / 48) < 4 * (5 / 24) / 12**0.5 / 100_000**0.5


def test_the_slope_of_prelu_and_the_beta_of_swish_are_trained():
    for layer, name, x in (
        (jd.nn.prelu(0.1), "alpha", -jnp.ones((2, 3))),
        (jd.nn.swish(0.5), "beta", jnp.ones((2, 3))),
    ):
        params, state = layer.init(KEY, x)
        grads = jax.grad(lambda p, layer=layer, x=x, s=state: layer.apply(p, s, x)[0].sum())(params)
        assert np.all(np.asarray(grads[name]) != 0)
    params, _ = jd.nn.prelu(shared_axes=(1, 2)).init(KEY, jnp.ones((2, 4, 5, 3)))
    assert params["alpha"].shape == (1, 1, 3)


# --- convolutions and pooling ---------------------------------------------------------------------

CONVS = [
    ((2, 9, 3), {"filters": 4, "kernel_size": 3}),
    ((2, 9, 8, 3), {"filters": 4, "kernel_size": (3, 2), "strides": 2}),
    ((2, 9, 8, 4), {"filters": 6, "kernel_size": 3, "groups": 2, "padding": "VALID"}),
    ((2, 9, 8, 3), {"filters": 4, "kernel_size": 3, "dilation": 2, "use_bias": False}),
    ((2, 9, 8, 3), {"filters": 4, "kernel_size": 3, "padding": ((1, 2), (0, 1))}),
    ((1, 5, 6, 7, 2), {"filters": 3, "kernel_size": 2, "strides": (1, 2, 1)}),
    ((2, 6, 6, 4), {"filters": 4, "kernel_size": 3, "groups": 4, "activation": jax.nn.relu}),
]


@pytest.mark.parametrize(("shape", "kwargs"), CONVS)
def test_convolutions_are_those_of_flax(shape, kwargs):
    x = jax.random.normal(jax.random.key(1), shape)
    layer = jd.nn.conv(**kwargs)
    params, state = layer.init(KEY, x)
    space = len(shape) - 2
    sizes = kwargs["kernel_size"]
    names = {"strides": "strides", "padding": "padding", "dilation": "kernel_dilation"}
    names |= {"groups": "feature_group_count", "use_bias": "use_bias"}
    other = nn.Conv(
        kwargs["filters"],
        (sizes,) * space if isinstance(sizes, int) else sizes,
        **{names[k]: v for k, v in kwargs.items() if k in names},
    )
    expected = other.apply({"params": params}, x)
    if "activation" in kwargs:
        expected = kwargs["activation"](expected)
    np.testing.assert_allclose(layer.apply(params, state, x)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 8, 3), (2, 8, 6, 3), (2, 4, 6, 4, 2)])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_pooling_is_that_of_flax(shape, padding):
    x = jax.random.normal(KEY, shape)
    space = len(shape) - 2
    window, strides = (3,) * space, (2,) * space
    for ours, theirs in (
        (jd.nn.max_pool, nn.max_pool),
        (
            jd.nn.average_pool,
            lambda x, w, s, padding: nn.avg_pool(x, w, s, padding, count_include_pad=False),
        ),
    ):
        found = run(ours(3, strides=2, padding=padding), x)
        np.testing.assert_allclose(found, theirs(x, window, strides, padding), rtol=1e-5)
    axes = tuple(range(1, len(shape) - 1))
    np.testing.assert_allclose(run(jd.nn.global_max_pool(), x), x.max(axes), rtol=1e-6)
    np.testing.assert_allclose(run(jd.nn.global_average_pool(), x), x.mean(axes), rtol=1e-5, atol=1e-6)


HOW = [(1, "SAME", 1), (2, "VALID", 1), (3, "SAME", 1), (1, "VALID", 2)]


@pytest.mark.parametrize(
    ("space", "how"), [*itertools.product((1, 2), HOW), (3, (2, "SAME", 1)), (3, (1, "VALID", 2))]
)
def test_gradients_of_a_convolution_are_in_the_order_that_is_fast_in_a_loop(space, how):
    strides, padding, dilation = how
    x = jax.random.normal(jax.random.key(0), (3, *(7, 8, 6)[:space], 4))
    layer = jd.nn.conv(5, (3, 2, 3)[:space], strides=strides, padding=padding, dilation=dilation)
    params, state = layer.init(jax.random.key(1), x)
    letters = "DHW"[-space:]

    def ours(x, kernel):
        return layer.apply({**params, "kernel": kernel}, state, x)[0]

    def theirs(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (strides,) * space,
            padding,
            rhs_dilation=(dilation,) * space,
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        )

    y, pull = jax.vjp(ours, x, params["kernel"])
    cotangent = jax.random.normal(jax.random.key(2), y.shape)
    expected = jax.vjp(theirs, x, params["kernel"])[1](cotangent)
    for got, want in zip(pull(cotangent), expected):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    tangents = jnp.cos(x), jnp.sin(params["kernel"])
    forward = [jax.jvp(f, (x, params["kernel"]), tangents)[1] for f in (ours, theirs)]
    np.testing.assert_allclose(*forward, rtol=1e-4, atol=1e-4)

    rows = (0, space + 1, *range(1, space + 1))  # batch and channels first, then space
    kernel = (space + 1, space, *range(space))
    backward = jax.make_jaxpr(pull)(cotangent)
    orders = [
        eqn.params["dimension_numbers"]
        for eqn in jax.tree.leaves(backward.eqns, is_leaf=lambda e: hasattr(e, "primitive"))
        if eqn.primitive.name == "conv_general_dilated"
    ]
    assert len(orders) == 2
    for order in orders:
        assert (order.lhs_spec, order.rhs_spec, order.out_spec) == (rows, kernel, rows)


@pytest.mark.parametrize(
    ("size", "window", "padding"), [(6, 2, "VALID"), (7, 3, "VALID"), (6, 2, "SAME")]
)
def test_gradient_of_a_maximum_goes_to_its_first_place(size, window, padding):
    x = jax.random.randint(jax.random.key(0), (3, size, size, 2), 0, 3).astype(float)  # with ties
    layer = jd.nn.max_pool(window, padding=padding)
    sizes = (1, window, window, 1)

    def ours(x):
        return layer.apply({}, {}, x)[0]

    def theirs(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, sizes, sizes, padding)

    (y, pull), (expected, pull_theirs) = jax.vjp(ours, x), jax.vjp(theirs, x)
    cotangent = jax.random.normal(jax.random.key(1), y.shape)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(*(p(cotangent)[0] for p in (pull, pull_theirs)))
    np.testing.assert_array_equal(*(jax.jvp(f, (x,), (jnp.cos(x),))[1] for f in (ours, theirs)))
    nan = jax.grad(lambda x: ours(x).sum())(x.at[0, 0, 1, 0].set(jnp.nan) * 1.0)
    assert nan[0, 0, 1, 0] == 1


def test_max_pooling_of_booleans_and_explicit_padding():
    x = jnp.array([[False, False, True, False]])[..., None]
    np.testing.assert_array_equal(run(jd.nn.max_pool(2), x)[0, :, 0], [False, True])
    y = run(jd.nn.average_pool(2, padding=[(1, 1)]), jnp.arange(4.0).reshape(1, 4, 1))
    np.testing.assert_array_equal(y[0, :, 0], [0.0, 1.5, 3.0])  # padding does not count


def test_embedding_and_reshape():
    layer = jd.nn.embedding(5, 3)
    params, state = layer.init(KEY, jnp.zeros((1,), int))
    x = jnp.array([[0, 4], [2, 2]])
    np.testing.assert_array_equal(layer.apply(params, state, x)[0], params["table"][x])
    traced = jax.jit(lambda x: layer.apply(params, state, x)[0])(jnp.array([-1, 5, 1]))
    assert np.isnan(traced[:2]).all()
    assert np.isfinite(traced[2]).all()
    assert run(jd.nn.reshape(2, -1), jnp.ones((3, 8))).shape == (3, 2, 4)


# --- random layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 0.9])
def test_dropout_keeps_its_rate_and_the_mean(rate):
    x = jnp.ones((1000, 784))
    y = np.asarray(run(jd.nn.dropout(rate), x, key=KEY), np.float64)
    kept = (y != 0).mean()
    assert abs(kept - (1 - rate)) < 4 * (rate * (1 - rate) / y.size) ** 0.5
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=2e-6)


def test_dropout_in_bfloat16_keeps_the_mean_too():
    x = jnp.linspace(0.5, 2.0, 200_000).astype(jnp.bfloat16)
    y = run(jd.nn.dropout(0.1), x, key=KEY)
    kept = y != 0
    assert y.dtype == jnp.bfloat16
    ratio = jnp.sum(y, dtype=jnp.float32) / jnp.sum(jnp.where(kept, x, 0), dtype=jnp.float32)
    np.testing.assert_allclose(ratio, 1 / 0.9, rtol=3e-4)  # bfloat16 itself rounds by 4e-3


def test_the_words_behind_masks_are_random():
    """Bytes, bits, neighbours in both directions and neighbouring keys, on half a million words."""
    n = (512, 1024)
    words = {i: np.asarray(random_words(jax.random.key(i), n)) for i in range(3)}
    w = words[0]
    for shift in (0, 8, 16, 24):
        counts = np.bincount(((w >> shift) & 255).ravel(), minlength=256)
        chi2 = ((counts - w.size / 256) ** 2 / (w.size / 256)).sum()
        assert abs(chi2 - 255) < 5 * (2 * 255) ** 0.5
    ones = ((w[..., None] >> np.arange(32, dtype=np.uint32)) & 1).mean((0, 1))
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / w.size**0.5
    u = {i: v / 2.0**32 - 0.5 for i, v in words.items()}
    pairs = [(u[0][:, :-1], u[0][:, 1:]), (u[0][:-1], u[0][1:]), (u[0], u[1]), (u[1], u[2])]
    for a, b in pairs:
        for f in (lambda x: x, lambda x: x**2 - 1 / 12, np.sign):
            r = (f(a) * f(b)).mean() / (f(a).std() * f(b).std())
            assert abs(r) < 5 / a.size**0.5
    runs = (np.diff((u[0] > 0.3).astype(int).ravel()) != 0).mean()  # kept at rate 0.8
    assert abs(runs - 2 * 0.8 * 0.2) < 5 * 0.5 / w.size**0.5


def test_masks_do_not_depend_on_how_arrays_are_split_or_traced():
    x = jnp.ones((64, 32))
    layer = jd.nn.dropout(0.3)
    expected = run(layer, x, key=KEY)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    compiled = jax.jit(lambda x, k: layer.apply({}, {}, x, key=k)[0])
    np.testing.assert_array_equal(compiled(spread, KEY), expected)
    keys = jax.random.split(KEY, 3)
    found = jax.vmap(lambda k: layer.apply({}, {}, x, key=k)[0])(keys)
    for k, y in zip(keys, found):
        np.testing.assert_array_equal(y, run(layer, x, key=k))
    assert run(jd.nn.dropout(1.0), x, key=KEY).max() == 0
    np.testing.assert_array_equal(run(jd.nn.dropout(0.0), x, key=KEY), x)
    rbg = jax.random.key(0, impl="rbg")
    assert 0.6 < float((run(layer, x, key=rbg) > 0).mean()) < 0.8


def test_dropout_of_whole_channels():
    y = np.asarray(
        run(jd.nn.dropout(0.5, noise_shape=(None, 1, 1, None)), jnp.ones((8, 4, 4, 16)), key=KEY)
    )
    assert (y == y[:, :1, :1]).all()
    assert set(np.unique(y)) == {0.0, 2.0}


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_alpha_dropout_keeps_mean_and_deviation(rate):
    x = jax.random.normal(jax.random.key(1), (1000, 1000))
    y = run(jd.nn.alpha_dropout(rate), x, key=KEY)
    assert abs(float(y.mean())) < 0.01
    assert abs(float(y.std()) - 1) < 0.01


def test_gaussian_noise_has_its_deviation():
    y = run(jd.nn.gaussian_noise(0.3), jnp.ones(1_000_000), key=KEY)
    assert abs(float(y.mean()) - 1) < 4 * 0.3 / 1000
    assert abs(float(y.std()) - 0.3) < 0.002


@pytest.mark.parametrize(
    "layer", [jd.nn.dropout(0.5), jd.nn.alpha_dropout(0.5), jd.nn.gaussian_noise(1.0), jd.nn.rrelu()]
)
def test_random_layers_are_random_with_a_key_only(layer):
    x = -jnp.ones((4, 5))
    assert layer.stochastic
    np.testing.assert_array_equal(run(layer, x), run(layer, x, train=True))
    assert not np.array_equal(run(layer, x, key=KEY), run(layer, x))
    assert run(layer, x.astype(jnp.bfloat16), key=KEY).dtype == jnp.bfloat16


# --- batch norm -----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, (1, 2), (1, 2, 3), 1])
@pytest.mark.parametrize("fast", [False, True])
def test_batch_norm_is_that_of_flax_for_any_axes(axis, fast):
    x = jax.random.normal(KEY, (8, 4, 5, 3)) * 2 + 1
    layer = jd.nn.batch_norm(axis=axis, momentum=0.9, use_fast_variance=fast)
    params, state = layer.init(KEY, x)
    other = nn.BatchNorm(use_running_average=False, axis=axis, momentum=0.9, use_fast_variance=fast)
    for _ in range(3):
        y, state = layer.apply(params, state, x, train=True)
    variables = {"params": params, "batch_stats": layer.init(KEY, x)[1]}
    for _ in range(3):
        expected, new = other.apply(variables, x, mutable=["batch_stats"])
        variables |= new
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(state[name], variables["batch_stats"][name], rtol=1e-4, atol=1e-6)


def test_masked_rows_equal_a_smaller_batch():
    x = jax.random.normal(KEY, (16, 5)).at[10:].set(jnp.nan)
    mask = jnp.arange(16) < 10
    model = jd.nn.serial(jd.nn.dense(4), jd.nn.batch_norm(), jd.nn.dense(2), jd.nn.batch_norm())
    params, state = model.init(KEY, x)
    y, new = model.apply(params, state, x, train=True, mask=mask)
    expected, small = model.apply(params, state, x[:10], train=True)
    np.testing.assert_allclose(y[:10], expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), new, small)
    _, none = model.apply(params, state, jnp.ones((16, 5)), train=True, mask=jnp.zeros(16, bool))
    jax.tree.map(np.testing.assert_array_equal, none, state)


def test_batch_norm_over_eight_devices_equals_the_whole_batch():
    x = jax.random.normal(KEY, (64, 5)) * 3 + 1
    layer, over = jd.nn.batch_norm(), jd.nn.batch_norm(axis_name="data")
    params, state = layer.init(KEY, x)
    expected, whole = layer.apply(params, state, x, train=True)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.shard_map(
        lambda x: over.apply(params, state, x, train=True),
        mesh=mesh,
        in_specs=jax.P("data"),
        out_specs=(jax.P("data"), jax.P()),
    )
    y, new = spread(x)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), new, whole)


def test_the_unbiased_running_variance_is_pytorchs():
    x = jax.random.normal(KEY, (4, 3))
    layer = jd.nn.batch_norm(momentum=0.0, unbiased_running_var=True)
    params, state = layer.init(KEY, x)
    np.testing.assert_allclose(
        layer.apply(params, state, x, train=True)[1]["var"], np.var(x, axis=0, ddof=1), rtol=1e-5
    )


@pytest.mark.parametrize("batch_size", [7, 32, 1000])
def test_recomputed_statistics_are_those_of_the_data(batch_size):
    x = jax.random.normal(KEY, (100, 6)) * 3 + 2
    model = jd.nn.serial(bn=jd.nn.batch_norm(), d=jd.nn.dense(4), inner=jd.nn.serial(jd.nn.batch_norm()))
    params, state = model.init(KEY, x)
    found = jax.jit(lambda s, x: jd.nn.recompute_batch_norm(model, params, s, x, batch_size=batch_size))(
        state, x
    )
    np.testing.assert_allclose(found["bn"]["mean"], x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found["bn"]["var"], x.var(0), rtol=1e-4)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    with pytest.raises(ValueError, match="has no batch_norm"):
        jd.nn.recompute_batch_norm(jd.nn.dense(3), {}, {}, x)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jd.nn.conv(0, 3), "filters must be at least 1, got 0"),
        (lambda: jd.nn.conv(4, 0), "kernel_size must be at least 1"),
        (lambda: jd.nn.conv(4, "3"), "kernel_size must be a whole number"),
        (lambda: jd.nn.conv(4, 3, padding="FULL"), "padding must be 'SAME', 'VALID' or"),
        (lambda: jd.nn.conv(4, 3, padding=[(1, -1)]), "padding must be pairs that are not negative"),
        (lambda: jd.nn.conv(4, 3, groups=3), "groups must divide filters=4, got groups=3"),
        (
            lambda: jd.nn.conv(4, 3, activation="relu"),
            "activation must be a function such as jax.nn.relu, got 'relu'",
        ),
        (
            lambda: jd.nn.conv(4, 3, activation=jd.nn.prelu),
            r"jd\.nn\.prelu makes a layer; the function is jd\.nn\.activations\.prelu",
        ),
        (
            lambda: jd.nn.dense(4, activation=functools.partial(jd.nn.swish, 2.0)),
            r"jd\.nn\.swish makes a layer; the function is jd\.nn\.activations\.swish",
        ),
        (
            lambda: jd.nn.dense(4, activation=jd.nn.rrelu()),
            "activation must be a function, got the layer rrelu",
        ),
        (
            lambda: jd.nn.activation(jd.nn.rrelu),
            r"function must be .* jd\.nn\.rrelu makes a layer",
        ),
        (lambda: run(jd.nn.conv(4, 3, groups=2), jnp.ones((1, 8, 8, 3))), "must divide the 3 channels"),
        (lambda: run(jd.nn.conv(4, (3, 3)), jnp.ones((1, 8, 3))), "kernel_size must be one number or 1"),
        (lambda: run(jd.nn.conv(4, 3), jnp.ones((8, 3))), "1 to 3 axes of space, got shape"),
        (lambda: run(jd.nn.max_pool(2), jnp.ones((8, 3))), "1 to 3 axes of space"),
        (lambda: jd.nn.max_pool(0), "window must be at least 1"),
        (lambda: jd.nn.dropout(1.5), r"rate must be in \[0, 1\], got 1.5"),
        (lambda: jd.nn.alpha_dropout(1.0), r"rate must be in \[0, 1\), got 1.0"),
        (
            lambda: run(jd.nn.dropout(0.5, noise_shape=(1, 2)), jnp.ones((4, 3)), key=KEY),
            r"noise_shape=\(1, 2\) does not broadcast",
        ),
        (lambda: jd.nn.gaussian_noise(-1), "stddev must be in"),
        (lambda: jd.nn.rrelu(0.5, 0.1), "lower must be at most upper, got lower=0.5, upper=0.1"),
        (lambda: run(jd.nn.prelu(shared_axes=(0,)), jnp.ones((1, 3))), "other than 0"),
        (
            lambda: jd.nn.batch_norm(axis_name=3),
            "axis_name must be a name, a tuple of names or None, got 3",
        ),
        (
            lambda: jd.nn.serial(d=jd.nn.dropout(0.5, noise_shape=(2,))).init(KEY, jnp.ones((3, 4))),
            r"d: noise_shape=\(2,\) does not broadcast",
        ),
        (
            lambda: run(jd.nn.conv(3, 5, padding="VALID"), jnp.ones((1, 3, 3, 1))),
            r"kernel_size must fit into the input, got \(5, 5\)",
        ),
        (lambda: run(jd.nn.max_pool(5), jnp.ones((1, 3, 3, 1))), "window must fit into the input"),
        (lambda: jd.nn.prelu(shared_axes="ab"), "shared_axes must be whole numbers, got 'ab'"),
        (lambda: jd.nn.dense(3, bias_init=None), "bias_init must be a function, got None"),
        (lambda: jd.nn.conv(3, 3, bias_init=None), "bias_init must be a function, got None"),
        (
            lambda: run(jd.nn.average_pool(2, padding=[(2, 0)]), jnp.ones((1, 4, 1))),
            "padding must be smaller than the window",
        ),
        (lambda: jd.nn.embedding(0, 3), "num_embeddings must be at least 1"),
        (lambda: run(jd.nn.embedding(4, 3), jnp.ones(2)), "embedding needs integers, got"),
        (lambda: run(jd.nn.embedding(4, 3), jnp.array([4])), "4 vectors, got numbers from 4 to 4"),
        (lambda: jd.nn.reshape(-1, -1), "one size may be -1"),
        (
            lambda: run(jd.nn.batch_norm(), jnp.ones((4, 3)), train=True, mask=jnp.ones(5, bool)),
            "mask must have the leading axes",
        ),
        (
            lambda: run(jd.nn.serial(block=jd.nn.serial(c=jd.nn.conv(4, 3))), jnp.ones((8, 3))),
            "block/c: ",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_networks_with_pooling_are_trained_in_compiled_loops():
    x = jax.random.normal(KEY, (8, 6, 6, 1))
    for pool in (jd.nn.max_pool(), jd.nn.average_pool(), jd.nn.global_max_pool()):
        compiled = jax.jit(jax.grad(lambda x, pool=pool: (pool.apply({}, {}, x)[0] ** 2).sum()))
        w = jax.grad(lambda x, pool=pool: (pool.apply({}, {}, x)[0] ** 2).sum())(x)
        np.testing.assert_allclose(compiled(x), w, rtol=1e-6)
    model = jd.nn.serial(
        jd.nn.conv(2, 3), jd.nn.max_pool(), jd.nn.average_pool(), jd.nn.flatten(), jd.nn.dense(2)
    )
    result = jd.fit(
        model,
        (x, jnp.arange(8) % 2, jnp.ones(8)),
        loss=jd.losses.softmax_cross_entropy,
        optimizer=jd.optimizers.sgd(0.1),
        epochs=1,
        batch_size=4,
        validation=(x, jnp.arange(8) % 2, jnp.ones(8)),
        key=KEY,
        progress=False,
    )
    assert np.isfinite(result.history["val_loss"]).all()


def test_recomputed_statistics_of_layers_called_mean_and_var():
    x = jax.random.normal(KEY, (20, 3)) + 1
    model = jd.nn.parallel(mean=jd.nn.batch_norm(), var=jd.nn.serial(jd.nn.batch_norm()))
    params, state = model.init(KEY, x)
    broken = jax.tree.map(lambda a: a * jnp.inf, state)
    for old in (state, broken):
        found = jd.nn.recompute_batch_norm(model, params, old, x, batch_size=6)
        np.testing.assert_allclose(found["mean"]["mean"], x.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found["var"]["batch_norm0"]["var"], x.var(0), rtol=1e-4)
    deep = jd.nn.serial(jd.nn.repeat(jd.nn.batch_norm(), 3), jd.nn.mixed_precision(jd.nn.batch_norm()))
    params, state = deep.init(KEY, x)
    found = jd.nn.recompute_batch_norm(deep, params, state, x, batch_size=20)
    np.testing.assert_allclose(found["repeat0"]["layer"]["mean"][0], x.mean(0), rtol=1e-5)
    twins = jd.nn.shared(jd.nn.batch_norm())
    params, state = twins.init(KEY, (x, x))
    with pytest.raises(ValueError, match="inside shared is used more than once"):
        jd.nn.recompute_batch_norm(twins, params, state, (x, x))


def test_empty_batches_and_whole_numbers():
    assert run(jd.nn.reshape(28, -1), jnp.ones((0, 784))).shape == (0, 28, 28)
    np.testing.assert_array_equal(run(jd.nn.prelu(0.5), jnp.array([[-4, 2]])), [[-2.0, 2.0]])
    np.testing.assert_array_equal(run(jd.nn.rrelu(), jnp.array([-48])), [-11.0])
    assert run(jd.nn.swish(), jnp.array([[1, 2]])).dtype == jnp.float32
    assert np.isfinite(run(jd.nn.alpha_dropout(0.99999999), jnp.ones(4), key=KEY)).all()
    with pytest.raises(ValueError, match=r"select\(0\): the inputs are"):
        run(jd.nn.select(0), jnp.ones((3, 2)))


def test_a_batch_of_which_nothing_counts_is_normalised_as_at_inference():
    layer, x = jd.nn.batch_norm(), jax.random.normal(KEY, (6, 4))
    params, state = layer.init(KEY, x)
    state = jax.tree.map(lambda leaf: leaf + 0.5, state)
    y, after = layer.apply(params, state, x, train=True, mask=jnp.zeros(6, bool))
    np.testing.assert_allclose(y, layer.apply(params, state, x)[0], rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_the_momentum_of_batch_norm_may_be_traced():
    x = jax.random.normal(KEY, (6, 4))

    def mean(momentum):
        layer = jd.nn.batch_norm(momentum=momentum)
        return layer.apply(*layer.init(KEY, x), x, train=True)[1]["mean"]

    found = jax.jit(jax.vmap(mean))(jnp.array([0.0, 0.9]))
    np.testing.assert_allclose(found, [x.mean(0), 0.1 * x.mean(0)], rtol=1e-5, atol=1e-7)
