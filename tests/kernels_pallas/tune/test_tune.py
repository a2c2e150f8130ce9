"""The search for tiles, and what becomes of what it finds."""

import json
import types
import warnings

import jax
import jax.numpy as jnp
import pytest

from kernels_pallas import (
  OPS,
  aot,
  contract,
  device_file,
  dispatch,
  programs,
  proved,
  tiles,
  tuned,
)
from kernels_pallas.bench import passes
from kernels_pallas.rms_norm import api
from kernels_pallas.tune import __main__ as command
from kernels_pallas.tune import search, subjects

KIND = "NVIDIA H200"
CANDIDATE = "rms_norm/mosaic_gpu"
ROWS = (8192, 4096, jnp.bfloat16)
KEY = f"{CANDIDATE} forward 4096 bfloat16 arrays=1 vectors=1"
TILE = {"rows": 2, "ctas": 3, "ahead": 1, "wide": 0}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
  """No device has tuned anything, whatever is committed; and it is an H200."""
  monkeypatch.setattr(device_file, "RESULTS", tmp_path)
  target = programs.Target("gpu", KIND, 1)
  monkeypatch.setattr(programs, "target", lambda *_: target)
  device_file.forget()
  tuned._warn.cache_clear()
  yield tmp_path
  device_file.forget()


def tile():
  options = {"arrays": 1, "vectors": 1, "kernel": f"{CANDIDATE} forward"}
  return tiles.gpu(*ROWS, **options)


def test_a_tuned_tile_is_taken_for_its_kernel_alone():
  computed = tile()
  tuned.keep(KIND, CANDIDATE, KEY, TILE, "2026-01-02")
  found = tile()
  assert (found.rows, found.ctas, found.ahead) == (2, 3 * 132, True)
  assert tiles.gpu(*ROWS, arrays=1, vectors=1) == computed
  # A block divides the rows, whatever was tuned.
  odd = tiles.gpu(
    7, *ROWS[1:], arrays=1, vectors=1, kernel=f"{CANDIDATE} forward"
  )
  assert odd.rows == 1
  # What is known of another pass stays.
  other = KEY.replace("forward", "backward")
  tuned.keep(KIND, CANDIDATE, other, TILE, "2026-01-03")
  assert tile() == found
  # The computed one is as fast now.
  for key in (KEY, other):
    tuned.keep(KIND, CANDIDATE, key, None, "2026-01-04")
  assert tile() == computed
  assert device_file.read(KIND, device_file.TILES) == {}


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"source": "x"}, "are of another source, and not used"),
    ({"jax": "0.1"}, "are of another jax, and not used"),
    ({"choices": {KEY: {**TILE, "rows": 3}}}, "rows=3; allowed: 1, 2, 4, 8."),
    ({"choices": {KEY: {**TILE, "ctas": 0}}}, "ctas=0; allowed: 1 to 32."),
    ({"choices": {KEY: {"rows": 2}}}, "needed: rows, ctas, ahead, wide."),
    ({"choices": []}, "are damaged, and not used"),
  ],
)
def test_what_does_not_hold_is_not_used_and_says_so(change, said, results):
  computed = tile()
  tuned.keep(KIND, CANDIDATE, KEY, TILE, "2026-01-02")
  file = results / "nvidia_h200.json"
  content = json.loads(file.read_text())
  content["tiles"][CANDIDATE] |= change
  file.write_text(json.dumps(content))
  device_file.forget()
  with pytest.warns(UserWarning, match="nvidia_h200.json") as caught:
    assert tile() == computed
  assert said in str(caught[0].message)


def test_a_damaged_file_has_no_tiles(results):
  computed = tile()
  (results / "nvidia_h200.json").write_text("{")
  device_file.forget()
  with pytest.warns(UserWarning, match="is damaged"):
    assert tile() == computed
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    tile()  # It is said once.


