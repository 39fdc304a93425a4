"""Batch norms folded into the layers beside them: exact, or refused."""

import functools
import os
import random

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compressed import IMAGE, dense, draw, nn, norm, relative, relu, trained

import jaxdeep as jd

fold = jd.compress.fold_batch_norm


leaky = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)


def norms(model):
    return (model.kind == "batch_norm") + sum(norms(layer) for layer in model.layers.values())


def check(model, x, *, tolerance=1e-5, trained_as=None, key=None):
    params, state = trained_as or trained(model, x)
    expected, _ = model.apply(params, state, x, key=key)
    folded, fparams, fstate = fold(model, params, state)
    assert norms(model) > 0
    assert norms(folded) == 0
    assert not jax.tree.leaves(fstate)
    y, after = folded.apply(fparams, fstate, x, key=key)
    assert after == fstate
    assert jax.tree.map(lambda a: (a.shape, a.dtype), y) == jax.tree.map(
        lambda a: (a.shape, a.dtype), expected
    )
    assert relative(y, expected) < tolerance
    # what comes out of `init` of the folded model is of the same structure
    fresh, fresh_state = jax.eval_shape(lambda x: folded.init(jax.random.key(0), x), x)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, fparams)
    assert fresh_state == fstate
    return folded, fparams, fstate


