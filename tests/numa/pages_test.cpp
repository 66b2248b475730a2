#include "numa/pages.hpp"

#include <algorithm>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "fixture_root.hpp"

namespace orlop::numa {
namespace {

using Pages = FixtureRoot;

TEST_F(Pages, SetAsideAreCountedLessThoseReserved) {
  write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "10\n");
  write("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "4\n");
  write("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "3\n");
  EXPECT_EQ(free_explicit_huge_bytes(root(), std::nullopt), 12_MiB);
  EXPECT_EQ(free_explicit_huge_bytes(root(), 1), 6_MiB);
  EXPECT_EQ(free_explicit_huge_bytes(root(), 2), 0u);
}

TEST_F(Pages, SetAsideNowhereAreNone) {
  EXPECT_EQ(free_explicit_huge_bytes(root(), std::nullopt), 0u);
}

TEST_F(Pages, AreHugeWhereTheSystemAllowsIt) {
  const char* const general = "/sys/kernel/mm/transparent_hugepage/enabled";
  EXPECT_FALSE(transparent_huge_pages_allowed(root()));
  write(general, "always [madvise] never\n");
  EXPECT_TRUE(transparent_huge_pages_allowed(root()));
  write(general, "[always] madvise never\n");
  EXPECT_TRUE(transparent_huge_pages_allowed(root()));
  write(general, "always madvise [never]\n");
  EXPECT_FALSE(transparent_huge_pages_allowed(root()));
}

TEST_F(Pages, OfTwoMebibytesHaveASettingOfTheirOwn) {
  const char* const own = "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled";
  write("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  write(own, "always [inherit] madvise never\n");
  EXPECT_FALSE(transparent_huge_pages_allowed(root()));
  write(own, "always inherit [madvise] never\n");
  EXPECT_TRUE(transparent_huge_pages_allowed(root()));
  write("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
  write(own, "always inherit madvise [never]\n");
  EXPECT_FALSE(transparent_huge_pages_allowed(root()));
}

class Populating : public testing::TestWithParam<PopulateBy> {
 protected:
  static constexpr std::size_t kBytes = 66_MiB;  // two pieces

  Populating()
      : data_(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
        page_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {}
  ~Populating() override { ::munmap(data_, kBytes); }

  void SetUp() override {
    ASSERT_NE(data_, MAP_FAILED);
    if (GetParam() == PopulateBy::advice && !populate_advice_is_supported()) {
      GTEST_SKIP() << "MADV_POPULATE_WRITE needs Linux 5.14";
    }
  }
  [[nodiscard]] std::span<std::byte> memory() const { return {static_cast<std::byte*>(data_), kBytes}; }
  [[nodiscard]] bool is_all_present() const {
    std::vector<unsigned char> present(kBytes / page_);
    return ::mincore(data_, kBytes, present.data()) == 0 &&
           std::all_of(present.begin(), present.end(), [](unsigned char c) { return (c & 1) != 0; });
  }

 private:
  void* data_;
  std::size_t page_;
};

TEST_P(Populating, MakesEveryPageRealAndKeepsWhatIsThere) {
  const Topology topology = Topology::synthetic("numa:2 core:2 pu:1").value();
  memory()[0] = std::byte{7};
  EXPECT_FALSE(is_all_present());
  const auto done = populate(memory(), topology, 1, GetParam());
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_TRUE(is_all_present());
  EXPECT_EQ(memory()[0], std::byte{7});
  EXPECT_EQ(memory()[1], std::byte{0});
}

INSTANTIATE_TEST_SUITE_P(Ways, Populating, testing::Values(PopulateBy::advice, PopulateBy::touch),
                         [](const auto& way) {
                           return way.param == PopulateBy::advice ? "advice" : "touch";
                         });

TEST(Populate, OfMemoryThatCannotBeWrittenIsAnErrorNotASignal) {
  if (!populate_advice_is_supported()) GTEST_SKIP() << "MADV_POPULATE_WRITE needs Linux 5.14";
  void* const data = ::mmap(nullptr, 4_MiB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(data, MAP_FAILED);
  const Topology topology = Topology::synthetic("numa:1 core:2 pu:1").value();
  EXPECT_FALSE(populate({static_cast<std::byte*>(data), 4_MiB}, topology, -1));
  ::munmap(data, 4_MiB);
}

TEST(TransparentHugePages, AreCountedWhereTheSystemGivesThem) {
  if (!transparent_huge_pages_allowed("") || transparent_huge_pages_denied_to_process()) {
    GTEST_SKIP() << "transparent huge pages are off on this machine";
  }
  constexpr std::size_t kBytes = 8_MiB;
  void* const data = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(data, MAP_FAILED);
  const std::span<std::byte> memory(static_cast<std::byte*>(data), kBytes);
  EXPECT_EQ(transparent_huge_bytes(memory), 0u);
  ASSERT_EQ(::madvise(data, kBytes, MADV_HUGEPAGE), 0);
  std::fill(memory.begin(), memory.end(), std::byte{1});
  const auto huge = transparent_huge_bytes(memory);
  ASSERT_TRUE(huge);
  EXPECT_LE(*huge, kBytes);
  ::munmap(data, kBytes);
}

}  // namespace
}  // namespace orlop::numa
