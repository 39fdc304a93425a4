"""Adapted modules as layers of jaxdeep: the module's own numbers, and the tools that then work."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import jaxdeep as jd
from jaxdeep.adapters import from_equinox, from_linen, from_nnx, lift, lower

KEY = jax.random.key(7)
IMAGES = jax.random.normal(jax.random.key(1), (6, 8, 8, 1))
ROWS = jax.random.normal(jax.random.key(2), (6, 5))


class Net(linen.Module):
    """Most of what is recognised, in one chain with a residual block."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.Conv(4, (3, 3), strides=2)(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = linen.avg_pool(x, (2, 2), strides=(2, 2)).reshape(x.shape[0], -1)
        x = linen.leaky_relu(linen.Dense(8)(x), 0.2)
        x = x + linen.gelu(linen.Dense(8, use_bias=False)(x))
        x = linen.Dropout(0.5, deterministic=not train)(linen.LayerNorm()(x))
        return linen.Dense(3)(x)


class Nnx(nnx.Module):
    """Layers in a list, whose names are numbers."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(5, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)])
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](nnx.tanh(self.norm(self.layers[0](x))))


class Eqx(eqx.Module):
    """One example of an image, channels in front."""

    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    pool: eqx.nn.MaxPool2d
    out: eqx.nn.Linear

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(1, 4, 3, padding=1, key=first)
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch", momentum=0.5)
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.out = eqx.nn.Linear(64, 3, key=second)

    def __call__(self, x, state):
        x, state = self.norm(self.conv(x), state)
        return self.out(self.pool(jax.nn.relu(x)).ravel()), state


def close(a, b, **kwargs):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-5} | kwargs), a, b
    )


def varied(params):
    """Parameters none of which is at its beginning, of ones or zeros."""
    return jax.tree.map(lambda a: a + 0.1 * jnp.cos(jnp.arange(a.size)).reshape(a.shape), params)


def kinds(model):
    return [place.layer.kind for place in jd.nn.walk.leaves(model)]


def lifted(model, x, **kwargs):
    params, state = jax.jit(model.init)(KEY, x)
    params = varied(params)
    return params, state, *lift(model, params, state, x, **kwargs)


# --- each library ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_linen():
    return lifted(from_linen(Net()), IMAGES)


def test_a_linen_network_becomes_layers(of_linen):
    params, _, model, own, _ = of_linen
    assert list(model.layers) == [
        *("Conv_0", "BatchNorm_0", "activation0", "average_pool0", "flatten0", "Dense_0"),
        *("activation1", "residual0", "LayerNorm_0", "Dropout_0", "Dense_2"),
    ]
    assert all(kind in jd.nn.layer.KINDS for kind in kinds(model))
    assert own["residual0"]["layer"]["Dense_1"]["kernel"] is params["Dense_1"]["kernel"]


def test_the_layers_give_what_the_linen_module_gives(of_linen):
    params, state, model, own, own_state = of_linen
    expected = Net().apply({"params": params, **state}, IMAGES)
    close(jax.jit(model.apply)(own, own_state, IMAGES)[0], expected)


@pytest.mark.heavy
def test_a_linen_network_trains_as_it_does_by_itself(of_linen):
    params, state, model, own, own_state = of_linen
    _, new = model.apply(own, own_state, IMAGES[:4], train=True)  # another batch size
    _, expected = Net().apply(
        {"params": params, **state},
        IMAGES[:4],
        train=True,
        rngs={"dropout": KEY},
        mutable=["batch_stats"],
    )
    close(new["BatchNorm_0"], expected["batch_stats"]["BatchNorm_0"])

    def loss(own):
        return (model.apply(own, own_state, IMAGES)[0] ** 2).mean()

    def of_module(params):
        return (Net().apply({"params": params, **state}, IMAGES) ** 2).mean()

    step = lambda p, g: optax.apply_updates(p, jax.tree.map(lambda a: -0.1 * a, g))  # noqa: E731
    trained = step(own, jax.grad(loss)(own))
    adapted = from_linen(Net())
    back, back_state = lower(adapted, params, state, trained, own_state, IMAGES)
    close(back, step(params, jax.grad(of_module)(params)))
    close(back_state, state, rtol=0, atol=0)
    close(
        Net().apply({"params": back, **back_state}, IMAGES), model.apply(trained, own_state, IMAGES)[0]
    )


@pytest.mark.heavy
def test_a_network_of_nnx_in_and_trained_and_out():
    adapted = from_nnx(Nnx)
    params, state, model, own, own_state = lifted(adapted, ROWS)
    assert list(model.layers) == ["layers.0", "norm", "activation0", "layers.1"]
    close(model.apply(own, own_state, ROWS)[0], adapted.apply(params, state, ROWS)[0])
    result = jd.fit(
        model, (ROWS, jnp.zeros(6, int)), loss=jd.losses.softmax_cross_entropy, epochs=2, key=KEY,
        params=own, state=own_state, optimizer=jd.optimizers.sgd(0.1), batch_size=3, progress=False,
    )  # fmt: skip
    back = lower(adapted, params, state, result.params, result.state, ROWS)
    close(adapted.apply(*back, ROWS)[0], model.apply(result.params, result.state, ROWS)[0])
    again, own_again, state_again = lift(adapted, *back, ROWS)
    assert again.layers == model.layers
    close((own_again, state_again), (result.params, result.state), rtol=0, atol=0)


@pytest.mark.heavy
def test_a_network_of_equinox_with_channels_in_front():
    x = jnp.moveaxis(IMAGES, -1, 1)
    adapted = from_equinox(Eqx)
    params, state, model, own, own_state = lifted(adapted, x, inference=True)
    assert "max_pool0" in model.layers
    close(model.apply(own, own_state, x)[0], adapted.apply(params, state, x)[0])
    folded, fparams, fstate = jd.compress.fold_batch_norm(model, own, own_state)
    assert not jax.tree.leaves(fstate)
    close(folded.apply(fparams, fstate, x)[0], adapted.apply(params, state, x)[0])
    back = lower(adapted, params, state, own, own_state, x, inference=True)
    close(back, (params, state), rtol=0, atol=0)


@pytest.mark.heavy
def test_a_batch_norm_of_equinox_stays_as_it_is_where_it_trains_otherwise():
    x = jnp.moveaxis(IMAGES, -1, 1)
    adapted = from_equinox(Eqx)
    params, state, model, own, own_state = lifted(adapted, x)
    assert kinds(model)[3] == "equinox (a part)"
    for rows in (6, 3):
        y, new = model.apply(own, own_state, x[:rows], train=True)
        expected, after = adapted.apply(params, state, x[:rows], train=True)
        close(y, expected)
        close(new["norm"], after["norm"])
    close(lower(adapted, params, state, own, new, x)[1], after)
    with pytest.raises(ValueError, match=r"norm: equinox.* keeps statistics of its own"):
        jd.compress.fold_batch_norm(model, own, own_state)


@pytest.mark.heavy
def test_after_many_steps_the_statistics_of_equinox_are_ours():
    x = jnp.moveaxis(IMAGES, -1, 1)
    adapted = from_equinox(Eqx)
    params, state = adapted.init(KEY, x)
    state["norm"]["batch_counter"] = jnp.full_like(state["norm"]["batch_counter"], 40)  # 0.5**40
    model, own, own_state = lift(adapted, params, state, x)
    assert "batch_norm" in kinds(model)
    _, new = model.apply(own, own_state, x, train=True)
    _, after = adapted.apply(params, state, x, train=True)
    close(new["norm"]["mean"], after["norm"]["batch_state_index"]["0"])


# --- what tools do then ---------------------------------------------------------------------------


@pytest.mark.heavy
def test_tools_work_on_what_was_lifted(of_linen, tmp_path):
    params, state, model, own, own_state = of_linen
    expected = Net().apply({"params": params, **state}, IMAGES)
    folded, fparams, fstate = jd.compress.fold_batch_norm(model, own, own_state)
    assert "batch_norm" not in kinds(folded)
    close(folded.apply(fparams, fstate, IMAGES)[0], expected)
    small, qparams, qstate = jd.compress.quantize(folded, fparams, fstate)
    assert float(jnp.abs(small.apply(qparams, qstate, IMAGES)[0] - expected).max()) < 0.05
    head = jd.transfer.replace_head(model, own, own_state, jd.nn.dense(7), IMAGES, key=0)
    assert head[0].apply(*head[1:], IMAGES)[0].shape == (6, 7)
    lower_part = jd.transfer.take_layers(model, own, own_state, 5)
    assert lower_part[0].apply(*lower_part[1:], IMAGES)[0].shape == (6, 16)
    jd.save(tmp_path / "net", model, own, own_state)
    again = jd.load(tmp_path / "net")
    close(again[0].apply(*again[1:], IMAGES)[0], expected)
    pred = jd.uncertainty.mc_dropout(model, own, own_state, IMAGES, key=KEY, samples=3)
    assert float(jnp.max(pred.std)) > 0


@pytest.mark.parametrize(
    "call",
    [
        jd.compress.fold_batch_norm,
        jd.compress.quantize,
        lambda *own: jd.transfer.replace_head(*own, jd.nn.dense(2), ROWS, key=0),
        lambda *own: jd.transfer.take_layers(*own, 1),
        lambda *own: jd.saving.to_config(own[0]),
    ],
)
def test_tools_say_what_to_do_about_an_adapted_module(call):
    class Small(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.BatchNorm(use_running_average=True)(linen.Dense(2)(x))

    model = from_linen(Small())
    params, state = model.init(KEY, ROWS)
    with pytest.raises(ValueError, match=r"jaxdeep\.adapters\.lift\(model, params, state, x\)"):
        call(model, params, state)


@pytest.mark.heavy
def test_modules_among_layers_are_lifted_in_their_places():
    body = from_linen(compact(lambda x, train: linen.relu(linen.Dense(4)(x))))
    model = jd.nn.serial(flat=jd.nn.flatten(), body=body, out=jd.nn.dense(2))
    params, state, found, own, _ = lifted(model, ROWS)
    assert kinds(found) == ["flatten", "dense", "activation", "dense"]
    assert own["body"]["Dense_0"]["kernel"] is params["body"]["Dense_0"]["kernel"]
    close(found.apply(own, {}, ROWS)[0], model.apply(params, state, ROWS)[0])
    back, _ = lower(model, params, state, jax.tree.map(lambda a: 2 * a, own), {}, ROWS)
    close(back, jax.tree.map(lambda a: 2 * a, params), rtol=0, atol=0)


# --- the flow of data -----------------------------------------------------------------------------


def compact(call):
    """A Linen module of a function of its input."""

    class Compact(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool = False):
            return call(x, train)

    return Compact()


class Block(linen.Module):
    @linen.compact
    def __call__(self, x):
        y = linen.relu(linen.Conv(4, (3, 3), name="first")(x))
        return linen.Conv(4, (3, 3), name="second")(y) + linen.Conv(4, (1, 1), name="around")(x)


@pytest.mark.heavy
def test_blocks_keep_their_names_and_branches():
    module = compact(lambda x, train: linen.Dense(2)(Block()(x).mean((1, 2))))
    params, _, model, own, own_state = lifted(from_linen(module), IMAGES)
    assert list(model.layers) == ["Block_0", "global_average_pool0", "Dense_0"]
    assert own["Block_0"]["layer"]["first"]["kernel"] is params["Block_0"]["first"]["kernel"]
    assert list(own["Block_0"]["shortcut"]) == ["around"]
    close(model.apply(own, own_state, IMAGES)[0], module.apply({"params": params}, IMAGES))


@pytest.mark.heavy
def test_branches_that_are_concatenated():
    module = compact(
        lambda x, train: linen.Dense(2)(
            jnp.concatenate([linen.tanh(linen.Dense(3)(x)), x, linen.Dense(4)(x)], axis=-1)
        )
    )
    params, _, model, own, _ = lifted(from_linen(module), ROWS)
    assert kinds(model) == ["dense", "activation", "serial", "dense", "dense"]
    close(model.apply(own, {}, ROWS)[0], module.apply({"params": params}, ROWS))


@pytest.mark.heavy
def test_what_is_not_known_stays_as_it_is_with_its_paths():
    class Attends(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool = False):
            x = linen.Dense(8)(x)
            heads = linen.MultiHeadDotProductAttention(2, dropout_rate=0.5, deterministic=not train)
            return linen.Dense(2)(linen.relu(x + heads(x)))

    module, x = Attends(), jax.random.normal(KEY, (4, 7, 3))
    adapted = from_linen(module)
    params, _, model, own, _ = lifted(adapted, x)
    assert list(model.layers) == [
        *("of_size0", "Dense_0", "MultiHeadDotProductAttention_0", "activation0", "Dense_1")
    ]
    query = own["MultiHeadDotProductAttention_0"]["query"]["kernel"]
    assert query is params["MultiHeadDotProductAttention_0"]["query"]["kernel"]
    close(model.apply(own, {}, x[:3])[0], module.apply({"params": params}, x[:3]))
    samples = [model.apply(own, {}, x, key=key)[0] for key in jax.random.split(KEY, 2)]
    assert not np.allclose(*samples)
    gradient = jax.grad(lambda p: model.apply(p, {}, x)[0].sum())(own)
    assert float(jnp.abs(gradient["MultiHeadDotProductAttention_0"]["out"]["kernel"]).max()) > 0
    assert "MultiHeadDotProductAttention_0 │ Attends (a part)" in jd.nn.summary(model, x)
    small, qparams, _ = jd.compress.quantize(model, own, {})
    assert qparams["Dense_0"]["kernel"].dtype == jnp.int8
    assert small.apply(qparams, {}, x)[0].shape == (4, 7, 2)
    fresh, _ = model.init(KEY, x)
    assert jax.tree.structure(fresh) == jax.tree.structure(own)


class Noisy(linen.Module):
    """Noise of its own in training, behind a dropout that is known."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.Dropout(0.5, deterministic=not train)(linen.Dense(6)(x))
        x = linen.relu(linen.Dense(8)(x))
        if train:
            x = x + 0.1 * jax.random.normal(self.make_rng("dropout"), x.shape)
        return linen.Dense(3)(linen.BatchNorm(use_running_average=not train)(x))


