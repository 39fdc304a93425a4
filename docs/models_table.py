"""The table of tools on kinds of models, which this writes to the end of docs/models.md.

PYTHONPATH=.:tests python docs/models_table.py   # two minutes, with Keras (the extra `bench`)
"""

import pathlib

from helpers.model_tools import table

PAGE = pathlib.Path(__file__).parent / "models.md"
LINE = "## The table\n"


def main() -> None:
    start, line, _ = PAGE.read_text().partition(LINE)
    PAGE.write_text(f"{start}{line}\n{table()}")


if __name__ == "__main__":
    main()
