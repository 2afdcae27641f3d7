"""Compiled graphs kept from one run to the next, for providers that compile for minutes: the option `cache=FOLDER`.

Off unless asked for: how long compiling takes is worth knowing, and a record should not depend on what an earlier run left. A
graph has a folder of its own, named after all that it was compiled from, its weights included, because providers name what
they keep after the graph's structure alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from harness.targets import CannotRun
from harness.targets.onnxruntime_provider import Provider
from workloads.problem import Problem

__all__ = ["Cache", "Kept"]


def _working_folder(folder: str) -> Mapping[str, str]:
    """CANN writes its compiled models to, and looks for them in, the process's working folder."""
    os.chdir(folder)
    return {"dump_om_model": "1"}


USES: dict[str, Callable[[str], Mapping[str, str]]] = {
    "cann": _working_folder,
    "migraphx": lambda folder: {"migraphx_model_cache_dir": folder},
    "openvino": lambda folder: {"cache_dir": folder},
    "tensorrt": lambda folder: {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder},
}
"""Kind of provider → what makes it keep compiled graphs in a folder: provider options."""


@dataclass(frozen=True)
class Kept:
    """Provider options for one graph, and what the record says."""

    options: Mapping[str, str]
    note: str | None = None


@dataclass(frozen=True)
class Cache:
    """Where the compiled graphs of a target are kept; `folder` None: nowhere."""

    provider: Provider
    folder: Path | None = None

    @classmethod
    def of(cls, provider: Provider, folder: str | None) -> Cache:
        """Raises CannotRun where the provider keeps nothing, or the folder cannot be made."""
        if folder is None:
            return cls(provider)
        if provider.kind not in USES or provider.devices:
            raise CannotRun(f"ort:{provider.kind} keeps no compiled graphs: leave cache={folder} out")
        path = Path(folder).expanduser().absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotRun(f"cache={folder} is no folder that can be made: {error.strerror}") from error
        return cls(provider, path)

    def of_graph(self, model: bytes, problem: Problem) -> Kept:
        """Where this graph with these weights is kept."""
        if self.folder is None:
            return Kept({})
        provider = self.provider
        made_of = (problem.input_digest, provider.name, ort.__version__, sorted(provider.options.items()))
        name = hashlib.sha256(repr(made_of).encode() + model).hexdigest()
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        found = any(folder.iterdir())
        note = "compiled graphs of an earlier run were at hand" if found else "compiled graphs are kept for later runs"
        return Kept(USES[provider.kind](str(folder)), note)
