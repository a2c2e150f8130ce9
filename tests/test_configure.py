import ml_collections
import numpy as np
import pytest

from normjax import configure, errors

CONFIG = "import ml_collections as ml\ndef get_config(): return ml.ConfigDict"


def _config():
  return ml_collections.ConfigDict(
    {
      "seed": 0,
      "block": {"rate": 1.0, "label": "a", "free": None, "sizes": (1, 2)},
      "norm": {"name": "dyt", "alpha_init": 0.7},
    }
  )


def test_override_leaves_the_original_alone():
  config = _config()
  changed = configure.override(config, {"block.rate": 2})
  assert changed.block.rate == 2.0
  assert config.block.rate == 1.0
  changed.block.label = "b"
  assert config.block.label == "a"


def test_a_new_component_name_brings_its_own_defaults():
  overrides = {"norm.eps": 0.5, "norm.name": "rms_norm"}
  for order in (overrides, dict(reversed(overrides.items()))):
    config = configure.override(_config(), order)
    assert config.norm.name == "rms_norm"
    assert config.norm.eps == 0.5
    assert "alpha_init" not in config.norm


def test_the_same_component_name_keeps_what_was_set():
  config = configure.override(_config(), {"norm.name": "dyt"})
  assert config.norm.alpha_init == 0.7


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    ({"block.rat": 1.0}, r"'block.rat'. Did you mean 'rate'\?"),
    ({"blok.rate": 1.0}, r"unknown config key 'blok.rate'. Did you mean 'bl"),
    ({"block.rate": "1e3"}, r"'block.rate' is float \(1.0\); got '1e3' \(str"),
    ({"seed": 1.5}, r"'seed' is int \(0\); got 1.5 \(float\)"),
    ({"block": 3}, r"'block' is a block and cannot be replaced as a whole"),
    ({"block": {"rate": 1}}, "cannot be replaced as a whole: .* 'block.fr"),
    ({"block.free": {"a": 1}}, "'block.free' is a value; got the block"),
    ({"block.rate.x": 1}, "'block.rate' is a value, not a block"),
    ({"norm.name": "rms_nrm"}, "unknown norm 'rms_nrm'. Did you mean 'rms_n"),
  ],
)
def test_bad_overrides_name_key_value_and_what_is_allowed(overrides, message):
  with pytest.raises(errors.UserError, match=message):
    configure.override(_config(), overrides)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("raise RuntimeError('boom')", "does not import: RuntimeError: boom"),
    ("x = 1", "defines no get_config"),
    ("def get_config(): return {}", r"returned dict"),
    ("def get_config(arg=''): 1 / 0", "failed: ZeroDivisionError"),
    ("\nimport sys\nsys.exit(3)", r"not import: SystemExit: 3 \(line 3\)"),
    (
      "def get_config():\n  raise SystemExit('bye')",
      r"failed: SystemExit: bye \(line 2\)",
    ),
    ("get_config = 3", "defines no get_config"),
    ("def measure(scale): return {}", "no get_config.*`normjax reproduce"),
    ("x = = 1", "does not import: SyntaxError: .*line 1"),
    ("x = '\0'", "does not import: SyntaxError"),
    (f"{CONFIG}({{'a': b'x'}})", r"'a' is b'x' \(bytes\); allowed: numbers"),
    (f"{CONFIG}({{'a': {{'b': len}}}})", "'a.b' is <built-in function len>"),
    (f"{CONFIG}({{'a': [{{1}}]}})", "'a' is"),
    (f"{CONFIG}({{1: 2}})", "config key 1 of the config: keys must be str"),
    (
      f"{CONFIG}({{'a': {{'b.c': 2}}}})",
      "does not accept dots in field names .*line 2",
    ),
    (
      f"{CONFIG}({{'a': ml.config_dict.required_placeholder(int)}})",
      "config key 'a' has no value yet",
    ),
  ],
)
def test_a_bad_config_file_gives_one_clear_error(tmp_path, text, message):
  path = tmp_path / "bad.py"
  path.write_text(text)
  with pytest.raises(errors.ConfigError, match=message):
    configure.load(path)


