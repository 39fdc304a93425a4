"""Frozen and reused layers: what is trained, what it costs, and what stays as it was."""

import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.properties import damaged, over

import jaxdeep as jd
from jaxdeep.train import EarlyStopping, Phase, make_run, make_step, supervised

KEY = jax.random.key(0)
LOSS = jd.losses.softmax_cross_entropy


def problem(n=96, features=8, classes=3):
    x = jax.random.normal(jax.random.key(1), (n, features))
    return np.array(x), np.array(jnp.argmax(x[:, :classes], -1))


def network(**head):
    return jd.nn.serial(
        hidden1=jd.nn.dense(16, activation=jax.nn.relu),
        bn1=jd.nn.batch_norm(momentum=0.9),
        hidden2=jd.nn.dense(8, activation=jax.nn.relu),
        bn2=jd.nn.batch_norm(momentum=0.9, use_scale=False, use_bias=False),
        drop=jd.nn.dropout(0.2),
        **(head or {"logits": jd.nn.dense(3)}),
    )


def fit(model=None, data=None, optimizer=None, **arguments):
    given = {"loss": LOSS, "batch_size": 16, "key": KEY, "progress": False} | arguments
    return jd.fit(
        model or network(), data or problem(), optimizer=optimizer or jd.optimizers.adam(1e-2), **given
    )


@pytest.fixture(scope="module")
def trained():
    result = fit(epochs=2)
    return result.params, result.state


def same(a, b):
    flat_a, flat_b = jax.tree.leaves(a), jax.tree.leaves(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(np.array_equal(x, y) for x, y in zip(flat_a, flat_b))


def close(a, b, **tolerance):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-6} | tolerance), a, b
    )


# --- trainable ------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_only_what_is_trainable_moves(trained):
    params, state = trained
    result = fit(params=params, state=state, trainable="logits/*")
    moved = {path for path, leaf, old in zip(
        jd.tree.leaf_paths(params), jax.tree.leaves(result.params), jax.tree.leaves(params)
    ) if not np.array_equal(leaf, old)}  # fmt: skip
    assert moved == {"logits/kernel", "logits/bias"}
    assert same(result.state, state)  # batch norms with and without parameters


@pytest.mark.heavy
def test_frozen_batch_norms_follow_the_data_when_asked(trained):
    params, state = trained
    result = fit(params=params, state=state, trainable="logits/*", freeze_batch_norm=False)
    assert not same(result.state["bn1"], state["bn1"])
    assert not same(result.state["bn2"], state["bn2"])
    assert same(result.params["bn1"], params["bn1"])


@pytest.mark.heavy
def test_a_frozen_batch_norm_normalises_by_its_running_statistics():
    x = problem()[0][:16]
    model = jd.nn.serial(bn=jd.nn.batch_norm(), logits=jd.nn.dense(1))
    own, stats = model.init(KEY, x)
    stats = {"bn": {"mean": stats["bn"]["mean"] + 3, "var": stats["bn"]["var"] * 4}}
    held = model.frozen(jd.tree.mask(own, "logits/*"))
    y, after = held.apply(own, stats, x, train=True)
    np.testing.assert_allclose(y, model.apply(own, stats, x)[0], rtol=1e-6)
    assert same(after, stats)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("where", "follow"),
    [
        ("logits/*", (False, False)),
        (["logits/*", "hidden2/*"], (False, True)),  # bn2 goes with hidden2
        (["hidden1/*", "bn1/*"], (True, False)),
        ("*", (True, True)),
    ],
)
def test_which_batch_norms_are_frozen(where, follow):
    model, x = network(), problem()[0]
    params, state = model.init(KEY, x)
    held = model.frozen(jd.tree.mask(params, where))
    after = held.apply(params, state, x, train=True)[1]
    assert tuple(not same(after[n], state[n]) for n in ("bn1", "bn2")) == follow