class NoisyWithAKey(linen.Module):
    """What draws wherever there is a key, so that it trains without one, too."""

    @linen.compact
    def __call__(self, x, deterministic: bool = True):
        x = linen.Dense(8)(x)
        if not deterministic:
            x = x * jax.random.bernoulli(self.make_rng("dropout"), 0.9, x.shape)
        return linen.Dense(3)(linen.tanh(x))


class NoisyNnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.out = nnx.Linear(5, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        self.rngs = rngs

    def __call__(self, x, train=False):
        x = nnx.relu(self.hidden(x))
        if train:
            x = x + 0.1 * jax.random.normal(self.rngs.dropout(), x.shape)
        return self.out(x)


class NoisyEqx(eqx.Module):
    hidden: eqx.nn.Linear
    out: eqx.nn.Linear

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.hidden = eqx.nn.Linear(5, 8, key=first)
        self.out = eqx.nn.Linear(8, 3, key=second)

    def __call__(self, x, key=None):
        x = jax.nn.relu(self.hidden(x))
        if key is not None:
            x = x + 0.1 * jax.random.normal(key, x.shape)
        return self.out(x)


NOISY = {
    "linen": (from_linen(Noisy()), ["dense", "dropout", "Noisy (a part)", "batch_norm", "dense"]),
    "linen, with a key": (from_linen(NoisyWithAKey()), ["NoisyWithAKey (a part)", "dense"]),
    "nnx": (from_nnx(NoisyNnx), ["nnx (a part)", "dense"]),
    "equinox": (from_equinox(NoisyEqx), ["equinox (a part)", "dense"]),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", NOISY)
def test_what_draws_random_numbers_itself_stays_as_it_is_with_the_layer_before(name):
    adapted, expected_kinds = NOISY[name]
    params, state, model, own, own_state = lifted(adapted, ROWS)
    assert kinds(model) == expected_kinds
    at_inference = adapted.apply(params, state, ROWS)[0]
    close(model.apply(own, own_state, ROWS)[0], at_inference)

    # the same distribution: over many keys, in mean and spread of the outputs
    keys = jax.random.split(KEY, 2000)

    def samples(m, p, s):
        return jax.jit(jax.vmap(lambda key: m.apply(p, s, ROWS, train=True, key=key)[0]))(keys)

    drawn, drawn_there = samples(model, own, own_state), samples(adapted, params, state)
    assert float(drawn_there.std(0).min()) > 0
    close(drawn.std(0), drawn_there.std(0), rtol=0.15)  # a standard error of 1.6 % each
    margin = 5 * np.sqrt(2 / len(keys)) * np.asarray(drawn_there.std(0))
    assert (np.abs(np.asarray(drawn.mean(0) - drawn_there.mean(0))) < margin).all()

    labels = jnp.zeros(6, int)
    result = jd.fit(
        model, (ROWS, labels), params=own, state=own_state, loss=jd.losses.softmax_cross_entropy,
        optimizer=optax.sgd(0.1), epochs=1, batch_size=3, key=KEY, progress=False,
    )  # fmt: skip
    back = lower(adapted, params, state, result.params, result.state, ROWS)
    close(adapted.apply(*back, ROWS)[0], model.apply(result.params, result.state, ROWS)[0])


def test_noise_under_train_stays_in_the_part_before_the_next_layer():
    class Small(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool = False):
            x = linen.Dense(4)(x)
            return linen.Dense(2)(x + jax.random.normal(self.make_rng("dropout")) if train else x)

    _, _, model, own, _ = lifted(from_linen(Small()), ROWS)
    assert kinds(model) == ["Small (a part)", "dense"]
    y, noisy = (
        model.apply(own, {}, ROWS, **switches)[0] for switches in ({}, {"train": True, "key": KEY})
    )
    assert not np.allclose(y, noisy)


def test_a_module_that_fails_in_training_is_named():
    class Other(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool = False):
            x = linen.Dense(3)(x)
            return x + self.make_rng("noise")[0] if train else x

    message = r"^lift: Other fails in training with a key.*'noise'.*from_linen\(module, rngs=.*inference"
    with pytest.raises(ValueError, match=message):
        lifted(from_linen(Other()), ROWS)
    assert kinds(lifted(from_linen(Other()), ROWS, inference=True)[2]) == ["dense"]


def test_a_module_of_noise_alone_is_refused_in_words_of_lift():
    class Noise(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool = False):
            return x + jax.random.normal(self.make_rng("dropout"), x.shape) if train else jnp.tanh(x)

    with pytest.raises(ValueError, match=r"^lift: Noise draws random numbers itself, beside no layer"):
        lifted(from_linen(Noise()), ROWS)


@pytest.mark.heavy
def test_a_layer_that_is_called_twice_stays_as_it_is():
    class Twice(linen.Module):
        @linen.compact
        def __call__(self, x):
            same = linen.Dense(5)
            return linen.Dense(2)(same(linen.tanh(same(x))))

    params, _, model, own, _ = lifted(from_linen(Twice()), ROWS)
    assert kinds(model) == ["Twice (a part)", "dense"]
    close(model.apply(own, {}, ROWS)[0], Twice().apply({"params": params}, ROWS))


class Step(linen.Module):
    @linen.compact
    def __call__(self, carry, _):
        return linen.tanh(linen.Dense(5)(carry)), None


def scanned(x):
    step = linen.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
    return step()(x, None)[0]


def rematted(x):
    return linen.remat(linen.Dense)(5)(x)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "call",
    [
        scanned,
        rematted,
        lambda x: linen.RNN(linen.GRUCell(5))(jnp.stack([x, x], 1))[:, -1],
        lambda x: linen.Dense(5)(x) * linen.sigmoid(linen.Dense(5)(x)),
    ],
    ids=["scan", "remat", "recurrent", "gate"],
)
def test_layers_in_loops_and_in_gates_stay_as_they_are(call):
    module = compact(lambda x, train: linen.Dense(2)(call(linen.Dense(5)(x))))
    params, _, model, own, _ = lifted(from_linen(module), ROWS)
    assert kinds(model)[0] == kinds(model)[-1] == "dense"
    assert kinds(model)[1] == "Compact (a part)"
    close(model.apply(own, {}, ROWS[:2])[0], module.apply({"params": params}, ROWS[:2]))
    close(lower(from_linen(module), params, {}, own, {}, ROWS)[0], params, rtol=0, atol=0)


@pytest.mark.heavy
def test_only_what_computes_the_same_is_recognised():
    def call(x, train):
        x = linen.avg_pool(
            x, (3, 3), strides=(2, 2), padding="SAME"
        )  # counts the padding, ours does not
        x = linen.Conv(3, (3, 3), padding="CIRCULAR")(x)
        return linen.Dense(2)((x / (1 + x**2)).reshape(x.shape[0], -1))

    module = compact(call)
    params, _, model, own, _ = lifted(from_linen(module), IMAGES)
    known = [kind for kind in kinds(model) if kind in jd.nn.layer.KINDS]
    assert known == ["of_size", "flatten", "dense"]  # at 7×7 the module runs, too
    close(model.apply(own, {}, IMAGES)[0], module.apply({"params": params}, IMAGES))


@pytest.mark.heavy
@pytest.mark.parametrize(
    "function",
    [
        *(jax.nn.relu, jax.nn.relu6, jax.nn.tanh, jax.nn.gelu, jax.nn.elu, jax.nn.celu, jax.nn.selu),
        *(jax.nn.silu, jax.nn.sigmoid, jax.nn.softplus, jax.nn.softmax, jax.nn.log_softmax),
        *(jax.nn.hard_tanh, jax.nn.mish, jax.nn.leaky_relu),
    ],
)
def test_activations_are_recognised_by_what_they_compute(function):
    _, _, model, _, _ = lifted(from_linen(compact(lambda x, train: function(linen.Dense(4)(x)))), ROWS)
    found = model.layers["activation0"].config["function"]
    x = jnp.linspace(-8, 8, 40).reshape(10, 4)
    close(found(x), function(x), rtol=1e-6, atol=1e-7)
    assert jd.nn.walk.meaning(model) == jd.nn.walk.meaning(
        jd.nn.serial(jd.nn.dense(4), jd.nn.activation(function))
    )


@pytest.mark.heavy
def test_dtypes_that_a_layer_sets_stay_as_they_are():
    module = compact(lambda x, train: linen.Dense(2)(linen.Dense(3, dtype=jnp.bfloat16)(x)))
    params, _, model, own, _ = lifted(from_linen(module), ROWS)
    assert kinds(model)[-1] == "dense"
    assert "(a part)" in kinds(model)[0]
    close(model.apply(own, {}, ROWS)[0], module.apply({"params": params}, ROWS), rtol=1e-2, atol=1e-2)


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_what_cannot_be_lifted_is_refused():
    scaled = compact(lambda x, train: linen.Dense(2)(x) * (2.0 if train else 1.0))
    two = compact(lambda x, train: (linen.Dense(2)(x), x))
    model = from_linen(two)
    params, state = model.init(KEY, ROWS)
    with pytest.raises(ValueError, match="lift takes modules of one output"):
        lift(model, params, state, ROWS)
    model = from_linen(scaled)
    params, state = model.init(KEY, ROWS)
    with pytest.raises(ValueError, match="do not give what it gives in training"):
        lift(model, params, state, ROWS)
    found = lift(model, params, state, ROWS, inference=True)
    with pytest.raises(ValueError, match="lifted_params/Dense_0/bias is missing, and what lift makes"):
        lower(model, params, state, {}, {}, ROWS, inference=True)
    with pytest.raises(TypeError, match="lift takes a model of from_linen, from_nnx or from_equinox"):
        lift(*found, ROWS)


SUMS = {
    "f(x) + 2 x": lambda x: linen.Dense(5)(x) + 2 * x,
    "f(x) + a slice": lambda x: linen.Dense(2)(x) + x[:, :2],
    "f(x) + a mean": lambda x: linen.Dense(5)(x) + x.mean(-1, keepdims=True),
    "x + f(x) / 2": lambda x: x + 0.5 * linen.Dense(5)(x),
    "f(x) + 2 g(x)": lambda x: linen.Dense(5)(x) + 2 * linen.Dense(5)(x),
}


@pytest.mark.heavy
@pytest.mark.few("f(x) + 2 x-False", "x + f(x) / 2-False")
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("name", SUMS)
def test_a_sum_with_a_branch_of_no_layer_stays_as_it_is(name, behind):
    """The layers behind it are lifted all the same."""

    class Sum(linen.Module):
        @linen.compact
        def __call__(self, x):
            y = SUMS[name](x)
            return linen.Dense(3, name="out")(linen.relu(y)) if behind else y

    model = from_linen(Sum())
    params, state = model.init(KEY, ROWS)
    lifted, own, own_state = lift(model, params, state, ROWS)
    y, _ = lifted.apply(own, own_state, ROWS)
    np.testing.assert_allclose(y, model.apply(params, state, ROWS)[0], rtol=1e-5, atol=1e-6)
    back, _ = lower(model, params, state, own, own_state, ROWS)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    kinds = [layer.kind for layer in lifted.layers.values()]
    assert kinds[1:] == (["activation", "dense"] if behind else [])


@pytest.mark.heavy
@pytest.mark.parametrize("by_name", [True, False])
def test_a_module_of_several_inputs_says_what_to_do_and_that_works(by_name):
    class Two(linen.Module):
        @linen.compact
        def __call__(self, x):
            a, b = (x["a"], x["b"]) if by_name else x
            both = jnp.concatenate([linen.relu(linen.Dense(3)(a)), b], -1)
            return linen.Dense(2)(both)

    a, b = ROWS, ROWS[:, :2]
    x = {"a": a, "b": b} if by_name else (a, b)
    model = from_linen(Two())
    params, state = model.init(KEY, x)
    with pytest.raises(ValueError, match=r"lift takes modules of one array, got x of 2.*nn\.graph"):
        lift(model, params, state, x)

    parts = jd.nn.graph(
        {"wide": ("wide", "a"), "both": ("join", ("wide", "b")), "y": ("end", "both")},
        "y",
        {"a": "a", "b": "b"} if by_name else ("a", "b"),
        wide=from_linen(linen.Sequential([linen.Dense(3), linen.relu])),
        join=jd.nn.merge("concatenate"),
        end=from_linen(linen.Sequential([linen.Dense(2)])),
    )
    own = {"wide": {"layers_0": params["Dense_0"]}, "end": {"layers_0": params["Dense_1"]}, "join": {}}
    model, own, own_state = lift(parts, own, parts.init(KEY, x)[1], x)
    assert kinds(model.layers["wide"]) == ["dense", "activation"]
    assert kinds(model.layers["end"]) == ["dense"]
    close(model.apply(own, own_state, x)[0], Two().apply({"params": params}, x))


@pytest.mark.heavy
def test_arrays_that_several_parts_share_are_refused():
    class Tied(linen.Module):
        @linen.compact
        def __call__(self, x):
            embed = linen.Embed(5, 4)
            return embed.attend(linen.tanh(linen.Dense(4)(embed(x))))

    model = from_linen(Tied())
    x = jnp.array([[0, 1], [2, 3]])
    params, state = model.init(KEY, x)
    with pytest.raises(ValueError, match=r"use Embed_0\.embedding, and layers of jaxdeep have arrays"):
        lift(model, params, state, x)


# --- what has the values of a layer, and is another -----------------------------------------------


def between(function, rows=8):
    """A module of two dense layers with a function between them, lifted."""

    class Module(linen.Module):
        @linen.compact
        def __call__(self, x):
            h = function(linen.Dense(8)(x))
            return linen.Dense(2)(h)

    return lifted(from_linen(Module()), ROWS[:rows])


class Around(linen.Module):
    """A dense layer inside of a module that changes its parameters."""

    norm: type

    @linen.compact
    def __call__(self, x, train: bool = False):
        flags = {"update_stats": train} if self.norm is linen.SpectralNorm else {}
        return linen.Dense(2)(linen.relu(self.norm(linen.Dense(4))(x, **flags)))


class AroundEqx(eqx.Module):
    """The same in Equinox."""

    inner: eqx.Module
    out: eqx.nn.Linear

    def __init__(self, key):
        self.inner = eqx.nn.WeightNorm(eqx.nn.Linear(5, 4, key=key))
        self.out = eqx.nn.Linear(4, 2, key=key)

    def __call__(self, x):
        return self.out(jax.nn.relu(self.inner(x)))


class AroundNnx(nnx.Module):
    """The same in NNX, where its call writes what it changes."""

    def __init__(self, rngs):
        self.inner = nnx.SpectralNorm(nnx.Linear(5, 4, rngs=rngs), rngs=rngs)
        self.out = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x, train: bool = False):
        return self.out(nnx.relu(self.inner(x, update_stats=train)))


