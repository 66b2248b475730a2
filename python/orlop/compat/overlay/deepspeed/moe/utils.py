"""Helpers of DeepSpeed's layer of experts, which are not offered."""

from __future__ import annotations

from .._missing import missing

split_params_into_different_moe_groups_for_optimizer = missing(
    "deepspeed.moe.utils.split_params_into_different_moe_groups_for_optimizer",
    "give the model's parameter groups as they are; experts need none of their own on one rank",
)
is_moe_param = missing("deepspeed.moe.utils.is_moe_param", "no parameter here belongs to its layer of experts")
