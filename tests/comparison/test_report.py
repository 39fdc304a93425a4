"""Tests of the report: what is in the file, and that a browser shows it without a network."""

import html.parser
import json
import math
import re
import sys

import numpy as np
import pytest
from helpers import chromium

import jaxdeep as jd
from jaxdeep.comparison import Candidate
from jaxdeep.comparison.answer import answered
from jaxdeep.comparison.plan import planned
from jaxdeep.comparison.protocol import Judged, best_trials
from jaxdeep.comparison.report import looks
from jaxdeep.comparison.report.page import page, views_of
from jaxdeep.search import choice, log_uniform, one_minus
from jaxdeep.search.tables.table import Result, Span, Table

offline = pytest.importorskip("plotly.offline")

VIEWS = [
    *("verdict", "seeds", "pairs", "curves", "arrivals"),
    *("best-of", "rates", "distribution", "combinations", "timeline"),
]
HOSTILE = "<b>\"&'</script>%{x}"
RATED = {"learning_rate": log_uniform(1e-4, 1.0), "b1": one_minus(0.01, 0.5)}


def made(
    names=("a", "b", "c"), *, metric="accuracy", budget=10, seeds=6, epochs=5, lost=(), space=RATED
):
    """An answer whose runs were not trained: candidate i is about 0.02 i worse, `lost` ones diverge.

    `lost` holds pairs of a name and the number of a trial, or of a name and a text "s3", the seed.
    """
    rng = np.random.default_rng(0)
    candidates = {
        name: Candidate(lambda hp: jd.optimizers.sgd(0.1), space, fixed={"eps": 1e-8}) for name in names
    }
    shared = {"epochs": epochs, "model": jd.nn.dense(1), "loss": jd.losses.mse}
    shared |= {"metrics": {metric: jd.metrics.accuracy}} if metric != "loss" else {}
    plan = planned(
        candidates,
        data=(rng.normal(size=(40, 2)), rng.normal(size=(40, 1))),
        **{"validation": None, "test": None, "metric": None, "mode": None, "budget": budget},
        **{"seeds": seeds, "schedule": "constant", "worth": 0.0, "level": 0.95, "target": None},
        **{"seed": 0, "shared": shared},
    )

    def run(name, number, gone, worker):
        level = 0.9 - 0.02 * list(names).index(name) + 0.005 * rng.normal()
        curve = level * (1 - 0.5 ** np.arange(1, epochs + 1))
        curve = curve if metric != "loss" else 1 - curve
        history = {"learning_rate": np.full(epochs, 0.1)}
        for part in (metric, "loss"):
            history |= {part: curve, f"val_{part}": curve - 0.01}
        if gone:
            history = {part: np.where(np.arange(epochs) > 1, np.nan, v) for part, v in history.items()}
        ended = "diverged" if gone else "finished"
        span = Span(f"worker_{worker}", 0.5 * number, 0.5 * number + 0.4, epochs)
        return Result({}, {}, history, epochs - 1, ended, spans=(span,))

    points = [point | {"seed": 0} for name in names for point in plan.points[name]]
    tried = [
        run(p["candidate"], i, (p["candidate"], i % budget) in lost, i % 2) for i, p in enumerate(points)
    ]
    tuning = Table(points, tried, [space for own in plan.points.values() for space in own.spaces])
    chosen = best_trials(plan, tuning)
    finals = [plan.points[name][i] | {"seed": s} for name, i in chosen.items() for s in range(seeds)]
    ends = [
        run(p["candidate"], i, (p["candidate"], f"s{p['seed']}") in lost, 0)
        for i, p in enumerate(finals)
    ]
    final = Table(finals, ends)
    tested = {
        name: {
            metric: np.array(
                [r.value(f"val_{metric}") for p, r in zip(finals, ends) if p["candidate"] == name]
            )
        }
        for name in chosen
    }
    return answered(plan, Judged(tuning, final, chosen, tested))


