"""The tests of a file of the package: `python tests/helpers/mirror.py jaxdeep/nn/conv.py`."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[2]


def tests_of(file):
    """The examples of `file`, and its tests: by its name, else by a part of theirs, else its folder's.

    >>> [path.name for path in tests_of(ROOT / "jaxdeep" / "tree.py")]
    ['tree.py', 'test_tree.py']
    """
    path = pathlib.Path(file).resolve()
    if not path.is_file():
        raise SystemExit(f"there is no file {file}")
    if path.is_relative_to(ROOT / "tests"):
        return [path]
    if not path.is_relative_to(ROOT / "jaxdeep"):
        raise SystemExit(f"{file} is no file of the package or of its tests")
    stem, folder = path.stem.strip("_"), ROOT / "tests" / path.parent.relative_to(ROOT / "jaxdeep")
    for pattern in (f"test_{stem}*.py", f"test_*{stem}*.py", "test_*.py"):
        if found := sorted(folder.glob(pattern)):
            return [path, *found]
    return [path]


if __name__ == "__main__":
    import pytest

    file, *options = sys.argv[1:]
    sys.exit(pytest.main(["-q", "-n0", *options, *map(str, tests_of(file))]))
