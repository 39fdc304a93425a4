"""What the update of an optimizer is passed besides gradients, state and parameters.

Optax' transformations take further arguments by keyword, and each takes others: a line search evaluates
the loss again, a method of Polyak's reads its value. Here a step passes each what it takes, and says
what is missing.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import jax
import optax
from jax.tree_util import PyTreeDef

from jaxdeep._shapes import Array, Float, PyTree
from jaxdeep.optimizers.evaluation import SlowState, states_of
from jaxdeep.optimizers.misfits import telling_static

Loss = Callable[[PyTree], Float[Array, ""]]  # of the parameters that are trained
UpdateParams = Callable[[PyTree, PyTree, PyTree, Float[Array, ""], Loss], tuple[PyTree, PyTree]]

DEFAULT = ("value", "grad", "value_fn")
KNOWN = (*DEFAULT, "grad_fn", "obj_fn")

_SAM = (
    "optax.contrib.sam needs opaque_mode=True and update_args=('grad_fn',): {why}. A step is then one "
    "update of the parameters, and gradients at adversarial points leave no statistics in the model"
)
_MASKED = (
    "optimizer: optax.masked and optax.partition pass grad on with the gradients of leaves that they "
    "leave out, unless they are made with mask_compatible_extra_args=True"
)


def check_update_args(name: str, value: object) -> None:
    """Refuse what is no list of names that a step knows.

    >>> check_update_args("update_args", ("gradient",))
    Traceback (most recent call last):
    ValueError: update_args must be names among value, grad, value_fn, grad_fn, obj_fn, got ('gradient',)
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name} must be a list of names, such as ('grad_fn',), got {value!r}")
    if not all(isinstance(one, str) and one in KNOWN for one in value):
        raise ValueError(f"{name} must be names among {', '.join(KNOWN)}, got {value!r}")


def updating(optimizer: optax.GradientTransformation, names: Sequence[str]) -> UpdateParams:
    """A function ``(grads, opt_state, params, loss, loss_fn) -> (updates, opt_state)``.

    Of the arguments called `names`, ``optimizer.update`` is passed those that it takes. `loss_fn` is the
    loss as a function of parameters like `params`. A wrapper of the optimizer may have replaced some of
    these by `optax.MaskedNode`; they stay what they are in `params`.

    Raises:
      ValueError: an optimizer that needs an argument which is not among `names`, which a step cannot
        know, or which is no step's at all. TypeError: an argument that the optimizer does not take.
    """
    taken = [name for name in names if _takes(optimizer, name)]

    def update(
        grads: PyTree, opt_state: PyTree, params: PyTree, loss: Float[Array, ""], loss_fn: Loss
    ) -> tuple[PyTree, PyTree]:
        def value_fn(some: PyTree) -> Float[Array, ""]:
            return loss_fn(_filled(some, params))

        refused = next(_refusals(opt_state, names), None)
        if refused is not None:
            raise ValueError(refused)
        known = {
            "value": loss,
            "grad": grads,
            "value_fn": value_fn,
            "obj_fn": value_fn,
            "grad_fn": lambda some, _: jax.grad(value_fn)(some),
        }
        try:
            with telling_static(optimizer.init):
                updates: tuple[PyTree, PyTree] = optimizer.update(
                    grads, opt_state, params, **{name: known[name] for name in taken}
                )
        except (TypeError, ValueError) as error:
            _explain(error, taken)
            raise
        return updates

    return update


def _takes(optimizer: optax.GradientTransformation, name: str) -> bool:
    """Whether ``optimizer.update`` can be passed an argument of this name."""
    is_pair = not isinstance(optimizer, optax.GradientTransformation)  # such as optax.MultiSteps
    if not is_pair and not isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return False
    try:
        parameters = inspect.signature(optimizer.update).parameters.values()
    except ValueError:  # without a signature
        return True
    return any(p.kind is p.VAR_KEYWORD or p.name == name for p in parameters)


def _filled(some: PyTree, params: PyTree) -> PyTree:
    def is_masked(node: object) -> bool:
        return isinstance(node, optax.MaskedNode)

    here: PyTreeDef = jax.tree.structure(some, is_leaf=is_masked)
    there: PyTreeDef = jax.tree.structure(params)
    if here != there:
        raise ValueError(
            f"optimizer: the loss is a function of parameters of the structure {there}, got {here}; a "
            "wrapper that changes it, such as optax.flatten, cannot be around an optimizer that "
            "evaluates the loss"
        )
    return jax.tree.map(lambda new, old: old if is_masked(new) else new, some, params, is_leaf=is_masked)


def _refusals(opt_state: PyTree, names: Sequence[str]) -> Iterator[str]:
    """Why an optimizer with this state cannot make the updates of a step."""
    contrib = optax.contrib
    kinds = (contrib.SAMState, contrib.HutchinsonState, optax.LookaheadState)
    for state in states_of(opt_state, *kinds, contrib.DifferentiallyPrivateAggregateState, SlowState):
        if isinstance(state, contrib.SAMState) and state.cache is not None:
            yield _SAM.format(why="otherwise most steps of the run go uphill")
        elif isinstance(state, contrib.SAMState) and "grad_fn" not in names:
            yield _SAM.format(why=f"grad_fn is not among update_args={tuple(names)!r}")
        elif isinstance(state, contrib.HutchinsonState) and "obj_fn" not in names:
            yield (
                "optax.contrib.sophia needs update_args=('obj_fn',): it differentiates the loss twice, "
                f"and obj_fn is not among update_args={tuple(names)!r}"
            )
        elif isinstance(state, optax.LookaheadState):
            yield (
                "optax.lookahead needs pairs of fast and slow parameters, which no model takes; "
                "jaxdeep.optimizers.lookahead, with the same arguments, keeps the slow ones in its state"
            )
        elif isinstance(state, contrib.DifferentiallyPrivateAggregateState):
            yield (
                "optax.contrib.dpsgd needs a gradient for each example, and a step has that of the "
                "batch; write the step with jax.vmap(jax.grad(…), (None, 0))"
            )


def _explain(error: Exception, taken: Sequence[str]) -> None:
    """Raise the error again in the words of a step, if it is about an argument of the update.

    Else note where it comes from.
    """
    text = str(error)
    if missing := re.search(r"missing \d+ required keyword-only arguments?: (.*)", text):
        _refuse_missing(re.findall(r"'(\w+)'", missing[1]), taken, error)
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", text)
    if unexpected and unexpected[1] in taken:
        rest = tuple(name for name in taken if name != unexpected[1])
        raise TypeError(
            f"optimizer: its update does not take {unexpected[1]!r}; pass update_args={rest!r}, or fewer"
        ) from error
    if "grad" in taken and "MaskedNode" in text:
        raise ValueError(_MASKED) from error
    error.add_note(
        f"(from the update of the optimizer, which was passed {', '.join(taken) or 'nothing'})"
    )


def _refuse_missing(missing: Sequence[str], taken: Sequence[str], error: Exception) -> NoReturn:
    foreign = [name for name in missing if name not in KNOWN]
    if foreign:
        raise ValueError(
            f"optimizer: its update needs {foreign[0]!r}, which only you can give; bind it: "
            "optax.GradientTransformationExtraArgs(optimizer.init, "
            f"functools.partial(optimizer.update, {foreign[0]}=…))"
        ) from error
    raise ValueError(
        f"optimizer: its update needs {', '.join(map(repr, missing))}; pass "
        f"update_args={(*taken, *missing)!r}"
    ) from error
