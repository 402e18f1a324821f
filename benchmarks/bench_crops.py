"""Colour index of VGG-16 on crops that hold receptive fields, beside whole images that end at the units' layer.

A sample of channels of every convolutional layer (random weights) and of the crops of photographs that drive them most,
each made grey. Seconds are for responses to the grey crops, in batches of one size; layers are weighted by their
channels, as an index of the whole network would be.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe.probe.capture import Probe, find_sites
from neuroprobe.probe.crops import CropPasses
from neuroprobe.protocol.schema import LayerSpec
from neuroprobe.stimuli.images import Source
from neuroprobe.stimuli.photographs import PHOTOGRAPHS, open_photographs
from neuroprobe.subjects.networks import find_network
from neuroprobe.subjects.subject import build_network

LAYERS = [f"features.{place}" for place in (1, 3, 6, 8, 11, 13, 15, 18, 20, 22, 25, 27, 29)]  # behind the rectifiers
LUMA = (0.299, 0.587, 0.114)
MEAN, STD = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
SIDE = 224


def read(source: Source, number: int) -> Tensor:
    return torch.from_numpy(np.array(source.read(number))).permute(2, 0, 1)[None] / 255


def grey(images: Tensor) -> Tensor:
    luma = (images * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return (luma.expand_as(images) - MEAN) / STD


def top_images(network: torch.nn.Module, source: Source, n_channels: int, n_top: int) -> dict[str, list[Tensor]]:
    """Values, images, rows and columns (n_top, n_channels) of the strongest responses of a sample of each layer."""
    sites = find_sites(network, [LayerSpec(name=layer) for layer in LAYERS], torch.zeros(1, 3, SIDE, SIDE))
    chosen = {site.name: np.linspace(0, site.shape[0] - 1, n_channels).astype(int) for site in sites}
    found: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    with Probe(network, sites) as probe:
        for number in range(len(source.ids)):
            shown = (read(source, number) - MEAN) / STD

            def take(site, response):
                value, place = response[0, chosen[site.name]].flatten(1).max(1)
                found[site.name].append(torch.stack([value, place.to(value)]))

            probe.record(shown, take)
    tops = {}
    for site in sites:
        values, places = torch.stack(found[site.name], 1)  # (images, channels)
        value, image = values.sort(dim=0, descending=True, stable=True)
        value, image = value[:n_top], image[:n_top]
        place = places.gather(0, image).long()
        channel = torch.from_numpy(chosen[site.name]).expand_as(image)
        row, column = place // site.shape[2], place % site.shape[2]
        tops[site.name] = [one.flatten() for one in (value, channel, image, row, column)]
    return tops


def on_crops(passes: CropPasses, images: dict[int, Tensor], top: list[Tensor], batch: int) -> NDArray[np.float32]:
    _, channels, numbers, rows, columns = (one.numpy() for one in top)
    boxes, made = passes.boxes(rows, columns), np.empty(len(rows), np.float32)
    for group in passes.groups(rows, columns):
        for part in np.split(group, range(batch, len(group), batch)):
            cut = [
                images[numbers[one]][..., top:bottom, left:right]
                for one, (top, left, bottom, right) in zip(part, boxes[part], strict=True)
            ]
            found = passes.responses(grey(torch.cat(cut)), rows[part], columns[part])
            made[part] = found[range(len(part)), channels[part]]
    return made


def on_whole_images(
    network: torch.nn.Module, layer: str, images: dict[int, Tensor], top: list[Tensor], batch: int
) -> NDArray[np.float32]:
    _, channels, numbers, rows, columns = (one.numpy() for one in top)
    sites = find_sites(network, [LayerSpec(name=layer)], torch.zeros(1, 3, SIDE, SIDE))
    made = np.empty(len(rows), np.float32)
    with Probe(network, sites) as probe:
        for part in np.split(np.arange(len(rows)), range(batch, len(rows), batch)):

            def take(_, response, part=part):
                made[part] = response[range(len(part)), channels[part], rows[part], columns[part]]

            probe.record(grey(torch.cat([images[numbers[one]] for one in part])), take)
    return made


def timed(call: Callable[[], NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Milliseconds per crop, by the clock and of processors (which neighbours do not lengthen)."""
    started = np.array([time.perf_counter(), time.process_time()])
    made = call()
    return 1e3 * (np.array([time.perf_counter(), time.process_time()]) - started) / len(made), made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--channels", type=int, default=4, help="of each layer")
    parser.add_argument("--top", type=int, default=10, help="images of each channel")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    network = build_network(find_network("vgg16"), 0).eval().requires_grad_(False)
    source = open_photographs(crop=SIDE, per_image=-(-arguments.images // len(PHOTOGRAPHS)))
    tops = top_images(network, source, arguments.channels, arguments.top)
    shown = {int(number): read(source, int(number)) for top in tops.values() for number in top[2].unique()}
    head = f"{'layer':<12} {'field':>5} {'groups':>6} {'whole':>10} {'crops':>10} {'ratio':>6} {'difference':>10}"
    print(f"{head} {'colour':>6}")
    total, worst = np.zeros((2, 2)), 0.0
    for layer in LAYERS:
        passes, top = CropPasses(network, layer, torch.zeros(1, 3, SIDE, SIDE)), tops[layer]
        assert not passes.whole_image, passes.why
        times = []
        for _ in range(arguments.repeats):  # in turn, so that both meet the same neighbours
            whole, expected = timed(lambda: on_whole_images(network, layer, shown, top, arguments.batch))  # noqa: B023
            crops, found = timed(lambda: on_crops(passes, shown, top, arguments.batch))  # noqa: B023
            times.append((whole, crops))
        best = np.min(times, 0)
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        values = top[0].numpy().reshape(arguments.top, -1)
        colour = np.mean(1 - found.reshape(values.shape).sum(0) / values.sum(0))
        total, worst = total + passes.n_channels * best, max(worst, difference)
        print(
            f"{layer:<12} {passes.field.rows.size:>5} {len(passes.groups(top[3], top[4])):>6} {best[0, 0]:>7.1f} ms "
            f"{best[1, 0]:>7.1f} ms {best[0, 0] / best[1, 0]:>6.2f} {difference:>10.1e} {colour:>6.3f}"
        )
    clock, processors = total[0] / total[1]
    print(f"\nweighted by channels: {clock:.2f} times faster ({processors:.2f} by time of processors);", end=" ")
    print(f"largest relative difference {worst:.1e}")


if __name__ == "__main__":
    main()
