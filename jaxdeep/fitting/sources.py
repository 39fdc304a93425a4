"""Sources of batches: what `fit` takes as data, as arrays or as a loader."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeGuard

import jax
from jax.sharding import Mesh

from jaxdeep._shapes import PyTree
from jaxdeep.fitting.array_source import ArraySource
from jaxdeep.fitting.block import Position
from jaxdeep.fitting.loader_source import Batches, LoaderSource
from jaxdeep.fitting.loaders import check_batch, check_no_dataset
from jaxdeep.fitting.placement import check_same_everywhere, usable
from jaxdeep.train.columns import check_told_apart_by_column
from jaxdeep.train.data import check_batch_size
from jaxdeep.train.objective import Bounds
from jaxdeep.train.options import FitOptions

Source = ArraySource | LoaderSource


def sources_of(
    data: PyTree, options: FitOptions, *, passed: Collection[str] = (), pairs: bool
) -> tuple[list[Source], Mesh | None]:
    """The sources of the training and, if there are any, validation data, and the mesh to compute on.

    Args:
      data: as `jaxdeep.fit` takes them.
      options: the options of the run.
      passed: names of the options that were passed and are not at their defaults by themselves.
      pairs: whether data must be ``(x, y)`` or ``(x, y, weights)``.

    Raises:
      ValueError, TypeError: data of another form, a batch larger than the data, a batch that the devices
        do not divide, options that a loader decides.
    """
    sources = [source_of(data, "data", options, pairs=pairs)]
    if options["validation"] is not None:
        evaluated: FitOptions = {"shuffle": False, "drop_remainder": False, "steps_per_epoch": None}
        sources.append(
            source_of(options["validation"], "validation", {**options, **evaluated}, pairs=pairs)
        )
    training = sources[0]
    check_batch(options["batch"], loads=any(isinstance(source, LoaderSource) for source in sources))
    if isinstance(training, ArraySource):
        check_told_apart_by_column(training.data)
        if "batch_size" in passed:  # else fewer rows than the default are one batch
            check_batch_size(options["batch_size"], training.examples)
        who = "batch_size"
    else:
        training.keep_told_apart()
        _check_decided_by_loader(options, passed, sources)
        who = "the number of rows of a batch of data"
    mesh = usable(options["mesh"], options["shard"], training.example, who)
    for source in sources:
        if mesh is not None and isinstance(source, ArraySource):
            check_same_everywhere(source.data, source.name)
    return sources, mesh


def source_of(
    data: PyTree | Batches, name: str, options: FitOptions, *, pairs: bool, inputs: bool = False
) -> Source:
    """The source of arrays or of batches that were passed as `name`.

    With `inputs` they are those of a model alone, where a list of lists is one array.
    """
    if isinstance(data, (set, frozenset, str, bytes, bytearray)):
        raise TypeError(
            f"{name} must be arrays, or give batches of them in an order, got a {type(data).__name__}"
        )
    check_no_dataset(name, data)
    kind = LoaderSource if is_batches(data) else ArraySource
    return kind(data, name, options, pairs=pairs, inputs=inputs)


def keep_to(
    sources: Sequence[Source],
    bounds: Mapping[str, Bounds],
    trial: Callable[[PyTree, str], object],
) -> None:
    """Check all data as the sources' samples were.

    Args:
      sources: the sources.
      bounds: of the labels of the samples, by name.
      trial: ``(batch, name)``, refuses a batch by its shapes.
    """
    for source in sources:
        source.keep_within(bounds.get(source.name, ()))
        if isinstance(source, LoaderSource):
            source.keep_to(trial)


def position_of(sources: Sequence[Source]) -> Position:
    """Where the sources are: the training data, and under "validation" a loader of validation data."""
    positions = [source.position() for source in sources]
    if len(positions) == 1 or positions[1] is None:
        return positions[0]
    return {**(positions[0] or {}), "validation": positions[1]}


def go_to(sources: Sequence[Source], position: Position) -> None:
    """Put the sources where `position_of` found them."""
    sources[0].go_to(position)
    if len(sources) == 2 and position is not None:
        sources[1].go_to(position.get("validation"))


def _check_decided_by_loader(
    options: FitOptions, passed: Collection[str], sources: list[Source]
) -> None:
    """Refuse options of arrays that were passed with a loader, which decides them itself."""
    for name in ("shuffle", "drop_remainder"):
        if name in passed:
            value = options[name]
            raise ValueError(
                f"{name}={value!r} is for arrays: data is a loader, which decides this itself; drop it"
            )
    rows = sources[0].batch_size
    for_validation = any(isinstance(source, ArraySource) for source in sources)
    shares = (rows, rows // jax.process_count())
    if "batch_size" in passed and not for_validation and options["batch_size"] not in shares:
        raise ValueError(
            f"batch_size={options['batch_size']} is for arrays: data is a loader, whose own batches "
            f"have {rows} rows; drop it"
        )


def is_batches(data: PyTree | Batches) -> TypeGuard[Batches]:
    """Whether data is an iterable of batches, or a function that returns one, and not arrays."""
    if isinstance(data, (tuple, list, Mapping)) or hasattr(data, "shape"):
        return False
    return callable(data) or hasattr(data, "__iter__")
