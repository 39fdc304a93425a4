"""Labels as classes and back, and the targets of regressions."""

import decimal

import numpy as np
import pytest

import jaxdeep as jd

X = [1.0, 2.0, 4.0, 8.0]


def fitted(y, **options):
    return jd.tables.fit({"x": np.resize(X, len(y)), "y": y}, target="y", **options)


@pytest.mark.parametrize(
    ("y", "classes", "codes"),
    [
        (["no", "yes", "no"], ("no", "yes"), [0, 1, 0]),
        ([5, 3, 4, 3], (3, 4, 5), [2, 0, 1, 0]),
        ([3.0, 5.0], (3, 5), [0, 1]),
        (["10", "9"], ("10", "9"), [0, 1]),
        (["a", "10", "9"], ("10", "9", "a"), [2, 0, 1]),
        ([True, False], (False, True), [1, 0]),
        (["False", "True"], (False, True), [0, 1]),
        (["01", "02"], ("01", "02"), [0, 1]),
    ],
)
def test_labels_come_back_as_they_were(y, classes, codes):
    columns = fitted(y)
    assert columns.classes == classes
    assert [type(label) for label in columns.classes] == [type(label) for label in classes]
    _, targets = columns.encode({"x": np.resize(X, len(y)), "y": y})
    assert targets.dtype == np.int32
    assert targets.tolist() == codes
    assert columns.labels(targets).tolist() == [classes[code] for code in codes]
    assert columns.outputs == (1 if len(classes) == 2 else len(classes))
    assert columns.task == ("binary" if len(classes) == 2 else "multiclass")
    if len(classes) == 2:
        assert columns.labels(targets == 1).tolist() == columns.labels(targets).tolist()
    again = jd.tables.from_json(columns.to_json())
    assert again == columns
    assert [type(label) for label in again.classes] == [type(label) for label in classes]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["10.1", "10.10", "10.9.1", "10.10"], ("10.1", "10.10", "10.9.1")),
        (["1.0", "2.0", "3.0+"], ("1.0", "2.0", "3.0+")),
        (["1.0", "2.0", "1", "x"], ("1", "2.0", "x")),
        (["1e400", "2e500", "x"], ("1e400", "2e500", "x")),
        (["1.0", "2.0"], ("1", "2")),
    ],
)
def test_labels_of_text_keep_their_spelling(y, classes):
    columns = fitted(y)
    assert columns.classes == classes
    targets = columns.encode({"x": np.resize(X, len(y)), "y": y})[1]
    assert columns.target.counts == tuple(np.bincount(targets))
    assert columns.encode_labels(columns.labels(targets)).tolist() == targets.tolist()
    assert jd.tables.from_json(columns.to_json()).encode_labels(y).tolist() == targets.tolist()
    if "2.0" in y:
        assert columns.encode_labels([2, 2.0, "2"]).tolist() == [1, 1, 1]
        assert columns.target.of_numbers


