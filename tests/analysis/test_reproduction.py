"""The papers' analyses on made tables: against plain recomputation, at the edges, and what is refused."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from independent_tables import auroc_table, side_table

from mskt.analysis.reproduction import published
from mskt.analysis.reproduction.catalogue import EXPERIMENTS, experiment
from mskt.analysis.reproduction.doubts import Doubts
from mskt.analysis.reproduction.inputs import SYNTHETIC, Inputs, Model, Source
from mskt.analysis.reproduction.large_cohort import learn
from mskt.analysis.reproduction.sarcopenia import group_of
from mskt.analysis.reproduction.uncertainty import ellipse
from mskt.analysis.reproduction.values import ALL, BONES, MUSCLES, members, values_of
from mskt.core.errors import InputError, MsktError, UsageError
from mskt.core.records import Record, read_csv, to_csv
from mskt.report.reproduction import reproduce
from mskt.report.reproduction.api import Settings

SIDED = ("femur", "gracilis", "sartorius", "gluteus_medius")


def write_results(folder, segmenter="unet", *, cases=16, shift=0.0, seed=0, labels=True, **keys):
    """Results of four paired structures and the sacrum; one is cut, one is missed."""
    rng = np.random.default_rng(3)
    noise = np.random.default_rng(seed + 1)
    rows = []
    for k in range(cases):
        for structure in keys.get("structures", (*SIDED, "sacrum")):
            for side in ("both",) if structure == "sacrum" else ("left", "right"):
                doubt, volume = rng.gamma(2, 1e-4), rng.uniform(100, 300)
                ravd, dice = noise.normal(0, 4), 0.95 - 150 * doubt + noise.normal(0, 0.02) + shift
                status = "ok"
                if structure == "sartorius" and k == 3:
                    status = "truncated"
                if structure == "femur" and side == "left" and k == 5:
                    status = "absent_prediction"
                missed, cut = status == "absent_prediction", status == "truncated"
                values = {
                    "uncertainty": (None if missed else doubt, "1"),
                    "volume": (None if missed or cut else volume * (1 + ravd / 100), "cm3"),
                    "mean_hu": (None if missed else 40 + noise.normal(0, 5), "HU"),
                }
                if labels:
                    values |= {
                        "dice": (0.0 if missed else min(1.0, max(0.0, dice)), "1"),
                        "assd": (None if missed else 10 * (1 - dice), "mm"),
                        "ravd": (-100.0 if missed else ravd, "%"),
                        "ave": (100.0 if missed else abs(ravd), "%"),
                        "aie": (None if missed else abs(noise.normal(0, 1)), "HU"),
                    }
                rows += [
                    Record(
                        f"p{k:02}", keys.get("dataset", ""), segmenter, "mcdropout",
                        f"run{seed}", structure, side, metric, value, unit, status,
                    )
                    for metric, (value, unit) in values.items()
                ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.csv").write_text(to_csv(rows))
    return folder


def write_cases(path, cases=16):
    lines = ["case_id\tsex\taffected_side\theight_m\tsmi\tcohort"]
    for k in range(cases):
        sex = "FM"[k % 2]
        smi = (4.8 if k % 4 < 2 else 6.1) + 1.5 * (sex == "M")
        cohort = f"DB{k % 2 + 1}"
        lines.append(
            f"p{k:02}\t{sex}\t{'left' if k % 3 else 'right'}\t{1.5 + k / 50}\t{smi}\t{cohort}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def results(tmp_path):
    return write_results(tmp_path / "unet")


@pytest.fixture
def cases(tmp_path):
    return write_cases(tmp_path / "cases.tsv")


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


QUICK = Settings(draws=100)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take most of the time; for tests that do not look at any."""
    monkeypatch.setattr("mskt.report.reproduction.drawing.draw", lambda plot, formats: {})


def test_auroc_table_equals_the_plain_computation(results, tmp_path, undrawn):
    reproduce("failure-detection", [results], tmp_path / "out", settings=QUICK)
    mine = {row["structure"]: row for row in read(tmp_path / "out" / "failure-detection.csv")}
    plain = auroc_table(results / "results.csv")
    assert {*SIDED, "sacrum"} == {*plain}
    defined = 0
    for structure, levels in plain.items():
        for level, value in levels.items():
            cell = mine[structure][f"auroc_{level}"]
            assert (cell == "") == (value is None)
            if value is not None:
                defined += 1
                assert float(cell) == pytest.approx(value, abs=1e-8)
            row = mine[structure]
            if row[f"n_{level}"] in ("1", "2") or value == 1:
                assert row[f"auroc_{level}_low"] == "", "a bootstrap of one bad patient is certain"
                assert row[f"reason_{level}"].startswith("no interval")
    assert defined >= 3
    assert mine["gluteus_medius"]["published_6layers50_inaccurate"] == "1"


