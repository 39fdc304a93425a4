"""CSV files of every form, and broken ones."""

import gzip

import pytest

import jaxdeep as jd
from jaxdeep.tables import csv_files

TEXT = "age,city,member\n31,Rome,True\n,Oslo,False\n58,,\n"


def write(tmp_path, text, name="people.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(**options))
    return path


def test_files_of_every_form_are_the_same_table(tmp_path):
    expected = jd.tables.fit(
        {"age": [31, None, 58], "city": ["Rome", "Oslo", None], "member": [True, False, None]}
    )
    forms = [
        write(tmp_path, TEXT),
        str(write(tmp_path, TEXT, "a.csv")),
        write(tmp_path, TEXT.replace("\n", "\r\n"), "b.csv"),
        write(tmp_path, TEXT.replace(",", ";"), "c.csv"),
        write(tmp_path, TEXT.replace(",", "\t"), "d.tsv"),
        write(tmp_path, TEXT.replace(",", "|"), "e.txt"),
        write(tmp_path, TEXT, "f.csv", encoding="utf-8-sig"),
        write(tmp_path, TEXT.replace(",", " , "), "g.csv"),
        write(tmp_path, TEXT.rstrip("\n"), "h.csv"),
        write(tmp_path, TEXT.replace("\nN", "\n\nN"), "i.csv"),
        write(tmp_path, TEXT.replace("Rome", '"Rome"').replace("58", '"58"'), "j.CSV"),
        write(tmp_path, gzip.compress(TEXT.encode()), "k.csv.gz"),
        write(tmp_path, "\n \t\r\n" + TEXT, "l.csv"),
        write(tmp_path, "sep=,\n" + TEXT, "m.csv"),
        write(tmp_path, "SEP=\t\r\n\n" + TEXT.replace(",", "\t"), "n.csv", encoding="utf-8-sig"),
        write(tmp_path, '\n"sep=:"\n' + TEXT.replace(",", ":"), "o.csv"),
    ]
    for path in forms:
        assert jd.tables.fit(path) == expected, path


def test_cells_may_hold_delimiters_quotes_and_new_lines(tmp_path):
    path = write(tmp_path, 'x,y\n"a,b",1\n"say ""c""",2\n"d\ne",3\n')
    assert jd.tables.fit(path).features[0].levels == ("a,b", "d\ne", 'say "c"')


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Height, cm;Weight, kg\n1;80\n1,7;70\n", ("Height, cm", "Weight, kg")),  # by the rows
        ("Height, cm;Weight, kg\n1,8;80,5\n1,7;70,5\n", ("Height, cm", "Weight, kg")),  # decimal commas
        ("name;size, cm\nBob;1,80\n", ("name", "size, cm")),
        ('id,"a;b",genre (a|b)\n1,2,x|y\n2,3,x\n', ("id", "a;b", "genre (a|b)")),
        ("a|b,c\n1|2\n" + "1,2\n" * 50, ("a|b", "c")),  # of most rows
        ("a,\tb;,\tc\n1,\t2,\t3\n", ("a", "b;", "c")),
        ("sep=,\na,b;c\n1,2;3\n", ("a", "b;c")),
        ("a,b;c\n", ("a", "b;c")),
    ],
)
def test_names_may_hold_other_delimiters(tmp_path, text, names):
    assert csv_files.opened(write(tmp_path, text), ())[0] == names


