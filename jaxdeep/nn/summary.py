"""A table of what a model is made of."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from jaxdeep._shapes import PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.model import Call, Model, check_models, taking
from jaxdeep.tree import Where, example_of, selected


def summary(model: Model, x: PyTree, *, trainable: Where | None = None) -> str:
    """Layers, output shapes and sizes of `model` on an input like `x`, as a table to print.

    Nothing is computed: shapes come from tracing. "Trainable" counts the elements of `params`,
    "non-trainable" those of `state`, and those of parameters that are not trained.

    Args:
      model: any `Model`; combinators are shown layer by layer, adapted modules by the modules inside
        that call no others, in the order of their calls. What is called again counts once.
      x: an example input, or its `jax.ShapeDtypeStruct`.
      trainable: the parameters that are trained, as ``jaxdeep.fit(trainable=)`` takes them
        (`jaxdeep.tree.mask`); all by default.

    Raises:
      TypeError: no `Model`; an input that is no array. ValueError: a `trainable` that matches no leaf.

    Source: Keras' ``Model.summary``.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.serial(hidden=jd.nn.dense(3), bn=jd.nn.batch_norm())
    >>> print(summary(model, jax.ShapeDtypeStruct((1, 2), jnp.float32)))
    ┏━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━━━━━━┳━━━━━━━┓
    ┃ layer  ┃ kind       ┃ output ┃ trainable ┃ non-trainable ┃ bytes ┃
    ┡━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━━━━━╇━━━━━━━┩
    │ hidden │ dense      │ (1, 3) │         9 │             0 │    36 │
    │ bn     │ batch_norm │ (1, 3) │         6 │             6 │    48 │
    ├────────┼────────────┼────────┼───────────┼───────────────┼───────┤
    │ total  │ serial     │ (1, 3) │        15 │             6 │    84 │
    └────────┴────────────┴────────┴───────────┴───────────────┴───────┘
    """
    check_models("summary", {"model": model})
    import rich.box
    import rich.console
    import rich.table

    key = jax.eval_shape(lambda: jax.random.key(0))
    shape = example_of(x)
    params, state = jax.eval_shape(lambda key: model.init(key, shape), key)

    def run(params: PyTree, state: PyTree, x: PyTree) -> tuple[dict[str, PyTree], ...]:
        outputs: dict[str, PyTree] = {}
        inputs: dict[str, PyTree] = {}
        taking(model, inputs).watch(outputs).apply(params, state, x)
        return outputs, inputs

    outputs, inputs = jax.eval_shape(run, params, state, shape)
    if trainable is not None:
        chosen = selected(params, trainable, "trainable")
        params = jax.tree.map(
            lambda leaf, on: leaf if on else _Held(leaf.shape, leaf.dtype), params, chosen
        )

    table = rich.table.Table(box=rich.box.HEAVY_HEAD)
    for name in ("layer", "kind", "output"):
        table.add_column(name, overflow="fold")
    for name in ("trainable", "non-trainable", "bytes"):
        table.add_column(name, justify="right")
    for row in _rows(model, params, state, outputs, inputs):
        table.add_row(row.path, row.kind, *_row(*row[2:]))
    table.add_section()
    table.add_row("total", model.kind, *_row(outputs[""], params, state))

    console = rich.console.Console(
        width=200, color_system=None, force_terminal=False, markup=False, emoji=False
    )
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


@dataclasses.dataclass(frozen=True)
class _Held:
    """The shape of a parameter that is not trained."""

    shape: tuple[int, ...]
    dtype: Any


class _Row(NamedTuple):
    path: str
    kind: str
    output: PyTree
    params: PyTree
    state: PyTree


def _rows(
    model: Model, params: PyTree, state: PyTree, outputs: PyTree, inputs: PyTree
) -> Iterator[_Row]:
    """What the table lists: layers, and the modules inside of adapted ones."""
    for place in walk.leaves(model):
        own_params, own_state = (walk.at(tree, place.keys) for tree in (params, state))
        calls = None
        if place.layer.inside is not None and place.path in inputs:
            calls = place.layer.inside.calls(own_params, own_state, inputs[place.path])
        if calls is not None:
            yield from _inside(place.path, calls, own_params, own_state)
        elif place.path:
            times = "".join(f" × {n}" for n in place.times)
            kind = f"{place.layer.kind}{times}"
            yield _Row(place.path, kind, outputs.get(place.path), own_params, own_state)


def _inside(path: str, calls: list[Call], params: PyTree, state: PyTree) -> Iterator[_Row]:
    """The calls inside a module, and what is the module's own."""
    trees = {"params": params, "state": state}
    left = {
        (root, *leaf_path): leaf for root, tree in trees.items() for leaf_path, leaf in _leaves(tree)
    }
    for call in calls:
        call_arrays: dict[str, list[PyTree]] = {"params": [], "state": []}
        for keys in [k for k in left if _is_of(k, call.path)]:
            call_arrays[keys[0]].append(left.pop(keys))
        name = "/".join(map(str, ((path,) if path else ()) + call.path))
        yield _Row(name, call.kind, call.output, call_arrays["params"], call_arrays["state"])
    for root in trees:
        rest = {keys[1:]: leaf for keys, leaf in left.items() if keys[0] == root}
        if rest:
            rest_arrays: dict[str, PyTree] = {"params": {}, "state": {}, root: list(rest.values())}
            names = ", ".join("/".join(map(str, keys)) for keys in rest)
            yield _Row(
                f"{path}/{names}".strip("/"), "", None, rest_arrays["params"], rest_arrays["state"]
            )


def _leaves(tree: PyTree) -> list[tuple[tuple[Any, ...], Any]]:
    """The leaves with the keys that lead to them."""
    if not isinstance(tree, Mapping):
        return [((), leaf) for leaf in jax.tree.leaves(tree)]
    return [((key, *keys), leaf) for key in tree for keys, leaf in _leaves(tree[key])]


def _is_of(keys: tuple[Any, ...], path: tuple[Any, ...]) -> bool:
    """Whether a leaf is under the path, in a collection of Linen or in none."""
    return path in (keys[1 : 1 + len(path)], *([keys[2 : 2 + len(path)]] if keys[0] == "state" else []))


def _row(output: PyTree, params: PyTree, state: PyTree) -> list[str]:
    shapes = [str(leaf.shape) for leaf in jax.tree.leaves(output)]
    learned, kept = jax.tree.leaves(params), jax.tree.leaves(state)
    trained = sum(math.prod(leaf.shape) for leaf in learned if not isinstance(leaf, _Held))
    every = sum(math.prod(leaf.shape) for leaf in (*learned, *kept))
    bytes_ = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in (*learned, *kept))
    return [", ".join(shapes), *(f"{n:,}" for n in (trained, every - trained, bytes_))]
