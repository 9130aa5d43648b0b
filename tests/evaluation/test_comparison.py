"""The statistics of a comparison, against SciPy and statsmodels, and the rate of their false positives."""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests

from missu_nnunet.evaluation.comparison import (
    OVERALL,
    bootstrap_interval,
    compare_arms,
    holm,
    paired_statistics,
    rank_arms,
    seeds_interval,
)

# Few distinct values, so that ties and zeros are common; few cases, so that SciPy's p-value is exact with them too.
SCORES = arrays(float, st.integers(2, 10), elements=st.integers(0, 20).map(lambda value: value / 20))


def once(arms):
    """The arms as trained once each."""
    return {name: scores[None] for name, scores in arms.items()}


def line(comparisons, **wanted):
    """The one line with these values."""
    (found,) = [line for line in comparisons.lines if all(getattr(line, key) == wanted[key] for key in wanted)]
    return found


@given(SCORES, st.integers(0, 1000))
def test_test_and_means_are_scipys(first, seed):
    second = np.random.default_rng(seed).permutation(first)
    assume((first != second).any())
    values = paired_statistics(first[None], second[None], True, resamples=99)
    difference = first - second
    assert values.p == pytest.approx(stats.wilcoxon(difference, zero_method="wilcox").pvalue)
    assert values.difference == pytest.approx(difference.mean())
    assert values.wins + values.ties + values.losses == values.cases == len(first)
    # SciPy's one-sided statistic is the rank sum of the positive differences.
    positive = stats.wilcoxon(difference, alternative="greater").statistic
    unequal = np.count_nonzero(difference)
    assert values.effect_size == pytest.approx(2 * positive / (unequal * (unequal + 1) / 2) - 1)


@given(st.integers(2, 120), st.integers(0, 1000))
def test_test_is_scipys_for_many_cases(cases, seed):
    first, second = np.random.default_rng(seed).random((2, cases))
    first[: cases // 4] = second[: cases // 4]  # equal pairs are left out
    expected = stats.wilcoxon(first[cases // 4 :], second[cases // 4 :]).pvalue
    assert paired_statistics(first[None], second[None], True, resamples=99).p == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_leaves_out_tests_that_could_not_be_made():
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)


def test_interval_is_seeded_and_of_the_stated_confidence():
    differences = np.random.default_rng(3).normal(0.2, 1, 40)
    low, high = bootstrap_interval(differences)
    assert (low, high) == bootstrap_interval(differences)
    # For 40 normal differences the bootstrap and Student's t hardly differ.
    assert (low, high) == pytest.approx(
        stats.t.interval(0.95, 39, differences.mean(), stats.sem(differences)), abs=0.03
    )
    wider = bootstrap_interval(differences, confidence=0.99)
    assert wider[0] < low < high < wider[1]


@given(arrays(float, st.integers(2, 12), elements=st.floats(-1, 1)))
def test_interval_is_always_there(differences):
    low, high = bootstrap_interval(differences, resamples=99)
    rounding = 1e-12
    assert differences.min() - rounding <= low <= high + rounding
    assert high <= differences.max() + rounding


# Arms of 1 to 4 seeds, on the same 2 to 9 cases.
ARMS = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(2, 9), st.integers(0, 2**32 - 1)).map(
    lambda drawn: [np.random.default_rng(drawn[3] + arm).random((drawn[arm], drawn[2])) for arm in (0, 1)]
)


@given(ARMS)
def test_with_one_seed_the_interval_is_that_of_the_cases(arms):
    first, second = (arm[:1] for arm in arms)
    values = paired_statistics(first, second, True, resamples=99)
    assert (values.low, values.high) == bootstrap_interval((first - second)[0], resamples=99)
    assert math.isnan(values.seed_std_first)
    assert math.isnan(values.seed_std_difference)


@given(ARMS, st.floats(-5, 5))
@example(
    [
        np.array([[0.51182162, 0.9504637, 0.14415961, 0.94864945]]),
        np.array([[0.26161213, 0.29849114, 0.81422574, 0.09191594]]),
    ],
    1.0,
)
def test_what_is_added_to_every_seed_moves_the_interval_alone(arms, constant):
    first, second = arms
    before, after = (paired_statistics(found, second, True, resamples=99) for found in (first, first + constant))
    for name in ("mean_first", "difference", "low", "high"):
        assert getattr(after, name) == pytest.approx(getattr(before, name) + constant, abs=1e-6)
    assert (after.seeds_first, after.seeds_second) == (len(first), len(second))
    for name in ("seed_std_first", "seed_std_second", "seed_std_difference"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), nan_ok=True, abs=1e-9)


