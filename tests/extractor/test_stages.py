"""Models in stages: layers that attend to all tokens of their own stage are kept, by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import qkvault
from extractor.feature_families import FAMILIES
from extractor.feature_models import make_arrays
from qkvault import InputError
from qkvault_extractor import FeatureOptions, Features, extract_features


@pytest.mark.parametrize("family", ["swin", "swinv2"])
def test_layers_that_attend_to_all_of_their_stage_are_kept(family: str, tmp_path: Path) -> None:
    """As in released Swins: windows of 7 x 7, as large as the last stage."""
    sizes = {"image_size": 56, "patch_size": 2, "window_size": 7, "embed_dim": 8}
    made = FAMILIES[family]._replace(
        settings={**sizes, "depths": [1, 2, 2], "num_heads": [2, 2, 4]}, shape=(3, 56, 56)
    )
    model, arrays = made.make(), make_arrays((3, 56, 56))
    options = FeatureOptions(model, tmp_path / "v", precision="float32")
    extract_features(options, [Features(values) for values in arrays])
    vault = qkvault.open(tmp_path / "v")
    (stack,) = vault.spec.stacks
    assert stack.layers == (3, 4)
    left_out = vault.spec.provenance["left_out"]
    assert isinstance(left_out, list)
    places = [str(name).partition(".attention")[0] for name in left_out]
    assert places == [
        f"encoder.layers.{place}" for place in ("0.blocks.0", "1.blocks.0", "1.blocks.1")
    ]
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        output = model(torch.from_numpy(np.stack(arrays)), output_attentions=True)
    assert len(output.attentions) == 3, "one layer of each stage was to be reported"
    hooked = made.own_stacks(model, arrays)["encoder"]
    for row, example in enumerate(vault):
        assert example.tokens == tuple(f"patch {y},{x}" for y in range(7) for x in range(7))
        stored = example.attention[:, :]  # (layer, head, query_token, key_token)
        assert np.array_equal(stored, hooked[row])
        assert np.array_equal(stored[-1], output.attentions[-1][row].numpy())
        assert np.abs(stored[0] - stored[1]).max() > 0.01


def test_what_is_reported_of_one_layer_has_to_be_among_what_is_kept(tmp_path: Path) -> None:
    made = FAMILIES["swin"]
    model = made.make()

    def report_another(
        module: object, given: object, output: tuple[torch.Tensor, torch.Tensor | None]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return output[0], None if output[1] is None else output[1].flip(-1)

    model.encoder.layers[-1].blocks[-1].attention.register_forward_hook(report_another)
    with pytest.raises(InputError, match="captured attention differs from its own by"):
        extract_features(
            FeatureOptions(model, tmp_path / "v"),
            [Features(values) for values in make_arrays(made.shape)],
        )
