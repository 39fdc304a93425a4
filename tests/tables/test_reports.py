"""What is printed for people."""

import pytest

import jaxdeep as jd


def test_the_summary_says_what_was_found_and_fits_a_screen():
    table = {
        "a column with a very long name that goes on and on": [1.5, None, 2.5] * 20,
        "city": ["Rome", "Oslo", None] * 20,
        "row": list(range(60)),
        "constant": [1] * 60,
        "empty": [None] * 60,
        "single": ["x"] * 60,
        "day": ["2020-01-01", "2021-06-01", None] * 20,
        "many": [f"m{i % 30}" for i in range(60)],
        "a rather long label of a class": ["a very long label of a class indeed", "b", "c"] * 20,
    }
    text = jd.tables.fit(table, target="a rather long label of a class").summary()
    assert text.startswith("60 rows; target 'a rather long label of a c…: 3 classes, a very long label")
    assert max(map(len, text.splitlines())) <= 100
    for words in (
        "a column with a very long n…  number         -     33 %        -  scaled, and missing: 2",
        "many                          category      30        -        -  embedding: 8",
        "day                           date           -     33 %        -  2020 to 2021, and missing: 6",
        "! row counts the rows",
        "! constant is constant: it says nothing",
        "! empty has no known value: it is a constant",
        "! single has a single level: it says nothing",
    ):
        assert words in text, text
    columns = jd.tables.fit({"x": [1.0]})
    assert columns.summary().startswith("1 row; no target")
    assert columns.summary().endswith("1 input, 4 bytes for these rows")


def test_the_summary_says_what_one_hot_columns_would_take_before_they_are_refused():
    with pytest.warns(match="looks like an id, with 17,000 levels"):
        columns = jd.tables.fit({"word": [f"w{i}" for i in range(17_000)]})
    assert columns.summary(one_hot=20_000).endswith("\n17,000 inputs, 1.1 GiB for these rows")
    with pytest.raises(ValueError, match=r"would take 1\.1 GiB for 17,000 rows"):
        columns.layer(one_hot=20_000)


def test_the_inputs_of_the_summary_are_those_of_the_layer():
    columns = jd.tables.fit({"x": [1.0, None], "c": ["a", "b"], "d": ["2020-01-01", "2021-01-01"]})
    for options in ({}, {"indicators": False}, {"encodings": {"c": "one_hot"}}):
        width = columns.layer(**options).traits.features
        assert columns.summary(**options).splitlines()[-1].startswith(f"{width} inputs, ")
        assert len(columns.output_names(**options)) == width
