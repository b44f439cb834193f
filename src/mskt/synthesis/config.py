"""What may vary between synthetic cases: ranges and probabilities, with two presets."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

Interval = tuple[float, float]


@dataclass(frozen=True)
class SynthesisConfig:
    """Ranges are (low, high), drawn uniformly; ``*_sd`` are standard deviations; ``p_*`` chances.

    Lengths in mm, angles in degrees, densities in HU. Right and left legs are drawn separately.
    """

    # shape
    scale: Interval = (0.86, 1.14)
    proportion_sd: float = 0.055
    tilt_sd: float = 4.0
    deform_wide_mm: Interval = (1.0, 7.0)
    deform_fine_mm: Interval = (0.3, 2.2)
    flexion: Interval = (-8.0, 24.0)
    abduction: Interval = (-4.0, 12.0)
    rotation: Interval = (-32.0, 32.0)
    knee_bend: Interval = (-0.2, 1.6)  # knee flexion as a multiple of hip flexion
    muscle_scale_sd: float = 0.07
    atrophy_mm: Interval = (0.0, 2.5)
    p_atrophy: float = 0.35
    flattening: Interval = (-0.3, 0.8)
    p_mirror: float = 0.5
    # body
    fat_mm: Interval = (4.0, 60.0)
    compression: Interval = (0.1, 0.85)
    visceral: Interval = (0.0, 1.0)
    # tissue
    muscle_mean_sd: float = 9.0
    structure_sd: float = 5.0
    within_sd: Interval = (2.0, 8.0)
    infiltration: Interval = (0.0, 0.45)
    seam_mm: Interval = (0.05, 0.9)
    fat_hu: Interval = (-118.0, -86.0)
    bone_density: Interval = (0.45, 1.35)
    marrow_loss_hu: Interval = (0.0, 150.0)  # trabecular bone that turned to fatty marrow
    p_marrow_loss: float = 0.5
    sclerosis_hu: Interval = (0.0, 450.0)  # dense bone on both sides of the hip joint
    p_sclerosis: float = 0.3
    head_hu: Interval = (0.0, 420.0)  # what the femoral head has above other trabecular bone
    joint_space_mm: Interval = (-1.0, 3.5)  # width of the hip joint beyond the map's; below 0: none
    p_deep_socket: float = 0.35  # the rim of a socket grows around the femoral head
    socket_reach_mm: Interval = (-6.0, 14.0)  # so far from the head's centre along the neck
    osteophyte_mm: Interval = (0.8, 2.4)
    p_osteophytes: float = 0.3
    vessel_calibre: Interval = (0.8, 1.7)
    vessel_sway_mm: float = 4.5
    bowel_gap_mm: Interval = (0.3, 3.0)  # fat between bowel and the nearest muscle or bone
    calibrate_means: bool = False
    # context
    p_contrast: float = 0.4
    p_bowel_contrast: float = 0.3
    p_genitals: float = 0.5
    p_arms: float = 0.45
    p_table: float = 0.85
    p_phantom: float = 0.3
    p_clothing: float = 0.5
    p_blanket: float = 0.3
    p_implant: float = 0.3
    p_implant_second: float = 0.3
    p_screws: float = 0.06
    p_lesion: float = 0.06  # a mass in a muscle, which is no muscle
    # scanner
    psf_mm: Interval = (0.5, 2.4)
    overshoot: Interval = (0.0, 0.6)
    slice_mm: Interval = (0.8, 6.0)
    noise_hu: Interval = (3.0, 34.0)
    streak_hu: Interval = (0.0, 14.0)
    p_hardening: float = 0.5
    p_truncated: float = 0.15
    p_motion: float = 0.05
    # view: where the middle of the window may lie, as fractions of knee (0) to iliac crest (1)
    view_level: Interval = (0.05, 1.35)
    p_cut_at_hip: float = 0.4
    view_shift_mm: float = 14.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("p_") and not 0 <= value <= 1:
                raise ValueError(f"{field.name} is a probability, not {value}")
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{field.name}: low end above high end: {value}")

    @classmethod
    def training(cls) -> SynthesisConfig:
        """Wide domain randomisation, any window between lower leg and chest."""
        return cls()

    @classmethod
    def phantom(cls) -> SynthesisConfig:
        """One clean clinical scan from iliac crest to knee, densities of Soufi 2024, Table 6."""
        return replace(
            cls(),
            scale=(0.95, 1.05),
            proportion_sd=0.015,
            tilt_sd=1.0,
            deform_wide_mm=(1.0, 2.5),
            deform_fine_mm=(0.3, 0.8),
            flexion=(-2.0, 6.0),
            abduction=(0.0, 5.0),
            rotation=(-8.0, 8.0),
            knee_bend=(0.6, 1.2),
            muscle_scale_sd=0.03,
            p_atrophy=0.0,
            flattening=(0.1, 0.4),
            p_mirror=0.0,
            fat_mm=(10.0, 24.0),
            compression=(0.35, 0.6),
            visceral=(0.2, 0.6),
            muscle_mean_sd=0.0,
            structure_sd=0.0,
            within_sd=(3.0, 5.0),
            infiltration=(0.02, 0.07),
            seam_mm=(0.2, 0.45),
            fat_hu=(-108.0, -98.0),
            bone_density=(0.9, 1.1),
            p_marrow_loss=0.0,
            p_sclerosis=0.0,
            head_hu=(0.0, 0.0),
            joint_space_mm=(0.0, 0.0),
            p_deep_socket=0.0,
            p_osteophytes=0.0,
            vessel_calibre=(0.9, 1.3),
            vessel_sway_mm=1.5,
            bowel_gap_mm=(1.5, 2.5),
            calibrate_means=True,
            p_contrast=0.0,
            p_bowel_contrast=0.0,
            p_arms=0.0,
            p_table=1.0,
            p_phantom=1.0,
            p_clothing=0.0,
            p_blanket=0.0,
            p_implant=0.0,
            p_screws=0.0,
            p_lesion=0.0,
            psf_mm=(0.5, 0.9),
            overshoot=(0.0, 0.1),
            slice_mm=(0.8, 2.0),
            noise_hu=(4.0, 8.0),
            streak_hu=(0.0, 2.0),
            p_hardening=0.0,
            p_truncated=0.0,
            p_motion=0.0,
            view_shift_mm=0.0,
        )
