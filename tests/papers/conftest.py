"""A user's folder with one paper's targets."""

import pytest

from normjax import beside

TARGETS = """\
title = "A paper | of norms"
arxiv = "2001.00001"
code = "owner/name"
claim = "A norm helps."

[[tables]]
id = "Table 1"
kind = "result"
metric = "perplexity"
direction = "lower"
source = "Table 1 of the paper"
rows = [
  { method = "ours", column = "60M", value = 26.95, pm = 0.02, mark = "paper" },
  {method="theirs", column="60M", value=27, mark="secondary", source="s"},
  { method = "none", column = "60M", text = "diverged", mark = "paper" },
  { method = "memory", column = "60M", value = 30.5, mark = "unverified" },
]

[[tables]]
id = "Table 12"
kind = "independent"
metric = "accuracy"
direction = "higher"
units = "%"
source = "a run by others"
rows = [{ method = "ours", column = "top-1", value = 97.7, mark = "paper" }]

[[protocol]]
applies = "Table 1"
lr = 1e-3
mark = "paper"
source = "appendix"

[[traps]]
text = "The loss is divided by n + 1."
mark = "paper"
source = "code"

[[traps]]
text = "Table 12 counts the best epoch."
mark = "secondary"
source = "Table 1"
"""


@pytest.fixture
def write_targets(tmp_path, monkeypatch):
  """Writes a user's targets of paper "norms", and looks for them there."""

  def write(text: str = TARGETS) -> None:
    folder = tmp_path / "experiments" / "norms"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "targets.toml").write_text(text)

  monkeypatch.setattr(beside, "_place", tmp_path.resolve())
  return write
