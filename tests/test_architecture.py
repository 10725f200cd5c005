"""The rules about how tunerd/ is built, read off the code itself: who may import whom, and how large and how named things are.

Imports point inwards: core <- adapters <- conductors <- app <- cli. What does not meet a rule about size or names yet is listed in
architecture_open.txt. The list only shrinks: a finding that is not on it fails the test, and so does an entry that is no longer needed.
`python -m tests.test_architecture` removes the entries that are no longer needed.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import tunerd
from tunerd.cli import main

ROOT = Path(tunerd.__file__).parent
OPEN = Path(__file__).with_name("architecture_open.txt")
MODULES = {
    ".".join(("tunerd", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}

MAX_LINES = 420
MAX_LINES_WITHOUT_ARGUMENT = 300
MAX_FUNCTION_LINES = 60
MAX_CONSTRUCTOR_ARGUMENTS = 7

PURE = (
    "tunerd.call",
    "tunerd.outcome",
    "tunerd.carried_key",
    "tunerd.events",
    "tunerd.audio_events",
    "tunerd.record",
    "tunerd.location",
    "tunerd.yaml_location",
    "tunerd.statuses",
    "tunerd.tuner_fields",
    "tunerd.visible",
    "tunerd.mapping",
    "tunerd.workbench",
    "tunerd.ledger.states",
    "tunerd.ledger.matching",
    "tunerd.ledger.decision",
    "tunerd.delivery.retry",
    "tunerd.delivery.pacing",
    "tunerd.delivery.adaptive",
    "tunerd.intake.framing",
    "tunerd.audio.header",
    "tunerd.file_identity",
    "tunerd.file_pattern",
    "tunerd.writers",
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
    "tunerd.audio_events",
    "tunerd.clock",
    "tunerd.daemon_threads",
    "tunerd.record",
    "tunerd.location",
    "tunerd.yaml_location",
    "tunerd.statuses",
    "tunerd.tuner_fields",
    "tunerd.visible",
    "tunerd.config",
    "tunerd.filesystem",
    "tunerd.file_identity",
    "tunerd.file_pattern",
    "tunerd.writers",
    "tunerd.source_tree",
}
MAY_IMPORT = {
    # package: which packages it may know beside the core and itself
    "tunerd.config": set(),
    "tunerd.loading": {"tunerd.mapping", "tunerd.delivery"},
    "tunerd.mapping": set(),
    "tunerd.ledger": set(),
    "tunerd.audio": set(),
    "tunerd.intake": {"tunerd.ledger", "tunerd.audio"},
    "tunerd.delivery": {"tunerd.ledger", "tunerd.audio"},
    "tunerd.ops": {"tunerd.ledger"},
    "tunerd.admin": {"tunerd.ledger", "tunerd.ops"},
    "tunerd.page": {"tunerd.ledger", "tunerd.ops", "tunerd.admin"},
    "tunerd.workbench": {"tunerd.mapping"},
    "tunerd.sandbox": set(),
}


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


@cache
def _nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(_tree(module)))


def _imports(module: str) -> Iterator[str]:
    """Every name that a module imports, `from package import module` as the module."""
    for node in _nodes(module):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: relative import"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in MODULES else node.module


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _unit(module: str) -> str:
    """The package or module directly under tunerd/ that a module belongs to."""
    return ".".join(module.split(".")[:2])


def _calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    """`name(...)` and `owner.name(...)` as text, with the call itself."""
    for node in _nodes(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            yield f"{owner}.{node.func.attr}", node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node


def test_pure_modules_import_nothing_that_acts() -> None:
    """The pure core knows no loop, socket, clock, chance or log."""
    pure = [module for module in MODULES if any(_inside(module, package) for package in PURE)]
    assert not [(module, name) for module in pure for name in _imports(module) if name.split(".")[0] in IMPURE_LIBRARIES]


def test_packages_know_only_their_neighbours() -> None:
    """An adapter never imports another adapter; what two of them share is core, or is handed over by app.py."""
    wrong = [
        (module, name)
        for package, allowed in MAY_IMPORT.items()
        for module in MODULES
        if _inside(module, package)
        for name in _imports(module)
        if _inside(name, "tunerd") and _unit(name) not in CORE | allowed | {package}
    ]
    assert not wrong


def test_only_ops_tells() -> None:
    """A diff that changes a log line or a metric never touches what it tells about."""
    silent = ("tunerd.intake", "tunerd.mapping", "tunerd.ledger", "tunerd.delivery")
    wrong = [
        (module, name)
        for module in MODULES
        if any(_inside(module, package) for package in silent)
        for name in _imports(module)
        if name.split(".")[0] in TELLING_LIBRARIES
    ]
    assert not wrong


def test_each_file_says_what_belongs_in_it() -> None:
    """Each file opens with a sentence or two for its next reader."""
    assert not [module for module in MODULES if not ast.get_docstring(_tree(module))]


def test_only_one_place_writes_to_the_terminal() -> None:
    """What comes from documents reaches a terminal only through cli/terminal.py, which lets nothing invisible pass."""
    commands = [module for module in MODULES if _inside(module, "tunerd.cli") and module != "tunerd.cli.terminal"]
    writing = {"click.echo", "click.secho", "click.style", "print"}
    assert not [(module, name) for module in commands for name, _ in _calls(module) if name in writing]


def test_no_type_checking_imports() -> None:
    """A TYPE_CHECKING import to break a cycle means that a file is in the wrong place."""
    assert not [module for module, path in MODULES.items() if "TYPE_CHECKING" in path.read_text()]


LEFT_OUT = {
    # command: its modules, and what it does without (pydantic alone would be 8 MB)
    "run": ("tunerd.cli.run, tunerd.app",
            {"tunerd.testing", "tunerd.sandbox", "tunerd.workbench", "tunerd.page", "pydantic", "rich", "obstore", "psycopg"}),
    "status": ("tunerd.cli.status, tunerd.cli.admin",
               {"aiohttp", "prometheus_client", "watchdog", "sqlite3", "tunerd.intake", "tunerd.workbench", "tunerd.app", "rich"}),
    "check": ("tunerd.cli.check", {"aiohttp", "prometheus_client", "watchdog", "sqlite3", "tunerd.intake", "tunerd.app", "rich"}),
}  # fmt: skip
MOST_MODULES = 758
"""Of all libraries, for `tunerd run`."""


@pytest.mark.parametrize("command", LEFT_OUT)
def test_a_command_imports_only_what_it_needs(command: str) -> None:
    """What tests, the demo and other commands use costs a daemon or a command neither time nor memory, nor a use by mistake."""
    modules, left_out = LEFT_OUT[command]
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert imported & left_out == set()
    assert len(imported) <= MOST_MODULES


def test_the_start_collects_no_garbage() -> None:
    """What is imported stays, so Python does not look for garbage in it until the daemon runs."""
    code = (
        "import gc, sys; from tunerd.__main__ import main; before = gc.get_stats(); sys.argv[1:] = ['run', '-c', '/nowhere/c.yaml']\n"
        "try: main()\n"
        "except SystemExit: print([now['collections'] - old['collections'] for now, old in zip(gc.get_stats(), before)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 0, 0]"


def loose_tasks_and_sleeps() -> set[str]:
    """Every task has an owner (TaskGroup), and every pause ends early on stop (Clock.wait); a pause of 0 is a turn of the loop."""
    loose = {"asyncio.gather", "asyncio.create_task", "asyncio.ensure_future", "asyncio.sleep", "time.sleep", "ensure_future"}
    return {
        f"{module} {name}"
        for module in MODULES
        if module != "tunerd.testing"
        for name, call in _calls(module)
        if (name in loose or name.endswith(".add_done_callback"))
        and not (name.endswith("sleep") and call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0)
    }


def import_cycles() -> set[str]:
    """An import that closes a circle of packages (or of modules directly under tunerd/)."""
    knows: dict[str, set[str]] = defaultdict(set)
    for module in MODULES:
        knows[_unit(module)] |= {_unit(name) for name in _imports(module) if name.startswith("tunerd.")} - {_unit(module)}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            fresh = knows[todo.pop()] - seen
            seen |= fresh
            todo += fresh
        return seen

    reach = {unit: reached(unit) for unit in tuple(knows)}
    return {f"{unit} imports {name}" for unit in reach for name in knows[unit] if unit in reach.get(name, ())}


def types_named_twice() -> set[str]:
    """A name that two modules give to a type of their own: a word stands for one idea."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in MODULES:
        for node in _tree(module).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].add(module)
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
                found[ast.unparse(node.target)].add(module)
    return {name for name, modules in found.items() if len(modules) > 1}


