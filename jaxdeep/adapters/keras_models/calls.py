"""The calls of the layers of a functional model, in the order in which they can be made."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxdeep.adapters.keras_models.functions import NotKnownError


class Call(NamedTuple):
    """A call of a layer in a functional model: what it takes, and what comes out."""

    layer: str
    taken: Any
    out: tuple[str, int]


class Tensor(NamedTuple):
    """What a call of a layer puts out, or one of several things."""

    call: tuple[str, int]
    place: int


def tensors_of(node: Any) -> Any:
    """The tensors of an argument in their structure; None of what holds none."""
    if isinstance(node, dict) and node.get("class_name") == "__keras_tensor__":
        layer, number, place = node["config"]["keras_history"]
        return Tensor((layer, number), place)
    if isinstance(node, dict) and "class_name" not in node and node:
        tensors = {key: tensors_of(one) for key, one in node.items()}
        return None if None in tensors.values() else tensors
    if isinstance(node, dict) and node.get("class_name") == "__tuple__":
        node = node.get("config", {}).get("value", node.get("items", []))
    if isinstance(node, list) and node:
        several = [tensors_of(one) for one in node]
        return None if None in several else tuple(several)
    return None


def history_of(node: Any, nested: set[str]) -> Any:
    """The tensors of inputs or outputs; there, the calls of a functional model are counted from 1."""
    if isinstance(node, list) and len(node) == 3 and isinstance(node[0], str):
        layer, number, place = node
        return Tensor((layer, number - (layer in nested)), place)
    if isinstance(node, dict):
        return {key: history_of(one, nested) for key, one in node.items()}
    return tuple(history_of(one, nested) for one in node)


def _leaves(tensors: Any) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        return [tensors]
    several = tensors.values() if isinstance(tensors, dict) else tensors
    return [leaf for one in several for leaf in _leaves(one)]


def in_order(calls: list[Call], inputs: Sequence[str]) -> list[Call]:
    """Calls in an order in which what each takes is there."""
    known, ordered, waiting = {(name, 0) for name in inputs}, [], calls
    while waiting:
        ready = [c for c in waiting if all(tensor.call in known for tensor in _leaves(c.taken))]
        if not ready:
            raise ValueError(
                f"the calls of {', '.join(c.layer for c in waiting)} take what is not there"
            )
        ordered.append(ready[0])
        known.add(ready[0].out)
        waiting = [c for c in waiting if c is not ready[0]]
    return ordered


def is_chain(calls: Sequence[Call], inputs: Sequence[str], outputs: Any) -> bool:
    """Whether each call takes what the one before puts out, and nothing else does."""
    before: Any = Tensor((inputs[0], 0), 0) if len(inputs) == 1 else None
    for call in calls:
        if call.taken != before:
            return False
        before = Tensor(call.out, 0)
    once = len({call.layer for call in calls}) == len(calls)
    return once and bool(calls) and outputs == before


def names_of(calls: Sequence[Call], inputs: Sequence[str]) -> dict[tuple[str, int], str]:
    """A name for what each call puts out: the layer's, with a number from the second call on."""
    names = {(name, 0): name for name in inputs}
    taken = {*inputs, *(call.layer for call in calls)}
    for call in calls:
        layer, number = call.out
        name = f"{layer}.{number}" if number else layer
        while number and name in taken:
            name += "_"
        taken.add(name)
        names[call.out] = name
    return names


# --- shapes -----------------------------------------------------------------------------------------


def is_shape(shape: Any) -> bool:
    """Whether a description holds a shape here."""
    return isinstance(shape, list) and all(size is None or isinstance(size, int) for size in shape)


def axes_of(node: Any) -> int | None:
    """The number of axes of the first tensor in an argument; None where the description has no shape."""
    return next(iter(_all_axes(node)), None)


def check_together(node: Any) -> None:
    """Refuse tensors with other numbers of axes than one another, which Keras aligns behind the rows.

    Those of jaxdeep are aligned at their last axes, so that the rows of one would meet the numbers of
    another.
    """
    counts = sorted(set(_all_axes(node)))
    if len(counts) > 1:
        raise NotKnownError(
            f"takes tensors of {' and '.join(map(str, counts))} axes together, those of the rows among "
            "them, which jaxdeep does not have"
        )


def _all_axes(node: Any) -> list[int]:
    """The numbers of axes of the tensors in an argument, of those with a shape in the description."""
    if isinstance(node, dict) and node.get("class_name") == "__keras_tensor__":
        shape = node["config"].get("shape")
        return [len(shape)] if is_shape(shape) else []
    if isinstance(node, dict) and node.get("class_name") == "__tuple__":
        node = node.get("config", {}).get("value", node.get("items", []))
    several: Any = node if isinstance(node, list) else []
    if isinstance(node, dict) and "class_name" not in node:
        several = node.values()
    return [axes for part in several for axes in _all_axes(part)]
