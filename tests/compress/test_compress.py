"""Folding, casting, quantising, pruning and exporting: against the models they are made from."""

import functools
import os
import random
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd

nn = jd.nn
fold = jd.compress.fold_batch_norm
relu = nn.activation(jax.nn.relu)
leaky = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)


def dense(units, **how):
    return nn.dense(units, **how)


def norm(**how):
    return nn.batch_norm(**how)


def trained(model, x, *, shift=True, positive=False, seed=0):
    """Parameters and statistics as after training: nothing is where `init` puts it."""
    rng = np.random.default_rng(seed)

    def value(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        name, noise = jd.tree.path_name(path).split("/")[-1], rng.normal(size=leaf.shape)
        if name == "var" or (name == "scale" and positive):
            noise = np.exp(noise)
        elif name == "kernel":
            noise *= leaf.shape[-2] ** -0.5
        elif name == "mean" and not shift:
            noise *= 0
        return jnp.asarray(noise, leaf.dtype)

    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    return jax.tree_util.tree_map_with_path(value, shapes)


def draw(*shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(7).normal(size=shape), dtype)


def relative(y, like):
    """The largest difference, against the size of the outputs."""
    pairs = zip(jax.tree.leaves(y), jax.tree.leaves(like))
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)


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


# --- folding: what is exact ---------------------------------------------------------------------------

IMAGE = (3, 8, 8, 3)
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


def test_mixed_precision_folds_in_the_parameters_precision():
    model = nn.mixed_precision(nn.serial(dense(8), norm(), relu, dense(4)))
    x = draw(20, 6)
    _, fparams, _ = check(model, x, tolerance=0.03)
    plain = model.layers[""]
    _, expected, _ = fold(plain, *trained(plain, x))
    jax.tree.map(np.testing.assert_array_equal, fparams, expected)
    wrapped = nn.serial(a=nn.mixed_precision(dense(4)), b=nn.mixed_precision(norm()))
    check(wrapped, x, tolerance=0.05)


# --- folding: what is not -----------------------------------------------------------------------------

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


# --- folding: any network -----------------------------------------------------------------------------


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


# --- folding: precision and transformations -----------------------------------------------------------


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


def test_folding_accepts_numpy_arrays():
    model, x = nn.serial(dense(4), norm(), relu, dense(2)), draw(5, 3)
    values = jax.tree.map(np.asarray, trained(model, x))
    check(model, x, trained_as=values)


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


def test_gradients_pass_the_folding():
    model, x = nn.serial(dense(4), norm(), relu), draw(5, 3)
    params, state = trained(model, x)

    def loss(params, folded):
        m, p, s = fold(model, params, state) if folded else (model, params, state)
        return jnp.sum(m.apply(p, s, x)[0] ** 2)

    plain, through = jax.grad(loss)(params, False), jax.grad(loss)(params, True)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), through, plain)


# --- casting ------------------------------------------------------------------------------------------


def network(**how):
    """A small one of the chapter's kind, from 6 numbers to 3 classes."""
    return nn.serial(
        flatten=nn.flatten(),
        hidden0=dense(16, activation=jax.nn.relu),
        hidden1=dense(8, activation=jax.nn.relu),
        logits=dense(3, **how),
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.03), ("float16", 0.004)])
def test_casting_computes_in_half_precision(dtype, tolerance):
    model, x = nn.serial(norm(), network()), draw(20, 6)
    params, state = trained(model, x)
    half, hparams, hstate = jd.compress.cast(model, params, state, dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(hparams)} == {jnp.dtype(dtype)}
    assert {leaf.dtype for leaf in jax.tree.leaves(hstate)} == {jnp.dtype("float32")}
    assert jd.compress.size_bytes(hparams) * 2 == jd.compress.size_bytes(params)
    y, _ = half.apply(hparams, hstate, x)
    assert y.dtype == jnp.float32
    assert 0 < relative(y, model.apply(params, state, x)[0]) < tolerance
    text = jax.jit(half.apply).lower(hparams, hstate, x).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    short = {"bfloat16": "xbf16>", "float16": "xf16>"}[dtype]
    assert len(products) == 3
    assert all(short in line and "xf32>" not in line for line in products)
    again, *_ = jd.compress.cast(half, hparams, hstate, dtype)
    assert again.layers[""] is model  # not wrapped twice


