"""`python -m normjax` is the command `normjax`."""

import sys

from normjax import cli

if __name__ == "__main__":
  sys.exit(cli.main())
