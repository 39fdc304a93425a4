"""The same rows in every container that holds a table."""

import csv
import datetime
import importlib.util

import hypothesis.strategies as st

ARROW = importlib.util.find_spec("pyarrow") is not None


def cell(value):
    """A value as a program writes it into a CSV file."""
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def write_csv(path, columns):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([cell(value) for value in row] for row in zip(*columns.values()))
    return path


def containers(columns, folder):
    """``(name, container)`` of a dict of lists: frames, files, and the dict itself."""
    import pandas
    import polars

    yield "dict", columns
    yield "pandas", pandas.DataFrame(columns)
    frame = polars.DataFrame(columns, strict=False)
    yield "polars", frame
    yield "csv", write_csv(folder / "table.csv", columns)
    frame.write_parquet(folder / "table.parquet")
    yield "parquet", folder / "table.parquet"
    if ARROW:
        import pyarrow

        yield "pyarrow", pyarrow.table(columns)


NAIVE = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2250, 1, 1))
VALUES = {
    "float": st.floats(-1e9, 1e9).map(lambda x: x + 0.0),
    "huge": st.floats(allow_nan=False, allow_infinity=False),
    "int": st.integers(-50, 50),
    "large int": st.integers(-(2**62), 2**62),
    "boolean": st.booleans(),
    "word": st.sampled_from(["a", "b", "ab", "A", "é", "b c", "-", "1a"]),
    "text": st.text("ab,;\"' \n#", max_size=4),
    "date": NAIVE,
    "day": st.dates(datetime.date(1700, 1, 1), datetime.date(2250, 1, 1)),
    "constant": st.just(14.62),
    "nothing": st.none(),
}


@st.composite
def tables(draw, kinds=tuple(VALUES), most=12):
    """Two tables of the same columns, the second with values that the first has not."""
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=5))
    found = []
    for _ in range(2):
        rows = draw(st.integers(1, most))
        columns = {}
        for place, kind in enumerate(chosen):
            holes = draw(st.booleans())
            values = st.one_of(st.none(), VALUES[kind]) if holes else VALUES[kind]
            columns[f"{kind} {place}"] = draw(st.lists(values, min_size=rows, max_size=rows))
        found.append(columns)
    return tuple(found)
