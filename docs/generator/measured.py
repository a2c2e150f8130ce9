"""What was measured, as Markdown: of one name, and as pages of their own."""

from docs import generator
from docs.generator import kinds, results, text

_LOG = "experiments/LOG.md"
OPTIMIZERS_NOTE = """\
The update is timed by `normjax bench optim` ([speed](speed.md) has it beside
its peers). The tuned loss is that of [optimizers](sweeps/optimizers.md); the
lab log says what it does and does not show. 8-bit states leave small leaves and
embeddings in float32; `normjax.nn.stable_embedding` has the layer that goes
with them."""


def speed_row(benchmark: str, name: str) -> list[str]:
  """The cells of a name in a benchmark; empty where it has none."""
  for row in results.speeds()[benchmark]["rows"]:
    if row[0] == name:
      return row[1:]
  return []


def tuned_loss(name: str) -> str:
  """Of the sweep of all optimizers."""
  for measured in results.log():
    if measured.sweep == "configs/sweeps/optimizers.py":
      rows = [row for row in measured.rows if row[0] == name]
      column = measured.header.index("eval/loss ↓ (95% CI)")
      if rows:
        return rows[0][column]
  return ""


def of(kind: kinds.Kind, name: str) -> list[str]:
  """The results of one name, for its page."""
  blocks = []
  for benchmark in results.speeds().values():
    rows = [row for row in benchmark["rows"] if row[0] == name]
    if rows and kind.folder in ("norms", "optimizers", "models"):
      blocks += [f"{benchmark['title']} (`{benchmark['command']}`):"]
      blocks.append(_speed_table(benchmark, rows))
  if kind.folder in ("norms", "optimizers", "placements"):
    for measured, rows in results.rows_of(name):
      link = f"../../../{_LOG}#{results.anchor(measured.entry)}"
      blocks.append(
        f"`normjax sweep {measured.sweep}`, [{measured.entry}]({link}):"
      )
      blocks.append(text.table(measured.header, rows))
  return ["## Measured", *blocks] if blocks else []


def _speed_table(benchmark, rows) -> str:
  return text.table(
    benchmark["columns"], [[text.code(row[0]), *row[1:]] for row in rows]
  )


def speed() -> str:
  """All benchmarks."""
  blocks = [
    "# Speed",
    "`make bench` runs all benchmarks; each row and its peer take turns in one"
    " run. A ratio is our time over the peer's. `make aot-full` counts bytes of"
    " compiled programs, and times nothing.",
  ]
  for benchmark in results.speeds().values():
    blocks += [
      f"## {benchmark['title']}",
      f"`{benchmark['command']}`; {benchmark['machine']}; by"
      f" {benchmark['date']}.",
      _speed_table(benchmark, benchmark["rows"]),
      benchmark["notes"].strip(),
    ]
  return "\n\n".join(blocks)


def licences() -> str:
  """Of what is embedded: vendored files, and data inside packages."""
  rows = []
  for path in sorted((generator.ROOT / "normjax").rglob("*LICEN[CS]E*")):
    files = sorted(p.name for p in path.parent.iterdir() if p != path)
    rows.append(
      (
        text.code(str(path.parent.relative_to(generator.ROOT))),
        ", ".join(files),
        path.read_text().strip().partition("\n")[0],
        f"[text](../../{path.relative_to(generator.ROOT)})",
      )
    )
  vendored = (
    text.table(("folder", "files", "licence", ""), rows) if rows else "None."
  )
  data = []
  for kind in (k for k in kinds.KINDS if k.folder == "data"):
    for name in kind.names():
      head = text.first_line(text.head(kind.config(name)))
      if "from the package" in head or "from scikit-learn" in head:
        data.append((f"[`{name}`](data/{name}.md)", head))
  return "\n\n".join(
    (
      "# Licences of what is embedded",
      "normjax itself is under the Apache License 2.0 ([text](../../LICENSE)).",
      "## Files of others in the packages",
      vendored,
      "## Data sets inside installed packages",
      text.table(("data set", "what, from where, under which licence"), data),
      "Data sets that are not embedded are prepared by their user, under the"
      " terms that their [pages](data.md) name.",
    )
  )
