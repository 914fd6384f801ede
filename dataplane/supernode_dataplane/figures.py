"""The one place where figures become text: rates with four significant digits, as the API's DecimalString.

Operator, cabinets and CLI all go through here, so that the same state reads the same everywhere.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from typing import Any, Final

from supernode_dataplane.profile import Profile, load_profile
from supernode_dataplane.state import MachineState, WorkloadResult

__all__ = ["counted", "decimal", "machine_performance", "round_rate", "workload_performance"]

_CONTEXT: Final = Context(prec=4)
_SMALLEST: Final = 1e-12
_LARGEST: Final = 1e22


def counted(count: float, noun: str) -> str:
    """Return a number of things in words, ``1 die`` or ``2 dies``; nouns take an s."""
    return f"{count:g} {noun}" if count == 1 else f"{count:.15g} {noun}s"


def round_rate(x: float) -> float:
    """Round to four significant digits; what is compared before a status is written."""
    return float(_rounded(x))


def decimal(x: float) -> str:
    """Return the rounded value without exponent, such as ``132.4``; ValueError when it is not finite."""
    text = format(_rounded(x), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rounded(x: float) -> Decimal:
    if not math.isfinite(x):
        raise ValueError(f"not a figure: {x}")
    if abs(x) < _SMALLEST:
        return Decimal(0)
    return _CONTEXT.create_decimal_from_float(max(-_LARGEST, min(_LARGEST, x)))


def workload_performance(result: WorkloadResult) -> dict[str, Any]:
    """Return WorkloadStatus.performance as JSON; all zero while nothing moves.

    Power is left out where the machine's profile has no source for it.
    """
    figures: dict[str, Any] = {
        "tokensPerSecond": decimal(result.tokens_per_second),
        "tokensPerSecondPerCard": decimal(result.tokens_per_second_per_card),
        "mfu": decimal(result.mfu),
        "stepTimeSeconds": decimal(result.step_time_seconds),
        "recomputePercent": decimal(result.recompute_fraction * 100),
        "hbmGibibytesPerDie": decimal(result.hbm_bytes_per_die / 2**30),
        "linkUtilisationPercent": decimal(result.link_utilisation * 100),
    }
    if result.kind == "inference":
        figures["ttftSeconds"] = decimal(result.ttft_seconds)
        figures["tpotSeconds"] = decimal(result.tpot_seconds)
        figures["promptTokensPerSecond"] = decimal(result.prompt_tokens_per_second)
    if result.power_watts > 0 or result.tokens_per_second == 0:
        figures["powerKilowatts"] = decimal(result.power_watts / 1e3)
    if result.bound is not None:
        figures["bound"] = result.bound
    if result.expected_error_percent is not None:
        figures["expectedErrorPercent"] = decimal(result.expected_error_percent)
    return figures


def machine_performance(state: MachineState, profile: Profile | None = None) -> dict[str, Any]:
    """Return SuperNodeStatus.performance as JSON; power is left out where the profile has no source for it.

    ``profile`` is given where figures of the built-in one are changed.
    """
    profile = profile or load_profile(state.profile)
    power = {"powerKilowatts": decimal(state.power_watts / 1e3)} if profile.has_power_model else {}
    return {
        "ratedPetaflops": decimal(profile.rated_flops / 1e15),
        "bf16Petaflops": decimal(profile.bf16_flops / 1e15),
        "hbmTebibytes": decimal(profile.hbm_bytes / 2**40),
        "hbmBandwidthTerabytesPerSecond": decimal(profile.dies * profile.hbm_bytes_per_second_per_die / 1e12),
        "busBandwidthTerabytesPerSecond": decimal(state.bus_bandwidth_bytes_per_second / 1e12),
        **power,
        "tokensPerSecond": decimal(state.tokens_per_second),
    }
