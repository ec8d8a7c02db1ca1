"""The rules of the house: who may import whom, what loads without torch, and how long a file and a function may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tp", "bench", "analysis")
MAX_FILE_LINES = 320
MAX_FUNCTION_LINES = 60
# What analysis may import of the harness.
TORCHLESS_OF_BENCH = {
    *(f"bench.harness.record.{name}" for name in ("records", "files", "scan", "stats", "names", "parts")),
    *(f"bench.harness.record.{name}" for name in ("arrivals", "grouping", "interference")),
    *(f"bench.harness.machine.{name}" for name in ("ask", "cgroup", "host", "judge", "nvlink", "nvml", "reading")),
}


def modules(root: Path, *packages: str) -> dict[str, Path]:
    """Every module of the packages under `root`, by its dotted name."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


ALL = modules(ROOT, *PACKAGES)


def imported(path: Path, module: str) -> set[str]:
    """What a file imports anywhere in it; of `from a import b` both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            # A relative import counts from the package that the file is in.
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def offences(found: dict[str, Path], layer: str, *forbidden: str, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Imports of `forbidden` by the modules within `layer`, but for the `allowed` modules."""
    return [
        f"{module} imports {name}"
        for module, path in found.items()
        if within(module, layer)
        for name in sorted(imported(path, module))
        if within(name, *forbidden) and not within(name, *allowed) and not any(within(a, name) for a in allowed)
    ]


@pytest.mark.parametrize(
    ("layer", "forbidden"),
    [
        ("tp", ("bench", "analysis")),
        ("bench", ("analysis",)),
        # Layers take sizes and a mesh, never a description or a theory.
        ("tp.layers", ("tp.cost", "tp.model", "tp.hardware", "tp.suite", "tp.catalogue", "tp.probe")),
        ("tp.plan", ("tp.cost", "tp.layers", "tp.hardware")),
        ("tp.cost", ("tp.layers", "tp.suite", "tp.probe")),
        # What is so, then words and figures of it, then the page; a verb is nobody's ground.
        ("analysis.frames", ("analysis.show", "analysis.figures", "analysis.report", "analysis.verbs")),
        ("analysis.show", ("analysis.figures", "analysis.report", "analysis.verbs")),
        ("analysis.figures", ("analysis.report", "analysis.verbs")),
        ("analysis.report", ("analysis.verbs",)),
        ("tp.units", ("tp.hardware", "tp.model", "tp.plan", "tp.cost")),
        ("tp.schema", ("tp.hardware", "tp.model", "tp.plan", "tp.cost")),
    ],
)
def test_imports_go_one_way(layer: str, forbidden: tuple[str, ...]) -> None:
    assert offences(ALL, layer, *forbidden) == []


def test_the_rooms_of_the_harness_open_one_way() -> None:
    rooms = [f"bench.harness.{room}" for room in ("machine", "record", "world", "timing", "cases", "run")]
    assert {".".join(name.split(".")[:3]) for name in ALL if name.startswith("bench.harness.")} == set(rooms)
    for number, room in enumerate(rooms):
        assert offences(ALL, room, *rooms[number + 1 :]) == []


def test_analysis_knows_of_bench_only_what_it_reads() -> None:
    allowed = frozenset(TORCHLESS_OF_BENCH)
    assert offences(ALL, "analysis", "bench", allowed=allowed) == []
    assert {name for module, path in ALL.items() if within(module, "analysis") for name in imported(path, module)} >= {
        "bench.harness.record.records",
        "bench.harness.record.parts",
    }


def test_only_cases_joins_plans_to_layers() -> None:
    for module in (
        "bench.harness.timing.measure",
        "bench.harness.timing.clock",
        "bench.harness.run.runner",
        "bench.harness.run.op_runner",
    ):
        names = imported(ALL[module], module)
        assert not {
            name for name in names if within(name, "tp.layers.block", "tp.layers.attention", "tp.layers.linear")
        }


