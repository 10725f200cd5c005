"""The section `http:`: two addresses, and who may use the status page."""

import ipaddress

from tunerd.config import Http
from tunerd.config.admin_token import TokenUnusable, read_token
from tunerd.loading.reading import ConfigReader
from tunerd.yaml_location import Node


def read_http(reader: ConfigReader, node: Node | None) -> Http:
    """An address of the status page that other machines reach needs a token. With `listen: null` the status page has no port by
    default either."""
    block = reader.section(node, "http", Http)
    values = block.values
    if token_file := values.get("admin_token_file"):
        values["admin_token_file"] = reader.absolute(token_file)
    http = Http(**values)
    if not http.listen and "admin_listen" not in block.nodes:
        values["admin_listen"] = ""
        http = Http(**values)
    if http.admin_listen and not _is_loopback(http.admin_listen) and http.admin_token_file is None:
        want = "set `admin_token_file:`, or listen on 127.0.0.1"
        block.problem("admin_listen", f"other machines reach this address, so the status page needs a token: {want}")
    if http.admin_token_file is not None and reader.resolve_secrets:
        try:
            read_token(http.admin_token_file)
        except TokenUnusable as exc:
            block.warn("admin_token_file", f"{exc}; nobody can log in to the status page until it can be used")
    return http


def _is_loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
