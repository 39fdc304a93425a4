"""The result of a population: who descends from whom, and the winner's hyperparameters as schedules."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.schedules import piecewise_constant
from jaxdeep.schedules.steps import Schedule


class Generation(NamedTuple):
    """The members of a population from one exploit to the next.

    Attributes:
      epoch: the epochs that were done when it began.
      parents: for each member, the member of the generation before that it goes on from; itself, if it
        was not replaced.
      hyperparameters: what is explored, by name, with a value for each member.
    """

    epoch: int
    parents: np.ndarray
    hyperparameters: Mapping[str, np.ndarray]


class PopulationResult(NamedTuple):
    """The result of `jaxdeep.search.population`.

    A member is a place of the population: from one generation to the next, other parameters may take it.
    `ancestors` says which members the parameters of one have come from.

    Attributes:
      params, state: those of the best member, after its last epoch.
      best: its number.
      history: ``(epochs, members)`` values of each metric.
      lineage: the generations, in their order.
      steps_per_epoch: updates in an epoch.
      stopped: "interrupted" (by Ctrl-C), or None.

    >>> generations = (
    ...     Generation(0, np.array([0, 1]), {"learning_rate": np.array([0.1, 0.4])}),
    ...     Generation(2, np.array([1, 1]), {"learning_rate": np.array([0.2, 0.4])}))
    >>> history = {"loss": np.array([[4.0, 3.0], [3.0, 2.0], [1.5, 1.8]])}
    >>> result = PopulationResult({}, {}, 0, history, generations, steps_per_epoch=100)
    >>> result.schedule()
    [(0, {'learning_rate': 0.4}), (2, {'learning_rate': 0.2})]
    >>> history["loss"][np.arange(3), result.ancestors()].tolist()
    [3.0, 2.0, 1.5]
    >>> rate = result.schedules()["learning_rate"]
    >>> [round(float(rate(step)), 3) for step in (0, 199, 200)]
    [0.4, 0.4, 0.2]
    """

    params: PyTree
    state: PyTree
    best: int
    history: Mapping[str, np.ndarray]
    lineage: tuple[Generation, ...]
    steps_per_epoch: int
    stopped: str | None = None

    def ancestors(self, member: int | None = None) -> np.ndarray:
        """In each epoch, the member that the parameters of `member` have come from.

        ``result.history["loss"][np.arange(epochs), result.ancestors()]`` is the history of the best
        member's parameters.

        Args:
          member: its number; the best one by default.

        Raises:
          ValueError, TypeError: there is no such member.
        """
        places = self._places(member)
        epochs = len(next(iter(self.history.values())))
        begins = [generation.epoch for generation in self.lineage]
        return np.repeat(places, np.diff([*begins, epochs]))

    def schedule(self, member: int | None = None) -> list[tuple[int, dict[str, float]]]:
        """The hyperparameters that the parameters of a member were trained with.

        Args:
          member: its number; the best one by default.

        Returns:
          ``(epoch, hyperparameters)`` for the first epoch, which is 0, and each epoch before which they
          changed.

        Raises:
          ValueError, TypeError: there is no such member.
        """
        changes: list[tuple[int, dict[str, float]]] = []
        for place, generation in zip(self._places(member), self.lineage):
            values = {name: float(v[place]) for name, v in generation.hyperparameters.items()}
            if not changes or changes[-1][1] != values:
                changes.append((generation.epoch, values))
        return changes

    def schedules(
        self, steps_per_epoch: int | None = None, member: int | None = None
    ) -> dict[str, Schedule]:
        """The same as functions of the step, by name, for another run: ``builder(result.schedules())``.

        A run of `jaxdeep.fit` with this optimizer has the same hyperparameters in each epoch. It is not
        the same run: where a copy was made, the member went on from its parent with a random key of its
        own, and so with another order of the examples than any single key gives. If nothing was copied,
        member i is the run with the key ``jax.random.fold_in(key, i)``, to rounding.

        Args:
          steps_per_epoch: updates in an epoch of the other run; by default as in the population.
          member: its number; the best one by default.

        Raises:
          ValueError, TypeError: there is no such member, no steps.
        """
        steps = self.steps_per_epoch if steps_per_epoch is None else steps_per_epoch
        steps = _checks.check_count("steps_per_epoch", steps)
        (_, first), *others = self.schedule(member)
        boundaries = [epoch * steps for epoch, _ in others]
        return {
            name: piecewise_constant(boundaries, [value, *(later[name] for _, later in others)])
            for name, value in first.items()
        }

    def _places(self, member: int | None) -> list[int]:
        """In each generation, the member that this one of the last generation has come from."""
        members = len(self.lineage[-1].parents)
        place = self.best if member is None else _checks.check_count("member", member, low=0)
        if place >= members:
            raise ValueError(f"member must be less than {members}, the number of members, got {member}")
        places = []
        for generation in reversed(self.lineage):
            places.append(place)
            place = int(generation.parents[place])
        return places[::-1]
