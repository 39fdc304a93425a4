"""The networks that the commands train."""

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxdeep.cli import functions
from jaxdeep.cli.written import Written, call, name
from jaxdeep.comparison.candidate import nearest

if TYPE_CHECKING:
    from jaxdeep.datasets import Dataset
    from jaxdeep.nn import Model

_SLOPES = ("prelu", "rrelu")  # activations that are layers


class Network(NamedTuple):
    """A network by its flags.

    Attributes:
      hidden: widths of the hidden layers.
      activation: of these, by name.
      batch_norm: "none", "before" or "after" the activation.
      dropout: share of the units that is dropped before each layer.
      init: of the kernels, by name; "" is the one that suits the activation.
      l2: factor of the penalty on kernels.
      clip: largest norm of all gradients together; 0 for none.
      max_norm: largest norm of the weights that come into a unit; 0 for none.
      recipe: of `jaxdeep.nn.mlp`, whose network stands in place of this one.
      model: ``module:function`` of a network in place of this one.
    """

    hidden: tuple[int, ...] = (100, 100, 100)
    activation: str = "relu"
    batch_norm: str = "none"
    dropout: float = 0.0
    init: str = ""
    l2: float = 0.0
    clip: float = 0.0
    max_norm: float = 0.0
    recipe: str = ""
    model: str = ""


def classes_of(data: "Dataset") -> int:
    """One more than the largest label."""
    return 1 + int(max(data.train[1].max(), data.validation[1].max()))


def network(classes: int, *, dropout: float = 0.0) -> "Model":
    """Three hidden layers of 100 ReLU units, He initialisation; dropout is before each layer."""
    first, last = {"flatten": call("jd.nn.flatten")}, {"logits": call("jd.nn.dense", classes)}
    return serial(Network(dropout=dropout), first, last).value


def serial(network: Network, first: dict[str, Written], last: dict[str, Written]) -> Written:
    """The hidden layers of a network between its first and its last layers, all by name.

    A dense layer before batch norm has no bias, which the norm would take away again.
    """
    layers = dict(first)
    apart = network.batch_norm == "before" or network.activation in _SLOPES
    if network.activation in _SLOPES:
        activation = call(f"jd.nn.{network.activation}")
    elif apart:
        activation = call("jd.nn.activation", function_of(network.activation))
    for i, width in enumerate(network.hidden, 1):
        if network.dropout:
            layers[f"dropout{i}"] = call("jd.nn.dropout", network.dropout)
        how: dict[str, Any] = {} if apart else {"activation": function_of(network.activation)}
        if network.batch_norm == "before":
            how["use_bias"] = False
        if network.init:
            init = f"jd.nn.initializers.{network.init}"
            how["kernel_init"] = name(init) if network.init == "zeros" else call(init)
        layers[f"hidden{i}"] = call("jd.nn.dense", width, **how)
        if network.batch_norm == "before":
            layers[f"norm{i}"] = call("jd.nn.batch_norm")
        if apart:
            layers[f"act{i}"] = activation
        if network.batch_norm == "after":
            layers[f"norm{i}"] = call("jd.nn.batch_norm")
    if network.dropout:
        layers[f"dropout{len(network.hidden) + 1}"] = call("jd.nn.dropout", network.dropout)
    return call("jd.nn.serial", **layers, **last)


def around(network: Network, optimizer: Written) -> Written:
    """The optimizer with what the network asks of it: clipped gradients, bounded weights."""
    stages = [optimizer]
    if network.clip:
        stages.insert(0, call("jd.optimizers.clip_by_global_norm", network.clip))
    if network.max_norm:
        stages.append(call("jd.optimizers.max_norm", network.max_norm, where="*/kernel"))
    return call("optax.chain", *stages) if len(stages) > 1 else optimizer


def function_of(of: str) -> Written:
    """The activation of this name, as a function."""
    return name(f"jd.nn.activations.{of}")


# --- flags ----------------------------------------------------------------------------------------


def widths(text: str) -> tuple[int, ...]:
    """The widths of hidden layers, ``100,100`` or ``100x100``; "none" for no layer.

    >>> widths("300x100"), widths("none")
    ((300, 100), ())
    """
    if text == "none":
        return ()
    parts = text.replace("x", ",").split(",")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"must be widths such as 300,100 or 300x100, got {text!r}")
    return tuple(map(int, parts))


def activation(text: str) -> str:
    """The name of an activation."""
    from jaxdeep.nn import activations

    return _one_of(text, tuple(of for of in activations.__all__ if of != "softmax"))


def init(text: str) -> str:
    """The name of an initialiser of kernels."""
    kinds = [f"{of}_{how}" for of in ("he", "glorot", "lecun") for how in ("normal", "uniform")]
    return _one_of(text, (*kinds, "orthogonal", "normal", "truncated_normal", "zeros"))


def norm(text: str) -> str:
    """Where batch norm is."""
    return _one_of(text, ("none", "before", "after"))


def share(text: str) -> float:
    """A share of units."""
    value = _float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, got {text!r}")
    return value


def factor(text: str) -> float:
    """A factor of a penalty."""
    value = _float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text!r}")
    return value


def number(text: str) -> float:
    """Any number."""
    value = _float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _one_of(text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(known)}, got {text!r}{nearest(text, known)}"
        )
    return text


FLAGS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "hidden": (widths, "WIDTHS", "widths of the hidden layers, such as 300,100 (default: 100,100,100)"),
    "activation": (activation, "NAME", "of the hidden layers (default: relu)"),
    "batch-norm": (norm, "PLACE", "none, before or after the activation (default: none)"),
    "dropout": (share, "P", "share of the units that is dropped before each layer (default: 0)"),
    "init": (init, "NAME", "initialiser of the kernels (default: the one that suits the activation)"),
    "l2": (factor, "FACTOR", "penalty on the squares of the kernels (default: 0)"),
    "clip": (factor, "NORM", "largest norm of all gradients together (default: 0, none)"),
    "max-norm": (factor, "NORM", "largest norm of a unit's incoming weights (default: 0, none)"),
    "model": (functions.spec, "MODULE:FUNCTION", "a function that returns your network, instead"),
}


def changed(network: Network, changes: dict[str, Any]) -> Network:
    """The network with some of its flags changed.

    Raises:
      ValueError: flags of layers that another one replaces.
    """
    changes = {flag.replace("-", "_"): value for flag, value in changes.items()}
    network = network._replace(**changes)
    usual, beside = Network(), ("l2", "clip", "max_norm")
    # of the kernels of other layers no axis is known that the norms are over
    replaced = (("recipe", ("hidden", "activation", *beside)), ("model", ("l2", "clip")))
    for instead, still in replaced:
        if not getattr(network, instead):
            continue
        for field in Network._fields:
            if field not in (*still, instead) and getattr(network, field) != getattr(usual, field):
                raise ValueError(f"argument --{field.replace('_', '-')}: does not go with --{instead}")
    return network
