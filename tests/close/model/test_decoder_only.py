"""Decoder-only language models: batches, targets and likelihoods against one plain pass a row, without any padding."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Qwen3_5TextConfig

from close.errors import RecipeError
from close.fast.search import planned
from close.model.answers import LabelTree, label_scores
from close.model.configuration import CloseConfig
from close.model.language_models.base import Template
from close.model.language_models.decoder_only import DecoderOnly
from close.model.modeling import CloseModel
from close.training.examples import Collator, Prompter

FAMILIES = [
    f"{name}_dir" for name in ["gpt2", "opt", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi"]
]
DIM = 12
CONTEXTS = ["what colour is the dog ?", "", "a red ball", "on a long and winding road at night", "?"]
TARGETS = ["a red dog", "a cat on the grass and a black horse", "blue", "a bird", "a white boat by the sea"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, zoo):
    """A model with weights that tell inputs apart, and its tokenizer."""
    folder = zoo(request.param)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inner = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(3)
    for weight in inner.parameters():
        weight.data += 0.15 * torch.randn_like(weight)
    template = DecoderOnly.template_of(tokenizer, len(tokenizer), str(folder))
    config = CloseConfig("e", "f" * 32, DIM, language_model=inner.config, template=template.values())
    model = CloseModel(config, inner).eval()
    model.generation_config.update(eos_token_id=template.end, pad_token_id=template.pad)
    return model, tokenizer


@pytest.fixture(scope="module")
def embeds() -> torch.Tensor:
    return F.normalize(torch.randn(5, DIM, generator=torch.Generator().manual_seed(0)), dim=-1)


def plain(family, embed, context: str, ids: list[int]) -> torch.Tensor:
    """(T + 1, V) log-probabilities of a row by itself: of each token after `ids` so far, positions 0, 1, 2 …"""
    model, tokenizer = family
    template, embed_ids = model.kind.template, model.language_model.get_input_embeddings()
    said = tokenizer(context, add_special_tokens=False)["input_ids"] if context else []
    behind = [*said, *(template.between if said else ()), *template.after, *ids]
    parts = [embed_ids(torch.tensor(template.before, dtype=torch.long)), model.prefix(embed[None])[0]]
    inputs = torch.cat([*parts, embed_ids(torch.tensor(behind, dtype=torch.long))])[None]
    with torch.no_grad():
        logits = model.language_model(inputs_embeds=inputs, use_cache=False).logits[0]
    return logits[len(inputs[0]) - len(ids) - 1 :].double().log_softmax(-1)


def likelihood(family, embed, context: str, ids: list[int]) -> torch.Tensor:
    """(T,) of each token of a target."""
    return plain(family, embed, context, ids[:-1]).gather(-1, torch.tensor(ids)[:, None])[:, 0]


def batch(family, embeds):
    model, tokenizer = family
    rows = zip(embeds.numpy(), CONTEXTS, TARGETS, strict=True)
    examples = [{"row": 0, "embed": embed, "context": context, "target": target} for embed, context, target in rows]
    return Collator(tokenizer, "image", 32, kind=model.kind)(examples)


def test_a_batch_gives_what_its_rows_give_alone(family, embeds):
    model, _ = family
    inputs = batch(family, embeds)
    rows = inputs.pop("rows")
    assert len(rows) == 5
    wanted = []
    for embed, context, labels in zip(embeds, CONTEXTS, inputs["labels"], strict=True):
        wanted.append(likelihood(family, embed, context, labels[labels >= 0].tolist()))
    with torch.no_grad():
        output = model(**inputs)
    counts = inputs["labels"] >= 0
    found = output.logits.double().log_softmax(-1).gather(-1, inputs["labels"].clamp(min=0)[..., None])[..., 0]
    assert torch.allclose(found[counts], torch.cat(wanted), atol=2e-5)
    assert output.loss.item() == pytest.approx(-torch.cat(wanted).mean().item(), abs=1e-5)
    total = -torch.cat(wanted).sum().item()
    assert model(**inputs, num_items_in_batch=100).loss.item() == pytest.approx(total / 100, abs=1e-5)


def test_the_end_of_a_target_is_learnt_and_padding_is_not(family, embeds):
    model, tokenizer = family
    labels = batch(family, embeds)["labels"]
    for row, target in zip(labels.tolist(), TARGETS, strict=True):
        ids = [*tokenizer(target, add_special_tokens=False)["input_ids"], model.kind.template.end]
        assert row == ids + [-100] * (labels.shape[1] - len(ids))


@pytest.mark.parametrize("beams", [1, 3])
def test_text_and_score_of_a_batch_are_those_of_its_rows(family, embeds, beams):
    model, tokenizer = family
    settings = {"num_beams": beams, "max_new_tokens": 8}
    ids, scores = model.generate_scored(embeds, **Prompter(tokenizer, kind=model.kind)(CONTEXTS), **settings)
    for embed, context, said, score in zip(embeds, CONTEXTS, ids.tolist(), scores.tolist(), strict=True):
        own = Prompter(tokenizer, kind=model.kind)([context])
        alone, own_score = model.generate_scored(embed[None], **own, **settings)
        end = model.kind.template.end
        said = said[: said.index(end) + 1] if end in said else said
        assert alone[0].tolist() == said
        chosen = likelihood(family, embed, context, said)
        assert score == pytest.approx(chosen.mean().item(), abs=1e-5)
        assert own_score.item() == pytest.approx(score, abs=1e-5)
        if beams == 1:
            for place in range(len(said)):
                assert plain(family, embed, context, said[:place])[-1].argmax() == said[place]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("setting", [{"repetition_penalty": 4.0}, {"min_length": 7}], ids=str)
def test_settings_of_what_is_said_do_not_know_the_padding(family, embeds, beams, setting):
    """In transformers, a row's padding hid its first tokens from the penalty, and a prompt counted as said."""
    model, tokenizer = family
    settings, prompts = {"num_beams": beams, "max_new_tokens": 8}, Prompter(tokenizer, kind=model.kind)(CONTEXTS)
    without, end = model.generate(embeds, **prompts, **settings), model.kind.template.end
    if "min_length" in setting:
        end = settings["eos_token_id"] = without[0, 0].item()  # which would be said soon
    settings |= setting
    together, said = model.generate(embeds, **prompts, **settings), []
    for embed, context, row in zip(embeds, CONTEXTS, together.tolist(), strict=True):
        alone = model.generate(embed[None], **Prompter(tokenizer, kind=model.kind)([context]), **settings)[0].tolist()
        said.append(row[: row.index(end) + 1] if end in row else row)
        assert said[-1] == alone
    if "min_length" in setting:
        assert all(end not in row[:7] for row in said)
    else:
        assert together.tolist() != without.tolist()


