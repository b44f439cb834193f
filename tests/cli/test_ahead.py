"""Reading ahead: the order stays, one image waits, a bad file fails in its own turn."""

import threading
from dataclasses import dataclass, field

import pytest

from mskt.cli.ahead import ReadAhead
from mskt.core.errors import InputError


@dataclass
class Fake:
    """A source that notes when it is read."""

    case_id: str
    log: list = field(default_factory=list)
    broken: bool = False
    read: threading.Event = field(default_factory=threading.Event)

    def load(self):
        self.log.append(self.case_id)
        self.read.set()
        if self.broken:
            raise InputError(self.case_id, "is broken", "Mend it.")
        return f"image of {self.case_id}"


def made(count, broken=None):
    log = []
    return [Fake(f"c{n}", log, n == broken) for n in range(count)], log


def test_the_next_image_is_read_meanwhile_and_no_further_one():
    sources, log = made(4)
    with ReadAhead(sources) as images:
        assert images.load(sources[0]) == "image of c0"
        assert sources[1].read.wait(5)
        assert log == ["c0", "c1"]
        assert images.load(sources[1]) == "image of c1"
        assert sources[2].read.wait(5)
    assert log == ["c0", "c1", "c2"]


def test_each_image_is_read_once_and_in_order():
    sources, log = made(5)
    with ReadAhead(sources) as images:
        assert [images.load(source) for source in sources] == [f"image of c{n}" for n in range(5)]
    assert log == [f"c{n}" for n in range(5)]


def test_what_is_broken_fails_in_its_own_turn_and_the_next_one_is_read():
    sources, log = made(3, broken=1)
    with ReadAhead(sources) as images:
        images.load(sources[0])
        with pytest.raises(InputError, match="c1"):
            images.load(sources[1])
        assert images.load(sources[2]) == "image of c2"
    assert log == ["c0", "c1", "c2"]


def test_one_case_needs_no_thread():
    sources, _ = made(1)
    before = threading.active_count()
    with ReadAhead(sources) as images:
        images.load(sources[0])
        assert threading.active_count() == before
