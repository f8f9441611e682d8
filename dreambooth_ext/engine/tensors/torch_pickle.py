"""PyTorch's pickle files (.ckpt, .pt): read without running code from them, written in a form that the WebUI
accepts."""

from __future__ import annotations

import collections
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system.files import replacing
from .lazy_tensor import LazyTensor, raw_bytes
from .pickled_objects import Forbidden, Kind, Storage
from .unpickler import LARGEST, PlainUnpickler

STORAGES = {
    torch.float64: torch.DoubleStorage,
    torch.float32: torch.FloatStorage,
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.int64: torch.LongStorage,
    torch.int32: torch.IntStorage,
    torch.uint8: torch.ByteStorage,
}  # those that the WebUI's scanner allows
DAMAGED = (  # what unpickling a truncated or altered file can raise
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # begins files of the old layout
MEMBER = re.compile(
    r"data\.pkl|data/\d{1,9}|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment"
)
PROGRAM = ("constants.pkl", "code/", "bytecode.pkl", "mobile_debug_handles.pkl", "extra/")  # TorchScript's
MOST_READ = 4 * 2**20  # bytes read from an archive at once; its list of 10 000 members has 1 MB
ALIGNMENT = 64  # bytes; each tensor in the file is aligned as in torch, so that it can be used memory-mapped


def load_pickle(path: Path, *, field: str = "base_model") -> Any:
    """Unpickle a file. Its tensors are memory-mapped: they share the file and are read when used.

    Raises UserError if the file is damaged, or contains anything but tensors and plain values.
    """
    require_model_file(path, field)
    try:
        return read_pickle(path)
    except Forbidden as error:
        raise UserError("model_file.runs_code", field, file=path.name, code=reason_of(error)) from error
    except DAMAGED as error:
        raise UserError("model_file.pickle_damaged", field, file=path.name, error=reason_of(error)) from error


def require_model_file(path: Path, field: str) -> None:
    """Raise UserError if the path is neither a file nor a folder: opening a pipe would wait forever."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError("model_file.is_device", field, path=path)


def read_pickle(path: Path, *, mapped: bool = True) -> Any:
    """Like `load_pickle`, but raises Forbidden and `DAMAGED` instead of UserErrors. mapped: False loads tensors into
    memory."""
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
        file.seek(0)
        return (_read_zip if is_zip else _read_legacy)(file, _Numbers(path, mapped))


class _Numbers:
    """The tensor values in a file, by their offsets. All references to one key share them."""

    def __init__(self, path: Path, mapped: bool):
        self.path, self.mapped = path, mapped
        self.size = path.stat().st_size
        self.known: dict[Any, torch.UntypedStorage] = {}
        self._file: torch.UntypedStorage | None = None

    def storage(self, key: Any, begin: int, size: int) -> torch.UntypedStorage:
        if begin < 0 or size < 0 or begin + size > self.size:
            raise EOFError(Message("pickle.cut_short"))
        if key not in self.known:
            if self._file is None:
                self._file = torch.UntypedStorage.from_file(str(self.path), False, self.size)
            numbers = self._file[begin : begin + size]
            self.known[key] = numbers if self.mapped else numbers.clone()
        if self.known[key].nbytes() != size:
            raise pickle.UnpicklingError(Message("pickle.shared_numbers"))
        return self.known[key]


class _Measured:
    """An open archive that refuses large reads: a list of millions of members would take minutes."""

    def __init__(self, file: BinaryIO):
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size > MOST_READ:
            raise zipfile.BadZipFile(Message("pickle.archive_list_too_large"))
        return self.file.read(size if size >= 0 else MOST_READ)

    def seekable(self) -> bool:
        return True


def _read_zip(file: BinaryIO, numbers: _Numbers) -> Any:
    """Read PyTorch's layout since 1.6: an archive of a pickle and each storage's values, uncompressed."""
    with zipfile.ZipFile(_Measured(file)) as archive:
        members = _plain_members(archive)
        if "byteorder" in members and _content(archive, members["byteorder"]).strip() != b"little":
            raise pickle.UnpicklingError(Message("pickle.other_byte_order"))

        def persistent(identifier: Any) -> Storage:
            dtype, key, count, _ = _reference(identifier)
            member = members.get(f"data/{key}")
            if member is None:
                raise EOFError(Message("pickle.missing_numbers", name=key[:20]))
            if count * dtype.itemsize > member.file_size:
                raise EOFError(Message("pickle.cut_short"))
            return Storage(numbers.storage(key, _begin(file, member), member.file_size), dtype)

        return PlainUnpickler(_content(archive, members["data.pkl"]), persistent).load()


def _plain_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return an archive's members by their names in its only folder. Raises Forbidden for those of TorchScript
    programs."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        folder, _, name = member.filename.partition("/")
        if name in PROGRAM or name.startswith(PROGRAM):
            raise Forbidden(Message("pickle.torchscript"))
        if not MEMBER.fullmatch(name) or name in members or folder != archive.infolist()[0].filename.partition("/")[0]:
            raise pickle.UnpicklingError(Message("pickle.foreign_member", name=repr(member.filename[:100])))
        if member.flag_bits & 1 or (name.startswith("data/") and member.compress_type != zipfile.ZIP_STORED):
            raise pickle.UnpicklingError(Message("pickle.foreign_packer"))
        members[name] = member
    if "data.pkl" not in members:
        raise pickle.UnpicklingError(Message("pickle.no_data"))
    return members


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.file_size > LARGEST:  # the stated size; no more is unpacked
        raise pickle.UnpicklingError(Message("pickle.member_too_large", name=member.filename[:100]))
    with archive.open(member) as stream:
        return b"".join(iter(lambda: stream.read(MOST_READ), b""))


def _begin(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Return the offset of a member's values in the file: after its name and extra field, whose lengths its local
    header has."""
    file.seek(member.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\3\4":
        raise EOFError(Message("pickle.cut_short"))
    return member.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))


