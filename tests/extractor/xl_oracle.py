"""Transformer-XL in numpy, straight from the paper: segments, memories, a pair of tokens at a time.

Nothing here is shared with what it is to judge: float64, no batch, no mask, no shift; distances are
looked up one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass
class Found:
    """What came of a text: per layer."""

    attention: list[Array] = field(default_factory=list)  # (head, query_token, key_token)
    query: list[Array] = field(default_factory=list)  # (head, token, dim), with the content bias


class Oracle:
    """One model: weights by their checkpoint's names, settings by ``config.json``'s."""

    def __init__(self, weights: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.weights = {
            name.removeprefix("transformer."): np.asarray(value, np.float64)
            for name, value in weights.items()
        }

    def run(self, ids: list[int]) -> Found:
        """Run a text in segments; the memory of the first is empty."""
        s, tokens = self.settings, len(ids)
        found = Found(
            [np.zeros((s["n_head"], tokens, tokens)) for _ in range(s["n_layer"])],
            [np.zeros((s["n_head"], tokens, s["d_head"])) for _ in range(s["n_layer"])],
        )
        memory: list[list[Array]] = [[] for _ in range(s["n_layer"])]
        for start in range(0, tokens, s["tgt_len"]):
            hidden = [self.embed(i) for i in ids[start : start + s["tgt_len"]]]
            for layer in range(s["n_layer"]):
                before = memory[layer]
                memory[layer] = [*before, *hidden][-s["mem_len"] :] if s["mem_len"] else []
                hidden = self.layer(layer, before, hidden, start, found)
        return found

    def embed(self, word: int) -> Array:
        """Embed a word."""
        s, start = self.settings, 0
        ends = [*s["cutoffs"], s["vocab_size"]] if s["div_val"] > 1 else [s["vocab_size"]]
        for cluster, end in enumerate(ends):
            if word < end:
                vector = self.weights[f"word_emb.emb_layers.{cluster}.weight"][word - start]
                projection = self.weights.get(f"word_emb.emb_projs.{cluster}")
                if projection is not None:
                    vector = projection @ vector
                return np.asarray(vector * np.sqrt(s["d_model"]))
            start = end
        raise AssertionError(word)

    def layer(
        self, layer: int, memory: list[Array], hidden: list[Array], start: int, found: Found
    ) -> list[Array]:
        """Run a segment through a layer; fill in what is found."""
        attended = self.attend(layer, memory, hidden, start, found)
        name, out = f"layers.{layer}.pos_ff", []
        for vector in attended:
            given = self.norm(name, vector) if self.settings["pre_lnorm"] else vector
            inner = self.weights[f"{name}.CoreNet.0.weight"] @ given
            inner = np.maximum(inner + self.weights[f"{name}.CoreNet.0.bias"], 0)
            outer = self.weights[f"{name}.CoreNet.3.weight"] @ inner
            total = vector + outer + self.weights[f"{name}.CoreNet.3.bias"]
            out.append(total if self.settings["pre_lnorm"] else self.norm(name, total))
        return out

    def attend(
        self, layer: int, memory: list[Array], hidden: list[Array], start: int, found: Found
    ) -> list[Array]:
        """Attention of one segment over its memory and itself."""
        s, name = self.settings, f"layers.{layer}.dec_attn"
        seen = [*memory, *hidden]
        given = [self.norm(name, v) for v in seen] if s["pre_lnorm"] else seen
        shape = (s["n_head"], s["d_head"])
        wide = [self.weights[f"{name}.qkv_net.weight"] @ v for v in given]
        query, key, value = (
            [np.split(v, 3)[part].reshape(shape) for v in wide] for part in range(3)
        )
        out = []
        for i, vector in enumerate(hidden):
            own = len(memory) + i
            mixed = np.zeros(shape)
            for head in range(s["n_head"]):
                keys = [j for j in range(own + 1) if not s["same_length"] or own - j < s["mem_len"]]
                scores = [
                    self.score(name, head, query[own][head], key[j][head], own - j) for j in keys
                ]
                weights = np.exp(np.array(scores) - max(scores))
                weights /= weights.sum()
                for weight, j in zip(weights, keys, strict=True):
                    found.attention[layer][head, start + i, start - len(memory) + j] = weight
                    mixed[head] += weight * value[j][head]
                bias = self.bias(name, "r_w_bias")[head]
                found.query[layer][head, start + i] = query[own][head] + bias
            total = vector + self.weights[f"{name}.o_net.weight"] @ mixed.reshape(-1)
            out.append(total if s["pre_lnorm"] else self.norm(name, total))
        return out

    def score(self, name: str, head: int, query: Array, key: Array, distance: int) -> float:
        """The four terms of section 3.3, (a) + (c) and (b) + (d), scaled."""
        s = self.settings
        if s["clamp_len"] > 0:
            distance = min(distance, s["clamp_len"])
        angles = [distance / 10000 ** (2 * i / s["d_model"]) for i in range(s["d_model"] // 2)]
        code = np.concatenate([np.sin(angles), np.cos(angles)])
        rows = slice(head * s["d_head"], (head + 1) * s["d_head"])
        position = self.weights[f"{name}.r_net.weight"][rows] @ code
        content = (query + self.bias(name, "r_w_bias")[head]) @ key
        by_place = (query + self.bias(name, "r_r_bias")[head]) @ position
        return float((content + by_place) / np.sqrt(s["d_head"]))

    def bias(self, name: str, which: str) -> Array:
        """A bias of the layer, or the one all share."""
        return self.weights[f"{name}.{which}" if self.settings["untie_r"] else which]

    def norm(self, name: str, vector: Array) -> Array:
        """Normalise a vector (Ba et al. 2016)."""
        scale = self.weights[f"{name}.layer_norm.weight"]
        centred = vector - vector.mean()
        return np.asarray(
            centred / np.sqrt((centred**2).mean() + 1e-5) * scale
            + self.weights[f"{name}.layer_norm.bias"]
        )
