"""Where experiments are looked for, and in which order."""

from normjax import beside
from normjax.papers import places
from tests import support


def test_a_users_own_come_before_ours(tmp_path, monkeypatch):
  root, other = tmp_path / "root", tmp_path / "other"
  root.mkdir()
  other.mkdir()
  monkeypatch.chdir(other)
  monkeypatch.setattr(beside, "_place", None)
  ours = support.ROOT / "experiments"
  assert [p.resolve() for p in places.folders()] == [
    other / "experiments", ours,
  ]  # fmt: skip
  monkeypatch.setattr(beside, "_place", root)
  assert [p.resolve() for p in places.folders()] == [
    root / "experiments", other / "experiments", ours,
  ]  # fmt: skip
  for folder in (root, other):
    file = folder / "experiments" / "norms" / "targets.toml"
    file.parent.mkdir(parents=True)
    file.write_text("")
  assert places.find("norms", "targets.toml") == (
    root / "experiments" / "norms" / "targets.toml"
  )
  assert places.find("norms", "results", "x.json") is None


def test_a_folder_that_is_ours_is_looked_in_once(monkeypatch):
  monkeypatch.chdir(support.ROOT)
  monkeypatch.setattr(beside, "_place", support.ROOT)
  assert [p.resolve() for p in places.folders()] == [
    support.ROOT / "experiments"
  ]
