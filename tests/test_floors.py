"""The drawing in ``docs/architecture.md``: what a module imports stands in its own room, or on a floor below it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "missu_nnunet"
FLOORS = (
    {"architecture", "nnunet", "pictures"},
    {"distillation", "planning", "datasets"},
    {"training", "prediction", "evaluation"},
    {"weights", "experiments"},
    {"report"},
    {"demo", "network_costs", "doctor"},
    {"cli"},
)
GROUND = {file.stem for file in PACKAGE.glob("[!_]*.py")}.difference(*FLOORS)
FLOOR_OF = dict.fromkeys(GROUND, 0) | {room: floor for floor, rooms in enumerate(FLOORS, 1) for room in rooms}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(file: Path) -> set[str]:
    imports = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom))
    names = [node.module.split(".") for node in imports if node.module]
    return {name[1] for name in names if name[0] == PACKAGE.name and len(name) > 1}


@pytest.mark.parametrize("room", sorted(FLOOR_OF))
def test_a_room_imports_from_floors_below_it_only(room: str) -> None:
    for file in (file for file in PACKAGE.rglob("*.py") if room_of(file) == room):
        others = imported_rooms(file) - {room}
        above = {other for other in others if FLOOR_OF[other] >= max(FLOOR_OF[room], 1)}
        assert not above, f"{file.relative_to(PACKAGE)} imports from {', '.join(sorted(above))}"


def test_every_package_stands_on_a_floor_and_in_the_drawing() -> None:
    rooms = {room_of(file) for file in PACKAGE.rglob("[!_]*.py")}
    assert rooms == set(FLOOR_OF)
    drawing = (PACKAGE.parent / "docs" / "architecture.svg").read_text()
    assert [room for room in rooms - GROUND if f">{room}<" not in drawing] == []