def test_numbers_that_are_too_large_are_labels_of_text(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,1e400\n2,2e500\n4,3\n")
    columns = jd.tables.fit(tmp_path / "t.csv", "y", kinds={"y": "category"})
    assert columns.classes == ("1e400", "2e500", "3")
    assert columns.encode(tmp_path / "t.csv")[1].tolist() == [0, 1, 2]


def test_labels_are_the_same_in_every_container(tmp_path):
    from helpers.frames import containers

    for y in (
        [5, 3, 4, 3],
        ["no", "yes", "no", "no"],
        [True, False, True, True],
        [0.5, 1.5, 2.25, -3.0],
    ):
        found = [jd.tables.fit(f, target="y") for _, f in containers({"x": X, "y": y}, tmp_path)]
        assert all(columns == found[0] for columns in found)
        for _, frame in containers({"x": X, "y": y}, tmp_path):
            np.testing.assert_array_equal(
                found[0].encode(frame)[1], found[0].encode({"x": X, "y": y})[1]
            )


def test_true_and_false_may_come_as_numbers_later():
    columns = fitted([True, False, True])
    assert columns.encode({"x": [1, 1], "y": [1, 0]})[1].tolist() == [1, 0]
    assert columns.encode({"x": [1, 1], "y": ["true", "False"]})[1].tolist() == [1, 0]


def test_a_class_may_be_absent_later_and_no_other_may_be_there():
    columns = fitted(["a", "b", "c"])
    assert columns.encode({"x": [1], "y": ["c"]})[1].tolist() == [2]
    with pytest.raises(
        ValueError, match="target 'y' must be one of the classes 'a', 'b', 'c', got 'd' in row 1"
    ):
        columns.encode({"x": [1, 2], "y": ["a", "d"]})
    with pytest.raises(ValueError, match="target 'y' is missing in row 1"):
        columns.encode({"x": [1, 2], "y": ["a", float("nan")]})
    with pytest.raises(ValueError, match="lacks the column 'y'"):
        columns.encode({"x": [1, 2]})


def test_numbers_are_a_regression():
    y = [1e5 + 0.5, 1e5 + 1.5, 1e5 + 3.0]
    columns = fitted(y)
    assert columns.task == "regression"
    assert columns.classes is None
    assert columns.outputs == 1
    targets = columns.encode({"x": X[:3], "y": y})[1]
    np.testing.assert_array_equal(targets, np.array(y, np.float32))
    assert "target 'y': a number from 100000 to 100003" in columns.summary()
    whole = fitted(list(range(11)))
    assert whole.task == "regression"
    assert fitted([1, 2, 1], kinds={"y": "number"}).task == "regression"
    assert fitted(list(range(11)), kinds={"y": "category"}).outputs == 11


def test_numbers_whose_differences_would_be_lost_are_refused():
    with pytest.raises(ValueError, match=r"target 'y' holds .* float32 cannot tell: use stand"):
        fitted(1.7e9 + np.arange(40.0))
    for y in (2**60 + np.arange(40), [str(2**60 + k) for k in range(40)]):
        for standardize in (False, True):
            with pytest.raises(ValueError, match=f"target 'y' holds numbers from {2**60} to .* float64"):
                fitted(y, kinds={"y": "number"}, standardize_target=standardize)


def test_targets_may_be_standardized():
    y = np.array([1e9 + 0.5, 1e9 + 1.5, 1e9 + 3.0])
    columns = fitted(y, standardize_target=True)
    targets = columns.encode({"x": X[:3], "y": y})[1]
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets, (y - y.mean()) / y.std(), rtol=1e-6)
    np.testing.assert_allclose(columns.values(targets) - 1e9, y - 1e9, rtol=1e-5)
    for unit in (1e-60, 1e60):  # in float64, of which float32 holds nothing
        columns = fitted(y * unit, kinds={"y": "number"}, standardize_target=True)
        targets = columns.encode({"x": X[:3], "y": y * unit})[1]
        np.testing.assert_allclose(targets, (y - y.mean()) / y.std(), rtol=1e-5)


@pytest.mark.parametrize(
    ("y", "options", "words"),
    [
        (["a", None, "b"], {}, "target 'y' is missing in row 1; leave rows without it out"),
        (["a", None, "b", None, None], {}, "target 'y' is missing in row 1 and in 2 more; leave"),
        ([1.5, float("nan")], {}, "target 'y' is missing in row 1"),
        (["a", "a"], {}, "target 'y' has a single class, 'a'"),
        ([14.62] * 3, {}, r"target 'y' has a single value, 14.62: there is nothing to learn"),
        ([2.5, 2.5], {"standardize_target": True}, "target 'y' has a single value, 2.5"),
        ([7, 7], {"kinds": {"y": "number"}}, "target 'y' has a single value, 7"),
        ([1.5, -1e60], {}, r"target 'y' holds -1e\+60 in row 1, beyond what float32 holds: use ano"),
        ([1e-60, 3e-60], {}, "'y' holds numbers of standard deviation 1e-60, below what float32 holds"),
        ([1.5, float("inf")], {}, "target 'y' must be finite numbers, got inf in row 1"),
        (["2020-01-01", "2020-01-02"], {}, "must be of numbers or classes"),
        ([1, "a", 2.5], {}, "'y' holds number"),
        (["1.5", "a"], {"kinds": {"y": "number"}}, "must be finite numbers, got 'a' in row 1"),
    ],
)
def test_targets_that_cannot_be_learnt_are_refused(y, options, words):
    with pytest.raises(ValueError, match=words):
        fitted(y, **options)


