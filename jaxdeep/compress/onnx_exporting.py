"""A model as an ONNX file, compared with ONNX Runtime before it is kept."""

import contextlib
import dataclasses
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.compress.exporting import any_rows, check_inference, of_any_rows, write
from jaxdeep.fitting.rows import rows_in
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model, check_models
from jaxdeep.nn.walk import Place
from jaxdeep.tree import as_arrays_or_shapes, path_name, shapes

_MOST_BYTES = 2**31 - 1  # of a protocol buffer


def export_onnx(
    path: str | os.PathLike[str],
    model: Model,
    params: PyTree,
    state: PyTree,
    x: PyTree,
    *,
    batch_size: int | None = None,
    opset: int | None = None,
    tolerance: float = 1e-4,
) -> Any:
    """Write the model at inference, with its weights, to an ONNX file, for runtimes without JAX.

    The function ``x ↦ model.apply(params, state, x)[0]`` is written for any number of rows, and run by
    ONNX Runtime on `x`: the file is kept only if outputs agree. Anything that reads ONNX runs it::

        session = onnxruntime.InferenceSession("model.onnx")
        y, = session.run(None, {"x": x})

    An input that is one array is called "x", the arrays of a tree by their paths, and likewise "y". Raw
    rows of a table become ``{"numbers": float32, "codes": int32}`` on the host, as for `export`.

    Args:
      path: the file, "~" being the home directory; one that exists is replaced once the new one is
        complete and has been compared.
      model, params, state: any `Model` with its parameters and state, folded and quantised ones too.
      x: a batch on which outputs are compared, or `jax.ShapeDtypeStruct` of one, for which normal
        numbers and zeros are drawn; a pytree if the input is one. All arrays have the rows first. For a
        model that reads a table, rows of it are an example, too.
      batch_size: a number of rows to fix; any number by default.
      opset: version of ONNX' operators; jax2onnx' own choice by default.
      tolerance: how far an output may be off, as a share of itself and of the largest.

    Returns:
      What was written, as `onnx.ModelProto`.

    Raises:
      ValueError: a layer that jax2onnx cannot write, that ONNX Runtime cannot run, or whose outputs
        differ, by its path (`conv` over three axes and `mixed_precision` in bfloat16 are such); an input
        without rows, traced parameters or ones that are not of the model, a model whose shapes depend on
        the number of rows (give `batch_size`), weights of more than 2 GiB.
      OSError: a path that is a directory or in none, or that cannot be written.
      ImportError: jax2onnx is not installed (``pip install 'jaxdeep[onnx]'``).

    Source: jax2onnx, of the jaxpr; ONNX Runtime.

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> model, x = jd.nn.dense(2), jnp.ones((1, 3))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> proto = export_onnx("model.onnx", model, params, state, x)  # doctest: +SKIP
    >>> [output.name for output in proto.graph.output]  # doctest: +SKIP
    ['y']
    """
    check_models("export_onnx", {"model": model})
    needed("jax2onnx", "export_onnx", "jax2onnx", "onnx")
    if opset is not None:
        opset = _checks.check_count("opset", opset)
    _checks.check_number("tolerance", tolerance, "(0, inf)")
    file = check_inference(path, model, params, state)
    x = as_arrays_or_shapes(rows_in(model, x), "x")
    options = _Options(batch_size, opset, tolerance)
    try:
        proto = _compared(_traced(model, params, state, x, options), x, options)
    except _Refused as error:
        fault = _layer_at_fault(model, params, state, x, options)
        place, reason = (None, error) if fault is None else fault
        name = "the model" if place is None else f"layer {place.name} ({place.layer!r})"
        raise ValueError(f"{name} cannot be exported to ONNX: {reason}") from error
    write(file, proto.SerializeToString())
    return proto


class _Refused(Exception):
    """Why a function has no ONNX file."""


class _Options(NamedTuple):
    batch_size: int | None
    opset: int | None
    tolerance: float