def test_two_delimiters_that_fit_are_refused(tmp_path):
    for text, words in (
        ("a, b;c\n1,x;2\n3,y;4\n", r"',' \(2 columns\) or ';' \(2 columns\) .* such as sep=,"),
        ("id\tcity, land\tx\n1\tRome, I\t2\n", r"',' \(2 columns\) or '\\t' \(3 columns\) .* sep=,"),
    ):
        with pytest.raises(ValueError, match=rf"t\.csv' can be read with {words}"):
            jd.tables.fit(write(tmp_path, text, "t.csv"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n \n", "is empty"),
        ("sep=;\n", "is empty"),
        ('a, b\n1, "x, y"\n', "line 2: 3 cells, .* 2 columns; leave out the blanks in front of quotes"),
        ('a, "b, c"\n1, 2\n', "line 2: 2 cells, .* 3 columns; leave out the blanks in front of quotes"),
        ('a,b\n1,x, "y"z\n"1",2,3\n', "line 2: 3 cells, .* leave out the blanks"),
        ("\nsep=;\n\na;b\n1;2\n3\n", "line 6: 1 cells"),
        ("", "is empty; its first line must name the columns"),
        ("a,b\n1,2\n3,4,5\n", "line 3: 3 cells, where the first line names 2 columns"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells"),
        ("a,b,a\n1,2,3\n", "more than one column 'a'"),
        ("a,b\n", "must have a row"),
        ('a,b\n1,x\n2,"y\n3,z\n4,u\n', "line 3: a quote is opened in these cells and never closed"),
        ('a\n1\n"2', "line 3: a quote is opened"),
        ('a,b\n1,"x\n' + "2,y\n" * 40_000, "line 2 cannot be read.*is a quote opened there"),
        ("a\nm\xfcller\n".encode("latin-1"), "is not UTF-8.*iconv -f latin1"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16, as its byte-order mark says.*iconv -f utf-16 "),
        (b"\xfe\xff" + "a,b\n1,2\n".encode("utf-16-be"), "is UTF-16, as its byte-order mark"),
        ("# made by x\na,b\n1,2\n", "begins with a comment, '# made by x', .* the second has 2; leave"),
    ],
)
def test_broken_files_are_refused_with_the_line(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        jd.tables.fit(write(tmp_path, text))


def test_a_name_may_begin_as_a_comment_does(tmp_path):
    assert jd.tables.fit(write(tmp_path, "#a,b\n1,2\n")).names == ("#a", "b")


@pytest.mark.parametrize("cells", [["1,5", "2", "-3,25"], [f"1.{k:03},5" for k in range(60)]])
def test_decimal_commas_are_said(cells, tmp_path):
    """Few, and so many that they looked like an id."""
    with pytest.warns(UserWarning, match="column 'a' holds numbers with a decimal comma.*write a point"):
        columns = jd.tables.fit(write(tmp_path, "a;b\n" + "".join(f"{cell};1\n" for cell in cells)))
    assert "! a holds numbers with a decimal comma" in columns.summary()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end with .csv"):
        jd.tables.fit(write(tmp_path, TEXT, "people.xlsx"))
    with pytest.raises(ValueError, match="cannot be read"):
        jd.tables.fit(write(tmp_path, TEXT, "people.csv.gz"))
    with pytest.raises(ValueError, match="path on this machine"):
        jd.tables.fit("s3://bucket/people.csv")


def test_a_text_that_is_there_again_is_kept_once(tmp_path):
    lines = [f"{('Rome', 'Oslo')[i % 2]},{i / 7}" for i in range(5000)]
    names, blocks = csv_files.opened(write(tmp_path, "\n".join(["city,x", *lines])), ())
    (block,) = blocks(names, 6000)
    assert len(set(map(id, block["city"].values))) == 2
    expected = [line.split(",") for line in lines]
    assert [block[name].values.tolist() for name in names] == list(map(list, zip(*expected)))
    sizes = [part["x"].rows for part in blocks(["x"], 1500)]
    assert sizes == [1500, 1500, 1500, 500]


@pytest.mark.parametrize("row", [0, 5])
def test_a_cell_that_is_too_long_is_said_to_be(tmp_path, row):
    lines = ["a,b", *["1,x"] * 8]
    lines[1 + row] = "1," + "y" * 131_073
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=rf"t\.csv', line {row + 2}: a cell has more than 131,072 char"):
        jd.tables.fit(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n" + "1," + "y" * 131_072 + "\n2,z\n")
    assert jd.tables.fit(tmp_path / "t.csv").rows == 2
    for text in ("a," + "b" * 131_073 + "\n1,2\n", "# c\n1," + "y" * 131_073 + "\n"):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(ValueError, match=r"t\.csv' a cell has more than 131,072"):
            jd.tables.fit(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text('a,b\n1,"x\n' + "1,x\n" * 40_000)
    with pytest.raises(ValueError, match=r"line 2 .*quote"):
        jd.tables.fit(tmp_path / "t.csv")


LONG = '"' + "y\n" * 70_000 + '"'


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize(
    ("row", "closed"),
    [
        (("1", LONG), True),
        ((LONG, '"x ""y"""'), True),
        (("1", LONG[:-1] + '""z"'), True),
        (("1", LONG[:-1]), False),
        (("1", LONG[:-1] + "\n2", '"z"'), False),  # the quote of another row
        (("1", LONG, "2"), False),  # of three cells
    ],
)
def test_a_long_cell_over_several_lines_is_one_too(tmp_path, delimiter, row, closed):
    row = [";,"[delimiter == ";"] if cell == "1" else cell for cell in row]  # the other one in a cell
    lines = [delimiter.join(cells) for cells in (("a", "b"), ("0", "x"), row, ("3", "z"))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    words = "a cell has more than 131,072 char" if closed else "cannot be read.*is a quote opened there"
    with pytest.raises(ValueError, match=rf"t\.csv', line 3:? {words}"):
        jd.tables.fit(tmp_path / "t.csv")


@pytest.mark.parametrize("blank", ["", "  ", "\t", " \t "])
def test_a_line_of_blanks_is_no_row(tmp_path, blank):
    (tmp_path / "t.csv").write_text(f"a,b\n{blank}\n1,x\n{blank}\n2,y\n{blank}\n{blank}")
    columns = jd.tables.fit(tmp_path / "t.csv")
    assert columns == jd.tables.fit({"a": ["1", "2"], "b": ["x", "y"]})
    (tmp_path / "one.csv").write_text("a\n1\n  \n2\n")  # of a single column it is a cell
    assert jd.tables.fit(tmp_path / "one.csv").features[0].missing == 1
