"""Files among the leases that no launcher made, or that none finds again."""

import json

import pytest

from normjax.record import heartbeat, lease


@pytest.fixture
def leases(tmp_path):
  """Makes launchers of this process on one sweep."""
  made = []

  def make():
    made.append(lease.Leases(tmp_path).__enter__())
    return made[-1]

  yield make
  for each in made:
    each.__exit__()


SOMEBODY = {
  "token": "0" * 16,
  "host": "far",
  "boot": "b",
  "pid": 1,
  "started_unix_s": 0.0,
}


@pytest.mark.parametrize(
  "content",
  [
    "[" * 100_000,
    *(
      json.dumps({"launcher": SOMEBODY | change, "word": "held", "message": ""})
      for change in (
        {"token": "\0"},
        {"token": "../" * 400},
        {"started_unix_s": "today"},
      )
    ),
  ],
)
def test_what_no_launcher_wrote_is_waited_for_like_half_a_lease(
  leases, content
):
  a = leases()
  (a._folder / "r.1").write_text(content)
  assert a.take("r").launcher is None


def test_a_launcher_s_file_that_is_none_stops_nobody(tmp_path, leases):
  folder = leases()._folder
  (folder / "x.launcher").mkdir()
  (folder / "y.launcher").write_text("[" * 100_000)
  for number, started_s in enumerate(("today", 1.0)):
    text = json.dumps(SOMEBODY | {"started_unix_s": started_s})
    (folder / f"{number}.launcher").write_text(text)
  assert len(heartbeat.launchers(folder)) == 2
  assert leases().take("r") is None


def test_the_end_of_a_process_leaves_no_gap_in_a_run_s_files(
  leases, monkeypatch
):
  """Behind one a later number would not be seen."""
  a, b = leases(), leases()
  for own in (a, b, a):
    own.take("r")
    own.release("r")
  unlink = lease.Path.unlink

  def ends(path, missing_ok=False):
    unlink(path, missing_ok)
    raise KeyboardInterrupt

  monkeypatch.setattr(lease.Path, "unlink", ends)
  with pytest.raises(KeyboardInterrupt):
    a.forget("r")
  monkeypatch.undo()
  left = sorted(path.name for path in a._folder.glob("r.*"))
  assert left == [f"r.{n}" for n in range(1, 6)]
