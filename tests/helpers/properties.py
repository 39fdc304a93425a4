"""A property in two sizes: a few examples with the others, many of them among the slow tests."""

import functools
import inspect

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def over(few=3, many=200, *, heavy=False, **strategies):
    """A test of a property: what is drawn by name from the strategies is passed to it.

    It has two cases: ``few``, whose examples are always the same ones, fast or `heavy`, and ``many``,
    which is slow and draws others every time. With ``few=0`` there is the slow one alone. Other
    arguments are fixtures and parameters, as ever. Draw values rather than shapes, each of which would
    be compiled.
    """

    def decorate(function):
        others = [
            parameter
            for name, parameter in inspect.signature(function).parameters.items()
            if name not in strategies
        ]

        @functools.wraps(function)
        def test(property_examples, **fixed):
            settings = hypothesis.settings(
                max_examples=property_examples,
                derandomize=property_examples == few,
                database=None,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            settings(hypothesis.given(**strategies)(function))(**fixed)

        examples = inspect.Parameter("property_examples", inspect.Parameter.KEYWORD_ONLY)
        test.__signature__ = inspect.Signature([*others, examples])
        cases = [pytest.param(many, id="many", marks=pytest.mark.slow)]
        if few:
            marks = [pytest.mark.heavy] if heavy else []
            cases.insert(0, pytest.param(few, id="few", marks=marks))
        return pytest.mark.parametrize("property_examples", cases)(test)

    return decorate


def of_width(rows, most):
    """Arrays of whole numbers from 0 to `most`, in a dtype of 8 to 64 bits that holds them."""

    def narrowed(dtype):
        held = min(most, int(np.iinfo(dtype).max))
        return hnp.arrays(dtype, rows, elements=st.integers(0, held))

    return st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "int64"]).flatmap(narrowed)


DAMAGES = ["missing", "further", "renamed", "nested", "longer", "shorter", "axis"]


def damaged(tree):
    """A tree of dicts that is not this one, with a pattern of the path of the leaf that differs."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    return st.builds(damage, st.just(tree), st.sampled_from(paths), st.sampled_from(DAMAGES))


def damage(tree, path, kind):
    """The tree with another leaf at the path, and the pattern of what an error should name."""
    *way, last = path.split("/")
    lacking = f"|{'/'.join(way)} lack '{last}'"
    made = jax.tree.map(lambda a: a, tree)  # the dicts are copied
    place = functools.reduce(lambda node, name: node[name], way, made)
    a = place[last]
    if kind == "missing":
        del place[last]
        path += lacking
    elif kind == "further":
        place[f"{last}2"] = a
        path = f"{path}2"
    elif kind == "renamed":
        place[f"other_{last}"] = place.pop(last)
        path = f"{path}|{'/'.join([*way, f'other_{last}'])}{lacking}"
    elif kind == "nested":
        place[last] = {"inner": a}
        path += lacking
    elif kind == "longer":
        place[last] = np.ones((*a.shape[:-1], a.shape[-1] + 1)) if a.ndim else np.ones(2)
    elif kind == "shorter" and a.ndim and a.shape[-1] > 1:  # which would broadcast
        place[last] = np.ones((*a.shape[:-1], 1))
    else:
        place[last] = np.ones((1, *a.shape))
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), made), path
