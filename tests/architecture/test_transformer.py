import pytest
import torch

from missu_nnunet.architecture.transformer import TransformerBottleneck, grid_rotations, rotary_angles, rotate


def bottleneck(dim: int = 3, **changes: float) -> TransformerBottleneck:
    torch.manual_seed(0)
    kwargs = {"embedding_dim": 32, "depth": 2, "num_heads": 2, "mlp_dim": 64, "dropout": 0.0} | changes
    return TransformerBottleneck(12, dim, **kwargs)


def awake(module: TransformerBottleneck) -> TransformerBottleneck:
    """The same, with an output projection that is not zero."""
    torch.nn.init.normal_(module.project_out.weight)
    return module


@pytest.mark.parametrize("grid", [(4, 5), (2, 3, 4), (1, 7, 2)])
def test_starts_as_the_identity_on_any_grid(grid: tuple[int, ...]) -> None:
    x = torch.randn(2, 12, *grid)
    assert torch.equal(bottleneck(len(grid))(x), x)


@pytest.mark.parametrize("channels", [32, 96, 320])
def test_starts_with_linear_maps_that_keep_the_scale_of_a_token(channels: int) -> None:
    module = bottleneck(embedding_dim=channels, num_heads=channels // 32, mlp_dim=2 * channels)
    for layer in (module.blocks[0].attention.qkv, module.blocks[0].attention.out, module.blocks[1].mlp[0]):
        assert layer(torch.randn(1000, channels)).std().item() == pytest.approx(1, abs=0.1)


def test_one_set_of_weights_serves_every_grid() -> None:
    module = awake(bottleneck())
    for grid in [(2, 3, 4), (5, 4, 3)]:
        assert module(torch.randn(1, 12, *grid)).shape == (1, 12, *grid)


def test_every_token_sees_every_other() -> None:
    module = awake(bottleneck())
    x = torch.randn(1, 12, 3, 4, 5, requires_grad=True)
    module(x)[0, :, 0, 0, 0].sum().backward()
    assert (x.grad.abs().sum(dim=1) > 0).all()


def test_position_matters() -> None:
    module = awake(bottleneck())
    x = torch.randn(1, 12, 2, 3, 4)
    permuted = module(x.flip(2)).flip(2)
    assert not torch.allclose(permuted, module(x), atol=1e-3)


def test_rotated_products_depend_on_the_offset_between_positions_only() -> None:
    grid, head_dim = (4, 5, 6), 16
    rotations = grid_rotations(grid, head_dim, torch.device("cpu"))
    q, k = torch.randn(head_dim), torch.randn(head_dim)
    logits = rotate(q.expand(120, -1), rotations) @ rotate(k.expand(120, -1), rotations).T
    logits = logits.view(*grid, *grid)
    torch.testing.assert_close(logits[0, 0, 0, 1, 2, 3], logits[2, 1, 2, 3, 3, 5])
    assert not torch.isclose(logits[0, 0, 0, 1, 2, 3], logits[0, 0, 0, 1, 2, 4])


def test_no_two_tokens_share_their_angles() -> None:
    angles = rotary_angles((7, 3, 5), 10, torch.device("cpu"))
    assert angles.shape == (105, 5)
    assert len(angles.unique(dim=0)) == 105


def test_a_grid_is_turned_to_sines_once_and_a_prediction_leaves_none_that_a_training_cannot_use() -> None:
    module = awake(bottleneck())
    x = torch.randn(1, 12, 3, 2, 5)
    with torch.inference_mode():
        predicted = module(x)
    trained = module(x)
    trained.sum().backward()
    assert torch.equal(predicted, trained)
    device = torch.device("cpu")
    assert grid_rotations((3, 2, 5), 16, device) is grid_rotations(torch.Size((3, 2, 5)), 16, device)
    assert not any("rotation" in key for key in module.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_finite_under_autocast_with_large_activations(dtype: torch.dtype) -> None:
    module = awake(bottleneck())
    x = (torch.randn(1, 12, 4, 4, 4) * 1e4).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        y = module(x.to(dtype))
    y.float().mean().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize(("embedding_dim", "num_heads"), [(32, 3), (16, 8), (30, 2)])
def test_heads_that_do_not_fit_are_refused(embedding_dim: int, num_heads: int) -> None:
    with pytest.raises(ValueError, match=f"got {embedding_dim} / {num_heads}"):
        bottleneck(embedding_dim=embedding_dim, num_heads=num_heads)