@pytest.mark.heavy
def test_freezing_inside_combinators():
    inner = jd.nn.serial(d=jd.nn.dense(8), bn=jd.nn.batch_norm())
    x = problem()[0]
    for model, path in (
        (jd.nn.serial(block=jd.nn.residual(inner), logits=jd.nn.dense(2)), ("block", "layer", "bn")),
        (jd.nn.mixed_precision(jd.nn.serial(block=inner, logits=jd.nn.dense(2))), ("block", "bn")),
        (
            jd.nn.serial(block=jd.nn.repeat(inner, 3), logits=jd.nn.dense(2)),
            ("block", "layer", "bn"),
        ),
    ):
        params, state = model.init(KEY, x)
        after = model.frozen(jd.tree.mask(params, "logits/*")).apply(params, state, x, train=True)[1]
        assert same(after, state)
        after = model.frozen(jd.tree.mask(params, "block/*")).apply(params, state, x, train=True)[1]
        for name in path:
            after, state = after[name], state[name]
        assert not same(after, state)


@pytest.mark.heavy
def test_the_optimizer_knows_nothing_of_the_rest():
    model, data = network(), problem()
    tx = optax.chain(jd.optimizers.clip_by_global_norm(1e-3), jd.optimizers.adam(1e-2))
    ts = jd.train.init(model, tx, data[0][:1], key=KEY, trainable="logits/*")
    sizes = sorted(leaf.shape for leaf in jax.tree.leaves(ts.opt_state) if leaf.ndim)
    assert sizes == sorted(2 * [(3,), (8, 3)])
    # the clipped norm is that of the head's gradient: a step of SGD has exactly that length
    sgd = optax.chain(jd.optimizers.clip_by_global_norm(1e-3), jd.optimizers.sgd(1.0))
    objective = supervised(model, LOSS, trainable="logits/*")
    ts = jd.train.init(model, sgd, data[0][:1], key=KEY, trainable="logits/*")
    new, _ = jax.jit(make_step(objective, sgd, trainable="logits/*"))(ts, data)
    step = jax.tree.map(jnp.subtract, new.params, ts.params)
    np.testing.assert_allclose(optax.tree.norm(step), 1e-3, rtol=1e-4)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "optimizer",
    [jd.optimizers.nag(1e-2, momentum=0.9), jd.optimizers.adamw(1e-2), optax.adam(1e-2)],
)
def test_a_step_is_the_step_of_the_head_alone(optimizer):
    """The lower layers as a fixed function, the head as the whole model."""
    model, data = network(), problem()
    objective = supervised(model, LOSS, trainable="logits/*")
    ts = jd.train.init(model, optimizer, data[0][:1], key=KEY, trainable="logits/*")
    step = jax.jit(make_step(objective, optimizer, trainable="logits/*"))
    head, opt_state = ts.params["logits"], optimizer.init(ts.params["logits"])
    lower, lower_params, lower_state = jd.transfer.drop_layers(model, ts.params, ts.state, 1)

    @jax.jit
    def by_hand(head, opt_state, t):
        features, _ = lower.apply(lower_params, lower_state, data[0], key=jax.random.fold_in(ts.key, t))
        point = jd.optimizers.gradient_point(opt_state, head)
        grads = jax.grad(lambda h: LOSS(features @ h["kernel"] + h["bias"], data[1]).mean())(point)
        updates, opt_state = optimizer.update(grads, opt_state, head)
        return optax.apply_updates(head, updates), opt_state

    now = ts
    for t in range(4):
        now, _ = step(now, data)
        head, opt_state = by_hand(head, opt_state, t)
    close(now.params["logits"], head)


