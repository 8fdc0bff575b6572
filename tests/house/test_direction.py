"""Imports obey the direction between the packages; a planted violation is caught."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "trustml"

# What each package may import beside itself. Read downwards: nothing below is known above.
_FIGURES = {"stats", "metrics"}
_NETWORKS = {"models", "data", *_FIGURES}
_CORE = {"kernels", "bookkeeping", "clipping", "noise", "sampling", "accounting", "plan"}
_USES = ("audit", "fairness", "federated")  # siblings never import each other
_ALL_USES = _CORE | _NETWORKS | {"training", *_USES}
_ANYWHERE = {"checksums", "formatting", "strict_json"}  # of files, of numbers, of JSON
ALLOWED: dict[str, set[str]] = {
    **{name: set() for name in _ANYWHERE},
    "kernels": set(),
    "stats": set(),
    "metrics": {"stats"},
    "data": _FIGURES,
    "models": {"data", *_FIGURES},
    "bookkeeping": {"kernels"},
    "clipping": {"kernels", "bookkeeping"},
    "noise": {"kernels", "bookkeeping", "clipping"},
    "sampling": {"kernels", "bookkeeping", "clipping"},
    "accounting": set(),
    "plan": _CORE - {"plan"},
    "training": _CORE | _NETWORKS,
    **{use: _CORE | _NETWORKS | {"training"} for use in _USES},
    "report": _ALL_USES,
    "verify": _ALL_USES | {"report"},
    "recipes": _ALL_USES | {"report"},
    "cli": _ALL_USES | {"report", "recipes", "verify"},
}
# The names that users import from `trustml` itself.
PUBLIC = {"clipping", "plan", "training"}


def imported(source, module):
    """Absolute names of all modules that `source` imports, inside functions too."""
    package = module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                kept = parents[: len(parents) - node.level + 1]
                base = ".".join([*kept, base]) if base else ".".join(kept)
            # `from trustml import noise` names a package; `from x import name` may too.
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def part(name):
    """The package of a module: "noise" for "trustml.noise.keys"; None outside trustml."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "trustml" and len(pieces) > 1 else None


def violations(sources):
    """Each import against the direction, as "module imports name".

    Args:
      sources: Text of every module by its name.
    """
    found = []
    for module, source in sources.items():
        here = part(module)
        allowed = PUBLIC if here is None else ALLOWED.get(here, set()) | {here} | _ANYWHERE
        for name in imported(source, module):
            there = part(name)
            if here == "accounting" and name.split(".")[0] in ("jax", "jaxlib", "flax", "optax"):
                found.append(f"{module} imports {name}")
            if there in ALLOWED and there not in allowed:
                found.append(f"{module} imports {name}")
            # Through the top-level names everything could reach everything.
            if here is not None and name == "trustml":
                found += _through_the_top(source, module)
    return found


def _through_the_top(source, module):
    """`import trustml`, or a name of `trustml` that is no package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(alias.name == "trustml" for alias in node.names):
            yield f"{module} imports trustml"
        if isinstance(node, ast.ImportFrom) and node.module == "trustml" and not node.level:
            for alias in node.names:
                if alias.name not in ALLOWED:
                    yield f"{module} imports {alias.name} from trustml"


def library():
    """Every module of the library by name."""
    files = {}
    for file in sorted([*ROOT.glob("**/*.py"), *(ROOT.parent / "kernels").glob("**/*.py")]):
        parts = list(file.relative_to(ROOT.parent).with_suffix("").parts)
        parts = ["trustml", *parts] if parts[0] == "kernels" else parts
        # A package keeps its `__init__`, so that relative imports count from it.
        files[".".join(parts)] = file.read_text()
    return files


def test_every_package_has_a_place():
    packages = {part(module) for module in library()} - {None, "__init__"}
    assert packages <= set(ALLOWED), packages - set(ALLOWED)


def test_imports_obey_the_direction():
    sources = {
        module.removesuffix(".__init__") if module == "trustml.__init__" else module: text
        for module, text in library().items()
    }
    assert violations(sources) == []


def test_the_order_has_no_cycle():
    done = set()
    while len(done) < len(ALLOWED):
        ready = {name for name, needs in ALLOWED.items() if needs <= done} - done
        assert ready, set(ALLOWED) - done
        done |= ready


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trustml.kernels.sum", "from trustml.clipping import clip"),
        ("trustml.noise.keys", "from trustml.plan import PrivacyPlan"),
        ("trustml.noise.keys", "from trustml.sampling import Draw"),
        ("trustml.accounting.steps", "import jax.numpy as jnp"),
        ("trustml.accounting.steps", "def f():\n    from jax import numpy"),
        ("trustml.models.joint.nlu", "import trustml.noise.keys"),
        ("trustml.data.snips", "from trustml import training"),
        ("trustml.audit.roc", "from trustml.fairness import gaps"),
        ("trustml.fairness.gaps", "from ..audit import roc"),
        ("trustml.fairness.__init__", "from ..federated.users import user_table"),
        ("trustml.federated.partition.label", "from trustml.fairness import gaps"),
        ("trustml.report.folder", "def late():\n    from trustml.cli import main"),
        ("trustml.verify.noise", "from trustml.cli.options import show_json"),
        ("trustml.plan.privacy_plan", "from .. import training"),
        ("trustml.audit.roc", "import trustml"),
        ("trustml.noise.keys", "from trustml import private_step"),
        ("trustml", "from trustml.cli import main"),
    ],
)
def test_a_planted_violation_is_caught(module, source):
    assert violations({module: source})


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trustml.plan.privacy_plan", "from trustml.noise import tail_probability"),
        ("trustml.plan.privacy_plan", "from .statement import write_statement"),
        ("trustml.training.train_step", "from trustml.models.joint import nlu"),
        ("trustml.clipping.sums", "from trustml.clipping import bounds"),
        ("trustml.cli.plan", "from trustml.plan import PrivacyPlan"),
        ("trustml.audit.roc", "import numpy as np"),
        ("trustml", "from trustml.plan import PrivacyPlan"),
    ],
)
def test_allowed_imports_pass(module, source):
    assert violations({module: source}) == []


def test_networks_and_data_load_no_privacy():
    """As the files say, so it is when they run; only the top-level names come along."""
    code = (
        "import sys, types; package = types.ModuleType('trustml'); "
        "package.__path__ = [sys.argv[1]]; sys.modules['trustml'] = package; "
        "import trustml.data, trustml.models.joint.nlu; "
        "private = ('noise', 'plan', 'accounting', 'clipping', 'training', 'sampling'); "
        "sys.exit(any(f'trustml.{name}' in sys.modules for name in private))"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT)], check=True)
