#include "zero3/grad_flow.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>

namespace orlop::zero3 {
namespace {

// Large enough to hide the cost of a task, small enough to spread an embedding over many cores; a multiple of
// kReduceElements, so that summed blocks are the same however the work is cut.
constexpr std::size_t kIntakeGrain = 64 * kReduceElements;

// Runs `pass(begin, end, summary)` over [0, count) and gathers the summaries. The sum is exact, so that neither the
// cuts nor the order in which they finish change a bit.
template <typename Pass>
cpu_adam::GradSummary gather(const cpu_adam::Workers& workers, std::size_t count, const Pass& pass) {
  cpu_adam::GradSummary total;
  std::mutex mutex;
  workers.parallel_for(count, kIntakeGrain, [&](std::size_t begin, std::size_t end) {
    cpu_adam::GradSummary part;
    pass(begin, end, part);
    const std::lock_guard lock(mutex);
    total.sum_of_squares.add(part.sum_of_squares);
    total.finite = total.finite && part.finite;
  });
  return total;
}

}  // namespace

GradFlow::GradFlow(std::span<const ParamSpec> params, const UnitPlan& plan, const FlatBuffers& buffers,
                   const cpu_adam::Workers& workers, cpu_adam::Isa isa, std::uint64_t micro_batches)
    : params_(params),
      plan_(&plan),
      buffers_(&buffers),
      workers_(&workers),
      isa_(isa),
      micro_batches_(micro_batches),
      entries_(params.size()) {}

std::byte* GradFlow::destination(std::uint32_t id) const {
  const Placement& place = plan_->placements[id];
  return buffers_->grads(place.unit) + place.offset * bytes_of(destination_dtype(id));
}

Dtype GradFlow::destination_dtype(std::uint32_t id) const {
  return buffers_->grad_dtype(plan_->placements[id].unit);
}

void GradFlow::take(std::uint32_t id, const void* gradient, Dtype dtype) {
  Entry& entry = entries_[id];
  const auto intake = entry.taken ? cpu_adam::Intake::add : cpu_adam::Intake::store;
  const bool is_last = is_last_micro_batch();
  const Dtype to = destination_dtype(id);
  const auto pass = [&](std::size_t begin, std::size_t end, cpu_adam::GradSummary* summary) {
    cpu_adam::grad_intake(isa_, intake, grad_type_of(to), destination(id) + begin * bytes_of(to),
                          grad_type_of(dtype), static_cast<const std::byte*>(gradient) + begin * bytes_of(dtype),
                          end - begin, summary);
  };
  const auto numel = static_cast<std::size_t>(params_[id].numel);
  if (is_last) {
    entry.summary = gather(*workers_, numel, [&](auto begin, auto end, auto& part) { pass(begin, end, &part); });
  } else {
    workers_->parallel_for(numel, kIntakeGrain, [&](auto begin, auto end) { pass(begin, end, nullptr); });
  }
  entry.taken = true;
  entry.summarized = is_last;
}

void GradFlow::replace(std::uint32_t id, Range range, const void* values, Dtype dtype) {
  Entry& entry = entries_[id];
  if (!entry.taken) fill_zero(id);
  const Dtype to = destination_dtype(id);
  cpu_adam::grad_intake(isa_, cpu_adam::Intake::store, grad_type_of(to), destination(id) + range.begin * bytes_of(to),
                        grad_type_of(dtype), values, static_cast<std::size_t>(range.size()), nullptr);
  entry.taken = true;
  entry.summarized = false;
}

bool GradFlow::end_micro_batch() {
  const bool was_last = is_last_micro_batch();
  ++micro_batch_;
  return was_last;
}

void GradFlow::summarize(std::uint32_t id) {
  const Dtype dtype = destination_dtype(id);
  Entry& entry = entries_[id];
  entry.summary = gather(*workers_, static_cast<std::size_t>(params_[id].numel), [&](auto begin, auto end, auto& part) {
    cpu_adam::grad_summarize(isa_, grad_type_of(dtype), destination(id) + begin * bytes_of(dtype), end - begin, &part);
  });
  entry.summarized = true;
}

void GradFlow::fill_zero(std::uint32_t id) {
  std::memset(destination(id), 0, params_[id].numel * bytes_of(destination_dtype(id)));
  entries_[id].summary = {};
}

GradTotal GradFlow::total() {
  cpu_adam::ExactSum sum;
  GradTotal total{0, {}};
  for (std::uint32_t id = 0; id < params_.size(); ++id) {
    if (params_[id].training == Training::frozen) continue;
    if (!entries_[id].taken) {
      fill_zero(id);
    } else if (!entries_[id].summarized) {
      summarize(id);
    }
    const auto& summary = entries_[id].summary;
    if (!summary.finite && !total.first_not_finite) total.first_not_finite = id;
    sum.add(summary.sum_of_squares);
  }
  total.norm = total.first_not_finite ? std::numeric_limits<double>::quiet_NaN() : std::sqrt(sum.round());
  return total;
}

void GradFlow::clear() {
  for (Entry& entry : entries_) entry = {};
  micro_batch_ = 0;
}

}  // namespace orlop::zero3
