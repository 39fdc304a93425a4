"""Whether the points of a sweep can be run by the same program."""

from collections.abc import Sequence

from jaxdeep.fitting.setup import Setup


def same_program(setups: Sequence[Setup]) -> bool:
    """Whether setups differ in nothing but the numbers that are arguments of their programs.

    These numbers are the hyperparameters of jaxdeep's optimizers, the epochs, and the numbers of early
    stopping and plateau. A number in a loss, a layer or a schedule is a constant of the program instead,
    and a function that the builder makes anew for each point is another function.

    >>> import jaxdeep as jd
    >>> from jaxdeep.search.builder import Builder
    >>> build = Builder(lambda hp: jd.optimizers.sgd(hp["rate"]),
    ...                 {"model": jd.nn.dense(1), "loss": jd.losses.mse})
    >>> same_program([build({"rate": rate}) for rate in (0.1, 0.2)])
    True
    >>> same_program([build({"rate": rate}) for rate in (0.1, lambda step: 0.2)])
    False
    """
    first, *others = setups
    return all(setup.key == first.key for setup in others) and first.key.usable
