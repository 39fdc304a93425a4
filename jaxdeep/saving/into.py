"""Arrays by name, from files of others or a dict, into the parameters and the state of a model."""

import fnmatch
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves, leaves_of
from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.nn.model import Model, check_models
from jaxdeep.saving import files
from jaxdeep.tree import leaf_paths

Arrays: TypeAlias = Mapping[str, Any]  # arrays by the name of their leaf
Change: TypeAlias = Callable[[np.ndarray], Any]
Rename: TypeAlias = Mapping[str, str | tuple[str, Change] | None]


def load_into(
    model: Model,
    params: PyTree,
    state: PyTree,
    arrays: str | os.PathLike[str] | PyTree,
    *,
    rename: Rename | None = None,
    strict: bool = True,
) -> tuple[PyTree, PyTree]:
    """Parameters and state with values from arrays by name: a file of another library, or a dict.

    An array fills the leaf whose path is its name, ``"hidden/kernel"``; ``"params/…"`` and ``"state/…"``
    say which of the two is meant where both have it. A dot is as good as a slash. Values take the dtype
    of the leaf. Either all of it fits, or one error names all that does not, and nothing is loaded.

    Args:
      model, params, state: a model with its parameters and state, as `init` makes them: the structure,
        shapes and dtypes that are wanted.
      arrays: the path of a ``.safetensors`` or ``.npz`` file, or of a directory that `jaxdeep.save`
        wrote; or a (nested) dict of arrays.
      rename: what is called otherwise: a name or glob over names, and the path that it is here, where
        each ``*`` stands for what it stood for: ``{"layers.*.weight": "hidden*/kernel"}``. The first
        that matches counts. A pair of a path and a function changes the array, too, ``("hidden*/kernel",
        numpy.transpose)``; None leaves it out.
      strict: whether every leaf must be filled and every array used. If not, leaves without an array
        stay, and arrays without a leaf are left out; shapes must fit all the same.

    Returns:
      Parameters and state. Leaves that are not filled are the same arrays.

    Raises:
      ValueError: leaves that no array fills, arrays that are not used, shapes or kinds of numbers that
        differ, two arrays for one leaf: all by name, with the names that are there; a file that cannot
        be read. TypeError: arrays that are neither. FileNotFoundError: no such file. ImportError:
        safetensors is not installed.

    Source: ``load_state_dict(strict=True)`` of PyTorch.

    >>> import jaxdeep as jd
    >>> model = jd.nn.serial(hidden=jd.nn.dense(3), out=jd.nn.dense(1))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> found = {"0.weight": np.ones((3, 2)), "0.bias": np.ones(3),
    ...          "1.weight": np.ones((1, 3)), "1.bias": np.ones(1)}
    >>> rename = {"0.weight": ("hidden/kernel", np.transpose), "0.*": "hidden/*",
    ...           "1.weight": ("out/kernel", np.transpose), "1.*": "out/*"}
    >>> params, state = load_into(model, params, state, found, rename=rename)
    >>> params["hidden"]["kernel"].shape, params["out"]["bias"]
    ((2, 3), Array([1.], dtype=float32))
    """
    check_models("load_into", {"model": model})
    _checks.check_flag("strict", strict)
    trees = {"params": leaves_of("params", params), "state": leaves_of("state", state)}
    for name, tree in trees.items():
        check_leaves(name, tree, real=False)
    by_name = leaves_of("arrays", _read(arrays))
    check_leaves("arrays", by_name, real=False)
    named = _renamed(by_name, rename)
    made = filled("load_into", trees, named, strict=strict)
    return made["params"], made["state"]


def filled(
    caller: str, like: PyTree, named: Arrays, *, strict: bool = True, whole: bool = False
) -> PyTree:
    """The tree with arrays in place of its leaves, by path, whatever holds the leaves.

    A path may lack the first name where only one leaf is meant, unless paths are `whole`.

    Raises:
      ValueError: all that does not fit, in one.

    >>> filled("it", {"a": {"b": jnp.zeros(2)}}, {"b": np.ones(2)})
    {'a': {'b': Array([1., 1.], dtype=float32)}}
    """
    paths, leaves = leaf_paths(like), jax.tree.leaves(like)
    known: dict[str, list[int]] = {}
    for i, path in enumerate(paths):
        for name in {_plain(path), *([] if whole else [_plain(path).partition("/")[2]])}:
            known.setdefault(name, []).append(i)
    array_names: dict[int, str] = {}
    unused, faults = [], []
    for name in named:
        places = known.get(_plain(name), [])
        exact = [i for i in places if _plain(paths[i]) == _plain(name)]
        places = exact or places
        if not places:
            unused.append(name)
        elif len(places) > 1:
            faults.append(f"{name} may be {' or '.join(paths[i] for i in places)}")
        elif places[0] in array_names:
            faults.append(f"{paths[places[0]]} is filled by {array_names[places[0]]} and by {name}")
        else:
            array_names[places[0]] = name
    values = dict(enumerate(leaves))
    for i, name in array_names.items():
        fault = _fault(leaves[i], named[name])
        if fault is None:
            values[i] = jnp.asarray(named[name], leaves[i].dtype)
        else:
            faults.append(f"{name} {fault.format(paths[i])}")
    lacking = [path for i, path in enumerate(paths) if i not in array_names]
    lines = _listed("of another shape or kind, or ambiguous", faults)
    if strict or not array_names:
        lines += _listed("leaves that no array fills", lacking) + _listed("arrays not used", unused)
    if lines:
        raise ValueError(f"{caller} loaded none of the arrays:\n" + "\n".join(lines))
    return jax.tree.unflatten(jax.tree.structure(like), [values[i] for i in range(len(leaves))])


