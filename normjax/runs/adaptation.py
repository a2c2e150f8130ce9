"""Test-time adaptation of a run, with a record of its own.

<run>/adapt/<id>/    run.json, metrics.jsonl, status.json, result.json
"""

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from normjax import adapt, configure, errors, faults
from normjax.adapt import loop, protocol
from normjax.data import corruptions, splits
from normjax.nn.norm_layer import NormLayer
from normjax.record import lock, provenance
from normjax.record.directory import RunDirectory
from normjax.record.recorder import Recorder
from normjax.record.state import RunState
from normjax.registry import parse_call
from normjax.runs import evaluation
from normjax.runs.reading import ADAPTED
from normjax.runs.run import Run

# By group: what the authors' own sets have beside `corruptions.KINDS`.
_ONLY_THERE = {"common": ("frost",), "all": ("frost", "spatter")}


def adapt_run(
  run: Run,
  method: str,
  *,
  how: protocol.Protocol,
  corrupted_by: Iterable[str] = ("common",),
  severity: int = 5,
  data: Any = None,
  split: str = splits.VALIDATION,
  num_examples: int | None = None,
  out: Path | None = None,
) -> dict[str, Any]:
  """Predicts a corrupted stream with a run's model, adapting on the way.

  Args:
    run: of `load_run`; nothing of it is changed.
    method: of `normjax.adapt`: "name" or "name(option=value, …)".
    how: the stream.
    corrupted_by: the domains: "<kind>_<severity>", a kind, "common", "all", or
      "clean" for the images as they are.
    severity: of the entries that name none.
    data: None, the run's own; "name" or "name(option=value, …)"; a mapping
      with "name", or a data set. One that brings its corrupted images, as
      cifar10_corrupted (its `split` "test"), gives those.
    split: of the data set.
    num_examples: at most so many of each domain; None: all.
    out: holds the folder of the record; None: "adapt" in the run's.

  Returns:
    What `result.json` holds: `metrics` has "eval/accuracy", that of each
    domain as "eval/accuracy/<name>", and their means. Where a loss is not
    finite its `state` is "diverged", as of a training run; NaN is no right
    answer. A result that is there already is returned as it is.

  Raises:
    UserError: a method, a domain, data or a class that does not fit.
    BusyRunError: another process writes the same record.
  """
  _check_run(run)
  own = data
  if isinstance(data, str):
    name, options = parse_call("data", data)
    own = {"name": name, **options}
  is_corrupted = _has_corruptions(run, own)
  names = domain_names(corrupted_by, severity, is_corrupted)
  asked = {
    "step": run.step,
    "method": method,
    "stream": vars(how),
    "domains": list(names),
    "data": dict(own) if isinstance(own, Mapping) else None,
    "split": split,
    "num_examples": num_examples,
  }
  # All that may be wrong, before there is a folder.
  made = _adapter(run, method)
  datasets = {
    name: _domain(run, own, split, name, is_corrupted) for name in names
  }
  config = run.config.copy_and_resolve_references()
  with config.unlocked():
    config[ADAPTED] = configure.ConfigDict(asked)
  # What its rows are: one per batch, and one of all at the end.
  config.log.every_steps, config.evaluate.every_steps = 1, 0
  run_id = configure.run_id(config)
  files = RunDirectory((out or run.directory / ADAPTED) / run_id, run_id)
  faults.make_folder(files.path)
  with lock.held(files.path, "run"):
    found = files.read_result().value
    if found is not None:
      return found
    domains = {
      name: protocol.gather(each, num_examples)
      for name, each in datasets.items()
    }
    facts = {"of": run.run_id, "seen": made.seen, "split": split}
    return _recorded(files, config, made, domains, how, facts)


def domain_names(
  entries: Iterable[str], severity: int, is_corrupted: bool = False
) -> tuple[str, ...]:
  """Each "<kind>_<severity>" once, and "clean", in the order given.

  Args:
    entries: as `adapt_run` takes them.
    severity: of those that name none.
    is_corrupted: whether the data set brings the images: it has those of kinds
      that `normjax.data.corruptions` leaves out, too.

  Raises:
    UserError: an unknown kind, or a severity outside 1 to 5.
  """
  found: list[str] = []
  entries = [
    each
    for entry in entries
    for each in (entry, *(_ONLY_THERE.get(entry, ()) if is_corrupted else ()))
  ]
  for entry in entries:
    kind, own = corruptions.split(entry)
    if is_corrupted and kind in _ONLY_THERE["all"]:
      own = severity if own is None else own
      found.append(f"{kind}_{corruptions.check_severity(kind, own)}")
      continue
    if entry == "clean":
      found.append(entry)
      continue
    names = corruptions.expand([entry])
    if corruptions.split(entry)[1] is None:
      corruptions.check_severity(entry, severity)
      names = [n for n in names if corruptions.split(n)[1] == severity]
    found += names
  return tuple(dict.fromkeys(found))


