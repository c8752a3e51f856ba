"""Every option of every command says what it does."""

from __future__ import annotations

from collections.abc import Iterator

import click
from exprmetric_cli.main import main


def options(command: click.Command, path: str, context: click.Context) -> Iterator[tuple[str, click.Option]]:
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from options(found, f"{path} {name}", click.Context(found, info_name=name, parent=context))
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield path, parameter


def test_every_option_says_what_it_does_in_more_than_a_word_or_two() -> None:
    every = list(options(main, "exprmetric", click.Context(main)))
    assert len(every) > 200
    assert not [(path, o.opts[0], o.help) for path, o in every if len((o.help or "").split()) < 3]


def test_no_help_begins_in_the_middle_of_a_thought() -> None:
    """A phrase that leans on the option's name (`Of each set.`, `For one photograph.`) says nothing by itself."""
    every = list(options(main, "exprmetric", click.Context(main)))
    leaning = ("Of ", "For ", "At most", "Repeatable", "0:", "On ")
    assert not [(path, o.opts[0], o.help) for path, o in every if (o.help or "").startswith(leaning)]