def test_side_table_equals_the_plain_computation(results, cases, tmp_path, undrawn):
    reproduce("side", [results], tmp_path / "out", cases=cases, settings=QUICK)
    mine = {
        row["structure"]: row
        for row in read(tmp_path / "out" / "side.csv")
        if row["measure"] == "normalized_volume"
    }
    plain = side_table(results / "results.csv", cases)
    assert {*plain} == {*mine}
    for structure, columns in plain.items():
        for column, value in columns.items():
            cell = mine[structure][column]
            if value is None:
                assert cell == ""
            else:
                assert float(cell) == pytest.approx(value, rel=1e-7), (structure, column)
    assert mine["gluteus_medius"]["published_affected_auto"] == "95.81"
    assert mine["sacrum"]["unaffected_auto"] == "", "a whole structure has no other side"


def test_density_against_a_second_table(results, cases, tmp_path, undrawn):
    alone = reproduce("side", [results], tmp_path / "a", cases=cases, settings=QUICK)
    assert any("precomputed" in note for note in alone.notes)
    hu = [row for row in read(tmp_path / "a" / "side.csv") if row["measure"] == "mean_hu"]
    assert all(row["ccc"] == "" and row["affected_mae"] for row in hu)
    reproduce("side", [results], tmp_path / "b", cases=cases, reference=results, settings=QUICK)
    hu = [row for row in read(tmp_path / "b" / "side.csv") if row["measure"] == "mean_hu"]
    assert all(float(row["ccc"]) == 1 and float(row["affected_mae"]) == 0 for row in hu)


def arguments(name, tmp_path):
    """Results that an experiment can be done with."""
    one = write_results(tmp_path / "one")
    two = write_results(tmp_path / "two", "unet25d", shift=0.01, seed=4)
    facts = write_cases(tmp_path / "cases.tsv")
    named = {
        "planes": [one, two],
        "training-size": [f"10={one}", f"20={two}"],
        "dropout-samples": [f"1={one}", f"10={two}"],
        "external": [f"DB1={one}", f"DB2={two}"],
    }
    return named.get(name, [one]), {"cases": facts} if experiment(name).facts else {}


@pytest.mark.parametrize("name", [one.name for one in EXPERIMENTS])
def test_every_experiment_writes_what_it_says(name, tmp_path):
    given_results, more = arguments(name, tmp_path)
    out = tmp_path / "out"
    outcome = reproduce(name, given_results, out, settings=QUICK, **more)
    assert {*outcome.files} == {path.name for path in out.iterdir()}
    assert not outcome.findings.empty
    page = (out / f"{name}.md").read_text()
    assert "Published values are of another population" in page and "/tmp" not in page
    assert f"({name}_" in page, "the page shows a figure"
    for picture in out.glob("*.png"):
        data = picture.with_suffix(".csv")
        assert data.exists() and len(read(data)) > 0, "a figure has its data beside it"
    for table in out.glob("*.csv"):
        assert not re.search(r"\b(nan|inf|None)\b", table.read_text()), table.name
    linked = re.findall(r"\]\(([^)]+\.png)\)", page)
    assert linked and all((out / file).exists() for file in linked)


@pytest.mark.parametrize("name", [one.name for one in EXPERIMENTS])
@pytest.mark.parametrize("few", ["one case", "one structure"])
def test_little_data_give_statuses_or_a_named_error(name, few, tmp_path):
    given_results, more = arguments(name, tmp_path)
    keys = {"cases": 1} if few == "one case" else {"structures": ("gluteus_medius",)}
    for place, folder in enumerate(given_results):
        path = Path(str(folder).partition("=")[2] or folder)
        write_results(path, ("unet", "unet25d")[place], seed=place, **keys)
    try:
        outcome = reproduce(name, given_results, tmp_path / "out", settings=QUICK, **more)
    except MsktError as error:
        assert error.remedy and "Traceback" not in str(error)
        return
    main = outcome.findings.tables[0].rows
    assert main, "there is a table that says what is missing"
    for row in main:
        if few == "one case" and "sd" in row:
            assert row["sd"] is None, "one patient has no spread"


def test_a_second_call_gives_the_same_bytes(results, tmp_path):
    for out in ("a", "b"):
        reproduce(
            "uncertainty",
            [results],
            tmp_path / out,
            settings=Settings(draws=100, formats=("png", "svg")),
        )
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert any(file.endswith(".svg") for file in files)
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_nothing_is_replaced_unasked(results, tmp_path, undrawn):
    reproduce("accuracy", [results], tmp_path / "out", settings=QUICK)
    with pytest.raises(UsageError, match="exists already"):
        reproduce("accuracy", [results], tmp_path / "out", settings=QUICK)
    reproduce("accuracy", [results], tmp_path / "out", settings=QUICK, overwrite=True)