def test_a_missing_config_file_suggests_one_that_exists():
  with pytest.raises(errors.ConfigError, match="configs/default.py"):
    configure.load("configs/defualt.py")


def test_run_id_is_a_hash_of_the_resolved_config():
  config = _config()
  same = ml_collections.ConfigDict(dict(reversed(_config().items())))
  assert configure.run_id(config) == configure.run_id(same)
  other = configure.override(config, {"seed": 1})
  assert configure.run_id(config) != configure.run_id(other)
  assert len(configure.run_id(config)) == 12


def test_references_follow_an_override():
  config = _config()
  config.double = config.block.get_ref("rate") * 2
  changed = configure.override(config, {"block.rate": 3.0})
  assert changed.double == 6.0
  assert configure.to_dict(changed)["double"] == 6.0


@pytest.mark.parametrize(
  ("path", "value", "message"),
  [
    ("seed", True, r"'seed' is int \(0\); got True \(bool\)"),
    ("block.rate", False, r"'block.rate' is float \(1.0\); got False"),
    ("norm.name", "x" * 300, r"unknown norm 'x{60}… \(300 long\)'"),
    ("norm.name", "../norms/dyt", "unknown norm '../norms/dyt'"),
    ("norm.name", None, "unknown norm 'None'"),
    (3, 1, "an override's key is a string, got 3"),
  ],
)
def test_overrides_of_another_type_are_refused(path, value, message):
  with pytest.raises(errors.UserError, match=message):
    configure.override(_config(), {path: value})


def test_numbers_of_numpy_are_numbers(tmp_path):
  config = configure.override(
    _config(), {"seed": np.int64(3), "block.sizes": np.arange(2)}
  )
  assert configure.to_dict(config)["seed"] == 3
  assert configure.to_dict(config)["block"]["sizes"] == [0, 1]
  path = tmp_path / "c.py"
  path.write_text(f"import numpy as np\n{CONFIG}({{'a': np.float32(0.5)}})")
  assert configure.to_dict(configure.load(path)) == {"a": 0.5}


def test_a_frozen_config_can_be_overridden(tmp_path):
  path = tmp_path / "c.py"
  path.write_text(
    "import ml_collections as ml\n"
    "def get_config(): return ml.FrozenConfigDict({'a': {'b': 1}})"
  )
  config = configure.override(configure.load(path), {"a.b": 2})
  assert config.a.b == 2


@pytest.mark.parametrize("name", ["config.py", "a:b.py", "c d.py", "é.py"])
def test_a_config_file_may_have_any_name(tmp_path, name):
  path = tmp_path / name
  path.write_text(
    "import ml_collections as ml\n"
    "def get_config(arg=''): return ml.ConfigDict({'a': arg})"
  )
  assert configure.load(path).a == ""
  assert configure.load(f"{path}:x:y").a == "x:y"
  assert configure.split_argument(f"{path}:x") == (str(path), "x")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("x" * 300, r"no config file 'x{60}… .300 long.': File name too long"),
    ("a\0b", "no config file"),
    ("", "no config file ''"),
    (".", "no config file"),
    ("README.md", "'README.md' is no Python file"),
  ],
)
def test_what_is_no_config_file_is_one_clear_error(name, message):
  with pytest.raises(errors.ConfigError, match=message):
    configure.load(name)


def test_an_empty_key_names_the_type_that_it_takes():
  empty = ml_collections.config_dict.placeholder(int)
  config = ml_collections.ConfigDict({"toy": {"dim": empty}})
  with pytest.raises(errors.ConfigError, match=r"is int \(None\); got 'a' "):
    configure.override(config, {"toy.dim": "a"})
