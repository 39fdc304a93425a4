"""What a model puts out: decided once, by its last layer and its loss, for all who depend on it."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import optax

from jaxdeep import losses
from jaxdeep._compilation import inside
from jaxdeep._endings import of_program, takes_as_logits
from jaxdeep._shapes import PyTree
from jaxdeep.losses.meaning import OF_BITS, OF_SCORES, of_probabilities, reads, said_by
from jaxdeep.metrics import Metric, mean
from jaxdeep.metrics.streaming import check_agreement
from jaxdeep.train.state import Network, PerExample

_LOGARITHMS = (
    "the model puts out logarithms of probabilities of labels (log_sigmoid), which are neither logits "
    "nor probabilities: leave that activation out, and use from_logits=True"
)


def puts_out(model: Network, loss: PerExample) -> str | None:
    """What the model puts out, "logits" or "probabilities"; None if neither it nor the loss says it.

    Of several outputs each is compared with its own loss; what they put out is None.
    """
    known = getattr(model, "meaning", None)
    _check_constant(getattr(model, "constant", False), "")
    taken = _agreed(known, loss, "", "the loss")
    if isinstance(taken, dict) or isinstance(known, dict):
        return None
    return taken or (known if known == "probabilities" else None)


def kind_of_targets(loss: PerExample) -> Any:
    """What a loss is for: "classes" that exclude each other, "labels" that do not, or "values".

    None where that is not known, and of the loss of several outputs a dict by their names.

    >>> from jaxdeep import losses
    >>> kind_of_targets(losses.sigmoid_cross_entropy), kind_of_targets(losses.mse)
    ('labels', 'values')
    """
    one = inside(loss)
    if (several := getattr(one, "of_outputs", None)) is not None:
        return {name: kind_of_targets(of_output) for name, of_output in several.items()}
    return next((kind for kind, known in _TARGETS.items() if one in map(inside, known)), None)


def outputs_of(loss: PerExample) -> Any:
    """What a model that was trained with this loss puts out, in a word of `mc_dropout`; None if unknown.

    Behind a hinge it is "margins", which have no probabilities. Of the loss of several outputs it is a
    dict by their names.

    >>> from jaxdeep import losses
    >>> outputs_of(losses.mse), outputs_of(losses.sigmoid_cross_entropy)
    ('values', 'label_logits')
    """
    one = inside(loss)
    if (several := getattr(one, "of_outputs", None)) is not None:
        return {name: outputs_of(of_output) for name, of_output in several.items()}
    if one in OF_SCORES:
        return "margins"
    targets, read = kind_of_targets(loss), reads(loss)
    if targets == "values":
        return "values"
    return "label_logits" if (read, targets) == ("logits", "labels") else read


def no_probabilities(where: str) -> str:
    """What is said of an output of "margins" where it is asked for probabilities."""
    return (
        f"{where} holds scores that a margin separates, as the loss says, which have classes and no "
        "probabilities: say from_logits=True to take them for logits all the same"
    )


_TARGETS: dict[str, tuple[PerExample, ...]] = {
    "labels": (
        *(losses.sigmoid_cross_entropy, losses.sigmoid_focal, losses.hinge),
        optax.losses.sigmoid_binary_cross_entropy,
        optax.losses.sigmoid_focal_loss,
    ),
    "classes": (
        *(losses.softmax_cross_entropy, losses.softmax_focal, losses.kl_divergence),
        *(losses.categorical_hinge, losses.multiclass_hinge),
        optax.losses.softmax_cross_entropy,
        optax.losses.softmax_cross_entropy_with_integer_labels,
        optax.losses.safe_softmax_cross_entropy,
        optax.losses.poly_loss_cross_entropy,
    ),
    "values": (
        *(losses.mse, losses.mae, losses.huber, losses.log_cosh),
        *(losses.mape, losses.msle, losses.poisson),
        *(optax.losses.squared_error, optax.losses.l2_loss, optax.losses.huber_loss),
        optax.losses.log_cosh,
    ),
}


def check_program(
    model: Network, loss: PerExample, params: PyTree, state: PyTree, x: PyTree, y: PyTree
) -> None:
    """Refuse a loss that takes the outputs for something else than they are, as the programs say.

    For models whose layers do not say what they put out (adapted modules, models of one's own, functions
    as layers), and for losses that do not say what they take.

    Args:
      params, state, x, y: the shapes of its parameters, state, inputs and targets.
    """
    known, taken = getattr(model, "meaning", None), reads(loss)
    if (known is not None and taken is not None) or known in ("scores", "values"):
        return  # the layers have said it
    apply = lambda *args: model.apply(*args)[0]  # noqa: E731
    program, outputs = jax.make_jaxpr(apply, return_shape=True)(params, state, x)
    words = [None if one.word == "same" else one.word for one in of_program(program)]
    if taken is not None or inside(loss) in OF_SCORES:
        known = jax.tree.unflatten(jax.tree.structure(outputs), words)
        if isinstance(outputs, (tuple, list)):
            known = dict(enumerate(known))
        _agreed(known, loss, "", "the loss")
        return
    if not hasattr(outputs, "shape") or "probabilities" not in (known, *words):
        return
    if takes_as_logits(jax.make_jaxpr(loss)(outputs, y), 1):
        raise ValueError(
            "the model ends in a softmax or a sigmoid, so that it puts out probabilities, and the loss "
            "takes exponentials of them, as of logits: leave that activation out (better), or use a "
            "loss of probabilities"
        )


def _check_constant(constant: Any, where: str) -> None:
    """Refuse a softmax over a single output."""
    if isinstance(constant, Mapping):
        for name, one in constant.items():
            _check_constant(one, f"output {name!r}: ")
    elif constant:
        raise ValueError(
            f"{where}the model ends in a softmax over a single output, which is 1 whatever it learns: "
            "use jax.nn.sigmoid, or leave it out for a loss of logits, or give the last layer an output "
            "for each class"
        )


def _agreed(known: Any, function: Any, where: str, who: str) -> Any:
    """What a loss, or a metric that is one, takes the outputs for; refuses another than they are.

    `known` is the meaning of the outputs, as far as it is known.
    """
    taken = reads(function)
    if isinstance(taken, dict):
        branches = known if isinstance(known, dict) else {}
        in_order = dict(enumerate(branches.values()))
        for name, one in inside(function).of_outputs.items():
            _agreed(branches.get(name, in_order.get(name)), one, f"{where}output {name!r}: ", who)
    elif not isinstance(known, dict):
        _check(known, taken, function, where, who)
    return taken


def _check(known: Any, taken: str | None, function: Any, where: str, who: str) -> None:
    """Refuse a function that takes an output for something else than the model says it is."""
    one = inside(function)
    if known == "probabilities" and taken == "logits" and who == "it":
        raise ValueError(
            f"{where}the model puts out probabilities, as its last layer or the loss says, and {who} "
            f"takes logits: use {of_probabilities(function)}"
        )
    if known == "probabilities" and taken == "logits":
        raise ValueError(
            f"{where}the model ends in a softmax or a sigmoid, so that it puts out probabilities, and "
            f"{who} takes logits: leave that activation out (better), or use "
            + of_probabilities(function)
        )
    if known == "probabilities" and one in OF_SCORES:
        raise ValueError(
            f"{where}the model puts out probabilities, as its last layer or the loss says, and {who} "
            f"({one.__name__}) takes scores of any size and sign, which a margin of 1 separates: leave "
            "the softmax or the sigmoid out"
        )
    if known in ("scores", "values") and taken == "probabilities":
        end = "a layer without an activation" if known == "scores" else "an activation that gives none"
        raise ValueError(
            f"{where}{who} takes probabilities (from_logits=False), and the model ends in {end}: "
            "use from_logits=True, or end it in a softmax or a sigmoid"
        )
    if known == "log_probabilities" and (taken == "probabilities" or one in OF_BITS):
        asked = "probabilities (from_logits=False)" if taken == "probabilities" else "logits"
        raise ValueError(
            f"{where}the model puts out logarithms of probabilities (log_softmax, log_sigmoid), and "
            f"{who} takes {asked}: leave that activation out, and use from_logits=True"
        )
    if known == "logits" and taken == "probabilities":
        raise ValueError(
            f"{where}{who} takes probabilities (from_logits=False), and the loss says that the model "
            "puts out logits: use from_logits=True"
        )


def told(
    metrics: Mapping[str, PerExample | Metric],
    model: Network,
    puts_out: str | None,
    *,
    within: str = "metrics",
) -> dict[str, PerExample | Metric]:
    """The metrics for a model that puts out logits or probabilities, where they depend on it.

    Raises:
      ValueError: a metric that takes the outputs for something else, or that has to be told what they
        are where nothing says it.
    """
    meaning = getattr(model, "meaning", None)
    known = puts_out or meaning if meaning in (None, "scores", "values") else meaning
    of_labels = puts_out is None and meaning == "log_probabilities"
    if of_labels and getattr(model, "exclusive", False):  # they are logits, too
        puts_out, of_labels = "logits", False
    from_logits = None if puts_out is None else puts_out == "logits"

    def of_function(function: Any) -> Any:
        _agreed(known, function, "", "it")
        if of_labels and _is_told(function) and said_by(function) is not None:
            raise ValueError(_LOGARITHMS)
        if from_logits is None or not _is_told(function):
            return function
        if (said := said_by(function)) is not None:
            check_agreement(said, from_logits)
        return functools.partial(function, from_logits=from_logits)

    def of_it(metric: Any) -> Any:
        if not isinstance(metric, Metric):
            return of_function(metric)
        if (function := getattr(metric.update, "of_mean", None)) is not None:
            new = of_function(function)
            return metric if new is function else mean(new)
        if metric.for_logits is None:
            return metric
        if from_logits is not None:
            return metric.for_logits(from_logits)
        is_untold = _is_untold(metric)
        if of_labels and not is_untold:
            raise ValueError(_LOGARITHMS)
        if is_untold and not getattr(metric.update, "of_single_outputs", False):
            raise ValueError(
                "neither the last layer of the model nor the loss says whether it puts out logits or "
                "probabilities: say from_logits=True or from_logits=False"
            )
        return metric

    told_metrics = {}
    for name, metric in metrics.items():
        try:
            told_metrics[name] = of_it(metric)
        except ValueError as error:
            raise ValueError(f"{within}[{name!r}]: {error}") from None
    return told_metrics


def _is_told(function: Any) -> bool:
    """Whether a function, no loss, has a keyword ``from_logits``, as `metrics.accuracy` has."""
    if reads(function) is not None:
        return False
    try:
        return "from_logits" in inspect.signature(inside(function)).parameters
    except (TypeError, ValueError):  # of a builtin nobody knows it
        return False


def _is_untold(metric: Metric) -> bool:
    """Whether a metric takes either, as one does that was not told what the outputs are."""
    assert metric.for_logits is not None
    try:
        for from_logits in (True, False):
            metric.for_logits(from_logits)
    except ValueError:
        return False
    return True
