"""Test-time adaptation of runs' models on a stream of corrupted images.

Of several runs, such as the seeds of a sweep, and several methods `--out=DIR`
makes one folder, which `normjax report DIR` compares. The same command again
skips the streams that are over.
"""

from collections.abc import Mapping
from pathlib import Path

from absl import flags

from normjax import errors, escape
from normjax.commands import arguments

USAGE = (
  "adapt DIR … --method=NAME[(option=value, …)] [--stream=NAME]"
  " [--corruptions=NAME,…]"
)
RESUMES = True  # Streams that are over are skipped; a last one begins again.


def define_flags(values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_multi_string(
    "method",
    None,
    "Of normjax.adapt, as 'tent' or 'tent(learning_rate=0.01)'; may be given"
    " several times.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "stream",
    "reset_each_shift",
    "reset_each_shift, continual or mixed_domains, each also ..._correlated.",
    flag_values=values,
  )
  flags.DEFINE_list(
    "corruptions",
    ["common"],
    "The domains, in order: <kind>, <kind>_<severity>, common, all, clean.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    "severity", 5, "Of corruptions that name none.", flag_values=values
  )
  flags.DEFINE_integer("batch_size", 64, "Of the stream.", flag_values=values)
  flags.DEFINE_float(
    "concentration",
    0.1,
    "Of correlated labels: towards 0 sorted by class.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    "seed", 0, "Of the order, and of what a method draws.", flag_values=values
  )
  flags.DEFINE_integer(
    "passes", 1, "Over each domain; the last is scored.", flag_values=values
  )
  flags.DEFINE_bool(
    "drop_remainder",
    False,
    "Leave out a last batch that is smaller.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    "num_examples",
    None,
    "At most so many of each domain.",
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_string(
    "data",
    None,
    "Another data set than the run's: name or name(option=value, …).",
    flag_values=values,
  )
  flags.DEFINE_string(
    "split", "validation", "Of the data set.", flag_values=values
  )
  flags.DEFINE_integer(
    "step",
    None,
    "Of the checkpoint; the newest by default.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "out",
    None,
    "Holds one folder per stream. Default: DIR/adapt.",
    flag_values=values,
  )


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Adapts, method after method, then prints the accuracies."""
  del overrides
  if not positional:
    raise errors.UserError(f"needs a run directory: usage: normjax {USAGE}")
  directories = [arguments.folder("DIR", each) for each in positional]
  methods = values["method"].value
  if not methods:
    from normjax import adapt  # Late: --help is quick.

    raise errors.UserError(
      f"adapt needs --method: one of {', '.join(adapt.names())}."
    )
  from normjax.adapt.protocol import Protocol
  from normjax.runs import adaptation
  from normjax.runs.run import load_run

  given = {name: values[name].value for name in values}
  how = Protocol(
    setting=given["stream"],
    **{
      name: given[name]
      for name in (
        "batch_size",
        "concentration",
        "seed",
        "drop_remainder",
        "passes",
      )
    },
  )
  options = {
    "how": how,
    "corrupted_by": given["corruptions"],
    "out": Path(given["out"]) if given["out"] else None,
    **{k: given[k] for k in ("severity", "data", "split", "num_examples")},
  }
  for opened in [load_run(d, step=given["step"]) for d in directories]:
    for method in methods:
      result = adaptation.adapt_run(opened, method, **options)
      title = f"{opened.directory}: {method}, {how.setting}"
      if (step := result["diverged_at_step"]) is not None:
        title += f", diverged at step {step}"
      _tell(title, result["metrics"])
  return 0


def _tell(title: str, metrics: Mapping[str, float | None]) -> None:
  print(escape.lines(title))
  for name, value in metrics.items():
    if name.startswith("eval/") and not name.startswith("eval/loss/"):
      said = "-" if value is None else f"{value:.6g}"
      print(escape.lines(f"  {name.removeprefix('eval/'):32} {said}"))
