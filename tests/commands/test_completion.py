"""What a shell completes, asked of the function that it would call."""

import re
import shlex
import shutil
import subprocess

import pytest

from normjax import cli
from normjax.commands import completion
from normjax.norms import TABLE

# A line as typed, and bash's words of it, which end at `=`.
_ASK = """
ask() {
  COMP_LINE=$1; COMP_POINT=${#1}; shift
  COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _normjax
  printf '%s|' "${COMPREPLY[@]}"; echo
}
"""
CASES = {
  "normjax sw": ["sweep "],
  "normjax list no": ["norms "],
  "normjax sweep --dr": ["--dry_run "],
  "normjax sweep --nocom": ["--nocompile "],
  "normjax train c.py --ou": ["--out="],
  "normjax train c.py --config.norm.na": ["--config.norm.name="],
  "normjax train c.py --config.model.num_l": ["--config.model.num_layers="],
  # An option of a component that the default config does not have.
  "normjax train --config.optimizer.ns_st": ["--config.optimizer.ns_steps="],
  "normjax train c.py --config.norm.name=rms": ["rms_norm "],
  "normjax train --config.log.wandb=": ["True ", "False "],
  "normjax bench --model=lla": ["llama_60m "],
  "normjax reproduce --sca": ["--scale="],
  "normjax reproduce x --scale=pro": ["proxy "],
  "normjax report --config.": [""],  # It reads no config.
  "normjax train configs/de": [""],  # The shell's own: files.
  "normjax train ": [""],
}


def _words(text):
  """A line as bash splits it; an `=` is a word, and may be the last."""
  spaced = re.sub("=(?=.)", " = ", text)
  spaced = re.sub("=$", " =", spaced)
  return " ".join(map(shlex.quote, spaced.split(" ")))


@pytest.fixture(scope="module")
def scripts():
  return {
    shell: completion._HEADS[shell] + completion._script()
    for shell in ("bash", "zsh")
  }


def test_bash_completes(scripts):
  asked = [*CASES, "normjax ", "normjax x --config.norm.name="]
  lines = [f"ask {shlex.quote(text)} {_words(text)}" for text in asked]
  done = subprocess.run(
    ["bash", "--norc", "-c", "\n".join([scripts["bash"], _ASK, *lines])],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert not done.stderr
  *told, first, norms = [
    line.removesuffix("|").split("|") for line in done.stdout.splitlines()
  ]
  assert dict(zip(CASES, told, strict=True)) == CASES
  assert {word.strip() for word in first} == set(cli.COMMANDS)
  assert {word.strip() for word in norms} == set(TABLE)


def test_zsh_reads_the_script(scripts):
  if shutil.which("zsh") is None:
    pytest.skip("zsh is not installed")
  subprocess.run(["zsh", "-n"], input=scripts["zsh"], text=True, check=True)


@pytest.mark.parametrize(
  ("given", "said"),
  [
    (["fish"], "Shells: bash, zsh"),
    (["bsh"], "Did you mean 'bash'"),
    ([], "0"),
  ],
)
def test_another_shell_is_refused(capsys, given, said):
  assert cli.main(["completion", *given]) == 2
  assert said in capsys.readouterr().err
