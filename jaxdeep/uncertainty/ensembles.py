"""Deep ensembles: the joint prediction of several trained models."""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxdeep._arrays import leaves_of
from jaxdeep._compilation import meant_nans, meant_transfers, run_once
from jaxdeep._identity import key_of
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.ahead import told_apart
from jaxdeep.fitting.result import FitResult
from jaxdeep.fitting.rows import check_rows
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.model import Model, check_models
from jaxdeep.nn.outputs import meaning_of
from jaxdeep.search.tables.result import NotKept
from jaxdeep.search.tables.table import Table
from jaxdeep.train.data import as_arrays, count_rows
from jaxdeep.train.outputs import outputs_of
from jaxdeep.train.state import PerExample
from jaxdeep.tree import leaf_paths, shapes
from jaxdeep.uncertainty.prediction import Prediction, gather
from jaxdeep.uncertainty.rows import divisor, in_parts, limits, on_devices, part_rows, placed, row_bytes
from jaxdeep.uncertainty.sampling import Settings, said_by, settings_of

Member = tuple[PyTree, PyTree]  # parameters and state; of all members if they are stacked


@meant_transfers()
@meant_nans(meant=False)
def ensemble(
    model: Model,
    members: Table | Sequence[Member | FitResult] | Member,
    x: PyTree,
    *,
    batch_size: int | None = None,
    return_samples: bool = False,
    outputs: Any = None,
    from_logits: bool | None = None,
    loss: PerExample | None = None,
    mesh: Mesh | None = None,
) -> Prediction:
    """The prediction of a deep ensemble, whose members are one model trained from several seeds.

    Member s predicts ``softmax(model.apply(params_s, state_s, x)[0])``. The `Prediction` has the mean,
    standard deviation, entropy and mutual information over members. As in `mc_dropout`, rows are
    computed in chunks, and of the members only sums are kept.

    Args:
      model: the `Model` of all members.
      members: one of

        * a `jaxdeep.search.Table` from a sweep, without its runs that diverged, were halved or did not
          keep their parameters;
        * a list of ``(params, state)``, or of results of `jaxdeep.fit`;
        * a tuple ``(params, state)`` of trees whose leaves have a leading axis of members, as `jax.vmap`
          makes.

      x: inputs, an array or a pytree of arrays with N rows each.
      batch_size, return_samples, outputs, from_logits, mesh: as for `mc_dropout`.
      loss: as for `mc_dropout`; by default that of the results of `jaxdeep.fit`, or of the sweep.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: no members, members of different shapes, and what `mc_dropout` refuses.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles" (arXiv:1612.01474).

    >>> import jaxdeep as jd
    >>> model, x = jd.nn.dense(3), jnp.ones((5, 4))
    >>> stacked = jax.vmap(lambda key: model.init(key, x))(jax.random.split(jax.random.key(0), 4))
    >>> pred = ensemble(model, stacked, x)
    >>> pred.mean.shape, bool((pred.mutual_information > 0).all())
    ((5, 3), True)
    """
    check_models("ensemble", {"model": model})
    x = told_apart(model, as_arrays(x, "x", inputs=True))
    if isinstance(members, tuple) and members and all(isinstance(one, FitResult) for one in members):
        members = list(members)
    loss = _loss_of(members) if loss is None else loss
    if isinstance(members, Table) and loss is None and from_logits is None and outputs is None:
        outputs = said_by(members.outputs, model)
    settings = settings_of(model, x, batch_size, return_samples, (outputs, from_logits, loss), mesh)
    stacked, x = placed(settings.mesh, _stacked(members), x)
    joint = functools.partial(_ensemble, settings)
    return run_once(joint, stacked, x, key=key_of("ensemble", settings), once=None)


def _ensemble(settings: Settings, stacked: Member, x: PyTree) -> Prediction:
    model, mesh = settings.model, settings.mesh
    count, total = count_rows(stacked), count_rows(x)
    every_time, _ = limits(mesh)
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), shapes(stacked))
    check_fit(model, *first)
    check_rows(model, first, x)
    per_row = row_bytes(model, first, shapes(x), total)
    rows = settings.batch_size or part_rows(total, (per_row, every_time))
    together = divisor(count, every_time // (per_row * min(rows, total)))

    def predict(stacked: Member, x: PyTree, before: ArrayLike) -> Prediction:
        def part(x: PyTree, first: ArrayLike, number: ArrayLike | None) -> Prediction:
            def output_of(member: Member) -> PyTree:
                params, state = member
                return model.apply(params, state, x)[0]

            keep = settings.return_samples
            said, known = settings.outputs, meaning_of(model)
            return gather(output_of, stacked, said, known, together=together, keep=keep)

        return in_parts(part, x, rows)

    return predict(stacked, x, 0) if mesh is None else on_devices(predict, stacked, x, mesh)


def _loss_of(members: Any) -> PerExample | None:
    """The loss that results of `jaxdeep.fit` know; None if they know none, or not the same kind."""
    known = [
        member.problem.loss
        for member in (members if isinstance(members, list) else ())
        if isinstance(member, FitResult)
    ]
    words = [None if loss is None else outputs_of(loss) for loss in known]
    if any(word != words[0] for word in words):
        raise ValueError(
            "members must have been trained with losses that take the outputs for the same, got "
            f"{words}: say outputs= or loss="
        )
    return known[0] if known else None


def _stacked(members: Any) -> Member:
    """The parameters and state of all members, with a leading axis of members on every leaf."""
    if isinstance(members, Table):
        whole = []
        for i, result in enumerate(members.results):
            with contextlib.suppress(NotKept):
                whole += [members.trained(i)] if result.full else []
        if not whole:
            raise ValueError(
                "the table has no run that went to its end without diverging and has its parameters"
            )
        return _stack(whole)
    if isinstance(members, tuple) and len(members) == 2 and not hasattr(members, "_fields"):
        return _check_stacked(members)
    if not isinstance(members, list):
        raise TypeError(
            "members must be a Table, a list of (params, state), or a tuple (params, state) with a "
            f"leading axis of members, got {members!r}"
        )
    if not members:
        raise ValueError("members must not be an empty list")
    pairs = []
    for i, member in enumerate(members):
        if hasattr(member, "params") and hasattr(member, "state"):
            pairs.append((member.params, member.state))
        elif isinstance(member, (tuple, list)) and len(member) == 2:
            pairs.append((member[0], member[1]))
        else:
            raise TypeError(f"members[{i}] must be (params, state), got {member!r}")
    return _stack(pairs)


def _stack(pairs: list[Member]) -> Member:
    pairs = leaves_of("members", pairs)
    expected = jax.tree.structure(pairs[0]), [jnp.shape(a) for a in jax.tree.leaves(pairs[0])]
    for i, pair in enumerate(pairs):
        layout = jax.tree.structure(pair), [jnp.shape(a) for a in jax.tree.leaves(pair)]
        if layout != expected:
            raise ValueError(
                "members must have the same leaves with the same shapes; member "
                f"{i} has {_layout(pair)}, member 0 has {_layout(pairs[0])}"
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)


def _check_stacked(pair: Member) -> Member:
    counts = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(pair)}
    if len(counts) != 1 or counts in ({()}, {(0,)}):
        raise ValueError(
            "members=(params, state) must have a leading axis of members on every leaf, at least one of "
            f"them, got {_layout(pair)}; a list has a pair for each member"
        )
    return leaves_of("members", pair)


def _layout(pair: Member) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves(pair[0])
    return dict(zip(leaf_paths(pair[0]), map(jnp.shape, leaves)))
