"""Flax networks as models: the framework's own numbers in every mode, and trained by our loops."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxdeep as jd
from jaxdeep.adapters import from_linen, from_nnx, to_nnx

KEY = jax.random.key(7)
X = jax.random.normal(jax.random.key(1), (16, 8, 8, 1))
Y = jnp.arange(16) % 3


class Linen(nn.Module):
    """Convolution, batch norm, dropout, dense, with the one flag of most examples."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.Dropout(0.5, deterministic=not train)(x.reshape(x.shape[0], -1))
        return nn.Dense(3)(x)


class Nnx(nnx.Module):
    """The same in NNX."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(256, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.out(self.drop(x.reshape(x.shape[0], -1)))


def close(a, b, **kwargs):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-6} | kwargs), a, b
    )


# --- Linen ----------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_linen_network_in_every_mode():
    model, module = from_linen(Linen()), Linen()
    params, state = model.init(KEY, X)
    close((params, state["batch_stats"]), tuple(module.init(KEY, X).values()))
    variables = {"params": params, **state}
    apply = jax.jit(model.apply, static_argnames="train")
    y, same = apply(params, state, X)
    close(y, module.apply(variables, X))
    close(same, state)
    y, new = apply(params, state, X, train=True, key=KEY)
    expected, stats = module.apply(
        variables, X, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"]
    )
    close((y, new["batch_stats"]), (expected, stats["batch_stats"]))


@pytest.mark.heavy
def test_the_two_switches_of_a_linen_network_are_separate():
    model = from_linen(Linen())
    params, state = model.init(KEY, X)
    inference, _ = model.apply(params, state, X)
    sample, same = model.apply(params, state, X, key=KEY)  # MC dropout: batch norm stays
    assert same is state
    assert not np.allclose(sample, inference)
    samples = jax.vmap(lambda k: model.apply(params, state, X, key=k)[0])(jax.random.split(KEY, 500))
    np.testing.assert_allclose(samples.mean(0), inference, atol=0.5)
    train, new = model.apply(params, state, X, train=True)  # batch statistics without dropout
    again, _ = model.apply(params, state, X, train=True)
    np.testing.assert_array_equal(train, again)
    assert not np.allclose(new["batch_stats"]["BatchNorm_0"]["mean"], 0)

    class Fixed(nn.Module):  # attributes set where the layers are made, and no flag at all
        @nn.compact
        def __call__(self, x):
            x = nn.Dropout(0.5, deterministic=True)(x.reshape(x.shape[0], -1))
            return nn.BatchNorm(use_running_average=True)(nn.Dense(3)(x))

    model = from_linen(Fixed())
    params, state = model.init(KEY, X)
    assert not np.allclose(model.apply(params, state, X, key=KEY)[0], model.apply(params, state, X)[0])
    assert model.apply(params, state, X, train=True)[1] is not state


@pytest.mark.heavy
def test_twenty_steps_of_a_linen_network_equal_its_own_loop():
    model, module, optimizer = from_linen(Linen()), Linen(), optax.adam(1e-2)
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    ts = jd.train.init(model, optimizer, X, key=KEY)
    step = jax.jit(jd.train.make_step(objective, optimizer))
    variables, opt_state = {"params": ts.params, **ts.state}, optimizer.init(ts.params)

    @jax.jit
    def own(variables, opt_state, key):
        def loss(params):
            logits, new = module.apply(
                {**variables, "params": params},
                X,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, Y)
            return losses.mean(), new

        grads, new = jax.grad(loss, has_aux=True)(variables["params"])
        updates, opt_state = optimizer.update(grads, opt_state)
        return {"params": optax.apply_updates(variables["params"], updates), **new}, opt_state

    for t in range(20):
        variables, opt_state = own(variables, opt_state, jax.random.fold_in(ts.key, t))
        ts, _ = step(ts, (X, Y))
    close({"params": ts.params, **ts.state}, variables, rtol=1e-4, atol=1e-5)


# --- NNX ------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_an_nnx_network_in_every_mode():
    module = Nnx(nnx.Rngs(0))
    model = from_nnx(Nnx(nnx.Rngs(0)))
    params, state = model.init(KEY, X)
    apply = jax.jit(model.apply, static_argnames="train")
    module.eval()
    close(apply(params, state, X)[0], module(X))
    module.train()
    nnx.reseed(module, default=KEY)
    y, new = apply(params, state, X, train=True, key=KEY)
    close(y, module(X))
    close(new["norm"]["mean"], module.norm.mean[...])
    sample, same = model.apply(params, state, X, key=KEY)
    assert same is state
    assert not np.allclose(sample, apply(params, state, X)[0])
    module = Nnx(nnx.Rngs(0))
    module.eval()
    module.drop.deterministic = False
    nnx.reseed(module, default=KEY)
    close(sample, module(X))


@pytest.mark.heavy
def test_twenty_steps_of_an_nnx_network_equal_its_own_loop():
    module, model = Nnx(nnx.Rngs(0)), from_nnx(Nnx(nnx.Rngs(0)))
    optimizer = optax.sgd(1e-2, momentum=0.9)  # Adam would make steps of the rounding of the bias
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    ts = jd.train.init(model, optimizer, X, key=KEY)
    step = jax.jit(jd.train.make_step(objective, optimizer))
    tx = nnx.Optimizer(module, optimizer, wrt=nnx.Param)
    module.train()

    def loss(module):
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(module(X), Y)
        return losses.mean()

    for t in range(20):
        nnx.reseed(module, default=jax.random.fold_in(ts.key, t))
        tx.update(module, nnx.grad(loss)(module))
        ts, _ = step(ts, (X, Y))
    close(ts.params, nnx.to_pure_dict(nnx.state(module, nnx.Param)), rtol=1e-4, atol=1e-5)


@pytest.mark.heavy
@pytest.mark.parametrize("make", [lambda: from_linen(Linen()), lambda: from_nnx(Nnx)])
def test_fit_summary_and_stacked_models(make):
    model = make()
    result = jd.fit(
        model,
        (X, Y),
        loss=jd.losses.softmax_cross_entropy,
        optimizer=jd.optimizers.adam(1e-2),
        epochs=30,
        batch_size=8,
        key=KEY,
        progress=False,
    )
    assert result.history["loss"][-1] < 0.5 * result.history["loss"][0]
    keys = jax.random.split(KEY, 4)
    params, state = jax.vmap(lambda k: model.init(k, X))(keys)
    ys = jax.vmap(lambda p, s, k: model.apply(p, s, X, train=True, key=k)[0])(params, state, keys)
    assert ys.shape == (4, 16, 3)
    assert not np.allclose(ys[0], ys[1])
    table = jd.nn.summary(model, X[:1])
    assert "811" in table or "819" in table


class Normalised(nnx.Module):
    """Layers whose wrapper has arrays that are no variables."""

    def __init__(self, rngs):
        self.hidden = nnx.WeightNorm(nnx.Linear(5, 4, rngs=rngs), scale_init=ones_and_twos, rngs=rngs)
        self.bn = nnx.BatchNorm(4, rngs=rngs)
        self.out = nnx.WeightNorm(nnx.Linear(4, 2, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.bn(self.hidden(x))))


def ones_and_twos(key, shape, dtype=jnp.float32):
    return 1 + jnp.arange(np.prod(shape), dtype=dtype).reshape(shape) % 2


@pytest.mark.heavy
@pytest.mark.parametrize("make", [lambda: Normalised(nnx.Rngs(0)), lambda: Normalised])
def test_weight_norm_of_nnx_by_module_and_by_function(make):
    x = jax.random.normal(jax.random.key(1), (6, 5))
    model = from_nnx(make())
    params, state = model.init(jax.random.key(0), x)
    own = to_nnx(Normalised(nnx.Rngs(1)), params, state)
    own.set_attributes(use_running_average=True)
    np.testing.assert_allclose(model.apply(params, state, x)[0], own(x), rtol=1e-6)
    own.set_attributes(use_running_average=False)
    np.testing.assert_allclose(model.apply(params, state, x, train=True)[0], own(x), rtol=1e-5)
    grads = jax.grad(lambda params: model.apply(params, state, x)[0].sum())(params)
    kernel, slope = (
        params["hidden"]["layer_instance"]["kernel"],
        grads["hidden"]["layer_instance"]["kernel"],
    )
    np.testing.assert_allclose((kernel * slope).sum(0), 0, atol=1e-5)  # lengths of columns do not count


def test_only_modules_are_adapted():
    with pytest.raises(TypeError, match=r"module must be a flax.linen.Module, got"):
        from_linen(Linen)
    with pytest.raises(TypeError, match=r"module must be a flax.nnx.Module or a function"):
        from_nnx(3)


class Called(nnx.Module):
    """Flags in the call, as many examples have them."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, *, deterministic):
        return self.drop(self.norm(x, use_running_average=deterministic), deterministic=deterministic)


