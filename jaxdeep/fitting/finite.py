"""The errors for a loss or a leaf of a run that is not finite."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._compilation import run_once
from jaxdeep._identity import key_of
from jaxdeep._shapes import Array, Bool, Num
from jaxdeep.train.state import TrainState
from jaxdeep.tree import path_name


def check_finite(ts: TrainState) -> None:
    """Refuse a train state with parameters or a model state that are not finite."""
    if leaf := _first_nonfinite(ts):
        raise FloatingPointError(
            f"the last updates left {leaf} not finite, though every loss was; a gradient must not have "
            "been: check the loss, or clip the gradients; on_nonfinite='ignore' returns the result all "
            "the same"
        )


def described(ts: TrainState, step: int, epoch: int) -> str:
    """The message for a loss that was not finite at a step of an epoch that has left this state."""
    first = _first_nonfinite(ts) or _first_nonfinite(ts, optimizer=True)
    leaf = f"the first non-finite leaf is {first}" if first else "parameters and state are finite"
    return (
        f"the loss was not finite at step {step} (epoch {epoch}); at the end of that epoch {leaf}. "
        "Lower the learning rate, clip the gradients or check the data; "
        "on_nonfinite='ignore' goes on regardless"
    )


def _first_nonfinite(ts: TrainState, *, optimizer: bool = False) -> str | None:
    trees = {"opt_state": ts.opt_state} if optimizer else {"params": ts.params, "state": ts.state}
    named = [
        (path_name(path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(trees)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    if jax.default_backend() == "cpu" and jax.process_count() == 1:
        # on the host's own memory, without compiling
        finite = [np.isfinite(leaf).all() for _, leaf in named]
    else:
        leaves = [leaf for _, leaf in named]
        finite = jax.device_get(run_once(_all_finite, leaves, key=key_of("finite")))
    return next((name for (name, _), fine in zip(named, finite) if not fine), None)


def _all_finite(leaves: list[Num[Array, "..."]]) -> list[Bool[Array, ""]]:
    return [jnp.isfinite(leaf).all() for leaf in leaves]
