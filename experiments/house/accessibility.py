"""Pages looked at by axe-core in headless Chromium: at desk and phone width, light and dark.

    python -m experiments.house.accessibility site/*.html demo/report.html

axe-core comes from npm (`npm pack`), or from a file (`--axe axe.min.js`). Exits with 1 where a finding is serious or critical.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

VERSION = "4.14.1"
WIDTHS = {"desk": "1280,1000", "phone": "390,900"}
SCHEMES = {"light": ("not all", "all"), "dark": ("all", "not all")}
"""What stands in a copy for the media queries of a dark and of a light scheme."""
GRAVE = ("serious", "critical")
RUN = """<script>{axe}</script><script>addEventListener("load", () => setTimeout(() => axe.run().then(found => {{
  const box = document.createElement("pre"); box.id = "axe-found";
  box.textContent = JSON.stringify(found.violations.map(one => ({{id: one.id, impact: one.impact, help: one.help,
    nodes: one.nodes.map(node => node.target.join(" ") + "  " + (node.any[0]?.message ?? ""))}})));
  document.body.append(box); }}), 300));</script>"""


def axe_source(given: Path | None, folder: Path) -> str:
    """axe-core's script: a file of it, or npm's."""
    if given is None:
        subprocess.run(
            ["npm", "pack", "--silent", f"axe-core@{VERSION}"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        with tarfile.open(folder / f"axe-core-{VERSION}.tgz") as packed:
            packed.extract("package/axe.min.js", folder, filter="data")
        given = folder / "package" / "axe.min.js"
    return given.read_text(encoding="utf-8").replace("</script", "<\\/script")


def findings(page: Path, width: str, folder: Path) -> list[dict[str, Any]]:
    """What axe finds on a page that runs it itself."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += [
        f"--user-data-dir={folder / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--window-size={width}",
    ]
    command += ["--virtual-time-budget=20000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = re.search(r'<pre id="axe-found">(.*?)</pre>', done.stdout, re.DOTALL)
    if not found:
        raise SystemExit(f"{page}: axe did not end")
    return json.loads(html.unescape(found[1]))


def dressed(source: Path, copy: Path, scheme: str, axe: str, pages: set[str]) -> None:
    """A copy of a folder in one colour scheme, whose chosen pages run axe."""
    dark, light = SCHEMES[scheme]
    shutil.copytree(source, copy)
    for path in copy.rglob("*"):
        if path.suffix in (".html", ".css", ".js") and path.is_file():
            text = path.read_text(encoding="utf-8")
            for name, query in (("dark", dark), ("light", light)):
                text = re.sub(rf"\(prefers-color-scheme:\s*{name}\)", query, text)
            if path.parent == copy and path.name in pages:
                text = text.replace("</body>", RUN.format(axe=axe) + "</body>")
            path.write_text(text, encoding="utf-8")


def main() -> None:
    """Look at every page in every dress, print what is found, and record the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--axe", type=Path)
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    by_folder: dict[Path, set[str]] = {}
    for page in given.pages:
        by_folder.setdefault(page.resolve().parent, set()).add(page.name)
    counts: Counter[str] = Counter()
    told: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        axe = axe_source(given.axe, Path(place))
        for number, (folder, pages) in enumerate(by_folder.items()):
            for scheme in SCHEMES:
                copy = Path(place) / f"{number}-{scheme}"
                dressed(folder, copy, scheme, axe, pages)
                for name in sorted(pages):
                    for width, size in WIDTHS.items():
                        counts["looks"] += 1
                        for one in findings(copy / name, size, Path(place)):
                            counts[one["impact"]] += 1
                            told.setdefault(f"{one['impact']}: {one['id']}: {one['help']}", {})[
                                f"{name} {scheme} {width}"
                            ] = one["nodes"][:3]
    for what, where in sorted(told.items()):
        print(what)
        for place_, nodes in list(where.items())[:4]:
            print(f"  {place_}: {nodes}")
    if given.record:
        lasting = {
            "axe-core": VERSION,
            "pages": len(given.pages),
            "counts": dict(counts),
            "findings": {k: len(v) for k, v in told.items()},
        }
        given.record.write_text(json.dumps(lasting, indent=1) + "\n", encoding="utf-8")
    print(dict(counts))
    sys.exit(any(counts[impact] for impact in GRAVE))


if __name__ == "__main__":
    main()