@pytest.mark.heavy
@pytest.mark.parametrize("make", [lambda: Called(nnx.Rngs(0)), lambda: Called])
def test_flags_in_the_call_of_an_nnx_module_follow_the_switches(make):
    model = from_nnx(make())
    x = jax.random.normal(KEY, (6, 4)) + 3
    params, state = model.init(KEY, x)
    inference, same = model.apply(params, state, x)
    assert same is state
    sample, same = model.apply(params, state, x, key=KEY)
    assert same is state
    assert not np.allclose(sample, inference)
    train, new = model.apply(params, state, x, train=True)
    np.testing.assert_array_equal(train, model.apply(params, state, x, train=True)[0])
    np.testing.assert_allclose(new["norm"]["mean"], x.mean(0) / 2, rtol=1e-5)
    _, new = model.apply(params, state, x.at[3:].set(1e6), train=True, mask=jnp.arange(6) < 3)
    np.testing.assert_allclose(new["norm"]["mean"], x[:3].mean(0) / 2, rtol=1e-5)
    with pytest.raises(ValueError, match="do not have the module's names: norm/zz"):
        model.apply({"norm": {"zz": jnp.ones(4), **params["norm"]}}, state, x)
    jax.jit(lambda p: jax.tree.map(lambda a: a + 1, p), donate_argnums=0)(params)
    again, _ = model.init(KEY, x)
    np.testing.assert_array_equal(again["norm"]["scale"], 1)


