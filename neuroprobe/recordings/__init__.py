"""Readers and writers of biological recordings; `READERS` and `WRITERS` are open to other packages."""

from neuroprobe.recordings import (
    brainscore,
    brainscore_writer,
    matlab,
    nwb,
    nwb_writer,
    objects,
    phy,
    rsatoolbox,
    simulated,
    stored,
    suite2p,
    tables,
)
from neuroprobe.recordings.contract import READERS, Choices, Reader, check_recording
from neuroprobe.recordings.rdms import read_rdms
from neuroprobe.recordings.read import read_recording
from neuroprobe.recordings.writing import WRITERS, Writer, losses, write_recording

__all__ = [
    "READERS",
    "WRITERS",
    "Choices",
    "Reader",
    "Writer",
    "brainscore",
    "brainscore_writer",
    "check_recording",
    "losses",
    "matlab",
    "nwb",
    "nwb_writer",
    "objects",
    "phy",
    "read_rdms",
    "read_recording",
    "rsatoolbox",
    "simulated",
    "stored",
    "suite2p",
    "tables",
    "write_recording",
]
