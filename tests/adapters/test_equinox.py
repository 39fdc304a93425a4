"""Equinox networks as models: the framework's own numbers in every mode, and trained by our loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep.adapters import from_equinox
from jaxdeep.tree import leaf_paths

eqx = pytest.importorskip("equinox")

KEY = jax.random.key(7)
X = jax.random.normal(jax.random.key(1), (16, 1, 8, 8))
Y = jnp.arange(16) % 3


class Net(eqx.Module):
    """Convolution, batch norm, dropout, dense; the key is divided whether or not there is one."""

    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    out: eqx.nn.Linear

    def __init__(self, key, mode="batch", axis_name="batch", dtype=jnp.float32):
        conv, out = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(1, 4, 3, padding=1, dtype=dtype, key=conv)
        self.norm = eqx.nn.BatchNorm(4, axis_name, mode=mode, momentum=0.9, dtype=dtype)
        self.drop = eqx.nn.Dropout(0.5)
        self.out = eqx.nn.Linear(256, 3, dtype=dtype, key=out)

    def __call__(self, x, state, key):
        first, _ = jax.random.split(key)
        x, state = self.norm(self.conv(x), state)
        return self.out(self.drop(jax.nn.relu(x).ravel(), key=first)), state


class Dense(eqx.Module):
    """Dense layers around the same."""

    hidden: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    out: eqx.nn.Linear

    def __init__(self, key, mode="batch"):
        hidden, out = jax.random.split(key)
        self.hidden = eqx.nn.Linear(64, 16, key=hidden)
        self.norm = eqx.nn.BatchNorm(16, "batch", mode=mode, momentum=0.9)
        self.drop = eqx.nn.Dropout(0.2)
        self.out = eqx.nn.Linear(16, 3, key=out)

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.hidden(x.ravel()), state)
        return self.out(self.drop(x, key=key)), state


MODES = ["batch", "ema"]
WHAT = {
    "loss": jd.losses.softmax_cross_entropy,
    "batch_size": 6,  # the last batch is smaller
    "validation": (X, Y),
    "progress": False,
}


def close(a, b, **kwargs):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-6} | kwargs), a, b
    )


def jitted(model):
    return jax.jit(model.apply, static_argnames="train")


@eqx.filter_jit
def by_hand(module, state, x, key):
    """What equinox' guide says to do."""
    return jax.vmap(module, in_axes=(0, None, 0), out_axes=(0, None), axis_name="batch")(
        x, state, jax.random.split(key, len(x))
    )


def statistics(module, state):
    """What a batch norm of equinox keeps, named as ours."""
    norm = module.norm
    if norm.mode == "ema":
        names = {
            "ema_first_time_index": norm.ema_first_time_index,
            "ema_state_index": norm.ema_state_index,
        }
    else:
        names = {"batch_counter": norm.batch_counter, "batch_state_index": norm.batch_state_index}
    found = {}
    for name, index in names.items():
        value = state.get(index)
        found[name] = dict(zip("01", value)) if isinstance(value, tuple) else value
    return {"norm": found}


def trained_a_little(module, state):
    """Statistics that are not the first ones."""
    for i in range(3):
        _, state = by_hand(module, state, X + i, KEY)
    return state


@pytest.mark.heavy
@pytest.mark.parametrize("mode", MODES)
def test_a_stateful_network_in_every_mode(mode):
    module, state = eqx.nn.make_with_state(Net)(KEY, mode)
    state = trained_a_little(module, state)
    model = from_equinox(module, state)
    params, stats = model.init(jax.random.key(3), X)
    close(stats, statistics(module, state))
    assert leaf_paths(params) == [
        f"{layer}/{name}" for layer in ("conv", "norm", "out") for name in ("bias", "weight")
    ]
    np.testing.assert_array_equal(params["out"]["weight"], module.out.weight)
    apply = jitted(model)

    frozen = eqx.nn.inference_mode(module)
    close(apply(params, stats, X)[0], by_hand(frozen, state, X, KEY)[0])

    y, new = apply(params, stats, X, train=True, key=KEY)
    expected, after = by_hand(module, state, X, KEY)
    close((y, new), (expected, statistics(module, after)))

    no_dropout = eqx.tree_at(lambda m: m.drop.inference, module, True)
    expected, after = by_hand(no_dropout, state, X, KEY)
    close(apply(params, stats, X, train=True), (expected, statistics(module, after)))

    no_statistics = eqx.tree_at(lambda m: m.norm.inference, module, True)
    y, same = apply(params, stats, X, key=KEY)  # MC dropout: batch norm stays
    close(same, stats)
    close(y, by_hand(no_statistics, state, X, KEY)[0])


