"""The stack of ``compose.yaml``, which cannot be started where tests run: checked part by part."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dashboards import settings
from tests.dashboards.pack import BOARDS, FOLDER, read_yaml
from tests.support.services import require

COMPOSE_SCHEMA = files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json"
IMAGE = re.compile(r"(?:[a-z0-9-]+/)?[a-z0-9-]+:v?\d+[\w.-]*")


def services() -> dict[str, Any]:
    """The services of the committed compose file."""
    found: dict[str, Any] = read_yaml("compose.yaml")["services"]
    return found


def list_mounts() -> list[tuple[str, Path, str]]:
    """Service, what is mounted, and where; named volumes are left out."""
    mounts: list[tuple[str, Path, str]] = []
    for name, service in services().items():
        for volume in service.get("volumes", ()):
            source, target, mode = (*volume.split(":"), "rw")[:3]
            if source.startswith("."):
                assert mode == "ro", volume
                mounts.append((name, FOLDER / source, target))
    return mounts


def find_mounted(service: str, path: str) -> Path:
    """The committed file that a container sees at ``path``."""
    for name, source, target in list_mounts():
        if name == service and path.startswith(f"{target}/"):
            return source / path.removeprefix(f"{target}/")
    raise AssertionError(f"{service} mounts nothing at {path}")


def validate_compose(content: Any) -> None:
    """Raise where the content is not a compose file."""
    jsonschema.validate(content, json.loads(COMPOSE_SCHEMA.read_text(encoding="utf-8")))


def test_the_compose_file_holds_to_the_compose_schema() -> None:
    """The compose specification's own schema accepts it, and refuses a service that is spoilt."""
    content = read_yaml("compose.yaml")
    validate_compose(content)
    content["services"]["tempo"]["imagine"] = "grafana/tempo"

    with pytest.raises(jsonschema.ValidationError):
        validate_compose(content)


def test_every_service_of_the_stack_is_there() -> None:
    """tapescope, a collector, Prometheus with exemplars, Alertmanager, Tempo and Grafana."""
    found = services()

    assert found.keys() == {
        *("tapescope", "collector", "prometheus", "alertmanager", "tempo", "grafana")
    }
    assert "--enable-feature=exemplar-storage" in found["prometheus"]["command"]
    for service in found.values():
        assert set(service.get("depends_on", ())) <= found.keys()


def test_images_have_a_name_and_a_tag_and_no_host() -> None:
    """No ``latest``, and no registry: which one that is, the machine decides."""
    images = [s["image"] for s in services().values() if "image" in s]

    assert len(images) == 5
    for image in (*images, *settings.IMAGES.values()):
        assert IMAGE.fullmatch(image), image


def test_pages_are_published_on_the_loopback_address_only() -> None:
    """Nothing of the stack can be reached from another machine."""
    for service in services().values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), port


def test_every_mounted_file_exists() -> None:
    """What is mounted is committed, and what a command names is mounted."""
    assert list_mounts()
    for name, source, _ in list_mounts():
        assert source.exists(), f"{name}: {source}"
    for name, service in services().items():
        for word in service.get("command", ()):
            _, _, path = word.partition("config.file=")
            if path or word.startswith("--config="):
                assert find_mounted(name, path or word.removeprefix("--config=")).is_file()


def test_the_program_of_the_stack_is_copied_whole() -> None:
    """Each path that the image is built from exists."""
    build = services()["tapescope"]["build"]
    context = (FOLDER / build["context"]).resolve()
    copied = re.findall(r"^COPY (.+) \S+$", build["dockerfile_inline"], re.MULTILINE)

    assert context == FOLDER.parent
    for sources in copied:
        for source in sources.split():
            assert list(context.glob(source)), source


def test_alertmanager_accepts_its_configuration() -> None:
    """Alertmanager's own tool loads it, with both receivers."""
    path = FOLDER / "alertmanager" / "alertmanager.yml"
    done = subprocess.run(
        [require("amtool"), "check-config", path], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "2 receivers" in done.stdout


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "page"), ("warning", "ticket")])
def test_each_severity_has_its_receiver(severity: str, receiver: str) -> None:
    """``critical`` wakes an engineer, ``warning`` waits for the morning."""
    path = FOLDER / "alertmanager" / "alertmanager.yml"
    asked = ["config", "routes", "test", f"--config.file={path}", f"severity={severity}"]
    done = subprocess.run([require("amtool"), *asked], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == receiver


def test_exemplars_lead_to_tempo_and_to_the_task() -> None:
    """Grafana's Prometheus source sends a trace id to Tempo, and to the task's page."""
    sources = {
        s["uid"]: s
        for s in read_yaml("grafana/provisioning/datasources/tapescope.yml")["datasources"]
    }
    ways = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]

    assert [way["name"] for way in ways] == ["trace_id", "trace_id"]
    assert sources[ways[0]["datasourceUid"]]["type"] == "tempo"
    assert ways[1]["url"] == f"{settings.TASK_PAGES_URL}/trace/$${{__value.raw}}"
    for source in sources.values():
        host, port = source["url"].removeprefix("http://").split(":")
        assert host in services()
        assert port.isdigit()


def test_grafana_finds_the_dashboards() -> None:
    """The provider's folder is where the boards are mounted."""
    (provider,) = read_yaml("grafana/provisioning/dashboards/tapescope.yml")["providers"]
    folder = provider["options"]["path"]
    seen = [source for _, source, target in list_mounts() if target == folder]

    assert provider["type"] == "file"
    assert len(list(seen[0].glob("*.json"))) == len(BOARDS) + 1  # and the task's


def test_the_collectors_pipelines_are_closed() -> None:
    """Each part that a pipeline names is configured, and none is configured for nothing."""
    content = read_yaml("collector/collector.yml")
    assert content.keys() == {"receivers", "processors", "exporters", "service"}
    used: dict[str, set[str]] = {"receivers": set(), "processors": set(), "exporters": set()}
    for name, pipeline in content["service"]["pipelines"].items():
        assert name in {"traces", "metrics", "logs"}
        for kind, parts in used.items():
            parts.update(pipeline[kind])
        assert pipeline["processors"][0] == "memory_limiter"
        assert pipeline["processors"][-1] == "batch"

    for kind, parts in used.items():
        assert content[kind].keys() == parts, kind
    host, port = content["exporters"]["otlp/tempo"]["endpoint"].split(":")
    received = read_yaml("tempo/tempo.yml")["distributor"]["receivers"]["otlp"]["protocols"]
    assert host in services()
    assert received["grpc"]["endpoint"].endswith(f":{port}")


def test_the_program_sends_to_the_collector_and_traces_can_be_read() -> None:
    """OTLP goes to a port that the collector listens on; Grafana asks Tempo at its own port."""
    told = services()["tapescope"]["environment"]
    protocols = read_yaml("collector/collector.yml")["receivers"]["otlp"]["protocols"]
    endpoint = told["OTEL_EXPORTER_OTLP_ENDPOINT"].removeprefix("http://collector:")
    tempo = read_yaml("tempo/tempo.yml")
    sources = read_yaml("grafana/provisioning/datasources/tapescope.yml")["datasources"]
    (asked,) = [source["url"] for source in sources if source["type"] == "tempo"]

    assert protocols[told["OTEL_EXPORTER_OTLP_PROTOCOL"]]["endpoint"].endswith(f":{endpoint}")
    assert asked.endswith(f":{tempo['server']['http_listen_port']}")
    assert tempo["storage"]["trace"]["backend"] == "local"
    for kept in ("wal", "local"):
        assert tempo["storage"]["trace"][kept]["path"].startswith("/var/tempo/")
