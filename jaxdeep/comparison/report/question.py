"""The question that a report answers, and how to ask it again."""

import hashlib
import html
import json
import platform
import textwrap
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from jaxdeep.comparison.candidate import width
from jaxdeep.comparison.record import Record
from jaxdeep.comparison.report.numbers import point_in_words, shown, table
from jaxdeep.search.spaces.distributions import Choice, Int, LogInt, LogUniform, OneMinus

_VERSIONS = ("jaxdeep", "jax", "optax", "numpy", "scipy", "plotly")


def question(answer: Record, command: str | None) -> str:
    """The last section: what was asked, the spaces, the versions, and how to ask it again."""
    return "\n".join(
        [
            '<section id="question"><h2>What was asked, and how to ask it again</h2>',
            '<div class="wide whole">',
            _asked(answer),
            _spaces(answer),
            "</div>",
            f"<pre><code>{html.escape(command or call(answer))}</code></pre>",
            f'<p class="reading">{html.escape(_versions(answer))}</p>',
            "</section>",
        ]
    )


def call(answer: Record) -> str:
    """The call of `jaxdeep.compare`, as far as plain data can say it."""
    about = answer.about
    arguments = {
        "metric": about["metric"],
        "mode": about["mode"],
        **{name: about[name] for name in ("budget", "seeds", "epochs", "batch_size", "schedule")},
        **{name: about[name] for name in ("worth", "level", "target", "seed") if name in about},
    }
    names = textwrap.wrap(", ".join(map(repr, answer.plan.candidates)), 76)
    names = ["    [", *(f"        {line}" for line in names), "    ],"]
    lines = [f"    {name}={value!r}," for name, value in arguments.items() if value is not None]
    objects = [name for name in ("model", "loss", "metrics") if answer.plan.shared.get(name) is not None]
    lines = [*(f"    {name}=…," for name in ("data", *objects)), *lines]
    return "\n".join(["jaxdeep.compare(", *names, *lines, ")"])


def _asked(answer: Record) -> str:
    about = answer.about
    runs = len(answer.tuning), len(answer.final)
    epochs = sum(result.epochs for t in (answer.tuning, answer.final) for result in t.results)
    rows = [
        [
            "decides",
            f"{about['metric']} ({'larger' if about['mode'] == 'max' else 'smaller'} is better)",
        ],
        ["rows", ", ".join(f"{part} {n:,}" for part, n in about["rows"].items())],
        ["checksums of these", ", ".join(_checksums(about["checksums"]))],
        ["budget of each candidate", f"{about['budget']} trials of {about['epochs']} epochs"],
        ["batches of", str(about["batch_size"])],
        ["schedule of the learning rate", str(about["schedule"])],
        ["final seeds", f"0 to {about['seeds'] - 1}, the same for all candidates"],
        ["seed of parts, trials and keys", str(about.get("seed", "–"))],
        ["smallest difference that matters", f"{about['worth']:g}"],
        ["level of confidence", f"{about['level']:g}"],
        ["runs in all", f"{runs[0]:,} trials, {runs[1]:,} final runs, {epochs:,} epochs"],
    ]
    return table(["question", "answer"], rows, label="Budget, rows and seeds")


def _checksums(parts: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """The checksum of a part, of those of its arrays if there are some."""
    for part, checksums in parts.items():
        text = json.dumps(checksums, sort_keys=True)
        yield f"{part} {hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _spaces(answer: Record) -> str:
    rows = []
    for name, candidate in answer.plan.candidates.items():
        tuned = list(candidate.space)
        if candidate.default:
            tuned = tuned[: width(answer.about["budget"])]
        spaces = "; ".join(f"{key} {_in_words(candidate.space[key])}" for key in tuned) or "–"
        first = point_in_words({key: candidate.default[key] for key in candidate.default})
        kept = {k: v for k, v in candidate.default.items() if k not in tuned}
        fixed = point_in_words({**kept, **candidate.fixed})
        schedule = "" if candidate.scheduled else "no schedule"
        notes = "; ".join(part for part in (candidate.note, schedule) if part)
        rows.append([name, len(answer.plan.points[name]), spaces, first, fixed, notes or "–"])
    head = ["candidate", "trials", "tuned over", "first trial", "not tuned", "note"]
    return table(head, rows, label="Spaces as they were searched")


def _in_words(space: Any) -> str:
    """A distribution as a reader would say it.

    >>> from jaxdeep.search.spaces.distributions import choice, log_uniform, one_minus
    >>> _in_words(log_uniform(1e-4, 1)), _in_words(one_minus(0.01, 0.5)), _in_words(choice([1, 2]))
    ('0.0001 to 1, logarithmic', '0.5 to 0.99, logarithmic in 1 − x', 'one of 1, 2')
    """
    if isinstance(space, Choice):
        return f"one of {', '.join(map(shown, space.values))}"
    low, high = space.bounds
    return f"{low:g} to {high:g}" + _KINDS.get(type(space), "")


_KINDS = {
    LogUniform: ", logarithmic",
    OneMinus: ", logarithmic in 1 − x",
    Int: ", whole numbers",
    LogInt: ", whole numbers, logarithmic",
}


def _versions(answer: Record) -> str:
    known = {"jaxdeep": answer.about["version"], "Python": platform.python_version()}
    for name in _VERSIONS[1:]:
        known[name] = metadata.version(name)
    said = ", ".join(f"{name} {version}" for name, version in known.items())
    return f"Written with {said}."
