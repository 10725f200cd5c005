"""mkdocs.yml builds the documentation as a site, without a warning."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.fences import DOCS, ROOT


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """MkDocs finds every page and every heading that is linked to, and each page of docs/ is in the site, its blocks of code drawn."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    made = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.html")}
    wanted = {re.sub(r"README$", "index", str(page.relative_to(DOCS).with_suffix(""))) + ".html" for page in DOCS.rglob("*.md")}
    assert made >= wanted | {"index.html", "CONTRIBUTING.html"}
    assert (tmp_path / "config.example.yaml").is_file()
    assert not [name for name in sorted(made) if "<p>```" in (tmp_path / name).read_text()]
    start = (tmp_path / "index.html").read_text()
    assert '<pre class="mermaid">' in start
    assert 'href="operate.html"' in start
