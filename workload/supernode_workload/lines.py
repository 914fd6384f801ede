"""What is printed. Pure: values in, lines out.

One line per optimizer step would be what a training framework prints; when several steps passed between two looks,
the line is about the last of them, with the time of a step as the machine gives it. A serving engine prints rates and
latencies at intervals.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take a third of the start
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["banner", "completed_line", "progress_line", "serving_line", "waiting_line"]


def banner(environment: Mapping[str, str], rank: int) -> list[str]:
    """Return the first lines: who this is and what it holds."""
    devices = environment.get("ASCEND_VISIBLE_DEVICES", "")
    count = _count(devices)
    return [
        f" > rank {rank} on {environment.get('HOSTNAME', 'unknown')}: {count} devices",
        f" > ASCEND_VISIBLE_DEVICES={devices or '(none)'}",
        f" > SUPERNODE_DEVICES={environment.get('SUPERNODE_DEVICES') or '(none)'}",
        f" > SUPERNODE_LINKS={environment.get('SUPERNODE_LINKS') or '(all links of these devices)'}",
    ]


def progress_line(view: Mapping[str, Any], rank: int, when: str) -> str:
    """Return one line about the last finished step, or what is served, ``when`` being the local time."""
    if _serves(view):
        return serving_line(view, rank, when)
    steps, tokens = _int(view.get("steps")), _int(view.get("tokens"))
    total = _total_steps(view, steps, tokens)
    batch = _int(view.get("globalBatchSize"))
    parts = [
        f" [{when}] iteration {steps:8d}/{f'{total:8d}' if total is not None else '     inf'}",
        f"consumed samples: {steps * batch:12d}" if batch else f"consumed tokens: {tokens:14d}",
        f"elapsed time per iteration (ms): {_float(view.get('stepTimeSeconds')) * 1000:.1f}",
        f"tokens/s/card: {view.get('tokensPerSecondPerCard', '0')}",
        f"rank {rank}",
    ]
    return " | ".join(parts)


def serving_line(view: Mapping[str, Any], rank: int, when: str) -> str:
    """Return one line about what is being served, ``when`` being the local time."""
    target = view.get("targetTokens")
    tokens = str(_int(view.get("tokens"))) + (f"/{target}" if isinstance(target, int) else "")
    parts = [f" [{when}] {str(view.get('mode')).lower()}: requests {_int(view.get('steps'))}", f"tokens: {tokens}"]
    prompts, output = (str(view.get(key) or "0") for key in ("promptTokensPerSecond", "tokensPerSecond"))
    if prompts != "0":
        parts.append(f"prompt throughput: {prompts} tokens/s")
    if view.get("mode") != "Prefill":
        parts.append(f"generation throughput: {output} tokens/s")
    parts.append(f"tokens/s/card: {view.get('tokensPerSecondPerCard', '0')}")
    for name, key in (("TTFT", "ttftSeconds"), ("TPOT", "tpotSeconds")):
        if _float(view.get(key)) > 0:
            parts.append(f"{name} (ms): {_float(view.get(key)) * 1000:.1f}")
    return " | ".join([*parts, f"rank {rank}"])


def completed_line(view: Mapping[str, Any], rank: int, when: str) -> str:
    """Return the last line."""
    what = "serving" if _serves(view) else "training"
    return f" [{when}] {what} completed | tokens: {view.get('tokens')} | rank {rank}"


def _serves(view: Mapping[str, Any]) -> bool:
    return view.get("mode") not in (None, "Training")


def waiting_line(view: Mapping[str, Any], when: str) -> str:
    """Return one line about why nothing moves."""
    message = str(view.get("message") or "").strip()
    return f" [{when}] waiting: {view.get('reason') or 'Unknown'}{': ' + message if message else ''}"


def _total_steps(view: Mapping[str, Any], steps: int, tokens: int) -> int | None:
    target = view.get("targetTokens")
    if not isinstance(target, int):
        return None
    per_step = _int(view.get("tokensPerStep")) or (tokens // steps if steps else 0)
    return -(-target // per_step) if per_step else None


def _count(ranges: str) -> int:
    count = 0
    for part in ranges.split(",") if ranges else []:
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            count += max(int(last or first) - int(first) + 1, 0)
    return count


def _int(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