@pytest.fixture(scope="module")
def answer():
    return made(lost={("b", 3), ("c", "s1")})


class Page(html.parser.HTMLParser):
    """The sections of a page with their tables, and the addresses that it names."""

    def __init__(self, text):
        super().__init__()
        self.sections, self.addresses, self.tables, self.scripts = [], [], {}, []
        self.ids, self._row, self._in = [], None, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.addresses += [
            v for k, v in attrs.items() if k in ("src", "href", "srcset", "action", "data")
        ]
        self._in = tag
        if tag == "section":
            self.sections.append(attrs["id"])
        elif tag == "table":
            self.tables.setdefault(self.sections[-1], []).append([])
        elif tag == "tr":
            self._row = []
            self.tables[self.sections[-1]][-1].append(self._row)
        elif tag in ("td", "th"):
            self._row.append("")
        elif tag == "script":
            self.scripts.append(attrs)

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, text):
        if self._in in ("td", "th"):
            self._row[-1] += text


def parsed(answer):
    return Page(without_plotly(page(answer)))


def without_plotly(text):
    return text.replace(offline.get_plotlyjs(), "", 1)


def figures(answer):
    text = re.search(r'id="figures">(.*?)</script>', without_plotly(page(answer)), re.S)[1]
    return json.loads(text)


def number(text):
    return {"–": math.nan, "∞": math.inf}.get(text) or float(text)


def test_ten_views_each_with_a_question_a_plot_and_numbers(answer):
    found = parsed(answer)
    assert found.sections == [*VIEWS, "question"]
    assert list(figures(answer)) == VIEWS
    for view in views_of(answer):
        assert view.question.endswith("?")
        assert view.reading.endswith(".")
        assert all(len(table) > 1 for table in found.tables[view.name]), view.name


def test_nothing_in_it_is_elsewhere(answer):
    text = without_plotly(page(answer))
    assert text.count("<script") == 3
    found = Page(text)
    assert found.addresses == [f"#{name}" for name in VIEWS]
    assert len(set(found.ids)) == len(found.ids)
    assert not re.findall(r"https?:|//[a-z]|url\(|@import|@font-face|<link|<img|<iframe", text)
    assert page(answer).count(offline.get_plotlyjs()) == 1


def test_the_same_answer_gives_the_same_bytes(answer, tmp_path):
    place = answer.report(tmp_path / "new" / "report.html")
    again = answer.report(str(tmp_path / "again.html"), command="python -m jaxdeep compare <x>")
    assert place.read_text(encoding="utf-8") == page(answer) == page(made(lost={("b", 3), ("c", "s1")}))
    assert "python -m jaxdeep compare &lt;x&gt;" in again.read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["again.html", "report.html"]


def test_tables_have_the_numbers_of_the_answer(answer):
    tables = parsed(answer).tables
    ranks = tables["verdict"][0]
    for row, line in zip(answer.rows(), ranks[1:], strict=True):
        assert line[0] == row["candidate"]
        for name, column in (("mean", "mean"), ("low", "low"), ("high", "high"), ("p", "adjusted p")):
            at = number(line[ranks[0].index(column)])
            np.testing.assert_allclose(at, row[name], rtol=1e-5)
        assert number(line[ranks[0].index("diverged")]) == row["diverged"] == (row["candidate"] == "c")
    (seeds,) = tables["seeds"]
    for i, name in enumerate(seeds[0][1:], 1):
        found = [number(line[i]) for line in seeds[4:]]
        np.testing.assert_allclose(found, answer.values[name], rtol=1e-5)
    for pair, line in zip(answer.pairs, tables["pairs"][0][1:], strict=True):
        assert line[:2] == [pair.better, pair.worse]
        np.testing.assert_allclose([number(cell) for cell in line[2:9]], pair[2:], rtol=1e-5)
    for (name, arrival), line in zip(answer.arrivals.items(), tables["arrivals"][0][1:], strict=True):
        assert [line[0], number(line[2]), number(line[6])] == [name, arrival.epochs, arrival.share]
    trials = tables["combinations"][0][1:]
    assert len(trials) == len(answer.tuning) == 30
    assert sum(line[4] == "yes" for line in trials) == 3
    assert [line[3] for line in trials].count("diverged") == 1