def _check_run(run: Run) -> None:
  """Raises UserError where a stream cannot give what the model needs."""
  if run.data.targets != "classes":
    raise errors.UserError(
      f"adapt: data {run.data.name!r} of the run has targets="
      f"{run.data.targets!r}; needed: 'classes', one per example."
    )
  for path, module in nnx.iter_modules(run.model):
    if isinstance(module, NormLayer) and module.norm.traits.num_domains > 1:
      raise errors.UserError(
        f"adapt: the norm {module.norm.name!r} at {'/'.join(map(str, path))}"
        " reads the domain of each example, which a stream does not say;"
        " allowed: models of norms without."
      )


def _adapter(run: Run, method: str) -> Any:
  """The method, set on the run's model."""
  name, options = parse_call("adaptation method", method)
  if name in adapt.names():
    takes = inspect.signature(adapt.get(name)).parameters
    if "input_shape" in takes and "input_shape" not in options:
      options["input_shape"] = run.data.model_options.get("input_shape")
    if "fisher_data" in takes and "fisher_data" not in options:
      options["fisher_data"] = _source_batches(run)
  return adapt.make(name, run.model, **options)


def _source_batches(run: Run) -> Iterable[Any]:
  """2000 training examples in batches of 64, as EATA's code takes them."""
  data = run.data
  count = min(2000, getattr(data, "num_train_examples", 2000))
  seed = int(run.config.seed)
  size = min(64, count)
  for step in range(count // size):
    yield data.train_batch(seed, step, size)["inputs"]


def _has_corruptions(run: Run, own: Any) -> bool:
  """Whether a data set brings its corrupted images, one kind per config."""
  if not isinstance(own, Mapping):
    return False
  changes = {f"data.{key}": value for key, value in own.items()}
  return "corruption" in configure.override(run.config, changes).data


def _domain(
  run: Run, own: Any, split: str, name: str, is_corrupted: bool
) -> Any:
  """The data set of a domain."""
  if is_corrupted and name != "clean":
    own, name = {**own, "corruption": name}, "clean"
  found = evaluation.dataset(run.config, run.data, own, split)
  if name == "clean":
    return found
  if not hasattr(found, "corrupted"):
    raise errors.UserError(
      f"adapt: data {found.name!r} has no images to corrupt; allowed: the"
      " domain 'clean'."
    )
  return found.corrupted(name)


def _recorded(
  files: RunDirectory,
  config: configure.ConfigDict,
  made: Any,
  domains: Mapping[str, protocol.Examples],
  how: protocol.Protocol,
  facts: Mapping[str, Any],
) -> dict[str, Any]:
  """Runs the loop; a record that was cut short begins again."""
  size = sum(len(each.targets) for each in domains.values())
  recorder = Recorder(
    files, config, writes=True, num_steps=-(-size // how.batch_size)
  )
  ended, message = RunState.INTERRUPTED, ""
  try:
    recorder.begin(
      0,
      resumed=False,
      seconds={},
      sizes={},
      facts={"provenance": provenance.collect(), **facts},
      problems=(),
    )
    last, diverged_at = 0, None

    def observe(score: loop.Score) -> None:
      nonlocal last, diverged_at
      last = score.step  # A row has the number of steps before it.
      if diverged_at is None and not np.isfinite(score.loss).all():
        diverged_at = last - 1
      means = {
        "loss": float(score.loss.mean(dtype=np.float64)),
        "accuracy": float(score.correct.mean()),
      }
      recorder.train(score.step - 1, means)

    with recorder.clock.measure("train"):
      totals, _ = loop.run(made, domains, how, observe)
    means = totals.means()
    corrupted = {n: means[f"accuracy/{n}"] for n in domains if n != "clean"}
    if corrupted:
      clean = means.get("accuracy/clean", 0.0)
      summary = corruptions.means(corrupted, clean)
      if not clean:
        del summary["relative_corrupted_accuracy"]
      means |= summary
    recorder.evaluation(last, means, totals.num_examples)
    recorder.finish(last, diverged_at, None)
    assert recorder.result is not None
    return recorder.result
  except BaseException as error:
    if not isinstance(error, KeyboardInterrupt):
      ended, message = RunState.FAILED, str(error)
    recorder.stop(ended, message)
    raise
  finally:
    recorder.close()
