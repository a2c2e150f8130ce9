"""The command `normjax`.

    normjax COMMAND [CONFIG] [--flag=value …] [--config.key=value …]

Only absl is imported before the command is known, so `--help` is quick.
Bad input ends with one message and exit code 2; --verbose adds a traceback.
"""

import errno
import importlib
import io
import logging
import os
import sys
import traceback
from types import ModuleType
from typing import NamedTuple

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
  "memory": ("memory", "bytes that a run holds, from shapes alone"),
  "train": ("train", "one run"),
  "sweep": ("sweep", "all runs of a sweep file, then its report"),
  "reproduce": ("reproduce", "a published table again, and what of it holds"),
  "status": ("status", "where the runs of a directory are, from any shell"),
  "report": ("report", "the report of a sweep directory, from its files"),
  "adapt": ("adapt", "a run's model on a stream that it adapts to"),
  "probe": ("probe", "what is inside a run's model, or released weights"),
  "completion": ("completion", "completion for bash or zsh"),
  "export": ("export", "a run's parameters as a safetensors file"),
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
    + "\n\n`normjax COMMAND --help` lists a command's flags, `normjax"
    " --version` the versions."
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


class Call(NamedTuple):
  """A command with what it is given.

  Attributes:
    module: of `normjax.commands`.
    positional: its arguments.
    overrides: of its config, as typed.
    values: its flags.
  """

  module: ModuleType
  positional: list[str]
  overrides: list[str]
  values: flags.FlagValues

  def run(self) -> int:
    """Runs it; returns the exit code."""
    if self.values["help"].value:
      from normjax.commands import helping

      print(helping.of_command(self.module, self.values))
      return 0
    return self.module.run(self.positional, self.overrides, self.values)

  @property
  def goes_on(self) -> bool:
    """Whether the same command goes on where this one was cut short."""
    resumes = getattr(self.module, "RESUMES", False)
    only_tells = any(
      name in self.values and self.values[name].value
      for name in ("dry_run", "list")
    )
    return resumes and not only_tells


def _parse(command: str, arguments: list[str]) -> Call:
  """Finds a command and parses its flags.

  Raises:
    UserError: no such command, or no such flag.
  """
  if command not in COMMANDS:
    raise errors.UnknownNameError(
      f"unknown command {command!r}.{near_misses(command, COMMANDS)}"
      f" Commands: {', '.join(COMMANDS)}."
    )
  module = importlib.import_module(f"normjax.commands.{COMMANDS[command][0]}")
  arguments = ["--help" if token == "-h" else token for token in arguments]
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
  except flags.UnrecognizedFlagError as error:
    from normjax.commands import slips

    name = error.flagname
    typed = (t for t in others if t.lstrip("-").partition("=")[0] == name)
    token = next(typed, f"--{name}")
    raise slips.unknown_flag(command, token, values, COMMANDS) from error
  except flags.Error as error:
    raise errors.UserError(
      f"{error}. See `normjax {command} --help`."
    ) from error
  return Call(module, positional, overrides, values)


def main(argv: list[str] | None = None) -> int:
  """Runs one command.

  Returns:
    0; 1 where something failed that was not the user's input; 2 for bad
    input; 130 after Ctrl-C.
  """
  code = _main(argv)
  if argv is None and faults.waits_in_vain():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  return code


def _main(argv: list[str] | None) -> int:
  arguments = list(sys.argv[1:] if argv is None else argv)
  verbose = "--verbose" in arguments
  arguments = [token for token in arguments if token != "--verbose"]
  if not verbose:
    # Libraries log a failure of theirs with its traceback before they raise.
    for name in ("absl", "asyncio"):
      logging.getLogger(name).setLevel(logging.CRITICAL)
    if argv is None:  # This process is ours.
      sys.unraisablehook = faults.late_callbacks(sys.unraisablehook)
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      # What a terminal's encoding lacks is written as its number.
      stream.reconfigure(errors="backslashreplace")
  call = None
  try:
    # A job that is asked to end ends as after Ctrl-C: resumable.
    with stopping.interruptible():
      if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help(), flush=True)
        return 0
      if arguments[0] in ("-V", "--version", "version"):
        from normjax.commands import helping

        print(helping.version(), flush=True)
        return 0
      call = _parse(arguments[0], arguments[1:])
      return call.run()
  except KeyboardInterrupt:
    then = "; the same command goes on" if call and call.goes_on else ""
    print(f"normjax: interrupted{then}.", file=sys.stderr)
    return 130
  except BrokenPipeError:
    return 0  # The reader of our output has seen enough.
  except SystemExit as error:
    if not isinstance(error.__context__, BrokenPipeError):
      raise
    return 0  # Likewise; rich says so in its own way.
  except Exception as error:
    if verbose:
      traceback.print_exc()
    code, said = _explain(error, goes_on=call is not None and call.goes_on)
    print(f"normjax: {escape.lines(said)}", file=sys.stderr)
    if code == 1 and argv is None and faults.is_memory(error):
      # Threads that found no memory to start are waited for without an end.
      faults.wait_in_vain()
    return code


def _explain(error: Exception, *, goes_on: bool) -> tuple[int, str]:
  """The exit code of an error, and what is said of it."""
  if isinstance(error, errors.UserError):
    return 2, str(error)
  if (fault := faults.disk(error)) is not None:
    if fault.errno == errno.ENOSPC:
      said = f"no space left on the device of {fault.filename or 'the output'};"
      said += " free some"
    else:
      said = f"{faults.describe(fault)}; mend that"
    said += " and run the same command again"
    return 2, f"{said}{': it goes on' if goes_on else ''}."
  what = "out of memory: " if faults.is_memory(error) else ""
  return 1, f"{what}{faults.one_line(error)} (--verbose shows the traceback)"


if __name__ == "__main__":
  sys.exit(main())
