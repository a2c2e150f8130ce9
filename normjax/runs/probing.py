"""Probes of a run, or of a folder of released weights, kept in a folder.

<out>/probe.json      see `record.probe_file`
<out>/figures/*       SVG and PDF
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from normjax import build, configure, convert, errors, objectives, probe
from normjax.data import splits
from normjax.objectives import Objective
from normjax.record import files, owner, probe_file, provenance
from normjax.registry import parse_call
from normjax.report import probe_figures, redraw
from normjax.runs import evaluation
from normjax.runs.run import Run, load_run
from normjax.train import precision

_CONFIG = "config.json"
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".gguf")


class Subject(NamedTuple):
  """What is probed.

  Attributes:
    model: the model.
    dataset: evaluated on a split.
    objective: whose loss is measured; None: as the targets ask.
    precision: of products, as `train.matmul_precision`.
    facts: what it is, for the record.
    out: where the record goes unless somewhere else is said.
  """

  model: nnx.Module
  dataset: Any
  objective: Objective | None
  precision: str
  facts: Mapping[str, Any]
  out: Path | None


def subject(
  where: str | Path,
  *,
  data: str | None = None,
  split: str | None = None,
  step: int | None = None,
  architecture: str | None = None,
) -> Subject:
  """Opens a run, or a folder of released weights.

  Args:
    where: the folder of a run; or one with config.json and weights, or a file
      of weights, as `convert.from_pretrained` takes them.
    data: "name" or "name(option=value, …)"; None: the run's own.
    split: of it; None: the one that the run evaluates on, else "validation".
    step: of the run's checkpoint; None: the newest.
    architecture: of weights without a config.json.

  Raises:
    UserError: it is neither, or data that does not fit.
  """
  path = Path(where).expanduser()
  if not (path / files.RUN).exists() and (architecture or _is_weights(path)):
    if step is not None:
      raise errors.UserError(
        f"{path} is no run ({files.RUN}), and has no step {step}."
      )
    return _of_weights(path, data, split, architecture)
  run = load_run(path, step=step)
  return _of_run(run, data, split)


def _is_weights(path: Path) -> bool:
  """Whether it holds what `convert.from_pretrained` may read."""
  if path.is_file() or (path / _CONFIG).is_file():
    return True
  return path.is_dir() and any(p.suffix in _SUFFIXES for p in path.iterdir())


def probe_subject(
  found: Subject,
  num_examples: int = 8,
  out: str | Path | None = None,
  *,
  overwrite: bool = False,
) -> dict[str, Any]:
  """Probes it, and keeps what was found with its figures.

  Args:
    found: of `subject`.
    num_examples: of the data; all are in memory at once, with every stream.
    out: the folder of the record; None: `found.out`.
    overwrite: what is there of something else: another run, step or data.

  Returns:
    What `probe.json` holds: see `normjax.probe.measure`.

  Raises:
    UserError: no folder, or data that the model cannot read.
    RunError: the folder has what was found of something else.
  """
  folder = Path(out) if out is not None else found.out
  if folder is None:
    raise errors.UserError(
      "--out is needed: a folder for what is found; nothing is written to one"
      " of released weights."
    )
  batch = next(iter(found.dataset.evaluation_batches(num_examples, 1)))
  real = batch["weight"].reshape(len(batch["weight"]), -1).any(axis=1)
  of = {
    **found.facts,
    "model": type(found.model).__name__,
    "data": found.dataset.name,
    "num_examples": int(real.sum()),
    "shape": list(batch["inputs"].shape[1:]),
  }
  if not overwrite:
    _check_same(folder, of)
  with precision.applied(found.precision):
    measured = probe.measure(found.model, batch, objective=found.objective)
  value = {"of": of, "provenance": provenance.collect(), **measured}
  value = files.finite(value)
  path = probe_file.write(folder, value)
  for each in redraw.draw(probe_figures.build(value), path.parent / "figures"):
    stem = path.parent / "figures" / each.figure.name
    files.write_text(stem.with_suffix(".svg"), each.svg, durable=False)
    files.write_bytes(stem.with_suffix(".pdf"), each.pdf, durable=False)
  return value


def _check_same(folder: Path, of: Mapping[str, Any]) -> None:
  """Raises RunError where a folder has what was found of something else."""
  there = probe_file.read(folder)
  if there.blocked:
    raise errors.RunError(f"{there.problem}. Give another --out.")
  said = owner.differences(there.value["of"], of) if there.value else []
  if said:
    raise errors.RunError(
      f"{folder} has what was found of something else: {owner.named(said)}."
      " Give another --out, or --overwrite to lose it."
    )


def _of_run(run: Run, data: str | None, split: str | None) -> Subject:
  split = configure.evaluated_split(run.config) if split is None else split
  asked = None
  if data is not None:
    name, options = parse_call("data", data)
    asked = {"name": name, **options}
  dataset = evaluation.dataset(run.config, run.data, asked, split)
  return Subject(
    run.model,
    dataset,
    run.objective,
    precision.choice(run.config),
    {"run_id": run.run_id, "step": run.step, "split": split},
    run.directory / probe_file.FOLDER,
  )


def _of_weights(
  path: Path, data: str | None, split: str | None, architecture: str | None
) -> Subject:
  if data is None:
    raise errors.UserError(
      f"{path}: released weights bring no data; --data is needed, as in"
      " --data=\"text_files(files='book.txt')\"."
    )
  name, options = parse_call("data", data)
  config = configure.override(
    configure.load("configs/default.py"),
    {"data.name": name, **{f"data.{k}": v for k, v in options.items()}},
  )
  config = convert.pretrained_config(config, path, architecture)
  dataset = build.dataset(config)
  split = splits.VALIDATION if split is None else split
  dataset = splits.evaluated_on(dataset, split, config["data"])
  model = convert.from_pretrained(path, architecture=architecture)
  if dataset.reads not in getattr(model, "reads", {dataset.reads}):
    raise errors.UserError(
      f"{path}: {type(model).__name__} reads {', '.join(sorted(model.reads))};"
      f" data {dataset.name!r} has {dataset.reads}."
    )
  facts = {"folder": path.name, "split": split}
  objective = objectives.make(objectives.default_name(dataset))
  return Subject(
    model, dataset, objective, precision.choice(config), facts, None
  )
