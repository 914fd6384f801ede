"""One operating point of other analytical models of inference, beside ours: what installs from the package index.

Each tool lives in a virtual environment of its own in the cache, never in the project's, and is timed there by a small
program that it runs: the same question for all, LLaMA-3.1-70B decoding in BF16 on one server of 8 H100 with tensor
parallelism of 8, 64 sequences of 4,096 tokens of prompt and 256 of output, another batch each time so that no cache
answers. Times are of the processor, not of the clock, because other work on the machine would count otherwise. A tool
that does not install or run is named in one line, and the rest goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import Row

__all__ = ["measure"]

_INSTALL_SECONDS = 1800
_RUN_SECONDS = 300
_RUNS = 9
_TIMED = """
import json, logging, time, warnings
from importlib.metadata import version
logging.disable(logging.CRITICAL)
warnings.filterwarnings("ignore")
{question}
ask(63)
times = []
for batch in range(64, 64 + {runs}):
    start = time.process_time()
    answer = ask(batch)
    times.append(time.process_time() - start)
    tpot = tpot if batch > 64 else answer
print(json.dumps(dict(times=times, tpot=tpot, version=version("{package}"))))
"""
_GENZ = """
import GenZ
H100 = dict(Flops=989, Memory_size=80, Memory_BW=3350, ICN=450, real_values=True)
def ask(batch):
    return GenZ.decode_moddeling(
        model="meta-llama/Llama-3.1-70B", batch_size=batch, input_tokens=4096, output_tokens=256, Bb=1,
        system_name=H100, bits="bf16", tensor_parallel=8, parallelism_heirarchy="TP{8}_EP{1}_PP{1}",
    )["Latency"]
"""
_AICONFIGURATOR = """
from aiconfigurator.cli.api import cli_estimate
def ask(batch):
    return cli_estimate(
        "meta-llama/Meta-Llama-3.1-70B", "h100_sxm", mode="static_gen", backend_name="trtllm",
        isl=4096, osl=256, batch_size=batch, tp_size=8,
    ).tpot
"""


@dataclass(frozen=True, slots=True)
class _Tool:
    """What is installed, and how it is asked; ``ask`` returns the time of an output token in milliseconds."""

    name: str
    package: str
    version: str
    question: str


_TOOLS = (
    _Tool("GenZ", "genz-llm", "0.0.16", _GENZ),
    _Tool("AIConfigurator", "aiconfigurator", "0.12.0", _AICONFIGURATOR),
)


class _NotThereError(Exception):
    """A tool does not install, or does not run; the message is the last that it said."""


def measure() -> Iterator[Row]:
    """Time our operating point, then each tool's, one after the other."""
    ours, whole, tpot = _ours()
    for tool in _TOOLS:
        try:
            theirs = _theirs(tool)
        except _NotThereError as error:
            print(f"bench: {tool.name} is left out: {error}", file=sys.stderr, flush=True)
            continue
        median = statistics.median(theirs["times"]) * 1e3
        how = (
            f"processor time, median of {len(theirs['times'])}, warm; the budget is what {tool.package} "
            f"{theirs['version']} takes; ours with every reading and its error bar {whole * 1e3:.2g} ms; "
            f"TPOT {tpot * 1e3:.1f} ms, theirs {theirs['tpot']:.1f} ms"
        )
        yield Row(f"LLaMA-3.1-70B decode on 8 H100, one point, beside {tool.name}", ours * 1e3, "ms", median, how)


def _ours() -> tuple[float, float, float]:
    """Return seconds of an operating point, of a whole scenario with its error bar, and the time of a token."""
    from supernode_cli.evaluation import evaluate
    from supernode_dataplane.deployment_plan import inference_spec
    from supernode_dataplane.inference import inference_point
    from supernode_dataplane.solving import linked_deployment

    def scenario(batch: int) -> Any:
        inference = {
            "mode": "Decode",
            "inputTokens": 4096,
            "outputTokens": 256,
            "load": {"concurrency": batch},
            "precision": {"weights": "bf16", "activations": "bf16"},
            "decode": {"parallelism": {"tensor": 8}},
        }
        machine = {"profile": "h100-cluster", "nodes": 1}
        return evaluate({"machine": machine, "model": {"name": "llama-3.1-70b"}, "inference": inference})

    first = scenario(64)
    inputs = first.inputs
    deployment = linked_deployment(inputs.profile, inputs.compute_nodes, inputs.workloads[0])
    assert deployment is not None
    points = [_processor(lambda b=batch: inference_point(inference_spec(deployment, float(b)))) for batch in range(300)]
    scenarios = [_processor(lambda b=batch: scenario(b)) for batch in range(65, 65 + _RUNS)]
    return statistics.median(points), statistics.median(scenarios), first.result.tpot_seconds


def _processor(function: Any) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def _theirs(tool: _Tool) -> dict[str, Any]:
    program = (
        _TIMED.replace("{question}", tool.question).replace("{runs}", str(_RUNS)).replace("{package}", tool.package)
    )
    answer = _run([str(_environment(tool)), "-c", program], _RUN_SECONDS)
    try:
        found: dict[str, Any] = json.loads(answer.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise _NotThereError(f"its answer is none: {answer.strip()[-200:]!r}") from None
    return found


def _environment(tool: _Tool) -> Path:
    """Return the Python of a tool's own environment, installed the first time."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "supernode" / "bench" / f"{tool.package}-{tool.version}"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        print(
            f"bench: installing {tool.package} {tool.version} into the cache, a few minutes",
            file=sys.stderr,
            flush=True,
        )
        _run([sys.executable, "-m", "venv", str(folder)], _INSTALL_SECONDS)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, f"{tool.package}=={tool.version}"], _INSTALL_SECONDS)
        (folder / "installed").touch()
    return python


def _run(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise _NotThereError(f"no answer within {seconds:g} s") from None
    except OSError as error:
        raise _NotThereError(str(error)) from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise _NotThereError(said[:200])
    return done.stdout
