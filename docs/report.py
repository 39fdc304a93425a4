"""The picture of a comparison's report: eight optimizers on digits, as Chromium shows them.

PYTHONPATH=tests python docs/report.py [folder]   # writes docs/compare-report.png

With a folder the comparison goes on from what is there.
"""

import io
import pathlib
import sys
import tempfile

import jax
from helpers.chromium import Chromium
from PIL import Image

import jaxdeep as jd
from jaxdeep.comparison import catalogue

HERE = pathlib.Path(__file__).parent
WIDTH, GAP = 1000, 24
PARTS = (("body > header", "#verdict"), ("#curves .figure", "#rates .figure"))  # of two columns


def network():
    layers = {"flatten": jd.nn.flatten()}
    for i in (1, 2, 3):
        layers[f"hidden{i}"] = jd.nn.dense(100, kernel_init=jd.nn.initializers.he_normal())
        layers[f"relu{i}"] = jd.nn.activation(jax.nn.relu)
    return jd.nn.serial(**layers, logits=jd.nn.dense(10))


def column(browser, first, last, folder):
    """A picture from the top of one part of the page to the bottom of another."""
    at = "scrollY + document.querySelector({!r}).getBoundingClientRect().{}"
    top = browser.run(at.format(first, "top")) - 12
    bottom = browser.run(at.format(last, "bottom"))
    clip = {"x": 0, "y": top, "width": WIDTH, "height": bottom - top}
    browser.picture(folder / "part.png", clip)
    return Image.open(io.BytesIO((folder / "part.png").read_bytes())).convert("RGB")


def main(kept=None):
    answer = jd.compare(
        list(catalogue.DEFAULT),
        model=network(),
        data=jd.datasets.digits(),
        loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy},
        budget=8,
        epochs=6,
        checkpoint=kept,
    )
    with tempfile.TemporaryDirectory() as name, Chromium(WIDTH, 900) as browser:
        folder = pathlib.Path(name)
        browser.open(answer.report(folder / "report.html"))
        browser.run("window.reportDrawn")
        browser.run(  # the two views of the second column one after the other
            "for (const s of document.querySelectorAll('main > section'))"
            " if (!['verdict', 'curves', 'rates'].includes(s.id)) s.remove();"
            "for (const m of document.querySelectorAll('.modebar-container')) m.remove();"
        )
        columns = [column(browser, *parts, folder) for parts in PARTS]
    height = max(part.height for part in columns)
    picture = Image.new("RGB", (sum(part.width for part in columns) + GAP, height), "white")
    for place, part in enumerate(columns):
        picture.paste(part, (place * (WIDTH + GAP), 0))
    picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4), Image.Resampling.LANCZOS)
    path = HERE / "compare-report.png"
    palette = picture.quantize(255, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette.save(path, optimize=True)
    print(f"{path}: {picture.size}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
