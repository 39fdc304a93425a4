"""The question of ``compare``: from the arguments of the command to those of `jaxdeep.compare`."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxdeep.cli import arguments, networks
from jaxdeep.cli.comparing import candidates
from jaxdeep.cli.comparing.candidates import Entrant
from jaxdeep.cli.comparing.changes import Change, change
from jaxdeep.cli.comparing.data import Data
from jaxdeep.cli.comparing.setup import Setup, batch_size_of, setup_of
from jaxdeep.cli.networks import Network
from jaxdeep.cli.written import Written
from jaxdeep.comparison.candidate import nearest, width
from jaxdeep.comparison.schedule import NAMES


class Question(NamedTuple):
    """What is asked.

    Attributes:
      data: what candidates are compared on.
      entrants: the candidates by name.
      setups: of each network among them.
      arguments: of `jaxdeep.compare`.
    """

    data: Data
    entrants: dict[str, Entrant]
    setups: dict[Network, Setup]
    arguments: dict[str, Any]


def question_of(args: argparse.Namespace, data: Data) -> Question:
    """The question that the arguments ask of these data.

    Raises:
      ValueError, TypeError, ImportError: an argument that is wrong, by its flag.
    """
    if args.schedule not in NAMES:
        hint = nearest(args.schedule, NAMES)
        raise ValueError(
            f"argument --schedule: must be one of {', '.join(NAMES)}, got {args.schedule!r}{hint}"
        )
    if args.seeds < 2:
        raise ValueError("argument --seeds: must be at least 2: one run says nothing of how sure it is")
    varied = candidates.vary(args.vary)
    if "schedule" in varied and args.schedule != "constant":
        raise ValueError("argument --schedule: does not go with --vary schedule=…")
    settings = {flag: getattr(args, flag.replace("-", "_")) for flag in (*networks.FLAGS, "recipe")}
    network = networks.changed(
        Network(), {flag: value for flag, value in settings.items() if value is not None}
    )
    setups: dict[Network, Setup] = {}

    def model_of(network: Network) -> Any:
        if network not in setups:
            setups[network] = setup_of(network, data, args.metric)
        return setups[network].model.value

    changes = [change(f"--{flag}", text) for flag in ("set", "space") for text in getattr(args, flag)]
    names = None if args.optimizers is None else candidates.optimizers_of(args.optimizers)
    entrants = candidates.entrants(names, varied, changes, network, model_of)
    for one in changes:
        _check_tuned(one, entrants, args.budget)
    return Question(data, entrants, setups, _arguments(args, entrants, setups, data))


def _check_tuned(change: Change, entrants: Mapping[str, Entrant], budget: int) -> None:
    """Refuse bounds of what the budget is too small to tune."""
    one = next(entrant for entrant in entrants.values() if entrant.short == change.candidate)
    names = [*one.candidate.space]
    if change.flag != "--space" or not one.candidate.default:
        return
    if (place := names.index(change.name)) >= width(budget):
        enough = next(n for n in (10, 25, 64) if width(n) > place)
        raise change.error(
            f"{arguments.several(budget, 'trial')} tune {' and '.join(names[: width(budget)])} of "
            f"{change.candidate} alone; {change.name} takes --budget {enough}"
        )


def _arguments(
    args: argparse.Namespace,
    entrants: Mapping[str, Entrant],
    setups: Mapping[Network, Setup],
    data: Data,
) -> dict[str, Any]:
    """The arguments of `jaxdeep.compare`."""
    made: dict[Network, dict[str, Any]] = {
        network: {"model": setup.model.value, **{name: one.value for name, one in setup.also.items()}}
        for network, setup in setups.items()
    }
    networks_used = list(dict.fromkeys(one.network for one in entrants.values()))
    shared, compared = made[networks_used[0]], {}
    if len(networks_used) > 1:
        shared = {name: shared[name] for name in ("loss", "metrics")}
    for label, one in entrants.items():
        also = made[one.network] if len(networks_used) > 1 else {}
        also = {name: value for name, value in also.items() if name not in shared}
        compared[label] = one.candidate
        if also or _is_around(one.network):
            build = _Built(one.candidate.build, one.network, also)
            compared[label] = one.candidate._replace(build=build)
    names = ("metric", "budget", "seeds", "schedule", "worth", "level", "seed", "epochs")
    return {
        "candidates": compared,
        "data": data.train,
        "validation": data.validation,
        "test": data.test,
        **{name: getattr(args, name) for name in names},
        "target": args.reach,
        "checkpoint": args.out / "runs",
        "batch_size": batch_size_of(args, data),
        **shared,
    }


def _is_around(network: Network) -> bool:
    return bool(network.clip or network.max_norm)


class _Built:
    """What a candidate's build gives, with the network that it is compared with."""

    def __init__(self, build: Callable[[Any], Any], network: Network, also: Mapping[str, Any]) -> None:
        self.build, self.network, self.also = build, network, also

    def __call__(self, hp: Any) -> dict[str, Any]:
        """The arguments of `jaxdeep.fit` of a point."""
        built = self.build(hp)
        built = dict(built) if isinstance(built, Mapping) else {"optimizer": built}
        if _is_around(self.network) and "optimizer" in built:
            built["optimizer"] = networks.around(self.network, Written(built["optimizer"], "")).value
        return {**self.also, **built}
