"""A scale and a shift of every example, and how they pass through layers that learn nothing."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import PyTree
from jaxdeep.nn.activation_layers import homogeneous
from jaxdeep.nn.model import Model
from jaxdeep.nn.traits import Norm, Passes, unwrapped

Function = Callable[[Any], Any]  # an activation
Values = np.ndarray | jax.Array  # NumPy's, and JAX' where something is traced


class Refused(Exception):
    """Why something cannot be folded; the message is put into the error for the user."""

    located = False

    @classmethod
    @contextlib.contextmanager
    def by(cls, path: str) -> Iterator[None]:
        """Put the path of the innermost layer that refuses in front of the reason."""
        try:
            yield
        except cls as refused:
            if refused.located:
                raise
            named = cls(f"{path}: {refused}")
            named.located = True
            raise named from None


class Affine(NamedTuple):
    """``x ↦ scale · x + shift``, example by example.

    Attributes:
      scale, shift: of shape ``(*stacked, *sizes)``; the sizes broadcast against the axes of an example.
      stack: number of leading axes of layers stacked by `repeat`.
      more: where an example may have further axes: "before" these, "behind" them, or nowhere ("").
      flat: the example is one row, in the order of these sizes; a size of 1 is a run of any length.
    """

    scale: Values
    shift: Values
    stack: int = 0
    more: str = ""
    flat: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape for one example."""
        return tuple(self.scale.shape[self.stack :])

    def map(self, function: Callable[[Values], Values], **changes: Any) -> "Affine":
        """With a function of one example's array applied to both."""
        over_stack = stacked(function, self.stack)
        return self._replace(scale=over_stack(self.scale), shift=over_stack(self.shift), **changes)


def stacked(function: Callable[..., Any], stack: int) -> Callable[..., Any]:
    """A function of a layer's arrays for those of stacked layers."""
    if not stack:
        return function
    deeper = stacked(function, stack - 1)

    def mapped(*arrays: Values) -> PyTree:
        if library(*arrays) is jnp:
            return jax.vmap(deeper)(*arrays)
        results = [deeper(*(a[i] for a in arrays)) for i in range(len(arrays[0]))]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *results)

    return mapped


def library(*arrays: Values) -> Any:
    """What to compute with: NumPy, which compiles nothing, unless something is traced."""
    return jnp if any(isinstance(a, jax.core.Tracer) for a in arrays) else np


def wide(a: Values) -> Values:
    """An array in the precision to compute in: float64, or float32 or wider if it is traced."""
    if library(a) is np:
        return np.asarray(a).astype(np.float64)
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def of_norm(norm: Norm, params: PyTree, state: PyTree, rank: int | None, stack: int) -> Affine:
    """What a batch norm does at inference. `rank` is the number of axes of its input, if known."""
    var = wide(state["var"]) + norm.epsilon
    scale = var**-0.5
    if norm.use_scale:
        scale = scale * wide(params["scale"])
    shift = -wide(state["mean"]) * scale
    if norm.use_bias:
        shift = shift + wide(params["bias"])
    kept = sorted(norm.axes)
    if rank is not None:
        kept = sorted(a % rank - rank for a in kept)
    if 0 in kept or -(rank or math.inf) in kept:
        raise Refused(f"axis={_shown(norm)} keeps the rows of the batch apart")
    if kept[0] < 0 < kept[-1]:
        raise Refused(
            f"axis={_shown(norm)} counts from both ends, and how many axes its input has is not known "
            "here"
        )
    if rank is not None:
        places, more = range(1 - rank, 0), ""
    elif kept[0] > 0:
        places, more = range(1, kept[-1] + 1), "behind"
    else:
        places, more = range(kept[0], 0), "before"
    inserted = tuple(i for i, a in enumerate(places) if a not in kept)
    return Affine(scale, shift, stack, more).map(lambda a: library(a).expand_dims(a, inserted))


def vector(a: Affine, n: int) -> tuple[Values, Values]:
    """Scale and shift of each of `n` features in the last axis."""
    if a.flat:
        a = _resolved(a, n)
    elif not _along_last(a):
        raise Refused(_UNEVEN)
    if a.sizes[-1] not in (1, n):
        raise Refused(f"its {a.sizes[-1]} scales are not one for each of {n} features")
    both = a.map(lambda v: library(v).broadcast_to(v.reshape(-1), (n,)))
    return both.scale, both.shift


_UNEVEN = "its scale differs between places that share their weights"


def _along_last(a: Affine) -> bool:
    """Whether an example is scaled by its last axis alone."""
    return math.prod(a.sizes) == (1 if a.more == "behind" else a.sizes[-1])


def _last_alone(a: Affine) -> Affine:
    """One that scales along the last axis, for examples of any number of axes."""
    return a.map(lambda v: v.reshape(-1), more="before")


