"""`Table`, the result of a sweep, with a row for each run."""

import dataclasses
from typing import Any

from jaxdeep.search.spaces.values import RESERVED
from jaxdeep.search.tables.result import Result, Span, scalars
from jaxdeep.search.tables.runs import NAMED, TableRow
from jaxdeep.search.tables.views import Path, Views

__all__ = ["Result", "Span", "Table", "TableRow", "scalars"]


@dataclasses.dataclass(frozen=True)
class Table(Views):
    """The result of a `jaxdeep.sweep`: a row for each run, in the order of points and of their seeds.

    A table is immutable: its arrays are read-only, and methods return copies. Points may have different
    names, as those of different optimizers have.

    Attributes:
      points: hyperparameters and "seed" of each row, and "fold" in a cross-validation.
      results: for each row, a `Result`.
      spaces: the spaces that the points come from, if they are known; then rows say which values are at
        an edge of their range.
      outputs: what the models put out, as their loss says, in a word of `jaxdeep.uncertainty.ensemble`;
        None if that is not known, or not the same for all.

    >>> import numpy as np
    >>> result = Result({"w": np.ones(2)}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
    >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.1, "seed": 1}], [result, result])
    >>> len(table), table.points[1]["seed"], table.results[1].ended
    (2, 1, 'finished')
    """

    def to_frame(self, backend: str = "pandas") -> Any:
        """The rows as a frame, with a column for everything that any row has.

        What a row lacks is missing there: a null of polars and pyarrow, NaN or None of pandas. Functions
        and other objects are columns of text, by name.

        Args:
          backend: "pandas", "polars" or "pyarrow".

        Raises:
          ImportError: narwhals, or the library itself, is not installed
            (``pip install 'jaxdeep[frames]'``).

        >>> import numpy as np
        >>> result = Result({}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
        >>> table = Table([{"rate": 0.1, "act": max, "seed": 0}, {"rate": 0.2, "seed": 0}], [result] * 2)
        >>> frame = table.to_frame()
        >>> frame["loss"].tolist(), frame["act"].isna().tolist(), frame["act"][0]
        ([1.0, 1.0], [False, True], 'max')
        """
        return self._frame(backend, "to_frame")

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`: ``to_frame("pandas")``.

        Raises:
          ImportError: narwhals or pandas is not installed (``pip install 'jaxdeep[frames]'``).

        >>> len(Table([], []).to_pandas())
        0
        """
        return self._frame("pandas", "to_pandas")

    def save(self, path: Path, *, with_params: bool = True) -> None:
        """Save the table as one file, which `load` reads: points, results, spaces and parameters.

        Nothing is pickled: the file is a zip of JSON and of arrays of NumPy, which ``numpy.load`` reads,
        too. Everything comes back bit for bit, except that hyperparameters which JSON cannot hold, such
        as functions, are saved as text, by name, and come back as text. A table that was saved there
        before is replaced at once, when the new one is complete.

        Args:
          path: of the file, say ``"runs/sweep.npz"``. One that holds something else is left alone.
          with_params: save parameters and states, too, which are dicts, lists and tuples of arrays.
            Those that were not kept are left out.

        Raises:
          ValueError: a remote path, parameters of another form. FileExistsError: something else is
            there. OSError: it cannot be written.

        >>> import tempfile, numpy as np
        >>> result = Result({"w": np.ones(2)}, {}, {"loss": np.array([3.0, 1.0])}, 1, "finished")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Table([{"rate": 0.1, "seed": 0}], [result]).save(f"{folder}/table.npz")
        ...     table = Table.load(f"{folder}/table.npz")
        >>> table.points[0]["rate"], table.trained(0)[0]["w"].tolist()
        (0.1, [1.0, 1.0])
        """
        from jaxdeep.search.tables import files

        contents = files.Contents(self.points, self.results, self.spaces, self.outputs)
        files.write(path, contents, with_params=with_params)

    @classmethod
    def load(cls, path: Path, *, with_params: bool = True) -> "Table":
        """The table that `save` wrote.

        Args:
          path: of the file.
          with_params: read parameters and states, too, if they were saved.

        Raises:
          FileNotFoundError: nothing is there. ValueError: a file that is damaged, is none of a table or
            of a newer version; the error says what is wrong with it.

        >>> Table.load("no/such/table.npz")
        Traceback (most recent call last):
        FileNotFoundError: there is no table at 'no/such/table.npz'; Table.save writes one
        """
        from jaxdeep.search.tables import files

        return cls(*files.read(path, with_params=with_params))

    def _frame(self, backend: str, caller: str) -> Any:
        from jaxdeep.search.tables import frames

        names = (*self._hyperparameters, *RESERVED, *NAMED, *self._metrics, "error", "edge")
        return frames.frame(self.rows(), list(dict.fromkeys(names)), backend, caller)
