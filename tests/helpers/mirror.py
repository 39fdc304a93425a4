"""The tests of a file of the package: `python tests/helpers/mirror.py jaxdeep/nn/conv.py`."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[2]
ELSEWHERE = {  # tests of files whose name they do not have
    "_arrays": "test_checks.py",
    "_compilation": "fitting/test_compiled_once.py",
    "_extras": "datasets/test_packaged.py",
    "regularizers": "test_losses_metrics.py",
}


def tests_of(file):
    """The examples of `file`, and its tests: by its name, else by a part of theirs, else its folder's.

    Those of a folder may be one file of its name.

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
    if path.stem in ELSEWHERE:
        return [path, folder / ELSEWHERE[path.stem]]
    for pattern in (f"test_{stem}*.py", f"test_*{stem}*.py", "test_*.py"):
        if found := sorted(folder.glob(pattern)):
            return [path, *found]
    return [path, *sorted(folder.parent.glob(f"test_*{folder.name}*.py"))]


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files are no modules
    import pytest

    file, *options = sys.argv[1:]
    sys.exit(pytest.main(["-q", "-n0", *options, *map(str, tests_of(file))]))
