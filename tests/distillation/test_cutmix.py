import torch
from hypothesis import given
from hypothesis import strategies as st

from missu_nnunet.distillation.cutmix import BOX_SHARES, CutMix

SIZES = st.lists(st.integers(8, 20), min_size=2, max_size=3)


def numbered(batch_size: int, size: list[int]) -> torch.Tensor:
    """A batch in which every voxel of a patch has the patch's number."""
    return torch.arange(batch_size, dtype=torch.float32).reshape(-1, 1, *[1] * len(size)).expand(-1, 2, *size)


@given(batch_size=st.integers(1, 4), data=st.data(), size=SIZES, seed=st.integers(0, 2**31))
def test_a_box_of_the_next_patch_is_pasted(batch_size: int, data: st.DataObject, size: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    patches = data.draw(st.integers(1, batch_size))
    mix = CutMix(patches, len(size))
    mixed = mix(numbered(batch_size, size))
    assert len(mixed) == patches
    for patch, values in enumerate(mixed[:, 0]):
        foreign = (values != patch).nonzero()
        if batch_size == 1:
            assert not len(foreign)
            continue
        assert set(values.unique().tolist()) == {patch, (patch + 1) % batch_size}
        sides = foreign.max(dim=0).values - foreign.min(dim=0).values + 1
        assert sides.prod() == len(foreign)  # a full box
        low, high = ((share ** (1 / len(size)) * torch.tensor(size)) for share in BOX_SHARES)
        assert all(sides >= low - 1)
        assert all(sides <= high + 1)


@given(size=SIZES, seed=st.integers(0, 2**31))
def test_every_tensor_of_a_batch_is_mixed_alike(size: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    mix = CutMix(3, len(size))
    batch = numbered(3, size)
    before = batch.clone()
    assert torch.equal(mix(batch), mix(torch.cat([batch, batch], dim=1))[:, 2:])
    assert torch.equal(batch, before)
