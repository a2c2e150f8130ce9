"""A paper's numbers: what is given, and what a faulty file is refused for."""

import re

import pytest

from normjax import errors, papers
from normjax.papers import places, targets
from tests.papers.conftest import TARGETS


@pytest.fixture
def read(write_targets):
  def read(*changes: tuple[str, str]) -> targets.Targets:
    text = TARGETS
    for old, new in changes:
      assert old in text
      text = text.replace(old, new, 1)
    write_targets(text)
    return targets.read("norms")

  return read


def test_numbers_have_their_mark_and_source(read):
  found = read()
  ours = found.number("Table 1", "ours", "60M")
  assert (ours.value, ours.pm, str(ours)) == (26.95, 0.02, "26.95 ± 0.02")
  assert (ours.source, ours.second_hand) == ("Table 1 of the paper", False)
  assert ours.rounding == pytest.approx(0.005)
  theirs = found.number("Table 1", "theirs", "60M")
  assert (theirs.source, theirs.second_hand) == ("s", True)
  assert (str(theirs), theirs.rounding) == ("27", 0.0)
  # 27.0 beside 26.95 was printed as 27.00; a whole percentage is rounded, too.
  other = read(("value=27", "value=27.0")).number("Table 1", "theirs", "60M")
  assert other.rounding == pytest.approx(0.005)
  share = read(("97.7", "82")).number("Table 12", "ours", "top-1")
  assert (str(share), share.rounding) == ("82%", 0.5)
  assert str(found.number("Table 1", "none", "60M")) == "diverged"


def test_an_independent_run_is_second_hand_whatever_its_mark(read):
  found = read().number("Table 12", "ours", "top-1")
  assert found.second_hand
  assert str(found) == "97.7%"


def test_an_unverified_number_is_never_given(read):
  assert read().number("Table 1", "memory", "60M") is None


@pytest.mark.parametrize(
  ("place", "said"),
  [
    (("Tabel 1", "ours", "60M"), "no table 'Tabel 1'. Did you mean 'Table 1'"),
    (("Table 1", "our", "60M"), "no method 'our'. Did you mean 'ours'"),
    (("Table 1", "ours", "130M"), "method 'ours': no column '130M'"),
  ],
)
def test_a_number_that_is_not_there_is_named(read, place, said):
  with pytest.raises(errors.UserError, match=r"norms/targets\.toml") as error:
    read().number(*place)
  assert said in str(error.value)


OURS = 'method = "ours", column = "60M", value = 26.95, pm = 0.02'
WHERE = "table 'Table 1', method 'ours', column '60M': "


@pytest.mark.parametrize(
  ("old", "new", "said"),
  [
    (f'{OURS}, mark = "paper"', OURS, WHERE + "no 'mark'."),
    (f'{OURS}, mark = "paper"', f'{OURS}, mark = "p"', "mark='p'; allowed: pa"),
    ("value = 26.95", 'value = 26.95, text = "x"', WHERE + "both of value and"),
    ("value = 26.95, pm = 0.02, ", "", WHERE + "neither of value and text"),
    ("value = 26.95", "value = nan", WHERE + "value=nan; allowed: a finite"),
    ("value = 26.95", "value = inf", WHERE + "value=inf"),
    ("value = 26.95", 'value = "26"', WHERE + "value='26'"),
    ("value = 26.95", "value = true", WHERE + "value=True"),
    ("value = 26.95", f"value = 1{'0' * 400}", WHERE + "value=1000"),
    ("pm = 0.02", "pm = -1", WHERE + "pm=-1; allowed: a finite number >= 0"),
    ("pm = 0.02", "pn = 0.02", WHERE + "unknown key 'pn'. Did you mean 'pm'"),
    ('text = "diverged"', 'text = "d", pm = 1.0', "pm=1.0 without a value"),
    ('text = "diverged"', 'text = " "', "text=' '; allowed: a text that is n"),
    ('method="theirs"', 'method="ours"', WHERE + "it is there twice"),
    ('source = "Table 1 of the paper"\n', "", WHERE + "no source, nor has its"),
    ('kind = "result"', 'kind = "r"', "table 'Table 1': kind='r'; allowed: re"),
    ('id = "Table 12"', 'id = "Table 1"', "table 'Table 1' is there twice"),
    ('id = "Table 12"\n', "", "table 2: no 'id'"),
    ('claim = "A norm helps."', "", "no 'claim'"),
    ('claim = "A norm helps."', 'claims = "a"', "unknown key 'claims'"),
    ('applies = "Table 1"\n', "", "protocol 1: no 'applies'"),
    ('source = "code"\n', "", "trap 1: no 'source'"),
    ("[[traps]]", "[[traps", "is no TOML file"),
    ('claim = "A norm helps."', 'claim = "a"\ncounts = { paper = 2 }',
     "counts.paper=2, but 3 numbers have that mark"),
  ],
)  # fmt: skip
def test_a_faulty_file_is_refused_with_the_place(read, old, new, said):
  with pytest.raises(errors.UserError, match=r"norms/targets\.toml") as error:
    read((old, new))
  assert said in str(error.value)
  assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_named(write_targets, tmp_path):
  write_targets()
  file = tmp_path / "experiments" / "norms" / "targets.toml"
  file.write_bytes(b"title = '\xff'")
  with pytest.raises(errors.UserError, match="is no TOML file"):
    targets.read("norms")


def test_a_paper_that_is_not_there_has_near_misses(write_targets):
  write_targets()
  with pytest.raises(errors.UserError, match="Did you mean 'norms'"):
    targets.read("norm")
  with pytest.raises(errors.UserError, match="no experiments"):
    targets.read("../experiments/norms")


def test_traps_of_another_table_are_left_out(read):
  found = read()
  about = {t.text for t in found.traps_of("Table 1")}
  assert about == {"The loss is divided by n + 1."}
  assert len(found.traps_of("Table 12")) == 2
  assert {t.text for t in found.traps_of(None)} == about


def _table(*cells: papers.Cell, target: str | None = "Table 1") -> papers.Table:
  return papers.Table("t", "norms", target, cells, (), "two cores", "All.")


def test_every_number_that_cells_ask_for_is_looked_at(read):
  read()
  ours = papers.Cell("a", paper=("ours", "60M"))
  other = papers.Cell("b", paper=("Table 12", "ours", "top-1"))
  assert targets.check(_table(ours, other)).arxiv == "2001.00001"
  with pytest.raises(errors.UserError, match="no method 'x'"):
    targets.check(_table(papers.Cell("a", paper=("x", "60M"))))
  with pytest.raises(errors.UserError, match="names no table"):
    targets.check(_table(ours, target=None))
  with pytest.raises(errors.UserError, match="no table 'Table 3'"):
    targets.check(_table(papers.Cell("a"), target="Table 3"))


def test_sources_are_what_a_reader_can_look_up():
  hidden = re.compile(
    r"specs/|\bby the spec\b|the spec\"|\(R\d\)|do not (use|publ)"
  )
  files = [*places.experiments_dir().glob("*/*.toml")]
  assert len(files) > 20
  for file in files:
    assert not hidden.search(file.read_text()), file