def torchless() -> list[str]:
    return [
        module
        for module in ALL
        if (within(module, "tp", "analysis") and not within(module, "tp.layers")) or module in TORCHLESS_OF_BENCH
    ]


def loads_torch(names: list[str], *path: Path) -> str:
    """The first of the modules after whose import torch is loaded, in a fresh interpreter; empty if none."""
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'{name} loads torch')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *names],
        env={"PYTHONPATH": ":".join(map(str, path)), "MPLBACKEND": "Agg", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.returncode == 0 or done.stderr.endswith("loads torch\n"), done.stderr
    return done.stderr.strip() if done.returncode else ""


def test_these_load_without_torch() -> None:
    names = torchless()
    assert {
        "tp.probe",
        "tp.cost.calibrated",
        "bench.harness.record.parts",
        "analysis.score",
        "analysis.__main__",
    } <= set(names)
    assert not any(within(name, "tp.layers") for name in names)
    assert loads_torch(names, ROOT) == ""


@pytest.fixture
def guilty(tmp_path: Path) -> Path:
    """A house that breaks every rule, with a torch that is quick to load."""
    (tmp_path / "torch.py").write_text("")
    files = {
        "tp/__init__.py": "",
        "tp/deep.py": "def later():\n    import bench.runner\n",
        "tp/relative.py": "from .layers import block\n",
        "tp/layers/__init__.py": "",
        "tp/layers/block.py": "from tp import model\nfrom ..cost.theory import x\n",
        "bench/__init__.py": "from analysis import fit\n",
        "analysis/__init__.py": "import bench.harness.run.runner\nfrom bench.harness.record import records, lines\n",
        "analysis/slow.py": "import torch\n",
        "analysis/long.py": "def f():\n" + "    x = 1\n" * 400,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_rules_can_be_broken(guilty: Path) -> None:
    """Each check finds what breaks its rule, also inside a function and by a relative path."""
    found = modules(guilty, *PACKAGES)
    assert offences(found, "tp", "bench", "analysis") == ["tp.deep imports bench.runner"]
    assert offences(found, "tp", "tp.layers") == [
        "tp.relative imports tp.layers",
        "tp.relative imports tp.layers.block",
    ]
    assert offences(found, "tp.layers", "tp.cost", "tp.model") == [
        "tp.layers.block imports tp.cost.theory",
        "tp.layers.block imports tp.cost.theory.x",
        "tp.layers.block imports tp.model",
    ]
    assert offences(found, "bench", "analysis") == ["bench imports analysis", "bench imports analysis.fit"]
    assert offences(found, "analysis", "bench", allowed=frozenset(TORCHLESS_OF_BENCH)) == [
        "analysis imports bench.harness.record.lines",
        "analysis imports bench.harness.run.runner",
    ]
    assert loads_torch(["json", "guilty_torch"], _with_torch(guilty)) == "guilty_torch loads torch"
    assert long_functions({"analysis.long": guilty / "analysis/long.py"}) == ["analysis.long.f has 401 lines"]
    assert long_files({"analysis.long": guilty / "analysis/long.py"}) == ["analysis.long has 401 lines"]


def _with_torch(folder: Path) -> Path:
    (folder / "guilty_torch.py").write_text("import torch\n")
    return folder


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def long_functions(found: dict[str, Path]) -> list[str]:
    return [
        f"{module}.{node.name} has {length} lines"
        for module, path in found.items()
        for node in functions(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def long_files(found: dict[str, Path]) -> list[str]:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in found.items()}
    return [f"{module} has {length} lines" for module, length in lengths.items() if length > MAX_FILE_LINES]


def test_files_and_functions_stay_short() -> None:
    assert len(ALL) > 40
    assert long_files(ALL) == []
    assert long_functions(ALL) == []


def test_every_module_says_what_it_is_for() -> None:
    missing = [module for module, path in ALL.items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert missing == []