def test_casting_refuses_what_has_no_place_in_the_dtype():
    model, params = nn.serial(out=dense(2)), {"out": {"kernel": np.ones((3, 2)), "bias": np.ones(2)}}
    params["out"]["bias"][0] = 1e5
    with pytest.raises(ValueError, match=r"out/bias has values up to 1e\+05, and float16 ends"):
        jd.compress.cast(model, params, {}, jnp.float16)
    with pytest.raises(TypeError, match="dtype"):
        jd.compress.cast(model, params, {}, jnp.int8)
    with pytest.raises(TypeError, match="Model"):
        jd.compress.cast(jnp.tanh, params, {})
    traced = jax.eval_shape(lambda p: jd.compress.cast(model, p, {}, jnp.float16)[1], params)
    assert traced["out"]["bias"].dtype == jnp.float16


def test_sizes_of_arrays_and_of_their_shapes():
    shape = jax.ShapeDtypeStruct((3, 4), jnp.bfloat16)
    assert jd.compress.size_bytes({"a": shape, "b": np.zeros(5, np.int8)}, jnp.zeros(())) == 24 + 5 + 4


# --- quantising ---------------------------------------------------------------------------------------

QUANTIZED = {
    "dense": (network(), (20, 6)),
    "without bias": (network(use_bias=False), (20, 6)),
    "convolutions": (
        nn.serial(
            nn.conv(6, 3, strides=2, activation=jax.nn.relu),
            nn.conv(6, 3, groups=3, dilation=2),
            nn.conv(4, (1, 2), padding=((0, 0), (1, 0)), use_bias=False),
            nn.flatten(),
            dense(3),
        ),
        IMAGE,
    ),
    "nested": (
        nn.concatenate(nn.residual(dense(6)), nn.serial(nn.repeat(dense(6, activation=jnp.tanh), 3))),
        (20, 6),
    ),
    "mixed precision": (nn.mixed_precision(network()), (20, 6)),
}


@pytest.mark.parametrize("name", QUANTIZED)
def test_int8_weights_are_within_half_a_step(name):
    model, shape = QUANTIZED[name]
    x = draw(*shape)
    params, state = trained(model, x)
    small, qparams, qstate = jd.compress.quantize(model, params, state)
    errors, restored = jd.compress.quantization_error(params, qparams), jd.compress.dequantize(qparams)
    assert jax.tree.map(jnp.shape, restored) == jax.tree.map(jnp.shape, params)
    ints = jax.tree.map(lambda a: a.dtype == jnp.int8, qparams)
    assert {p for p, i in zip(jd.tree.leaf_paths(ints), jax.tree.leaves(ints)) if i} == set(errors)
    assert set(errors) == {p for p in jd.tree.leaf_paths(params) if p.endswith("kernel")}
    for path, *pair in zip(
        jd.tree.leaf_paths(params), jax.tree.leaves(params), jax.tree.leaves(restored)
    ):
        w, back = (np.asarray(leaf, np.float64) for leaf in pair)
        if path not in errors:
            np.testing.assert_array_equal(w, back)
            continue
        stack = "repeat" in path
        inputs, outputs = ((*range(stack, w.ndim - 2), a) for a in (w.ndim - 1, w.ndim - 2))
        largest = np.abs(w).max(inputs, keepdims=True)  # of each input
        step = largest * np.abs(w / largest).max(outputs, keepdims=True) / 127
        assert (np.abs(w - back) <= step / 2 * 1.001).all()
        assert float(errors[path].maximum) == pytest.approx(np.abs(w - back).max(), rel=1e-3)
        share = np.linalg.norm(w - back) / np.linalg.norm(w)
        assert float(errors[path].relative) == pytest.approx(share, rel=1e-3)
        assert 0 < share < 0.01
    # the function of the restored weights, and about that of the weights as they were
    y, _ = jax.jit(small.apply)(qparams, qstate, x)
    assert relative(y, model.apply(restored, state, x)[0]) < (0.05 if "mixed" in name else 2e-6)
    assert 0 < relative(y, model.apply(params, state, x)[0]) < 0.05
    fresh, _ = jax.eval_shape(lambda x: small.init(jax.random.key(0), x), x)
    shapes = jax.tree.map(lambda a: (a.shape, a.dtype), (fresh, qparams))
    assert shapes[0] == shapes[1]


