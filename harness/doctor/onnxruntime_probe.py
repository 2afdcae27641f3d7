"""Asks ONNX Runtime for its providers and plug-ins, under any interpreter with moemark's rooms on its path. See
harness.doctor.asking."""

import importlib.util
import json
import os
import sys
from typing import Any

OUTPUT, LEFT_OUT = open(sys.argv[1], "a", encoding="utf-8"), set(sys.argv[2:])  # noqa: SIM115


def tell(**answer: Any) -> None:
    OUTPUT.write(json.dumps(answer, default=str) + "\n")
    OUTPUT.flush()


def asking(what: str, needed: bool = False) -> bool:
    if what not in LEFT_OUT:
        tell(asking=what, needed=needed)
    return what not in LEFT_OUT


def plugin(found: Any, kind: str) -> dict[str, Any]:
    """The devices that a plug-in shows."""
    from harness.targets import CannotRun

    try:
        devices = found.devices(kind).get(kind, [])
    except CannotRun as error:
        return {"origin": found.origin, "why": str(error), "devices": []}
    told = [
        {"name": one.device.vendor, "type": one.device.type.name, "vendor": one.ep_vendor, **one.ep_metadata}
        for one in devices
    ]
    return {"origin": found.origin, "devices": told}


def main() -> None:
    tell(python=list(sys.version_info[:3]))
    if importlib.util.find_spec("onnxruntime") is None:
        tell(absent=True)
        return
    if not asking("onnxruntime", needed=True):
        return
    import onnxruntime

    names = [name.removesuffix("ExecutionProvider").lower() for name in onnxruntime.get_available_providers()]
    known = [name.removesuffix("ExecutionProvider").lower() for name in onnxruntime.get_all_providers()]
    tell(version=onnxruntime.__version__, providers=names, known=known)
    if asking("plug-ins"):
        try:
            from harness.targets.onnxruntime_provider import installed_plugins
        except ModuleNotFoundError as error:
            tell(lacks=error.name)
            return
        for kind, found in installed_plugins().items():
            if asking(kind):
                tell(plugin=kind, **plugin(found, kind))


main()
OUTPUT.flush()
os._exit(0)  # a library that hangs on leaving has answered all the same
