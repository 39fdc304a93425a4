"""Make the notebooks from their texts: run every cell, keep what it shows.

    python notebooks/build.py              # all of them, in order
    python notebooks/build.py 05 07        # some
    python notebooks/build.py --check      # only say whether text and notebook belong together

A notebook is written as a text, ``01_….py``, in Jupytext's percent format, of which a diff can be read;
the ``.ipynb`` beside it has the same cells and what they put out. Edit the text.
"""

import argparse
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).parent
COLAB = "https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks"


def texts(chosen=()):
    """The texts whose number was chosen, in order."""
    found = sorted(HERE.glob("[0-9][0-9]_*.py"))
    unknown = set(chosen) - {path.name[:2] for path in found}
    if unknown:
        sys.exit(
            f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(p.name for p in found)}"
        )
    return [path for path in found if not chosen or path.name[:2] in chosen]


def read(path):
    """A text as a notebook without outputs."""
    import jupytext

    notebook = jupytext.read(path)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i}"  # the same in every build
    return notebook


def execute(notebook):
    """Run every cell in a process of its own, in an empty working folder of the caller."""
    from nbclient import NotebookClient

    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.get("metadata", {}).pop("execution", None)  # times of day
    return notebook


def belongs(path):
    """Whether the notebook beside a text has its cells."""
    import nbformat

    beside = path.with_suffix(".ipynb")
    if not beside.exists():
        return False
    made = nbformat.read(beside, as_version=4)
    return [(c.cell_type, c.source) for c in made.cells] == [
        (c.cell_type, c.source) for c in read(path).cells
    ]


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", nargs="*", help="such as 05; all by default")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    stale = [path.name for path in texts(args.numbers) if not belongs(path)]
    if args.check:
        sys.exit(f"to be made again: {', '.join(stale)}" if stale else 0)
    import nbformat

    for path in texts(args.numbers):
        began = time.perf_counter()
        notebook = execute(read(path))
        nbformat.write(notebook, path.with_suffix(".ipynb"))
        print(f"{path.stem}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
