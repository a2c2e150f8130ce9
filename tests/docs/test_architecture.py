"""docs/architecture.md lists the layers in the order that is checked."""

import re
import tomllib

from tests import support


def test_the_table_has_every_layer_in_order():
  project = tomllib.loads((support.ROOT / "pyproject.toml").read_text())
  contracts = project["tool"]["importlinter"]["contracts"]
  layers = next(c["layers"] for c in contracts if c["type"] == "layers")
  checked = [re.findall(r"normjax\.(\w+)", layer) for layer in layers]
  page = (support.ROOT / "docs" / "architecture.md").read_text()
  table = page.partition("## Layers")[2].partition("## Words")[0]
  rows = [
    set(re.findall(r"`(\w+)`", row.split("|")[1]))
    for row in table.splitlines()
    if row.startswith("| `")
  ]
  place = {name: i for i, row in enumerate(rows) for name in row}
  places = [
    place[name] for layer in checked for name in layer if name != "__main__"
  ]
  assert places == sorted(places)