@pytest.mark.heavy
def test_freezing_the_lower_layers_saves_their_backward_pass():
    """Of a layer's 6 n m multiplications and additions a row, 2 n m are forward."""
    widths, rows = (64, 256, 256, 10), 32
    model = jd.nn.serial(
        a=jd.nn.dense(widths[1], use_bias=False),
        b=jd.nn.dense(widths[2], use_bias=False),
        logits=jd.nn.dense(widths[3], use_bias=False),
    )
    batch = jnp.ones((rows, widths[0])), jnp.zeros(rows, int)

    def flops(trainable):
        tx = jd.optimizers.sgd(0.1)
        objective = supervised(model, LOSS, trainable=trainable)
        ts = jd.train.init(model, tx, batch[0][:1], key=KEY, trainable=trainable)
        step = jax.jit(make_step(objective, tx, trainable=trainable))
        return step.lower(ts, batch).compile().cost_analysis()["flops"]

    a, b, c = (2 * rows * n * m for n, m in itertools.pairwise(widths))
    whole, head, upper = flops(None), flops("logits/*"), flops(["b/*", "logits/*"])
    sizes = [n * m for n, m in itertools.pairwise(widths)]
    # backward: gradient of the kernel each, gradient of the input for all but the first; the update is
    # two operations a parameter
    saved = a + 2 * b + c + 2 * (sizes[0] + sizes[1])
    assert whole - head == pytest.approx(saved, rel=0.03)
    assert whole - upper == pytest.approx(a + b + 2 * sizes[0], rel=0.03)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "arguments", [{"accumulation_steps": 3}, {"on_nonfinite": "skip"}, {"stream": True}]
)
def test_other_arguments_hold_with_frozen_layers(trained, arguments):
    params, state = trained
    result = fit(params=params, state=state, trainable=["logits/*", "hidden2/*"], **arguments)
    assert same(result.params["hidden1"], params["hidden1"])
    assert not same(result.params["hidden2"], params["hidden2"])


@pytest.mark.heavy
def test_an_average_early_stopping_and_checkpoints_with_frozen_layers(trained, tmp_path):
    params, state = trained
    tx = optax.chain(jd.optimizers.adam(1e-2), jd.optimizers.ema_params(0.9))
    arguments = {
        "params": params, "state": state, "trainable": "logits/*", "ema": True, "optimizer": tx,
        "early_stopping": EarlyStopping(patience=5), "validation": problem(), "shuffle": False,
    }  # fmt: skip
    whole = fit(epochs=4, **arguments)
    assert same(whole.params["hidden1"], params["hidden1"])
    fit(epochs=2, checkpoint=tmp_path, **arguments)
    assert same(fit(epochs=4, checkpoint=tmp_path, **arguments).params, whole.params)
    with pytest.raises(ValueError, match="another run"):
        fit(epochs=4, checkpoint=tmp_path, **arguments | {"trainable": "hidden*"})


@pytest.mark.heavy
def test_run_and_sweep_train_the_same_leaves(trained):
    data, tx = problem(), jd.optimizers.adam(1e-2)
    whole = fit(epochs=2, trainable="logits/*")
    objective = supervised(network(), LOSS, trainable="logits/*")
    ts = jd.train.init(network(), tx, data[0][:1], key=KEY, trainable="logits/*")
    run = jax.jit(make_run(objective, tx, epochs=2, batch_size=16, trainable="logits/*"))
    close(run(ts, data)[0].params, whole.params)
    for strategy in ("threads", "vmap"):
        table = jd.sweep(
            lambda hp: jd.optimizers.adam(hp["rate"]),
            {"rate": [1e-2, 1e-3]},
            model=network(), data=data, loss=LOSS, epochs=2, batch_size=16, trainable="logits/*",
            strategy=strategy, progress=False,
        )  # fmt: skip
        close(table.results[0].params, whole.params)
        close(table.results[0].state, whole.state)


@pytest.mark.heavy
def test_a_selector_of_the_optimizer_may_name_what_is_frozen():
    tx = optax.chain(jd.optimizers.adam(1e-2), jd.optimizers.max_norm(0.5, where="hidden*/kernel"))
    fit(optimizer=tx, trainable="logits/*")
    with pytest.raises(ValueError, match="matches no leaf"):
        fit(optimizer=optax.chain(tx, jd.optimizers.max_norm(0.5, where="hiden*")), trainable="logits/*")


