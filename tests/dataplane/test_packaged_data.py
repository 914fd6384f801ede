"""A model is read alone and is the one of the whole file; a wrong profile is refused by name."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
import yaml

from supernode_dataplane import load_model, model_names, profile
from supernode_dataplane.catalogue import model_source

DATA = files("supernode_dataplane").joinpath("data")


def test_every_model_is_the_one_of_the_whole_file_by_all_of_its_names() -> None:
    whole = yaml.safe_load(DATA.joinpath("models.yaml").read_text(encoding="utf-8"))["models"]
    assert sorted(whole) == list(model_names())
    for name, entry in whole.items():
        for known in (name, name.upper(), entry["repository"], *entry.get("aliases", ())):
            assert load_model(known).name == name
        assert model_source(name) == entry["source"]


FIGURE = {"value": 1, "unit": "dies", "flag": "V", "source": "somewhere"}
WHOLE: dict[str, Any] = {"name": "mine", "version": 1, "title": "Mine", "figures": {"servers": FIGURE}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "other"}, "name is 'other', the file's is 'mine'"),
        ({"version": 0}, "version cannot be 0"),
        ({"version": "1"}, "version cannot be '1'"),
        ({"title": ""}, "title cannot be ''"),
        ({"supernode": "yes"}, "supernode cannot be 'yes'"),
        ({"colour": "red"}, "colour is nothing that a profile says"),
        ({"figures": None}, "figures cannot be None"),
        ({"figures": {"servers": 3}}, "figures cannot be {'servers': 3}"),
        ({"figures": {"servers": {**FIGURE, "value": "many"}}}, "figures.servers.value cannot be 'many'"),
        ({"figures": {"servers": {**FIGURE, "value": True}}}, "figures.servers.value cannot be True"),
        ({"figures": {"servers": {**FIGURE, "unit": ""}}}, "figures.servers.unit cannot be ''"),
        ({"figures": {"servers": {**FIGURE, "source": "here"}}}, "figures.servers.source cannot be 'here'"),
        ({"figures": {"servers": {**FIGURE, "flag": "X"}}}, "figures.servers.flag cannot be 'X'"),
        ({"figures": {"servers": {**FIGURE, "note": ""}}}, "figures.servers.note is nothing that a profile says"),
    ],
    ids=str,
)
def test_a_profile_that_is_wrong_is_refused_by_file_and_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"profiles/mine\.yaml") as caught:
        profile.checked_file("mine", {**WHOLE, **change})
    assert str(caught.value) == f"profiles/mine.yaml: {said}"


def test_a_profile_that_is_right_has_its_figures_as_floats_and_is_no_supernode_unless_it_says_so() -> None:
    checked = profile.checked_file("mine", WHOLE)
    assert repr(checked["figures"]["servers"]["value"]) == "1.0"
    assert checked["supernode"] is False
