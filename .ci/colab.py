#!/usr/bin/env python3
"""Run notebook 10 from the wheel, as a user of Colab does: `make colab`.

In a fresh environment with Colab's Python and its versions of what jaxdeep stands on, the wheel is
installed as the notebook's first cell does. That must leave these versions alone: they belong to the
plugin of the GPU or TPU. Then every cell is run, from what is installed and not from this clone.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import dist

# https://github.com/googlecolab/backend-info, August 2026: CPU, GPU and TPU alike
PYTHON = "3.13"
VERSIONS = {"jax": "0.7.2", "jaxlib": "0.7.2", "flax": "0.11.2", "optax": "0.2.8", "numpy": "2.1.3"}
BESIDE = ("nbclient", "nbformat", "ipykernel", "matplotlib")  # which Colab has too
NOTEBOOK = dist.ROOT / "notebooks" / "10_devices_tpu_and_colab.ipynb"

INSTALLED = """
import importlib.metadata as metadata, json, sys
print(json.dumps({name: metadata.version(name) for name in sys.argv[1:]}))
"""
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
where = nbformat.v4.new_code_cell("import jaxdeep; print(jaxdeep.__file__)")
notebook.cells.append(where)
nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
print(*(o.text for o in outputs if o.output_type == "stream"), sep="")
assert "site-packages" in where.outputs[0].text, where.outputs[0].text
assert any("image/png" in o.get("data", {}) for o in outputs), "no picture"
"""


def main():
    """The command line."""
    found = subprocess.run([dist.ROOT / ".ci" / "python", PYTHON], check=False, capture_output=True)
    if found.returncode:
        sys.exit(found.returncode)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        wheel, _ = dist.build(folder)
        python = dist.environment(folder / "colab", interpreter=found.stdout.decode().strip())
        pinned = [f"{name}=={version}" for name, version in VERSIONS.items()]
        dist.install(python, *pinned, *BESIDE, constraints="")

        began = time.perf_counter()
        dist.install(python, f"{wheel}[datasets,plot,checkpoint,data]", constraints="")
        installed = time.perf_counter() - began
        left = json.loads(dist.run(python, "-c", INSTALLED, *VERSIONS))
        assert left == VERSIONS, f"the installation replaced {left}"
        print(f"installed in {installed:.0f} s; left alone: {', '.join(pinned)}", flush=True)

        shutil.copy(NOTEBOOK, folder)
        print(dist.run(python, "-c", RUN, NOTEBOOK.name, cwd=folder))
        print(f"{NOTEBOOK.name}: {time.perf_counter() - began - installed:.0f} s")


if __name__ == "__main__":
    main()
