import inspect

import jax
import pytest

from normjax import errors, models, norms, registry, types

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


def test_a_near_miss_is_said_once():
  said = registry.near_misses("linejunks", ["linejunk", "b", "linejunk"])
  assert said == " Did you mean 'linejunk'?"


TABLES = [
  (registry.Registry(kind, package.TABLE), package.make, name)
  for kind, package in (("norm", norms), ("model", models))
  for name in package.TABLE
]


@pytest.mark.parametrize(("table", "make", "name"), TABLES)
def test_a_text_is_no_flag_and_no_number(table, make, name):
  """Every text is true: use_scale="no" was yes."""
  factory = table.get(name)
  chain = (factory, *getattr(factory, "hands_options_to", ()))
  options = [
    p.name
    for f in chain
    for p in inspect.signature(
      f.__init__ if isinstance(f, type) else f
    ).parameters.values()
    if p.annotation in (bool, int, float, float | None, int | None)
    and p.name not in getattr(factory, "fixes_options", ())
  ]
  for option in options:
    with pytest.raises(errors.UserError, match=rf"{option}.*\bno\b"):
      make(name, **{option: "no"})


@pytest.mark.parametrize(
  ("name", "option"),
  [("llama", "causal"), ("gpt2", "rope_theta"), ("vit", "causal")],
)
def test_what_a_factory_sets_itself_is_no_option(name, option):
  """It was offered, and ended in Python's `multiple values`."""
  with pytest.raises(errors.UserError, match=f"no option '{option}'"):
    models.make(name, **{option: None})


def test_an_option_is_listed_once():
  with pytest.raises(errors.UserError) as caught:
    models.make("llama", num_layer=2)
  assert str(caught.value).count("num_layers") == 2  # Near, and in the list.


def test_exports_are_what_the_files_list(tmp_path):
  """Read and not imported, so that a package of many files stays light."""
  (tmp_path / "one.py").write_text('__all__ = ["a", "b"]\nraise ImportError\n')
  (tmp_path / "two.py").write_text('__all__ = [\n  "c",\n]\n')
  (tmp_path / "three.py").write_text("d = 1\n")
  assert registry.exports("package", [str(tmp_path)]) == {
    "a": "package.one:a",
    "b": "package.one:b",
    "c": "package.two:c",
  }


def test_what_is_traced_is_declared():
  """By the annotation; an int in the place of a float is one."""

  def factory(
    rate: float | jax.Array,
    plain: float,
    share: types.StaticFloat | None,
    rounds: int | jax.Array,
    late: "float",
    unsaid,
  ):
    del rate, plain, share, rounds, late, unsaid

  table = registry.Registry("thing", {"it": "module:factory"})
  values = {"rate": 1, "plain": 0.5, "share": 0.5, "rounds": 2, "late": 0.5}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "load", lambda target: factory)
    found = table.traced("it", values | {"unsaid": 0.5})
    assert found == {"rate", "plain", "late", "unsaid"}
    assert not table.traced("it", {"rate": None, "unsaid": 2, "plain": True})


def test_what_names_nothing_is_a_user_s_error():
  with pytest.raises(errors.WrongTypeError, match=r"mapping .*; got 3\."):
    registry.Registry("norm", {}).resolve(3)


def test_a_module_that_exits_is_named(tmp_path, monkeypatch):
  (tmp_path / "a_script.py").write_text("raise SystemExit(0)\n")
  monkeypatch.syspath_prepend(tmp_path)
  table = registry.Registry("metric", {}, from_outside=True)
  with pytest.raises(errors.UserError, match="'a_script:f' cannot be imported"):
    table.get("a_script:f")
