"""Seeded tiny models of `transformers`, saved as the worker reads them: oracle and subject."""

import json
import random
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from layerwise_worker.requests import GenerationRequest

VOCABULARY = 97

LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
MOE = {"moe_intermediate_size": 32, "num_experts": 16, "norm_topk_prob": True}
# Family and changes of its config: every difference between families that a stage must know of. The shared
# expert's size is even, and so can be split.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "untied": ("Llama", {}),
    "tied": ("Llama", {"tie_word_embeddings": True}),
    "every-head-its-own-keys": ("Llama", {"num_key_value_heads": 4}),
    "one-key-head-for-all": ("Llama", {"num_key_value_heads": 1}),
    "llama3-positions": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "biased-attention": ("Llama", {"attention_bias": True}),
    "head-size-of-its-own": ("Llama", {"head_dim": 16}),
    "mistral-with-window": ("Mistral", {"sliding_window": 11}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "mixtral-top-2": ("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2-moe-top-2": (
        "Qwen2Moe",
        {**MOE, "num_experts_per_tok": 2, "shared_expert_intermediate_size": 42, "norm_topk_prob": False},
    ),
    "qwen3-moe-top-8": ("Qwen3Moe", {**MOE, "num_experts_per_tok": 8, "head_dim": 16}),
}


def prompts_of(*lengths: int) -> list[list[int]]:
    """Prompts of these lengths, the same at every call; no token ends a sequence."""
    numbers = random.Random(3)  # noqa: S311 - a test's numbers
    return [[numbers.randrange(3, VOCABULARY) for _ in range(length)] for length in lengths]


def greedy_request(
    prompt: list[int], num_tokens: int, name: str = "one", **changes: Any
) -> GenerationRequest:
    """A request for as many of the likeliest tokens, whatever ends a sequence; `changes` override."""
    settings: dict[str, Any] = {"max_tokens": num_tokens, "temperature": 0.0, "ignore_eos": True, **changes}
    return GenerationRequest(name, tuple(prompt), **settings)


def save_llama(directory: Path, **changes: Any) -> transformers.PreTrainedModel:
    """A Llama model in float32, saved to `directory`; `changes` are fields of its config."""
    return save_family("Llama", directory, **changes)


def save_endless_llama(directory: Path, **changes: Any) -> transformers.PreTrainedModel:
    """The same with a tokenizer and room for thousands of tokens; nothing ends a sequence early."""
    model = save_llama(directory, max_position_embeddings=4096, eos_token_id=None, **changes)
    (directory / "generation_config.json").unlink()
    write_tokenizer(directory)
    return model


def save_family(family: str, directory: Path, **changes: Any) -> transformers.PreTrainedModel:
    """A model of any family, by the name of its classes, with weights so large that logits are far apart."""
    config = getattr(transformers, f"{family}Config")(**{**LLAMA, **changes})
    config.initializer_range = 0.2
    torch.manual_seed(7)
    model: transformers.PreTrainedModel = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    _randomise_biases(model)
    model.save_pretrained(directory)
    _settle(directory)
    return model


def _randomise_biases(model: transformers.PreTrainedModel) -> None:
    """`transformers` begins with zeros and ones, which would hide that they are not used."""
    for name, parameter in model.named_parameters():
        if name.endswith(".bias") or "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)


def _settle(directory: Path) -> None:
    """A deterministic generation_config: what a test does not ask for must not decide it."""
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [2]}))


@torch.inference_mode()
def greedy(model: transformers.PreTrainedModel, prompt: list[int], num_tokens: int) -> list[int]:
    """What `transformers` alone continues `prompt` with, whatever ends a sequence."""
    output: list[int] = []
    cache, step = None, prompt
    while len(output) < num_tokens:
        answer = model(torch.tensor([step]), past_key_values=cache, use_cache=True)
        cache, step = answer.past_key_values, [int(answer.logits[0, -1].argmax())]
        output += step
    return output


def write_tokenizer(directory: Path) -> None:
    """A tokenizer of one word a token, for tests that go through the HTTP front."""
    words = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(directory / "tokenizer.json"))
