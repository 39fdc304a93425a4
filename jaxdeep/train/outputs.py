"""What a model puts out: decided once, by its last layer and its loss, for all who depend on it."""

import functools
from typing import Any

from jaxdeep.losses import reads
from jaxdeep.metrics import Metric, accuracy, binary_accuracy
from jaxdeep.metrics.streaming import check_agreement
from jaxdeep.train.state import Network, PerExample


def puts_out(model: Network, loss: PerExample) -> str | None:
    """What the model puts out, "logits" or "probabilities"; None if neither it nor the loss says it.

    Of several outputs each is compared with its own loss; what they put out is None.
    """
    known, taken = getattr(model, "meaning", None), reads(loss)
    if isinstance(taken, dict):
        branches = known if isinstance(known, dict) else {}
        in_order = dict(enumerate(branches.values()))
        for name, one in taken.items():
            functions = loss.of_outputs  # type: ignore[attr-defined]
            _check(branches.get(name, in_order.get(name)), one, functions[name], f"output {name!r}: ")
        return None
    if isinstance(known, dict):
        return None
    _check(known, taken, loss, "")
    return taken or (known if known == "probabilities" else None)


def _check(known: Any, taken: str | None, loss: PerExample, where: str) -> None:
    """Refuse a loss that takes an output for something else than the model says it is."""
    if known == "probabilities" and taken == "logits":
        raise ValueError(
            f"{where}the model ends in a softmax or a sigmoid, so that it puts out probabilities, and "
            "the loss takes logits: leave that activation out (better), or use "
            f"functools.partial({_inner(loss).__name__}, from_logits=False)"
        )
    if known == "scores" and taken == "probabilities":
        raise ValueError(
            f"{where}the loss takes probabilities (from_logits=False), and the model ends in a layer "
            "without an activation: use from_logits=True, or end it in a softmax or a sigmoid"
        )


def _inner(function: Any) -> Any:
    """The function inside any `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def told(
    metrics: dict[str, PerExample | Metric], puts_out: str | None
) -> dict[str, PerExample | Metric]:
    """The metrics for a model that puts out logits or probabilities, where they depend on it."""
    if puts_out is None:
        return metrics
    from_logits = puts_out == "logits"

    def of_it(metric: Any) -> Any:
        if isinstance(metric, Metric):
            return metric.given(from_logits) if metric.given else metric
        if _inner(metric) not in (accuracy, binary_accuracy):
            return metric
        if (said := _said(metric)) is not None:
            check_agreement(said, from_logits)
        return functools.partial(metric, from_logits=from_logits)

    found = {}
    for name, metric in metrics.items():
        try:
            found[name] = of_it(metric)
        except ValueError as error:
            raise ValueError(f"metrics[{name!r}]: {error}") from None
    return found


def _said(metric: Any) -> bool | None:
    """What a partial says that the outputs are."""
    while isinstance(metric, functools.partial):
        if (said := metric.keywords.get("from_logits")) is not None:
            return bool(said)
        metric = metric.func
    return None
