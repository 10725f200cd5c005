"""Imports point inwards: core <- adapters <- conductors <- app <- cli. This test is the rule, read off the code itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tunerd

ROOT = Path(tunerd.__file__).parent
MODULES = {
    ".".join(("tunerd", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}

PURE = (
    "tunerd.call",
    "tunerd.outcome",
    "tunerd.carried_key",
    "tunerd.events",
    "tunerd.location",
    "tunerd.places",
    "tunerd.statuses",
    "tunerd.visible",
    "tunerd.mapping",
    "tunerd.workbench",
    "tunerd.ledger.states",
    "tunerd.ledger.matching",
    "tunerd.delivery.retry",
    "tunerd.delivery.pacing",
    "tunerd.delivery.adaptive",
    "tunerd.intake.framing",
)
IMPURE_LIBRARIES = {
    "asyncio", "aiohttp", "watchdog", "sqlite3", "time", "random", "logging", "socket", "threading", "subprocess",
    "structlog", "prometheus_client",
}  # fmt: skip
TELLING_LIBRARIES = {"logging", "structlog", "prometheus_client"}

CORE = {
    "tunerd",
    "tunerd.call",
    "tunerd.outcome",
    "tunerd.carried_key",
    "tunerd.events",
    "tunerd.clock",
    "tunerd.location",
    "tunerd.places",
    "tunerd.statuses",
    "tunerd.visible",
    "tunerd.config",
    "tunerd.filesystem",
}
MAY_IMPORT = {
    # package: what of tunerd it may know beside the core and itself
    "tunerd.mapping": {"tunerd.config.quantities", "tunerd.config.yaml_nodes"},
    "tunerd.ledger": set(),
    "tunerd.intake": {"tunerd.ledger"},
    "tunerd.delivery": {"tunerd.ledger", "tunerd.config.secrets"},
    "tunerd.ops": {"tunerd.ledger"},
    "tunerd.sandbox": set(),
}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module.startswith("tunerd"):
                yield from (full for name in node.names if (full := f"{node.module}.{name.name}") in MODULES)


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("module", [m for m in MODULES if any(_inside(m, p) for p in PURE)])
def test_pure_modules_import_nothing_that_acts(module: str) -> None:
    """The pure core knows no loop, socket, clock, chance or log."""
    found = {name.split(".")[0] for name in _imports(MODULES[module])} & IMPURE_LIBRARIES
    assert not found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_know_only_their_neighbours(package: str) -> None:
    """An adapter never imports another adapter; what two of them share is core, or is handed over by app.py."""
    wrong = [
        (module, name)
        for module, path in MODULES.items()
        if _inside(module, package)
        for name in _imports(path)
        if _inside(name, "tunerd")
        and name not in CORE
        and not _inside(name, package)
        and not any(name == allowed for allowed in MAY_IMPORT[package])
    ]
    assert not wrong


@pytest.mark.parametrize("package", ["tunerd.intake", "tunerd.mapping", "tunerd.ledger", "tunerd.delivery"])
def test_only_ops_tells(package: str) -> None:
    """A diff that changes a log line or a metric never touches what it tells about."""
    wrong = [
        (module, name)
        for module, path in MODULES.items()
        if _inside(module, package)
        for name in _imports(path)
        if name.split(".")[0] in TELLING_LIBRARIES
    ]
    assert not wrong


@pytest.mark.parametrize("module", [m for m in MODULES if m != "tunerd.testing"])
def test_no_loose_tasks_and_no_sleeps(module: str) -> None:
    """Every task has an owner (TaskGroup), and every pause ends early on stop (Clock.wait)."""
    loose = {"asyncio.gather", "asyncio.create_task", "asyncio.sleep", "time.sleep"}
    calls = {
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and not (node.func.attr == "sleep" and node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    }
    assert not calls & loose


@pytest.mark.parametrize("module", MODULES)
def test_each_file_says_what_belongs_in_it(module: str) -> None:
    """Each file opens with a sentence or two for its next reader."""
    assert ast.get_docstring(ast.parse(MODULES[module].read_text()))


@pytest.mark.parametrize("module", [m for m in MODULES if _inside(m, "tunerd.cli") and m != "tunerd.cli.terminal"])
def test_only_one_place_writes_to_the_terminal(module: str) -> None:
    """What comes from documents reaches a terminal only through cli/terminal.py, which lets nothing invisible pass."""
    calls = {
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
    } | {
        node.func.id
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"click.echo", "click.secho", "click.style", "print"}


def test_no_type_checking_imports() -> None:
    """A TYPE_CHECKING import to break a cycle means that a file is in the wrong place."""
    assert not [module for module, path in MODULES.items() if "TYPE_CHECKING" in path.read_text()]


def test_the_fakes_stay_out_of_the_daemon() -> None:
    """What tests and the demo use costs a running daemon neither memory nor a chance to be used by mistake."""
    fakes = ("tunerd.testing", "tunerd.sandbox")
    code = f"import sys, tunerd.cli.run, tunerd.app; print([name for name in {fakes!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
