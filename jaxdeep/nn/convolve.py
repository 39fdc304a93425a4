"""The convolution behind `conv`, in forms that are fast on a CPU, and so are their gradients."""

import functools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from jaxdeep._shapes import Array
from jaxdeep.nn.traits import Shape

Padding: TypeAlias = str | Sequence[tuple[int, int]]
SPACE = "DHW"

# So many numbers of windows may be copied, in all or for each filter: measured with 1 to 512 channels
# and filters, where beyond them the library, which copies a piece at a time, was faster. Groups may copy
# as many as memory has room for, since XLA's own loops take 20 to 100 times as long. A window of more
# places makes a program that is long to compile.
_COPIED, _COPIED_A_FILTER, _COPIED_IN_GROUPS, _PLACES = 2_000_000, 65_536, 64_000_000, 49


@functools.partial(
    jax.jit, static_argnames=("strides", "padding", "dilation", "groups"), inline=True
)  # which keeps what is decided below for calls outside of programs, too
def convolve(
    x: Array, kernel: Array, *, strides: Shape, padding: Padding, dilation: Shape, groups: int
) -> Array:
    """``x ⋆ kernel`` of ``(batch, *space, channels)`` and ``(*space, channels / groups, filters)``.

    On a CPU the windows of a small input are put side by side, and all filters are one product of
    matrices: up to ten times as fast as XLA's convolution with its gradients. Groups are products of
    their own, and a depthwise convolution is a sum over the places of the window. A large input would
    become a much larger copy, and goes to the library that XLA's CPU compiler hands a convolution to if
    its axes are in this very order. Outside loops it reorders the axes of others; in a loop it does not
    (jax-ml/jax#12868), and the gradients that JAX derives, which are convolutions in another order, are
    15 to 50 times slower there. Here the arrays of the derivatives are put in order, so that their
    transposes are such as the library takes.

    >>> import jax.numpy as jnp
    >>> how = {"strides": (1,), "padding": "VALID", "dilation": (1,), "groups": 1}
    >>> convolve(jnp.arange(4.0).reshape(1, 4, 1), jnp.ones((2, 1, 1)), **how).ravel().tolist()
    [1.0, 3.0, 5.0]
    """
    letters = SPACE[5 - x.ndim :]

    def plain(x: Array, kernel: Array, order_x: str, order_kernel: str, order_y: str) -> Array:
        one, two, three = (o.replace("*", letters) for o in (order_x, order_kernel, order_y))
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=strides,
            padding=padding,
            rhs_dilation=dilation,
            dimension_numbers=(one, two, three),
            feature_group_count=groups,
        )

    def in_order(x: Array, kernel: Array) -> Array:
        return plain(x, kernel, "N*C", "*IO", "N*C")

    is_product = _is_product(x, kernel, jax.eval_shape(in_order, x, kernel).shape, groups)
    if groups > 1 and not is_product:  # which the library does not take
        return in_order(x, kernel)

    space = tuple(range(1, x.ndim - 1))

    def along_input(dx: Array, kernel: Array) -> Array:
        """The transpose takes the output's gradient as ``N*C`` and this kernel as ``*IO``."""
        return plain(dx, kernel.swapaxes(-1, -2), "N*C", "*OI", "N*C")

    def along_kernel(x: Array, dkernel: Array) -> Array:
        """The transpose takes this x as ``N*C`` and the gradient as ``*IO``, and makes ``N*C``."""
        x = x.transpose(x.ndim - 1, *space, 0)
        dkernel = dkernel.transpose(x.ndim - 2, *(axis - 1 for axis in space), x.ndim - 1)
        dy = plain(x, dkernel, "C*N", "I*O", "*NC")
        return dy.transpose(x.ndim - 2, *(axis - 1 for axis in space), x.ndim - 1)

    forms = in_order, along_input, along_kernel
    if is_product:
        product = functools.partial(
            _product, strides=strides, padding=padding, dilation=dilation, groups=groups
        )
        # windows are put side by side again rather than kept from forward to backward
        forms = product, product, jax.checkpoint(product, prevent_cse=False)
    on_cpu, along_input_on_cpu, along_kernel_on_cpu = forms
    # decided when a program is lowered, so that one exported here for another device has its order
    on_platform = functools.partial(jax.lax.platform_dependent, default=in_order)
    result = jax.custom_jvp(
        in_order if on_cpu is in_order else functools.partial(on_platform, cpu=on_cpu)
    )

    def derivative(
        primals: tuple[Array, Array], tangents: tuple[Array | SymbolicZero, Array | SymbolicZero]
    ) -> tuple[Array, Any]:
        (x, kernel), (dx, dkernel) = primals, tangents
        y = result(x, kernel)
        terms = []
        if not isinstance(dx, SymbolicZero):
            terms.append(on_platform(dx, kernel, cpu=along_input_on_cpu))
        if not isinstance(dkernel, SymbolicZero):
            terms.append(on_platform(x, dkernel, cpu=along_kernel_on_cpu))
        return y, sum(terms[1:], start=terms[0]) if terms else SymbolicZero.from_primal_value(y)

    result.defjvp(derivative, symbolic_zeros=True)
    return result(x, kernel)