@pytest.mark.parametrize(
    ("trainable", "error", "message"),
    [
        ("logit/*", ValueError, "trainable='logit/\\*' matches no leaf; did you mean 'logits/"),
        (3, TypeError, "where must be a glob"),
        (lambda path, leaf: False, ValueError, "matches no leaf"),
    ],
)
def test_selectors_that_are_wrong(trainable, error, message):
    with pytest.raises(error, match=message):
        fit(trainable=trainable)


@pytest.mark.heavy
def test_adapted_modules_freeze_by_the_path_of_their_parts():
    import flax.linen as nn
    from flax import nnx

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False):
            x = nn.BatchNorm(use_running_average=not train, name="norm1")(nn.Dense(8, name="lower")(x))
            x = nn.BatchNorm(use_running_average=not train, name="norm2")(nn.Dense(8, name="upper")(x))
            return nn.Dense(3, name="logits")(x)

    class Nnx(nnx.Module):
        def __init__(self, rngs):
            self.lower, self.norm1 = nnx.Linear(8, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
            self.upper, self.norm2 = nnx.Linear(8, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
            self.logits = nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            return self.logits(self.norm2(self.upper(self.norm1(self.lower(x)))))

    where = ["logits/*", "norm2/*", "upper/*"]
    for model in (jd.adapters.from_linen(Linen()), jd.adapters.from_nnx(Nnx)):
        params, state = model.init(KEY, problem()[0])
        result = fit(model=model, params=params, state=state, trainable=where)
        new, old = (tree.get("batch_stats", tree) for tree in (result.state, state))
        assert same(new["norm1"], old["norm1"])
        assert not same(new["norm2"], old["norm2"])
        assert same(result.params["lower"], params["lower"])


# --- phases ---------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_phases_are_fits_one_after_another(trained, tmp_path):
    params, state = trained
    start = {"params": params, "state": state, "validation": problem()}
    seen = []
    phases = [Phase(2, "logits/*", 1e-2), (3, None, 1e-3)]

    def look(now):
        seen.append((now.epoch, len(now.history["loss"])))

    whole = fit(phases=phases, callbacks=[look], **start)
    first = fit(epochs=2, trainable="logits/*", optimizer=jd.optimizers.adam(1e-2), **start)
    second = fit(
        epochs=3, optimizer=jd.optimizers.adam(1e-3), key=jax.random.fold_in(KEY, 1),
        validation=problem(), params=first.params, state=first.state,
    )  # fmt: skip
    close(whole.params, second.params)
    expected = np.concatenate([first.history["val_loss"], second.history["val_loss"]])
    np.testing.assert_allclose(whole.history["val_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(whole.history["learning_rate"], [1e-2] * 2 + [1e-3] * 3, rtol=1e-6)
    assert seen == [(i, i) for i in range(1, 6)]

    class Interrupted(Exception):
        pass

    def interrupt(now):
        if now.epoch == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(phases=phases, checkpoint=tmp_path, callbacks=[interrupt], **start)
    again = fit(phases=phases, checkpoint=tmp_path, **start)
    assert same(again.params, whole.params)
    assert same(again.history, whole.history)


@pytest.mark.heavy
def test_phases_with_an_optimizer_made_from_the_rate():
    result = fit(optimizer=optax.sgd, phases=[(1, "logits/*", 0.1), (1, None, 0.01)])
    assert len(result.history["loss"]) == 2
    with pytest.raises(ValueError, match=r"phases\[1\] needs a learning_rate"):
        fit(optimizer=optax.sgd, phases=[(1, "logits/*", 0.1), (1,)])


@pytest.mark.parametrize(
    ("phases", "arguments", "message"),
    [
        ([(1,), (1, "logit/*")], {}, "trainable='logit/\\*' matches no leaf"),
        ([(1,), (1, None, -1.0)], {}, r"phases\[1\].learning_rate must be in"),
        ([(0,)], {}, r"phases\[0\].epochs"),
        ([(1,)], {"epochs": 3}, "phases say epochs themselves"),
        ([(1,)], {"trainable": "*"}, "phases say trainable themselves"),
        ([(1,), (1, None, 0.1)], {"optimizer": optax.adam(1e-3)}, r"phases\[1\].learning_rate needs"),
    ],
)
def test_phases_that_are_wrong_are_refused_before_the_first(phases, arguments, message):
    ran = []
    with pytest.raises(ValueError, match=message):
        fit(phases=phases, callbacks=[ran.append], **arguments)
    assert not ran
    for nothing in ([], "abc", Phase(1), [3]):
        with pytest.raises(TypeError, match="phases"):
            fit(phases=nothing)


# --- reuse ----------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_new_head_on_the_same_layers(trained):
    params, state = trained
    x = problem()[0]
    model, new, new_state = jd.transfer.replace_head(
        network(), params, state, jd.nn.dense(1), x[:1], key=jax.random.key(5)
    )
    assert list(model.layers) == list(network().layers)
    assert all(new[n]["kernel"] is params[n]["kernel"] for n in ("hidden1", "hidden2"))
    assert same(new_state, state)
    assert new["logits"]["kernel"].shape == (8, 1)
    lower, lower_params, lower_state = jd.transfer.drop_layers(network(), params, state, "logits")
    features = lower.apply(lower_params, lower_state, x)[0]
    expected = features @ new["logits"]["kernel"] + new["logits"]["bias"]
    np.testing.assert_allclose(model.apply(new, new_state, x)[0], expected, rtol=1e-5)


@pytest.mark.heavy
def test_a_head_is_the_last_layer_with_parameters_and_what_is_behind(trained):
    model = network(logits=jd.nn.dense(3), softmax=jd.nn.activation(jax.nn.softmax))
    x = jnp.ones((1, 8))
    params, state = model.init(KEY, x)
    new = jd.transfer.replace_head(model, params, state, jd.nn.dense(1), x, key=KEY)[0]
    assert list(new.layers)[-2:] == ["drop", "logits"]
    new = jd.transfer.replace_head(model, params, state, jd.nn.dense(1), x, key=KEY, layer="hidden2")
    assert list(new[0].layers) == ["hidden1", "bn1", "hidden2"]
    wrapped = jd.nn.mixed_precision(model)
    new = jd.transfer.replace_head(wrapped, params, state, jd.nn.dense(1), x, key=KEY)
    assert new[0].kind == "mixed_precision"
    assert new[0].apply(*new[1:], x)[0].shape == (1, 1)


@pytest.mark.heavy
def test_training_a_clone_leaves_the_original(trained):
    params, state = trained
    before = jax.tree.map(np.array, (params, state))
    model, new, new_state = jd.transfer.replace_head(
        network(), params, state, jd.nn.dense(3), jnp.ones((1, 8)), key=KEY
    )
    fit(model=model, params=new, state=new_state)
    assert same((params, state), before)


def test_taking_and_dropping_layers(trained):
    params, state = trained
    model = network()
    names = list(model.layers)
    for layers, expected in ((2, names[:2]), ("hidden*", ["hidden1", "hidden2"]), (["bn1"], ["bn1"])):
        assert list(jd.transfer.take_layers(model, params, state, layers)[0].layers) == expected
    for layers, expected in (
        (2, names[:-2]),
        ("*", []),
        (["drop", "bn?"], ["hidden1", "hidden2", "logits"]),
    ):
        kept = jd.transfer.drop_layers(model, params, state, layers)
        assert list(kept[0].layers) == expected
        assert set(kept[1]) <= set(expected)


@pytest.mark.heavy
def test_a_pretrained_model_begins_where_another_ended(trained):
    params, state = trained
    other = network(logits=jd.nn.dense(2))
    model = jd.transfer.pretrained(other, params, state)
    new, new_state = model.init(jax.random.key(3), jnp.ones((1, 8)))
    fresh, _ = other.init(jax.random.key(3), jnp.ones((1, 8)))
    assert same(new["hidden1"], params["hidden1"])
    assert same(new["logits"], fresh["logits"])
    assert same(new_state, state)
    part = jd.transfer.pretrained(other, params, state, where="hidden1/*")
    new, new_state = part.init(jax.random.key(3), jnp.ones((1, 8)))
    assert same(new["hidden1"], params["hidden1"])
    assert same(new["hidden2"], fresh["hidden2"])
    assert not same(new_state, state)
    many = jax.vmap(lambda key: model.init(key, jnp.ones((1, 8)))[0])(jax.random.split(KEY, 3))
    assert np.ptp(many["hidden1"]["kernel"], axis=0).max() == 0
    assert np.ptp(many["logits"]["kernel"], axis=0).min() > 0


@pytest.mark.heavy
def test_a_model_that_began_elsewhere_is_saved_as_what_it_is(trained, tmp_path):
    params, state = trained
    model = jd.transfer.pretrained(network(), params, state)
    result = fit(model=model)
    jd.save(tmp_path / "m", jd.nn.serial(body=model), {"body": result.params}, {"body": result.state})
    again, again_params, again_state = jd.load(tmp_path / "m")
    x = problem()[0]
    np.testing.assert_array_equal(
        again.apply(again_params, again_state, x)[0], network().apply(result.params, result.state, x)[0]
    )
    assert "hidden1" in jd.nn.summary(model, x)


@pytest.mark.heavy
def test_rates_fall_with_depth():
    model = network()
    params, _ = model.init(KEY, jnp.ones((1, 8)))
    tx = optax.chain(jd.optimizers.sgd(1.0), jd.transfer.layerwise_decay(model, params, 0.5))
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    for k, name in enumerate(("logits", "hidden2", "bn1", "hidden1")):
        assert float(updates[name]["bias"][0]) == -(0.5**k)
    # and with only the upper layers trainable
    fit(optimizer=tx, trainable=["logits/*", "hidden2/*"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, p, s: jd.transfer.take_layers(m, p, s, 9), ValueError, "layers=9: the first 9 of 6"),
        (lambda m, p, s: jd.transfer.take_layers(m, p, s, "hiden"), ValueError, "'hiden' is no layer"),
        (lambda m, p, s: jd.transfer.drop_layers(m, p, s, 0), ValueError, "layers"),
        (lambda m, p, s: jd.transfer.layerwise_decay(m, p, 1.5), ValueError, "decay must be in"),
        (
            lambda m, p, s: jd.transfer.take_layers(jd.nn.dense(3), p, s, 1),
            ValueError,
            "layers one after another",
        ),
        (
            lambda m, p, s: jd.transfer.replace_head(m, p, s, jd.nn.dense(1), jnp.ones((1, 8)), key=3.0),
            TypeError,
            "key",
        ),
        (
            lambda m, p, s: jd.transfer.replace_head(m, p, s, jax.nn.relu, jnp.ones((1, 8)), key=KEY),
            TypeError,
            "head must be a Model",
        ),
        (
            lambda m, p, s: jd.transfer.pretrained(m, {"x": jnp.ones(3)}, {}).init(
                KEY, jnp.ones((1, 8))
            ),
            ValueError,
            "no parameter of the model",
        ),
        (
            lambda m, p, s: jd.transfer.pretrained(
                network(logits=jd.nn.dense(2)), p, s, where="logits/*"
            ).init(KEY, jnp.ones((1, 8))),
            ValueError,
            "logits/bias, \\(2,\\) in the model, is given with shape \\(3,\\)",
        ),
    ],
)
def test_what_is_wrong_is_named(trained, call, error, message):
    with pytest.raises(error, match=message):
        call(network(), *trained)


def test_images_of_another_size(trained):
    x = jax.random.uniform(KEY, (2, 8, 8, 1))
    layer = jd.nn.resize(16, 16)
    y, _ = layer.apply({}, {}, x)
    np.testing.assert_array_equal(y, jax.image.resize(x, (2, 16, 16, 1), "bilinear"))
    np.testing.assert_array_equal(layer.apply({}, {}, x[..., 0])[0], y[..., 0])
    assert layer.apply({}, {}, x.astype(jnp.bfloat16))[0].dtype == jnp.bfloat16
    for wrong in (jd.nn.resize, lambda: jd.nn.resize(0), lambda: jd.nn.resize(2, method="x")):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(ValueError, match="needs an input"):
        layer.apply({}, {}, jnp.ones((2, 3)))


# --- partition ------------------------------------------------------------------------------------


def test_partition_and_combine():
    tree = {"a": {"kernel": jnp.ones(2), "bias": jnp.zeros(2)}, "b": [jnp.ones(3)]}
    chosen, rest = jd.tree.partition(tree, "*/kernel")
    assert jd.tree.leaf_paths(chosen) == ["a/kernel"]
    assert same(jd.tree.combine(chosen, rest), tree)
    assert same(jd.tree.partition(tree, None)[0], tree)
    # selecting again from a part, with the same selector or one for what is not there
    assert jd.tree.leaf_paths(jd.tree.partition(chosen, "*/kernel")[0]) == ["a/kernel"]
    assert jax.tree.leaves(jd.tree.partition(chosen, "a/bias")[0]) == []
    with pytest.raises(ValueError, match="matches no leaf"):
        jd.tree.partition(chosen, "a/bia")


DAMAGED = jd.nn.serial(
    hidden=jd.nn.dense(3), bn=jd.nn.batch_norm(), drop=jd.nn.dropout(0.2), out=jd.nn.dense(2)
)
DAMAGED_X, DAMAGED_Y = np.ones((2, 4), np.float32), np.zeros(2, int)
DAMAGED_PARAMS, DAMAGED_STATE = jax.tree.map(
    lambda a: np.full(a.shape, 0.5, np.float32),
    jax.eval_shape(lambda: DAMAGED.init(KEY, DAMAGED_X)),
)


def takers(folder):
    """What takes parameters of a model, by name."""
    model, state, x, batch = DAMAGED, DAMAGED_STATE, DAMAGED_X, (DAMAGED_X, DAMAGED_Y)
    transfer, compress = jd.transfer, jd.compress

    def ensemble(p):
        return jd.uncertainty.ensemble(model, [(p, state), (p, state)], x)

    def fit(p):
        begin = {"params": p, "state": state, "batch_size": 2, "progress": False}
        return jd.fit(model, batch, loss=LOSS, optimizer=jd.optimizers.sgd(0.1), key=KEY, **begin)

    def quantization_error(p):
        return compress.quantization_error(p, compress.quantize(model, DAMAGED_PARAMS, state)[1])

    return {
        "replace_head": lambda p: transfer.replace_head(model, p, state, jd.nn.dense(1), x, key=KEY),
        "take_layers": lambda p: transfer.take_layers(model, p, state, 1),
        "drop_layers": lambda p: transfer.drop_layers(model, p, state, 1),
        "fold_batch_norm": lambda p: compress.fold_batch_norm(model, p, state),
        "quantize": lambda p: compress.quantize(model, p, state),
        "cast": lambda p: compress.cast(model, p, state, jnp.bfloat16),
        "sparsity_curve": lambda p: compress.sparsity_curve(model, p, state, batch),
        "export": lambda p: compress.export(folder / "model", model, p, state, x),
        "quantization_error": quantization_error,
        "save": lambda p: jd.save(folder / "saved", model, p, state),
        "mc_dropout": lambda p: jd.uncertainty.mc_dropout(model, p, state, x, KEY, samples=2),
        "ensemble": ensemble,
        "gradient_flow": lambda p: jd.diagnostics.gradient_flow(model, p, state, batch, loss=LOSS),
        "fit": fit,
    }


TAKERS = sorted(takers(pathlib.Path()))


@pytest.mark.few("take_layers", "quantize", "quantization_error", "ensemble")
@pytest.mark.parametrize("name", TAKERS)
@over(5, 100, damage=damaged(DAMAGED_PARAMS))
def test_parameters_of_another_network_are_refused_by_their_path(name, damage, tmp_path_factory):
    (bad, path), folder = damage, tmp_path_factory.getbasetemp()
    with pytest.raises(ValueError, match=path):
        takers(folder)[name](bad)


@over(5, 100, damage=damaged(DAMAGED_PARAMS))
def test_what_must_be_pretrained_is_refused_where_it_does_not_fit(damage):
    bad, path = damage
    model = jd.transfer.pretrained(DAMAGED, bad, DAMAGED_STATE, where=["hidden/*", "bn/*", "out/*"])
    if path.endswith("2"):  # more than is wanted
        model.init(KEY, DAMAGED_X)
        return
    with pytest.raises(ValueError, match=path):
        model.init(KEY, DAMAGED_X)


def test_a_decay_by_layers_refuses_parameters_of_no_layer():
    further = DAMAGED_PARAMS | {"other": DAMAGED_PARAMS["out"]}
    with pytest.raises(ValueError, match="params hold \\['other'\\], which is of no layer"):
        jd.transfer.layerwise_decay(DAMAGED, further, 0.5)


@over(5, 60, damage=damaged(DAMAGED_PARAMS))
def test_a_decay_by_layers_refuses_leaves_of_another_model_by_their_path(damage):
    bad, path = damage
    with pytest.raises(ValueError, match=path):
        jd.transfer.layerwise_decay(DAMAGED, bad, 0.5)


def test_a_norm_whose_two_parameters_differ_is_refused_by_both_paths():
    bad = DAMAGED_PARAMS | {"bn": DAMAGED_PARAMS["bn"] | {"bias": np.ones(4)}}
    said = r"params/bn/scale has shape \(3,\), but batch_norm\(\) needs \(4,\), as params/bn/bias has$"
    with pytest.raises(ValueError, match=said):
        jd.transfer.layerwise_decay(DAMAGED, bad, 0.5)


def test_a_decay_by_layers_takes_the_parameters_of_an_ensemble():
    models = jax.tree.map(lambda a: jnp.stack([a, a]), DAMAGED_PARAMS)
    tx = jd.transfer.layerwise_decay(DAMAGED, models, 0.5)
    jax.vmap(lambda params: tx.update(params, tx.init(params), params)[0])(models)


@pytest.mark.parametrize(
    ("params", "state", "message"),
    [
        (None, {}, "params must be what a network has learned, got None"),
        ({}, {}, r"params must hold the arrays that a network has learned, got \{\}"),
        ([1], {}, "params: 0 must be an array, got 1"),
        ({"a": {"kernel": None}}, {}, "params: a/kernel must be an array, got None"),
        ({"a": jnp.ones(2)}, None, "state must be what a network has learned, got None"),
        ({"a": jnp.ones(2)}, {"a": {"mean": None}}, "state: a/mean must be an array, got None"),
    ],
)
def test_what_nothing_was_learned_in_is_refused_before_a_model_begins(params, state, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jd.transfer.pretrained(network(), params, state)


def test_layers_without_parameters_are_refused_by_layerwise_decay():
    model = jd.nn.serial(a=jd.nn.dense(2), b=jd.nn.dense(2), c=jd.nn.dense(2))
    params, _ = model.init(KEY, jnp.ones((1, 2)))
    with pytest.raises(TypeError, match=r"params/b must be a dict of the arrays of dense.*, got None"):
        jd.transfer.layerwise_decay(model, {**params, "b": None}, 0.5)
    for name in ("kernel", "bias"):
        odd = {**params, "b": {**params["b"], name: None}}
        with pytest.raises(ValueError, match=f"{name}.*(needs|is missing)"):
            jd.transfer.layerwise_decay(model, odd, 0.5)
    # one layer has none below it
    model = jd.nn.serial(a=jd.nn.dense(2))
    params, _ = model.init(KEY, jnp.ones((1, 2)))
    tx = jd.transfer.layerwise_decay(model, params, 0.5)
    updates, _ = tx.update(params, tx.init(params), params)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, updates, params))
