"""`cross_validate`, which trains every point and seed of a space on every fold of the data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

from jaxdeep import _checks
from jaxdeep._compilation import check_untraced, meant_transfers
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.preprocessing import PowerTransform, Scaler
from jaxdeep.search.builder import PURE, Build
from jaxdeep.search.driving import Strategy
from jaxdeep.search.options import SweepOptions
from jaxdeep.search.resampling.folds import Folds, subsets_of
from jaxdeep.search.resampling.prepare import prepare_of
from jaxdeep.search.resampling.subset import Prepare, check_free
from jaxdeep.search.spaces.space import Point, points_of
from jaxdeep.search.spaces.values import RESERVED
from jaxdeep.search.sweeping import begun, order_of, trained
from jaxdeep.search.tables.table import Table
from jaxdeep.train.options import takes


@takes(SweepOptions, but=("validation",))
@meant_transfers()
def cross_validate(
    builder: Build,
    space: Mapping[str, Any] | Sequence[Point],
    *,
    data: PyTree,
    folds: Folds = 5,
    stratify: bool | ArrayLike | Sequence[Any] | None = None,
    groups: ArrayLike | Sequence[Any] | None = None,
    shuffle_folds: bool = True,
    prepare: Prepare | Scaler | PowerTransform | None = None,
    halving: Strategy | None = None,
    **options: Unpack[SweepOptions],
) -> Table:
    """Train with every point of `space` and every seed on every fold of the data: a cross-validation.

    It is a `jaxdeep.sweep` with a fold as a part of a point. A row is the run ``jd.fit(…,
    data=training rows, validation=the other rows, key=jax.random.key(seed))`` of its point and fold,
    bit for bit or to rounding as there. Folds are rows of the same arrays on the device, and folds of
    equal sizes share one compiled program, for all points that differ only in floats. Those of k folds
    differ by a row where the folds do not divide the rows, which makes two programs; folds of groups may
    each have a size of their own.

    The fold is a column "fold" of the table, from 0. `Table.over_seeds` averages over seeds and folds,
    and so does ``best(metric, over_seeds=True)``, which takes only points that have all folds. The
    columns "n_train" and "n_validate" are the numbers of different rows of a fold.
    `jaxdeep.search.intervals` says how sure the means are. To go on with the best point, train it on all
    of the data with `jaxdeep.fit`. Its mean here is a little optimistic, since it was chosen by it, and
    so are the values of runs that early stopping ends by the rows they are judged by.

    Args:
      builder, space: as for `jaxdeep.sweep`.
      data: as for `jaxdeep.fit`. There is no `validation`: the folds are.
      folds: how many, ≥ 2, or a list of pairs (training rows, validation rows), each as indices or as a
        mask of booleans, such as `jaxdeep.datasets.folds` makes, also by time and by identity; or a
        splitter of scikit-learn (with a `random_state`, so that a `checkpoint` finds the same folds
        again). Indices for training may repeat, as in `jaxdeep.search.bootstrap_samples`.
      stratify: of a number of folds, labels whose classes all folds have in equal shares, to a row:
        strings or numbers, one a row. By default they are the y of data ``(x, y)`` if y is one whole
        number a row, as classes are; with False the folds are drawn without them. Labels that are given,
        and y with True, must have a row of each class for each fold.
      groups: of a number of folds, labels of which no two folds have a row, such as patients or days: as
        scikit-learn's `GroupKFold`, or with labels (or True) as `stratify` its `StratifiedGroupKFold`.
        Without labels folds are as equal as they can be, and are not shuffled.
      shuffle_folds: draw the folds, by the `key` if there is one. Without a key, and without labels,
        they are those of scikit-learn's ``KFold(folds, shuffle=True, random_state=0)``. With False they
        are consecutive rows, or with labels every k-th row of each class. (`shuffle` is about the
        batches of an epoch.)
      prepare: ``(train, validate) -> (train, validate)``, a pure function of `jax.numpy`, applied to the
        data of each fold before it is used, or a scaler such as `jaxdeep.preprocessing.standard_scaler`:
        it is fitted to the inputs of the training rows, and transforms those of both parts. What is
        fitted to all of the data before would leak the validation rows into the training.
      halving: as for `jaxdeep.sweep`. The value of a point is the mean over its folds and seeds, which
        go on or end together.
      {options}

    With "vmap" every row of a stack holds the data of its fold: `memory` bounds that, or `rows_at_once`.
    Of a sweep with a `checkpoint`, pairs may be added to a list of folds, too.

    Returns:
      A `Table` with a row for each point, fold and seed, in this order.

    Raises:
      ValueError, TypeError: as for `jaxdeep.sweep`; fewer than two folds or more than there are rows (or
        groups); a fold whose rows are out of range, in both of its parts, or none in one of them; labels
        that are not one a row; a batch larger than the training rows of a fold; `validation`; columns
        that are encoded by the targets of all rows (``target_encoding``), those of the folds among them.

    Source: Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions" (1974);
    scikit-learn's `GridSearchCV`.

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> table = cross_validate(
    ...     lambda hp: jd.optimizers.sgd(hp["learning_rate"]), {"learning_rate": [1e-3, 1e-1]}, folds=4,
    ...     prepare=jd.preprocessing.standard_scaler(), model=jd.nn.dense(1), data=(x, 3 * x),
    ...     loss=jd.losses.mse, epochs=3, batch_size=16, progress=False)
    >>> len(table), table.best("val_loss", over_seeds=True)["learning_rate"]
    (8, 0.1)
    """
    trees = [options.get("key"), space, stratify, groups, folds, options.get("class_weight")]
    check_untraced(
        "cross_validate", [tree for tree in trees if not isinstance(tree, Iterator)], instead=PURE
    )
    if options.get("validation") is not None:
        raise ValueError("validation must be left out: each fold is validated on its own rows of data")
    prepared = prepare_of(prepare)
    with begun(cross_validate, builder, data, options, halving) as sweeping:
        sweeping.build.holds_out("folds", folds if _checks.is_whole(folds) else None)
        subsets = subsets_of(
            folds,
            sweeping.data,
            stratify=stratify,
            groups=groups,
            shuffle=shuffle_folds,
            key=sweeping.key,
        )
        points = points_of(space)
        check_free(points, RESERVED)
        return trained(
            *(sweeping, points, halving),
            order=order_of(space, points),
            subsets=subsets,
            prepare=prepared,
        )