@given(ARMS)
def test_order_of_the_seeds_is_of_no_consequence(arms):
    first, second = arms
    statistics = [
        vars(paired_statistics(*pair, True, resamples=99)) for pair in ((first, second), (first[::-1], second))
    ]
    assert statistics[0] == pytest.approx(statistics[1], nan_ok=True)


def test_without_noise_of_cases_the_interval_is_welchs():
    first, second = (np.repeat(means[:, None], 8, axis=1) for means in np.random.default_rng(0).random((2, 4)))
    expected = stats.ttest_ind(first[:, 0], second[:, 0], equal_var=False).confidence_interval(0.9)
    assert seeds_interval(first, second, 0.9) == pytest.approx(tuple(expected))
    values = paired_statistics(first, second, True)
    assert values.seed_std_first == pytest.approx(first[:, 0].std(ddof=1))
    assert values.seed_std_difference == pytest.approx(math.hypot(values.seed_std_first, values.seed_std_second))


def test_without_noise_of_seeds_the_interval_is_students():
    first = np.repeat(np.random.default_rng(0).random((1, 8)), 3, axis=0)
    expected = stats.t.interval(0.95, 7, first[0].mean(), stats.sem(first[0]))
    assert seeds_interval(first, np.zeros((1, 8))) == pytest.approx(expected)
    assert seeds_interval(first, first) == (0, 0)
    assert all(map(math.isnan, seeds_interval(first[:, :1], first[:, :1])))


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("seed_noise", [0.002, 0.02])
def test_interval_over_cases_and_seeds_covers_as_often_as_it_says(seeds, seed_noise):
    rng = np.random.default_rng(0)
    experiments, covered = 400, 0
    for _ in range(experiments):
        cases, noise = rng.normal(0, 0.02, 30), rng.normal(0, 0.02, (2, seeds, 30))
        first, second = cases + noise + rng.normal(0, seed_noise, (2, seeds, 1))
        low, high = seeds_interval(first, second)
        covered += low <= 0 <= high
    assert covered >= 0.92 * experiments


def test_seed_noise_hides_what_one_training_seems_to_show():
    rng = np.random.default_rng(0)
    poor = rng.random((3, 20, 1)) * 0.01
    good = poor + 0.02 + rng.random((3, 20, 1)) * 0.001
    noisy = good + np.array([-0.1, 0, 0.1])[:, None, None]

    def compared(first):
        (comparison,) = compare_arms({"dice": {"good": first, "poor": poor}}, ("a",)).lines
        assert comparison.statistics.difference == pytest.approx(0.0205, abs=0.0002)
        return comparison

    assert compared(good).better == "good"
    assert "shown, good is better; seed noise, standard deviation: 0." in compared(good).sentence()
    assert not compared(noisy).shown
    assert compared(noisy).corrected_p == compared(good).corrected_p < 0.001
    noise = "not shown; seed noise, standard deviation: 0.0996 for good (3 seeds) and 0.000"
    assert noise in compared(noisy).sentence()
    assert compared(noisy).sentence().endswith("for the difference of two trainings")
    (comparison,) = compare_arms({"dice": {"good": good, "poor": poor[:1]}}, ("a",)).lines
    assert comparison.sentence().endswith("one seed of poor: how much another training of it would differ is not known")


def test_a_case_undefined_with_one_seed_is_dropped():
    first, second = np.full((2, 3, 1), 0.5), np.zeros((1, 3, 1))
    first[1, 2] = np.nan
    (comparison,) = compare_arms({"dice": {"one": first, "other": second}}, ("a",)).lines
    assert (comparison.statistics.cases, comparison.undefined_first, comparison.undefined_second) == (2, 1, 0)


def test_swapped_arms_and_direction():
    first, second = np.array([[1.0, 3, 2, 5, 9, 4, 7]]), np.array([[2.0, 1, 4, 4, 2, 4, 5]])
    larger, smaller = (paired_statistics(first, second, better, resamples=99) for better in (True, False))
    swapped = paired_statistics(second, first, True, resamples=99)
    assert (larger.wins, larger.ties, larger.losses) == (4, 1, 2)
    assert (smaller.wins, smaller.ties, smaller.losses) == (2, 1, 4)
    assert larger.effect_size == -smaller.effect_size == -swapped.effect_size > 0
    assert larger.difference == smaller.difference == -swapped.difference
    assert larger.p == smaller.p == swapped.p


