"""Vaults of ready-made features: images and sounds, token by token what the model does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import qkvault
from extractor.feature_families import (
    FAMILIES,
    IMAGES,
    PYRAMID,
    REFUSED,
    SIZES,
    SOUNDS,
    WHISPER,
    WINDOWS,
)
from extractor.feature_models import make_arrays, make_model, own_attention, own_stacks
from extractor.models import tiny_bert
from qkvault import InputError, PlanMismatch
from qkvault_extractor import (
    ExtractOptions,
    FeatureOptions,
    Features,
    extract,
    extract_features,
    repair,
)
from qkvault_extractor.machine import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


FUSED = {"data2vecvision", "sam"}
"""Report no attention as they run by default: torch's fused function is what they are held to."""

NOT_DERIVED = {"beit", "data2vecvision", "sam", "swin", "swinv2", "w2vbert", "wavlm"}
"""Add what depends on rows and columns, or on what a token says."""

BIASED = {"the model adds a bias that depends on more than relative position"}


def as_features(arrays: Sequence[Any]) -> list[Features]:
    return [Features(values, f"e{place}") for place, values in enumerate(arrays)]


def store(model: Any, out: Path, inputs: Sequence[Features], **options: Any) -> qkvault.Vault:
    extract_features(FeatureOptions(model, out, **options), inputs)
    return qkvault.open(out)


def vit(labels: int = 0) -> Any:
    if not labels:
        return make_model("ViT", IMAGES)
    names = {number: f"class {number}" for number in range(labels)}
    return make_model("ViT", IMAGES, "ForImageClassification", id2label=names)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_the_models_own_and_tokens_have_honest_names(
    family: str, tmp_path: Path
) -> None:
    made = FAMILIES[family]
    model, arrays = made.make(), make_arrays(made.shape)
    inputs = [replace(one, arguments=made.arguments) for one in as_features(arrays)]
    vault = store(model, tmp_path / "v", inputs, precision="float32")
    own = made.own_stacks(model, arrays)
    assert own.keys() == {stack.name for stack in vault.spec.stacks}
    bound = 1e-6 if family in FUSED else 0.0
    for row, example in enumerate(vault):
        assert list(example.tokens) == list(made.names)
        assert example.special.tolist() == [name.startswith("[") for name in made.names]
        target = example.record.target
        assert (target.tokens if target else ()) == tuple(made.target)
        for stack, maps in own.items():
            stored = example.stack(stack).attention[:, :]
            assert np.abs(stored - maps[row]).max() <= bound
            assert maps[row].std() > 0.002, "too even to tell anything"
    reasons = {recipe.unknown for stack in vault.spec.stacks for recipe in stack.recipe}
    assert reasons == (BIASED if family in NOT_DERIVED else {None})


def test_sounds_have_as_many_frames_as_their_length_makes(tmp_path: Path) -> None:
    model = make_model("Wav2Vec2", SOUNDS)
    arrays = [make_arrays((400 + 7 * (i % 3),), 7)[i] for i in range(7)]
    vault = store(model, tmp_path / "v", as_features(arrays), precision="float32")
    alike = [[i for i in range(7) if i % 3 == kind] for kind in range(3)]
    for places in alike:
        own = own_attention(model, [arrays[i] for i in places])
        for i, theirs in zip(places, own, strict=True):
            count = int(model._get_feat_extract_output_lengths(len(arrays[i])))
            assert len(vault[i].tokens) == count
            assert np.array_equal(vault[i].attention[:, :], theirs)
    assert vault[0].length == vault[1].length, "two shapes of one length were to be told apart"


def test_patches_go_by_the_layout_that_comes_with_them(tmp_path: Path) -> None:
    made = FAMILIES["siglip2"]
    model, arrays = made.make(), make_arrays(made.shape, 4)
    layouts = [(2, 6), (3, 4), (2, 6), (3, 4)]
    given = [
        Features(values, f"e{n}", arguments={**made.arguments, "spatial_shapes": torch.tensor(one)})
        for n, (values, one) in enumerate(zip(arrays, layouts, strict=True))
    ]
    vault = store(model, tmp_path / "v", given, precision="float32")
    assert [example.tokens[-1] for example in vault] == ["patch 1,5", "patch 2,3"] * 2
    for example, values, one in zip(vault, arrays, layouts, strict=True):
        arguments = {**made.arguments, "spatial_shapes": one}
        (theirs,) = own_stacks(model, [values], arguments=arguments)["encoder"]
        assert np.abs(example.attention[:, :] - theirs).max() < 1e-6
    moved = [replace(one, arguments=given[0].arguments) for one in given]
    with pytest.raises(PlanMismatch, match="features"):
        extract_features(FeatureOptions(model, tmp_path / "v"), moved)


