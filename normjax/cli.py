"""The command `normjax`.

    normjax COMMAND [CONFIG] [--flag=value …] [--config.key=value …]

Only absl is imported before the command is known, so `--help` is quick.
Bad input ends with one message and exit code 2; --verbose adds a traceback.
"""

import errno
import importlib
import logging
import os
import sys
import traceback

from absl import flags

from normjax import errors, escape, faults, stopping
from normjax.registry import near_misses

# Command -> (its module in normjax.commands, one line for --help).
COMMANDS = {
  "list": (
    "listing",
    "what a config can name: norms, optimizers, models, data, …",
  ),
  "show": ("show", "a resolved config, its parameters, cost and memory"),
  "train": ("train", "one run"),
  "sweep": ("sweep", "all runs of a sweep file, then its report"),
  "report": ("report", "the report of a sweep directory, from its files"),
  "bench": ("bench", "measure this project's own speed"),
}


_OVERRIDES = ("--config.", "-config.")


def _help() -> str:
  width = max(map(len, COMMANDS))
  lines = [f"  {name:{width}}  {line}" for name, (_, line) in COMMANDS.items()]
  return (
    "usage: normjax COMMAND [ARGUMENT] [--flag=value …]"
    " [--config.key=value …]\n\n"
    + "\n".join(lines)
    + "\n\n`normjax COMMAND --help` lists a command's flags."
  )


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
  """Config overrides, and all else.

  Overrides wait for the config file that gives them their types. Without a
  dash in front, or after `--`, a token is no flag, whatever it is called.
  """
  end = arguments.index("--") if "--" in arguments else len(arguments)
  is_override = [
    index < end and token.startswith(_OVERRIDES)
    for index, token in enumerate(arguments)
  ]
  for index, token in enumerate(arguments):
    if is_override[index] and "=" not in token:
      raise errors.ConfigError(_lacks_value(token, arguments[index + 1 :]))
  pairs = list(zip(arguments, is_override, strict=True))
  return [t for t, is_own in pairs if is_own], [
    t for t, is_own in pairs if not is_own
  ]


def _lacks_value(token: str, following: list[str]) -> str:
  """What to write in place of an override without `=`."""
  said = f"write {token} as {token}=VALUE, in one word"
  # A flag is no value, and a file is rather the command's.
  if (
    following and not following[0].startswith("-") and ".py" not in following[0]
  ):
    said += f": {token}={following[0]}"
  return f"{said}."


def _dispatch(command: str, arguments: list[str]) -> int:
  """Parses a command's flags and runs it; returns the exit code."""
  if command not in COMMANDS:
    raise errors.UnknownNameError(
      f"unknown command {command!r}.{near_misses(command, COMMANDS)}"
      f" Commands: {', '.join(COMMANDS)}."
    )
  module = importlib.import_module(f"normjax.commands.{COMMANDS[command][0]}")
  overrides, others = _split(arguments)
  if overrides and _OVERRIDES[0] not in module.USAGE:
    raise errors.UserError(
      f"{overrides[0]}: normjax {command} reads no config: usage: normjax"
      f" {module.USAGE}"
    )
  values = flags.FlagValues()
  values.set_gnu_getopt(True)
  module.define_flags(values)
  flags.DEFINE_bool("help", False, "Show this.", flag_values=values)
  try:
    positional = values([command, *others])[1:]
  except flags.Error as error:
    raise errors.UserError(
      f"{error}. See `normjax {command} --help`."
    ) from error
  if values["help"].value:
    print(f"usage: normjax {module.USAGE}\n\n{module.__doc__}\n")
    print(values.get_help())
    return 0
  return module.run(positional, overrides, values)


def main(argv: list[str] | None = None) -> int:
  """Runs one command.

  Returns:
    0; 1 where something failed that was not the user's input; 2 for bad
    input; 130 after Ctrl-C.
  """
  arguments = list(sys.argv[1:] if argv is None else argv)
  verbose = "--verbose" in arguments
  arguments = [token for token in arguments if token != "--verbose"]
  if not arguments or arguments[0] in ("-h", "--help", "help"):
    print(_help())
    return 0
  if not verbose:
    # Libraries log a failure of theirs with its traceback before they raise.
    for name in ("absl", "asyncio"):
      logging.getLogger(name).setLevel(logging.CRITICAL)
    if argv is None:  # This process is ours.
      sys.unraisablehook = faults.late_callbacks(sys.unraisablehook)
  try:
    # A job that is asked to end ends as after Ctrl-C: resumable.
    with stopping.interruptible():
      return _dispatch(arguments[0], arguments[1:])
  except KeyboardInterrupt:
    print("normjax: interrupted; the same command goes on.", file=sys.stderr)
    return 130
  except BrokenPipeError:
    return 0  # The reader of our output has seen enough.
  except Exception as error:
    if verbose:
      traceback.print_exc()
    if isinstance(error, errors.UserError):
      print(f"normjax: {escape.lines(str(error))}", file=sys.stderr)
      return 2
    if (fault := faults.disk(error)) is not None:
      if fault.errno == errno.ENOSPC:
        said = f"no space left on the device of {fault.filename or '--out'};"
        said += " free some"
      else:
        said = f"{faults.describe(fault)}; mend that"
      print(
        f"normjax: {said} and run the same command again: it goes on.",
        file=sys.stderr,
      )
      return 2
    what = "out of memory: " if faults.is_memory(error) else ""
    print(
      f"normjax: {what}{escape.lines(faults.one_line(error))}"
      " (--verbose shows the traceback)",
      file=sys.stderr,
    )
    if what and argv is None:
      # Threads that found no memory to start are waited for without an end.
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(1)
    return 1


if __name__ == "__main__":
  sys.exit(main())
