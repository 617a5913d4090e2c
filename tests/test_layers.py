"""The order of the house: a module imports only from modules above it, and importing llmrec stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

import llmrec

ROOT = Path(__file__).resolve().parents[1]
# Top to bottom.
LAYERS = (
    "errors versions files logs ending config data models evaluation training planning hub retrieval recommender "
    "explained everyone service asked planned forgotten forgetting privacy questions sharing serving verbs cli"
).split()
DATA = "interactions catalog sources splits histories batches negatives synthetic audit".split()
HEAVY = {"torch", "transformers", "peft", "accelerate", "datasets", "pandas", "scipy", "matplotlib"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


TREES = {module_name(path): parse(path) for path in sorted((ROOT / "llmrec").rglob("*.py"))}
RECIPES = sorted((ROOT / "recipes").rglob("*.py"))


def imports(tree: ast.Module) -> set[str]:
    """Every module that is imported anywhere in a file, inside functions and for type checkers too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in TREES or node.module == "llmrec" else str(node.module) for name in names}
            assert node.level == 0, f"relative import of {node.module}: name modules in full"
    return found - {"llmrec.__version__"}


def ours(name: str) -> set[str]:
    return {target for target in imports(TREES[name]) if target.split(".")[0] == "llmrec"}


def rank(module: str, order: list[str], depth: int) -> int | None:
    part = [*module.split("."), "", ""][depth]
    return order.index(part) if part in order else None


@pytest.mark.parametrize("name", [name for name in TREES if name != "llmrec"])
def test_a_module_imports_only_from_layers_above_it(name: str) -> None:
    own = rank(name, LAYERS, 1)
    assert own is not None, f"{name} is in no layer: give it a place in LAYERS"
    below = [target for target in ours(name) if (level := rank(target, LAYERS, 1)) is None or level > own]
    assert not below, f"{name} imports from below: {below}"
    if (place := rank(name, DATA, 2)) is not None and name.startswith("llmrec.data."):
        below = [t for t in ours(name) if t.startswith("llmrec.data.") and (rank(t, DATA, 2) or 0) > place]
        assert not below, f"within data, {name} imports from below: {below}"


def test_no_import_cycles() -> None:
    TopologicalSorter({name: ours(name) for name in TREES if name != "llmrec"}).prepare()  # CycleError names them


def test_models_know_of_data_only_the_batch() -> None:
    for name in (name for name in TREES if name.startswith("llmrec.models")):
        data = {target for target in ours(name) if target.startswith("llmrec.data")}
        assert data <= {"llmrec.data.batches"}, f"{name} imports {data}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_import_llmrec_only(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"llmrec"}
    others = {name for name in imports(parse(path)) if name.split(".")[0] not in allowed}
    assert not others, f"{path.name} imports {others}: what a recipe needs of them belongs in llmrec"


def forbidden(node: ast.AST) -> str | None:
    """Why a syntax node has no place in the package: unsafe loading, evaluated text, checks that -O removes."""
    match node:
        case ast.Assert():
            return "assert"
        case ast.Import(names=names) if any(alias.name.split(".")[0] == "pickle" for alias in names):
            return "pickle"
        case ast.ImportFrom(module="pickle"):
            return "pickle"
        case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
            return name
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
            return "torch.load"
        case ast.keyword(arg="allow_pickle" | "trust_remote_code" as name, value=ast.Constant(value=True)):
            return name
    return None


def test_nothing_unsafe_and_no_asserts_in_the_package() -> None:
    found = [
        f"{name}:{getattr(node, 'lineno', 0)}: {what}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if (what := forbidden(node))
    ]
    assert not found


def heavy_modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('\\nloaded:', *sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return HEAVY & set(run.stdout.rpartition("loaded:")[2].split())


def test_importing_llmrec_loads_nothing_heavy() -> None:
    assert not heavy_modules_after("import llmrec")


@pytest.mark.skipif("llmrec.cli.main" not in TREES, reason="there is no command line yet")
def test_the_command_lines_help_loads_nothing_heavy() -> None:
    code = "import sys\nfrom llmrec.cli.main import main\nsys.argv = ['llmrec', '--help']\n"
    assert not heavy_modules_after(code + "try:\n    main()\nexcept SystemExit:\n    pass")


def test_public_names_are_listed_once_and_the_same() -> None:
    assert set(llmrec.__all__) == {*llmrec._HOME, "__version__"} == set(dir(llmrec))
    with pytest.raises(AttributeError, match=r"no attribute 'Recomender'.*Recommender"):
        llmrec.Recomender  # noqa: B018


@pytest.mark.parametrize("name", sorted(llmrec._HOME))
def test_public_names_lead_somewhere(name: str) -> None:
    if find_spec(llmrec._HOME[name]) is None:
        pytest.skip(f"{llmrec._HOME[name]} is not there yet")
    assert getattr(llmrec, name).__name__ == name