@pytest.mark.heavy
@pytest.mark.few(1)
@pytest.mark.parametrize(
    "make",
    [
        lambda: from_linen(Around(linen.SpectralNorm)),
        lambda: from_linen(Around(linen.WeightNorm)),
        lambda: from_equinox(AroundEqx),
        lambda: from_nnx(AroundNnx),
    ],
    ids=["spectral", "weight", "equinox", "nnx"],
)
def test_a_layer_whose_parameters_are_changed_on_the_way_stays_with_what_changes_them(make):
    model = make()
    params, state, layers, own, own_state = lifted(model, ROWS)
    assert kinds(layers)[1:] == ["activation", "dense"]
    assert kinds(layers)[0].endswith("(a part)")
    step = lambda tree: jax.tree.map(lambda a: a + 0.1 * jnp.sin(a), tree)  # noqa: E731
    moved = step(own)
    y, new = layers.apply(moved, own_state, ROWS, train=True)
    wanted, after = model.apply(step(params), state, ROWS, train=True)
    close(y, wanted)
    back, back_state = lower(model, params, state, moved, new, ROWS)
    close(back, step(params))
    close(back_state, after)
    assert jax.tree.leaves(after) == [] or not jax.tree.all(jax.tree.map(jnp.allclose, after, state))


def test_a_layer_in_a_jitted_module_is_lifted_all_the_same():
    class Jitted(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.jit(linen.Dense)(4)(x)

    assert kinds(lifted(from_linen(Jitted()), ROWS)[2]) == ["dense"]


@jax.custom_vjp
def reversed_gradient(x):
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))