EXACT = {
    "behind dense": (nn.serial(dense(4), norm()), (5, 3)),
    "behind dense without bias": (nn.serial(dense(4, use_bias=False), norm()), (5, 3)),
    "before dense": (nn.serial(norm(), dense(4, activation=jnp.tanh)), (5, 3)),
    "before dense without bias": (nn.serial(norm(), dense(4, use_bias=False)), (5, 3)),
    "no scale": (nn.serial(dense(4), norm(use_scale=False)), (5, 3)),
    "no bias": (nn.serial(dense(4), norm(use_bias=False)), (5, 3)),
    "neither": (nn.serial(norm(use_bias=False, use_scale=False), dense(2)), (5, 3)),
    "epsilon": (nn.serial(dense(4), norm(epsilon=0.5)), (5, 3)),
    "sequences": (
        nn.serial(dense(4), norm(), jd_act := nn.activation(jnp.tanh), norm(), dense(2)),
        (5, 6, 3),
    ),
    "chapter, behind": (
        nn.serial(
            nn.flatten(),
            norm(),
            dense(6, use_bias=False),
            norm(),
            nn.activation(jax.nn.elu),
            dense(5, use_bias=False),
            norm(),
            nn.activation(jax.nn.elu),
            dense(2),
        ),
        (5, 4, 4),
    ),
    "chapter, before": (
        nn.serial(
            nn.flatten(),
            norm(),
            dense(6, activation=jax.nn.elu),
            norm(),
            dense(5, activation=jax.nn.elu),
            norm(),
            dense(2, activation=jax.nn.softmax),
        ),
        (5, 4, 4),
    ),
    "several in a row": (nn.serial(norm(), norm(), dense(4), norm(), norm()), (5, 3)),
    "two before": (nn.serial(norm(), norm(), dense(4)), (5, 3)),
    "nested": (
        nn.serial(nn.serial(dense(4)), nn.serial(nn.serial(norm(), relu)), nn.serial(norm(), dense(2))),
        (5, 3),
    ),
    "conv": (nn.serial(nn.conv(4, 3), norm(), relu, nn.conv(2, 3, use_bias=False), norm()), IMAGE),
    "conv 1d": (nn.serial(nn.conv(4, 3, strides=2), norm()), (3, 8, 2)),
    "conv 3d": (nn.serial(nn.conv(4, 2), norm()), (2, 4, 4, 4, 2)),
    "before conv": (nn.serial(norm(), nn.conv(4, 3, padding="VALID", strides=2)), IMAGE),
    "before 1 × 1 conv": (nn.serial(norm(), nn.conv(4, 1, strides=2)), IMAGE),
    "before conv, padding of nothing": (
        nn.serial(norm(), nn.conv(4, 3, padding=((0, 0), (0, 0)))),
        IMAGE,
    ),
    "before grouped conv": (
        nn.serial(norm(), nn.conv(6, 3, padding="VALID", groups=2)),
        (3, 8, 8, 4),
    ),
    "depthwise": (nn.serial(norm(), nn.conv(6, 3, padding="VALID", groups=3), norm()), IMAGE),
    "through average pooling": (nn.serial(nn.conv(4, 3), nn.average_pool(2), norm()), IMAGE),
    "through padded average pooling": (
        nn.serial(nn.conv(4, 3), nn.average_pool(3, strides=2, padding="SAME"), norm()),
        IMAGE,
    ),
    "through global pooling": (nn.serial(nn.conv(4, 3), nn.global_average_pool(), norm()), IMAGE),
    "to a head": (nn.serial(relu, norm(), nn.global_average_pool(), dense(3)), IMAGE),
    "through flatten": (nn.serial(norm(), nn.flatten(), dense(3)), IMAGE),
    "behind flatten": (nn.serial(dense(4), nn.flatten(), norm()), (5, 3)),
    "each pixel": (nn.serial(norm(axis=(1, 2)), nn.flatten(), dense(3)), IMAGE),
    "each pixel of grey images": (nn.serial(norm(axis=(1, 2)), nn.flatten(), dense(3)), (3, 5, 6)),
    "each pixel and channel": (nn.serial(norm(axis=(1, 2, 3)), nn.flatten(), dense(3)), IMAGE),
    "rows": (nn.serial(nn.max_pool(2), norm(axis=1), nn.flatten(), dense(3)), IMAGE),
    "columns": (nn.serial(norm(axis=(-2, -1)), nn.flatten(), dense(3)), IMAGE),
    "axis 1 of rows": (nn.serial(nn.flatten(), norm(axis=1), dense(3)), IMAGE),
    "axis 3 of images": (nn.serial(nn.conv(4, 3), norm(axis=3)), IMAGE),
    "axis 3 before a convolution": (nn.serial(norm(axis=3), nn.conv(4, 2, padding="VALID")), IMAGE),
    "reshape, behind": (nn.serial(dense(12), nn.reshape(2, 2, 3), norm()), (5, 3)),
    "reshape of unknown size, behind": (nn.serial(dense(6), nn.reshape(-1, 3), norm()), (5, 2, 3)),
    "reshape, places": (nn.serial(dense(12), nn.reshape(2, 2, 3), norm(axis=(1, 3))), (5, 3)),
    "reshape, before": (nn.serial(norm(), nn.reshape(4, 3), dense(4)), (5, 2, 2, 3)),
    "reshape there and back": (nn.serial(norm(), nn.reshape(3, 4), nn.flatten(), dense(4)), (5, 12)),
    "residual branch": (nn.residual(nn.serial(dense(4), norm(), relu, dense(3), norm())), (5, 3)),
    "behind a residual with a shortcut": (
        nn.serial(nn.residual(nn.serial(relu, dense(4)), shortcut=dense(4, use_bias=False)), norm()),
        (5, 3),
    ),
    "before a residual with a shortcut": (
        nn.serial(norm(), nn.residual(dense(4), shortcut=dense(4))),
        (5, 3),
    ),
    "parallel": (nn.parallel(a=nn.serial(dense(2), norm()), b=nn.serial(norm(), dense(3))), (5, 3)),
    "before parallel": (nn.serial(norm(), nn.parallel(dense(2), nn.serial(dense(2), relu))), (5, 3)),
    "concatenate": (
        nn.serial(nn.concatenate(nn.serial(dense(2), norm()), dense(3)), norm(), relu, dense(2)),
        (5, 3),
    ),
    "repeat": (nn.repeat(nn.serial(dense(3), norm(), relu), 4), (5, 3)),
    "repeat, before": (nn.repeat(nn.serial(norm(), dense(3), nn.activation(jnp.tanh)), 4), (5, 3)),
    "repeat of convolutions": (
        nn.repeat(nn.serial(nn.conv(3, 3, groups=3), norm(axis=3), relu, nn.conv(3, 1)), 2),
        IMAGE,
    ),
    "repeat of repeat": (nn.repeat(nn.repeat(nn.serial(dense(3), norm()), 2), 3), (5, 3)),
    "shared repeat": (nn.repeat(nn.serial(dense(3), norm(), relu), 3, shared=True), (5, 3)),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("name", EXACT)
def test_folding_changes_nothing(name):
    model, shape = EXACT[name]
    check(model, draw(*shape))


def test_twins_that_share_a_layer():
    model = nn.shared(nn.serial(dense(4), norm()))
    x = (draw(5, 3), draw(5, 3) + 1)
    check(model, x)


def test_an_embedding_takes_it_into_its_table():
    check(nn.serial(nn.embedding(7, 4), norm(), nn.flatten(), dense(2)), jnp.arange(6).reshape(2, 3))


@pytest.mark.few(1)
@pytest.mark.parametrize("activation", [relu, nn.activation(leaky), nn.prelu(0.3), nn.rrelu()])
def test_through_an_activation_if_the_values_let_it(activation):
    model = nn.serial(dense(4), activation, norm(use_bias=False), nn.activation(jnp.tanh))
    x = draw(5, 3)
    values = trained(model, x, shift=False, positive=True)
    check(model, x, trained_as=values)
    check(model, x, trained_as=values, key=jax.random.key(3))
    with pytest.raises(ValueError, match=r"batch_norm0.*(activation|relu)"):
        fold(model, *trained(model, x, shift=False))  # scales of both signs
    with pytest.raises(ValueError, match="batch_norm0"):
        fold(model, *trained(model, x, positive=True))  # a shift


def test_into_a_dense_layer_with_an_activation_if_the_values_let_it():
    model, x = nn.serial(dense(4, activation=leaky), norm(use_bias=False)), draw(5, 3)
    check(model, x, trained_as=trained(model, x, shift=False, positive=True))
    with pytest.raises(ValueError, match=r"batch_norm0.*dense0: the activation leaky_relu"):
        fold(model, *trained(model, x, positive=True))


@pytest.mark.heavy
def test_through_a_maximum_if_all_scales_are_positive():
    for pool in (nn.max_pool(3, strides=2, padding="SAME"), nn.global_max_pool()):
        model, x = nn.serial(nn.conv(4, 3), pool, norm()), draw(*IMAGE)
        check(model, x, trained_as=trained(model, x, positive=True))
        with pytest.raises(ValueError, match="maximum"):
            fold(model, *trained(model, x))


def test_before_zero_padding_only_without_a_shift():
    model, x = nn.serial(norm(use_bias=False), nn.conv(4, 3, groups=1)), draw(*IMAGE)
    check(model, x, trained_as=trained(model, x, shift=False))
    with pytest.raises(ValueError, match=r"batch_norm0.*conv0: zeros are padded"):
        fold(model, *trained(model, x))
    explicit = nn.serial(norm(), nn.conv(4, 3, padding=((0, 1), (0, 0))))
    with pytest.raises(ValueError, match="zeros are padded"):
        fold(explicit, *trained(explicit, x))


@pytest.mark.heavy
def test_across_dropout_only_without_a_shift():
    model, x = nn.serial(norm(use_bias=False), nn.dropout(0.5), dense(3)), draw(50, 8)
    check(model, x, trained_as=trained(model, x, shift=False), key=jax.random.key(1))
    with pytest.raises(ValueError, match=r"batch_norm0.*dropout0: it shifts"):
        fold(model, *trained(model, x))
    check(nn.serial(norm(), nn.dropout(0.0), dense(3)), x)
    for noise in (nn.alpha_dropout(0.1), nn.gaussian_noise(0.1)):
        noisy = nn.serial(norm(use_bias=False), noise, dense(3))
        with pytest.raises(ValueError, match=f"{noise.kind} is in between"):
            fold(noisy, *trained(noisy, x, shift=False))


@pytest.mark.heavy
def test_the_same_key_draws_the_same_masks():
    model = nn.serial(
        nn.serial(dense(16), norm(), relu),
        nn.dropout(0.5),
        nn.serial(a=dense(16), bn=norm(), act=relu, drop=nn.dropout(0.5), b=dense(3), last=norm()),
    )
    x = draw(50, 8)
    folded, *_ = check(model, x, key=jax.random.key(1))
    assert list(folded.layers["serial0"].layers) == ["dense0", "activation0"]
    assert list(folded.layers["serial1"].layers) == ["a", "bn", "act", "drop", "b"]
    assert folded.layers["serial1"].layers["bn"].layers == {}


@pytest.mark.heavy
def test_mixed_precision_folds_in_the_parameters_precision():
    model = nn.mixed_precision(nn.serial(dense(8), norm(), relu, dense(4)))
    x = draw(20, 6)
    _, fparams, _ = check(model, x, tolerance=0.03)
    plain = model.layers[""]
    _, expected, _ = fold(plain, *trained(plain, x))
    jax.tree.map(np.testing.assert_array_equal, fparams, expected)
    wrapped = nn.serial(a=nn.mixed_precision(dense(4)), b=nn.mixed_precision(norm()))
    check(wrapped, x, tolerance=0.05)


REFUSED = {
    "alone": (norm(), (5, 3), "the model: .*no layer to take it"),
    "between activations": (nn.serial(dense(3, activation=jnp.tanh), norm(), jd_act), (5, 3), "tanh"),
    "only activations": (
        nn.serial(a=relu, bn=norm(), b=nn.activation(jnp.tanh)),
        (5, 3),
        "bn: .*a: .*b: ",
    ),
    "nested": (
        nn.serial(block=nn.serial(act=relu, bn=norm(), end=nn.activation(jnp.tanh))),
        (5, 3),
        "block/bn: .*block/act: .*block/end: the activation tanh",
    ),
    "residual with nothing": (nn.serial(dense(3), nn.residual(dense(3)), norm()), (5, 3), "goes around"),
    "before a residual": (nn.serial(norm(), nn.residual(dense(3))), (5, 3), "goes around"),
    "norm in a residual": (nn.residual(norm()), (5, 3), "layer: .*no layer to take it"),
    "branch that is an input": (
        nn.serial(relu, norm(), nn.parallel(dense(3), nn.serial())),
        (5, 3),
        r"parallel0/serial\d+: there is no layer|parallel0: there is no layer",
    ),
    "each pixel before conv": (
        nn.serial(norm(axis=(1, 2)), nn.conv(2, 3, padding="VALID")),
        IMAGE,
        "differs between places",
    ),
    "each pixel behind conv": (nn.serial(nn.conv(2, 3), norm(axis=(1, 2))), IMAGE, "differs between"),
    "each pixel through pooling": (
        nn.serial(norm(axis=(1, 2)), nn.average_pool(2), nn.flatten(), dense(2)),
        IMAGE,
        "windows that are pooled",
    ),
    "flattened places": (nn.serial(nn.conv(2, 3), nn.flatten(), norm(), relu), IMAGE, "laid out"),
    "axis of unknown place": (nn.serial(relu, norm(axis=1), dense(2)), (5, 3), "differs between"),
    "both ends": (nn.serial(norm(axis=(1, -1)), nn.flatten(), dense(2)), IMAGE, "both ends"),
    "rows of the batch": (nn.serial(norm(axis=0), dense(2)), (5, 3), "rows of the batch"),
    "other activation": (
        nn.serial(dense(3, activation=jax.nn.relu), norm(), nn.lambda_(jnp.tanh)),
        (5, 3),
        "lambda0: a lambda is in between",
    ),
    "concatenated along space": (
        nn.serial(nn.concatenate(nn.conv(2, 3), nn.conv(2, 3), axis=1), norm()),
        IMAGE,
        "another axis",
    ),
    "concatenated input": (nn.serial(nn.concatenate(dense(2), nn.serial()), norm()), (5, 3), "widths"),
    "out of a loop": (nn.serial(nn.repeat(dense(3), 2), norm()), (5, 3), "a repeat is in between"),
    "reshape by places": (
        nn.serial(dense(8), nn.reshape(-1, 4), norm(axis=1)),
        (5, 2, 3),
        "not all known",
    ),
    "reshape of many": (
        nn.serial(dense(8), nn.reshape(4, 4), norm(axis=1), nn.activation(jnp.tanh)),
        (5, 2, 3),
        "laid out",
    ),
}


@pytest.mark.few(4)
@pytest.mark.parametrize("name", REFUSED)
def test_folding_refuses_what_would_change_the_function(name):
    model, shape, reason = REFUSED[name]
    x = draw(*shape)
    params, state = trained(model, x)
    with pytest.raises(ValueError, match=reason) as caught:
        fold(model, params, state)
    assert "fold_batch_norm cannot fold" in str(caught.value)
    left, lparams, lstate = fold(model, params, state, partial=True)
    assert norms(left) >= 1
    y, _ = left.apply(lparams, lstate, x)
    assert relative(y, model.apply(params, state, x)[0]) < 1e-5


def test_partial_folds_the_others():
    model = nn.serial(a=dense(4), bn1=norm(), act=nn.activation(jnp.tanh), bn2=norm(), end=jd_act)
    x = draw(5, 3)
    params, state = trained(model, x)
    with pytest.raises(ValueError, match="bn2"):
        fold(model, params, state)
    left, lparams, lstate = fold(model, params, state, partial=True)
    assert list(left.layers) == ["a", "act", "bn2", "end"]
    assert list(lstate) == ["bn2"]
    assert relative(left.apply(lparams, lstate, x)[0], model.apply(params, state, x)[0]) < 1e-5


def test_several_refusals_are_all_named():
    model = nn.serial(a=relu, bn1=norm(), b=jd_act, bn2=norm())
    with pytest.raises(ValueError, match=r"bn1: .*; bn2: "):
        fold(model, *trained(model, draw(5, 3)))


def test_statistics_of_adapted_modules_are_named():
    flax = pytest.importorskip("flax.linen")
    model = nn.serial(
        net=jd.adapters.from_linen(flax.BatchNorm(use_running_average=False)), out=dense(2)
    )
    params, state = model.init(jax.random.key(0), draw(5, 3))
    with pytest.raises(ValueError, match="net: BatchNorm keeps statistics"):
        fold(model, params, state)


def test_arguments_of_folding():
    with pytest.raises(TypeError, match="Model"):
        fold(jax.nn.relu, {}, {})
    with pytest.raises(TypeError, match="partial"):
        fold(norm(), {}, {}, partial=1)


def test_a_model_without_batch_norms_stays_as_it_is():
    model = nn.serial(dense(4), relu)
    params, state = model.init(jax.random.key(0), draw(5, 3))
    folded, fparams, fstate = fold(model, params, state)
    assert folded is model
    assert jax.tree.map(lambda a, b: a is b, params, fparams) == jax.tree.map(lambda a: True, params)
    assert fstate == {}
    again = nn.serial(dense(4), norm())
    once = fold(again, *trained(again, draw(5, 3)))
    assert fold(*once)[0] is once[0]


def any_layer(r):
    """A random layer, or block of layers, for images of 4 channels; often a batch norm."""
    act = r.choice([jax.nn.relu, jnp.tanh, leaky])
    how = {"activation": r.choice([None, None, act]), "use_bias": r.random() < 0.5}
    some = {"use_bias": r.random() < 0.5, "use_scale": r.random() < 0.5}
    return r.choice(
        [
            lambda: norm(axis=r.choice([(1, 2), (1, 2, 3), (-2, -1), 3, (1, 3), (2,), 1]), **some),
            lambda: norm(**some),
            norm,
            lambda: nn.conv(
                4,
                r.choice([1, 2, 3]),
                padding=r.choice(["SAME", "VALID"]),
                groups=r.choice([1, 2]),
                **how,
            ),
            lambda: dense(4, **how),
            lambda: nn.activation(act),
            lambda: nn.dropout(0.5),
            lambda: r.choice([nn.max_pool(2), nn.average_pool(3, strides=1, padding="SAME")]),
            lambda: nn.serial(*(any_layer(r) for _ in range(r.randint(0, 3)))),
            lambda: nn.residual(nn.serial(dense(4), norm()), shortcut=r.choice([None, dense(4)])),
            lambda: nn.concatenate(
                nn.serial(dense(2), r.choice([norm(), relu])), nn.serial(norm(), dense(2))
            ),
            lambda: nn.repeat(nn.serial(dense(4), norm(), r.choice([relu, norm()])), 2),
        ]
    )()


def any_head(r):
    axis = r.choice([-1, 1, (1, 2)])
    sizes = r.choice([(3, 4), (2, 6), (-1, 4), (2, 2, 3)])
    return r.choice(
        [
            lambda: [
                nn.flatten(),
                norm(axis=r.choice([1, -1])),
                dense(12),
                nn.reshape(*sizes),
                norm(axis=axis),
                nn.flatten(),
                r.choice([norm(), relu]),
                dense(2),
            ],
            lambda: [nn.global_average_pool(), norm(), dense(3), norm()],
            lambda: [nn.global_max_pool(), norm(), dense(3)],
            lambda: [nn.reshape(-1, r.choice([2, 4])), norm(axis=axis), nn.flatten(), norm(), dense(2)],
        ]
    )()


@pytest.mark.slow
def test_folding_any_network_changes_nothing():
    before = after = 0
    for seed in range(100):
        r, x = random.Random(seed), draw(3, 6, 6, 4)
        model = nn.serial(*(any_layer(r) for _ in range(r.randint(1, 5))), *any_head(r))
        shift, positive = r.random() < 0.6, r.random() < 0.6
        try:
            params, state = trained(model, x, shift=shift, positive=positive, seed=seed)
        except ValueError:  # windows that do not fit any more
            continue
        folded, fparams, fstate = fold(model, params, state, partial=True)
        key = jax.random.key(seed)
        y, _ = folded.apply(fparams, fstate, x, key=key)
        assert relative(y, model.apply(params, state, x, key=key)[0]) < 1e-4, model
        before, after = before + norms(model), after + norms(folded)
    assert before > 300
    assert 0 < after < before / 4


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5), ("bfloat16", 0.05)]
)
def test_folding_keeps_dtypes(x64, dtype, tolerance):
    model = nn.serial(
        norm(), dense(8), norm(), nn.activation(jnp.tanh), norm(), dense(4, use_bias=False)
    )
    x = draw(20, 6, dtype=dtype)
    _, fparams, _ = check(model, x, tolerance=tolerance)
    assert {leaf.dtype for leaf in jax.tree.leaves(fparams)} == {jnp.dtype(dtype)}


