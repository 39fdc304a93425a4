"""A study of optimizers on Fashion-MNIST, by ``python -m jaxdeep compare``: `docs/optimizers.md`.

    JAXDEEP_DATA=... python -m benchmarks.optimizers    # all of it; goes on where it was stopped
    JAXDEEP_DATA=... python -m benchmarks.optimizers --settings plain-constant bn-cosine
    python -m benchmarks.optimizers --settings          # writes the tables of what is there

Twelve optimizers train three hidden layers of 100 ReLU units on the 55,000 training images for ten
epochs of batches of 32, plain and with batch norm before each activation, at a constant rate and with
one that falls along a cosine. Each is tuned with 1, 4 and 16 trials, the first of which is the field's
default, on the 5,000 validation images; the chosen trial is trained anew with ten seeds, and judged on
the 10,000 test images. A budget of 4 tunes the rate alone and goes on from that of 1; one of 16 tunes
two hyperparameters, on other points. All in all about 2,400 trainings, some hours on two cores.
"""

import argparse
import itertools
import json
import pathlib
import shutil
import subprocess
import sys

from benchmarks.throughput import versions

OPTIMIZERS = (
    *("sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamw", "adamax", "nadam"),
    *("lion", "muon", "schedule_free_adamw"),
)
NETWORKS = {"plain": "none", "bn": "before"}
SCHEDULES = ("constant", "cosine")
BUDGETS = (1, 4, 16)
SETTINGS = tuple(f"{net}-{schedule}" for net, schedule in itertools.product(NETWORKS, SCHEDULES))
RESULTS = pathlib.Path("benchmarks/results/optimizers.json")
PAGE = pathlib.Path("docs/optimizers.md")
BEGIN, END = "<!-- tables: python -m benchmarks.optimizers -->", "<!-- end of the tables -->"
_KEPT = ("mean", "low", "high", "hyperparameters")  # of a candidate
WORDS = {
    "plain-constant": "Plain network, constant rate",
    "plain-cosine": "Plain network, cosine",
    "bn-constant": "Batch norm, constant rate",
    "bn-cosine": "Batch norm, cosine",
}


def command(setting: str, budget: int, out: pathlib.Path) -> list[str]:
    """The comparison of a setting with a budget."""
    net, schedule = setting.split("-")
    tuned = "16" if budget == 16 else "4"  # whose points are others
    return [
        *(sys.executable, "-m", "jaxdeep", "compare", "--data", "fashion-mnist"),
        *("--optimizers", ",".join(OPTIMIZERS), "--batch-norm", NETWORKS[net], "--schedule", schedule),
        *("--budget", str(budget), "--seeds", "10", "--epochs", "10"),
        *("--out", str(out / f"{setting}-{tuned}")),
    ]


def run(setting: str, out: pathlib.Path) -> None:
    """The comparisons of a setting that are not there yet."""
    for budget in BUDGETS:
        kept = out / "kept" / f"{setting}-{budget}"
        if (kept / "results.json").exists():
            continue
        asked = command(setting, budget, out)
        subprocess.run(asked, check=True)
        kept.mkdir(parents=True, exist_ok=True)
        for name in ("results.json", "trials.csv", "report.html"):
            shutil.copy(pathlib.Path(asked[-1]) / name, kept / name)


def found(out: pathlib.Path) -> dict[str, dict[str, dict]]:
    """What the study says, without the curves of its runs: by setting and budget."""
    everything: dict[str, dict[str, dict]] = {}
    for setting, budget in itertools.product(SETTINGS, BUDGETS):
        file = out / "kept" / f"{setting}-{budget}" / "results.json"
        if not file.exists():
            continue
        answer = json.loads(file.read_text())
        everything.setdefault(setting, {})[str(budget)] = {
            "verdict": answer["verdict"],
            "winners": answer["winners"],
            "cautions": answer["cautions"],
            "values": answer["values"],
            "candidates": {
                row["candidate"]: {
                    name: row[name] for name in ("mean", "low", "high", "hyperparameters")
                }
                for row in answer["candidates"]
            },
            "sure": [
                [pair["better"], pair["worse"]]
                for pair in answer["pairs"]
                if pair["adjusted"] < 0.05 and pair["difference"] > 0
            ],
        }
    return everything


def tables(everything: dict[str, dict[str, dict]]) -> str:
    """The tables of the page, a section for each setting."""
    lines = []
    for setting, by_budget in everything.items():
        last = by_budget[max(by_budget, key=int)]["candidates"]
        lines += [f"### {WORDS[setting]}", "", "| | " + " | ".join(map(_head, by_budget)) + " |"]
        lines += ["| --- |" + " ---: |" * len(by_budget)]
        for name in sorted(last, key=lambda one: -last[one]["mean"]):
            cells = [_cell(answer, name) for answer in by_budget.values()]
            lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
        pairs = len(last) * (len(last) - 1) // 2
        lines.append("")
        for budget, answer in by_budget.items():
            sure = f"{len(answer['sure'])} of {pairs} pairs are told apart"
            lines.append(f"- {_head(budget)}: {answer['verdict']} ({sure}.)".replace("_", " "))
        lines.append("")
    return "\n".join(lines)


def _head(budget: str) -> str:
    return "default" if budget == "1" else f"{budget} trials"


def _cell(answer: dict, name: str) -> str:
    row = answer["candidates"][name]
    text = f"{row['mean']:.4f} ± {(row['high'] - row['low']) / 2:.4f}"
    return f"**{text}**" if name in answer["winners"] else text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/optimizers"))
    args = parser.parse_args()
    for setting in args.settings:
        run(setting, args.out)
    everything = found(args.out)
    RESULTS.write_text(json.dumps({**versions(), "found": everything}, indent=1) + "\n")
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(everything)}\n{END}{after}")


if __name__ == "__main__":
    main()
