"""Everything that comes with mskt, with every uncertainty: on a cohort of phantoms and on the real CT.

    python benchmarks/shipped.py --out runs/shipped                     (call it again to go on)

Two calls of ``mskt benchmark``, whose tables are in docs/benchmark-shipped.md. On phantoms:
``unet_bayes`` with its default weights and ``multi_atlas`` with three atlases, under every estimator;
those that do not fit say so (``tta`` alone is left out: it would register every atlas anew for each
of its draws). On the Visible Human female's pelvis (where ../shared is there): the
weights that never saw her, and the default ones, which did. Her reference is approximate
(scripts/score_real_ct.py); what it lacks does not count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import nibabel as nib

from mskt.core.anatomy import label_set
from mskt.report.outputs import label_table

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from score_real_ct import reference

ESTIMATORS = "deterministic,mcdropout,tta+mcdropout,ensemble,planes"
SHARED = Path(__file__).parents[2] / "shared" / "ct" / "vhf_pelvis"
SEED, ATLAS_SEED = 9_001, 9_501
"""No training used phantoms of these seeds."""


def benchmark(*arguments: object) -> None:
    """A benchmark; cells that do not fit are no fault."""
    call = [sys.executable, "-m", "mskt", "benchmark", *map(str, arguments)]
    code = subprocess.run(call, check=False).returncode
    if code not in (0, 1):
        sys.exit(code)


def listed(folder: Path, out: Path) -> Path:
    """The real CT with its reference in the classes of msk22, as a list of one case."""
    labels = label_set("msk22")
    out.mkdir(parents=True, exist_ok=True)
    source = nib.load(folder / "labels.nii.gz")
    nib.Nifti1Image(reference(folder, labels), source.affine).to_filename(out / "labels.nii.gz")
    (out / "msk22.tsv").write_text(label_table(labels), encoding="utf-8")
    table = out / "cases.tsv"
    table.write_text(
        "image\tcase_id\treference\ttable\n"
        f"{(folder / 'ct.nii.gz').resolve()}\tvhf_pelvis\tlabels.nii.gz\tmsk22.tsv\n",
        encoding="utf-8",
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=6, help="phantoms")
    parser.add_argument("--samples", type=int, default=4, help="draws; the papers use 10")
    args = parser.parse_args()
    data = args.out / "real"
    benchmark(
        "--segmenters", "unet_bayes,multi_atlas",
        "--option", f"multi_atlas.atlases=phantom?n=3&seed={ATLAS_SEED}",
        "--option", "multi_atlas.spacing_mm=4",
        "--uncertainties", ESTIMATORS, "--samples", args.samples, "--threads", 1, "--include-truncated",
        "--data", f"phantom:db1?n={args.cases}&seed={SEED}&spacing=2,2,3",
        "--out", args.out / "phantoms", "--resume",
    )  # fmt: skip
    if not SHARED.exists():
        print("the real CT is not here: left out")
        return
    benchmark(
        "--segmenters", "without_her=unet_bayes,default=unet_bayes",
        "--option", "without_her.weights=unet_bayes-compact-vhf",
        "--uncertainties", f"{ESTIMATORS},tta", "--samples", args.samples, "--threads", 1,
        "--include-truncated", "--data", listed(SHARED, data), "--out", args.out / "real-ct", "--resume",
    )  # fmt: skip


if __name__ == "__main__":
    main()