def test_classes_and_what_is_known_of_an_example_are_kept(tmp_path: Path) -> None:
    model = vit(labels=3)
    model.save_pretrained(tmp_path / "my-vit")
    arrays = make_arrays((3, 32, 32))
    inputs = [
        Features(torch.from_numpy(a), f"e{i}", f"picture {i}", f"class {i}", {"source": "camera"})
        for i, a in enumerate(arrays)
    ]
    vault = store(tmp_path / "my-vit", tmp_path / "v", inputs)
    with torch.inference_mode():
        logits = model(torch.from_numpy(np.stack(arrays))).logits.numpy()
    for i, example in enumerate(vault):
        assert np.allclose(example.logits, logits[i], atol=1e-5, rtol=0)
        assert example.correct == (int(logits[i].argmax()) == i)
        assert (example.id, example.text, example.label) == (
            f"e{i}",
            (f"picture {i}",),
            f"class {i}",
        )
        assert example.columns == {"source": "camera"}
        assert set(example.metrics) == set(qkvault.METRICS)
    assert vault.spec.label_names == ("class 0", "class 1", "class 2")
    assert vault.spec.provenance["name"] == "my-vit"


def test_a_part_of_a_model_takes_the_features(tmp_path: Path) -> None:
    import transformers

    text = {**SIZES, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    with quiet():
        both = transformers.CLIPConfig(vision_config=IMAGES, text_config=text)
        transformers.CLIPModel(both).save_pretrained(tmp_path / "clip")
    make_model("Whisper", WHISPER, "ForConditionalGeneration").save_pretrained(tmp_path / "whisper")
    images = store(tmp_path / "clip", tmp_path / "a", as_features(make_arrays((3, 32, 32))))
    sounds = store(tmp_path / "whisper", tmp_path / "b", as_features(make_arrays((16, 60))))
    kinds = [vault.spec.provenance["class"] for vault in (images, sounds)]
    assert kinds == ["CLIPVisionModel", "WhisperEncoder"]


def test_attention_can_be_derived(tmp_path: Path) -> None:
    model, arrays = vit(), make_arrays((3, 32, 32))
    vault = store(model, tmp_path / "v", as_features(arrays), attention="derive")
    own = own_attention(model, arrays)
    for example, theirs in zip(vault, own, strict=True):
        assert np.abs(example.attention[:, :] - theirs).max() < 5e-3
    assert vault.spec.derived_error is not None
    assert vault.spec.derived_error < 5e-3


def test_a_detector_is_read_from_a_folder_and_its_images_may_differ_in_size(
    tmp_path: Path,
) -> None:
    made = FAMILIES["detr"]
    model = make_model(made.prefix, made.settings, "ForObjectDetection")
    model.save_pretrained(tmp_path / "detector")
    arrays = [make_arrays(shape, 1)[0] for shape in ((3, 32, 32), (3, 32, 64), (3, 32, 32))]
    vault = store(tmp_path / "detector", tmp_path / "v", as_features(arrays), attention="derive")
    assert vault.spec.provenance["class"] == "DetrModel"
    assert [stack.name for stack in vault.spec.stacks] == ["encoder", "decoder", "cross"]
    for example, array in zip(vault, arrays, strict=True):
        for stack, (theirs,) in own_stacks(model, [array]).items():
            assert np.abs(example.stack(stack).attention[:, :] - theirs).max() < 5e-3
    assert vault[1].tokens[8] == "patch 1,0"


def test_a_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = FAMILIES["detr"].make()
    configs = (model.config, model.config.backbone_config, model.backbone.model.config)
    before = [config._attn_implementation for config in configs]
    assert len(set(before)) == 2, "its parts were to differ"
    store(model, tmp_path / "v", as_features(make_arrays((3, 32, 32), 2)))
    assert [config._attn_implementation for config in configs] == before


def test_a_run_goes_on_with_the_same_features_only(tmp_path: Path) -> None:
    model = make_model("Wav2Vec2", SOUNDS)
    inputs = as_features([make_arrays((400 + 90 * i,), 1)[0] for i in range(6)])
    options = FeatureOptions(model, tmp_path / "v", batch_tokens=1)

    def stop(step: Any) -> None:
        if step.done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(options, inputs, stop)
    assert qkvault.vault_state(tmp_path / "v") == "unfinished"
    others = [*inputs[:5], replace(inputs[5], values=inputs[5].values + 1)]
    with pytest.raises(PlanMismatch, match="features"):
        extract_features(options, others)
    with pytest.raises(PlanMismatch, match="model"):
        extract_features(replace(options, model=make_model("Hubert", SOUNDS)), inputs)
    report = extract_features(options, iter(inputs))
    assert (report.examples, report.already_complete) == (6, False)
    whole = store(model, tmp_path / "w", inputs, batch_tokens=1)
    assert qkvault.open(tmp_path / "v").digest == whole.digest
    assert extract_features(options, inputs).already_complete


def test_features_that_change_between_readings_are_refused(tmp_path: Path) -> None:
    class Augmented(list[Features]):
        def __getitem__(self, place: Any) -> Any:
            noise = np.random.default_rng().standard_normal((3, 32, 32))
            return Features(noise, f"e{place}")

    with pytest.raises(InputError, match="other values each time they are read"):
        extract_features(FeatureOptions(vit(), tmp_path / "v"), Augmented([Features(0)] * 2))
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: make_model("Swin", WINDOWS), "SwinModel attends within 16 parts of an example"),
        (
            lambda: make_model("PvtV2", PYRAMID),
            "attends to other tokens than the example's own",
        ),
        (
            lambda: REFUSED["deformable"].make(),
            "no attention from one to the other that weighs all",
        ),
        (
            lambda: FAMILIES["siglip2"].make(),
            "takes pixel_attention_mask and spatial_shapes beside pixel_values; give",
        ),
        (lambda: make_model("Bert", SIZES), r"\(type bert\) takes input_ids, not features"),
        (lambda: vit().train(), "ViTModel is in training mode"),
        (lambda: make_model("ViTMAE", IMAGES), "differs from its own|changes when it is captured"),
        (lambda: torch.nn.Linear(2, 2), "a Linear was given"),
        (lambda: make_model("ViT", {**IMAGES, "image_size": 64}), r"shape \(3, 32, 32\): .*size"),
    ],
)
def test_models_that_cannot_be_captured_are_refused(
    make: Callable[[], Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=reason):
        extract_features(
            FeatureOptions(make(), tmp_path / "v"), as_features(make_arrays((3, 32, 32)))
        )
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([], "no features given"),
        ([np.zeros(3)], "features 0: a ndarray was given; wrap"),
        ([Features([1.0, float("nan")])], "features 0 hold values that are not finite"),
        ([Features(["a"])], "features 0: values of type <U1"),
        ([Features(np.ones(2), "a"), Features(np.ones(2), "a")], "id 'a' stands at 0 already"),
        ([Features(np.ones(2), arguments={"a": "b"})], "a of type <U1 and shape"),
        (
            [Features(np.ones(2), arguments={"a": 1}), Features(np.ones(2))],
            r"where those before have",
        ),
        ([Features(np.ones(2), arguments={"a": 1})], "takes no argument a beside pixel_values"),
        ([Features(np.ones(2), label=object())], "the label is a value of type object"),
        ([Features(np.ones(2), columns={"a": b"b"})], "a column holds a bytes"),
    ],
)
def test_features_that_cannot_be_used_are_refused(inputs: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        extract_features(FeatureOptions(vit(), tmp_path / "v"), inputs)


def test_repair_says_what_it_lacks(tmp_path: Path) -> None:
    store(vit(), tmp_path / "v", as_features(make_arrays((3, 32, 32))))
    next((tmp_path / "v").glob("b*/encoder/query/c.*")).unlink()
    with pytest.raises(InputError, match="units to run whose examples are features"):
        repair(tmp_path / "v")


@pytest.mark.parametrize("family", ["vit", "whisper", "wav2vec2"])
def test_models_of_features_are_told_where_they_belong(family: str, tmp_path: Path) -> None:
    FAMILIES[family].make().save_pretrained(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("a text\n", encoding="utf-8")
    options = ExtractOptions(
        str(tmp_path / "model"), (str(tmp_path / "texts.txt"),), tmp_path / "v"
    )
    with pytest.raises(InputError, match="not token ids; give its features to extract_features"):
        extract(options)


def test_text_models_are_told_where_they_belong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use extract for texts"):
        extract_features(FeatureOptions(tiny_bert(tmp_path), tmp_path / "v"), [Features([1.0])])


def test_the_page_on_features_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs/features.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = page.split("```python\n")[1:]
    code = "\n".join(block.split("```")[0] for block in blocks)
    with quiet():
        exec(compile(code, "docs/features.md", "exec"), {})  # noqa: S102
    vault = qkvault.open(tmp_path / "pictures.vault")
    assert vault[0].tokens[:2] == ("[CLS]", "patch 0,0")
    cross = qkvault.open(tmp_path / "objects.vault")[0].stack("cross")
    assert cross.attention[1, 2].shape == (5, 64)
