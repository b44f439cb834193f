"""Dilated convolutions: sees 30 pixels to each side and never leaves the full resolution."""

from torch import nn

from mskt.core.dropout import McDropout
from mskt.networks.family import Family
from mskt.networks.slice_segmenter import SliceSegmenter
from mskt.networks.slice_variant import SliceVariant
from mskt.training.slice_networks import family_tasks


class Dilated(nn.Module):
    multiple = 1  # height and width may be any number

    def __init__(self, variant, classes, width=32):
        super().__init__()
        self.stem = nn.Conv2d(variant.channels, width, 3, padding=1)
        layers = []
        for step in (2, 4, 8, 16):
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=step, dilation=step)]
        head = nn.Conv2d(width, classes, 1)
        self.after_stem = nn.Sequential(*layers, nn.ReLU(), McDropout(variant.dropout), head)

    def forward(self, x):
        return self.after_stem(self.stem(x))


VARIANT = SliceVariant(dropout=0.2, context=1, spacing_mm=(2.0, 2.0, 3.0))
FAMILY = Family("dilated", {"compact": VARIANT}, Dilated)


def segmenter(weights="", variant="", label_set="", device="auto", precision="auto"):
    return SliceSegmenter(FAMILY.load(weights, variant, "", label_set), device, precision)


def training(label_set, options):
    return family_tasks(FAMILY, label_set, options)