@pytest.mark.heavy
@pytest.mark.parametrize("mode", MODES)
def test_twenty_steps_equal_equinox_own_loop(mode):
    module, state = eqx.nn.make_with_state(Net)(KEY, mode)
    model, optimizer = from_equinox(module, state), optax.sgd(1e-2, momentum=0.9)
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    ts = jd.train.init(model, optimizer, X, key=KEY)
    step = jax.jit(jd.train.make_step(objective, optimizer))
    opt_state = optimizer.init(eqx.filter(module, eqx.is_inexact_array))

    @eqx.filter_jit
    def own(module, state, opt_state, key):
        @functools.partial(eqx.filter_grad, has_aux=True)
        def loss(module):
            logits, after = by_hand(module, state, X, key)
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, Y)
            return losses.mean(), after

        grads, after = loss(module)
        updates, opt_state = optimizer.update(grads, opt_state)
        return eqx.apply_updates(module, updates), after, opt_state

    for t in range(20):
        module, state, opt_state = own(module, state, opt_state, jax.random.fold_in(ts.key, t))
        ts, _ = step(ts, (X, Y))
    assert step._cache_size() == 1  # a counter of equinox is weakly typed, which would compile twice
    close(ts.params["conv"]["weight"], module.conv.weight, rtol=1e-4, atol=1e-5)
    close(ts.params["out"]["weight"], module.out.weight, rtol=1e-4, atol=1e-5)
    close(ts.state, statistics(module, state), rtol=1e-4, atol=1e-5)


@pytest.mark.heavy
def test_a_function_makes_other_parameters_for_other_keys_and_a_module_its_own():
    keys = jax.random.split(KEY, 4)
    x = jnp.ones((2, 5))

    @eqx.filter_jit
    def mlp(key):
        return eqx.nn.MLP(5, 3, 8, 1, key=key)

    made = from_equinox(mlp)
    params, _ = jax.jit(made.init)(keys[0], x)
    close(params["layers"]["1"]["weight"], mlp(keys[0]).layers[1].weight)
    stacked, state = jax.jit(jax.vmap(lambda key: made.init(key, x)))(keys)
    ys = jax.jit(jax.vmap(lambda p: made.apply(p, state, x)[0]))(stacked)
    close(ys[1], jax.vmap(mlp(keys[1]))(x))
    given = from_equinox(mlp(KEY))
    close(given.init(keys[0], x), given.init(keys[1], x))
    jax.jit(lambda p: jax.tree.map(lambda a: a + 1, p), donate_argnums=0)(given.init(KEY, x)[0])
    close(given.init(KEY, x)[0]["layers"]["0"]["weight"], mlp(KEY).layers[0].weight)
    for function in (
        eqx.nn.make_with_state(Net),
        functools.partial(eqx.nn.Linear, 5, 3),  # takes key= by keyword
    ):
        init = jax.jit(from_equinox(function).init)
        a, b = (jax.tree.leaves(init(key, x)[0])[-1] for key in keys[:2])
        assert not np.array_equal(a, b)


@pytest.mark.heavy
def test_fit_and_monte_carlo_samples():
    model = from_equinox(lambda key: Dense(key, "ema"))
    result = jd.fit(model, (X, Y), **WHAT, epochs=15, optimizer=jd.optimizers.adam(1e-2), key=KEY)
    assert result.history["loss"][-1] < 0.7 * result.history["loss"][0]
    params, state = result.params, result.state
    keys = jax.random.split(KEY, 400)
    samples = jax.jit(jax.vmap(lambda k: model.apply(params, state, X, key=k)[0]))(keys)
    inference, _ = jitted(model)(params, state, X)
    assert samples.std(0).min() > 0
    error = samples.std(0) / np.sqrt(len(keys))
    assert np.all(np.abs(samples.mean(0) - inference) < 5 * error + 1e-5)
    assert result.history["val_loss"][-1] == pytest.approx(
        float(jd.losses.softmax_cross_entropy(inference, Y).mean()), rel=1e-4
    )
    shown = jd.nn.summary(model, X[:1])
    assert "hidden" in shown
    assert "1,123" in shown  # 64·16 + 16 and 2·16 and 3·16 + 3


