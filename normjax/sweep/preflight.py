"""Checks of every point of a sweep before the first one trains.

Models are traced in shapes, which makes jax open its devices. The process of a
sweep must not hold an accelerator that its workers need: there the checks run
in a process of their own, on the CPU.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from normjax import configure, errors
from normjax.sweep import labels, pool
from normjax.sweep.plan import Plan, Point

_LAST_LINES = 3


def check(plan: Plan, points: Iterable[Point]) -> None:
  """Checks the configs of points, and the names that the sweep asks for.

  Args:
    plan: of the sweep; says the metrics.
    points: those without a result.

  Raises:
    UserError: a config that no run can use, a metric that no result will
      have, or a probe that chooses nothing in any of the points.
  """
  configs = _distinct(points)
  if not configs:
    return
  request = {
    "configs": configs,
    "metric": plan.metric,
    "other_metrics": list(plan.other_metrics),
  }
  if pool.has_accelerator():
    _check_elsewhere(request)
  else:
    check_here(**request)


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
  same_devices: bool = True,
) -> None:
  """Checks (name, program, config) triples in this process.

  Args:
    configs: see above.
    metric: see `Sweep`.
    other_metrics: see `Sweep`.
    same_devices: whether the workers will see the devices that this process
      does; only then it can tell whether a kernel will run.

  Raises:
    UserError: the first problem, with the name of the method.
  """
  from kernels_pallas import dispatch
  from normjax.train import check as check_lib
  from normjax.train import preview as preview_lib

  previews: dict[str, preview_lib.Preview] = {}
  unmatched: dict[str, set[str]] = {}
  for name, program, plain in configs:
    config = configure.ConfigDict(plain)
    try:
      check_lib.check(config)
      if program in previews:
        continue
      preview = previews[program] = preview_lib.preview(config)
      preview_lib.check_metrics("Sweep.metric", [metric], preview.metrics)
      preview_lib.check_metrics(
        "Sweep.other_metrics", other_metrics, preview.metrics
      )
    except dispatch.UnsupportedError as error:
      if not same_devices:
        continue
      raise errors.UserError(f"{name}: {error}") from error
    except errors.UserError as error:
      raise type(error)(f"{name}: {error}") from error
    except Exception as error:
      raise errors.UserError(
        f"{name} cannot be traced: {type(error).__name__}: {error}"
      ) from error
    patterns = tuple(config.log.probes)
    unmatched[program] = set(preview.unmatched(patterns))
  # What one method lacks, another may have.
  if unmatched:
    preview_lib.check_probes(sorted(set.intersection(*unmatched.values())))


def _check_elsewhere(request: Mapping[str, Any]) -> None:
  """Runs `check_here` in a process that sees no accelerator."""
  done = subprocess.run(
    [sys.executable, "-m", "normjax.sweep.preflight"],
    input=json.dumps(request),
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
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


def _main() -> int:
  try:
    check_here(**json.load(sys.stdin), same_devices=False)
  except errors.UserError as error:
    print(error)
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(_main())
