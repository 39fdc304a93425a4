"""What kind a column is found to be, and what is refused with what to declare."""

import datetime
import uuid
import warnings

import numpy as np
import pytest

import jaxdeep as jd


def kind(values, **options):
    return jd.tables.fit({"x": values}, **options).features[0].kind


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, None], "number"),
        ([1.5, float("nan")], "number"),
        (["1", "2.5", "-3e4", ""], "number"),
        ([1, "?", 2.5], "number"),
        ([datetime.timedelta(days=1)], "number"),
        ([datetime.time(8, 30)], "number"),
        ([True, None, False], "boolean"),
        (["true", "FALSE", "NA"], "boolean"),
        (["yes", "no"], "category"),
        (["01234", "56789"], "category"),  # postal codes
        (["1", "2", "3+"], "category"),
        (["2026-11-29", None], "date"),
        (["2026-11-29T08:30:00Z", "2026-11-29 08:30:00.25+02:00"], "date"),
        (["20261129"], "number"),
        (["2026-02-30"], "category"),
        ([datetime.date(2026, 11, 29)], "date"),
        (np.array(["2026-11"], "M8[M]"), "date"),
        ([None, float("nan")], "number"),
        (["a", b"b"], "category"),
    ],
)
def test_kinds(values, expected):
    assert kind(values) == expected


def test_categories_of_a_frame_are_categories():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": pandas.Categorical(["1", "2", None], categories=["1", "2", "3"])})
    column = jd.tables.fit(frame).features[0]
    assert column.kind == "category"
    assert column.levels == ("1", "2")  # those that occur


def test_a_zone_may_be_hours_alone():
    """As Postgres writes it."""
    texts = ["2024-01-05 10:00:00+00", "2024-01-06 10:00-05"]
    column, expected = (
        jd.tables.fit({"x": given}) for given in (texts, [text + ":00" for text in texts])
    )
    assert column.features[0].kind == "date"
    assert column == expected


@pytest.mark.parametrize(
    "form",
    [
        *("2024-1-{}", "1/{}/2024", "1/{}/24", "{}.01.2024", "2024/01/{}", "2024-01-{} 10:00:00 UTC"),
        *("Jan {}, 2024", "{}-JAN-24", "Friday, January {}, 2024", "Fri, {} Jan 2024 10:00:00 GMT"),
        *("01/{}/2024 10:00 PM", "2024-01-{}T10"),
    ],
)
def test_dates_in_another_form_are_pointed_out(form):
    days = [form.format(day) for day in range(10, 30)]
    with pytest.warns(UserWarning, match=r"'x' looks like dates in another form than ISO 8601, such as"):
        columns = jd.tables.fit({"x": [*days, "2024-01-05", None]})
    assert columns.features[0].kind == "category"
    assert "convert them, e.g. with pandas.to_datetime" in columns.features[0].notes[0]
    assert "id" not in columns.features[0].notes[0].split()
    with pytest.raises(ValueError, match=r"none of its 20 cells is one; dates are .* ISO 8601, \"2024-"):
        jd.tables.fit({"x": days}, kinds={"x": "date"})
    many = [f"{day} 1{minute // 60}:{minute % 60:02}" for day in days[:2] for minute in range(120)]
    if form == "Jan {}, 2024":  # of so many words
        with pytest.raises(ValueError, match="'x' looks like dates in another form"):
            jd.tables.fit({"x": many})


@pytest.mark.parametrize(
    "texts", [["10.9.12", "10.10.1"], ["1/5/2024", "soon"], ["2011/12"], ["13/13/2024"], ["2026-02-30"]]
)
def test_texts_that_are_no_dates_are_not_taken_for_such(texts):
    assert "dates" not in jd.tables.fit({"x": texts}).summary()


def test_whole_numbers_are_no_dates():
    for days in ([20240101, 20240102], ["20240101", "20240102"]):
        with pytest.raises(ValueError, match="dates are read in the form of ISO 8601"):
            jd.tables.fit({"x": days}, kinds={"x": "date"})


def test_the_kind_that_is_proposed_keeps_the_column():
    with pytest.raises(ValueError, match=r"\(kinds=\{'x': \"category\"\}\)"):
        jd.tables.fit({"x": [1, "1", True, 1.0]})


def test_what_is_of_several_kinds_is_named_with_its_rows():
    with pytest.raises(
        ValueError, match=r"'x' holds number \(1 in row 0\) and text \('1' in row 1\).*kinds"
    ):
        kind([1, "1", True, 1.0])
    column = jd.tables.fit({"x": [1, "1", True, 1.0, "3.0", 3]}, kinds={"x": "category"}).features[0]
    assert column.levels == ("1", "3", "True")
    assert kind([1, "1", True, 1.0], kinds={"x": "number"}) == "number"


