"""``missu weights …``: fit trained weights to another plan, and export them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from missu_nnunet.cli.examples import examples
from missu_nnunet.cli.options import Configuration, Trusted
from missu_nnunet.terminal import say

if TYPE_CHECKING:
    from missu_nnunet.weights.transfer import Transfer

app = typer.Typer(help="Fit trained weights to another plan, and export them.", no_args_is_help=True)

Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint of nnUNetv2_train.")]
Output = Annotated[Path, typer.Argument(metavar="OUT", help="File to write.")]
Plans = Annotated[Path, typer.Option(help="Plans file to fit to, with the dataset's dataset.json beside it.")]


@app.command(epilog=examples("missu weights adapt checkpoint_final.pth adapted.pth --plans nnUNetMISSUPlans.json"))
def adapt(
    checkpoint: Checkpoint,
    out: Output,
    plans: Plans,
    configuration: Configuration = "3d_fullres",
    trust: Trusted = None,
) -> None:
    """Fit a MISSU checkpoint to a plan with another patch size, other classes or input channels.

    Classes of the same name keep their outputs. To begin a training: copy OUT to its fold's checkpoint_latest.pth and
    give nnUNetv2_train --c; or give OUT as -pretrained_weights, which starts the outputs of all classes anew.
    """
    from missu_nnunet.weights import transfer

    _report(transfer.adapt(checkpoint, out, plans, configuration), out)


@app.command(epilog=examples("missu weights from-nnunet checkpoint_final.pth started.pth --plans nnUNetPlans.json"))
def from_nnunet(
    checkpoint: Checkpoint,
    out: Output,
    plans: Plans,
    configuration: Configuration = "3d_fullres",
    trust: Trusted = None,
) -> None:
    """Start MISSU from a checkpoint of a stock nnU-Net trainer; the Transformer starts as the identity.

    On the plan of the stock network nothing is dropped. To begin a training: as with adapt.
    """
    from missu_nnunet.weights import transfer

    result = transfer.from_nnunet(checkpoint, out, plans, configuration)
    _report(result, out)
    if result.dropped:
        say("first outputs: differ from the stock network's, of which a part was dropped")
    elif result.new_classes or len(set(result.input_channels)) > 1:
        say("first outputs: differ from the stock network's, because classes or input channels do")
    else:
        say("first outputs: the stock network's; with -pretrained_weights up to the segmentation layers")


@app.command(
    epilog=examples("missu weights from-nnssl checkpoint_final.pth started.pth --plans nnUNetMISSUPlansL.json")
)
def from_nnssl(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint of nnssl.")],
    out: Output,
    plans: Plans,
    configuration: Configuration = "3d_fullres",
    trust: Trusted = None,
) -> None:
    """Start MISSU's encoder from one that nnssl pre-trained without labels; the rest starts anew.

    The result is for nnUNetv2_train -pretrained_weights.
    """
    from missu_nnunet.weights import transfer

    _report(transfer.from_nnssl(checkpoint, out, plans, configuration), out)


@app.command(
    epilog=examples(
        "missu weights export checkpoint_final.pth missu.safetensors",
        "missu weights export checkpoint_final.pth missu.onnx",
        "missu weights export MISSUTrainer__nnUNetMISSUPlans__3d_fullres missu-model",
    )
)
def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A checkpoint or, where OUT is a folder, also a trained model's folder."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="x.safetensors, x.onnx, or a folder.")],
    trust: Trusted = None,
) -> None:
    """Write a MISSU model for use without nnU-Net, in the form that OUT chooses.

    x.safetensors: the weights of the inference network. x.onnx: the network for one patch. A folder: a script and all
    that it needs to segment images with onnxruntime alone.
    """
    from missu_nnunet.weights.bundle import export_bundle
    from missu_nnunet.weights.export import export

    if out.suffix:
        say(f"{out}: {export(source, out)}")
    else:
        from missu_nnunet.report.model_card import model_card

        say(f"{out}: {export_bundle(source, out, model_card(source) if source.is_dir() else '')}")


@app.command(epilog=examples("missu weights calibrate MISSUTrainer__nnUNetMISSUPlans__3d_fullres"))
def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model's folder.")],
    references: Annotated[
        Path | None,
        typer.Option(help="Folder of the cases' segmentations. Otherwise the dataset's in nnUNet_preprocessed."),
    ] = None,
) -> None:
    """Fit a temperature that calibrates the model's probabilities; missu predict --uncertainty then uses it.

    It is fitted on the validation of the folds, whose probabilities nnUNetv2_train --npz saves.
    """
    from missu_nnunet.prediction.temperature import FILE
    from missu_nnunet.weights.calibration import calibrate, find_references

    found = calibrate(model, references or find_references(model))
    before, after = (reliability.expected_calibration_error for reliability in found.reliabilities)
    say(
        f"{model / FILE}: temperature {found.temperature:.3f}, fitted on {found.voxels:,} voxels of {found.cases} cases"
    )
    say(f"expected calibration error: {before:.4f} before, {after:.4f} after")
    say(f"negative log-likelihood: {found.likelihoods[0]:.4f} before, {found.likelihoods[1]:.4f} after")


def _report(result: Transfer, out: Path) -> None:
    say(out)
    old, new = result.input_channels
    if old != new:
        say(f"input channels: {old} became {new}, each the mean of the old ones times {old}/{new}")
    if result.dropped:
        say(f"dropped: {', '.join(result.dropped)}")
    if result.new:
        say(f"start anew: {', '.join(result.new)}")
    if result.kept_classes:
        say(f"classes that keep their outputs: {', '.join(result.kept_classes)}")
    if result.new_classes:
        say(f"classes that start anew: {', '.join(result.new_classes)}")
    if result.kept_classes:
        say(
            "begin with these outputs: copy it to the fold's checkpoint_latest.pth, then nnUNetv2_train … --c; "
            "-pretrained_weights starts them anew"
        )
