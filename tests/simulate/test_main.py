"""`python -m normjax.simulate`."""

from pathlib import Path

import pytest

from normjax import simulate
from normjax.simulate import __main__ as command
from normjax.simulate import tables
from tests import support

GUIDE = Path(support.ROOT) / "docs" / "guides" / "trust.md"


def test_a_size_gives_one_sentence(capsys):
  assert command.main(["--methods=3", "--seeds=4", "--tuning=shared"]) == 0
  expected = str(simulate.error_of(3, 4, tuning="shared"))
  assert capsys.readouterr().out == f"{expected}\n"


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--methods=x"], "argument --methods: invalid int value: 'x'"),
    (["--tuning=often"], "choose from 'per_seed', 'shared', 'none'"),
    (["--methods=3"], "--seeds must be given"),
    (["--methods=3", "--seeds=0"], "seeds must be a whole number >= 1"),
    (["--methods=3", "--seeds=3", "--sweeps=0"], "sweeps must be >= 1"),
  ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, capsys):
  assert command.main(arguments) == 2
  told = capsys.readouterr()
  assert told.out == ""
  assert said in told.err
  assert told.err.count("\n") == 1


def _numbers(text):
  return [
    float(cell)
    for line in text.splitlines()
    if line.startswith("|")
    for cell in line.split("|")
    if cell.strip().replace(".", "").isdigit()
  ]


def _guide_table(name):
  _, found, after = GUIDE.read_text().partition(f"{name}:\n\n")
  assert found, name
  return after.partition("\n\n")[0]


def test_the_guide_has_every_table():
  for name, table in tables.tables(sweeps=20):
    own = _guide_table(name)
    assert own.splitlines()[0] == table.splitlines()[0]
    assert len(_numbers(own)) == len(_numbers(table))


@pytest.mark.slow
def test_the_guide_s_numbers_are_what_the_command_prints():
  for name, table in tables.tables():
    # Roundings of another processor move a verdict or two.
    assert _numbers(_guide_table(name)) == pytest.approx(
      _numbers(table), abs=0.002
    )
