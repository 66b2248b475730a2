#include "zero3/background.hpp"

#include <atomic>
#include <future>
#include <stdexcept>

#include <gtest/gtest.h>

namespace orlop::zero3 {
namespace {

TEST(Background, GivesATasksResultOnce) {
  Background background("test");
  background.start([] { return Result<>{}; });
  const auto result = background.wait(-1);
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->has_value());
  EXPECT_FALSE(background.wait(0).has_value());
}

TEST(Background, WaitsInSlices) {
  Background background("test");
  std::promise<void> go;
  background.start([&] {
    go.get_future().wait();
    return Result<>{};
  });
  EXPECT_FALSE(background.wait(0).has_value());
  EXPECT_FALSE(background.wait(5).has_value());
  go.set_value();
  EXPECT_TRUE(background.wait(-1).has_value());
}

TEST(Background, PassesErrorsOn) {
  Background background("test");
  background.start([]() -> Result<> { return fail(ORLOP_IO_ERROR, "read: on x: y"); });
  EXPECT_EQ(background.wait(-1)->error().status, ORLOP_IO_ERROR);
}

TEST(Background, TurnsAnExceptionIntoAnError) {
  Background background("test");
  background.start([]() -> Result<> { throw std::runtime_error("boom"); });
  const auto result = background.wait(-1);
  EXPECT_EQ(result->error().status, ORLOP_INTERNAL);
  EXPECT_NE(result->error().message.find("boom"), std::string::npos);
}

TEST(Background, DestructionWaitsForTheTask) {
  std::atomic<bool> finished{false};
  {
    Background background("test");
    background.start([&] {
      finished = true;
      return Result<>{};
    });
  }
  EXPECT_TRUE(finished);
}

}  // namespace
}  // namespace orlop::zero3
