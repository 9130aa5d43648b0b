"""``missu doctor``."""

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

_STYLES = {"ok": "green", "warning": "yellow", "fault": "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Check that MISSU can be trained here; say what to do where it cannot.

    Exits with 0 when a training could start, with 2 when not.
    """
    import json
    from dataclasses import asdict

    from missu_nnunet.doctor import can_train, examine

    findings = examine()
    if as_json:
        report = {"can_train": can_train(findings), "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(report, indent=2))
    else:
        console = Console(soft_wrap=True, highlight=False)
        for finding in findings:
            status = Text(f"{finding.status:<8}", style=_STYLES[finding.status])
            console.print(status, f"{finding.name:<20} {finding.value}", markup=False)
            if finding.remedy:
                console.print(f"{'':<30}→ {finding.remedy}", markup=False)
    if not can_train(findings):
        raise typer.Exit(2)