def test_what_a_dtype_cannot_hold_is_refused():
    model = nn.serial(dense(4), norm(), relu, dense(2))
    params, state = trained(model, draw(5, 3))
    names = list(model.layers)
    state[names[1]]["var"] = jnp.full_like(state[names[1]]["var"], 1e-9)
    params[names[1]]["scale"] = jnp.full_like(params[names[1]]["scale"], 5e3)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), (params, state))
    with pytest.raises(ValueError, match=r"float16 has no numbers as large as the weights, \d"):
        fold(model, *narrow)
    left, *_ = fold(model, *narrow, partial=True)
    assert norms(left) == 1
    folded_params = fold(model, params, state)[1]
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(folded_params))


def test_folding_accepts_numpy_arrays():
    model, x = nn.serial(dense(4), norm(), relu, dense(2)), draw(5, 3)
    values = jax.tree.map(np.asarray, trained(model, x))
    check(model, x, trained_as=values)


@pytest.mark.heavy
def test_folding_under_jit_and_vmap():
    model = nn.serial(norm(), dense(8, use_bias=False), norm(), relu, dense(4), norm())
    x = draw(20, 6)
    params, state = trained(model, x)
    _, expected, _ = fold(model, params, state)
    compiled = jax.jit(lambda p, s: fold(model, p, s)[1])(params, state)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), compiled, expected)
    many = jax.tree.map(lambda a: jnp.stack([a, a]), (params, state))
    both = jax.vmap(lambda p, s: fold(model, p, s)[1])(*many)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5, atol=1e-6), both, expected)


