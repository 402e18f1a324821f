"""Where a result comes from: protocol, hashes, versions, device."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeVar

from neuroprobe import names
from neuroprobe.plans import pieces_of
from neuroprobe.protocol.digest import as_given, canonical, protocol_hash

if TYPE_CHECKING:
    from neuroprobe.plans import Plans
    from neuroprobe.rig import Rig

Layer = TypeVar("Layer")
PACKAGES: Final = ("neuroprobe", "torch", "torchvision", "numpy", "scipy", "xarray", "zarr")


def root_attrs(rig: Rig, plans: Plans) -> dict[str, Any]:
    """Return the attributes of the root of a result; those of the design are of its first session."""
    plan = next(iter(plans.values()))
    layout = plan.layout
    details = {
        "protocol": canonical(rig.protocol),
        "protocol_as_given": as_given(rig.protocol),
        "protocol_hash": protocol_hash(rig.protocol),
        "weights_hash": rig.subject.digest,
        "lesion": rig.subject.lesion.provenance() if rig.protocol.subject.lesion else None,
        "noise": None if rig.noise is None else rig.noise.provenance(),
        "masking": None if rig.study is None else rig.study.provenance(),
        "stimulus_hash": rig.images.digest,
        "n_images": len(rig.images),
        "n_skipped": rig.images.n_skipped,
        "images_of_classes": None if rig.nested is None else rig.nested.sizes,
        "image_shape": list(rig.images.shape),
        "device": str(rig.device),
        "dtype": rig.protocol.record.precision,
        "layouts": {name: asdict(one.layout) for name, one in plans.items()},
        "parts": {name: pieces_of(one) for name, one in plans.items() if one.parts},
        "warnings": list(plans.warnings),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "Conventions": names.CONVENTIONS,
        "title": rig.protocol.title,
        "history": f"{now} neuroprobe {version('neuroprobe')}: recorded and analysed",
        "seed": rig.protocol.seed,
        "sessions": json.dumps({name: one.samples for name, one in plans.items()}),
        "samples": plan.samples,
        "rows": plan.n_rows,
        "block": layout.block,
        # 0: one scrambled sequence
        "scramble": layout.scramble or 0,
        names.FACTORS: json.dumps(list(rig.told_factors)),
        names.GROUPS: json.dumps(rig.groups),
        "shapley": rig.shapley,
        "nan": rig.protocol.record.nan,
        "image": rig.protocol.stimuli.image_law,
        "replicate": rig.protocol.design.replicate,
        "second_order": int(rig.protocol.design.second_order),
        names.PROVENANCE: json.dumps(details),
    }


def in_network_order(attrs: Mapping[Any, Any], layers: Mapping[str, Layer]) -> list[tuple[str, Layer]]:
    """Sort what there is of layers as the protocol of a result lists them, whatever the order of their folders is."""
    subject = json.loads(attrs[names.PROVENANCE])["protocol"]["subject"]
    listed = [layer["name"] for layer in subject.get("layers", ())]
    return sorted(layers.items(), key=lambda item: listed.index(item[0]) if item[0] in listed else len(listed))
