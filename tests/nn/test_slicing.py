"""Parts of every example are those that NumPy takes."""

import numpy as np
import pytest

import jaxdeep as jd

X = np.arange(60).reshape(3, 5, 4)
KEYS = [
    (-1,),
    (slice(1, 3), 0),
    (slice(2, 100),),
    (slice(-100, 3), slice(None, None, 2)),
    (slice(None), slice(1, 9)),
    (slice(7, 9),),
    (slice(4, 1),),
    (),
]


@pytest.mark.parametrize("key", KEYS)
def test_a_part_is_that_of_numpy(key):
    layer = jd.nn.get_item(*key)
    y, _ = layer.apply({}, {}, X)
    np.testing.assert_array_equal(y, X[(slice(None), *key)])
    assert y.dtype == np.int32
    assert layer.traits.axes(3) == y.ndim
    again = [(p.start, p.stop, p.step) if isinstance(p, slice) else p for p in key]
    assert jd.nn.get_item(*again) == layer


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ((True,), TypeError, "parts must be whole numbers or slices of them, got True"),
        (("ab",), TypeError, "parts must be .* got 'ab'"),
        (((1,),), TypeError, r"parts must be .* got \(1,\)"),
        ((slice(0.5, 2),), TypeError, r"parts must be .* got slice\(0\.5, 2, None\)"),
        ((slice(None, None, -1),), ValueError, "step must be at least 1, got -1"),
        ((5,), ValueError, r"get_item takes number 5 of axis 1, of shape \(3, 5, 4\)"),
        ((slice(None), -5), ValueError, "get_item takes number -5 of axis 2"),
        ((0, 0, 0), ValueError, "get_item of 3 parts needs an input"),
    ],
)
def test_what_is_no_part_is_refused(parts, error, message):
    with pytest.raises(error, match=message):
        jd.nn.get_item(*parts).apply({}, {}, X)