@pytest.mark.parametrize(("other", "proposed"), [("2024-03-05", "date"), ("soon", "category")])
def test_dates_among_others_may_be_declared_dates(other, proposed):
    words = rf'"date" reads text in the form of ISO 8601.*kinds=\{{\'x\': "{proposed}"'
    with pytest.raises(ValueError, match=words):
        kind([datetime.date(2024, 1, 1), other])


def test_numbers_with_a_few_texts_are_asked_about():
    values = [*map(str, range(100)), "none"]
    with pytest.raises(ValueError, match="holds numbers, 100 of 101 cells, and text, 'none' in row 100"):
        kind(values)
    column = jd.tables.fit({"x": values}, kinds={"x": "number"}).features[0]
    assert (column.known, column.missing, column.unknown) == (100, 0, 1)
    assert "1 cells that are no number" in column.notes[-1]
    assert kind(values, null=["none"]) == "number"


def test_long_text_is_refused_with_a_way_out_and_all_at_once():
    texts = [f"this is sentence {i} of them" for i in range(300)]
    table = {"a": texts, "b": [1, "x"] * 150, "c": list(range(300))}
    with pytest.raises(
        ValueError, match=r"'a' holds text, 6 words.*'b' holds number.*'a': \"drop\", 'b'"
    ):
        jd.tables.fit(table)
    columns = jd.tables.fit(table, kinds={"a": "drop", "b": "category"})
    assert columns.names == ("b", "c")
    with pytest.warns(UserWarning, match="'a' looks like an id, with 300 levels in 300 cells"):
        assert len(jd.tables.fit({"a": texts}, kinds={"a": "category"}).features[0].levels) == 300


def test_more_levels_than_a_category_has_are_refused(monkeypatch):
    from jaxdeep.tables import kinds

    monkeypatch.setattr(kinds, "MOST_LEVELS", 60)
    with pytest.raises(ValueError, match="more than 60 different values, too many for a category"):
        kind([f"id{i}" for i in range(100)])
    with pytest.raises(ValueError, match="more than 60 different values"):
        kind(list(range(100)), kinds={"x": "category"})


def test_an_id_is_warned_of_at_the_users_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jd.tables.fit({"key": [f"k{i}" for i in range(60)], "row": list(range(60))})
    assert caught[0].filename == __file__
    assert "'key' looks like an id" in str(caught[0].message)
    assert len(caught) == 1
    columns = jd.tables.fit({"row": list(range(60))})
    assert "counts the rows" in columns.summary()


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ({"y": "number"}, "kinds names a column 'y'"),
        ({"x": "text"}, r"kinds\['x'\] must be 'number', 'category', 'boolean', 'date' or 'drop'"),
        (["x"], "kinds must be a dict"),
        ({"x": "drop"}, "must have a column for the inputs"),
    ],
)
def test_declarations_are_checked(kinds, words):
    with pytest.raises((ValueError, TypeError), match=words):
        kind([1, 2], kinds=kinds)


def test_rare_levels_are_unknown_if_that_is_wished():
    columns = jd.tables.fit({"x": ["a"] * 3 + ["b"] * 2 + ["c", None]}, min_frequency=2)
    column = columns.features[0]
    assert column.levels == ("a", "b")
    assert (column.known, column.missing, column.unknown) == (5, 1, 1)
    assert columns.encode_inputs({"x": ["a", "b", "c", None]})["codes"].ravel().tolist() == [2, 3, 1, 0]


def test_levels_are_in_order():
    levels = jd.tables.fit({"x": ["b", "10", "9", "a", "-1", "01"]}).features[0].levels
    assert levels == ("-1", "01", "9", "10", "a", "b")


def test_numbers_with_a_decimal_comma_are_pointed_out():
    with pytest.warns(UserWarning, match="decimal comma"):
        assert "decimal comma" in jd.tables.fit({"x": ["1,5", "-2,25", None]}).summary()
    assert "decimal comma" not in jd.tables.fit({"x": ["1,5", "a"]}).summary()


EXOTIC = {
    "intervals": (lambda pd: pd.interval_range(0, 3), r"Interval\(0, 1.* in row 0; its middle \(\.mid"),
    "cut": (lambda pd: pd.cut([1.0, 2.0, 3.0], 2), r"its ends \(\.left, \.right\) are numbers"),
    "periods": (lambda pd: pd.period_range("2020", periods=3), r"Period.*a date: \.dt\.start_time"),
    "complex": (lambda pd: np.array([1j, 2, 3]), r"j.* in row 0; make columns of its parts, \.real"),
    "complex objects": (
        lambda pd: pd.Series([1, 2j, None], dtype=object),
        r"got 2j in row 1; make columns of its parts, \.real",
    ),
    "lists": (lambda pd: [[1], [2, 3], None], r"got \[1\] in row 0; make columns of its parts"),
    "dicts": (lambda pd: [None, {"b": 1}, {}], "in row 1; make columns of its parts"),
    "arrays": (lambda pd: [np.ones(2), None, None], "in row 0; make columns of its parts"),
    "ids": (lambda pd: [uuid.UUID(int=1), None, None], "make numbers of it, or text, as str"),
}


