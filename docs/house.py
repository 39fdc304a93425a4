"""The map of the house: its rooms on their floors, and who imports whom, read from the sources.

`python docs/house.py` draws docs/house.svg; with `--check` it draws nothing, but says whether the
picture is still true and whether every arrow runs down.
"""

import argparse
import ast
import graphlib
import html
import itertools
import pathlib
import re
import statistics
import sys
from collections.abc import Iterator

import matplotlib
from matplotlib import patches, pyplot
from matplotlib.path import Path

ROOT = pathlib.Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "house.svg"
HOUSE = "jaxdeep"

# From the roof to the ground. A room is a file or folder of the package. It imports what lies in lower
# rows, and nothing of its own row or above: neither inside a function nor for type checkers.
FLOORS = {
    "the door": (("__main__",), ("cli",), (HOUSE,)),
    "leaves": (("comparison",), ("adapters", "datasets", "plotting")),
    "tools": (("uncertainty", "saving"), ("search", "compress", "transfer", "tables")),
    "the host": (("fitting",), ("lasting",)),
    "pure": (
        ("diagnostics", "recipes"),
        ("train", "preprocessing"),
        ("nn", "optimizers", "losses", "metrics", "regularizers"),
    ),
    "ground": (
        ("schedules", "tree", "_ignored", "_pairs"),
        ("_compilation", "_partitions"),
        ("_checks", "_limits", "_loops", "_sums", "_words"),
        (
            "_arrays",
            "_calls",
            "_endings",
            "_identity",
            "_shapes",
            "_compat",
            "_extras",
            "_version",
            "_warning",
        ),
        ("_code", "_precision", "_quoted"),
    ),
}
ROWS = [row for rows in FLOORS.values() for row in rows]

# Lower, and yet not to be imported: a run knows models by their protocol alone.
STRANGERS = {("train", "nn")}

# Faces that show names of higher rooms: looked up when asked for, and imported for type checkers only.
WINDOWS = {f"{HOUSE}.nn", f"{HOUSE}.train"}

TINTS = ("#ededf2", "#e3f1e4", "#fdf0d9", "#fde3dc", "#dfebf8", "#e9e4dc")
LEGEND = (
    "An arrow: imports. Left out are those that follow from others, those of the face (jaxdeep, which"
    " shows all rooms below it) and those to rooms with _, which all may use."
)
Place = str | tuple[str, str, int]  # a room, or where an arrow passes through a row


