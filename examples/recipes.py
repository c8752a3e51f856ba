"""Train every recipe of the papers on the same faces, small enough for a CPU, and judge all of them by one protocol.

All begin with one network, which is the first row: 3DDFA_V2's MobileNet, which has learned the geometry of faces. A few
minutes are too short to begin with none, and what a recipe adds is what differs from that row.

    python examples/recipes.py data/ runs/ --plan             # what would be trained, and how much each row would see
    python examples/recipes.py data/ runs/                    # about two hours on two cores
    python examples/recipes.py data/ runs/ --only 003 004     # rows whose names begin so
    python examples/recipes.py data/ runs/ --seeds 0 1 2 --finetune start start-rgb default
    python examples/recipes.py data/ runs/ --judge --swaps swaps/     # no training; all rows as methods on real swaps

data/ holds ferplus.zip, lfw_expressions.zip, unlabelled_faces.zip and videos.zip (see docs/recipes.md). Where rafdb.zip
is there too, every row is judged on it; so are the folders of rated faces named by --rated. A row that is done is left
as it is, one that was stopped goes on. Ends with runs/table.md: all rows with their budgets, seeds and intervals. With
--swaps, each encoder is exported to ONNX, registered as a method, and measures the swaps.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from recipes_table import write_table

import exprmetric

VOTES, LABELS = ["ferplus"], ["ferplus", "lfw_expressions"]
FACES = [*LABELS, "unlabelled_faces"]
CLIPS = [*LABELS, "videos"]
RAFDB = "rafdb"
EPOCH = 12000
"""Training faces of a row at most."""

SMALL = {"size": 64, "crop": 176, "batch": 128, "backbone": "3ddfa_mobilenet", "pretrained": True}
SMALL |= {"learning_rate": 5e-4}
LABELLED = {"optimiser": "adamw", "warmup": 50}
UNLABELLED = {**LABELLED, "augment": "robust"}
WARP = {**UNLABELLED, "projection": 256, "hidden": 512, "landmark_weight": 10, "target_similarity": 0.6}
LOW = {"target_similarity": 0.2}
NEAR = {**UNLABELLED, "hidden": 512}
VOTED = {"head_views": 1}
FROM_SCRATCH = {"backbone": "resnet50v2", "pretrained": False, "learning_rate": 1e-3}
FINETUNED = {"optimiser": "adamw", "warmup": 50, "learning_rate": 1e-4, "weighted": False, "pretrained": False}

ROWS: dict[str, tuple[str, list[str], dict[str, object]]] = {
    "start": ("selfsupervised", LABELS, {"epochs": 0, "limit": 256}),
    "start-rgb": ("selfsupervised", LABELS, {"epochs": 0, "limit": 256, "color": "rgb"}),
    "000-wsupcon": ("wsupcon", VOTES, VOTED),
    "000-wsupcon-unweighted": ("wsupcon", VOTES, {**VOTED, "weighted": False}),
    "003-simsiam": ("contrawarping", FACES, {**WARP, "warp": "none", "landmark_head": False}),
    "003-rw-random": ("contrawarping", FACES, {**WARP, "warp": "random", "landmark_head": False}),
    "003-rw-landmarks": ("contrawarping", FACES, {**WARP, "landmark_head": False}),
    "002-baseline": ("disentangle", LABELS, {**LABELLED, "beta3": 0}),
    "002-beta1-0": ("disentangle", LABELS, LABELLED),
    "002-beta1-0.001": ("disentangle", LABELS, {**LABELLED, "beta1": 0.001}),
    "002-beta1-1": ("disentangle", LABELS, {**LABELLED, "beta1": 1}),
    "004-feenet": ("feenet", VOTES, {**LABELLED, "clear": 0.7}),
    "001-none": ("contrastive", CLIPS, {**NEAR, "row": "none"}),
    "001-a": ("contrastive", CLIPS, {**NEAR, "row": "a"}),
    "001-e": ("contrastive", CLIPS, {**NEAR, "row": "e"}),
    "001-g": ("contrastive", CLIPS, {**NEAR, "row": "g"}),
    "003-rw-landmarks-ld": ("contrawarping", FACES, WARP),
    "003-rw-landmarks-ld-0.2": ("contrawarping", FACES, {**WARP, **LOW}),
    "000-classification": ("classification", LABELS, LABELLED),
    "001-b": ("contrastive", CLIPS, {**NEAR, "row": "b"}),
    "001-c": ("contrastive", CLIPS, {**NEAR, "row": "c"}),
    "000-simsiam": ("selfsupervised", FACES, UNLABELLED),
    "000-autoencoder": ("autoencoder", FACES, UNLABELLED),
    "003-rw-random-ld": ("contrawarping", FACES, {**WARP, "warp": "random"}),
    "003-rw-random-ld-0.2": ("contrawarping", FACES, {**WARP, **LOW, "warp": "random"}),
    "001-d": ("contrastive", CLIPS, {**NEAR, "row": "d"}),
    "001-f": ("contrastive", CLIPS, {**NEAR, "row": "f"}),
    "000-wsupcon-resnet50v2": ("wsupcon", VOTES, {**VOTED, **FROM_SCRATCH}),
    "003-byol-ld": ("contrawarping", FACES, {**WARP, "engine": "byol", "momentum": 0.99}),
    "003-mocov2-ld": ("contrawarping", FACES, {**WARP, "engine": "mocov2", "momentum": 0.99, "queue": 1024}),
}
"""Row of a paper's table → recipe, data sets, settings; in the order of what the papers' claims need first."""

SHIPPED = {"default": Path(exprmetric.__file__).parent / "data" / "expression-2.onnx"}
"""Encoders that are not trained here, and may be fine-tuned beside the rows."""
NETWORK = ("size", "crop", "batch", "backbone", "dimension", "color")
SHIPPED_NETWORK = {"size": 112, "crop": 176, "backbone": "dlib_resnet"}


@dataclass(frozen=True)
class Run:
    """One training: a row of the table with one seed, in the folder `runs/NAME`, or `runs/NAME@SEED`."""

    row: str
    recipe: str
    data: list[str]
    settings: dict[str, object]
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.row}@{self.seed}" if self.seed else self.row


def planned(wanted: list[str], seeds: list[int], views: int) -> list[Run]:
    """Every wanted row with every seed; each sees as many faces, `views`, at most EPOCH of them different ones."""
    budget = {"limit": min(EPOCH, views), "epochs": max(1, round(views / EPOCH))}
    return [
        Run(row, ROWS[row][0], ROWS[row][1], {**SMALL, **budget, **ROWS[row][2], "seed": seed}, seed)
        for seed in seeds
        for row in wanted
    ]


def finetuning(row: str, init: Path, views: int, seed: int) -> Run:
    """An encoder and paper 000's classifier, trained end to end on RAF-DB."""
    budget = {"limit": min(EPOCH, views), "epochs": max(1, round(views / EPOCH))}
    own = SHIPPED_NETWORK if row in SHIPPED else ROWS[row][2]
    network = {k: v for k, v in {**SMALL, **own}.items() if k in NETWORK}
    settings = {**network, **budget, **FINETUNED, "init": init, "seed": seed, "contempt": False}
    return Run(row, "classification", [RAFDB], settings, seed)


