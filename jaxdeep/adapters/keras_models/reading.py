"""Saved models of Keras 3 as models of jaxdeep, without Keras."""

import contextlib
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks, nn
from jaxdeep._shapes import PyTree
from jaxdeep.adapters.keras_models.archive import CONFIG, Archive, Config, Variables, opened
from jaxdeep.adapters.keras_models.calls import (
    Call,
    Tensor,
    axes_of,
    check_together,
    history_of,
    in_order,
    is_chain,
    is_shape,
    names_of,
    tensors_of,
)
from jaxdeep.adapters.keras_models.description import NESTED, check_description, layer_name
from jaxdeep.adapters.keras_models.functions import NotKnownError
from jaxdeep.adapters.keras_models.layers import LayerSpec, check_rows, layer_of
from jaxdeep.adapters.keras_models.operations import operation_of
from jaxdeep.nn import walk
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.model import Model, under
from jaxdeep.nn.traits import Names

Path = str | os.PathLike[str]


def from_keras(source: Any, *, weights: Path | None = None) -> tuple[Model, PyTree, PyTree]:
    """A saved model of Keras 3 as ``(model, params, state)``, made of jaxdeep's own layers.

    Keras is not needed and nothing of the file is run. A `Sequential` is a `jaxdeep.nn.serial` of layers
    by their names, and so is a functional model that is a chain; every other is a `jaxdeep.nn.graph`.
    So all that jaxdeep does with models it does with these: train, freeze, fold, quantise, save, export.

    Read are layers for tables and images: dense layers, convolutions (also depthwise, separable and
    transposed), pools, embeddings, norms, activations, dropouts, merges and what reshapes or rescales,
    and operations of `keras.ops`:

    * `add`, `subtract`, `multiply`, `maximum`, `minimum` of two tensors, and the first three and
      `divide` of a tensor and a number; `concatenate`;
    * `negative`, `absolute`, `square`, `sqrt`, `exp`;
    * `relu`, `relu6`, `sigmoid`, `log_sigmoid`, `hard_sigmoid`, `tanh`, `hard_tanh`, `silu`,
      `hard_silu`, `selu`, `softplus`, `softsign`, and with their arguments `gelu`, `softmax`,
      `log_softmax`, `leaky_relu`, `elu`, `celu`;
    * `mean`, `sum`, `max`, `min`, `amax`, `amin` over axes other than the batch's;
    * slices of all rows, ``x[:, -1]`` or ``x[:, 2:9, 0]``, of steps above 0: `jaxdeep.nn.get_item`.

    What jaxdeep computes otherwise, or not at all, is refused by the name of the layer;
    `from_keras_model` runs it by Keras.

    An Embedding takes whole numbers, of an integer dtype, also where Keras calls its input float32, as
    it does by default.

    The loss, the optimizer, initialisers, regularisers and constraints are not read. Which layers were
    trainable, `keras_trainable` says.

    Args:
      source: a ``.keras`` file, a folder with its members (that of Hugging Face), a ``config.json``
        beside `weights`, or a model of an installed Keras.
      weights: a ``.weights.h5`` file to take the variables from in place of those of `source`.

    Raises:
      ValueError: a layer or an argument that jaxdeep does not have; a description that is not built as
        Keras builds one, by the layer; variables that are missing, by the
        path that was looked for and those that are there; a model that was not built; a file that is
        damaged, or holds code, links, data of other files or more than it stores; FileNotFoundError.
      ImportError: h5py is not installed.

    Source: the format of ``keras.saving``, version 3.

    >>> from_keras("model.keras")  # doctest: +SKIP
    (serial(...), {'hidden': {'kernel': ...
    """
    read = _read(source, weights)
    return read.model, read.params, read.state


def keras_trainable(source: Any) -> PyTree:
    """Which parameters of a saved model were trainable: for ``fit(trainable=…)``, in their structure.

    A frozen batch norm stays in inference mode when it is trained so, as in Keras.

    Args:
      source: as for `from_keras`.

    Raises:
      ValueError, FileNotFoundError, ImportError: as `from_keras`.

    Source: ``layer.trainable`` of Keras.

    >>> keras_trainable("model.keras")  # doctest: +SKIP
    {'hidden': {'bias': False, 'kernel': False}, 'logits': {'bias': True, 'kernel': True}}
    """
    read = _read(source, None)

    def learns(path: jax.tree_util.KeyPath, leaf: Any) -> bool:
        names = tuple(str(getattr(key, "key", key)) for key in path)
        return not any(names[: len(frozen)] == frozen for frozen in read.frozen)

    return jax.tree_util.tree_map_with_path(learns, read.params)


class _Read(NamedTuple):
    """A part of a model: `frozen` are the names that lead to its layers that do not learn."""

    model: Model
    params: PyTree
    state: PyTree
    frozen: Sequence[tuple[str, ...]] = ()


