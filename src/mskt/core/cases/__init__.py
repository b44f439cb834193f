"""From what a user names to cases, and from a case to arrays.

Paths and tables only; file formats are the loaders' business.
"""

from mskt.core.cases.discovery import find_cases, find_label_maps
from mskt.core.cases.loading import load_case, load_label_map, loader_for
from mskt.core.cases.names import Case
from mskt.core.cases.tables import label_set_from

__all__ = [
    "Case",
    "find_cases",
    "find_label_maps",
    "label_set_from",
    "load_case",
    "load_label_map",
    "loader_for",
]
