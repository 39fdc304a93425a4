"""What is reported of a batch beside its loss: metrics by name, of all outputs or of one of several."""

import types
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxdeep import _checks
from jaxdeep._compilation import inside
from jaxdeep._shapes import PyTree
from jaxdeep.metrics import Metric
from jaxdeep.train.outputs import puts_out, told
from jaxdeep.train.state import Network, PerExample

NamedMetrics = Mapping[str, PerExample | Metric | Mapping[str, PerExample | Metric]]
_WHOLE = None  # in the place of an output's name: the output as it is


class Reported(NamedTuple):
    """What is reported under a name.

    Attributes:
      function: a function of outputs and targets, or a streaming metric.
      output: the name, or the number, of the one of several outputs that it is of; None for all.
      is_loss: whether it is a part of the loss, which is averaged as that is.
    """

    function: PerExample | Metric
    output: Hashable = _WHOLE
    is_loss: bool = False

    def of(self, argument: str, tree: PyTree) -> PyTree:
        """The part of the outputs, or of the targets, that it is of."""
        if self.output is _WHOLE:
            return tree
        try:
            return tree[self.output]
        except (KeyError, IndexError, TypeError):
            there = [*tree] if isinstance(tree, Mapping) else f"{type(tree).__name__}"
            raise ValueError(
                f"the {argument} have no part {self.output!r}, for which there are metrics; got {there}"
            ) from None


def reported(model: Network, loss: PerExample, metrics: NamedMetrics | None) -> dict[str, Reported]:
    """All that is reported, by name, told what the model puts out.

    Of a loss of several outputs (`jaxdeep.losses.weighted`) there is the loss of each, ``name/loss``.

    Raises:
      TypeError: what is no function and no metric, a name that is none.
      ValueError: a name that means something else, or that two would have; a metric that takes the
        outputs for something else.
    """
    if isinstance(loss, (Mapping, list, tuple)):
        raise TypeError(
            f"loss must be a function of (outputs, y), got {loss!r}; that of several outputs is "
            "jaxdeep.losses.weighted({name: loss, …})"
        )
    _checks.check_takes("loss", loss, "outputs", "y")
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be a dict of functions by name, got {metrics!r}")
    groups: dict[Hashable, dict[str, Any]] = {_WHOLE: {}}
    for name, metric in (metrics or {}).items():
        if isinstance(metric, Mapping):
            groups[name] = dict(metric)
        else:
            groups[_WHOLE][name] = metric
    parts = getattr(inside(loss), "of_outputs", {})
    by_name, sources = dict[str, Reported](), dict[str, str]()

    def add(full: str, one: Reported, source: str) -> None:
        if full in by_name:
            raise ValueError(
                f"{sources[full]} and {source} would both be reported as {full!r}: call one of them "
                "otherwise"
            )
        by_name[full], sources[full] = one, source

    for name, part in parts.items():
        add(f"{name}/loss", Reported(part, name, is_loss=True), f"the loss of output {name!r}")
    for output, group in groups.items():
        within = "metrics" if output is _WHOLE else f"metrics[{output!r}]"
        _check(group, within)
        _check_output(output)
        if parts and output is _WHOLE:
            _check_of_one(group, list(parts))
        one, its_loss = (model, loss) if output is _WHOLE else (_part(model, output), parts.get(output))
        said = puts_out(one, its_loss) if its_loss is not None else None
        for name, function in told(group, one, said, within=within).items():
            full = name if output is _WHOLE else f"{output}/{name}"
            add(full, Reported(function, output), f"{within}[{name!r}]")
    return by_name


def _check_of_one(metrics: Mapping[str, Any], outputs: Sequence[Hashable]) -> None:
    """Refuse, of metrics of all of several outputs, one of a library, which takes a single one."""
    for name, metric in metrics.items():
        function = (
            getattr(metric.update, "of_mean", metric.update) if isinstance(metric, Metric) else metric
        )
        inner = inside(function)
        module = str(getattr(inner, "__module__", ""))
        if module.startswith(_OF_ONE) and not hasattr(inner, "of_outputs"):
            raise TypeError(of_several(f"metrics[{name!r}]", outputs))


_OF_ONE = ("jaxdeep.metrics", "jaxdeep.losses", "optax.losses")


