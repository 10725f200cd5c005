"""What mkdocs.yml needs beside docs/: README.md, CONTRIBUTING.md and the example configuration are outside of it, and the blocks
of code have words for the tests in their first line."""

import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File

_ROOT: Final = Path(__file__).parent
_OUTSIDE: Final = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "config.example.yaml": "config.example.yaml"}


def on_files(files: Any, config: Any) -> Any:
    for name, page in _OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(_ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    text = re.sub(r"^( *```\w+) [^\n]+$", r"\1", markdown, flags=re.MULTILINE)
    if page.file.src_uri in _OUTSIDE.values():
        return re.sub(r"\]\(docs/", "](", text)
    for name, target in _OUTSIDE.items():
        text = re.sub(rf"\]\(((?:\.\./)*)\.\./{re.escape(name)}(?=[)#])", rf"](\1{target}", text)
    return text
