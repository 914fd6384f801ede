"""`supernode simulate` from a cold start: what it costs, and what it does not load.

The budget is one second of wall time on a quiet machine; bench/ holds it. Machines that run tests are shared, and a
core that is shared does half as much: here it is processor time, the least of five, beside that of a program which
only loads the libraries. Ten runs of each on a busy machine: 0.52 and 0.33 s at best, the ratio of these 1.6.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("-c", "import click, numpy, pydantic.main, pydantic.types, rich.console, rich.table, yaml")
MOST = 2.1  # times the libraries, where 1.6 is usual: twice what is ours is seen on any machine
SIMULATE = ("-m", "supernode_cli.main", "simulate", "-f", "examples/llama-3.1-405b-training.yaml")
SERVED = (*SIMULATE[:-1], "examples/deepseek-r1-decode.yaml", "-w", "deepseek-r1-decode")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With our modules compiled once, as they are where the package is installed, and numpy's threads for none."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}


def python(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, check=True, capture_output=True, text=True
    )


def imported(environment: dict[str, str], *arguments: str) -> set[str]:
    """The modules that a program loads."""
    said = python(environment, "-X", "importtime", *arguments).stderr
    return {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cost(environment: dict[str, str], *arguments: str) -> float:
    before = processor_seconds()
    python(environment, *arguments)
    return processor_seconds() - before


def test_a_cold_start_costs_little_more_than_the_libraries_that_it_loads(environment: dict[str, str]) -> None:
    assert "tokens/s per card" in python(environment, *SIMULATE).stdout
    python(environment, *LIBRARIES)
    costs = [(cost(environment, *SIMULATE), cost(environment, *LIBRARIES)) for _ in range(5)]
    ours, theirs = (min(column) for column in zip(*costs, strict=True))
    assert ours < MOST * theirs, costs
    assert ours < 1.5


def test_simulate_loads_no_client_of_a_cluster_no_other_part_and_no_table_that_it_does_not_draw(
    environment: dict[str, str],
) -> None:
    modules = imported(environment, *SIMULATE, "-o", "json")
    loaded = {name.partition(".")[0] for name in modules}
    assert {"supernode_cli", "supernode_dataplane", "numpy", "click"} <= loaded
    heavy = {"kubernetes", "lightkube", "kopf", "grpc", "opentelemetry", "aiohttp", "pyarrow", "matplotlib", "rich"}
    assert not loaded & (heavy | {"supernode_operator", "supernode_cabinet", "supernode_deviceplugin"})
    assert not modules & {"supernode_api.workload", "supernode_api.supernode", "supernode_api.common"}


@pytest.mark.parametrize("command", [SIMULATE, SERVED], ids=["training", "inference"])
def test_garbage_is_looked_for_in_no_module_that_an_answer_needs(
    environment: dict[str, str], command: tuple[str, ...]
) -> None:
    program = (
        "import gc, sys\n"
        "from supernode_cli.main import main\n"
        "looked = []\n"
        "gc.collect()\n"
        "gc.callbacks.append(lambda phase, _: looked.append((phase, gc.get_freeze_count())))\n"
        f"sys.argv = ['supernode', *{command[2:]!r}]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(looked, gc.get_freeze_count() > 10_000, file=sys.stderr)\n"
    )
    assert python(environment, "-c", program).stderr.splitlines()[-1] == "[] True"


def test_an_answer_takes_one_thread(environment: dict[str, str]) -> None:
    # Threads that numpy's library starts for large matrices spin until they are told that there is nothing to do.
    program = (
        "import os, sys\n"
        "from supernode_cli.main import main\n"
        f"sys.argv = ['supernode', *{SIMULATE[2:]!r}]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print('numpy' in sys.modules, len(os.listdir('/proc/self/task')), file=sys.stderr)\n"
    )
    kept = {name: value for name, value in environment.items() if name != "OPENBLAS_NUM_THREADS"}
    assert python(kept, "-c", program).stderr.splitlines()[-1] == "True 1"


def test_a_validator_of_the_api_is_built_when_it_is_first_used(environment: dict[str, str]) -> None:
    program = (
        "from supernode_api.supernode import SuperNodeStatus as Status\n"
        "before = Status.__pydantic_complete__\n"
        "Status.model_validate({})\n"
        "print(before, Status.__pydantic_complete__)"
    )
    assert python(environment, "-c", program).stdout.split() == ["False", "True"]
