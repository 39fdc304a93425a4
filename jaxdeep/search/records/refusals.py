"""What the directory of a sweep does not take: other sweeps, other rows, other things."""

import pathlib
from collections.abc import Mapping

from jaxdeep.fitting.description import difference_of
from jaxdeep.search.records.journal import POPULATION, SWEEP, Event
from jaxdeep.search.records.store import Row
from jaxdeep.train.options import TrialOptions, options_of

FORMAT = 2


def check_kind(path: pathlib.Path) -> None:
    """Refuse the directory of a population, and one with checkpoints of a run."""
    if (path / POPULATION).exists():
        raise ValueError(
            f"checkpoint={str(path)!r} holds a population ({POPULATION!r}), and no sweep; "
            "give another directory"
        )
    runs = [place.name for place in path.iterdir() if place.name.isdecimal() and place.is_dir()]
    if runs and not (path / SWEEP).exists():
        raise ValueError(
            f"checkpoint={str(path)!r} holds a checkpoint of a run of jaxdeep.fit ({runs[0]!r}), and no "
            "sweep; give another directory"
        )


def check_header(path: pathlib.Path, header: Event, about: Event) -> None:
    """Refuse the journal of another sweep, with what differs."""
    if not header:
        return
    if header.get("sweep") != FORMAT:
        by = header.get("made_with", {}).get("jaxdeep", "another version")
        raise ValueError(
            f"checkpoint={str(path)!r} holds a sweep in the format {header.get('sweep')!r}, "
            f"which jaxdeep {by} wrote, and this version goes on with those of format {FORMAT}. "
            "Finish it with that version, or give another directory"
        )
    there = header["about"]
    odd = [name for name in {**there, **about} if there.get(name) != about.get(name)]
    if odd:
        told = "; ".join(f"{n}: {difference_of(there.get(n), about.get(n))}" for n in odd)
        raise ValueError(
            f"checkpoint={str(path)!r} holds another sweep; it differs in {told}. Give a new "
            "directory, or delete that one"
        )


def check_row(
    path: pathlib.Path, row: Row, known: Event, made_of: Mapping[str, str], texts: Mapping[str, str]
) -> None:
    """Refuse a row that is there with another setup, or with more epochs."""
    there = known["made_of"]
    for name in {**there, **made_of}:
        if there.get(name) != made_of.get(name):
            default = repr(getattr(options_of(TrialOptions).get(name), "default", None))
            both = (texts.get(d.get(name, ""), default) for d in (there, made_of))
            other = f"{'other' if name == 'hyperparameters' else 'another'} {name}"
            raise ValueError(
                f"checkpoint={str(path)!r} holds a sweep whose row {point_of(known)} has "
                f"{other}: {difference_of(*both)}. Give a new "
                "directory, or delete that one"
            )
    if row.setup.epochs < known["epochs"]:
        raise ValueError(
            f"epochs must be at least {known['epochs']}, as in the sweep in {str(path)!r}, for "
            f"the row {point_of(known)}; got {row.setup.epochs}"
        )


def point_of(event: Event) -> str:
    """The point and the seed of a row, as an error names them."""
    return f"{event['point']} with seed {event['seed']}"
