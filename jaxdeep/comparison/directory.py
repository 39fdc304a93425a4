"""What a comparison notes in its directory beside its sweeps: the question, and what was chosen."""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxdeep.comparison.plan import Plan

_QUESTION, _CHOSEN = "question.json", "chosen.json"
_GROWING = ("budget", "seeds", "epochs")
_OTHERS = ("batch_size", "schedule", "rows", "seed")  # whatever else differs is refused by the sweeps


def check_asked(plan: Plan, folder: pathlib.Path) -> None:
    """See that the question is the one that stands in the directory, if one does.

    Budget and seeds may have grown, and epochs where no schedule is as long as the run; candidates may
    have been added. What decides (metric, `worth`, the level, the target) may differ, since it changes
    no run.

    Raises:
      ValueError: another question, by what differs.
    """
    path = folder / _QUESTION
    if not path.exists():
        return
    differ = list(_differences(json.loads(path.read_text(encoding="utf-8")), _question(plan), plan))
    if differ:
        raise ValueError(
            f"checkpoint={str(folder)!r} holds another comparison: {'; '.join(differ)}. Ask that "
            "one, or give a new directory"
        )


def note_asked(plan: Plan, folder: pathlib.Path) -> None:
    """Note the question in the directory, once its runs have been accepted there."""
    replaced(folder / _QUESTION, json.dumps(_question(plan), indent=1) + "\n")


def _question(plan: Plan) -> dict[str, Any]:
    about = plan.about()
    names = (*_GROWING, *_OTHERS, "spaces")
    return {**{name: about[name] for name in names}, "test": plan.checksums["test"]}


def replaced(path: pathlib.Path, text: str) -> pathlib.Path:
    """Write a text file in one step."""
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path


def ever_chosen(folder: pathlib.Path, chosen: Mapping[str, int]) -> list[tuple[str, int]]:
    """All trials that were ever chosen, by candidate and number, the earlier ones first.

    A larger budget may choose others, and the sweep of the final runs forgets none.
    """
    path = folder / _CHOSEN
    earlier = [(name, i) for name, i in json.loads(path.read_text())] if path.exists() else []
    every = list(dict.fromkeys([*earlier, *chosen.items()]))
    if every != earlier:
        replaced(path, json.dumps(every) + "\n")
    return every


def _differences(then: Mapping[str, Any], now: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    for name in _GROWING:
        if now[name] < then[name]:
            yield f"{name} was {then[name]} and is {now[name]} (it may grow)"
    budgets = then["budget"], now["budget"]
    if budgets[0] < budgets[1] and plan.tuned(budgets[0]) != plan.tuned(budgets[1]):
        yield f"budget was {budgets[0]} and is {budgets[1]}, which tunes more hyperparameters"
    if then["epochs"] < now["epochs"] and plan.has_schedule:
        grown = f"epochs was {then['epochs']} and is {now['epochs']}"
        yield f"{grown}, and the schedule is as long as the run"
    if then["rows"] == now["rows"] and then["test"] != now["test"]:
        yield "the test rows are others"
    for name in _OTHERS:
        if name in then and now[name] != then[name]:
            verb = "were" if name.endswith("s") else "was"
            yield f"{name} {verb} {_shown(then[name])} and {_IS[verb]} {_shown(now[name])}"
    for name, space in then["spaces"].items():
        if name not in now["spaces"]:
            yield f"{name} was among the candidates and is not (some may be added)"
        elif space != now["spaces"][name]:
            yield f"the space of {name} was {space} and is {now['spaces'][name]}"


_IS = {"was": "is", "were": "are"}


def _shown(value: Any) -> str:
    return ", ".join(f"{k} {v:,}" for k, v in value.items()) if isinstance(value, dict) else str(value)