@pytest.mark.parametrize("standardize", [False, True])
def test_later_numbers_that_float32_does_not_hold_are_refused_by_row(standardize):
    columns = fitted([1.5, 2.5, 4.0], standardize_target=standardize)
    with pytest.raises(
        ValueError, match=r"'y' must be numbers that float32 holds, got 1e\+300 in row 1"
    ):
        columns.encode({"x": [1, 2], "y": [1.0, 1e300]})


def test_the_target_is_a_column():
    with pytest.raises(ValueError, match="target='Y' is no column of the frame; 'y' is one"):
        jd.tables.fit({"x": X, "y": X}, target="Y")
    with pytest.raises(TypeError, match="target must be the name of a column, got 3"):
        jd.tables.fit({"x": X}, target=3)
    columns = jd.tables.fit({"x": X})
    for call in (columns.encode, columns.values):
        with pytest.raises(ValueError, match="target"):
            call({"x": X})
    with pytest.raises(ValueError, match="has no classes"):
        jd.tables.fit({"x": X, "y": [0.5, 1, 2, 3]}, target="y").labels([0])


def test_a_label_of_digits_is_text_where_the_table_has_types(tmp_path):
    y = ["5", "3", "5", "3"]
    file = tmp_path / "a.csv"
    file.write_text("x,y\n" + "".join(f"{a},{b}\n" for a, b in zip(X, y)))
    assert fitted(y).classes == ("3", "5")
    assert fitted([int(one) for one in y]).classes == (3, 5)
    assert jd.tables.fit(file, "y").classes == (3, 5)


def test_true_and_false_in_any_case_are_two_classes():
    columns = fitted(["True", "False", "true", "FALSE"])
    assert (columns.classes, columns.task) == ((False, True), "binary")
    assert columns.target.counts == (2, 2)
    assert columns.encode({"x": X, "y": ["true", "True", "FALSE", "false"]})[1].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("kinds", [None, {"y": "number"}])
def test_a_target_with_decimal_commas_is_no_target_of_classes(kinds):
    y = [f"{i},2" for i in range(30)] + ["1.234,5", "7"]
    with pytest.raises(
        ValueError, match=r"""decimal comma, such as '0,2': .* kinds=\{'y': "category"\}"""
    ):
        fitted(y, kinds=kinds)
    assert fitted(y, kinds={"y": "category"}).task == "multiclass"
    assert fitted(["a,1", "b", "a,1"]).classes == ("a,1", "b")


def test_whole_numbers_are_counted_by_their_digits():
    y = [2**60 + i for i in range(12)]  # which float64 takes for one
    for given in (y, list(map(str, y))):
        with pytest.raises(ValueError, match="float64 cannot tell"):
            fitted(given, kinds={"y": "number"})
    with pytest.raises(ValueError, match="float64 cannot tell"):
        fitted(y)
    assert fitted(y, kinds={"y": "category"}).classes == tuple(y)
    assert fitted([2**60 + i % 10 for i in range(30)]).classes == tuple(y[:10])