class _Traced(NamedTuple):
    """A function of arrays, as primitives.

    Attributes:
      function: of the leaves of the inputs to those of the outputs.
      jaxpr: the same for any number of rows, or the number that was fixed.
      like: the shapes of the inputs.
      inputs, outputs: names.
    """

    function: Callable[..., Sequence[Any]]
    jaxpr: Any
    like: list[jax.ShapeDtypeStruct]
    inputs: list[str]
    outputs: list[str]


def _traced(model: Model, params: PyTree, state: PyTree, x: PyTree, options: _Options) -> _Traced:
    from jaxdeep.compress.any_platform import in_any_form  # which loads jax.extend

    tree = of_any_rows(shapes(x), options.batch_size)
    like, structure = jax.tree.flatten(tree)
    names: list[str] = []

    def function(*leaves: Any) -> list[Any]:
        y, _ = model.apply(params, state, jax.tree.unflatten(structure, leaves))
        names[:] = _names(y, "y")
        return jax.tree.leaves(y)

    # jax2onnx replaces functions of jax.numpy while it traces, which ours are not made for
    with any_rows():
        jaxpr = in_any_form(jax.make_jaxpr(function)(*like))
    return _Traced(function, jaxpr, like, _names(tree, "x"), names)


def _names(tree: PyTree, alone: str) -> list[str]:
    """The paths of the leaves, or the name of the only one that has none."""
    return [path_name(path) or alone for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _compared(traced: _Traced, x: PyTree, options: _Options) -> Any:
    """The function as ONNX, which ONNX Runtime runs with the same outputs.

    Raises:
      _Refused: it has none.
    """
    import onnxruntime

    proto = _converted(traced, options)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    rows = {len(leaf) for leaf in jax.tree.leaves(x)} | {1, 3}
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), quiet, providers=["CPUExecutionProvider"]
        )
        for n in rows if options.batch_size is None else {options.batch_size}:
            inputs = [_example(leaf, n) for leaf in jax.tree.leaves(x)]
            outputs = session.run(None, dict(zip(traced.inputs, inputs)))
            with jax.default_matmul_precision("highest"):
                wanted = jax.device_get(jax.jit(traced.function)(*inputs))
            for name, a, b in zip(traced.outputs, outputs, wanted):
                _check_same(name, a, b, options.tolerance)
    except _Refused:
        raise
    except Exception as error:  # it has a class for each kind of failure
        raise _Refused(f"ONNX Runtime cannot run it ({_first_line(error)})") from error
    return proto


def _converted(traced: _Traced, options: _Options) -> Any:
    """What jax2onnx makes of it."""
    import jax2onnx
    from jax.extend import core

    call = core.jaxpr_as_fun(traced.jaxpr)
    alone = len(traced.outputs) == 1
    double = any(leaf.dtype == jnp.float64 for leaf in (*traced.like, *traced.jaxpr.out_avals))
    chosen = {} if options.opset is None else {"opset": options.opset}
    try:
        with _quiet():
            proto = jax2onnx.to_onnx(
                lambda *leaves: call(*leaves)[0] if alone else tuple(call(*leaves)),
                inputs=traced.like,
                model_name="jaxdeep",
                input_names=traced.inputs,
                output_names=traced.outputs,
                enable_double_precision=double,
                **chosen,
            )
    except Exception as error:  # whatever it raises for what it does not know
        raise _Refused(f"jax2onnx cannot write it ({_first_line(error)})") from error
    _pool_over_space(proto.graph)
    if proto.ByteSize() > _MOST_BYTES:
        raise _Refused(f"its {proto.ByteSize():,} bytes are more than the 2 GiB of a file")
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of jax2onnx on plugins and shapes, which say nothing of the model."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _example(leaf: Any, rows: int) -> np.ndarray:
    """So many rows of an example input; of a shape alone, normal numbers or zeros."""
    shape = (rows, *leaf.shape[1:])
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return np.resize(np.asarray(leaf), shape)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.zeros(shape, leaf.dtype)
    return np.random.default_rng(0).normal(size=shape).astype(leaf.dtype)