@pytest.mark.parametrize("arms", [2, 3])
def test_null_experiments_declare_no_more_than_the_level(arms):
    rng = np.random.default_rng(0)
    experiments, level = 200, 0.05
    declared = 0
    for _ in range(experiments):
        common = rng.beta(20, 3, (20, 2))
        scores = {"dice": {f"arm {arm}": common[None] + rng.normal(0, 0.02, common.shape) for arm in range(arms)}}
        declared += any(line.shown for line in compare_arms(scores, ("a", "b"), level, resamples=199).lines)
    assert declared <= level * experiments


def test_differences_are_found():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(20):
        common = rng.beta(20, 3, (1, 20, 2))
        scores = {
            "dice": {
                "good": common + 0.03 + rng.normal(0, 0.02, common.shape),
                "poor": common + rng.normal(0, 0.02, common.shape),
            }
        }
        lines = compare_arms(scores, ("a", "b"), resamples=199).lines
        assert {line.better for line in lines} <= {"good", None}
        found += all(line.shown for line in lines)
    assert found >= 15


def test_smaller_distance_is_better():
    far = np.linspace(4, 9, 12)[:, None]
    result = compare_arms({"hd95": once({"far": far, "near": far - np.linspace(1, 2, 12)[:, None]})}, ("tumour",))
    (comparison,) = result.lines
    assert comparison.better == "near"
    assert comparison.sentence().startswith("far − near, tumour, hd95: difference 1.5000 mm, 95 % interval 1.")
    assert comparison.sentence().endswith(
        "corrected p < 0.001: shown, near is better; one seed: how much another training would differ is not known"
    )
    assert list(result.rankings[0].ranks) == ["near", "far"]


def test_identical_arms():
    values = np.random.default_rng(1).random((8, 2))
    result = compare_arms({"dice": once({"one": values, "other": values.copy()})}, ("a", "b"))
    for comparison in result.lines:
        statistics = comparison.statistics
        assert (statistics.difference, statistics.low, statistics.high) == (0, 0, 0)
        assert (statistics.p, statistics.effect_size, statistics.ties) == (1, 0, 8)
        assert not comparison.shown
        assert comparison.sentence().endswith("equal in every case (8): not shown")
    assert result.rankings[0].ranks == {"one": 1, "other": 1}
    assert result.rankings[0].shares == {"one": [1, 0], "other": [1, 0]}


@pytest.mark.parametrize("seeds", [[0, 0, 0], [0, 0, 0, 0, 0]])
def test_an_arm_that_scores_the_same_with_every_seed_is_equal_to_one_training(seeds):
    once = np.random.default_rng(1).uniform(300, 400, (1, 20, 3)).round(2)  # mm
    result = compare_arms({"hd95": {"once": once, "often": once[seeds]}}, ["a", "b", "c"])
    assert {line.statistics.ties for line in result.lines} == {20}
    assert {line.statistics.p for line in result.lines} == {1}
    assert result.rankings[0].ranks == {"once": 1, "often": 1}


def test_undefined_cases_are_dropped_and_counted():
    first = np.array([[0.9, 0.5], [np.nan, 0.6], [0.8, 0.7], [np.nan, np.nan]])
    second = np.array([[0.8, 0.4], [0.7, 0.4], [np.nan, 0.5], [np.nan, np.nan]])
    result = compare_arms({"dice": once({"one": first, "other": second})}, ("a", "b"), resamples=99)
    a = line(result, scope="a")
    assert (a.statistics.cases, a.dropped, a.undefined_first, a.undefined_second) == (1, 3, 1, 1)
    assert a.statistics.difference == pytest.approx(0.1)
    assert "left out where undefined in one arm alone: 1 of one, 1 of other" in a.sentence()
    # The mean of the classes takes those that both arms have: a and b of the first case, b of the second and third.
    mean = line(result, scope=OVERALL)
    assert (mean.statistics.cases, mean.dropped) == (3, 1)
    assert mean.statistics.difference == pytest.approx((0.1 + 0.2 + 0.2) / 3)
    assert result.rankings[0].cases == 3


def test_nothing_defined():
    empty = np.full((3, 1), np.nan)
    result = compare_arms({"dice": once({"one": empty, "other": empty})}, ("a",))
    (comparison,) = result.lines
    assert math.isnan(comparison.corrected_p)
    assert comparison.sentence().endswith("no case has a value in both arms: nothing to compare")
    assert result.rankings == []


def test_a_single_case():
    result = compare_arms({"dice": once({"one": np.array([[0.9]]), "other": np.array([[0.5]])})}, ("a",))
    (comparison,) = result.lines
    assert math.isnan(comparison.statistics.low)
    assert comparison.sentence().endswith("difference 0.4000 in a single case: not shown, one case cannot show it")


