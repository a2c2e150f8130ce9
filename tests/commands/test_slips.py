"""Likely slips of a command line: the message says what was meant."""

import pytest

from normjax import cli

CONFIG = "configs/default.py"


@pytest.mark.parametrize(
  ("given", "said"),
  [
    (["--config.norm=dyt"], "its name is set by --config.norm.name=dyt."),
    (["--config.optimizer.lr=1"], "Did you mean 'learning_rate'?"),
    (["--config.learning_rate=1"], "Did you mean 'optimizer.learning_rate'?"),
    (["--optimizer.b1=1"], "so: --config.optimizer.b1=1."),
    (["--learning_rate=1"], "so: --config.optimizer.learning_rate=1."),
    (["--conifg.seed=1"], "so: --config.seed=1."),
    (["--seed=1"], "so: --config.seed=1."),
    (["--config=x.py"], "normjax train FILE"),
    (["--workers=2"], "It is one of normjax sweep and normjax reproduce."),
    (["optimizer.b1=1"], "is written --config.optimizer.b1=1: usage"),
    (["--", "--out=x"], "--out=x: after `--` nothing is a flag"),
    ([CONFIG], f"{CONFIG} is given 2 times: usage"),
    (["--config.log.probes=3"], "a tuple of strings is needed, as in"),
    (["--config.log.probes=('a', 3)"], "a tuple of strings is needed, as in"),
    (["--config.log.probes=('a'"], "a tuple of strings is needed, as in"),
    (["--config.norm={'name': 'dyt'}"], "cannot be replaced as a whole"),
  ],
)
def test_a_slip_is_one_line_with_what_was_meant(capsys, given, said):
  assert cli.main(["train", CONFIG, *given]) == 2
  out, err = capsys.readouterr()
  assert said in err
  assert err.count("\n") == 1
  assert not out


def test_a_folder_may_have_a_sign_of_equality_in_its_name(capsys):
  assert cli.main(["report", "lr=3"]) == 2
  assert "lr=3 has no plan.json" in capsys.readouterr().err