def test_all_that_is_missing_is_named_in_one_error(tmp_path):
    unlabelled = write_results(tmp_path / "plain", labels=False)
    with pytest.raises(UsageError) as caught:
        reproduce("planes", [unlabelled], tmp_path / "out")
    assert "no value of dice" in str(caught.value) and "--segmenter unet25d" in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="affected_side"):
        reproduce("side", [unlabelled], tmp_path / "out")


def test_missing_columns_duplicates_and_schemas_are_refused(results, tmp_path):
    table = results / "results.csv"
    text = table.read_text()
    lines = text.splitlines(keepends=True)
    table.write_text("".join([*lines, lines[1], *[x for x in lines[1:8] if ",dice," in x]]))
    with pytest.raises(InputError, match="two rows of dice"):
        reproduce("accuracy", [results], tmp_path / "out")
    table.write_text(text.replace("structure,", "organ,", 1))
    with pytest.raises(InputError, match="lacks the columns structure"):
        reproduce("accuracy", [results], tmp_path / "out")
    table.write_text(text)
    for case, schema in (("p00", 1), ("p01", 2)):
        (results / case).mkdir()
        (results / case / "run.json").write_text(f'{{"schema": {schema}, "case_id": "{case}"}}')
    with pytest.raises(InputError, match="schema"):
        reproduce("accuracy", [results], tmp_path / "out")


def test_draws_are_read_from_the_runs(tmp_path, undrawn):
    for number in (5, 10):
        folder = write_results(tmp_path / f"r{number}", seed=number)
        for k in range(16):
            (folder / f"p{k:02}").mkdir()
            (folder / f"p{k:02}" / "run.json").write_text(
                f'{{"schema": 1, "uncertainty": {{"draws": {number}}}}}'
            )
    found = reproduce(
        "dropout-samples", [tmp_path / "r10", tmp_path / "r5"], tmp_path / "out", settings=QUICK
    )
    rows = found.findings.tables[0].rows
    assert [row["draws"] for row in rows] == [5, 10, 5, 10]
    assert rows[0]["against"] == 10 and rows[0]["p"] is not None
    assert rows[1]["published_mean"] == 0.947
    with pytest.raises(UsageError, match="its runs say 5"):
        reproduce(
            "dropout-samples",
            [f"7={tmp_path / 'r5'}", tmp_path / "r10"],
            tmp_path / "x",
            settings=QUICK,
        )


def test_the_table_of_cases_is_checked(results, tmp_path):
    table = tmp_path / "cases.csv"
    for text, why in (
        ("case,height_m\np00,170\n", "no number from 0.5 to 2.5"),
        ("case_id,sex\np00,x\n", "not understood"),
        ("case_id,sex\np00,F\np00,M\n", "twice"),
        ("name,sex\np00,F\n", "no column case_id"),
        ("case_id,sex\nq00,F\n", "names no case"),
        ("case_id,patient\np00,a-1\np01,a1\n", "cannot be told"),
    ):
        table.write_text(text)
        with pytest.raises(MsktError, match=why):
            reproduce("accuracy", [results], tmp_path / "out", cases=table)


def test_cases_of_one_patient_are_one_value(results, tmp_path, undrawn):
    table = tmp_path / "cases.csv"
    table.write_text("case_id,patient\n" + "".join(f"p{k:02},{k // 2}\n" for k in range(16)))
    found = reproduce("accuracy", [results], tmp_path / "out", cases=table, settings=QUICK)
    row = next(r for r in found.findings.tables[0].rows if r["structure"] == "gracilis")
    assert row["patients"] == 8


def test_large_cohort_learns_elsewhere_and_flags_here(tmp_path, undrawn):
    labelled = write_results(tmp_path / "labelled")
    plain = write_results(tmp_path / "plain", labels=False, seed=2)
    nothing = reproduce("large-cohort", [plain], tmp_path / "a", settings=QUICK)
    assert {r["flag"] for r in nothing.findings.tables[1].rows} == {"unknown"}
    found = reproduce("large-cohort", [plain], tmp_path / "b", labelled=[labelled], settings=QUICK)
    summary, cases = found.findings.tables[0].rows[0], found.findings.tables[1].rows
    for row in cases:
        limits = (summary["limit_inaccurate"], summary["limit_failed"])
        assert (
            row["flag"]
            == ("ok", "inaccurate", "failed")[sum(row["mean_uncertainty"] > x for x in limits)]
        )
    assert [r["mean_uncertainty"] for r in cases] == sorted(
        (r["mean_uncertainty"] for r in cases), reverse=True
    )
    assert len({r["exemplar"] for r in cases}) == 3


