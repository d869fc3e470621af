"""Small random-weight models of every supported family, written to disk as their own libraries write them, and small data."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

COLOURS = ("red", "green", "blue", "black", "white", "yellow", "grey", "brown")
THINGS = ("dog", "cat", "horse", "car", "boat", "ball", "bird", "tree")
PLACES = ("on the grass", "in the snow", "by the sea", "under a bridge", "on a long and winding road", "at night", "")
PIXELS = 16


def sentences(count: int, seed: int = 0) -> list[str]:
    """`count` distinct captions of uneven length."""
    rng, found = random.Random(seed), dict[str, None]()
    while len(found) < count:
        parts = [f"a {rng.choice(COLOURS)} {rng.choice(THINGS)}" for _ in range(rng.choice((1, 1, 2, 3)))]
        found[f"{' and '.join(parts)} {rng.choice(PLACES)}".strip()] = None
    return list(found)


CORPUS = sentences(300, seed=1)
WORDS = sorted({word for text in [*CORPUS, "what colour thing ?"] for word in text.split()})


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def put(path: Path, value: Any) -> Path:
    """A value as JSON, in a folder that is made where need be; a list in a `.jsonl` a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, list) and path.suffix == ".jsonl":
        return write_jsonl(path, value)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def picture(path: Path, seed: int, size: int = PIXELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    return path


def sound(path: Path, seed: int = 0, rate: int = 16_000, seconds: float = 0.2) -> Path:
    from scipy.io import wavfile

    wave = np.random.default_rng(seed).normal(0, 0.1, int(rate * seconds))
    wavfile.write(path, rate, (wave * 32767).clip(-32768, 32767).astype(np.int16))
    return path


def caption_rows(count: int, seed: int = 0, **extra: Any) -> list[dict[str, Any]]:
    """Rows of distinct captions, four to a group."""
    texts = sentences(count, seed)
    return [{"id": f"r{i}", "source": text, "group": f"g{i // 4}", **extra} for i, text in enumerate(texts)]


# tokenizers


def word_tokenizer(pad: str = "<pad>", end: str = "</s>", start: str | None = None) -> Any:
    """One token a word, the end token last in the vocabulary, as open_clip's argmax pooling wants it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = [pad, "<unk>", *([start] if start else [])]
    vocab = {token: i for i, token in enumerate([*special, *WORDS, end])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ids = [(token, vocab[token]) for token in (start, end) if token]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}" if start else f"$A {end}", special_tokens=ids
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token=end, bos_token=start, unk_token="<unk>"
    )


def byte_pairs(special: list[str], size: int = 400) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE learnt on the corpus."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def sentence_pieces(folder: Path, size: int = 120, corpus: Any = None) -> Path:
    """A sentencepiece unigram model learnt on the corpus, or on another one."""
    import io

    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus or CORPUS),
        model_writer=out,
        vocab_size=size,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = folder / "spiece.model"
    path.write_bytes(out.getvalue())
    return path


# contrastive encoders


def open_clip_dir(folder: Path, seed: int = 0, *, width: int = 16, context: int = 24, **changes: Any) -> Path:
    """An open_clip local directory with random weights; `changes` go into the text configuration."""
    import open_clip

    folder.mkdir(parents=True)
    tokenizer = word_tokenizer(start="<start>")
    tokenizer.save_pretrained(folder)
    text = {"context_length": context, "vocab_size": len(tokenizer), "width": width, "heads": 2, "layers": 2}
    vision = {"image_size": PIXELS, "patch_size": 8, "width": width, "head_width": 8, "layers": 2}
    multimodal = changes.pop("multimodal_cfg", None)
    vision |= changes.pop("vision_cfg", {})
    config: dict[str, Any] = {"embed_dim": width, "vision_cfg": vision, "text_cfg": text | changes.pop("text_cfg", {})}
    config |= {"multimodal_cfg": multimodal} if multimodal else {}
    torch.manual_seed(seed)
    kind = open_clip.CoCa if multimodal else open_clip.CustomTextCLIP if changes.get("custom_text") else open_clip.CLIP
    model = kind(**json.loads(json.dumps(config)))
    if multimodal:
        torch.nn.init.normal_(model.text_decoder.text_projection, std=0.1)  # open_clip leaves what lay in memory there
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(folder / "open_clip_model.safetensors"))
    config = config | changes
    config["text_cfg"]["hf_tokenizer_name"] = "tiny"
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return folder


def coca_dir(folder: Path, seed: int = 0) -> Path:
    """CoCa: attentional pooling in the image tower, a class token in the text tower."""
    return open_clip_dir(
        folder,
        seed,
        text_cfg={"embed_cls": True, "output_tokens": True},
        vision_cfg={"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        multimodal_cfg={
            "context_length": 24,
            "vocab_size": len(word_tokenizer(start="<start>")),
            "width": 16,
            "heads": 2,
            "layers": 1,
            "attn_pooler_heads": 2,
        },
        custom_text=True,
    )


def siglip_like_dir(folder: Path, seed: int = 0) -> Path:
    """open_clip's SigLIP recipe: a timm picture tower without projection, a non-causal text tower."""
    return open_clip_dir(
        folder,
        seed,
        text_cfg={"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
        vision_cfg={
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "token",
            "timm_proj": "linear",
        },
        custom_text=True,
    )


_TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = _TEXT | {"patch_size": 8}


def hf_clip_dir(folder: Path, seed: int = 0) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    vocab, merges = byte_pairs(["<|startoftext|>", "<|endoftext|>"])
    ends = {f"{piece}</w>": len(vocab) + i for i, piece in enumerate(vocab) if not piece.startswith("<|")}
    tokenizer = CLIPTokenizer(vocab=vocab | ends, merges=merges, model_max_length=24)
    config = CLIPConfig(
        text_config=_TEXT
        | {
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 24,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=_VISION | {"image_size": PIXELS},
        projection_dim=12,
    )
    size = {"height": PIXELS, "width": PIXELS}
    return _save(
        folder, CLIPModel, config, seed, tokenizer, CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size=size)
    )


def hf_siglip_dir(folder: Path, seed: int = 0) -> Path:
    """Text and image width differ, so that the text tower projects."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipTokenizer

    folder.mkdir(parents=True)
    tokenizer = SiglipTokenizer(vocab_file=str(sentence_pieces(folder)), model_max_length=24)
    config = SiglipConfig(
        text_config=_TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "projection_size": 8},
        vision_config=_VISION | {"image_size": PIXELS, "hidden_size": 8},
    )
    return _save(
        folder,
        SiglipModel,
        config,
        seed,
        tokenizer,
        SiglipImageProcessor(size={"height": PIXELS, "width": PIXELS}),
    )


def hf_siglip2_dir(folder: Path, seed: int = 0) -> Path:
    """NaFlex: pictures keep their shape and come as patches with a mask."""
    from transformers import Siglip2Config, Siglip2ImageProcessor, Siglip2Model, Siglip2Tokenizer

    vocab, merges = byte_pairs(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    tokenizer = Siglip2Tokenizer(vocab=vocab, merges=merges, model_max_length=24, padding_side="right")
    config = Siglip2Config(
        text_config=_TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 24},
        vision_config=_VISION | {"num_patches": 16},
    )
    processor = Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    return _save(folder, Siglip2Model, config, seed, tokenizer, processor)


def hf_clap_dir(folder: Path, seed: int = 0) -> Path:
    """Audio of 8 kHz, at most a second."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizer

    vocab, merges = byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer = RobertaTokenizer(vocab=vocab, merges=merges, model_max_length=24)
    config = ClapConfig(
        text_config=_TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 26, "projection_dim": 12},
        audio_config={
            "spec_size": 32,
            "num_mel_bins": 8,
            "window_size": 2,
            "hidden_size": 8,
            "patch_embeds_hidden_size": 4,
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "num_hidden_layers": 2,
            "projection_dim": 12,
        },
        projection_dim=12,
    )
    extractor = ClapFeatureExtractor(
        feature_size=8,
        sampling_rate=8_000,
        hop_length=80,
        max_length_s=1,
        fft_window_size=128,
        frequency_max=4_000,
        truncation="rand_trunc",
    )
    return _save(folder, ClapModel, config, seed, tokenizer, extractor)


def _save(folder: Path, kind: Any, config: Any, seed: int, *parts: Any) -> Path:
    torch.manual_seed(seed)
    kind(config).eval().save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return folder


# language models


def t5_dir(folder: Path, seed: int = 0, **changes: Any) -> Path:
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = word_tokenizer()
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.1}
    config = T5Config(
        vocab_size=len(tokenizer),
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **(sizes | changes),
    )
    return _save(folder, T5ForConditionalGeneration, config, seed, tokenizer)


