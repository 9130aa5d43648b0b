"""nnU-Net's predictor, extended by the uncertainty and the progress of a prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain, combinations, starmap
from typing import Any, cast

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from numpy.typing import NDArray
from scipy.special import entr
from torch import Tensor, nn

from missu_nnunet.prediction.segmentation import resample
from missu_nnunet.prediction.windows import Row, Window, rows_of


class ObservedPredictor(nnUNetPredictor):
    """A predictor that predicts what nnU-Net's does, bit for bit, and reports each window.

    With ``uncertainty`` it also keeps the mean posterior over all members of the ensemble, which are every fold and
    every mirroring. nnU-Net averages logits, which does not tell members that disagree from members that are unsure.

    Attributes:
        uncertainty: whether the mean posterior is kept.
        temperature: number by which the logits are divided for the posterior; segmentations do not depend on it.
        on_window: function that is called with the finished share of the case, 0 to 1.
    """

    def __init__(
        self, *, uncertainty: bool, temperature: float, on_window: Callable[[float], None], **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.uncertainty = uncertainty
        self.temperature = temperature
        self.on_window = on_window
        self._windows: Iterator[Window] = iter(())
        self._windows_done = 0
        self._windows_of_fold = 1
        self._posterior = self._weights = torch.empty(0)
        self._posterior_of_folds = torch.empty(0)

    def predict_logits_from_preprocessed_data(self, data: Tensor) -> Tensor:
        """Predict a case's logits as nnU-Net does; ``posterior`` then gives the case's mean posterior."""
        self._windows_done = 0
        self._posterior_of_folds = torch.zeros(())
        return super().predict_logits_from_preprocessed_data(data)

    def divides(self, grid: Sequence[int], shape: Sequence[int]) -> bool:
        """Whether ``predict_slabs`` divides a case: on a CPU, where nothing is resampled and no posterior is kept.

        Args:
            grid: of the preprocessed image, ``(D, H, W)``.
            shape: of the image as nnU-Net has cropped it.
        """
        return self.device.type == "cpu" and not self.uncertainty and tuple(grid) == tuple(shape)

    @torch.inference_mode()
    def predict_slabs(self, data: Tensor, properties: dict[str, Any]) -> Iterator[Tensor]:
        """Predict the same logits slab after slab along the first axis; each may be used until the next is asked for.

        So only those lie in memory that further windows reach. A case that is not divided is one slab.

        Args:
            data: the preprocessed image ``(C, D, H, W)``.
            properties: properties of this case from nnU-Net's preprocessing.
        """
        if not self.divides(data.shape[1:], properties["shape_after_cropping_and_before_resampling"]):
            yield self.predict_logits_from_preprocessed_data(data)
            return
        self.network.eval()
        padded, inside = pad_nd_image(data, self.configuration_manager.patch_size, "constant", {"value": 0}, True, None)
        inside = (slice(None), *inside[1:])  # also in each slab: where the first axis is padded, there is but one
        windows = self._internal_get_sliding_window_slicers(padded.shape[1:])
        self._windows_done, self._windows_of_fold = 0, len(windows)
        rows = rows_of(windows, padded.shape[1])
        folds = [(parameters, self._sum_windows(padded, rows)) for parameters in self.list_of_parameters]
        network = cast(nn.Module, getattr(self.network, "_orig_mod", self.network))  # which torch.compile has wrapped

        def next_slab(parameters: Mapping[str, Any], slabs: Iterator[Tensor]) -> Tensor:
            network.load_state_dict(parameters)
            return next(slabs)

        threads = torch.get_num_threads()
        torch.set_num_threads(min(threads, default_num_processes))  # as nnU-Net: the last bits may depend on it
        try:
            for _ in rows:
                total = reduce(Tensor.add_, starmap(next_slab, folds))
                yield total.div_(len(folds))[inside]
        finally:
            torch.set_num_threads(threads)

    def predict_sliding_window_return_logits(self, input_image: Tensor) -> Tensor:
        """Predict with one fold, as nnU-Net does."""
        logits = super().predict_sliding_window_return_logits(input_image)
        if self.uncertainty:
            # nnU-Net pads small images and cuts the padding off again: so must we.
            _, inside = pad_nd_image(
                input_image[:1], self.configuration_manager.patch_size, "constant", {"value": 0}, True, None
            )
            inside = (slice(None), *inside[1:])
            self._posterior_of_folds = self._posterior_of_folds + (self._posterior / self._weights)[inside]
        return logits

    def _internal_predict_sliding_window_return_logits(
        self, data: Tensor, slicers: list[Window], do_on_device: bool = True
    ) -> Tensor:
        self._windows = iter(slicers)
        # nnU-Net begins a fold anew where the device's memory did not suffice.
        self._windows_done -= self._windows_done % len(slicers)
        self._windows_of_fold = len(slicers)
        if self.uncertainty:
            self._posterior = torch.zeros((self.label_manager.num_segmentation_heads, *data.shape[1:]))
            self._weights = torch.zeros(data.shape[1:])
        if self.device.type == "cpu":
            rows = rows_of(slicers, data.shape[1])
            logits = torch.empty((self.label_manager.num_segmentation_heads, *data.shape[1:]), dtype=torch.half)
            for row, slab in zip(rows, self._sum_windows(data, rows), strict=True):
                logits[:, row.start : row.stop] = slab
            return logits
        return super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)

    def _sum_windows(self, data: Tensor, rows: list[Row]) -> Iterator[Tensor]:
        """nnU-Net's weighted mean of the windows, bit for bit: that of each row, up to where the next one starts.

        Raises:
            RuntimeError: if logits are not finite in half precision, as nnU-Net raises it.
        """
        gaussian = compute_gaussian(
            tuple(self.configuration_manager.patch_size), sigma_scale=1 / 8, value_scaling_factor=10, device=data.device
        )
        shape = (rows[0].depth, *data.shape[2:])
        logits = torch.zeros((self.label_manager.num_segmentation_heads, *shape), dtype=torch.half)
        weights = torch.zeros(shape, dtype=torch.half)
        for row in rows:
            for window in row.windows:
                patch = torch.clone(data[window][None], memory_format=torch.contiguous_format)
                inside = row.place(window)
                logits[inside] += self._internal_maybe_mirror_and_predict(patch)[0] * gaussian
                weights[inside[1:]] += gaussian
            done = row.stop - row.start
            for of_class in logits:
                of_class[:done] /= weights[:done]
                if not torch.isfinite(of_class[:done]).all():
                    raise RuntimeError("a logit is NaN, or exceeds what half precision holds")
            yield logits[:, :done]
            for sums in (weights, *logits):  # what reaches into the next row comes to its start
                kept = sums[done:].clone()
                sums[: len(kept)] = kept
                sums[len(kept) :] = 0

    def _internal_maybe_mirror_and_predict(self, x: Tensor) -> Tensor:
        if self.uncertainty:
            outputs: list[Tensor] = []
            # The network's outputs as they leave it: nnU-Net adds them up in place.
            with self.network.register_forward_hook(lambda module, inputs, output: outputs.append(output.clone())):
                prediction = super()._internal_maybe_mirror_and_predict(x)
            self._add_posterior(outputs, next(self._windows))
        else:
            prediction = super()._internal_maybe_mirror_and_predict(x)
        self._windows_done += 1
        self.on_window(self._windows_done / (self._windows_of_fold * len(self.list_of_parameters)))
        return prediction

    def _add_posterior(self, outputs: list[Tensor], window: Window) -> None:
        """Add the mirrorings' mean posterior, in the place and with the weights of the window."""
        posterior = sum(
            self.label_manager.apply_inference_nonlin(torch.flip(output, axes)[0] / self.temperature)
            for output, axes in zip(outputs, self._mirrorings(outputs[0].ndim), strict=True)
        ) / len(outputs)
        gaussian = compute_gaussian(
            tuple(self.configuration_manager.patch_size), sigma_scale=1 / 8, value_scaling_factor=10,
            dtype=torch.float32, device=torch.device("cpu"),
        )  # fmt: skip
        self._posterior[window] += posterior.cpu() * gaussian
        self._weights[window[1:]] += gaussian

    def _mirrorings(self, dimensions: int) -> list[tuple[int, ...]]:
        """The axes flipped in each of nnU-Net's evaluations of a window, in its order."""
        axes = self.allowed_mirroring_axes if self.use_mirroring else None
        shifted = [axis + 2 for axis in axes or ()]
        return list(chain.from_iterable(combinations(shifted, count) for count in range(len(shifted) + 1)))

    def posterior(self, properties: dict[str, Any]) -> Iterator[NDArray[np.float32]]:
        """Yield the last case's mean posterior, one class after the other, in the shape of the image.

        What nnU-Net cropped is background. The classes are resampled one at a time; all at once they would need many
        times the memory.

        Args:
            properties: properties of this case from nnU-Net's preprocessing.
        """
        plans = self.plans_manager
        posterior = (self._posterior_of_folds / len(self.list_of_parameters)).numpy()
        for index in range(len(posterior)):
            resampled = resample(posterior[index : index + 1], properties, plans, self.configuration_manager)[0]
            outside = 1 if index == 0 and not self.label_manager.has_regions else 0
            whole = np.full(properties["shape_before_cropping"], outside, np.float32)
            whole = insert_crop_into_image(
                whole, np.asarray(resampled, np.float32), properties["bbox_used_for_cropping"]
            )
            yield whole.transpose(plans.transpose_backward)


def entropy(posterior: Iterable[NDArray[np.float32]], regions: bool) -> NDArray[np.float32]:
    """Compute how undecided a posterior is, from 0 where all members are sure to 1.

    For labels this is the entropy of the distribution over the classes, divided by the logarithm of their number, so
    that an even distribution has 1; for regions it is the mean of the regions' own entropies in bits.

    Args:
        posterior: the probabilities of each class or region.
        regions: whether classes are overlapping regions.
    """
    total, found, count = np.zeros(()), np.zeros(()), 0
    for values in posterior:
        probability = np.clip(values, 0, 1).astype(np.float64)
        total = total + probability
        found = found + entr(probability) + (entr(1 - probability) if regions else 0)
        count += 1
    # Resampled classes add up to nearly 1.
    mean = found / np.log(2) / count if regions else (found / total + np.log(total)) / np.log(count)
    return np.clip(mean, 0, 1).astype(np.float32)