def test_plots_have_the_numbers_of_the_answer(answer):
    drawn = figures(answer)
    dots = [t for t in drawn["seeds"][""]["data"] if t["mode"] == "markers"]
    for i, name in enumerate(("a", "b", "c")):
        x = [value for trace in dots if trace["meta"] == i for value in trace["x"]]
        np.testing.assert_allclose(sorted(x), np.sort(answer.values[name]), rtol=1e-5)
    (lost,) = [trace for trace in dots if trace["marker"]["symbol"] == "x-thin"]
    assert (lost["meta"], lost["customdata"][0][0]) == (2, 1)
    line = next(t for t in drawn["curves"]["0,0"]["data"] if t["meta"] == 0 and "marker" in t)
    runs = [r.history["val_accuracy"] for p, r in zip(answer.final.points, answer.final.results)]
    np.testing.assert_allclose(line["y"], np.median(runs[:6], axis=0), rtol=1e-5)
    step = drawn["arrivals"][""]["data"][0]
    np.testing.assert_allclose(step["y"][-1], answer.arrivals["a"].share, rtol=1e-5)
    (cells,) = drawn["pairs"]["0"]["data"]
    for pair in answer.pairs:
        i, j = answer.order.index(pair.better), answer.order.index(pair.worse)
        np.testing.assert_allclose([cells["z"][i][j], -cells["z"][j][i]], pair.difference, rtol=1e-5)
    marks = [t for t in drawn["rates"][""]["data"] if t.get("text") == ["diverged"]]
    assert [(mark["meta"], mark["yaxis"]) for mark in marks] == [(1, "y2")]


def test_best_of_k_is_the_mean_over_subsets_up_to_half():
    found = made(("a",), budget=4)
    v = sorted(row["val_accuracy"] for row in found.tuning.rows())
    pairs = [max(v[i], v[j]) for i in range(4) for j in range(i)]
    drawn = figures(found)["best-of"]
    np.testing.assert_allclose(drawn["0"]["data"][0]["y"], [np.mean(v), np.mean(pairs)], rtol=1e-5)
    draws = [max(a, b) for a in v for b in v]
    np.testing.assert_allclose(drawn["1"]["data"][0]["y"][1], np.mean(draws), rtol=1e-5)
    assert len(drawn["1"]["data"][0]["y"]) == 4


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_distribution_counts_trials_that_are_as_good(metric):
    found = made(("a", "b"), metric=metric, lost={("a", 0), ("a", 7)})
    line = figures(found)["distribution"][""]["data"][0]
    values = [row[f"val_{metric}"] for row in found.tuning.rows()[:10]]
    sign = 1 if metric == "loss" else -1
    for x, y in list(zip(line["x"], line["y"]))[1:-1]:
        good = np.sum([sign * v <= sign * x + 1e-5 for v in values])
        np.testing.assert_allclose(y, good / 10)
    assert line["y"][-1] == 0.8  # two diverged, and are worse than all


def test_names_are_shown_as_they_are():
    found = made((HOSTILE, "b"))
    text = without_plotly(page(found))
    assert "<b>" not in text
    assert text.count("</script>") == 3
    assert parsed(found).tables["verdict"][0][1][0] == HOSTILE
    drawn = figures(found)["curves"]["0,0"]
    assert drawn["data"][0]["name"] == "&lt;b&gt;\"&amp;'&lt;/script&gt;%{x}"  # plotly unescapes
    templates = [t.get("hovertemplate", "") for f in figures(found).values() for t in f_data(f)]
    assert templates
    assert not any("script" in template for template in templates)


def f_data(view):
    return [trace for figure in view.values() for trace in figure["data"]]


