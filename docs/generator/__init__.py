"""The pages that are made of tables, configs and results, and the site.

`python -m docs.generator reference` rewrites docs/reference, whose Markdown is
kept with the sources; `python -m docs.generator site` makes all of site/.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
