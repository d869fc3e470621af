"""Items of several vectors in the model: one gives what it gave, absent ones change nothing, batches are their rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from close.adapters import build_adapter, row_seeds, vector_seeds
from close.errors import CloseError, MismatchError, RecipeError
from close.model.answers import label_scores
from close.model.configuration import CloseConfig
from close.model.language_models.kinds import language_model_kind
from close.model.modeling import CloseModel
from close.model.prefixes import build_prefix
from close.model.sets import Sets, padded_sets

DIM, HIDDEN = 12, 16
KINDS: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "length": 2},
    "mlp": {"kind": "mlp", "length": 2},
    "transformer": {"kind": "transformer", "length": 3, "layers": 2, "heads": 4},
    "fusion": {"kind": "fusion", "length": 3, "layers": 2, "heads": 4, "source_length": 2},
}
STILL = ("t5_still_dir", "gpt2_still_dir")


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture
def build(zoo):
    def build(name: str, prefix: str, **config: Any) -> CloseModel:
        place = zoo(name)
        about = AutoConfig.from_pretrained(place)
        auto = AutoModelForSeq2SeqLM if about.is_encoder_decoder else AutoModelForCausalLM
        inner = auto.from_pretrained(place)
        tokenizer = AutoTokenizer.from_pretrained(place)
        size = inner.get_input_embeddings().num_embeddings
        template = language_model_kind(about).template_of(tokenizer, size, str(place))
        torch.manual_seed(5)
        settings = {"adapter": "none", "language_model": inner.config, "prefix": KINDS[prefix]} | config
        made = CloseConfig(embed_dim=DIM, template=template.values() if template else None, **settings)
        model = CloseModel(made, inner).eval()
        with torch.no_grad():  # far from where it starts, so that nothing is small
            for weight in model.prefix.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
        end = model.kind.end(tokenizer) if not template else template.end
        model.generation_config.update(
            max_new_tokens=6, num_beams=3, max_length=None, eos_token_id=end, pad_token_id=tokenizer.pad_token_id or end
        )
        return model

    return build


def contexts(lengths: list[int]) -> dict[str, torch.Tensor]:
    """Token ids of uneven length, padded behind."""
    most = max(lengths)
    counts = torch.arange(most) < torch.tensor(lengths)[:, None]
    ids = torch.randint(4, 20, (len(lengths), most), generator=torch.Generator().manual_seed(9))
    return {"context_ids": ids * counts, "context_mask": counts.long()}


def uneven() -> Sets:
    """Four items of one to three own vectors and one to four neighbours."""
    embeds, mask = padded_sets([unit(3, seed=1)[:n] for n in (2, 3, 1, 3)])
    found, counts = padded_sets([1.7 * unit(4, seed=2)[:n] for n in (4, 1, 3, 2)])
    return Sets(embeds, mask, found, counts)


def alone(sets: Sets, row: int) -> Sets:
    """One of these items, with what counts of it only."""
    assert sets.embeds_mask is not None
    assert sets.neighbours is not None
    assert sets.neighbours_mask is not None
    own, found = sets.embeds_mask[row], sets.neighbours_mask[row]
    return Sets(sets.embeds[row][own][None], None, sets.neighbours[row][found][None])


@pytest.mark.parametrize(
    ("language_model", "prefix"),
    [*((name, kind) for name in STILL for kind in KINDS), ("bart_dir", "linear"), ("llama_dir", "linear")],
)
class TestBatches:
    def test_one_vector_is_what_it_was(self, build, prefix, language_model):
        """(B, 1, D) with a mask, and absent places behind the first, say what (B, D) says, search and loss included."""
        model, embeds = build(language_model, prefix), unit(4)
        more = contexts([3, 1, 2, 3])
        labels = torch.randint(4, 20, (4, 5), generator=torch.Generator().manual_seed(1))
        plain = model.prompt(embeds, "image", **more)
        said = model.generate_scored(embeds, **more)
        loss = model(embeds, labels=labels, **more).loss
        for several, mask in (
            (embeds[:, None], None),
            (embeds[:, None].expand(-1, 3, -1), torch.tensor([[True, False, False]] * 4)),
        ):
            again = model.generate_scored(several, **more, embeds_mask=mask)
            assert torch.equal(again[0], said[0])
            assert torch.allclose(again[1], said[1], atol=1e-5)
            assert torch.allclose(model(several, embeds_mask=mask, labels=labels, **more).loss, loss, atol=1e-5)
            if mask is None:
                assert all(map(torch.equal, model.prompt(several, "image", **more), plain))

    def test_a_batch_is_its_rows(self, build, prefix, language_model, monkeypatch):
        """Absent vectors change nothing: loss, text, score and likelihood of each item are those that it has alone."""
        model, sets = build(language_model, prefix), uneven()
        labels = torch.randint(4, 20, (4, 5), generator=torch.Generator().manual_seed(1))
        texts = [[4, 5, 6], [7, 8]]
        monkeypatch.setattr("close.model.answers._token_ids", lambda *_, **__: texts)
        for lengths in ([3, 1, 2, 3], None):
            more = contexts(lengths) if lengths else {}
            inputs = {"embeds": sets.embeds, **sets.inputs}
            logits = model(**inputs, labels=labels, **more).logits
            ids, scores = model.generate_scored(**inputs, **more)
            likely = label_scores(model, None, sets, ["a", "b"], context=more)
            for row in range(4):
                own = alone(sets, row)
                cut = {key: value[row : row + 1, : lengths[row]] for key, value in more.items()} if lengths else {}
                given = {"embeds": own.embeds, **own.inputs, **cut}
                assert torch.allclose(model(**given, labels=labels[row : row + 1]).logits[0], logits[row], atol=2e-5)
                text, score = model.generate_scored(**given)
                assert torch.equal(text[0], ids[row, : text.shape[1]])
                assert score[0].item() == pytest.approx(scores[row].item(), abs=1e-4)
                assert torch.allclose(label_scores(model, None, own, ["a", "b"], context=cut), likely[row], atol=1e-4)


@pytest.mark.parametrize(("language_model", "prefix"), list(zip(STILL, ("linear", "fusion"), strict=True)))
def test_the_fast_search_finds_the_same(build, prefix, language_model, monkeypatch):
    model, sets = build(language_model, prefix), uneven()
    inputs = {"embeds": sets.embeds, **sets.inputs}
    for beams in (1, 4):
        fast = model.generate_scored(**inputs, num_beams=beams)
        with monkeypatch.context() as patch:
            patch.setattr("close.model.modeling.planned", lambda *_: None)
            plain = model.generate_scored(**inputs, num_beams=beams)
        assert torch.equal(fast[0], plain[0][:, : fast[0].shape[1]])
        assert torch.allclose(fast[1], plain[1], atol=1e-4)


class TestPrefixes:
    @pytest.mark.parametrize("kind", ["linear", "mlp"])
    def test_each_vector_has_tokens_of_its_own(self, build, kind):
        model, several = build("t5_still_dir", kind), unit(2, 3)
        prompt, mask = model.prompt(several, "image")
        each = [model.prompt(several[:, place], "image")[0] for place in range(3)]
        assert torch.allclose(prompt, torch.cat(each, dim=1), atol=1e-6)
        assert mask.shape == (2, 6)

    @pytest.mark.parametrize("kind", ["transformer", "fusion"])
    def test_the_order_of_the_others_makes_no_difference(self, kind):
        prefix, several = build_prefix(KINDS[kind], DIM, HIDDEN), unit(2, 4)
        first = prefix(several)
        assert first.shape == (2, 3, HIDDEN)
        assert torch.allclose(prefix(several[:, [0, 3, 1, 2]]), first, atol=1e-5)
        swapped = prefix(several[:, [1, 0, 2, 3]])
        assert torch.allclose(swapped, first, atol=1e-5) is (kind == "transformer")

    def test_fusion_is_torchs_own_attention(self):
        """IFCap's mapper, put together of torch's layers."""
        prefix: Any = build_prefix(KINDS["fusion"], DIM, HIDDEN)
        cross, vectors = prefix.cross, unit(3, 4)
        attention = nn.MultiheadAttention(HIDDEN, 4, batch_first=True)
        attention.in_proj_weight.data.copy_(cross.attention.weight)
        attention.in_proj_bias.data.zero_()
        attention.out_proj.load_state_dict(cross.attended.state_dict())
        asks = prefix.linear(vectors[:, 0]).reshape(3, 2, HIDDEN)
        answers = prefix.others(vectors[:, 1:])
        hidden = asks + attention(cross.attention_norm(asks), answers, answers)[0]
        hidden = hidden + cross.outer(cross.inner(cross.inner_norm(hidden)).relu())
        hidden = torch.cat([hidden, prefix.tokens.repeat(3, 1, 1)], dim=1)
        for layer in prefix.layers:
            hidden = layer(hidden)
        assert torch.allclose(prefix(vectors), hidden[:, 2:], atol=1e-5)

    def test_fusion_has_ifcaps_sizes(self):
        """For GPT-2 and CLIP ViT-B/32: its authors' mapper, weight by weight."""
        with torch.device("meta"):
            prefix = build_prefix({"kind": "fusion"}, 512, 768)
        layer = 3 * 768**2 + 769 * 768 + 769 * 1536 + 1537 * 768 + 4 * 768
        assert sum(p.numel() for p in prefix.parameters()) == 513 * 7680 + 513 * 768 + 10 * 768 + 9 * layer

    def test_gradients_reach_every_weight_of_fusion_with_others_and_without(self, build):
        model = build("t5_still_dir", "fusion").train()
        labels = torch.randint(4, 20, (2, 5))
        for embeds in (unit(2, 3), unit(2)):
            model.zero_grad()
            model(embeds, labels=labels).loss.backward()
            assert [name for name, weight in model.prefix.named_parameters() if weight.grad is None] == []
            assert not any(weight.grad.isnan().any() for weight in model.prefix.parameters())


