"""The description of a sweep and of its rows in a journal."""

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np

from jaxdeep._shapes import PyTree
from jaxdeep.fitting.description import shapes_by_path
from jaxdeep.fitting.setup import Setup
from jaxdeep.lasting.fingerprint import fingerprint
from jaxdeep.lasting.identity import Json, digest_of, text_of, words_of
from jaxdeep.lasting.made_of import array_digest
from jaxdeep.optimizers.identity import numbers_of
from jaxdeep.search.spaces.space import Point
from jaxdeep.search.trial import Trial
from jaxdeep.train.options import TrialOptions, options_of

_NOT_DESCRIBED = ("epochs", "validation")  # which may grow, and which the sweep itself describes
_SETTINGS = (
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_default_matmul_precision",
)


def description(data: PyTree, validation: PyTree, *, key: jax.Array | None, **options: Any) -> Json:
    """What a sweep is, besides its points, seeds and epochs."""
    config: Any = jax.config
    words = None if key is None else np.asarray(jax.random.key_data(key)).tolist()
    return {
        "data": shapes_by_path(data),
        "validation": shapes_by_path(validation),
        "contents": {"data": fingerprint(data), "validation": fingerprint(validation)},
        "key": words,
        "settings": {name: str(getattr(config, name, None)) for name in _SETTINGS},
        **{name: text_of(value, name) for name, value in options.items()},
    }


def name_rows(rows: Sequence[Trial], points: Sequence[Point], about: Json) -> None:
    """Give each row its description in a journal: an id, its point and what its setup is made of.

    Raises:
      ValueError: a value without a name that lasts.
    """
    # Holds the object, too, so that its `id` is not given to another.
    texts: dict[Hashable, tuple[object, str]] = {}

    def text(value: object, name: str, key: Hashable) -> str:
        if (name, key) not in texts:
            texts[name, key] = value, text_of(value, name)
        return texts[name, key][1]

    sweep = digest_of(about)
    words = [{name: words_of(name, value) for name, value in point.items()} for point in points]
    for row in rows:
        point, _, seed = row.place
        row.words = {**words[point], **row.subset.names}
        subset = [None if i is None else array_digest(i) for i in row.subset.indices]
        row.id = digest_of([sweep, sorted(row.words.items()), subset, seed])
        setup, key = row.setup, row.setup.key  # rows of one program have the same model and optimizer
        row.texts = {
            "model": text(setup.model, "model", key),
            "optimizer": text(setup.optimizer, "optimizer", key),
            "hyperparameters": repr(numbers_of(setup.optimizer)),
            **{name: text(value, name, id(value)) for name, value in _chosen(setup).items()},
        }


def _chosen(setup: Setup) -> dict[str, object]:
    """The options of a setup that are not at their defaults."""
    known = options_of(TrialOptions)
    return {
        name: value
        for name, value in setup.options.items()
        if name in known and name not in _NOT_DESCRIBED and value is not known[name].default
    }
