"""The mean of sets of weights of one network, each trained further from the same one.

    python scripts/average_weights.py BEFORE.safetensors AFTER.safetensors --out runs/mean

Weights that descend from the same training lie in one basin, and their mean is often more robust than each
(Wortsman et al. 2022, Model soups, ICML). The card is that of the last set given; a stage ``mean of`` with
the checksums is added to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mskt.core import weights


def mean(sets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of each tensor over the sets, in the type that it has; integers are those of the last set.

    Raises:
        SystemExit: the sets are not of one network.
    """
    last = sets[-1]
    shapes = [{name: tensor.shape for name, tensor in one.items()} for one in sets]
    if any(one != shapes[-1] for one in shapes):
        raise SystemExit("The sets of weights are not of the same network.")
    return {
        name: torch.stack([one[name].float() for one in sets]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in last.items()
    }


def main() -> None:
    """Read, average, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", help="names or files of sets of weights, at least two")
    parser.add_argument("--segmenter", default="unet_bayes")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--name", default="mean")
    args = parser.parse_args()
    if len(args.sets) < 2:
        parser.error("at least two sets of weights")
    found = [weights.find(one, args.segmenter) for one in args.sets]
    card = {key: value for key, value in found[-1].card.items() if key != "sha256"}
    stage = {"mean of": [one.card["sha256"] for one in found]}
    card["stages"] = [*card.get("stages", []), stage]
    args.out.mkdir(parents=True, exist_ok=True)
    print(weights.save(args.out, args.name, mean([weights.load(one) for one in found]), card).path)


if __name__ == "__main__":
    main()
