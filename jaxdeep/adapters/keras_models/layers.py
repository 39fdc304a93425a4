"""Layers of Keras as layers of jaxdeep: each by its class, from its description and its variables."""

import functools
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import nn
from jaxdeep._shapes import PyTree
from jaxdeep.adapters.keras_models.archive import Config
from jaxdeep.adapters.keras_models.functions import NotKnownError, activation_of
from jaxdeep.nn.model import Model

_EPSILON = 1e-7  # keras.backend.epsilon()


class LayerSpec(NamedTuple):
    """A layer in a description.

    Attributes:
      config: its arguments.
      variables: its variables, in Keras' order.
      shape: the shape of its input, if the description has it.
    """

    config: Config
    variables: Sequence[np.ndarray]
    shape: Sequence[int | None] | None = None

    def get(self, name: str, default: Any = None, kind: type | None = None) -> Any:
        """An argument; a default where it is missing.

        Args:
          kind: what it must be, by default as the default is: `bool`, `str`, or numbers (`int`, `float`)
            and lists of them.
        """
        value = self.config.get(name, default)
        kind = type(default) if kind is None and default is not None else kind
        if value is None and kind is not bool:
            return default
        if kind is not None and not _is_of(value, kind):
            raise ValueError(f"has {name}={value!r}, which must be {_WORDS[kind]}")
        return value

    def named(self, *names: str | None) -> dict[str, jax.Array]:
        """The variables of the layer, in order, by these names; None is one that it does not have."""
        wanted = [name for name in names if name is not None]
        if len(wanted) != len(self.variables):
            shapes = [v.shape for v in self.variables]
            raise ValueError(
                f"has {len(wanted)} variables ({', '.join(wanted)}), and the file {len(shapes)}: "
                f"{shapes}"
            )
        return {name: jnp.asarray(v) for name, v in zip(wanted, self.variables)}

    def only(self, **allowed: Any) -> None:
        """Refuse an argument that is there and is none of what is allowed for it."""
        for name, value in allowed.items():
            values = value if isinstance(value, tuple) else (value,)
            if name in self.config and self.config[name] not in values:
                raise NotKnownError(f"has {name}={self.config[name]!r}, which jaxdeep does not have")

    def channels_last(self) -> None:
        """Refuse a layer that takes arrays with the channels first."""
        if (order := self.get("data_format", kind=str)) == "channels_first":
            raise ValueError(
                "has data_format='channels_first', and jaxdeep's arrays are channels-last: build the "
                "model so in Keras, with the rows of a Dense behind Flatten in that order"
            )
        if order not in (None, "channels_last"):
            raise ValueError(f"has data_format={order!r}, which is neither order of axes in Keras")


_WORDS = {
    bool: "true or false",
    str: "a text",
    int: "a whole number, or a list of them",
    float: "a number, or a list of them",
}


def _is_of(value: Any, kind: type) -> bool:
    if isinstance(value, list) and kind in (int, float):
        return all(one is None or _is_of(one, kind) for one in value)
    if isinstance(value, bool) or kind is not float:
        return type(value) is kind
    return isinstance(value, int | float)


class Made(NamedTuple):
    """A layer with its parameters and its state."""

    model: Model
    params: PyTree = types.MappingProxyType({})
    state: PyTree = types.MappingProxyType({})


def layer_of(class_name: str, spec: LayerSpec) -> Made:
    """The layer of a class of Keras.

    Raises:
      ValueError: a class or an argument that jaxdeep has not, by its name; variables that do not fit.

    >>> layer_of("Dropout", LayerSpec({"rate": 0.5}, [])).model
    dropout(rate=0.5)
    """
    if class_name not in LAYERS:
        raise NotKnownError(f"is a {class_name}, which jaxdeep does not have")
    dtype = spec.get("dtype")
    policy = dtype.get("config", {}).get("name") if isinstance(dtype, Mapping) else dtype
    if policy not in (None, "float32") and class_name not in _ANY_DTYPE:
        raise NotKnownError(f"has dtype {policy!r}, and layers of float32 are read")
    spec.only(quantization_config=None, lora_rank=None)
    spec.channels_last()
    check_rows(class_name, spec.config, None if spec.shape is None else len(spec.shape))
    made = LAYERS[class_name](spec)
    for v in spec.variables:
        if v.dtype not in (np.float32, np.float64, np.int32, np.int64):
            raise NotKnownError(f"has a variable of {v.dtype}, and those of float32 are read")
    return made


