"""What `normjax probe` leaves: `probe.json`, its one reader and writer.

    <run>/probe/probe.json    or where --out says

Its parts are those of `normjax.probe.measure`; any may be missing, and
`left_out` says why.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from normjax.record import files, schema
from normjax.record.directory import Found, read_file
from normjax.record.schema import Field

FOLDER, FILE = "probe", "probe.json"


def _is_value(value: Any) -> bool:
  return value is None or schema.is_number(value)


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
  return lambda value: isinstance(value, list) and all(map(fits, value))


_VALUES = _list_of(_is_value)


def _is_profile(value: Any) -> bool:
  return (
    isinstance(value, dict)
    and _VALUES(value.get("by_depth"))
    and _list_of(_VALUES)(value.get("by_position"))
  )


def _mapping_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
  return lambda value: (
    isinstance(value, dict) and all(map(fits, value.values()))
  )


def _is_texts(value: Any) -> bool:
  return _mapping_of(lambda text: isinstance(text, str))(value)


def _is_spectrum(value: Any) -> bool:
  return (
    isinstance(value, dict)
    and all(
      _is_value(value.get(key, math.nan))
      for key in ("largest", "stable_rank", "effective_rank")
    )
    and _VALUES(value.get("singular_values"))
  )


_NUMBERS = Field("a list of numbers or null", _VALUES)
_BLOCK = Field("a mapping", lambda value: isinstance(value, dict))
_LARGEST: schema.Fields = {
  "example": Field("a whole number", schema.is_count, True),
  "position": Field("a whole number", schema.is_count, True),
  "dimension": Field("a whole number", schema.is_count, True),
  "value": Field("a number or null", _is_value, True),
}
_MASSIVE: schema.Fields = {
  "median": Field("a number or null", _is_value, True),
  "num_massive": Field("a whole number", schema.is_count, True),
  "largest": Field(
    "a list", lambda value: isinstance(value, list), True, _LARGEST
  ),
}
FIELDS: schema.Fields = {
  "of": _BLOCK._replace(required=True),
  "left_out": Field("names with texts", _is_texts, True),
  "blocks": Field(
    "a list of texts", _list_of(lambda value: isinstance(value, str))
  ),
  "loss": Field("a number or null", _is_value),
  "streams": Field("names with profiles", _mapping_of(_is_profile)),
  "massive_activations": Field(
    "a list", lambda value: isinstance(value, list), items=_MASSIVE
  ),
  "attention_sinks": _BLOCK,
  "attention_sinks.first_token_mass": Field(
    "a list of numbers, or null, per block",
    _list_of(lambda value: value is None or _VALUES(value)),
  ),
  "attention_sinks.rate": Field("a number or null", _is_value),
  "angles": _BLOCK,
  "angles.distance": Field("lists of numbers or null", _list_of(_VALUES)),
  "skipping": _BLOCK,
  "skipping.loss": _NUMBERS,
  "logit_lens": _BLOCK,
  "logit_lens.loss": _NUMBERS,
  "logit_lens.divergence": _NUMBERS,
  "spectra": Field("names with spectra", _mapping_of(_is_spectrum)),
}


def write(folder: Path, value: Mapping[str, Any]) -> Path:
  """Writes a folder's file; numbers that are not finite become null."""
  path = folder / FILE
  files.write_json(path, {"schema": files.SCHEMA, **value})
  return path


def read(folder: Path) -> Found:
  """What a folder's file holds, or what is wrong with it."""
  return read_file(folder / FILE, FIELDS)
