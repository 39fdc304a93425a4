"""The candidates of ``compare``: optimizers by name or of one's own, with what is fixed and varied."""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxdeep.cli import functions, networks
from jaxdeep.cli.comparing.changes import Change, changed, fixed
from jaxdeep.cli.networks import Network
from jaxdeep.comparison import catalogue
from jaxdeep.comparison.candidate import Candidate, checked, nearest
from jaxdeep.comparison.schedule import NAMES

QUICK = ("sgd", "nag", "adam")
_VARIED_ALONE = {"momentum": "nag", "weight_decay": "adamw"}  # else adam
_NOT_VARIED = ("epochs", "batch-size", "budget", "seeds", "recipe")


class Entrant(NamedTuple):
    """A candidate as the command line names it.

    Attributes:
      optimizer: its optimizer, as it was named.
      candidate: the candidate of this optimizer.
      network: its network.
    """

    optimizer: str
    candidate: Candidate
    network: Network

    @property
    def short(self) -> str:
        """The name of its optimizer, without a module."""
        return self.optimizer.rpartition(":")[2]


def optimizers_of(text: str) -> tuple[str, ...]:
    """The optimizers of a list, each once.

    Raises:
      ValueError: one that is named twice, or with a rate.
    """
    names = tuple(map(str.strip, text.split(",")))
    if not all(names):
        raise ValueError(f"argument --optimizers: must be names between commas, got {text!r}")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"argument --optimizers: {name!r} is named twice")
        first, colon, second = name.partition(":")
        if colon and second and not second.isidentifier():
            raise ValueError(
                f"argument --optimizers: {name!r} is no MODULE:FUNCTION; rates are tuned, and --set "
                f"{first}.learning_rate={second} fixes one"
            )
    return names


def entrants(
    optimizers: Sequence[str] | None,
    varied: Mapping[str, Sequence[str]],
    changes: Sequence[Change],
    network: Network,
    model_of: Callable[[Network], Any],
) -> dict[str, Entrant]:
    """The candidates by name: optimizers, crossed with what is varied.

    Args:
      optimizers: names and ``module:function``; None for those that suit what is varied.
      varied: values by name of ``--vary``.
      changes: of ``--set`` and ``--space``.
      network: that of all, but for what is varied.
      model_of: makes the model of a network.

    Raises:
      ValueError: an unknown name, a value that is none, a space without room.
    """
    if optimizers is None:
        usual = [_VARIED_ALONE.get(name.replace("-", "_")) for name in varied]
        optimizers = (next(filter(None, usual), "adam"),) if varied else catalogue.DEFAULT
    short = {name: name.rpartition(":")[2] for name in optimizers}
    for name in short.values():
        if list(short.values()).count(name) > 1:
            raise ValueError(f"argument --optimizers: {name!r} is named twice")
    for one in changes:
        if one.candidate not in short.values():
            hint = nearest(one.candidate, [*short.values()])
            raise one.error(f"no candidate {one.candidate!r}{hint}")
    by_label = {}
    for name, values in itertools.product(optimizers, itertools.product(*varied.values())):
        chosen = dict(zip(varied, values))
        varied_network = networks.changed(
            network, {flag: _value(flag, chosen[flag]) for flag in chosen if flag in networks.FLAGS}
        )
        candidate = _candidate(name, model_of(varied_network))
        if varied_network.max_norm and name.startswith("schedule_free"):
            raise ValueError(
                f"argument --max-norm: does not go with {name}, whose weights are an average of others"
            )
        for one in changes:
            if one.candidate == short[name]:
                candidate = changed(candidate, one)
        for flag, text in chosen.items():
            if flag == "schedule":
                candidate = _scheduled(short[name], candidate, text)
            elif flag not in networks.FLAGS:
                own_value = Change("--vary", short[name], flag.replace("-", "_"), text)
                candidate = fixed(candidate, own_value, [*networks.FLAGS, "schedule"])
        flags = [one.flag for one in changes if one.candidate == short[name]]
        _try_out(name, candidate, [*flags, *["--vary"] * bool(chosen)])
        said = [f"{flag}={text}" for flag, text in chosen.items()]
        label = ", ".join(said if said and len(optimizers) == 1 else [short[name], *said])
        by_label[label] = Entrant(name, candidate, varied_network)
    return by_label


def vary(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Values by name, of ``NAME=V1,V2``.

    Raises:
      ValueError: another form, a single value, what all candidates have in common.

    >>> vary(["dropout=0,0.2"])
    {'dropout': ('0', '0.2')}
    """
    varied: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        name = "batch-norm" if name == "batch_norm" else name
        choices = tuple(value.strip() for value in values.split(","))
        if not name or len(choices) < 2 or not all(choices):
            raise ValueError(f"argument --vary: must be NAME=V1,V2,…, got {text!r}")
        if name in _NOT_VARIED:
            raise ValueError(f"argument --vary: all candidates have the same {name}")
        if name in varied or len(set(choices)) < len(choices):
            raise ValueError(f"argument --vary: {text!r} says something twice")
        varied[name] = choices
    return varied


def _value(flag: str, text: str) -> Any:
    parse, _, _ = networks.FLAGS[flag]
    try:
        return parse(text)
    except Exception as error:
        raise ValueError(f"argument --vary: {flag} {error}") from None


def _candidate(name: str, model: Any) -> Candidate:
    """The candidate that is named, with its space checked."""
    if ":" not in name:
        return catalogue.named(name, model=model)
    candidate = functions.found(name, "--optimizers")
    if inspect.isfunction(candidate) and functions.needs_nothing(candidate):
        with functions.calling(name, "--optimizers"):
            candidate = candidate()
    if inspect.isfunction(candidate) or isinstance(candidate, functools.partial):
        first = next(iter(inspect.signature(candidate).parameters), None)
        if first != "learning_rate":
            raise ValueError(
                f"argument --optimizers: {name} must be a jaxdeep.comparison.Candidate, a function "
                "without arguments that returns one, or a function of learning_rate"
            )
        candidate = catalogue.of_function(candidate) or catalogue.of_factory(candidate)
    return checked(name.rpartition(":")[2], candidate)


def _try_out(name: str, candidate: Candidate, flags: Sequence[str]) -> None:
    """Build the first trial, so that values out of their range are refused by the flag that set them."""
    first = candidate.default or {name: space.at(0.5) for name, space in candidate.space.items()}
    with functions.calling(name, "--optimizers"):
        try:
            candidate.build({**first, **candidate.fixed})
        except (TypeError, ValueError) as error:
            if not flags:
                raise
            raise ValueError(f"argument {flags[0]}: {error}") from None


def _scheduled(name: str, candidate: Candidate, schedule: str) -> Candidate:
    if schedule not in NAMES:
        hint = nearest(schedule, NAMES)
        raise ValueError(
            f"argument --vary: schedule must be one of {', '.join(NAMES)}, got {schedule!r}{hint}"
        )
    if not candidate.scheduled:
        raise ValueError(f"argument --vary: {name} has no schedule that could vary")
    return candidate._replace(schedule=schedule)
