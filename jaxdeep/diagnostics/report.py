"""`report`, which shows a gradient flow as a table with a verdict in words."""

from collections.abc import Mapping

import numpy as np

from jaxdeep.diagnostics.layer_flow import LayerFlow
from jaxdeep.diagnostics.verdict import Finding, by_repetition, diagnose

_COLUMNS = (
    ("gradient_norm", "‖gradient‖"),
    ("parameter_norm", "‖parameters‖"),
    ("update_ratio", "update / parameters"),
    ("output_gradient", "gradient of output"),
    ("activation_mean", "mean"),
    ("activation_std", "std"),
    ("saturation", "saturated"),
    ("dead", "dead"),
)
_SHARES = ("saturation", "dead")
_SHOWN = 5  # repetitions of a layer that the table shows

_ADVICE = {
    "not finite": "lower the learning rate, clip the gradients, check the data",
    "vanishing gradient": "initialise for the activation (He with ReLU, LeCun with SELU, Glorot with "
    "tanh; not sigmoid), or use batch norm or residual layers",
    "exploding gradient": "initialise for the activation, use batch norm, or clip the gradients",
    "blocked": "the weights behind are zero, or all units behind are dead",
    "vanishing activations": "initialise for the activation (He with ReLU), or use batch norm",
    "exploding activations": "initialise for the activation (He with ReLU), or use batch norm",
    "saturated": "initialise with a smaller variance (Glorot), scale the inputs, or use ReLU with He "
    "initialisation",
    "dead": "lower the learning rate, check biases and the scale of the inputs, or use a leaky ReLU",
    "large update": "lower the learning rate",
}


def report(flow: Mapping[str, LayerFlow]) -> str:
    """A table of a flow and a verdict in words, to print.

    The verdict says what `diagnose` finds: the layers in which gradients vanish or explode, activations
    saturate or units are dead, and what usually helps. Of a layer that is repeated often, the table
    shows a few repetitions, while the verdict judges all.

    Args:
      flow: the flow of one network, from `gradient_flow`.

    Raises:
      TypeError: not a flow, or one that is traced.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> dying = jd.nn.initializers.constant(-9.0)
    >>> model = jd.nn.serial(
    ...     hidden=jd.nn.dense(50, activation=jax.nn.relu, bias_init=dying), logits=jd.nn.dense(3))
    >>> x, y = jax.random.normal(jax.random.key(1), (64, 20)), jnp.zeros(64, int)
    >>> params, state = model.init(jax.random.key(0), x)
    >>> flow = jd.diagnostics.gradient_flow(
    ...     model, params, state, (x, y), loss=jd.losses.softmax_cross_entropy)
    >>> print(report(flow).splitlines()[-1])
    units are dead: hidden 100 %; lower the learning rate, check biases and the scale of the inputs, ...
    """
    return f"{_table(flow)}\n{verdict(flow)}"


def verdict(flow: Mapping[str, LayerFlow]) -> str:
    """The findings of `diagnose` in words, a line for each kind."""
    findings = diagnose(flow)
    if not findings:
        return "healthy: gradients reach every layer, no layer is saturated or dead"
    rows = by_repetition(flow).items()
    learning = [(path, row) for path, row in rows if not np.isnan(row.parameter_norm)]
    last = learning[-1][0] if learning else ""
    last = "the largest" if learning and np.isnan(learning[-1][1].output_gradient) else last
    lines = []
    for kind, advice in _ADVICE.items():
        of_kind = [finding for finding in findings if finding.kind == kind]
        if of_kind:
            lines.append(f"{_words(kind, of_kind, last)}; {advice}")
    return "\n".join(lines)


def _words(kind: str, findings: list[Finding], last: str) -> str:
    """The findings of one kind in words; for gradients the value of the worst layer, else of each."""
    layers = _listed([finding.layer for finding in findings])
    if kind in ("vanishing gradient", "exploding gradient"):
        values = [finding.value for finding in findings]
        worst = findings[int(np.argmin(values) if kind.startswith("van") else np.argmax(values))]
        verb = "vanish" if kind.startswith("vanishing") else "explode"
        return f"gradients {verb}: {worst.layer} gets {worst.value:.1g} of what {last} gets ({layers})"
    if kind in ("saturated", "dead"):
        shares = _listed(
            [f"{finding.layer} {finding.value:.0%}".replace("%", " %") for finding in findings]
        )
        return f"{'activations are saturated' if kind == 'saturated' else 'units are dead'}: {shares}"
    if kind.endswith("activations"):
        end = findings[-1]
        verb = "vanish" if kind.startswith("vanishing") else "explode"
        return (
            f"activations {verb}: {end.layer} has {end.value:.1g} of the first layer's spread ({layers})"
        )
    if kind == "large update":
        shares = _listed([f"{finding.layer} {finding.value:.1g}" for finding in findings])
        return f"a step changes the weights by much of their length: {shares}"
    return {"blocked": f"no gradient reaches {layers}", "not finite": f"not finite: {layers}"}[kind]


def _listed(items: list[str]) -> str:
    return ", ".join(items if len(items) <= 6 else [*items[:3], "…", *items[-2:]])


def _table(flow: Mapping[str, LayerFlow]) -> str:
    import rich.box
    import rich.console
    import rich.table

    table = rich.table.Table(box=rich.box.HEAVY_HEAD)
    table.add_column("layer", overflow="fold")
    for _, title in _COLUMNS:
        table.add_column(title, justify="right")
    rows = by_repetition(flow)
    for path in flow:
        repetitions = [name for name in rows if name == path or name.startswith(f"{path}[")]
        places = np.unique(
            np.linspace(0, len(repetitions) - 1, min(_SHOWN, len(repetitions))).astype(int)
        )
        for place in places:
            row = rows[repetitions[place]]
            table.add_row(repetitions[place], *[_cell(name, getattr(row, name)) for name, _ in _COLUMNS])
    console = rich.console.Console(
        width=200, color_system=None, force_terminal=False, markup=False, emoji=False
    )
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def _cell(name: str, value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{100 * value:.0f} %" if name in _SHARES else f"{value:.2g}"