def of_several(name: str, outputs: Sequence[Hashable]) -> str:
    """What is said of a loss or a metric that takes one output, where a model has several of these.

    >>> of_several("metrics['rmse']", ["main", "other"])  # doctest: +ELLIPSIS
    "metrics['rmse'] does not take several outputs, and the model has 'main', 'other': give it to one ...
    """
    metric_name = name.removeprefix("metrics[").removesuffix("]")
    shown = ", ".join(map(repr, outputs))
    if metric_name != name:
        form = f"give it to one of them, metrics={{{outputs[0]!r}: {{{metric_name}: …}}}}"
    elif outputs[0] == 0:
        form = "give each its own, jaxdeep.losses.weighted([loss, …])"
    else:
        form = f"give each its own, jaxdeep.losses.weighted({{{outputs[0]!r}: loss, …}})"
    return f"{name} does not take several outputs, and the model has {shown}: {form}"


def names_of(metrics: NamedMetrics | None) -> list[str]:
    """The names under which metrics are in a history.

    >>> from jaxdeep import losses
    >>> names_of({"mae": losses.mae, "main": {"mse": losses.mse}})
    ['mae', 'main/mse']
    """
    return [name for name, _ in _flat(metrics or {})]


def metric_of(metrics: NamedMetrics | None, name: str) -> Any:
    """The metric that is in a history under this name; None if there is none."""
    return dict(_flat(metrics or {})).get(name)


def _flat(metrics: NamedMetrics) -> Iterator[tuple[str, Any]]:
    for name, metric in metrics.items():
        if isinstance(metric, Mapping):
            yield from ((f"{name}/{metric_name}", one) for metric_name, one in metric.items())
        else:
            yield name, metric


def _part(model: Network, output: Hashable) -> Any:
    """What the model says of one of its outputs."""

    def along(about: Any) -> Any:
        if not isinstance(about, Mapping):
            return None
        return about.get(output, dict(enumerate(about.values())).get(output))  # type: ignore[call-overload]

    said = {name: along(getattr(model, name, None)) for name in ("meaning", "constant", "exclusive")}
    return types.SimpleNamespace(**said)


def _check_output(output: Hashable) -> None:
    if output is not _WHOLE and (isinstance(output, bool) or not isinstance(output, (str, int))):
        raise TypeError(f"outputs with metrics are named by texts, or numbered, got {output!r}")


def _check(metrics: Mapping[str, Any], within: str) -> None:
    """Refuse what is no function, and what is no name."""
    for name, metric in metrics.items():
        if within == "metrics" and type(metric) in (list, tuple):
            one = getattr(inside(metric[0]), "__name__", "name") if metric else "name"
            raise TypeError(
                f"metrics[{name!r}] must be a function (outputs, y) -> values, or, of one of several "
                f"outputs, a dict of them by name, metrics={{{name!r}: {{{one!r}: …}}}}; got {metric!r}"
            )
        if not isinstance(metric, Metric):
            _checks.check_takes(f"{within}[{name!r}]", metric, "outputs", "y")
    check_metric_names(metrics, TAKEN if within == "metrics" else ("loss",))


TAKEN = ("loss", "step")


def check_metric_names(metrics: Mapping[str, object], taken: Sequence[str] = TAKEN) -> None:
    """Refuse what is no string or empty, and names that mean something else in a history or a log."""
    for name in metrics:
        if not isinstance(name, str):
            raise TypeError(f"the names of metrics must be strings, got {name!r}")
        if not name:
            raise ValueError("metrics may not be called '', which is no name")
        if name in taken or name.startswith("val_"):
            raise ValueError(
                f"metrics may not be called {name!r}: 'loss' is the loss, 'step' the number of an epoch "
                "in a log, and 'val_…' are the values on the validation data"
            )


def apart(what: str, known: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a history knows by name beside the values of a step, none of which may hide another.

    >>> apart("a hyperparameter", {"momentum": 0.9}, {"loss": 0.5})
    {'momentum': 0.9, 'loss': 0.5}
    >>> apart("a hyperparameter", {"momentum": 0.9}, {"loss": 0.5, "momentum": 1})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: metrics may not be called 'momentum', which is the name of a hyperparameter in the ...
    """
    for name in values:
        if name in known:
            raise ValueError(
                f"metrics may not be called {name!r}, which is the name of {what} in the history"
            )
    return {**known, **values}
