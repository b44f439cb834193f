"""``mskt train``: the options. What they start is in :mod:`mskt.cli.trainer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_WHAT, _HOW, _WHO, _OUT = "What to train", "How to train", "Who validates", "What to write"


def train_command(
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="SPEC",
            rich_help_panel=_WHAT,
            help="A folder or dataset with label maps, or synthesis on the fly; several are mixed. "
            "docs/training.md says how a SPEC is written.",
        ),
    ] = None,
    segmenter: Annotated[
        str,
        typer.Option(
            "--segmenter",
            "-s",
            metavar="NAME",
            rich_help_panel=_WHAT,
            help="See 'mskt plugins list'.",
        ),
    ] = "unet_bayes",
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_WHAT,
            help="Which of the segmenter's networks: its main one by default, 'all' for every one. "
            "The others are taken from --start-from, or from the weights that come with mskt.",
        ),
    ] = None,
    label_set: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.tsv", rich_help_panel=_WHAT, help="The classes to be learned."
        ),
    ] = "msk22",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME=VALUE",
            rich_help_panel=_WHAT,
            help="Of the networks, such as variant=5layers.",
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,Z",
            rich_help_panel=_WHAT,
            help="Voxel size in mm, if not the network's own.",
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.toml", rich_help_panel=_HOW, help="See 'mskt train --list-recipes'."
        ),
    ] = "mskt",
    list_recipes: Annotated[
        bool, typer.Option("--list-recipes", rich_help_panel=_HOW, help="Show them and stop.")
    ] = False,
    max_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=_HOW,
            help="Instead of the recipe's length; its schedule then spans N steps.",
        ),
    ] = None,
    steps_per_case: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", rich_help_panel=_HOW, help="Steps until a new case comes in."
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel=_HOW,
            help="Stop after so many validations without a better Dice; 0: never.",
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", rich_help_panel=_HOW, help="Begin with these weights."),
    ] = None,
    members: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=_HOW,
            help="Train a deep ensemble: member n has the seed --seed + n.",
        ),
    ] = 1,
    seed: Annotated[
        int, typer.Option(min=0, rich_help_panel=_HOW, help="Of all random things.")
    ] = 0,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            "-d",
            metavar="auto|cpu|cuda[:N]|gpu[:N]|mps",
            rich_help_panel=_HOW,
            help="auto takes a GPU if there is one. Several GPUs: start mskt with torchrun.",
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="auto|float32|bfloat16",
            rich_help_panel=_HOW,
            help="Of the convolutions; auto takes bfloat16 where it is faster.",
        ),
    ] = "auto",
    compile_: Annotated[
        bool,
        typer.Option("--compile", rich_help_panel=_HOW, help="Use torch.compile; pays on a GPU."),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_HOW, help="CPU threads; all cores by default."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, rich_help_panel=_HOW, help="Processes that make cases ahead; 0: none."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="K", rich_help_panel=_WHO, help="Cross-validation with K folds."
        ),
    ] = None,
    leave_one_out: Annotated[
        bool,
        typer.Option("--leave-one-out", rich_help_panel=_WHO, help="One fold for each patient."),
    ] = False,
    splits: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=_WHO, help="Folds as in nnU-Net's splits_final.json."
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(min=0, metavar="I", rich_help_panel=_WHO, help="Only this fold: 0, 1, …"),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            rich_help_panel=_OUT,
            help="Folder of the run; folds and members get folders in it.",
        ),
    ] = Path("mskt-train"),
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            rich_help_panel=_OUT,
            help="For cases that are kept: annotated ones, and those of synthesis?cases=N; "
            "DIR/cache of --out by default.",
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            rich_help_panel=_OUT,
            help="Fields for the model card, such as licence, attribution and limits.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", rich_help_panel=_OUT, help="Go on where it stopped or was killed."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=_OUT, help="Begin again.")
    ] = False,
    json_output: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=_OUT, help="Print the outcome as JSON on stdout."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", rich_help_panel=_OUT, help="Print errors only.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", rich_help_panel=_OUT, help="A line every 20 steps."),
    ] = False,
) -> None:
    """Train a segmenter's networks on label maps of your own, on synthetic patients, or on both.

    Writes DIR/weights.safetensors with its model card, ready for 'mskt run --weights', and all that is
    needed to judge and to repeat the training: run.json, recipe.toml, tables, curves, checkpoints.
    """
    from mskt.cli import trainer

    if list_recipes:
        trainer.list_recipes(json_output)
        return
    trainer.train(
        trainer.TrainOptions(
            data=tuple(data or ()),
            segmenter=segmenter,
            parts=tuple(part or ()),
            label_set=label_set,
            settings=tuple(settings or ()),
            spacing=spacing,
            recipe=recipe,
            max_steps=max_steps,
            steps_per_case=steps_per_case,
            patience=patience,
            start_from=start_from or "",
            members=members,
            seed=seed,
            device=device,
            precision=precision,
            compile=compile_,
            threads=threads,
            workers=workers,
            folds=folds,
            leave_one_out=leave_one_out,
            splits=splits,
            fold=fold,
            out=out,
            cache=cache,
            card=card,
            resume=resume,
            overwrite=overwrite,
            json=json_output,
            quiet=quiet,
            verbose=verbose,
        )
    )
