"""Errors that a user can act on; the command line prints them bare."""


class UserError(ValueError):
  """Bad input: the message names the key, the value and what is allowed."""


class UnknownNameError(UserError):
  """A name that is in no table; the message lists near misses."""


class ConfigError(UserError):
  """A config that does not load, or an override that does not fit it."""


class DataError(UserError):
  """Data that is missing or malformed; the message says what to run."""


class CacheError(DataError):
  """The cache of prepared data cannot be written."""


class RunError(UserError):
  """A run or sweep directory that cannot be used as asked."""


class BusyRunError(RunError):
  """A directory that another process uses now: later it may be free."""
