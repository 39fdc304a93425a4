"""The words behind masks: the same everywhere, and without a pattern that a test finds.

Each statistic is a count of agreements or of values in bins, expressed as a z-score or a chi-square in
standard deviations; keys are fixed, so nothing here is left to chance. The slow tests draw 10⁸ words.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.nn.stochastic import random_words

FEW, MANY = 2**20, 10**8
MILLIONS = pytest.param(MANY, marks=pytest.mark.slow)
COUNTS = [FEW, MILLIONS]
HEAVY_COUNTS = [pytest.param(FEW, marks=pytest.mark.heavy), MILLIONS]
KEY = jax.random.key(2024)
BOUND = 5.5  # deviations; the chance that any of the some thousand scores exceeds it is below 10⁻³
PART = 2**22
LAGS = [*range(1, 33), 63, 64, 100, 128, 256, 300, 784, 1000, 1024, 4096, 65536, 78400]


@functools.partial(jax.jit, static_argnums=1)
def words(key, n, start=0):
    return random_words(key, (n,), start)


def parts(key, n, extra=0):
    """All n words and `extra` that follow, in parts of moderate size, each with the extra ones again."""
    for start in range(0, n, PART):
        yield np.asarray(words(key, min(PART, n - start) + extra, start))


def score(total, n, p):
    """How many deviations a count of n with probability p is away from its mean."""
    return (total - n * p) / (n * p * (1 - p)) ** 0.5


def chi_square(counts, shares=None):
    """How many deviations a chi-square is away from its degrees of freedom."""
    counts = np.asarray(counts, np.float64)
    expected = counts.sum() * (np.full(counts.shape, 1 / counts.size) if shares is None else shares)
    free = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - free) / (2 * free) ** 0.5


@jax.jit
def planes(x):
    """How many words have each bit set."""
    rows = jnp.pad(x, (0, -len(x) % 1024)).reshape(-1, 1024)
    bits = jnp.arange(32, dtype=jnp.uint32)[:, None]

    def add(counts, row):
        return counts + ((row >> bits) & 1).astype(jnp.int32), None

    return jax.lax.scan(add, jnp.zeros((32, 1024), jnp.int32), rows)[0].sum(1)


@jax.jit
def lagged(w, keep, lag):
    """How many words and the one `lag` later differ in each bit, and how often both are kept."""
    m = len(w) - max(LAGS)
    other = jax.lax.dynamic_slice_in_dim(w, lag, m)
    return planes(w[:m] ^ other), jnp.sum(keep[:m] & jax.lax.dynamic_slice_in_dim(keep, lag, m))


# --- a function of key and position ---------------------------------------------------------------


def reference(key, shape, start=0):
    """The definition in the documentation, with Python's own whole numbers."""
    a, b, c = (int(w) for w in jax.random.bits(key, (3,), jnp.uint32))
    found = []
    for i in range(int(np.prod(shape))):
        x = (start + i + a) % 2**32
        x = (x ^ x >> 17) * 0xED5AD4BB % 2**32
        x = (x ^ x >> 11 ^ b) * 0xAC4C1B51 % 2**32
        x = (x ^ x >> 15 ^ c) * 0x31848BAB % 2**32
        found.append(x ^ x >> 14)
    return np.array(found, np.uint32).reshape(shape)


def test_golden_words():
    """These must not change: masks of saved runs depend on them."""
    assert random_words(jax.random.key(0), (3,)).tolist() == [1902109597, 259949855, 1204626007]
    found = random_words(jax.random.key(42), (2, 2), 2**31)
    assert found.tolist() == [[333151786, 1625749746], [4184535339, 3946682514]]


@pytest.mark.few(1)
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("start", [0, 5, 2**32 - 3, 2**32 + 5])
def test_it_is_what_its_documentation_says(shape, start):
    key = jax.random.key(3)
    expected = reference(key, shape, start)
    np.testing.assert_array_equal(random_words(key, shape, start), expected)
    traced = jax.jit(random_words, static_argnums=1)
    np.testing.assert_array_equal(traced(key, shape, np.uint32(start % 2**32)), expected)


