"""What a build of torch offers on a device: tried out where trying tells, so that implementations can ask."""

from __future__ import annotations

import os

import torch

from workloads.implementations.npu_fused import OPERATORS

__all__ = ["DTYPES", "features_of"]

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OWN_INDUCTOR = ("cpu", "cuda", "xpu", "mps")
"""Devices that torch itself generates code for."""


def features_of(device: torch.device) -> frozenset[str]:
    """Names of what there is: `grouped_mm`, `inductor`, `int4pack`, `tf32`, `npu_moe`, `packed_DTYPE`."""
    there = {
        "grouped_mm": _has_grouped_mm,
        "inductor": _has_inductor,
        "int4pack": _has_int4pack,
        "tf32": _has_tf32,
        "npu_moe": _has_npu_moe,
    }
    return frozenset(name for name, has in there.items() if has(device)) | _packed_features(device)


def _has_inductor(device: torch.device) -> bool:
    """Whether torch.compile has a code generator for this device: its own, or one that a plug-in brought."""
    if device.type in OWN_INDUCTOR:
        return True
    from torch._inductor.codegen.common import get_scheduling_for_device, init_backend_registration

    init_backend_registration()
    return get_scheduling_for_device(device.type) is not None


def _has_grouped_mm(device: torch.device) -> bool:
    """Whether `grouped_mm` runs on this device (bf16; it came with torch 2.10)."""
    grouped = getattr(torch.nn.functional, "grouped_mm", None)
    if grouped is None:
        return False
    x = torch.ones(16, 16, device=device, dtype=torch.bfloat16)
    ends = torch.tensor([8, 16], device=device, dtype=torch.int32)
    try:
        grouped(x, torch.ones(2, 16, 16, device=device, dtype=torch.bfloat16), offs=ends)
    except RuntimeError:  # the build has the function but no kernel for this device
        return False
    return True


def _has_int4pack(device: torch.device) -> bool:
    """Whether torch's int4 product for CPUs runs here."""
    if device.type != "cpu" or not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"):
        return False
    try:
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(torch.zeros(16, 32, dtype=torch.int32), 1)
        torch.ops.aten._weight_int4pack_mm_for_cpu(torch.zeros(1, 32), packed, 32, torch.ones(1, 16, 2))
    except RuntimeError:  # the build has the operator but no kernel for this CPU
        return False
    return True


def _packed_features(device: torch.device) -> frozenset[str]:
    """`packed_DTYPE` for each dtype in which oneDNN multiplies with weights in its own layout on this CPU."""
    if device.type != "cpu":
        return frozenset()
    return frozenset(f"packed_{name}" for name in ("fp32", "bf16", "fp16") if _has_packed_matmul(DTYPES[name]))


def _has_packed_matmul(dtype: torch.dtype) -> bool:
    x = torch.ones(16, 16, dtype=dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(x)
        torch.ops.mkldnn._linear_pointwise.default(x, packed, None, "none", [], "")
    except (AttributeError, RuntimeError):  # a build without oneDNN, or a CPU without the instructions
        return False
    return True


def _has_npu_moe(device: torch.device) -> bool:
    """Whether this torch_npu has the MoE operators that `npu-fused` calls."""
    return device.type == "npu" and all(hasattr(torch.ops.npu, name) for name in OPERATORS)


def _has_tf32(device: torch.device) -> bool:
    """Whether products can be made in TF32 on this device: an Nvidia GPU of compute capability 8 or more."""
    if device.type != "cuda" or torch.version.cuda is None:
        return False
    return torch.cuda.get_device_capability(device)[0] >= 8 and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
