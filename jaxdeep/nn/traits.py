"""What a layer says of itself to the tools that look inside models.

A layer states its traits where it is written. A tool asks for the trait that it needs and never for the
kind of a layer, so that a new layer is known to every tool at once.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from jax.typing import DTypeLike

from jaxdeep._shapes import Array, PyTree

Activation: TypeAlias = Callable[[Array], Array]
Shape: TypeAlias = tuple[int, ...]


class Linear(NamedTuple):
    """The layer is ``activation(x · weights + bias)``, or looks up rows of its weights.

    A layer that multiplies takes the arguments `use_bias` and `activation`, and its bias is in its
    parameters under "bias".

    Attributes:
      weights: name of the parameter, ``(…, inputs, outputs)``.
      looks_up: the input is whole numbers, which name rows of the weights.
      groups: into how many groups inputs and outputs are split.
      pads: zeros are put around the input, whatever a zero means there.
    """

    weights: str
    looks_up: bool = False
    groups: int = 1
    pads: bool = False


class Norm(NamedTuple):
    """At inference the layer is ``scale · (x − mean) / √(var + epsilon) + bias``, all of them kept.

    Mean and variance are in its state under "mean" and "var", scale and bias in its parameters.

    Attributes:
      epsilon: added to the variance.
      axes: the axes of the input that have statistics of their own.
      use_scale, use_bias: whether there are such parameters.
    """

    epsilon: float
    axes: Shape
    use_scale: bool
    use_bias: bool


class Passes(NamedTuple):
    """Which maps ``a: x ↦ scale · x + shift`` may go to the other side: ``layer(a(x)) = a(layer(x))``.

    Attributes:
      shift: those with a shift too.
      negative: those with scales below 0 too.
      windows: only those whose scale is the same over all places of a channel.
    """

    shift: bool = False
    negative: bool = False
    windows: bool = False


Joins = Literal["chain", "sum", "concatenate", "collect", "graph"]
Names: TypeAlias = Any  # a name, or a tuple or dict of them


class Wires(NamedTuple):
    """How the layers of a graph are wired.

    Attributes:
      calls: ``(layer, what it takes)`` by the name of what it puts out, in order.
      outputs, inputs: names of what the model puts out and gets.
    """

    calls: Mapping[str, tuple[str, Names]]
    outputs: Names
    inputs: Names

    @property
    def layers(self) -> list[str]:
        """The layer of every call."""
        return [layer for layer, _ in self.calls.values()]


Outputs = Literal["probabilities", "log_probabilities", "scores", "values"]


class Encodes(Protocol):
    """How raw rows, such as those of a frame, become the inputs of a model, on the host."""

    def is_raw(self, data: Any) -> bool:
        """Whether data are raw rows, and not inputs already."""

    def encode_inputs(self, rows: Any) -> PyTree:
        """The inputs. Targets among the rows are not looked at."""

    def encode(self, rows: Any) -> tuple[PyTree, PyTree]:
        """The inputs and the targets."""

    def encode_labels(self, labels: Any) -> PyTree:
        """The targets of labels, in the words or numbers that they have in the rows."""

    def labels(self, classes: Any) -> Any:
        """Classes, as whole numbers, in the words that the targets have in the rows."""


@dataclasses.dataclass(frozen=True)
class Traits:
    """What is known about a layer; by default nothing is.

    Attributes:
      linear: that it is a linear map of the last axis, and how its parameters make it up.
      norm: that it normalises by statistics that it keeps.
      function: the activation that makes its output, a function of one array.
      elementwise: it acts on each element alone, though it may have parameters or draw.
      passes: which scales and shifts may be taken from in front of it to behind it, and back.
      shape: it only reshapes every example, to these sizes.
      axes: the number of axes of its output, from that of its input; None for not known.
      ends: the function that its output comes out of, where that is not `function`.
      outputs: what its output means, where no function says it:
        "probabilities", their logarithms ("log_probabilities"), "scores", real numbers that are no
        probabilities, or "values", such numbers behind an activation, which are hardly logits either.
      keeps: its output means what its input does: a probability stays one.
      features: the size of the last axis of its output.
      example: makes an input, ``(shape, dtype)``, that it could have been initialised with, from the
        shapes of its own parameters and statistics by name.
      empty: it has neither parameters nor state.
      joins: of a combinator, what becomes of the outputs of its layers: each is the next one's input
        ("chain"), or all get the same input and their outputs are added, to the input itself if there
        is but one ("sum"), concatenated along `join_axis`, put out side by side ("collect"), or
        what `wires` says ("graph").
      join_axis: the axis of ``joins="concatenate"``.
      wires: of ``joins="graph"``, which layer gets what.
      merges: of a layer that takes several arrays, what becomes of them, as in `joins`.
      times: how often its only layer is applied in a loop.
      stacked: whether that layer has parameters of its own for each time, along a first axis.
      reuses: its layer is applied more than once with the same parameters and statistics.
      compute_dtype: the dtype that it makes its layer compute in.
      normalises: it normalises each example by its own statistics, and keeps none.
      only_init: it differs from its layer in nothing but how it is initialised.
      encodes: how raw rows become inputs of the model that it is the first layer of.
      of_targets: its state was made of the targets of rows, by which it must not be judged.
    """

    linear: Linear | None = None
    norm: Norm | None = None
    function: Activation | None = None
    elementwise: bool = False
    passes: Passes | None = None
    shape: Sequence[int] | None = None
    axes: Callable[[int | None], int | None] = lambda ndim: None
    ends: Callable[..., Any] | None = None
    outputs: Outputs | None = None
    keeps: bool = False
    features: int | None = None
    example: Callable[[Mapping[str, Shape]], tuple[Shape, DTypeLike]] | None = None
    empty: bool = False
    joins: Joins | None = None
    join_axis: int = -1
    wires: Wires | None = None
    merges: Literal["sum", "concatenate"] | None = None
    times: int | None = None
    stacked: bool = False
    reuses: bool = False
    compute_dtype: DTypeLike | None = None
    normalises: bool = False
    only_init: bool = False
    encodes: Encodes | None = None
    of_targets: bool = False

    @property
    def neutral(self) -> bool:
        """Whether it is no layer of weights and no activation.

        A kernel in front of it is drawn to suit what is behind it: norms, dropout and noise, pools, and
        what only reshapes or resizes.
        """
        return self.keeps or self.normalises or self.norm is not None


def same_axes(ndim: int | None) -> int | None:
    """For layers whose output has as many axes as their input."""
    return ndim


def rows(ndim: int | None) -> int:
    """For layers whose output is ``(batch, features)``."""
    return 2


def unwrapped(function: object) -> Any:
    """The function inside any `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function
