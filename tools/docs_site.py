"""A hook of MkDocs: pages that live outside of docs/, and links that hold on a code host and in the site alike.

The README is the site's first page, and PROTOCOL.md stays beside the server that it describes. Every page links to
files by their place in the repository. Here such a link becomes one to the page that the file is in the site.

A page that would load something from another host is a warning, and so an error of a strict build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

# Place in the repository -> place in the site.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "LICENSE": "LICENSE.txt",
    "server/naught_server/PROTOCOL.md": "protocol.md",
    "examples/README.md": "examples.md",
    **{
        f"examples/{name}": f"examples/{name}"
        for name in ("fastapi_app.py", "flask_app.py", "job_queue.py", "process_pool.py", "test_seats.py")
    },
}
PLACES = {site: repository for repository, site in OUTSIDE.items()}

# Beside the first page the navigation would be empty, and the tables of the figures need the width.
HIDDEN = {"index.md": ["navigation"], "zeros-figures.md": ["toc"], "before-after.md": ["toc"]}

LINK = re.compile(r"(?<=\]\()(?P<path>[^)#:\s]+)(?=[)#])")

# What a browser loads by itself, unlike <a>. The theme fetches the program that draws a .mermaid block.
LOADS = re.compile(
    r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="(?:https?:)?//[^>]*>|class="mermaid"""
)

log = logging.getLogger("mkdocs.plugins.docs_site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that live outside of docs/."""
    root = Path(config.config_file_path).parent
    for repository, site in OUTSIDE.items():
        files.append(File.generated(config, site, abs_src_path=str(root / repository)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of one page to where the files are in the site. A strict build refuses those that are left."""
    here = page.file.src_uri
    page.meta["hide"] = HIDDEN.get(here, [])
    folder = posixpath.dirname(PLACES.get(here, f"docs/{here}"))

    def in_site(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found["path"]))
        place = OUTSIDE.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(place, posixpath.dirname(here) or ".")

    return LINK.sub(in_site, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Look at the finished page."""
    for found in LOADS.finditer(output):
        log.warning("%s loads from another host: %s", page.file.src_uri, found[0])
    return output
