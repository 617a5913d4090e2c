"""What import-linter cannot see: recipes import llmrec only, nothing is unsafe, and importing llmrec stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import llmrec

ROOT = Path(__file__).resolve().parents[1]
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
            assert node.level == 0, f"relative import of {node.module}: name modules in full"
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_import_llmrec_only(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"llmrec"}
    others = {name for name in imports(parse(path)) if name.split(".")[0] not in allowed}
    assert not others, f"{path.name} imports {others}: what a recipe needs of them belongs in llmrec"


def is_restricted(option: ast.keyword) -> bool:
    """Whether it keeps torch.load to tensors, so that nothing in the file can run."""
    return option.arg == "weights_only" and isinstance(option.value, ast.Constant) and option.value.value is True


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
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load"), keywords=options):
            return None if any(is_restricted(option) for option in options) else "torch.load"
        case ast.keyword(arg="allow_pickle" | "trust_remote_code" as name, value=ast.Constant(value=True)):
            return name
    return None


@pytest.mark.parametrize("name", sorted(TREES))
def test_a_module_names_modules_in_full_and_has_nothing_unsafe_and_no_asserts(name: str) -> None:
    tree = TREES[name]
    imports(tree)
    assert not [f"line {getattr(node, 'lineno', 0)}: {what}" for node in ast.walk(tree) if (what := forbidden(node))]


def heavy_modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('\\nloaded:', *sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return HEAVY & set(run.stdout.rpartition("loaded:")[2].split())


def test_importing_llmrec_loads_nothing_heavy() -> None:
    assert not heavy_modules_after("import llmrec")


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
