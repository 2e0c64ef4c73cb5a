"""Pages of BertViz 1.4.1 to measure against: installed into a scratch folder, served from there.

BertViz is no dependency of this project. Its pages load require.js, d3 and jQuery from a network;
here they come from the npm packages of the same versions (jQuery 2.1.0: npm has no 2.0.0), and only
their addresses are changed in what BertViz wrote.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

PINNED = "bertviz==1.4.1"
LIBRARIES = ("requirejs@2.3.6", "d3@5.7.0", "jquery@2.1.0")
NETWORK = "https://cdnjs.cloudflare.com/ajax/libs"
MOVED = {
    f"{NETWORK}/require.js/2.3.6/require.min.js": "/node_modules/requirejs/require.js",
    f"{NETWORK}/d3/5.7.0/d3.min": "/node_modules/d3/dist/d3.min",
    f"{NETWORK}/jquery/2.0.0/jquery.min": "/node_modules/jquery/dist/jquery.min",
}

MAKE = """
import sys
import numpy as np
import torch
from bertviz import head_view, model_view

folder, view, out = sys.argv[1:]
arrays = np.load(folder)
tokens = arrays["tokens"].tolist()
maps = [torch.from_numpy(one)[None] for one in arrays["attention"].astype("float32")]
if view == "neuron":
    from bertviz import neuron_view

    neuron_view.get_attention = lambda *args, **kwargs: {
        "all": {
            "attn": [one[0].tolist() for one in maps],
            "left_text": tokens,
            "right_text": tokens,
            "queries": arrays["query"].astype("float32").tolist(),
            "keys": arrays["key"].astype("float32").tolist(),
        }
    }
    page = neuron_view.show(None, "bert", None, "text", html_action="return", layer=0, head=0)
else:
    show = {"heads": head_view, "model": model_view}[view]
    page = show(maps, tokens, html_action="return")
with open(out, "w", encoding="utf-8") as file:
    file.write("<!doctype html><meta charset=utf-8><body>" + page.data)
"""
"""Run beside BertViz: its own functions, given our arrays. Its neuron view asks a model that it
brings along for attention, queries and keys; it is handed those of the same arrays instead."""


class BertViz:
    """BertViz in a scratch folder.

    Args:
        folder: empty; what is installed and made goes there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder / "python")]
        subprocess.run([*pip, "--no-deps", PINNED], check=True)
        subprocess.run([*pip, "ipython"], check=True)
        subprocess.run(
            ["npm", "install", "--silent", "--no-save", "--prefix", str(folder), *LIBRARIES],
            check=True,
        )

    def make(self, view: str, tokens: list[str], arrays: dict[str, Any]) -> str:
        """Write the page of one view of one example; returns its path on :meth:`served`.

        Args:
            view: heads, model or neuron.
            tokens: of the example.
            arrays: attention ``(layer, head, query_token, key_token)``, query and key
                ``(layer, head, token, dimension)``.
        """
        data = self._folder / "arrays.npz"
        np.savez(data, tokens=np.array(tokens), **arrays)
        name = f"{view}-{len(tokens)}.html"
        path = [str(self._folder / "python")]
        code = f"import sys; sys.path[:0] = {path!r}\n{MAKE}"
        page = self._folder / name
        subprocess.run([sys.executable, "-c", code, str(data), view, str(page)], check=True)
        text = page.read_text(encoding="utf-8")
        for there, here in MOVED.items():
            text = text.replace(there, here)
        page.write_text(text, encoding="utf-8")
        return f"/{name}"

    @contextmanager
    def served(self) -> Iterator[str]:
        """Origin of a loopback server of the pages."""
        handler = partial(_Quiet, directory=str(self._folder))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass
