"""Language models of transformers that have a fast search."""

from __future__ import annotations

__all__ = ["FAMILIES"]

FAMILIES = {
    "T5ForConditionalGeneration": "t5",
    "GPT2LMHeadModel": "gpt2",
    "OPTForCausalLM": "opt",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "GemmaForCausalLM": "gemma",
    "Gemma3ForCausalLM": "gemma3_text",
    "PhiForCausalLM": "phi",
}
"""Classes, and the `model_type` of each, which names its probe."""
