"""`python -m normjax.bench.gpu`: the benchmark without the command line's."""

import argparse
import sys

from normjax import errors
from normjax.bench.gpu.parent import run


def _main() -> int:
  parser = argparse.ArgumentParser(prog="normjax.bench.gpu")
  parser.add_argument("--budget_s", type=int)
  parser.add_argument("--stages", type=lambda text: text.split(","))
  parser.add_argument("--tiny", action="store_true")
  parser.add_argument("--out")
  given = vars(parser.parse_args())
  try:
    return run({k: v for k, v in given.items() if v is not None})
  except (errors.UserError, OSError) as error:
    print(error, file=sys.stderr)
    return 2


if __name__ == "__main__":
  sys.exit(_main())
