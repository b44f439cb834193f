"""A small scan that the fake segmenter takes a moment for, and where that segmenter is."""

from pathlib import Path

import nibabel as nib
import numpy as np

PLUGIN = Path(__file__).parent / "plugin"


def leg_scan(shape=(40, 30, 24), seed=0):
    """Two thighs: a muscle with a bone in each, the patient's right one twice as thick."""
    i, j, _ = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    for centre, radius in ((11, 5), (28, 10)):
        distance = np.hypot(i - centre, j - 15)
        hu[distance < radius] = 50
        hu[distance < 2.5] = 700
    inside = hu > -500
    hu[inside] += np.random.default_rng(seed).normal(0, 5, int(inside.sum()))
    return hu.astype(np.int16)


def save_scan(path, data, *, codes=(1, 1), flip=False):
    """NIfTI with spacing 4 × 4 × 5 mm; ``flip``: the first array axis points to the patient's left."""
    affine = np.diag([-4.0 if flip else 4.0, 4.0, 5.0, 1.0])
    affine[:3, 3] = [10.0, -20.0, 30.0]
    image = nib.Nifti1Image(data[::-1] if flip else data, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.to_filename(path)
    return affine
