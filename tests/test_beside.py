"""A user's parts beside the config file that a command is given."""

import logging
import os
import subprocess
import sys

import pytest

from normjax import (
  beside,
  build,
  cli,
  config_files,
  configure,
  errors,
  fields,
  imports,
)
from normjax.commands import arguments
from normjax.record.directory import RunDirectory, RunState

OWN = """
import math
import optax
from normjax import norms

def norm(scale: float = 1, *, power=2, axis=None, inner=math.inf, act=abs):
  return norms.make("identity")

def anything(**options):
  return norms.make("identity")

def sgd(learning_rate: float, momentum: float = 0, mask=None):
  return optax.sgd(learning_rate, momentum)

def titled(scale: float = 1, name="x"):
  return norms.make("identity")

def untitled(name):
  return norms.make("identity")

def ends():
  raise SystemExit(3)

def shouts():
  raise RuntimeError("two\\nlines")

CONSTANT = 3
"""
MINE = """
import ml_collections

def get_config():
  return ml_collections.ConfigDict({"name": "NAME", "power": 3, "act": "x"})
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder of a user's parts, which a command was pointed at."""
  monkeypatch.setattr(sys, "path", list(sys.path))
  monkeypatch.setattr(beside, "_place", None)
  config_files._say_hidden.cache_clear()
  (tmp_path / "ours_own.py").write_text(OWN)
  (tmp_path / "configs" / "norms").mkdir(parents=True)
  (tmp_path / "run.py").write_text(
    "from normjax import configure\n"
    "def get_config():\n"
    '  return configure.load("configs/default.py")\n'
  )
  yield tmp_path
  sys.modules.pop("ours_own", None)


def _block(folder, name, *overrides):
  config, typed = arguments.load_config(
    str(folder / "run.py"), [f"--config.norm.name={name}", *overrides]
  )
  assert typed["norm.name"] == name
  fields.check(config)
  return configure.to_dict(config)["norm"]


def test_the_signature_gives_the_block(folder):
  """The default of a float is one; what JSON lacks stays the factory's."""
  assert _block(folder, "ours_own:norm") == {
    "name": "ours_own:norm",
    "scale": 1.0,
    "power": 2,
    "axis": None,
  }


@pytest.mark.parametrize(
  ("name", "overrides", "changed"),
  [
    ("ours_own:norm(power=3)", [], {"power": 3}),
    ("ours_own:norm", ["--config.norm.axis=-1"], {"axis": -1}),
    ("ours_own:norm", ["--config.norm.scale=3"], {"scale": 3.0}),
    ("ours_own:norm", ["--config.norm.act=relu"], {"act": "relu"}),
    ("ours_own:norm(axis='x')", ["--config.norm.power=5"],
     {"axis": "x", "power": 5}),
  ],
)  # fmt: skip
def test_options_are_written_in_the_name_or_beside_it(
  folder, name, overrides, changed
):
  block = _block(folder, name, *overrides)
  assert {key: block[key] for key in changed} == changed
  assert type(block["scale"]) is float


@pytest.mark.parametrize(
  ("name", "overrides", "message"),
  [
    ("ours_own:norm(pover=3)", [],
     "unknown config key 'norm.pover'. Did you mean 'power'"),
    ("ours_own:norm", ["--config.norm.scales=3"],
     "unknown config key 'norm.scales'. Did you mean 'scale'"),
    ("ours_own:norm(3)", [], "is not a name, nor name(option=value, …)"),
    ("ours_own:norm(axis=1, axis=2)", [], "values, each option once and none"),
    ("ours_own:norm(name='x')", [], "each option once and none called 'name'"),
    ("ours_own:untitled", [], "has an option 'name' without a default"),
    ("ours_own:norm(power='x')", [], "config key 'norm.power' is int"),
    ("ours_own:CONSTANT", [], "is a int; needed: a factory"),
    ("ours_own:norn", [],
     "norm.name 'ours_own:norn' cannot be imported: AttributeError"),
  ],
)  # fmt: skip
def test_what_the_factory_does_not_take_is_said(
  folder, name, overrides, message
):
  with pytest.raises(errors.UserError) as error:
    _block(folder, name, *overrides)
  assert message in str(error.value)


def test_an_option_called_name_leaves_the_block_its_own(folder):
  block = _block(folder, "ours_own:titled")
  assert block == {"name": "ours_own:titled", "scale": 1.0}


@pytest.mark.parametrize(
  ("factory", "said"),
  [("ends", "ended the program: SystemExit: 3"), ("shouts", "two lines")],
)
def test_what_a_factory_raises_is_one_line(folder, factory, said):
  config_files.search_beside(folder / "run.py")
  config = configure.override(
    configure.load("configs/default.py"), {"data.name": f"ours_own:{factory}"}
  )
  with pytest.raises(errors.UserError) as error:
    build.dataset(config)
  assert said in str(error.value)
  assert "\n" not in str(error.value)


def test_one_that_takes_anything_is_given_anything(folder):
  block = _block(folder, "ours_own:anything(a=1)", "--config.norm.b=2")
  assert block == {"name": "ours_own:anything", "a": 1, "b": 2}


def test_what_has_no_default_must_be_given(folder):
  config_files.search_beside(folder / "run.py")
  config = configure.override(
    configure.load("configs/default.py"), {"optimizer.name": "ours_own:sgd"}
  )
  # `build` fills in the mask: it is none of the config's.
  assert set(config.optimizer) == {"name", "momentum"}
  with pytest.raises(errors.UserError, match=r"optimizer\.learning_rate=None"):
    build.optimizer(config)
  config = configure.override(config, {"optimizer.learning_rate": 1})
  assert build.scalars(config)["optimizer.learning_rate"] == 1.0
  assert "optimizer.momentum" in build.scalars(config)
  assert build.optimizer(config)


