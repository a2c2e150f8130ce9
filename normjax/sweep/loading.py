"""A sweep's config file, with overrides."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from normjax import config_files, configure, errors
from normjax.configure import COMPONENTS, ConfigDict
from normjax.sweep import spec
from normjax.sweep import tune as tune_lib
from normjax.sweep.spec import Sweep


def load(
  config_path: str | Path,
  overrides: Mapping[str, Any],
  other_metrics: Iterable[str] = (),
) -> tuple[ConfigDict, Sweep]:
  """The base config with overrides, and the sweep.

  Overrides of a component's options become part of every method: a method
  that changes the component's name brings its defaults, which must not hide
  what was asked for.

  Args:
    config_path: `file.py` or `file.py:arg`.
    overrides: dotted path to value.
    other_metrics: of the sweep's, beside those that it has.

  Raises:
    ConfigError: the file or an override does not fit.
    UserError: an override, or a method's value, that the sweep overrules.
  """
  config_files.search_beside(config_path)
  config = configure.load(config_path)
  sweep = spec.load(str(config_path), config)
  swept = {key for method in sweep.methods for key in method} | {"seed"}
  swept |= sweep.ladder.keys if sweep.ladder else set()
  tune = sweep.tune
  if tune is not None and not tune.relative and not callable(tune.space):
    swept |= set(tune.space)
  for key in overrides:
    if key in swept:
      raise errors.UserError(
        f"override of {key!r} has no effect: the sweep sets it."
      )
  config = configure.override(config, overrides)
  if tune is not None:
    tune_lib.check_own_values(tune, sweep.methods, config)
  common = {
    key: value
    for key, value in overrides.items()
    if key.partition(".")[0] in COMPONENTS
  }
  own = sweep.other_metrics
  asked = [m for m in other_metrics if m not in (sweep.metric, *own)]
  return config, dataclasses.replace(
    sweep,
    methods=[{**common, **method} for method in sweep.methods],
    other_metrics=[*own, *dict.fromkeys(asked)],
  )
