#include "numa/cgroup.hpp"

#include <gtest/gtest.h>

#include "fixture_root.hpp"

namespace orlop::numa {
namespace {

constexpr const char* kV2Mount =
    "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* kV1Mounts =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

using Cgroup = FixtureRoot;

TEST_F(Cgroup, EveryLevelOfVersionTwoCounts) {
  write("/proc/self/cgroup", "0::/job/step\n");
  write("/proc/self/mountinfo", kV2Mount);
  write("/sys/fs/cgroup/job/step/memory.max", "max\n");
  write("/sys/fs/cgroup/job/step/memory.high", "max\n");
  write("/sys/fs/cgroup/job/memory.max", "8000\n");
  write("/sys/fs/cgroup/job/memory.high", "max\n");
  write("/sys/fs/cgroup/job/memory.current", "5000\n");
  write("/sys/fs/cgroup/job/memory.stat", "anon 3000\ninactive_file 1500\nactive_file 500\n");

  const auto groups = memory_groups(root());

  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].directory, root() + "/sys/fs/cgroup/job");
  EXPECT_EQ(groups[0].limit_bytes, 8000u);
  EXPECT_EQ(groups[0].used_bytes, 5000u);
  EXPECT_EQ(groups[0].reclaimable_bytes, 1500u);
  EXPECT_EQ(groups[0].available_bytes(), 4500u);
}

TEST_F(Cgroup, HighIsALimitToo) {
  write("/proc/self/cgroup", "0::/job\n");
  write("/proc/self/mountinfo", kV2Mount);
  write("/sys/fs/cgroup/job/memory.max", "8000\n");
  write("/sys/fs/cgroup/job/memory.high", "6000\n");
  write("/sys/fs/cgroup/job/memory.current", "5000\n");

  const auto groups = memory_groups(root());

  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].limit_bytes, 6000u);
  EXPECT_EQ(groups[0].available_bytes(), 1000u);
}

TEST_F(Cgroup, VersionOneIsReadUpToItsRoot) {
  write("/proc/self/cgroup", "4:memory:/a/b\n3:cpu,cpuacct:/a\n1:name=systemd:/\n0::/\n");
  write("/proc/self/mountinfo", kV1Mounts);
  write("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
  write("/sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "700\n");
  write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1000\n");
  write("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "900\n");
  write("/sys/fs/cgroup/memory/a/memory.stat", "inactive_file 1\ntotal_inactive_file 300\n");

  const auto groups = memory_groups(root());

  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].limit_bytes, 9223372036854771712u);
  EXPECT_EQ(groups[1].available_bytes(), 400u);
}

TEST_F(Cgroup, HybridSystemsAreReadInBothVersions) {
  write("/proc/self/cgroup", "4:memory:/a\n0::/b\n");
  write("/proc/self/mountinfo",
        std::string(kV1Mounts) + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1000\n");
  write("/sys/fs/cgroup/unified/b/memory.max", "2000\n");

  EXPECT_EQ(memory_groups(root()).size(), 2u);
}

TEST_F(Cgroup, AContainerSeesItsOwnGroupAtTheMountPoint) {
  write("/proc/self/cgroup", "0::/docker/abc\n");
  write("/proc/self/mountinfo", "30 20 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
  write("/sys/fs/cgroup/memory.max", "4096\n");

  const auto groups = memory_groups(root());

  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].limit_bytes, 4096u);
}

TEST_F(Cgroup, AGroupOutsideTheNamespaceFallsBackToTheMountPoint) {
  write("/proc/self/cgroup", "0::/../other\n");
  write("/proc/self/mountinfo", kV2Mount);
  write("/sys/fs/cgroup/memory.max", "4096\n");

  EXPECT_EQ(memory_groups(root()).size(), 1u);
}

TEST_F(Cgroup, AMountOfAnotherGroupIsPassedOver) {
  write("/proc/self/cgroup", "0::/a/b\n");
  write("/proc/self/mountinfo", "29 20 0:26 /ab /mnt/ab rw - cgroup2 cgroup rw\n" + std::string(kV2Mount));
  write("/mnt/ab/memory.max", "1\n");
  write("/sys/fs/cgroup/a/b/memory.max", "4096\n");

  const auto groups = memory_groups(root());

  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].limit_bytes, 4096u);
}

TEST_F(Cgroup, MountPointsWithSpacesAreUnescaped) {
  write("/proc/self/cgroup", "0::/\n");
  write("/proc/self/mountinfo", "30 20 0:26 / /my\\040groups rw - cgroup2 cgroup rw\n");
  write("/my groups/memory.max", "4096\n");

  EXPECT_EQ(memory_groups(root()).size(), 1u);
}

TEST_F(Cgroup, UseAboveTheLimitLeavesNothing) {
  EXPECT_EQ((GroupMemory{"", 1000, 2000, 500}.available_bytes()), 0u);
  EXPECT_EQ((GroupMemory{"", 1000, 300, 500}.available_bytes()), 1000u);
}

TEST_F(Cgroup, NoGroupsMeansNoLimits) {
  EXPECT_TRUE(memory_groups(root()).empty());
  EXPECT_FALSE(processor_quota(root()));
}

TEST_F(Cgroup, TheTightestQuotaOfVersionTwoWins) {
  write("/proc/self/cgroup", "0::/a/b\n");
  write("/proc/self/mountinfo", kV2Mount);
  write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  write("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  write("/sys/fs/cgroup/cpu.max", "400000 100000\n");

  EXPECT_EQ(processor_quota(root()), 1.5);
}

TEST_F(Cgroup, TheQuotaOfVersionOneIsTwoFiles) {
  write("/proc/self/cgroup", "3:cpu,cpuacct:/a\n");
  write("/proc/self/mountinfo", kV1Mounts);
  write("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "200000\n");
  write("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");

  EXPECT_EQ(processor_quota(root()), 2.0);
}

}  // namespace
}  // namespace orlop::numa
