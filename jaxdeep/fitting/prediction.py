"""`predict`, what a model puts out for rows of any kind and number."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._compilation import check_untraced, known_as, meant_nans, meant_transfers
from jaxdeep._endings import of_program
from jaxdeep._identity import Key, key_of
from jaxdeep._shapes import PyTree
from jaxdeep.fitting.ahead import ahead
from jaxdeep.fitting.answers import Known, answers_of, check_answer, check_classes, has_classes
from jaxdeep.fitting.drive import by_shape
from jaxdeep.fitting.evaluation import variables_of
from jaxdeep.fitting.loaders import check_batch
from jaxdeep.fitting.placement import Placement, fetched, mesh_of, usable
from jaxdeep.fitting.regrouping import of_examples
from jaxdeep.fitting.rows import at_once, check_batches, check_rows, labels_in, outputs_in, rows_in
from jaxdeep.fitting.sources import ArraySource, LoaderSource, Source, source_of
from jaxdeep.train.data import count_rows, explain_narrow, with_rows
from jaxdeep.train.options import FitOptions, filled
from jaxdeep.train.state import Network, PerExample, check_model
from jaxdeep.tree import shapes


@meant_transfers()
@meant_nans(meant=False)
def predict(
    model: Network,
    params: PyTree,
    state: PyTree,
    x: PyTree,
    *,
    batch_size: int = 256,
    batch: Callable[[Any], PyTree] | None = None,
    output: Any = None,
    from_logits: bool | None = None,
    loss: PerExample | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> PyTree:
    """What a trained model puts out: ``model.apply(params, state, x)[0]``, or the classes it predicts.

    The model is as in inference: nothing is random, and batch norms use their running statistics. All
    rows go through one compiled program, `batch_size` at a time; a smaller number is filled up to it. So
    a row has the same bits whether it comes alone or among a million, if the model computes rows apart
    from each other (with another `batch_size` the last bits may differ), and another number of rows
    compiles nothing. Rows are read as they are needed, so that they may be larger than memory; what
    comes out is in memory.

    Args:
      model, params, state: a `jaxdeep.nn.Model` and what it has learned.
      x: inputs, an array or a pytree of arrays with N rows each, which may be none. Memory maps and HDF5
        data sets are read as they are needed. Or batches of inputs that somebody else makes (Grain,
        PyTorch, a generator), whose rows are put together anew. If the model has a layer that reads the
        columns of a table, a frame or an iterator over frames, such as the chunks of a file; targets
        among their columns are not looked at.
      batch_size: rows computed at a time. One of more than twice the rows that there are is halved where
        it would take more than a GiB.
      batch: a function from what a loader makes to inputs, for loaders that make something else, such as
        ``batch=lambda b: b["image"]``.
      output: None for what the model puts out; "probability" for probabilities; "class" for the most
        probable class. If the model has several outputs, one of these for all, or in their structure
        ``{"box": None, "class": "class"}``.
      from_logits: whether the outputs are logits or probabilities, where neither the last layer of the
        model nor `loss` says it.
      loss: the loss it was trained with, as `FitResult.predict` knows it. It tells logits of classes
        that exclude each other from those of labels that do not, as
        `jaxdeep.losses.sigmoid_cross_entropy` takes them.
      mesh: devices to split each batch over, as for `jaxdeep.fit`; by default those that the parameters
        are on.

    Returns:
      NumPy arrays with N rows, in the dtype and structure of the outputs. If the model has a layer that
      reads the columns of a table whose target was standardised (``standardize_target``), and one output
      of one number a row, this is ``mean + std · output`` in float64, in the unit of the table, for raw
      rows and for encoded ones alike. Of several outputs nobody says which is that target, and they are
      as they come: ``columns.values(y["main"])`` puts one in its unit.

      Probabilities are in at least float32, of the shape of the outputs. They are what comes out of a
      model that ends in a softmax or a sigmoid, the exponentials of what comes out of a log-softmax, and
      else the softmax of logits over the last axis. Of a single logit, and of labels that do not exclude
      each other, they are σ of each.

      Classes are int32, without the last axis: the place of the largest output, and for a single output
      1 where its probability is above 0.5, else 0. Of labels that do not exclude each other they are 0
      and 1 for each, of the shape of the outputs. A model with a layer that reads the columns of a frame
      gives the labels of that frame, if it had some.

    Raises:
      ValueError: no batches; a single row without an axis of rows; parameters of another model; a
        batch size below 1, or one that the devices do not divide; an output of which nobody says whether
        it holds logits, that is said to be probabilities and is none, or that has no classes; the
        probabilities of scores that a margin separates, as a hinge `loss` says; a row whose outputs are
        NaN, which has no class.
      TypeError: inputs that are no arrays of numbers; pairs, such as of inputs and labels, of which the
        model takes one part alone; traced values.

    Source: Keras' `Model.predict`; scikit-learn's ``predict`` and ``predict_proba``.

    >>> import jaxdeep as jd
    >>> model = jd.nn.dense(3)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> predict(model, params, state, np.ones((1000, 2))).shape
    (1000, 3)
    >>> predict(model, params, state, [[1.0, 2.0]], output="class").dtype
    dtype('int32')
    """
    trees = [tree for tree in (params, state, x) if not isinstance(tree, Iterator)]
    check_untraced("predict", *trees, instead="model.apply")
    check_model(model)
    check_answer(output)
    if isinstance(output, str):
        labels_in(model, np.empty(0, np.int32))  # refuses a table whose target has no classes
    if from_logits is not None:
        _checks.check_flag("from_logits", from_logits)
    if loss is not None:
        _checks.check_takes("loss", loss, "outputs", "y")
    options: FitOptions = filled(
        "predict", FitOptions, {"stream": True, "batch_size": batch_size, "batch": batch}
    )
    variables = variables_of(model, params, state)
    model, *both, x = ahead(model, *variables, rows_in(model, x))
    variables = both[0], both[1]
    source = source_of(x, "x", options, pairs=False, inputs=True)
    check_batch(batch, loads=isinstance(source, LoaderSource))
    if isinstance(source, LoaderSource) and jax.process_count() > 1:
        raise ValueError(
            "x must be arrays where there are several processes, of which each computes its part: a "
            "loader of their shares has no order over all of them"
        )
    size = at_once(options["batch_size"], source)
    together = with_rows(source.like, size)
    mesh = usable(mesh_of(variables) if mesh is None else mesh, None, together)
    placement = Placement(mesh)
    variables = placement.variables(variables)
    known = Known(loss, None if from_logits is None else bool(from_logits))
    put_out = _program(model, output, known)

    def key_now() -> Key:
        return key_of("predict", model, output, known)

    key, is_loaded = key_now(), isinstance(source, LoaderSource)
    # a loader may change what the key is made of
    program = by_shape("predict", put_out, 1, key=key_now if is_loaded else lambda: key)

    def computed() -> Iterator[PyTree]:
        """The outputs of each part on the host, fetched while those of the next are computed."""
        first, before = 0, None
        for part in source.parts(size, placement):
            now = program(variables, part.rows), part.filled
            if before is not None:
                yield _fetched(*before, output, first)
                first += before[1]
            before = now
        if before is not None:
            yield _fetched(*before, output, first)

    try:
        if isinstance(source, ArraySource):
            joined = _in_place(
                computed(), source.examples, lambda: jax.eval_shape(put_out, variables, together)
            )
        else:
            joined = _concatenated(list(computed()))
    except (TypeError, ValueError) as error:
        _explain(error, source, model, variables, batch)
        raise
    if not is_loaded:
        known_as(key, key_now())  # tracing may change what a key is made of
    return labels_in(model, joined) if output == "class" else outputs_in(model, joined, output)


def _explain(
    error: Exception, source: Source, model: Network, variables: tuple[PyTree, PyTree], batch: Any
) -> None:
    """Raise or note what is wrong with inputs that the model does not take, as far as it is known."""
    explain_narrow("x", source.like, error)
    if isinstance(source, ArraySource):
        check_rows(model, variables, source.like)
        return
    if batch is None:
        check_batches(model, variables, source.like)
    error.add_note(
        f"(x gives batches, each of which is inputs of several rows, the first of "
        f"{source.batch_size}; leave labels out of it, and put single rows together)"
    )


def _program(model: Network, output: Any, known: Known) -> Callable[..., PyTree]:
    """The function of parameters and state, and of inputs, that makes what is asked for."""

    def apply(variables: tuple[PyTree, PyTree], x: PyTree) -> PyTree:
        return jax.tree.map(jnp.asarray, model.apply(*variables, x)[0])

    def put_out(variables: tuple[PyTree, PyTree], x: PyTree) -> PyTree:
        y, rows = apply(variables, x), count_rows(x)
        for leaf in jax.tree.leaves(y):
            if leaf.shape[:1] != (rows,):
                raise ValueError(
                    f"the model must give an output for each row of x, got shape {leaf.shape} for "
                    f"{rows} rows"
                )
        if output is None:
            return y
        program = jax.make_jaxpr(apply)(shapes(variables), shapes(x))
        answers = answers_of(shapes(y), output, model, known, of_program(program))
        leaves, structure = jax.tree.flatten(y)
        return jax.tree.unflatten(structure, [answer(leaf) for answer, leaf in zip(answers, leaves)])

    return put_out


def _fetched(y: PyTree, filled: int, output: Any, first: int) -> PyTree:
    """The rows that count on the host; refuses those without a class."""
    rows = jax.tree.map(lambda a: fetched(a)[:filled], y)
    if has_classes(output):
        check_classes(rows, output, first)
    return rows


def _in_place(parts: Iterable[PyTree], rows: int, like: Callable[[], PyTree]) -> PyTree:
    """The rows of all parts in arrays of so many, of which there is no other copy."""
    whole, done = None, 0
    for part in parts:
        if whole is None:
            whole = _room(part, rows)
        for room, leaf in zip(jax.tree.leaves(whole), jax.tree.leaves(part)):
            room[done : done + len(leaf)] = leaf
        done += count_rows(part)
    return _room(like(), rows) if whole is None else whole


def _room(like: PyTree, rows: int) -> PyTree:
    return jax.tree.map(lambda a: np.empty((rows, *a.shape[1:]), a.dtype), like)


def _concatenated(parts: list[PyTree]) -> PyTree:
    """The rows of all parts, of which nobody knew how many there would be."""
    shapes_of = {of_examples(part) for part in parts}
    if len(shapes_of) > 1:
        raise ValueError(
            "the outputs of all batches of x must have the same shape but for their rows, got "
            f"{' and '.join(sorted(shapes_of))}; predict batches of examples of other shapes one by one"
        )
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
