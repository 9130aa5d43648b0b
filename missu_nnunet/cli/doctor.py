"""``missu doctor``."""

import typer

from missu_nnunet.cli.options import AsJson
from missu_nnunet.terminal import literal, print_json, say

_STYLES = {"ok": "green", "warning": "yellow", "fault": "red"}


def doctor(as_json: AsJson = False) -> None:
    """Check that MISSU can be trained here, trying what otherwise breaks late; say what to do where it cannot.

    Ends with one word, ready or not: exit code 0 when a training could start, 2 when not.
    """
    from dataclasses import asdict

    from missu_nnunet.doctor import can_train, examine

    findings = examine()
    if as_json:
        print_json({"can_train": can_train(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            say(literal(f"{finding.status:<9}", _STYLES[finding.status]), f"{finding.name:<20} {finding.value}")
            if finding.remedy:
                say(f"{'':<30}→ {finding.remedy}")
        say("ready" if can_train(findings) else "not ready", style="bold")
    if not can_train(findings):
        raise typer.Exit(2)
