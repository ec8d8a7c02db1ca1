"""A disk that fills up while a run writes: what was written stays, and writing goes on when there is room again."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness.record.files import RecordWriter, read_lines, read_record
from bench.harness.record.records import AnyLine
from tests.unit.record_factory import FixedTheory, header, planned, result
from tp.errors import MeasurementError

pytestmark = pytest.mark.dist

SIZE_BYTES = 256 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few hundred kilobytes."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(tmp_path)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    if done.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_nothing_written_is_lost_when_the_disk_is_full(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(SIZE_BYTES // 2))
    plan = planned(FixedTheory())
    written: list[AnyLine] = [header(), plan]
    with RecordWriter(small_disk / "r.jsonl") as writer:
        for line in written:
            writer.append(line)
        with pytest.raises(MeasurementError) as caught:
            for number in range(1000):
                line = result(plan, total_s=1e-3 * (number + 1))
                writer.append(line)
                written.append(line)
        assert str(caught.value) == (
            f"{writer.path}: could not be written (No space left on device); free the disk and go on with --resume"
        )
        assert len(written) > 10
        assert list(read_lines(writer.path)) == written
        with pytest.raises(MeasurementError):
            writer.append(line)
        ballast.unlink()
        writer.append(line)
        written.append(line)
    assert list(read_lines(writer.path)) == written
    with RecordWriter(writer.path) as again:
        again.append(header())
    assert again.notes == ()
    assert read_record(writer.path).problems == ()
