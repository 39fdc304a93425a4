#!/usr/bin/env python3
"""Build the archive and the wheel, and try the wheel as users get it; `make dist`.

In fresh environments without the clone: the core alone, which imports and trains; each extra on top of
it, whose packages import; and the README's twenty lines with a picture, timed from the wheel on.
`EXTRAS="plot onnx"` tries these alone; CONSTRAINTS= takes the newest of everything. It ends with the
first that fails.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONSTRAINTS = os.environ.get("CONSTRAINTS", "constraints.txt")
LEFT_OUT = {"bench", "test", "dev", "all"}  # gigabytes, or the others together

CORE = """
import sys, jax, jax.numpy as jnp, jaxdeep as jd
assert "site-packages" in jd.__file__, jd.__file__
[getattr(jd, name) for name in dir(jd)]
x = jnp.linspace(-1, 1, 64)[:, None]
usual = dict(loss=jd.losses.mse, optimizer=jd.optimizers.adam(0.1), key=0, progress=False)
result = jd.fit(jd.nn.dense(1), (x, 2 * x), epochs=50, **usual)
assert result.history["loss"][-1] < 1e-2
absent = {"sklearn", "matplotlib", "orbax", "safetensors", "pandas", "torch", "keras"} & {*sys.modules}
assert not absent, absent
"""
EXTRA = """
import importlib, importlib.metadata as metadata, sys
modules = metadata.packages_distributions()
for name in sys.argv[1:]:
    owned = lambda owners: name in {owner.lower().replace("_", "-") for owner in owners}
    found = [module for module, owners in modules.items() if owned(owners)]
    found = [module for module in found if module.isidentifier() and not module.startswith("_")]
    assert found, name
    for module in found:
        importlib.import_module(module)
"""
PICTURE = """
jd.plotting.curves({"training": result.history}, metrics=["accuracy"]).savefig("first.png")
"""


def run(*command, **options):
    """Run a command outside of the clone; its output is shown if it fails."""
    done = subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True, **options
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def environment(folder, below=None, interpreter=sys.executable):
    """A new virtual environment, which sees the packages of another one; its interpreter."""
    run(interpreter, "-m", "venv", folder)
    python = folder / "bin" / "python"
    if below is not None:
        (packages,) = (below / "lib").glob("python*/site-packages")
        (own,) = (folder / "lib").glob("python*/site-packages")
        (own / "below.pth").write_text(f"{packages}\n")
    return python


def install(python, *what, constraints=CONSTRAINTS):
    """Install packages."""
    chosen = ["--constraint", ROOT / constraints] if constraints else []
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *chosen, *what)


def build(folder):
    """The wheel, made from the archive, and the archive, in `dist/`."""
    builder = environment(folder / "builder")
    install(builder, "build", constraints="")
    for old in (ROOT / "dist").glob("jaxdeep-*"):
        old.unlink()
    run(builder, "-m", "build", "--outdir", ROOT / "dist", ROOT)
    (wheel,), (archive,) = ((ROOT / "dist").glob(f"jaxdeep-*{end}") for end in (".whl", ".tar.gz"))
    return wheel, archive


def main():
    """The command line."""
    wanted = os.environ.get("EXTRAS", "").split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        wheel, archive = build(folder)
        print(*(f"{file.name}, {file.stat().st_size:,} bytes" for file in (wheel, archive)), sep="\n")

        began = time.perf_counter()
        core = environment(folder / "core")
        install(core, wheel)
        installed = time.perf_counter() - began
        run(core, "-c", CORE, cwd=folder)
        print(f"core: installed in {installed:.0f} s, imports and trains")

        for extra in wanted or [name for name in extras if name not in LEFT_OUT]:
            python = environment(folder / extra, folder / "core")
            # what holds other packages back goes with its own choice of them
            install(python, f"{wheel}[{extra}]", constraints="" if extra == "onnx" else CONSTRAINTS)
            names = [re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in extras[extra]]
            run(python, "-c", EXTRA, *(name for name in names if name != "jaxdeep"), cwd=folder)
            print(f"{extra}: installs and imports", flush=True)

        block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
        (folder / "lines.py").write_text(block + PICTURE)
        began = time.perf_counter()
        python = environment(folder / "lines")
        install(python, f"{wheel}[datasets,plot]")
        installed = time.perf_counter() - began
        said = run(python, folder / "lines.py", cwd=folder)
        seconds = time.perf_counter() - began
        assert (folder / "first.png").stat().st_size > 1_000
        assert float(re.search(r"test accuracy ([\d.]+)", said)[1]) > 0.95, said
        print(said.strip())
        print(
            f"from the wheel to the first picture: {seconds:.0f} s, {installed:.0f} of them to install"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