def modules(root: pathlib.Path = ROOT) -> dict[str, pathlib.Path]:
    """The package's modules and their files."""
    found = {}
    for file in sorted((root / HOUSE).rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def room(module: str) -> str:
    """The room that a module is part of; the face is a room of its own."""
    return module.split(".")[1] if "." in module else module


def imports(root: pathlib.Path = ROOT) -> dict[str, set[str]]:
    """Every module, and the modules of the package that it imports, wherever in its text it does so."""
    files = modules(root)
    return {name: set(_imported(name, file, files)) - {name} for name, file in files.items()}


def arrows(found: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The same between rooms."""
    return {(room(a), room(b)) for a, targets in found.items() for b in targets if room(a) != room(b)}


def faults(found: dict[str, set[str]]) -> list[str]:
    """What breaks the house's order: rooms without a floor, arrows that do not run down, and circles."""
    row = {name: depth for depth, names in enumerate(ROWS) for name in names}
    homeless = sorted({room(name) for name in found} - set(row))
    if homeless:
        return [f"{name} has no floor" for name in homeless]
    wrong = [
        f"{a} imports {b}"
        for a, targets in found.items()
        for b in sorted(targets)
        if room(a) != room(b) and (row[room(a)] >= row[room(b)] or (room(a), room(b)) in STRANGERS)
    ]
    try:
        graphlib.TopologicalSorter(found).prepare()
    except graphlib.CycleError as error:
        wrong.append("circle: " + " <- ".join(error.args[1]))
    return wrong


def drawn(picture: pathlib.Path = PICTURE) -> set[tuple[str, str]]:
    """The arrows that a picture was drawn from."""
    said = re.search(r"<dc:description>(.*?)</dc:description>", picture.read_text(), re.DOTALL)
    assert said, f"{picture} was not drawn by this script"
    pairs = (pair.split(" > ") for pair in html.unescape(said[1]).split(", "))
    return {(a.strip(), b.strip()) for a, b in pairs}


def _imported(name: str, file: pathlib.Path, files: dict[str, pathlib.Path]) -> Iterator[str]:
    """The modules that one module imports, with repetitions."""
    tree = ast.parse(file.read_text())
    window = name in WINDOWS
    nodes = list(_outside_type_checking(tree) if window else ast.walk(tree))
    targets: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            targets += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name if file.name == "__init__.py" else name.rpartition(".")[0]
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            targets += [f"{base}.{alias.name}" for alias in node.names]
    # A name in quotes that is handed to the import machinery is an import too.
    if not window and any(
        isinstance(n, ast.Call) and "import_module" in ast.unparse(n.func) for n in nodes
    ):
        quoted = (n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
        targets += [text for text in quoted if re.fullmatch(rf"{HOUSE}(\.\w+)+", text)]
    for target in targets:
        parts = target.split(".")
        prefixes = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        yield from itertools.islice((prefix for prefix in prefixes if prefix in files), 1)


def _outside_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from _outside_type_checking(child)


def _shortest(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that no chain of other arrows implies."""
    below: dict[str, set[str]] = {}

    def reach(start: str) -> set[str]:
        if start not in below:
            direct = {b for a, b in pairs if a == start}
            below[start] = direct.union(*(reach(b) for b in direct))
        return below[start]

    return {
        (a, b)
        for a, b in pairs
        if not any((a, c) in pairs and b in reach(c) for c in {c for _, c in pairs})
    }


def draw(pairs: set[tuple[str, str]], picture: pathlib.Path = PICTURE) -> None:
    """Rooms as boxes on their floors, and the arrows that say something."""
    matplotlib.use("agg")
    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": HOUSE, "font.family": "DejaVu Sans"}
    )
    shown = {(a, b) for a, b in _shortest(pairs) if a != HOUSE and not b.startswith("_")}
    rows, chains = _with_passages(shown, {name for pair in pairs for name in pair})
    across = _places(rows, chains)
    left, gap, high = 1.3, 1.05, 0.5
    least = min(x - _width(name) / 2 for name, x in across.items())
    right = left + max(x + _width(name) / 2 for name, x in across.items()) - least + 0.25
    place = {
        name: (left + across[name] - least, -gap * depth)
        for depth, row in enumerate(rows)
        for name in row
    }

    bottom, top = -gap * (len(rows) - 0.5), gap / 2 + 0.4
    fig, ax = pyplot.subplots(figsize=(right, top - bottom))
    edge = gap / 2
    for (floor, its_rows), tint in zip(FLOORS.items(), TINTS, strict=True):
        height = gap * len(its_rows)
        ax.add_patch(patches.Rectangle((0, edge - height), right, height, fc=tint, ec="white", lw=3))
        ax.text(0.15, edge - height / 2, floor, va="center", fontsize=13, color="#444444")
        edge -= height
    for chain in chains:
        codes, points = [Path.MOVETO], [(place[chain[0]][0], place[chain[0]][1] - high / 2)]
        for stop in chain[1:]:
            x, y = place[stop]
            x0, middle = points[-1][0], (points[-1][1] + y + high / 2) / 2
            points += [(x0, middle), (x, middle), (x, y + high / 2)]
            codes += [Path.CURVE4] * 3
            if stop != chain[-1]:
                points.append((x, y - high / 2))
                codes.append(Path.LINETO)
        style = {"arrowstyle": "-|>", "mutation_scale": 12, "lw": 1.2, "color": "#5b6b7b"}
        ax.add_patch(patches.FancyArrowPatch(path=Path(points, codes), shrinkA=0, shrinkB=0, **style))
    for name, (x, y) in place.items():
        if isinstance(name, str):
            corner, width = (x - _width(name) / 2, y - high / 2), _width(name)
            style = {"boxstyle": "round,pad=0,rounding_size=0.08", "fc": "white", "ec": "#30404f"}
            ax.add_patch(patches.FancyBboxPatch(corner, width, high, lw=1.3, zorder=3, **style))
            ax.text(x, y, name, ha="center", va="center", fontsize=12, zorder=4)
    ax.text(0.15, gap / 2 + 0.15, LEGEND, fontsize=10, color="#444444")
    ax.set(xlim=(0, right), ylim=(bottom, top))
    ax.axis("off")
    fig.subplots_adjust(0, 0, 1, 1)
    said = ", ".join(f"{a} > {b}" for a, b in sorted(pairs))
    about = {"Date": None, "Description": said} if picture.suffix == ".svg" else {}
    fig.savefig(picture, metadata=about, dpi=80)
    pyplot.close(fig)


def _width(place: Place) -> float:
    """Of a box, with the space beside it; of the passage of an arrow through a row."""
    return 1.6 if isinstance(place, str) else 0.3


def _with_passages(
    shown: set[tuple[str, str]], rooms: set[str]
) -> tuple[list[list[Place]], list[list[Place]]]:
    """The rows with a place for every arrow that passes through; each arrow's places, row by row."""
    rows: list[list[Place]] = [[name for name in row if name in rooms] for row in ROWS]
    depth = {name: at for at, row in enumerate(ROWS) for name in row}
    chains: list[list[Place]] = []
    for a, b in sorted(shown):
        between: list[Place] = [(a, b, at) for at in range(depth[a] + 1, depth[b])]
        for passage in between:
            rows[passage[2]].append(passage)
        chains.append([a, *between, b])
    return rows, chains


def _places(rows: list[list[Place]], chains: list[list[Place]]) -> dict[Place, float]:
    """Where along its row each place lies: near what it is joined to, and clear of its neighbours."""
    joined: dict[Place, list[Place]] = {place: [] for row in rows for place in row}
    for chain in chains:
        for upper, lower in itertools.pairwise(chain):
            joined[upper].append(lower)
            joined[lower].append(upper)
    across = {place: 1.9 * (at - (len(row) - 1) / 2) for row in rows for at, place in enumerate(row)}
    for _ in range(60):
        for row in (*rows, *reversed(rows)):
            # To the middle of what it is joined to, or of the picture.
            near = {place: [across[other] for other in joined[place]] for place in row}
            wish = {place: statistics.fmean(near[place] or [across[place] / 2]) for place in row}
            row.sort(key=wish.__getitem__)
            apart = [(_width(a) + _width(b)) / 2 + 0.2 for a, b in itertools.pairwise(row)]
            # Pushed to the right where it is too tight, pushed to the left, and the middle of both.
            from_left, from_right = [wish[place] for place in row], [wish[place] for place in row]
            for at, space in enumerate(apart):
                from_left[at + 1] = max(from_left[at + 1], from_left[at] + space)
            for at, space in reversed(list(enumerate(apart))):
                from_right[at] = min(from_right[at], from_right[at + 1] - space)
            across.update({p: (a + b) / 2 for p, a, b in zip(row, from_left, from_right, strict=True)})
    return across


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="draw nothing; say what is wrong")
    parser.add_argument("--out", type=pathlib.Path, default=PICTURE)
    options = parser.parse_args()
    found = imports()
    wrong = faults(found)
    if not options.check:
        draw(arrows(found), options.out)
    elif drawn(options.out) != arrows(found):
        wrong.append(f"{options.out} is stale: make house")
    print(*wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
