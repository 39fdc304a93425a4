"""The figures of this folder: the paths of the optimizers, and every schedule.

python docs/figures.py        # writes docs/rosenbrock.png, docs/quadratic.png, docs/schedules.png
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from jaxdeep import optimizers as o
from jaxdeep import schedules as s

HERE = pathlib.Path(__file__).parent


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def quadratic(x):
    return 0.5 * (x[0] ** 2 + 30 * x[1] ** 2)


# name: (optimizer, rate on Rosenbrock, rate on the quadratic)
OPTIMIZERS = {
    "sgd": (o.sgd, 1e-3, 0.06),
    "momentum": (lambda lr: o.sgd(lr, momentum=0.9), 5e-4, 0.01),
    "nesterov": (lambda lr: o.sgd(lr, momentum=0.9, nesterov=True), 5e-4, 0.01),
    "nag": (lambda lr: o.nag(lr, momentum=0.9), 5e-4, 0.01),
    "adagrad": (o.adagrad, 0.5, 0.5),
    "rmsprop": (o.rmsprop, 5e-3, 0.05),
    "adam": (o.adam, 2e-2, 0.1),
    "adamax": (o.adamax, 3e-2, 0.1),
    "nadam": (o.nadam, 2e-2, 0.1),
    "adamw": (lambda lr: o.adamw(lr, weight_decay=0.05), 2e-2, 0.1),
}


def path(tx, problem, start, steps):
    """Where an optimizer goes: an array of shape (steps + 1, 2)."""

    def body(carry, _):
        x, state = carry
        updates, state = tx.update(jax.grad(problem)(o.gradient_point(state, x)), state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    start = jnp.asarray(start)
    _, xs = jax.lax.scan(body, (start, tx.init(start)), None, length=steps)
    return np.vstack([start, xs])


def paths(problem, which, *, start, steps, limits, goal, title):
    """One panel for each optimizer: contours of log(1 + f), the path, and where it ends."""
    figure = Figure(figsize=(13, 5.4), layout="constrained")
    grid = [np.linspace(*limit, 200) for limit in limits]
    x, y = np.meshgrid(*grid)
    height = np.log10(1 + np.asarray(problem(jnp.stack([x, y]))))
    for ax, (name, (make, *rates)) in zip(figure.subplots(2, 5).flat, OPTIMIZERS.items()):
        points = path(make(rates[which]), problem, start, steps)
        ax.contour(x, y, height, levels=14, cmap="Greys", linewidths=0.6)
        ax.plot(*points.T, color="C0", linewidth=1, marker=".", markersize=2)
        ax.plot(*points[0], "o", color="C7", markersize=5)
        ax.plot(*goal, "*", color="C3", markersize=9)
        end = float(problem(jnp.asarray(points[-1])))
        ax.set(xlim=limits[0], ylim=limits[1], xticks=[], yticks=[])
        ax.set_title(f"{name}, η = {rates[which]:g}: f = {end:.1e}", fontsize=9)
    figure.suptitle(title)
    return figure


def schedules():
    """One panel for each schedule, with its call as the title."""
    panels = {
        "constant(0.1)": [s.constant(0.1)],
        "power(0.1, 20), staircase": [s.power(0.1, 20), s.power(0.1, 20, staircase=True)],
        "exponential(0.1, 20, 0.5), staircase": [
            s.exponential(0.1, 20, 0.5),
            s.exponential(0.1, 20, 0.5, staircase=True),
        ],
        "piecewise_constant([30, 60], [0.1, …])": [s.piecewise_constant([30, 60], [0.1, 0.05, 0.02])],
        "polynomial(0.1, 0.01, power, 80), power 1 and 2": [
            s.polynomial(0.1, 0.01, 1, 80),
            s.polynomial(0.1, 0.01, 2, 80),
        ],
        "cosine(0.1, 80), alpha 0 and 0.2": [s.cosine(0.1, 80), s.cosine(0.1, 80, alpha=0.2)],
        "one_cycle(0.1, 100): textbook": [s.one_cycle(0.1, 100)],
        "one_cycle(0.1, 100, form=…): optax, torch": [
            s.one_cycle(0.1, 100, form="optax"),
            s.one_cycle(0.1, 100, form="torch"),
        ],
        "one_cycle_momentum(100)": [s.one_cycle_momentum(100)],
        "warmup(cosine(0.1, 80), 20)": [s.warmup(s.cosine(0.1, 80), 20)],
        "join([constant, exponential], [40])": [
            s.join([s.constant(0.1), s.exponential(0.1, 20, 0.5)], [40])
        ],
        "per_epoch(exponential(0.1, 1, 0.7), 10)": [s.per_epoch(s.exponential(0.1, 1, 0.7), 10)],
    }
    figure = Figure(figsize=(13, 7), layout="constrained")
    steps = jnp.arange(0, 111)
    for ax, (title, curves) in zip(figure.subplots(3, 4).flat, panels.items()):
        for curve, style in zip(curves, ("-", "--")):
            ax.plot(steps, jax.vmap(curve)(steps), style)
        ax.set_title(title, fontsize=9)
        ax.set_ylim(bottom=None if "momentum" in title else 0)
        ax.grid(alpha=0.3)
    return figure


def main():
    """Write the three figures."""
    figures = {
        "rosenbrock": paths(
            rosenbrock,
            0,
            start=(-1.2, 1.0),
            steps=2_000,
            limits=((-1.7, 1.7), (-0.7, 1.9)),
            goal=(1, 1),
            title="Rosenbrock's valley, 2,000 steps",
        ),
        "quadratic": paths(
            quadratic,
            1,
            start=(-4.0, 1.0),
            steps=60,
            limits=((-4.5, 2.5), (-1.6, 1.6)),
            goal=(0, 0),
            title="½ (x² + 30 y²), 60 steps",
        ),
        "schedules": schedules(),
    }
    for name, figure in figures.items():
        figure.savefig(HERE / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
