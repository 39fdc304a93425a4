"""Every optimizer of optax and its contrib by name, trained by `jaxdeep.fit`, resumed and not."""

import inspect
import math
import pathlib
import tempfile
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

import jaxdeep as jd
from jaxdeep.optimizers.evaluation import evaluates_elsewhere
from jaxdeep.train.updating import DEFAULT

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(96, 3)).astype(np.float32)
Y = np.sin(X @ np.array([[1.0], [2.0], [-1.0]], np.float32))
MODEL = jd.nn.serial(hidden=jd.nn.dense(8, activation=jnp.tanh), out=jd.nn.dense(1))

# Those that are not made of a learning rate alone. `None`: no optimizer, but a part of one, a wrapper
# that adds nothing to what an optimizer takes, or a statistic.
MADE: dict[str, Callable[[], optax.GradientTransformation] | None] = {
    "optax.MultiSteps": lambda: optax.MultiSteps(optax.adam(1e-2), 2),
    "optax.apply_if_finite": lambda: optax.apply_if_finite(optax.adam(1e-2), 3),
    "optax.chain": lambda: optax.chain(optax.clip(1.0), optax.adam(1e-2)),
    "optax.flatten": lambda: optax.flatten(optax.adam(1e-2)),
    "optax.lookahead": lambda: optax.lookahead(optax.sgd(1e-2), 5, 0.5),
    "optax.masked": lambda: optax.chain(
        optax.adam(1e-2), optax.masked(optax.set_to_zero(), {"hidden": False, "out": True})
    ),
    "optax.named_chain": lambda: optax.named_chain(("clip", optax.clip(1.0)), ("a", optax.adam(1e-2))),
    "optax.noisy_sgd": lambda: optax.noisy_sgd(1e-2, key=0),
    "optax.optimistic_adam": lambda: optax.optimistic_adam(1e-2, 1e-2),
    "optax.partition": lambda: optax.partition(
        {"a": optax.adam(1e-2), "b": optax.sgd(1e-2)}, {"hidden": "a", "out": "b"}
    ),
    "optax.polyak_sgd": optax.polyak_sgd,
    "optax.sm3": lambda: optax.sm3(1e-1),
    "optax.contrib.dpsgd": lambda: contrib.dpsgd(1e-2, 1.0, 0.1, 0),
    "optax.contrib.mechanize": lambda: contrib.mechanize(optax.adam(1e-2)),
    "optax.contrib.reduce_on_plateau": lambda: optax.chain(
        optax.adam(1e-2), contrib.reduce_on_plateau(patience=1)
    ),
    "optax.contrib.sam": lambda: contrib.sam(
        optax.adam(1e-2), optax.chain(contrib.normalize(), optax.sgd(0.05)), opaque_mode=True
    ),
    "optax.contrib.schedule_free": lambda: contrib.schedule_free(optax.sgd(1e-1), 1e-1),
    **dict.fromkeys(
        [
            *("optax.adaptive_grad_clip", "optax.add_decayed_weights", "optax.add_noise"),
            *("optax.apply_every", "optax.centralize", "optax.clip", "optax.clip_by_block_rms"),
            *("optax.clip_by_global_norm", "optax.conditionally_mask", "optax.conditionally_transform"),
            *("optax.ema", "optax.freeze", "optax.identity", "optax.keep_params_nonnegative"),
            *("optax.measure_with_ema", "optax.multi_transform", "optax.normalize_by_update_norm"),
            *("optax.scale", "optax.selective_transform", "optax.set_to_zero", "optax.snapshot"),
            *("optax.stateless", "optax.stateless_with_tree_map", "optax.trace"),
            *("optax.with_extra_args_support", "optax.zero_nans"),
            *("optax.contrib.differentially_private_aggregate", "optax.contrib.normalize"),
            "optax.contrib.split_real_and_imaginary",
        ]
    ),
}
ASKED = {"optax.contrib.sam": ("grad_fn",), "optax.contrib.sophia": ("obj_fn",)}  # update_args
REFUSED = {
    "optax.lookahead": "optax.lookahead needs pairs of fast and slow parameters, which no model takes; "
    "jaxdeep.optimizers.lookahead, with the same arguments, keeps the slow ones in its state",
    "optax.contrib.dpsgd": "optax.contrib.dpsgd needs a gradient for each example, and a step has that "
    "of the batch; write the step with jax.vmap(jax.grad(…), (None, 0))",
}


