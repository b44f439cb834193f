"""``mskt report``: one HTML file a case and one over all cases, from the folder of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mskt.cli.console import SOME_FAILED

if TYPE_CHECKING:
    from mskt.cli.sources import Source
    from mskt.core.volume import Volume


def report_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="What mskt run --out was given.", show_default=False),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[IMAGES]...",
            show_default=False,
            help="The CTs that were segmented, as mskt run takes them. Without them the pages have no "
            "grey slices and no histograms.",
        ),
    ] = None,
    cases: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Pages of these cases only; all by default."),
    ] = None,
    overview_only: Annotated[
        bool, typer.Option("--overview-only", help="Only the page over all cases.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave pages that are newer than their results.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Write DIR/CASE/report.html for each case and DIR/report.html over all of them.

    Each is one file that opens in any browser without a network: flags first, numbers, slices in
    three planes, surfaces, HU histograms, and how it was made.
    """
    from mskt.cli.console import Reporter, print_json, stdout
    from mskt.report.page.pages import write_cohort_page

    wanted = _wanted(folder, cases)
    todo = [] if overview_only else [c for c in wanted if not (resume and _is_fresh(folder / c))]
    sources = _sources(folder, images or [], todo)
    reporter = Reporter(len(todo), quiet or json_output)
    written, failed = [], {}
    with reporter.running():
        for case_id in todo:
            reason = _write(folder, case_id, sources.get(case_id), reporter)
            if reason:
                failed[case_id] = reason
            else:
                written.append(case_id)
    overview = write_cohort_page(folder)
    if json_output:
        print_json({"overview": str(overview), "written": written, "failed": failed})
    elif not quiet:
        single = len(wanted) == 1 and (folder / wanted[0] / overview.name).exists()
        first = folder / wanted[0] / overview.name if single else overview
        stdout().print(
            f"Open {first} in a browser.",
            style="bold",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if failed:
        raise typer.Exit(SOME_FAILED)


def _wanted(folder: Path, cases: str | None) -> list[str]:
    """Finished cases, those named or all.

    Raises:
        UsageError: no such folder, no finished case in it, or a name that is none.
    """
    from mskt.core.errors import UsageError
    from mskt.report.outputs import RUN

    if not folder.is_dir():
        raise UsageError(
            str(folder), "is no folder.", "Give the folder that mskt run --out wrote to."
        )
    done = sorted(path.parent.name for path in folder.glob(f"*/{RUN}"))
    if not done:
        hint = "Give the folder that mskt run --out wrote to."
        if (folder / RUN).exists():
            hint = (
                f"It is the folder of one case: mskt report {folder.parent} --cases {folder.name}"
            )
        raise UsageError(str(folder), "holds no finished case.", hint)
    if cases is None:
        return done
    names = [name.strip() for name in cases.split(",") if name.strip()]
    unknown = [name for name in names if name not in done]
    if unknown or not names:
        raise UsageError(
            "--cases",
            f"{', '.join(unknown) or 'nothing'}: no such finished case.",
            f"Finished: {', '.join(done[:8])}{', …' if len(done) > 8 else ''}.",
        )
    return names


def _is_fresh(folder: Path) -> bool:
    from mskt.report.outputs import REPORT, RUN

    page = folder / REPORT
    return page.exists() and page.stat().st_mtime >= (folder / RUN).stat().st_mtime


def _sources(folder: Path, images: Sequence[Path], cases: Sequence[str]) -> Mapping[str, Source]:
    """The images by case: those given, and the built-in phantom, which need not be given."""
    from mskt.cli.options import RunOptions
    from mskt.cli.sources import BUILT_IN_ID, find
    from mskt.core.registry import registry
    from mskt.report.outputs import RUN, read_json

    def listed(inputs: Sequence[Path]) -> dict[str, Source]:
        options = RunOptions(tuple(inputs), folder, segmenter="", uncertainty="")
        return {source.case_id: source for source in find(options, registry())}

    found = listed(images) if images else {}
    run = (read_json(folder / BUILT_IN_ID / RUN) or {}) if BUILT_IN_ID in cases else {}
    if BUILT_IN_ID not in found and _part(run, "input").get("files") == 0:
        found.update(listed(()))
    return found


def _write(folder: Path, case_id: str, source: Source | None, reporter: Any) -> str:
    """Write one page; what goes wrong is returned in words and the next case begins."""
    from mskt.core.errors import MsktError, OutputError
    from mskt.report.page.pages import write_case_page

    try:
        reporter.stage(case_id, "page", 0.0)
        write_case_page(folder, case_id, _image(folder, case_id, source))
    except OutputError:
        raise
    except MsktError as error:
        reason = " ".join(str(error).split())
        reporter.case(f"{case_id}: FAILED: {reason}", "red")
        return reason
    remark = "" if source else " (without the CT)"
    reporter.case(f"{case_id}: page written{remark}")
    return ""


def _image(folder: Path, case_id: str, source: Source | None) -> Volume | None:
    """The image, if it is the very one that was segmented.

    Raises:
        InputError: its checksum is another.
    """
    from mskt.core.errors import InputError
    from mskt.report.outputs import RUN, read_json

    if source is None:
        return None
    before = _part(read_json(folder / case_id / RUN) or {}, "input").get("sha256")
    if before and source.checksum().get("sha256") != before:
        raise InputError(
            case_id,
            "is not the image that was segmented: its checksum is another",
            "Give the image that the run was given, or segment this one: mskt run --overwrite.",
        )
    return source.load()


def _part(run: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = run.get(name)
    return found if isinstance(found, dict) else {}
