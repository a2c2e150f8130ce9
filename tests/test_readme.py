"""The README's Python runs, and the files it names exist."""

import re

import pytest

from normjax import configure, models
from normjax.models import transformer, vit
from normjax.nn import initial, mixing, placement, residual_scaling
from normjax.norms import weights
from tests import support

TEXT = (support.ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.splitlines()[0])
def test_python_blocks_run(block):
  names = {}
  exec(compile(block, "README.md", "exec"), names)
  if "sweep" in names:
    assert len(names["sweep"]().methods) == 4
    names["get_config"]()


def test_there_are_blocks():
  assert len(BLOCKS) >= 3


def test_files_that_are_named_exist():
  named = re.findall(r"(?:configs|tests|experiments)/[\w/]+\.(?:py|md)", TEXT)
  assert "configs/sweeps/quickstart.py" in named
  for path in named:
    if "max_norm" not in path:
      assert (support.ROOT / path).exists(), path


def test_every_component_is_mentioned():
  for folder in configure.COMPONENTS.values():
    files = [*(configure.configs_dir() / folder).glob("*.py")]
    assert files, folder
    for file in files:
      assert file.stem in TEXT, file


def test_every_norm_of_weights_is_mentioned():
  for name in weights.names():
    assert f"| `{name}` |" in TEXT, name


def test_every_choice_of_a_transformer_is_mentioned():
  tables = (initial.TABLE, placement.TABLE, residual_scaling.TABLE)
  names = {name for table in tables for name in table.names()}
  names |= {*models.names(), *mixing.names()}
  names |= {*transformer.LLAMA_SIZES, *transformer.GPT2_SIZES, *vit.SIZES}
  words = set(re.findall(r"\w+", TEXT))
  assert not names - words
