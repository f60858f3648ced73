"""A scrape reads the files of workers that come and go."""

from __future__ import annotations

import os
import struct
from functools import partial
from threading import Timer

import pytest
from prometheus_client import CollectorRegistry, generate_latest, multiprocess

from sidecar.telemetry.worker_files import read


@pytest.fixture(name="scraped")
def a_scrape(tmp_path):
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together, path=str(tmp_path))
    return partial(read, tmp_path, partial(generate_latest, together))


def test_a_file_that_a_worker_is_just_making_is_waited_for(tmp_path, scraped):
    file = tmp_path / "counter_1.db"
    file.touch()
    making = Timer(0.1, partial(os.truncate, file, 65_536))
    making.start()

    assert scraped(within_s=10.0) == b""
    making.join()


def test_a_file_that_stays_unreadable_is_no_wait_without_end(tmp_path, scraped):
    (tmp_path / "counter_1.db").touch()

    with pytest.raises(struct.error):
        scraped(within_s=0.05)
