import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroprobe.costs import CHUNK_BYTES, samples_per_chunk
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze, Presentations
from neuroprobe.packing import MAX_SAMPLES_PER_BATCH, choose_batch, n_passes, packs
from neuroprobe.planner import MAX_SHARDS, MIN_SHARDS, SHARD_SECONDS, _shard
from neuroprobe.plans import PIECE, Layout, Plan, human_time

UNIFORM = Law("uniform", (0, 1))


def presentations_of(source):
    """Presentations of which only the sources matter."""
    n, n_rows = source.shape
    return Presentations(
        roles=tuple(f"row {row}" for row in range(n_rows)),
        sample=np.arange(n),
        image=np.zeros(source.shape, dtype=np.int64),
        key=np.arange(n),
        values={},
        source=source,
    )


@st.composite
def sources(draw):
    """Tables of sources: each row is run, or repeats an earlier one that is."""
    n, n_rows = draw(st.integers(1, 150)), draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    reused = rng.random((n, n_rows)) < draw(st.sampled_from([0, 0.3, 0.9]))
    reused[:, 0] = False
    source = np.tile(np.arange(n_rows), (n, 1))
    for sample, row in zip(*np.nonzero(reused), strict=True):
        source[sample, row] = rng.choice(np.flatnonzero(~reused[sample, :row]))
    return source


def switched(n_factors, p=0.5, **options):
    """A design with reuse: switches with one parameter."""
    factors = tuple(
        Factor(f"f{i}", (Input(f"f{i}_on", Law("bernoulli", (p,))), Input(f"f{i}_x", UNIFORM)), switched=True)
        for i in range(n_factors)
    )
    return PickFreeze(factors, seed=0, n_images=1, scramble=64, **options)


def steady(n_factors):
    """A design in which every row is run."""
    factors = tuple(Factor(f"f{i}", (Input(f"f{i}_x", UNIFORM),)) for i in range(n_factors))
    return PickFreeze(factors, seed=0, n_images=1, scramble=64)


# packs


@settings(deadline=None)
@given(sources(), st.integers(1, 200))
def test_packs_hold_every_sample_once_and_in_order(source, batch):
    shown = presentations_of(source)
    found = list(packs(shown, batch))
    assert [sample for pack in found for sample in range(pack.start, pack.stop)] == list(range(len(source)))
    presented = [pair for pack in found for pair in zip(pack.sample, pack.row, strict=True)]
    assert presented == list(zip(*np.nonzero(shown.is_run), strict=True))


@settings(deadline=None)
@given(sources(), st.integers(1, 200))
def test_packs_give_every_row_the_response_of_its_source(source, batch):
    for pack in packs(presentations_of(source), batch):
        assert pack.index.shape == (pack.stop - pack.start, source.shape[1])
        sample, row = pack.sample[pack.index], pack.row[pack.index]
        np.testing.assert_array_equal(sample, np.tile(np.arange(pack.start, pack.stop)[:, None], source.shape[1]))
        np.testing.assert_array_equal(row, source[pack.start : pack.stop])


@settings(deadline=None)
@given(sources(), st.integers(1, 200))
def test_packs_fit_into_the_batch_and_are_as_full_as_they_can_be(source, batch):
    shown = presentations_of(source)
    n_run = shown.is_run.sum(1)
    for pack in packs(shown, batch):
        n_samples = pack.stop - pack.start
        assert len(pack.sample) <= batch or n_samples == 1
        assert n_samples <= MAX_SAMPLES_PER_BATCH
        if pack.stop < len(n_run) and n_samples < MAX_SAMPLES_PER_BATCH:
            assert len(pack.sample) + n_run[pack.stop] > batch


