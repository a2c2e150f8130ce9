"""Runs the notebooks beside this file and keeps what they show.

    python notebooks/execute.py [FILE.ipynb …]

Each runs in an empty folder. Its outputs are committed, so that it reads on a
web page; what names a machine or a moment is left out of the file.
"""

import base64
import hashlib
import io
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image
from traitlets.config import Config

FOLDER = Path(__file__).resolve().parent
_TIMEOUT_S = 600
_COLORS = 128


def notebooks() -> list[Path]:
  """All notebooks, in order."""
  return sorted(FOLDER.glob("*.ipynb"))


def source_hash(notebook: nbformat.NotebookNode) -> str:
  """Of what the outputs come from: the code cells, in order."""
  code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
  return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def run(path: Path, folder: str | Path) -> nbformat.NotebookNode:
  """The notebook with new outputs; the file stays as it is.

  Args:
    path: of the notebook.
    folder: where it runs, empty.

  Raises:
    CellExecutionError: a cell fails; the message has the cell.
    RuntimeError: a cell writes to standard error, as warnings do.
  """
  notebook = nbformat.read(path, as_version=4)
  # Files in place of ports: nobody else on the machine can listen.
  with tempfile.TemporaryDirectory() as sockets:
    channels = {"transport": "ipc", "ip": f"{sockets}/kernel"}
    NotebookClient(
      notebook,
      timeout=_TIMEOUT_S,
      kernel_name="python3",
      record_timing=False,
      resources={"metadata": {"path": str(folder)}},
      config=Config({"KernelManager": channels}),
    ).execute(env=_environment())
  for cell in notebook.cells:
    for output in cell.get("outputs", ()):
      if output.get("name") == "stderr":
        raise RuntimeError(
          f"{path.name} writes to standard error:\n{output.text}\nin the cell\n"
          f"{cell.source}"
        )
  return cleaned(notebook)


def _environment() -> dict[str, str]:
  """One CPU device and this checkout, whoever calls."""
  env = {key: text for key, text in os.environ.items() if key != "XLA_FLAGS"}
  paths = [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
  return env | {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    # ipykernel's debugger; it is not attached.
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
  }


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
  """The notebook as it is committed: small figures, nothing of this machine."""
  notebook.metadata = nbformat.from_dict(
    {
      "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
      },
      "language_info": {"name": "python"},
      "outputs_of": source_hash(notebook),
    }
  )
  for number, cell in enumerate(notebook.cells):
    cell.id = f"cell-{number}"
    cell.metadata = nbformat.from_dict({})
    for output in cell.get("outputs", ()):
      output.pop("metadata", None)
      if "data" in output:
        output.metadata = nbformat.from_dict({})
      if "image/png" in output.get("data", {}):
        # Its text form is a size and an address in memory.
        output.data = nbformat.from_dict(
          {"image/png": _small(output.data["image/png"])}
        )
  return notebook


def _small(png: str) -> str:
  """The figure with few colors: a third of the bytes."""
  with Image.open(io.BytesIO(base64.b64decode(png))) as image:
    few = image.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
  out = io.BytesIO()
  few.save(out, "png", optimize=True)
  return base64.b64encode(out.getvalue()).decode()


def main(paths: list[str]) -> None:
  """Runs the named notebooks, or all, and writes them back."""
  for path in map(Path, paths) if paths else notebooks():
    with tempfile.TemporaryDirectory() as folder:
      nbformat.write(run(path, folder), path)
    print(path.name)


if __name__ == "__main__":
  main(sys.argv[1:])
