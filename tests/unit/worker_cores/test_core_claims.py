import subprocess
import sys
from pathlib import Path

import pytest

from layerwise_worker.core_claims import CoreClaim

HOLDER = """
import sys, time
from pathlib import Path
from layerwise_worker.core_claims import CoreClaim
claim = CoreClaim(2, range(4), Path(sys.argv[1]))
print(claim.cores, flush=True)
time.sleep(60)
"""


def test_two_pipelines_never_have_the_same_cores(tmp_path: Path) -> None:
    first = CoreClaim(2, range(5), tmp_path)
    second = CoreClaim(2, range(5), tmp_path)
    assert (first.cores, second.cores) == ((0, 1), (2, 3))
    assert CoreClaim(2, range(5), tmp_path).cores == (), "one core is too few, and is left to others"
    assert CoreClaim(1, range(5), tmp_path).cores == (4,)
    first.release()
    assert CoreClaim(2, range(5), tmp_path).cores == (0, 1)


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "(0, 1)\n"
    assert CoreClaim(4, range(4), tmp_path).cores == ()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert CoreClaim(4, range(4), tmp_path).cores == (0, 1, 2, 3)


@pytest.mark.parametrize("form", ["open to all", "link", "file", "missing parent"])
def test_a_place_that_is_not_ours_alone_gives_no_claim(tmp_path: Path, form: str) -> None:
    place = tmp_path / "cores"
    match form:
        case "open to all":
            place.mkdir()
            place.chmod(0o777)
        case "link":
            (tmp_path / "elsewhere").mkdir()
            place.symlink_to(tmp_path / "elsewhere")
        case "file":
            place.touch()
        case _:
            place = tmp_path / "missing" / "cores"
    assert CoreClaim(1, range(4), place).cores == ()


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "core-0").symlink_to(tmp_path / "target")
    assert CoreClaim(1, range(2), tmp_path).cores == (1,)
    assert not (tmp_path / "target").exists()
