"""Arranges pictures in rows and columns, as one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

SIDE = 400
"""Pixels of a picture's longer side."""

PLAIN_TEXT: Any = {"text.parse_math": False, "axes.formatter.use_mathtext": False}
"""Matplotlib's settings for names from outside, whose dollars are no formulas."""


@rc_context(PLAIN_TEXT)
def save_figure(
    rows: Sequence[tuple[str, Sequence[Image.Image]]],
    columns: Sequence[str],
    title: str,
    legend: Mapping[str, str],
    output: Path,
    scale: tuple[ScalarMappable, str] | None = None,
) -> None:
    """Save a table of pictures.

    Args:
        rows: name and pictures of each row; a row has at most as many pictures as there are columns.
        columns: names of the columns.
        title: title above the table.
        legend: text → colour.
        output: the PNG to write.
        scale: colours and name of a colour bar beside the last column.
    """
    # Figure rather than pyplot: no global state, no window.
    size = (3.2 * len(columns), 3 * len(rows) + 1)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes_of_row, (name, pictures) in zip(all_axes, rows, strict=True):
        axes_of_row[0].set_ylabel(name, fontsize=11)
        for axes, picture in zip_longest(axes_of_row, pictures):
            axes.set(xticks=[], yticks=[])
            if picture:
                axes.imshow(picture)
            else:
                axes.set_axis_off()
    for axes, column in zip(all_axes[0], columns, strict=True):
        axes.set_title(column, fontsize=12)
    if scale:
        colours, meaning = scale
        figure.colorbar(colours, ax=all_axes[:, -1], shrink=0.6, label=meaning)
    figure.suptitle(title, fontsize=13, wrap=True)
    handles = [Patch(color=colour, label=text) for text, colour in legend.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
    figure.savefig(output, format="png", dpi=100)
