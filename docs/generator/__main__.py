"""`python -m docs.generator [reference|site]`."""

import sys

from docs import generator
from docs.generator import reference


def main(arguments: list[str]) -> int:
  """Writes what is asked for; without a word, both."""
  if unknown := set(arguments) - {"reference", "site"}:
    print(f"no {', '.join(unknown)}; allowed: reference, site", file=sys.stderr)
    return 2
  if not arguments or "reference" in arguments:
    pages = reference.pages()
    reference.write(pages, generator.REFERENCE)
    print(f"{len(pages)} pages in docs/reference")
  if not arguments or "site" in arguments:
    from docs.generator import site  # Late: it needs pdoc.

    print(site.build(generator.ROOT / "site"))
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