def t5_pieces_dir(folder: Path, seed: int = 0) -> Path:
    """T5 with its own tokenizer class."""
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    folder.mkdir(parents=True)
    tokenizer = T5Tokenizer.from_pretrained(_spm_only(folder), extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return _save(folder, T5ForConditionalGeneration, config, seed, tokenizer)


def flan_t5_dir(folder: Path, seed: int = 0) -> Path:
    """FLAN-T5 is T5 1.1: a gated feed-forward, an output layer of its own."""
    return t5_dir(folder, seed, feed_forward_proj="gated-gelu", tie_word_embeddings=False)


def mt5_dir(folder: Path, seed: int = 0) -> Path:
    from transformers import MT5Config, MT5ForConditionalGeneration, T5Tokenizer

    folder.mkdir(parents=True)
    tokenizer = T5Tokenizer.from_pretrained(_spm_only(folder), extra_ids=0)
    config = MT5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return _save(folder, MT5ForConditionalGeneration, config, seed, tokenizer)


def _spm_only(folder: Path) -> str:
    sentence_pieces(folder)
    return str(folder)


def bart_dir(folder: Path, seed: int = 0) -> Path:
    from transformers import BartConfig, BartForConditionalGeneration, BartTokenizer

    vocab, merges = byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer = BartTokenizer(vocab=vocab, merges=merges, model_max_length=64)
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
    )
    return _save(folder, BartForConditionalGeneration, config, seed, tokenizer)


