"""`verify:` of a source, in its short form (`verify: get`) or as a mapping."""

from tunerd.config import VerifySettings
from tunerd.loading.reading import ConfigBlock, join


def read_verify(source: ConfigBlock) -> VerifySettings:
    """What `verify:` says, with defaults in place of what was wrong."""
    node = source.given("verify")
    if node is None or node.value is None:
        return VerifySettings()
    if node.value in ("none", "get"):
        return VerifySettings(request="get" if node.value == "get" else "none")
    if not isinstance(node.value, dict):
        source.problem("verify", f"takes none, get or a mapping with `request:`, not {source.reader.shown(node)}")
        return VerifySettings()
    block = source.reader.section(node, join(source.path, "verify"), VerifySettings)
    if "request" not in block.nodes:
        block.problem("", "`request:` is missing: it takes none or get")
    return VerifySettings(**block.values)
