"""What statistics of trials can find in responses of a network, as far as it is known before any is recorded."""

from __future__ import annotations

import json
from typing import Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.correlations import MOST_UNITS
from neuroprobe.analysis.populations import Population, populations_of
from neuroprobe.errors import ReaderError, about
from neuroprobe.protocol.model import AnalysisSpec
from neuroprobe.protocol.trials import TRIALS
from neuroprobe.responses import table_columns
from neuroprobe.rig import OF_LAYERS, Rig, asked_sessions
from neuroprobe.trial_analyses import COMPARE, FUNCTIONS, require_runnable
from neuroprobe.trial_store import ANALYSES

# what compares conditions with noise
OF_NOISE: Final = ("anova", "discrimination", "reliability", "correlations", "information")
N_TABLE: Final = 4  # base samples of other designs, whose columns are looked at


def require_trials_of(rig: Rig, n_samples: int) -> None:
    """Refuse statistics of trials that the responses of a session will not allow.

    Parameters
    ----------
    rig : Rig
    n_samples : int
        Base samples that will be recorded.

    Raises
    ------
    ReaderError
        With the place in the protocol: if a factor is no column, no condition repeats, presentations of a condition
        will all have the same response, or a statistic is of what networks do not have.
    """
    specs = [(number, spec) for number, spec in enumerate(rig.protocol.analyses) if spec.name in TRIALS]
    specs = [(number, spec) for number, spec in specs if spec.name != COMPARE]
    of_one = rig.session in OF_LAYERS and len(asked_sessions(rig.protocol)) == 1
    if not specs or not (rig.session == names.REPEATED or of_one):
        return
    recording = _to_come(rig, n_samples if rig.session == names.REPEATED else min(n_samples, N_TABLE))
    with rig.protocol.places.told():
        for number, spec in specs:
            with about(ANALYSES, number, spec.name):
                _require(rig, recording, spec)


def _to_come(rig: Rig, n_samples: int) -> xr.DataTree:
    """Return the table of what will be recorded, with one unit that never responds."""
    shown = rig.design(None).presentations(0, n_samples)
    columns = table_columns(shown, rig.images.columns)
    table = xr.Dataset(
        coords={name: (names.PRESENTATION, column) for name, column in columns.items()},
        attrs={names.FACTORS: json.dumps(list(rig.told_factors))},
    )
    silent = np.broadcast_to(np.float32(0), (table.sizes[names.PRESENTATION], 1))
    node = xr.Dataset({names.RESPONSE: ((names.PRESENTATION, names.CHANNEL), silent)})
    return xr.DataTree.from_dict({"/": table, f"/{names.RESPONSES}/{rig.sites[0].name}": node})


def _require(rig: Rig, recording: xr.DataTree, spec: AnalysisSpec) -> None:
    # queries are of all units
    options = spec.options.model_copy(update={"units": None})
    if rig.session != names.REPEATED:
        populations_of(recording, getattr(options, "factors", None) or ())
        return
    require_runnable(recording, spec.model_copy(update={spec.name: options}))
    if spec.name == "correlations" and getattr(spec.options, "units", None) is None:
        n_units = sum(site.n_units for site in rig.sites)
        if n_units > MOST_UNITS:
            raise ReaderError(
                f"{n_units:,} units have too many pairs for a table of them; choose {MOST_UNITS:,} by `units`"
            )
    if spec.name in OF_NOISE and rig.noise is None:
        (one,) = populations_of(recording, getattr(options, "factors", None))
        if all_alike(one):
            raise ReaderError(
                f"{FUNCTIONS[spec.name].what} compares conditions with the noise of trials, and presentations of each "
                f"of the {len(one.conditions.labels)} conditions of {', '.join(one.factors)} show one stimulus, to "
                "which a network without noise responds alike each time: give it some by `subject: {noise: …}`, or "
                "take factors whose conditions are of several stimuli, such as class_label"
            )
        if rig.protocol.stimuli.repeats > 1:
            raise ReaderError(
                f"{FUNCTIONS[spec.name].what} would take the {rig.protocol.stimuli.repeats} repetitions of a stimulus "
                "for trials, and a network without noise responds alike each time: set `stimuli: {repeats: 1}`, or "
                "give it some noise by `subject: {noise: …}`"
            )


def all_alike(one: Population) -> bool:
    """Whether the presentations of every condition are of one and the same stimulus."""
    index = one.conditions.index
    known = index >= 0
    stimulus = np.unique([str(value) for value in one.table[names.STIMULUS_ID].tolist()], return_inverse=True)[1]
    pairs = np.unique(np.stack([index[known], stimulus[known]]), axis=1)
    return pairs.shape[1] == len(one.conditions.labels)
