"""Operators that a back-end computes on the CPU instead of its device: some say so in a warning; `at::native::cpu_fallback`
does not, but copies its tensors to the host by an operator of its own, `aten::_to_cpu`, which nothing else calls.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["operators_on_the_cpu", "watched"]


@contextmanager
def watched(device: torch.device) -> Iterator[list[str]]:
    """A list that holds, at the end of the block, what gave away that operators left the device: nothing if none did."""
    moved: list[str] = []
    with warnings.catch_warnings(record=True) as said, _copies_told(device, lambda: moved.append("(unnamed)")):
        warnings.simplefilter("always")
        yield moved
    texts = [" ".join(str(one.message).split())[:300] for one in said]
    moved += [text for text in texts if re.search(r"fall(ing|s)? ?back", text, re.I)]


def operators_on_the_cpu(device: torch.device, work: Callable[[], Any]) -> list[str]:
    """Runs the work again, operator by operator; the names of those that copied their tensors to the host."""
    names: list[str] = []
    with _Operators() as seen, _copies_told(device, lambda: names.append(seen.now)):
        work()
    return list(dict.fromkeys(names))


class _Operators(TorchDispatchMode):
    """Knows which operator is under way."""

    now = "(unnamed)"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.now = str(func.overloadpacket).replace(".", "::", 1)
        return func(*args, **(kwargs or {}))


@contextmanager
def _copies_told(device: torch.device, tell: Callable[[], None]) -> Iterator[None]:
    """Calls `tell` wherever `aten::_to_cpu` is called for tensors of this device."""

    def to_cpu(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        tell()
        return [tensor.cpu() for tensor in tensors]

    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_to_cpu", to_cpu, torch._C._dispatch_key_for_device(device.type))
        yield