def test_embeddings_have_a_scale_a_vector():
    model, x = nn.serial(nn.embedding(7, 5), nn.flatten(), dense(2)), jnp.arange(6).reshape(2, 3)
    params, state = trained(model, x)
    small, qparams, _ = jd.compress.quantize(model, params, state, where="*/table")
    own = qparams["embedding0"]
    assert own["table"].dtype == jnp.int8
    table = np.asarray(params["embedding0"]["table"])
    np.testing.assert_allclose(own["scale"], np.abs(table).max(1) / 127, rtol=1e-6)
    assert relative(small.apply(qparams, state, x)[0], model.apply(params, state, x)[0]) < 0.02
    lookup = small.layers["embedding0"]
    assert jnp.isnan(jax.jit(lookup.apply)(own, {}, jnp.array([7, -1]))[0]).all()
    with pytest.raises(ValueError, match="numbers from 7 to 7"):
        lookup.apply(own, {}, jnp.array([7]))


def test_layers_are_made_again_from_their_config():
    model, x = QUANTIZED["convolutions"][0], draw(*IMAGE)
    params, state = trained(model, x)
    small, qparams, _ = jd.compress.quantize(model, params, state)
    again = small.combine(
        {
            name: getattr(jd.compress, layer.kind)(**layer.config)
            if "quantized" in layer.kind
            else layer
            for name, layer in small.layers.items()
        }
    )
    np.testing.assert_array_equal(again.apply(qparams, state, x)[0], small.apply(qparams, state, x)[0])


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_int8_beside_other_dtypes(x64, dtype):
    model, x = nn.serial(out=dense(3, activation=jnp.tanh)), draw(20, 6, dtype=dtype)
    params, state = trained(model, x)
    small, qparams, _ = jd.compress.quantize(model, params, state)
    y, _ = small.apply(qparams, state, x)
    assert y.dtype == jnp.dtype(dtype)
    assert relative(y.astype("float64"), model.apply(params, state, x)[0].astype("float64")) < 0.03
    assert qparams["out"]["scale"].dtype == jnp.promote_types(dtype, jnp.float32)
    assert jd.compress.dequantize(qparams, dtype)["out"]["kernel"].dtype == jnp.dtype(dtype)


def test_quantising_under_jit_and_vmap():
    model, x = nn.serial(out=dense(3)), draw(20, 6)
    params, state = trained(model, x)
    _, expected, _ = jd.compress.quantize(model, params, state)
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    both = jax.jit(jax.vmap(lambda p: jd.compress.quantize(model, p, state)[1]))(many)["out"]
    for i in (0, 1):
        inputs, scale = (expected["out"][name] for name in ("input_scale", "scale"))
        np.testing.assert_allclose(both["input_scale"][i], (i + 1) * inputs, rtol=1e-6)
        np.testing.assert_allclose(both["scale"][i], scale, rtol=1e-6)
        off = both["kernel"][i].astype(int) - expected["out"]["kernel"].astype(int)
        assert abs(np.asarray(off)).max() <= 1  # what lies between two numbers may go either way