def _listed(title: str, names: Sequence[str]) -> list[str]:
    return [f"  {title} ({len(names)}): {', '.join(names)}"] if names else []


def _plain(name: str) -> str:
    return name.replace(".", "/")


def _fault(leaf: Any, array: Any) -> str | None:
    """What keeps an array from filling a leaf."""
    if np.shape(array) != np.shape(leaf):
        return f"has shape {np.shape(array)}, and {{}} {np.shape(leaf)}"
    here, there = jnp.result_type(leaf), jnp.result_type(array)
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    rank = [
        next((i for i, kind in enumerate(kinds) if jnp.issubdtype(t, kind)), -1) for t in (here, there)
    ]
    if rank[1] > rank[0] or (rank[0] != rank[1] and 0 in rank):
        return f"is {there}, and {{}} {here}"
    return None


def _renamed(named: Arrays, rename: Rename | None) -> dict[str, Any]:
    if rename is None:
        return dict(named)
    if not isinstance(rename, Mapping) or not all(isinstance(glob, str) for glob in rename):
        raise TypeError(f"rename must be a dict of globs over names, got {rename!r}")
    made: dict[str, Any] = {}
    used: set[str] = set()
    for name, array in named.items():
        glob = next((g for g in rename if fnmatch.fnmatchcase(name, g)), None)
        target: Any = name if glob is None else rename[glob]
        used |= {glob} if glob is not None else set()
        change: Change | None = None
        if isinstance(target, tuple) and len(target) == 2:
            target, change = target
        if target is None:
            continue
        if not isinstance(target, str) or not (change is None or callable(change)):
            raise TypeError(
                f"rename[{glob!r}] must be a path, a pair of a path and a function, or None, "
                f"got {target!r}"
            )
        if glob is not None:
            target = _with_stars(name, glob, target)
        if target in made:
            raise ValueError(f"rename makes two arrays {target!r}, one of them {name!r}")
        made[target] = array if change is None else change(array)
    idle = [glob for glob in rename if glob not in used]
    if idle:
        raise ValueError(f"rename has {idle}, which match none of the arrays: {_some(named)}")
    return made


def _with_stars(name: str, glob: str, target: str) -> str:
    """The target, where each star stands for what it matched in the name."""
    parts = "(.*)".join(re.escape(part) for part in glob.split("*"))
    match = re.fullmatch(parts, name, re.DOTALL)
    stars = list(match.groups()) if match is not None else []
    if target.count("*") > len(stars):
        raise ValueError(f"rename: {target!r} has more stars than {glob!r}")
    for star in stars:
        target = target.replace("*", star, 1)
    return target


def _some(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def _read(arrays: Any) -> dict[str, Any]:
    if isinstance(arrays, Mapping):
        leaves = jax.tree.leaves(dict(arrays))
        odd = next((a for a in leaves if not hasattr(a, "shape") or not hasattr(a, "dtype")), None)
        if odd is not None:
            raise TypeError(f"arrays must be a dict of arrays, got {odd!r} in it")
        return dict(zip(leaf_paths(dict(arrays)), leaves))
    if not isinstance(arrays, (str, os.PathLike)) or not str(arrays):
        raise TypeError(f"arrays must be the path of a file or a dict of arrays, got {arrays!r}")
    _checks.check_local_path("arrays", arrays)
    file = pathlib.Path(arrays).expanduser()
    if file.is_dir():
        inside = [f.arrays for f in files.FORMS.values() if (file / f.arrays).is_file()]
        if not inside:
            raise FileNotFoundError(
                f"{str(file)!r} has no {' or '.join(f.arrays for f in files.FORMS.values())}"
            )
        file /= inside[0]
    if not file.is_file():
        raise FileNotFoundError(f"arrays: there is no file {str(file)!r}")
    if file.suffix == ".npz":
        try:
            with np.load(file, allow_pickle=False) as opened:
                return {name: opened[name] for name in opened.files}
        except (ValueError, OSError) as error:
            raise ValueError(f"{str(file)!r} cannot be read as .npz: {error}") from error
    if file.suffix == ".safetensors":
        needed("safetensors", "reading safetensors", "safetensors", "checkpoint")
        with files.located(file):
            return dict(files.arrays_in(file))
    raise ValueError(f"arrays must be a .safetensors or .npz file, got {str(file)!r}")
