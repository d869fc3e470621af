"""The model against the language model inside it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM
from transformers.modeling_outputs import BaseModelOutput

from close.adapters import row_seeds
from close.errors import MismatchError, RecipeError, WeightsError
from close.model.configuration import CloseConfig
from close.model.modeling import CloseModel

LANGUAGE_MODELS = ["t5_dir", "t5_pieces_dir", "flan_t5_dir", "mt5_dir", "bart_dir"]
DIM = 12


@pytest.fixture(scope="module")
def build(zoo):
    def build(family: str = "t5_dir", adapter: Any = None, **changes: Any) -> CloseModel:
        inner = AutoModelForSeq2SeqLM.from_pretrained(zoo(family))
        torch.manual_seed(3)
        config = CloseConfig(
            encoder="e",
            encoder_fingerprint="f" * 32,
            embed_dim=DIM,
            adapter=adapter or [{"gaussian": {"cosine": 0.41}}],
            language_model=inner.config,
            **changes,
        )
        return CloseModel(config, inner).eval()

    return build


@pytest.fixture(scope="module")
def embeds() -> torch.Tensor:
    return F.normalize(torch.randn(5, DIM, generator=torch.Generator().manual_seed(0)), dim=-1)


@pytest.fixture(scope="module")
def context() -> dict[str, torch.Tensor]:
    ids = torch.randint(4, 30, (5, 6), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(6) < torch.tensor([6, 3, 0, 1, 5])[:, None]).long()
    return {"context_ids": ids * mask, "context_mask": mask}


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
@pytest.mark.parametrize("settings", [{"num_beams": 1}, {"num_beams": 4}, {"num_beams": 3, "num_return_sequences": 2}])
def test_generate_equals_the_inner_models(build, embeds, context, family, settings):
    model = build(family)
    prompt, mask = model.prompt(embeds, "image", **context)
    wanted = model.language_model.generate(
        inputs_embeds=prompt, attention_mask=mask, do_sample=False, max_new_tokens=12, **settings
    )
    assert torch.equal(model.generate(embeds, **context, do_sample=False, max_new_tokens=12, **settings), wanted)
    with torch.inference_mode():  # and that of its own encoder run before
        hidden = model.language_model.get_encoder()(inputs_embeds=prompt, attention_mask=mask)[0]
    again = model.language_model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=12,
        **settings,
    )
    assert torch.equal(again, wanted)


def test_greedy_is_the_argmax_step_by_step(build, embeds):
    model = build()
    ids = torch.full((5, 1), model.config.decoder_start_token_id)
    for _ in range(6):
        logits = model(embeds, "image", decoder_input_ids=ids).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    end = model.config.eos_token_id
    for row, wanted in zip(model.generate(embeds, num_beams=1, max_new_tokens=6).tolist(), ids.tolist(), strict=True):
        stop = wanted.index(end) + 1 if end in wanted else len(wanted)
        assert row[:stop] == wanted[:stop]


def test_the_saved_settings_decide(build, embeds, tmp_path):
    model = build()
    model.generation_config.update(num_beams=3, max_new_tokens=4)
    model.save_pretrained(tmp_path)
    loaded = CloseModel.from_pretrained(tmp_path)
    assert (loaded.generation_config.num_beams, loaded.generation_config.max_new_tokens) == (3, 4)
    wanted = model.generate(embeds, num_beams=3, max_new_tokens=4)
    assert torch.equal(loaded.generate(embeds), wanted)
    assert loaded.generate(embeds, max_new_tokens=7, min_new_tokens=7, num_beams=1).shape == (5, 8)
    assert torch.equal(loaded.generate(embeds), wanted)  # overrides last for one call


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_what_is_saved_comes_back_bit_for_bit(build, embeds, context, family, tmp_path):
    model = build(family)
    model.save_pretrained(tmp_path)
    labels = torch.randint(3, 30, (5, 7), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        wanted = model(embeds, "image", **context, labels=labels).logits
        for loader in (CloseModel, AutoModel, AutoModelForSeq2SeqLM):
            loaded = loader.from_pretrained(tmp_path)
            assert type(loaded) is CloseModel
            assert not loaded.training
            assert torch.equal(loaded(embeds, "image", **context, labels=labels).logits, wanted)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    config = AutoConfig.from_pretrained(tmp_path)
    assert (type(config), config.encoder, config.embed_dim) == (CloseConfig, "e", DIM)
    assert config.language_model.model_type == model.language_model.config.model_type


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
@pytest.mark.parametrize("loaded", [False, True])
def test_the_decoder_never_sees_what_comes_later(build, embeds, family, loaded, tmp_path):
    model = build(family)
    if loaded:
        model.save_pretrained(tmp_path)
        model = CloseModel.from_pretrained(tmp_path)
    ids = torch.randint(3, 30, (5, 6), generator=torch.Generator().manual_seed(6))
    other = ids.clone()
    other[:, 4:] = (ids[:, 4:] + 3) % 27 + 3
    with torch.inference_mode():
        one, two = (model(embeds, "image", decoder_input_ids=given).logits for given in (ids, other))
    assert torch.allclose(one[:, :4], two[:, :4], atol=1e-6)
    assert not torch.allclose(one[:, 4:], two[:, 4:], atol=1e-3)


@pytest.mark.parametrize("damage", ["missing", "shape", "cut"])
def test_a_checkpoint_that_is_not_whole_is_refused(build, damage, tmp_path):
    build().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    name = "prefix.linear.weight"
    if damage == "missing":
        del state[name]
    if damage == "shape":
        state[name] = state[name][1:].clone()
    save_file(state, path, metadata={"format": "pt"})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError) as told:
        CloseModel.from_pretrained(tmp_path)
    assert str(tmp_path) in str(told.value)
    assert "\n" not in str(told.value)
    assert damage == "cut" or name in str(told.value)


def test_the_prefix_starts_as_torch_starts_a_linear_layer(build):
    weight = build().prefix.linear.weight.detach()
    bound = 1 / math.sqrt(DIM)
    assert weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_the_prompt(build, embeds, context):
    model = build(adapter="none", prefix={"kind": "linear", "length": 3})
    prompt, mask = model.prompt(embeds, "text", **context)
    assert prompt.shape == (5, 9, 16)
    wanted = (embeds @ model.prefix.linear.weight.T + model.prefix.linear.bias).view(5, 3, 16)
    assert torch.allclose(prompt[:, :3], wanted, atol=1e-6)
    assert torch.equal(prompt[:, 3:], model.get_input_embeddings()(context["context_ids"]))
    assert torch.equal(mask, torch.cat([torch.ones(5, 3, dtype=torch.long), context["context_mask"]], dim=1))


def test_padding_changes_nothing(build, embeds, context):
    model = build()
    labels = torch.randint(3, 30, (1, 4), generator=torch.Generator().manual_seed(4))
    batch = model(embeds, "image", **context, labels=labels.expand(5, -1)).logits
    for i, length in enumerate(context["context_mask"].sum(1).tolist()):
        part = {key: value[i : i + 1, :length] for key, value in context.items()}
        assert torch.allclose(model(embeds[i : i + 1], "image", **part, labels=labels).logits, batch[i], atol=1e-5)


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_the_loss_is_the_mean_cross_entropy(build, embeds, family):
    model = build(family)
    labels = torch.randint(3, 30, (5, 7), generator=torch.Generator().manual_seed(2))
    labels[1, 3:] = labels[4, 1:] = -100
    output = model(embeds, "image", labels=labels)
    log = output.logits.log_softmax(-1)
    each = [-log[i, j, labels[i, j]] for i in range(5) for j in range(7) if labels[i, j] >= 0]
    assert output.loss.item() == pytest.approx(torch.stack(each).mean().item(), abs=1e-5)
    inner = model.language_model(
        inputs_embeds=model.prompt(embeds, "image")[0], attention_mask=model.prompt(embeds, "image")[1], labels=labels
    )
    assert output.loss.item() == pytest.approx(inner.loss.item(), abs=1e-5)
    assert model(embeds, "image", labels=labels, num_items_in_batch=100).loss.item() == pytest.approx(
        torch.stack(each).sum().item() / 100, abs=1e-5
    )


def test_noise_belongs_to_training(build, embeds):
    model = build()
    plain = model.prompt(embeds, "text")[0]
    assert torch.equal(plain, model.prompt(embeds, "image")[0])
    model.train()
    seeds = row_seeds(0, 0, torch.arange(5))
    noisy = model.prompt(embeds, "text", seeds=seeds)[0]
    assert torch.equal(noisy, model.prompt(embeds, "image", seeds=seeds)[0])  # whichever a model is trained on
    assert not torch.allclose(noisy, plain, atol=1e-3)
    assert torch.equal(noisy, model.prompt(embeds, "text", seeds=seeds)[0])
    assert torch.allclose(noisy[2:4], model.prompt(embeds[2:4], "text", seeds=seeds[2:4])[0], atol=1e-6)


@pytest.mark.parametrize("shape", [(5, DIM + 1), (DIM,), (5, 1, 1, DIM)])
def test_embeddings_of_another_width(build, shape):
    with pytest.raises(MismatchError) as told:
        build()(torch.ones(shape), "image", decoder_input_ids=torch.zeros(5, 1, dtype=torch.long))
    assert "'e'" in str(told.value)
    assert f"(batch, {DIM})" in str(told.value)


def test_unknown_modality(build, embeds):
    with pytest.raises(RecipeError, match="modality"):
        build().prompt(embeds, "audio")


def test_half_precision(build, embeds, tmp_path):
    build().save_pretrained(tmp_path)
    half = CloseModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.prefix.linear.weight.dtype == torch.bfloat16
    assert half.generate(embeds, max_new_tokens=3).shape[0] == 5


@pytest.mark.parametrize("family", ["t5_dir", "bart_dir"])
def test_gradients_reach_every_weight(build, embeds, family):
    model = build(family).train()
    model(embeds, labels=torch.randint(3, 30, (5, 6))).loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert without == []


def test_gradient_checkpointing_gives_the_same_gradients(build, embeds):
    labels = torch.randint(3, 30, (5, 6), generator=torch.Generator().manual_seed(5))

    def gradient(checkpointing: bool) -> torch.Tensor:
        model = build(adapter="none")
        if checkpointing:
            model.activation_checkpointing_enable()
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model(embeds, labels=labels).loss.backward()
        return model.prefix.linear.weight.grad

    assert torch.allclose(gradient(True), gradient(False), atol=1e-7)


@pytest.mark.parametrize("family", ["t5_dir", "bart_dir"])
def test_a_frozen_language_model_drops_nothing_when_checkpointed(build, embeds, family):
    labels = torch.randint(3, 30, (5, 6), generator=torch.Generator().manual_seed(5))
    model = build(family, adapter="none")
    model.is_frozen = True
    model.language_model.requires_grad_(False)
    wanted = model.eval()(embeds, labels=labels).loss
    model.activation_checkpointing_enable()
    model.train()
    assert any(layer.training for layer in model.language_model.modules())  # else nothing is checkpointed
    assert torch.allclose(model(embeds, labels=labels).loss, wanted, atol=1e-6)


def test_a_run_of_before_prefixes_had_kinds_loads(build, embeds, tmp_path):
    model = build(adapter="none", prefix={"kind": "linear", "length": 3}).eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["prefix"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"prefix_length": 3}))
    again = CloseModel.from_pretrained(tmp_path)
    assert again.config.prefix == {"kind": "linear", "length": 3}
    assert torch.equal(again.prefix(embeds), model.prefix(embeds))