@pytest.mark.heavy
def test_linen_modules_with_attention_statistics_of_their_own_and_masks():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False):
            x = nn.SpectralNorm(nn.Dense(4))(x, update_stats=train)
            x = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5, deterministic=not train)(x)
            seen = self.variable("batch_stats", "seen", lambda: x.mean((0, 1)))
            return x + 0 * seen.value

    model = from_linen(Net())
    x = jax.random.normal(KEY, (2, 3, 4))
    params, state = model.init(KEY, x)
    inference, _ = model.apply(params, state, x)
    sample, same = model.apply(params, state, x, key=KEY)
    assert same is state
    assert not np.allclose(sample, inference)
    again, new = model.apply(params, state, x, train=True)
    np.testing.assert_array_equal(again, model.apply(params, state, x, train=True)[0])
    assert new is not state
    norm = from_linen(nn.BatchNorm(momentum=0.0))
    params, state = norm.init(KEY, jnp.ones((2, 1)))
    x, mask = jnp.array([[1.0], [100.0]]), jnp.array([True, False])
    new = norm.apply(params, state, x, train=True, mask=mask)[1]
    np.testing.assert_allclose(new["batch_stats"]["mean"], 1.0, rtol=1e-6)
    with pytest.raises(TypeError, match="rngs must be a list of names, got 'dropout'"):
        from_linen(nn.Dense(3), rngs="dropout")


def learns(model, x):
    result = jd.fit(
        model,
        (x, Y),
        loss=jd.losses.softmax_cross_entropy,
        optimizer=jd.optimizers.sgd(0.1),
        batch_size=8,
        epochs=2,
        key=KEY,
        progress=False,
    )
    assert result.history["loss"][1] < result.history["loss"][0]


class Sows(nn.Module):
    """A penalty put out by `sow`, beside a parameter of the module's own."""

    @nn.compact
    def __call__(self, x):
        y = nn.Dense(3)(x) + self.param("shift", nn.initializers.zeros, (3,))
        self.sow("losses", "size", jnp.mean(y**2))
        return y


@pytest.mark.heavy
def test_what_a_linen_module_sows_does_not_grow_and_its_own_parameters_are_in_the_summary():
    model = from_linen(Sows())
    params, state = model.init(KEY, X.reshape(16, -1))
    y, after = model.apply(params, state, X.reshape(16, -1), train=True)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    np.testing.assert_allclose(after["losses"]["size"][0], jnp.mean(y**2), rtol=1e-6)
    rows = jd.nn.summary(model, X.reshape(16, -1)).splitlines()
    assert any("shift" in row and " 3 " in row for row in rows)
    learns(model, X.reshape(16, -1))


def test_the_errors_of_flax_name_the_layer_too():
    model = jd.nn.serial(net=from_linen(nn.Dense(3)))
    params, state = model.init(KEY, jnp.ones((1, 4)))
    with pytest.raises(Exception, match="shape") as caught:
        model.apply(params, state, jnp.ones((1, 5)))
    assert "net" in "".join(getattr(caught.value, "__notes__", [])) + str(caught.value)


class OurDropout(nn.Dropout):
    pass


class OurNorm(nn.BatchNorm):
    def __call__(self, x):
        return super().__call__(x)