def test_what_is_not_quantised():
    model = network()
    params, state = trained(model, draw(1, 6))
    small, qparams, _ = jd.compress.quantize(model, params, state, where="hidden*/kernel")
    assert small.layers["logits"] is model.layers["logits"]
    assert set(jd.compress.quantization_error(params, qparams)) == {"hidden0/kernel", "hidden1/kernel"}
    rest, rparams, _ = jd.compress.quantize(small, qparams, state)  # the rest, later
    assert set(jd.compress.quantization_error(qparams, rparams)) == {"logits/kernel"}
    with pytest.raises(ValueError, match="no dense, conv or embedding"):
        jd.compress.quantize(rest, rparams, state)
    with pytest.raises(ValueError, match="selects logits/bias"):
        jd.compress.quantize(model, params, state, where="logits/*")
    with pytest.raises(ValueError, match="no leaf"):
        jd.compress.quantize(model, params, state, where="nothing")
    with pytest.raises(TypeError, match="Model"):
        jd.compress.quantize(None, params, state)
    params["logits"]["kernel"] = np.full((8, 3), np.nan)
    with pytest.raises(ValueError, match="logits/kernel must be finite"):
        jd.compress.quantize(model, params, state)
    with pytest.raises(ValueError, match="lack 'scale' beside an int8 'kernel'"):
        jd.compress.dequantize({"kernel": jnp.zeros((2, 2), jnp.int8), "input_scale": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"params have no hidden\d/kernel of shape"):
        jd.compress.quantization_error({}, qparams)


def test_a_column_of_zeros_stays_one():
    params = {"kernel": jnp.array([[0.0, 1.0], [0.0, -2.0]]), "bias": jnp.zeros(2)}
    small, qparams, _ = jd.compress.quantize(dense(2), params, {})
    assert qparams["kernel"].tolist() == [[0, 127], [0, -127]]
    assert qparams["input_scale"].tolist() == [1, 2]
    assert small.apply(qparams, {}, jnp.ones((1, 2)))[0].tolist() == [[0, -1]]


@pytest.mark.parametrize("jit", [False, True])
def test_weights_too_small_for_a_scale_are_zero(jit):
    tiny = jnp.finfo("float32").tiny
    w = jnp.array([[1.0, tiny], [tiny / 4, tiny / 4], [0.0, 0.0]])
    quantize = lambda w: jd.compress.quantize(dense(2, use_bias=False), {"kernel": w}, {})[1]  # noqa: E731
    qparams = (jax.jit(quantize) if jit else quantize)(w)
    assert qparams["kernel"].tolist() == [[127, 0], [0, 0], [0, 0]]
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(qparams))


@pytest.mark.parametrize("layer", [dense(9), nn.conv(9, 3, padding="SAME")])
def test_inputs_of_very_different_sizes_are_rounded_alike(layer):
    """As behind a folded batch norm: what an input is divided by, its weights are multiplied by."""
    x = draw(20, *((6, 6) if layer.kind == "conv" else ()), 5)
    params, state = trained(layer, x)
    sizes = np.float32(10.0) ** np.arange(-3, 2, dtype=np.float32)
    even, uneven = params["kernel"], np.asarray(params["kernel"]) * sizes[:, None]
    apart = []
    for kernel, inputs in ((even, x), (uneven, x / sizes)):
        small, qparams, _ = jd.compress.quantize(layer, {**params, "kernel": jnp.float32(kernel)}, state)
        expected = layer.apply({**params, "kernel": kernel}, state, inputs)[0]
        apart.append(relative(small.apply(qparams, state, inputs)[0], expected))
    assert apart[1] == pytest.approx(apart[0], rel=0.01)
    assert apart[0] < 0.01


# --- pruning ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "leaf"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9, 1.0])
def test_exactly_the_smallest_weights_go(scope, share):
    params, _ = trained(network(), draw(1, 6))
    pruned = jd.compress.prune(params, share, scope=scope)
    kept = jd.compress.pruning_mask(params, share, scope=scope)
    weights = {name: np.abs(own["kernel"]) for name, own in params.items()}
    everything = np.concatenate([w.ravel() for w in weights.values()])
    for name, w in weights.items():
        sizes = np.sort(everything if scope == "global" else w.ravel())
        count = round(share * sizes.size)
        expected = w >= (sizes[count] if count < sizes.size else np.inf)
        np.testing.assert_array_equal(kept[name]["kernel"], expected)
        np.testing.assert_array_equal(pruned[name]["kernel"], params[name]["kernel"] * expected)
        np.testing.assert_array_equal(pruned[name]["bias"], params[name]["bias"])
        assert kept[name]["bias"].all()


def test_ties_are_cut_in_order():
    params = {"a": {"kernel": jnp.ones((2, 2))}, "b": {"kernel": -jnp.ones(3)}}
    kept = jd.compress.pruning_mask(params, 5 / 7)
    assert kept["a"]["kernel"].tolist() == [[False, False], [False, False]]
    assert kept["b"]["kernel"].tolist() == [False, True, True]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_pruning_keeps_dtypes(x64, dtype):
    params = {"a": {"kernel": jnp.arange(1, 9, dtype=dtype)}, "b": {"kernel": jnp.ones(2, jnp.float32)}}
    pruned = jd.compress.prune(params, 0.3)
    assert pruned["a"]["kernel"].dtype == jnp.dtype(dtype)
    assert pruned["a"]["kernel"].tolist() == [0, *range(2, 9)]
    assert pruned["b"]["kernel"].tolist() == [0, 0]


