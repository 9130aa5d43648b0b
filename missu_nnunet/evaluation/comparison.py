"""Whether one arm of an experiment scores better than another on the same cases, and how surely.

Pure statistics of arrays of scores. Everything is paired: both arms have segmented each case, and the difference of its
scores is one observation. What is estimated holds for further cases of the same kind, and for the trainings at hand:
another training of the same arm scores a little differently, which no number here accounts for.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from missu_nnunet.evaluation.metrics import METRICS

FloatArray = NDArray[np.float64]

OVERALL = "mean of classes"
"""What the scope of a comparison is called that averages each case's classes."""

_RESAMPLES = 9999
_SEED = 0  # the same data give the same interval


@dataclass(frozen=True)
class PairedStatistics:
    """Statistics of the difference between the paired scores of two arms, first − second.

    Attributes:
        cases: pairs.
        mean_first: mean score of the first arm.
        mean_second: mean score of the second arm.
        difference: mean difference, in the metric's unit.
        low: lower end of the interval of the mean difference; NaN for fewer than 2 cases.
        high: its upper end.
        p: two-sided, of the Wilcoxon signed-rank test; 1 where all pairs are equal, NaN where there is none.
        effect_size: matched-pairs rank-biserial correlation, −1 to 1; positive where the *first arm is better*.
        wins: cases in which the first arm is better.
        ties: cases in which both score the same.
        losses: cases in which the second arm is better.
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


def paired_statistics(
    first: FloatArray,
    second: FloatArray,
    larger_is_better: bool,
    confidence: float = 0.95,
    resamples: int = _RESAMPLES,
) -> PairedStatistics:
    """Compare two arms by one score per case.

    The test is Wilcoxon's (1945): equal pairs are left out, the p-value is exact up to 50 cases without ties and up to
    13 with them, and asymptotic beyond (``scipy.stats.wilcoxon``). The effect size is Kerby's (2014): the share of
    the rank sum that favours the first arm, minus the share that favours the second; it belongs to the test, and one
    failed case does not rule it.

    Args:
        first: scores of the first arm, (N,), all defined.
        second: scores of the second arm, ``(N,)``, for the same cases in the same order.
        larger_is_better: whether a larger score is.
        confidence: coverage of the interval, such as 0.95.
        resamples: number of resamples in the bootstrap.
    """
    differences = first - second
    unequal = differences[differences != 0]
    in_favour = unequal if larger_is_better else -unequal
    low, high = bootstrap_interval(differences, confidence, resamples)
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
    )


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
                np.mean,
                n_resamples=resamples,
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(_SEED),
            )
        low, high = map(float, result.confidence_interval)
        if not math.isnan(low + high):
            break
    return low, high


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
    def _significant(self) -> bool:
        return self.corrected_p < self.level and (self.statistics.low > 0 or self.statistics.high < 0)

    @property
    def _same_direction(self) -> bool:
        mean_favours_first = (self.statistics.difference > 0) == METRICS[self.metric].larger_is_better
        return mean_favours_first == (self.statistics.effect_size > 0)

    def _finding(self) -> str:
        values, unit = self.statistics, f" {METRICS[self.metric].unit}".rstrip()
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
            return f"{measured}: shown, {self.better} is better"
        if self._significant:
            return f"{measured}: not shown, the mean favours one arm and most cases the other"
        if _smallest_p(unequal) >= self.level:
            return (
                f"{measured}: not shown; with {unequal} unequal cases the Wilcoxon test cannot fall below "
                f"{self.level:g}, {_cases_needed(self.level)} are the fewest that can"
            )
        return f"{measured}: not shown"

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
        shares: arm → share of the bootstrap resamples of the cases in which it has rank 1, 2, …
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

    A case undefined (NaN) in one arm is dropped from that pair and counted.

    Args:
        scores: metric → arm → (cases, classes); the same cases and classes in the same order in every arm.
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
        (metric, first, second, scope, arms[first][:, columns], arms[second][:, columns])
        for metric, arms in scores.items()
        for first, second in combinations(arms, 2)
        for scope, columns in scopes.items()
    ]
    statistics = []
    for metric, _, _, _, first_scores, second_scores in lines:
        means_first, means_second = _common_means([first_scores, second_scores])
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
                dropped=len(first_scores) - values.cases,
                undefined_first=_undefined_alone(first_scores, second_scores),
                undefined_second=_undefined_alone(second_scores, first_scores),
                corrected_p=float(p),
                level=level,
            )
            for (metric, first, second, scope, first_scores, second_scores), values, p in zip(
                lines, statistics, corrected, strict=True
            )
        ],
        [
            rank_arms(metric, arms, resamples)
            for metric, arms in scores.items()
            if _common_means(list(arms.values())).size
        ],
    )


def rank_arms(metric: str, arms: Mapping[str, FloatArray], resamples: int = _RESAMPLES) -> Ranking:
    """Order arms by their mean score, and see how often resampled cases give the same order.

    After Wiesenfarth et al., "Methods and open-source toolkit for analyzing and visualizing challenge results" (2021).

    Args:
        metric: the metric, which says whether larger is better.
        arms: arm → (cases, classes); some case must have a class with a value in all arms.
        resamples: number of resamples in the bootstrap.
    """
    values = _common_means(list(arms.values()))
    cases = values.shape[1]
    sign = -1 if METRICS[metric].larger_is_better else 1
    # How often each case is drawn, (resamples, cases): a sample's mean is then a product, which needs little memory.
    draws = np.random.default_rng(_SEED).multinomial(cases, np.full(cases, 1 / cases), size=resamples)
    # One arm at a time: products of whole matrices may round equal arms differently.
    sampled = np.array([draws @ arm / cases for arm in values])
    ranks = stats.rankdata(sign * values.mean(axis=1), method="min").astype(int)
    sampled_ranks = stats.rankdata(sign * sampled, method="min", axis=0)
    possible = np.arange(1, len(arms) + 1)
    shares = (sampled_ranks[:, :, None] == possible).mean(axis=1)
    names = list(arms)
    order = np.argsort(ranks, kind="stable").tolist()
    return Ranking(
        metric,
        cases,
        means={names[index]: float(values[index].mean()) for index in order},
        ranks={names[index]: int(ranks[index]) for index in order},
        shares={names[index]: shares[index].tolist() for index in order},
    )


def number(value: float, decimals: int = 4) -> str:
    """Fixed decimals and a real minus sign; a dash where undefined."""
    return "–" if math.isnan(value) else f"{value:.{decimals}f}".replace("-", "−")


def p_value(p: float) -> str:
    """Three digits, but no pretence of precision below 0.001."""
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3g}"


def _check_shapes(scores: Mapping[str, Mapping[str, FloatArray]], classes: int) -> None:
    for metric, arms in scores.items():
        shapes = {name: values.shape for name, values in arms.items()}
        if len(arms) < 2 or len(set(shapes.values())) > 1 or any(shape[1] != classes for shape in shapes.values()):
            raise ValueError(f"{metric}: {shapes}, expected at least two arms of shape (cases, {classes})")


def _common_means(arms: list[FloatArray]) -> FloatArray:
    """Each arm's mean over the classes defined in all arms, for the cases that have one: (arms, kept cases)."""
    stacked = np.stack(arms)
    defined = np.all(~np.isnan(stacked), axis=0)
    kept = np.any(defined, axis=1)
    return np.mean(stacked[:, kept], axis=2, where=defined[kept])


def _undefined_alone(scores: FloatArray, other: FloatArray) -> int:
    """Cases with a class that is undefined in ``scores`` and defined in ``other``."""
    return int(np.count_nonzero((np.isnan(scores) & ~np.isnan(other)).any(axis=1)))


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