def _read(source: Any, weights: Path | None) -> _Read:
    if weights is not None:
        _checks.check_local_path("weights", weights)
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(source, keras.Model):
        with tempfile.TemporaryDirectory() as folder:
            source.save(path := os.path.join(folder, "model.keras"))
            return _translated(opened(path, weights))
    if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
        raise TypeError(f"source must be a path or a model of Keras, got {source!r}")
    return _translated(opened(source, weights))


def _translated(archive: Archive) -> _Read:
    check_description(archive.config)
    name = archive.config["class_name"]
    if name not in NESTED:
        raise ValueError(
            f"source is a {name}, a class of its own, whose code no file holds; Sequential and "
            "functional models are read, and jaxdeep.adapters.from_keras_model runs any other"
        )
    read = _nested(archive.config, "", archive.variables)
    check_fit(read.model, read.params, read.state)
    _try_out(read, archive.config)
    return read


def _nested(config: Config, path: str, variables: Variables) -> _Read:
    """A model inside a model, or the outermost."""
    arguments = config["config"]
    if config["class_name"] == "Sequential":
        layers = [one for one in arguments["layers"] if one["class_name"] != "InputLayer"]
        parts = {layer_name(one): part for one, part in _parts(layers, path, variables)}
        _check_rows_in_a_row(layers, parts, _input_shape(config))
        return _together(nn.serial(**{n: part.model for n, part in parts.items()}), parts, arguments)
    return _functional(arguments, path, variables)


def _input_shape(config: Config) -> Sequence[int | None] | None:
    """The shape of the input of a Sequential, if the description has it."""
    first = config["config"]["layers"][:1]
    shapes = [one["config"].get("batch_shape") for one in first if one["class_name"] == "InputLayer"]
    shapes += [(one.get("build_config") or {}).get("input_shape") for one in (config, *first)]
    return next((shape for shape in shapes if shape and is_shape(shape)), None)


def _check_rows_in_a_row(
    layers: Sequence[Config], parts: Mapping[str, _Read], shape: Sequence[int | None] | None
) -> None:
    """Refuse a layer of a Sequential over the rows, where only the layers before say which axis that is.

    The description has no shapes for layers without variables.
    """
    for place, one in enumerate(layers):
        axes = jax.tree.leaves(one["config"].get("axis"))
        if shape is None or not any(type(axis) is int and axis < -1 for axis in axes):
            continue
        before = {name: parts[name] for name in map(layer_name, layers[:place]) if name in parts}
        with _of(one):
            check_rows(one["class_name"], one["config"], _axes_behind(before, shape))


def _axes_behind(parts: Mapping[str, _Read], shape: Sequence[int | None]) -> int | None:
    """The number of axes behind layers one after another; None where they do not take such an input."""
    whole = _together(nn.serial(**{name: part.model for name, part in parts.items()}), parts, {})
    sizes = (2, *(size or _SOME for size in shape[1:]))
    for dtype in (np.float32, np.int32):  # an Embedding takes whole numbers
        x = jax.ShapeDtypeStruct(sizes, dtype)
        with contextlib.suppress(TypeError, ValueError):
            return jax.eval_shape(whole.model.apply, whole.params, whole.state, x)[0].ndim
    return None


_SOME = 64  # of an axis that may have any size


def _parts(layers: Sequence[Config], path: str, variables: Variables) -> Iterator[tuple[Config, _Read]]:
    """Each layer of a model that is no operation; in the file they go by class and count."""
    seen: dict[str, int] = {}
    for config in layers:
        if _is_operation(config):
            continue
        kind = snake(config["class_name"])
        count = seen[kind] = seen.get(kind, -1) + 1
        here = f"{path}layers/{kind}{f'_{count}' if count else ''}"
        if config["class_name"] == "InputLayer":
            continue
        with _of(config):
            yield config, _part(config, here, variables)


def _part(config: Config, path: str, variables: Variables) -> _Read:
    if config["class_name"] in NESTED:
        return _nested(config, f"{path}/", variables)
    registered = config.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        raise ValueError(f"is a {registered}, a class of its own, whose code no file holds")
    arguments = config["config"]
    shape = (config.get("build_config") or {}).get("input_shape")
    there = variables.get(path, [])
    if isinstance(shape, list) and shape and isinstance(shape[0], list):  # of several inputs
        shape = shape[0]
    spec = LayerSpec(arguments, there, shape if is_shape(shape) else None)
    try:
        made = layer_of(config["class_name"], spec)
    except ValueError as error:
        if not there and " variables (" in str(error):
            if not variables:
                raise ValueError(
                    "source must be built, and no layer has variables: call the model on an input "
                    "first, and save it anew if it is in a file"
                ) from None
            if not config.get("build_config"):
                raise ValueError(
                    "is not built and has no variables: call the model on an input in Keras first"
                ) from None
            known = ", ".join(sorted(variables))
            raise ValueError(
                f"has its variables at {path}/vars, and there are {known}; those of a layer that two "
                "models inside each other share are at one of them only, which is not read"
            ) from None
        raise
    return _Read(*made, frozen=[] if arguments.get("trainable", True) else [()])


