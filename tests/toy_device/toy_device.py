"""torch's device `toy`, as vendors' packages bring theirs: loaded by torch itself through the entry point `torch.backends`."""

from __future__ import annotations

import os
import types
from typing import Any

__all__ = ["autoload"]

NAME = "toy"
LIBRARY = "TOY_LIBRARY"
"""Environment variable: the compiled library."""


def autoload() -> None:
    """What torch calls at the end of its own import."""
    import torch

    torch.ops.load_library(os.environ[LIBRARY])
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _module(torch))
    torch.utils.generate_methods_for_privateuse1_backend()


def _module(torch: Any) -> types.ModuleType:
    """`torch.toy`: what device modules have in common."""
    module: Any = types.ModuleType(f"torch.{NAME}")
    module.is_available = module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda seed: None
    module.device_count = torch.ops.toy.device_count
    module.current_device = torch.ops.toy.current_device
    module.set_device = torch.ops.toy.set_device
    module.current_stream = torch.accelerator.current_stream
    module.synchronize = torch.accelerator.synchronize
    module.empty_cache = torch.accelerator.empty_cache
    module.memory_allocated = torch.accelerator.memory_allocated
    module.max_memory_allocated = torch.accelerator.max_memory_allocated
    module.Event = lambda enable_timing=False: torch.Event(NAME, enable_timing=enable_timing)
    module.get_device_name = lambda device=None: "Toy 1"
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    return module
