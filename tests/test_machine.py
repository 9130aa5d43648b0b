"""This machine's memory."""

from missu_nnunet.machine import available_memory, physical_memory, total_memory


def test_what_is_available_is_part_of_what_is_there() -> None:
    available, total, physical = available_memory(), total_memory(), physical_memory()
    assert available is not None
    assert total is not None
    assert physical is not None
    assert 2**20 < available <= total
    assert physical > 2**20
