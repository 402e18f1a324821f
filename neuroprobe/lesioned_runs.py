"""Networks of a run, recorded again under lesions that are made of what they were recorded to respond."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe.comparison.lesions import Units
from neuroprobe.disk import replacing
from neuroprobe.journal import RUN_FOLDER
from neuroprobe.progress import ignore
from neuroprobe.protocol.lesion import ArrayLesion

if TYPE_CHECKING:
    from neuroprobe.cluster.crew import Crew
    from neuroprobe.rig import Rig

Array = NDArray[np.float64]


class LesionedRuns:
    """Runs of the same protocol under lesions, of each of which numbers are kept, and responses are not.

    Parameters
    ----------
    path : Path
        Of the store of the run.
    opened : Rig
    memory : int, optional
        Bytes that each process may take.
    crew : Crew, optional
        Workers of that run, which record these too.
    """

    def __init__(self, path: Path, opened: Rig, memory: int | None, crew: Crew | None = None) -> None:
        self._folder = path / RUN_FOLDER / "lesioned"
        self._opened, self._memory, self._crew = opened, memory, crew

    def score(self, purpose: str, units: Units, multiply: float, scored: Callable[[xr.DataTree], Array]) -> Array:
        """Record the network under a lesion, and return what is made of the recording; once, and then it is kept.

        Parameters
        ----------
        purpose : str
            What tells this from other numbers of the run.
        units : mapping
            Layer → where its lesioned units are, by dimension; those of which only channels are known, as of layers
            that are recorded reduced, are whole channels.
        multiply : float
            By what their responses are multiplied.
        scored : callable
        """
        from neuroprobe.runner import run
        from neuroprobe.store import open_recording

        masks = self._masks(units, multiply)
        whole = hashlib.sha256(purpose.encode())
        for layer, mask in masks.items():
            whole.update(layer.encode() + mask.tobytes())
        kept = self._folder / f"{whole.hexdigest()[:16]}.npy"
        if kept.exists():
            return np.asarray(np.load(kept, allow_pickle=False))
        self._folder.mkdir(exist_ok=True)
        lesion, store = kept.with_suffix(".npz"), kept.with_suffix(".zarr")
        with replacing(lesion) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **masks)  # type: ignore[arg-type]  # numpy's stubs take these for its options
        protocol = self._opened.protocol if self._crew is None else self._crew.protocol
        subject = protocol.subject
        lesions = [*(subject.lesion or ()), ArrayLesion(array=str(lesion))]
        lesioned = protocol.model_copy(
            update={"subject": subject.model_copy(update={"lesion": lesions}), "analyses": []}
        )
        client = None if self._crew is None else self._crew.client
        run(lesioned, store, listener=ignore, memory=self._memory, client=client)
        found = scored(open_recording(store))
        with replacing(kept) as temporary, temporary.open("wb") as stream:
            np.save(stream, found)
        shutil.rmtree(store)
        lesion.unlink()
        return found

    def clear(self) -> None:
        """Remove what was kept, when a result holds it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _masks(self, units: Units, multiply: float) -> dict[str, NDArray[np.float32]]:
        """What responses of whole layers are multiplied by."""
        from neuroprobe.probe.map_sources import Target
        from neuroprobe.probe.sites import DIMS

        opened = self._opened
        image = opened.subject.prepare(opened.images.load([0]).to(opened.device))
        target = Target(opened.subject.network, image, "", "")
        masks = {}
        for layer, places in units.items():
            mask = np.ones(target.shape(layer), dtype=np.float32)
            dims = DIMS[mask.ndim + 1]
            mask[tuple(places.get(dim, slice(None)) for dim in dims)] = multiply
            masks[layer] = mask
        return masks
