"""Run examples/notebook.ipynb and write docs/notebook.md with its pictures (pip install nbconvert ipykernel).

python examples/render_notebook.py docs/
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")


def shown(output: dict[str, Any]) -> bool:
    """Warnings name folders of the machine that it ran on."""
    return not (output["output_type"] == "stream" and output["name"] == "stderr")


def render(docs: Path) -> Path:
    """Write `notebook.md` and `images/notebook_*.jpg` into a folder; the notebook itself stays without outputs."""
    import nbformat
    from nbconvert import MarkdownExporter
    from nbconvert.preprocessors import ExecutePreprocessor

    notebook: Any = nbformat.read(str(NOTEBOOK), as_version=4)
    ExecutePreprocessor(timeout=600, kernel_name="python3").preprocess(notebook, {})
    for cell in notebook.cells:
        cell.outputs = [o for o in cell.get("outputs", []) if shown(o)]
        for output in cell.outputs:
            if "image/jpeg" in output.get("data", {}):
                output.data.pop("image/png", None)  # of the two, the smaller
    resources = {"output_files_dir": "images", "unique_key": "notebook"}
    body, resources = MarkdownExporter().from_notebook_node(notebook, resources=resources)
    body = re.sub(r"!\[\w+\]\((images/[\w.]+)\)", r"![what the cell shows](\1)", body)
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in body.splitlines()))
    for name, picture in resources["outputs"].items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    out = docs / "notebook.md"
    out.write_text(body.strip() + "\n", encoding="utf-8")
    return out


if __name__ == "__main__":
    print(render(Path(sys.argv[1])))
