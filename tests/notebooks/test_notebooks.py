"""The notebooks run as they are, and show what their code gives."""

import base64
import importlib.util
import io
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from PIL import Image

from tests import support

FOLDER = support.ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
_by_name = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
# Of one file, so that a change of a notebook reads as a small difference.
MOST_BYTES = 200_000


def load_execute():
  """The script that `make notebooks` calls."""
  spec = importlib.util.spec_from_file_location(
    "execute", FOLDER / "execute.py"
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


execute = load_execute()


def code(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_they_are_in_the_order_of_their_letters():
  assert "".join(path.stem[0] for path in PATHS) == "abcde"
  assert execute.notebooks() == PATHS


@_by_name
def test_outputs_are_those_of_the_code(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  assert notebook.metadata.outputs_of == execute.source_hash(notebook), (
    f"{path.name} was edited after it ran; `make notebooks` runs it"
  )
  assert [cell.execution_count for cell in code(notebook)] == list(
    range(1, 1 + len(code(notebook)))
  )


@_by_name
def test_outputs_are_of_no_machine_and_small(path):
  assert path.stat().st_size < MOST_BYTES
  notebook = nbformat.read(path, as_version=4)
  figures = 0
  for cell in notebook.cells:
    for output in cell.get("outputs", ()):
      assert output.output_type != "error", cell.source
      assert output.get("name") != "stderr", output.text
      data = output.get("data", {})
      if "image/png" in data:
        png = io.BytesIO(base64.b64decode(data["image/png"]))
        with Image.open(png) as image:
          assert image.mode == "P"
          assert image.width <= 1000
        figures += 1
      for text in (output.get("text", ""), *map(str, data.values())):
        assert not re.search(r" at 0x[0-9a-f]+|/(home|root|tmp|Users)/", text)
        assert str(support.ROOT) not in text
  assert figures >= 3


def test_a_changed_cell_changes_the_hash():
  cell = nbformat.v4.new_code_cell
  first = nbformat.v4.new_notebook(cells=[cell("1 + 1"), cell("2")])
  text = nbformat.v4.new_markdown_cell("words")
  same = nbformat.v4.new_notebook(cells=[text, cell("1 + 1"), cell("2")])
  other = nbformat.v4.new_notebook(cells=[cell("1 + 1"), cell("3")])
  assert execute.source_hash(first) == execute.source_hash(same)
  assert execute.source_hash(first) != execute.source_hash(other)


def run(path):
  """`make notebooks` of one; a process, whose sockets end with it."""
  return subprocess.run(
    [sys.executable, str(FOLDER / "execute.py"), str(path)],
    capture_output=True,
    text=True,
  )


@pytest.mark.slow
@_by_name
def test_runs_without_a_warning_from_an_empty_folder(path, tmp_path):
  copy = tmp_path / path.name
  shutil.copy(path, copy)
  done = run(copy)
  assert done.returncode == 0, done.stderr
  assert [path.name for path in tmp_path.iterdir()] == [copy.name]
  made, committed = (nbformat.read(each, as_version=4) for each in (copy, path))
  assert list(map(shown, code(made))) == list(map(shown, code(committed)))


def shown(cell):
  """What kinds of things a cell shows; numbers may differ by machine."""
  return [(o.output_type, sorted(o.get("data", {}))) for o in cell.outputs]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("source", "said"),
  [
    ("import warnings\nwarnings.warn('hm')", "UserWarning: hm"),
    ("1 / 0", "ZeroDivisionError"),
  ],
)
def test_a_warning_or_an_error_leaves_the_file(source, said, tmp_path):
  path = tmp_path / "faulty.ipynb"
  cells = [nbformat.v4.new_code_cell(source)]
  nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
  before = path.read_bytes()
  done = run(path)
  assert done.returncode != 0
  assert said in done.stderr
  assert path.read_bytes() == before
