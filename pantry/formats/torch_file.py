"""Tensors of a PyTorch file (`.bin`, `.pth`), found without executing its pickle.

Format: a zip whose `data.pkl` describes the tensors and whose members `data/<key>`, stored uncompressed, are their
storages. The pickle is walked with `pickletools`, which only names the instructions; the few that build plain
containers are followed here, and a call stays an inert record. A file with anything else in it counts as plain bytes.
"""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pantry.formats.dtypes import ELEMENTS
from pantry.formats.layout import Layout, OpenFile, Tensor

MAX_PICKLE = 64_000_000  # bytes; the tensor table of a model with 10,000 tensors takes about 2 MB
MAX_DEPTH = 32  # nested dictionaries
MAX_VISITS = 1_000_000  # values looked at; a few lines of pickle can name the same dictionary 2^32 times
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_DTYPES = {
    "Double": "f64", "Float": "f32", "Half": "f16", "BFloat16": "bf16", "Long": "i64", "Int": "i32", "Short": "i16",
    "Char": "i8", "Byte": "u8", "Bool": "bool", "float8_e4m3fn": "f8_e4m3", "float8_e5m2": "f8_e5m2",
    "uint16": "u16", "uint32": "u32", "uint64": "u64",
}  # fmt: skip


class _UnknownContentError(Exception):
    """The pickle holds something this reader does not follow."""


@dataclass(frozen=True)
class _Global:
    """A name the pickle asks for. Nothing is imported."""

    module: str
    name: str


@dataclass
class _Call:
    """A call the pickle asks for. Nothing is called."""

    function: Any
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str


@dataclass
class _Machine:
    """Follows the instructions that build plain containers, up to `limit` of them."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, content: bytes) -> Any:
        try:
            for opcode, argument, _ in pickletools.genops(content):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self.step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise _UnknownContentError(str(error)) from None
        raise _UnknownContentError("the pickle does not end")

    def step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(argument if _CONSTANTS[name] is None else _CONSTANTS[name]())
        elif name in ("PROTO", "FRAME"):
            return
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._global(argument)
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[int(argument)])
        else:
            self._build(name)

    def _global(self, argument: str | None) -> None:
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
        else:
            module, name = argument.split(" ")
        self.stack.append(_Global(str(module), str(name)))

    def _build(self, name: str) -> None:
        stack = self.stack
        if name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[-1])
            stack[-size:] = [tuple(stack[-size:])]
        elif name == "TUPLE":
            stack.append(tuple(self._marked()))
        elif name in ("SETITEM", "SETITEMS"):
            pairs = self._marked() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            stack[-1].extend(self._marked() if name == "APPENDS" else [stack.pop()])
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            is_dict = function == _Global("collections", "OrderedDict")
            stack.append({} if is_dict and not arguments else _Call(function, arguments))
        elif name == "BUILD":
            stack.pop()
        else:
            raise _UnknownContentError(f"the instruction {name}")

    def _marked(self) -> list[Any]:
        at = self.marks.pop()
        found = self.stack[at:]
        del self.stack[at:]
        return found


_CONSTANTS: dict[str, Any] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
         "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING")
    ),
}  # fmt: skip
"""Instructions that push a constant: how to make it, or None where it is the instruction's argument."""


def _storage(identity: Any) -> _Storage:
    kind, storage, key = identity[0], identity[1], identity[2]
    if kind != "storage" or not isinstance(storage, _Global) or not isinstance(key, str):
        raise _UnknownContentError("a reference that is not a tensor storage")
    return _Storage(key, _DTYPES.get(storage.name.removesuffix("Storage"), ""))


def read_layout(path: Path) -> Layout:
    """The layout of a PyTorch file; one that is compressed, big-endian or of another content has no tensors."""
    file = OpenFile(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return Layout("torch", file.size, tuple(_tensors(archive, file)))
    except (_UnknownContentError, zipfile.BadZipFile, NotImplementedError, OverflowError, ValueError, RuntimeError):
        return Layout("other", file.size)
    finally:
        file.close()


def _tensors(archive: zipfile.ZipFile, file: OpenFile) -> Iterator[Tensor]:
    members = {name.partition("/")[2]: archive.getinfo(name) for name in archive.namelist()}
    table = members.get("data.pkl")
    if table is None or table.file_size > MAX_PICKLE:
        raise _UnknownContentError("no data.pkl of a proper size")
    order = members.get("byteorder")
    if order is not None and (order.file_size > 16 or archive.read(order).strip() != b"little"):
        raise _UnknownContentError("not little-endian")
    with archive.open(table) as opened:
        content = opened.read(MAX_PICKLE + 1)
    for name, call in _named_calls(_Machine().run(content)):
        tensor = _tensor(name, call, members, file)
        if tensor is not None:
            yield tensor


def _named_calls(value: Any) -> Iterator[tuple[str, _Call]]:
    """The tensor calls in nested dictionaries, named by their keys joined with dots."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    visits = 0
    while waiting:
        name, found, depth = waiting.pop()
        visits += 1
        if visits > MAX_VISITS or depth > MAX_DEPTH:
            raise _UnknownContentError("dictionaries within dictionaries without end")
        if isinstance(found, _Call):
            yield name, found
        elif isinstance(found, dict):
            inner = [(f"{name}.{key}" if name else key, item, depth + 1) for key, item in found.items()
                     if isinstance(key, str)]  # fmt: skip
            waiting.extend(reversed(inner))


def _tensor(name: str, call: _Call, members: dict[str, zipfile.ZipInfo], file: OpenFile) -> Tensor | None:
    """The contiguous tensor a call describes, or None where it is another call or a strided view."""
    function, arguments = call.function, call.arguments
    if function == _Global("torch._utils", "_rebuild_parameter") and isinstance(arguments[0], _Call):
        function, arguments = arguments[0].function, arguments[0].arguments
    known = function in (_Global("torch._utils", "_rebuild_tensor_v2"), _Global("torch._utils", "_rebuild_tensor_v3"))
    if not known or not isinstance(arguments[0], _Storage):
        return None
    storage, offset, shape, stride = arguments[:4]
    dtype = storage.dtype
    if function.name == "_rebuild_tensor_v3" and isinstance(arguments[6], _Global):
        dtype = _DTYPES.get(arguments[6].name, "")
    element, member = ELEMENTS.get(dtype), members.get(f"data/{storage.key}")
    whole = all(isinstance(number, int) and number >= 0 for number in (offset, *shape, *stride))
    if element is None or member is None or not whole or member.compress_type != zipfile.ZIP_STORED:
        return None
    length = math.prod(shape) * element.width
    if not _is_contiguous(shape, stride) or (offset * element.width) + length > member.file_size:
        return None
    start = _data_offset(member, file) + offset * element.width
    return Tensor(name, dtype, tuple(shape), start, length) if start + length <= file.size else None


def _is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    wanted = 1
    for size, step in zip(reversed(shape), reversed(stride), strict=True):
        if size > 1 and step != wanted:
            return False
        wanted *= size
    return True


def _data_offset(member: zipfile.ZipInfo, file: OpenFile) -> int:
    """Where a member's bytes begin: its own header may be longer than the directory's (PyTorch aligns with it)."""
    magic, name, extra = _LOCAL_HEADER.unpack(file.read(member.header_offset, _LOCAL_HEADER.size))
    if magic != b"PK\x03\x04":
        raise _UnknownContentError("a member without its header")
    return member.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)
