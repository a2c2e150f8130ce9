"""PyTorch files made by hand, so that tests can make them wrong."""

import pickle
import zipfile

ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def pushed(value):
  """Instructions that push a plain value: a pickle without its ends."""
  return pickle.dumps(value, 2)[2:-1]


def storage(key="0", size=6, kind="FloatStorage", module="torch"):
  named = f"c{module}\n{kind}\n".encode()
  rest = pushed(key) + pushed("cpu") + pushed(size)
  return b"(" + pushed("storage") + named + rest + b"tQ"


def tensor(offset=0, shape=(2, 3), strides=(3, 1), **options):
  where = pushed(offset) + pushed(shape) + pushed(strides)
  return (
    b"ctorch._utils\n_rebuild_tensor_v2\n("
    + storage(**options)
    + where
    + b"\x89"  # requires_grad
    + ORDERED_DICT
    + b"tR"
  )


def state_dict(**values):
  items = b"".join(pushed(name) + value for name, value in values.items())
  return b"\x80\x02}(" + items + b"u."


def write(file, content, parts=None, compression=zipfile.ZIP_STORED, **records):
  """A file with that pickle; `parts` are the storages, by key."""
  with zipfile.ZipFile(file, "w", compression) as archive:
    archive.writestr("archive/data.pkl", content)
    for name, said in records.items():
      archive.writestr(f"archive/{name}", said)
    for key, part in (parts or {}).items():
      archive.writestr(f"archive/data/{key}", part)
  return file
