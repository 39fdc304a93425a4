"""The candidates of ``compare``: optimizers by name or of one's own, with what is fixed and varied."""

import ast
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxdeep.cli import functions, networks
from jaxdeep.cli.networks import Network
from jaxdeep.comparison import catalogue
from jaxdeep.comparison.candidate import Candidate, checked, nearest
from jaxdeep.comparison.schedule import NAMES
from jaxdeep.search.spaces import distributions

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


class Change(NamedTuple):
    """``CANDIDATE.NAME=TEXT`` of ``--set`` and ``--space``."""

    flag: str
    candidate: str
    name: str
    text: str

    def error(self, text: str) -> ValueError:
        """An error that names the flag."""
        return ValueError(f"argument {self.flag}: {text}")


def change(flag: str, text: str) -> Change:
    """The change that ``CANDIDATE.NAME=TEXT`` asks for.

    Raises:
      ValueError: another form.

    >>> change("--set", "adam.b1=0.95")
    Change(flag='--set', candidate='adam', name='b1', text='0.95')
    """
    path, _, value = text.partition("=")
    candidate, _, name = path.rpartition(".")
    if not (candidate and name and value):
        form = "VALUE" if flag == "--set" else "LOW:HIGH"
        raise ValueError(f"argument {flag}: must be CANDIDATE.NAME={form}, got {text!r}")
    return Change(flag, candidate.strip(), name.strip().replace("-", "_"), value)


def optimizers_of(text: str) -> tuple[str, ...]:
    """The optimizers of a list, each once.

    Raises:
      ValueError: one that is named twice, or with a rate.
    """
    found = tuple(map(str.strip, text.split(",")))
    for name in found:
        if found.count(name) > 1:
            raise ValueError(f"argument --optimizers: {name!r} is named twice")
        first, colon, second = name.partition(":")
        if colon and second and not second.isidentifier():
            raise ValueError(
                f"argument --optimizers: {name!r} is no MODULE:FUNCTION; rates are tuned, and --set "
                f"{first}.learning_rate={second} fixes one"
            )
    return found


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
    found = {}
    for name, values in itertools.product(optimizers, itertools.product(*varied.values())):
        chosen = dict(zip(varied, values))
        own = networks.changed(
            network, {flag: _value(flag, chosen[flag]) for flag in chosen if flag in networks.FLAGS}
        )
        candidate = _candidate(name, model_of(own))
        for one in changes:
            if one.candidate == short[name]:
                candidate = _changed(candidate, one)
        for flag, text in chosen.items():
            if flag == "schedule":
                candidate = _scheduled(short[name], candidate, text)
            elif flag not in networks.FLAGS:
                fixed = Change("--vary", short[name], flag.replace("-", "_"), text)
                candidate = _fixed(candidate, fixed, [*networks.FLAGS, "schedule"])
        _try_out(candidate, [one.flag for one in changes if one.candidate == short[name]])
        said = [f"{flag}={text}" for flag, text in chosen.items()]
        label = ", ".join(said if said and len(optimizers) == 1 else [short[name], *said])
        found[label] = Entrant(name, candidate, own)
    return found


