"""Memory of a training, estimated and kept, and of predicting a large volume.

    python benchmarks/memory.py training
    python benchmarks/memory.py prediction --edge 512

Each prints a table in Markdown.

``training`` holds the planner's estimate against the bytes that autograd really keeps for the backward pass; takes a
minute on a CPU. Bytes are float32, without weights and loss; plans come from nnU-Net's own topology rule. The error is
(estimate - kept) / kept.

``prediction`` predicts a volume of EDGE × EDGE × 0.78 EDGE voxels with 30 classes and a network of one convolution, as
``nnUNetv2_predict`` and as ``missu predict`` do, from the preprocessed image to the segmentation, and compares the
segmentations. Each runs in a process of its own, and its peak of resident memory is counted beyond what a volume of one
patch took there: without the libraries, which nnU-Net's command loads into three processes and ours into one.
"""

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import pickle
import platform
import resource
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray
from torch import Tensor, nn
from unet_plans import unet_plan

from missu_nnunet.architecture.configuration import planned_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.planning.memory import count_activation_bytes, estimate_activation_bytes
from missu_nnunet.prediction.predictor import ObservedPredictor
from missu_nnunet.prediction.segmentation import segment

BATCH_SIZE = 2
CASES = [  # spacing, patch, base features, residual encoder
    ((1, 1, 1), (32, 40, 32), 16, False),
    ((1, 1, 1), (40, 56, 40), 32, False),
    ((1, 1, 1), (64, 64, 64), 32, False),
    ((3, 1, 1), (16, 96, 96), 32, False),
    ((1, 1, 1), (40, 56, 40), 32, True),
    ((3, 1, 1), (16, 96, 96), 16, True),
    ((1, 1), (256, 256), 32, False),
    ((1, 1), (512, 64), 32, True),
]


CLASSES = 30
PATCH = (32, 64, 64)
PAPER_PLANS = Path(__file__).parents[1] / "plans" / "nnUNetMISSUPlansPaper.json"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("training", "prediction"))
    parser.add_argument("--edge", type=int, default=512, help="of the volume to predict; its depth is 0.78 of it")
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}\n")
    if options.what == "training":
        training()
    else:
        prediction(options.edge)


def training() -> None:
    """Print the table, for batches of ``BATCH_SIZE``, and the largest error."""
    print("| patch | encoder, features | network | estimate [MiB] | kept [MiB] | error |\n|---|---|---|---|---|---|")
    errors = []
    for spacing, patch, features, residual in CASES:
        plan_kwargs, patch_size = unet_plan(spacing, patch, features, residual)
        kwargs = planned_arch_kwargs(plan_kwargs, patch_size)
        missu = MISSU(1, num_classes=3, deep_supervision=True, **kwargs)
        networks: dict[str, Any] = {"MISSU": missu}
        if not residual:
            networks = {
                "PlainConvUNet": PlainConvUNet(1, num_classes=3, deep_supervision=True, **plan_kwargs)
            } | networks
        for name, network in networks.items():
            kept = count_activation_bytes(network, torch.randn(BATCH_SIZE, 1, *patch_size))
            estimate = estimate_activation_bytes(network, patch_size, BATCH_SIZE, bytes_per_element=4)
            errors.append(estimate / kept - 1)
            row = (
                "×".join(map(str, patch_size)),
                f"{'residual' if residual else 'plain'}, {features}",
                name,
                f"{estimate / 2**20:.0f}",
                f"{kept / 2**20:.0f}",
                f"{errors[-1]:+.1%}",
            )
            print(f"| {' | '.join(row)} |")
    print(f"\nLargest error {max(np.abs(errors)):.1%}, mean error {np.mean(errors):+.1%}.")