def test_what_depends_on_values_is_refused_where_they_are_traced():
    model = nn.serial(nn.conv(4, 3), nn.max_pool(), norm())
    params, state = trained(model, draw(*IMAGE), positive=True)
    with pytest.raises(ValueError, match="known"):
        jax.jit(lambda p, s: fold(model, p, s)[1])(params, state)


@pytest.mark.heavy
def test_gradients_pass_the_folding():
    model, x = nn.serial(dense(4), norm(), relu), draw(5, 3)
    params, state = trained(model, x)

    def loss(params, folded):
        m, p, s = fold(model, params, state) if folded else (model, params, state)
        return jnp.sum(m.apply(p, s, x)[0] ** 2)

    plain, through = jax.grad(loss)(params, False), jax.grad(loss)(params, True)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), through, plain)


def like_keras(layer, values):
    """Our layer for one of Keras, its parameters and its statistics from its weights."""
    kind, config = type(layer).__name__, layer.get_config()
    if kind == "BatchNormalization":
        state = {"mean": values.pop("moving_mean"), "var": values.pop("moving_variance")}
        names = {"gamma": "scale", "beta": "bias"}
        how = {"axis": config["axis"], "epsilon": config["epsilon"]}
        how |= {"use_scale": config["scale"], "use_bias": config["center"]}
        return norm(**how), {names[n]: v for n, v in values.items()}, state
    linear = config.get("activation") == "linear"
    how = {
        "use_bias": config.get("use_bias"),
        "activation": None if linear else getattr(layer, "activation", None),
    }
    made = {
        "Dense": lambda: dense(config["units"], **how),
        "Conv2D": lambda: nn.conv(
            config["filters"], config["kernel_size"], padding=config["padding"], **how
        ),
        "Activation": lambda: nn.activation(how["activation"]),
        "MaxPooling2D": lambda: nn.max_pool(config["pool_size"]),
        "Flatten": nn.flatten,
    }[kind]()
    return made, values, {}