@settings(deadline=None)
@given(sources(), st.integers(1, 200))
def test_the_plan_counts_the_forward_passes_of_the_packs(source, batch):
    shown = presentations_of(source)
    passes = sum(-(-len(pack.sample) // batch) for pack in packs(shown, batch))
    assert n_passes(shown.is_run.sum(1), batch) == passes


def test_packs_of_a_design():
    design = switched(3)
    shown = design.presentations(64, 128)
    found = list(packs(shown, 32))
    assert sum(len(pack.sample) for pack in found) == shown.is_run.sum() < 64 * design.n_rows
    # positions are those in the block, wherever the block lies
    assert (found[0].start, found[-1].stop) == (0, 64)


def test_a_sample_over_the_batch_is_a_pack_of_its_own():
    source = np.tile(np.arange(10), (3, 1))
    assert [(pack.start, pack.stop, len(pack.sample)) for pack in packs(presentations_of(source), 4)] == [
        (0, 1, 10),
        (1, 2, 10),
        (2, 3, 10),
    ]
    assert n_passes(np.array([10, 10, 10]), 4) == 9


# batches


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.integers(1, 4), st.sampled_from([2, 16, 64]), st.booleans())
def test_choose_batch_stays_under_the_largest_and_pads_little(largest, n_factors, block, reuse):
    design = switched(n_factors) if reuse else steady(n_factors)
    batch = choose_batch(design, block, largest)
    runs = [design.presentations(start, start + block).is_run.sum(1) for start in (0, block)]
    most = min(largest, max(int(run.sum()) for run in runs))
    assert most / 2 <= batch <= most

    def rows(size):
        return size * sum(sum(-(-len(pack.sample) // size) for pack in found) for found in packed(size))

    def packed(size):
        return (packs(design.presentations(start, start + block), size) for start in (0, block))

    assert rows(batch) <= 1.01 * min(rows(size) for size in range(-(-most // 2), most + 1))


@pytest.mark.parametrize(
    ("n_factors", "largest", "batch"),
    [
        (4, 128, 80),  # 8 of 64 base samples of 10 rows: 8 full passes, where 128 would leave 8 rows of 6 empty
        (3, 128, 128),  # 16 base samples of 8 rows
        (4, 1, 1),
        (4, 10, 10),
        (4, 10_000, 640),  # the whole block
    ],
)
def test_choose_batch_where_every_row_is_run(n_factors, largest, batch):
    assert choose_batch(steady(n_factors), 64, largest) == batch


# shards


@pytest.mark.parametrize(
    ("n_blocks", "seconds", "shard"),
    [
        (16, None, 1),
        (64, None, 1),
        (65, None, 2),
        (1024, None, 16),
        (16, 100.0, 1),
        (16, 1.0, 2),  # 8 shards, though each is short
        (64, 30.0, 2),
        (1024, 0.001, 128),
        (7, 0.001, 1),
    ],
)
def test_shard(n_blocks, seconds, shard):
    assert _shard(n_blocks, seconds) == shard


@given(st.integers(1, 10**6), st.one_of(st.none(), st.floats(1e-6, 1e4)))
def test_shards_are_powers_of_two_neither_too_many_nor_too_few(n_blocks, seconds):
    shard = _shard(n_blocks, seconds)
    assert shard & (shard - 1) == 0
    assert n_blocks / shard <= MAX_SHARDS
    assert n_blocks // shard >= min(n_blocks, MIN_SHARDS)
    if seconds is not None and shard * seconds < SHARD_SECONDS:
        assert n_blocks // (2 * shard) < MIN_SHARDS


# chunks


def plan_of(block, n_rows):
    return Plan(
        title="",
        session="pick-freeze",
        samples=4 * block,
        n_rows=n_rows,
        n_presented=4 * block * n_rows,
        n_passes=8,
        layout=Layout(block, block, 128, False),
        shard=1,
        sites=(),
        factors=("hue",),
        memory={},
        disk={},
    )


@given(st.integers(0, 12).map(lambda k: 2**k), st.integers(2, 40), st.integers(0, 2**40))
def test_chunks_of_responses_divide_the_block_and_stay_small(block, n_rows, bytes_per_row):
    n = samples_per_chunk(plan_of(block, n_rows), bytes_per_row)
    assert 1 <= n <= block
    assert block % n == 0
    assert n == 1 or n * n_rows * bytes_per_row <= CHUNK_BYTES
    # as long as it can be
    assert n == min(block, PIECE) or 2 * n * n_rows * bytes_per_row > CHUNK_BYTES


def test_a_row_over_a_chunk_is_a_chunk():
    assert samples_per_chunk(plan_of(64, 6), 10**12) == 1
    assert samples_per_chunk(plan_of(64, 6), 0) == 64


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (42, "42 s"), (150, "2 min 30 s"), (3700, "1 h 2 min"), (7320, "2 h 2 min")]
)
def test_human_time(seconds, text):
    assert human_time(seconds) == text


@given(st.floats(0, 10**6))
def test_human_time_carries_minutes_and_hours(seconds):
    first, *second = human_time(seconds).split(" ")[::2]
    assert int(first) >= 0
    assert all(0 <= int(number) < 60 for number in second)
