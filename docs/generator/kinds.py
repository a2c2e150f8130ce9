"""What has a name: every table of the project, and the page each entry gets.

A new table is a line here; tests/docs counts that none is missing.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs import generator
from docs.generator import text
from normjax import (
  adapt,
  configure,
  context,
  continual,
  convert,
  data,
  metrics,
  models,
  norms,
  objectives,
  optim,
  procedures,
  registry,
)
from normjax.convert import architecture
from normjax.nn import (
  initial,
  linear,
  mixing,
  placement,
  residual_scaling,
  rotary_scaling,
)
from normjax.norms import weights
from normjax.similarity import heads
from normjax.train import gradient, schedules


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
  """One table.

  Attributes:
    folder: of its pages, under docs/reference.
    title: in the plural.
    named_by: the key of a config that names an entry, or what does.
    table: name to "module:factory", or a table of small descriptions.
    intro: what a reader should know before the table.
    block: the block of a config, where entries have config files.
    way: how to name an entry, to be copied; "" where that takes more.
  """

  folder: str
  title: str
  named_by: str
  table: Mapping[str, str] | registry.Table[Any]
  intro: str = ""
  block: str = ""
  way: str = "--config.{named_by}={name}"

  def names(self) -> tuple[str, ...]:
    """All names, in the table's order."""
    if isinstance(self.table, registry.Table):
      return self.table.names()
    return tuple(self.table)

  def config(self, name: str) -> Path | None:
    """The file of an entry's defaults, if it has one."""
    if not self.block:
      return None
    folder = configure.COMPONENTS[self.block]
    return configure.configs_dir() / folder / f"{name}.py"


@dataclasses.dataclass(frozen=True)
class Source:
  """Where an entry is written.

  Attributes:
    module: its full name.
    attribute: in the module.
    file: relative to the root of the repository.
    entry: what is there; None of a table of descriptions.
  """

  module: str
  attribute: str
  file: Path
  entry: Any = None

  def documentation(self) -> str:
    """The docstring, of a class with what its construction takes."""
    if not callable(self.entry):
      # A constant, as a metric may be, or a description: the file says it.
      return text.head(generator.ROOT / self.file)
    return documentation(self.entry)


def documentation(entry: Any) -> str:
  """The docstring of an object, of a class with that of its construction."""
  if isinstance(entry, type):
    own = inspect.cleandoc(entry.__dict__.get("__doc__") or "")
    made = inspect.getdoc(entry.__init__) or ""
    # "Makes the model." says nothing.
    made = re.sub(r"^Makes the \w+\.\n*", "", made)
    return "\n\n".join(filter(None, (own, made)))
  return inspect.getdoc(entry) or ""


@functools.cache
def source(kind: Kind, name: str) -> Source:
  """Where `name` is written."""
  if isinstance(kind.table, registry.Table):
    module = type(kind.table.resolve(name)).__module__
    return Source(module, "TABLE", _file(module))
  module, _, attribute = kind.table[name].partition(":")
  entry = registry.load(kind.table[name])
  return Source(module, attribute, _file(module), entry)


def _file(module: str) -> Path:
  path = generator.ROOT.joinpath(*module.split("."))
  file = path.with_suffix(".py")
  found = file if file.exists() else path / "__init__.py"
  return found.relative_to(generator.ROOT)


_INIT_INTRO = """\
`init` of the transformers says how kernels start, the same for every placement.
The number is the standard deviation, in block l of L; writers are the kernels
that write to the stream."""

