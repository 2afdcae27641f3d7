"""Execution providers of ONNX Runtime: those compiled into the wheel, and plug-ins, which are libraries registered at run time.

A plug-in package has no entry point; what they share is a module called `onnxruntime_ep_NAME`, `onnxruntime_NAME` or
`..._ep_NAME` that says where its library is (`get_library_path()`; onnxruntime-ggml: `library_path()`) and, most of them, what
its providers are called (`get_ep_names()`, `EP_NAME`). A user's own library comes with the option `library`. Registering never
fails for want of hardware: the devices that a plug-in then shows are what tells.
"""

from __future__ import annotations

import ctypes
import importlib
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnxruntime as ort

from harness.targets import CannotRun
from harness.targets.known import mend_of

__all__ = ["Plugin", "Provider", "find_provider", "first_line", "installed_plugins", "missing_library"]

DEFAULT_OPTIONS = {"cuda": {"use_tf32": "0"}, "cann": {"precision_mode": "must_keep_origin_dtype"}}
"""fp32 means IEEE fp32, and no provider that we know chooses another precision by itself (design, section 4)."""
THREADS_OPTION = {"openvino": "num_of_threads", "ggml": "threads"}
"""Providers that compute with threads of their own on the host's CPU → their option for how many."""
NVIDIA = ("cuda", "tensorrt")
SUFFIX = "ExecutionProvider"
PLUGIN_MODULE = re.compile(r"^onnxruntime_(?:ep_)?(?P<name>\w+)$|_ep_(?P<other>\w+)$")
FIRST_INDEX = "0"


@dataclass(frozen=True)
class Provider:
    """One provider as it can be given to a session."""

    kind: str
    """As in the target's name: `cuda`."""
    name: str
    """As ONNX Runtime calls it: `CUDAExecutionProvider`."""
    options: Mapping[str, str]
    devices: tuple[Any, ...] = ()
    """Of a plug-in: the one EP device that sessions run on. None: it is compiled in, and sessions take it by name."""
    plugin: str | None = None
    """Of a plug-in: the package and version that it comes from, or its library's file name."""

    @property
    def on_cpu(self) -> bool:
        return self.kind == "cpu"

    @property
    def host_device(self) -> bool:
        """Whether it works on the host's CPU and in its memory."""
        if self.devices:
            return bool(self.devices[0].device.type == ort.OrtHardwareDeviceType.CPU)
        return self.kind in ("cpu", "openvino")

    def described(self) -> dict[str, Any]:
        """What the record says of it."""
        about: dict[str, Any] = {"provider": self.name, "provider_options": dict(self.options)}
        if not self.devices:
            return about
        (device,) = self.devices
        hidden = ("library_path",)
        metadata = {key: value for key, value in device.ep_metadata.items() if key not in hidden}
        return about | {"plugin": self.plugin, "plugin_vendor": device.ep_vendor, "plugin_metadata": metadata}

    def session(self, model: bytes, options: Any, more: Mapping[str, str]) -> Any:
        """A session on it, with `more` provider options. Raises what ONNX Runtime raises, or warns."""
        given = {**self.options, **more}
        if not self.devices:
            return ort.InferenceSession(model, options, providers=[(self.name, given)], enable_fallback=0)
        options.add_provider_for_devices(list(self.devices), given)
        return ort.InferenceSession(model, options, enable_fallback=0)


@dataclass(frozen=True)
class Plugin:
    """A library that brings providers."""

    library: str
    names: tuple[str, ...] = ()
    """Its providers, where its package says so beforehand."""
    origin: str = ""

    def devices(self, kind: str) -> dict[str, list[Any]]:
        """Registers the library; provider (in lower case, without its suffix) → its devices here. Raises CannotRun."""
        # Some plug-ins call their provider by the name that they are registered under.
        name = next((name for name in self.names if short(name) == kind), kind)
        try:
            brought = _register(name, self.library)
        except Exception as error:  # pybind raises one class per status code, without a common base
            raise CannotRun(f"{self.origin} is no execution provider here: {first_line(error)}") from error
        found: dict[str, list[Any]] = {}
        for device in ort.get_ep_devices():
            if device.ep_name in brought:
                found.setdefault(short(device.ep_name), []).append(device)
        return found


