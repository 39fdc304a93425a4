"""What a run of ``compare`` is made of besides its optimizer: network, loss, metrics."""

import argparse
import inspect
from typing import Any, NamedTuple

from jaxdeep.cli import functions, networks
from jaxdeep.cli.comparing.data import Data
from jaxdeep.cli.networks import Network
from jaxdeep.cli.written import Written, call, code, name
from jaxdeep.comparison.candidate import nearest

_BATCH, _BATCH_OF_STRONG = 32, 256

# Metrics beside those of the task, which are computed if they decide: where they are, and with what.
_MORE: dict[str, tuple[str, ...]] = {
    "binary": ("f1", "precision", "recall", "balanced_accuracy", "average_precision"),
    "multiclass": ("f1", "balanced_accuracy"),
    "multilabel": ("f1", "subset_accuracy"),
    "regression": (),
}


class Setup(NamedTuple):
    """A network and what trains it.

    Attributes:
      recipe: of `jaxdeep.nn.mlp`: loss, metrics and last layers of the task.
      model: the network.
      also: further arguments of `jaxdeep.fit`, by name.
    """

    recipe: Written
    model: Written
    also: dict[str, Written]


def setup_of(network: Network, data: Data, metric: str | None) -> Setup:
    """The setup of a network.

    Raises:
      ValueError: a metric that the task does not have, a function that returns no model.
    """
    recipe = _recipe(network, data)
    also = {
        "loss": Written(recipe.value.loss, "recipe.loss"),
        "metrics": _metrics(recipe, data, metric),
    }
    if network.l2:
        also["penalty"] = call("jd.regularizers.l2", network.l2, where="*/kernel")
    if recipe.value.options.get("drop_remainder"):
        also["drop_remainder"] = Written(True, "True")
    return Setup(recipe, _model(network, data, recipe), also)


def batch_size_of(args: argparse.Namespace, data: Data) -> int:
    """Rows of a batch: as asked, or the recipe's, or all if they are few.

    Raises:
      ValueError: more than the training rows.
    """
    rows = len(data.train[1])
    if args.batch_size is None:
        return min(_BATCH_OF_STRONG if args.recipe == "strong" else _BATCH, rows)
    if args.batch_size > rows:
        raise ValueError(
            f"argument --batch-size: must be at most the {rows} training rows, got {args.batch_size}"
        )
    return int(args.batch_size)


def _recipe(network: Network, data: Data) -> Written:
    """The recipe of the task; without hidden layers if it is not asked for as a network."""
    columns = [] if data.columns is None else [Written(data.columns, "columns")]
    how: dict[str, Any] = {"hidden": ()}
    if network.recipe:
        how, usual = {"recipe": network.recipe}, Network()
        if network.hidden != usual.hidden:
            how["hidden"] = network.hidden
        if network.activation != usual.activation:
            how["activation"] = networks.function_of(network.activation)
    if data.task == "multiclass":
        how["outputs"] = data.outputs
    if network.recipe == "strong":
        how["batch_size"] = min(_BATCH_OF_STRONG, len(data.train[1]))
    return call("jd.nn.mlp", data.task, *columns, **how, targets=Written(data.train[1], "train[1]"))


def _model(network: Network, data: Data, recipe: Written) -> Written:
    layers = {
        path: Written(layer, f"recipe.model.layers[{code(path)}]")
        for path, layer in recipe.value.model.layers.items()
    }
    first = {"inputs": layers.pop("inputs")} if data.columns is not None else {}
    if network.recipe:
        return Written(recipe.value.model, "recipe.model")
    if not network.model:
        return networks.serial(network, first or {"flatten": call("jd.nn.flatten")}, layers)
    model = _own_model(network.model, data.outputs)
    return call("jd.nn.serial", **first, network=model) if first else model


def _own_model(text: str, outputs: int) -> Written:
    """The network that the user's function returns."""
    from jaxdeep.nn import Model

    function = Written(functions.found(text, "--model"), text.replace(":", "."))
    model = function
    if not isinstance(function.value, Model):
        if not callable(function.value):
            raise ValueError(f"argument --model: {text} must be a function that returns a Model")
        passed = [] if functions.needs_nothing(function.value) else [outputs]
        try:
            inspect.signature(function.value).bind(*passed)
        except TypeError as error:
            how = "is called with the number of outputs"
            raise ValueError(f"argument --model: {text} {how}: {error}") from None
        with functions.calling(text, "--model"):
            model = call(function, *passed)
    if not isinstance(model.value, Model):
        raise ValueError(f"argument --model: {text} must return a jaxdeep Model, got {model.value!r}")
    return model


def _metrics(recipe: Written, data: Data, metric: str | None) -> Written:
    """The metrics of the task, and the one that decides."""
    known, more = recipe.value.metrics, _MORE[data.task]
    if metric in (None, "loss", *known):
        return Written(known, "recipe.metrics")
    if metric not in more:
        names = (*known, *more, "loss")
        hint = nearest(str(metric), names)
        raise ValueError(f"argument --metric: must be one of {', '.join(names)}, got {metric!r}{hint}")
    how: dict[str, Any] = {}
    if data.task == "multiclass":
        how["classes"] = data.outputs
    if data.task == "multilabel":
        how["labels"] = data.outputs
    if metric == "f1" and how:
        how["average"] = "macro"
    path = f"jd.metrics.{metric}"
    made = name(path) if metric == "subset_accuracy" else call(path, **how)
    return Written({metric: made.value, **known}, f"{{{code(metric)}: {made.code}, **recipe.metrics}}")
