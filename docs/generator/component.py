"""The table of a kind, and the page of one name."""

import inspect
import re
from collections.abc import Sequence

from docs.generator import kinds, measured, sweeps, text
from normjax.models import nf_resnet, resnet, transformer, vit
from normjax.registry import Table

# From a page docs/reference/<folder>/<name>.md to the root.
_UP = "../../../"
_NO_DEFAULT = """\
Without a default: from elsewhere in the config, or for use from Python."""
# Of models, an option whose values are names of sizes.
SIZES = {
  "llama": ("size", transformer.LLAMA_SIZES),
  "gpt2": ("size", transformer.GPT2_SIZES),
  "vit": ("size", vit.SIZES),
  "resnet": ("depth", resnet.DEPTHS),
  "nf_resnet": ("depth", nf_resnet.DEPTHS),
}


def overview(kind: kinds.Kind) -> str:
  """All names of a table, one row each."""
  lines = [f"# {kind.title}", "", kind.intro, ""]
  if isinstance(kind.table, Table):
    header: Sequence[str] = ("name", "what it does", "with", "paper")
    row = _described
  elif kind.folder == "optimizers":
    header = ("name", "what it is", "state", "update, ms", "tuned loss")
    row = _optimizer
  elif kind.folder in ("norms", "weight_norms", "mixings"):
    header = ("name", "formula", "options", "what it is")
    row = _with_formula
  else:
    header = ("name", "what it is", "options")
    if kind.folder == "models":
      header = ("name", "what it is", "sizes")
    row = _plain
  rows = [row(kind, name) for name in kind.names()]
  lines.append(text.table(header, rows))
  if kind.folder == "optimizers":
    lines += ["", measured.OPTIMIZERS_NOTE]
  return "\n".join(lines)


def headline(kind: kinds.Kind, name: str) -> str:
  """What it is and its paper, in one line."""
  file = kind.config(name)
  if file is not None and file.exists():
    return text.first_line(text.head(file))
  if isinstance(kind.table, Table):
    entry = kind.table.resolve(name)
    return ": ".join(filter(None, (entry.formula, entry.source)))
  return text.first_line(kinds.source(kind, name).documentation())


def _link(kind: kinds.Kind, name: str) -> str:
  return f"[`{name}`]({kind.folder}/{name}.md)"


def _options(kind: kinds.Kind, name: str) -> list[str]:
  defaults = text.options(kind.config(name))
  return list(defaults) or list(_arguments(kind, name))


def _arguments(kind: kinds.Kind, name: str) -> dict[str, str]:
  # A traced function of the training step has arguments, and no options.
  if kind.folder in ("schedules", "metrics"):
    return {}
  found: dict[str, str] = {}
  entry = kinds.source(kind, name).entry
  # Later ones are those that a factory hands the rest of its options to.
  for factory in (entry, *getattr(entry, "hands_options_to", ())):
    sections = text.sections(kinds.documentation(factory))
    found = text.entries(sections.get("Args", "")) | found
  return {k: v for k, v in found.items() if not k.startswith("*")}


def _defaults_of_factory(kind: kinds.Kind, name: str) -> dict[str, str]:
  entry = kinds.source(kind, name).entry
  found: dict[str, str] = {}
  for factory in (entry, *getattr(entry, "hands_options_to", ())):
    options = inspect.signature(factory).parameters.values()
    found = {
      option.name: text.default(option.default)
      for option in options
      if option.default is not option.empty
    } | found
  return found


def _plain(kind: kinds.Kind, name: str) -> list[str]:
  options = " ".join(_options(kind, name))
  if kind.folder == "models":
    return [_link(kind, name), headline(kind, name), _sizes(kind, name)]
  return [_link(kind, name), headline(kind, name), text.code(options)]


def _sizes(kind: kinds.Kind, name: str) -> str:
  if name in SIZES:
    key, sizes = SIZES[name]
    return text.code(f"{key}={' '.join(map(str, sizes))}")
  defaults = text.options(kind.config(name))
  shown = ("variant", "depth", "num_layers")
  return text.code(
    " ".join(f"{key}={defaults[key]}" for key in shown if defaults.get(key))
  )


def _with_formula(kind: kinds.Kind, name: str) -> list[str]:
  formula = text.formula(kinds.source(kind, name).documentation())
  options = " ".join(_options(kind, name))
  return [
    _link(kind, name),
    text.code(formula),
    text.code(options),
    headline(kind, name),
  ]


def _optimizer(kind: kinds.Kind, name: str) -> list[str]:
  file = kind.config(name)
  state = re.search(r"State per matrix entry.*: (.*)\.", text.head(file))
  update = measured.speed_row("optimizers", name)
  loss = measured.tuned_loss(name)
  return [
    _link(kind, name),
    headline(kind, name),
    state[1] if state else "",
    update[0] if update else "",
    loss,
  ]


