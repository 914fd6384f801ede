"""Three pictures from the library: TPOT against batch, the breakdown of a training step, machines side by side.

python examples/plots/plots.py FOLDER        (needs the extra: from the checkout, pip install '.[plots]')
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from supernode_dataplane.catalogue import load_model
from supernode_dataplane.decode import decode_step
from supernode_dataplane.deployment import Experts, Pool, Precision, Speculation
from supernode_dataplane.hardware import Format, hardware_of
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.planning import TrainingPlan, search_training
from supernode_dataplane.profile import load_profile
from supernode_dataplane.stacks import load_stack


def decode_pool(machine: str, stack: str, dies: int, kind: Format) -> Pool:
    """Return DeepSeek-R1 decode with an expert on each die where there are enough."""
    return Pool(
        architecture=load_model("deepseek-r1"),
        hardware=hardware_of(load_profile(machine)),
        stack=load_stack(stack),
        dies=dies,
        expert=dies,
        precision=Precision(weights=kind, activations=kind),
        experts=Experts(redundant=max(0, dies - 32 - 256), shared_ranks=32 if dies >= 320 else 0),
        speculation=Speculation(drafts=1, accepted=0.7),
    )


def tpot_against_batch(path: Path) -> None:
    """Plot the time per output token of DeepSeek-R1 on 160 packages: 1,000 batches computed as one array."""
    pool = decode_pool("cloudmatrix-384", "vendor-tuned", 320, "int8")
    batch = np.linspace(1, 64, 1000)
    figure, axes = plt.subplots(figsize=(7, 4))
    for context in (1536, 4224, 16384):
        step = decode_step(pool, batch, np.full_like(batch, context))
        axes.plot(2 * batch, step.seconds / pool.speculation.tokens * 1e3, label=f"context {context:,}")
    for card_batch, tpot in ((128, 46.8), (96, 49.4), (8, 14.9)):
        axes.plot(card_batch, tpot, "k+", markersize=10)
    axes.set(xlabel="sequences per card", ylabel="TPOT, ms", title="DeepSeek-R1 decode, EP320 (+: arXiv 2506.12708)")
    axes.legend()
    figure.savefig(path)
    plt.close(figure)


def training_breakdown(path: Path) -> None:
    """Plot what a step of LLaMA-3.1-405B is made of at the best layout of each machine."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    left = np.zeros(2)
    machines = ("atlas-a2-cluster", "cloudmatrix-384")
    plans: list[TrainingPlan] = []
    for machine in machines:
        spec = TrainingSpec(load_model("llama-3.1-405b"), "vendor-tuned", 8192, 192)
        plans += search_training(load_profile(machine), spec, 768).best
    causes = sorted({cause for plan in plans if plan.step for cause in plan.step.breakdown})
    for cause in causes:
        shares = np.array([plan.step.breakdown.get(cause, 0.0) if plan.step else 0.0 for plan in plans])
        axes.barh(machines, shares, left=left, label=cause.replace("_", " "))
        left = left + shares
    axes.set(xlabel="seconds of a step", title="LLaMA-3.1-405B, 8K, batch 192, 768 dies")
    axes.legend(ncols=4, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.15))
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def machines_side_by_side(path: Path) -> None:
    """Plot tokens per second and card of DeepSeek-R1 decode at 50 ms per token, 4K of context."""
    pools = {
        "CloudMatrix 384": decode_pool("cloudmatrix-384", "vendor-tuned", 320, "int8"),
        "H800": decode_pool("h800-cluster", "gpu-tuned", 128, "fp8"),
    }
    figure, axes = plt.subplots(figsize=(7, 3))
    batch = np.arange(1.0, 129.0)
    for name, pool in pools.items():
        tpot = decode_step(pool, batch, np.full_like(batch, 4224.0)).seconds / pool.speculation.tokens
        per_card = batch * pool.hardware.dies_per_card / tpot
        axes.barh(name, per_card[tpot <= 0.050].max())
    axes.set(xlabel="output tokens/s per card at no more than 50 ms per token")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Write the three pictures as SVG into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", default=".", type=Path, help="is made where there is none; else here")
    folder = parser.parse_args().folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"folder: {folder} cannot be made: {error.strerror}")
    tpot_against_batch(folder / "tpot-against-batch.svg")
    training_breakdown(folder / "training-breakdown.svg")
    machines_side_by_side(folder / "machines.svg")


if __name__ == "__main__":
    main()
