"""What pages quote by hand is what the lab log has."""

import re

from docs.generator import results
from tests import support


def test_the_table_of_the_tutorial_is_the_lab_logs():
  page = (support.ROOT / "docs/tutorials/read_a_report.md").read_text()
  quoted = re.findall(r"^\| (\w[^|]* \+ [^|]*) \|(.*)\|$", page, re.MULTILINE)
  assert len(quoted) == 3
  tuned = next(m for m in results.log() if "tuned" in m.sweep)
  rows = {row[0]: row for row in tuned.rows}
  for name, cells in quoted:
    for cell in map(str.strip, cells.split("|")):
      assert cell in rows[name], (name, cell)