class Positional(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(momentum=0.9)(x, not train)
        return nn.Dropout(0.5)(x, not train)


class Subclassed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = OurNorm(use_running_average=not train, momentum=0.9)(x)
        return OurDropout(0.5, deterministic=not train)(x)


@pytest.mark.parametrize("module", [Positional(), Subclassed()])
def test_the_switches_reach_positional_flags_and_subclasses(module):
    model, x = from_linen(module), jax.random.normal(KEY, (16, 4))
    params, state = model.init(KEY, x)
    y, after = model.apply(params, state, x, train=True)
    assert not np.array_equal(y, model.apply(params, state, x)[0])  # batch statistics, no dropout
    assert np.all(np.asarray(y) != 0)
    mean = jax.tree.leaves(after)[0]
    np.testing.assert_allclose(mean, 0.1 * x.mean(0), rtol=1e-5, atol=1e-7)
    y, same = model.apply(params, state, x, key=KEY)
    kept = np.asarray(y) != 0
    np.testing.assert_allclose(
        np.asarray(y)[kept], 2 * np.asarray(model.apply(params, state, x)[0])[kept], rtol=1e-5
    )
    assert 0 < kept.mean() < 1
    assert same is state


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:SelfAttention will be deprecated:DeprecationWarning")
def test_attention_with_itself_follows_the_key():
    model = from_linen(nn.SelfAttention(2, dropout_rate=0.5, deterministic=True))
    x = jax.random.normal(KEY, (2, 5, 4))
    params, state = model.init(KEY, x)
    assert not np.array_equal(
        model.apply(params, state, x, key=KEY)[0], model.apply(params, state, x)[0]
    )


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_an_nnx_module_that_sows_is_trained():
    class Sowing(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, x):
            y = self.layer(x)
            self.sow(nnx.Intermediate, "h", y)
            return y

    model, x = from_nnx(Sowing), jax.random.normal(KEY, (16, 4))
    learns(model, x)
    with pytest.raises(TypeError, match=r"must return a flax.nnx.Module, got 3"):
        from_nnx(lambda rngs: 3).init(KEY, x)


class Noisy(nn.Module):
    """Noise of a stream of its own in training, drawn by itself or by a dropout; else everywhere."""

    by: str

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dense(4)(x)
        if self.by == "dropout":
            x = nn.Dropout(0.5, rng_collection="noise", deterministic=not train)(x)
        elif train or self.by == "itself everywhere":
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(3)(x)


def fitted(model):
    return jd.fit(
        model, (X[:, 0, :, 0], Y), loss=jd.losses.softmax_cross_entropy, key=KEY, epochs=1,
        optimizer=jd.optimizers.sgd(0.1), batch_size=16, progress=False,
    )  # fmt: skip


@pytest.mark.parametrize("by", ["itself", "dropout", "itself everywhere"])
def test_a_random_stream_that_is_not_named_is_said_with_what_to_write(by):
    message = (
        r"Noisy draws from the random stream 'noise', which is not among rngs=\('dropout',\): "
        r"jaxdeep\.adapters\.from_linen\(module, rngs=\('dropout', 'noise'\)\)"
    )
    model, x = from_linen(Noisy(by)), X[:, 0, :, 0]
    params, state = model.init(KEY, x)
    with pytest.raises(ValueError, match="^" + message):
        model.apply(params, state, x, train=True, key=KEY)
    with pytest.raises(ValueError, match="^" + message):
        fitted(model)
    if by != "dropout":  # which is lifted, to one that needs no stream
        with pytest.raises(ValueError, match=message):
            jd.adapters.lift(model, params, state, x)
    with pytest.raises(ValueError, match=r"which is not among rngs=\(\): .*, rngs=\('noise',\)\)"):
        from_linen(Noisy(by), rngs=[]).apply(params, state, x, train=True, key=KEY)


def test_a_random_stream_that_is_named_trains_and_needs_a_key_where_it_is_drawn_from():
    for by in ("itself", "dropout"):
        assert np.isfinite(fitted(from_linen(Noisy(by), rngs=["noise"])).history["loss"]).all()
    model, x = from_linen(Noisy("itself everywhere"), rngs=("dropout", "noise")), X[:, 0, :, 0]
    params, state = model.init(KEY, x)
    y = [model.apply(params, state, x, key=jax.random.key(i))[0] for i in (0, 0, 1)]
    np.testing.assert_array_equal(y[0], y[1])
    assert not np.allclose(y[0], y[2])
    message = "Noisy draws from the random stream 'noise' where there is no key, as at inference"
    for applied in (lambda: model.apply(params, state, x), lambda: fitted(model)):
        with pytest.raises(ValueError, match=message):
            applied()
