"""`python -m exprmetric`: the command line."""

from __future__ import annotations

from exprmetric_cli.main import main

if __name__ == "__main__":
    main(prog_name="exprmetric")
