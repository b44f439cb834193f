"""Ids of unlabelled tissues, beside the sided atom ids, and their mean densities.

Mean HU of context tissues are textbook ranges for unenhanced CT (e.g. Hounsfield scale tables in
radiology primers: fat -120…-90, fluid 0…20, soft organs 25…60, blood 40…50); they only dress the
neighbourhood, and training randomises them.
"""

from __future__ import annotations

from typing import Final

AIR, FAT, SKIN, WALL, PARASPINAL, VERTEBRA, DISC, CANAL = range(200, 208)
BOWEL, FLUID, GAS, STOOL, BLADDER, SOFT_ORGAN, LIVER, SPLEEN = range(208, 216)
KIDNEY, ARTERY, VEIN, RIB, LUNG, LEVATOR, TENDON, GENITAL = range(216, 224)
CALF, SHIN, CAPSULE, HEART, STOMACH, NERVE, ORAL, CARTILAGE = range(224, 232)
METAL, LINER, CEMENT, CERAMIC, CORTEX, MARROW, CANCELLOUS = range(232, 239)
CLEFT: Final = 239

# code: (mean HU, spread of the mean between persons)
CONTEXT_HU: Final[dict[int, tuple[float, float]]] = {
    AIR: (-1000, 0),
    FAT: (-102, 0),
    SKIN: (35, 20),
    CLEFT: (-45, 40),
    WALL: (46, 10),
    PARASPINAL: (42, 12),
    VERTEBRA: (165, 50),
    DISC: (75, 20),
    CANAL: (28, 10),
    BOWEL: (38, 12),
    FLUID: (18, 12),
    GAS: (-960, 20),
    STOOL: (-20, 60),
    BLADDER: (8, 8),
    SOFT_ORGAN: (42, 12),
    LIVER: (56, 12),
    SPLEEN: (50, 8),
    KIDNEY: (33, 8),
    ARTERY: (42, 6),
    VEIN: (42, 6),
    RIB: (240, 70),
    LUNG: (-830, 40),
    LEVATOR: (42, 10),
    TENDON: (75, 20),
    GENITAL: (36, 12),
    CALF: (48, 10),
    SHIN: (420, 120),
    CAPSULE: (48, 18),
    HEART: (42, 6),
    STOMACH: (22, 20),
    NERVE: (28, 8),
    ORAL: (250, 0),
    CARTILAGE: (80, 20),
    METAL: (5000, 900),  # beyond the 12-bit range on purpose: clipped after blur
    LINER: (40, 50),
    CEMENT: (900, 350),
    CERAMIC: (3200, 300),
    CORTEX: (650, 130),
    MARROW: (-10, 30),
    CANCELLOUS: (190, 60),
}