def test_the_limits_are_the_line_at_the_thresholds():
    doubts = np.linspace(1e-4, 1e-3, 12)
    rows = [
        Record(f"p{k}", "", "u", "m", "r", "femur", "both", metric, float(value), "1", "ok")
        for k, doubt in enumerate(doubts)
        for metric, value in (("dice", 0.95 - 200 * doubt), ("uncertainty", doubt))
    ]
    found = learn(Model("u", tuple(rows)), Inputs((Source("u", tuple(rows)),)))
    median, mad = np.median(doubts), np.median(np.abs(doubts - np.median(doubts)))
    assert found.inaccurate == pytest.approx(median + 2 * 1.4826 * mad)
    assert found.failed == pytest.approx(median + 3 * 1.4826 * mad)


def test_missed_structures_are_counted_once():
    rows = {
        ("p", "femur", side): Record(
            "p", "", "u", "m", "r", "femur", side, "dice", 0.0, "1", "absent_prediction"
        )
        for side in ("left", "right", "both")
    }
    method = Model("u", tuple(rows.values())).method("dice")
    assert values_of(method).missed == {"femur": 2}
    assert values_of(method, side="both").missed == {"femur": 1}


@given(st.integers(0, 2**31), st.floats(0.1, 5), st.floats(-0.9, 0.9))
def test_the_ellipse_holds_95_percent_of_normal_values(seed, size, r):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, 4000)
    y = size * (r * x + np.sqrt(1 - r**2) * rng.normal(0, 1, 4000))
    centre_x, centre_y, xx, xy, yy = ellipse(Doubts(("p",) * 4000, y, x))
    inverse = np.linalg.inv([[xx, xy], [xy, yy]])
    off = np.stack([x - centre_x, y - centre_y])
    assert 0.93 < np.mean(np.einsum("ik,ij,jk->k", off, inverse, off) <= 1) < 0.97


def test_groups_of_muscles():
    names = ["femur", "gracilis", "sacrum", "adductors", "label_7"]
    assert members(names, MUSCLES) == ["gracilis", "adductors"]
    assert members(names, BONES) == ["femur", "sacrum"]
    assert members(names, ALL) == names
    assert (
        group_of("adductors") == "medial" and group_of("vastus_lateralis_intermedius") == "anterior"
    )
    assert group_of("label_7") == ""


def test_published_values_are_those_of_the_papers():
    assert published.headline("hiasa2020", "bayesian_unet", "THA N=20 LOOCV muscles", "dice") == (
        0.891, 0.016,
    )  # fmt: skip
    assert published.kim("tensor_fasciae_latae", "unetr_dice") == 0.851
    table = "soufi2024_table6_volume_density"
    assert published.lookup(table, "structure", "gluteus_minimus", "ccc") is None, "1.69 is no CCC"
    medians = {}
    for level in ("inaccurate", "failed"):
        column = f"6layers50_{level}"
        rows = [
            r
            for r in published.table("soufi2024_table2_auroc")
            if not r["structure"].startswith(("all", "median"))
        ]
        medians[level] = np.nanmedian([float(r[column]) for r in rows])
        assert medians[level] == pytest.approx(
            published.lookup("soufi2024_table2_auroc", "structure", "median", column),
            abs=3e-3,  # the paper prints 0.898, its own column has 0.896
        )


def test_the_mark_of_phantoms_is_that_of_the_runs():
    from mskt.cli.sources import SYNTHETIC_MARK

    assert SYNTHETIC == SYNTHETIC_MARK


def test_planes_leave_out_what_one_label_set_does_not_have(tmp_path):
    """The mean over all structures would otherwise be over others for each network."""
    one = write_results(tmp_path / "one", "unet2d")
    two = write_results(tmp_path / "two", "unet25d", seed=1)
    table = two / "results.csv"
    rows = [
        replace(row, value=None, status="not_in_label_set") if row.structure == "femur" else row
        for row in read_csv(table)
    ]
    table.write_text(to_csv(rows))
    found = reproduce("planes", {"2-D": one, "2.5-D": two}, tmp_path / "out").findings
    shown = {(row["model"], row["structure"]) for row in found.tables[0].rows}
    names = {structure for model, structure in shown if model == "2-D"}
    assert "femur" not in names and "gracilis" in names
    assert names == {structure for model, structure in shown if model == "2.5-D"}