def test_pruning_under_jit_and_vmap():
    params, _ = trained(network(), draw(1, 6))
    many = jax.jit(jax.vmap(lambda s: jd.compress.prune(params, s)))(jnp.array([0.25, 0.5]))
    for i, share in enumerate((0.25, 0.5)):
        expected = jd.compress.prune(params, share)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), many, expected)


def test_arguments_of_pruning():
    params = {"a": {"kernel": np.ones(3), "steps": np.ones(3, np.int32)}}
    with pytest.raises(ValueError, match="sparsity"):
        jd.compress.prune(params, 1.5)
    with pytest.raises(ValueError, match="scope"):
        jd.compress.prune(params, 0.5, scope="layer")
    with pytest.raises(ValueError, match="no leaf"):
        jd.compress.prune(params, 0.5, where="*/kernal")
    with pytest.raises(ValueError, match="a/steps is int32"):
        jd.compress.prune(params, 0.5, where="a/*")


def test_sparsity_counts_zeros():
    a, b = {"kernel": jnp.array([0.0, -0.0, 3.0]), "bias": jnp.zeros(1)}, {"kernel": jnp.ones(1)}
    report = jax.jit(jd.compress.sparsity)({"a": a, "b": b})
    assert float(report.share) == 0.5
    shares = {path: round(float(share), 3) for path, share in report.leaves.items()}
    assert shares == {"a/kernel": 0.667, "b/kernel": 0}
    assert float(jd.compress.sparsity({"a": a, "b": b}, where="*").share) == pytest.approx(0.6)


def test_zeros_stay_zero_in_training():
    x, y = draw(64, 6), np.arange(64) % 3
    model = network()
    params, state = trained(model, x)
    pruned = jd.compress.prune(params, 0.8)
    optimizer = optax.chain(jd.optimizers.adamw(0.01), jd.compress.keep_zeros())
    loss = jd.losses.softmax_cross_entropy
    how = {"params": pruned, "state": state, "epochs": 3, "key": jax.random.key(0), "progress": False}
    after = jd.fit(model, (x, y), optimizer=optimizer, loss=loss, **how).params
    for name, own in pruned.items():
        np.testing.assert_array_equal(own["kernel"] == 0, after[name]["kernel"] == 0)
        assert (own["bias"] != after[name]["bias"]).any()
    assert (after["logits"]["kernel"] != pruned["logits"]["kernel"]).any()


def test_keep_zeros_is_a_transformation():
    jd.optimizers.check_transform(jd.compress.keep_zeros("kernel"))
    tx = jd.compress.keep_zeros(["*/kernel"])
    params = {"a": {"kernel": jnp.array([0.0, 1.0], jnp.bfloat16), "bias": jnp.zeros(1)}}
    bad = {"a": {"kernel": jnp.array([jnp.nan, 1.0], jnp.bfloat16), "bias": jnp.ones(1)}}
    updates, _ = jax.jit(tx.update)(bad, tx.init(params), params)
    assert updates["a"]["kernel"].tolist() == [0, 1]
    assert updates["a"]["kernel"].dtype == jnp.bfloat16
    assert updates["a"]["bias"].tolist() == [1]
    many = jax.vmap(tx.init)(jax.tree.map(lambda a: jnp.stack([a, a + 1]), params))
    assert many.moving["a/kernel"].tolist() == [[False, True], [True, True]]
    with pytest.raises(ValueError, match="no leaf"):
        jd.compress.keep_zeros("nothing").init(params)
    with pytest.raises(TypeError, match="where"):
        jd.compress.keep_zeros(3)


@pytest.mark.parametrize("scope", ["global", "leaf"])
def test_the_curve_is_pruning_level_by_level(scope):
    model, x = network(), draw(70, 6)
    params, state = trained(model, x)
    apply = jax.jit(lambda params: model.apply(params, state, x)[0])
    y = jnp.argmax(apply(params), axis=-1)
    levels = [0.0, 0.3, 0.77, 1.0]
    curve = jd.compress.sparsity_curve(model, params, state, (x, y), levels, scope=scope, batch_size=32)
    expected = [
        np.mean(jd.metrics.accuracy(apply(jd.compress.prune(params, level, scope=scope)), y))
        for level in levels
    ]
    assert curve.sparsity.tolist() == levels
    np.testing.assert_allclose(curve.value, expected, rtol=1e-6)
    assert curve.value[0] == 1 > curve.value[1]


