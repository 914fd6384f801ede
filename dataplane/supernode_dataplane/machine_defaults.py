"""What a machine runs where nobody says otherwise: its software stack, and the number format of products.

One rule for every answer. A machine whose data sheet has an FP8 rate and no INT8 rate is a GPU: its tuned stack is
``gpu-tuned`` and its 8-bit format FP8; all others run ``vendor-tuned`` in INT8. A training run takes the same stack.
"""

from __future__ import annotations

from typing import Final, Literal

from supernode_dataplane.profile import Profile

__all__ = ["TUNED_STACKS", "default_format", "default_stack"]

TUNED_STACKS: Final = ("vendor-tuned", "gpu-tuned")
"""The best stack of either family; of a machine one of them is the default, and the other one is not made for it."""


def default_stack(profile: Profile) -> str:
    """Return the name of the machine's stack."""
    return "gpu-tuned" if _is_gpu(profile) else "vendor-tuned"


def default_format(profile: Profile) -> Literal["int8", "fp8"]:
    """Return the 8-bit format that the machine multiplies in."""
    return "fp8" if _is_gpu(profile) else "int8"


def _is_gpu(profile: Profile) -> bool:
    return profile.fp8_flops_per_die > 0 and not profile.int8_ops_per_die
