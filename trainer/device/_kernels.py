"""Numerics of a device: precision, and deterministic or fast kernels."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import torch

from trainer.config import ConfigError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # the dtypes of autocast


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass in a precision; losses and scores are outside of it."""
    dtype = DTYPES.get(precision)
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def choose_kernels(deterministic: bool) -> None:
    """Choose deterministic kernels, or the fastest ones."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS is not deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # filling uninitialised memory is a debugging aid that costs time in every step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic


def choose_tf32(precision: str) -> None:
    """Allow or forbid TF32 (multiplying float32 with a 10-bit mantissa); torch allows it in convolutions by default.

    With bf16 it is allowed in cuDNN, whose recurrent layers compute in float32: TF32 is more precise than bf16.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision in ("tf32", "bf16")


def choose_precision(precision: str, device: torch.device) -> str:
    """Return the precision; ``auto`` is bf16 on a GPU with native bf16, else fp32.

    Raises:
        ConfigError: the device does not support the precision.
    """
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        return "bf16" if native else "fp32"
    if precision == "bf16" and device.type == "cuda" and not native:
        raise ConfigError("precision: this GPU does not compute in bf16; use fp16 or fp32")
    if precision == "tf32" and not native:
        raise ConfigError("precision: tf32 is how NVIDIA's GPUs since Ampere multiply float32; use fp32")
    return precision
