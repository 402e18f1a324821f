"""Train the embedded network on CIFAR-10 and write its weights with the log of the training.

    python -m neuroprobe.subjects.train_embedded train.zip test_folder

`train.zip` holds `train/CLASS/NNNN.jpg`, the test folder `CLASS/NNNN.jpg`. The epoch is chosen on a split of
the training images; the test images are used once, for the weights that are written.
"""

from __future__ import annotations

import argparse
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from neuroprobe.subjects.embedded import CLASSES, MEAN, STD, WEIGHTS_FILE, EmbeddedNetwork

SEED = 20
EPOCHS = 32
BATCH = 256
PEAK_RATE = 0.4
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.1
N_VALIDATION = 5000
LOG_FILE = "embedded_training.json"


def read_zip(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode every image of the archive: uint8 (n, 3, 32, 32) and the class indices."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        decoded = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
    return _as_tensors(decoded, [Path(name).parent.name for name in names])


def read_folder(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode a folder of class folders."""
    paths = sorted(path.glob("*/*.jpg"))
    return _as_tensors([np.asarray(Image.open(p).convert("RGB")) for p in paths], [p.parent.name for p in paths])


def _as_tensors(decoded: list[np.ndarray], labels: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor([CLASSES.index(label) for label in labels])


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Scale uint8 images as the network's protocol does: [0, 1], then mean and standard deviation."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror half of the images and shift each by up to 4 px with a reflected border."""
    n, _, height, width = images.shape
    padded = functional.pad(images, (4, 4, 4, 4), mode="reflect")
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    dy, dx = torch.randint(0, 9, (2, n), generator=generator)
    shifted = windows[torch.arange(n), :, dy, dx]
    mirrored = torch.rand(n, generator=generator) < 0.5
    return torch.where(mirrored.view(n, 1, 1, 1), shifted.flip(3), shifted)


@torch.inference_mode()
def accuracy(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of correct top-1 predictions."""
    network.eval()
    correct = [
        (network(batch.to(memory_format=torch.channels_last)).argmax(1) == truth).sum().item()
        for batch, truth in zip(images.split(500), labels.split(500), strict=True)
    ]
    return sum(correct) / len(labels)


def train(images: torch.Tensor, labels: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Train by SGD under a one-cycle schedule; return the weights of the best validation epoch and the log."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    shuffled = torch.randperm(len(images), generator=generator)
    held_out, kept = shuffled[:N_VALIDATION], shuffled[N_VALIDATION:]
    network = EmbeddedNetwork()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=PEAK_RATE,
        momentum=0.9,
        nesterov=True,
    )
    n_steps = EPOCHS * (len(kept) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=n_steps, pct_start=0.2)
    log: list[dict[str, float]] = []
    best: dict[str, torch.Tensor] = {}
    for epoch in range(1, EPOCHS + 1):
        started = time.monotonic()
        network.train()
        order = kept[torch.randperm(len(kept), generator=generator)]
        losses = []
        for index in order[: len(kept) // BATCH * BATCH].split(BATCH):
            batch = augment(images[index], generator).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = network(batch)
            loss = functional.cross_entropy(logits.float(), labels[index], label_smoothing=LABEL_SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        held = accuracy(network, images[held_out], labels[held_out])
        log.append({"epoch": epoch, "loss": round(float(np.mean(losses)), 4), "validation_accuracy": held})
        if held >= max(entry["validation_accuracy"] for entry in log):
            best = {name: tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()}
        print(f"epoch {epoch}: {log[-1]}  {time.monotonic() - started:.0f} s", flush=True)
    return best, log


def main() -> None:
    """Train, test once, write the weights and the log beside this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("train_zip", type=Path)
    parser.add_argument("test_folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    images, labels = read_zip(arguments.train_zip)
    weights, log = train(normalise(images), labels)
    network = EmbeddedNetwork()
    network.load_state_dict(weights)
    test_images, test_labels = read_folder(arguments.test_folder)
    test_accuracy = accuracy(network, normalise(test_images), test_labels)
    print(f"test accuracy {test_accuracy:.4f}")
    save_file(weights, arguments.output / WEIGHTS_FILE)
    summary = {
        "seed": SEED,
        "torch": torch.__version__,
        "n_train": len(labels) - N_VALIDATION,
        "n_validation": N_VALIDATION,
        "n_test": len(test_labels),
        "test_accuracy": test_accuracy,
        "epochs": log,
    }
    (arguments.output / LOG_FILE).write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
