"""fp32 weights out of a checkpoint, under DeepSpeed's names."""

from __future__ import annotations

from orlop.compat import fp32_weights as _fp32_weights

convert_zero_checkpoint_to_fp32_state_dict = _fp32_weights.write_fp32_weights
get_fp32_state_dict_from_zero_checkpoint = _fp32_weights.fp32_state_dict
load_state_dict_from_zero_checkpoint = _fp32_weights.load_fp32_state
main = _fp32_weights.main
