"""What is deployed is held to its schema, and to the commands and versions that are here."""

import copy
import json
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

from habitue.cli.app import habitue

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "deploy" / "rayjob.schema.json").read_text())
JOB = yaml.safe_load((ROOT / "deploy" / "train.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]


def test_the_manifest_is_what_its_schema_says() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(JOB, SCHEMA)


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "entryPoint"),
        ("spec", "rayClusterSpec", "workerGroupSpec"),
        ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "volume"),
    ],
    ids=lambda path: path[-1],
)
def test_a_field_that_is_misspelt_is_refused(path: tuple[str, ...]) -> None:
    broken = copy.deepcopy(JOB)
    place = broken
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = "anything"
    with pytest.raises(jsonschema.ValidationError, match=path[-1]):
        jsonschema.validate(broken, SCHEMA)


def test_the_entrypoint_is_a_command_with_as_many_workers_as_there_are_replicas() -> None:
    program, name, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    assert program == "habitue"
    with habitue.commands[name].make_context(name, arguments) as context:
        replicas = [group["replicas"] for group in CLUSTER["workerGroupSpecs"]]
        assert context.params["place"] == "ray"
        assert context.params["workers"] == sum(replicas)


def test_every_pod_mounts_the_volumes_that_it_names() -> None:
    groups = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        held = {volume["name"] for volume in pod["volumes"]}
        assert {m["name"] for c in pod["containers"] for m in c["volumeMounts"]} == held


def test_ray_is_the_version_that_is_tested_here() -> None:
    pins = (ROOT / "constraints.txt").read_text().split()
    assert f"ray=={CLUSTER['rayVersion']}" in pins
