"""Documents, docstrings, comments and configuration name only what exists: files, sections, modules, targets."""

import ast
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.verification.model.table import NEEDED, TABLE

ROOT: Final = Path(__file__).parents[2]
TOP: Final = "roomkeys|store|worker|tests|benchmarks|docs|examples|deploy|requirements"

PLANNED: Final = ("roomkeys/sealer",)
"""Paths that documents may name although they do not exist yet."""

_CODE_BLOCK: Final = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_INLINE_CODE: Final = re.compile(r"`[^`]*`")
_HEADING: Final = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
_LINK: Final = re.compile(r"\]\(([^()\s]+)\)")
_PATH: Final = re.compile(rf"(?<![\w/.@-])(?:{TOP})/[\w./-]*")
_FILE_NAME: Final = re.compile(r"(?<![\w/.@*-])[\w-]+\.(?:py|md)\b")
_PAGE: Final = re.compile(r"(?<![\w/.@-])[\w/.-]+\.md\b")
_SECTION: Final = re.compile(r'(docs/\w+\.md),? (section|rule|invariant|item)s? (\w+)|(docs/\w+\.md),? "([^"]+)"')
_MODULE: Final = re.compile(r"python -m ((?:roomkeys|store|worker|tests|benchmarks)[\w.]*)")
_CODE: Final = re.compile(r"^```.*?^```|^    [^\n]*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_TARGET: Final = re.compile(r"(?:^ *|`)(?:[A-Z_]+=\S+ )*make ([a-z][\w-]*)", re.MULTILINE)


@cache
def tracked() -> frozenset[str]:
    """Return the tracked files and their folders."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout")
    files = [name for name in listed.stdout.split("\0") if name]
    folders = {str(folder) for name in files for folder in Path(name).parents}
    return frozenset(files) | folders


def files(suffix: str) -> list[Path]:
    return sorted(ROOT / name for name in tracked() if name.endswith(suffix) and (ROOT / name).is_file())


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def exists(mention: str) -> bool:
    return mention in tracked() or mention.startswith(PLANNED)


def comments(path: Path) -> str:
    """Return the docstrings and comments of a Python file, each on one line."""
    with tokenize.open(path) as file:
        source = file.read()
    texts = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    block: list[str] = []
    for line in source.splitlines():
        before, mark, comment = line.partition("#")
        if mark and not before.strip():
            block.append(comment)
            continue
        texts.append(" ".join(block))
        block = []
        if mark and before.endswith("  "):
            texts.append(comment)
    return "\n".join(" ".join(text.split()) for text in texts)


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every document and configuration file, and the docstrings and comments of every Python file."""
    for suffix in (".md", ".yaml", ".yml", ".toml", ".go", ".mjs", "Makefile", "Dockerfile"):
        for path in files(suffix):
            yield path, path.read_text()
    for path in files(".py"):
        if path != Path(__file__):
            yield path, comments(path)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_CODE_BLOCK.sub("", page.read_text())):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        numbered = (f"{slug}-{number}" for number in range(1, len(found) + 2))
        found.add(slug if slug not in found else next(one for one in numbered if one not in found))
    return frozenset(found)


def has_section(page: Path, kind: str, name: str) -> bool:
    """Tell whether a page has a section, rule, invariant or item of this number or letter, or a heading."""
    text = page.read_text()
    match kind:
        case "section":
            return re.search(rf"^## {name}\. ", text, re.MULTILINE) is not None
        case "rule":
            return f"- **{name}.** " in text
        case "invariant" | "item":
            return re.search(rf"^{name}\. ", text, re.MULTILINE) is not None
        case _:
            headings = [re.sub(r" \*\(planned\)\*$", "", heading) for heading in _HEADING.findall(text)]
            return name in headings or f"- **{name}.** " in text


def test_links_lead_to_tracked_files_and_their_headings() -> None:
    wrong: list[str] = []
    for page in files(".md"):
        text = _INLINE_CODE.sub("", _CODE_BLOCK.sub("", page.read_text()))
        for link in _LINK.findall(text):
            if "://" in link or link.startswith("mailto:"):
                continue
            target, _, anchor = link.partition("#")
            aim = (page.parent / target).resolve() if target else page
            if named(aim) not in tracked() or (anchor and anchor not in anchors(aim)):
                wrong.append(f"{named(page)}: {link}")
    assert not wrong, "\n".join(wrong)


def test_paths_in_texts_are_tracked() -> None:
    wrong: list[str] = []
    for path, text in texts():
        for mention in _PATH.findall(text):
            plain = mention.rstrip("./-")
            beside = named(path.parent / plain)
            if not exists(plain) and beside not in tracked():
                wrong.append(f"{named(path)}: {mention}")
    assert not wrong, "\n".join(wrong)


def test_file_names_in_texts_are_tracked() -> None:
    names = {Path(name).name for name in tracked()}
    wrong = [
        f"{named(path)}: {name}" for path, text in texts() for name in _FILE_NAME.findall(text) if name not in names
    ]
    assert not wrong, "\n".join(wrong)


def test_page_names_in_code_include_their_folder() -> None:
    wrong = [
        f"{named(path)}: {page}"
        for path in files(".py")
        if path != Path(__file__)
        for page in _PAGE.findall(comments(path))
        if page not in tracked()
    ]
    assert not wrong, "\n".join(wrong)


def test_sections_that_texts_name_exist() -> None:
    wrong: list[str] = []
    for path, text in texts():
        for page, kind, name, titled, title in _SECTION.findall(" ".join(text.split())):
            aim = ROOT / (page or titled)
            if aim.is_file() and not has_section(aim, kind, name or title):
                wrong.append(f"{named(path)}: {page or titled}, {kind} {name or title}")
    assert not wrong, "\n".join(wrong)


def test_modules_that_texts_run_exist() -> None:
    wrong: list[str] = []
    for path, text in texts():
        for module in _MODULE.findall(text):
            path_of_module = module.rstrip(".").replace(".", "/")
            if not {f"{path_of_module}.py", f"{path_of_module}/__main__.py"} & tracked():
                wrong.append(f"{named(path)}: python -m {module}")
    assert not wrong, "\n".join(wrong)


def test_make_targets_that_texts_name_exist() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = [
        f"{named(path)}: make {name}"
        for path, text in texts()
        for code in _CODE.findall(text)
        for name in _TARGET.findall(code)
        if name not in targets
    ]
    assert not wrong, "\n".join(wrong)


def test_the_index_lists_every_decision_record() -> None:
    folder = ROOT / "docs" / "adr"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("0*.md"))


def test_the_reliability_page_counts_the_rules_of_the_model() -> None:
    text = " ".join((ROOT / "docs" / "reliability.md").read_text().split())
    assert f"The protocol has {len(TABLE)} rules. For {len(NEEDED)} of them" in text


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("What must always hold", "what-must-always-hold"),
        (
            "6. Requests (core NATS request/reply, a NATS micro service named `room-keys`)",
            "6-requests-core-nats-requestreply-a-nats-micro-service-named-room-keys",
        ),
        ("Blame *(planned)*", "blame-planned"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# {heading}\n")
    assert anchors(page) == {anchor}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see `worker/gone.py`.", ["worker/gone.py"]),
        ("tests/harness, and docs/adr/0001-x.md", ["tests/harness", "docs/adr/0001-x.md"]),
        ("other/docs/x, my-docs/x and roomkeys.client", []),
    ],
)
def test_paths_are_found_in_prose_and_code(text: str, found: list[str]) -> None:
    assert [path.rstrip("./") for path in _PATH.findall(text)] == found


@pytest.mark.parametrize(
    ("kind", "name"), [("section", "11"), ("rule", "z"), ("invariant", "11"), ("item", "99"), ("", "The ark")]
)
def test_sections_that_do_not_exist_are_not_found(kind: str, name: str) -> None:
    page = {"section": "contract.md", "item": "pitfalls.md"}.get(kind, "design.md")
    assert not has_section(ROOT / "docs" / page, kind, name)