def t5_still_dir(folder: Path, seed: int = 0) -> Path:
    """T5 without dropout."""
    return t5_dir(folder, seed, dropout_rate=0.0)


def gpt2_dir(folder: Path, seed: int = 0, tokens: int = 0, **changes: Any) -> Path:
    """No token to begin a text, none to pad with."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    vocab, merges = byte_pairs(["<|endoftext|>"])
    vocab |= {f"<{place}>": place for place in range(len(vocab), tokens)}
    tokenizer = GPT2Tokenizer(vocab=vocab, merges=merges, model_max_length=64)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": len(tokenizer)}
    config = GPT2Config(bos_token_id=0, eos_token_id=0, **(sizes | changes))
    return _save(folder, GPT2LMHeadModel, config, seed, tokenizer)


def gpt2_still_dir(folder: Path, seed: int = 0) -> Path:
    """GPT-2 without dropout."""
    return gpt2_dir(folder, seed, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


def opt_dir(folder: Path, seed: int = 0) -> Path:
    """Texts begin with the token that ends them; positions are learnt, and counted from two."""
    from transformers import GPT2Tokenizer, OPTConfig, OPTForCausalLM

    vocab, merges = byte_pairs(["<s>", "<pad>", "</s>", "<unk>"])
    named = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    tokenizer = GPT2Tokenizer(vocab=vocab, merges=merges, add_bos_token=True, **named)
    sizes = {"hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = OPTConfig(vocab_size=len(tokenizer), word_embed_proj_dim=16, max_position_embeddings=64, **sizes)
    return _save(folder, OPTForCausalLM, config, seed, tokenizer)


_DECODER = _TEXT | {"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 128}


def _metaspace_pairs(special: list[str], size: int = 400) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a BPE as sentencepiece makes them, bytes included."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def llama_dir(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Llama 2: pieces with a space before the first word, a token to begin, none to pad with."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

    vocab, merges = _metaspace_pairs(["<unk>", "<s>", "</s>"])
    tokenizer = LlamaTokenizer(vocab=vocab, merges=merges)
    config = LlamaConfig(vocab_size=len(tokenizer), **(_DECODER | changes))
    return _save(folder, LlamaForCausalLM, config, seed, tokenizer)


def mistral_dir(folder: Path, seed: int = 0) -> Path:
    """Llama's tokenizer, and a window that slides."""
    from transformers import LlamaTokenizer, MistralConfig, MistralForCausalLM

    vocab, merges = _metaspace_pairs(["<unk>", "<s>", "</s>"])
    config = MistralConfig(vocab_size=len(vocab), sliding_window=6, **_DECODER)
    return _save(folder, MistralForCausalLM, config, seed, LlamaTokenizer(vocab=vocab, merges=merges))


