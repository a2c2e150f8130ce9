"""What the keys of a run's and a sweep's files must hold.

Keys that are not named here may hold anything that JSON has; of those that are
named, only the required ones must be there.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from normjax.record import comparison, costs, files, rungs
from normjax.record.comparison import DIVERGENCE
from normjax.record.state import RunState

_MOST_SHOWN = 40
_NAME_BYTES = 255  # Of Linux' file systems.


class Field(NamedTuple):
  """One key: what it must hold, and whether it must be there.

  Attributes:
    what: in words.
    fits: whether a value is that.
    required: whether the key must be there.
    items: of a list: what each of its mappings must hold, or says of one
      what it must hold.
  """

  what: str
  fits: Callable[[Any], bool]
  required: bool = False
  items: "Fields | Callable[[Any], Fields] | None" = None


Fields = Mapping[str, Field]


def is_number(value: Any) -> bool:
  """A finite number of float's range; null stands for one that is not."""
  try:
    return type(value) in (int, float) and math.isfinite(value)
  except OverflowError:  # A whole number of hundreds of digits.
    return False


def is_count(value: Any) -> bool:
  """A whole number that is not negative."""
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_numbers(value: Any) -> bool:
  """Names with numbers, or null."""
  return isinstance(value, dict) and all(
    item is None or is_number(item) for item in value.values()
  )


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _is_name(value: Any) -> bool:
  """What a folder can be called."""
  if not isinstance(value, str) or {"/", "\0"} & {*value}:
    return False
  try:
    num_bytes = len(value.encode())
  except UnicodeEncodeError:
    return False
  return value not in (".", "..") and 0 < num_bytes <= _NAME_BYTES


def _is_block(value: Any) -> bool:
  return isinstance(value, dict)


def _is_measure(value: Any) -> bool:
  """What `comparison.Measure.to_json` gives."""
  return (
    isinstance(value, dict)
    and _is_text(value.get("metric"))
    and value.get("mode") in ("min", "max")
    and _list_of(_is_text)(value.get("others"))
  )


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
  return lambda value: isinstance(value, list) and all(map(fits, value))


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
  return lambda value: value is None or fits(value)


def _one_of(*words: str) -> Field:
  words = tuple(map(str, words))
  return Field(" or ".join(words), lambda value: value in words, required=True)


def _is_flag(value: Any) -> bool:
  return isinstance(value, bool)


def _is_list(value: Any) -> bool:
  return isinstance(value, list)


_TEXT = Field("a text", _is_text)
_NAME = Field("a name", _is_name, required=True)
_BLOCK = Field("a mapping", _is_block, required=True)
_COUNT = Field("a whole number", is_count)
_NUMBER = Field("a number or null", _or_null(is_number))
_STEP = Field("a step or null", _or_null(is_count))
_SIZES = {
  "num_params": _NUMBER,
  "optimizer_state_bytes": _NUMBER,
  "flops_per_step": _NUMBER,
  "forwards_per_step": _NUMBER,
}

RUN: Fields = {
  "run_id": _TEXT,
  "config": _BLOCK,
  "config.seed": _COUNT,
  "program": _TEXT,
  "provenance": Field("a mapping", _is_block),
  "provenance.git": Field("a mapping or null", _or_null(_is_block)),
  "provenance.created": _TEXT,
  "provenance.population": Field("a mapping", _is_block),
  "resumed_at_steps": Field("a list of steps", _list_of(is_count)),
  "problems": Field("a list of texts", _list_of(_is_text)),
  comparison.MEASURE: Field("a metric, a mode and others", _is_measure),
  **_SIZES,
}
STATUS: Fields = {
  "state": _one_of(*(s for s in RunState if s is not RunState.PENDING)),
  "step": _STEP,
  "num_steps": _STEP,
  "loss": _NUMBER,
  "eta_s": _NUMBER,
  "updated_s": _NUMBER,
  "message": _TEXT,
}
RESULT: Fields = {
  "run_id": _NAME,
  "state": _one_of(*(s for s in RunState if s.over)),
  "metrics": Field("names with numbers or null", is_numbers, required=True),
  "steps": _COUNT._replace(required=True),
  "diverged_at_step": _STEP,
  "gradient_zero_since_step": _STEP,
  files.EVAL_EXAMPLES: _NUMBER,
  "compile_s": _NUMBER,
  "train_s": _NUMBER,
  "eval_s": _NUMBER,
  "data_wait_s": _NUMBER,
  "data_wait_share": _NUMBER,
  "mfu": _NUMBER,
  "peak_device_bytes": _NUMBER,
  "peak_rss_bytes": _NUMBER,
  "wall_s": _NUMBER,
  "step_ms_median": _NUMBER,
  **_SIZES,
}
ATTEMPT: Fields = {
  "run_id": _NAME,
  "state": _one_of(
    *(s for s in RunState if s not in (RunState.PENDING, RunState.RUNNING))
  ),
  "message": Field("a text or null", _or_null(_is_text)),
  "time_unix_s": _NUMBER,
}
_SEED_OR_NULL = Field("a whole number or null", _or_null(is_count))
POINT: Fields = {
  "run_id": _NAME,
  "stage": _NAME,
  "method": _TEXT._replace(required=True),
  "overrides": _BLOCK,
  "seed": _COUNT._replace(required=True),
  "for_seed": _SEED_OR_NULL,
  "program": _TEXT._replace(required=True),
}
CHOICE: Fields = {
  "values": _BLOCK,
  "on_edge": Field("true or false", _is_flag, required=True),
  "for_seed": _SEED_OR_NULL._replace(required=True),
}
TUNING: Fields = {
  "seeds": Field(
    "a list of one whole number or more",
    lambda value: bool(value) and _list_of(is_count)(value),
    True,
  ),
  "trials": _COUNT._replace(required=True),
  "for_seed": _SEED_OR_NULL._replace(required=True),
  "later": _COUNT._replace(required=True),
}
SEARCH: Fields = {
  "name": _TEXT._replace(required=True),
  "second_pass": Field("true or false", _is_flag, required=True),
  "max_extensions": _COUNT,
  "num_values": _COUNT,
  "factor": _NUMBER,
}
METHOD: Fields = {
  "label": _TEXT._replace(required=True),
  "overrides": _BLOCK,
  "choices": Field("a list of choices", _is_list, True, CHOICE),
}
# Of plans of earlier versions: one choice for all seeds.
_SHARED_METHOD: Fields = {
  "label": _TEXT._replace(required=True),
  "overrides": _BLOCK,
  "tuned": Field("a mapping or null", _or_null(_is_block), required=True),
  "on_edge": Field("true or false", _is_flag, required=True),
}


