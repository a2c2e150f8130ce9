"""What commands share: the config argument and its typed overrides."""

import ast
import os
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from normjax import config_files, configure, errors, fields

_BRACKETS = ("(", "[", "{")


class _NumberParser(flags.ArgumentParser):
  """Of a leaf that may be whole or a fraction."""

  def parse(self, argument: str) -> int | float | None:
    value = _literal(argument)
    if value is None or type(value) in configure.NUMBER:
      return value
    raise ValueError(f"{argument!r} is no number")


config_flags.register_flag_parser_for_type(configure.NUMBER, _NumberParser())


def one(positional: list[str], what: str, usage: str) -> str:
  """The only positional argument.

  Raises:
    UserError: there is none, or more than one.
  """
  found = ""
  if len(positional) > 1 or "=" in "".join(positional):
    from normjax.commands import slips  # Late: it reads the default config.

    found = slips.positional(positional)
  if len(positional) != 1 or found:
    found = found or f"needs one {what}, got {len(positional)}"
    raise errors.UserError(f"{found}: usage: normjax {usage}")
  return positional[0]


def load_config(
  path: str, tokens: list[str]
) -> tuple[configure.ConfigDict, dict[str, Any]]:
  """A config file with `--config.key=value` overrides applied.

  Component names are applied first, so that the other overrides are typed
  by the options of the component that was asked for. Where a string and a
  tuple of strings are both allowed, brackets tell.

  Args:
    path: a config file.
    tokens: the overrides as given on the command line.

  Returns:
    The config, and the overrides as typed values by dotted path.

  Raises:
    ConfigError: an unknown key, a value of another type, a whole block.
  """
  texts = {}
  for token in tokens:
    key, _, text = token.lstrip("-").partition("=")
    texts[key.removeprefix("config.")] = text
  names: dict[str, Any] = {
    key: text for key, text in texts.items() if configure.is_component_name(key)
  }
  config_files.search_beside(path)
  base = configure.load(path)
  for key, text in texts.items():
    kind = fields.FIELDS[key].kind if key in fields.FIELDS else None
    if kind == fields.TEXTS:
      names[key] = _one_or_several(key, text)
    elif kind is tuple:
      _check_tuple(key, text)
    elif key in base and text[:1] not in _BRACKETS:
      _check_block(key, text, base[key])
  rest = {key: text for key, text in texts.items() if key not in names}
  # A leaf that the config lacks is typed by its default.
  typed_by = {k: v for k, v in configure.OPTIONAL.items() if k in rest}
  config = configure.override(base, {**names, **typed_by})
  for key, text in rest.items():
    holder = configure.check_leaf(config, key)
    if key.rpartition(".")[2] not in holder:  # Of a component from outside.
      config = configure.override(config, {key: _literal(text)})
  values = flags.FlagValues()
  argv = ["", *(f"--config.{key}={text}" for key, text in rest.items())]
  config_flags.DEFINE_config_dict(
    "config", config, flag_values=values, sys_argv=argv
  )
  try:
    values(argv)
  # Values are parsed as Python literals, which may fail in many ways.
  except Exception as error:
    raise errors.ConfigError(
      f"config override: {str(error) or type(error).__name__}"
    ) from error
  typed = config_flags.get_override_values(values["config"])
  return values["config"].value, {**names, **typed}


def _one_or_several(key: str, text: str) -> Any:
  """A text, or the tuple that one in brackets is: Python's literal.

  Raises:
    ConfigError: brackets around something else.
  """
  if not text.startswith(("(", "[")):
    return text
  try:
    return ast.literal_eval(text)
  except (SyntaxError, ValueError) as error:
    raise errors.ConfigError(
      f"--config.{key}={text}: brackets begin a tuple of strings, as in"
      " ('one', 'two')."
    ) from error


def _check_tuple(key: str, text: str) -> None:
  """Raises ConfigError where a text is neither strings nor a tuple of them."""
  value = _literal(text)
  items = value if isinstance(value, list | tuple) else [value]
  if text[:1] in _BRACKETS and isinstance(value, str):
    items = [None]  # Brackets around something else.
  if not all(isinstance(item, str) for item in items):
    raise errors.ConfigError(
      f"--config.{key}={text}: a tuple of strings is needed, as in"
      f" --config.{key}=\"('one', 'two')\"."
    )