def _reference(identifier: Any) -> tuple[torch.dtype, str, int, Any]:
    """Return dtype, key, count and, in old files, the part of the storage that a pickle refers to."""
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise pickle.UnpicklingError(Message("pickle.bad_reference"))
    _, kind, key, _, count = identifier[:5]
    if not isinstance(kind, Kind) or not isinstance(key, str) or type(count) is not int or not 0 <= count < 2**48:
        raise pickle.UnpicklingError(Message("pickle.bad_reference"))
    return kind.dtype, key, count, identifier[5] if len(identifier) == 6 else None


def _part(view: Any) -> tuple[int, int]:
    """Return the start and length of a part of a storage, in elements."""
    if not isinstance(view, tuple) or len(view) != 3 or not all(type(n) is int and 0 <= n < 2**48 for n in view[1:]):
        raise pickle.UnpicklingError(Message("pickle.bad_reference"))
    return view[1], view[2]


def _read_legacy(file: BinaryIO, numbers: _Numbers) -> Any:
    """Read PyTorch's layout before 1.6: five pickles, then each storage as a count and its values. It is read twice:
    the first pass only collects the dtypes, and thus the offsets."""

    def pickled(persistent: Callable[[Any], Any] | None = None) -> Any:
        begin = file.tell()
        reader = PlainUnpickler(file.read(LARGEST), persistent)
        content = reader.load()
        file.seek(begin + reader.length)
        return content

    if pickled() != MAGIC_NUMBER:
        raise pickle.UnpicklingError(Message("pickle.not_pytorch"))
    pickled(), pickled()  # protocol, machine
    start = file.tell()
    found: dict[str, torch.dtype] = {}
    places: dict[str, int] = {}

    def persistent(identifier: Any) -> Any:
        if isinstance(identifier, tuple) and len(identifier) > 1 and identifier[0] == "module":
            return identifier[1]  # a class with its source; embeddings of 2022 contain a ParameterDict
        dtype, key, count, view = _reference(identifier)
        found[key] = dtype
        first, count = _part(view) if view else (0, count)
        if not places:
            return Storage(torch.UntypedStorage(count * dtype.itemsize, device="meta"), dtype)
        begin = places[key] + first * dtype.itemsize
        return Storage(numbers.storage((key, first), begin, count * dtype.itemsize), dtype)

    content = pickled(persistent)
    for key in pickled():
        count = struct.unpack("<q", file.read(8))[0]
        if not 0 <= count < 2**48:
            raise EOFError(Message("pickle.cut_short"))
        places[key] = file.tell()
        file.seek(count * found[key].itemsize, 1)
    if not places:
        return content
    file.seek(start)
    return pickled(persistent)


class StorageName:
    """A pickle's reference to a tensor's values."""

    def __init__(self, dtype: torch.dtype, key: int, count: int):
        self.identifier = ("storage", STORAGES[dtype], str(key), "cpu", count)


class TensorPickler(pickle.Pickler):
    """Pickles tensors and `LazyTensor`s by reference, and collects them for writing after the pickle."""

    def __init__(self, file: Any):
        super().__init__(file, protocol=2)
        self.tensors: list[torch.Tensor | LazyTensor] = []

    def persistent_id(self, thing: Any) -> Any:
        return thing.identifier if isinstance(thing, StorageName) else None

    def reducer_override(self, thing: Any) -> Any:
        if not isinstance(thing, (torch.Tensor, LazyTensor)):
            return NotImplemented
        shape = tuple(thing.shape)
        strides = torch.empty(shape, device="meta").stride()
        storage = StorageName(thing.dtype, len(self.tensors), torch.Size(shape).numel())
        self.tensors.append(thing)
        arguments: tuple[Any, ...] = (storage, 0, shape, tuple(strides), False, collections.OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


def save_pickle(thing: Any, path: Path) -> None:
    """Write nested plain values with tensors, in torch's zip layout with only the members that the WebUI allows.

    torch.save of newer versions adds members that the scanner of WebUI 1.10.1 rejects. Tensors are written one by one,
    contiguous, each with its own storage, so that lazy ones are never in memory together.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("archive/data.pkl", "w") as file:
            pickler = TensorPickler(file)
            pickler.dump(thing)
        archive.writestr("archive/byteorder", "little")
        for key, tensor in enumerate(pickler.tensors):
            data = raw_bytes(tensor)
            with archive.open(aligned(archive, f"archive/data/{key}", len(data)), "w", force_zip64=False) as file:
                file.write(data)
        archive.writestr("archive/version", "3\n")


def aligned(archive: zipfile.ZipFile, name: str, size: int) -> zipfile.ZipInfo:
    """Return an archive member whose data starts at a multiple of ALIGNMENT, by padding its header's extra field."""
    assert size < 2**31, "a single tensor of 2 GB needs zip64 headers"
    member = zipfile.ZipInfo(name)
    member.file_size = size
    assert archive.fp is not None, "the archive is open"
    start = archive.fp.tell() + 30 + len(name) + 4  # local header, name, header of the extra field
    padding = -start % ALIGNMENT
    member.extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding  # "FB", as torch itself marks it
    return member