KINDS = (
  Kind(
    "norms", "Norms", "norm.name", norms.TABLE, block="norm",
    intro="""\
Named by `norm.name`, or by `model.slot_norms` in one place of a transformer.
The [guide](../guides/norms.md) has what they share. `identity` is the row that
says what a norm is worth.""",
  ),
  Kind(
    "weight_norms", "Norms of weights", "model.weight_norm", weights.TABLE,
    intro="""\
Of kernels: `weight_norm` of `mlp`, `cifar_resnet` and `resnet`, of
`normjax.nn.conv.Conv` and `normjax.nn.dense.Dense`; pure functions in
`normjax.norms.weights`. w is all weights of one output, n of them.""",
  ),
  Kind(
    "optimizers", "Optimizers", "optimizer.name", optim.TABLE,
    block="optimizer",
    intro="""\
Named by `optimizer.name`, and functions of `normjax.optim`: optax transforms.
The [guide](../guides/optimizers.md) has what they share. State is in bytes per
entry of a matrix; k and l are its smaller and its larger side, r the rank.
Not here, because its update needs more than a gradient:
`optim.normalized_logistic_gd` (arXiv:2412.08424).""",
  ),
  Kind(
    "models", "Models", "model.name", models.TABLE, block="model",
    intro="""\
Named by `model.name`. The [guide](../guides/models.md) has what they share, and
where a transformer's norms may sit.""",
  ),
  Kind(
    "placements", "Placements", "model.placement", placement.TABLE,
    intro="""\
`placement` of the transformers: where norms sit around the branches of a
block. N is a norm, F and G are branches, x is the stream, l the block of L.""",
  ),
  Kind(
    "residual_scalings", "Residual scalings", "model.residual",
    residual_scaling.TABLE,
    intro="""\
`residual` of the transformers: what a branch is multiplied by, of n = 2 L
branches.""",
  ),
  Kind(
    "inits", "Initializations", "model.init", initial.TABLE, intro=_INIT_INTRO
  ),
  Kind(
    "rotary_scalings", "Rotary scalings", "model.rope_scaling",
    rotary_scaling.TABLE,
    intro="""\
`rope_scaling` of `llama`: what becomes of the rotary frequencies f, in radians
per token, for sequences longer than those that were trained on.""",
  ),
  Kind(
    "mixings", "Attention mixings", "model.mixing", mixing.TABLE,
    intro="""\
`mixing` of the transformers: how attention weighs the values of other
positions.""",
  ),
  Kind(
    "linears", "Linear maps", "model.linear", linear.TABLE,
    intro="""\
`linear` of the transformers: how the matrices of blocks are held and trained,
as a name or as `"sltrain(rank=128, density=0.03)"`.""",
  ),
  Kind(
    "heads", "Heads", "model.head", heads.TABLE,
    intro="""\
`head` of `mlp`, `cifar_resnet`, `resnet` and `vit`, as a name or as
`"normalized_softmax(temperature=0.1)"`; pure functions in
`normjax.similarity.heads`. All but `linear` compare an embedding with a vector
per class; `normjax.similarity.embeddings` gives it of any examples, and
`model.head.imprint` adds classes by theirs.""",
  ),
  Kind(
    "data", "Data sets", "data.name", data.TABLE, block="data",
    intro="""\
Named by `data.name`. The [guide](../guides/data.md) has what they share, own
data, and corruptions.""",
  ),
  Kind(
    "objectives", "Losses", "objective.name", objectives.TABLE,
    block="objective",
    intro="""\
Named by `objective.name`; without it the data's targets choose.""",
  ),
  Kind(
    "metrics", "Metrics", "evaluate.metrics", metrics.TABLE, way="",
    intro="""\
Entries of `evaluate.metrics`, beside what the loss measures itself. A function
of your own is named as `package.module:function`.""",
  ),
  Kind(
    "schedules", "Schedules", "schedule.name", schedules.TABLE,
    intro="""\
Named by `schedule.name`: the learning rate at step t is
`optimizer.learning_rate` times this.""",
  ),
  Kind(
    "start_steps", "Start steps", "train.initialize_from", convert.TABLE,
    way="",
    intro="""\
Entries of `train.initialize_from`: what happens, in order, between the model
that a config describes and the one that trains. A text with a slash is the
folder of a run.""",
  ),
  Kind(
    "architectures", "Architectures", "model_type of config.json",
    architecture.TABLE,
    way="",
    intro="""\
Families of released models that `convert.from_pretrained` reads and
`convert.save_pretrained` writes. The [guide](../guides/weights.md) has what
they share.""",
  ),
  Kind(
    "gradients", "Gradients", gradient.PATH, gradient.TABLE,
    intro="""\
What an optimizer is given: the gradient of a step, or an estimate of it from
losses alone. The [guide](../guides/models.md) has an example.""",
  ),
  Kind(
    "adaptation", "Test-time adaptation", "normjax adapt --method", adapt.TABLE,
    way="normjax adapt RUN --method={name}",
    intro="""\
`adapt.make(name, model, **options)`, or `--method="tent(learning_rate=0.01)"`
of `normjax adapt`. `adapt.SEEN` says what the logits of a batch have seen.""",
  ),
  Kind(
    "learners", "Continual learners", "continual.learner", continual.TABLE,
    intro="""\
`continual.run(model, stream, "er", forward="joint")`: classes come in tasks;
some of the old examples come again, from a buffer. A config names one by
`continual.learner`.""",
  ),
  Kind(
    "context", "Context", "context.method", context.TABLE,
    intro="""\
`context.train(model, domains, name, batch_size=64)`: predictions are normalized
by examples of their domain. A config names one by `context.method`.""",
  ),
  Kind(
    "procedures", "Procedures", "a leaf of the config", procedures.TABLE,
    way="--config.{name}='…'",
    intro="""\
What a run does beyond plain training. The leaf that asks for one names it:
`--config.continual.learner="derpp(alpha=0.1)"`.""",
  ),
)  # fmt: skip


_ARXIV = re.compile(
  r"(?<![\w/`.:])(?:arXiv:(\d{4}\.\d{4,5})|(\d{4}\.\d{5}))(?!\w|\.\d)"
)


def papers(page: str) -> str:
  """The page with links to the papers that it names, outside of code."""

  def link(match: re.Match[str]) -> str:
    number = match[1] or match[2]
    return f"[arXiv:{number}](https://arxiv.org/abs/{number})"

  # Odd parts are code.
  parts = re.split(
    r"(```.*?```|`[^`\n]*`|^    [^\n]*)", page, flags=re.S | re.M
  )
  return "".join(
    part if index % 2 else _ARXIV.sub(link, part)
    for index, part in enumerate(parts)
  )
