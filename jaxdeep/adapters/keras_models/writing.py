"""Models of jaxdeep as files that Keras 3 loads."""

import contextlib
import datetime
import functools
import io
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdeep import _checks
from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.adapters.keras_models.archive import CONFIG, METADATA, WEIGHTS
from jaxdeep.adapters.keras_models.reading import from_keras, snake
from jaxdeep.adapters.keras_models.written import Written, layers_of
from jaxdeep.nn import walk
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.graphs import gathered
from jaxdeep.nn.model import Model, check_models
from jaxdeep.nn.traits import Traits
from jaxdeep.tree import example_of

_VERSION = "3.15.1"  # the version of Keras whose format is written
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


def to_keras(
    model: Model, params: PyTree, state: PyTree, path: str | os.PathLike[str], example: PyTree
) -> None:
    """Write a model as a ``.keras`` file, which `keras.models.load_model` loads without jaxdeep.

    It is a functional model of Keras' own layers and operations, by the paths of jaxdeep's, with
    ``_`` in place of ``/``. Loops of `repeat` are written out, and a layer that is called in several
    places is one there, too. Of functions in `lambda_`, means, sums and extremes over axes are written,
    ``functools.partial(jnp.mean, axis=1)``. What Keras does not have is refused by its path. Where
    `example` has values, the file is read again and must give what the model gives.

    Args:
      model: a model of jaxdeep's layers.
      params, state: its parameters and state, in float32.
      path: of the file, which ends in ``.keras`` and is replaced if it is there.
      example: an input, or its `jax.ShapeDtypeStruct`, with an axis of the batch. Of a dict, Keras'
        model takes a dict.

    Raises:
      ValueError: a layer, an argument or an activation that Keras does not have, with the path of the
        layer; parameters or a state of another model; another ending of `path`.
      TypeError: no `Model`, a `path` that is none. ImportError: h5py is not installed.

    Source: the format of ``keras.saving``, version 3.

    >>> to_keras(model, params, state, "model.keras", x[:1])  # doctest: +SKIP
    """
    check_models("to_keras", {"model": model})
    file = _checks.local_path("path", path)
    if file.suffix != ".keras":
        raise ValueError(f"path must end in .keras, got {str(path)!r}")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {str(file.parent)!r}")
    needed("h5py", "to_keras", "h5py", "keras")
    check_fit(model, params, state)
    draft = _Draft({}, {}, {})
    floats = not any(
        p.layer.traits.linear and p.layer.traits.linear.looks_up for p in walk.leaves(model)
    )
    wires = model.traits.wires
    name = wires.inputs if wires is not None and isinstance(wires.inputs, str) else "input"
    inputs = _inputs(draft, example_of(example), floats, name)
    outputs = _emitted(draft, model, params, state, inputs)
    if draft.layers.keys() == {tensor.layer for tensor in jax.tree.leaves(inputs)}:
        outputs = jax.tree.map(functools.partial(_unchanged, draft), outputs)
    layers, names = _ordered(draft, jax.tree.leaves(outputs), jax.tree.leaves(inputs))
    config = _config(draft, layers, names, inputs, outputs)
    content = _archive(draft, layers, config)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        if all(not isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(example)):
            _check_same(model, params, state, beside, example)
        os.replace(beside, file)
    except OSError as error:
        raise type(error)(
            error.errno, f"path could not be written ({error.strerror})", str(path)
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


class _Tensor:
    """What a call of a layer of Keras puts out."""

    def __init__(self, layer: str, node: int, like: jax.ShapeDtypeStruct) -> None:
        self.layer, self.node, self.like = layer, node, like

    @property
    def call(self) -> tuple[str, int]:
        """The layer and the number of the call."""
        return self.layer, self.node


class _Draft(NamedTuple):
    """A functional model of Keras in the making.

    Attributes:
      layers: by name.
      calls: of each layer, what each of its calls takes: a tensor or a list of them.
      names: of what has been written, by its path and its place there.
    """

    layers: dict[str, Written]
    calls: dict[str, list[Any]]
    names: dict[tuple[str, int], str]

    def named(self, path: str, place: int) -> str:
        """The name of the layer at a path, and of those that it needs behind it; -1 of an input."""
        if (path, place) not in self.names:
            name = _NOT_IN_NAMES.sub("_", path) or "layer"
            name = name if name[0].isalnum() else f"layer{name}"
            name += f"_then_{place}" if place > 0 else ""
            while name in self.layers or name in self.names.values():
                name += "_"
            self.names[path, place] = name
        return self.names[path, place]

    def call(self, name: str, layer: Written, taken: Any, like: jax.ShapeDtypeStruct) -> _Tensor:
        """Another call of a layer, and the first if it is not there yet."""
        self.layers.setdefault(name, layer)
        calls = self.calls.setdefault(name, [])
        calls.append(taken)
        return _Tensor(name, len(calls) - 1, like)


def _inputs(draft: _Draft, example: PyTree, floats: bool, only: str) -> PyTree:
    """The tensors of the inputs; `only` is the name of a single one."""

    def made(path: jax.tree_util.KeyPath, like: jax.ShapeDtypeStruct) -> _Tensor:
        if not like.shape:
            raise ValueError(f"example must have an axis of the batch, got shape {like.shape}")
        input_path = jax.tree_util.keystr(path, simple=True, separator="_")
        dtype = "float32" if floats else str(like.dtype)
        config = {"batch_shape": [None, *like.shape[1:]], "dtype": dtype}
        name = draft.named(input_path or only, -1)
        return draft.call(
            name, Written("InputLayer", config), None, jax.ShapeDtypeStruct(like.shape, dtype)
        )

    return jax.tree_util.tree_map_with_path(made, example)


def _unchanged(draft: _Draft, tensor: _Tensor) -> _Tensor:
    """An input as an output, of a model without layers: one of Keras has at least one."""
    name = draft.named(f"{tensor.layer}_unchanged", 0)
    return draft.call(name, Written("Identity", {}), tensor, tensor.like)


# --- layers -----------------------------------------------------------------------------------------


class _At(NamedTuple):
    """Where a layer is written, and with what.

    Attributes:
      names: the names that lead to it, with the numbers of the turns of loops.
      params, state: its own.
    """

    names: tuple[str, ...]
    params: PyTree
    state: PyTree

    @property
    def path(self) -> str:
        return "/".join(name for name in self.names if name)

    def below(self, name: str) -> "_At":
        """The place of one of its layers."""
        keys = (name,) if name else ()
        return _At((*self.names, name), walk.at(self.params, keys), walk.at(self.state, keys))

    def turn(self, traits: Traits, i: int) -> "_At":
        """The place in a loop's turn `i`: of its own where the turns have parameters of their own."""
        if traits.reuses:
            return self
        rows = [_row(tree, i) if traits.stacked else tree for tree in (self.params, self.state)]
        return _At((*self.names, f"{i}"), *rows)


_Write = Callable[[_At, PyTree], PyTree]  # what a layer puts out for tensors of Keras


def _emitted(draft: _Draft, model: Model, params: PyTree, state: PyTree, x: PyTree) -> PyTree:
    """What a model puts out for tensors of Keras."""

    def writer(place: walk.Place, below: dict[str, _Write]) -> _Write:
        return functools.partial(_outputs, draft, place.layer, below)

    return walk.fold(model, writer, walk.any_layers)(_At((), params, state), x)


def _outputs(draft: _Draft, model: Model, below: dict[str, _Write], at: _At, x: PyTree) -> PyTree:
    """What a layer puts out, of what those in it do."""
    traits = model.traits

    def inside(name: str, x: PyTree) -> PyTree:
        return below[name](at.below(name), x)

    if traits.compute_dtype is not None:
        raise ValueError(
            f"{at.path or model.kind}: computes in {traits.compute_dtype}, and float32 is written"
        )
    if traits.wires is not None:
        known = _spread(traits.wires.inputs, x)
        for name, (layer, taken) in traits.wires.calls.items():
            known[name] = inside(layer, gathered(taken, known))
        return gathered(traits.wires.outputs, known)
    if traits.joins == "chain":
        for name in model.layers:
            x = inside(name, x)
        return x
    if traits.joins is not None:
        return _joined(draft, model, at, {name: inside(name, x) for name in model.layers}, x)
    if traits.times is not None:
        for i in range(traits.times):
            x = below["layer"](at.turn(traits, i).below("layer"), x)
        return x
    if model.kind == "shared":
        several = x if isinstance(x, Mapping) else dict(enumerate(x))
        ys = {key: inside("layer", one) for key, one in several.items()}
        return ys if isinstance(x, Mapping) else tuple(ys.values())
    if model.kind == "select":
        return x[model.config["name"]]
    return _leaf(draft, model, at, x)


def _spread(names: Any, x: PyTree) -> dict[str, Any]:
    if isinstance(names, str):
        return {names: x}
    pairs = (
        (inner_names, x[key])
        for key, inner_names in (names.items() if isinstance(names, Mapping) else enumerate(names))
    )
    return {name: one for inner_names, part in pairs for name, one in _spread(inner_names, part).items()}


def _row(tree: PyTree, i: int) -> PyTree:
    return jax.tree.map(lambda a: a[i], tree)


def _joined(draft: _Draft, model: Model, at: _At, outputs: dict[str, Any], x: PyTree) -> PyTree:
    """The outputs of branches on one input: side by side, summed or concatenated."""
    traits = model.traits
    if traits.joins == "collect":
        return tuple(outputs.values()) if model.config.get("by_position") else outputs
    several = list(outputs.values())
    if traits.joins == "sum":
        several, layer = [*several, x] if len(several) == 1 else several, Written("Add", {})
        like = several[0].like
    else:
        layer = Written("Concatenate", {"axis": traits.join_axis})
        shapes = [one.like for one in several]
        like = jax.eval_shape(lambda arrays: jax.numpy.concatenate(arrays, traits.join_axis), shapes)
    if len(several) == 1:
        return several[0]
    return draft.call(draft.named(f"{at.path}/{traits.joins}".strip("/"), 0), layer, several, like)


def _leaf(draft: _Draft, model: Model, at: _At, x: PyTree) -> _Tensor:
    """A layer that is one of Keras', or several one after another."""
    tensors = jax.tree.leaves(x)
    like = jax.tree.map(lambda tensor: tensor.like, x)
    y, _ = jax.eval_shape(model.apply, at.params, at.state, like)
    name = at.path or model.kind
    try:
        layers = layers_of(model, at.params, at.state, (None, *tensors[0].like.shape[1:]))  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    taken = tensors if model.kind == "merge" else x
    if isinstance(taken, (dict, tuple)):
        raise ValueError(f"{name}: {model.kind} takes several inputs, which Keras' does not")
    for i, layer in enumerate(layers):
        taken = draft.call(draft.named(name, i), layer, taken, y)
    assert isinstance(taken, _Tensor)
    return taken


# --- the file ---------------------------------------------------------------------------------------


def _ordered(
    draft: _Draft, outputs: list[_Tensor], inputs: list[_Tensor]
) -> tuple[list[str], dict[tuple[str, int], tuple[str, int]]]:
    """The layers in Keras' order, and the calls that are needed, counted anew.

    Variables go by this order in the file: by depth from the outputs, and within a depth in the
    order in which a search from the outputs meets them (``map_graph`` of ``keras.src.ops.function``).
    """
    finished: dict[tuple[str, int], None] = {}
    met: dict[str, int] = {}
    waiting = [(tensor.call, False) for tensor in reversed(outputs)]
    while waiting:
        call, done = waiting.pop()
        if done:
            finished[call] = None
        elif call not in finished:
            met.setdefault(call[0], len(met))
            waiting.append((call, True))
            waiting.extend((one.call, False) for one in reversed(_taken(draft, call)))
    depths: dict[tuple[str, int], int] = {}
    of_layers: dict[str, int] = {}
    for call in reversed(finished):
        depth = max(depths.get(call, 0), of_layers.get(call[0], 0))
        depths[call] = of_layers[call[0]] = depth
        for one in _taken(draft, call):
            depths[one.call] = max(depth + 1, depths.get(one.call, 0))
    for tensor in inputs:  # inputs that no layer takes
        if tensor.layer not in of_layers:
            of_layers[tensor.layer], met[tensor.layer], finished[tensor.call] = 0, -1, None
    layers = sorted(of_layers, key=lambda name: (-of_layers[name], met[name]))
    names: dict[tuple[str, int], tuple[str, int]] = {}
    for layer in layers:
        there = sorted(number for name, number in finished if name == layer)
        names |= {(layer, number): (layer, i) for i, number in enumerate(there)}
    return layers, names


def _taken(draft: _Draft, call: tuple[str, int]) -> list[_Tensor]:
    taken = draft.calls[call[0]][call[1]]
    return [] if taken is None else taken if isinstance(taken, list) else [taken]


def _config(
    draft: _Draft,
    layers: list[str],
    names: dict[tuple[str, int], tuple[str, int]],
    inputs: PyTree,
    outputs: PyTree,
) -> dict[str, Any]:
    def tensor(one: _Tensor) -> dict[str, Any]:
        shape, dtype = [None, *one.like.shape[1:]], str(one.like.dtype)
        history = [*names[one.call], 0]
        config = {"shape": shape, "dtype": dtype, "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}

    def node(taken: Any, besides: Sequence[Any]) -> dict[str, Any]:
        several = isinstance(taken, list)
        args = [[tensor(one) for one in taken]] if several else [tensor(taken)]
        return {"args": [*args, *besides], "kwargs": {}}

    described = []
    for name in layers:
        layer = draft.layers[name]
        layer_config = {"name": name, **layer.config}
        is_operation = layer.module != "keras.layers"
        if layer.class_name != "InputLayer" and not is_operation:
            layer_config = {"trainable": True, "dtype": "float32", **layer_config}
        calls = [draft.calls[name][number] for owner, number in names if owner == name]
        described.append(
            {
                "module": layer.module,
                "class_name": layer.class_name,
                "config": layer_config,
                "registered_name": layer.class_name if is_operation else None,
                "name": name,
                "inbound_nodes": [node(taken, layer.taken) for taken in calls if taken is not None],
            }
        )

    def structure(tree: Any, leaf: Callable[[_Tensor], Any]) -> Any:
        if isinstance(tree, _Tensor):
            return leaf(tree)
        if isinstance(tree, Mapping):
            return {key: structure(one, leaf) for key, one in tree.items()}
        return [structure(one, leaf) for one in tree]

    def history(one: _Tensor) -> list[Any]:
        return [*names[one.call], 0]

    model_config = {
        "name": "jaxdeep",
        "trainable": True,
        "layers": described,
        "input_layers": structure(inputs, history),
        "output_layers": structure(outputs, history),
    }
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": model_config,
        "registered_name": "Functional",
        "build_config": {"input_shape": None},
    }


def _archive(draft: _Draft, layers: list[str], config: dict[str, Any]) -> bytes:
    """The three members, stored as they are."""
    h5py = needed("h5py", "to_keras", "h5py", "keras")
    weights, whole = io.BytesIO(), io.BytesIO()
    seen: dict[str, int] = {}
    with h5py.File(weights, "w") as file:
        for name in layers:
            layer = draft.layers[name]
            if layer.module != "keras.layers":  # operations have no place among the variables
                continue
            kind = snake(layer.class_name)
            count = seen[kind] = seen.get(kind, -1) + 1
            group = file.create_group(f"layers/{kind}{f'_{count}' if count else ''}/vars")
            group.attrs["name"] = name
            for i, variable in enumerate(layer.variables):
                group.create_dataset(str(i), data=np.ascontiguousarray(variable))
        file.create_group("vars").attrs["name"] = "jaxdeep"
    saved = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    members: dict[str, str | bytes] = {
        METADATA: json.dumps({"keras_version": _VERSION, "date_saved": saved}),
        CONFIG: json.dumps(config),
        WEIGHTS: weights.getvalue(),
    }
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return whole.getvalue()


def _check_same(model: Model, params: PyTree, state: PyTree, file: pathlib.Path, x: PyTree) -> None:
    """Refuse a file that gives other numbers than the model, as a layer written wrong would."""
    expected, _ = model.apply(params, state, x)
    again = from_keras(file)
    outputs, _ = again[0].apply(again[1], again[2], x)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(outputs)):
        if not np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True):
            off = float(np.max(np.abs(np.asarray(a) - np.asarray(b))))
            raise ValueError(
                f"the file gives other outputs than the model, by up to {off:.3g}: not written"
            )
