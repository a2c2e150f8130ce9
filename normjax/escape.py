"""Text of users' as each output writes it: one function an output.

A label, a path or an error message may hold anything. HTML is escaped by the
page's template, CSV by its writer; figures read no markup at all.
"""

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from rich.text import Text

# Turn the direction of what follows, which would rearrange a table.
_DIRECTIONS = frozenset(
  "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def plain(text: str, keep: str = "") -> str:
  r"""Text whose every character is seen, as "a\nb" for two lines.

  Args:
    text: may hold control characters, lone surrogates, changes of direction.
    keep: characters that stay as they are.
  """
  if text.isascii() and text.isprintable():  # Nearly every one.
    return text
  return "".join(
    c if c in keep or not _is_unseen(c) else _python_escape(c) for c in text
  )


def _is_unseen(character: str) -> bool:
  kind = unicodedata.category(character)
  return kind in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS


def _python_escape(character: str) -> str:
  return repr(character)[1:-1]


def lines(text: str) -> str:
  """For `print`: lines stay lines, all else that is unseen is shown."""
  return plain(text, keep="\n")


def terminal(text: str, style: str = "") -> "Text":
  """For a rich console or table: no markup, no emoji codes, no highlights."""
  from rich.text import Text  # Late: `normjax --help` must not pay for it.

  return Text(lines(text), style=style)


_ENTITY = re.compile(r"&(?=#?\w+;)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_MARKS = re.compile(r"([\\`*|~$])")
# Inside a word an underscore is only itself.
_OUTER_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
# Links, references and footnotes; other brackets are only themselves.
_LINK = re.compile(r"\[(?=\^)|\](?=[(\[:])")
_START = re.compile(r"^(\s*)([-+#>=\[])")
_NUMBER = re.compile(r"^(\s*\d+)([.)])(?=\s|$)")


def markdown(text: str) -> str:
  """For a cell of a table in GitHub's Markdown."""
  text = _MARKS.sub(r"\\\1", plain(text))
  text = _ENTITY.sub("&amp;", text)
  text = _TAG.sub("&lt;", text)
  text = _OUTER_UNDERSCORE.sub(r"\_", text)
  return _LINK.sub(lambda found: "\\" + found[0], text)


def markdown_item(text: str) -> str:
  """The same where it begins a block, so that it begins no other one."""
  text = markdown(text)
  text = _NUMBER.sub(r"\1\\\2", text)
  return _START.sub(r"\1\\\2", text)


_TEX = {
  "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
  "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
  "|": r"\textbar{}", "`": "{`}",
  # After \\ and \midrule these would begin an argument.
  "[": "{[}", "]": "{]}", "*": "{*}",
  "±": r"$\pm$", "−": r"$-$", "–": "--", "—": "---", "…": r"\dots{}",
  "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$",
  "←": r"$\leftarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$",
  "≈": r"$\approx$", "∞": r"$\infty$", "·": r"$\cdot$", "×": r"$\times$",
  "∂": r"$\partial$", "∇": r"$\nabla$", "√": r"$\surd$", "∑": r"$\sum$",
  "°": r"$^\circ$", "µ": r"$\mu$", "²": r"$^2$", "³": r"$^3$",
  "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "ø": r"\o{}", "Ø": r"\O{}",
  "œ": r"\oe{}", "Œ": r"\OE{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
  "†": r"\textsuperscript{\textdagger}",
  "‡": r"\textsuperscript{\textdaggerdbl}", "§": r"\textsuperscript{\S}",
  "\u00a0": "~",
}  # fmt: skip

# Capitals that TeX takes from the Latin alphabet.
_LATIN = {
  "Alpha": "A", "Beta": "B", "Epsilon": "E", "Zeta": "Z", "Eta": "H",
  "Iota": "I", "Kappa": "K", "Mu": "M", "Nu": "N", "Omicron": "O", "Rho": "P",
  "Tau": "T", "Chi": "X", "omicron": "o",
}  # fmt: skip
_ACCENTS = {
  "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=",
  "\u0306": "u", "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H",
  "\u030c": "v", "\u0327": "c",
}  # fmt: skip


def _greek() -> dict[str, str]:
  """The Greek alphabet, each letter by its name in Unicode."""
  letters = {}
  for code in [*range(0x391, 0x3AA), *range(0x3B1, 0x3CA)]:
    words = unicodedata.name(chr(code), "").lower().split()
    if not words:
      continue  # There is no capital of the final sigma.
    name = words[-1].replace("lamda", "lambda")
    name = name.capitalize() if "capital" in words else name
    command = "varsigma" if "final" in words else name
    letters[chr(code)] = _LATIN.get(name) or rf"$\{command}$"
  return letters


_TEX |= _greek()


def tex(text: str) -> str:
  """Text that pdfLaTeX prints as it is written here.

  A character that it does not have is written as its number, as in U+1F600.
  """
  text = plain(text)
  following = [*text[1:], ""]
  return (
    "".join(
      # Doubled, these would be joined to a dash or a closing quote.
      f"{c}{{}}" if c in "-'" and c == after else _tex_character(c)
      for c, after in zip(text, following, strict=True)
    )
    if text
    else ""
  )


def _tex_character(character: str) -> str:
  if character in _TEX:
    return _TEX[character]
  if character.isascii():
    return character
  base, *accents = unicodedata.normalize("NFD", character)
  if base.isascii() and len(accents) == 1 and accents[0] in _ACCENTS:
    return rf"\{_ACCENTS[accents[0]]}{{{base}}}"
  return f"U+{ord(character):04X}"


def file_name(text: str) -> str:
  """Letters, digits, and `_.-` in place of all else."""
  return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:100]