@cache
def _register(name: str, library: str) -> frozenset[str]:
    """Registers a library, once a process; the providers that it brought devices of."""
    before = {device.ep_name for device in ort.get_ep_devices()}
    ort.register_execution_provider_library(name, library)
    return frozenset(device.ep_name for device in ort.get_ep_devices()) - before


def short(name: str) -> str:
    """`CUDAExecutionProvider` → `cuda`."""
    return name.removesuffix(SUFFIX).lower()


def find_provider(kind: str, index: str, options: Mapping[str, str], threads: int) -> Provider:
    """The provider of that kind: compiled in, of an installed plug-in, or of the library that the option names.

    It is told how many `threads` to use where it has its own.

    Raises CannotRun where there is none, or none of its devices.
    """
    given = ({THREADS_OPTION[kind]: str(threads)} if kind in THREADS_OPTION else {}) | dict(options)
    library = given.pop("library", None)
    compiled = {short(name): name for name in ort.get_available_providers()}
    if library is None and kind in compiled:
        if kind in NVIDIA:
            ort.preload_dlls()  # CUDA and cuDNN that came as packages are not on the loader's path
        if index:
            given["device_id"] = index
        return Provider(kind, compiled[kind], DEFAULT_OPTIONS.get(kind, {}) | given)
    plugin = _own_library(library) if library is not None else installed_plugins().get(kind)
    if plugin is None:
        plugins = f"; plug-ins: {names}" if (names := ", ".join(installed_plugins())) else ""
        raise CannotRun(
            f"this onnxruntime {ort.__version__} has no {kind!r} provider"
            f" (it has: {', '.join(sorted(compiled))}{plugins}): {mend_of('ort', kind)}"
        )
    device = _device_of(plugin, kind, index or given.pop("device_id", FIRST_INDEX))
    return Provider(kind, device.ep_name, given, (device,), plugin.origin)


def installed_plugins() -> dict[str, Plugin]:
    """Kind → plug-in of the packages that are installed here; nothing of them is registered."""
    found: dict[str, Plugin] = {}
    for module in pkgutil.iter_modules():
        match = PLUGIN_MODULE.search(module.name)
        if match:
            found |= _plugins_of(module.name, match["name"] or match["other"])
    return found


def _plugins_of(module: str, called: str) -> dict[str, Plugin]:
    """What one module offers; nothing where it is no plug-in, or does not import."""
    try:
        package = importlib.import_module(module)
        locate = getattr(package, "get_library_path", None) or package.library_path
        library = str(locate())
    except Exception:  # another package of a like name, or a plug-in without a library for this system
        return {}
    say = getattr(package, "get_ep_names", None)
    names = tuple(say()) if say else tuple(filter(None, [getattr(package, "EP_NAME", None)]))
    plugin = Plugin(library, names, _package(module))
    return {short(name): plugin for name in names or (called,)}


def _package(module: str) -> str:
    name = module.replace("_", "-")
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return name


def _own_library(path: str) -> Plugin:
    file = Path(path).expanduser()
    if not file.is_file():
        raise CannotRun(f"library={path} is no file: name the shared library of an execution provider")
    return Plugin(str(file.absolute()), origin=file.name)


def _device_of(plugin: Plugin, kind: str, index: str) -> Any:
    found = plugin.devices(kind)
    if kind not in found:
        others = f" (it brings: {', '.join(sorted(found))})" if found else ""
        raise CannotRun(f"{plugin.origin} shows no device for ort:{kind} here{others}: install its hardware's driver")
    if not index.isdecimal() or int(index) >= len(found[kind]):
        raise CannotRun(f"ort:{kind} has no device {index!r}: {plugin.origin} shows {len(found[kind])}, counted from 0")
    return found[kind][int(index)]


def missing_library(kind: str) -> str | None:
    """What the loader says of a compiled-in provider's own library: the first one that it needs and that is missing."""
    path = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{kind}.so"
    if not path.exists():
        return None
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return first_line(error)
    return None


SOURCE_PLACE = re.compile(r"^\S+\.(?:cc|cpp|h):\d+ (?:.*\)(?: const)? )?(?=\S)")


def first_line(error: BaseException) -> str:
    """The first line of what the runtime says, without the place in its source."""
    return SOURCE_PLACE.sub("", str(error).strip().split("\n")[0])