class TestAdapters:
    def test_noise_is_each_vectors_own_and_the_rows_stay(self):
        """The first vector's noise is that of a row of one; the others' are independent of it, whatever the batch."""
        adapter = build_adapter({"gaussian": {"std": 0.5}}, 256).train()
        rows = row_seeds(3, 1, torch.arange(40))
        same = F.normalize(torch.ones(40, 256), dim=-1)
        seeds = vector_seeds(rows, 4)
        assert torch.equal(seeds[:, 0], rows)
        noise = torch.stack([adapter(same, "text", seeds[:, place]) for place in range(4)])
        assert torch.equal(noise[0], adapter(same, "text", rows))
        noise = noise - noise.mean((0, 1))
        cosines = F.cosine_similarity(noise[:, None], noise[None], dim=-1).mean(-1)
        assert (cosines - torch.eye(4)).abs().max() < 0.05
        assert torch.equal(vector_seeds(rows, 2, start=2), seeds[:, 2:])
        assert len(seeds.unique()) == 160

    def test_own_vectors_pass_their_side_and_neighbours_the_texts(self, build):
        """Neighbours keep their length, and draw noise in training only where the run says so."""
        seeds = row_seeds(0, 0, torch.arange(2))
        shifted = {"gaussian": {"std": 0.3}}
        quiet = build("t5_still_dir", "linear", adapter=shifted, retrieve={"k": 3}).train()
        noisy = build("t5_still_dir", "linear", adapter=shifted, retrieve={"k": 3, "noisy": True}).train()
        embeds, found = unit(2), 2.5 * unit(2, 3, seed=4)
        read: dict[bool, torch.Tensor] = {}
        for model in (quiet, noisy):
            prompt = model.prompt(embeds, "text", seeds=seeds, neighbours=found)[0].unflatten(1, (4, 2))
            own = model.prompt(embeds, "text", seeds=seeds)[0]
            assert torch.allclose(prompt[:, 0], own, atol=1e-6)
            read[model is noisy] = prompt[:, 1:]
        plain = quiet.prefix(found.flatten(0, 1)).unflatten(0, (2, 3))
        assert torch.allclose(read[False], plain, atol=1e-5)
        assert not torch.allclose(read[True], plain, atol=1e-2)
        image = quiet.eval().prompt(embeds, "image", neighbours=found)[0].unflatten(1, (4, 2))
        assert torch.allclose(image[:, 1:], plain, atol=1e-5)

    def test_neighbours_alone(self, build):
        """Knight: the decoder does not see its own source."""
        model = build("t5_still_dir", "linear", retrieve={"k": 3, "main": False})
        found = unit(2, 3, seed=4)
        prompt, _ = model.prompt(unit(2), "image", neighbours=found)
        other, _ = model.prompt(unit(2, seed=7), "image", neighbours=found)
        assert torch.equal(prompt, other)
        assert torch.allclose(prompt, model.prompt(found, "image")[0], atol=1e-6)