def files_named_twice() -> set[str]:
    """A file name in two packages. A command's file is named like its command, whatever else has that name."""
    commands = {f"tunerd.cli.{name.replace('-', '_')}" for name in main.list_commands(None)}  # type: ignore[attr-defined]
    names = [path.stem for module, path in MODULES.items() if module not in commands and not path.stem.startswith("__")]
    return {f"{name}.py" for name in names if names.count(name) > 1}


def files_too_long() -> set[str]:
    """Over 420 lines; or over 300 where the docstring's first sentence does not argue for it with a `because`."""
    found = set()
    for module, path in MODULES.items():
        lines = len(path.read_text().splitlines())
        first = re.split(r"[.:](?:\s|$)", ast.get_docstring(_tree(module)) or "", maxsplit=1)[0]
        if lines > MAX_LINES or (lines > MAX_LINES_WITHOUT_ARGUMENT and "because" not in first):
            found.add(path.relative_to(ROOT).as_posix())
    return found


def functions_too_long() -> set[str]:
    """Over 60 lines, the docstring counted."""
    return {
        f"{path.relative_to(ROOT).as_posix()} {node.name}"
        for module, path in MODULES.items()
        for node in _nodes(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    }


def constructors_with_too_many_arguments() -> set[str]:
    """An `__init__` with more than seven. (A plain record, a dataclass, may have as many fields as it needs.)"""
    return {
        f"{path.relative_to(ROOT).as_posix()} {owner.name}"
        for module, path in MODULES.items()
        for owner in _nodes(module)
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
        if len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1 > MAX_CONSTRUCTOR_ARGUMENTS
    }


RULES = {
    rule.__name__: rule
    for rule in (
        loose_tasks_and_sleeps,
        import_cycles,
        types_named_twice,
        files_named_twice,
        files_too_long,
        functions_too_long,
        constructors_with_too_many_arguments,
    )
}


def _still_open() -> dict[str, list[str]]:
    """The lists of architecture_open.txt: a rule's name with a colon, and its entries below it."""
    lists: dict[str, list[str]] = {}
    rule = ""
    for line in OPEN.read_text().splitlines():
        if line.endswith(":"):
            rule = line.removesuffix(":")
            lists[rule] = []
        elif line.strip() and not line.startswith("#"):
            lists[rule].append(line.strip())
    return lists


@pytest.mark.parametrize("rule", RULES)
def test_rules_with_a_list_of_what_is_open(rule: str) -> None:
    """Files, functions and constructors stay small, a name has one meaning, packages form no cycle, tasks have owners."""
    found, still_open = RULES[rule](), set(_still_open().get(rule, ()))
    assert sorted(found - still_open) == [], "new against the rule"
    assert sorted(still_open - found) == [], "no longer needed in architecture_open.txt: run python -m tests.test_architecture"


if __name__ == "__main__":
    text = "# What does not meet the rules of test_architecture.py yet. Entries are only ever removed.\n"
    for name, entries in _still_open().items():
        kept = sorted(set(entries) & RULES[name]())
        text += "".join([f"\n{name}:\n", *(f"    {entry}\n" for entry in kept)]) if kept else ""
    OPEN.write_text(text)
