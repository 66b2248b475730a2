// DriveRoof: what a raw loop of direct reads and writes reaches on the drive under test, in slices between steps.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "aio/turns.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "bench/raw_io.hpp"

namespace orlop::bench {

// As the engine makes them.
struct RoofRequests {
  std::uint64_t read_bytes = 1u << 20;
  std::uint64_t write_bytes = 1u << 20;
  unsigned depth = 32;
  aio::Mixing mixing = aio::Mixing::mixed;
  std::uint64_t memory_bytes = 0;  // that they go around in, taken only during a slice; 0: what can be in flight
};

class DriveRoof {
 public:
  // An unnamed file of `file_bytes` in the directory, written once: it is gone with the process, however that ends.
  static Result<DriveRoof> open(const std::string& directory, std::uint64_t file_bytes, RoofRequests requests);

  // Half read and half written, for about so long: reads and writes in turn or, if the engine prefers these, in phases
  // too, and then the faster of both.
  Result<IoRate> half_and_half(double seconds);
  // How the first writing of the file went.
  [[nodiscard]] const IoRate& first_write() const { return first_write_; }

 private:
  struct Way {
    aio::Mixing mixing;
    double expected_gb_s = 1;  // as it was the last time
  };

  DriveRoof(unique_fd fd, std::uint64_t file_bytes, RoofRequests requests);
  Result<RawIo> open_loop() const;
  Result<IoRate> run(Way& way, double seconds);

  unique_fd fd_;
  std::uint64_t file_bytes_;
  RoofRequests requests_;
  std::vector<Way> ways_;
  IoRate first_write_;
};

// The drives of one store, all at once.
class DriveRoofs {
 public:
  struct Place {
    std::string directory;
    std::uint64_t file_bytes;
    RoofRequests requests;
  };
  static Result<DriveRoofs> open(std::span<const Place> places);

  // As DriveRoof's, the rates of all drives added up.
  Result<IoRate> half_and_half(double seconds);

 private:
  DriveRoofs() = default;
  std::vector<DriveRoof> drives_;
};

}  // namespace orlop::bench
