"""The table of docs/models.md: every tool on every kind of model."""

import functools
import pathlib
import re

import jax
import pytest
from helpers.model_tools import KINDS, MODELS, TOOLS, case, tried

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "models.md").read_text()
START = PAGE.partition("## The table\n")[2]
made = functools.cache(case)


def written(tool, kind):
    """What the page says: a check mark, or the text of its number."""
    lines = START.splitlines()
    head = next(line for line in lines if line.startswith("| tool |"))
    row = next(line for line in lines if line.startswith(f"| {tool} |"))
    cells = dict(zip(*([cell.strip() for cell in line.split("|")[2:-1]] for line in (head, row))))
    cell = cells[kind]
    if cell == "✓":
        return cell
    number = cell.strip("()")
    return next(line for line in lines if line.startswith(f"{number}. ")).partition(". ")[2]


def of_each(kinds):
    """The kinds as parameters of a test; that of Keras is slow."""
    return [
        pytest.param(kind, marks=pytest.mark.slow if kind == "Keras" else pytest.mark.heavy)
        for kind in kinds
    ]


@pytest.mark.parametrize("kind", of_each(KINDS))
def test_tools_do_on_a_kind_of_model_what_the_page_says(kind):
    answers = {tool: tried(tool, made(kind)) for tool in TOOLS}
    assert answers == {tool: written(tool, kind) for tool in TOOLS}


@pytest.mark.parametrize("kind", of_each(MODELS))
def test_all_kinds_are_the_same_network(kind):
    own = made(kind)
    assert own().shape == (16, 3)
    assert sum(leaf.size for leaf in jax.tree.leaves(own.params)) == 5 * 8 + 8 + 16 + 8 * 3 + 3


def test_the_page_says_that_every_tool_works_on_layers_and_what_else_to_do():
    for tool in TOOLS:
        for kind in KINDS:
            text = written(tool, kind)
            has_layers = kind == "jaxdeep" or kind.endswith("lifted")
            advice = "from_keras translates" if kind == "Keras" else "adapters.lift"
            if not has_layers and text not in SEEN_FROM_OUTSIDE:
                assert text == "✓" or advice in text
            elif has_layers:
                assert text == "✓"


SEEN_FROM_OUTSIDE = ("outputs are measured of 1 layer", "the layers are not listed")


@pytest.mark.heavy
def test_the_example_of_the_page_runs():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(block, names)
    assert names["adapted"].kind == "Sequential"
    assert sorted(names["variables"]["params"]) == ["layers_0", "layers_2"]
