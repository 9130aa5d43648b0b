"""Whether one arm of an experiment scores better than another on the same cases, and how surely.

Pure statistics of arrays of scores. Everything is paired: both arms have segmented each case, and the difference of its
scores is one observation. What is estimated holds for further cases of the same kind. An arm may have been trained with
several seeds: a case's score is then their mean, and what is estimated holds for further trainings as well. Of an arm
trained once it holds for that training alone: no number here tells how much another one would differ.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from missu_nnunet.evaluation.metrics import METRICS
from missu_nnunet.text import number, p_value

FloatArray = NDArray[np.float64]

OVERALL = "mean of classes"
"""What the scope of a comparison is called that averages each case's classes."""

_RESAMPLES = 9999
_SEED = 0  # the same data give the same interval
_DECIMALS = 12  # equal means, summed in another order or over more seeds, differ beyond these alone


@dataclass(frozen=True)
class PairedStatistics:
    """Statistics of the difference between the paired scores of two arms, first − second.

    Attributes:
        cases: pairs.
        mean_first: mean score of the first arm.
        mean_second: mean score of the second arm.
        difference: mean difference, in the metric's unit.
        low: lower end of the interval of the mean difference; NaN for fewer than 2 cases. Over the cases, and over the
            seeds of an arm that has several.
        high: its upper end.
        p: two-sided, of the Wilcoxon signed-rank test; 1 where all pairs are equal, NaN where there is none.
        effect_size: matched-pairs rank-biserial correlation, −1 to 1; positive where the *first arm is better*.
        wins: cases in which the first arm is better.
        ties: cases in which both score the same.
        losses: cases in which the second arm is better.
        seeds_first: trainings of the first arm.
        seeds_second: trainings of the second arm.
        seed_std_first: standard deviation of the first arm's mean score between its seeds; NaN for one seed.
        seed_std_second: likewise of the second arm.
        seed_std_difference: standard deviation, by the seeds alone, of the difference between one training of each
            arm; NaN where one of them has one seed.
    """

    cases: int
    mean_first: float
    mean_second: float
    difference: float
    low: float
    high: float
    p: float
    effect_size: float
    wins: int
    ties: int
    losses: int
    seeds_first: int
    seeds_second: int
    seed_std_first: float
    seed_std_second: float
    seed_std_difference: float


def paired_statistics(
    first: FloatArray,
    second: FloatArray,
    larger_is_better: bool,
    confidence: float = 0.95,
    resamples: int = _RESAMPLES,
) -> PairedStatistics:
    """Compare two arms by one score per seed and case; all but the interval takes each case's mean over the seeds.

    The test is Wilcoxon's (1945): equal pairs are left out, the p-value is exact up to 50 cases without ties and up to
    13 with them, and asymptotic beyond (``scipy.stats.wilcoxon``). The effect size is Kerby's (2014): the share of
    the rank sum that favours the first arm, minus the share that favours the second; it belongs to the test, and one
    failed case does not rule it.

    Args:
        first: scores of the first arm, ``(seeds, N)``, all defined.
        second: scores of the second arm, likewise, for the same cases in the same order. It may have other seeds: that
            of one arm has nothing in common with that of another.
        larger_is_better: whether a larger score is.
        confidence: coverage of the interval, such as 0.95.
        resamples: number of resamples in the bootstrap.
    """
    differences = first.mean(axis=0) - second.mean(axis=0)
    unequal = differences[differences.round(_DECIMALS) != 0]
    in_favour = unequal if larger_is_better else -unequal
    seeds_first, seeds_second = len(first), len(second)
    if seeds_first == seeds_second == 1:
        low, high = bootstrap_interval(differences, confidence, resamples)
    else:
        low, high = seeds_interval(first, second, confidence)
    seed_std_first, seed_std_second = _seed_std(first), _seed_std(second)
    p = effect_size = math.nan
    if differences.size:
        p, effect_size = (
            (float(stats.wilcoxon(unequal).pvalue), _rank_biserial(in_favour)) if unequal.size else (1.0, 0.0)
        )
    return PairedStatistics(
        cases=differences.size,
        mean_first=_mean(first),
        mean_second=_mean(second),
        difference=_mean(differences),
        low=low,
        high=high,
        p=p,
        effect_size=effect_size,
        wins=int(np.count_nonzero(in_favour > 0)),
        ties=differences.size - unequal.size,
        losses=int(np.count_nonzero(in_favour < 0)),
        seeds_first=seeds_first,
        seeds_second=seeds_second,
        seed_std_first=seed_std_first,
        seed_std_second=seed_std_second,
        seed_std_difference=math.hypot(seed_std_first, seed_std_second),
    )


