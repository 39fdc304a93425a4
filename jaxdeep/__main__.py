"""``python -m jaxdeep train | predict | compare | export | summary | find-lr | uncertainty``."""

import sys

from jaxdeep.cli import main

if __name__ == "__main__":
    sys.exit(main())
