"""What tells a run from others, as JSON that is kept beside its checkpoints."""

import contextlib
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep._shapes import PyTree
from jaxdeep._version import __version__
from jaxdeep.fitting.setup import Setup
from jaxdeep.lasting.fingerprint import fingerprint
from jaxdeep.lasting.identity import METRIC, lasting_repr, text_of
from jaxdeep.optimizers import hyperparams
from jaxdeep.train.options import TrialOptions, options_of
from jaxdeep.train.run import RunState
from jaxdeep.train.updating import DEFAULT as UPDATE_ARGS
from jaxdeep.tree import path_name

About = dict[str, Any]


def describe(
    setup: Setup,
    run: RunState,
    likes: Sequence[PyTree],
    contents: Mapping[str, Mapping[str, str] | None],
) -> About:
    """The description of a run, which tells it from others: names, shapes, hyperparameters, options.

    Args:
      setup: the setup of the run.
      run: the run before its first epoch.
      likes: the shapes of the data, and of the validation data if there are any.
      contents: by the same names, the fingerprints of arrays, and None for a loader.
    """
    ts = run.train_state
    rates = {name: np.asarray(v, np.float64).tolist() for name, v in hyperparams(ts.opt_state).items()}
    options = {name: setup.options[name] for name in _DESCRIBED}  # type: ignore[literal-required]
    options |= {"objective": setup.objective}
    if (passed := tuple(setup.options["update_args"])) != UPDATE_ARGS:
        options |= {"update_args": passed}
    if (every := setup.options.get("diagnostics")) is not None:
        options |= {"diagnostics": every}
    # a run with `ema` that earlier versions saved has none (`Checkpoints.restore`)
    averaged = {"averaged": shapes_by_path(run.averaged)} if jax.tree.leaves(run.averaged) else {}
    # nor do earlier versions know this
    before = {"before": shapes_by_path(run.decisions.before)} if run.decisions.before else {}
    return {
        "version": _VERSION,
        "model": lasting_repr(setup.model),
        "parameters": shapes_by_path(ts.params),
        "state": shapes_by_path(ts.state),
        **averaged,
        **before,
        "optimizer": shapes_by_path(ts.opt_state),
        "hyperparameters": rates,
        **{name: shapes_by_path(like) for name, like in zip(("data", "validation"), likes)},
        "contents": dict(contents),
        "metrics": sorted(run.history),
        "key": np.asarray(jax.random.key_data(ts.key)).tolist(),
        "arguments": {name: lasting_repr(value) for name, value in options.items()},
        "made_of": _made_of(
            {"model": setup.model, "optimizer": setup.optimizer}
            | {name: options[name] for name in options if name != "objective"}  # made of these
        ),
    }


def beginning(run: RunState, *, passed: bool) -> dict[str, str] | str:
    """What a run began with: checksums of all arrays if they were given, else that its key drew them.

    Args:
      run: the run before its first epoch.
      passed: whether its parameters, or the whole train state, were passed.

    Its key is described beside it.
    """
    if not passed:  # other machines and versions draw others
        return "what the key draws"
    ts = run.train_state
    named = {"params": ts.params, "state": ts.state}
    if int(ts.step):  # of a fresh one, numbers of the optimizer are told beside it
        named |= {"opt_state": ts.opt_state, "step": ts.step}
    return fingerprint(jax.tree.map(jnp.atleast_1d, named))


def differences(old: About, new: About, apart: Collection[str] = ()) -> list[str]:
    """Every entry in which a run is another than the one described before, with both.

    What things are made of counts where both know it, by the same versions.
    """
    made, anew = old.get("made_of", {}), new["made_of"]
    values, others = made.get("values", {}), anew["values"]
    if made.get("versions") != anew["versions"]:
        values = {}
    names = [name for name in {**old, **new} if name != "made_of" and name not in apart]
    differing = {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}
    odd = [name for name in values if values[name] != others.get(name, values[name])]
    for name in odd:  # which is shown alike, or else is found above
        if name not in differing and name not in _names_in(differing.get("arguments")):
            differing[name] = (values[name], others[name])
    return [f"{name}: {difference_of(*both)}" for name, both in differing.items()]


