"""The site's own steps: a page for each method, and the docstrings of all public names.

`methods/<name>.md` is the README of the method's folder; in `api.md` every name of the tables that
`pages.py` makes is followed, below its section, by its whole docstring.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

FOLDERS = Path(__file__).parents[1] / "src" / "spikeloom" / "methods"
_NAME = re.compile(r"^\| `(spikeloom[\w.]+)` \|", re.MULTILINE)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the README of each method as a page, and the pages to the navigation."""
    pages = []
    for readme in sorted(FOLDERS.glob("*/README.md")):
        page = f"methods/{readme.parent.name}.md"
        files.append(File.generated(config, page, content=readme.read_text("utf-8")))
        pages.append(page)
    for section in config["nav"]:
        for entries in section.values() if isinstance(section, dict) else ():
            if "methods.md" in entries:
                after = entries.index("methods.md") + 1
                entries[after:after] = pages
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri == "methods.md":
        return re.sub(r"\.\./src/spikeloom/methods/(\w+)/README\.md", r"methods/\1.md", markdown)
    if page.file.src_uri != "api.md":
        return markdown
    sections = re.split(r"(?m)^(?=## )", markdown)
    return "\n".join(
        section + "".join(f"\n::: {name}\n" for name in _NAME.findall(section))
        for section in sections
    )