def test_a_target_is_standardised_where_float32_needs_it():
    fine, close = np.arange(40) / 3, 1e9 + 0.25 * np.arange(40)
    assert not fitted(fine, standardize_target="auto").target.standardized
    assert fitted(fine, standardize_target="auto") == fitted(fine)
    for y in close, fine * 1e300, fine * 1e-300:
        with pytest.raises(ValueError, match="standardize_target=True"):
            fitted(y)
        columns = fitted(y, standardize_target="auto")
        assert columns == fitted(y, standardize_target=True)
        codes = columns.encode({"x": np.resize(X, 40), "y": y})[1]
        np.testing.assert_allclose(columns.values(codes) / y[-1], y / y[-1], atol=1e-6)
    with pytest.raises(TypeError, match="standardize_target"):
        fitted(fine, standardize_target="often")


@pytest.mark.parametrize(
    ("texts", "classes"),
    [(["1.0", "2.0"], (1, 2)), (["0.50", "2"], (0.5, 2)), (["true", "false"], (False, True))],
)
def test_labels_of_a_file_are_numbers_and_truths_as_they_are_documented(tmp_path, texts, classes):
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{i},{text}\n" for i, text in enumerate(texts)))
    columns = jd.tables.fit(tmp_path / "t.csv", "y", kinds={"y": "category"})
    assert columns.classes == classes
    assert list(map(type, columns.classes)) == list(map(type, classes))
    # an array of mixed numbers has one type
    assert columns.labels([0, 1]).tolist() == list(classes)


@pytest.mark.parametrize(
    "y",
    [
        1e9 + 1e-6 * np.arange(3),
        1e15 + 0.25 * np.arange(12),
        2.0**53 + 2 * np.arange(12),
        0.3 + np.arange(12) * 2.0**-54,
    ],
)
def test_a_target_that_float32_takes_for_one_value_is_standardised(y):
    with pytest.raises(ValueError, match=r"target 'y' holds .* float32 cannot tell: use standardize"):
        fitted(y)
    columns = fitted(y, standardize_target="auto")
    codes = columns.encode({"x": np.resize(X, len(y)), "y": y})[1]
    assert len(np.unique(codes)) == len(np.unique(y))
    np.testing.assert_allclose(codes.std(), 1, rtol=0.1)
    np.testing.assert_allclose(columns.values(codes), y, rtol=4 * np.finfo(float).eps)


def test_whether_to_standardise_is_decided_by_the_rows_that_are_looked_at():
    y, rows = np.r_[1e9 + 0.25 * np.arange(99), 0.0], np.arange(80)
    with pytest.raises(ValueError, match=r"'y' holds .* float32 cannot tell: use standardize"):
        fitted(y, rows=rows)
    columns = fitted(y, rows=rows, standardize_target="auto")
    assert columns.target.standardized
    assert columns == fitted(y, rows=rows, standardize_target=True)
    assert columns == fitted(y, rows=lambda targets: rows, standardize_target="auto")
    far = np.r_[np.arange(99) / 3, 1e60]
    assert not fitted(far, rows=rows, standardize_target="auto").target.standardized
    with pytest.raises(ValueError, match=r"'y' holds 1e\+60 in row 99, beyond what float32 holds"):
        fitted(far, rows=np.arange(50, 100))


def test_numpys_truths_are_pythons():
    y = np.arange(40) / 3
    assert fitted(y, standardize_target=np.True_) == fitted(y, standardize_target=True)
    assert fitted(y, standardize_target=np.False_) == fitted(y)
    columns = fitted(y, standardize_target=np.True_)
    assert jd.tables.from_json(columns.to_json()) == columns


def test_what_is_standardised_is_a_target_of_numbers():
    with pytest.raises(ValueError, match="standardize_target=True is for a target of numbers, and 'y'"):
        fitted(["a", "b", "a"], standardize_target=True)
    with pytest.raises(ValueError, match="standardize_target=True needs a target"):
        jd.tables.fit({"x": X}, standardize_target=True)
    assert fitted(["a", "b"], standardize_target="auto") == fitted(["a", "b"])
    with pytest.raises(TypeError, match="must be True, False or 'auto', got 'Auto'"):
        fitted(np.arange(20.0), standardize_target="Auto")


