#include "bench/drive_roof.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <thread>
#include <utility>

#include "base/bytes.hpp"

namespace orlop::bench {
namespace {

constexpr std::uint64_t kPhaseBytes = 64_MiB;
constexpr std::uint64_t kLeastRunBytes = 32_MiB;

// Without a name from the start; where the filesystem cannot do that, without one at once.
Result<unique_fd> unnamed_file(const std::string& directory) {
  unique_fd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd.is_open()) return fd;
  std::string path = directory + "/offload-bench-XXXXXX";
  fd = unique_fd(::mkostemp(path.data(), O_CLOEXEC));
  if (!fd.is_open()) {
    return fail(status_of_errno(errno), "roof file: in {}: cannot be made: {}", directory, describe_errno(errno));
  }
  ::unlink(path.c_str());
  return fd;
}

Result<> preallocate(int fd, const std::string& directory, std::uint64_t bytes) {
  if (::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) == 0) return {};
  if (errno == EOPNOTSUPP && ::ftruncate(fd, static_cast<off_t>(bytes)) == 0) return {};
  return fail(status_of_errno(errno), "roof file: in {} ({} bytes): cannot be made: {}", directory, bytes,
              describe_errno(errno));
}

void add(IoRate& sum, const IoRate& rate) {
  sum.bytes += rate.bytes;
  sum.seconds += rate.seconds;
  sum.cpu_seconds += rate.cpu_seconds;
}

}  // namespace

Result<DriveRoof> DriveRoof::open(const std::string& directory, std::uint64_t file_bytes, RoofRequests requests) {
  TRY_ASSIGN(unique_fd fd, unnamed_file(directory));
  TRY(preallocate(fd.get(), directory, file_bytes));
  DriveRoof roof(std::move(fd), file_bytes, requests);
  TRY_ASSIGN(RawIo loop, roof.open_loop());
  TRY_ASSIGN(roof.first_write_, loop.run(0, file_bytes));
  return roof;
}

DriveRoof::DriveRoof(unique_fd fd, std::uint64_t file_bytes, RoofRequests requests)
    : fd_(std::move(fd)), file_bytes_(file_bytes), requests_(requests), ways_{{aio::Mixing::mixed}} {
  if (requests.mixing == aio::Mixing::phased) ways_.push_back({aio::Mixing::phased});
}

// The file has no name but this.
Result<RawIo> DriveRoof::open_loop() const {
  return RawIo::open({.path = fmt::format("/proc/self/fd/{}", fd_.get()),
                      .region_bytes = file_bytes_,
                      .request_bytes = std::min(requests_.read_bytes, file_bytes_),
                      .depth = requests_.depth,
                      .write_request_bytes = std::min(requests_.write_bytes, file_bytes_),
                      .memory_bytes = requests_.memory_bytes});
}

Result<IoRate> DriveRoof::run(Way& way, double seconds) {
  const auto wanted = static_cast<std::uint64_t>(seconds * way.expected_gb_s * 1e9);
  const std::uint64_t bytes = std::max(wanted, kLeastRunBytes);
  TRY_ASSIGN(RawIo loop, open_loop());
  IoRate sum;
  while (sum.bytes < bytes) {
    if (way.mixing == aio::Mixing::mixed) {
      TRY_ASSIGN(const IoRate rate, loop.run(0.5, bytes));
      add(sum, rate);
    } else {
      for (const double read_fraction : {1.0, 0.0}) {
        TRY_ASSIGN(const IoRate rate, loop.run(read_fraction, kPhaseBytes));
        add(sum, rate);
      }
    }
  }
  way.expected_gb_s = sum.gb_per_s();
  return sum;
}

Result<IoRate> DriveRoof::half_and_half(double seconds) {
  IoRate best;
  for (Way& way : ways_) {
    TRY_ASSIGN(const IoRate rate, run(way, seconds / static_cast<double>(ways_.size())));
    if (rate.gb_per_s() > best.gb_per_s()) best = rate;
  }
  return best;
}

Result<DriveRoofs> DriveRoofs::open(std::span<const Place> places) {
  DriveRoofs roofs;
  for (const Place& place : places) {
    TRY_ASSIGN(DriveRoof drive, DriveRoof::open(place.directory, place.file_bytes, place.requests));
    roofs.drives_.push_back(std::move(drive));
  }
  return roofs;
}

Result<IoRate> DriveRoofs::half_and_half(double seconds) {
  if (drives_.size() == 1) return drives_.front().half_and_half(seconds);
  std::vector<Result<IoRate>> rates(drives_.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < drives_.size(); ++i) {
    threads.emplace_back([&, i] { rates[i] = drives_[i].half_and_half(seconds); });
  }
  for (std::thread& thread : threads) thread.join();
  IoRate sum;
  double gb_s = 0;
  for (const auto& rate : rates) {
    if (!rate) return rate;
    sum.bytes += rate->bytes;
    sum.cpu_seconds = std::max(sum.cpu_seconds, rate->cpu_seconds);  // each counts the whole process
    gb_s += rate->gb_per_s();
  }
  sum.seconds = static_cast<double>(sum.bytes) * 1e-9 / gb_s;
  return sum;
}

}  // namespace orlop::bench
