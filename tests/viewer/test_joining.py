"""The page's modules and styles are sent as one file each, and mean the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from qkvault_viewer.app import STATIC
from qkvault_viewer.joining import ENTRIES, join_modules, join_styles

if TYPE_CHECKING:
    from pathlib import Path

    from asking import Asker

MODULES = {
    "js/main.js": """import { twice, THREE as three } from "./parts/twice.js";
import {
  Box,
} from "./box.js";

const name = "main";
new Box(4).get().then((got) => console.log(name, twice(three), got));
""",
    "js/parts/twice.js": """import { name } from "../name.js";

export const THREE = 3;
/** import { nothing } from "nowhere" */
export function twice(number) {
  return `${name} ${2 * number}`;
}
""",
    "js/box.js": """import { name } from "./name.js";

export class Box {
  constructor(value) { this.value = value; }
  async get() { return `${name} ${await later(this.value)}`; }
}

export async function later(value) {
  return value;
}
""",
    "js/name.js": 'console.log("name runs once");\nexport const name = "shared";\n',
}


def run(source: str, folder: Path) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    path = folder / "joined.mjs"
    path.write_text(source, encoding="utf-8")
    return subprocess.run([node, str(path)], capture_output=True, text=True, check=True).stdout


def test_joined_modules_do_what_they_did(tmp_path: Path) -> None:
    said = run(join_modules("js/main.js", MODULES.__getitem__), tmp_path)
    assert said == "name runs once\nmain shared 6 shared 4\n"


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("js/name.js", 'import { Box } from "./box.js";\nexport const name = "x";\n', "circle"),
        ("js/name.js", "export default 1;\n", "cannot be joined"),
        ("js/name.js", 'import * as all from "./x.js";\n', "cannot be joined"),
        ("js/name.js", "const name = 1;\nexport { name };\n", "cannot be joined"),
    ],
)
def test_what_cannot_be_joined_is_refused(path: str, source: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        join_modules("js/box.js", {**MODULES, path: source}.__getitem__)


def test_styles_are_put_in_place() -> None:
    files = {"css/page.css": '@import "a.css";\n@import "b.css";\np { }\n', "css/a.css": "a\n"}
    assert join_styles("css/page.css", {**files, "css/b.css": "b\n"}.__getitem__) == "a\nb\np { }\n"


def test_the_page_gets_every_module_and_style_it_uses(asker: Asker) -> None:
    sent = {entry: asker.get(f"/static/{entry}") for entry in ENTRIES}
    for answer in sent.values():
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-cache"
        assert not re.search(r"^(?:import|export|@import)\b", answer.text, re.MULTILINE)
    modules = sent["js/main.js"].text
    known = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("js/**/*.js")}
    joined = set(re.findall(r"^// (js/\S+)$", modules, re.MULTILINE))
    assert joined == known - {"js/theme.js", "js/lineworker.js"}
    for path in (STATIC / "css").glob("*.css"):
        if path.name != "page.css":
            assert path.read_text(encoding="utf-8") in sent["css/page.css"].text
    tag = sent["js/main.js"].headers["ETag"]
    assert asker.get("/static/js/main.js", If_None_Match=tag).status_code == 304


def test_a_source_that_changes_is_sent_anew(
    asker: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qkvault_viewer.app.STATIC", tmp_path)
    (tmp_path / "js").mkdir()
    main = tmp_path / "js" / "main.js"
    main.write_text("const first = 1;\n")
    assert "first" in asker.get("/static/js/main.js").text
    main.write_text("const another = 2;\n")
    assert "another" in asker.get("/static/js/main.js").text