@pytest.mark.parametrize(("cases", "shown"), [(5, False), (6, True)])
def test_six_cases_are_the_fewest(cases, shown):
    poor = np.linspace(0.5, 0.6, cases)[:, None]
    gain = np.linspace(0.1, 0.2, cases)[:, None]
    result = compare_arms({"dice": once({"good": poor + gain, "poor": poor})}, ("a",))
    assert result.lines[0].shown is shown
    too_few = "with 5 unequal cases the Wilcoxon test cannot fall below 0.05, 6 are the fewest that can"
    assert (too_few in result.lines[0].sentence()) is not shown
    assert (result.warning() is None) is shown


def test_warning_counts_the_comparisons():
    poor, gain = np.linspace(0.5, 0.6, 7)[:, None], np.linspace(0.1, 0.2, 7)[:, None]
    scores = {
        metric: once({"good": poor + gain, "poor": poor}) for metric in ("dice", "nsd", "sensitivity", "specificity")
    }
    result = compare_arms(scores, ("a",))
    assert not any(line.shown for line in result.lines)
    assert result.warning().startswith("7 cases and 4 comparisons: no corrected p can fall below 0.05")
    assert "8 cases could" in result.warning()


def test_mean_against_most_cases_shows_nothing():
    # Most cases favour the first arm a little, a tenth of them the second by far.
    first = np.linspace(0.5, 0.6, 100)[:, None]
    loss = np.where(np.arange(100) < 12, 0.4, -0.001 * np.linspace(1, 2, 100))[:, None]
    (comparison,) = compare_arms({"dice": once({"one": first, "other": first + loss})}, ("a",)).lines
    assert comparison.statistics.high < 0 < comparison.statistics.effect_size
    assert comparison.corrected_p < 0.05
    assert comparison.better is None
    assert comparison.sentence().endswith("not shown, the mean favours one arm and most cases the other")


def test_three_arms():
    rng = np.random.default_rng(2)
    common = rng.random((30, 2))
    arms = {
        name: common + shift + rng.normal(0, 0.01, common.shape)
        for name, shift in zip("xyz", (0, 0.1, 0.1), strict=True)
    }
    result = compare_arms({"dice": once(arms)}, ("a", "b"))
    assert [(line.first, line.second) for line in result.lines] == [("x", "y")] * 3 + [("x", "z")] * 3 + [
        ("y", "z")
    ] * 3
    expected = multipletests([line.statistics.p for line in result.lines], method="holm")[1]
    assert [line.corrected_p for line in result.lines] == pytest.approx(expected)
    assert line(result, first="x", second="y", scope=OVERALL).better == "y"
    assert line(result, first="y", second="z", scope=OVERALL).better is None
    ranking = result.rankings[0]
    assert ranking.ranks["x"] == 3
    assert ranking.shares["x"] == [0, 0, 1]
    assert 0 < ranking.shares["y"][0] < 1
    assert all(sum(shares) == pytest.approx(1) for shares in ranking.shares.values())


def test_rank_shares_are_those_of_resampled_means():
    rng = np.random.default_rng(4)
    values = rng.normal(0, 1, (2, 15))
    ranking = rank_arms("dice", {"one": values[0][None, :, None], "other": values[1][None, :, None]}, resamples=20000)
    resampled = stats.bootstrap((values[0] - values[1],), np.mean, n_resamples=20000, rng=rng).bootstrap_distribution
    assert ranking.shares["one"][0] == pytest.approx((resampled > 0).mean(), abs=0.02)


def test_rank_shares_are_over_seeds_too():
    cases = np.random.default_rng(4).normal(0, 0.01, (1, 15, 1))
    noisy = cases + np.array([-0.5, 1])[:, None, None]  # its mean is better, half of its seeds are worse by far
    ranking = rank_arms("dice", {"noisy": noisy, "steady": cases}, resamples=4000)
    assert ranking.ranks == {"noisy": 1, "steady": 2}
    assert ranking.shares["steady"][0] == pytest.approx(1 / 4, abs=0.03)


@pytest.mark.parametrize(
    "arms",
    [
        {"one": np.zeros((1, 3, 1))},
        {"one": np.zeros((1, 3, 1)), "other": np.zeros((1, 2, 1))},
        {"one": np.zeros((1, 3, 1)), "other": np.zeros((0, 3, 1))},
        dict.fromkeys("ab", np.zeros((1, 3, 2))),
        dict.fromkeys("ab", np.zeros((3, 1))),
    ],
)
def test_arrays_that_do_not_fit(arms):
    with pytest.raises(ValueError, match=r"expected at least two arms of shape \(seeds, cases, 1\)"):
        compare_arms({"dice": arms}, ("a",))
