import pytest

from normjax import errors, registry

TABLE = registry.Registry(
  "thing",
  {
    "path": "pathlib:Path",
    "decimal": "decimal:Decimal",
    "ndiff": "difflib:ndiff",
  },
)


def test_make_calls_the_factory_named_in_the_table():
  assert str(TABLE.make("path", "a")) == "a"
  assert TABLE.names() == ("path", "decimal", "ndiff")


def test_unknown_name_lists_near_misses_and_all_names():
  with pytest.raises(errors.UnknownNameError) as caught:
    TABLE.make("decimol")
  assert "unknown thing 'decimol'" in str(caught.value)
  assert "Did you mean 'decimal'?" in str(caught.value)
  assert "Known: decimal, ndiff, path." in str(caught.value)


def test_unknown_option_names_the_options_that_there_are():
  with pytest.raises(errors.UserError, match="no option 'linejunks'") as caught:
    TABLE.make("ndiff", [], [], linejunks=None)
  assert "Did you mean 'linejunk'?" in str(caught.value)
  assert "charjunk" in str(caught.value)