def test_the_curve_of_a_streaming_metric():
    model, x = nn.serial(dense(1), nn.lambda_(lambda y: jax.nn.sigmoid(y[:, 0]))), draw(70, 6)
    params, state = trained(model, x)
    y = (model.apply(params, state, x)[0] > 0.6).astype(int)
    metric = jd.metrics.precision()
    curve = jd.compress.sparsity_curve(model, params, state, (x, y), [0.0, 0.5], metric, batch_size=32)
    for level, value in zip(*curve):
        outputs, _ = model.apply(jd.compress.prune(params, level), state, x)
        expected = metric.compute(metric.update(metric.init(), outputs, y))
        assert value == pytest.approx(float(expected), rel=1e-6)


def test_the_curve_compiles_once():
    model, x = nn.serial(out=dense(3)), draw(70, 6)
    (params, state), traced = trained(model, x), []

    def counted(outputs, labels):
        traced.append(1)
        return jd.metrics.accuracy(outputs, labels)

    curve = functools.partial(jd.compress.sparsity_curve, model, metric=counted)
    curve(params, state, (x, np.zeros(70, int)), [0.1, 0.2])
    once = len(traced)
    curve(trained(model, x, seed=3)[0], state, (x + 1, np.zeros(70, int)), [0.3, 0.4])
    assert len(traced) == once


def test_arguments_of_the_curve():
    model, x = network(), draw(70, 6)
    curve = functools.partial(jd.compress.sparsity_curve, model, *trained(model, x))
    data = (x, np.zeros(70, int))
    with pytest.raises(ValueError, match="number of rows"):
        curve((x, np.zeros(3, int)))
    with pytest.raises(ValueError, match="at least one"):
        curve(data, [])
    with pytest.raises(ValueError, match="levels"):
        curve(data, [2.0])
    with pytest.raises(TypeError, match="metric"):
        curve(data, [0.5], "accuracy")


# --- exporting ----------------------------------------------------------------------------------------

EXPORTED = {
    "dense": (nn.serial(norm(), nn.dropout(0.5), network()), (5, 6)),
    "convolutions": (
        nn.serial(
            nn.conv(4, 3, activation=jax.nn.relu),
            nn.max_pool(2),
            nn.conv(4, 3, groups=2),
            nn.average_pool(2, padding="SAME"),
            nn.reshape(-1, 4),
            nn.flatten(),
            dense(3),
        ),
        (3, 8, 8, 1),
    ),
    "loops": (nn.serial(nn.repeat(nn.serial(dense(6), norm(), relu), 3), nn.residual(dense(6))), (5, 6)),
    "bfloat16": (nn.mixed_precision(network()), (5, 6)),
}


@pytest.fixture
def flatbuffers():
    return pytest.importorskip("flatbuffers")


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_model_takes_any_number_of_rows(flatbuffers, tmp_path, name):
    model, shape = EXPORTED[name]
    params, state = trained(model, draw(*shape))
    path = tmp_path / "model.jax"
    like = jax.ShapeDtypeStruct(shape, jnp.float32)
    exported = jd.compress.export(path, model, params, state, like, platforms=("cpu", "cuda", "tpu"))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    predict = jd.compress.load_exported(path)
    for rows in (1, 7):
        x = draw(rows, *shape[1:])
        assert relative(predict(x), jax.jit(model.apply)(params, state, x)[0]) < 1e-6
    plain = jax.export.deserialize(bytearray(path.read_bytes()))
    np.testing.assert_array_equal(plain.call(x), predict(x))
    assert path.stat().st_size > jd.compress.size_bytes(params, state)
    assert list(tmp_path.iterdir()) == [path]


def test_other_platforms_are_lowered_without_the_device(flatbuffers, tmp_path):
    model, x = network(), draw(5, 6)
    params, state = trained(model, x)
    for platform in ("cuda", "tpu"):
        jd.compress.export(tmp_path / platform, model, params, state, x, platforms=(platform,))
        again = jax.export.deserialize(bytearray((tmp_path / platform).read_bytes()))
        assert again.platforms == (platform,)
        assert "stablehlo.dot_general" in again.mlir_module()
        with pytest.raises(ValueError, match=f"(?i){platform}"):
            jd.compress.load_exported(tmp_path / platform)(x)


