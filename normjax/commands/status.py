"""Where the runs of a sweep, or a run, are now: state, step, loss, ETA.

Ask from another shell as often as you like: nothing is written, and what runs
there does not notice. `loss` is that of the newest training row, `metric` the
sweep's, `failed` how many attempts failed, `launcher` whose the run is, where
a sweep is under way: machine and process.
"""

import sys
import time

from absl import flags

from normjax import escape
from normjax.commands import arguments

USAGE = "status DIR [--watch]"
_EVERY_S = 2.0
# What the table leaves free of a terminal: its header, notes, the summary.
_SPARE_LINES = 6


def define_flags(values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_bool(
    "watch",
    False,
    "Look again every few seconds, as long as runs are under way.",
    flag_values=values,
  )


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Prints a line per run, and a summary."""
  del overrides
  given = arguments.one(positional, "directory of a sweep or a run", USAGE)
  out = arguments.folder("DIR", given)
  from normjax.sweep import status

  watch = status.Watch(out)
  if not values["watch"].value:
    _print(watch.read())
  elif sys.stdout.isatty():
    _redraw(watch)
  else:
    _follow(watch)
  return 0


def _print(found) -> None:
  for text in (*found.rows(), *_notes(found), found.summary()):
    print(escape.lines(text))


def _notes(found) -> list[str]:
  """What is wrong with files: a few, and how many more."""
  shown = [f"note: {text}" for text in found.problems[:3]]
  more = len(found.problems) - len(shown)
  return shown + ([f"note: {more} more files"] if more else [])


def _redraw(watch) -> None:
  """One picture that changes in place; the last one stays."""
  import rich.console
  import rich.live

  console = rich.console.Console()
  with rich.live.Live(console=console, auto_refresh=False) as live:
    while True:
      started_s = time.monotonic()
      found = watch.read()
      most = max(1, console.height - _SPARE_LINES)
      lines = (*found.rows(most), *_notes(found), found.summary())
      text = escape.terminal("\n".join(lines))
      text.no_wrap, text.overflow = True, "ellipsis"
      live.update(text, refresh=True)
      if found.over or found.abandoned:
        return
      _wait(started_s)


def _follow(watch) -> None:
  """For a pipe: the summary, whenever it says something new."""
  said = ""
  while True:
    started_s = time.monotonic()
    found = watch.read()
    if found.summary() != said:
      said = found.summary()
      print(escape.lines(said), flush=True)
    if found.over or found.abandoned:
      return
    _wait(started_s)


def _wait(started_s: float) -> None:
  """Until the next look: a long one is not taken more often than others."""
  took_s = time.monotonic() - started_s
  time.sleep(max(_EVERY_S, 4 * took_s))