_ALONG_AN_AXIS = (
    *("Softmax", "Concatenate", "Normalization"),
    *(f"{kind}Normalization" for kind in ("Batch", "Layer", "Group", "RMS")),
)


def check_rows(class_name: str, config: Config, axes: int | None) -> None:
    """Refuse a layer that goes over the rows of a batch, which a model of jaxdeep keeps.

    Args:
      class_name, config: of the layer.
      axes: the number of axes of its input, if it is known.

    Raises:
      ValueError: it does.

    >>> check_rows("Softmax", {"axis": -2}, 3)
    """
    axis = config.get("axis", -1)
    along = class_name in _ALONG_AN_AXIS or config.get("activation") in ("softmax", "log_softmax")
    if not along or (class_name == "Normalization" and axis is None):
        return  # without an axis, a Normalization has one mean for all numbers
    if holds_rows(axis, axes):
        raise NotKnownError(f"has axis={axis!r}, over the rows of a batch, which jaxdeep does not have")


def holds_rows(axis: Any, axes: int | None) -> bool:
    """Whether the first axis, that of the rows of a batch, is among these; None is all of them."""
    several = axis if isinstance(axis, list) else [axis]
    first = (0, None) if axes is None else (0, -axes, None)
    return any(number in first for number in several)


def plain(value: Any) -> Any:
    """An argument with tuples in place of lists."""
    return tuple(plain(one) for one in value) if isinstance(value, list) else value


# --- layers of weights ------------------------------------------------------------------------------


def _bias(spec: LayerSpec) -> str | None:
    return "bias" if spec.get("use_bias", True) else None


def _dense(spec: LayerSpec) -> Made:
    bias, function = _bias(spec), activation_of(spec.get("activation"))
    layer = nn.dense(spec.get("units", kind=int), activation=function, use_bias=bias is not None)
    return Made(layer, spec.named("kernel", bias))


def _shared_by_convolutions(spec: LayerSpec) -> dict[str, Any]:
    padding = spec.get("padding", "valid")
    if padding not in ("same", "valid"):
        raise NotKnownError(f"has padding={padding!r}, and 'same' and 'valid' are known")
    return {
        "strides": plain(spec.get("strides", 1)),
        "padding": padding.upper(),
        "dilation": plain(spec.get("dilation_rate", 1)),
    }


def _finish(spec: LayerSpec) -> dict[str, Any]:
    return {
        "activation": activation_of(spec.get("activation")),
        "use_bias": spec.get("use_bias", True),
    }


def _conv(spec: LayerSpec) -> Made:
    size, groups = plain(spec.get("kernel_size", kind=int)), spec.get("groups", 1)
    options = {**_shared_by_convolutions(spec), **_finish(spec)}
    layer = nn.conv(spec.get("filters", kind=int), size, groups=groups, **options)
    return Made(layer, spec.named("kernel", _bias(spec)))


def _by_channel(kernel: jax.Array) -> tuple[jax.Array, int]:
    """A kernel ``(…, channels, multiplier)`` as that of a convolution in groups, and their number."""
    *space, channels, multiplier = kernel.shape
    return kernel.reshape(*space, 1, channels * multiplier), channels


