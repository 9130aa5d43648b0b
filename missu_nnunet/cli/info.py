"""``missu info``: the network that a plan gives."""

from dataclasses import asdict

from missu_nnunet.cli.options import AsJson, Configuration, PlansFile, Trusted
from missu_nnunet.terminal import print_json, show, table


def info(
    plans: PlansFile, configuration: Configuration = "3d_fullres", as_json: AsJson = False, trust: Trusted = None
) -> None:
    """Show the network that MISSUTrainer builds from a plan: stages, Transformer, parameters, operations, memory."""
    from missu_nnunet.planning.summary import summarise

    summary = summarise(plans, configuration)
    if as_json:
        print_json(asdict(summary))
        return
    stages = table(("stage",), ("channels", "stride", "kernel", "voxels"))
    for index, stage in enumerate(summary.stages):
        cells = (stage["channels"], *("×".join(map(str, stage[key])) for key in ("stride", "kernel_size", "size")))
        stages.add_row(index, *cells)
    show(stages, f"{summary.plans_name} {configuration}")
    facts = table(("", ""), header=False)
    facts.add_row("patch, batch", f"{'×'.join(map(str, summary.patch_size))}, {summary.batch_size}")
    if summary.transformer is None:
        facts.add_row("Transformer", "none")
    else:
        sizes = ", ".join(f"{key} {value}" for key, value in summary.transformer.items())
        facts.add_row("Transformer", f"behind stage {summary.transformer_stage}, {summary.tokens} tokens; {sizes}")
        facts.add_row("stages below it", len(summary.stages) - 1 - summary.transformer_stage)
    facts.add_row("parameters at inference", f"{summary.parameters:,}")
    facts.add_row("multiply-accumulates per patch", f"{summary.macs / 1e9:.2f} G")
    facts.add_row("training memory under AMP (estimate)", f"{summary.training_bytes / 2**30:.2f} GiB")
    show(facts)