def _check_same(name: str, output: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    if output.shape != wanted.shape or output.dtype != wanted.dtype:
        raise _Refused(
            f"ONNX Runtime gives {output.dtype}{output.shape} for {name}, "
            f"JAX {wanted.dtype}{wanted.shape}"
        )
    if not jnp.issubdtype(wanted.dtype, jnp.floating):
        same = output == wanted
    else:
        finite = np.abs(wanted[np.isfinite(wanted)])
        scale = float(finite.max(initial=0.0)) or 1.0
        same = np.isclose(output, wanted, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    if not np.all(same):
        at = tuple(int(i) for i in np.argwhere(~np.asarray(same))[0])
        raise _Refused(f"ONNX Runtime gives {output[at]:.6g} for {name}{list(at)}, JAX {wanted[at]:.6g}")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _layer_at_fault(
    model: Model, params: PyTree, state: PyTree, x: PyTree, options: _Options
) -> tuple[Place, Exception] | None:
    """The first layer which alone cannot be exported either, and why."""
    for place, own_params, own_state, own_x in _calls(model, params, state, x):
        try:
            _compared(_traced(place.layer, own_params, own_state, own_x, options), own_x, options)
        except _Refused as error:
            return place, error
        except ValueError:  # inputs of its own without rows
            continue
    return None


def _calls(model: Model, params: PyTree, state: PyTree, x: PyTree) -> list[tuple[Place, Any, Any, Any]]:
    """The layers as they are called: their parameters and state, and what goes into them."""
    calls: list[tuple[Place, Any, Any, Any]] = []

    def noted(place: Place) -> Model:
        def apply(p: PyTree, s: PyTree, x: PyTree, **switches: Any) -> tuple[PyTree, PyTree]:
            calls.append((place, p, s, jax.device_get(x)))
            return place.layer.apply(p, s, x, **switches)

        return dataclasses.replace(place.layer, apply=apply)

    inputs = jax.tree.map(lambda leaf: _example(leaf, max(1, leaf.shape[0])), x)
    walk.rebuild(model, noted, walk.outside_loops).apply(params, state, inputs)
    return calls


def _pool_over_space(graph: Any) -> None:
    """Let windows of one row and one channel move over space alone: ONNX Runtime has no others.

    jax2onnx writes ``reduce_window_max`` as a `MaxPool` of all axes, behind two of size 1.
    """
    from onnx import AttributeProto, helper

    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                _pool_over_space(attribute.g)
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        window = settings.get("kernel_shape", [])
        if node.op_type != "MaxPool" or len(window) < 4 or (window[0], window[-1]) != (1, 1):
            nodes.append(node)
            continue
        axes, out = len(window), node.output[0]
        settings["kernel_shape"] = window[1:-1]
        for name in {"strides", "dilations"} & settings.keys():
            settings[name] = settings[name][1:-1]
        if "pads" in settings:
            settings["pads"] = settings["pads"][1 : axes - 1] + settings["pads"][axes + 1 : -1]
        front = helper.make_tensor(f"{out}_front", 7, [2], [0, 1])  # int64
        graph.initializer.append(front)
        space = list(range(1, axes - 1))
        steps: tuple[tuple[str, list[str] | None, dict[str, Any]], ...] = (
            ("Squeeze", [node.input[0], front.name], {}),
            ("Transpose", None, {"perm": [0, axes - 1, *space]}),
            ("MaxPool", None, settings),
            ("Transpose", None, {"perm": [0, *(axis + 1 for axis in space), 1]}),
            ("Unsqueeze", [f"{out}_3", front.name], {}),
        )
        for i, (kind, inputs, attributes) in enumerate(steps):
            result = out if i == len(steps) - 1 else f"{out}_{i}"
            nodes.append(helper.make_node(kind, inputs or [f"{out}_{i - 1}"], [result], **attributes))
    del graph.node[:]
    graph.node.extend(nodes)
