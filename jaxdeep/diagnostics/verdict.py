"""`diagnose`, which tells from a gradient flow what keeps layers from learning."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from jaxdeep._arrays import check_leaves
from jaxdeep._compilation import is_traced
from jaxdeep.diagnostics.layer_flow import LayerFlow

# In a network that was initialised for its activations, the gradient that comes back to a layer is
# within a factor 3 of the last layer's, for a hundred layers as for three, since initialisers preserve
# its variance. Pooling and the randomness of narrow layers make it a factor 10. Glorot's sigmoid network
# loses a factor 4 in every layer.
VANISHED = 1e-2
EXPLODED = 1e2
# A layer whose units sit in the flat part for a third of the examples passes on less than 2/3 of the
# gradient. In layers initialised for their activation the share is 5 % (tanh) or 0 (sigmoid, SELU); with
# weights of standard deviation 1 it is two thirds.
SATURATED = 1 / 3
# When training begins, half of the rectifiers of a deep network are off for all examples, since the
# upper layers see much the same in all of them. A network can still learn unless only a few are left.
DEAD = 0.9
# A step as long as a third of the weights leaves little of their former values.
LARGE_UPDATE = 1 / 3


class Finding(NamedTuple):
    """Something that keeps a layer from learning.

    Attributes:
      layer: the path of the layer; with the repetition if it is repeated, ``deep/layer[17]``.
      kind: one of the kinds below.
      value: the number that gave the finding.

    The kinds and their values are "not finite" (NaN or inf), "vanishing gradient" and "exploding
    gradient" (the gradient that comes back to the layer, as a multiple of the last layer's), "blocked"
    (no gradient comes back: 0), "vanishing activations" and "exploding activations" (the standard
    deviation, as a multiple of the first layer's), "saturated" and "dead" (shares of units), "large
    update" (the ratio of the update to the weights).
    """

    layer: str
    kind: str
    value: float


def diagnose(flow: Mapping[str, LayerFlow]) -> list[Finding]:
    """What is wrong with a flow, in the order of its layers; an empty list if it is healthy.

    * not finite: a gradient or an activation is infinite or NaN.
    * vanishing or exploding gradient: ``output_gradient`` is below `VANISHED` or above `EXPLODED` times
      that of the last layer with parameters. In addition, the gradient relative to the parameters,
      ``gradient_norm / parameter_norm``, is beyond the same limit, or activations vanish or explode. The
      first condition alone would follow scales that a batch norm behind the layer takes out, the second
      alone the widths of layers.
    * blocked: both gradients are exactly 0.
    * vanishing or exploding activations: the standard deviation of a layer with parameters is below
      `VANISHED` or above `EXPLODED` times the first one's; the last layer may have any scale.
    * saturated: at least the share `SATURATED` of units and examples is.
    * dead: at least the share `DEAD` of the units is.
    * large update: the update has at least `LARGE_UPDATE` of the parameters' length.

    If only groups of parameters are known (an adapted module, an `objective`), gradients vanish in those
    groups whose relative gradient is below ``VANISHED / 10`` times the largest.

    Args:
      flow: the flow of one network, from `gradient_flow`. Of many flows by `jax.vmap`, take one first.

    Raises:
      TypeError: not a flow, or one that is traced.

    Source: the limits are constants of this module, where their reasons are.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> tall = jd.nn.initializers.normal(1.0)
    >>> model = jd.nn.serial(hidden=jd.nn.dense(99, activation=jax.nn.sigmoid, kernel_init=tall),
    ...                      logits=jd.nn.dense(3))
    >>> x, y = jax.random.normal(jax.random.key(1), (64, 200)), jnp.zeros(64, int)
    >>> params, state = model.init(jax.random.key(0), x)
    >>> flow = jd.diagnostics.gradient_flow(
    ...     model, params, state, (x, y), loss=jd.losses.softmax_cross_entropy)
    >>> [(finding.layer, finding.kind) for finding in diagnose(flow)]
    [('hidden', 'saturated')]
    """
    rows = by_repetition(flow)
    learning = {path: row for path, row in rows.items() if not np.isnan(row.parameter_norm)}
    last = list(learning.values())[-1] if learning else None
    first = next((row for row in learning.values() if row.activation_std > 0), None)
    largest = max((_relative(row) for row in learning.values()), default=0.0)
    but_last = [row for row in learning.values() if row is not last]
    growths = [row.activation_std / first.activation_std for row in but_last] if first else []
    spread = min(growths, default=1.0), max(growths, default=1.0)
    findings = []
    for path, row in rows.items():
        learns = path in learning
        tells = row.gradient_norm if learns else row.output_gradient
        if any(map(np.isinf, row._replace(update_ratio=0.0))) or (
            np.isnan(tells) and not all(map(np.isnan, row))
        ):
            findings.append(Finding(path, "not finite", tells))
            continue
        if learns and last is not None:
            kind, value = _of_gradient(row, last, largest, spread)
            if kind:
                findings.append(Finding(path, kind, value))
        if learns and first is not None and row is not last:
            growth = row.activation_std / first.activation_std
            kind = "vanishing activations" if growth < VANISHED else ""
            kind = "exploding activations" if growth > EXPLODED else kind
            if kind:
                findings.append(Finding(path, kind, growth))
        if row.saturation >= SATURATED:
            findings.append(Finding(path, "saturated", row.saturation))
        elif row.dead >= DEAD:
            findings.append(Finding(path, "dead", row.dead))
        if row.update_ratio >= LARGE_UPDATE and row.parameter_norm > 0:
            findings.append(Finding(path, "large update", row.update_ratio))
    return findings


def _of_gradient(
    row: LayerFlow, last: LayerFlow, largest: float, spread: tuple[float, float]
) -> tuple[str, float]:
    """The kind of finding that the gradient of a layer with parameters gives, or "", and its value."""
    relative = _relative(row)
    if np.isnan(row.output_gradient) or np.isnan(last.output_gradient):
        share = _ratio(relative, largest)
        return ("vanishing gradient" if share < VANISHED / 10 else "", share)
    if row.output_gradient == 0 and row.gradient_norm == 0:
        return "blocked", 0.0
    share = _ratio(row.output_gradient, last.output_gradient)
    relative = _ratio(relative, _relative(last))
    if share < VANISHED and (relative < VANISHED or spread[0] < VANISHED):
        return "vanishing gradient", share
    if share > EXPLODED and (relative > EXPLODED or spread[1] > EXPLODED):
        return "exploding gradient", share
    return "", share


def _relative(row: LayerFlow) -> float:
    """The gradient relative to the parameters."""
    return _ratio(row.gradient_norm, row.parameter_norm)


def _ratio(part: float, whole: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.divide(part, whole))


def by_repetition(flow: Mapping[str, LayerFlow]) -> dict[str, LayerFlow]:
    """The flow in Python floats, with an entry ``deep/layer[17]`` for each repetition of a layer."""
    if not (isinstance(flow, Mapping) and all(isinstance(v, LayerFlow) for v in flow.values())):
        raise TypeError(f"flow must be what gradient_flow returns, got {flow!r}")
    check_leaves("flow", flow)
    if is_traced(flow):
        raise TypeError("a flow is read outside of jax.jit and jax.vmap: return it from there")
    rows = {}
    for path, layer in flow.items():
        values = [np.asarray(value, float) for value in jax.device_get(layer)]
        shape = np.broadcast_shapes(*(value.shape for value in values))
        for place in np.ndindex(shape):
            name = path + "".join(f"[{i}]" for i in place)
            rows[name] = LayerFlow(*[float(np.broadcast_to(v, shape)[place]) for v in values])
    return rows