def vary(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Values by name, of ``NAME=V1,V2``.

    Raises:
      ValueError: another form, a single value, what all candidates have in common.

    >>> vary(["dropout=0,0.2"])
    {'dropout': ('0', '0.2')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        name = "batch-norm" if name == "batch_norm" else name
        each = tuple(value.strip() for value in values.split(","))
        if not name or len(each) < 2 or not all(each):
            raise ValueError(f"argument --vary: must be NAME=V1,V2,…, got {text!r}")
        if name in _NOT_VARIED:
            raise ValueError(f"argument --vary: all candidates have the same {name}")
        if name in found or len(set(each)) < len(each):
            raise ValueError(f"argument --vary: {text!r} says something twice")
        found[name] = each
    return found


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
    given = functions.found(name, "--optimizers")
    if inspect.isfunction(given) and functions.needs_nothing(given):
        given = given()
    if inspect.isfunction(given):
        first = next(iter(inspect.signature(given).parameters), None)
        if first != "learning_rate":
            raise ValueError(
                f"argument --optimizers: {name} must be a jaxdeep.comparison.Candidate, a function "
                "without arguments that returns one, or a function of learning_rate"
            )
        given = catalogue.of_function(given) or catalogue.of_factory(given)
    return checked(name.rpartition(":")[2], given)


def _try_out(candidate: Candidate, flags: Sequence[str]) -> None:
    """Build the first trial, so that values out of their range are refused by their flag."""
    first = candidate.default or {name: space.at(0.5) for name, space in candidate.space.items()}
    try:
        candidate.build({**first, **candidate.fixed})
    except (TypeError, ValueError) as error:
        raise ValueError(f"argument {(*flags, '--vary')[0]}: {error}") from None


def _changed(candidate: Candidate, change: Change) -> Candidate:
    return (_fixed if change.flag == "--set" else _spaced)(candidate, change)


def _fixed(
    candidate: Candidate, change: Change, others: Sequence[str] | Mapping[str, Any] = ()
) -> Candidate:
    """A hyperparameter that is no longer tuned."""
    name, known = change.name, _names_of(candidate)
    if name not in known:
        known += others
        raise change.error(
            f"{change.candidate} has no {name!r}{nearest(name, known)} (there are {', '.join(known)})"
        )
    value = _literal(change.text)
    usual = candidate.default.get(name)
    if isinstance(usual, float) and type(value) is int:
        value = float(value)
    if isinstance(usual, float) and type(value) is not float:
        raise change.error(f"{change.candidate}.{name} must be a number, got {change.text!r}")
    return candidate._replace(
        space={key: one for key, one in candidate.space.items() if key != name},
        default={key: one for key, one in candidate.default.items() if key != name},
        fixed={**candidate.fixed, name: value},
    )


def _spaced(candidate: Candidate, change: Change) -> Candidate:
    """A space with other bounds; the first trial stays within them."""
    name, known = change.name, [*candidate.space]
    if name not in known:
        raise change.error(
            f"{change.candidate} does not tune {name!r}{nearest(name, known)} (it tunes "
            f"{', '.join(known)})"
        )
    space = _bounded(candidate.space[name], change)
    default = dict(candidate.default)
    if default and not distributions.contains(space, default[name]):
        default[name] = space.at(0.5)
    # after the first one, so that small budgets tune what the user has named
    first, *others = known
    names = dict.fromkeys([first, name, *others])
    spaces = {**candidate.space, name: space}
    return candidate._replace(space={key: spaces[key] for key in names}, default=default)


def _bounded(space: Any, change: Change) -> Any:
    """A distribution of the same kind with other bounds."""
    if isinstance(space, distributions.Choice):
        values = [_literal(text) for text in change.text.split(",")]
        if ":" in change.text or len(set(values)) < 2:
            raise change.error(f"{change.name} is one of some values: give V1,V2,…, got {change.text!r}")
        return distributions.choice(values)
    low, high = (_literal(text) for text in change.text.partition(":")[::2])
    kinds = {
        distributions.Uniform: distributions.uniform,
        distributions.LogUniform: distributions.log_uniform,
        distributions.OneMinus: lambda low, high: distributions.one_minus(1 - high, 1 - low),
        distributions.Int: distributions.int_,
        distributions.LogInt: distributions.log_int,
    }
    if not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high)):
        raise change.error(f"must be {change.candidate}.{change.name}=LOW:HIGH, got {change.text!r}")
    if low >= high:
        raise change.error(f"{change.candidate}.{change.name} has no room between {low:g} and {high:g}")
    try:
        return kinds[type(space)](low, high)
    except (TypeError, ValueError) as error:
        raise change.error(f"{change.candidate}.{change.name}: {error}") from None


def _scheduled(name: str, candidate: Candidate, schedule: str) -> Candidate:
    if schedule not in NAMES:
        hint = nearest(schedule, NAMES)
        raise ValueError(
            f"argument --vary: schedule must be one of {', '.join(NAMES)}, got {schedule!r}{hint}"
        )
    if not candidate.scheduled:
        raise ValueError(f"argument --vary: {name} has no schedule that could vary")
    return candidate._replace(schedule=schedule)


def _names_of(candidate: Candidate) -> list[str]:
    """The hyperparameters that a candidate tunes, has, or could be given."""
    names = [*candidate.space, *candidate.fixed]
    if isinstance(candidate.build, catalogue.Made):
        parameters = inspect.signature(candidate.build.factory).parameters.values()
        named = [one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        names += [name for name in named if name not in (*names, *candidate.build.always)]
    return names


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return {"true": True, "false": False, "none": None}.get(text.strip().lower(), text.strip())
