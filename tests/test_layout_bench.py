"""Who may import whom in bench: no circle, and of isample its public face and steady rooms."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "bench").rglob("*.py"))
STEADY = ("isample.support.", "isample.scoring.", "isample.ops")
SWEPT = ("isample.control", "isample.values")  # whose constants bench.sweeps measures


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imported(module):
    """The modules that ``module`` imports anywhere in its file, under TYPE_CHECKING as well."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


def test_no_import_goes_round_in_a_circle():
    graph = {module: sorted(set(imported(module)) & set(MODULES)) for module in MODULES}
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in graph[module]:
            visit(other)
        done.add(path.pop())

    for module in graph:
        visit(module)
    assert "bench.training.tasks" in graph["bench.training.training"]  # relative ones are seen


def test_bench_uses_isample_s_public_face():
    for module in MODULES:
        for name in imported(module):
            if name.startswith("isample.") and not name.startswith("isample._C"):
                allowed = (*STEADY, *SWEPT) if module.startswith("bench.sweeps") else STEADY
                assert name.startswith(allowed), (module, name)


def test_files_stay_below_300_lines():
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 300, path