@pytest.mark.parametrize("name", ["mine", "ours_own:norm"])
def test_a_configs_folder_beside_the_file_comes_first(folder, name):
  """It may set an option whose default no config can hold."""
  file = folder / "configs" / "norms" / "mine.py"
  file.write_text(MINE.replace("NAME", "ours_own:norm"))
  block = _block(folder, name)
  own = {"power": 3, "act": "x"} if name == "mine" else {"power": 2}
  assert block == {
    "name": "ours_own:norm", "scale": 1.0, "axis": None, **own
  }  # fmt: skip


def test_a_file_that_hides_ours_is_said_once(folder, caplog):
  file = folder / "configs" / "norms" / "dyt.py"
  file.write_text(MINE.replace("NAME", "ours_own:norm"))
  with caplog.at_level(logging.WARNING):
    assert _block(folder, "dyt")["power"] == 3
    _block(folder, "dyt")
  said = [r.getMessage() for r in caplog.records]
  assert said == [f"note: {file} comes before normjax's own dyt.py"]


def test_defaults_are_those_of_the_file_as_it_is_now(folder):
  """A check that remembers another file's types would refuse this one's."""
  _block(folder, "dyt")
  file = folder / "configs" / "norms" / "dyt.py"
  for alpha in (1, "small"):
    file.write_text(
      MINE.replace(
        '"NAME", "power": 3, "act": "x"', f'"dyt", "alpha_init": {alpha!r}'
      )
    )
    os.utime(file, ns=(0, len(str(alpha))))  # Clocks of files may be coarse.
    assert _block(folder, "dyt") == {"name": "dyt", "alpha_init": alpha}


def test_a_default_config_beside_the_file_is_the_one_that_is_loaded(folder):
  ours = configure.configs_dir() / "default.py"
  text = ours.read_text().replace("config.seed = 0", "config.seed = 5")
  (folder / "configs" / "default.py").write_text(text)
  config_files.search_beside(folder / "run.py")
  assert configure.load("configs/default.py").seed == 5
  config_files.search_beside(ours)
  assert configure.load("configs/default.py").seed == 0


def test_a_file_of_another_s_name_is_said(folder):
  (folder / "difflib.py").write_text(OWN)
  config_files.search_beside(folder / "run.py")
  with pytest.raises(errors.UserError, match="Python's own of that name"):
    imports.load_outside("norm", "difflib:norm")


def test_a_child_process_finds_what_its_parent_finds(folder):
  config_files.search_beside(folder / "run.py")
  (folder / "elsewhere").mkdir()
  (folder / "elsewhere" / "difflib.py").write_text("1 / 0")
  code = "import difflib, ours_own; from normjax import beside; "
  done = subprocess.run(
    [sys.executable, "-P", "-c", code + "print(beside.config_file())"],
    env=beside.environment(),
    cwd=folder / "elsewhere",
    capture_output=True,
    text=True,
  )
  assert done.stdout.strip() == str(folder / "run.py"), done.stderr


def test_train_refuses_what_began_with_other_code(folder, capsys):
  command = ["train", str(folder / "run.py"), f"--out={folder / 'out'}"]
  command.append("--config.norm.name=ours_own:norm")
  config, _ = arguments.load_config(command[1], command[3:])
  run_id = configure.run_id(config)
  run = RunDirectory(folder / "out" / run_id, run_id)
  modules = {"ours_own": "0123456789ab-ours_own.py"}
  run.write_run(
    config=configure.to_dict(config),
    provenance={"own": {"modules": modules}},
  )
  run.write_result(RunState.DONE, metrics={"eval/loss": 1.5}, steps=3)
  assert cli.main(command) == 2
  said = capsys.readouterr().err
  assert f"{run.path}: the code of 'ours_own' has changed" in said
  assert "Give another --out, or --accept_code_change" in said
  assert cli.main([*command, "--accept_code_change"]) == 0
  assert "done after 3 steps" in capsys.readouterr().out


def test_with_one_of_our_configs_parts_lie_in_the_current_folder(
  folder, monkeypatch
):
  monkeypatch.chdir(folder)
  (folder / "config.py").write_text("1 / 0")  # Whatever it is, not the config.
  config_files.search_beside("configs/default.py")
  (folder / "configs" / "norms" / "mine.py").write_text(
    MINE.replace("NAME", "ours_own:norm")
  )
  assert (
    configure.override(
      configure.load(configure.configs_dir() / "default.py"),
      {"norm.name": "mine"},
    ).norm.power
    == 3
  )
  assert beside.config_file() is None
  assert beside.environment()["NORMJAX_CONFIG_FILE"] == str(folder)


def test_a_file_inside_configs_has_its_parts_beside_configs(folder):
  """As `configs/papers/x.py`: experiments/ and own norms lie beside configs."""
  (folder / "configs" / "sweeps").mkdir()
  file = folder / "configs" / "sweeps" / "run.py"
  (folder / "run.py").rename(file)
  config_files.search_beside(str(file))
  assert beside.folder() == folder
  assert beside.config_file() == file
  assert {str(folder), str(file.parent)} <= {*sys.path}
  (folder / "configs" / "norms" / "mine.py").write_text(
    MINE.replace("NAME", "ours_own:norm")
  )
  assert configure.component("norm", "mine").power == 3
