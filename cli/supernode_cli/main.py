"""The command line: `supernode get`, `simulate` and what :mod:`supernode_cli.machines` adds.

Imports of the data plane, rich and the kubernetes client happen inside the commands: `supernode simulate` must answer
in under a second from a cold start.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from supernode_cli.errors import CliError
from supernode_cli.machines import claims, compare
from supernode_cli.plan import plan
from supernode_cli.serving_command import serve_sim
from supernode_cli.sweep_command import sweep
from supernode_cli.validate import validate

if TYPE_CHECKING:
    from supernode_cli.report import Report

__all__ = ["cli", "main"]

_OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json", "yaml"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
_UNWRITABLE: Final = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPIPE})
"""What writing fails with where there is no room, no device or no reader."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="supernode", message="supernode %(version)s")
def cli() -> None:
    """A Supernode 384 for Kubernetes, without the hardware."""


@cli.command()
@click.argument("name", required=False)
@click.option("-n", "--namespace", help="Show the workloads of this namespace only.")
@click.option("--context", help="Context of the kubeconfig.")
@click.option("--kubeconfig", type=click.Path(), help="Path of the kubeconfig.")
@_OUTPUT
def get(name: str | None, namespace: str | None, context: str | None, kubeconfig: str | None, output: str) -> None:
    """Show the machines of a cluster and what their workloads achieve."""
    from supernode_cli.cluster import read_objects
    from supernode_cli.report import report_machine
    from supernode_dataplane.errors import ProfileNotFoundError

    objects = read_objects(kubeconfig, context)
    machines = [m for m in objects.super_nodes if name in (None, m["metadata"]["name"])]
    if not machines:
        known = ", ".join(m["metadata"]["name"] for m in objects.super_nodes) or "none; kubectl apply one of examples/"
        raise CliError(f"no SuperNode {name!r}: this cluster has {known}" if name else f"no SuperNode: {known}")
    reports = []
    for machine in machines:
        mine = [c for c in objects.compute_nodes if c["spec"].get("superNode") == machine["metadata"]["name"]]
        try:
            report = report_machine(machine, mine, objects.workloads)
        except ProfileNotFoundError as error:
            raise CliError(f"SuperNode {machine['metadata']['name']}: {error}") from None
        reports.append(_only(report, namespace))
    _print(reports, output)


@cli.command()
@click.option("-f", "--file", "path", required=True, help="Scenario or workload manifest; - is standard input.")
@click.option("-w", "--workload", help="Which workload of a file that has several.")
@_OUTPUT
def simulate(path: str, workload: str | None, output: str) -> None:
    """Say what a workload, or one communication kernel, does on a machine; needs no cluster."""
    from supernode_cli.evaluation import ScenarioError
    from supernode_cli.scenario_files import read_named_document

    document, key = read_named_document(path, workload)
    try:
        report = _simulated(document)
    except ScenarioError as error:
        raise CliError(f"{path}: {error}") from None
    _print([report if key is None else report.called(key)], output)


cli.add_command(claims)
cli.add_command(plan)
cli.add_command(validate)
cli.add_command(compare)
cli.add_command(serve_sim)
cli.add_command(sweep)


def _simulated(document: dict[str, Any]) -> Report:
    if document.get("kernel") is not None:
        from supernode_cli.kernel_evaluation import evaluate_kernel
        from supernode_cli.kernel_report import report_kernel

        return report_kernel(evaluate_kernel(document))
    from supernode_cli.evaluation import evaluate
    from supernode_cli.report import report_evaluation

    return report_evaluation(evaluate(document))


def _only(report: Report, namespace: str | None) -> Report:
    from dataclasses import replace

    if namespace is None:
        return report
    mine = tuple(w for w in report.workloads if w.key.startswith(f"{namespace}/"))
    if mine:
        return replace(report, workloads=mine)
    others = sorted({w.key.partition("/")[0] for w in report.workloads})
    where = f"there are some in {', '.join(others)}" if others else "nor in any other"
    remark = f"no workload of {report.machine.name} in namespace {namespace}; {where}"
    return replace(report, workloads=(), remark=remark)


def _print(reports: list[Report], output: str) -> None:
    if output in ("json", "yaml"):
        values: list[dict[str, Any]] = [report.to_json() for report in reports]
        document = values[0] if len(values) == 1 else {"items": values}
        if output == "json":
            click.echo(json.dumps(document, indent=2))
        else:
            import yaml

            click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)
        return
    from rich.console import Console

    from supernode_cli.tables import print_report

    console = Console(soft_wrap=False, width=None if sys.stdout.isatty() else 120, highlight=False)
    for report in reports:
        print_report(report, console, wide=output == "wide")


def _unwritten(error: OSError) -> NoReturn:
    """End a program that cannot write its answer: status 1, with one line unless whoever read it has gone."""
    if error.errno not in _UNWRITABLE:
        raise error
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # Python would try to write the rest as it ends, and say that it cannot
    if error.errno != errno.EPIPE:
        try:
            remedy = "make room, or write elsewhere"
            click.echo(f"Error: standard output cannot be written: {os.strerror(error.errno)}; {remedy}", err=True)
        except OSError:
            os.dup2(nowhere, sys.stderr.fileno())
    sys.exit(1)


def main() -> None:
    """Run the command line; errors are one sentence and exit status 2, or 1 when the answer cannot be written."""
    # A third of the cold start: garbage is looked for while modules load and leave none (what an answer keeps is some
    # 60,000 objects), and again in all that the process gives back anyway as it ends; threads for large matrices, which
    # nothing here has, spin until they are told that there is nothing to do; and pydantic looks through everything that
    # is installed for plugins.
    gc.set_threshold(200_000, 20, 50)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if sys.stdout is None:  # closed by who started it: writing is to fail, not to be left out
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    try:
        try:
            cli(prog_name="kubectl supernode" if "kubectl-supernode" in sys.argv[0] else "supernode")
        finally:
            sys.stdout.flush()
    except OSError as error:
        _unwritten(error)
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