def _together(model: Model, parts: Mapping[str, _Read], config: Config) -> _Read:
    params: dict[str, PyTree] = {}
    state: dict[str, PyTree] = {}
    frozen: list[tuple[str, ...]] = [] if config.get("trainable", True) else [()]
    for name, part in parts.items():
        params |= under(name, part.params)
        state |= under(name, part.state)
        frozen += [(name, *names) for names in part.frozen]
    return _Read(model, params, state, frozen)


# --- functional models ------------------------------------------------------------------------------


def _functional(arguments: Config, path: str, variables: Variables) -> _Read:
    parts = {layer_name(one): part for one, part in _parts(arguments["layers"], path, variables)}
    inputs = [layer_name(one) for one in arguments["layers"] if one["class_name"] == "InputLayer"]
    calls: list[Call] = []
    nested = {
        layer_name(one) for one in arguments["layers"] if one["class_name"] in ("Functional", "Model")
    }
    for one in arguments["layers"]:
        with _of(one):
            nodes = one.get("inbound_nodes", [])
            if nodes and isinstance(nodes[0], list):
                raise ValueError(
                    "has its calls in the form of Keras 2: load the model in Keras 3 and save it"
                )
            for number, node in enumerate(nodes):
                calls.append(_call(one, number, node, parts))
    outer = history_of(arguments["input_layers"], nested), history_of(arguments["output_layers"], nested)
    taken = outer[0][0] if isinstance(outer[0], tuple) and len(outer[0]) == 1 else outer[0]
    calls = in_order(calls, inputs)
    if is_chain(calls, inputs, outer[1]):
        model = nn.serial(**{call.layer: parts[call.layer].model for call in calls})
        return _together(model, parts, arguments)
    if not calls:
        if outer[1] != taken or not isinstance(taken, Tensor):
            raise ValueError("source is a model without layers that does not put out its one input")
        return _together(nn.serial(), {}, arguments)
    names = names_of(calls, inputs)
    wired: dict[str, tuple[str, Names]] = {}
    for call in calls:
        taken_names = _named(call.taken, names, wired, parts)
        wired[names[call.out]] = (call.layer, taken_names)
    outputs = _named(outer[1], names, wired, parts)
    order = dict.fromkeys(layer for layer, _ in wired.values())
    layers = {name: parts[name].model for name in order}
    model = nn.graph(wired, outputs, _named(taken, names, wired, parts), **layers)
    return _together(model, {name: parts[name] for name in order}, arguments)


def _call(config: Config, number: int, node: Config, parts: dict[str, _Read]) -> Call:
    """One call of a layer. An operation becomes a layer here, since its arguments decide which."""
    name, args, kwargs = layer_name(config), list(node.get("args", [])), dict(node.get("kwargs", {}))
    training = kwargs.pop("training", None)
    others = {key: value for key, value in kwargs.items() if any(jax.tree.leaves(value))}
    if _is_operation(config):
        if number or others:
            raise NotKnownError(f"is an operation with the arguments {[*others]}, which are not known")
        check_together(args)
        tensors = [tensors_of(one) for one in args]
        rest = [None if tensor is not None else one for one, tensor in zip(args, tensors)]
        if any(_is_array(one) for one in rest):
            raise NotKnownError("is an operation on an array that is not part of the model")
        settings = {k: v for k, v in config["config"].items() if k not in ("name", "dtype")}
        parts[name] = _Read(*operation_of(config["class_name"], rest, settings, axes_of(args)))
        inputs = [one for one in tensors if one is not None]
        return Call(name, inputs[0] if len(inputs) == 1 else tuple(inputs), (name, number))
    # False is a default that is written down: where a model is told to train, Keras overrules it
    if training and any(
        place.layer.stochastic or place.layer.traits.norm for place in walk.leaves(parts[name].model)
    ):
        raise NotKnownError("is called with training=True, also where the model does not train")
    if others or len(args) != 1 or (taken := tensors_of(args[0])) is None:
        raise NotKnownError(
            f"is called with {len(args)} arguments and {[*others]}, and one input is known"
        )
    if isinstance(taken, tuple) and config["class_name"] not in NESTED:
        check_together(args)
    check_rows(config["class_name"], config["config"], axes_of(args))
    return Call(name, taken, (name, number))


