"""k8s/components/monitoring/prometheusrule.yaml, made from the rule files of monitoring/. `make docs` writes it."""

from pathlib import Path
from typing import Final

from tests.docs.fences import ROOT

FILE: Final = ROOT / "k8s" / "components" / "monitoring" / "prometheusrule.yaml"
PARTS: Final = ("alerts.yml", "alerts-kubernetes.yml", "recording.yml")
_HEAD: Final = """\
# Made by `make docs` from the files of monitoring/; change those. docs/alerts.md explains each alert.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: tunerd}
spec:
  groups:
"""


def made(directory: Path = ROOT / "monitoring") -> str:
    """The rule groups as they are written, comments within them included."""
    text = _HEAD
    for name in PARTS:
        groups = (directory / name).read_text().partition("\ngroups:\n")[2]
        text += "".join(f"  {line}\n" if line else "\n" for line in groups.splitlines())
    return text


if __name__ == "__main__":
    FILE.write_text(made())