NAMES = [f"optimizer number {i}" for i in range(12)]
CASES = {
    "one candidate": ({"names": ("a",)}, {"verdict", "pairs"}),
    "twenty seeds": ({"names": ("a", "b"), "seeds": 20}, set()),
    "two seeds": ({"seeds": 2}, set()),
    "one trial": ({"budget": 1}, {"combinations"}),
    "one epoch": ({"epochs": 1}, set()),
    "loss": ({"metric": "loss"}, set()),
    "no rate": ({"space": {"b1": choice([0.8, 0.9, 0.95, 0.99])}}, {"rates"}),
    "nothing tuned": ({"space": {}}, {"rates", "combinations"}),
    "twelve": ({"names": NAMES, "seeds": 10}, set()),
    "trials diverged": ({"lost": {("b", i) for i in range(10)}}, set()),
    "a final run diverged": ({"lost": {("a", "s0"), ("a", "s1")}}, set()),
    "final runs diverged": ({"lost": {("b", f"s{i}") for i in range(6)}}, set()),
    "all diverged": ({"lost": {(n, i) for n in "abc" for i in range(10)}}, {*VIEWS[:9]}),
    "all final runs diverged": (
        {"lost": {(n, f"s{i}") for n in "abc" for i in range(6)}},
        {*VIEWS[:3], "arrivals"},
    ),
}


@pytest.mark.few(5)
@pytest.mark.parametrize("case", CASES)
def test_answers_of_every_shape(case):
    arguments, missing = CASES[case]
    found = made(**arguments)
    drawn = figures(found)
    assert set(VIEWS) - set(drawn) == missing
    assert parsed(found).sections == [*VIEWS, "question"]
    looks_of = {looks.look(i) for i in range(len(found.plan.candidates))}
    assert len(looks_of) == len(found.plan.candidates)
    for view in drawn.values():
        for trace in f_data(view):
            lengths = {len(trace[k]) for k in ("x", "y") if isinstance(trace.get(k), list)}
            assert len(lengths) <= 1


@pytest.mark.heavy
def test_regression_of_compare_itself():
    x = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [-1.0], [0.5]], np.float32)
    found = jd.compare(
        ["sgd", "adam"],
        **{"model": jd.nn.dense(1), "data": (x, y), "loss": jd.losses.mse, "progress": False},
        **{"budget": 3, "seeds": 2, "epochs": 2},
    )
    assert list(figures(found)) == VIEWS
    assert "loss=…" in page(found)


@pytest.mark.heavy
def test_many_runs_keep_it_small():
    found = made([f"c{i}" for i in range(20)], budget=50, seeds=10, epochs=1_000)
    assert len(without_plotly(page(found))) < 3e6


