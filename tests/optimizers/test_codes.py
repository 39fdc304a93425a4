"""Codes of eight and sixteen bits beside their definition in NumPy's float64."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdeep.optimizers.codes import Coded, decoded, encoded, in_parts, joined, rounded

SIGNED = [False, True]
DRAWS = 4096


def words(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2**16, shape).astype(np.uint32)


def numbers(shape, signed, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * 10.0 ** rng.uniform(-6, 6, shape)
    return (x if signed else x**2).astype(np.float32)


def values(signed):
    """What each code stands for with a scale of 1, by the definition."""
    top = 126 if signed else 253
    octaves, eighths = np.divmod(np.arange(1, top + 1) - top, 8)
    sizes = 2.0**octaves * (1 + eighths / 8)
    codes = np.arange(1, top + 1)
    return (
        (np.r_[-codes[::-1], 0, codes], np.r_[-sizes[::-1], 0, sizes])
        if signed
        else (
            np.r_[0, codes],
            np.r_[0, sizes],
        )
    )


@pytest.mark.parametrize("signed", SIGNED)
def test_each_code_is_the_number_that_the_definition_says(signed):
    codes, sizes = values(signed)
    assert (np.diff(sizes) > 0).all()
    assert len(codes) == (253 if signed else 254)
    coded = Coded(jnp.asarray(codes, jnp.int8 if signed else jnp.uint8), jnp.ones(1))
    np.testing.assert_array_equal(decoded(coded), sizes.astype(np.float32))


@pytest.mark.few(1)
@pytest.mark.parametrize("signed", SIGNED)
@pytest.mark.parametrize("n", [0, 1, 255, 257])
def test_what_was_decoded_is_encoded_to_the_same_codes_whatever_the_random_bits(n, signed):
    x = numbers((2, n), signed)
    coded = encoded(jnp.asarray(x), words(x.shape), signed=signed)
    assert coded.codes.shape == x.shape
    assert coded.scales.shape == (2, -(-n // 256))
    for seed in (1, 2):
        again = encoded(decoded(coded), words(x.shape, seed), signed=signed)
        np.testing.assert_array_equal(again.codes, coded.codes)
        np.testing.assert_array_equal(again.scales, coded.scales)


@pytest.mark.few(False)
@pytest.mark.parametrize("signed", SIGNED)
def test_beside_a_size_that_grows_what_is_a_code_stays_itself_if_the_scale_is_steady(signed):
    x = jnp.asarray([[1.0, 0.3, 0.0007]])
    found = decoded(encoded(x, words(x.shape), signed=signed, steady=True))
    small = found[0, 1:]
    for seed in range(8):
        grown = found.at[0, 0].multiply(1.37)
        coded = encoded(grown, words(x.shape, seed), signed=signed, steady=True)
        found = decoded(coded)
        np.testing.assert_array_equal(found[0, 1:], small)
        np.testing.assert_allclose(found[0, 0], grown[0, 0], rtol=1 / 8)
        assert 1 <= coded.scales[0, 0] / grown[0, 0] < 2
        assert jnp.log2(coded.scales[0, 0]) % 1 == 0
    largest = jnp.full((1, 3), jnp.finfo(jnp.float32).max)
    assert jnp.isfinite(encoded(largest, 0, signed=signed, steady=True).scales).all()


@pytest.mark.heavy
@pytest.mark.parametrize("signed", SIGNED)
def test_codes_are_in_the_order_of_numbers_and_near_them(signed):
    x = np.sort(numbers((1, 256), signed))
    found = encoded(jnp.asarray(x), 2**15, signed=signed)
    assert (np.diff(found.codes.astype(np.int32)) >= 0).all()
    share = np.abs(x / np.abs(x).max())
    inside = share > (2.0**-15.6 if signed else 2.0**-31.5)
    off = np.abs(np.asarray(decoded(found), np.float64) / x - 1)
    assert off[inside].max() <= 1 / 16  # half a step, at most an eighth


@pytest.mark.heavy
@pytest.mark.parametrize("signed", SIGNED)
def test_zero_is_zero_and_without_a_sign_nothing_else_is(signed):
    x = jnp.asarray([[1e30, 1.0, 1e-30, 0.0, -0.0]])
    found = decoded(encoded(x, words(x.shape), signed=signed))[0]
    assert found[0] == x[0, 0]
    assert found[3] == 0
    assert found[4] == 0
    assert (found[1:3] > 0).all() != signed
    zeros = encoded(jnp.zeros((3, 300)), words((3, 300)), signed=signed)
    assert not decoded(zeros).any()
    assert not zeros.scales.any()


@pytest.mark.few(1)
@pytest.mark.parametrize("signed", SIGNED)
def test_what_is_not_finite_stays_so_and_leaves_the_block_alone(signed):
    x = numbers((1, 256), signed)
    x[0, 3], x[0, 5] = np.nan, np.inf
    found = np.asarray(decoded(encoded(jnp.asarray(x), words(x.shape), signed=signed)))
    x[0, [3, 5]] = 0
    others = np.asarray(decoded(encoded(jnp.asarray(x), words(x.shape), signed=signed)))
    assert np.isnan(found[0, 3])
    assert found[0, 5] == np.inf
    np.testing.assert_array_equal(np.delete(found, [3, 5]), np.delete(others, [3, 5]))


@pytest.mark.heavy
def test_a_negative_number_where_there_is_no_sign_is_loud():
    assert jnp.isnan(decoded(encoded(jnp.asarray([1.0, -1.0]), 0, signed=False))[1])
    found = decoded(encoded(jnp.asarray([1.0, -jnp.inf]), 0, signed=True))
    assert found[1] == -jnp.inf


def of_codes(signed):
    def draw(x, random):
        # in the place of the block's scale, one beside every number
        rows = jnp.stack([jnp.full_like(x, 3.7), x], -1)
        return decoded(encoded(rows, random[..., None], signed=signed))[..., 1]

    return draw


ROUNDINGS = {
    "unsigned": of_codes(False),
    "signed": of_codes(True),
    "bfloat16": lambda x, random: decoded(rounded(x, random)),
    "parts": lambda x, random: joined(*in_parts(x, random)),
}


@pytest.mark.parametrize("name", ROUNDINGS)
def test_rounding_at_random_has_the_number_as_its_mean(name):
    draw = jax.jit(ROUNDINGS[name])
    x = np.float32([3.3, 1.7001, 0.1234567, 3e-3, 7.7e-4, 2e-5])
    if name != "unsigned":
        x = np.r_[x, -x]
    found = np.asarray(draw(np.tile(x, (DRAWS, 1)), words((DRAWS, len(x)), 3)), np.float64)
    assert (np.ptp(found, axis=0) > 0).all()  # each is between two
    error = found.std(0) / np.sqrt(DRAWS)
    np.testing.assert_array_less(np.abs(found.mean(0) - x), 4 * error)


@pytest.mark.parametrize("name", ["bfloat16", "parts"])
def test_the_largest_finite_number_and_what_is_not_finite_stay(name):
    draw = jax.jit(ROUNDINGS[name])
    largest = np.finfo(np.float32).max
    x = np.float32([largest, -largest, np.inf, -np.inf, np.nan, 0.0, 1.0, -2.5])
    for random in (0, 0xFFFF):
        found = np.asarray(draw(x, np.full(len(x), random, np.uint32)))
        assert np.isfinite(found[:2]).all()
        assert (np.sign(found[:2]) == [1, -1]).all()
        np.testing.assert_array_equal(found[2:], x[2:])


def test_two_parts_are_the_nearest_bfloat16_and_16_bits_of_mantissa():
    x = numbers((4000,), signed=True)
    high, low = jax.jit(in_parts)(x, words(x.shape))
    whole = np.asarray(joined(high, low), np.float64)
    np.testing.assert_allclose(whole, x, rtol=2.0**-15)
    # up to a step of the 8 bits beside a tie
    near = whole.astype(np.float32).astype(ml_dtypes.bfloat16)
    tie = np.asarray(low) == -128
    np.testing.assert_array_equal(np.asarray(high)[~tie], near[~tie])
    again = in_parts(jnp.asarray(whole, jnp.float32), words(x.shape, 1))
    np.testing.assert_array_equal(again[0], high)
    np.testing.assert_array_equal(again[1], low)


def test_a_zero_that_was_put_in_the_place_of_a_parameter_is_not_far_from_zero():
    assert (jnp.abs(joined(jnp.zeros(2, jnp.bfloat16), jnp.asarray([-5, 5], jnp.int8))) < 1e-30).all()


@pytest.mark.heavy
@pytest.mark.optimized
@pytest.mark.parametrize("signed", SIGNED)
def test_the_bits_are_the_same_under_jit_vmap_and_on_eight_devices(signed):
    x, random = numbers((8, 6, 600), signed), words((8, 6, 600))

    def code(x, random):
        coded = encoded(x, random, signed=signed)
        return coded, decoded(coded), in_parts(x, random)

    plain = code(jnp.asarray(x), random)
    mesh = Mesh(jax.devices(), ("data",))
    split = [jax.device_put(a, NamedSharding(mesh, PartitionSpec("data"))) for a in (x, random)]
    last = [
        jax.device_put(a, NamedSharding(mesh, PartitionSpec(None, None, "data"))) for a in (x, random)
    ]
    for found in (
        jax.jit(code)(x, random),
        jax.vmap(code)(x, random),
        jax.jit(code)(*split),
        jax.jit(code)(*last),
    ):
        jax.tree.map(np.testing.assert_array_equal, found, plain)
