"""What `normjax probe` found, as a table and sentences for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

_NOTHING = "-"


def lines(value: Mapping[str, Any]) -> list[str]:
  """A row per depth, then what needs words.

  Args:
    value: of `record.probe_file.read`, or of `normjax.probe.measure`.
  """
  said = _table(value)
  if (loss := value.get("loss")) is not None:
    said.append(f"loss with all blocks: {loss:.5g}")
  if sinks := value.get("attention_sinks"):
    said.append(
      f"heads that give the first token more than {sinks['threshold']:g}:"
      f" {_number(sinks['rate'], percent=True)}"
    )
  said += _massive(value.get("massive_activations", ()))
  reasons: dict[str, list[str]] = {}
  for part, reason in value["left_out"].items():
    reasons.setdefault(reason, []).append(part)
  said += [
    f"left out of {', '.join(parts)}: {reason}"
    for reason, parts in reasons.items()
  ]
  return said


def _table(value: Mapping[str, Any]) -> list[str]:
  """A column per number that belongs to a depth or to the block before it."""
  blocks = value.get("blocks")
  if blocks is None:
    return []
  columns: dict[str, list[Any]] = {
    "depth": list(range(len(blocks) + 1)),
    "after": ["the embedding", *blocks],
  }
  for name, profile in value["streams"].items():
    columns[name] = profile["by_depth"]
  columns["largest"] = [
    each["largest"][0]["value"] if each["largest"] else None
    for each in value["massive_activations"]
  ]
  if sinks := value.get("attention_sinks"):
    masses = sinks["first_token_mass"]
    columns["sink"] = [None, *(m and max(m) for m in masses)]
  columns["angle"] = [None, *(row[0] for row in value["angles"]["distance"])]
  if "skipping" in value:
    columns["loss_without"] = [None, *value["skipping"]["loss"]]
  if "logit_lens" in value:
    columns["lens_loss"] = value["logit_lens"]["loss"]
    columns["lens_kl"] = value["logit_lens"]["divergence"]
  cells = [
    [name, *(_number(each) for each in column)]
    for name, column in columns.items()
  ]
  widths = [max(map(len, column)) for column in cells]
  return [
    "  ".join(
      cell.rjust(width) for cell, width in zip(row, widths, strict=True)
    )
    for row in zip(*cells, strict=True)
  ]


def _massive(found: Sequence[Mapping[str, Any]]) -> list[str]:
  """Where massive activations are, if there are any."""
  depths = [d for d, each in enumerate(found) if each["num_massive"]]
  if not found:
    return []
  if not depths:
    return ["massive activations: none"]
  places = {
    (each["position"], each["dimension"])
    for depth in depths
    for each in found[depth]["largest"]
  }
  shown = ", ".join(f"{p}: {d}" for p, d in sorted(places)[:6])
  return [
    f"massive activations: after depths {', '.join(map(str, depths))}; the"
    f" largest at position: dimension {shown}"
  ]


def _number(value: Any, percent: bool = False) -> str:
  if value is None:
    return _NOTHING
  if percent:
    return f"{100 * value:.3g}%"
  return f"{value:.4g}" if isinstance(value, float) else str(value)