@pytest.mark.heavy
def test_the_same_under_jit_vmap_scan_and_for_legacy_keys():
    keys = jax.random.split(KEY, 5)
    loop = np.stack([random_words(k, (3, 4)) for k in keys])
    np.testing.assert_array_equal(jax.vmap(lambda k: random_words(k, (3, 4)))(keys), loop)
    np.testing.assert_array_equal(jax.lax.map(lambda k: random_words(k, (3, 4)), keys), loop)
    np.testing.assert_array_equal(random_words(jax.random.key_data(keys[0]), (3, 4)), loop[0])
    starts = jnp.arange(3, dtype=jnp.int32) * 4
    rows = jax.vmap(lambda s: random_words(keys[0], (4,), s))(starts)
    np.testing.assert_array_equal(rows, loop[0])


def test_positions_are_taken_modulo_two_to_the_32():
    np.testing.assert_array_equal(random_words(KEY, (4,), 2**32 + 9), random_words(KEY, (4,), 9))
    across = random_words(KEY, (4,), 2**32 - 2)
    np.testing.assert_array_equal(across[2:], random_words(KEY, (2,)))


@pytest.mark.heavy
def test_all_words_of_a_key_differ():
    found = np.concatenate(list(parts(KEY, FEW)))
    assert len(np.unique(found)) == FEW


# --- within a key ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", HEAVY_COUNTS)
def test_bytes_and_bits(n):
    """Every byte is uniform, every bit is as often 0 as 1, and no two bits of a word agree too often."""
    counts, ones = np.zeros((4, 256)), np.zeros(32)
    pairs = {shift: np.zeros(32) for shift in range(1, 32)}
    for w in parts(KEY, n):
        for i in range(4):
            counts[i] += np.bincount((w >> np.uint32(8 * i)) & np.uint32(255), minlength=256)
        ones += np.asarray(planes(w))
        for shift in pairs:
            turned = (w >> np.uint32(shift)) | (w << np.uint32(32 - shift))
            pairs[shift] += np.asarray(planes(w ^ turned))
    assert max(abs(chi_square(c)) for c in counts) < BOUND
    assert np.abs(score(ones, n, 0.5)).max() < BOUND
    assert max(np.abs(score(total, n, 0.5)).max() for total in pairs.values()) < BOUND


@pytest.mark.parametrize("n", HEAVY_COUNTS)
def test_words_at_a_distance_have_nothing_in_common(n):
    """Serial correlation, by bits and by keep or drop, at the distances of rows and of units."""
    agree, kept = {lag: np.zeros(32) for lag in LAGS}, dict.fromkeys(LAGS, 0)
    below = np.uint32(0.2 * 2**32)
    for w in parts(KEY, n, extra=max(LAGS)):
        for lag in LAGS:
            differ, both = lagged(w, w >= below, lag)
            agree[lag] += np.asarray(differ)
            kept[lag] += int(both)
    p = 1 - below / 2**32
    for lag in LAGS:
        assert np.abs(score(agree[lag], n, 0.5)).max() < BOUND, lag
        # neighbours overlap, so the count has the variance of an m-dependent sum
        deviation = (n * (p**2 * (1 - p**2) + 2 * (p**3 - p**4))) ** 0.5
        assert abs(kept[lag] - n * p**2) < BOUND * deviation, lag


@pytest.mark.few(1)
@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("lag", [1, 2, 784, 1024])
def test_pairs_of_bytes_are_uniform(n, lag):
    counts = np.zeros(2**16)
    for w in parts(KEY, n, extra=lag):
        high = (w >> np.uint32(24)).astype(np.int64)
        counts += np.bincount(high[:-lag] * 256 + high[lag:], minlength=2**16)
    assert abs(chi_square(counts)) < BOUND


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_keep_rate_and_runs(n, rate):
    """The share that is kept, how often it changes, and how long runs of dropped ones are."""
    below = np.uint32(rate * 2**32)
    p = below / 2**32  # of dropping
    kept = changes = 0
    lengths = np.zeros(5)
    for w in parts(KEY, n, extra=1):
        drop = w < below
        kept += np.count_nonzero(~drop[:-1])
        changes += np.count_nonzero(drop[:-1] != drop[1:])
        edges = np.diff(np.concatenate([[False], drop, [False]]).astype(np.int8))
        length = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
        lengths += np.bincount(np.minimum(length, 5) - 1, minlength=5)
    q = 2 * p * (1 - p)
    variance = n * (q * (1 - q) + 2 * (p * (1 - p) - q**2))  # neighbouring changes share a word
    assert abs(score(kept, n, 1 - p)) < BOUND
    assert abs(changes - n * q) < BOUND * variance**0.5
    shares = np.array([(1 - p) * p**i for i in range(4)] + [p**4])
    assert chi_square(lengths, shares) < BOUND