CHAT_ML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def _qwen_tokenizer(end: str, template: str | None = None) -> Any:
    from transformers import Qwen2Tokenizer

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab, merges = byte_pairs(special)
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, eos_token=end, extra_special_tokens=special[1:])
    tokenizer.chat_template = template
    return tokenizer


def qwen2_dir(folder: Path, seed: int = 0) -> Path:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _qwen_tokenizer("<|endoftext|>")
    sizes = {key: value for key, value in _DECODER.items() if key != "head_dim"}
    config = Qwen2Config(vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes)
    return _save(folder, Qwen2ForCausalLM, config, seed, tokenizer)


def qwen3_dir(folder: Path, seed: int = 0) -> Path:
    """Instruction-tuned: turns of a chat, and a thought that is left empty."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _qwen_tokenizer("<|im_end|>", CHAT_ML)
    config = Qwen3Config(vocab_size=len(tokenizer), tie_word_embeddings=True, **_DECODER)
    return _save(folder, Qwen3ForCausalLM, config, seed, tokenizer)


def _gemma_dir(folder: Path, seed: int, name: str, template: str | None = None, **changes: Any) -> Path:
    import transformers

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    vocab, merges = _metaspace_pairs(special)
    tokenizer = transformers.GemmaTokenizer(vocab=vocab, merges=merges, extra_special_tokens=special[5:])
    tokenizer.chat_template = template
    kind = getattr(transformers, f"{name}ForCausalLM")
    config = kind.config_class(vocab_size=len(tokenizer), **(_DECODER | changes))
    return _save(folder, kind, config, seed, tokenizer)


def gemma_dir(folder: Path, seed: int = 0) -> Path:
    """Token embeddings are scaled where they are looked up."""
    return _gemma_dir(folder, seed, "Gemma")


def gemma2_dir(folder: Path, seed: int = 0) -> Path:
    """Every other layer's window slides."""
    return _gemma_dir(folder, seed, "Gemma2", sliding_window=6, query_pre_attn_scalar=8)


GEMMA_CHAT = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message.role }}\n{{ message.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def gemma3_dir(folder: Path, seed: int = 0) -> Path:
    """Instruction-tuned; token embeddings are scaled where they are looked up; most layers' window slides."""
    return _gemma_dir(
        folder, seed, "Gemma3", GEMMA_CHAT, sliding_window=6, query_pre_attn_scalar=8, sliding_window_pattern=2
    )


def phi_dir(folder: Path, seed: int = 0) -> Path:
    """More embeddings than tokens; a part of each head is rotated."""
    from transformers import CodeGenTokenizer, PhiConfig, PhiForCausalLM

    vocab, merges = byte_pairs(["<|endoftext|>"])
    sizes = {key: value for key, value in _DECODER.items() if key not in ("head_dim", "num_key_value_heads")}
    config = PhiConfig(vocab_size=len(vocab) + 7, bos_token_id=0, eos_token_id=0, **sizes)
    return _save(folder, PhiForCausalLM, config, seed, CodeGenTokenizer(vocab=vocab, merges=merges))
