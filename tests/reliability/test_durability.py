"""Power loss, by the book: what a power cut may take is what was not synced when it came.

Every call that writing a vault makes is noted, and from it which files and which names in folders
are not yet durable. Nothing may be announced (a vault's name, a commit, the manifest) while
anything it speaks of could still vanish.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from io_layer import Call, io_layer
from stand_in import World

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Volatile:
    """Files and folders whose contents a power cut could still take."""

    dirty: set[str] = field(default_factory=set)
    commits: int = 0
    manifests: int = 0
    plans: int = 0

    def note(
        self, call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        self._check_announcement(call)
        result = function(*args, **kwargs)
        if call.name in ("link", "rename", "replace"):
            self._move(call)
        elif call.name == "fsync":
            self.dirty.discard(call.path)
        elif call.name in ("create", "write", "writev"):
            self.dirty |= {call.path}
        if call.name in ("create", "mkdir", "unlink", "rmdir"):
            self.dirty.add(str(Path(call.path).parent))
        if call.name in ("unlink", "rmdir"):
            self.dirty.discard(call.path)
        return result

    def _move(self, call: Call) -> None:
        below = {path for path in self.dirty if path == call.path or _is_below(path, call.path)}
        self.dirty |= {call.target + path.removeprefix(call.path) for path in below}
        self.dirty.add(str(Path(call.target).parent))
        if call.name != "link":
            self.dirty -= below
            self.dirty.add(str(Path(call.path).parent))

    def _check_announcement(self, call: Call) -> None:
        target = Path(call.target)
        if call.name == "rename" and target.name == "v":
            self.plans += 1
            assert not [path for path in self.dirty if _is_below(path, call.path)]
            assert call.path not in self.dirty
        elif call.name == "link" and target.suffix == ".json":
            self.commits += target.parent.name == "commits"
            self.manifests += target.name == "manifest.json"
            assert call.path not in self.dirty
            vault = str(target.parents[target.parent.name == "commits"])
            # The vault's own folder holds the name .partial, whose loss would be none.
            assert not {p for p in self.dirty if _is_below(p, vault) and ".partial" not in p}


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def test_nothing_is_announced_before_it_is_durable(tmp_path: Path) -> None:
    volatile = Volatile()
    world = World()
    with io_layer(tmp_path, volatile.note), world.open_writer(tmp_path / "v") as writer:
        assert not {p for p in volatile.dirty if ".planning-" not in p}
        world.write_pending(writer)
        units = len(writer.units)
        writer.finish()
    assert (volatile.plans, volatile.commits, volatile.manifests) == (1, units, 1)
    left = {path for path in volatile.dirty if ".partial" not in path}
    assert left <= {str(tmp_path / "v")}  # where the name .partial was removed