def _depthwise(spec: LayerSpec) -> Made:
    params = spec.named("kernel", _bias(spec))
    params["kernel"], channels = _by_channel(params["kernel"])
    options = {**_shared_by_convolutions(spec), **_finish(spec)}
    size, filters = plain(spec.get("kernel_size", kind=int)), params["kernel"].shape[-1]
    return Made(nn.conv(filters, size, groups=channels, **options), params)


def _separable(spec: LayerSpec) -> Made:
    params = spec.named("depthwise", "pointwise", _bias(spec))
    kernel, channels = _by_channel(params.pop("depthwise"))
    pointwise = {"kernel": params.pop("pointwise"), **params}
    size, shared = plain(spec.get("kernel_size", kind=int)), _shared_by_convolutions(spec)
    layer = nn.serial(
        depthwise=nn.conv(kernel.shape[-1], size, groups=channels, use_bias=False, **shared),
        pointwise=nn.conv(spec.get("filters", kind=int), 1, **_finish(spec)),
    )
    return Made(layer, {"depthwise": {"kernel": kernel}, "pointwise": pointwise})


def _conv_transpose(spec: LayerSpec) -> Made:
    spec.only(output_padding=None)
    options = {**_shared_by_convolutions(spec), **_finish(spec)}
    layer = nn.conv_transpose(
        spec.get("filters", kind=int), plain(spec.get("kernel_size", kind=int)), **options
    )
    params = spec.named("kernel", _bias(spec))
    return Made(layer, {**params, "kernel": turned(params["kernel"])})


def turned(kernel: jax.Array) -> jax.Array:
    """A kernel turned in space and with its last two axes swapped: Keras' transposed, or back again."""
    return jnp.flip(kernel, range(kernel.ndim - 2)).swapaxes(-1, -2)


def _embedding(spec: LayerSpec) -> Made:
    spec.only(mask_zero=False)
    layer = nn.embedding(*(spec.get(name, kind=int) for name in ("input_dim", "output_dim")))
    return Made(layer, spec.named("table"))


# --- norms ------------------------------------------------------------------------------------------


def _scale_and_bias(spec: LayerSpec) -> tuple[dict[str, Any], list[str | None]]:
    scale, bias = spec.get("scale", True), spec.get("center", True)
    names = ["scale" if scale else None, "bias" if bias else None]
    return {"use_scale": scale, "use_bias": bias}, names


def _batch_norm(spec: LayerSpec) -> Made:
    spec.only(renorm=False)
    flags, names = _scale_and_bias(spec)
    layer = nn.batch_norm(
        momentum=spec.get("momentum", 0.99),
        epsilon=spec.get("epsilon", 1e-3),
        axis=plain(spec.get("axis", -1)),
        **flags,
    )
    arrays = spec.named(*names, "mean", "var")
    state = {name: arrays.pop(name) for name in ("mean", "var")}
    return Made(layer, arrays, state)


def _layer_norm(spec: LayerSpec) -> Made:
    spec.only(rms_scaling=False)
    flags, names = _scale_and_bias(spec)
    axis = plain(spec.get("axis", -1))
    layer = nn.layer_norm(epsilon=spec.get("epsilon", 1e-3), axis=axis, **flags)
    return Made(layer, spec.named(*names))


def _group_norm(spec: LayerSpec) -> Made:
    flags, names = _scale_and_bias(spec)
    params, groups = spec.named(*names), spec.get("groups", 32)
    last = (-1,) if spec.shape is None else (-1, len(spec.shape) - 1)
    spec.only(axis=last)
    if groups == -1:
        sizes = [p.shape[-1] for p in params.values()] or list(spec.shape or ())[-1:]
        if not sizes or not sizes[0]:
            raise ValueError("has groups=-1, and nothing says how many channels there are")
        groups = sizes[0]
    return Made(nn.group_norm(groups, epsilon=spec.get("epsilon", 1e-3), **flags), params)


def _rms_norm(spec: LayerSpec) -> Made:
    axis = plain(spec.get("axis", -1))
    return Made(nn.rms_norm(epsilon=spec.get("epsilon", 1e-6), axis=axis), spec.named("scale"))