def prediction(edge: int) -> None:
    """Peak memory of predicting a volume whose spacing is the plan's, and one of two thirds of it."""
    shape = (edge * 400 // 512, edge, edge)
    print(f"{'×'.join(map(str, shape))} voxels, {CLASSES} classes\n")
    print("| | logits, half precision [MiB] | nnU-Net [MiB] | MISSU [MiB] | ÷ |\n|---|---|---|---|---|")
    for words, scale in (("no resampling", 1.0), ("resampled by 1.5", 1.5)):
        (stock, expected), (missu, found) = (peak_bytes(work, shape, scale) for work in (as_nnunet, as_missu))
        assert found == expected, "the segmentations differ"
        logits = CLASSES * 2 * np.prod([round(size / scale) for size in shape])
        row = (words, *(f"{size / 2**20:.0f}" for size in (logits, stock, missu)), f"{missu / stock:.2f}")
        print("|", " | ".join(row), "|", flush=True)


def peak_bytes(
    work: Callable[[Tensor, dict[str, Any]], NDArray[Any]], shape: tuple[int, ...], scale: float
) -> tuple[int, str]:
    """How far a volume raises a process's peak of resident memory above that of a volume of one patch.

    Args:
        work: a prediction.
        shape: of the volume.
        scale: of the plan's spacing to the volume's.

    Returns:
        The bytes, and a digest of the segmentation.
    """

    def predict(of_shape: tuple[int, ...]) -> tuple[int, str]:
        image = torch.rand(1, *(round(size / scale) for size in of_shape), generator=torch.manual_seed(0))
        properties = {
            "spacing": [1 / scale] * 3,
            "shape_before_cropping": of_shape,
            "shape_after_cropping_and_before_resampling": of_shape,
            "bbox_used_for_cropping": [[0, size] for size in of_shape],
        }
        with contextlib.redirect_stdout(io.StringIO()):  # what nnU-Net's predictor says of its settings
            segmentation = work(image, properties)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return peak, hashlib.sha256(segmentation.tobytes()).hexdigest()

    def measure(results: Any) -> None:
        before, _ = predict(PATCH)
        peak, digest = predict(shape)
        results.send((peak - before, digest))

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(sender,))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def as_nnunet(image: Tensor, properties: dict[str, Any]) -> NDArray[Any]:
    """The segmentation by nnU-Net's own functions."""
    predictor = loaded(nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False))
    logits = predictor.predict_logits_from_preprocessed_data(image).numpy()
    # nnU-Net's command keeps them until the next case, and its export process works on what it is sent.
    received = pickle.loads(ForkingPickler.dumps(logits))
    return convert_predicted_logits_to_segmentation_with_correct_shape(
        received, predictor.plans_manager, predictor.configuration_manager, predictor.label_manager, properties
    )


def as_missu(image: Tensor, properties: dict[str, Any]) -> NDArray[Any]:
    """The segmentation as ``missu predict`` finds it."""
    settings = {"use_mirroring": False, "device": torch.device("cpu"), "allow_tqdm": False}
    predictor = loaded(ObservedPredictor(uncertainty=False, temperature=1.0, on_window=lambda share: None, **settings))
    return segment(
        (slab.numpy() for slab in predictor.predict_slabs(image, properties)),
        image.shape[1:],
        properties,
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.label_manager,
    )


def loaded(predictor: nnUNetPredictor) -> nnUNetPredictor:
    """The predictor with a small network of random weights."""
    plans = PlansManager(json.loads(PAPER_PLANS.read_text()))
    configuration = plans.get_configuration("3d_fullres")
    configuration.configuration["patch_size"] = PATCH
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {f"class {label}": label for label in range(1, CLASSES)},
        "file_ending": ".nii.gz",
    }
    torch.manual_seed(0)
    network = nn.Conv3d(1, CLASSES, 3, padding=1)  # what it computes is all the same to the memory of the logits
    predictor.manual_initialization(
        network,
        plans,
        configuration,
        [network.state_dict()],
        dataset,
        "nnUNetTrainer",
        inference_allowed_mirroring_axes=None,
    )
    predictor.tile_step_size = 1
    return predictor


if __name__ == "__main__":
    main()
