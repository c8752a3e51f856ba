"""Train every recipe of the papers on the same faces, small enough for a CPU, and judge all of them by one protocol.

All begin with ImageNet's weights of one backbone, which is the first row: a few minutes are too short to begin with
none, and what a recipe adds is what differs from that row.

    python examples/recipes.py data/ runs/                    # about two hours on two cores
    python examples/recipes.py data/ runs/ --only 003 004     # rows whose names begin so
    python examples/recipes.py data/ runs/ --judge --swaps swaps/     # no training; all rows as methods on real swaps

data/ holds ferplus.zip, lfw_expressions.zip, unlabelled_faces.zip and videos.zip (see docs/recipes.md). A row that is
done is left as it is, one that was stopped goes on. Ends with runs/protocols.md: all rows under all protocols. With
--swaps, each encoder is exported to ONNX, registered as a method, and measures the swaps.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

VOTES, LABELS = ["ferplus"], ["ferplus", "lfw_expressions"]
FACES = [*LABELS, "unlabelled_faces"]
CLIPS = [*LABELS, "videos"]

SMALL = {"size": 64, "crop": 176, "batch": 128, "backbone": "efficientnet_lite0", "pretrained": True}
SMALL |= {"learning_rate": 5e-4}
LABELLED = {"optimiser": "adamw", "warmup": 50, "limit": 12000, "epochs": 3}
UNLABELLED = {"optimiser": "adamw", "warmup": 50, "limit": 6000, "epochs": 2, "augment": "robust"}
WARP = {**UNLABELLED, "projection": 256, "hidden": 512, "landmark_weight": 10, "target_similarity": 0.2}
NEAR = {**UNLABELLED, "hidden": 512}
VOTED = {"epochs": 6, "head_views": 1}
FROM_SCRATCH = {"backbone": "resnet50v2", "pretrained": False, "epochs": 1, "learning_rate": 1e-3}

ROWS: dict[str, tuple[str, list[str], dict[str, object]]] = {
    "imagenet": ("selfsupervised", LABELS, {"epochs": 0, "limit": 256}),
    "000-wsupcon": ("wsupcon", VOTES, VOTED),
    "000-wsupcon-unweighted": ("wsupcon", VOTES, {**VOTED, "weighted": False}),
    "003-simsiam": ("contrawarping", FACES, {**WARP, "warp": "none", "landmark_head": False}),
    "003-rw-random": ("contrawarping", FACES, {**WARP, "warp": "random", "landmark_head": False}),
    "003-rw-landmarks": ("contrawarping", FACES, {**WARP, "landmark_head": False}),
    "002-baseline": ("disentangle", LABELS, {**LABELLED, "beta3": 0}),
    "002-beta1-0": ("disentangle", LABELS, LABELLED),
    "002-beta1-0.001": ("disentangle", LABELS, {**LABELLED, "beta1": 0.001}),
    "002-beta1-1": ("disentangle", LABELS, {**LABELLED, "beta1": 1}),
    "004-feenet": ("feenet", VOTES, {**LABELLED, "epochs": 6, "clear": 0.7}),
    "001-none": ("contrastive", CLIPS, {**NEAR, "row": "none"}),
    "001-a": ("contrastive", CLIPS, {**NEAR, "row": "a"}),
    "001-e": ("contrastive", CLIPS, {**NEAR, "row": "e"}),
    "001-g": ("contrastive", CLIPS, {**NEAR, "row": "g"}),
    "003-rw-landmarks-ld": ("contrawarping", FACES, WARP),
    "000-classification": ("classification", LABELS, LABELLED),
    "001-b": ("contrastive", CLIPS, {**NEAR, "row": "b"}),
    "001-c": ("contrastive", CLIPS, {**NEAR, "row": "c"}),
    "000-simsiam": ("selfsupervised", FACES, UNLABELLED),
    "000-autoencoder": ("autoencoder", FACES, UNLABELLED),
    "003-rw-random-ld": ("contrawarping", FACES, {**WARP, "warp": "random"}),
    "001-d": ("contrastive", CLIPS, {**NEAR, "row": "d"}),
    "001-f": ("contrastive", CLIPS, {**NEAR, "row": "f"}),
    "000-wsupcon-resnet50v2": ("wsupcon", VOTES, {**VOTED, **FROM_SCRATCH}),
    "003-byol-ld": ("contrawarping", FACES, {**WARP, "engine": "byol", "momentum": 0.99}),
    "003-mocov2-ld": ("contrawarping", FACES, {**WARP, "engine": "mocov2", "momentum": 0.99, "queue": 1024}),
}
"""Row of a paper's table → recipe, data sets, settings; in the order of what the papers' claims need first."""


def exprmetric(*arguments: object) -> list[str]:
    """The command line, in this Python."""
    start = "from exprmetric_cli.main import main; main(prog_name='exprmetric')"
    return [sys.executable, "-c", start, *map(str, arguments)]


def train(name: str, data: Path, out: Path) -> None:
    """One row; its log stands beside its checkpoints."""
    recipe, datasets, settings = ROWS[name]
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (out / "alignment").mkdir(exist_ok=True)
    if not (folder / "alignment").exists():  # all rows share the aligned faces
        (folder / "alignment").symlink_to((out / "alignment").resolve(), target_is_directory=True)
    command = exprmetric("train", recipe, "--out", folder)
    for dataset in datasets:
        command += ["--data", str(data / f"{dataset}.zip")]
    for key, value in (SMALL | settings).items():
        command += ["--set", f"{key}={value}"]
    begun = time.monotonic()
    with (folder / "console.log").open("w") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    print(
        f"{name}: {'done' if not status else f'failed, see {log.name}'}, {time.monotonic() - begun:.0f} s", flush=True
    )


def measure(names: list[str], out: Path, swaps: Path) -> None:
    """Each row's encoder as a method of `evaluate`."""
    for name in names:
        network, entry = out / name / f"{name}.onnx", out / name / "entry.json"
        exported = subprocess.run(
            exprmetric("export", out / name / "encoder.pt", network, "--entry"), check=True, stdout=subprocess.PIPE
        )
        entry.write_bytes(exported.stdout)
        subprocess.run(exprmetric("weights", "add", entry, network), check=True)
    methods = [word for name in names for word in ("-m", name)]
    subprocess.run(exprmetric("evaluate", swaps, *methods, "-m", "default", "--out", out / "swaps"), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of names")
    parser.add_argument("--judge", action="store_true", help="train nothing: judge what is there")
    parser.add_argument("--swaps", type=Path, help="a folder or manifest of swaps to measure with all of them")
    given = parser.parse_args()
    wanted = [name for name in ROWS if name.startswith(tuple(given.only))]
    for name in wanted:
        if not given.judge and not (given.out / name / "scores.json").exists():
            train(name, given.data, given.out)
    made = [name for name in sorted(wanted) if (given.out / name / "encoder.pt").exists()]
    checkpoints = [word for name in made for word in ("--checkpoint", f"{name}={given.out / name / 'encoder.pt'}")]
    faces = [given.data / f"{name}.zip" for name in LABELS]
    command = exprmetric("probe", "protocols", *faces, "--persons", faces[1], *checkpoints, "--out", given.out)
    subprocess.run([*command, "-m", "default", "-m", "lm68", "--limit", "3000"], check=True)
    if given.swaps:
        measure(made, given.out, given.swaps)


if __name__ == "__main__":
    main()