@pytest.mark.heavy
def test_rates_and_seeds_side_by_side():
    table = jd.sweep(
        lambda hp: jd.optimizers.adam(hp["learning_rate"]),
        {"learning_rate": jnp.array([1e-3, 1e-2])},
        seeds=2,
        model=from_equinox(Dense),
        data=(X, Y),
        epochs=2,
        **WHAT,
    )
    losses = [float(result.history["loss"][0]) for result in table.results]
    assert np.isfinite(losses).all()
    assert len(set(losses)) == 4


class Options(eqx.Module):
    """Flags in the call, handed on to the layers."""

    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout

    def __init__(self):
        self.norm = eqx.nn.BatchNorm(4, "rows", mode="batch", momentum=0.5)
        self.drop = eqx.nn.Dropout(0.5, inference=True)

    def __call__(self, x, state, *, inference, key=None):
        x, state = self.norm(x, state, inference=inference)
        return self.drop(x, key=key, inference=inference), state


@pytest.mark.heavy
def test_the_switches_win_over_flags_that_a_module_passes_on():
    module, x = Options(), jax.random.normal(KEY, (6, 4)) + 3
    model = from_equinox(module)
    params, state = model.init(KEY, x)
    inference, same = model.apply(params, state, x)
    assert same is state
    assert np.all(np.asarray(inference) != 0)
    sample, same = model.apply(params, state, x, key=KEY)
    kept = np.asarray(sample) != 0
    assert same is state
    assert 0 < kept.mean() < 1
    np.testing.assert_allclose(np.asarray(sample)[kept], 2 * np.asarray(inference)[kept], rtol=1e-6)
    train, new = model.apply(params, state, x, train=True)
    assert np.all(np.asarray(train) != 0)
    np.testing.assert_allclose(new["norm"]["batch_state_index"]["0"], x.mean(0) / 2, rtol=1e-5)
    assert module.drop.inference
    assert type(module.norm) is eqx.nn.BatchNorm  # the module of the caller is as it was


