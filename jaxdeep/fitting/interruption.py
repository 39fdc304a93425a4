"""Interruptions: the first ends a run after the epochs at hand, the second raises at once."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


class Interruption:
    """Whether a run has been interrupted.

    Attributes:
      noted: whether it has been, once.
      begun: whether there are epochs to end after.
      told: whether to say on the error stream that the run will end.
    """

    def __init__(self, *, begun: bool = True, told: bool = False) -> None:
        self.noted, self.begun, self.told = False, begun, told

    def note(self) -> None:
        """Take note of an interruption; the second one is raised, and one before the run has begun.

        Raises:
          KeyboardInterrupt: there has been one before, or nothing has begun.
        """
        before, self.noted = self.noted, True
        if not self.begun:
            raise KeyboardInterrupt(NOT_BEGUN)
        if before:
            raise KeyboardInterrupt
        if self.told:
            text = "interrupted: ends after the epochs at hand; interrupt again to stop at once"
            print(text, file=sys.stderr, flush=True)

    def begin(self) -> None:
        """Take note that the first epoch begins.

        Raises:
          KeyboardInterrupt: there has been an interruption, which was raised where Python only prints
            it, as in a callback of the garbage collector.
        """
        if self.noted:
            raise KeyboardInterrupt(NOT_BEGUN)
        self.begun = True


NOT_BEGUN = "before the first epoch"


@contextlib.contextmanager
def interruptible(*, show: bool, begun: bool = True) -> Iterator[Interruption]:
    """An `Interruption` that takes note of Ctrl-C (SIGINT) while the context is open.

    That is so in the main thread, where signals arrive, and if Python's own handler was there, since
    another one has its own ideas. The handler of before is put back at the end. Processes that are
    forked meanwhile, such as the workers of a loader, leave it to this one.
    """
    interruption, process = Interruption(begun=begun, told=show), os.getpid()
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or before is not signal.default_int_handler:
        yield interruption
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            interruption.note()

    signal.signal(signal.SIGINT, handle)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