def test_an_exported_file_runs_without_jaxdeep(flatbuffers, tmp_path):
    model, x = nn.serial(nn.conv(4, 3), norm(), nn.max_pool(), nn.flatten(), dense(3)), draw(6, 8, 8, 1)
    params, state = trained(model, x)
    jd.compress.export(tmp_path / "model", model, params, state, x[:1])
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy, jax.export\n"
        "with open('model', 'rb') as file:\n"
        "    y = jax.export.deserialize(bytearray(file.read())).call(numpy.load('x.npy'))\n"
        "numpy.save('y.npy', y)\n"
        "print('jaxdeep' in sys.modules, 'optax' in sys.modules)"
    )
    command = [sys.executable, "-I", "-c", code]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]
    assert relative(np.load(tmp_path / "y.npy"), model.apply(params, state, x)[0]) < 1e-6


def test_int8_weights_stay_small_in_the_file(flatbuffers, tmp_path):
    model, x = nn.serial(out=dense(100)), draw(5, 64)
    params, state = trained(model, x)
    small = jd.compress.quantize(model, params, state)
    for name, values in (("whole", (model, params, state)), ("small", small)):
        jd.compress.export(tmp_path / name, *values, x)
    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    saved = jd.compress.size_bytes(params) - jd.compress.size_bytes(small[1])
    assert sizes["whole"] - sizes["small"] > 0.8 * saved > 10_000
    y = jd.compress.load_exported(tmp_path / "small")(x)
    assert relative(y, small[0].apply(small[1], state, x)[0]) < 1e-5


def test_dicts_of_inputs_and_a_fixed_number_of_rows(flatbuffers, tmp_path):
    model = nn.concatenate(a=nn.select("a"), b=nn.serial(nn.select("b"), dense(2)))
    x = {"a": draw(4, 3), "b": draw(4, 5)}
    params, state = trained(model, x)
    jd.compress.export(tmp_path / "model", model, params, state, x)
    predict = jd.compress.load_exported(tmp_path / "model")
    assert predict(jax.tree.map(lambda a: a[:3], x)).shape == (3, 5)
    total = nn.lambda_(lambda x: x / x.shape[0] if x.shape[0] > 3 else x)
    with pytest.raises(ValueError, match="batch_size="):
        jd.compress.export(tmp_path / "total", total, {}, {}, draw(4, 3))
    jd.compress.export(tmp_path / "total", total, {}, {}, draw(4, 3), batch_size=4)
    fixed = jd.compress.load_exported(tmp_path / "total")
    np.testing.assert_allclose(fixed(x["a"]), x["a"] / 4)
    with pytest.raises(ValueError, match="shape"):
        fixed(x["a"][:2])


def test_files_that_are_not_whole_are_refused(flatbuffers, tmp_path):
    model, x = nn.serial(out=dense(3)), draw(5, 6)
    path, load = tmp_path / "model", jd.compress.load_exported
    jd.compress.export(path, model, *trained(model, x), x)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for content, reason in {
        b"": "truncated, or not a file",
        b"PK\x03\x04 something else" * 50: "truncated, or not a file",
        whole[:-1]: "truncated, or not a file",
        whole[:middle]: "truncated, or not a file",
        flipped: "damaged",
        whole[1:]: "damaged",
        whole[-48:]: "damaged",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            load(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(tmp_path / "other")


def test_arguments_of_export(flatbuffers, tmp_path, monkeypatch):
    model, x = network(), draw(5, 6)
    params, state = trained(model, x)
    export = functools.partial(jd.compress.export, tmp_path / "model", model, params, state)
    for platforms in ("cpu", (), ("gpu",)):
        with pytest.raises(ValueError, match="platforms"):
            export(x, platforms=platforms)
    with pytest.raises(ValueError, match="rows first"):
        export(jnp.float32(1))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        export(x, batch_size=0)
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda p: jd.compress.export(tmp_path / "m", model, p, state, x))(params)
    with pytest.raises(ValueError, match="6 features"):
        export(draw(5, 7))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"jaxdeep\[export\]"):
        export(x)
    assert not list(tmp_path.iterdir())


# --- accuracy -----------------------------------------------------------------------------------------


def chapter_network():
    return nn.serial(
        flatten=nn.flatten(),
        hidden1=dense(300, activation=jax.nn.relu),
        hidden2=dense(100, activation=jax.nn.relu),
        logits=dense(10),
    )


