from mskt_tinynet.model import TinyNet

from mskt.testing import parametrize_with_checks


@parametrize_with_checks(TinyNet)
def test_conformance(check, build):
    check(build)
