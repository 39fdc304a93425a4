"""``python -m jaxdeep train | predict | compare | export | summary | find-lr | uncertainty``."""

import gc
import sys

from jaxdeep.cli import main

if __name__ == "__main__":
    gc.freeze()  # what is imported stays: looking for garbage in it took a tenth of a short run
    sys.exit(main())
