import pytest
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from missu_nnunet.training.logger import SelfDistillationLogger


def test_epochs_with_nothing_to_score_leave_the_moving_dice_as_it_was() -> None:
    logger = MetaLogger("", resume=False)
    logger.local_logger = SelfDistillationLogger()
    for epoch, dice in enumerate([float("nan"), 0.5, float("nan"), 0.6]):
        logger.log("mean_fg_dice", dice, epoch)
    assert logger.get_value("ema_fg_dice", step=None) == pytest.approx([0, 0.05, 0.05, 0.105])