def _names_in(both: tuple[Any, Any] | None) -> list[str]:
    """The options that two descriptions of them have differently."""
    old, new = both or ({}, {})
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]


def _made_of(things: Mapping[str, object]) -> dict[str, Any]:
    """What things are made of, which tells apart what is shown alike.

    What cannot be known counts by its type, and the first parameters of adapted modules, which the run
    has left, do not count. Beside it are the versions that it holds for: others may write the same with
    another code.
    """
    known = {}
    for name, thing in things.items():
        with contextlib.suppress(ValueError):  # of what is nested too deeply
            known[name] = text_of(thing, name, strict=False)
    return {"versions": _versions(), "values": known}


def _versions() -> dict[str, str]:
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python, "jaxdeep": __version__, "jax": jax.__version__, "optax": optax.__version__}


_APART = ("epochs", "validation", "update_args")
_DESCRIBED = [name for name in options_of(TrialOptions) if name not in _APART]
_VERSION = 3
_WIDTH = 80  # of what is shown of a value
_WORD = r"[\w.<>]+"  # names of functions, and numbers
# Words of descriptions of versions 1 and 2 and today's: names of options, and patterns in reprs.
_OPTIONS = {"accumulate": "accumulation_steps"}
_WORDS = (
    (r"\bPlateau\(", "ReduceOnPlateau("),
    (r"\b((?:quantized_)?dense)\(units=", r"\1(features="),
    (r"\b((?:quantized_)?embedding)\(size=", r"\1(num_embeddings="),
    (r"(\bembedding\(num_embeddings=[^()]*, )init=", r"\1embedding_init="),
    (METRIC, "Metric"),
    (r"(\bEarlyStopping\([^()]*restore_best=\w+)\)", r"\1, ties='first')"),
)


def in_words_of_today(about: About) -> About:
    """A description in the words of the current version, whichever version wrote it."""
    if about.get("version") == _VERSION:
        return about

    def renewed(text: str) -> str:
        for old, new in _WORDS:
            text = re.sub(old, new, text)
        return text

    arguments = {_OPTIONS.get(name, name): renewed(value) for name, value in about["arguments"].items()}
    if about.get("version", 1) == 1 and arguments.get("on_nonfinite") == "'stop'":
        arguments["on_nonfinite"] = "'raise'"  # which version 1 wrote as "stop"
    return about | {"version": _VERSION, "model": renewed(about["model"]), "arguments": arguments}


def shapes_by_path(tree: PyTree) -> dict[str, str]:
    """The dtype and shape of every leaf by its path, as text."""
    return {
        path_name(path): f"{leaf.dtype}{list(np.shape(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def difference_of(old: Any, new: Any) -> str:
    """The first few entries in which two descriptions differ, as text."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return _there_and_here(old, new)
    odd = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    shown = [
        f"{name} is {_there_and_here(old.get(name, 'absent'), new.get(name, 'absent'))}"
        for name in odd[:3]
    ]
    return ", ".join(shown) + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")


def _there_and_here(old: Any, new: Any) -> str:
    """Both as text; of long ones the part in which they begin to differ."""
    texts = [" ".join(str(value).split()) for value in (old, new)]
    alike = next((i for i, (a, b) in enumerate(zip(*texts)) if a != b), min(map(len, texts)))
    starts = [0, *(match.start() for match in re.finditer(_WORD, texts[0]) if match.start() <= alike)]
    start = starts[-1] if max(map(len, texts)) > _WIDTH and alike > _WIDTH // 2 else 0
    start = next((s for s in starts if start and s >= start - 30), 0)  # with the words before
    there, here = ("…" * (start > 0) + _short(text[start:], alike - start) for text in texts)
    return f"{there} there, {here} here"


def _short(text: str, alike: int) -> str:
    """The beginning of a text, which ends with a word, at the earliest with the one that differs."""
    ends = [match.end() for match in re.finditer(_WORD, text) if match.end() <= _WIDTH]
    differs = next((f.end() for f in re.finditer(_WORD, text) if f.end() > alike), len(text))
    end = max([*ends, min(differs, 2 * _WIDTH)])
    return text if len(text) <= _WIDTH else text[:end] + "…"