@pytest.mark.parametrize("beams", [1, 3])
def test_turned_off_text_and_score_are_the_same(family, embeds, beams, monkeypatch):
    model, tokenizer = family
    inputs = Prompter(tokenizer, kind=model.kind)(CONTEXTS)
    settings = {"num_beams": beams, "max_new_tokens": 8}
    fast = planned(model.language_model, GenerationConfig(**settings, eos_token_id=1, pad_token_id=0), 8)
    assert (fast is None) == (getattr(model.config.language_model, "sliding_window", None) is not None)
    ids, scores = model.generate_scored(embeds, **inputs, **settings)
    monkeypatch.setenv("CLOSE_FAST", "0")
    plain_ids, plain_scores = model.generate_scored(embeds, **inputs, **settings)
    assert ids.tolist() == plain_ids.tolist()
    assert torch.allclose(scores, plain_scores, atol=1e-5)


@pytest.mark.parametrize(
    "drawn",
    [
        {"do_sample": True, "temperature": 0.05},
        {"do_sample": True, "top_k": 1},
        {"do_sample": True, "num_beams": 3, "temperature": 0.5},
        {"prefix_allowed_tokens_fn": lambda _, ids: [7]},
        {"num_beams": 3, "repetition_penalty": 1.5},
        {"num_beams": 3, "exponential_decay_length_penalty": (1, 1.5)},
        {"num_beams": 3, "sequence_bias": [[[7], 5.0]], "length_penalty": 2.0},
        {"generation_config": GenerationConfig(num_beams=3, length_penalty=2.0, max_new_tokens=5)},
    ],
    ids=[
        "sharpened",
        "the best token",
        "beams",
        "one answer",
        "penalised",
        "decaying",
        "biased",
        "settings of its own",
    ],
)
def test_a_score_says_how_likely_a_text_is_however_it_was_drawn(family, embeds, drawn, monkeypatch):
    """Sharpened, cut to the best token or to the only answer, it would be certain of anything."""
    model, _ = family
    monkeypatch.setattr(model.generation_config, "num_beams", 5)  # a run's own
    torch.manual_seed(0)
    settings = {} if "generation_config" in drawn else {"num_beams": 1, "max_new_tokens": 5}
    ids, scores = model.generate_scored(embeds, **settings | drawn)
    for embed, said, score in zip(embeds, ids.tolist(), scores.tolist(), strict=True):
        end = model.kind.template.end
        said = said[: said.index(end) + 1] if end in said else said
        assert score == pytest.approx(likelihood(family, embed, "", said).mean().item(), abs=1e-4)