def _is_product(x: Array, kernel: Array, shape: Shape, groups: int) -> bool:
    """Whether products of matrices are faster on a CPU, by the shape of the output."""
    if not all(isinstance(size, int) for size in shape):
        return False  # a batch whose size is not known yet
    *taps, channels, filters = kernel.shape
    places = math.prod(taps)
    copied = math.prod(shape[:-1]) * places * channels * groups
    if copied == 0 or places > _PLACES:
        return False
    if groups > 1:
        return channels == 1 or copied <= _COPIED_IN_GROUPS
    return x.dtype.itemsize >= 4 and copied <= max(_COPIED, filters * _COPIED_A_FILTER)


def _product(
    x: Array, kernel: Array, *, strides: Shape, padding: Padding, dilation: Shape, groups: int
) -> Array:
    """The convolution as a product of the windows, side by side, and the kernel as a matrix."""
    *taps, channels, filters = kernel.shape
    dtype, each = x.dtype, filters // groups
    if groups > 1:  # rounded once, whatever the number of places
        x, kernel = (a.astype(jnp.promote_types(dtype, jnp.float32)) for a in (x, kernel))
    windows = _windows(x, tuple(taps), strides, padding, dilation)
    if groups == 1:
        return jnp.concatenate(windows, axis=-1) @ kernel.reshape(-1, filters)
    if channels == 1:
        repeated = [jnp.repeat(window, each, axis=-1) for window in windows]
        terms = [window * tap for window, tap in zip(repeated, kernel.reshape(-1, filters))]
        return sum(terms[1:], start=terms[0]).astype(dtype)
    parts = [window.reshape(*window.shape[:-1], groups, channels) for window in windows]
    side_by_side = jnp.concatenate(parts, axis=-1)
    y = jnp.einsum("...gk,kgf->...gf", side_by_side, kernel.reshape(-1, groups, each))
    return y.reshape(*y.shape[:-2], filters).astype(dtype)


def _windows(x: Array, taps: Shape, strides: Shape, padding: Padding, dilation: Shape) -> list[Array]:
    """What all windows have at each of their places, ``(batch, *space of the output, channels)``."""
    reach = [(size - 1) * step for size, step in zip(taps, dilation)]
    if isinstance(padding, str):
        covered = [size + 1 for size in reach]
        padding = jax.lax.padtype_to_pads(x.shape[1:-1], covered, strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    batch, *sizes, channels = x.shape
    windows = []
    for tap in np.ndindex(*taps):
        begins = [place * step for place, step in zip(tap, dilation)]
        ends = [size - far + begin for size, far, begin in zip(sizes, reach, begins)]
        rows = (0, *begins, 0), (batch, *ends, channels), (1, *strides, 1)
        windows.append(jax.lax.slice(x, *rows))
    return windows
