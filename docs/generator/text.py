"""Docstrings and configs as Markdown."""

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from normjax import configure

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Example):\n", re.M)
_CODE = re.compile(r"(?:^    .*\n|^\n)+", re.M)


def head(file: Path) -> str:
  """The docstring of a file, which is not run."""
  return ast.get_docstring(ast.parse(file.read_text())) or ""


def defines(file: Path, name: str) -> bool:
  """Whether a file, which is not run, defines or imports that name."""
  bound: set[str] = set()
  for node in ast.parse(file.read_text()).body:
    if isinstance(node, ast.FunctionDef):
      bound.add(node.name)
    elif isinstance(node, ast.ImportFrom):
      bound.update(alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Assign):
      named = (n for target in node.targets for n in ast.walk(target))
      bound.update(n.id for n in named if isinstance(n, ast.Name))
  return name in bound


def first_line(text: str) -> str:
  """Of a docstring."""
  return text.partition("\n")[0].rstrip(".")


def sections(docstring: str) -> dict[str, str]:
  """A Google docstring by section; "" is what comes before the first."""
  parts = _SECTION.split(docstring)
  found = {"": parts[0].strip()}
  for name, body in zip(parts[1::2], parts[2::2], strict=True):
    found[name] = inspect.cleandoc("\n" + body)
  return found


def entries(section: str) -> dict[str, str]:
  """`name: what it is` of a section, by name."""
  found, name = {}, ""
  for line in section.splitlines():
    start = re.match(r"(\*{0,2}\w+): *(.*)", line)
    if start:
      name = start[1]
      found[name] = start[2]
    elif name:
      found[name] += " " + line.strip()
  return found


_MOST_CHARS = 120


def formula(docstring: str) -> str:
  """What a docstring's first equations say of y or w, on one line.

  Running statistics are left to the page, and where the rest is long, all but
  the last equation is.
  """
  for block in re.findall(r"(?:^    +\S.*\n?)+", docstring, re.M):
    if "=" not in block:
      continue
    said: list[str] = []
    for line in block.splitlines():
      # What stands apart is a remark.
      line = re.split(r"\s{3,}", line.strip())[0].rstrip(";")
      if re.match(r"[*+/-] ", line) and said:
        said[-1] += f" {line}"
      elif "=" in line and "<-" not in line:
        said.append(re.sub(r"\s+", " ", line))
    short = "; ".join(said)
    return short if len(short) <= _MOST_CHARS else said[-1]
  return ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table; bars in cells are escaped."""
  lines = [header, ["---"] * len(header), *rows]
  return "\n".join(
    "| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines
  )


def _cell(text: str) -> str:
  return re.sub(r"(?<!\\)\|", r"\\|", text.replace("\n", " ")).strip()


def code(text: str) -> str:
  """As code in a cell or a line."""
  return f"`{text}`" if text else ""


def default(value: Any) -> str:
  """A config's value, as a config has it."""
  return code(str(value) if isinstance(value, str) and value else repr(value))


def options(file: Path | None) -> Mapping[str, Any]:
  """The defaults of a component's config, without its name; nested by dots."""
  if file is None:
    return {}
  block = configure.to_dict(configure.load(file))
  flat: dict[str, Any] = {}

  def add(prefix: str, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
      empty = isinstance(value, Mapping) and not any(
        v is not None for v in value.values()
      )
      if isinstance(value, Mapping) and not empty:
        add(f"{prefix}{key}.", value)
      else:
        flat[prefix + key] = None if empty else value

  add("", {key: value for key, value in block.items() if key != "name"})
  return flat