def command_line(*arguments: object) -> list[str]:
    """The command line, in this Python."""
    start = "from exprmetric_cli.main import main; main(prog_name='exprmetric')"
    return [sys.executable, "-c", start, *map(str, arguments)]


def train(run: Run, data: Path, out: Path, alignment: Path) -> None:
    """One run below `out`, unless it is done; its log stands beside its checkpoints.

    All runs share the aligned faces.
    """
    folder = out / run.name
    if (folder / "scores.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    alignment.mkdir(exist_ok=True)
    if not (folder / "alignment").exists():
        (folder / "alignment").symlink_to(alignment.resolve(), target_is_directory=True)
    command = command_line("train", run.recipe, "--out", folder)
    for dataset in run.data:
        command += ["--data", str(data / f"{dataset}.zip")]
    for key, value in run.settings.items():
        command += ["--set", f"{key}={value}"]
    begun = time.monotonic()
    with (folder / "console.log").open("w") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    done = "done" if not status else f"failed, see {log.name}"
    print(f"{folder}: {done}, {time.monotonic() - begun:.0f} s", flush=True)


def judge(made: list[str], data: Path, out: Path, rated: list[Path]) -> None:
    """All encoders under all protocols, on RAF-DB too, and against people's ratings."""
    checkpoints = [word for name in made for word in ("--checkpoint", f"{name}={out / name / 'encoder.pt'}")]
    faces = [data / f"{name}.zip" for name in (*LABELS, RAFDB) if (data / f"{name}.zip").exists()]
    others = ["-m", "default", "-m", "lm68"]
    kept = ["--cache", str(out / "alignment")]
    command = command_line("probe", "protocols", *faces, "--persons", faces[1], *checkpoints, *kept, "--out", out)
    subprocess.run([*command, *others, "--limit", "3000"], check=True)
    if rated:
        command = command_line("probe", "agreement", *rated, *checkpoints, *others, "--split", "all", "--curves", 0)
        subprocess.run([*command, "--no-plots", "--out", str(out / "rated")], check=True)


def measure(names: list[str], out: Path, swaps: Path) -> None:
    """Each row's encoder as a method of `evaluate`."""
    for name in names:
        network, entry = out / name / f"{name}.onnx", out / name / "entry.json"
        exported = subprocess.run(
            command_line("export", out / name / "encoder.pt", network, "--entry"), check=True, stdout=subprocess.PIPE
        )
        entry.write_bytes(exported.stdout)
        subprocess.run(command_line("weights", "add", entry, network), check=True)
    methods = [word for name in names for word in ("-m", name)]
    subprocess.run(command_line("evaluate", swaps, *methods, "-m", "default", "--out", out / "swaps"), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of names")
    parser.add_argument("--views", type=int, default=36000, help="faces that each row sees (default: 36000)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="each row is trained once with each")
    parser.add_argument("--finetune", nargs="+", default=[], help="rows that are trained on, end to end, on RAF-DB")
    parser.add_argument("--rated", nargs="+", type=Path, default=[], help="sets of rated faces that judge all rows")
    parser.add_argument("--plan", action="store_true", help="print what would be trained, and stop")
    parser.add_argument("--judge", action="store_true", help="train nothing: judge what is there")
    parser.add_argument("--swaps", type=Path, help="a folder or manifest of swaps to measure with all of them")
    given = parser.parse_args()
    if unknown := set(given.finetune) - {*ROWS, *SHIPPED}:
        parser.error(f"no row is called {', '.join(sorted(unknown))}")
    if given.finetune and not (given.data / f"{RAFDB}.zip").exists():
        parser.error(f"--finetune needs {given.data / RAFDB}.zip")
    runs = planned([n for n in ROWS if n.startswith(tuple(given.only))], given.seeds, given.views)
    tuned = [finetuning(r.row, given.out / r.name / "encoder.pt", given.views, r.seed) for r in runs]
    tuned += [finetuning(row, file, given.views, seed) for seed in given.seeds for row, file in SHIPPED.items()]
    tuned = [t for t in tuned if t.row in given.finetune]
    for run in [*runs, *tuned] if given.plan else []:
        seen = f"{run.settings['epochs']} times {run.settings['limit']} faces"
        print(f"{run.name}: {run.recipe} of {', '.join(run.data)}, {seen}, seed {run.seed}")
    if given.plan:
        return
    for run in runs if not given.judge else []:
        train(run, given.data, given.out, given.out / "alignment")
    for run in tuned if not given.judge else []:
        if Path(str(run.settings["init"])).exists():
            train(run, given.data, given.out / "finetuned", given.out / "alignment")
    made = [run.name for run in runs if (given.out / run.name / "encoder.pt").exists()]
    judge(made, given.data, given.out, given.rated)
    if given.swaps:
        measure(made, given.out, given.swaps)
    print(f"written: {write_table(given.out, made)}")


if __name__ == "__main__":
    main()
