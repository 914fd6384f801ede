"""The packaged files are read as YAML readers read them, and a wrong one is refused by name."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
import yaml

from supernode_dataplane import load_model, model_names, packaged, profile
from supernode_dataplane.catalogue import model_source

DATA = files("supernode_dataplane").joinpath("data")
FILES = sorted(
    (*folder, file.name)
    for folder in ((), ("profiles",), ("scenarios",))
    for file in DATA.joinpath(*folder).iterdir()
    if file.name.endswith(".yaml")
)


@pytest.mark.parametrize("path", FILES, ids="/".join)
def test_a_file_has_the_values_that_a_yaml_reader_gives(path: tuple[str, ...]) -> None:
    theirs = yaml.safe_load(DATA.joinpath(*path).read_text(encoding="utf-8"))
    ours = packaged.read_data(*path)
    assert repr(ours) == repr(theirs)  # 1 is not 1.0, and keys are in order


def test_quotes_anchors_and_every_kind_of_plain_value_are_understood() -> None:
    text = """
    all: &all {one: 1, "two": "2", three: 3.0, small: 1.5e-6, no: no, "on": "on", null: ~}
    list: [1, "1", '1', yes, "yes", null, "null", 1e3, 1.0e+3, 0x10, 010, 2024-01-01, "2024-01-01", .inf, "", two words]
    more: {<<: *all, two: two, again: *all}
    long: |
      lines
      kept
    """
    assert repr(packaged.parse_data(text)) == repr(yaml.safe_load(text))


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
