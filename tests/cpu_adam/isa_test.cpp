#include <algorithm>
#include <cstdlib>
#include <optional>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "cpu_adam/adam.hpp"
#include "cpu_adam/dispatch.hpp"

namespace orlop::cpu_adam {
namespace {

// ORLOP_CPU for the life of a test.
class Forced {
 public:
  explicit Forced(const char* name) {
    if (const char* old = std::getenv("ORLOP_CPU")) saved_ = old;
    setenv("ORLOP_CPU", name, 1);
  }
  ~Forced() {
    if (saved_) setenv("ORLOP_CPU", saved_->c_str(), 1);
    else unsetenv("ORLOP_CPU");
  }

 private:
  std::optional<std::string> saved_;
};

TEST(SelectIsa, TakesTheBestWithoutBeingForced) {
  const Forced forced("");
  EXPECT_EQ(select_isa().value(), usable_isas().back());
  EXPECT_EQ(usable_isas().front(), Isa::scalar);
}

TEST(SelectIsa, TakesTheForcedOne) {
  for (const Isa isa : usable_isas()) {
    const Forced forced(std::string(name_of(isa)).c_str());
    EXPECT_EQ(select_isa().value(), isa);
  }
}

// Each table carries what its own file was compiled for (checked there by the compiler), and shares no kernel with
// another.
TEST(SelectIsa, LeadsToKernelsThatWereCompiledForIt) {
  std::set<KernelTable::Update> seen;
  for (const Isa isa : usable_isas()) {
    const Forced forced(std::string(name_of(isa)).c_str());
    const KernelTable& table = kernels_of(select_isa().value());
    EXPECT_EQ(table.isa, isa);
    for (const auto& row : table.update) {
      for (const KernelTable::Update kernel : row) EXPECT_TRUE(seen.insert(kernel).second);
    }
  }
}

TEST(SelectIsa, RefusesANameThatIsNone) {
  const Forced forced("sse9");
  const auto isa = select_isa();
  ASSERT_FALSE(isa);
  EXPECT_EQ(isa.error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_NE(isa.error().message.find("'sse9'"), std::string::npos) << isa.error().message;
}

TEST(SelectIsa, RefusesWhatTheMachineDoesNotHave) {
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    const auto usable = usable_isas();
    if (std::find(usable.begin(), usable.end(), isa) != usable.end()) continue;
    const Forced forced(std::string(name_of(isa)).c_str());
    const auto selected = select_isa();
    ASSERT_FALSE(selected);
    EXPECT_EQ(selected.error().status, ORLOP_UNSUPPORTED);
  }
}

TEST(UsableIsas, AgreeWithTheCompilersOwnDetection) {
  const auto usable = usable_isas();
  const auto has = [&](Isa isa) { return std::find(usable.begin(), usable.end(), isa) != usable.end(); };
#if defined(__x86_64__)
  EXPECT_EQ(has(Isa::avx2),
            __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"));
  EXPECT_EQ(has(Isa::avx512), has(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"));
#else
  EXPECT_FALSE(has(Isa::avx2) || has(Isa::avx512));
#endif
}

}  // namespace
}  // namespace orlop::cpu_adam