def _resolved(a: Affine, n: int) -> Affine:
    """A flat one for rows of `n` numbers: the runs of unknown length filled in."""
    sizes = [s for i, s in enumerate(a.sizes) if s != 1 or a.sizes[i - 1 : i] != (1,)]  # 1, 1 is one run
    known = math.prod(sizes)
    if n % known or (n != known and sizes.count(1) != 1):
        raise Refused(f"its {known} scales cannot be laid out over rows of {n} numbers")
    full = tuple(n // known if s == 1 else s for s in sizes) if n != known else tuple(sizes)
    return a.map(lambda v: library(v).broadcast_to(v.reshape(sizes), full).reshape(n), flat=False)


# --- through layers without parameters ----------------------------------------------------------------


def passed(a: Affine, layer: Model, *, backwards: bool) -> Affine:
    """The affine map on the other side of a layer: ``layer ∘ a = result ∘ layer``.

    `backwards` it is behind the layer and goes in front: ``a ∘ layer = layer ∘ result``.

    Raises `Refused` where none makes the two equal for every input and every key.
    """
    traits = layer.traits
    if traits.shape is not None:
        if tuple(traits.shape) == (-1,):
            return _flattened(a, backwards=backwards)
        return _unshaped(a, traits.shape) if backwards else _reshaped(a, traits.shape)
    if traits.passes is None:
        raise Refused(f"{_called(layer)} is in between")
    check_passes(traits.passes, a, _called(layer))
    return _last_alone(a) if traits.passes.windows and not a.flat else a


def check_passes(passes: Passes, a: Affine, name: str) -> None:
    """Refuse an affine map that does not pass a layer of that name."""
    if passes.windows and not (a.flat or _along_last(a)):
        raise Refused("its scale differs within the windows that are pooled")
    shifts = not (passes.shift or always(a.shift, np.equal))
    turns = not (passes.negative or always(a.scale, np.greater_equal))
    if shifts and passes.negative:
        raise Refused(
            f"it shifts, and with {name} in between that is another function of a key; a model that is "
            "never given one can be made without that layer"
        )
    if turns and passes.windows:
        raise Refused("a maximum is taken in between, and not all its scales are known to be ≥ 0")
    if shifts or turns:
        raise Refused(
            f"{name} is in between, which only scales that are known to be ≥ 0, without any shift, pass"
        )


def check_bends(function: Function, a: Affine) -> None:
    """Refuse an activation that the affine map does not pass."""
    passes, name = homogeneous(function), f"the activation {_name(function)}"
    if passes is None:
        raise Refused(f"{name} is in between")
    check_passes(passes, a, name)


def _called(layer: Model) -> str:
    function = layer.traits.function
    if function is not None:
        return f"the activation {_name(function)}"
    return f"{'an' if layer.kind[0] in 'aeiou' else 'a'} {layer.kind}"


def _name(function: Function) -> str:
    function = unwrapped(function)
    return getattr(function, "__name__", str(function))


def _shown(norm: Norm) -> int | tuple[int, ...]:
    return norm.axes if len(norm.axes) > 1 else norm.axes[0]


def always(values: Values, compare: np.ufunc) -> bool:
    """Whether a comparison with 0 is known to hold for all values; traced ones are not known."""
    return not isinstance(values, jax.core.Tracer) and bool(np.all(compare(np.asarray(values), 0)))


def _flattened(a: Affine, *, backwards: bool) -> Affine:
    if a.flat:
        return a
    if backwards:  # one row an example, all of it known
        return a._replace(flat=True)
    before, behind = ((1,) if a.more == where else () for where in ("before", "behind"))
    return a.map(lambda v: v.reshape(*before, *a.sizes, *behind), flat=True, more="")


def _reshaped(a: Affine, wanted: Sequence[int]) -> Affine:
    """Behind a reshape, what was in front of it."""
    if not a.flat and _along_last(a) and a.sizes[-1] in (1, *wanted[-1:]):
        return _last_alone(a)
    if -1 in wanted:
        raise Refused("the sizes of a reshape in between are not all known")
    rows = a if a.flat else _flattened(a, backwards=False)
    return _resolved(rows, math.prod(wanted)).map(lambda v: v.reshape(wanted), more="")


def _unshaped(a: Affine, wanted: Sequence[int]) -> Affine:
    """In front of a reshape, what was behind it: as a row of numbers."""
    if a.flat:
        return a
    if _along_last(a):  # with a period that divides the features in front
        return a.map(lambda v: v.reshape(1, -1), flat=True)
    if -1 in wanted:
        raise Refused("the sizes of a reshape in between are not all known")
    return a.map(lambda v: library(v).broadcast_to(v, wanted).reshape(-1), flat=True)