def _check_block(key: str, text: str, block: Any) -> None:
  """Says which leaf was meant, where a text is given for a whole block.

  Raises:
    ConfigError: the block has a name, which the text may be.
  """
  if isinstance(block, configure.ConfigDict) and "name" in block:
    raise errors.ConfigError(
      f"--config.{key}={text}: {key!r} is a block of keys; its name is set by"
      f" --config.{key}.name={text}."
    )


def _literal(text: str) -> Any:
  """A Python literal, else the text itself."""
  try:
    return ast.literal_eval(text)
  except (SyntaxError, ValueError):
    return text


def define_overwrite(values: flags.FlagValues, what: str) -> None:
  """The flag `--overwrite`, which may lose `what`."""
  flags.DEFINE_bool(
    "overwrite", False, f"Write over {what}", flag_values=values
  )


def define_accept_code_change(values: flags.FlagValues) -> None:
  """The flag --accept_code_change."""
  flags.DEFINE_bool(
    "accept_code_change",
    False,
    "Keep what runs have left whose own components were edited since.",
    flag_values=values,
  )


def define_running(values: flags.FlagValues) -> None:
  """The flags of what runs sweeps."""
  flags.DEFINE_integer(
    "workers",
    None,
    "Processes that train side by side; of --launcher=slurm, jobs. Default: one"
    " per GPU, else per core; one where there is another accelerator; 8 jobs.",
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_integer(
    "workers_per_gpu",
    None,
    "So many processes share each GPU, and its memory in equal parts. Default:"
    " one.",
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_integer(
    "retries",
    1,
    "How often a failed point is tried again.",
    lower_bound=0,
    flag_values=values,
  )
  flags.DEFINE_list(
    "seeds",
    None,
    "Run only these of the sweep's final seeds.",
    flag_values=values,
  )
  flags.DEFINE_bool(
    "dry_run",
    False,
    "List the points, check them, and train nothing. Each program is compiled,"
    " for its memory and time.",
    flag_values=values,
  )
  define_accept_code_change(values)
  flags.DEFINE_bool(
    "compile",
    True,
    "Whether --dry_run compiles the programs.",
    flag_values=values,
  )


def seeds(values: flags.FlagValues) -> list[int] | None:
  """The numbers of --seeds; None where it is not given.

  Raises:
    UserError: something else than whole numbers.
  """
  texts = values["seeds"].value
  if texts is None:
    return None
  try:
    return [int(text) for text in texts]
  except ValueError:
    raise errors.UserError(
      f"--seeds={','.join(texts)}: whole numbers with commas between them are"
      " needed, as in --seeds=1,2."
    ) from None


def define_out(values: flags.FlagValues, what: str) -> None:
  """The flag --out."""
  flags.DEFINE_string("out", None, what, flag_values=values)


def out_directory(values: flags.FlagValues, config_path: str) -> Path:
  """--out, or `runs/<name of the config file>`."""
  stem = Path(configure.split_argument(config_path)[0]).stem
  return out_folder(values) or Path("runs") / stem


def out_folder(values: flags.FlagValues) -> Path | None:
  """--out; None where it is not given."""
  given = values["out"].value
  if given == "":  # As of a shell's variable that is not set.
    raise errors.UserError("--out= is empty; needed: the path of a folder.")
  return None if given is None else folder("--out", given)


def folder(what: str, path: str) -> Path:
  """The path of a folder, which need not be there.

  Raises:
    UserError: no file system could have it.
  """
  try:
    os.lstat(path)
  except (FileNotFoundError, NotADirectoryError, PermissionError):
    pass  # Whoever uses it will see.
  except (OSError, ValueError) as error:
    why = error.strerror if isinstance(error, OSError) else str(error)
    raise errors.UserError(
      f"{what}: {path[:60]!r}… cannot be a folder: {why}."
    ) from error
  return Path(path)
