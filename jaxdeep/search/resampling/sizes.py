"""`learning_curve`, which trains points of a space on more and more of the data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from jaxdeep import _checks
from jaxdeep._compilation import check_untraced, meant_transfers
from jaxdeep._shapes import ArrayLike, Integer, PyTree
from jaxdeep.preprocessing import PowerTransform, Scaler
from jaxdeep.search.builder import PURE, Build
from jaxdeep.search.options import SweepOptions
from jaxdeep.search.resampling.folds import key_words, labels_of
from jaxdeep.search.resampling.prepare import prepare_of
from jaxdeep.search.resampling.subset import Prepare, Subset, check_free
from jaxdeep.search.spaces.space import Point, points_of
from jaxdeep.search.spaces.values import RESERVED
from jaxdeep.search.sweeping import begun, trained
from jaxdeep.search.tables.table import Table
from jaxdeep.train.data import count_rows
from jaxdeep.train.options import takes

Rows = Integer[np.ndarray, "rows"]


@takes(SweepOptions)
@meant_transfers()
def learning_curve(
    builder: Build,
    space: Mapping[str, Any] | Sequence[Point],
    *,
    data: PyTree,
    sizes: Sequence[float] = (0.1, 0.2, 0.4, 0.7, 1.0),
    nested: bool = True,
    stratify: bool | ArrayLike | Sequence[Any] | None = None,
    prepare: Prepare | Scaler | PowerTransform | None = None,
    **options: Unpack[SweepOptions],
) -> Table:
    """Train with every point and seed on training sets of growing sizes: would more data help?

    It is a `jaxdeep.sweep` with the number of training rows as a hyperparameter "size", over which
    nothing is averaged. A row is the run ``jd.fit(…, data=so many rows, key=jax.random.key(seed))`` of
    its point, bit for bit or to rounding as there, and is validated on all of `validation`. Every seed
    has training sets of its own, so that the spread over seeds is that of the data as well. Sizes are
    programs of their own, as their epochs have fewer steps.

    All sizes train for the same number of epochs, so that small ones take fewer steps. If they do not
    get to their end by that, give more epochs and early stopping.

    Args:
      builder: as for `jaxdeep.sweep`.
      space: as for `jaxdeep.sweep`; a single point as ``[{"learning_rate": 0.1}]``, or ``{}`` for a
        builder that needs none.
      data: as for `jaxdeep.fit`.
      sizes: numbers of training rows: floats are shares of the data in (0, 1], rounded to rows, and
        whole numbers are counts. Those that are equal are taken once.
      nested: a smaller training set of a seed is a part of its larger ones, so that what differs is the
        size alone. With False each is drawn on its own.
      stratify: labels of which every training set has the classes in the shares of the data; as for
        `jaxdeep.search.cross_validate`.
      prepare: as for `jaxdeep.search.cross_validate`, fitted to the rows of each training set.
      {options}

    `validation` must be given. Training sets are drawn by the `key`, if there is one. Of a sweep with a
    `checkpoint`, sizes may be more than before, too.

    Returns:
      A `Table` with a row for each point, size and seed, in this order; ``table.plot("val_loss",
      "size")`` draws the curve.

    Raises:
      ValueError, TypeError: as for `jaxdeep.sweep`; a size of no rows or of more than there are; a batch
        larger than the smallest size; no `validation`.

    Source: scikit-learn's `learning_curve`, whose training sets are cut off one order of the rows.

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> table = learning_curve(
    ...     lambda hp: jd.optimizers.sgd(hp["rate"]), [{"rate": 0.1}], data=(x, 3 * x),
    ...     validation=(x, 3 * x), sizes=(0.25, 64), model=jd.nn.dense(1), loss=jd.losses.mse,
    ...     epochs=3, batch_size=16, progress=False)
    >>> [row["size"] for row in table.rows()]
    [16, 64]
    """
    trees = [options.get("key"), space, stratify, sizes, options.get("class_weight")]
    check_untraced(
        "learning_curve", [tree for tree in trees if not isinstance(tree, Iterator)], instead=PURE
    )
    if options.get("validation") is None:
        raise ValueError("learning_curve needs validation=, the data that all sizes are judged by")
    _checks.check_flag("nested", nested)
    prepared = prepare_of(prepare)
    with begun(learning_curve, builder, data, options) as sweeping:
        rows = count_rows(sweeping.data)
        labels = labels_of(stratify, sweeping.data, rows)
        counts = _counts(sizes, rows)
        words = key_words(sweeping.key)

        def drawn(size: int, seed: int) -> Rows:
            entropy = [*words, seed] if nested else [*words, seed, size]
            order = in_shares(np.random.default_rng(entropy), rows, labels)
            return np.sort(order[:size]).astype(np.int32)  # so that all rows are the data as they are

        subsets = [
            Subset({"size": size}, drawn(size, seed), seed=seed)
            for size in counts
            for seed in range(len(sweeping.keys))
        ]
        points = points_of(space)
        check_free(points, (*RESERVED, "size"))
        return trained(sweeping, points, subsets=subsets, prepare=prepared)


def in_shares(rng: np.random.Generator, rows: int, labels: np.ndarray | None) -> Rows:
    """All rows in an order drawn at random, whose beginnings have the shares of classes of the whole.

    >>> order = in_shares(np.random.default_rng(0), 8, np.array([0, 0, 0, 0, 0, 0, 1, 1]))
    >>> int(sum(order[:4] >= 6))
    1
    """
    order = rng.permutation(rows)
    if labels is None:
        return order
    by_class = order[np.argsort(labels[order], kind="stable")]
    # the rows of a class are spread evenly over [0, 1)
    places = [(np.arange(count) + rng.random()) / count for count in np.bincount(labels)]
    return by_class[np.argsort(np.concatenate(places), kind="stable")]


def _counts(sizes: Any, rows: int) -> list[int]:
    """Sizes as numbers of rows, each once."""
    _checks.check_sequence("sizes", sizes)
    counts = []
    for i, size in enumerate(np.asarray(sizes).tolist() if hasattr(sizes, "dtype") else sizes):
        if _checks.is_whole(size):
            count = int(size)
        else:
            _checks.check_number(f"sizes[{i}]", size, "(0, 1]")
            count = round(float(size) * rows)
        if not 1 <= count <= rows:
            raise ValueError(f"sizes[{i}] must be of 1 to {rows} rows, got {size!r}, which is {count}")
        counts.append(count)
    if not counts:
        raise ValueError("sizes must hold a size, got none")
    return list(dict.fromkeys(counts))
