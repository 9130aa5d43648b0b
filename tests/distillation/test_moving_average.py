import pytest
import torch
from random_plans import plain_arch_kwargs

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.distillation.moving_average import MovingAverage

PATCH = (16, 16)


def network() -> MISSU:
    torch.manual_seed(0)
    plan = plain_arch_kwargs([[1, 1], [2, 2], [2, 2]])
    return MISSU(1, num_classes=3, deep_supervision=True, **missu_arch_kwargs(plan, PATCH))


def weight(module: torch.nn.Module) -> torch.Tensor:
    return next(module.parameters()).detach().clone()


def test_follows_the_network_slower_and_slower_until_its_decay() -> None:
    student = network()
    average = MovingAverage(student, decay=0.8)
    torch.nn.init.constant_(next(student.parameters()), 1.0)
    average.update_parameters(student)  # the first takes the network as it is
    assert torch.equal(weight(average.module), weight(student))
    expected = weight(student)
    for n in range(1, 60):
        torch.nn.init.constant_(next(student.parameters()), float(n % 3))
        average.update_parameters(student)
        decay = min(0.8, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight(student)
    torch.testing.assert_close(weight(average.module), expected)


def test_is_a_copy_that_predicts_and_never_learns() -> None:
    student = network().train()
    average = MovingAverage(student, decay=0.9)
    assert not average.module.training
    assert student.decoder.deep_supervision
    assert not average.module.decoder.deep_supervision
    posterior = average.posterior(torch.randn(2, 1, *PATCH, requires_grad=True), regions=False)
    assert not posterior.requires_grad
    torch.testing.assert_close(posterior.sum(dim=1), torch.ones(2, *PATCH))
    assert all(not p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_regions_have_a_probability_each() -> None:
    student, x = network().eval(), torch.randn(1, 1, *PATCH)
    with torch.no_grad():
        expected = student(x)[0].sigmoid()
    torch.testing.assert_close(MovingAverage(student, 0.9).posterior(x, regions=True), expected)


@pytest.mark.parametrize(("patches", "mixed"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_half_of_the_patches_are_mixed_and_labelled_as_they_were(patches: int, mixed: int) -> None:
    average = MovingAverage(network(), decay=0.9)
    number = torch.arange(float(patches)).reshape(patches, 1, 1, 1).expand(patches, 1, *PATCH)
    x = number + 0.1 * torch.rand(patches, 1, *PATCH)  # an image says which patch it is
    data, posterior = average.teach(x, patches, regions=False)
    labels = average.posterior(x, regions=False)
    assert torch.equal(data[:patches], x)
    assert len(data) == patches + mixed
    assert len(posterior) == mixed
    for patch, image in enumerate(data[patches:]):
        sources = image[0].floor().long()
        assert set(sources.unique().tolist()) == {patch, (patch + 1) % patches}
        for source in range(patches):
            here = sources == source
            assert torch.equal(image[:, here], x[source, :, here])
            torch.testing.assert_close(posterior[patch, :, here], labels[source, :, here])


@pytest.mark.parametrize(("patches", "others"), [(1, 1), (2, 1), (3, 2)])
def test_patches_behind_the_first_ones_are_mixed_alone(patches: int, others: int) -> None:
    average = MovingAverage(network(), decay=0.9)
    number = torch.arange(float(patches + others)).reshape(-1, 1, 1, 1).expand(-1, 1, *PATCH)
    data, posterior = average.teach(number, patches, regions=False)
    assert torch.equal(data[:patches], number[:patches])
    assert len(data) == patches + others
    assert len(posterior) == others
    for patch, image in enumerate(data[patches:], patches):
        beside = patch + 1 if patch + 1 < patches + others else others % patches
        assert set(image.unique().tolist()) == {patch, beside}


def test_travels_by_its_state_dict() -> None:
    student = network()
    first, second = MovingAverage(student, 0.9), MovingAverage(student, 0.9)
    for _ in range(2):
        torch.nn.init.normal_(next(student.parameters()))
        first.update_parameters(student)
    second.load_state_dict(first.state_dict())
    for average in (first, second):
        average.update_parameters(student)
    assert torch.equal(weight(first.module), weight(second.module))
