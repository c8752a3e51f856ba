"""`exprmetric export`: checkpoint → ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", metavar="OUT.onnx", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--half/--full", default=True, show_default=True, help="Store weights in half or in single precision.")
@click.option("--entry", is_flag=True, help="Print a manifest entry for the file.")
def export(checkpoint: Path, out: Path, half: bool, entry: bool) -> None:
    """Write the encoder of CHECKPOINT (encoder.pt, best.pt or last.pt) as ONNX, and prove that both agree."""
    from exprmetric_cli.train import need_torch

    need_torch()
    from exprmetric.encoder.export import export_encoder, manifest_entry

    made = export_encoder(checkpoint, out, half=half)
    click.echo(
        f"{out}: {out.stat().st_size:,} bytes, {made.dimension} numbers from {made.size} px; largest difference of a "
        f"unit-norm embedding, torch against onnxruntime: {made.parity:.1e} (halving it: {made.rounding:.1e})",
        err=True,
    )
    if entry:
        click.echo(json.dumps(manifest_entry(made, out.stem), indent=2))
