"""Layers of jaxdeep as those of Keras: each by its kind, as a class, its arguments and its variables."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.adapters.keras_models.functions import name_of, of_jax
from jaxdeep.adapters.keras_models.layers import holds_rows, turned
from jaxdeep.adapters.keras_models.operations import OF_ARGUMENT, OF_ELEMENTS, OVER_AXES
from jaxdeep.nn.model import Model, lifting
from jaxdeep.nn.traits import Activation, unwrapped

Shape = tuple[int, ...]


class Written(NamedTuple):
    """A layer of Keras, or an operation.

    Attributes:
      class_name: its class.
      config: its arguments.
      variables: its variables, in Keras' order.
      module: where the class is; that of an operation is in ``keras.src.ops``.
      taken: what the call takes besides the tensor.
    """

    class_name: str
    config: dict[str, Any]
    variables: Sequence[Any] = ()
    module: str = "keras.layers"
    taken: Sequence[Any] = ()


class Layer(NamedTuple):
    """A layer of jaxdeep with its arrays and the shape of its input."""

    model: Model
    params: Mapping[str, Any]
    state: Mapping[str, Any]
    shape: Shape

    def get(self, name: str, default: Any = None) -> Any:
        """An argument; a default where it is left out."""
        return self.model.config.get(name, default)

    def only(self, **allowed: Any) -> None:
        """Refuse an argument that is not what is allowed for it."""
        for name, value in allowed.items():
            if self.get(name, value) != value:
                raise ValueError(f"has {name}={self.get(name)!r}, which Keras does not have")

    def number(self, name: str, default: Any = None) -> float:
        """A number that is known, and not traced."""
        value = _checks.known_value(self.get(name, default))
        if value is None:
            raise ValueError(f"has {name}={self.get(name)!r}, whose value is not known")
        return float(value)

    @property
    def space(self) -> int:
        """The number of axes of space of its input."""
        return len(self.shape) - 2


def layers_of(model: Model, params: PyTree, state: PyTree, shape: Shape) -> list[Written]:
    """The layers of Keras, one after another, that are a layer of jaxdeep.

    Raises:
      ValueError: Keras has no such layer, or not with these arguments.

    >>> import jaxdeep as jd
    >>> layers_of(jd.nn.dropout(0.5), {}, {}, (None, 3))[0].class_name
    'Dropout'
    """
    if model.kind not in KINDS:
        raise ValueError(f"is a {model.kind}, which Keras does not have{lifting(model)}")
    for name, leaf in {**params, **state}.items():
        if leaf.dtype != np.float32:
            raise ValueError(f"has a {name} of {leaf.dtype}, and float32 is written")
    return KINDS[model.kind](Layer(model, params, state, shape))


def _sized(sizes: Any, space: int) -> list[int]:
    return [int(n) for n in sizes] if isinstance(sizes, Sequence) else [int(sizes)] * space


def _finish(layer: Layer) -> tuple[dict[str, Any], list[Written]]:
    """The arguments of the activation and the bias, and the activation as a layer if it has no name."""
    function = layer.get("activation")
    name = name_of(function)
    behind = [] if name is not None else [_of_function(function)]
    return {"activation": name or "linear", "use_bias": layer.get("use_bias", True)}, behind


def _dense(layer: Layer) -> list[Written]:
    finish, behind = _finish(layer)
    config = {"units": layer.get("features"), **finish}
    return [Written("Dense", config, _found(layer.params, "kernel", "bias")), *behind]


def _found(arrays: Mapping[str, Any], *names: str) -> list[Any]:
    return [arrays[name] for name in names if name in arrays]


def _padded(layer: Layer) -> tuple[str, list[Written]]:
    """The padding, and that by hand as a layer in front."""
    padding = layer.get("padding", "SAME" if layer.model.kind.startswith("conv") else "VALID")
    if isinstance(padding, str):
        return padding.lower(), []
    return "valid", _zeros(padding)


def _conv(layer: Layer) -> list[Written]:
    space, groups = layer.space, layer.get("groups", 1)
    padding, before = _padded(layer)
    finish, behind = _finish(layer)
    config = {
        "kernel_size": _sized(layer.get("kernel_size"), space),
        "strides": _sized(layer.get("strides", 1), space),
        "dilation_rate": _sized(layer.get("dilation", 1), space),
        "padding": padding,
        **finish,
    }
    if max(config["strides"]) > 1 and max(config["dilation_rate"]) > 1:
        raise ValueError("has strides and a dilation above 1, which Keras does not have together")
    kernel, bias = layer.params["kernel"], _found(layer.params, "bias")
    # A depthwise convolution: some filters for each channel.
    if groups > 1 and kernel.shape[-2] == 1 and space < 3:
        *sizes, _, filters = kernel.shape
        config["depth_multiplier"] = filters // groups
        by_channel = np.reshape(kernel, (*sizes, groups, filters // groups))
        return [*before, Written(f"DepthwiseConv{space}D", config, [by_channel, *bias]), *behind]
    config |= {"filters": layer.get("filters"), "groups": groups}
    return [*before, Written(f"Conv{space}D", config, [kernel, *bias]), *behind]


def _conv_transpose(layer: Layer) -> list[Written]:
    space = layer.space
    finish, behind = _finish(layer)
    config = {
        "filters": layer.get("filters"),
        "kernel_size": _sized(layer.get("kernel_size"), space),
        "strides": _sized(layer.get("strides", 1), space),
        "dilation_rate": _sized(layer.get("dilation", 1), space),
        "padding": layer.get("padding", "SAME").lower(),
        **finish,
    }
    kernel = turned(jax.numpy.asarray(layer.params["kernel"]))
    transposed = Written(f"Conv{space}DTranspose", config, [kernel, *_found(layer.params, "bias")])
    return [transposed, *behind]


def _embedding(layer: Layer) -> list[Written]:
    config = {"input_dim": layer.get("num_embeddings"), "output_dim": layer.get("features")}
    return [Written("Embedding", config, [layer.params["table"]])]


def _center_and_scale(layer: Layer) -> dict[str, Any]:
    return {"scale": layer.get("use_scale", True), "center": layer.get("use_bias", True)}


def _batch_norm(layer: Layer) -> list[Written]:
    layer.only(unbiased_running_var=False)
    axis = layer.get("axis", -1)
    axes = axis if isinstance(axis, tuple) else (axis,)
    if len(axes) != 1:
        raise ValueError(f"has axis={axis!r}, and Keras' keeps statistics along one axis")
    config = {
        "axis": int(axes[0]),
        "momentum": layer.number("momentum", 0.99),
        "epsilon": layer.number("epsilon", 1e-5),
        **_center_and_scale(layer),
    }
    variables = _found({**layer.params, **layer.state}, "scale", "bias", "mean", "var")
    return [Written("BatchNormalization", config, variables)]


def _axes(layer: Layer) -> list[int]:
    axis = layer.get("axis", -1)
    return [int(a) for a in axis] if isinstance(axis, tuple) else [int(axis)]


def _layer_norm(layer: Layer) -> list[Written]:
    config = {"axis": _axes(layer), "epsilon": layer.number("epsilon", 1e-6)}
    variables = _found(layer.params, "scale", "bias")
    return [Written("LayerNormalization", config | _center_and_scale(layer), variables)]


def _group_norm(layer: Layer) -> list[Written]:
    config = {"groups": layer.get("groups", 32), "epsilon": layer.number("epsilon", 1e-6)}
    variables = _found(layer.params, "scale", "bias")
    return [Written("GroupNormalization", config | _center_and_scale(layer), variables)]


def _rms_norm(layer: Layer) -> list[Written]:
    layer.only(use_scale=True)
    config = {"axis": _axes(layer), "epsilon": layer.number("epsilon", 1e-6)}
    return [Written("RMSNormalization", config, [layer.params["scale"]])]


def _activation(layer: Layer) -> list[Written]:
    return [_of_function(layer.get("function"))]


def _of_function(function: Activation) -> Written:
    """An activation function as a layer of Keras."""
    if (name := name_of(function)) is not None:
        return Written("Activation", {"activation": name})
    function = of_jax(function)
    inside, keywords = unwrapped(function), getattr(function, "keywords", {})
    plain = isinstance(function, functools.partial) and not function.args
    if inside is function is jax.nn.leaky_relu:
        return Written("LeakyReLU", {"negative_slope": 0.01})
    if inside is jax.nn.leaky_relu and plain and set(keywords) == {"negative_slope"}:
        return Written("LeakyReLU", {"negative_slope": float(keywords["negative_slope"])})
    if inside is jax.nn.elu and plain and set(keywords) <= {"alpha"}:
        return Written("ELU", {"alpha": float(keywords["alpha"])})
    if inside is jax.nn.softmax and plain and set(keywords) <= {"axis"}:
        return Written("Softmax", {"axis": keywords["axis"]})
    for name, operation in OF_ELEMENTS.items():
        if function is operation:
            return Written(name, {}, module=_OPS_OF_NUMPY)
    for name, (argument, default, operation) in OF_ARGUMENT.items():
        is_alone = inside is function or (plain and set(keywords) <= {argument})
        value = keywords.get(argument, default)
        # of several axes Keras does not load its own log_softmax, whose tuple is a list in the file
        if inside is operation and is_alone and not isinstance(value, tuple):
            return Written(name, {argument: value}, module=_OPS_OF_NN)
    raise ValueError(
        f"has the function {function!r}, for which Keras has no name, or none with these arguments"
    )


_OPS_OF_NUMPY, _OPS_OF_NN = "keras.src.ops.numpy", "keras.src.ops.nn"


def _listed(argument: Any) -> Any:
    return list(argument) if isinstance(argument, tuple) else argument


def _get_item(layer: Layer) -> list[Written]:
    """All rows, and of each a part."""
    rows = (None, None, None)
    key = [
        {"class_name": "__slice__", "config": dict(zip(("start", "stop", "step"), place))}
        if isinstance(place, tuple)
        else place
        for place in (rows, *layer.get("parts"))
    ]
    return [Written("GetItem", {}, module=_OPS_OF_NUMPY, taken=[key])]


def _lambda(layer: Layer) -> list[Written]:
    """A mean, a sum or an extreme over axes; what else a function does, nobody knows."""
    function = layer.get("function")
    inside, keywords = unwrapped(function), getattr(function, "keywords", {})
    name = next((name for name, over_axes in OVER_AXES.items() if inside is over_axes), None)
    axis, keepdims = keywords.get("axis"), keywords.get("keepdims", False)
    if name is None:
        raise ValueError(
            f"has the function {function!r}, which is not written; "
            "functools.partial(jax.numpy.mean, axis=1), also of sum, max and min, and "
            "jaxdeep.nn.get_item for slices are"
        )
    is_known = set(keywords) <= {"axis", "keepdims"} and isinstance(keepdims, bool)
    if not is_known or function.args or holds_rows(_listed(axis), len(layer.shape)):
        raise ValueError(
            f"has the function {function!r}, and of such are written those over axes other than the "
            "batch's, by axis= and keepdims= alone"
        )
    return [Written(name, {"axis": _listed(axis), "keepdims": keepdims}, module=_OPS_OF_NUMPY)]


def _prelu(layer: Layer) -> list[Written]:
    axes = [a % len(layer.shape) for a in layer.get("shared_axes", ())]
    return [Written("PReLU", {"shared_axes": axes or None}, [layer.params["alpha"]])]


def _dropout(layer: Layer) -> list[Written]:
    shape = layer.get("noise_shape")
    config = {"rate": layer.number("rate"), "noise_shape": None if shape is None else list(shape)}
    return [Written("Dropout", config)]


def _pool(name: str) -> Callable[[Layer], list[Written]]:
    def pool(layer: Layer) -> list[Written]:
        window = layer.get("window", 2)
        padding = layer.get("padding", "VALID")
        if not isinstance(padding, str):
            raise ValueError(f"has padding={padding!r}, and Keras' pools have 'same' and 'valid'")
        config = {
            "pool_size": _sized(window, layer.space),
            "strides": _sized(layer.get("strides") or window, layer.space),
            "padding": padding.lower(),
        }
        return [Written(f"{name}{layer.space}D", config)]

    return pool


def _reshape(layer: Layer) -> list[Written]:
    sizes = list(layer.get("sizes"))
    rest = math.prod(layer.shape[1:]) // max(1, math.prod(n for n in sizes if n != -1))
    return [Written("Reshape", {"target_shape": [rest if n == -1 else n for n in sizes]})]


def _resize(layer: Layer) -> list[Written]:
    sizes, method = layer.get("sizes"), layer.get("method", "bilinear")
    known = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
    if len(sizes) != 2 or method not in known or len(layer.shape) != 4:
        raise ValueError(
            f"has sizes={sizes!r} and method={method!r}; Keras' takes (batch, height, width, channels) "
            f"and one of {', '.join(known)}"
        )
    config = {"height": sizes[0], "width": sizes[1], "interpolation": method}
    return [Written("Resizing", config | {"antialias": layer.get("antialias", True)})]


def _zeros(padding: Any) -> list[Written]:
    pairs = [[int(n) for n in pair] for pair in padding]
    return [Written(f"ZeroPadding{len(pairs)}D", {"padding": pairs[0] if len(pairs) == 1 else pairs})]


def _zero_padding(layer: Layer) -> list[Written]:
    padding = layer.get("padding", 1)
    return _zeros(((padding, padding),) * layer.space if isinstance(padding, int) else padding)


def _rescale(layer: Layer) -> list[Written]:
    layer.only(low=None, high=None)
    numbers = {name: layer.get(name, default) for name, default in (("scale", 1.0), ("offset", 0.0))}
    config = {
        name: list(value) if isinstance(value, tuple) else value for name, value in numbers.items()
    }
    return [Written("Rescaling", config)]


def _merge(layer: Layer) -> list[Written]:
    how = layer.get("how", "add")
    return [Written(how.capitalize(), {"axis": layer.get("axis", -1)} if how == "concatenate" else {})]


def _plain(name: str, **arguments: str) -> Callable[[Layer], list[Written]]:
    """A class whose arguments are numbers by other names."""
    return lambda layer: [
        Written(name, {k: layer.number(argument) for k, argument in arguments.items()})
    ]


def _global(name: str) -> Callable[[Layer], list[Written]]:
    return lambda layer: [Written(f"{name}{layer.space}D", {})]


KINDS: Mapping[str, Callable[[Layer], list[Written]]] = {
    "activation": _activation,
    "alpha_dropout": _plain("AlphaDropout", rate="rate"),
    "average_pool": _pool("AveragePooling"),
    "batch_norm": _batch_norm,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "dense": _dense,
    "dropout": _dropout,
    "embedding": _embedding,
    "flatten": lambda layer: [Written("Flatten", {})],
    "of_size": lambda layer: [],  # that of the input is the example's
    "get_item": _get_item,
    "lambda": _lambda,
    "gaussian_noise": _plain("GaussianNoise", stddev="stddev"),
    "global_average_pool": _global("GlobalAveragePooling"),
    "global_max_pool": _global("GlobalMaxPooling"),
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "max_pool": _pool("MaxPooling"),
    "merge": _merge,
    "prelu": _prelu,
    "rescale": _rescale,
    "reshape": _reshape,
    "resize": _resize,
    "rms_norm": _rms_norm,
    "zero_padding": _zero_padding,
}
"""What becomes of each kind of layer; combinators are wires, and not among them."""
