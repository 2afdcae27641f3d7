"""Asks torch for its devices, under any interpreter: nothing but the standard library and torch. See harness.doctor.asking."""

import importlib.util
import json
import os
import sys
from importlib.metadata import entry_points, version
from typing import Any

KNOWN = ("cuda", "xpu", "mps", "npu")
OUTPUT, LEFT_OUT = open(sys.argv[1], "a", encoding="utf-8"), set(sys.argv[2:])  # noqa: SIM115


def tell(**answer: Any) -> None:
    OUTPUT.write(json.dumps(answer, default=str) + "\n")
    OUTPUT.flush()


def asking(what: str, needed: bool = False) -> bool:
    if what not in LEFT_OUT:
        tell(asking=what, needed=needed)
    return what not in LEFT_OUT


def innermost(error: BaseException) -> str:
    while before := error.__cause__ or error.__context__:
        error = before
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def ask(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception:  # what a device does not answer is absent
        return None


def built(torch: Any, kind: str, module: Any) -> bool:
    if kind == "cuda":
        return bool(torch.version.cuda or torch.version.hip)
    if kind == "mps":
        return bool(torch.backends.mps.is_built())
    return bool(ask(module._is_compiled)) if kind == "xpu" else True


def why_unavailable(module: Any) -> str | None:
    """What the back-end itself says when it is started."""
    try:
        module.init()
    except Exception as error:
        return innermost(error)
    return None


def device(module: Any, index: int) -> dict[str, Any]:
    """What a device tells of itself; what it does not tell is absent."""
    properties = ask(module.get_device_properties, index) if hasattr(module, "get_device_properties") else None
    memory = ask(module.mem_get_info, index) if hasattr(module, "mem_get_info") else None
    found = {
        "name": ask(module.get_device_name, index) if hasattr(module, "get_device_name") else None,
        "capability": capability(module, index),
        "architecture": getattr(properties, "gcnArchName", None),
        "memory_bytes": getattr(properties, "total_memory", None) or (memory[1] if memory else None),
        "driver": getattr(properties, "driver_version", None),
    }
    return {key: value for key, value in found.items() if value is not None}


def capability(module: Any, index: int) -> str | None:
    pair = ask(module.get_device_capability, index) if hasattr(module, "get_device_capability") else None
    return ".".join(map(str, pair)) if isinstance(pair, tuple) and len(pair) == 2 else None


def libraries(torch: Any, kind: str) -> dict[str, str]:
    found: dict[str, Any] = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip} if kind == "cuda" else {}
    if kind == "npu":
        found["torch-npu"] = ask(version, "torch-npu") or ask(version, "torch_npu")
        found["CANN"] = ask(lambda: sys.modules["torch_npu"].npu.utils.get_cann_version())
    return {name: value for name, value in found.items() if value}


def examine(torch: Any, kind: str) -> dict[str, Any]:
    module = getattr(torch, kind, None)
    if module is None or not hasattr(module, "is_available"):
        return {"built": False}
    found: dict[str, Any] = {"built": built(torch, kind, module), "libraries": libraries(torch, kind)}
    found["available"] = bool(found["built"] and module.is_available())
    if found["available"]:
        count = module.device_count() if hasattr(module, "device_count") else 1
        found["devices"] = [device(module, index) for index in range(count)]
    elif found["built"] and hasattr(module, "init"):
        found["why"] = why_unavailable(module)
    return found


def kinds(torch: Any) -> dict[str, None]:
    """Those known here, what a plug-in calls its device, and what torch takes for its accelerator."""
    brought = torch._C._get_privateuse1_backend_name()
    current = ask(torch.accelerator.current_accelerator) if hasattr(torch, "accelerator") else None
    others = [brought] if brought != "privateuseone" else []
    return dict.fromkeys([*KNOWN, *others, *([current.type] if current else [])])


def main() -> None:
    plugins = sorted(entry.name for entry in entry_points(group="torch.backends"))
    tell(python=list(sys.version_info[:3]), plugins=plugins)
    if importlib.util.find_spec("torch") is None:
        tell(absent=True)
        return
    if not plugins or not asking("plugins"):
        os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
        if not asking("torch", needed=True):
            return
    try:
        import torch
    except Exception as error:
        sys.exit(innermost(error))
    tell(version=torch.__version__)
    for kind in kinds(torch):
        if asking(kind):
            tell(kind=kind, **examine(torch, kind))


main()
OUTPUT.flush()
os._exit(0)  # a library that hangs on leaving has answered all the same
