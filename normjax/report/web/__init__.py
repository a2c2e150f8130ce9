"""What pages share: style, script, figures as the script reads them.

The plotting library uPlot is embedded with its licence: see `uplot/`.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from importlib import resources
from typing import Any

import jinja2
import markupsafe

from normjax import escape
from normjax.report.figure import LOST, Figure, Lines

# After what joins words in names of methods.
_PARTS = re.compile(r"(?<=[_/(,])(?=\w)")


def template(name: str, **filters: Callable) -> jinja2.Template:
  """A template of the report's; every text in it is escaped."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("normjax.report", ""),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    finalize=shown,
  )
  environment.filters.update(filters)
  return environment.get_template(name)


def shown(value: Any) -> Any:
  """Text without what HTML does not allow; escaped by the template after."""
  if isinstance(value, str) and not isinstance(value, markupsafe.Markup):
    return escape.plain(value, keep="\n\t")
  return value


def breakable(text: str) -> markupsafe.Markup:
  """A name that breaks after its parts, where it must."""
  parts = _PARTS.split(shown(text))
  return markupsafe.Markup("<wbr>").join(map(markupsafe.escape, parts))


def _read(name: str) -> str:
  return (resources.files(__package__) / name).read_text(encoding="utf-8")


@functools.cache
def css() -> str:
  """The style of every page."""
  return _read("uplot/uPlot.min.css") + _read("page.css")


@functools.cache
def script() -> str:
  """UPlot with its licence, then ours."""
  library = _read("uplot/uPlot.iife.min.js")
  # Its first line is its address alone; a page refers to no network.
  library = library.partition("*/")[2] if library[:2] == "/*" else library
  licence = _read("uplot/LICENSE")
  return f"/* uPlot.\n{licence}*/\n{library}\n{_read('page.js')}"


def figure_data(figure: Figure) -> str:
  """A figure of lines as JSON; "" of one that is only drawn."""
  if not figure.labels:
    return ""
  panels = [_panel(p) for p in figure.panels if isinstance(p, Lines)]
  looks = {
    label: {
      "color": figure.styles[label].color,
      "dash": figure.styles[label].dash,
      "tag": figure.tags[label],
    }
    for label in figure.labels
  }
  return json.dumps({"panels": panels, "styles": looks}, separators=(",", ":"))


def _panel(panel: Lines) -> dict[str, Any]:
  edge = 0 if panel.worse == "bottom" else -1
  told = dataclasses.asdict(panel)
  for series in told["series"]:
    if series["look"] == LOST:
      series["y"] = [panel.y_limits[edge]] * len(series["x"])
    for key in ("x", "y", "low", "high"):
      series[key] = [float(f"{value:.6g}") for value in series[key]]
  return told
