"""What the outputs of a program are, as its last operations say: probabilities, or other numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr

# As of `jaxdeep.nn.traits.Traits.outputs`, or what the input was.
Word = Literal["probabilities", "log_probabilities", "scores", "values", "same"]


class Meaning(NamedTuple):
    """What numbers are.

    Attributes:
      word: "probabilities", "log_probabilities", or "values" for what is neither; "same" for what the
        input was; None if it is not known.
      softmax: whether they are a softmax over the last axis, or the logarithm of one.
    """

    word: Word | None = None
    softmax: bool = False


class _Made(NamedTuple):
    """How a value was made: by which primitive, of which values, with which parameters; its axes."""

    by: str
    of: tuple["_Made", ...] = ()
    params: Any = None
    ndim: int = 0


_CALLS = (
    *("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
)
_UNCHANGED = (
    *("reshape", "squeeze", "broadcast_in_dim", "transpose", "convert_element_type", "copy"),
    *("stop_gradient", "name", "sharding_constraint", "optimization_barrier"),
    *("slice", "dynamic_slice", "gather"),  # an index
)
# What keeps numbers of the kind they are, as a softmax and a sigmoid do before the exponential.
_MOVED = (
    *(*_UNCHANGED, "neg", "abs", "add", "sub", "mul", "max", "min", "reduce_max", "select_n"),
    *("is_finite", "argmax", "eq", "ne", "lt", "le", "gt", "ge"),  # of which a select_n is made
)


def of_program(program: "ClosedJaxpr") -> list[Meaning]:
    """What each output of a program means, as its last operations say.

    >>> import jax, jax.numpy as jnp
    >>> of_program(jax.make_jaxpr(lambda x: (jax.nn.softmax(x), 1 / (1 + jnp.exp(-x))))(jnp.ones(3)))
    [Meaning(word='probabilities', softmax=True), Meaning(word='probabilities', softmax=False)]
    """
    inputs = [_Made("input") for _ in program.jaxpr.invars]
    return [_meaning_of(made) for made in _outputs(program.jaxpr, inputs)]


def takes_as_logits(program: "ClosedJaxpr", inputs: int) -> bool:
    """Whether a program takes exponentials of its first inputs alone, as softmax and sigmoid do.

    >>> import jax, jax.numpy as jnp, optax
    >>> of = lambda loss: takes_as_logits(jax.make_jaxpr(loss)(jnp.ones(3), jnp.ones(3)), 1)
    >>> of(optax.losses.softmax_cross_entropy), of(optax.losses.sigmoid_focal_loss)
    (True, True)
    >>> of(optax.losses.squared_error), of(optax.losses.log_cosh), of(lambda p, y: -y * jnp.log(p))
    (False, False, False)
    """
    leaves = [_Made("input" if i < inputs else "other") for i in range(len(program.jaxpr.invars))]
    seen: list[_Made] = []
    _outputs(program.jaxpr, leaves, seen)
    alone, fixed = {id(leaf) for leaf in leaves[:inputs]}, set[int]()
    for made in seen:  # in their order, so that what a value is made of is known
        of = [one for one in made.of if one.by not in ("literal", "constant") and id(one) not in fixed]
        if not of:
            fixed.add(id(made))
        elif made.by in _MOVED and all(id(one) in alone for one in of):
            alone.add(id(made))
    return any(made.by in ("exp", "exp2", "logistic") and id(made.of[0]) in alone for made in seen)


def _outputs(program: "Jaxpr", inputs: Sequence[_Made], seen: list[_Made] | None = None) -> list[_Made]:
    """How the outputs of a program are made of its inputs, calls resolved; `seen` is added to."""
    made = dict(zip(program.invars, inputs))

    def find(variable: Any) -> _Made:
        if hasattr(variable, "val"):  # a literal
            return _Made("literal", params=variable.val)
        return made.get(variable, _Made("constant"))

    for equation in program.eqns:
        by, of = equation.primitive.name, tuple(map(find, equation.invars))
        within = next((v for k, v in equation.params.items() if k.endswith("jaxpr")), None)
        if by in _CALLS and within is not None:
            made |= zip(equation.outvars, _outputs(getattr(within, "jaxpr", within), of, seen))
        else:
            new = {v: _Made(by, of, equation.params, _ndim(v)) for v in equation.outvars}
            made |= new
            if seen is not None:
                seen.extend(new.values())
    return [find(variable) for variable in program.outvars]


def _ndim(variable: Any) -> int:
    return len(getattr(variable.aval, "shape", ()))


def _meaning_of(made: _Made) -> Meaning:
    if made.by == "input":
        return Meaning("same")
    made = _unclipped(_origin(made))
    if made.by in ("logistic", "tanh"):
        return Meaning("probabilities" if made.by == "logistic" else "values")
    if made.by == "max" and any(_is_literal(one, 0) for one in made.of):
        return Meaning("values")
    if made.by == "div":
        above, below = map(_origin, made.of)
        if _is_literal(above, 1) and below.by == "add":  # 1 / (1 + exp(-x))
            terms = [_origin(one) for one in below.of]
            is_sigmoid = any(_is_literal(one, 1) for one in terms) and any(t.by == "exp" for t in terms)
            return Meaning("probabilities") if is_sigmoid else Meaning()
        if above.by == "exp" and (axes := _sum_of_exp(below, above.of[0])) is not None:
            return Meaning("probabilities", axes == (above.ndim - 1,))
    if made.by == "sub":
        scores, log = made.of[0], _origin(made.of[1])
        if log.by == "log" and (axes := _sum_of_exp(_origin(log.of[0]), scores)) is not None:
            return Meaning("log_probabilities", axes == (made.ndim - 1,))
    if made.by == "log" and (inner := _meaning_of(made.of[0])).word == "probabilities":
        return Meaning("log_probabilities", inner.softmax)
    if made.by == "neg" and _is_softplus(_origin(made.of[0])):  # log σ(x) is −softplus(−x)
        return Meaning("log_probabilities")
    return Meaning()


def _origin(made: _Made) -> _Made:
    """The value before it was only put into another form."""
    while made.by in _UNCHANGED:
        made = made.of[0]
    return made


def _unclipped(made: _Made) -> _Made:
    """What was cut off at numbers in (0, 1], as probabilities are whose logarithm is taken."""
    while made.by in ("max", "min", "clamp"):
        bounds = [_origin(one) for one in made.of]
        inner = [one for one in bounds if one.by != "literal"]
        known = [one.params for one in bounds if one.by == "literal"]
        if len(inner) != 1 or not all(0 < value <= 1 for value in known):
            break
        made = inner[0]
    return made


def _sum_of_exp(made: _Made, scores: _Made) -> tuple[int, ...] | None:
    """The axes over which a value sums up the exponentials of these scores; None if it does not."""
    if made.by != "reduce_sum":
        return None
    exp = _origin(made.of[0])
    is_sum = exp.by == "exp" and _origin(exp.of[0]) is _origin(scores)
    return tuple(made.params["axes"]) if is_sum else None


def _is_softplus(made: _Made) -> bool:
    """Whether a value is ``max(x, 0) + log(1 + exp(−|x|))``, beside what it is for NaN."""
    chain = ("log1p", "exp", "neg", "abs")

    def is_log(one: _Made) -> bool:
        for name in chain:
            if one.by != name:
                return False
            one = _origin(one.of[0])
        return True

    sums = [_origin(one) for one in (made.of if made.by == "select_n" else (made,))]
    return any(one.by == "add" and any(is_log(_origin(term)) for term in one.of) for one in sums)


def _is_literal(made: _Made, value: float) -> bool:
    return made.by == "literal" and bool(made.params == value)
