"""The pages of the site that are made from the code and from the repository's own files, as a hook of MkDocs.

README, CONTRIBUTING and CHANGELOG are pages; so are every command, every hyper-parameter and the Python API. A link to
a file of the repository outside ``docs/`` takes the file along.
"""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from textwrap import dedent

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PACKAGE = "missu_nnunet"
REPOSITORY_PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}

_OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)\)")  # of docs/, in a page


def commands() -> str:
    """Every command with its arguments and options, as Typer documents them."""
    command = [sys.executable, "-m", "typer", f"{PACKAGE}.cli.main", "utils", "docs", "--name", "missu"]
    text = subprocess.run([*command, "--title", "Commands"], check=True, capture_output=True, text=True).stdout
    text = re.sub(r"^\* `--(install|show)-completion`.*\n", "", text, flags=re.MULTILINE)
    return _examples_as_code(_with_whole_sentences(text))


def _with_whole_sentences(text: str) -> str:
    """Replace the beginnings of sentences in Typer's lists of commands by the sentences of the commands' sections."""
    sentences = dict(re.findall(r"^#+ `(missu .+)`\n\n(.+)", text, flags=re.MULTILINE))
    lines, section = [], "missu"
    for line in text.splitlines():
        if heading := re.fullmatch(r"#+ `(missu .+)`", line):
            section = heading[1]
        elif entry := re.fullmatch(r"\* `([a-z][a-z0-9-]*)`: .*", line):
            line = f"* `{entry[1]}`: {sentences[f'{section} {entry[1]}']}"
        lines.append(line)
    return "\n".join(lines)


def _examples_as_code(text: str) -> str:
    def block(examples: re.Match[str]) -> str:
        return f"**Examples**:\n\n```bash\n{dedent(unescape(examples[1])).rstrip()}\n```\n"

    return re.sub(r"^Examples:\n((?:  .+\n?)+)", block, text, flags=re.MULTILINE)


def hyperparameters() -> str:
    """A table of the hyper-parameters: name, meaning, default and type."""
    knobs = griffe.load(f"{PACKAGE}.hyperparameters", search_paths=[ROOT])["Hyperparameters"]
    text, attributes, *_ = knobs.docstring.parse("google")
    lines = ["# Hyper-parameters", "", text.value, "", "| name | meaning | default | type |", "|---|---|---|---|"]
    for attribute in attributes.value:
        member = knobs[attribute.name]
        kind = str(member.annotation).replace(" | ", " or ")  # "|" ends a cell
        description = " ".join(attribute.description.split())
        lines.append(f"| `{attribute.name}` | {description} | `{member.value}` | `{kind}` |")
    return "\n".join(lines)


def api(package: Path) -> str:
    """The public modules of a package, which mkdocstrings documents."""
    modules = sorted(file.stem for file in package.glob("[!_]*.py"))
    lines = [
        f"# {PACKAGE}.{package.name}",
        "",
        f"::: {PACKAGE}.{package.name}",
        "    options: {show_root_heading: false}",
    ]
    for module in modules:
        lines += ["", f"::: {PACKAGE}.{package.name}.{module}"]
    return "\n".join(lines)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files of the repository that pages link to."""
    pages = {"commands.md": commands(), "hyperparameters.md": hyperparameters()}
    pages |= {page: _as_page((ROOT / file).read_text()) for page, file in REPOSITORY_PAGES.items()}
    for init in sorted((ROOT / PACKAGE).glob("*/__init__.py")):
        if init.parent.name != "cli":  # commands are documented as commands
            pages[f"api/{init.parent.name}.md"] = api(init.parent)
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    linked = {link for page in files.documentation_pages() for link in _OUTSIDE.findall(page.content_string)}
    for link in linked:
        if not (ROOT / link).is_file():
            raise PluginError(f"{link}: a page links to it, but there is no such file in the repository")
        files.append(File.generated(config, link, abs_src_path=str(ROOT / link)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links to files outside ``docs/`` lead to the copies that the site has."""
    return _OUTSIDE.sub(r"](\1)", markdown)


def _as_page(text: str) -> str:
    """A file of the repository as a page in ``docs/``: what lies in ``docs/`` is beside it, all else above."""
    text = re.sub(r"(\]\()(?!docs/|[a-z]+:|#)", r"\1../", text)
    for page, file in REPOSITORY_PAGES.items():
        text = text.replace(f"](../{file})", f"]({page})")
    return re.sub(r"(\]\(|src=\")docs/", r"\1", text)