def _normalization(spec: LayerSpec) -> Made:
    """``(x − mean) / √variance`` of statistics found beforehand, which are numbers of the layer."""
    if spec.variables:
        arrays = spec.named("mean", "variance", "count")
        mean, variance = (np.asarray(arrays[name], np.float64) for name in ("mean", "variance"))
    else:
        statistics = [spec.get(name, kind=float) for name in ("mean", "variance")]
        if None in statistics:
            raise ValueError("has neither statistics nor variables: adapt it and save it anew")
        mean, variance = (np.asarray(one, np.float64) for one in statistics)
    axes = spec.get("axis", -1)
    axes = axes if isinstance(axes, list) else [axes]
    last = -1 if spec.shape is None else len(spec.shape) - 1
    if mean.ndim > 1 and math.prod(mean.shape[:-1]) == 1:
        mean, variance = mean.reshape(-1), variance.reshape(-1)
    if mean.ndim > 1 or (mean.ndim and axes not in ([-1], [last]) and mean.size > 1):
        raise NotKnownError(f"has axis={spec.get('axis')!r}, and numbers for the last axis are known")
    std = np.maximum(np.sqrt(variance.astype(np.float32)), np.float32(_EPSILON)).astype(np.float64)
    if spec.get("invert", False):
        return Made(nn.rescale(std.tolist(), mean.tolist()))
    return Made(nn.serial(shift=nn.rescale(1.0, (-mean).tolist()), scale=nn.rescale((1 / std).tolist())))


# --- layers without weights -------------------------------------------------------------------------


def _function(name: str) -> Callable[[LayerSpec], Made]:
    return lambda spec: _activation(LayerSpec({"activation": name}, spec.variables))


def _activation(spec: LayerSpec) -> Made:
    function = activation_of(spec.get("activation"))
    return Made(nn.serial() if function is None else nn.activation(function))


def _relu(spec: LayerSpec) -> Made:
    spec.only(threshold=0)
    slope, most = spec.get("negative_slope", 0.0), spec.get("max_value", kind=float)
    if most is None:
        leaky = functools.partial(jax.nn.leaky_relu, negative_slope=slope)
        return Made(nn.activation(leaky if slope else jax.nn.relu))
    if slope or most != 6:
        raise NotKnownError(f"has max_value={most!r} and negative_slope={slope!r}: 6 and 0 are known")
    return Made(nn.activation(jax.nn.relu6))


def _leaky_relu(spec: LayerSpec) -> Made:
    slope = spec.get("negative_slope", spec.get("alpha", 0.3))
    return Made(nn.activation(functools.partial(jax.nn.leaky_relu, negative_slope=float(slope))))


def _elu(spec: LayerSpec) -> Made:
    alpha = spec.get("alpha", 1.0)
    return Made(nn.activation(jax.nn.elu if alpha == 1 else functools.partial(jax.nn.elu, alpha=alpha)))


def _softmax(spec: LayerSpec) -> Made:
    axis = plain(spec.get("axis", -1))
    return Made(
        nn.activation(jax.nn.softmax if axis == -1 else functools.partial(jax.nn.softmax, axis=axis))
    )


def _prelu(spec: LayerSpec) -> Made:
    params = spec.named("alpha")
    return Made(nn.prelu(0.0, shared_axes=plain(spec.get("shared_axes", kind=int) or ())), params)


def _dropout(spec: LayerSpec) -> Made:
    return Made(
        nn.dropout(spec.get("rate", kind=float), noise_shape=plain(spec.get("noise_shape", kind=int)))
    )


def _spatial_dropout(space: int) -> Callable[[LayerSpec], Made]:
    return lambda spec: Made(
        nn.dropout(spec.get("rate", kind=float), noise_shape=(None, *(1,) * space, None))
    )


def _alpha_dropout(spec: LayerSpec) -> Made:
    spec.only(noise_shape=None)
    return Made(nn.alpha_dropout(spec.get("rate", kind=float)))


