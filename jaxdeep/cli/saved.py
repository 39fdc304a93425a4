"""Saved models as commands find them: in a folder of their own, or as the winner of a comparison."""

import json
import pathlib
import re
from typing import TYPE_CHECKING, NamedTuple

import jaxdeep
from jaxdeep._shapes import PyTree
from jaxdeep.cli import arguments

if TYPE_CHECKING:
    from jaxdeep.nn import Model
    from jaxdeep.tables import Columns


class Saved(NamedTuple):
    """A saved model, and what is known of its inputs.

    Attributes:
      model, params, state: what `jaxdeep.load` gives.
      columns: those of the table that the model reads; None for other inputs.
      data: of a comparison's winner the data by which it was compared.
    """

    model: "Model"
    params: PyTree
    state: PyTree
    columns: "Columns | None"
    data: str | None


def load(path: str, parser: arguments.Parser, argument: str) -> Saved:
    """The model in a folder that train, compare or jd.save wrote."""
    from jaxdeep.fitting.rows import encoder_of
    from jaxdeep.tables import Columns

    folder = pathlib.Path(path)
    inside, asked = folder / "model", folder / "runs" / "asked.json"
    compared = not (folder / "model.json").exists() and (inside / "model.json").exists()
    if not folder.exists():
        parser.error(f"argument {argument}: there is no folder {path!r}")
    try:
        model, params, state = jaxdeep.load(inside if compared else folder)
    except (ValueError, TypeError, OSError, ImportError) as error:
        parser.error(f"argument {argument}: {arguments.one_line(error)}")
    columns = encoder_of(model)
    data = json.loads(asked.read_text("utf-8")).get("data") if compared and asked.exists() else None
    return Saved(model, params, state, columns if isinstance(columns, Columns) else None, data)


def first_rows(columns: "Columns", file: str, rows: int) -> PyTree:
    """The inputs of the first rows of a table.

    Raises:
      ValueError, TypeError, OSError, ImportError: what is wrong with it.
    """
    try:
        return next(columns.blocks(file, rows=rows))
    except StopIteration:
        raise ValueError(f"argument --data: {file} has no rows") from None


def said(error: BaseException) -> str:
    """An error of ``--data`` on a line.

    >>> said(ValueError("frame lacks the columns ['age']"))
    "argument --data: the file lacks the columns ['age']"
    """
    text = re.sub("^frame lacks", "the file lacks", arguments.one_line(error)).removeprefix("frame: ")
    return text if text.startswith("argument ") else f"argument --data: {text}"
