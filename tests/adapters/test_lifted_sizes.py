"""Lifted models at other sizes than that of the example: the module's numbers, or a refusal."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxdeep as jd
from jaxdeep.adapters import from_equinox, from_linen, from_nnx, lift, lower

KEY = jax.random.key(3)


def pool(kind, window, padding="VALID"):
    return lambda h: kind(h, (window, window), (window, window), padding=padding).mean((1, 2))


BETWEEN = {  # what lies between a convolution and a dense layer, and whether it is right at every size
    "average pool": (pool(linen.avg_pool, 2), True),
    "average pool, padded": (pool(linen.avg_pool, 2, "SAME"), False),  # flax counts the padding
    "max pool, padded": (pool(linen.max_pool, 2, "SAME"), True),
    "large max pool, padded": (pool(linen.max_pool, 4, "SAME"), True),
    "pool of one side": (lambda h: linen.max_pool(h, (2, 1), (2, 1)).max((1, 2)), False),
    "each second place": (lambda h: h[:, ::2, ::2].mean((1, 2)), False),
    "a corner": (lambda h: h[:, :8, :8].mean((1, 2)), False),
    "activated corner": (lambda h: linen.relu(h[:, :8, :8]).mean((1, 2)), False),
    "mean": (lambda h: linen.relu(h).mean((1, 2)), True),
}


def images(size):
    return jax.random.normal(jax.random.fold_in(KEY, size), (2, size, size, 3))


def agreed(module, model, x):
    """Whether the lifted model takes the input; its numbers are those of the module."""
    wanted, _ = module[0].apply(*module[1:], x)
    try:
        y, _ = model[0].apply(*model[1:], x)
    except ValueError as error:
        if "alone, got" in str(error):
            return False
        raise
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)
    return True


def both(model, x):
    params, state = model.init(KEY, x)
    return (model, params, state), lift(model, params, state, x)


@pytest.mark.heavy
@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("name", BETWEEN)
def test_what_is_lifted_does_as_the_module_at_every_size_or_refuses(name, size):
    between, right = BETWEEN[name]
    net = linen.Sequential([linen.Conv(4, (3, 3)), between, linen.Dense(2)])
    module, model = both(from_linen(net), images(size))
    takes = [agreed(module, model, images(n)) for n in (size, 8, 9, 10, 11, 12, 15, 16)]
    assert takes[0]
    assert all(takes[1:]) or not right
    if size == 8 and not right:
        assert takes == [True, True, *[False] * 6]


@pytest.mark.heavy
@pytest.mark.parametrize("size", [13, 14, 15, 16])
def test_a_padded_pool_behind_strides_stays_padded(size):
    def net(h):
        return linen.max_pool(h, (2, 2), (2, 2), padding="SAME").mean((1, 2))

    net = linen.Sequential([linen.Conv(4, (3, 3), 2), linen.Conv(4, (3, 3), 2), net, linen.Dense(2)])
    module, model = both(from_linen(net), images(size))
    assert model[0].layers["max_pool0"].config["padding"] == "SAME"
    assert all(agreed(module, model, images(n)) for n in range(12, 21))


def test_the_refusal_names_both_sizes():
    net = linen.Sequential([linen.Conv(4, (3, 3)), lambda h: h[:, :8, :8].mean((1, 2))])
    _, (model, params, state) = both(from_linen(net), images(8))
    words = r"shape \(8, 8, 3\) alone, got \(9, 8, 3\): .*jaxdeep.adapters.lift .*example of \(8, 8, 3\)"
    with pytest.raises(ValueError, match=words):
        model.apply(params, state, jnp.ones((5, 9, 8, 3)))
    assert model.apply(params, state, jnp.ones((5, 8, 8, 3)))[0].shape == (5, 4)


@pytest.mark.heavy
def test_a_model_of_one_size_is_saved_folded_and_lowered_as_any_other(tmp_path):
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            x = linen.BatchNorm(use_running_average=not train)(linen.Conv(4, (3, 3))(x))
            return linen.Dense(2)(linen.relu(x)[:, :8, :8].mean((1, 2)))

    module, model = both(from_linen(Net()), images(8))
    fresh = jax.eval_shape(model[0].init, KEY, images(8))
    assert jax.tree.structure(fresh) == jax.tree.structure((model[1], model[2]))
    jd.save(tmp_path / "model", *model)
    folded = jd.compress.fold_batch_norm(*model)
    for other in (jd.load(tmp_path / "model"), folded, jd.compress.quantize(*folded)):
        y, wanted = other[0].apply(*other[1:], images(8))[0], module[0].apply(*module[1:], images(8))[0]
        np.testing.assert_allclose(y, wanted, atol=0.02 * np.abs(wanted).max())
        with pytest.raises(ValueError, match="alone, got"):
            other[0].apply(*other[1:], images(9))
    back = lower(*module, *model[1:], images(8))
    jax.tree.map(np.testing.assert_array_equal, back, module[1:])


@pytest.mark.heavy
def test_a_module_of_one_size_becomes_what_it_was():
    net = linen.Sequential(
        [linen.Conv(4, (3, 3), padding="VALID"), lambda h: h.reshape(h.shape[0], -1), linen.Dense(2)]
    )
    _, (model, _, _) = both(from_linen(net), images(8))
    assert list(model.layers) == ["layers_0", "flatten0", "layers_2"]


@pytest.mark.heavy
@pytest.mark.parametrize("shared", [True, False], ids=["each place", "a table of places"])
def test_sequences_of_other_lengths(shared):
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Dense(4)(x)
            if not shared:
                x = x + self.param("places", linen.initializers.normal(), (12, 4))[: x.shape[1]]
            return linen.Dense(2)(x[:, :12].mean(1))

    def rows(length):
        return jax.random.normal(KEY, (2, length, 5))

    module, model = both(from_linen(Net()), rows(12))
    lengths = (11, 12, 24) if shared else (1, 11, 12)
    assert [agreed(module, model, rows(n)) for n in lengths] == [n == 12 for n in lengths]


@pytest.mark.heavy
@pytest.mark.parametrize("mean", ["pool of the height", "reshape"])
def test_what_is_right_for_squares_alone(mean):
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            height, width = x.shape[1:3]
            if mean == "reshape":
                x = x.reshape(-1, width, height, 3)
            x = linen.Conv(4, (3, 3))(x)
            if mean != "reshape":
                x = linen.avg_pool(x, (height, height))
            return linen.Dense(2)(x.mean((1, 2)))

    module, model = both(from_linen(Net()), images(8))
    assert agreed(module, model, images(8))
    assert not agreed(module, model, jax.random.normal(KEY, (2, 8, 12, 3)))


@pytest.mark.heavy
@pytest.mark.parametrize("axis", [1, 2])
def test_images_that_are_turned_by_their_longer_side(axis):
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = x.swapaxes(1, 2) if x.shape[axis] > x.shape[3 - axis] else x
            return linen.Dense(2)(linen.Conv(4, (3, 3))(x).mean((1, 2)))

    module, model = both(from_linen(Net()), images(8))
    longer = (2, 16, 8, 3) if axis == 1 else (2, 8, 16, 3)
    assert not agreed(module, model, jax.random.normal(KEY, longer))


@pytest.mark.heavy
def test_a_slice_that_is_longer_than_the_example():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(2)(x[:, :64].mean(1))

    module, model = both(from_linen(Net()), jax.random.normal(KEY, (2, 16, 5)))
    assert [agreed(module, model, jax.random.normal(KEY, (2, n, 5))) for n in (16, 65)] == [True, False]


@pytest.mark.heavy
def test_tokens_of_other_lengths():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, tokens):
            return linen.Dense(2)(linen.Embed(7, 4)(tokens).mean(1))

    def tokens(length):
        return jax.random.randint(KEY, (2, length), 0, 7)

    module, model = both(from_linen(Net()), tokens(6))
    assert all(agreed(module, model, tokens(n)) for n in (1, 5, 6, 7, 20))


@pytest.mark.heavy
@pytest.mark.parametrize("corner", [False, True])
def test_nnx_at_other_sizes(corner):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.out = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            h = nnx.avg_pool(self.conv(x), (2, 2), (2, 2))
            return self.out((h[:, :4, :4] if corner else h).mean((1, 2)))

    module, model = both(from_nnx(Net(nnx.Rngs(0))), images(8))
    assert [agreed(module, model, images(n)) for n in (8, 9, 10, 16)] == [True, *[not corner] * 3]


@pytest.mark.heavy
@pytest.mark.parametrize("corner", [False, True])
def test_equinox_at_other_sizes(corner):
    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        out: eqx.nn.Linear

        def __init__(self):
            self.conv = eqx.nn.Conv2d(3, 4, 3, padding=1, key=KEY)
            self.out = eqx.nn.Linear(4, 2, key=KEY)

        def __call__(self, x):
            h = eqx.nn.AvgPool2d(2, 2)(self.conv(x))
            return self.out((h[:, :4, :4] if corner else h).mean((1, 2)))

    def first(size):
        return jnp.moveaxis(images(size), -1, 1)

    module, model = both(from_equinox(Net()), first(8))
    assert [agreed(module, model, first(n)) for n in (8, 9, 10, 16)] == [True, *[not corner] * 3]