def test_scores_count_the_end_and_nothing_behind_it(family, embeds):
    """A token that is said anyway is made the one that ends, and pads."""
    model, _ = family
    said = model.generate(embeds, num_beams=1, max_new_tokens=8)
    end = said[0, 3].item()
    settings = {"num_beams": 1, "max_new_tokens": 8, "eos_token_id": end, "pad_token_id": end}
    for more in ({}, {"renormalize_logits": True}):  # which is left to transformers
        ids, scores = model.generate_scored(embeds, **settings, **more)
        for embed, row, score in zip(embeds, ids.tolist(), scores.tolist(), strict=True):
            row = row[: row.index(end) + 1] if end in row else row
            assert score == pytest.approx(likelihood(family, embed, "", row).mean().item(), abs=1e-5)
        assert ids[0].tolist().index(end) <= 3


def test_labels_are_scored_exactly_behind_a_shared_prompt(family, embeds):
    model, tokenizer = family
    context = Prompter(tokenizer, kind=model.kind)(CONTEXTS)
    whole = label_scores(model, tokenizer, embeds, TARGETS, context=context)
    parts = label_scores(model, tokenizer, embeds, TARGETS, context=context, batch_size=3, normalise=True)
    for row, (embed, text) in enumerate(zip(embeds, CONTEXTS, strict=True)):
        for column, target in enumerate(TARGETS):
            ids = model.kind.targets(tokenizer, [target])[0]
            wanted = likelihood(family, embed, text, ids).sum().item()
            assert whole[row, column] == pytest.approx(wanted, abs=1e-4)
            assert parts[row, column] == pytest.approx(wanted / len(ids), abs=1e-4)


def test_labels_behind_a_recurrent_layers_state(embeds):
    """Qwen 3.5: three of four layers keep a state instead of keys and values, which several labels can't share."""
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    torch.manual_seed(0)
    config = Qwen3_5TextConfig(vocab_size=60, num_hidden_layers=4, max_position_embeddings=64, **sizes)
    template = Template(before=(1,), between=(3,), end=2).values()
    model = CloseModel(CloseConfig("e", "f", DIM, language_model=config, template=template)).eval()
    labels = torch.tensor([[4, 5, 2], [7, 2, -100]])
    ids, mask = torch.randint(4, 60, (5, 6)), (torch.arange(6) < torch.tensor([6, 3, 0, 1, 5])[:, None]).long()
    with torch.no_grad():
        read = model.kind.behind(model.language_model, *model.prompt(embeds, "image", ids, mask))
        for row in range(5):
            logits = read(torch.tensor([row, row]), labels)
            for label, found in zip(labels, logits, strict=True):
                alone = {"context_ids": ids[row : row + 1, : int(mask[row].sum())], "labels": label[None, label >= 0]}
                wanted = model(embeds[row : row + 1], "image", **alone).logits[0]
                assert torch.allclose(found[label >= 0], wanted, atol=2e-5)


