"""What the code of this repository imports, includes and measures, read from its text.

Nothing here imports the code it reads, so that a file with a fault is read like any other.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("isample", "bench", "examples", "tests", "csrc", "docs")
PACKAGES = ("isample", "bench", "examples")
CPP = {".h", ".cpp", ".cu", ".cuh", ".inc"}


def code(suffixes, folders=FOLDERS):
    """{path from the root: text} of every file in ``folders`` with one of ``suffixes``."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text()
        for path in sorted([*paths, *ROOT.glob("*")])
        if path.suffix in suffixes and path.is_file()
    }


def module_of(path):
    """The dotted name of a Python file: ``isample/ops/__init__.py`` is ``isample.ops``."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def python_imports(files):
    """{module: the modules of ours it names}, of {path: text}; imports under TYPE_CHECKING, inside
    functions and by ``import_module("...")`` count like any other."""
    known = {module_of(path) for path in files} | {"isample._C"}
    return {
        module_of(path): {
            name
            for node in ast.walk(ast.parse(text))
            for name in _named(node, module_of(path), path.endswith("__init__.py"), known)
            if name.split(".")[0] in (*PACKAGES, "tests")
        }
        for path, text in files.items()
    }


def _named(node, module, is_package, known):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.Call):
        called = getattr(node.func, "attr", getattr(node.func, "id", None))
        strings = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        return strings[:1] if called in ("import_module", "__import__") else []
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parents = module.split(".")
        parents = parents[: len(parents) - node.level + is_package]
        base = ".".join([*parents, *filter(None, [node.module])])
    inside = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in known else base for name in inside]


def circles(graph):
    """Every shortest circle of imports through some import, as ``a -> b -> a``."""
    found = set()
    for start, targets in graph.items():
        for target in targets & graph.keys():
            way = _shortest_way(graph, target, start)
            if way:
                first = way.index(min(way))
                way = way[first:] + way[:first]
                found.add(" -> ".join([*way, way[0]]))
    return found


def _shortest_way(graph, start, end):
    ways, seen = [[start]], {start}
    for way in ways:
        if way[-1] == end:
            return way
        for after in sorted(graph.get(way[-1], set()) - seen):
            seen.add(after)
            ways.append([*way, after])
    return None


def cpp_includes(path, text):
    """What a C++ file includes: a path from the root if it is ours, else the header's name."""
    for opening, header in re.findall(r'^\s*#\s*include\s*([<"])([^">]+)', text, re.MULTILINE):
        if opening == '"' and (header.startswith("../") or "/" not in header):
            own = (ROOT / path).parent.joinpath(header).resolve()
            yield own.relative_to(ROOT).as_posix()
        elif header.startswith(("core/", "cpu/", "cuda/")):
            yield f"csrc/{header}"
        else:
            yield header


def mode_flags(text, controllers):
    """What in ``text`` branches on a mode, or on which class a controller is."""
    for node in ast.walk(ast.parse(text)):
        if _asks_mode(node) or _asks_class(node, controllers):
            yield ast.unparse(node).splitlines()[0]


def _asks_mode(node):
    if isinstance(node, ast.Attribute):
        return node.attr == "mode" and _last(node.value) == "self"
    if isinstance(node, ast.Match):
        return _last(node.subject) == "mode"
    return isinstance(node, ast.Compare) and "mode" in map(_last, (node.left, *node.comparators))


def _asks_class(node, controllers):
    if not (isinstance(node, ast.Call) and _last(node.func) == "isinstance"):
        return False
    asked = {str(_last(part)) for part in ast.walk(node.args[1])}
    return bool(asked & controllers) or any(name.endswith("Controller") for name in asked)


def _last(node):
    return getattr(node, "attr", getattr(node, "id", None))


def classes(text):
    """The names of the classes that ``text`` defines."""
    return {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)}