def makers() -> dict[str, Callable[[], optax.GradientTransformation]]:
    """What makes each optimizer, by its name in optax.

    Raises:
      LookupError: one that is made of other things than a learning rate, and not in `MADE`.
    """
    found = {"optax.MultiSteps": MADE["optax.MultiSteps"]}
    for module in (optax, contrib):
        for short in dir(module):
            name, factory = f"{module.__name__}.{short}", getattr(module, short)
            if not inspect.isfunction(factory) or short.startswith(("_", "scale_by_")):
                continue
            signature = inspect.signature(factory)
            first = next(iter(signature.parameters), "")
            made = signature.return_annotation
            is_transform = inspect.isclass(made) and issubclass(made, optax.GradientTransformation)
            if not is_transform and (first != "learning_rate" or made is not signature.empty):
                continue
            if name in MADE:
                make = MADE[name]
            elif first == "learning_rate":
                make = lambda factory=factory: factory(1e-2)  # noqa: E731
            else:
                raise LookupError(f"{name}: say in MADE how it is made, or that it is no optimizer")
            if make is not None:
                found[name] = make
    return found


def made(name: str) -> optax.GradientTransformation:
    """The optimizer of this name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # some of optax warn of their own defaults
        return makers()[name]()


class Fitted(NamedTuple):
    """What came of an optimizer in `jaxdeep.fit`.

    Attributes:
      needs: names of update_args without which it is refused.
      elsewhere: whether other parameters are evaluated than trained.
      start, loss: the mean loss over all rows before the first epoch and after it, as evaluated.
      resumed: whether two epochs with an interruption between them gave the bits of two without.
      error: why it was refused; the others are empty then.
    """

    needs: tuple[str, ...] = ()
    elsewhere: bool = False
    start: float = math.nan
    loss: float = math.nan
    resumed: bool = False
    error: str = ""


def fit(tx: optax.GradientTransformation, **options: object) -> jd.train.FitResult:
    options = {"validation": (X, Y), "batch_size": 8, "key": KEY, "progress": False} | options
    return jd.fit(MODEL, (X, Y), loss=jd.losses.mse, optimizer=tx, **options)


def fitted(name: str) -> Fitted:
    """Train with an optimizer for two epochs, once in one go and once interrupted after the first."""
    tx, asked = made(name), ASKED.get(name, DEFAULT)
    options = {"update_args": asked}
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole = fit(tx, epochs=2, **options)
            first = fit(tx, epochs=1, checkpoint=folder, **options)
            resumed = fit(made(name), epochs=2, checkpoint=pathlib.Path(folder), **options)
    except ValueError as error:
        return Fitted(error=str(error))
    objective = jd.train.supervised(MODEL, jd.losses.mse)
    ts = jd.train.init(MODEL, tx, X[:1], key=KEY)
    return Fitted(
        tuple(n for n in asked if _fails(tx, [o for o in asked if o != n], objective, ts)),
        evaluates_elsewhere(ts.opt_state),
        float(objective(ts.params, {}, (X, Y))[0]),
        float(first.history["val_loss"][0]),
        _same_bits(whole, resumed),
    )


def _fails(tx, names, objective, ts) -> bool:
    step = jd.train.make_step(objective, tx, update_args=names)
    try:
        jax.eval_shape(step, ts, (X, Y))
    except ValueError:
        return True
    return False


def _same_bits(one: jd.train.FitResult, other: jd.train.FitResult) -> bool:
    def bits(result):
        leaves = jax.tree.leaves((result.train_state, result.params, result.state, result.history))
        is_key = [jnp.issubdtype(a.dtype, jax.dtypes.prng_key) for a in leaves]
        return [np.asarray(jax.random.key_data(a) if k else a).tobytes() for a, k in zip(leaves, is_key)]

    return bits(one) == bits(other)


def row(name: str, result: Fitted) -> str:
    """The result as a row of the table in docs/optax.md."""
    if result.error:
        return f"| `{name}` | | | | refused: {result.error} |"
    needs = ", ".join(f"`{n}`" for n in result.needs)
    needs = f"`update_args={ASKED[name]!r}`" if name in ASKED else needs
    at = "`evaluation_params`" if result.elsewhere else "`params`"
    end = f"{result.start:.3f} → {result.loss:.3f}"
    return f"| `{name}` | {needs} | {at} | {end} | {'equal bits' if result.resumed else 'other bits'} |"