PLAIN = r"not written plainly, such as .*: write plain numbers"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("1,{}34.50", r"commas before three digits.*write plain numbers.*thousands=\",\"\)"),
        ("1,{}34", r"commas before three digits.*thousands=\",\"\) \(or, for decimals, decimal=\",\""),
        ("1 {}34,50", PLAIN),
        ("1\u202f{}34", PLAIN),
        ("1'{}34.50", PLAIN),
        ("1\u2019{}34", PLAIN),
        ("1.{}34.000", PLAIN),
        ("${}2.50", PLAIN),
        ("-${}2.50", PLAIN),
        ("{}2.5%", PLAIN),
        ("{}2,5 %", PLAIN),
        ("{}2,50 €", PLAIN),
        ("\N{MINUS SIGN}{}.5", PLAIN),
        ("1_{}00", PLAIN),
        ("({}2.00)", PLAIN),
        ("$({}2)", PLAIN),
        ("{}2.00 USD", PLAIN),
        ("kr {}2", PLAIN),
        ("\u0661{}", PLAIN),
        ("\uff11{}\uff0e5", PLAIN),
        (",{}50", "decimal comma"),
        ("1,{}3e+03", "decimal comma"),
        ("1.{}34,5", "decimal comma"),
    ],
)
def test_numbers_that_are_not_written_plainly_are_no_classes(form, words):
    for others in ([], ["7", "7.5"] if PLAIN in words else []):
        y = [form.format(digit) for digit in range(1, 10)] + others
        with pytest.raises(ValueError, match=rf"target 'y' holds numbers .*{words}.*\"category\""):
            fitted(y)
        assert fitted(y, kinds={"y": "category"}).task == "multiclass"


@pytest.mark.parametrize(
    "y",
    [
        ["1,5", "a"],
        ["A1", "B2"],
        ["1-2", "3-4"],
        ["12 34", "5 6"],
        ["$", "%"],
        ["1.2.3", "1.2.4"],
        ["1_2", "3_4"],
        ["inf", "sup"],
        ["12 AB", "13 AB"],
        ["Nan", "Bob"],
        ["(1", "2)"],
    ],
)
def test_labels_that_are_no_numbers_are_classes(y):
    assert fitted(y).classes == tuple(sorted(y))


def test_columns_of_such_numbers_are_warned_of():
    prices = [f"${i}.50" for i in range(20)]
    with pytest.warns(UserWarning, match="column 'x' holds numbers that are not written plainly"):
        jd.tables.fit({"x": prices})


@pytest.mark.parametrize("many", [3, 200])
@pytest.mark.parametrize("odd", ["inf", "-Infinity", "NAN", "\u221e", "\u0661\u0662", "1_000"])
def test_odd_numerals_are_refused_among_few_and_many_numbers_alike(odd, many, tmp_path):
    y = [*map(str, range(1, many)), odd]
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{i},{v}\n" for i, v in enumerate(y)), "utf-8")
    for fit in (lambda: fitted(y), lambda: jd.tables.fit(tmp_path / "t.csv", "y")):
        with pytest.raises(ValueError, match=r"target 'y' holds numbers.* kinds=\{'y': \"category\"\}"):
            fit()
    assert len(fitted(y, kinds={"y": "category"}).classes) == many


def test_classes_of_one_row_each_look_like_an_id():
    y = [f"{i} apples" for i in range(20)]
    with pytest.warns(
        UserWarning, match="target 'y' looks like an id, with 20 classes in 20 rows, such"
    ):
        assert len(fitted(y).classes) == 20
    fitted(y, kinds={"y": "category"})  # said to be classes
    fitted(y * 2)


