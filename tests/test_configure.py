import ml_collections
import pytest

from normjax import configure, errors


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
