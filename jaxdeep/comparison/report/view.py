"""`View`: a question, how to read the answer, a plot and its numbers."""

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxdeep.comparison.report.looks import Figure


class Choice(NamedTuple):
    """What a reader chooses among.

    Attributes:
      label: what it is about.
      options: the values in words.
      first: the number of the one that is chosen at the beginning.
    """

    label: str
    options: Sequence[str]
    first: int = 0


class View(NamedTuple):
    """A view of the report.

    Attributes:
      name: of its place in the page.
      question: that it answers.
      reading: how to read it, in a sentence or two.
      figures: by the numbers of what is chosen, joined by commas; "" without choices. None: there is
        nothing to draw, and `reading` says why.
      tables: in HTML.
      choices: what a reader chooses among.
      open: whether the tables are shown at once.
    """

    name: str
    question: str
    reading: str
    figures: Mapping[str, Figure]
    tables: str
    choices: Sequence[Choice] = ()
    open: bool = False


def as_html(view: View, number: int) -> str:
    """The section of a view in the page, with an empty place for the plot.

    >>> view = View("who", "Who < what?", "Look.", {"": {}}, "<table></table>")
    >>> print(as_html(view, 1))
    <section id="who"><div class="figure"><h2>1. Who &lt; what?</h2>
    <p class="reading">Look.</p>
    <div class="plot" data-view="who" role="img" aria-label="Who &lt; what?"></div>
    </div>
    <details><summary>Numbers</summary><div class="wide"><table></table></div></details>
    </section>
    """
    title = html.escape(view.question)
    selects = "".join(_select(view, i) for i in range(len(view.choices)))
    parts = [
        f'<section id="{view.name}"><div class="figure"><h2>{number}. {title}</h2>',
        f'<p class="reading">{html.escape(view.reading)}</p>',
        f'<p class="choices">{selects}</p>' if selects else "",
        f'<div class="plot" data-view="{view.name}" role="img" aria-label="{title}"></div>'
        if view.figures
        else "",
        "</div>",
        f"<details{' open' * view.open}><summary>Numbers</summary>"
        f'<div class="wide{" whole" * view.open}">{view.tables}</div></details>',
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _select(view: View, number: int) -> str:
    choice = view.choices[number]
    options = "".join(
        f"<option value={i}{' selected' * (i == choice.first)}>{html.escape(text)}</option>"
        for i, text in enumerate(choice.options)
    )
    return (
        f"<label>{html.escape(choice.label)} "
        f'<select data-for="{view.name}" autocomplete="off">{options}</select></label> '
    )
