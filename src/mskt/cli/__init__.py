"""The command ``mskt``: parse, call the parts that do the work, print.

Nothing heavy is imported before a command needs it: ``mskt --help`` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mskt.cli.console import Group
from mskt.core.allocator import keep_freed_memory

app = typer.Typer(
    name="mskt",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Muscles and bones of hip and thigh in CT: volume, density and fat of each, "
    "and how far to trust it. Research use, not a diagnosis.",
    epilog="First steps: 'mskt run' segments a built-in synthetic phantom; "
    "'mskt run ct.nii.gz --out results' a scan of yours; 'mskt doctor' says what works here.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from mskt import __version__

        typer.echo(f"mskt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Options before the command."""


def _register() -> None:
    from mskt.cli.benchmark import benchmark_command
    from mskt.cli.calibrate import calibrate_command
    from mskt.cli.doctor import doctor_command
    from mskt.cli.evaluate import evaluate_command
    from mskt.cli.models import models_app
    from mskt.cli.phantom import phantom_command
    from mskt.cli.plugins import plugins_app
    from mskt.cli.report import report_command
    from mskt.cli.reproduce import reproduce_command
    from mskt.cli.run import run_command
    from mskt.cli.stats import stats_app
    from mskt.cli.train import train_command

    app.command("run")(run_command)
    app.command("evaluate")(evaluate_command)
    app.command("benchmark")(benchmark_command)
    app.command("calibrate")(calibrate_command)
    app.command("report")(report_command)
    app.add_typer(stats_app, name="stats", short_help="Statistics on results tables.")
    app.command("reproduce")(reproduce_command)
    app.command("phantom")(phantom_command)
    app.command("train")(train_command)
    app.add_typer(models_app, name="models", short_help="Trained weights: list, describe, verify.")
    app.add_typer(plugins_app, name="plugins")
    app.command("doctor")(doctor_command)


_register()


def main() -> None:
    """Entry point of the console script."""
    keep_freed_memory()
    sys.exit(app())
