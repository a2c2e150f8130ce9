"""Shows what a config resolves to before anything is paid for.

Prints the resolved config, the parameters with what each is and the update
that it gets, and what the compiler says of a step's cost and memory.
"""

from collections.abc import Callable, Mapping

from absl import flags

from normjax import configure, data, escape
from normjax.commands import arguments

USAGE = "show CONFIG [--nocompile] [--config.key=value …]"
# Of a pipe or a file, which has none of its own.
_WIDTH_CHARS = 160


def define_flags(values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_bool(
    "compile",
    True,
    "Whether the step is compiled, and three are timed, for cost and memory.",
    flag_values=values,
  )


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Prints the three parts."""
  path = arguments.one(positional, "config file", USAGE)
  config, _ = arguments.load_config(path, overrides)
  with data.shapes_suffice() as missing:
    _show(config, missing, compiles=values["compile"].value)
  return 0


def _show(
  config: configure.ConfigDict,
  missing: Callable[[], list[str]],
  *,
  compiles: bool,
) -> None:
  import jax  # Late: `normjax --help` must not pay for it.
  from rich import box
  from rich.console import Console
  from rich.table import Table

  from normjax import build, train
  from normjax.record import probes
  from normjax.train import check, frozen, layer_decay, preview, program
  from normjax.train.sharding import told

  check.check(config)
  program.check_start(config)
  console = Console()
  if not console.is_terminal:
    # For grep: a parameter is one line.
    console = Console(width=_WIDTH_CHARS)
  for message in missing():
    text = escape.terminal(f"note: {message}")
    console.print(text, soft_wrap=True, highlight=False)
  console.print(f"run {configure.run_id(config)}", highlight=False)
  console.print(escape.terminal(configure.render(config)))
  minimized = build.objective(config).name
  console.print(escape.terminal(f"objective: {minimized}"), highlight=False)

  recipe, initialize = program.recipe_and_initialize(config)
  state = jax.eval_shape(initialize, build.hyper(config))
  moving = frozen.select(state.params, recipe.trained)
  if config.log.probes:
    preview.check_probes(preview.preview(config).unmatched(config.log.probes))
  updates = layer_decay.describe_updates(config, moving, recipe.roles)
  where, lines = told.describe(config, recipe, state)
  table = Table(title="parameters", box=box.SIMPLE)
  headers = ["parameter", "role", "shape", "count", "update"]
  for header in [*headers, "split"] if where else headers:
    is_path = header == "parameter"
    table.add_column(header, overflow="fold", no_wrap=is_path)
  counts: dict[str, int] = {}
  for name, leaf in probes.named_leaves(state.params):
    update = updates.get(name, "frozen")
    table.add_row(
      escape.terminal(name),
      escape.terminal(str(recipe.roles[name])),
      str(leaf.shape),
      f"{leaf.size:,}",
      escape.terminal(update),
      *([escape.terminal(where[name])] if where else ()),
    )
    counts[update] = counts.get(update, 0) + leaf.size
  console.print(table)
  for update, count in counts.items():
    console.print(escape.terminal(f"{update}: {count:,} parameters"))
  console.print(f"total: {sum(counts.values()):,} parameters", highlight=False)
  for line in lines:
    console.print(escape.terminal(line), highlight=False, soft_wrap=True)
  if compiles:
    console.print(_cost(train.estimate(config)), highlight=False)


def _cost(facts: Mapping[str, float]) -> str:
  """What the compiler and three steps say, of one device."""
  step_s = facts.get("step_s")
  timed = "" if step_s is None else f", {1e3 * step_s:.3g} ms here"
  each = " per device" if facts["num_devices"] > 1 else ""
  return (
    f"step: {facts['flops_per_step']:.4g} FLOPs{each}{timed};"
    f" peak {facts['peak_bytes'] / 2**20:.1f} MiB{each},"
    f" optimizer state {facts['optimizer_state_bytes'] / 2**20:.2f} MiB;"
    f" compiled in {facts['compile_s']:.1f} s"
  )
