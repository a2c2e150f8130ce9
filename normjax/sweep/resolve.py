"""Configs of thousands of points, which differ in few leaves.

Resolving a config copies all of it and loads its components' files. Points of
one sweep share nearly all of that: the blocks are resolved once per combination
of component names, and each value of a leaf is checked once.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from normjax import configure


class Resolver:
  """Overrides to resolved plain configs, as `configure` gives them."""

  def __init__(self, config: ConfigDict):
    """Starts from a base config, which must not change any more."""
    self._config = config
    self._bases: dict[str, _Base] = {}

  def config(self, overrides: Mapping[str, Any]) -> ConfigDict:
    """The resolved config itself: a copy that its owner may change."""
    return configure.override(self._config, overrides)

  def plain(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`configure.to_dict(configure.override(config, overrides))`.

    The blocks that no override changes are shared; they must not be changed.

    Raises:
      ConfigError: as `configure.override` does.
    """
    names = {path: v for path, v in overrides.items() if _is_of_base(path)}
    key = repr(sorted(names.items(), key=repr))
    if key not in self._bases:
      self._bases[key] = _Base(self.config(names))
    base = self._bases[key]
    values = {
      path: base.leaf(path, value)
      for path, value in overrides.items()
      if path not in names
    }
    if base.is_linked:
      return configure.to_dict(self.config(overrides))
    return _with(base.plain, values)


def _is_of_base(path: Any) -> bool:
  """Whether setting a leaf makes others come: of few combinations in a sweep.

  Components do, and so does a leaf that a config may lack: all trials have
  `evaluate.split`.
  """
  return (
    not isinstance(path, str)
    or configure.is_component_name(path)
    or path in configure.OPTIONAL
  )


class _Base:
  """A config with its components, and the leaves that were set in it.

  Attributes:
    plain: the config as plain dicts.
    is_linked: setting one leaf moves another, as references do, or makes one
      come or go.
  """

  def __init__(self, config: ConfigDict):
    self.plain = configure.to_dict(config)
    self.is_linked = False
    self._config = config
    self._flat = dict(configure.leaves(self.plain))
    self._alone: dict[str, ConfigDict] = {}
    self._values: dict[tuple[str, type, str], Any] = {}

  def leaf(self, path: str, value: Any) -> Any:
    """The plain value that a leaf has once it is set."""
    key = path, type(value), repr(value)
    if key not in self._values:
      whole = path not in self._alone
      config = self._config if whole else self._alone[path]
      changed = configure.override(config, {path: value})
      flat = dict(configure.leaves(configure.to_dict(changed)))
      if whole:
        self._look_around(path, flat)
      if path not in flat:  # At a default that resolved configs leave out.
        self.is_linked = True
      self._values[key] = flat.get(path)
    return self._values[key]

  def _look_around(self, path: str, flat: dict[str, Any]) -> None:
    """Sees what a leaf moves; one that moves itself alone is cut out."""
    if flat.keys() != self._flat.keys():
      self.is_linked = True
      return
    moved = {key for key in flat if flat[key] != self._flat[key]}
    if moved - {path}:
      self.is_linked = True
    elif moved:
      self._alone[path] = self._cut_out(path)

  def _cut_out(self, path: str) -> ConfigDict:
    """A config of one leaf, which sets it as the whole config would."""
    holder = configure.check_leaf(self._config, path)
    *blocks, last = path.split(".")
    # A placeholder is a reference that knows its type.
    fields = dict(holder.iteritems(preserve_field_references=True))
    typed = holder.is_type_safe
    config = ConfigDict({last: fields[last]}, type_safe=typed)
    for block in reversed(blocks):
      config = ConfigDict({block: config}, type_safe=typed)
    return config


def _with(plain: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
  """A copy with leaves replaced; blocks without any are the same objects."""
  copied = dict(plain)
  own: dict[tuple[str, ...], dict[str, Any]] = {(): copied}
  for path, value in values.items():
    *blocks, last = path.split(".")
    for depth in range(1, len(blocks) + 1):
      here, above = tuple(blocks[:depth]), own[tuple(blocks[: depth - 1])]
      if here not in own:
        own[here] = above[blocks[depth - 1]] = dict(above[blocks[depth - 1]])
    own[tuple(blocks)][last] = value
  return copied