def test_what_does_not_belong_together_is_told(build):
    model = build("t5_still_dir", "linear")
    for inputs in (
        {"embeds": torch.zeros(DIM)},
        {"embeds": torch.zeros(2, 3, DIM + 1)},
        {"embeds": torch.zeros(2, 0, DIM)},
        {"embeds": torch.zeros(2, DIM), "neighbours": torch.zeros(3, 4, DIM)},
        {"embeds": torch.zeros(2, DIM), "neighbours": torch.zeros(2, DIM)},
        {"embeds": torch.zeros(2, 3, DIM), "embeds_mask": torch.ones(2, 2)},
        {"embeds": torch.zeros(2, DIM), "neighbours_mask": torch.ones(2, 2)},
    ):
        with pytest.raises(MismatchError):
            model.prompt(modality="image", **inputs)
    for wrong in ({"several": "all"}, {"vectors": 0}, {"vectors": 10**6}, {"retrieve": [1]}):
        with pytest.raises(RecipeError):
            CloseConfig(**wrong)


def test_contexts_leave_room_for_the_training_s_sets(build):
    rooms = {(kind, k): build("gpt2_still_dir", kind, vectors=k).context_room(5) for kind in KINDS for k in (1, 6)}
    assert [rooms[kind, 1] - rooms[kind, 6] for kind in KINDS] == [10, 10, 0, 0]
    with pytest.raises(CloseError, match="too few"):
        build("gpt2_still_dir", "linear", vectors=40).context_room(5)
