"""What the field spec.profile is said to take, everywhere it is said, is what the operator takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supernode_dataplane.profile import profile_names
from supernode_operator.domain.accept import reject_super_node

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "docs/objects.md",
    "crds/supernode.io_supernodes.yaml",
    "helm/supernode/files/crds/supernode.io_supernodes.yaml",
)


def is_taken(profile: str) -> bool:
    """Whether the operator makes a machine of a SuperNode with this profile."""
    spec = {"profile": profile, "nodes": {"selector": {"matchLabels": {"a": "b"}}}}
    refused = reject_super_node({"metadata": {"name": "m", "uid": "u"}, "spec": spec}, ())
    assert refused is None or refused.reason == "ProfileNotFound", refused
    return refused is None


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_the_profiles_that_the_operator_takes_and_those_that_it_refuses(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    found = re.search(
        r"links and power: (.+?)\. The command line's other profiles \((.+?)\) are", text.replace("''", "'")
    )
    assert found is not None
    assert set(found[1].split(" or ")) == {name for name in profile_names() if is_taken(name)}
    assert set(found[2].split(", ")) == {name for name in profile_names() if not is_taken(name)}