@pytest.mark.parametrize(
    "classes",
    [(-1, 2**63 + 5), (0.5, 2**53 + 1), (1, 2**70), (1, 2**63 + 5), ("a\0", "b"), (1, 2.5), (1, 2)],
)
def test_labels_keep_all_digits(classes):
    columns = fitted(classes * 3, kinds={"y": "category"})
    assert columns.classes == tuple(sorted(classes))
    labels = columns.labels([1, 0])
    assert labels.tolist() == sorted(classes, reverse=True)
    assert columns.encode_labels(labels).tolist() == [1, 0]
    assert jd.tables.from_json(columns.to_json()).labels([1, 0]).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("texts", "classes"),
    [
        (["+5", "-3", "5"], (-3, 5)),
        ([".5", "5.", "0.50"], (0.5, 5)),
        (["1e3", "+1", "1.0"], (1, 1000)),
        (["+9007199254740993", "9007199254740992"], (2**53, 2**53 + 1)),
        (["-0", "0", "1"], (0, 1)),
    ],
)
def test_numbers_that_a_file_writes_in_several_ways_are_one_class(texts, classes, tmp_path):
    """They were two classes of one label, or a label that was not found again."""
    file = tmp_path / "t.csv"
    file.write_text("x,y\n" + "".join(f"{i},{text}\n" for i, text in enumerate(texts)))
    columns = jd.tables.fit(file, "y", kinds={"y": "category"})
    assert columns.classes == classes
    codes = columns.encode(file)[1]
    assert columns.labels(codes).tolist() == [
        float(t) if "." in t or "e" in t else int(t) for t in texts
    ]
    assert columns.target.counts == tuple(np.bincount(codes))


def test_numbers_that_cannot_be_written_down_are_named(tmp_path):
    words = "holds a number of more than 4,300 digits in row 2"
    for huge in (10**5000, decimal.Decimal("1e9999")):
        for kinds in ({}, {"y": "category"}):
            with pytest.raises(ValueError, match=f"target 'y' {words}"):
                fitted([1, 2, huge, 1], kinds=kinds)
        with pytest.raises(ValueError, match=f"column 'x' {words}"):
            jd.tables.fit({"x": [1, 2, huge]}, kinds={"x": "category"})
        columns = jd.tables.fit({"x": [1, 2, 1]}, kinds={"x": "category"})
        assert columns.encode_inputs({"x": [huge, 2]})["codes"].tolist() == [[1], [3]]
        with pytest.raises(ValueError, match="'y' must be one of the classes 1, 2, got"):
            fitted([1, 2, 1]).encode_labels([1, huge])
    (tmp_path / "t.csv").write_text("x,y\n1,2\n1,3\n1," + "1" * 5000)
    with pytest.raises(ValueError, match=f"target 'y' {words}"):
        jd.tables.fit(tmp_path / "t.csv", "y", kinds={"y": "category"})


def test_a_target_that_is_said_to_be_boolean_has_two_classes():
    """1 and True were two, and so were the texts of a file."""
    for y in ([True, 1, 0], ["True", "1", "0"], [1, 1, 0], ["true", "TRUE", "False"]):
        columns = fitted(y, kinds={"y": "boolean"})
        assert columns.classes == (False, True)
        assert columns.target.counts == (1, 2)
        assert columns.encode_labels(y).tolist() == [1, 1, 0]
    with pytest.raises(
        ValueError, match=r"'y' must be True or False \(or 1 and 0\).*, got 'no' in row 1"
    ):
        fitted([True, "no", False], kinds={"y": "boolean"})


def test_rows_are_counted_over_all_blocks():
    for values in ([1.0] * 20_000 + [1j], np.array([1.0] * 20_000 + [[]], object)):
        with pytest.raises(
            TypeError, match=r"column 'x' must hold .* in row 20000; make columns of its"
        ):
            jd.tables.fit({"x": values})
