"""The command line: ``python -m jaxdeep compare …``."""

import sys

from jaxdeep.cli import main

if __name__ == "__main__":
    sys.exit(main())
