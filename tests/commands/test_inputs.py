"""What a user may type or write in a file ends in one line and exit code 2."""

import pytest

from normjax import cli, configure, train
from normjax.commands import arguments
from tests import support


def _run(capsys, *given):
  code = cli.main(list(given))
  captured = capsys.readouterr()
  return code, captured.out, captured.err


@pytest.fixture
def seen(monkeypatch):
  """What `train.run` was called with; nothing is trained."""
  calls = []

  def run(config, directory, observe, window):
    calls.append((config, directory))
    return {
      "state": "done", "steps": 0, "diverged_at_step": None, "metrics": {},
    }  # fmt: skip

  monkeypatch.setattr(train, "run", run)
  return calls


def test_parts_from_outside_and_what_a_config_may_lack():
  """Options that have no default are Python literals."""
  config, typed = arguments.load_config(
    "configs/default.py",
    [
      "--config.optimizer.momentum=0.5",
      "--config.optimizer.name=optax:sgd",
      "--config.optimizer.learning_rate=1e-2",
      "--config.optimizer.nesterov=True",
      "--config.evaluate.metrics=('perplexity',)",
      "--config.objective.name=cross_entropy",
    ],
  )
  assert config.optimizer.to_dict() == {
    "name": "optax:sgd",
    "momentum": 0.5,
    "learning_rate": 0.01,
    "nesterov": True,
    "accumulator_dtype": None,
  }
  assert typed["evaluate.metrics"] == config.evaluate.metrics == ("perplexity",)
  assert config.objective.name == typed["objective.name"] == "cross_entropy"
  base = configure.load("configs/default.py")
  assert configure.override(base, typed).to_dict() == config.to_dict()


FILE = """
from normjax import configure
def get_config(): return configure.load("configs/default.py")
"""


@pytest.mark.parametrize(
  ("name", "given", "out", "seed"),
  [
    ("config.py", ["config.py"], "runs/config", 0),
    ("config.py", ["config.py", "--out", "config.d"], "config.d", 0),
    ("config.py", ["--out=config.d", "./config.py"], "config.d", 0),
    ("config.x.py", ["--config.seed=3", "config.x.py"], "runs/config.x", 3),
    ("config.py", ["-config.seed=3", "config"], "runs/config", 3),
    ("-config.py", ["--config.seed=3", "--", "-config.py"], "runs/-config", 3),
    ("a:b.py", ["a:b.py"], "runs/a:b", 0),
  ],
)
def test_a_file_may_be_called_config(
  capsys, monkeypatch, tmp_path, seen, name, given, out, seed
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / name).write_text(FILE)
  code, _, err = _run(capsys, "train", *given)
  assert code == 0, err
  ((config, directory),) = seen
  assert str(directory.parent) == out
  assert config.seed == seed


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (["report", "x", "--config.seed=3"], "normjax report reads no config"),
    (["list", "--config.seed=3"], "normjax list reads no config"),
    (["report", "x" * 300], "cannot be a folder: File name too long"),
    (
      ["train", "configs/default.py", f"--out={'x' * 300}/a"],
      "--out: 'xxx",
    ),
    (["train", "x" * 300], "(300 long)': File name too long"),
    (["train", "configs/default.py:deubg"], "unknown argument 'deubg'"),
    (
      ["train", "configs/default.py", f"--config.norm.name={'x' * 300}"],
      "(300 long)",
    ),
    (["train", "configs/default.py", "--config.seed=3.0"], "seed=3.0"),
    (["train", "README.md"], "is no Python file"),
    (["sweep", "configs/norms/dyt.py"], "defines no sweep()"),
  ],
)
def test_bad_arguments(capsys, given, message):
  code, out, err = _run(capsys, *given)
  assert code == 2
  assert message in err
  assert err.count("\n") == 1
  assert out == ""


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ("config.checkpoint.every_steps = -1", "checkpoint.every_steps=-1 must be"),
    ("config.evaluate.num_batches = -1", "evaluate.num_batches=-1 must be"),
    ("config.schedule.warmup_fraction = 2.0", "warmup_fraction=2.0 must be"),
    ("config.train.label_smoothing = 2.0", "label_smoothing=2.0 must be"),
    ("config.train.gradient_clip = float('nan')", "gradient_clip=nan must be"),
    ("config.train.max_loss = float('nan')", "max_loss=nan must be"),
    ("config.seed = 2**31", "seed=2147483648 must be"),
    ("config.train.num_stps = 3", "Did you mean 'train.num_steps'"),
    ("del config.train", "the config lacks 'train."),
    ("del config.seed", "the config lacks 'seed'"),
    ("del config.norm", "names no norm"),
    ("config = type(config)()", "names no model"),
    ("config.log.probes = ('nothing/here',)", "nothing matches 'nothing/here'"),
    ("config.log.probes = ('',)", "would match every name"),
    ("config.optimizer.b1 = 1.5", "optimizer.b1=1.5: "),
    ("config.norm.use_scale = None", "norm.use_scale=None must be True or"),
    ("import sys; sys.exit(7)", "failed: SystemExit: 7 (line 5)"),
  ],
)
@pytest.mark.parametrize("command", ["train", "show"])
def test_bad_configs(capsys, monkeypatch, tmp_path, command, change, message):
  path = tmp_path / "c.py"
  path.write_text(
    "from normjax import configure\n"
    "def get_config():\n"
    '  config = configure.load("configs/default.py")\n'
    f"  config = configure.override(config, {support.DECODER})\n"
    f"  {change}\n"
    "  return config\n"
  )
  code, out, err = _run(capsys, command, str(path), *(
    [f"--out={tmp_path / 'out'}"] if command == "train" else []
  ))  # fmt: skip
  assert code == 2, err
  assert message in err
  assert err.count("\n") == 1
  assert "FLOPs" not in out
  assert not (tmp_path / "out").exists()