def _method(value: Any) -> Fields:
  is_new = isinstance(value, dict) and "choices" in value
  return METHOD if is_new else _SHARED_METHOD


def _is_search(value: Any) -> bool:
  return not problem(value, SEARCH)


PLAN: Fields = {
  "sweep_id": _NAME,
  "config_file": _TEXT._replace(required=True),
  "overrides": _BLOCK._replace(required=False),
  "config": _BLOCK,
  "metric": _NAME._replace(fits=_is_text),
  "mode": _one_of("min", "max"),
  # Of a ladder, else null; plans of earlier versions have none of these.
  "ladder": Field("a ladder or null", _or_null(rungs.fits)),
  # Of a sweep that names a file of them.
  "costs": Field("costs or null", _or_null(costs.fits)),
  # Plans of earlier versions have none of these four.
  "divergence": _one_of(*DIVERGENCE)._replace(required=False),
  "num_points": _COUNT,
  "num_seeds": _COUNT,
  "other_metrics": Field("a list of texts", _list_of(_is_text)),
  "baseline": Field("a text or null", _or_null(_is_text), required=True),
  "tuned": Field("a list of texts", _list_of(_is_text), required=True),
  "trials_per_method": _COUNT._replace(required=True),
  # Plans of earlier versions have none of these two.
  "tunings": Field("a list of tunings", _is_list, items=TUNING),
  "search": Field("a search or null", _or_null(_is_search)),
  "methods": Field("a list of methods", _is_list, True, _method),
  "points": Field("a list of points", _is_list, True, POINT),
}


def stray_method(plan: Mapping[str, Any]) -> str:
  """What is wrong where a plan names a method that it does not have, or ""."""
  labels = {method["label"] for method in plan["methods"]}
  for index, point in enumerate(plan["points"]):
    if point["method"] not in labels:
      return f"in points[{index}] names no method: {_shown(point['method'])}"
  ladder = plan.get("ladder")
  if ladder and {row["label"] for row in ladder["rows"]} != labels:
    return "has a ladder of other rows than its methods"
  return ""


def problem(value: Any, fields: Fields) -> str:
  """What keeps a value from being what a file must hold, or ""."""
  if not isinstance(value, dict):
    return f"holds {_shown(value)}; a mapping is needed"
  for path, field in fields.items():
    block, _, key = path.rpartition(".")
    owner = value.get(block, {}) if block else value
    if key not in owner:
      if field.required:
        return f"has no {path!r}"
    elif not field.fits(owner[key]):
      return f"has {path} = {_shown(owner[key])}; {field.what} is needed"
    elif field.items is not None:
      for index, item in enumerate(owner[key]):
        own = field.items(item) if callable(field.items) else field.items
        if found := problem(item, own):
          return f"in {path}[{index}] {found}"
  return ""


def version_problem(value: Any) -> str:
  """Why the schema of a file's value cannot be read here, or "".

  Files of other runners need not say one.
  """
  if not isinstance(value, dict):
    return ""
  found = value.get("schema", files.SCHEMA)
  if found == files.SCHEMA and not isinstance(found, bool):
    return ""
  newer = "; a newer one wrote it" if is_newer(value) else ""
  return f"has schema {_shown(found)}; this normjax reads {files.SCHEMA}{newer}"


def is_newer(value: Any) -> bool:
  """Whether a file's value is of a version to come."""
  if not isinstance(value, dict):
    return False
  found = value.get("schema", files.SCHEMA)
  return type(found) in (int, float) and found > files.SCHEMA


def _shown(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