@pytest.mark.parametrize("name", EXOTIC)
def test_cells_of_other_kinds_are_refused_with_a_way_out(name):
    make, words = EXOTIC[name]
    pandas = pytest.importorskip("pandas")
    columns = {"a": pandas.Series(make(pandas)), "b": [1, 2, 3]}
    for frame in (columns, pandas.DataFrame(columns)):
        with pytest.raises(TypeError, match=f"column 'a' must hold .*{words}"):
            jd.tables.fit(frame)
        assert jd.tables.fit(frame, kinds={"a": "drop"}).names == ("b",)


def test_the_way_out_leads_out():
    pandas = pytest.importorskip("pandas")
    months = pandas.Series(pandas.period_range("2020", periods=3, freq="M"))
    cut = pandas.Series(pandas.cut([1.0, 2.0, 3.0], 2))
    table = {
        "month": months.dt.start_time,
        "middle": cut.map(lambda interval: interval.mid).astype(float),
        "group": cut.astype(str),
        "sparse": pandas.Series(pandas.arrays.SparseArray([0.0, 0.0, 7.0])),
    }
    kinds = [column.kind for column in jd.tables.fit(pandas.DataFrame(table)).features]
    assert kinds == ["date", "number", "category", "number"]
    dense = jd.tables.fit({"sparse": [0.0, 0.0, 7.0]}).encode_inputs({"sparse": table["sparse"]})
    assert dense["numbers"].ravel().tolist() == [0.0, 0.0, 7.0]


def test_a_sparse_matrix_is_no_column():
    sparse = pytest.importorskip("scipy.sparse").csr_matrix(np.eye(3))
    with pytest.raises(TypeError, match=r"column 'a' must be .* a sparse matrix.*\.toarray\(\)"):
        jd.tables.fit({"a": sparse})


@pytest.mark.parametrize(
    ("kind", "cells"),
    [("date", [1.5, 2.5, None]), ("number", ["a", "b", None]), ("boolean", [2, 3, None])],
)
def test_a_declared_kind_that_no_cell_has_is_refused(kind, cells):
    with pytest.raises(ValueError, match=f"column 'x' is declared a {kind}, and none of its 2 cells"):
        jd.tables.fit({"x": cells}, kinds={"x": kind})
    assert jd.tables.fit({"x": [None, None]}, kinds={"x": kind}).features[0].missing == 2


def test_many_cells_of_another_kind_than_the_declared_are_warned_of():
    cells = ["2020-01-02"] * 80 + ["soon"] * 20
    with pytest.warns(UserWarning, match="column 'x' has 20 cells that are no date"):
        columns = jd.tables.fit({"x": cells}, kinds={"x": "date"})
    assert "x has 20 cells that are no date" in columns.summary()
    jd.tables.fit({"x": [*range(95), *["?!"] * 9]}, kinds={"x": "number"})  # few, and asked for


@pytest.mark.parametrize("odd", [np.True_, np.datetime64("2020-01-01")])
def test_truths_and_dates_of_numpy_are_no_numbers_among_them(odd):
    with pytest.raises(ValueError, match=r"column 'a' holds (boolean|date) .* in row 0. and number"):
        jd.tables.fit({"a": [odd, 3, 4]})


def test_numbers_with_many_marks_of_their_own_for_missing_are_pointed_out():
    cells = ["n.a." if i % 8 == 0 else str(i * 1.5) for i in range(1000)]
    with pytest.warns(match="'x' holds numbers, and 'n.a.', which is none; they are taken for levels"):
        columns = jd.tables.fit({"x": cells, "y": [0, 1] * 500}, "y")
    assert "! x holds numbers, and 'n.a.'" in columns.summary()
    for told in {"kinds": {"x": "category"}}, {"null": ["n.a."]}:
        kind = jd.tables.fit({"x": cells, "y": [0, 1] * 500}, "y", **told).features[0].kind
        assert kind == ("category" if "kinds" in told else "number")
    few = jd.tables.fit({"x": [str(i % 40) for i in range(500)] + ["40 or more"] * 100})
    assert few.features[0].kind == "category"
    assert "!" not in few.summary()