def _named(
    tensors: Any,
    names: Mapping[tuple[str, int], str],
    wired: dict[str, tuple[str, Names]],
    parts: dict[str, _Read],
) -> Names:
    """The names of tensors. To take one of several outputs of a model, a `select` layer is added."""
    if isinstance(tensors, dict):
        return {key: _named(one, names, wired, parts) for key, one in tensors.items()}
    if not isinstance(tensors, Tensor):
        return tuple(_named(one, names, wired, parts) for one in tensors)
    if tensors.call not in names:
        layer, number = tensors.call
        raise ValueError(
            f"source: {CONFIG}: call {number} of layer {layer!r} is taken, and is not there"
        )
    name, wires = names[tensors.call], None
    if tensors.call[0] in parts:
        wires = parts[tensors.call[0]].model.traits.wires
    if wires is None or isinstance(wires.outputs, str):
        return name
    several = wires.outputs
    keys: Any = sorted(several) if isinstance(several, dict) else range(len(several))
    key = list(keys)[tensors.place]
    chosen = f"{name}[{key}]"
    layer = f"select[{key!r}]".replace("/", "_")
    parts.setdefault(layer, _Read(nn.select(key), {}, {}))
    wired.setdefault(chosen, (layer, name))
    return chosen


# --- what they share --------------------------------------------------------------------------------


class _of:
    """Put the class and the name of a layer in front of an error."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, (ValueError, TypeError, LookupError, AttributeError)):
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            if isinstance(error, AttributeError):
                reason = f"has an argument of another kind than Keras writes: {error}"
            raise ValueError(
                f"{self.config['class_name']} {layer_name(self.config)!r}: {reason}"
            ) from error


def _is_array(argument: Any) -> bool:
    """Whether this is an array of numbers that a description holds beside the layers."""
    return isinstance(argument, dict) and argument.get("class_name") in ("__tensor__", "__numpy__")


def _is_operation(config: Config) -> bool:
    module = config.get("module") or ""
    return module.startswith(("keras.src.ops", "keras.ops"))


def snake(name: str) -> str:
    """A class as Keras names it in the files.

    >>> snake("PReLU"), snake("Conv2DTranspose"), snake("BatchNormalization")
    ('p_re_lu', 'conv2d_transpose', 'batch_normalization')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _try_out(read: _Read, config: Config) -> None:
    """Trace the model for an input of the shapes in the description, where these are known."""
    layers = config["config"]["layers"]
    input_layers = {
        layer_name(one): one["config"] for one in layers if one["class_name"] == "InputLayer"
    }

    def example(shape: Sequence[int | None], dtype: str) -> jax.ShapeDtypeStruct:
        try:
            input_dtype = jnp.dtype(dtype)
        except TypeError:
            raise ValueError(f"source: {CONFIG}: an input has dtype {dtype!r}, which is none") from None
        return jax.ShapeDtypeStruct((2, *(size or 0 for size in shape[1:])), input_dtype)

    shapes = {
        name: example(arguments["batch_shape"], arguments.get("dtype") or "float32")
        for name, arguments in input_layers.items()
        if is_shape(arguments.get("batch_shape"))
    }
    if not shapes or len(shapes) < len(input_layers) or any(0 in like.shape for like in shapes.values()):
        return

    def of(names: Names, whole: Collection[str]) -> PyTree:
        if isinstance(names, str):
            like = shapes[names]
            return jax.ShapeDtypeStruct(like.shape, np.int32) if names in whole else like
        if isinstance(names, dict):
            return {key: of(one, whole) for key, one in names.items()}
        return tuple(of(one, whole) for one in names)

    wires = read.model.traits.wires
    inputs = next(iter(shapes)) if wires is None else wires.inputs
    refusal: Exception | None = None
    for whole in _whole_numbers(shapes):
        try:
            jax.eval_shape(read.model.apply, read.params, read.state, of(inputs, whole))
            return
        except (TypeError, ValueError) as error:  # of other layers, too, where they get whole numbers
            if refusal is None and "embedding needs integers" not in str(error):
                raise
            refusal = refusal or error
    assert refusal is not None
    raise ValueError(
        "source has an Embedding whose numbers are floats: give its input whole numbers in Keras, "
        'keras.Input(…, dtype="int32")'
    ) from refusal


def _whole_numbers(shapes: Mapping[str, jax.ShapeDtypeStruct]) -> Iterator[tuple[str, ...]]:
    """The inputs that may be whole numbers: none, or some that Keras, by default, calls floats.

    There an Embedding takes numbers of any kind.
    """
    floats = [name for name, like in shapes.items() if jnp.issubdtype(like.dtype, jnp.floating)]
    sizes = range(len(floats) + 1) if len(floats) <= _FEW else (0, 1, len(floats))
    for size in sizes:
        yield from itertools.combinations(floats, size)


_FEW = 6  # up to so many float inputs, all choices of them are tried
