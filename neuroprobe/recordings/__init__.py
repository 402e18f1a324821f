"""Readers of biological recordings into the schema of a network's; `READERS` is open to other packages."""

from neuroprobe.recordings import brainscore, matlab, nwb, objects, phy, suite2p, tables
from neuroprobe.recordings.contract import READERS, Choices, Reader, check_recording
from neuroprobe.recordings.rdms import read_rdms
from neuroprobe.recordings.read import read_recording
from neuroprobe.recordings.stored import write_recording

__all__ = [
    "READERS",
    "Choices",
    "Reader",
    "brainscore",
    "check_recording",
    "matlab",
    "nwb",
    "objects",
    "phy",
    "read_rdms",
    "read_recording",
    "suite2p",
    "tables",
    "write_recording",
]
