"""The manifests of k8s/, rendered by kustomize."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.docs.fences import ROOT

K8S: Final = ROOT / "k8s"
OVERLAYS: Final = sorted(path.name for path in (K8S / "overlays").iterdir())
WORKLOADS: Final = ("Deployment", "StatefulSet")


def rendered(overlay: str) -> list[dict[str, Any]]:
    """The objects of an overlay, as `kubectl apply -k` would send them."""
    return kustomize(K8S / "overlays" / overlay)


def rendered_with(directory: Path, overlay: str, components: Sequence[str]) -> list[dict[str, Any]]:
    """An overlay with optional components, put together as a user does it: in a kustomization of their own (in `directory`)."""
    base = os.path.relpath(K8S, directory)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{base}/overlays/{overlay}"],
        "components": [f"{base}/components/{name}" for name in components],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return kustomize(directory)


def kustomize(directory: Path) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "kustomize warns of what will stop working"
    return list(yaml.safe_load_all(done.stdout))


def workload(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    [one] = [each for each in objects if each["kind"] in WORKLOADS]
    return one


def pod_spec(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return dict(workload(objects)["spec"]["template"]["spec"])


def containers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from spec.get("initContainers", ())
    yield from spec["containers"]


def tunerd_of(spec: dict[str, Any]) -> dict[str, Any]:
    [one] = [each for each in containers(spec) if each["name"] == "tunerd"]
    return one
