"""docs/kubernetes.md: what it shows can be pasted."""

import os
import re
from pathlib import Path

import kubernetes_validate
import yaml

from tests.docs.fences import DOCS, ROOT, fences
from tests.k8s.manifests import K8S, kustomize, pod_spec, rendered, tunerd_of, workload
from tests.k8s.test_manifests import VERSIONS
from tests.real_parts import needs_program

PAGE = DOCS / "kubernetes.md"


def _shown(info: str) -> str:
    [fence] = [fence for fence in fences(PAGE) if fence.info == info]
    return fence.text


@needs_program("kubectl", "it renders the kustomization")
def test_a_workload_of_ones_own(tmp_path: Path) -> None:
    """The kustomization that the page shows adds tunerd to a Deployment that has the label and the two volumes."""
    text = _shown("yaml kustomization").replace("k8s/", f"{os.path.relpath(K8S, tmp_path)}/")
    (tmp_path / "kustomization.yaml").write_text(text)
    (tmp_path / "deployment.yaml").write_text((K8S / "overlays" / "native-sidecar" / "deployment.yaml").read_text())
    assert tunerd_of(pod_spec(kustomize(tmp_path)))["restartPolicy"] == "Always"


@needs_program("kubectl", "it renders the manifests")
def test_the_exec_probes_can_replace_the_others() -> None:
    """Kubernetes takes the pod with the probes that the page shows."""
    deployment = yaml.safe_load(yaml.safe_dump(workload(rendered("native-sidecar"))))
    tunerd_of(deployment["spec"]["template"]["spec"]).update(yaml.safe_load(_shown("yaml probes")))
    for version in VERSIONS:
        kubernetes_validate.validate(deployment, version, strict=True)


def test_the_overlays_of_the_page_are_there() -> None:
    """Each path under k8s/ that a page names is a file or directory, and each overlay is named."""
    named = {path for page in DOCS.glob("*.md") for path in re.findall(r"k8s/[a-z0-9/.-]*[a-z0-9]", page.read_text())}
    assert not [path for path in named if not (ROOT / path).exists()]
    assert {f"k8s/overlays/{path.name}" for path in (K8S / "overlays").iterdir()} <= named
