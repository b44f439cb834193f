"""Which device and which precision; never a silent fallback."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mskt.core.errors import UsageError

PRECISIONS = ("auto", "float32", "bfloat16")


def resolve_device(name: str = "auto") -> torch.device:
    """The device a user named.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:N``, ``gpu``, ``gpu:N``, ``mps``.

    Raises:
        UsageError: the device named is not there. Only ``auto`` chooses.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wanted = name.replace("gpu", "cuda", 1) if name.startswith("gpu") else name
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError(
            "--device", f"{name!r} is no device", "Use auto, cpu, cuda, cuda:N, gpu, gpu:N or mps."
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            "--device",
            f"{name!r} was asked for, but torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices",
            "Use --device cpu, or install a driver that fits (mskt doctor tells more).",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(
            "--device", "'mps' was asked for, but is not available here", "Use --device cpu."
        )
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(
            "--device", f"{name!r} is not supported", "Use auto, cpu, cuda, gpu or mps."
        )
    return device


def sent(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array on a device, in its own type.

    To a GPU it goes through page-locked memory, and nobody waits: the next piece of the image is made and
    sent while the GPU still computes. On a CPU nothing is copied.
    """
    array = np.ascontiguousarray(array)
    if device.type != "cuda":
        return torch.from_numpy(array).to(device)
    # The type is changed there: here it would take a copy that is not page-locked.
    return torch.from_numpy(array).pin_memory().to(device, non_blocking=True)


def has_fast_bfloat16() -> bool:
    """True if this CPU multiplies bfloat16 faster than float32 (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The number format of the convolutions: ``auto`` takes bfloat16 where it is faster.

    Raises:
        UsageError: unknown name.
    """
    if name not in PRECISIONS:
        raise UsageError("--precision", f"{name!r} is unknown", f"Use {', '.join(PRECISIONS)}.")
    if name == "auto":
        fast = has_fast_bfloat16() if device.type == "cpu" else device.type == "cuda"
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32
