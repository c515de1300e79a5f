"""A text of any Python object that is the same in another process, where it can be."""

import functools
import types
import zlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend

PASSING = ("shared_object_id", "build_config")
"""Keys of Keras configurations that two equal models need not agree in."""


def described(value: Any) -> str:
    """What a value is, without addresses.

    Numbers and strings are themselves, arrays a checksum, objects with a Keras
    configuration that, functions their compiled code with what they enclose and the
    numbers and functions of their own module that they name. Of anything else the
    class, and its text where it has one of its own.
    """
    return _Description().of(value)


def checksum(value: Any) -> str:
    """Of a tree of arrays."""
    total = 0
    leaves = [leaf for leaf in tree.flatten(value) if leaf is not None]
    for leaf in backend.to_numpy(leaves):
        array = np.ascontiguousarray(leaf)
        total = zlib.crc32(f"{array.shape}{array.dtype}".encode(), total)
        total = zlib.crc32(array.tobytes(), total)
    return f"checksum {total:08x}"


def shortened(text: str) -> str:
    """A long text as its checksum; short ones are read in error messages."""
    return text if len(text) < 80 else f"checksum {zlib.crc32(text.encode()):08x}"


class _Description:
    """One description; what was met before is named by when it was met."""

    def __init__(self) -> None:
        self.met: dict[int, int] = {}
        self.held: list[Any] = []  # so that no address is used twice

    def of(self, value: Any) -> str:
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            return repr(value)
        if isinstance(value, type):
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
            return checksum(value)
        if isinstance(value, types.ModuleType):
            return value.__name__
        if id(value) in self.met:
            return f"number {self.met[id(value)]}"
        self.met[id(value)] = len(self.met)
        self.held.append(value)
        return self._anew(value)

    def _anew(self, value: Any) -> str:
        if isinstance(value, Mapping):
            kept = {str(k): v for k, v in value.items() if k not in PASSING}
            return (
                "{" + ", ".join(f"{k!r}: {self.of(v)}" for k, v in kept.items()) + "}"
            )
        if isinstance(value, (set, frozenset)):
            return "{" + ", ".join(sorted(map(self.of, value))) + "}"
        if isinstance(value, (list, tuple)):
            return "(" + ", ".join(map(self.of, value)) + ")"
        if isinstance(value, functools.partial):
            return f"partial{self.of([value.func, value.args, value.keywords])}"
        if isinstance(value, types.MethodType):
            return f"{self.of(value.__func__)} of {self.of(value.__self__)}"
        if isinstance(value, types.FunctionType):
            return self._function(value)
        return f"{self.of(type(value))}{self._configuration(value)}"

    def _function(self, function: types.FunctionType) -> str:
        own = function.__globals__
        enclosed = [c.cell_contents for c in function.__closure__ or () if _filled(c)]
        named = {
            name: own[name]
            for name in _names(function.__code__)
            if isinstance(own.get(name), (bool, int, float, str, np.ndarray))
            # Functions of other modules are not followed.
            or getattr(own.get(name), "__globals__", None) is own
        }
        parts = [function.__defaults__, function.__kwdefaults__, enclosed, named]
        text = self._code(function.__code__) + self.of(parts)
        return f"{function.__qualname__} {zlib.crc32(text.encode()):08x}"

    def _code(self, code: types.CodeType) -> str:
        constants = [
            self._code(c) if isinstance(c, types.CodeType) else self.of(c)
            for c in code.co_consts
        ]
        return f"{code.co_code.hex()}{code.co_names}{constants}"

    def _configuration(self, value: Any) -> str:
        get_config = getattr(value, "get_config", None)
        if callable(get_config):
            try:
                config = dict(get_config())
            except Exception:  # a class of the user: whatever it raises, there is none
                return ""
            if isinstance(value, keras.optimizers.Optimizer):
                config.pop("name", None)  # which Keras counts on
            return self.of(config)
        text = repr(value)
        return "" if " at 0x" in text else f" {text}"


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a name that was never assigned
        return False


def _names(code: types.CodeType) -> list[str]:
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [*code.co_names, *(name for c in inner for name in _names(c))]
