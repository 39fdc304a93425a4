"""What JAX traces, lowers and compiles, counted from the first import on."""

import collections
import contextlib

import jax

# One listener that stays: JAX 0.7 can only take all away at once, those of other tests too.
_events = collections.Counter()
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: _events.update([name]))


def work(*kinds):
    """Traces, lowerings and compilations so far."""
    names = [name for name in _events if name.startswith("/jax/core/compile/")]
    return sum(_events[name] for name in names if not kinds or any(kind in name for kind in kinds))


@contextlib.contextmanager
def nothing_compiled():
    """Fails if anything is traced or compiled meanwhile."""
    before = work()
    yield
    assert work() == before