def test_a_proof_holds_for_the_tiles_that_it_was_made_with():
  (function,) = (
    c.function for c in api.OP.candidates if c.name == "mosaic_gpu"
  )

  def reason():
    return proved.missing("rms_norm", "mosaic_gpu", function, KIND)

  proved.keep(KIND, {CANDIDATE: proved.of(function)})
  assert reason() is None
  tuned.keep(KIND, CANDIDATE, KEY, TILE, "2026-01-02")
  assert "other tiles were tuned" in reason()
  tiles_now = proved.tiles_of("rms_norm", "mosaic_gpu", KIND)
  proved.keep(KIND, {CANDIDATE: {**proved.of(function), "tiles": tiles_now}})
  assert reason() is None


def test_a_tile_that_no_kernel_takes_is_named():
  with tuned.recording() as asked:
    tile()
  with (
    pytest.raises(ValueError, match=rf"{KEY}: rows=16; allowed: 1, 2, 4, 8"),
    tuned.trying(asked[KEY], {**TILE, "rows": 16}),
  ):
    pass
  with tuned.trying(asked[KEY], TILE):
    assert tile().rows == 2


@pytest.mark.parametrize("op", sorted({*OPS} - {"attention"}))
@pytest.mark.parametrize(
  ("impl", "target"), [("mosaic_gpu", "h200"), ("pallas_tpu", "v6e")]
)
def test_each_kernel_asks_by_its_own_name(op, impl, target):
  """Each pass for a tile; what is tuned of it is found by that name."""
  spec = passes.specs(op)[0]
  with aot.abstract(target):
    found = search.asks(lambda: passes.of_op(op, spec, impl))
  assert {ask.candidate for _, ask in found} == {f"{op}/{impl}"}
  assert {which for which, _ in found} == {
    *range(1 + bool(spec.differentiated))
  }
  for _, ask in found:
    assert not any(map(ask.problem, ask.options()))
    assert tuned._function(ask.candidate)


ASK = tuned.Ask(
  "double/kernel forward",
  "8",
  {"rows": 2, "ctas": 4},
  {"rows": (1, 2, 4, 8), "ctas": range(1, 33)},
  {"rows": (1, 2, 4, 8), "ctas": (4, 16)},
)


def made():
  """A pass whose program depends on its tile."""
  rows = tuned.choose(ASK)["rows"]
  shape = jax.ShapeDtypeStruct((8,), jnp.float32)
  return [passes.Pass("forward", lambda x: x * rows, (shape,))]


@pytest.fixture
def compiler(monkeypatch):
  """Eight rows fit no memory, four spill, one moves more."""

  def compile(function, *arguments, target, donate):
    rows = int(function(jnp.ones(8))[0])
    if rows == 8:
      raise RuntimeError("Ran out of memory in memory space vmem.\nmore")
    moved, spilled = {1: 130, 2: 100, 4: 100}[rows], 64 * (rows == 4)
    return aot.Compiled(moved, 1, 0, 100, spilled, (), "")

  monkeypatch.setattr(aot, "compile", compile)
  monkeypatch.setattr(aot, "missing", lambda target: None)


def test_tiles_are_pruned_by_compiling(compiler):
  found = {
    tuple(option.tile.values()): option.pruned
    for option in search.pruned(made, 0, ASK, "h200")
  }
  assert found == {
    (2, 4): "",
    # 100 registers of 128 threads let five run.
    (2, 16): "100 registers let 5 CTAs run, not 16",
    (1, 4): "moves 1.30 of the bytes",
    (1, 16): "moves 1.30 of the bytes",
    (4, 4): "spills 64 bytes",
    (4, 16): "spills 64 bytes",
    (8, 4): "RuntimeError: Ran out of memory in memory space vmem.",
    (8, 16): "RuntimeError: Ran out of memory in memory space vmem.",
  }


