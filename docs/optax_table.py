"""The table of optax' optimizers in `jaxdeep.fit`, which this writes to the end of docs/optax.md.

PYTHONPATH=.:tests python docs/optax_table.py   # two minutes
"""

import pathlib
import re

import optax
from helpers.optax_fits import fitted, makers, row

PAGE = pathlib.Path(__file__).parent / "optax.md"
LINE = "| --- | --- | --- | --- | --- |\n"


def main() -> None:
    start, line, _ = PAGE.read_text().partition(LINE)
    start = re.sub(r"optax [\d.]+ ", f"optax {optax.__version__} ", start)
    rows = [row(name, fitted(name)) for name in makers()]
    PAGE.write_text(start + line + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