@pytest.mark.parametrize("settings", [{"num_beams": 1}, {"num_beams": 6}, {"do_sample": True, "num_beams": 1}])
def test_a_tree_keeps_generation_among_the_labels(family, settings):
    model, tokenizer = family
    many = F.normalize(torch.randn(20, DIM, generator=torch.Generator().manual_seed(5)), dim=-1)
    tree = LabelTree(tokenizer, TARGETS, model.kind)
    torch.manual_seed(0)
    ids = model.generate(many, prefix_allowed_tokens_fn=tree, max_new_tokens=tree.longest, **settings)
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert set(map(str.strip, texts)) <= set(TARGETS)
    if settings["num_beams"] > len(TARGETS):  # so that no label is dropped on the way
        scores = label_scores(model, tokenizer, many, TARGETS, normalise=True)
        assert [TARGETS[best] for best in scores.argmax(1).tolist()] == list(map(str.strip, texts))


def test_a_chat_is_the_tokenizers_own(family):
    model, tokenizer = family
    if tokenizer.chat_template is None:
        assert model.kind.template.after == ()
        begun = tokenizer("a dog")["input_ids"]
        assert begun[: len(model.kind.template.before)] == list(model.kind.template.before)
        assert begun[len(model.kind.template.before) :] == tokenizer("a dog", add_special_tokens=False)["input_ids"]
        return
    for text in CONTEXTS:
        chat = [{"role": "user", "content": text}]
        own = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, enable_thinking=False, return_dict=False, tokenize=True
        )
        assert [*model.kind.template.before, *model.kind.contexts(tokenizer, [text], 512)[0]] == own
        chat.append({"role": "assistant", "content": "blue"})
        whole = tokenizer.apply_chat_template(chat, tokenize=False)
        said = tokenizer.decode(model.kind.targets(tokenizer, ["blue"])[0])
        assert whole.rstrip().endswith(said)
    cut = model.kind.contexts(tokenizer, ["a red dog " * 100], 5)[0]
    assert cut[5:] == list(model.kind.template.after)


def test_an_answer_that_does_not_fit(family, embeds):
    model, _ = family
    places = model.config.language_model.max_position_embeddings
    with pytest.raises(
        RecipeError, match=rf"is {places} behind a prompt of \d+ tokens, and the .* has {places} places"
    ):
        model.generate(embeds, max_new_tokens=places)
    with pytest.raises(RecipeError, match=f"{places} places"):
        model.context_room(places)
    assert model.context_room(16) == places - 16 - 4 - model.kind.template.longest


def test_gradients_reach_every_weight(family, embeds):
    model, _ = family
    inputs = batch(family, embeds)
    inputs.pop("rows")
    model.zero_grad()
    model(**inputs).loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert math.isfinite(sum(weight.grad.norm().item() for weight in model.parameters()))


def test_what_is_saved_comes_back_bit_for_bit(family, embeds, tmp_path):
    model, _ = family
    inputs = batch(family, embeds)
    inputs.pop("rows")
    model.save_pretrained(tmp_path)
    again = CloseModel.from_pretrained(tmp_path)
    assert not again.config.is_encoder_decoder
    assert again.kind.template == model.kind.template
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    assert again.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("change", [{"end": 10**6}, {"end": [1]}, {"before": 1}, {"before": ["a"]}, {"more": 1}])
def test_a_template_that_is_none(family, change):
    model, _ = family
    template = model.kind.template.values() | change
    with pytest.raises(RecipeError, match="template"):
        CloseModel(CloseConfig("e", "f", DIM, language_model=model.config.language_model, template=template))
