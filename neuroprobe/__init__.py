"""neuroprobe: an electrophysiology rig for neural networks.

The public names are loaded when they are first used: importing the package loads neither torch nor holoviews.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuroprobe import plot
    from neuroprobe.analysis.reliability import reliability
    from neuroprobe.analysis.responsiveness import responsiveness
    from neuroprobe.analysis.select import select_units
    from neuroprobe.analysis.specialisation import specialisation
    from neuroprobe.analysis.stored import shapley, sobol
    from neuroprobe.analysis.stored_contrast import contrast
    from neuroprobe.analysis.tuning import tuning
    from neuroprobe.comparison.metrics import compare
    from neuroprobe.errors import NeuroprobeError
    from neuroprobe.probe.lesion import Lesion, lesioned
    from neuroprobe.protocol.reader import load_protocol
    from neuroprobe.protocol.schema import Protocol
    from neuroprobe.recordings.read import read_recording
    from neuroprobe.runner import plan, run
    from neuroprobe.stimuli.alterations import Parameter, alteration, check_alteration
    from neuroprobe.stimuli.generators import Setting, check_generator, generator
    from neuroprobe.stimuli.properties import check_manipulation, manipulation
    from neuroprobe.store import open_recording, open_result

_HOMES = {
    "Lesion": "neuroprobe.probe.lesion",
    "NeuroprobeError": "neuroprobe.errors",
    "Parameter": "neuroprobe.stimuli.alterations",
    "Protocol": "neuroprobe.protocol.schema",
    "Setting": "neuroprobe.stimuli.generators",
    "alteration": "neuroprobe.stimuli.alterations",
    "check_alteration": "neuroprobe.stimuli.alterations",
    "check_generator": "neuroprobe.stimuli.generators",
    "check_manipulation": "neuroprobe.stimuli.properties",
    "compare": "neuroprobe.comparison.metrics",
    "contrast": "neuroprobe.analysis.stored_contrast",
    "generator": "neuroprobe.stimuli.generators",
    "lesioned": "neuroprobe.probe.lesion",
    "load_protocol": "neuroprobe.protocol.reader",
    "manipulation": "neuroprobe.stimuli.properties",
    "open_recording": "neuroprobe.store",
    "open_result": "neuroprobe.store",
    "plan": "neuroprobe.runner",
    "plot": "neuroprobe.plot",
    "read_recording": "neuroprobe.recordings.read",
    "reliability": "neuroprobe.analysis.reliability",
    "responsiveness": "neuroprobe.analysis.responsiveness",
    "run": "neuroprobe.runner",
    "select_units": "neuroprobe.analysis.select",
    "shapley": "neuroprobe.analysis.stored",
    "sobol": "neuroprobe.analysis.stored",
    "specialisation": "neuroprobe.analysis.specialisation",
    "tuning": "neuroprobe.analysis.tuning",
}

__all__ = [
    "Lesion",
    "NeuroprobeError",
    "Parameter",
    "Protocol",
    "Setting",
    "alteration",
    "check_alteration",
    "check_generator",
    "check_manipulation",
    "compare",
    "contrast",
    "generator",
    "lesioned",
    "load_protocol",
    "manipulation",
    "open_recording",
    "open_result",
    "plan",
    "plot",
    "read_recording",
    "reliability",
    "responsiveness",
    "run",
    "select_units",
    "shapley",
    "sobol",
    "specialisation",
    "tuning",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'neuroprobe' has no attribute {name!r}")
    module = import_module(_HOMES[name])
    return module if _HOMES[name] == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