@pytest.mark.parametrize(
  ("times", "rows"), [((10, 9, 8), 4), ((10, 9.9, 12), None), ((9, 9, 9), None)]
)
def test_the_fastest_is_kept_if_it_gains(times, rows):
  options = [
    search.Option(ASK, 0, {"rows": n, "ctas": 4}, seconds=[time])
    for n, time in zip((2, 1, 4), times, strict=True)
  ]
  best = search.fastest([*options, search.Option(ASK, 0, {}, pruned="spills")])
  assert (best and best.tile["rows"]) == rows


def test_a_tiny_search_runs_anywhere(tmp_path, capsys, results, monkeypatch):
  # Interpreted, a kernel for a GPU takes seconds.
  monkeypatch.delitem(contract.BACK_ENDS, "mosaic_gpu")
  out = tmp_path / "new" / "tiles.json"
  assert command.main(["--tiny", "--op=rms_norm", f"--out={out}"]) == 0
  found = json.loads(out.read_text())["results"]
  by_kernel = {}
  for record in found:
    by_kernel.setdefault(record["key"].split(" 128")[0], []).append(record)
  assert by_kernel.keys() == {
    f"rms_norm/pallas_tpu {which}" for which in ("forward", "backward")
  }
  for records in by_kernel.values():
    assert [record["computed"] for record in records] == [True, False]
    assert all(record["median_s"] > 0 for record in records)
    assert records[0]["tile"] != records[1]["tile"]
  assert "this says that the search runs, no more" in capsys.readouterr().out
  assert not (results / "nvidia_h200.json").exists()


def test_what_a_device_times_is_kept(monkeypatch, results, capsys):
  """The search as it is on a chip, with a clock of its own."""
  subject = subjects.Subject(
    "rms_norm",
    "mosaic_gpu",
    "x",
    lambda: [passes.Pass("forward", tile_of, (jnp.ones(1),))],
  )

  def tile_of(x):
    return x * tile().rows

  def of_pass(found, each, repeats):
    rows = int(each.function(jnp.ones(()))) if each.function else 0
    return [1 / rows], "profiler"

  device = types.SimpleNamespace(device_kind=KIND)
  monkeypatch.setattr(jax, "devices", lambda: [device])
  monkeypatch.setattr(subjects, "every", lambda ops, part: [subject])
  monkeypatch.setattr(search.timed, "of_pass", of_pass)
  monkeypatch.setattr(aot, "missing", lambda target: "not installed")
  assert command.main(["--op=rms_norm"]) == 0
  assert "now prove the kernels" in capsys.readouterr().out
  assert tile().rows == 8
  content = json.loads((results / "nvidia_h200.json").read_text())
  assert content["tiles"][CANDIDATE]["choices"][KEY]["rows"] == 8


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (["--op=rms"], "--op=rms: no rms; known: "),
    (["--target=h100"], "--target=h100: no h100; known: h200, v5e, v6e."),
    (["--spec=77"], "--spec=77: in no name of arguments; known: 8192 x 512"),
    (["--repeats=0"], "--repeats=0: 1 or more."),
    (["--tiny", "--target=v6e"], "--tiny compiles for no --target"),
    (["--out=/dev/null/a.json"], "cannot write it"),
  ],
)
def test_bad_flags_are_named(flags, words, capsys):
  given = ["--op=rms_norm"] if "--op" not in flags[0] else []
  with pytest.raises(SystemExit) as caught:
    command.main([*given, *flags])
  assert caught.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert words in line


def test_no_kernel_for_the_device_here(monkeypatch, capsys):
  cpu = dispatch.Target("cpu", "cpu", 1)
  monkeypatch.setattr(programs, "target", lambda *_: cpu)
  monkeypatch.setattr(dispatch, "target", lambda *_: cpu)
  assert command.main(["--op=rms_norm", "--spec=512 bfloat16"]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line == (
    "No tile of rms_norm on 512 bfloat16 to time on cpu; --target compiles for"
    " a chip that is not here."
  )