@pytest.mark.heavy
def test_layers_that_come_with_equinox():
    keys = jax.random.split(KEY, 3)
    x = jax.random.normal(KEY, (5, 4))

    @eqx.filter_jit
    def make():
        layers = [
            eqx.nn.SpectralNorm(eqx.nn.Linear(4, 6, key=keys[0]), "weight", key=keys[1]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Dropout(0.5),
            eqx.nn.LayerNorm(6),
            eqx.nn.Lambda(eqx.nn.PReLU(0.1)),
            eqx.nn.Linear(6, "scalar", key=keys[2]),
        ]
        return eqx.nn.make_with_state(eqx.nn.Sequential)(layers)

    sequential, state = make()
    model = from_equinox(sequential, state)
    params, stats = model.init(KEY, x)
    assert "layers/4/fn/negative_slope" in leaf_paths(params)
    expected, after = jax.jit(
        jax.vmap(lambda x, key: sequential(x, state, key=key), out_axes=(0, None), axis_name="batch")
    )(x, jax.random.split(KEY, 5))
    y, new = jitted(model)(params, stats, x, train=True, key=KEY)
    close(y, expected)
    u, v = after.get(sequential.layers[0].uv_index)
    close(new["layers"]["0"]["uv_index"], {"0": u, "1": v})

    class Attention(eqx.Module):
        heads: eqx.nn.MultiheadAttention

        def __call__(self, x, *, key=None, enable_dropout=False):
            return self.heads(x, x, x, key=key, inference=not enable_dropout)

    module = Attention(eqx.filter_jit(eqx.nn.MultiheadAttention)(2, 4, dropout_p=0.5, key=KEY))
    model = from_equinox(module)
    x = jax.random.normal(KEY, (3, 7, 4))
    params, stats = model.init(KEY, x)
    assert stats == {}
    apply = jitted(model)
    close(apply(params, stats, x)[0], jax.jit(jax.vmap(module))(x))
    own = jax.jit(jax.vmap(lambda x, key: module(x, key=key, enable_dropout=True)))
    close(apply(params, stats, x, key=KEY)[0], own(x, jax.random.split(KEY, 3)))


@pytest.mark.heavy
def test_arrays_that_are_not_trained_are_state_and_pytrees_go_in_and_out():
    class Pair(eqx.Module):
        scale: jax.Array
        order: jax.Array
        table: np.ndarray
        name: str = eqx.field(static=True)

        def __call__(self, pair):
            a, b = pair["a"], pair["b"]
            return {"sum": (a + b)[self.order] * self.scale, "table": self.table}

    module = Pair(jnp.array(2.0), jnp.array([1, 0]), np.array([1.5, 2.5], np.float32), "pair")
    model = from_equinox(module)
    x = {"a": jnp.ones((3, 2)), "b": jnp.arange(6.0).reshape(3, 2)}
    params, state = model.init(KEY, x)
    assert sorted(params) == ["scale", "table"]  # by equinox' own rule, is_inexact_array
    assert state["order"].dtype == jnp.int32
    y, same = model.apply(params, state, x, train=True)
    close(y, jax.vmap(module)(x))
    close(same, state)
    grads = jax.grad(lambda p: model.apply(p, state, x)[0]["sum"].sum())(params)
    assert float(grads["scale"]) == pytest.approx(float((x["a"] + x["b"]).sum()))


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes_stay(dtype, x64):
    model = from_equinox(lambda key: Net(key, dtype=dtype))
    x = X.astype(dtype)
    params, state = jax.jit(model.init)(KEY, x)
    y, new = jitted(model)(params, state, x, train=True, key=KEY)
    assert y.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert jax.tree.map(jax.typeof, new) == jax.tree.map(jax.typeof, state)


@pytest.mark.heavy
def test_the_batch_split_over_devices_gives_the_same():
    model = from_equinox(Net)
    params, state = model.init(KEY, X)
    apply = jitted(model)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.device_put(X, jax.NamedSharding(mesh, jax.P("data")))
    close(
        apply(params, state, split, train=True, key=KEY),
        apply(params, state, X, train=True, key=KEY),
        atol=1e-5,
    )


def test_random_numbers_of_a_module_need_a_key():
    class Noisy(eqx.Module):
        def __call__(self, x, key):
            return x + jax.random.normal(key, x.shape)

    class Careful(eqx.Module):
        def __call__(self, x, key):
            return x if key is None else x + jax.random.normal(key, x.shape)

    x = jnp.zeros((3, 4))
    for apply in (from_equinox(Noisy()).apply, jax.jit(from_equinox(Noisy()).apply)):
        with pytest.raises(ValueError, match=r"draws random numbers of its own.*pass a key="):
            apply({}, {}, x)
    model = from_equinox(Careful())
    np.testing.assert_array_equal(model.apply({}, {}, x)[0], x)
    y, _ = model.apply({}, {}, x, key=KEY)
    keys = jax.random.split(KEY, 3)
    close(y, jnp.stack([jax.random.normal(key, (4,)) for key in keys]))
    close(from_equinox(Noisy()).apply({}, {}, x, key=KEY)[0], y)


@pytest.mark.heavy
def test_errors_for_people():
    class Two(eqx.Module):
        def __call__(self, x, other):
            return x

    class Silent(eqx.Module):
        norm: eqx.nn.BatchNorm

        def __call__(self, x):
            return x

    class Mute(eqx.Module):
        weight: jax.Array

    module, state = eqx.nn.make_with_state(Net)(KEY)
    _, other = eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, "batch", mode="batch")
    batch_norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
    for call, error, match in (
        (lambda: from_equinox(3), TypeError, r"module must be an equinox.Module or a function"),
        (lambda: from_equinox(module, 3), TypeError, r"state must be an equinox.nn.State, got 3"),
        (lambda: from_equinox(Net, state), TypeError, "state= belongs to a module"),
        (
            lambda: from_equinox(module),
            ValueError,
            r"was taken out of it.*\(module, state\)",
        ),
        (lambda: from_equinox(module, other), ValueError, "the state is of another module"),
        (lambda: from_equinox(Two()), TypeError, "Two also needs other: wrap it"),
        (lambda: from_equinox(Silent(batch_norm)), TypeError, "Silent holds a state, but its call"),
        (lambda: from_equinox(Mute(jnp.ones(1))), TypeError, "Mute has no __call__"),
        (lambda: from_equinox(lambda key: 3).init(KEY, X), TypeError, "must return an equinox.Module"),
        (lambda: from_equinox(Net(KEY, axis_name=("a", "b"))), ValueError, "say with axis_name="),
    ):
        with pytest.raises(error, match=match):
            call()
    model = from_equinox(module, state)
    params, stats = model.init(KEY, X)
    with pytest.raises(ValueError, match="do not have the module's names: norm/zz"):
        model.apply({**params, "norm": {**params["norm"], "zz": jnp.ones(4)}}, stats, X)
    with pytest.raises(ValueError, match="mask: the statistics of an equinox module are of all rows"):
        model.apply(params, stats, X, train=True, mask=jnp.ones(16, bool))
    close(model.apply(params, stats, X, mask=jnp.ones(16, bool))[0], model.apply(params, stats, X)[0])
    with pytest.raises(ValueError, match="x must have the same rows everywhere"):
        model.apply(params, stats, (jnp.ones((2, 1)), jnp.ones((3, 1))))
    with pytest.raises(TypeError, match="key must be a random key"):
        model.apply(params, stats, X, key=3)
    # the error of a wrong input is that of the module, not of what was tried without a key
    with pytest.raises(ValueError, match="needs to have rank 3"):
        model.apply(params, stats, X[:, 0])


