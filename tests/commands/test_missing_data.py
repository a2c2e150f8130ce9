"""Where TFDS data is missing, all but training goes on, and says so."""

from normjax import build, cli
from normjax.data import specs
from tests import support

C4 = ["--config.data.name=c4", "--config.data.sequence_length=16"]
SWEEP = """
from normjax import configure
from normjax.sweep import Sweep, grid

def get_config():
  return configure.load("configs/default.py")

def sweep():
  return Sweep(methods=grid("norm.name", ["rms_norm", "dyt"]))
"""


def _run(capsys, *given):
  code = cli.main(list(given))
  captured = capsys.readouterr()
  return code, " ".join(captured.out.split()), captured.err


def _flags(tmp_path):
  decoder = support.flags(support.DECODER)
  return [*decoder, *C4, f"--config.data.data_dir={tmp_path / 'tfds'}"]


def test_show_builds_from_shapes(capsys, monkeypatch, tmp_path):
  monkeypatch.setenv("COLUMNS", "200")
  flags = _flags(tmp_path)
  code, out, _ = _run(
    capsys, "show", "configs/default.py", "--nocompile", *flags
  )
  assert code == 0
  assert out.count("note: data 'c4/en' is not prepared") == 1
  assert "tfds build c4/en" in out
  assert "nothing trains" in out
  assert "parameters" in out.rpartition("total:")[2]
  code, _, err = _run(
    capsys, "train", "configs/default.py", f"--out={tmp_path / 'run'}", *flags
  )
  assert code == 2
  assert "tfds build c4/en" in err
  assert not (tmp_path / "run").exists()


def test_a_dry_run_checks_and_compiles_shapes(capsys, monkeypatch, tmp_path):
  monkeypatch.setenv("COLUMNS", "300")
  compiled = []

  def estimate(config):
    assert specs.is_spec(build.dataset(config))
    compiled.append(config.norm.name)
    return {}

  monkeypatch.setattr("normjax.train.estimate", estimate)
  path = tmp_path / "sweep.py"
  path.write_text(SWEEP)
  given = ["sweep", str(path), f"--out={tmp_path / 'out'}", *_flags(tmp_path)]
  code, out, err = _run(capsys, *given, "--dry_run")
  assert code == 0, err
  assert out.count("note: data 'c4/en' is not prepared") == 1
  assert sorted(compiled) == ["dyt", "rms_norm"]
  code, _, err = _run(capsys, *given)
  assert code == 2
  assert "tfds build c4/en" in err
  assert not (tmp_path / "out").exists()
