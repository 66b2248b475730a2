"""Keys of features that DeepSpeed has removed: naming one is an error there, and here."""

from __future__ import annotations

from typing import Any

_TOP_LEVEL = {
    "amp": 'NVIDIA Apex AMP: write "bf16": {"enabled": true} or "torch_autocast": {"enabled": true}',
    "elasticity": "elastic training: write the batch sizes themselves",
    "compression_training": "compression: train the model as it is",
    "quantize_training": "quantised training: train the model as it is",
    "sparse_gradients": "compressing the gradients of dense embeddings: leave it out",
    "sparse_attention": "sparse attention: attention is the model's",
    "curriculum_learning": "curriculum learning at the top level: choosing data is the program's",
    "progressive_layer_drop": "progressive layer dropping: train the model as it is",
    "eigenvalue": "eigenvalues for quantisation: leave it out",
    "graph_harvesting": "graph harvesting: leave it out",
    "nebula": 'Nebula: write "orlop": {"checkpoint": {"background": true}} for checkpoints in the background',
}
_ZERO = {
    "mics_shard_size": "MiCS: leave it out",
    "mics_hierarchical_params_gather": "MiCS: leave it out",
    "zeropp_loco_param": "LoCo: leave it out",
}


def removed_key(param_dict: dict[str, Any]) -> str | None:
    """A sentence about the first such key of a configuration, or None."""
    block = param_dict.get("zero_optimization")
    zero = block if isinstance(block, dict) else {}
    named = {key: what for key, what in _TOP_LEVEL.items() if key in param_dict}
    named |= {f"zero_optimization.{key}": what for key, what in _ZERO.items() if key in zero}
    for key, what in named.items():
        return f'config: on "{key}": it has been removed from DeepSpeed and is no longer supported: {what}'
    return None
