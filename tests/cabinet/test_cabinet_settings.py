"""The environment: what is read, and what is said about what cannot be."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from cabinet.machines import settings
from supernode_api.otlp import OtlpConfigError, build_resource, read_otlp_config
from supernode_cabinet.settings import SettingsError, read_settings

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4317"}


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "SUPERNODE_NAME"),
        ({"SUPERNODE_NAME": "a", "SUPERNODE_CABINET_ROLE": "x"}, "SUPERNODE_CABINET_ROLE"),
        ({"SUPERNODE_NAME": "a", "SUPERNODE_CABINETS_PER_POD": "3"}, "SUPERNODE_CABINETS_PER_POD"),
        ({"SUPERNODE_NAME": "a", "SUPERNODE_CABINETS_PER_POD": "-1"}, "SUPERNODE_CABINETS_PER_POD"),
        ({"SUPERNODE_NAME": "a", "POD_NAME": "a-compute-x"}, "POD_NAME"),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        read_settings(environment)


def test_the_ordinal_is_the_end_of_the_pods_name() -> None:
    assert settings("bus", 3).ordinal == 3
    assert settings("compute", 11).ordinal == 11


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, True),
        ({"OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_METRICS_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:1"}, True),
    ],
)
def test_otlp_is_on_when_an_endpoint_is_set_and_nothing_turns_it_off(more: dict[str, Any], wanted: bool) -> None:
    assert settings(**{**ENDPOINT, **more}).otlp is wanted


@pytest.mark.parametrize(
    ("endpoint", "insecure", "target", "secure"),
    [
        ("http://otel:4317", "", "otel:4317", False),
        ("https://otel", "", "otel:4317", True),
        ("https://otel:1", "true", "otel:1", True),
        ("http://[::1]:4317/", "", "[::1]:4317", False),
        ("otel:4317", "", "otel:4317", True),
        ("otel:4317", "true", "otel:4317", False),
    ],
)
def test_endpoints_are_read_as_the_specification_says(endpoint: str, insecure: str, target: str, secure: bool) -> None:
    config = read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_INSECURE": insecure})
    assert (config.target, config.secure) == (target, secure)


def test_variables_for_metrics_win() -> None:
    more = {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://metrics:4317",
        "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20x, b=c=d",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2000",
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "700",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    config = read_otlp_config({**ENDPOINT, **more})
    assert (config.target, config.timeout_seconds, config.gzip) == ("metrics:4317", 0.7, True)
    assert config.headers == (("authorization", "Bearer x"), ("b", "c=d"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENDPOINT", "ftp://x"),
        ("ENDPOINT", "http://"),
        ("ENDPOINT", "http://x:99999"),
        ("HEADERS", "novalue"),
        ("TIMEOUT", "soon"),
        ("TIMEOUT", "-1"),
        ("COMPRESSION", "zstd"),
        ("PROTOCOL", "http/protobuf"),
    ],
)
def test_an_otlp_variable_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(OtlpConfigError, match=f"OTEL_EXPORTER_OTLP_{name}"):
        read_otlp_config({**ENDPOINT, f"OTEL_EXPORTER_OTLP_{name}": value})


def test_resource_attributes_of_the_environment_win() -> None:
    environment = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,team=b%20c", "OTEL_SERVICE_NAME": "d"}
    assert build_resource(environment, {"service.name": "own", "x": "y"}) == {
        "service.name": "d",
        "team": "b c",
        "x": "y",
    }


def test_the_process_says_what_is_missing_and_exits_with_2() -> None:
    argv = [sys.executable, "-m", "supernode_cabinet"]
    done = subprocess.run(argv, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("supernode_cabinet: SUPERNODE_NAME is not set")
