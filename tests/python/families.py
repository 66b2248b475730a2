"""Ten families of models of transformers, tiny and random, and what they are trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

Inputs = dict[str, Tensor]

SMALL: dict[str, Any] = {
    "vocab_size": 67,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
DECODER = SMALL | {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}


def tokens(step: int) -> Tensor:
    return torch.randint(3, 67, (2, 9), generator=torch.Generator().manual_seed(step))


def language(step: int) -> Inputs:
    return {"input_ids": tokens(step), "labels": tokens(step)}


def speech(shape: tuple[int, ...]) -> Callable[[int], Inputs]:
    def inputs(step: int) -> Inputs:
        sound = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        name = "input_features" if len(shape) == 3 else "input_values"
        return {name: sound, "labels": tokens(step)[:, :3]}

    return inputs


def llama(tied: bool) -> nn.Module:
    settings = transformers.LlamaConfig(**DECODER, tie_word_embeddings=tied)
    return transformers.LlamaForCausalLM(settings)


def gpt2() -> nn.Module:
    settings = transformers.GPT2Config(
        vocab_size=67, n_embd=24, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2
    )
    return transformers.GPT2LMHeadModel(settings)


def qwen3() -> nn.Module:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**DECODER, head_dim=6))


def gemma3() -> nn.Module:
    settings = transformers.Gemma3TextConfig(**DECODER, head_dim=6, sliding_window=4)
    return transformers.Gemma3ForCausalLM(settings)


def mixtral() -> nn.Module:
    settings = transformers.MixtralConfig(**DECODER, num_local_experts=3, num_experts_per_tok=2)
    return transformers.MixtralForCausalLM(settings)


def t5() -> nn.Module:
    settings = transformers.T5Config(
        vocab_size=67, d_model=24, d_kv=6, d_ff=40, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(settings)


def bert() -> nn.Module:
    return transformers.BertForMaskedLM(transformers.BertConfig(**SMALL))


def albert() -> nn.Module:
    settings = transformers.AlbertConfig(**SMALL | {"num_hidden_layers": 3}, embedding_size=12)
    return transformers.AlbertForMaskedLM(settings)


def whisper() -> nn.Module:
    settings = transformers.WhisperConfig(
        vocab_size=67,
        d_model=24,
        num_mel_bins=8,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=40,
        decoder_ffn_dim=40,
        max_source_positions=20,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        dropout=0.1,
    )
    return transformers.WhisperForConditionalGeneration(settings)


def wav2vec2() -> nn.Module:
    settings = transformers.Wav2Vec2Config(
        **SMALL,
        conv_dim=(16, 16),
        conv_kernel=(8, 4),
        conv_stride=(4, 4),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        mask_time_prob=0.0,
        layerdrop=0.0,
        ctc_zero_infinity=True,
    )
    return transformers.Wav2Vec2ForCTC(settings)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Inputs]]] = {
    "llama, tied": (lambda: llama(True), language),
    "llama, untied": (lambda: llama(False), language),
    "gpt2": (gpt2, language),
    "qwen3": (qwen3, language),
    "gemma3": (gemma3, language),
    "mixtral": (mixtral, language),
    "t5": (t5, language),
    "bert": (bert, language),
    "whisper": (whisper, speech((2, 8, 40))),
    "wav2vec2": (wav2vec2, speech((2, 400))),
}
