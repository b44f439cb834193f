"""The scanner: blur, slice thickness, beam hardening, noise, field of view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.lattice import Axes, FloatArray, child_rng

AIR_HU = -1000.0


@dataclass(frozen=True)
class Scanner:
    """Drawn acquisition parameters (mm, HU)."""

    psf_mm: float
    overshoot: float
    slice_mm: float
    noise_hu: float
    streak_hu: float
    hardening: float
    truncate_mm: float  # radius of the reconstruction circle; infinite if the body is not cut
    motion_mm: float


def draw_scanner(seed: int, config: SynthesisConfig) -> Scanner:
    """Draw one acquisition."""
    rng = child_rng(seed, "scanner")
    low, high = config.noise_hu
    noise = low + (high - low) * rng.beta(1.2, 2.2)
    cut = rng.uniform(150, 230) if rng.random() < config.p_truncated else np.inf
    return Scanner(
        psf_mm=float(rng.uniform(*config.psf_mm)),
        overshoot=float(rng.uniform(*config.overshoot)),
        slice_mm=float(rng.uniform(*config.slice_mm)),
        noise_hu=float(noise),
        streak_hu=float(rng.uniform(*config.streak_hu) * rng.random()),
        hardening=float(rng.random() < config.p_hardening) * float(rng.uniform(0.2, 1.0)),
        truncate_mm=float(cut),
        motion_mm=float(rng.uniform(1, 4)) if rng.random() < config.p_motion else 0.0,
    )


def blur(hu: FloatArray, spacing: tuple[float, float, float], s: Scanner) -> FloatArray:
    """Point spread in the plane, slice profile along z, and the overshoot of sharp kernels."""
    wide = (s.psf_mm / spacing[0], s.psf_mm / spacing[1], 0.36 * s.slice_mm / spacing[2])
    out = hu
    for axis, w in enumerate(wide):
        if w > 0.12:
            out = _blur_axis(out, w, axis)
    if s.overshoot > 0.05:
        soft = _blur_axis(_blur_axis(out, 1.2 * wide[0] + 0.5, 0), 1.2 * wide[1] + 0.5, 1)
        edge = out - soft
        out = out + np.float32(s.overshoot) * np.clip(edge, -250, 250)
    if s.motion_mm > 0:  # the patient moved sideways during the turn: a faint double image
        step = max(1, round(s.motion_mm / spacing[0]))
        out = 0.7 * out + 0.3 * np.roll(out, step, axis=0)
    return out


def _blur_axis(a: FloatArray, sigma: float, axis: int) -> FloatArray:
    if sigma < 0.75:  # three taps are enough, and much faster than a general filter
        w = np.exp(-0.5 / max(sigma, 0.2) ** 2)
        low = np.take(a, np.r_[0, 0 : a.shape[axis] - 1], axis)
        high = np.take(a, np.r_[1 : a.shape[axis], a.shape[axis] - 1], axis)
        low += high
        low *= np.float32(w / (1 + 2 * w))
        low += a * np.float32(1 / (1 + 2 * w))
        return np.asarray(low, np.float32)
    return np.asarray(ndimage.gaussian_filter1d(a, sigma, axis, truncate=3.0, output=np.float32))


def add_noise(
    hu: FloatArray,
    body: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    s: Scanner,
    seed: int,
) -> FloatArray:
    """Correlated noise, stronger in wide slices, with horizontal streaks where photons starve."""
    rng = child_rng(seed, "noise")
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    grain = min(0.7, 0.55 * s.psf_mm / spacing[0])
    if grain > 0.2:
        noise = _blur_axis(_blur_axis(noise, grain, 0), grain, 1)
        noise /= noise[::4, ::4, ::4].std()
    width = body.any(1).sum(0) * spacing[0]
    gain = s.noise_hu * np.clip(np.exp((width - 340) / 220), 0.4, 2.5)
    hu = hu + noise * gain[None, None].astype(np.float32)
    if s.streak_hu > 0.5:
        hu = hu + _streaks(body, rng, s)
    return hu


def _streaks(body: NDArray[np.bool_], rng: np.random.Generator, s: Scanner) -> FloatArray:
    """Photon starvation: fine lines along x at the levels where the patient is widest."""
    lines = rng.standard_normal((1, body.shape[1], body.shape[2]), dtype=np.float32)
    wide = body.sum(0).astype(np.float32)
    wide = (wide / max(float(wide.max()), 1.0)) ** 3
    sway = 1 + 0.3 * rng.standard_normal((body.shape[0], 1, 1)).astype(np.float32)
    return np.asarray(s.streak_hu * lines * wide[None] * ndimage.gaussian_filter1d(sway, 8, 0))


def harden(hu: FloatArray, body: NDArray[np.bool_], axes: Axes, s: Scanner) -> FloatArray:
    """Cupping and the dark band between dense bones, as a function of the bone in each row."""
    if s.hardening <= 0:
        return hu
    bone = np.clip(hu - 350, 0, 900) * body
    row = bone.mean(0, keepdims=True)
    dark = ndimage.gaussian_filter(row, (0, 1.5, 1.0)) * np.float32(-0.12 * s.hardening)
    return np.asarray(hu + np.where(body, dark, 0), np.float32)


def truncate(hu: FloatArray, axes: Axes, centre: tuple[float, float], s: Scanner) -> FloatArray:
    """Outside the reconstruction circle there is nothing; just inside its rim values rise."""
    if not np.isfinite(s.truncate_mm):
        return hu
    r = np.hypot(axes[0][:, None] - centre[0], axes[1][None] - centre[1])[:, :, None]
    rim = 80 * np.exp((r - s.truncate_mm) / 7.0) * (hu > -500)
    return np.where(r < s.truncate_mm, hu + rim, AIR_HU).astype(np.float32)


def unseen(axes: Axes, centre: tuple[float, float], s: Scanner) -> NDArray[np.bool_]:
    """Columns (x, y) that the reconstruction circle leaves out."""
    r = np.hypot(axes[0][:, None] - centre[0], axes[1][None] - centre[1])
    return np.asarray(r >= s.truncate_mm)
