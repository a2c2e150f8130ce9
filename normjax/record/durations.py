"""Durations as people read them."""


def seconds(value_s: float) -> str:
  """A duration for people."""
  if value_s < 10:
    return f"{value_s:.1f} s"
  if value_s < 90:
    return f"{value_s:.0f} s"
  minutes, rest_s = divmod(round(value_s), 60)
  if minutes < 90:
    return f"{minutes} min {rest_s:02d} s"
  return f"{minutes // 60} h {minutes % 60:02d} min"
