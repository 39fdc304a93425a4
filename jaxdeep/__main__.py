"""``python -m jaxdeep train | predict | compare | export | summary | find-lr | uncertainty``."""

import gc
import signal
import sys
from types import FrameType

from jaxdeep.cli import main


def _ended(number: int, frame: FrameType | None) -> None:
    """SIGTERM does what Ctrl-C does, so that nothing half-made is left, and what is trained is kept."""
    interrupt = signal.getsignal(signal.SIGINT)
    # Ctrl-C is ignored in what a script has put into the background
    (interrupt if callable(interrupt) else signal.default_int_handler)(number, frame)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _ended)
    gc.freeze()  # what is imported stays: looking for garbage in it took a tenth of a short run
    sys.exit(main())