def small_networks(train, validation, test, *, l1, epochs, tuning, batch_size, learning_rate):
    """Accuracy in percent: as trained, with int8 weights, and at 90 % zeros after training with L1.

    Of the strengths `l1` the one that is best on the validation data.
    """
    model, adam = chapter_network(), jd.optimizers.adam
    how = {"loss": jd.losses.softmax_cross_entropy, "batch_size": batch_size, "progress": False}
    begin = {"optimizer": adam(learning_rate), "key": jax.random.key(0), "epochs": epochs, **how}

    def accuracy(model, params, data):
        return 100 * float(np.mean(jd.metrics.accuracy(model.apply(params, {}, data[0])[0], data[1])))

    def pruned(strength):
        sparse = jd.fit(model, train, penalty=jd.regularizers.l1(strength, where="*/kernel"), **begin)
        few = jd.compress.prune(sparse.params, 0.9)
        tuner = optax.chain(adam(learning_rate / 2), jd.compress.keep_zeros())
        key = jax.random.key(1)
        params = jd.fit(model, train, params=few, optimizer=tuner, key=key, epochs=tuning, **how).params
        sizes = [own["kernel"].size for own in params.values()]
        assert float(jd.compress.sparsity(params).share) * sum(sizes) > round(0.9 * sum(sizes)) - 0.5
        return params

    plain = jd.fit(model, train, **begin)
    best = max(map(pruned, l1), key=lambda params: accuracy(model, params, validation))
    return {
        "plain": accuracy(model, plain.params, test),
        "int8": accuracy(*jd.compress.quantize(model, plain.params, {})[:2], test),
        "pruned": accuracy(model, best, test),
    }


@pytest.mark.slow
def test_small_networks_are_as_accurate_on_digits():
    train, *others = jd.datasets.digits()
    how = {"l1": (1e-4, 3e-4, 1e-3), "epochs": 20, "tuning": 10, "batch_size": 32, "learning_rate": 2e-3}
    found = small_networks(train, *others, **how)
    assert found["plain"] > 97
    assert found["int8"] >= found["plain"] - 0.5
    assert found["pruned"] >= found["plain"] - 1


@pytest.mark.slow
@pytest.mark.skipif("JAXDEEP_DATA" not in os.environ, reason="wants the real data: set JAXDEEP_DATA")
def test_small_networks_are_as_accurate_on_fashion_mnist():
    how = {"l1": (3e-6, 1e-5, 3e-5), "epochs": 10, "tuning": 3, "batch_size": 128, "learning_rate": 1e-3}
    found = small_networks(*jd.datasets.fashion_mnist(), **how)
    print(found)
    assert found["plain"] > 87
    assert found["int8"] >= found["plain"] - 0.5
    assert found["pruned"] >= found["plain"] - 1


@pytest.mark.slow
@pytest.mark.skipif("JAXDEEP_DATA" not in os.environ, reason="wants the real data: set JAXDEEP_DATA")
def test_int8_weights_behind_folded_batch_norms_are_as_accurate():
    """Standardised corner pixels: the folded weights of one layer span four orders of magnitude."""
    train, _, test = jd.datasets.fashion_mnist()
    layers = {f"layer{i}": dense(units, use_bias=False) for i, units in enumerate((300, 100))}
    parts = {"flatten": nn.flatten(), "bn": norm()}
    for name, layer in layers.items():
        parts |= {name: layer, f"{name}_bn": norm(), f"{name}_act": nn.activation(jax.nn.relu)}
    model = nn.serial(**parts, logits=dense(10))
    how = {"loss": jd.losses.softmax_cross_entropy, "batch_size": 128, "progress": False, "epochs": 5}
    how |= {"optimizer": jd.optimizers.adam(1e-3)}

    def accuracy(model, params, state):
        return 100 * float(np.mean(jd.metrics.accuracy(model.apply(params, state, test[0])[0], test[1])))

    for seed in range(3):
        whole = jd.fit(model, train, key=jax.random.key(seed), **how)
        folded = jd.compress.fold_batch_norm(model, whole.params, whole.state)
        found = accuracy(*folded), accuracy(*jd.compress.quantize(*folded))
        print(found)
        assert found[0] > 86
        assert abs(found[1] - found[0]) <= 0.5


# --- beside Keras -------------------------------------------------------------------------------------


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
