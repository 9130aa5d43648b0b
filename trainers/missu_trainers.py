"""What ``nnUNetv2_train -tr`` finds: every ``MISSUTrainer…`` of ``missu_nnunet.training.variants``, made on demand.

nnU-Net imports this module whenever it looks for any trainer, so it must cost nothing and fail for no name but ours.
"""


def __getattr__(name: str) -> type:
    if not name.startswith("MISSUTrainer"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from missu_nnunet.errors import end_on_input_error
    from missu_nnunet.training import variants

    end_on_input_error()  # who asks here is one of nnU-Net's commands
    return getattr(variants, name)
