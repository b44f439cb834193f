"""The errors a user may see: what thing, what fault, what to do next.

Every error that reaches a user derives from :class:`MsktError`; the command line prints its text
and no traceback. Anything else that escapes is a defect of mskt.
"""

from __future__ import annotations


class MsktError(Exception):
    """A fault that the user can understand and act upon.

    Args:
        thing: what is concerned (a file name, a plugin, an option), as the user knows it.
        fault: what is wrong with it, with the value that was met.
        remedy: what to do next; empty only where nothing can be done.
    """

    def __init__(self, thing: str, fault: str, remedy: str = "") -> None:
        super().__init__(thing, fault, remedy)
        self.thing = thing
        self.fault = fault
        self.remedy = remedy

    def __str__(self) -> str:
        """One sentence of fault, then the remedy on a line of its own."""
        text = f"{self.thing}: {self.fault}" if self.thing else self.fault
        return f"{text}\n{self.remedy}" if self.remedy else text


class UsageError(MsktError):
    """The call itself is wrong (exit code 2): an unknown name, an impossible combination."""


class InputError(MsktError):
    """A file or folder that cannot be used as it is."""


class GeometryError(InputError):
    """The position or orientation of the voxels cannot be known, and is not guessed."""


class HounsfieldError(InputError):
    """The values of the image are not Hounsfield units."""


class PluginError(MsktError):
    """A plugin that is missing, broken or does not keep its contract."""


class WeightsError(MsktError):
    """Weights that are missing, damaged or made for something else."""


class OutputError(MsktError):
    """A result that cannot be written."""


class DeviceError(MsktError):
    """A GPU that stopped working; nothing more can be computed in this process."""
