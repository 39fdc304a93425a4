"""The benchmark for an accelerator runs small on a CPU, so that it is not stale on that day."""

import json
import subprocess
import sys

import pytest

PARTS = ("update", "trainings", "steps", "mc_dropout", "bits")


# What trains and steps is slow, and stands on what `update` and `bits` do.
@pytest.mark.parametrize(
    "part",
    [
        pytest.param(
            part, marks=pytest.mark.slow if part in ("trainings", "steps") else pytest.mark.heavy
        )
        for part in PARTS
    ],
)
def test_every_part_runs_small(part, tmp_path):
    out = tmp_path / "found"
    command = [sys.executable, "-m", "benchmarks.accelerator", "--small", "--parts", part]
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True, timeout=500)
    found = json.loads(out.with_suffix(".json").read_text())["found"][part]
    assert isinstance(found, dict), found
    assert found["about"]["seconds"] > 0
    assert f"| {part} | about, seconds |" in out.with_suffix(".md").read_text()


def test_parts_are_those_that_are_tested():
    from benchmarks import accelerator

    assert tuple(accelerator.PARTS) == PARTS


def test_a_table_says_what_failed():
    from benchmarks import accelerator

    text = accelerator.table({"update": {"GB/s": {"optax": 3000.0}}, "bits": "failed: no device"})
    assert "| update | GB/s, optax | 3,000 |" in text
    assert "| bits |  | failed: no device |" in text