def test_without_plotly(answer, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(
        ImportError, match=r"Comparison.report needs plotly: pip install 'jaxdeep\[report\]'"
    ):
        answer.report(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_paths_that_are_refused(answer, tmp_path):
    with pytest.raises(ValueError, match="path must be a path on this machine"):
        answer.report("gs://bucket/report.html")
    with pytest.raises(IsADirectoryError, match="path must be that of a file"):
        answer.report(tmp_path)
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}*"))


@pytest.mark.parametrize("count", [1, 2, 5, 12, 40])
def test_labels_keep_apart_and_within_the_plot(count):
    rng = np.random.default_rng(count)
    for at in (rng.uniform(0, 300, count), np.full(count, 300.0), np.zeros(count)):
        found = np.array(looks.apart(np.sort(at).tolist(), 300.0))
        assert (np.diff(found) >= min(13.0, 300 / max(count - 1, 1)) - 1e-5).all()
        assert found.min() >= -1e-6
        assert found.max() <= 300 + 1e-5
    if count == 2:
        assert looks.apart([0.0, 300.0], 300.0) == [0.0, 300.0]  # what is apart stays


def test_one_bad_value_does_not_hide_the_others():
    values = [0.1, 0.12, 0.15, 0.11, 1e30]
    scale = looks.scale(values, "min")
    assert scale.share(0.15) - scale.share(0.1) > 0.03
    assert 0 <= scale.share(scale.clipped(1e30)) <= 1
    assert looks.scale([0.1, 0.98, 0.97, 0.98], "max").low < 0.1  # shares are all shown
    assert not looks.scale([0.001, 0.9], "max").log


def hovered(browser, view):
    """What a plot says of its first point, or of the second cell of its first row."""
    place = f"document.querySelector('[data-view={view}]')"
    browser.run(f"{place}.scrollIntoView({{block: 'center'}})")
    if view == "pairs":
        spot = ".nsewdrag", "b.x + b.width * 1.5 / 8", "b.y + b.height / 16"
    else:
        spot = ".points path", "b.x + b.width / 2", "b.y + b.height / 2"
    box = f"{place}.querySelector('{spot[0]}').getBoundingClientRect()"
    x, y = browser.run(f"(b => [{spot[1]}, {spot[2]}])({box})")
    browser.move(x - 2, y)
    browser.move(x, y)
    said = f"{place}.querySelector('.hoverlayer').textContent"
    return browser.run(f"new Promise(r => setTimeout(() => r({said}), 400))")


@pytest.mark.slow
@pytest.mark.skipif(chromium.PROGRAM is None, reason="Chromium is not installed")
def test_a_browser_shows_it_without_a_network(tmp_path):
    found = made((HOSTILE, "b", "c", *NAMES[:5]), lost={("b", 3), ("c", "s1")})
    place = found.report(tmp_path / "report.html")
    with chromium.Chromium(1400, 900) as browser:
        browser.open(place)
        assert browser.run("window.reportDrawn") == len(VIEWS)
        marks = (
            "[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('svg.main-svg').length)"
        )
        assert all(count >= 1 for count in browser.run(marks))
        assert len(browser.run(marks)) == len(VIEWS)
        for view in VIEWS:  # hovering says what a point is
            said = hovered(browser, view)
            assert len(said) > 8, (view, said)
        assert "seed" in hovered(browser, "seeds")
        assert HOSTILE in hovered(browser, "verdict")
        # a name in the legend hides the candidate in all plots, and shows it again
        chip = "document.querySelector('.chip[data-candidate=\"1\"]')"
        traces = (
            "[...document.querySelectorAll('.plot')].map(p => p.data.filter(t => t.meta === 1"
            " && t.visible !== false).length)"
        )
        cells = "document.querySelector('[data-view=pairs]').data[0].z.length"
        before, every = browser.run(traces), browser.run(cells)
        box = browser.run(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])({chip}.getBoundingClientRect())"
        )
        browser.click(*box)
        assert browser.run(f"{chip}.getAttribute('aria-pressed')") == "false"
        assert browser.run(traces) == [0] * len(VIEWS)
        assert browser.run(cells) == every - 1 == 7
        browser.click(*box)
        assert browser.run(traces) == before
        # a choice draws another figure
        title = "document.querySelector('[data-view=curves]').layout.xaxis.title.text"
        assert browser.run(title) == "epochs"
        browser.run(
            "(s => { s.value = '1'; s.dispatchEvent(new Event('change')); })"
            "(document.querySelectorAll('[data-for=curves]')[1])"
        )
        assert browser.run(title) == "seconds"
        for width in (1400, 360):
            browser.size(width)
            browser.run("new Promise(r => setTimeout(r, 500))")
            assert browser.run("document.documentElement.scrollWidth") <= width
            wide = "Math.max(...[...document.querySelectorAll('.plot svg')].map(s => s.clientWidth))"
            assert browser.run(wide) <= width
        browser.print(tmp_path / "report.pdf")
        assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
        assert browser.complaints == []
        outside = [one for one in browser.requests if not one.startswith("data:")]
        assert outside == [place.resolve().as_uri()]