def test_a_sweep_that_asks_for_no_metric_there_is_writes_nothing(
  capsys, tmp_path
):
  path = tmp_path / "config.py"
  path.write_text(
    FILE + "from normjax.sweep import Sweep\n"
    "def sweep(): return Sweep(methods=[{'norm.name': 'dyt'}],"
    " metric='eval/acuracy')\n"
  )
  out = tmp_path / "config.d"
  given = ["sweep", str(path), "--out", str(out)]
  code, _, err = _run(capsys, *given, *support.flags(support.DECODER))
  assert code == 2
  assert "Did you mean 'eval/accuracy'" in err
  assert not out.exists()


def test_control_characters_of_an_error_are_shown(capsys, tmp_path):
  code, _, err = _run(capsys, "report", f"{tmp_path}/\x1b[31m\udcff")
  assert code == 2
  assert "\x1b" not in err
  assert r"\x1b[31m\udcff" in err


def test_the_dry_run_prints_names_as_they_are(capsys, monkeypatch, tmp_path):
  labels = ["[red]a[/]", "[/b]", ":smile: $x$", "c\x1b[31md"]
  path = tmp_path / "c.py"
  path.write_text(
    FILE + "from normjax.sweep import Sweep, grid\n"
    "def sweep(): return Sweep(\n"
    "  methods=grid('norm.name', ['rms_norm', 'dyt', 'derf', 'l2_norm']),\n"
    f"  labels={labels!r})\n"
  )
  monkeypatch.setenv("COLUMNS", "300")
  monkeypatch.setattr(train, "estimate", lambda config: {})
  flags = support.flags(support.DECODER)
  code, out, err = _run(capsys, "sweep", str(path), "--dry_run", *flags)
  assert code == 0, err
  for label in labels:
    assert out.count(label.replace("\x1b", r"\x1b")) > 2
  assert "\x1b" not in out


def test_the_default_out_is_named_after_the_file():
  values = {"out": type("Flag", (), {"value": None})()}
  where = arguments.out_directory(values, "configs/default.py:debug")
  assert str(where) == "runs/default"