@pytest.mark.slow
@pytest.mark.parametrize("order", ["behind", "before", "convolutions"])
def test_folding_gives_keras_numbers(order):
    os.environ["KERAS_BACKEND"] = "jax"
    keras = pytest.importorskip("keras")
    k = keras.layers

    def bn(**how):
        return k.BatchNormalization(**how)

    layers = {
        "behind": lambda: [
            k.Flatten(),
            bn(),
            k.Dense(300, use_bias=False),
            bn(),
            k.Activation("elu"),
            k.Dense(100),
            bn(epsilon=0.01, scale=False),
            k.Activation("relu"),
            k.Dense(10, "softmax"),
        ],
        "before": lambda: [
            k.Flatten(),
            bn(),
            k.Dense(300, "elu"),
            bn(),
            k.Dense(100, "tanh"),
            bn(center=False),
            k.Dense(10),
        ],
        "convolutions": lambda: [
            k.Conv2D(8, 3, padding="same", use_bias=False),
            bn(),
            k.Activation("relu"),
            k.MaxPooling2D(2),
            bn(),
            k.Conv2D(8, 3, activation="relu"),
            bn(),
            k.Flatten(),
            k.Dense(10),
        ],
    }[order]()
    theirs = keras.Sequential([k.Input((28, 28, 1)), *layers])
    rng, model, params, state = np.random.default_rng(0), {}, {}, {}
    for i, layer in enumerate(layers):
        values = {}
        for w in layer.weights:
            noise = rng.normal(size=w.shape)
            positive = "gamma" in w.name or "variance" in w.name
            scale = np.exp(noise) if positive else noise * (np.prod(w.shape[:-1]) or 1) ** -0.5
            w.assign(scale)
            values[w.name] = np.asarray(w)
        name = f"layer{i}"
        model[name], own, statistics = like_keras(layer, values)
        params |= {name: own} if own else {}
        state |= {name: statistics} if statistics else {}
    ours, x = nn.serial(**model), draw(64, 28, 28, 1)
    expected = np.asarray(theirs(x, training=False))
    assert relative(ours.apply(params, state, x)[0], expected) < 1e-5
    folded, fparams, fstate = fold(ours, params, state)
    assert norms(folded) == 0
    assert fstate == {}
    assert relative(folded.apply(fparams, fstate, x)[0], expected) < 1e-5
