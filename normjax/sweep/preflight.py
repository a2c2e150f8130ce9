"""Checks of every point of a sweep before the first one trains.

Models are traced in shapes, which makes jax open its devices. The process of a
sweep must not hold an accelerator that its workers need: there the checks run
in a process of their own, on the CPU.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from normjax import beside, configure, data, errors
from normjax.imports import is_outside
from normjax.record.failures import Failure, told
from normjax.sweep import labels, machine
from normjax.sweep.plan import Plan, Point

_LAST_LINES = 3


def check(
  plan: Plan,
  points: Iterable[Point],
  *,
  strict: bool = False,
  same_machine: bool = True,
  shapes_suffice: bool = False,
) -> list[str]:
  """Checks the configs of points, and the names that the sweep asks for.

  A model that does not fit its norm or its data is one point of a grid: its
  runs fail, and the others go on.

  Args:
    plan: of the sweep; says the metrics.
    points: those without a result.
    strict: whether a model that cannot be built is an error, too.
    same_machine: whether the runs will see this machine's devices.
    shapes_suffice: whether nothing will be trained, so that data may be
      missing whose shapes are known.

  Returns:
    What will fail, one line per fault, which data is missing, and what an
    optimizer asks for that a method's model does not have.

  Raises:
    UserError: a number out of range, an option that its factory refuses, a
      metric that no result will have, a probe that chooses nothing in any of
      the points, or no model that can be built.
  """
  configs = _distinct(points)
  if not configs:
    return []
  request = {
    "configs": configs,
    "metric": plan.metric,
    "other_metrics": list(plan.other_metrics),
    "strict": strict,
    "shapes_suffice": shapes_suffice,
  }
  if same_machine and machine.has_accelerator():
    return _check_elsewhere(request)
  return check_here(**request, same_devices=same_machine)


def _distinct(points: Iterable[Point]) -> list[tuple[str, str, Any]]:
  """(name, program, config) of the points that differ in more than seeds."""
  seen = set()
  found = []
  for point in points:
    key = configure.digest({**point.config, "seed": 0})
    if key not in seen:
      seen.add(key)
      name = f"method {point.method!r}"
      if point.tuned:
        values = (f"{k}={labels.describe(v)}" for k, v in point.tuned.items())
        name += f" with {', '.join(values)}"
      found.append((name, point.program, point.config))
  return found


def check_here(
  configs: Sequence[tuple[str, str, Mapping[str, Any]]],
  metric: str,
  other_metrics: Sequence[str],
  *,
  strict: bool = False,
  same_devices: bool = True,
  shapes_suffice: bool = False,
) -> list[str]:
  """Checks (name, program, config) triples in this process.

  Args:
    configs: see above.
    metric: see `Sweep`.
    other_metrics: see `Sweep`.
    strict: see `check`, like what is returned.
    same_devices: whether the workers will see the devices that this process
      does; only then it can tell whether a kernel will run.
    shapes_suffice: see `check`.

  Raises:
    UserError: the first problem, with the name of the method.
  """
  if not shapes_suffice:
    return _check(configs, metric, other_metrics, strict, same_devices)
  with data.shapes_suffice() as missing:
    said = _check(configs, metric, other_metrics, strict, same_devices)
    return [*missing(), *said]


def _check(
  configs: Sequence[tuple[str, str, Mapping[str, Any]]],
  metric: str,
  other_metrics: Sequence[str],
  strict: bool,
  same_devices: bool,
) -> list[str]:
  """See `check_here`."""
  from kernels_pallas import dispatch  # Late: imports jax, as the next do.
  from normjax import build
  from normjax.train import check as check_lib
  from normjax.train import premise as premise_lib
  from normjax.train import preview as preview_lib
  from normjax.train import program as program_lib

  _check_norms_are_read(configs)
  _check_queries_are_the_same(configs)
  seen: set[str] = set()
  known_splits: set[str] = set()
  unmatched: list[set[str]] = []
  failed: list[Failure] = []
  unfulfilled: list[Failure] = []
  for name, program, plain in configs:
    config = configure.ConfigDict(plain)
    with _about(name):
      check_lib.check(config)
    # Trials and final runs share a program, not the data that they evaluate.
    split = configure.digest([plain["data"], configure.evaluated_split(config)])
    if split not in known_splits:
      known_splits.add(split)
      with _about(name):
        build.evaluation_dataset(config)
    # Runs of one program may start from different folders.
    start = configure.digest([program, plain["train"]["initialize_from"]])
    if start in seen:
      continue
    seen.add(start)
    try:
      with _about(name):
        preview = preview_lib.preview(config)
    except dispatch.UnsupportedError as error:
      if same_devices:
        failed.append(Failure(name, str(error)))
      continue
    except errors.UserError as error:
      failed.append(Failure(name, str(error).removeprefix(f"{name}: ")))
      continue
    with _about(name):
      program_lib.check_start(config)
      preview_lib.check_metrics("Sweep.metric", [metric], preview)
      preview_lib.check_metrics("Sweep.other_metrics", other_metrics, preview)
      # Said of the method, not of the values that its first trial has.
      unfulfilled += [
        Failure(name.partition(" with ")[0], note)
        for note in premise_lib.before_runs(config)
      ]
    unmatched.append(set(preview.unmatched(config.log.probes)))
  failures = told(failed, "programs")
  if failures and (strict or len(failed) == len(seen)):
    more = errors.and_more(len(failures) - 1, "fault")
    raise errors.UserError(failures[0] + (f" ({more})" if more else ""))
  if unmatched:
    # What one method lacks, another may have.
    preview_lib.check_probes(sorted(set.intersection(*unmatched)))
  return [
    *(f"runs will fail: {failure}" for failure in failures),
    *told(unfulfilled, "programs"),
  ]


def _check_norms_are_read(
  configs: Sequence[tuple[str, str, Mapping[str, Any]]],
) -> None:
  """Raises UserError for points that differ in a norm that their model lacks.

  They would be the same run, and the sweep compare nothing.
  """
  from normjax import models, outside

  first: dict[str, str] = {}
  for name, _, config in configs:
    model = config["model"]["name"]
    if not is_outside(model) or outside.taken(models.get(model), {"norm": 0}):
      continue
    others = {k: v for k, v in config.items() if k not in ("norm", "seed")}
    other = first.setdefault(configure.digest(others), name)
    if other != name:
      raise errors.UserError(
        f"{other} and {name} differ in the block norm alone, which"
        f" model.name={model!r} does not take: there is nothing to compare."
        " Give its factory a parameter norm, for"
        " normjax.nn.norm_layer.NormLayer(norm, shape)."
      )


def _check_queries_are_the_same(
  configs: Sequence[tuple[str, str, Mapping[str, Any]]],
) -> None:
  """Raises UserError for points of context that answer other examples.

  Where a config has controls, their class is no answer, whatever the method.
  """
  first = None
  for name, _, config in configs:
    if not configure.optional(config, "context.method"):
      continue
    count, kept_out = (
      configure.optional(config, f"context.{leaf}")
      for leaf in ("num_controls", "control_class")
    )
    own = kept_out if count else None
    if first is None:
      first = name, count, kept_out, own
    elif first[3] != own:
      raise errors.UserError(
        f"{first[0]} and {name} answer other examples, as controls are none:"
        f" context.num_controls={first[1]} and {count},"
        f" context.control_class={first[2]} and {kept_out}. Give all rows a"
        " number above 0, and one class: a method that needs no controls reads"
        " none."
      )


@contextlib.contextmanager
def _about(name: str) -> Iterator[None]:
  """Names the method in whatever goes wrong."""
  from kernels_pallas import dispatch

  try:
    yield
  except dispatch.UnsupportedError:
    raise
  except errors.UserError as error:
    raise type(error)(f"{name}: {error}") from error
  except Exception as error:
    raise errors.UserError(
      f"{name} cannot be traced: {type(error).__name__}: {error}"
    ) from error


def _check_elsewhere(request: Mapping[str, Any]) -> list[str]:
  """Runs `check_here` in a process that sees no accelerator."""
  done = subprocess.run(
    [sys.executable, "-P", "-m", "normjax.sweep.preflight"],
    input=json.dumps(request),
    env={**os.environ, **beside.environment(), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode == 2:
    raise errors.UserError(done.stdout.strip())
  if done.returncode:
    said = " | ".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
    raise errors.RunError(
      f"the configs could not be checked: exit status {done.returncode}: {said}"
    )
  return json.loads(done.stdout.splitlines()[-1])


def _main() -> int:
  try:
    notes = check_here(**json.load(sys.stdin), same_devices=False)
  except errors.UserError as error:
    print(error)
    return 2
  print(json.dumps(notes))
  return 0


if __name__ == "__main__":
  sys.exit(_main())
