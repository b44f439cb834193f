"""Writing behind: the order stays, one piece waits, what goes wrong is not lost."""

import threading

import pytest

from mskt.cli.behind import WriteBehind
from mskt.core.errors import OutputError


def test_a_piece_is_done_beside_and_no_second_one_waits():
    go, log = threading.Event(), []

    def slow():
        assert go.wait(10)
        log.append("slow")

    with WriteBehind(beside=True) as behind:
        behind.do(slow)
        assert log == []  # it came back before the work was done
        threading.Timer(0.1, go.set).start()
        behind.do(lambda: log.append("next"))
        assert log[:1] == ["slow"]
    assert log == ["slow", "next"]


@pytest.mark.parametrize("beside", [True, False])
def test_order_stays_and_all_is_done_at_the_end(beside):
    log = []
    with WriteBehind(beside=beside) as behind:
        for n in range(20):
            behind.do(lambda n=n: log.append(n), last=n == 19)
            assert beside or log[-1] == n
        assert log == list(range(20))


def full():
    raise OutputError("labels", "no space left on device", "Make room.")


@pytest.mark.parametrize("beside", [True, False])
def test_what_cannot_be_written_stops_the_run(beside):
    log = []
    with pytest.raises(OutputError, match="no space"), WriteBehind(beside=beside) as behind:
        behind.do(full)
        behind.do(lambda: log.append("next"))
    assert log == []


def test_the_last_piece_too():
    with pytest.raises(OutputError, match="no space"), WriteBehind(beside=True) as behind:
        behind.do(full)


def test_after_an_interrupt_what_was_begun_is_finished():
    go, log = threading.Event(), []
    with pytest.raises(KeyboardInterrupt), WriteBehind(beside=True) as behind:
        behind.do(lambda: log.append(go.wait(10)))
        threading.Timer(0.1, go.set).start()
        raise KeyboardInterrupt
    assert log == [True]
