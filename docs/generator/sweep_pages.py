"""Pages of the sweeps that come with the project, and of the default config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs.generator import results, sweeps, text
from normjax import configure
from normjax.sweep import Tune


def pages() -> dict[str, str]:
  """Path under docs/reference to Markdown."""
  files = sweeps.files()
  found = {"default.md": _default(), "sweeps.md": _overview(files)}
  for file in files:
    found[f"{file.parent.name}/{file.stem}.md"] = _page(file)
  return found


def _overview(files: list[Path]) -> str:
  rows = [
    (
      f"[`{file.parent.name}/{file.stem}`]({file.parent.name}/{file.stem}.md)",
      text.head(file).partition("\n")[0],
      *_counts(file),
    )
    for file in files
  ]
  return "\n\n".join(
    (
      "# Sweeps",
      "Each is a config file: `normjax sweep configs/sweeps/quickstart.py`. The"
      " [tutorial](../tutorials/reproduce_a_table.md) runs one.",
      text.table(("sweep", "question", "methods", "seeds"), rows),
    )
  )


def _counts(file: Path) -> tuple[str, str]:
  """Of methods and of seeds; nothing of a table that is computed alone."""
  if not sweeps.is_sweep(file):
    return "", ""
  sweep = sweeps.spec(file)
  return str(len(sweep.methods)), str(len(sweep.seeds))


def _page(file: Path) -> str:
  path = f"configs/{file.parent.name}/{file.name}"
  head = text.head(file)
  question, _, more = head.partition("\n\n")
  blocks = [
    f"# {file.stem}",
    question,
    f"Source: [`{path}`](../../../{path}).",
    more.replace("\nCommand:", "\n\nCommand:").replace("\nTime:", "\n\nTime:"),
  ]
  if file.parent.name == "papers":
    blocks.append(
      f"What became of it: [published tables](../papers.md#{file.stem})."
    )
  if sweeps.is_sweep(file):
    blocks += _compared(file)
  return "\n\n".join(blocks)


def _compared(file: Path) -> list[str]:
  """Metric, seeds, tuning and methods of a sweep, and where its results are."""
  path = f"configs/{file.parent.name}/{file.name}"
  sweep = sweeps.spec(file)
  blocks = [
    "## What it compares",
    f"By `{sweep.metric}`"
    f" ({'higher' if sweep.mode == 'max' else 'lower'} is better),"
    f" seeds {', '.join(map(str, sweep.seeds))}.",
  ]
  if sweep.tune is not None:
    blocks.append(_tuned(sweep.tune))
  methods = sweep.methods
  names = sweep.labels or [""] * len(methods)
  blocks.append(
    "\n".join(
      f"- {name + ': ' if name else ''}{_method(method)}"
      for name, method in zip(names, methods, strict=True)
    )
  )
  entries = dict.fromkeys(
    m.entry for m in results.log() if m.sweep.partition(":")[0] == path
  )
  if entries:
    blocks += [
      "## Results",
      "\n".join(
        f"- [{entry}](../../../experiments/LOG.md#{results.anchor(entry)})"
        for entry in entries
      ),
    ]
  return blocks


def _method(method: Mapping[str, Any]) -> str:
  return ", ".join(f"`{key}={value!r}`" for key, value in method.items())


def _tuned(tune: Tune) -> str:
  if callable(tune.space):
    return "Tuned: each method over a space of its own, of one shape for all."
  space = "; ".join(
    f"`{key}`: {', '.join(f'{value:g}' for value in values)}"
    for key, values in tune.space.items()
  )
  how = ", times the method's own" if tune.relative else ""
  return f"Tuned: {space}{how}."


def _default() -> str:
  file = configure.configs_dir() / "default.py"
  return "\n\n".join(
    (
      "# Fields of a config",
      text.head(file).partition("\n\n")[0],
      "Any of them may be overridden: `--config.train.num_steps=1000`; so may"
      " the options of a part, as `--config.norm.alpha_init=1.0` of"
      " [`dyt`](norms/dyt.md), which are on [its page](README.md). Source:"
      " [`configs/default.py`](../../configs/default.py).",
      f"```python\n{file.read_text()}```",
    )
  )
