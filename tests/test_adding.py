"""A score, a method, a layout, a template, a recipe: each is one line, and a file, more in a copy of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exprmetric import choices

ROOT = Path(__file__).resolve().parents[1]

METHOD = """
import numpy as np
from exprmetric.methods.base import Method
from exprmetric.methods.registry import register_method

@register_method("mine")
class Mine(Method):
    name, template, dimension, fingerprint = "mine", "tight", 2, "mine:1"

    def __init__(self, provider):
        pass

    def represent(self, faces):
        return np.stack([face.crop(self.template).mean((0, 1))[:2] for face in faces]).astype(np.float32)
"""
LAYOUT = '''
from exprmetric.inputs.triplets import Triplet

def read(root, source_dir):
    """Swaps NAME.png of target NAME_t.png; the source lies apart."""
    return [
        Triplet(path.stem, path.with_name(f"{path.stem}_t.png"), source_dir / path.name, path)
        for path in sorted(root.glob("[a-z].png"))
    ]
'''
TEMPLATE = '''
import numpy as np
from exprmetric.faces.templates import Template

def matrix(face):
    """Twenty px of the image, seen at 224."""
    return np.array([[11.2, 0.0, -11.2 * face.box[0]], [0.0, 11.2, -11.2 * face.box[1]]])

TIGHT = Template(matrix)
'''
RECIPE = """
from dataclasses import dataclass
from torch import nn
from exprmetric.training.recipes.common import RecipeConfig
from exprmetric.training.recipes.recipe import Recipe

@dataclass(frozen=True)
class MineConfig(RecipeConfig):
    spread: float = 0.25

class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.encoder = config.encoder()

class Mine(Recipe[MineConfig, Model]):
    settings = MineConfig

    def build(self):
        return Model(self.config)

    def step(self, model, batch):
        return {"total": model.encoder(self.seen(model, batch)).square().mean()}
"""
SCORE = '    "near": Score(lambda t2c, s2c, s2t: t2c < 0.3, "near ↑", higher_is_better=True, needs_source=False),\n'
ADDED = {
    "exprmetric/methods/mine.py": (METHOD, "methods/__init__.py", '    "landmarks",\n', '    "mine",\n'),
    "exprmetric/inputs/mine.py": (
        LAYOUT,
        "inputs/__init__.py",
        'LAYOUTS: dict[str, Layout] = {\n',
        '    "mine": Layout("exprmetric.inputs.mine:read", ("source_dir",)),\n',
    ),
    "exprmetric/faces/mine.py": (
        TEMPLATE,
        "faces/templates.py",
        "TEMPLATES: dict[str, Template | str] = {\n",
        '    "tight": "exprmetric.faces.mine:TIGHT",\n',
    ),
    "exprmetric/training/recipes/mine.py": (
        RECIPE,
        "training/recipes/__init__.py",
        "RECIPES = {\n",
        '    "mine": "exprmetric.training.recipes.mine:Mine",\n',
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, to which one file and one line were added four times."""
    folder = tmp_path_factory.mktemp("grown")
    shutil.copytree(ROOT / "exprmetric", folder / "exprmetric", ignore=shutil.ignore_patterns("__pycache__", "data"))
    (folder / "exprmetric" / "data").symlink_to(ROOT / "exprmetric" / "data", target_is_directory=True)
    (folder / "exprmetric_cli").symlink_to(ROOT / "cli", target_is_directory=True)
    shutil.copy(ROOT / "weights_manifest.json", folder)
    for file, (code, registry, after, line) in ADDED.items():
        (folder / file).write_text(code)
        add_line(folder / "exprmetric" / registry, after, line)
    add_line(folder / "exprmetric" / "metrics" / "preservation.py", "REGISTRY = {\n", SCORE)
    return folder


def add_line(path: Path, after: str, line: str) -> None:
    text = path.read_text()
    assert text.count(after) == 1, f"{path.name} has another shape now"
    path.write_text(text.replace(after, after + line))


def run(grown: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(grown), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=grown, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_method_reads_a_template_and_a_layout_names_its_images(grown: Path, portrait_photo: Path) -> None:
    out = run(
        grown,
        """
import numpy as np
from pathlib import Path
from exprmetric.faces import Face
from exprmetric.inputs import read_layout
from exprmetric.methods import available_methods, load_method
image = np.zeros((64, 64, 3), np.uint8); image[5:35, 5:35] = (50, 90, 7)
face = Face(image, np.array([10.0, 10, 30, 30]), 1.0, np.zeros((68, 2)), None, "none")
print("mine" in available_methods(), load_method("mine").represent([face])[0].round().tolist())
Path("swaps").mkdir(); Path("swaps/a.png").touch()
(row,) = read_layout("mine", "swaps", source_dir=Path("sources"))
print(row.id, row.target, row.source)
""",
    )
    assert out.splitlines() == ["True [50.0, 90.0]", "a swaps/a_t.png sources/a.png"]


def test_a_score_is_in_tables_files_and_metrics(grown: Path) -> None:
    out = run(
        grown,
        """
from exprmetric.evaluation.tables import HEADINGS
from exprmetric.metrics import HIGHER_IS_BETTER, SCORES, preservation_scores
print(SCORES, HEADINGS["near"], HIGHER_IS_BETTER["near"])
print(preservation_scores([0.1, 0.2, 0.5, 0.6], [0.3] * 4, [0.4] * 4)["near"], preservation_scores([0.1])["near"])
""",
    )
    assert out.splitlines() == ["('near', 'l2_error', 'mean_t2c', 'ratio') near ↑ True", "0.5 1.0"]


@pytest.mark.torch
def test_a_score_is_the_same_on_tensors(grown: Path) -> None:
    pytest.importorskip("torch", reason="needs the torch extra")
    code = """
import torch
from exprmetric.torch.functional import SCORES, preservation_scores
found = preservation_scores(*torch.tensor([[0.1, 0.2, 0.5, 0.6], [0.3] * 4, [0.4] * 4]))
print(list(found) == list(SCORES), float(found["near"]))
"""
    assert run(grown, code).strip() == "True 0.5"


@pytest.mark.torch
def test_a_recipe_is_a_command_with_its_settings(grown: Path) -> None:
    code = "from exprmetric_cli.main import main; main(['train', 'mine', '--print-config', '--set', 'spread=0.5'])"
    assert '"spread": 0.5' in run(grown, code)


def test_the_names_that_the_command_line_knows_are_those_of_the_code() -> None:
    from exprmetric.evaluation import engines
    from exprmetric.faces import CHOICES, DETECTORS
    from exprmetric.methods import METHODS
    from exprmetric.video.people.people import REACH

    assert ("auto", *DETECTORS) == choices.DETECTORS
    assert tuple(CHOICES) == choices.FACES
    assert tuple(engines.ENGINES) == choices.ENGINES
    assert tuple(REACH) == choices.IDENTIFIERS
    assert choices.IDENTITY in METHODS