@jax.custom_vjp
def straight_through(x):
    return jnp.round(x)


straight_through.defvjp(lambda x: (x, None), lambda _, g: (g,))


@pytest.mark.heavy
@pytest.mark.few(2)
@pytest.mark.parametrize(
    "function",
    [
        reversed_gradient,
        lambda h: 0.5 * linen.relu(h) + 0.5 * jax.lax.stop_gradient(linen.relu(h)),
        lambda h: jax.lax.stop_gradient(linen.relu(h)),
        lambda h: reversed_gradient(linen.gelu(h)),
        straight_through,
    ],
    ids=["reversed", "half", "stopped", "after gelu", "straight through"],
)
def test_what_has_other_slopes_than_a_layer_of_its_values_stays(function):
    params, _, model, own, _ = between(function)
    assert "function" in kinds(model)

    def of_module(params):
        first, last = params["Dense_0"], params["Dense_1"]
        h = function(ROWS @ first["kernel"] + first["bias"])
        return ((h @ last["kernel"] + last["bias"]) ** 2).sum()

    def loss(own):
        return (model.apply(own, {}, ROWS)[0] ** 2).sum()

    close(jax.grad(loss)(own), jax.grad(of_module)(params), rtol=1e-4, atol=1e-4)


@pytest.mark.heavy
@pytest.mark.few(2)
@pytest.mark.parametrize("rows", [6, 1])
@pytest.mark.parametrize(
    "function",
    [
        lambda h: jnp.clip(h, -50, 50),
        lambda h: jnp.minimum(linen.relu(h), 100),
        lambda h: linen.gelu(jnp.clip(h, -1000, 1000)),
        lambda h: jnp.clip(h, -1e30, 1e30),
        lambda h: linen.relu(h).at[-1, -1].mul(2),
        lambda h: linen.max_pool(jnp.clip(h, -1e6, 1e6)[..., None], (2,), (2,))[..., 0],
    ],
    ids=["clip", "cap", "clip and gelu", "far", "the last element", "clip and pool"],
)
def test_clips_and_caps_are_seen_whatever_the_example(function, rows):
    params, _, model, own, _ = between(function, rows)
    first, last = params["Dense_0"], params["Dense_1"]
    for size in (1.0, 1e3, 1e6, 1e34):
        x = size * ROWS[:rows]
        h = function(x @ first["kernel"] + first["bias"])
        wanted = h @ last["kernel"] + last["bias"]
        scale = float(jnp.abs(wanted).max())
        close(model.apply(own, {}, x)[0] / scale, wanted / scale)


@pytest.mark.heavy
def test_gradients_are_compared_at_the_end_too(monkeypatch):
    from jaxdeep.adapters import recognition

    monkeypatch.setattr(recognition, "_same_slopes", lambda *_: True)
    with pytest.raises(ValueError, match="have other gradients than it at inference"):
        between(lambda h: jax.lax.stop_gradient(linen.relu(h)))
