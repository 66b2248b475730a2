// Sizes and offsets that programs were compiled with: a change here breaks them. Fields are only ever appended.
#include <cstddef>

#include <gtest/gtest.h>

#include "orlop/orlop.h"

namespace {

TEST(Layout, OfEngineParamsIsFixed) {
  EXPECT_EQ(sizeof(orlop_engine_params), 48u);
  EXPECT_EQ(offsetof(orlop_engine_params, struct_size), 0u);
  EXPECT_EQ(offsetof(orlop_engine_params, rank), 4u);
  EXPECT_EQ(offsetof(orlop_engine_params, world_size), 8u);
  EXPECT_EQ(offsetof(orlop_engine_params, device_kind), 12u);
  EXPECT_EQ(offsetof(orlop_engine_params, device_index), 16u);
  EXPECT_EQ(offsetof(orlop_engine_params, config_json), 24u);
  EXPECT_EQ(offsetof(orlop_engine_params, run_id), 32u);
  EXPECT_EQ(offsetof(orlop_engine_params, optimizer_json), 40u);
}

TEST(Layout, OfParamDescIsFixed) {
  EXPECT_EQ(sizeof(orlop_param_desc), 40u);
  EXPECT_EQ(offsetof(orlop_param_desc, dtype), 4u);
  EXPECT_EQ(offsetof(orlop_param_desc, name), 8u);
  EXPECT_EQ(offsetof(orlop_param_desc, numel), 16u);
  EXPECT_EQ(offsetof(orlop_param_desc, group), 24u);
  EXPECT_EQ(offsetof(orlop_param_desc, module), 28u);
  EXPECT_EQ(offsetof(orlop_param_desc, flags), 32u);
}

TEST(Layout, OfGroupParamsIsFixed) {
  EXPECT_EQ(sizeof(orlop_group_params), 64u);
  EXPECT_EQ(offsetof(orlop_group_params, decoupled_weight_decay), 4u);
  EXPECT_EQ(offsetof(orlop_group_params, lr), 8u);
  EXPECT_EQ(offsetof(orlop_group_params, weight_decay), 40u);
  EXPECT_EQ(offsetof(orlop_group_params, bias_correction), 48u);
  EXPECT_EQ(offsetof(orlop_group_params, optimizer), 52u);
  EXPECT_EQ(offsetof(orlop_group_params, lr_decay), 56u);
}

TEST(Layout, OfTensorIsFixed) {
  EXPECT_EQ(sizeof(orlop_tensor), 64u);
  EXPECT_EQ(offsetof(orlop_tensor, param_dtype), 4u);
  EXPECT_EQ(offsetof(orlop_tensor, grad_dtype), 8u);
  EXPECT_EQ(offsetof(orlop_tensor, state_dtype), 12u);
  EXPECT_EQ(offsetof(orlop_tensor, numel), 16u);
  EXPECT_EQ(offsetof(orlop_tensor, param), 24u);
  EXPECT_EQ(offsetof(orlop_tensor, grad), 32u);
  EXPECT_EQ(offsetof(orlop_tensor, exp_avg), 40u);
  EXPECT_EQ(offsetof(orlop_tensor, exp_avg_sq), 48u);
  EXPECT_EQ(offsetof(orlop_tensor, step), 56u);
}

TEST(Layout, OfStepStructsIsFixed) {
  EXPECT_EQ(sizeof(orlop_step_params), 16u);
  EXPECT_EQ(offsetof(orlop_step_params, loss_scale), 8u);
  EXPECT_EQ(sizeof(orlop_step_report), 112u);
  EXPECT_EQ(offsetof(orlop_step_report, skipped), 4u);
  EXPECT_EQ(offsetof(orlop_step_report, step), 8u);
  EXPECT_EQ(offsetof(orlop_step_report, grad_norm), 24u);
  EXPECT_EQ(offsetof(orlop_step_report, seconds), 40u);
  EXPECT_EQ(offsetof(orlop_step_report, nvme_write_bytes), 80u);
  EXPECT_EQ(offsetof(orlop_step_report, loss_scale), 88u);
  EXPECT_EQ(offsetof(orlop_step_report, unit_copy_seconds), 104u);
}

TEST(Layout, OfImportParamsIsFixed) {
  EXPECT_EQ(sizeof(orlop_import_params), 40u);
  EXPECT_EQ(offsetof(orlop_import_params, directory), 8u);
  EXPECT_EQ(offsetof(orlop_import_params, client_json), 16u);
  EXPECT_EQ(offsetof(orlop_import_params, params), 24u);
  EXPECT_EQ(offsetof(orlop_import_params, param_count), 32u);
}

TEST(Layout, OfStatsIsFixed) {
  EXPECT_EQ(sizeof(orlop_stats), 200u);
  EXPECT_EQ(offsetof(orlop_stats, params), 8u);
  EXPECT_EQ(offsetof(orlop_stats, host_bytes), 40u);
  EXPECT_EQ(offsetof(orlop_stats, step_seconds), 112u);
  EXPECT_EQ(offsetof(orlop_stats, unexpected_uses), 152u);
  EXPECT_EQ(offsetof(orlop_stats, loss_scale_overflows_left), 168u);
  EXPECT_EQ(offsetof(orlop_stats, unit_copy_seconds), 184u);
  EXPECT_EQ(offsetof(orlop_stats, activation_bytes), 192u);
}

TEST(Layout, OfHostPoolStructsIsFixed) {
  EXPECT_EQ(sizeof(orlop_host_pool_params), 24u);
  EXPECT_EQ(offsetof(orlop_host_pool_params, device_kind), 4u);
  EXPECT_EQ(offsetof(orlop_host_pool_params, flags), 12u);
  EXPECT_EQ(offsetof(orlop_host_pool_params, limit_bytes), 16u);
  EXPECT_EQ(sizeof(orlop_host_pool_use), 40u);
  EXPECT_EQ(offsetof(orlop_host_pool_use, limit_bytes), 8u);
  EXPECT_EQ(offsetof(orlop_host_pool_use, peak_bytes), 32u);
}

TEST(Layout, OfFileQueueParamsIsFixed) {
  EXPECT_EQ(sizeof(orlop_file_queue_params), 32u);
  EXPECT_EQ(offsetof(orlop_file_queue_params, depth), 4u);
  EXPECT_EQ(offsetof(orlop_file_queue_params, block_bytes), 8u);
  EXPECT_EQ(offsetof(orlop_file_queue_params, queue), 16u);
  EXPECT_EQ(offsetof(orlop_file_queue_params, thread_count), 24u);
}

TEST(Layout, StatusNumbersAreFixed) {
  EXPECT_EQ(ORLOP_OK, 0);
  EXPECT_EQ(ORLOP_INVALID_ARGUMENT, -1);
  EXPECT_EQ(ORLOP_NO_SPACE, -6);
  EXPECT_EQ(ORLOP_CORRUPT, -9);
  EXPECT_EQ(ORLOP_INTERNAL, -16);
}

}  // namespace
