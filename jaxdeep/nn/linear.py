"""Dense layers and the reshaping in front of them."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._arrays import as_array, whole
from jaxdeep._precision import extremes
from jaxdeep._shapes import Array, Arrays
from jaxdeep.nn import initializers
from jaxdeep.nn.activation_layers import activated, check_activates, check_activation
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.model import float_dtype
from jaxdeep.nn.traits import Activation, Linear, Shape, Traits, rows, same_axes

_STANDARD_NORMAL = initializers.normal(1.0)


@layer
def flatten() -> Layer:
    """Every example as one row: ``(batch, …) -> (batch, product of the rest)``.

    Raises:
      ValueError: a scalar.

    Source: Keras' `Flatten`.

    >>> import jax.numpy as jnp
    >>> flatten().apply({}, {}, jnp.ones((2, 28, 28)))[0].shape
    (2, 784)
    """

    def apply(x: Array) -> Array:
        if jnp.ndim(x) < 1:
            raise ValueError("flatten needs an x with a batch axis, got a scalar")
        return jnp.reshape(x, (x.shape[0], math.prod(x.shape[1:])))

    return Layer(apply, traits=Traits(shape=(-1,), axes=rows, keeps=True))


@layer
def reshape(*sizes: int | Sequence[int]) -> Layer:
    """Every example in another shape: ``(batch, …) -> (batch, *sizes)``.

    Args:
      sizes: of the axes after the batch, one by one or as one tuple; one may be −1.

    Raises:
      ValueError: more than one −1; sizes that do not fit the input.

    Source: Keras' `Reshape`.

    >>> import jax.numpy as jnp
    >>> reshape(28, -1, 1).apply({}, {}, jnp.ones((2, 784)))[0].shape
    (2, 28, 28, 1)
    >>> reshape((28, 28)).apply({}, {}, jnp.ones((2, 784)))[0].shape
    (2, 28, 28)
    """
    wanted = one_by_one(sizes, low=-1)
    if wanted.count(-1) > 1:
        raise ValueError(f"one size may be -1, got {wanted}")

    def apply(x: Array) -> Array:
        size, known = math.prod(jnp.shape(x)[1:]), math.prod(s for s in wanted if s != -1)
        full = tuple(size // max(known, 1) if s == -1 else s for s in wanted)
        if math.prod(full) != size:
            raise ValueError(f"reshape to {wanted} does not fit examples of shape {jnp.shape(x)[1:]}")
        return jnp.reshape(x, (jnp.shape(x)[0], *full))

    traits = Traits(shape=wanted, axes=lambda _: 1 + len(wanted), keeps=True)
    return Layer(apply, traits=traits, arguments={"sizes": wanted})


@layer
def of_size(*sizes: int | Sequence[int]) -> Layer:
    """Every example as it is, if it has this shape: ``(batch, *sizes) -> (batch, *sizes)``.

    `jaxdeep.adapters.lift` puts it in front of layers that do as their module does at one size alone.

    Args:
      sizes: of the axes after the batch, one by one or as one tuple.

    Raises:
      ValueError: examples of another shape.

    Source: Keras' `InputSpec`.

    >>> import jax.numpy as jnp
    >>> of_size(8, 8, 3).apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 8, 8, 3)
    """
    wanted = one_by_one(sizes)

    def apply(x: Array) -> Array:
        if jnp.shape(x)[1:] != wanted:
            raise ValueError(
                f"the model takes examples of shape {wanted} alone, got {jnp.shape(x)[1:]}: its layers "
                f"were made of a module by jaxdeep.adapters.lift with an example of {wanted}, and are "
                "not known to do as it does at other sizes; lift it again with an example of the size "
                "that it is used at"
            )
        return x

    return Layer(
        apply,
        traits=Traits(elementwise=True, axes=same_axes, keeps=True),
        arguments={"sizes": wanted},
    )


def one_by_one(sizes: Sequence[int | Sequence[int]], low: int = 1) -> Shape:
    """Sizes that were given one by one or as one tuple, checked."""
    unpacked = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], Sequence) else sizes
    return tuple(_checks.check_count("sizes", size, low=low) for size in unpacked)


@layer
def embedding(
    num_embeddings: int, features: int, *, embedding_init: initializers.Initializer | None = None
) -> Layer:
    """A vector for every whole number below `num_embeddings`: ``y = table[x]``.

    Integers of shape ``(…)`` become ``(…, features)``; parameter `table` is ``(num_embeddings,
    features)``.

    Args:
      num_embeddings: how many there are.
      features: length of a vector.
      embedding_init: ``(key, shape, dtype) -> array``; normal with standard deviation 0.05 (Keras:
        uniform on ±0.05, flax: LeCun's for `features`).

    Raises:
      ValueError: numbers outside ``[0, num_embeddings)``, as far as their values are known (traced
        ones give NaN).
      TypeError: inputs that are not integers.

    Source: semantics of `flax.linen.Embed`.

    >>> import jax, jax.numpy as jnp
    >>> layer = embedding(10, 3)
    >>> params, state = layer.init(jax.random.key(0), jnp.zeros(1, int))
    >>> layer.apply(params, state, jnp.array([[1, 2]]))[0].shape
    (1, 2, 3)
    """
    num_embeddings = _checks.check_count("num_embeddings", num_embeddings)
    features = _checks.check_count("features", features)
    _checks.check_functions(embedding_init=embedding_init)
    make = initializers.normal(0.05) if embedding_init is None else embedding_init

    def init(key: Array, x: jax.ShapeDtypeStruct) -> Arrays:
        check_integers(x.dtype)
        shape, dtype = (num_embeddings, features), jnp.result_type(float)
        return {"table": initializers.draw("embedding_init", make, key, shape, dtype)}

    def check_integers(dtype: DTypeLike) -> None:
        if not jnp.issubdtype(dtype, jnp.integer):
            raise TypeError(f"embedding needs integers, got an input x of {dtype}")

    def apply(params: Arrays, x: Array) -> Array:
        table = params["table"]
        numbers = as_array("x", x)
        check_integers(numbers.dtype)
        if not isinstance(numbers, jax.core.Tracer) and numbers.size:
            low, high = extremes(numbers)  # before it is cut to 32 bits
            if low < 0 or high >= table.shape[0]:
                raise ValueError(
                    f"embedding has {table.shape[0]} vectors, got numbers from {low} to {high} (in x; "
                    "the vectors are in params)"
                )
        x = whole("x", numbers)
        x = jnp.where(x < 0, table.shape[0], x)  # not counted from the end
        return jnp.take(table, x, axis=0, mode="fill", fill_value=jnp.nan)

    traits = Traits(
        linear=Linear("table", looks_up=True),
        axes=lambda ndim: None if ndim is None else ndim + 1,
        example=lambda shapes: ((1,), jnp.int32),
    )
    return Layer(apply, init, traits=traits)


@layer
def dense(
    features: int,
    *,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_init: initializers.Initializer | None = None,
    bias_init: initializers.Initializer = initializers.zeros,
) -> Layer:
    """A fully connected layer on the last axis: ``y = activation(x @ kernel + bias)``.

    ``(…, inputs) -> (…, features)``; `kernel` is ``(inputs, features)``, `bias` is ``(features,)``. The
    parameters take the dtype of the input it is initialised with (float32 for integers).

    Args:
      features: number of outputs.
      activation: function applied to the result; None for none.
      use_bias: False leaves the bias out (in front of a batch norm it has no effect).
      kernel_init: ``(key, shape, dtype) -> array``; by default the initialiser that suits
        `activation` (`initializers.initializer_for`).
      bias_init: likewise; zeros.

    Raises:
      ValueError: `features` below 1; an input whose last axis is not the one it was initialised for; an
        `activation` that changes the shape or mixes examples, as `jaxdeep.nn.activation` says.
      TypeError: `activation` or an initialiser that is not callable; an `activation` that is a layer or
        makes one, as `swish` does, whose function is `jaxdeep.nn.activations.swish`.

    Source: semantics of `flax.linen.Dense` and Keras' `Dense`.

    >>> import jax, jax.numpy as jnp
    >>> layer = dense(3, activation=jax.nn.relu)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> {name: leaf.shape for name, leaf in params.items()}
    {'kernel': (4, 3), 'bias': (3,)}
    >>> layer.apply(params, state, jnp.ones((2, 4)))[0].shape
    (2, 3)
    """
    features = _checks.check_count("features", features)
    make = kernel_and_bias(activation, use_bias, kernel_init, bias_init)

    def init(key: Array, x: jax.ShapeDtypeStruct) -> Arrays:
        return _drawn("dense", make, key, x, features, activation)

    def apply(params: Arrays, x: Array) -> Array:
        return finished(_product("dense", params["kernel"], x), params, use_bias, activation)

    return Layer(apply, init, traits=_dense_traits(features, activation, Linear("kernel")))


@layer
def ntk_dense(
    features: int,
    *,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_init: initializers.Initializer = _STANDARD_NORMAL,
    bias_init: initializers.Initializer = _STANDARD_NORMAL,
) -> Layer:
    """A fully connected layer in NTK parametrisation: ``y = activation(x @ kernel / √inputs + bias)``.

    All weights are drawn from N(0, 1), and the factor is part of the layer, not of the initialiser. What
    it computes at first is what `dense` does with LeCun's variance of 1 / inputs, but a step of the
    optimizer changes it by as much whatever the width: with Adam it is `dense` at a learning rate of
    η / √inputs. Shapes and parameters are those of `dense`; no tool takes its kernel for that of one.

    Args:
      features: number of outputs.
      activation: function applied to the result; None for none.
      use_bias: False leaves the bias out.
      kernel_init, bias_init: ``(key, shape, dtype) -> array``; N(0, 1). At the end of a network,
        `zeros` let it begin without an opinion.

    Raises:
      ValueError, TypeError: as `dense`.

    Source: Jacot, Gabriel & Hongler, "Neural Tangent Kernel" (arXiv:1806.07572), section 3; as in
    RealMLP, Holzmüller, Grinsztajn & Steinwart (arXiv:2407.04491).

    >>> layer = ntk_dense(3, activation=jax.nn.selu)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> x, plain = jnp.arange(8.0).reshape(2, 4), dense(3, activation=jax.nn.selu)
    >>> y, _ = plain.apply({**params, "kernel": params["kernel"] / 2}, {}, x)
    >>> bool(jnp.allclose(layer.apply(params, state, x)[0], y))
    True
    """
    features = _checks.check_count("features", features)
    _checks.check_functions(optional=False, kernel_init=kernel_init)
    make = kernel_and_bias(activation, use_bias, kernel_init, bias_init)

    def init(key: Array, x: jax.ShapeDtypeStruct) -> Arrays:
        return _drawn("ntk_dense", make, key, x, features, activation)

    def apply(params: Arrays, x: Array) -> Array:
        y = _product("ntk_dense", params["kernel"], x)
        return finished(y / math.sqrt(params["kernel"].shape[0]), params, use_bias, activation)

    return Layer(apply, init, traits=_dense_traits(features, activation))


def _drawn(
    kind: str,
    make: Callable[[Array, Shape, DTypeLike], Arrays],
    key: Array,
    x: jax.ShapeDtypeStruct,
    features: int,
    activation: Activation | None,
) -> Arrays:
    """The parameters for an input of these shapes, on which the activation is tried out."""
    if len(x.shape) < 1:
        raise ValueError(f"{kind} needs an x with an axis of features, got a scalar")
    inputs, dtype = x.shape[-1], float_dtype(x.dtype)
    if inputs < 1:
        raise ValueError(f"{kind} needs at least one feature, got an input of shape {x.shape}")
    if activation is not None:
        check_activates("activation", activation, jax.ShapeDtypeStruct((*x.shape[:-1], features), dtype))
    return make(key, (inputs, features), dtype)


def _product(kind: str, kernel: Array, x: Array) -> Array:
    """``x @ kernel``, refused where they do not fit."""
    if jnp.ndim(x) < 1 or jnp.shape(x)[-1] != kernel.shape[0]:
        raise ValueError(
            f"{kind} was initialised for {kernel.shape[0]} features, got an input x of shape "
            f"{jnp.shape(x)} (params: the kernel is {kernel.shape})"
        )
    return jnp.matmul(x, kernel)


def _dense_traits(features: int, activation: Activation | None, linear: Linear | None = None) -> Traits:
    return Traits(
        linear=linear,
        function=activation,
        axes=same_axes,
        features=features,
        outputs="scores" if linear is None and activation is None else None,
        example=lambda shapes: ((1, shapes["kernel"][0]), jnp.float32),
    )


# --- what `dense` and `conv` share ------------------------------------------------------------------


def kernel_and_bias(
    activation: Activation | None,
    use_bias: bool,
    kernel_init: initializers.Initializer | None,
    bias_init: initializers.Initializer,
) -> Callable[[Array, Shape, DTypeLike], Arrays]:
    """Check the arguments around a kernel; gives what makes the parameters, from the kernel's shape."""
    if activation is not None:
        check_activation("activation", activation)
    _checks.check_functions(kernel_init=kernel_init)
    _checks.check_functions(optional=False, bias_init=bias_init)
    _checks.check_flag("use_bias", use_bias)
    make_kernel = initializers.initializer_for(activation) if kernel_init is None else kernel_init

    def make(key: Array, shape: Shape, dtype: DTypeLike) -> Arrays:
        params = {"kernel": initializers.draw("kernel_init", make_kernel, key, shape, dtype)}
        if use_bias:
            key = jax.random.fold_in(key, 0)
            params["bias"] = initializers.draw("bias_init", bias_init, key, shape[-1:], dtype)
        return params

    return make


def finished(y: Array, params: Arrays, use_bias: bool, activation: Activation | None) -> Array:
    """The bias and the activation, behind the kernel."""
    if use_bias:
        y = y + jnp.expand_dims(params["bias"], range(y.ndim - 1))
    return y if activation is None else activated("activation", activation, y)
