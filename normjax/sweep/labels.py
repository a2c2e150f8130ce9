"""Short names of methods, from what differs between them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from normjax import configure, errors
from normjax.record.comparison import differing_keys, short_names
from normjax.sweep import checks

SEPARATOR = " + "


def labels(
  methods: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]]
) -> list[str]:
  """Shortest labels that tell the methods apart, as in `rms_norm + muon`.

  Component names that differ are always said, bare; another key is said, as
  `key=value`, only where dropping it would make two labels equal.

  Args:
    methods: the overrides of each.
    configs: each method's resolved config, as plain dicts.

  Raises:
    UserError: two methods resolve to the same config, or a label would be
      too long.
  """
  leaves = [dict(configure.leaves(config)) for config in configs]
  seen: dict[str, int] = {}
  for index, own in enumerate(leaves):
    first = seen.setdefault(json.dumps(own), index)
    if first != index:
      raise errors.UserError(
        f"methods {dict(methods[first])!r} and {dict(methods[index])!r}"
        " resolve to the same config."
      )
  keys = list(dict.fromkeys(key for method in methods for key in method))
  set_here = [
    {key: _said(method, own, key) for key in keys if key in own}
    for method, own in zip(methods, leaves, strict=True)
  ]
  differing = set(differing_keys(set_here))
  keys = [key for key in keys if key in differing]
  names = [k for k in keys if _is_name(k)]
  kept = list(keys)
  for key in reversed([k for k in keys if not _is_name(k)]):
    fewer = [k for k in kept if k != key]
    if len(set(_render(methods, leaves, fewer))) == len(methods):
      kept = fewer
  short = _render(methods, leaves, kept)
  if len(set(short)) == len(methods) and all(short):
    return _of_fit_length(short)
  # A method that leaves a key alone then says the config's value of it.
  everything = [
    dict(method) | {k: own.get(k) for k in keys if k in own}
    for method, own in zip(methods, leaves, strict=True)
  ]
  full = _render(everything, leaves, keys)
  if len(methods) == 1 and not names:
    return [
      SEPARATOR.join(
        str(leaves[0][f"{block}.name"])
        for block in ("norm", "optimizer")
        if f"{block}.name" in leaves[0]
      )
      or "config"
    ]
  return _of_fit_length(full)


def _of_fit_length(names: list[str]) -> list[str]:
  for name in names:
    checks.label_length(name)
  return names


def baseline(
  wanted: Mapping[str, Any] | str | None,
  names: Sequence[str],
  configs: Sequence[Mapping[str, Any]],
) -> str | None:
  """The label of the method that `wanted` means; None where there is one row.

  Raises:
    UserError: no method, or more than one, is meant.
  """
  if wanted is None:
    return names[0] if len(names) > 1 else None
  if isinstance(wanted, str):
    matches = [name for name in names if name == wanted]
  else:
    leaves = [dict(configure.leaves(config)) for config in configs]
    # Tuples are lists in a resolved config.
    values = {
      key: json.loads(json.dumps(checks.plain("Sweep.baseline", value)))
      for key, value in wanted.items()
    }
    matches = [
      name
      for name, own in zip(names, leaves, strict=True)
      if all(key in own and own[key] == v for key, v in values.items())
    ]
  if len(matches) != 1:
    raise errors.UserError(
      f"Sweep.baseline {wanted!r} fits {matches or 'no method'}; it must fit"
      f" one of: {', '.join(names)}."
    )
  return matches[0]


def describe(value: Any) -> str:
  """A value as a label says it: no more digits than it needs."""
  if isinstance(value, float) and float(f"{value:g}") == value:
    return f"{value:g}"
  return str(value)


def tuned(values: Mapping[str, Any]) -> str:
  """What tuning tries, by the last part of each key: `learning_rate=0.001`."""
  return " ".join(
    f"{key.rpartition('.')[2]}={describe(value)}"
    for key, value in values.items()
  )


def _said(
  method: Mapping[str, Any], leaves: Mapping[str, Any], key: str
) -> Any:
  """A component as the method names it; another value as the config has it.

  Two files of a user's may stand for one factory, with other options.
  """
  return method[key] if _is_name(key) and key in method else leaves.get(key)


def _is_name(key: str) -> bool:
  return key.endswith(".name")


def _render(
  methods: Sequence[Mapping[str, Any]],
  leaves: Sequence[Mapping[str, Any]],
  keys: Sequence[str],
) -> list[str]:
  short = short_names(keys)
  rows = []
  for method, own in zip(methods, leaves, strict=True):
    parts = []
    for key in keys:
      if _is_name(key):
        parts.append(str(_said(method, own, key)))
      elif key in method:
        parts.append(f"{short[key]}={describe(method[key])}")
    rows.append(SEPARATOR.join(parts))
  return rows
