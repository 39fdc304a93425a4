"""A table of what a model is made of."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxdeep.nn.model import Model
from jaxdeep.tree import shapes

PyTree = Any


def summary(model: Model, x: Any) -> str:
    """Layers, output shapes and sizes of `model` on an input like `x`, as a table to print.

    Nothing is computed: shapes come from tracing. "Trainable" counts the elements of `params`,
    "non-trainable" those of `state`.

    Args:
      model: any `Model`; combinators are shown layer by layer.
      x: an example input, or its `jax.ShapeDtypeStruct`.

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
    import rich.box
    import rich.console
    import rich.table

    key = jax.eval_shape(lambda: jax.random.key(0))
    shape = shapes(x)
    params, state = jax.eval_shape(lambda key: model.init(key, shape), key)
    outputs: dict[str, Any] = {}
    jax.eval_shape(_recording(model, "", outputs).apply, params, state, shape)

    table = rich.table.Table(box=rich.box.HEAVY_HEAD)
    for name in ("layer", "kind", "output"):
        table.add_column(name, overflow="fold")
    for name in ("trainable", "non-trainable", "bytes"):
        table.add_column(name, justify="right")
    for path, layer in _leaf_layers(model, ""):
        table.add_row(path, layer.kind, *_row(outputs[path], _at(params, path), _at(state, path)))
    table.add_section()
    table.add_row("total", model.kind, *_row(outputs[""], params, state))

    console = rich.console.Console(
        width=200, color_system=None, force_terminal=False, markup=False, emoji=False
    )
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def _recording(model: Model, path: str, outputs: dict[str, Any]) -> Model:
    """The same model, which notes the output shape of every layer in `outputs` when traced."""
    inner = model
    if model.combine is not None:
        inner = model.combine(
            {n: _recording(layer, _join(path, n), outputs) for n, layer in model.layers.items()}
        )

    def apply(params: Any, state: Any, x: Any, **switches: Any) -> tuple[Any, Any]:
        y, state = inner.apply(params, state, x, **switches)
        outputs[path] = shapes(y)
        return y, state

    return Model(model.init, apply, model.kind)


def _leaf_layers(model: Model, path: str) -> Iterator[tuple[str, Model]]:
    for name, layer in model.layers.items():
        if layer.combine is not None and layer.layers:
            yield from _leaf_layers(layer, _join(path, name))
        else:
            yield _join(path, name), layer


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _at(tree: Mapping[str, Any], path: str) -> PyTree:
    for name in path.split("/"):
        tree = tree.get(name, {})
    return tree


def _row(output: Any, params: PyTree, state: PyTree) -> list[str]:
    shapes = [str(leaf.shape) for leaf in jax.tree.leaves(output)]
    size = [sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(t)) for t in (params, state)]
    bytes_ = sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves((params, state))
    )
    return [", ".join(shapes), *(f"{n:,}" for n in size), f"{bytes_:,}"]
