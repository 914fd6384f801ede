"""DeepSeek-R1 decode on 160 packages beside a training run on the rest: the example, on the demo's machine."""

from __future__ import annotations

import json

import pytest

from support.product import Product

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
EXAMPLE = "examples/deepseek-r1-decode.yaml"
DECODE, TRAINING = "deepseek-r1-decode", "llama-3-1-70b"
OF_ITS_OWN = {DECODE: {"tpotSeconds"}, TRAINING: {"recomputePercent"}}


def test_decode_and_training_share_the_machine_and_the_cli_gives_the_status_of_each(product: Product) -> None:
    product.kubectl("apply", "-f", EXAMPLE)
    product.wait(lambda: product.rate(DECODE) > 0 and product.rate(TRAINING) > 0, "both to run", 300)
    placements = {name: product.workload(name)["status"]["placement"] for name in (DECODE, TRAINING)}
    assert [placements[name]["dies"] for name in (DECODE, TRAINING)] == [320, 448]
    servers = [
        {part["server"] for rank in placements[name]["ranks"] for part in rank["parts"]} for name in (DECODE, TRAINING)
    ]
    assert not servers[0] & servers[1]
    performance = product.workload(DECODE)["status"]["performance"]
    assert float(performance["tpotSeconds"]) == pytest.approx(0.0494, rel=0.10)
    for name in (DECODE, TRAINING):
        status = product.workload(name)["status"]["performance"]
        simulated = json.loads(product.supernode("simulate", "-f", EXAMPLE, "-w", name, "-o", "json"))
        figures = simulated["workloads"][0]["figures"]
        both = figures.keys() & status.keys()
        assert both >= {"tokensPerSecond", "tokensPerSecondPerCard", "stepTimeSeconds", *OF_ITS_OWN[name]}
        assert {figure: figures[figure]["value"] for figure in both} == {figure: status[figure] for figure in both}


def test_a_broken_die_takes_its_instance_and_nothing_of_the_training_run(product: Product) -> None:
    product.kubectl("apply", "-f", EXAMPLE)
    product.wait(lambda: product.rate(DECODE) > 0 and product.rate(TRAINING) > 0, "both to run", 300)
    training = product.rate(TRAINING)
    server = product.workload(DECODE)["status"]["placement"]["ranks"][0]["parts"][0]["server"]
    fault = json.dumps({"spec": {"faults": [{"name": "t", "die": 0, "level": "SeparateNPU", "code": "80E18402"}]}})
    product.kubectl("patch", "cn", f"cm384-{server:02d}", "--type=merge", "-p", fault)
    product.wait(lambda: product.rate(DECODE) == 0, "decode to stop: its only instance has a broken die", 30)
    assert product.rate(TRAINING) == training
    product.clear_faults()
    product.wait(lambda: product.rate(DECODE) > 0, "decode to go on", 60)