@pytest.mark.heavy
def test_statistics_over_the_batch_and_a_mapped_axis():
    model = from_equinox(lambda key: Net(key, axis_name=("batch", "copies")), axis_name="batch")
    params, state = model.init(KEY, X)
    halves = X.reshape(2, 8, *X.shape[1:])
    y, new = jax.jit(
        jax.vmap(
            lambda x: model.apply(params, state, x, train=True), axis_name="copies", out_axes=(0, None)
        )
    )(halves)
    whole, expected = jitted(from_equinox(Net))(params, state, X, train=True)
    close(y.reshape(whole.shape), whole, atol=1e-5)
    close(new, expected)


@pytest.mark.heavy
def test_frozen_layers_keep_their_statistics():
    class Two(eqx.Module):
        lower: eqx.nn.Linear
        norms: list
        out: eqx.nn.Linear

        def __init__(self, key):
            lower, out = jax.random.split(key)
            self.lower = eqx.nn.Linear(64, 8, key=lower)
            self.norms = [eqx.nn.BatchNorm(8, "batch", mode="batch") for _ in range(2)]
            self.out = eqx.nn.Linear(8, 3, key=out)

        def __call__(self, x, state):
            x, state = self.norms[0](self.lower(x.ravel()), state)
            x, state = self.norms[1](x, state)
            return self.out(x), state

    model = from_equinox(Two)
    params, state = model.init(KEY, X)
    result = jd.fit(
        model, (X, Y), **WHAT, params=params, state=state, epochs=1, key=KEY,
        optimizer=jd.optimizers.sgd(0.1), trainable=["norms/1/*", "out/*"],
    )  # fmt: skip
    close(result.state["norms"]["0"], state["norms"]["0"], rtol=0, atol=0)
    assert int(result.state["norms"]["1"]["batch_counter"]) == 3
    assert not np.array_equal(result.params["out"]["weight"], params["out"]["weight"])
    np.testing.assert_array_equal(result.params["lower"]["weight"], params["lower"]["weight"])


@pytest.mark.heavy
def test_the_samples_of_mc_dropout_are_those_of_the_module():
    model, x = from_equinox(Dense), X[:4]
    params, state = model.init(KEY, x)
    found = jd.uncertainty.mc_dropout(model, params, state, x, KEY, samples=3, return_samples=True)
    expected = [model.apply(params, state, x, key=key)[0] for key in jax.random.split(KEY, 3)]
    close(found.samples, jax.nn.softmax(jnp.stack(expected)))
    assert np.ptp(np.asarray(found.samples), axis=0).max() > 1e-3