# --- between keys ---------------------------------------------------------------------------------


def families(count):
    """Keys that look alike: nearby seeds, of passes, of layers, of steps and of layers of steps."""
    fold = jax.random.fold_in
    return {
        "seeds": [jax.random.key(i) for i in range(count)],
        "far seeds": [jax.random.key(i << 24) for i in range(count)],
        "passes": list(jax.random.split(KEY, count)),
        "layers": [fold(KEY, i) for i in range(count)],
        "layers of passes": [
            fold(k, i) for k, i in itertools.product(jax.random.split(KEY, 4), range(count // 4))
        ],
    }


@pytest.mark.few(1)
@pytest.mark.parametrize("family", families(4))
@pytest.mark.parametrize("n", [2**17, pytest.param(2**21, marks=pytest.mark.slow)])
def test_keys_that_look_alike_have_nothing_in_common(family, n):
    """All pairs of 24 keys, position by position and where their counters coincide."""
    keys = families(24)[family]
    first = [int(jax.random.bits(k, (3,), jnp.uint32)[0]) for k in keys]
    below = np.uint32(0.2 * 2**32)
    p = 1 - below / 2**32
    for aligned in (False, True):
        found = [
            np.asarray(words(k, n, np.uint32((first[0] - a) % 2**32 if aligned else 0)))
            for k, a in zip(keys, first)
        ]
        kept = np.stack([w >= below for w in found])
        assert np.abs(score(kept.sum(1), n, p)).max() < BOUND
        both = (kept.astype(np.float32) - p) @ (kept.astype(np.float32) - p).T / (p * (1 - p) * n**0.5)
        assert np.abs(both[np.triu_indices(len(keys), 1)]).max() < BOUND
        for i, j in itertools.combinations(range(8), 2):
            assert np.abs(score(np.asarray(planes(found[i] ^ found[j])), n, 0.5)).max() < BOUND


@pytest.mark.parametrize("samples", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_at_one_position_keys_are_coin_tosses(samples):
    """What MC dropout relies on: over passes, an element is kept as often as a coin falls."""
    n, p = 10_000, 1 - int(0.2 * 2**32) / 2**32
    keys = jax.random.split(KEY, samples)

    def count(total, key):
        return total + (random_words(jax.random.fold_in(key, 3), (n,)) >= int(0.2 * 2**32)), None

    kept, _ = jax.jit(lambda keys: jax.lax.scan(count, jnp.zeros(n, jnp.int32), keys))(keys)
    z = score(np.asarray(kept, np.float64), samples, p)
    assert abs(z.mean()) < BOUND / n**0.5
    assert abs((z**2).sum() - n) < BOUND * (2 * n) ** 0.5
    assert np.abs(z).max() < 6


@pytest.mark.few(1)
@pytest.mark.parametrize("shape", [(2000, 784), (1024, 1024)])
def test_rows_and_columns_of_a_mask_are_even(shape):
    below = int(0.3 * 2**32)
    kept = np.asarray(random_words(KEY, shape)) >= below
    p = 1 - below / 2**32
    for axis in (0, 1):
        z = score(kept.sum(axis), shape[axis], p)
        assert abs((z**2).sum() - z.size) < BOUND * (2 * z.size) ** 0.5


def test_keys_with_like_words_are_rarely_and_barely_correlated():
    """The documented weakness: b alike in its low bits, counters displaced to coincide."""
    rng, n = np.random.default_rng(0), 2**18
    below = np.uint32(0.2 * 2**32)

    def masks(a, b, c):
        x = np.arange(n, dtype=np.uint32) + a
        x = (x ^ (x >> np.uint32(17))) * np.uint32(0xED5AD4BB)
        x = (x ^ (x >> np.uint32(11)) ^ b) * np.uint32(0xAC4C1B51)
        x = (x ^ (x >> np.uint32(15)) ^ c) * np.uint32(0x31848BAB)
        return (x ^ (x >> np.uint32(14))) >= below

    found = []
    for delta in (2**31, 2**30, 2**28, 2**24, 2**20, 2**10):
        a, b, c, other = rng.integers(0, 2**32, 4, dtype=np.uint32)
        one, two = masks(a, b, c), masks(a, b ^ np.uint32(delta), other)
        found.append(abs(((one - 0.8) * (two - 0.8)).mean() / 0.16))
    assert max(found[:3]) < 0.1
    assert max(found[3:]) < BOUND / n**0.5


# --- layers that draw from them -------------------------------------------------------------------


def run(layer, x, key=KEY):
    return layer.apply({}, {}, x, key=key)[0]


@pytest.mark.heavy
@pytest.mark.parametrize("make", [jd.nn.dropout, jd.nn.alpha_dropout])
def test_threefry_by_keyword(make):
    x = jnp.ones((200, 100))
    layer = make(0.3, generator="threefry")
    kept = np.asarray(jax.random.bits(KEY, x.shape, jnp.uint32)) >= int(np.float32(0.3) * 2**32)
    one, other = np.unique(np.asarray(run(make(0.3), x)))
    y = np.asarray(run(layer, x))
    assert set(np.unique(y)) == {one, other}
    np.testing.assert_array_equal(y == max(one, other), kept)
    assert layer.rows_from is None
    assert "generator=threefry" in repr(layer).replace("'", "")
    with pytest.raises(ValueError, match="generator must be 'hash' or 'threefry', got 'philox'"):
        make(0.3, generator="philox")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (jd.nn.dropout(0.3), (12, 5)),
        (jd.nn.dropout(0.3), (12,)),
        (jd.nn.dropout(0.3, noise_shape=(None, 1, None)), (12, 4, 5)),
        (jd.nn.dropout(0.3, noise_shape=(1, None)), (12, 5)),
        (jd.nn.alpha_dropout(0.3), (12, 3, 2)),
        (jd.nn.gaussian_noise(0.3), (12, 5)),
        (jd.nn.rrelu(), (12, 5)),
    ],
)
@pytest.mark.parametrize("rows", [1, 4, 5])
def test_a_part_of_the_rows_draws_what_the_whole_draws(layer, shape, rows):
    x = -jnp.ones(shape)
    whole = run(layer, x)
    part = jax.jit(lambda first, x: run(layer.rows_from(first, rows), x))
    for first in range(0, 13 - rows, rows):
        found, expected = part(first, x[first : first + rows]), whole[first : first + rows]
        np.testing.assert_allclose(found, expected, rtol=1e-6)  # compiled: other roundings


@pytest.mark.heavy
def test_a_part_of_the_rows_where_rows_and_time_are_one_axis():
    layer, x = jd.nn.dropout(0.3), jnp.ones((24, 5))  # 12 rows of 2 steps
    np.testing.assert_array_equal(run(layer.rows_from(4, 3), x[8:14]), run(layer, x)[8:14])


def test_a_part_of_rows_that_cannot_be_told_apart():
    with pytest.raises(
        ValueError, match=r"a random layer cannot tell 5 rows apart in an input of shape \(4, 3\)"
    ):
        run(jd.nn.dropout(0.5).rows_from(0, 5), jnp.ones((4, 3)))


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_gaussian_noise_is_normal(dtype):
    from scipy import stats

    y = np.asarray(run(jd.nn.gaussian_noise(1.0), jnp.zeros(400_000, dtype)), np.float64)
    assert run(jd.nn.gaussian_noise(1.0), jnp.zeros(3, dtype)).dtype == dtype
    assert np.isfinite(y).all()
    if dtype == jnp.float32:
        assert stats.kstest(y, "norm").pvalue > 1e-4
    m = [y.mean(), y.var() - 1, (y**3).mean(), (y**4).mean() - 3]
    assert np.abs(np.array(m) / np.array([1, 2, 15, 96]) ** 0.5).max() < 4.5 / len(y) ** 0.5 + 2e-3


@pytest.mark.heavy
def test_noise_of_float64_has_its_precision(x64):
    y = run(jd.nn.gaussian_noise(1.0), jnp.zeros(1000, jnp.float64))
    assert y.dtype == jnp.float64
    assert (np.asarray(y) != np.asarray(y, np.float32)).mean() > 0.99


def test_slopes_of_rrelu_are_uniform():
    from scipy import stats

    slopes = -np.asarray(run(jd.nn.rrelu(0.1, 0.4), -jnp.ones(200_000)), np.float64)
    assert stats.kstest((slopes - 0.1) / 0.3, "uniform").pvalue > 1e-4
