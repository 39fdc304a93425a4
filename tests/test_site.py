"""The site: a page for every public name, links that lead somewhere, code that runs, a browser."""

import importlib.util
import inspect
import operator
import pathlib
import posixpath
import re
import subprocess
import sys
import time
import traceback

import pytest
from helpers import chromium

import jaxdeep as jd

ROOT = pathlib.Path(__file__).parents[1]


def loaded(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site():
    """The builder of the site, without formulas, which need a package that only the site needs."""
    before = [*sys.path]
    module = loaded("build_site")
    module.with_mathml = str
    yield module
    sys.path[:] = before


@pytest.fixture(scope="module")
def made(site):
    return site.pages()


def test_every_public_name_has_a_page_that_says_what_its_docstring_says(made):
    for space in jd.__all__:
        value = getattr(jd, space)
        spaces = {space: value} if inspect.ismodule(value) else {}
        if space == "nn":
            spaces |= {"nn.activations": jd.nn.activations, "nn.initializers": jd.nn.initializers}
        assert spaces or f"reference/{space}.md" in made
        for name, module in spaces.items():
            folder = f"reference/{name.replace('.', '/')}"
            for inner in module.__all__:
                one = getattr(module, inner)
                if inspect.ismodule(one):
                    continue
                page = made[f"{folder}/{inner}.md"]
                assert f"({inner}.md)" in made[f"{folder}/index.md"]
                assert f"jd.{name}.{inner}" in page
                words = re.findall(r"\w+", (inspect.getdoc(one) or "").partition("\n")[0])
                assert set(words) <= set(re.findall(r"\w+", page)), inner


def test_arguments_errors_and_examples_are_in_a_page(made):
    page = made["reference/nn/dense.md"]
    for text in (
        "jd.nn.dense(\n    features,\n    *,\n    activation=None,",
        "- `features`: number of outputs.",
        "**Raises**\n\n- `ValueError`: ",
        "```pycon\n>>> ",
        "(../nn/initializers/initializer_for.md)",
    ):
        assert text in page
    for name, text in made.items():
        if name.startswith("reference/"):
            fenced = "".join(re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL))
            assert text.count(">>>") == fenced.count(">>>"), name
            assert not re.search(r"^(Args|Raises|Returns|Attributes):", text, re.MULTILINE), name


def test_links_between_pages_lead_to_pages_and_headings(site, made):
    headings = {
        page: {site.slug(h) for h in re.findall(r"^#+ (.*)", site.outside_blocks(text), re.MULTILINE)}
        for page, text in made.items()
        if page.endswith(".md")
    }
    checked = 0
    for page in headings:
        text = re.sub(r"^```.*?^```|``.*?``|`[^`\n]*`", "`", made[page], flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            found = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
            assert found in made, f"{page}: {target}"
            assert not anchor or anchor in headings[found], f"{page}: {target}"
            checked += 1
    assert checked > 1_000


def test_the_navigation_has_every_page_but_those_of_names(made):
    text = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r"^ +- (?:.*: )?(\S+\.md)$", text, re.MULTILINE)
    names = {page for page in made if page.startswith("reference/") and not page.endswith("/index.md")}
    assert sorted(listed) == sorted(page for page in made if page.endswith(".md") and page not in names)


def test_the_list_for_language_models_has_every_page(made):
    listed = re.findall(r"^- \[.*\]\((.*)\)$", made["llms.txt"], re.MULTILINE)
    assert sorted(listed) == sorted(page for page in made if page.endswith(".md"))
    assert made["llms.txt"].startswith("# jaxdeep\n\n> The deep-network training playbook")


@pytest.mark.parametrize("page", ["concepts.md", "coming-from.md", "errors.md", "production.md"])
def test_names_and_arguments_that_a_page_speaks_of_exist(page):
    text = (ROOT / "docs" / page).read_text()
    names = set(re.findall(r"\bjd((?:\.[a-z_]\w*|\.[A-Z]\w+)+)", text))
    assert names
    for name in names:
        operator.attrgetter(name[1:])(jd)
    rows = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    here = [
        row.split("|")[2] for row in rows.splitlines() if row.startswith("| ") and row.count("|") == 3
    ]
    given = {name for cell in here for name in re.findall(r"`(\w+)=", cell)}
    known = {*inspect.signature(jd.fit).parameters, "where", "key", "train"}  # of layers and optimizers
    assert given <= known, given - known


def blocks(name):
    """The blocks of a page of docs/: language and code."""
    text = (ROOT / "docs" / name).read_text()
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.heavy
@pytest.mark.parametrize("page", ["concepts.md", "coming-from.md"])
def test_the_python_of_a_page_prints_what_stands_under_it(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    compared = 0
    for language, code in blocks(page):
        if language == "python":
            capsys.readouterr()
            exec(compile(code, page, "exec"), names)
        else:
            assert language == "text"
            assert capsys.readouterr().out == code
            compared += 1
    assert compared >= 3


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
def test_every_error_of_the_page_of_errors_is_raised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    (_, setup), *pairs = blocks("errors.md")
    exec(compile(setup, "errors.md", "exec"), names)
    assert len(pairs) == 2 * 18
    for (_, code), (_, said) in zip(pairs[::2], pairs[1::2]):
        with pytest.raises(Exception) as caught:  # which one, the page says
            exec(compile(code, "errors.md", "exec"), names)
        text = " ".join(traceback.format_exception_only(caught.value)[0].split())
        pattern = ".*".join(map(re.escape, " ".join(said.split()).split("…")))
        assert re.search(pattern, text.removeprefix("jaxdeep.nn.model.")), (said, text)


@pytest.mark.slow
@pytest.mark.skipif(chromium.PROGRAM is None, reason="needs Chromium")
def test_the_site_works_from_disk_in_a_browser(site):
    pytest.importorskip("zensical", reason="needs the extra `docs`")
    subprocess.run([sys.executable, ROOT / "docs" / "build_site.py"], check=True)
    assert not site.broken()
    pages = ("index.html", "guide/models.html", "reference/nn/dense.html", "gallery/05_optimizers.html")
    with chromium.Chromium() as browser:
        for width in (1400, 390):
            browser.size(width)
            for page in pages:
                browser.open(site.SITE / page)
                assert browser.run("document.documentElement.scrollWidth <= innerWidth"), (page, width)
        browser.run("document.querySelector('.md-search__button').click()")
        time.sleep(1)
        browser.call("Input.insertText", text="fold_batch_norm")
        deadline = time.monotonic() + 30
        shown = "[...document.querySelectorAll('*')].map(e => e.shadowRoot?.textContent ?? '').join()"
        while "jd.compress.fold_batch_norm" not in browser.run(shown):
            assert time.monotonic() < deadline, "the search finds nothing"
            time.sleep(0.2)
        assert not browser.complaints
        local = ("file:", "data:", "about:", "blob:")
        assert not [address for address in browser.requests if not address.startswith(local)]