def _described(kind: kinds.Kind, name: str) -> list[str]:
  entry = kind.table.resolve(name)
  extras = []
  if getattr(entry, "embedding_norm", False):
    extras.append("embedding norm")
  if getattr(entry, "final_norm", False):
    extras.append("final norm")
  if init := getattr(entry, "init", ""):
    extras.append(f"own start [`{init}`](inits/{init}.md)")
  return [_link(kind, name), entry.formula, ", ".join(extras), entry.source]


def page(kind: kinds.Kind, name: str) -> str:
  """Everything that is known of one name."""
  blocks = [
    f"# {name}",
    f"{headline(kind, name)}.",
    f"One of the [{kind.title.lower()}](../{kind.folder}.md), named by"
    f" `{kind.named_by}`{_named(kind, name)}. {_where(kind, name)}",
  ]
  if isinstance(kind.table, Table):
    blocks.append(kind.intro)  # It says what the formula's letters are.
    _, _, extras, _ = _described(kind, name)
    if extras:
      blocks.append(f"With: {extras}.".replace("](inits", "](../inits"))
    if said := getattr(kind.table.resolve(name), "init_source", ""):
      blocks.append(f'Its own start, `model.init="placement"`: {said}.')
    if factory := kind.table.factories.get(name):
      sections = text.sections(kinds.documentation(factory))
      options = ", ".join(
        f"{p.name}={p.default!r}"
        for p in inspect.signature(factory).parameters.values()
      )
      blocks += [f"With options: `{name}({options})`.", sections[""]]
  else:
    blocks += _documented(kind, name)
  blocks += _used(kind, name)
  blocks += measured.of(kind, name)
  return "\n\n".join(filter(None, blocks))


def _named(kind: kinds.Kind, name: str) -> str:
  """How it is named, to be copied: in a shell, and from Python."""
  ways = []
  if kind.way:
    way = kind.way.format(named_by=kind.named_by, name=name)
    ways.append(f"`{way}`")
  if kind.folder in ("norms", "models"):
    ways.append(f'`normjax.{kind.folder}.make("{name}")`')
  if kind.folder == "optimizers":
    ways.append(f"`normjax.optim.{name}(learning_rate)`")
  return f": {', '.join(ways)}" if ways else ""


def _where(kind: kinds.Kind, name: str) -> str:
  source = kinds.source(kind, name)
  link = f"Source: [`{source.module}`]({_UP}{source.file})"
  file = kind.config(name)
  if file is not None and file.exists():
    path = f"configs/{file.parent.name}/{file.name}"
    link += f"; defaults: [`{path}`]({_UP}{path})"
  return link + "."


def _documented(kind: kinds.Kind, name: str) -> list[str]:
  sections = text.sections(kinds.source(kind, name).documentation())
  file = kind.config(name)
  blocks = []
  if file is not None and file.exists():
    _, _, more = text.head(file).partition("\n\n")
    blocks.append(more)
  # Not twice: a metric's file and page have one first line.
  said = sections[""].partition("\n")[0].rstrip(".") == headline(kind, name)
  blocks.append(
    sections[""].partition("\n")[2].strip() if said else sections[""]
  )
  meant = _arguments(kind, name)
  defaults = text.options(file)
  shown = {key: text.default(value) for key, value in defaults.items()}
  if file is None and meant:  # Then a config has what the factory has.
    shown = _defaults_of_factory(kind, name)
  if defaults or meant:
    blocks.append("## Options")
    rows = [
      (
        text.code(key),
        shown.get(key, ""),
        meant.get(key) or meant.get(key.partition(".")[0], ""),
      )
      for key in [*defaults, *(k for k in meant if k not in defaults)]
    ]
    blocks.append(
      text.table(("option", "default in a config", "meaning"), rows)
    )
    if not all(row[1] for row in rows):
      blocks.append(_NO_DEFAULT)
  if name in SIZES:
    key, sizes = SIZES[name]
    blocks.append(f"`{key}`: {', '.join(text.code(str(s)) for s in sizes)}.")
  for section in ("Attributes", "Returns", "Raises"):
    if section in sections:
      blocks += [f"## {section}", _listed(sections[section])]
  if "Example" in sections:
    blocks += ["## Example", f"```pycon\n{sections['Example']}\n```"]
  return blocks


def _listed(section: str) -> str:
  found = text.entries(section)
  if not found:
    return section
  return "\n".join(f"- `{key}`: {meaning}" for key, meaning in found.items())


def _used(kind: kinds.Kind, name: str) -> list[str]:
  files = sweeps.users(kind.named_by).get(name, [])
  if not files:
    return []
  links = ", ".join(
    f"[`{file.stem}`](../{file.parent.name}/{file.stem}.md)" for file in files
  )
  return ["## Sweeps that use it", links]
