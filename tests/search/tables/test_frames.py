"""Frames of rows: one type a column, what is missing is missing."""

import functools
import math
import sys

import numpy as np
import pytest

from jaxdeep.search.tables.columns import in_words
from jaxdeep.search.tables.result import Result
from jaxdeep.search.tables.table import Table


def relu(x):
    return x


POINTS = [
    {"act": relu, "units": 8, "sizes": (8, 8), "mixed": 1, "flag": True, "rate": 1, "seed": 0},
    {"act": lambda x: x, "units": None, "sizes": [8], "mixed": "auto", "flag": None, "seed": 0},
    {"act": lambda x: -x, "units": 2**70, "mixed": 0.5, "flag": False, "rate": 0.1, "seed": 0},
]
ENDS = [
    Result({}, {}, {"loss": np.array([1.0], np.float32)}, 0, "finished"),
    Result({}, {}, {"loss": np.array([math.nan])}, 0, "diverged"),
    Result(None, None, {}, -1, "error", "Traceback\nKeyError: 'x'"),
]
TABLE = Table(POINTS, ENDS)


def test_polars_has_a_type_a_column_and_nulls():
    polars = pytest.importorskip("polars")
    frame = TABLE.to_frame("polars")
    assert isinstance(frame, polars.DataFrame)
    assert frame["act"].to_list() == ["relu", "<lambda>", "<lambda> (2)"]
    assert frame["units"].to_list() == ["8", None, str(2**70)]  # no 64 bits hold it
    assert frame["sizes"].to_list() == ["(8, 8)", "[8]", None]
    assert frame["mixed"].to_list() == ["1", "auto", "0.5"]
    assert frame["flag"].to_list() == [True, None, False]
    assert frame["rate"].to_list() == [1.0, None, 0.1]
    assert frame["loss"][0] == 1.0
    assert math.isnan(frame["loss"][1])  # it was computed
    assert frame["loss"][2] is None  # it was not
    assert frame["error"].to_list() == ["", "", "KeyError: 'x'"]
    assert frame.schema["epochs"] == polars.Int64
    assert frame.columns[-1] == "error"


def test_pandas():
    pandas = pytest.importorskip("pandas")
    frame = TABLE.to_pandas()
    pandas.testing.assert_frame_equal(frame, TABLE.to_frame())
    assert frame["loss"].isna().tolist() == [False, True, True]
    assert frame["act"].tolist() == ["relu", "<lambda>", "<lambda> (2)"]
    assert frame["rate"].dtype == np.float64
    assert frame["epochs"].dtype == np.int64
    assert Table([], []).to_frame().shape == (0, 0)
    assert Table([], []).to_frame("polars").shape == (0, 0)


def test_pyarrow():
    pyarrow = pytest.importorskip("pyarrow")
    assert isinstance(TABLE.to_frame("pyarrow"), pyarrow.Table)


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(ImportError, match=r"to_frame needs narwhals: pip install 'jaxdeep\[frames\]'"):
        TABLE.to_frame()
    with pytest.raises(ImportError, match=r"to_pandas needs narwhals: pip install 'jaxdeep\[frames\]'"):
        TABLE.to_pandas()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match="to_frame needs polars: pip install polars"):
        TABLE.to_frame("polars")


def test_words_tell_values_apart():
    half = functools.partial(relu)
    assert in_words([half, relu, half]) == ["partial of relu", "relu", "partial of relu"]
    assert in_words([1, True, "1"]) == ["1", "True", "1 (2)"]
    assert in_words([1e-3, 1e-3, 1.0000001e-3]) == ["0.001", "0.001", "0.0010000001"]
    assert in_words([math.nan, math.inf, None, np.float32(0.1)]) == ["nan", "inf", "None", "0.1"]
    assert in_words([np.ones((2, 2))]) == ["[[1. 1.] [1. 1.]]"]
