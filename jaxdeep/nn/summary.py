"""A table of what a model is made of."""

import math
from collections.abc import Iterator, Mapping

import jax

from jaxdeep._shapes import PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model, check_models
from jaxdeep.tree import example_of


def summary(model: Model, x: PyTree) -> str:
    """Layers, output shapes and sizes of `model` on an input like `x`, as a table to print.

    Nothing is computed: shapes come from tracing. "Trainable" counts the elements of `params`,
    "non-trainable" those of `state`.

    Args:
      model: any `Model`; combinators are shown layer by layer.
      x: an example input, or its `jax.ShapeDtypeStruct`.

    Raises:
      TypeError: no `Model`; an input that is no array.

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

    def run(params: PyTree, state: PyTree, x: PyTree) -> dict[str, PyTree]:
        found: dict[str, PyTree] = {}
        model.watch(found).apply(params, state, x)
        return found

    outputs = jax.eval_shape(run, params, state, shape)

    table = rich.table.Table(box=rich.box.HEAVY_HEAD)
    for name in ("layer", "kind", "output"):
        table.add_column(name, overflow="fold")
    for name in ("trainable", "non-trainable", "bytes"):
        table.add_column(name, justify="right")
    for path, kind, own_params, own_state in _rows(model, params, state):
        table.add_row(path, kind, *_row(outputs.get(path), own_params, own_state))
    table.add_section()
    table.add_row("total", model.kind, *_row(outputs[""], params, state))

    console = rich.console.Console(
        width=200, color_system=None, force_terminal=False, markup=False, emoji=False
    )
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def _rows(model: Model, params: PyTree, state: PyTree) -> Iterator[tuple[str, str, PyTree, PyTree]]:
    """Path, kind, parameters and state of what the table lists: layers, or a module's own parts."""
    for place in walk.leaves(model):
        own_params, own_state = (walk.at(tree, place.keys) for tree in (params, state))
        if place.path:
            times = "".join(f" × {n}" for n in place.times)
            yield place.path, f"{place.layer.kind}{times}", own_params, own_state
        else:
            yield from _parts(own_params, own_state)


def _parts(params: PyTree, state: PyTree) -> Iterator[tuple[str, str, PyTree, PyTree]]:
    """The parts of an adapted module, by name."""
    parts = [name for name in {**params, **state} if isinstance(params.get(name), Mapping)]
    for name in parts:
        collections = {
            c: own[name] for c, own in state.items() if isinstance(own, Mapping) and name in own
        }  # Linen's
        yield name, "", params[name], state.get(name, collections)
    own = {name: leaf for name, leaf in params.items() if name not in parts}
    if parts and own:
        yield ", ".join(own), "", own, {}


def _row(output: PyTree, params: PyTree, state: PyTree) -> list[str]:
    shapes = [str(leaf.shape) for leaf in jax.tree.leaves(output)]
    size = [sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(t)) for t in (params, state)]
    bytes_ = sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves((params, state))
    )
    return [", ".join(shapes), *(f"{n:,}" for n in size), f"{bytes_:,}"]
