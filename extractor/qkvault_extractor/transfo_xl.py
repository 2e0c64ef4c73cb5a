"""Transformer-XL, which transformers no longer offers, for checkpoints of its former class.

Written from Dai et al. 2019 (section 3.3 and appendix B); parameters and settings have the names
that they have in checkpoints. The paper runs a text in segments of ``tgt_len`` tokens, each with a
memory of the hidden states of up to ``mem_len`` tokens before it, layer by layer. Memories are not
computed anew, and positions count as distances only. So a layer gives the same over a whole text at
once, if each token is shown the tokens of its segment up to itself and those of its segment's
memory: attention then stands on the text's own tokens, and a long text's map is a band.

A text begins without memory, as in the paper; nothing is attended to but its tokens. (The former
class began with a memory of zeros, to which attention goes too.)
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


@cache
def register() -> None:
    """Let transformers' ``Auto`` classes load checkpoints of type ``transfo-xl``."""
    AutoConfig.register("transfo-xl", TransfoXLConfig)
    AutoModel.register(TransfoXLConfig, TransfoXLModel)


class TransfoXLConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Settings of a Transformer-XL, by the names of its checkpoints' ``config.json``.

    Args:
        vocab_size, cutoffs, div_val: words; where the vocabulary is cut into clusters, and by what
            their embeddings get narrower from one to the next (adaptive embeddings).
        d_model, d_embed, d_head, d_inner, n_head, n_layer: widths and numbers.
        tgt_len, mem_len: tokens of a segment and of its memory.
        clamp_len: distances above count as this one; none does if it is not positive.
        same_length: show every token as many before it, ``mem_len`` with itself.
        pre_lnorm: normalise before attention and feed-forward layers, not after.
        untie_r: layers have biases of positions of their own.
        layer_norm_epsilon, init_std, pad_token_id: as elsewhere.
    """

    model_type = "transfo-xl"
    attribute_map = {  # noqa: RUF012  # as transformers has it
        "n_token": "vocab_size",
        "hidden_size": "d_model",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    def __init__(
        self,
        vocab_size: int = 267735,
        cutoffs: tuple[int, ...] = (20000, 40000, 200000),
        d_model: int = 1024,
        d_embed: int = 1024,
        n_head: int = 16,
        d_head: int = 64,
        d_inner: int = 4096,
        div_val: int = 4,
        n_layer: int = 18,
        tgt_len: int = 128,
        mem_len: int = 1600,
        clamp_len: int = 1000,
        same_length: bool = True,
        pre_lnorm: bool = False,
        untie_r: bool = True,
        attn_type: int = 0,
        layer_norm_epsilon: float = 1e-5,
        init_std: float = 0.02,
        pad_token_id: int | None = None,
        **other: Any,
    ) -> None:
        if attn_type != 0:
            raise ValueError(f"attn_type {attn_type} is not that of Transformer-XL, which is 0")
        self.vocab_size = vocab_size
        self.cutoffs = list(cutoffs)
        self.d_model = d_model
        self.d_embed = d_embed
        self.n_head = n_head
        self.d_head = d_head
        self.d_inner = d_inner
        self.div_val = div_val
        self.n_layer = n_layer
        self.tgt_len = tgt_len
        self.mem_len = mem_len
        self.clamp_len = clamp_len
        self.same_length = same_length
        self.pre_lnorm = pre_lnorm
        self.untie_r = untie_r
        self.attn_type = attn_type
        self.layer_norm_epsilon = layer_norm_epsilon
        self.init_std = init_std
        self.pad_token_id = pad_token_id
        super().__init__(**other)


class AdaptiveEmbedding(nn.Module):
    """Embeddings whose width falls with the words' rank (Baevski and Auli 2019), made one width."""

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__()
        self.ends = [*config.cutoffs, config.vocab_size] if config.div_val > 1 else []
        self.ends = self.ends or [config.vocab_size]
        self.scale = config.d_model**0.5
        widths = [config.d_embed // config.div_val**i for i in range(len(self.ends))]
        sizes = [end - start for start, end in zip([0, *self.ends], self.ends, strict=False)]
        self.emb_layers = nn.ModuleList(map(nn.Embedding, sizes, widths))
        projects = config.div_val > 1 or config.d_embed != config.d_model
        projections = [nn.Parameter(torch.empty(config.d_model, w)) for w in widths]
        self.emb_projs = nn.ParameterList(projections if projects else [])

    def forward(self, ids: Tensor) -> Tensor:
        """Embed ids, ``(example, token)``, as ``(example, token, d_model)``."""
        words: Tensor | None = None
        start = 0
        for i, (end, layer) in enumerate(zip(self.ends, self.emb_layers, strict=True)):
            here = (ids >= start) & (ids < end)
            part = layer(torch.where(here, ids - start, 0))
            if self.emb_projs:
                part = nn.functional.linear(part, self.emb_projs[i])
            part = part * here[..., None]
            words = part if words is None else words + part
            start = end
        assert words is not None
        return words * self.scale  # type: ignore[no-any-return]


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    position_bias: Tensor,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attention as a matrix: its output ``(example, token, head, dim)``, and its weights."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling + position_bias + attention_mask
    weights = torch.softmax(scores, -1)
    return torch.matmul(weights, value).transpose(1, 2), weights


def shift_relative(scores: Tensor) -> Tensor:
    """Turn scores by distance into scores by key (appendix B).

    Args:
        scores: ``(..., query_token, place)``; place ``p`` of S is the distance ``S - 1 - p``.

    Returns:
        ``(..., query_token, key_token)``; keys behind the query hold anything.
    """
    *before, tokens, _ = scores.shape
    padded = nn.functional.pad(scores, (1, 0)).reshape(*before, tokens + 1, tokens)
    return padded[..., 1:, :]


class TransfoXLAttention(nn.Module):
    """Relative multi-head attention, with its residual and normalisation."""

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__()
        self.config = config
        width = config.n_head * config.d_head
        self.qkv_net = nn.Linear(config.d_model, 3 * width, bias=False)
        self.r_net = nn.Linear(config.d_model, width, bias=False)
        self.o_net = nn.Linear(width, config.d_model, bias=False)
        self.layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        if config.untie_r:
            self.r_w_bias = nn.Parameter(torch.empty(config.n_head, config.d_head))
            self.r_r_bias = nn.Parameter(torch.empty(config.n_head, config.d_head))

    def forward(
        self, hidden: Tensor, positions: Tensor, mask: Tensor, biases: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            hidden: ``(example, token, d_model)``.
            positions: sinusoids of distances S - 1 down to 0, ``(distance, d_model)``.
            mask: additive, ``(1, 1, query_token, key_token)``.
            biases: of content and of position, where layers share them.
        """
        examples, tokens, _ = hidden.shape
        shape = (self.config.n_head, self.config.d_head)
        content, position = biases or (self.r_w_bias, self.r_r_bias)  # u and v of section 3.3
        given = self.layer_norm(hidden) if self.config.pre_lnorm else hidden
        query, key, value = (
            part.view(examples, tokens, *shape) for part in self.qkv_net(given).chunk(3, -1)
        )
        distance = self.r_net(positions).view(tokens, *shape)
        scaling = self.config.d_head**-0.5
        by_distance = torch.einsum("bihd,rhd->bhir", query + position, distance)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        found, weights = attend(
            self,
            (query + content).transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            mask,
            scaling=scaling,
            position_bias=shift_relative(by_distance) * scaling,
        )
        output = hidden + self.o_net(found.reshape(examples, tokens, -1))
        return output if self.config.pre_lnorm else self.layer_norm(output), weights


class TransfoXLFeedForward(nn.Module):
    """The two linear layers behind attention, with their residual and normalisation."""

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__()
        self.pre_lnorm = config.pre_lnorm
        inner = nn.Linear(config.d_model, config.d_inner)
        outer = nn.Linear(config.d_inner, config.d_model)
        # the checkpoints' numbers: places 2 and 4 are dropout
        self.CoreNet = nn.Sequential(inner, nn.ReLU(), nn.Identity(), outer)
        self.layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)

    def forward(self, hidden: Tensor) -> Tensor:
        """Give ``(example, token, d_model)``."""
        if self.pre_lnorm:
            return hidden + self.CoreNet(self.layer_norm(hidden))  # type: ignore[no-any-return]
        return self.layer_norm(hidden + self.CoreNet(hidden))  # type: ignore[no-any-return]


class TransfoXLLayer(nn.Module):
    """One layer."""

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__()
        self.dec_attn = TransfoXLAttention(config)
        self.pos_ff = TransfoXLFeedForward(config)

    def forward(self, hidden: Tensor, *given: Any) -> tuple[Tensor, Tensor | None]:
        """Give hidden states and attention; as :class:`TransfoXLAttention`."""
        hidden, weights = self.dec_attn(hidden, *given)
        return self.pos_ff(hidden), weights


class TransfoXLModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Transformer-XL without its head; see the module for how memories come about."""

    config_class = TransfoXLConfig
    base_model_prefix = "transformer"
    _supports_sdpa = True
    _keys_to_ignore_on_load_unexpected = {r"^crit\.", r"pos_emb\.inv_freq$"}  # noqa: RUF012
    loads_strictly = True
    config: TransfoXLConfig

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__(config)
        if not config.untie_r:  # checkpoints repeat the shared biases in every layer
            self._keys_to_ignore_on_load_unexpected |= {r"dec_attn\.r_[rw]_bias$"}
        self.word_emb = AdaptiveEmbedding(config)
        self.layers = nn.ModuleList(TransfoXLLayer(config) for _ in range(config.n_layer))
        if not config.untie_r:
            self.r_w_bias = nn.Parameter(torch.empty(config.n_head, config.d_head))
            self.r_r_bias = nn.Parameter(torch.empty(config.n_head, config.d_head))
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        for parameter in module.parameters(recurse=False):
            if isinstance(module, nn.LayerNorm):
                continue
            init.normal_(parameter, std=self.config.init_std)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool = False,
    ) -> BaseModelOutput:
        """Run texts, each from its first token on.

        Args:
            input_ids: ``(example, token)``, padded on the right: no token sees what is behind it,
                so padding needs no mask.
            attention_mask: not used.
            output_attentions: give attention too, where it is computed as a matrix.
        """
        hidden = self.word_emb(input_ids)
        tokens = input_ids.shape[1]
        positions = sinusoids(self.config, tokens, hidden)
        shown = visible(self.config, tokens, hidden.device)
        mask = torch.zeros_like(shown, dtype=hidden.dtype)
        mask = mask.masked_fill(~shown, torch.finfo(hidden.dtype).min)[None, None]
        biases = None if self.config.untie_r else (self.r_w_bias, self.r_r_bias)
        attentions = []
        for layer in self.layers:
            hidden, weights = layer(hidden, positions, mask, biases)
            attentions.append(weights)
        return BaseModelOutput(
            last_hidden_state=hidden, attentions=tuple(attentions) if output_attentions else None
        )


def sinusoids(config: TransfoXLConfig, tokens: int, like: Tensor) -> Tensor:
    """Encode distances ``tokens - 1`` down to 0, ``(distance, d_model)`` (Vaswani et al. 2017)."""
    distance = torch.arange(tokens - 1, -1, -1, device=like.device, dtype=torch.float32)
    if config.clamp_len > 0:
        distance = distance.clamp(max=config.clamp_len)
    places = torch.arange(0, config.d_model, 2, device=like.device, dtype=torch.float32)
    angles = distance[:, None] / 10000 ** (places / config.d_model)
    return torch.cat([angles.sin(), angles.cos()], -1).to(like.dtype)


def visible(config: TransfoXLConfig, tokens: int, device: torch.device) -> Tensor:
    """Which keys each token sees, bool ``(query_token, key_token)``.

    Those up to itself, from ``mem_len`` tokens before its segment on; with ``same_length``, no more
    than ``mem_len`` of them.
    """
    place = torch.arange(tokens, device=device)
    query, key = place[:, None], place
    first = query // config.tgt_len * config.tgt_len - config.mem_len
    shown = (key <= query) & (key >= first)
    if config.same_length and config.mem_len > 0:
        shown &= query - key < config.mem_len
    return shown
