"""PyTorch's files: read as torch reads them, and never run."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from normjax import errors
from normjax.convert.weights import torch_file
from tests import support
from tests.convert.weights import torch_pickles as made

RECORDED = support.ROOT / "tests/convert/recorded"
SIX = np.arange(6, dtype="<f4")


def test_what_torch_wrote_is_read():
  found = torch_file.tensors(RECORDED / "torch.pt")
  with np.load(RECORDED / "torch.npz") as recorded:
    assert {*found} == {*recorded.files}
    for name, want in recorded.items():
      got = found[name].read()
      assert (got.shape, str(got.dtype)) == (
        found[name].shape,
        found[name].dtype,
      )
      np.testing.assert_array_equal(got.astype(want.dtype), want, name)
  assert found["strided"].dtype == "bfloat16"
  assert found["turned"].read().shape == (6, 4)


@pytest.mark.parametrize("order", ["little", "big"])
def test_the_byte_order_is_the_files(tmp_path, order):
  content = SIX.astype("<f4" if order == "little" else ">f4").tobytes()
  file = made.write(
    tmp_path / "a.pt",
    made.state_dict(w=made.tensor()),
    {"0": content},
    byteorder=order,
  )
  np.testing.assert_array_equal(
    torch_file.tensors(file)["w"].read(), SIX.reshape(2, 3)
  )


class _Payload:
  """Runs a command where a pickle is loaded."""

  def __init__(self, call, *given):
    self.call, self.given = call, given

  def __reduce__(self):
    return self.call, self.given


def _payloads(marker):
  yield _Payload(os.system, f"touch {marker}")
  yield _Payload(exec, f"open({str(marker)!r}, 'w')")
  yield _Payload(getattr, Path(marker), "touch")
  yield _Payload(pickle.loads, pickle.dumps(_Payload(os.mkdir, str(marker))))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("index", range(4))
def test_code_is_named_and_not_run(tmp_path, protocol, index):
  marker = tmp_path / "ran"
  payload = [*_payloads(marker)][index]
  file = made.write(
    tmp_path / "a.pt", pickle.dumps({"w": payload}, protocol), {"0": b""}
  )
  with pytest.raises(errors.DataError, match="asks for .*; it was not run"):
    torch_file.tensors(file)
  assert not marker.exists()
  pickle.loads(pickle.dumps(_Payload(os.mkdir, str(marker))))
  assert marker.exists()  # The last of them would have.


@pytest.mark.parametrize(
  ("named", "message"),
  [
    (b"ctorch\nload\n", r"asks for torch\.load"),
    # Near to what is allowed.
    (b"ctorch._utils\n_rebuild_tensor\n", r"torch\._utils\._rebuild_tensor;"),
    (b"ccollections\nOrderedDict.fromkeys\n", r"OrderedDict\.fromkeys"),
    (b"cos.path\nOrderedDict\n", r"os\.path\.OrderedDict"),
    (b"\x8c\x02os\x8c\x06system\x93", r"os\.system"),
    (b"(ios\nsystem\n", "the instruction INST"),
    (b"(ccollections\nOrderedDict\no", "the instruction OBJ"),
    (b"ccollections\nOrderedDict\n)\x81", "the instruction NEWOBJ"),
    (b"\x82\x01", "the instruction EXT1"),
    (b"ctorch\nFloatStorage\n)R", r"a call of torch\.FloatStorage"),
    (b"K\x01)R", "a call of a int"),
    (b"ctorch\nFloatStorage\n}b", "a state of a Global"),
    (b"ccollections\nOrderedDict\nK\x01R", "a call without its arguments"),
    (b"ccollections\nOrderedDict\n(K\x01tR", "damaged: TypeError"),
    (b"h\x07", "damaged: KeyError"),
    (b"t", "damaged: LookupError"),
    (b"Q", "damaged"),
    (b"(X\x01\x00\x00\x00wPname\n", "the instruction PERSID"),
    (b"c" + b"a" * 10**6 + b"\nb\n", r"asks for a{80}\.b; it was"),
  ],
)
def test_only_exact_names_and_plain_instructions(tmp_path, named, message):
  content = made.state_dict(w=named)
  with pytest.raises(errors.DataError, match=message):
    torch_file.tensors(made.write(tmp_path / "a.pt", content))


def test_tuples_of_tuples_take_no_time(tmp_path):
  # Each holds the one before twice: to hash or to show the last takes 2^200.
  doubled = b")" + b"q\x01h\x01\x86" * 200
  for content in (
    b"}" + doubled + b"K\x01s",
    doubled + b"K\x01R",
    doubled + doubled + b"\x93",
    made.tensor().replace(b"]", b"") + doubled + b"b",
  ):
    with pytest.raises(errors.DataError) as raised:
      torch_file.tensors(
        made.write(tmp_path / "a.pt", b"\x80\x04" + content + b".")
      )
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
  "where",
  [
    {"offset": 1},
    {"shape": (2, 4)},
    {"strides": (4, 1)},
    {"shape": (3, 3), "strides": (0, 1)},
    {"offset": -1},
    {"strides": (-3, 1), "offset": 5},
    {"shape": (-2, -3)},
    {"strides": (3,)},
    {"shape": (1 << 40, 1 << 40), "strides": (0, 0)},
  ],
)
def test_a_view_that_leaves_its_storage_is_refused(tmp_path, where):
  file = made.write(
    tmp_path / "a.pt",
    made.state_dict(w=made.tensor(**where)),
    {"0": SIX.tobytes()},
  )
  with pytest.raises(errors.DataError, match="'w' of shape .*not within its"):
    torch_file.tensors(file)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"key": "1"}, r"lacks its part 'archive/data/1'"),
    ({"key": "../data.pkl"}, r"lacks its part 'archive/data/\.\./data\.pkl'"),
    ({"size": 7}, "has 24 bytes; by the pickle it has 28"),
    ({"size": -6, "shape": (0,), "strides": (1,)}, "its storage of -6"),
    ({"kind": "QInt8Storage"}, r"asks for torch\.QInt8Storage"),
    ({"kind": "FloatStorage", "module": "os"}, r"asks for os\.FloatStorage"),
    ({"shape": (2.0, 3)}, "sizes that are no numbers"),
    ({"shape": (True, 3)}, "sizes that are no numbers"),
    # More digits than Python shows, more bytes or axes than NumPy counts.
    ({"offset": 10**5000}, "sizes or axes that no array has"),
    ({"shape": (1, 6), "strides": (2**62, 1)}, "sizes or axes that no array"),
    ({"shape": (1,) * 65, "strides": (1,) * 65}, "sizes or axes that no array"),
    ({"size": 10**5000}, "a size that no file has"),
  ],
)
def test_a_storage_that_is_not_what_the_pickle_says(tmp_path, options, message):
  content = made.state_dict(w=made.tensor(**options))
  file = made.write(tmp_path / "a.pt", content, {"0": SIX.tobytes()})
  with pytest.raises(errors.DataError, match=message):
    torch_file.tensors(file)


def test_other_files_are_named(tmp_path):
  file = tmp_path / "a.pt"
  good = made.state_dict(w=made.tensor())
  parts = {"0": SIX.tobytes()}

  def refused(message):
    with pytest.raises(errors.DataError, match=message):
      torch_file.tensors(file)["w"].read()

  file.write_bytes(torch_file._LEGACY + b"rest")
  refused(r"format before version 1\.6")
  file.write_bytes(b"no zip")
  refused("no whole PyTorch file")
  made.write(file, good, parts)
  whole = file.read_bytes()
  file.write_bytes(whole[:-40])
  refused("no whole PyTorch file")
  file.write_bytes(whole.replace(SIX.tobytes(), SIX[::-1].tobytes()))
  refused("no whole PyTorch file: Bad CRC-32")
  made.write(file, good, parts | {"1": bytes(4096), "2": b"", "3": b""})
  with zipfile.ZipFile(file, "a") as archive:
    # Two parts that lie where another one does.
    held = archive.getinfo("archive/data/1")
    for info in archive.infolist()[-2:]:
      info.header_offset, info.file_size = held.header_offset, held.file_size
      info.compress_size, info.CRC = held.compress_size, held.CRC
    archive.writestr("archive/version", "3")
  refused("its parts have .* bytes, and the file has .*: they overlap")
  made.write(file, good, parts, compression=zipfile.ZIP_DEFLATED)
  refused("is compressed")
  made.write(file, good, parts, byteorder="middle")
  refused("byteorder='middle'; allowed")
  made.write(file, good, parts, **{"code/a.py": "pass"})
  refused("a TorchScript program")
  made.write(file, made.state_dict(w=made.pushed(3)), parts)
  refused("entry 'w' is a int")
  made.write(file, b"\x80\x02].", parts)
  refused("no dict of tensors")
  made.write(file, good[:-1], parts)
  refused("pickle is damaged")
