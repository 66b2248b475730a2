#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include "planes.hpp"

namespace orlop::cpu_adam {
namespace {

void expect_every_element_once(const Workers& workers, std::size_t count, std::size_t grain) {
  std::vector<std::atomic<std::uint8_t>> visits(count);
  std::atomic<bool> is_cut_at_grains{true};
  workers.parallel_for(count, grain, [&](std::size_t begin, std::size_t end) {
    if (begin % grain != 0 || (end % grain != 0 && end != count) || begin >= end) is_cut_at_grains = false;
    for (std::size_t i = begin; i != end; ++i) ++visits[i];
  });
  EXPECT_TRUE(is_cut_at_grains) << count << " by " << grain;
  EXPECT_TRUE(std::all_of(visits.begin(), visits.end(), [](const auto& n) { return n == 1; })) << count << " by " << grain;
}

TEST(Workers, VisitEveryElementOnceInWholeGrains) {
  for (const int threads : {1, 2, 3, 8}) {
    const Workers workers(threads);
    for (const std::size_t count : {0ul, 1ul, 1023ul, 1024ul, 1025ul, 100'000ul}) {
      for (const std::size_t grain : {1ul, 7ul, 1024ul}) expect_every_element_once(workers, count, grain);
    }
  }
}

TEST(Workers, ServeSeveralNodes) {
  auto topology = numa::Topology::synthetic("numa:3 core:2 pu:1");
  ASSERT_TRUE(topology) << topology.error().message;
  const Workers workers(6, std::move(*topology));
  for (const std::size_t count : {0ul, 1ul, 2ul, 5000ul, 99'999ul}) expect_every_element_once(workers, count, 10);
}

TEST(Workers, ServeMoreNodesThanThreads) {
  auto topology = numa::Topology::synthetic("numa:4 core:1 pu:1");
  ASSERT_TRUE(topology) << topology.error().message;
  expect_every_element_once(Workers(2, std::move(*topology)), 12'345, 100);
}

TEST(Workers, CountTheirThreads) {
  EXPECT_EQ(Workers(3).thread_count(), 3);
  EXPECT_GE(Workers(0).thread_count(), 1);
}

TEST(Workers, RunAsManyThreadsAsAskedForAtOnce) {
  const Workers workers(4);
  std::mutex mutex;
  std::condition_variable all_here;
  int here = 0;
  bool met = false;
  // Four pieces that wait for each other: with fewer threads they would not all arrive.
  workers.parallel_for(4, 1, [&](std::size_t begin, std::size_t end) {
    std::unique_lock lock(mutex);
    here += static_cast<int>(end - begin);
    if (here == 4) met = true;
    all_here.notify_all();
    all_here.wait_for(lock, std::chrono::seconds(20), [&] { return met; });
  });
  EXPECT_TRUE(met);
}

TEST(Workers, ComputeWithDenormalsOnEveryThreadAndRestoreTheCallers) {
  const unsigned saved = _mm_getcsr();
  for (const int threads : {1, 4}) {
    const Workers workers(threads);
    _mm_setcsr(0x9fc0);
    std::atomic<int> wrong{0};
    workers.parallel_for(64, 1, [&](std::size_t, std::size_t) {
      if ((_mm_getcsr() & ~0x3fu) != 0x1f80) ++wrong;
    });
    const unsigned after = _mm_getcsr();
    _mm_setcsr(saved);
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(after, 0x9fc0u);
  }
}

TEST(Workers, ServeSeveralCallersAtOnce) {
  const Workers workers(2);
  std::vector<std::thread> callers;
  for (int i = 0; i != 4; ++i) {
    callers.emplace_back([&] {
      for (int k = 0; k != 20; ++k) expect_every_element_once(workers, 10'000, 64);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(Workers, LeaveResultsIndependentOfTheirNumber) {
  const auto constants = kernels::make_constants({1e-3, 0.9, 0.999, 1e-8, 0.01, true, true}, 3, 1.0);
  Planes expected(300'000, 0);
  expected.fill(17, Values::ordinary, Master::split, GradType::bf16);
  const Planes original = expected;
  const auto update = [&](Planes& planes, const Workers& workers) {
    const PlaneSpan whole = planes.span(Master::split, GradType::bf16);
    workers.parallel_for(whole.count, 1024, [&](std::size_t begin, std::size_t end) {
      PlaneSpan part = whole;
      part.param = static_cast<std::uint16_t*>(whole.param) + begin;
      part.lo += begin;
      part.exp_avg += begin;
      part.exp_avg_sq += begin;
      part.grad = static_cast<const std::uint16_t*>(whole.grad) + begin;
      part.count = end - begin;
      const Stretch stretch = {part.count, &constants};
      update_chunk(usable_isas().back(), Master::split, GradType::bf16, part, {&stretch, 1}, nullptr, nullptr);
    });
  };
  update(expected, Workers(1));
  for (const int threads : {2, 3, 7}) {
    Planes actual = original;
    update(actual, Workers(threads));
    EXPECT_EQ(expected.difference(actual), "") << threads << " threads";
  }
}

TEST(Workers, CanBeMoved) {
  Workers first(2);
  Workers second(std::move(first));
  first = Workers(1);
  expect_every_element_once(second, 1000, 10);
  expect_every_element_once(first, 1000, 10);
}

}  // namespace
}  // namespace orlop::cpu_adam