def _pool(make: Callable[..., Model]) -> Callable[[LayerSpec], Made]:
    def pool(spec: LayerSpec) -> Made:
        strides, padding = plain(spec.get("strides", kind=int)), spec.get("padding", "valid")
        return Made(make(plain(spec.get("pool_size", 2)), strides=strides, padding=padding.upper()))

    return pool


def _global_pool(make: Callable[[], Model], space: int) -> Callable[[LayerSpec], Made]:
    def pool(spec: LayerSpec) -> Made:
        if spec.get("keepdims", False):
            return Made(nn.serial(pool=make(), keepdims=nn.reshape(*(1,) * space, -1)))
        return Made(make())

    return pool


def _zero_padding(spec: LayerSpec) -> Made:
    padding = plain(spec.get("padding", kind=int))
    pairs = padding if isinstance(padding[0], tuple) else (padding,)
    return Made(nn.zero_padding(pairs))


def _rescaling(spec: LayerSpec) -> Made:
    numbers = [spec.get("scale"), spec.get("offset", 0.0)]
    if any(isinstance(one, Mapping) for one in numbers):
        raise NotKnownError("has arrays as scale or offset, and numbers and lists of them are known")
    return Made(nn.rescale(*numbers))


def _resizing(spec: LayerSpec) -> Made:
    spec.only(crop_to_aspect_ratio=False, pad_to_aspect_ratio=False)
    sizes = [spec.get(name, kind=int) for name in ("height", "width")]
    method = spec.get("interpolation", "bilinear")
    return Made(nn.resize(*sizes, method=method, antialias=spec.get("antialias", False)))


def _merge(how: str) -> Callable[[LayerSpec], Made]:
    return lambda spec: Made(nn.merge(how))


def _concatenate(spec: LayerSpec) -> Made:
    return Made(nn.merge("concatenate", axis=spec.get("axis", -1)))


LAYERS: Mapping[str, Callable[[LayerSpec], Made]] = {
    "Dense": _dense,
    **{f"Conv{n}D": _conv for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": _depthwise for n in (1, 2)},
    **{f"SeparableConv{n}D": _separable for n in (1, 2)},
    **{f"Conv{n}DTranspose": _conv_transpose for n in (1, 2, 3)},
    "Embedding": _embedding,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "RMSNormalization": _rms_norm,
    "Normalization": _normalization,
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "Softmax": _softmax,
    "PReLU": _prelu,
    "Dropout": _dropout,
    **{f"SpatialDropout{n}D": _spatial_dropout(n) for n in (1, 2, 3)},
    "AlphaDropout": _alpha_dropout,
    "GaussianNoise": lambda spec: Made(nn.gaussian_noise(spec.get("stddev", kind=float))),
    **{f"MaxPooling{n}D": _pool(nn.max_pool) for n in (1, 2, 3)},
    **{f"AveragePooling{n}D": _pool(nn.average_pool) for n in (1, 2, 3)},
    **{f"GlobalMaxPooling{n}D": _global_pool(nn.global_max_pool, n) for n in (1, 2, 3)},
    **{f"GlobalAveragePooling{n}D": _global_pool(nn.global_average_pool, n) for n in (1, 2, 3)},
    "Flatten": lambda spec: Made(nn.flatten()),
    "Reshape": lambda spec: Made(nn.reshape(plain(spec.get("target_shape", kind=int)))),
    **{f"ZeroPadding{n}D": _zero_padding for n in (1, 2, 3)},
    "Rescaling": _rescaling,
    "Resizing": _resizing,
    "Identity": _function("linear"),
    "ActivityRegularization": _function("linear"),
    **{
        name: _merge(name.lower())
        for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
    },
    "Concatenate": _concatenate,
}
"""What becomes of each class, by its name in Keras."""

_ANY_DTYPE = ("Flatten", "Reshape", "Identity")
