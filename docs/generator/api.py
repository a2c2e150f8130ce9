"""The API pages, by pdoc."""

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pdoc
import pdoc.doc
import pdoc.render

# The peers of benchmarks, which need packages that are not installed here.
_NOT_HERE = "normjax.bench.torch_"
_TEMPLATES = Path(__file__).parent / "pdoc"
_PACKAGES = ("normjax", "kernels_pallas")


def modules() -> list[str]:
  """Every public module's full name."""
  found = []
  for package in _PACKAGES:
    root = importlib.import_module(package)
    found.append(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
      private = any(part.startswith("_") for part in module.name.split("."))
      if not private and not module.name.startswith(_NOT_HERE):
        found.append(module.name)
  return found


def build(folder: Path) -> set[str]:
  """Writes one page per module, an index and the data of the search.

  pdoc shows of a package what its `__all__` names, and loads nothing by
  `__getattr__`. Our packages are lazy, so that it is told of every module here,
  and of the submodules of each package whatever its `__all__` says.

  Returns:
    The modules' names.
  """
  pdoc.render.configure(docformat="google", template_directory=_TEMPLATES)
  names = modules()
  every = {name: _module(name) for name in names}
  for name, module in every.items():
    inner = [m for n, m in every.items() if n.rpartition(".")[0] == name]
    module.__dict__["submodules"] = sorted(inner, key=lambda m: m.fullname)
  for name, module in every.items():
    file = folder / f"{name.replace('.', '/')}.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(without_dead_ends(pdoc.render.html_module(module, every)))
  (folder / "index.html").write_text(pdoc.render.html_index(every))
  (folder / "search.js").write_text(pdoc.render.search_index(every))
  return set(names)


def _module(name: str) -> pdoc.doc.Module:
  module = pdoc.doc.Module.from_name(name)
  obj = module.obj
  if hasattr(obj, "__getattr__"):
    # What is lazy is loaded, and shown where its user imports it.
    members = {key: getattr(obj, key) for key in obj.__all__}
    module.__dict__["_member_objects"] = {
      key: value
      for key, value in members.items()
      if not isinstance(value, ModuleType)  # They have pages of their own.
    }
  return module


def without_dead_ends(page: str) -> str:
  """The page; what links to members that pdoc does not show is plain text.

  Such are those of private bases.
  """
  anchors = set(re.findall(r'\bid="([^"]+)"', page))

  def keep(match: re.Match[str]) -> str:
    return match[0] if match[1] in anchors else match[2]

  return re.sub(r'<a href="#([^"]+)"[^>]*>(.*?)</a>', keep, page)