def seeds_interval(first: FloatArray, second: FloatArray, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the mean difference over cases and seeds; NaN for fewer than 2 cases.

    The variances of the means over cases and over each arm's seeds add up. How many degrees of freedom their sum has is
    Welch's (1947) and Satterthwaite's (1946) approximation. A bootstrap of cases and seeds would be too narrow: two or
    three seeds, drawn again, differ less than others would. An arm's single seed adds nothing.

    Args:
        first: scores of the first arm, ``(seeds, N)``, all defined.
        second: scores of the second arm, likewise, for the same cases in the same order.
        confidence: coverage of the interval, such as 0.95.
    """
    differences = first.mean(axis=0) - second.mean(axis=0)
    if differences.size < 2:
        return math.nan, math.nan
    samples = [differences, *(arm.mean(axis=1) for arm in (first, second) if len(arm) > 1)]
    variances = np.array([stats.sem(sample) ** 2 for sample in samples])
    freedoms = np.array([sample.size - 1 for sample in samples])
    variance, middle = variances.sum(), float(differences.mean())
    if variance == 0:
        return middle, middle
    freedom = variance**2 / (variances**2 / freedoms).sum()
    margin = float(stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance))
    return middle - margin, middle + margin


def bootstrap_interval(
    differences: FloatArray, confidence: float = 0.95, resamples: int = _RESAMPLES
) -> tuple[float, float]:
    """Bootstrap interval of the mean of paired differences, (N,), resampling cases; NaN for fewer than 2.

    Bias-corrected and accelerated (Efron 1987; ``scipy.stats.bootstrap``): a few failed cases skew differences, and
    for skewed ones of 6 to 20 cases it covers the mean 4 to 6 % more often than the percentile interval. Below 20 cases
    either is still too narrow, which is one reason why it alone declares nothing here. Where BCa is undefined, as for
    differences that are all the same, the percentile interval stands in.
    """
    if differences.size < 2:
        return math.nan, math.nan
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # BCa's, of degenerate data: handled by the other method
            result = stats.bootstrap(
                (differences,),
                _rounded_mean,  # BCa asks which resamples have the mean itself
                n_resamples=resamples,
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(_SEED),
            )
        low, high = map(float, result.confidence_interval)
        if not math.isnan(low + high):
            break
    return low, high


def _rounded_mean(sample: FloatArray, axis: int = -1) -> FloatArray:
    return np.asarray(sample.mean(axis=axis)).round(_DECIMALS)


def holm(p: Sequence[float] | FloatArray) -> FloatArray:
    """Holm's (1979) step-down corrected p-values, (N,); tests that could not be made stay NaN and do not count."""
    p = np.asarray(p, dtype=float)
    made = np.flatnonzero(~np.isnan(p))
    ascending = made[np.argsort(p[made])]
    steps = p[ascending] * np.arange(made.size, 0, -1)
    corrected = np.full(p.shape, np.nan)
    corrected[ascending] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


@dataclass(frozen=True)
class Comparison:
    """A line of the table: two arms, one metric, one class or the mean of the classes.

    Attributes:
        first: name of the first arm.
        second: name of the second arm.
        scope: a class, or ``OVERALL``.
        metric: its name.
        statistics: paired statistics of the cases with a value in both arms.
        dropped: cases left out because the score is undefined in one or both of the arms. In the mean of the classes a
            case stays, with the classes that are defined in both arms, as long as there is one.
        undefined_first: cases in which a class of the scope is undefined in the first arm alone.
        undefined_second: likewise in the second arm alone. Dropping these cases may flatter an arm: a distance is
            undefined where it found nothing.
        corrected_p: the p-value after Holm's correction over the whole table.
        level: the probability with which a table of arms that do not differ may declare any difference.
    """

    first: str
    second: str
    scope: str
    metric: str
    statistics: PairedStatistics
    dropped: int
    undefined_first: int
    undefined_second: int
    corrected_p: float
    level: float

    @property
    def shown(self) -> bool:
        """Whether the data show a difference: the corrected p is below the level, the interval excludes 0, and both
        point the same way (in skewed data the mean may favour one arm and most cases the other)."""
        return self._significant and self._same_direction

    @property
    def better(self) -> str | None:
        """The arm shown to be better, if any."""
        if not self.shown:
            return None
        return self.first if self.statistics.effect_size > 0 else self.second

    def sentence(self) -> str:
        """A sentence in plain words on what the data show and do not show."""
        return f"{self.first} − {self.second}, {self.scope}, {self.metric}: {self._finding()}{self._gaps()}"

    def as_dict(self) -> dict[str, Any]:
        """The line's values by name, flat."""
        own = {name: value for name, value in vars(self).items() if name != "statistics"}
        return own | vars(self.statistics) | {"shown": self.shown, "better": self.better}

    @property
    def seed_note(self) -> str:
        """What is known of other trainings of the two arms."""
        values, unit = self.statistics, _unit(self.metric)
        several = [
            (name, seeds, std)
            for name, seeds, std in (
                (self.first, values.seeds_first, values.seed_std_first),
                (self.second, values.seeds_second, values.seed_std_second),
            )
            if seeds > 1
        ]
        if not several:
            return "one seed: how much another training would differ is not known"
        known = " and ".join(f"{number(std)} for {name} ({seeds} seeds)" for name, seeds, std in several)
        note = f"seed noise{unit and f' in{unit}'}, standard deviation: {known}"
        if len(several) == 2:
            return f"{note}, {number(values.seed_std_difference)} for the difference of two trainings"
        (single,) = {self.first, self.second} - {several[0][0]}
        return f"{note}; one seed of {single}: how much another training of it would differ is not known"

    @property
    def _significant(self) -> bool:
        return self.corrected_p < self.level and (self.statistics.low > 0 or self.statistics.high < 0)

    @property
    def _same_direction(self) -> bool:
        mean_favours_first = (self.statistics.difference > 0) == METRICS[self.metric].larger_is_better
        return mean_favours_first == (self.statistics.effect_size > 0)

    def _finding(self) -> str:
        values, unit = self.statistics, _unit(self.metric)
        unequal = values.wins + values.losses
        if not values.cases:
            return "no case has a value in both arms: nothing to compare"
        if not unequal:
            return f"equal in every case ({values.cases}): not shown"
        if values.cases == 1:
            return f"difference {number(values.difference)}{unit} in a single case: not shown, one case cannot show it"
        measured = (
            f"difference {number(values.difference)}{unit}, {100 * (1 - self.level):g} % interval "
            f"{number(values.low)} to {number(values.high)}, corrected p {p_value(self.corrected_p)}"
        )
        if self.shown:
            return f"{measured}: shown, {self.better} is better; {self.seed_note}"
        if self._significant:
            return f"{measured}: not shown, the mean favours one arm and most cases the other{self._noise()}"
        if _smallest_p(unequal) >= self.level:
            return (
                f"{measured}: not shown; with {unequal} unequal cases the Wilcoxon test cannot fall below "
                f"{self.level:g}, {_cases_needed(self.level)} are the fewest that can{self._noise()}"
            )
        return f"{measured}: not shown{self._noise()}"

    def _noise(self) -> str:
        """The note on seeds, where there are several: a difference that is not shown claims nothing of one's."""
        return f"; {self.seed_note}" if max(self.statistics.seeds_first, self.statistics.seeds_second) > 1 else ""

    def _gaps(self) -> str:
        if not self.undefined_first and not self.undefined_second:
            return ""
        return (
            f" (left out where undefined in one arm alone: {self.undefined_first} of {self.first}, "
            f"{self.undefined_second} of {self.second})"
        )


@dataclass(frozen=True)
class Ranking:
    """The order of the arms by one metric, of the cases with a value in all arms.

    Attributes:
        metric: its name.
        cases: how many.
        means: arm → mean over cases of the mean over classes, best first.
        ranks: arm → rank, 1 the best; equal arms share the better rank.
        shares: arm → share of the bootstrap resamples of the cases, and of each arm's seeds, in which it has rank 1,
            2, …
    """

    metric: str
    cases: int
    means: dict[str, float]
    ranks: dict[str, int]
    shares: dict[str, list[float]]


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of the arms of an experiment.

    Attributes:
        level: the table's probability of declaring any difference where there is none.
        lines: a comparison for each metric, pair of arms, and class, and of the mean of several classes.
        rankings: one for each metric that has a case with a value in all arms.
    """

    level: float
    lines: list[Comparison]
    rankings: list[Ranking]

    def by_pair(self) -> list[list[Comparison]]:
        """The lines of each metric and pair of arms."""
        groups = groupby(self.lines, lambda line: (line.metric, line.first, line.second))
        return [list(lines) for _, lines in groups]

    def warning(self) -> str | None:
        """A sentence where no line could possibly be shown, however large the difference."""
        tests = sum(not math.isnan(line.corrected_p) for line in self.lines)
        cases = max(line.statistics.cases for line in self.lines)
        if not tests or _smallest_p(cases) * tests < self.level:
            return None
        return (
            f"{cases} cases and {tests} comparisons: no corrected p can fall below {self.level:g}, so nothing can be "
            f"shown here; {_cases_needed(self.level / tests)} cases could, or fewer metrics, arms and classes"
        )


def compare_arms(
    scores: Mapping[str, Mapping[str, FloatArray]],
    classes: Sequence[str],
    level: float = 0.05,
    resamples: int = _RESAMPLES,
) -> Comparisons:
    """Compare every pair of arms, by every metric, in every class and in the mean of the classes.

    A case undefined (NaN) in one arm, with any of its seeds, is dropped from that pair and counted.

    Args:
        scores: metric → arm → ``(seeds, cases, classes)``; the same cases and classes in the same order in every arm,
            and 1 seed or several.
        classes: the classes' names.
        level: the probability with which a table of arms that do not differ may declare any difference; intervals
            cover 1 − ``level``.
        resamples: number of resamples in each bootstrap.

    Raises:
        ValueError: if there are fewer than two arms, or arrays have different shapes.
    """
    _check_shapes(scores, len(classes))
    scopes = {name: [index] for index, name in enumerate(classes)}
    if len(classes) > 1:  # of one class, the mean would be the same test again and cost power
        scopes[OVERALL] = list(range(len(classes)))
    lines = [
        (metric, first, second, scope, arms[first][..., columns], arms[second][..., columns])
        for metric, arms in scores.items()
        for first, second in combinations(arms, 2)
        for scope, columns in scopes.items()
    ]
    statistics = []
    for metric, _, _, _, first_scores, second_scores in lines:
        means_first, means_second = _common_means((first_scores, second_scores))
        statistics.append(
            paired_statistics(means_first, means_second, METRICS[metric].larger_is_better, 1 - level, resamples)
        )
    corrected = holm([values.p for values in statistics])
    return Comparisons(
        level,
        [
            Comparison(
                first=first,
                second=second,
                scope=scope,
                metric=metric,
                statistics=values,
                dropped=first_scores.shape[1] - values.cases,
                undefined_first=_undefined_alone(first_scores, second_scores),
                undefined_second=_undefined_alone(second_scores, first_scores),
                corrected_p=float(p),
                level=level,
            )
            for (metric, first, second, scope, first_scores, second_scores), values, p in zip(
                lines, statistics, corrected, strict=True
            )
        ],
        [rank_arms(metric, arms, resamples) for metric, arms in scores.items() if _common_means(arms.values())[0].size],
    )


def rank_arms(metric: str, arms: Mapping[str, FloatArray], resamples: int = _RESAMPLES) -> Ranking:
    """Order arms by their mean score, and see how often resampled cases and seeds give the same order.

    After Wiesenfarth et al., "Methods and open-source toolkit for analyzing and visualizing challenge results" (2021).

    Args:
        metric: the metric, which says whether larger is better.
        arms: arm → ``(seeds, cases, classes)``; some case must have a class with a value in all arms.
        resamples: number of resamples in the bootstrap.
    """
    values = _common_means(arms.values())
    means = np.array([arm.mean(axis=0).mean() for arm in values]).round(_DECIMALS)
    cases = values[0].shape[1]
    sign = -1 if METRICS[metric].larger_is_better else 1
    # How often each case is drawn, (resamples, cases): a sample's mean is then a product, which needs little memory.
    rng = np.random.default_rng(_SEED)
    draws = _draws(rng, cases, resamples)
    sampled = np.array([_resampled(arm, draws, _draws(rng, len(arm), resamples)) for arm in values])
    ranks = stats.rankdata(sign * means, method="min").astype(int)
    sampled_ranks = stats.rankdata(sign * sampled, method="min", axis=0)
    possible = np.arange(1, len(arms) + 1)
    shares = (sampled_ranks[:, :, None] == possible).mean(axis=1)
    names = list(arms)
    order = np.argsort(ranks, kind="stable").tolist()
    return Ranking(
        metric,
        cases,
        means={names[index]: float(means[index]) for index in order},
        ranks={names[index]: int(ranks[index]) for index in order},
        shares={names[index]: shares[index].tolist() for index in order},
    )


def _draws(rng: np.random.Generator, count: int, resamples: int) -> NDArray[np.int64]:
    """How often each of ``count`` things is drawn in a resample, ``(resamples, count)``."""
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples)


def _resampled(scores: FloatArray, cases: NDArray[np.int64], seeds: NDArray[np.int64]) -> FloatArray:
    """The mean of each resample, ``(resamples,)``, of the scores ``(seeds, cases)``."""
    # One seed at a time: products of whole matrices may round equal arms differently.
    means = np.array([cases @ seed / cases.shape[1] for seed in scores])
    return (np.sum(seeds * means.T, axis=1) / len(scores)).round(_DECIMALS)


def _check_shapes(scores: Mapping[str, Mapping[str, FloatArray]], classes: int) -> None:
    for metric, arms in scores.items():
        shapes = {name: values.shape for name, values in arms.items()}
        common = {shape[1:] for shape in shapes.values()}
        if len(arms) < 2 or len(common) > 1 or any(len(s) != 3 or not s[0] or s[2] != classes for s in shapes.values()):
            raise ValueError(f"{metric}: {shapes}, expected at least two arms of shape (seeds, cases, {classes})")


def _common_means(arms: Iterable[FloatArray]) -> list[FloatArray]:
    """Each arm's means ``(seeds, kept cases)`` over the classes defined in all arms, of the cases that have one."""
    arms = list(arms)
    defined = np.all(~np.isnan(np.concatenate(arms)), axis=0)
    kept = np.any(defined, axis=1)
    return [np.mean(arm[:, kept], axis=2, where=defined[kept]) for arm in arms]


def _undefined_alone(scores: FloatArray, other: FloatArray) -> int:
    """Cases with a class that is undefined in ``scores``, with some seed, and defined in ``other``."""
    undefined = np.any(np.isnan(scores), axis=0) & ~np.any(np.isnan(other), axis=0)
    return int(np.count_nonzero(np.any(undefined, axis=1)))


def _seed_std(scores: FloatArray) -> float:
    """Standard deviation between the seeds of the mean over cases; NaN for one seed, or without cases."""
    return float(np.std(scores.mean(axis=1), ddof=1)) if len(scores) > 1 and scores.shape[1] else math.nan


def _unit(metric: str) -> str:
    """The unit of a metric as it follows a number; empty where it has none."""
    return f" {METRICS[metric].unit}".rstrip()


def _rank_biserial(in_favour: FloatArray) -> float:
    """Rank sum of the positive minus that of the negative differences, by the sum of all ranks; none may be 0."""
    ranks = stats.rankdata(np.abs(in_favour))
    return float(np.sum(np.sign(in_favour) * ranks) / np.sum(ranks))


def _mean(values: FloatArray) -> float:
    return float(np.mean(values)) if values.size else math.nan


def _smallest_p(cases: int) -> float:
    """The smallest two-sided p-value of the Wilcoxon test: all of ``cases`` differences have one sign."""
    return 2.0 ** (1 - cases)


def _cases_needed(level: float) -> int:
    """The fewest cases whose smallest p-value is below ``level``."""
    return math.floor(1 - math.log2(level)) + 1
