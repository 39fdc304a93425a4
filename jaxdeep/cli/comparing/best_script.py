"""``best.py``: a script that trains the winner of a comparison again, through the public interface."""

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

import optax

import jaxdeep
from jaxdeep.cli import functions, networks
from jaxdeep.cli.comparing.candidates import Entrant
from jaxdeep.cli.comparing.question import Question
from jaxdeep.cli.written import Written, called, code
from jaxdeep.comparison import Comparison
from jaxdeep.comparison.candidate import COLUMN
from jaxdeep.comparison.catalogue import Made
from jaxdeep.comparison.schedule import calls, plateau_of

_RATE = "learning_rate"
_SAME_BITS = """\
# A sweep of this one point: the numbers of this optimizer, or of its schedule, are arguments of the
# program there, as they were in the comparison. `jd.fit` would take them as constants, which compiles to
# a program of other roundings."""


def best_script(answer: Comparison, question: Question, args: argparse.Namespace) -> str:
    """The script of the run that `Comparison.best` names.

    A run of a comparison has the bits of `jaxdeep.fit` if its hyperparameters are those of jaxdeep's own
    optimizers, which live in their states. Other numbers are arguments of the program of a sweep, and
    only a sweep of the same point has the same bits.
    """
    label, number = answer.best()
    one, value = question.entrants[label], float(answer.test[label][answer.metric][number])
    setup, point, path = question.setups[one.network], dict(answer.chosen[label]), _path(one)
    schedule = (one.candidate.schedule or args.schedule) if one.candidate.scheduled else "constant"
    is_own = path is not None and path.startswith("jd.optimizers.")
    by_fit = is_own and schedule in ("constant", "performance")
    passed = {
        "validation": "validation",
        **{name: written.code for name, written in setup.also.items()},
        "epochs": str(args.epochs),
        "batch_size": str(answer.about["batch_size"]),
    }
    if (plateau := plateau_of(schedule, f"val_{answer.metric}", answer.mode, args.epochs)) is not None:
        how = [f"{name}={code(getattr(plateau, name))}" for name in ("patience", "monitor", "mode")]
        passed["plateau"] = called("jd.train.ReduceOnPlateau", how)
    values = {name: code(setting) if by_fit else f"hp[{code(name)}]" for name, setting in point.items()}
    if _RATE in values:
        steps = answer.plan.steps_of(answer.plan.built({**point, COLUMN: label}))
        values[_RATE] = calls(schedule, values[_RATE], steps) or values[_RATE]
    optimizer = networks.around(one.network, Written(optax.identity(), _optimizer(path, values))).code
    training = _fitted(passed, optimizer, number) if by_fit else _swept(passed, optimizer, point, number)
    build = "" if path is not None else f"build = {_build(one)}\n"
    metric = code(answer.metric)
    return f'''\
"""{label}, the winner of a comparison, trained again: the run with seed {number}.

The comparison was
  {shlex.join(["python", "-m", "jaxdeep", *args.typed])}
"""

{_imports(one, optimizer, from_file=bool(question.data.rows))}
REPORTED = {value!r}  # the {answer.metric} of this run on the test rows

{question.data.reading}
# What the task decides: the loss, the metrics, and the last layer.
recipe = {setup.recipe.code}
model = {setup.model.code}
seeds = jax.random.fold_in(jax.random.key({args.seed}), 1)  # those of the final runs
{build}{training}
value = float(measured[{metric}])
print("test", {metric}, value, "as reported" if value == REPORTED else f"and not {{REPORTED}}")
'''


def _fitted(passed: Mapping[str, str], optimizer: str, seed: int) -> str:
    arguments = {"optimizer": optimizer, **passed, "key": f"jax.random.fold_in(seeds, {seed})"}
    result = called("jd.fit", ["model", "train", *_named(arguments)])
    return f"result = {result}\nmeasured = result.evaluate(test)"


def _swept(passed: Mapping[str, str], optimizer: str, point: Mapping[str, Any], seed: int) -> str:
    arguments = {"model": "model", "data": "train", **passed, "seeds": str(seed + 1), "key": "seeds"}
    table = called("jd.sweep", [f"lambda hp: {optimizer}", f"[{code(dict(point))}]", *_named(arguments)])
    judged = {name: passed[name] for name in ("loss", "metrics", "penalty") if name in passed}
    measured = called("jd.evaluate", ["model", "params", "state", "test", *_named(judged)])
    return f"{_SAME_BITS}\ntable = {table}\nparams, state = table.trained({seed})\nmeasured = {measured}"


def _named(texts: Mapping[str, str]) -> list[str]:
    return [f"{name}={text}" for name, text in texts.items()]


def _optimizer(path: str | None, values: Mapping[str, str]) -> str:
    """The optimizer of a point, whose values are these texts."""
    if path is None:
        inside = ", ".join(f"{code(name)}: {text}" for name, text in values.items())
        return f"build({{{inside}}})"
    others = _named({name: text for name, text in values.items() if name != _RATE})
    return called(path, [values[_RATE], *others] if _RATE in values else others)


def _path(entrant: Entrant) -> str | None:
    """The public name of the function that makes the optimizer; None if it has none."""
    build = entrant.candidate.build
    if not isinstance(build, Made) or build.always:
        return None
    known = getattr(build.factory, "__name__", "")
    for module, name in (
        (jaxdeep.optimizers, "jd.optimizers"),
        (optax, "optax"),
        (optax.contrib, "optax.contrib"),
    ):
        if getattr(module, known, None) is build.factory:
            return f"{name}.{known}"
    if ":" in entrant.optimizer and functions.found(entrant.optimizer, "--optimizers") is build.factory:
        return entrant.optimizer.replace(":", ".")
    return None


def _build(entrant: Entrant) -> str:
    """The function of a point, where it has no name of its own."""
    if ":" not in entrant.optimizer:
        return f"jd.comparison.named({code(entrant.optimizer)}, model=model).build"
    call = "()" if callable(functions.found(entrant.optimizer, "--optimizers")) else ""
    return f"{entrant.optimizer.replace(':', '.')}{call}.build"


def _imports(entrant: Entrant, optimizer: str, *, from_file: bool) -> str:
    """The imports, and where modules of the user's are."""
    user_functions = list(
        dict.fromkeys(t for t in (entrant.optimizer, entrant.network.model) if ":" in t)
    )
    folders = list(dict.fromkeys(filter(None, map(functions.folder_of, user_functions))))
    lines = [*(["import pathlib"] if from_file else []), *(["import sys"] if folders else [])]
    lines += [*([""] if lines else []), "import jax", *(["import numpy as np"] if from_file else [])]
    lines += ["import optax"] if "optax." in optimizer else []
    lines += ["", "import jaxdeep as jd", ""]
    if user_functions:
        lines += [f"sys.path.insert(0, {code(folder)})" for folder in folders]
        lines += [*dict.fromkeys(f"import {text.partition(':')[0]}" for text in user_functions), ""]
    return "\n".join(lines)
