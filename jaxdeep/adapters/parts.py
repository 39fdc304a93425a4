"""Parts of a lifted model: layers with the places that their arrays come from."""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxdeep import nn
from jaxdeep._shapes import PyTree
from jaxdeep.adapters import rest
from jaxdeep.adapters.known import Leaf, Path
from jaxdeep.adapters.recognition import TO_FIRST, TO_LAST, is_pointwise
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model


class Part(NamedTuple):
    """A layer of the lifted model.

    Attributes:
      name: of the layer; "" for one that is named by its kind.
      model: the layer.
      params, state: where its arrays come from, by the names in its own.
      left: the parts in it that stay as they are.
      one_size: whether it is known to do otherwise than the module at other sizes of the input.
    """

    name: str
    model: Model
    params: Mapping[Path, Leaf] = {}
    state: Mapping[Path, Leaf] = {}
    left: Sequence[rest.Rest] = ()
    one_size: bool = False


def dotted(path: Path) -> str:
    """A path as the name of a layer.

    >>> dotted(("layers", 0))
    'layers.0'
    """
    return ".".join(map(str, path))


def common_names(paths: Sequence[Path]) -> Path:
    """The names with which all paths begin, without the last of each."""
    if not paths:
        return ()
    short = min(len(path) for path in paths) - 1
    count = next((i for i in range(short) if len({path[i] for path in paths}) > 1), short)
    return paths[0][:count]


def in_a_row(name: str, parts: list[Part]) -> Part:
    """Parts one after another as one."""
    counts: collections.Counter[str] = collections.Counter()
    taken = {part.name for part in parts}
    named: dict[str, Part] = {}
    for part in parts:
        part_name = part.name
        while not part_name or part_name in named:
            kind = part_name or part.model.kind
            part_name = f"{kind}{counts[kind]}"
            counts[kind] += 1
            part_name = "" if part_name in taken else part_name
        named[part_name] = part
    return gathered(name, named, lambda layers: nn.serial(**layers))


def gathered(name: str, parts: Mapping[str, Part], make: Callable[[dict[str, Model]], Model]) -> Part:
    """Parts as one, with the layer that `make` makes of theirs."""
    params, state = (
        {
            (part_name, *keys): leaf
            for part_name, part in parts.items()
            for keys, leaf in getattr(part, root).items()
        }
        for root in ("params", "state")
    )
    model = make({part_name: part.model for part_name, part in parts.items()})
    left = [one for part in parts.values() for one in part.left]
    return Part(name, model, params, state, left, any(part.one_size for part in parts.values()))


def permuted(parts: list[Part]) -> list[Part]:
    """Permutations of axes moved behind what acts on each element; two that undo each other are gone."""
    ordered: list[Part] = []
    for part in parts:
        if part.model is TO_LAST and ordered and ordered[-1].model is TO_FIRST:
            ordered.pop()
        elif is_pointwise(part.model) and ordered and ordered[-1].model is TO_FIRST:
            ordered.insert(-1, part)
        else:
            ordered.append(part)
    return ordered


def filled(part: Part, trees: PyTree) -> tuple[PyTree, PyTree]:
    """Parameters and state of a part, from those of the module."""
    made: list[PyTree] = []
    for places in (part.params, part.state):
        tree: PyTree = {}
        for keys, leaf in places.items():
            tree = walk.put(tree, keys, leaf.here(walk.at(trees, leaf.path)))
        made.append(tree)
    return made[0], made[1]
