"""Changes of what is tuned: ``--set`` fixes a hyperparameter, ``--space`` gives it other bounds."""

import ast
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxdeep.comparison import catalogue
from jaxdeep.comparison.candidate import Candidate, nearest
from jaxdeep.search.spaces import distributions


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


def changed(candidate: Candidate, change: Change) -> Candidate:
    """The candidate with this change.

    Raises:
      ValueError: a name that it does not have, a value or bounds that are none.
    """
    return (fixed if change.flag == "--set" else _spaced)(candidate, change)


def fixed(candidate: Candidate, change: Change, others: Sequence[str] = ()) -> Candidate:
    """The candidate with a hyperparameter that is no longer tuned.

    Raises:
      ValueError: a name that it does not have; `others` are names that could be meant, too.
    """
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
    if isinstance(space, distributions.OneMinus) and not (low >= 0 and high < 1):
        wrong = f"{low:g}" if low < 0 else f"{high:g}"
        raise change.error(f"{change.candidate}.{change.name} must be in [0, 1), got {wrong}")
    try:
        return kinds[type(space)](low, high)
    except (TypeError, ValueError) as error:
        raise change.error(f"{change.candidate}.{change.name}: {error}") from None


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
