#include "numa/host_memory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.hpp"
#include "fixture_root.hpp"

namespace orlop::numa {
namespace {

using testing::HasSubstr;
using HostMemoryOf = FixtureRoot;

constexpr const char* kMeminfo = "MemTotal:       16 kB\nMemFree:         2 kB\nMemAvailable:   10 kB\n";

TEST_F(HostMemoryOf, AMachineWithoutGroupsIsWhatTheKernelSays) {
  write("/proc/meminfo", kMeminfo);
  const auto memory = host_memory(root()).value();
  EXPECT_EQ(memory.total_bytes, 16u * 1024);
  EXPECT_EQ(memory.available_bytes, 10u * 1024);
  EXPECT_THAT(memory.limited_by, HasSubstr("this machine"));
}

TEST_F(HostMemoryOf, ATightGroupIsNamed) {
  write("/proc/meminfo", kMeminfo);
  write("/proc/self/cgroup", "0::/job\n");
  write("/proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  write("/sys/fs/cgroup/job/memory.max", "8192\n");
  write("/sys/fs/cgroup/job/memory.current", "1000\n");
  const auto memory = host_memory(root()).value();
  EXPECT_EQ(memory.total_bytes, 8192u);
  EXPECT_EQ(memory.available_bytes, 7192u);
  EXPECT_THAT(memory.limited_by, HasSubstr("/sys/fs/cgroup/job"));
}

TEST_F(HostMemoryOf, AWideGroupDoesNotHideAFullMachine) {
  write("/proc/meminfo", kMeminfo);
  write("/proc/self/cgroup", "0::/job\n");
  write("/proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  write("/sys/fs/cgroup/job/memory.max", "15000\n");
  EXPECT_EQ(host_memory(root()).value().available_bytes, 10u * 1024);
}

TEST_F(HostMemoryOf, AMachineThatDoesNotSayIsAnError) {
  EXPECT_EQ(host_memory(root()).error().status, ORLOP_NOT_FOUND);
  write("/proc/meminfo", "MemTotal: 16 kB\n");
  EXPECT_EQ(host_memory(root()).error().status, ORLOP_UNSUPPORTED);
}

TEST(HostMemory, TakenTakesItsPageTablesToo) {
  EXPECT_EQ(bytes_in_all(1_GiB, 2), 1_GiB + 2_MiB + 512_KiB + 4_MiB);
  EXPECT_EQ(bytes_in_all(UINT64_MAX - 1, 2), UINT64_MAX);
}

TEST(HostMemory, OfThisMachineIsPlausible) {
  const auto memory = host_memory().value();
  EXPECT_GT(memory.available_bytes, 1u << 20);
  EXPECT_LE(memory.available_bytes, memory.total_bytes);
}

}  // namespace
}  // namespace orlop::numa
