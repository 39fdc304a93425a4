"""`Comparison`, the answer of `jaxdeep.compare`."""

import dataclasses
import os
import pathlib
from types import MappingProxyType

import numpy as np

from jaxdeep import _checks
from jaxdeep.comparison import files, text
from jaxdeep.comparison.candidate import COLUMN
from jaxdeep.comparison.cautions import cautions_of
from jaxdeep.comparison.directory import replaced
from jaxdeep.comparison.pairs import pairs_of
from jaxdeep.comparison.plan import Plan
from jaxdeep.comparison.protocol import Judged
from jaxdeep.comparison.record import Record
from jaxdeep.comparison.targets import arrivals_of
from jaxdeep.comparison.tolerance import tolerance_of
from jaxdeep.comparison.verdict import verdict_of
from jaxdeep.search.tables.result import read_only


@dataclasses.dataclass(frozen=True)
class Comparison(Record):
    """What came out of `jaxdeep.compare`.

    Attributes:
      metric, mode: what decides, and which of its values are better.
      verdict: in a sentence, who wins, or who cannot be told apart.
      winners: the candidate with the best mean, and all that cannot be told from it.
      order: the candidates, the best mean on the test rows first; last those that could not be trained.
      values: ``(seeds,)`` values of the metric on the test rows by candidate. A run that diverged counts
        as the worst value of all; a candidate all of whose runs did has none.
      diverged: how many of these did, by candidate.
      pairs: every two candidates: difference, interval, p-values, P(A > B).
      chosen: the hyperparameters that tuning chose, by candidate.
      tuning: the table of all trials (`jaxdeep.search.Table`), by the validation rows.
      final: the table of the runs of the chosen points, seed by seed.
      test: all metrics on the test rows by candidate, ``(seeds,)`` each, NaN for runs that diverged.
      arrivals: epochs and seconds to the target, by candidate.
      tolerances: how far the learning rate may be off, by candidate.
      cautions: what deserves a look before the verdict is believed.
      about: the question: budget, seeds, epochs, schedule, rows, spaces and so on.
      plan: the same with what it was made of: candidates, data, arguments.
    """

    def table(self) -> str:
        """The table as text, at most 80 columns wide: ``print(answer.table())``."""
        return text.table_of(self)

    def __str__(self) -> str:
        return text.text_of(self)

    def save(self, folder: str | os.PathLike[str]) -> list[pathlib.Path]:
        """Write ``results.json`` (everything, what depends on the clock apart) and ``trials.csv``.

        Returns:
          The paths of what was written.

        Raises:
          OSError: the folder cannot be written.
        """
        return files.write(self, folder)

    def report(self, path: str | os.PathLike[str], *, command: str | None = None) -> pathlib.Path:
        """Write a report to look at in a browser: one HTML file, which needs no network.

        It shows the verdict and what it rests on in ten views, each with its numbers in a table: who
        wins, all final seeds, every two candidates, curves, arrivals at the target, the best of k
        trials, the learning rate, the distribution of the trials, their hyperparameters, and where the
        time went. It can be printed, and read without colours. The same answer gives the same bytes,
        with the same versions. With the script of plotly, which is inside, it has about 5 MB.

        Args:
          path: of the file, say ``"report.html"``; its folder is made if it is missing, and a file
            that was there before is replaced.
          command: how it was asked, to be shown where the report says how to ask it again. By default
            that is the call of `jaxdeep.compare`.

        Returns:
          The path.

        Raises:
          ImportError: plotly is not installed (``pip install 'jaxdeep[report]'``).
          ValueError: a remote path. OSError: the file cannot be written.
        """
        from jaxdeep.comparison.report.page import page

        _checks.check_local_path("path", path)
        place = pathlib.Path(path)
        if place.is_dir():
            raise IsADirectoryError(f"path must be that of a file, got the folder {str(path)!r}")
        text = page(self, command)
        place.parent.mkdir(parents=True, exist_ok=True)
        return replaced(place, text)


def answered(plan: Plan, judged: Judged) -> Comparison:
    """The answer, from what was trained."""
    values, diverged = _values(plan, judged)
    pairs = tuple(pairs_of(values, plan.mode, plan.level)) if values else ()
    sign = 1 if plan.mode == "max" else -1
    order = sorted(values, key=lambda name: -sign * float(values[name].mean()))
    verdict = verdict_of(order, pairs, seeds=plan.seeds, level=plan.level, worth=plan.worth)
    arrivals = arrivals_of(plan, judged)
    tolerances = {name: tolerance_of(plan, judged.tuning, name) for name in judged.chosen}
    chosen = {
        name: {key: value for key, value in plan.points[name][i].items() if key != COLUMN}
        for name, i in judged.chosen.items()
    }
    about = plan.about()
    cautions = cautions_of(plan, judged, order, pairs, diverged)
    return Comparison(
        metric=plan.metric,
        mode=plan.mode,
        verdict=verdict.sentence,
        winners=verdict.winners,
        order=(*order, *(name for name in plan.candidates if name not in values)),
        values=MappingProxyType(values),
        diverged=MappingProxyType(diverged),
        pairs=pairs,
        chosen=MappingProxyType(chosen),
        tuning=judged.tuning,
        final=judged.final,
        test=MappingProxyType(
            {name: read_only(dict(by_metric)) for name, by_metric in judged.test.items()}
        ),
        arrivals=MappingProxyType(arrivals),
        tolerances=MappingProxyType(tolerances),
        cautions=tuple(cautions),
        about=MappingProxyType(about),
        plan=plan,
    )


def _values(plan: Plan, judged: Judged) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The values that are compared, with the worst of all in the place of what diverged."""
    every_raw = {
        name: by_metric[plan.metric]
        for name, by_metric in judged.test.items()
        if plan.metric in by_metric
    }
    diverged = {name: int(np.sum(~np.isfinite(by_seed))) for name, by_seed in every_raw.items()}
    raw = {name: by_seed for name, by_seed in every_raw.items() if diverged[name] < len(by_seed)}
    every = np.concatenate([*raw.values(), np.zeros(0)])
    finite = every[np.isfinite(every)]
    if not finite.size:
        return {}, diverged
    worst = finite.min() if plan.mode == "max" else finite.max()
    values = {name: np.where(np.isfinite(by_seed), by_seed, worst) for name, by_seed in raw.items()}
    return {name: read_only(by_seed) for name, by_seed in values.items()}, diverged
