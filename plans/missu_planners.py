"""What ``nnUNetv2_plan_experiment -pl`` finds: the planners of ``missu_nnunet.planning.planners``.

nnU-Net imports this module whenever it looks for any planner, so it must cost nothing and fail for no name but ours.
"""


def __getattr__(name: str) -> type:
    if not name.startswith("MISSUPlanner"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from missu_nnunet.errors import InputError, end_on_input_error
    from missu_nnunet.planning import planners

    end_on_input_error()  # who asks here is one of nnU-Net's commands
    if not hasattr(planners, name):  # nnU-Net would say that 'NoneType' is not callable
        known = ", ".join(found for found in vars(planners) if found.startswith("MISSUPlanner"))
        raise InputError(f"no planner {name}, found {known}; give one of them, or one of nnU-Net's, with -pl")
    return getattr(planners, name)
