import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_plans import plain_arch_kwargs

from missu_nnunet.network_costs import Cost, measure, plan_networks, ratio

SECONDS = st.lists(st.floats(1e-3, 10), min_size=2, max_size=9)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "residual"])
def costs(request: pytest.FixtureRequest) -> list[Cost]:
    plan = plain_arch_kwargs([[1, 1], [2, 2], [2, 2]], residual=request.param)
    networks = plan_networks(plan, (), (16, 16), 1, 3)
    return measure(networks, 1, 3, (16, 16), 2, torch.device("cpu"), rounds=2)


def test_every_network_is_measured_in_every_round(costs: list[Cost]) -> None:
    assert len(costs) == 3
    assert costs[0].name in ("PlainConvUNet", "ResidualEncoderUNet")
    for cost in costs:
        assert len(cost.forward) == len(cost.step) == 2
        assert min(cost.forward + cost.step) > 0


def test_the_teacher_costs_nothing_at_inference_and_half_a_batch_in_training(costs: list[Cost]) -> None:
    _, plain, taught = costs
    assert (plain.parameters, plain.macs) == (taught.parameters, taught.macs)
    assert taught.training_bytes == pytest.approx(1.5 * plain.training_bytes, rel=0.1)


def test_stock_network_is_the_plans(costs: list[Cost]) -> None:
    assert costs[0].parameters < costs[1].parameters  # the same convolutions; MISSU has a Transformer besides
    assert costs[0].macs < costs[1].macs


def test_forward_alone() -> None:
    networks = plan_networks(plain_arch_kwargs([[1, 1], [2, 2]]), (), (8, 8), 1, 2)
    for cost in measure(networks, 1, 2, (8, 8), 1, torch.device("cpu"), rounds=1, training=False):
        assert (len(cost.forward), cost.step, cost.training_bytes) == (1, [], 0)


@given(SECONDS, st.floats(0.1, 10))
def test_ratio_of_proportional_times_is_their_factor(times: list[float], factor: float) -> None:
    result = ratio([factor * seconds for seconds in times], times)
    np.testing.assert_allclose([result.median, result.low, result.high], factor)


@given(SECONDS, st.data())
def test_interval_holds_the_median(times: list[float], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.floats(1e-3, 10), min_size=len(times), max_size=len(times)))
    result = ratio(times, others)
    assert result.low <= result.median <= result.high
