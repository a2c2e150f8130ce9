"""What is wrong with a table, or with what is asked of it, is named."""

import pytest

from normjax import errors
from tests.reproduce.toy_parts import TWO_PARTS


@pytest.mark.parametrize(
  ("change", "options", "said"),
  [
    ({}, {"name": "tyo"}, "no table 'tyo'. Did you mean 'toy'"),
    ({}, {"name": "nowhere/toy.py"}, "no config file 'nowhere/toy.py'"),
    (
      {},
      {"name": "configs/papers/toy.py:proxy"},
      "a table's scale is given as --scale=proxy",
    ),
    (
      {},
      {"scale": "small"},
      "--scale=small: configs/papers/toy.py does not have it; its scales:"
      " proxy, paper.",
    ),
    ({}, {"rows": "z"}, "--rows='z' matches no row. Rows: a, b."),
    (
      {
        "cells": 'papers.Cell("a"), papers.Cell("b", "x", method="bb")',
        "expected": "",
      },
      {"rows": "z"},
      "--rows='z' matches no row. Rows: a, b; columns: x.",
    ),
    ({}, {"rows": "("}, "--rows='(' is not a regular expression"),
    ({}, {"seeds": [7]}, "has no seed 7; its seeds: 1, 2."),
    ({}, {"seeds": []}, "--seeds: names no seed."),
    (
      TWO_PARTS,
      {"rows": "exact", "seeds": [1]},
      "--seeds has no effect: what was chosen of configs/papers/toy.py is",
    ),
    (
      {"cells": 'papers.Cell("a"), papers.Cell("b")'},
      {},
      "cell 'b' is of method 'b', which the sweep of part 'sweep' does not"
      " have. Methods: a, bb.",
    ),
    (
      {
        "cells": 'papers.Cell("a", paper=("x", "loss")),'
        ' papers.Cell("b", method="bb")'
      },
      {},
      "no method 'x'",
    ),
    (
      {"replacing": ("def table", "def tabel")},
      {},
      "configs/papers/toy.py defines no table()",
    ),
    (
      {"replacing": ("SCALES =", "SCALE =")},
      {},
      "configs/papers/toy.py: SCALES=None; needed: some of proxy, small, paper",
    ),
    (
      {"replacing": ('("proxy", "paper")', '("proxy", "tiny")')},
      {},
      "SCALES=('proxy', 'tiny'); needed",
    ),
    (
      {"replacing": ('title="Names"', 'title="Names" + 1')},
      {},
      "table('proxy') of configs/papers/toy.py failed: TypeError",
    ),
    (
      {"replacing": ("return papers.Table", "return dict")},
      {},
      "returned dict; a papers.Table is needed",
    ),
    (
      {"replacing": ("def sweep", "def swep")},
      {},
      "toy.py:proxy defines no sweep()|toy.py defines no sweep()",
    ),
    (
      {
        "cells": 'papers.Cell("a", part="measure")',
        "expected": "",
        "parts": '"measure",',
        "replacing": ("def measure", "def mesure"),
      },
      {},
      "defines no measure(scale)",
    ),
    (
      {"parts": '"sweep", "../up"'},
      {},
      "Table.parts: '../up' in ['sweep', '../up']; each is a folder",
    ),
    (
      {
        "cells": 'papers.Cell("exact", part="measure")',
        "expected": "",
        "parts": '"measure",',
      },
      {"overrides": {"toy.width": 3}},
      "override of 'toy.width' has no effect",
    ),
  ],
)
def test_bad_input_is_named_and_writes_nothing(project, change, options, said):
  project.write(**change)
  with pytest.raises(errors.UserError) as caught:
    project.run(**options)
  assert any(each in str(caught.value) for each in said.split("|"))
  assert not (project.folder / "runs").exists()


def test_the_second_parts_bad_input_ends_before_the_first_part(project):
  cells = TWO_PARTS["cells"].replace("ccc", "cc")
  project.write(**{**TWO_PARTS, "cells": cells})
  with pytest.raises(errors.UserError, match="part 'more' does not have"):
    project.run()
  assert not (project.folder / "runs").exists()


def test_a_target_without_provenance_is_no_target(project):
  text = project.targets.read_text()
  project.targets.write_text(text.replace(', mark = "paper"', ""))
  with pytest.raises(errors.UserError, match=r"targets.toml.*'a'.*mark"):
    project.run()
